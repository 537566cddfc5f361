"""helpers.data.labels against written-out references, and everything it must refuse."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.data.labels import (
    ORDERS,
    Vocabulary,
    decoder_inputs,
    from_multi_hot,
    label_frequency,
    order_labels,
    pad_labels,
    sequence_lengths,
    to_multi_hot,
)

NAMES = ("sky", "water", "Tree", "bear", "polar bear")
C = len(NAMES)
label_sets = st.lists(st.lists(st.integers(0, C - 1), unique=True, max_size=C), min_size=1, max_size=6)
token_rows = st.integers(0, 5).flatmap(
    lambda steps: st.lists(
        st.lists(st.integers(0, C), min_size=steps, max_size=steps), min_size=1, max_size=5
    ).map(lambda rows: torch.tensor(rows, dtype=torch.int64).view(len(rows), steps))
)
quick = settings(max_examples=60)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(NAMES)


def before_stop(row: list[int], stop: int) -> list[int]:
    return row[: row.index(stop)] if stop in row else row


# ---- Vocabulary ----------------------------------------------------------------------------------


def test_ids_and_special_tokens(vocabulary):
    assert len(vocabulary) == 5
    assert (vocabulary.stop, vocabulary.start) == (5, 6)
    assert vocabulary.num_outputs == 6
    assert vocabulary.encode(["polar bear", "sky"]) == [4, 0]
    assert vocabulary.decode([6, 4, 0, 5]) == ["<start>", "polar bear", "sky", "<stop>"]
    assert vocabulary.decode(torch.tensor([1, 5])) == ["water", "<stop>"]
    assert "sky" in vocabulary and "<stop>" not in vocabulary


def test_vocabulary_is_a_value(vocabulary):
    assert vocabulary == Vocabulary(list(NAMES)) and hash(vocabulary) == hash(Vocabulary(NAMES))
    assert vocabulary != Vocabulary(NAMES[::-1])  # the same labels under other ids
    with pytest.raises(AttributeError):
        vocabulary.labels = ()
    copy = pickle.loads(pickle.dumps(vocabulary))  # what a DataLoader worker does on Windows
    assert copy == vocabulary and copy.encode(["bear"]) == [3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "at least one"),
        ("sky", r"\['sky'\]"),
        (["sky", "water", "sky"], "'sky' is at 0 and again at 2"),
        (["sky", " "], "label 1 is ' '"),
        (["sky", 3], "label 1 is 3"),
        (["<stop>"], "special token"),
    ],
)
def test_bad_vocabularies_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(labels)


def test_unknown_labels_get_suggestions(vocabulary):
    with pytest.raises(ValueError, match=r"unknown label 'watre'.*Did you mean 'water'"):
        vocabulary.encode(["sky", "watre"])
    with pytest.raises(ValueError, match="Did you mean 'Tree'"):  # another case is a near match
        vocabulary.encode(["TREE"])
    with pytest.raises(ValueError, match="has 5 labels, from 'sky' to 'polar bear'"):
        vocabulary.encode(["xylophone"])
    with pytest.raises(ValueError, match=r"\['sky'\]"):  # not s, k, y
        vocabulary.encode("sky")


@pytest.mark.parametrize("bad", [-1, 7])
def test_ids_outside_are_refused(vocabulary, bad):
    with pytest.raises(ValueError, match=r"outside 0\.\.6"):
        vocabulary.decode([0, bad])


def test_vocabulary_survives_the_disk(tmp_path):
    vocabulary = Vocabulary(["café", "white-tailed", "f-16"])
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert [p.name for p in tmp_path.iterdir()] == ["vocabulary.json"]  # no temporary file stays
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["labels"] == ["café", "white-tailed", "f-16"] and content["version"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not json", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1, 2]", "not a vocabulary"),
        (b'{"labels": ["a"]}', "not a vocabulary"),
        (b'{"format": "cnn-rnn-annotation vocabulary", "version": 9, "labels": ["a"]}', "version 9"),
        (b'{"format": "cnn-rnn-annotation vocabulary", "version": 1, "labels": "abc"}', "list of labels"),
        (b'{"format": "cnn-rnn-annotation vocabulary", "version": 1, "labels": ["a", "a"]}', "'a' is at"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        Vocabulary.load(path)
    assert "some.json" in str(error.value)


# ---- Frequency and order -------------------------------------------------------------------------


@quick
@given(label_sets)
def test_frequency_counts_images(sets):
    repeated = [ids + ids[:1] for ids in sets]  # a repeat within an image counts once
    expected = Counter(i for ids in sets for i in ids)
    assert label_frequency(iter(repeated), C).tolist() == [expected[i] for i in range(C)]


def test_frequency_of_nothing_and_of_padding():
    assert label_frequency([], C).tolist() == [0] * C
    with pytest.raises(ValueError, match=r"\[5\] are outside 0\.\.4"):
        label_frequency([[0, 5]], C)


FREQUENCY = torch.tensor([9, 2, 2, 7, 2])


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("rare-first", [4, 1, 2, 3, 0]),  # 4, 1 and 2 are equally rare and keep the given order
        ("frequent-first", [0, 3, 4, 1, 2]),
        ("alphabetical", [3, 4, 0, 2, 1]),  # bear, polar bear, sky, Tree, water: case is ignored
        ("given", [4, 0, 1, 3, 2]),
    ],
)
def test_orders(order, expected, vocabulary):
    assert order_labels([4, 0, 1, 3, 2], order, vocabulary=vocabulary, frequency=FREQUENCY) == expected


def test_random_order_hangs_on_the_generator_only():
    def draw(seed):
        return order_labels(range(C), "random", generator=torch.Generator().manual_seed(seed))

    assert draw(1) == draw(1)
    assert sorted(draw(1)) == list(range(C))
    assert len({tuple(draw(seed)) for seed in range(40)}) > 20


def test_missing_options_and_wrong_orders_are_named():
    with pytest.raises(ValueError, match="unknown order 'rarest': use one of rare-first"):
        order_labels([0], "rarest")
    with pytest.raises(ValueError, match="frequency="):
        order_labels([0], "rare-first")
    with pytest.raises(ValueError, match="vocabulary="):
        order_labels([0], "alphabetical")
    with pytest.raises(ValueError, match="outside"):
        order_labels([-1], "rare-first", frequency=FREQUENCY)


# ---- Sequences and sets --------------------------------------------------------------------------


@quick
@given(label_sets)
def test_padding_keeps_everything(sets):
    labels, lengths = pad_labels(sets, stop=C)
    assert labels.dtype == lengths.dtype == torch.int64
    assert labels.shape == (len(sets), max(map(len, sets)) + 1)
    for row, length, ids in zip(labels.tolist(), lengths.tolist(), sets, strict=True):
        assert length == len(ids)
        assert row == ids + [C] * (labels.shape[1] - len(ids))
    assert torch.equal(sequence_lengths(labels, C), lengths)


def test_padding_of_images_without_labels():
    labels, lengths = pad_labels([[], []], stop=C)
    assert labels.tolist() == [[C], [C]] and lengths.tolist() == [0, 0]
    assert pad_labels([], stop=C).labels.shape == (0, 1)
    with pytest.raises(ValueError, match="outside"):
        pad_labels([[0, C]], stop=C)


def test_decoder_inputs_are_shifted_by_one():
    labels = torch.tensor([[3, 1, C], [2, C, C]])
    assert decoder_inputs(labels, C + 1).tolist() == [[C + 1, 3, 1], [C + 1, 2, C]]
    with pytest.raises(ValueError, match="int64"):
        decoder_inputs(labels.float(), C + 1)


@quick
@given(token_rows)
def test_sets_stop_at_the_first_stop(tokens):
    multi_hot = to_multi_hot(tokens, C)
    assert multi_hot.dtype == torch.float32 and multi_hot.shape == (len(tokens), C)
    lengths = sequence_lengths(tokens, C).tolist()
    for row, hot, length in zip(tokens.tolist(), multi_hot.tolist(), lengths, strict=True):
        said = before_stop(row, C)
        assert length == len(said)
        assert hot == [float(i in said) for i in range(C)]
    assert torch.equal(to_multi_hot(tokens, C, dtype=torch.bool), multi_hot.bool())


def test_start_is_no_label():
    with pytest.raises(ValueError, match=r"\[6\] are outside 0\.\.5"):
        to_multi_hot(torch.tensor([[C + 1, 0]]), C)
    assert to_multi_hot(torch.tensor([[0, C, C + 1]]), C).sum() == 1  # after the stop nothing counts
    with pytest.raises(ValueError, match=r"\(B, T\)"):
        to_multi_hot(torch.tensor([0, 1]), C)


@quick
@given(label_sets, st.sampled_from(ORDERS))
def test_sets_become_the_sequences_that_order_labels_gives(sets, order):
    vocabulary = Vocabulary(NAMES)
    multi_hot = to_multi_hot(pad_labels(sets, C).labels, C)
    options = {"vocabulary": vocabulary, "frequency": FREQUENCY}
    labels, lengths = from_multi_hot(multi_hot, order, **options)
    assert torch.equal(to_multi_hot(labels, C), multi_hot)  # back again
    assert lengths.tolist() == [len(ids) for ids in sets]
    assert labels.shape == (len(sets), max(map(len, sets)) + 1)
    if order != "random":
        for row, ids in zip(labels.tolist(), sets, strict=True):
            expected = order_labels(sorted(ids), order, **options)
            assert before_stop(row, C) == expected


def test_scores_are_no_set():
    with pytest.raises(ValueError, match="threshold"):
        from_multi_hot(torch.tensor([[0.3, 1.0]]), "given")
    with pytest.raises(ValueError, match=r"\(B, C\)"):
        from_multi_hot(torch.ones(3), "given")
