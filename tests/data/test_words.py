"""Words: tokenizing and its way back undo each other, rare words become one; vectors of labels from a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.data.labels import Vocabulary
from helpers.data.words import (
    SPECIAL,
    UNKNOWN,
    detokenize,
    encode_words,
    load_glove,
    make_tokenizer,
    sentence,
    tokenize,
    word_vocabulary,
)
from helpers.scenes.write import draw_scene

# Made to hit the rules: words, endings, apostrophes, numbers, brackets, quotes, and whatever else there is.
PIECES = st.sampled_from(("a", "dog", "Dog", "'s", "n't", "<unk>")) | st.sampled_from("'\"-35.,:()_ ’%é")
TEXTS = st.lists(PIECES | st.characters(), max_size=14).map("".join)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog's ball.", ["a", "dog", "'s", "ball", "."]),
        ("The dog 's ball .", ["the", "dog", "'s", "ball", "."]),
        ("It doesn’t (yet) run", ["it", "does", "n't", "(", "yet", ")", "run"]),
        ("a hot-air balloon at 10:30, 3.5 m", ["a", "hot-air", "balloon", "at", "10:30", ",", "3.5", "m"]),
        ("<stop> <unk>", ["<", "stop", ">", "<", "unk", ">"]),
        ("Cafe\u0301\u200b and\tcafé", ["café", "and", "café"]),
        ("", []),
    ],
)
def test_tokens_by_hand(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["a", "dog", "'s", "ball", "."], "A dog's ball."),
        (["it", "does", "n't", "(", "yet", ")", "run", "!"], "It doesn't (yet) run!"),
        (["a", "sign", "says", '"', "stop", "it", '"', "loudly"], 'A sign says "stop it" loudly'),
        (["<start>", "a", "<unk>", "dog", ",", "a", "cat", "<stop>"], "A dog, a cat"),
        ([], ""),
    ],
)
def test_sentences_by_hand(tokens: list[str], text: str) -> None:
    assert detokenize(tokens) == text


@given(TEXTS)
@example("İ ŉ ß")
@example("x 's n't")
@example("a’n't _'s")
def test_tokenize_undoes_detokenize(text: str) -> None:
    tokens = tokenize(text)
    assert tokenize(detokenize(tokens)) == tokens


@given(TEXTS)
def test_tokens_are_whole_and_never_special(text: str) -> None:
    tokens = tokenize(text)
    assert all(token and not any(c.isspace() for c in token) and token not in SPECIAL for token in tokens)
    assert tokenize(text.upper().lower()) == tokenize(text.upper())


def test_captions_of_the_scenes_come_back_unchanged() -> None:
    scenes = (draw_scene(3, split="test", index=index, picture=False) for index in range(20))
    for caption in (caption for scene in scenes for caption in scene.captions):
        assert detokenize(tokenize(caption)) == caption


def test_the_vocabulary_keeps_what_is_frequent() -> None:
    captions = ["A dog.", "a dog and a cat.", "the dog"]
    assert word_vocabulary(captions, min_count=2).labels == (UNKNOWN, "a", "dog", ".")
    assert word_vocabulary(captions, min_count=1).labels == (UNKNOWN, "a", "dog", ".", "and", "cat", "the")
    assert word_vocabulary(reversed(captions), min_count=1) == word_vocabulary(captions, min_count=1)
    with pytest.raises(ValueError, match="none of the 6 words occurs 9 times"):
        word_vocabulary(captions, min_count=9)
    with pytest.raises(ValueError, match="none of the 0 words"):
        word_vocabulary([])
    with pytest.raises(ValueError, match="min_count is 0"):
        word_vocabulary(captions, min_count=0)


@given(st.lists(TEXTS, min_size=1, max_size=6), st.integers(1, 3))
def test_every_kept_word_is_frequent_and_every_frequent_word_kept(captions: list[str], least: int) -> None:
    words = [word for caption in captions for word in tokenize(caption)]
    frequent = {word for word in words if words.count(word) >= least}
    if not frequent:
        return
    vocabulary = word_vocabulary(captions, min_count=least)
    assert set(vocabulary.labels) == frequent | {UNKNOWN}
    ids = encode_words(words, vocabulary)
    assert [i != 0 for i in ids] == [word in frequent for word in words]


def test_encoding_and_back(tmp_path: Path) -> None:
    vocabulary = word_vocabulary(["A dog's ball, a red one."], min_count=1)
    ids = encode_words(tokenize("A blue dog's one."), vocabulary)
    assert ids[1] == 0 == vocabulary.encode([UNKNOWN])[0]
    tail = [vocabulary.stop, *vocabulary.encode(["ball"]), vocabulary.stop]
    assert sentence([vocabulary.start, *ids, *tail], vocabulary) == "A dog's one."
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary


def test_tokenizers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_tokenizer() is tokenize
    with pytest.raises(ValueError, match="there are simple, spacy"):
        make_tokenizer("nltk")
    monkeypatch.setitem(sys.modules, "spacy.lang.en", None)  # now importing it is an ImportError
    with pytest.raises(ImportError, match=r"\.\[captions\]"):
        make_tokenizer("spacy")


def test_spacy_tokenizes() -> None:
    pytest.importorskip("spacy", reason="spaCy is not installed (the extra `captions` has it)")
    split = make_tokenizer("spacy")
    assert split("  A man's dog doesn't  run. ") == ["a", "man", "'s", "dog", "does", "n't", "run", "."]
    assert "<unk>" not in word_vocabulary(["<unk> <stop>"] * 2, min_count=1, tokenizer=split).labels[1:]


# ---- vectors -------------------------------------------------------------------------------------

TEXT = """the 0.5 0.5 0.5
cat 1 2 3
hot 1 0 0
dog 3 0 2
traffic 0 2 0
white-tailed 7 7 7
white 9 9 9
stop -1 0 1
start 0 -1 0
grizzly 0 0 4
"""


def write(tmp_path, text):
    path = tmp_path / "glove.txt"
    path.write_bytes(text.encode())
    return path


def test_rows_are_ids(tmp_path):
    vocabulary = Vocabulary(["hot dog", "Cat", "white-tailed", "traffic_light", "grizzly-dog"])
    glove = load_glove(write(tmp_path, TEXT), vocabulary)
    assert glove.vectors.dtype == torch.float32
    assert glove.vectors.tolist() == [
        [2, 0, 1],  # the mean of hot and dog
        [1, 2, 3],  # found in lower case
        [7, 7, 7],  # the whole word wins over its parts
        [0, 2, 0],  # light is not in the file
        [1.5, 0, 3],
        [-1, 0, 1],
        [0, -1, 0],
    ]
    assert glove.missing == ()


def test_missing_words_are_drawn_and_reported(tmp_path):
    rows = (" ".join("5" if (i + j) % 2 else "-5" for j in range(200)) for i in range(4))
    text = "".join(f"w{i} {row}\n" for i, row in enumerate(rows))
    path = write(tmp_path, text)
    vocabulary = Vocabulary(["w0", "unheard", "w1", "of"])
    glove = load_glove(path, vocabulary, seed=1)
    assert glove.missing == ("unheard", "of", "stop", "start")
    assert glove.vectors.shape == (6, 200)
    norms = glove.vectors.norm(dim=1)
    torch.testing.assert_close(norms, norms[:1].expand(6), rtol=0.2, atol=0)  # of the length of the others
    assert not torch.equal(glove.vectors[1], glove.vectors[3])
    assert torch.equal(glove.vectors, load_glove(path, vocabulary, seed=1).vectors)
    assert not torch.equal(glove.vectors[1], load_glove(path, vocabulary, seed=2).vectors[1])
    # What one label gets does not hang on which others are missing.
    fewer = load_glove(path, Vocabulary(["w0", "unheard", "w1", "w2"]), seed=1)
    assert torch.equal(fewer.vectors[1], glove.vectors[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1 2 3\nbird 1 2\n", "line 2: expected a word and 3 finite numbers.*bird 1 2.*2 numbers"),
        ("cat 1 2 3\n\ndog 1 2 3\n", "line 2: .*0 numbers"),
        ("cat\n", "line 1: "),
        ("the 1 2 3\ncat 1 x 3\n", "line 2: .*could not convert"),
        ("the 1 2 3\ncat 1 nan 3\n", "line 2: "),
        ("the 1 2 3\ncat 1 1e39 3\n", "line 2: .*finite"),  # infinite as float32
        ("the 1 2 3\ncat 1 2 3 4\n", "line 2: .*4 numbers"),
        ("fish 1 2 3\n", "none of the 4 words"),
        ("", "none of the 4 words"),
        ("PK\x03\x04 \0\0", "none of the 4 words"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        load_glove(write(tmp_path, text), Vocabulary(["cat", "dog"]))
    assert "glove.txt" in str(error.value)


def test_windows_line_ends_a_blank_at_the_end_and_a_word_twice(tmp_path):
    glove = load_glove(write(tmp_path, "cat 1 2 \r\nat 3 4\r\ncat 8 8\r\n"), Vocabulary(["cat", "at"]))
    assert glove.vectors[:2].tolist() == [[1, 2], [3, 4]]


def test_real_vectors(shared):
    labels = json.loads((shared / "corel5k" / "train.json").read_text())["labels"]
    vocabulary = Vocabulary(labels)
    glove = load_glove(shared / "embeddings" / "corel5k_glove.300d.txt", vocabulary)
    assert glove.vectors.shape == (262, 300)
    assert glove.missing == ("stop", "start")  # the file has the labels only
    lines = (shared / "embeddings" / "corel5k_glove.300d.txt").read_text().splitlines()
    whole = next(line for line in lines if line.startswith("white-tailed ")).split(" ")[1:]
    assert torch.equal(glove.vectors[labels.index("white-tailed")], torch.tensor(list(map(float, whole))))
    assert 6.5 < glove.vectors[:260].norm(dim=1).mean() < 6.9
    assert 5.5 < glove.vectors[260:].norm(dim=1).mean() < 7.5
    unit = torch.nn.functional.normalize(glove.vectors[:260], dim=1)
    for word, expected in (("sunset", "sunrise"), ("temple", "buddhist"), ("train", "railroad")):
        nearest = (unit @ unit[vocabulary.encode([word])[0]]).argsort(descending=True)[1:4]
        assert expected in vocabulary.decode(nearest)  # the rows stand at the ids of their labels
