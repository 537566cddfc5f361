"""Words: tokenizing and its way back undo each other, special names never leak, rare words become one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.data.labels import Vocabulary
from helpers.data.words import (
    SPECIAL,
    UNKNOWN,
    detokenize,
    encode_words,
    make_tokenizer,
    sentence,
    tokenize,
    word_vocabulary,
)
from helpers.scenes.write import draw_scene

# Made to hit the rules: words, endings, apostrophes, numbers, brackets, quotes, and whatever else there is.
PIECES = st.sampled_from(
    [
        "a",
        "dog",
        "Dog",
        "'s",
        "n't",
        "'",
        '"',
        "-",
        "3",
        "5",
        ".",
        ",",
        ":",
        "(",
        ")",
        " ",
        "_",
        "’",
        "%",
        "é",
        "<unk>",
    ]
)
TEXTS = st.lists(PIECES | st.characters(), max_size=14).map("".join)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog's ball.", ["a", "dog", "'s", "ball", "."]),
        ("The dog 's ball .", ["the", "dog", "'s", "ball", "."]),
        ("It doesn’t (yet) run", ["it", "does", "n't", "(", "yet", ")", "run"]),
        (
            "a red hot-air balloon at 10:30, 3.5 m up",
            ["a", "red", "hot-air", "balloon", "at", "10:30", ",", "3.5", "m", "up"],
        ),
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


@pytest.mark.parametrize("index", range(20))
def test_captions_of_the_scenes_come_back_unchanged(index: int) -> None:
    for caption in draw_scene(3, split="test", index=index, size=64).captions:
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
