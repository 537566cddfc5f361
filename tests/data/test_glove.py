"""helpers.data.words: what is looked up, what is averaged, what is drawn, and which files are refused."""

from __future__ import annotations

import gzip
import json

import pytest
import torch

from helpers.data.labels import Vocabulary
from helpers.data.words import load_glove

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
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
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
    assert glove.averaged == ("hot dog", "traffic_light", "grizzly-dog")
    assert glove.partial == ("traffic_light",)
    assert glove.missing == ()


def test_missing_words_are_drawn_and_reported(tmp_path):
    text = "".join(
        f"w{i} " + " ".join("5" if (i + j) % 2 else "-5" for j in range(200)) + "\n" for i in range(4)
    )
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
        ("cat 1 2 3\nbird 1 2\n", "line 2: found 2 numbers after the word, expected 3"),
        ("cat 1 2 3\n\ndog 1 2 3\n", "line 2: found 0 numbers"),
        ("cat\n", "line 1: found 0 numbers"),
        ("the 1 2 3\ncat 1 x 3\n", "line 2: found a vector of 'cat' that is not 3 finite"),
        ("the 1 2 3\ncat 1 nan 3\n", "line 2: found a vector of 'cat'"),
        ("the 1 2 3\ncat 1 2 3 4\n", "line 2: found a vector of 'cat'"),
        ("fish 1 2 3\n", "none of the 4 words"),
        ("", "none of the 4 words"),
        (gzip.compress(b"cat 1 2 3\n", mtime=0), "unpack it"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        load_glove(write(tmp_path, text), Vocabulary(["cat", "dog"]))
    assert "glove.txt" in str(error.value)


def test_dialects_of_the_format(tmp_path):
    text = "3 2\r\nat name@domain.com 5 5\r\ncat 1 2 \r\nat 3 4\r\ncat 8 8\r\n"
    glove = load_glove(write(tmp_path, text), Vocabulary(["cat", "at"]))
    # word2vec's header, tokens of several words, Windows line ends, a blank at the end, a second cat
    assert glove.vectors[:2].tolist() == [[1, 2], [3, 4]]


def test_real_vectors(shared):
    labels = json.loads((shared / "corel5k" / "train.json").read_text())["labels"]
    vocabulary = Vocabulary(labels)
    glove = load_glove(shared / "embeddings" / "corel5k_glove.300d.txt", vocabulary)
    assert glove.vectors.shape == (262, 300)
    assert glove.missing == ("stop", "start")  # the file has the labels only
    assert glove.averaged == ()  # f-16, close-up and white-tailed are words of their own
    assert 6.5 < glove.vectors[:260].norm(dim=1).mean() < 6.9
    assert 5.5 < glove.vectors[260:].norm(dim=1).mean() < 7.5
    unit = torch.nn.functional.normalize(glove.vectors[:260], dim=1)
    for word, expected in (("sunset", "sunrise"), ("temple", "buddhist"), ("train", "railroad")):
        nearest = (unit @ unit[vocabulary.encode([word])[0]]).argsort(descending=True)[1:4]
        assert expected in vocabulary.decode(nearest)  # the rows stand at the ids of their labels
