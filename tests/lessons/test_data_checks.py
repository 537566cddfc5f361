"""Notebook 01's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lessons.exercises import nb01 as checks
from test_checks import fails, passes

from helpers.data.labels import label_frequency, pad_labels


def rare_first(ids, frequency):
    """The solution of exercise 1."""
    return sorted(ids, key=frequency.tolist().__getitem__)


def _sorted_in_place(ids, frequency):
    ids.sort(key=lambda i: int(frequency[i]))
    return ids


def _unstable(ids, frequency):
    backwards = ids[::-1]  # ties from behind: what an unstable sort may do
    return sorted(backwards, key=lambda i: int(frequency[i]))


def test_rare_first_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_rare_first, rare_first, capsys)
    passes(
        checks.check_rare_first,
        lambda ids, f: [ids[k] for k in f[ids].argsort(stable=True)] if ids else [],
        capsys,
    )


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda ids, f: sorted(ids, key=lambda i: -int(f[i])), "smallest number comes first"),
        (lambda ids, f: list(ids), "smallest number comes first"),
        (lambda ids, f: sorted(ids), "smallest number comes first"),
        (lambda ids, f: f.argsort(stable=True).tolist(), "Only the labels of this image"),
        (lambda ids, f: f[ids].argsort(stable=True).tolist(), "Only the labels of this image"),
        (lambda ids, f: sorted(ids, key=lambda i: (int(f[i]), i)), "keep the order"),
        (_unstable, "keep the order"),
        (lambda ids, f: sorted(ids, key=lambda i: -int(f[i]))[::-1], "keep the order"),
        (_sorted_in_place, "work on a copy"),
        (lambda ids, f: torch.tensor(rare_first(ids, f)), "a list of ids"),
        (lambda ids, f: rare_first(ids, f) or [0], "empty list"),
    ],
)
def test_rare_first_finds_wrong_answers(
    wrong: Callable, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(checks.check_rare_first, wrong, capsys, hint)


def pad(sequences, stop, *, extra=1, fill=None, dtype=torch.int64, count=0):
    """The solution of exercise 2, with its usual mistakes as options."""
    steps = max(map(len, sequences)) + extra
    fill = stop if fill is None else fill
    rows = [[*ids, *[stop] * (len(ids) < steps)] + [fill] * (steps - len(ids) - 1) for ids in sequences]
    lengths = [len(ids) + count for ids in sequences]
    return torch.tensor(rows, dtype=dtype).reshape(len(rows), steps), torch.tensor(lengths)


def _pad_in_place(sequences, stop):
    steps = max(map(len, sequences)) + 1
    lengths = torch.tensor([len(ids) for ids in sequences])
    for ids in sequences:
        ids += [stop] * (steps - len(ids))
    return torch.tensor(sequences), lengths


def _pad_before(sequences, stop):
    labels, lengths = pad(sequences, stop)
    return torch.stack([row.roll(len(row) - int(n)) for row, n in zip(labels, lengths, strict=True)]), lengths


def test_pad_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_pad, pad, capsys)
    passes(checks.check_pad, pad_labels, capsys)
    passes(checks.check_pad, lambda s, stop: list(pad(s, stop)), capsys)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda s, stop: pad(s, stop, extra=0), "plus one"),  # no <stop> in the longest row
        (lambda s, stop: pad(s, stop, extra=2), "plus one"),
        (lambda s, stop: pad(s, stop, fill=0), "nothing else"),
        (lambda s, stop: pad(s, stop, fill=stop + 1), "nothing else"),
        (lambda s, stop: pad([sorted(ids) for ids in s], stop), "in their order"),
        (_pad_before, "nothing else"),
        (lambda s, stop: pad(s, stop, count=1), "not a label"),
        (lambda s, stop: pad(s, stop, dtype=torch.float32), "torch.int64"),
        (lambda s, stop: pad(s, stop)[0], "two tensors"),
        (lambda s, stop: (pad(s, stop)[0].tolist(), pad(s, stop)[1]), "two tensors"),
        (lambda s, stop: pad([ids for ids in s if ids] or s, stop), "plus one"),  # empty sets dropped
        (lambda s, stop: pad(s, stop)[::-1], "plus one"),
        (_pad_in_place, "work on a copy"),
    ],
)
def test_pad_finds_wrong_answers(wrong: Callable, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_pad, wrong, capsys, hint)


def together(multi_hot):
    """[i, j]: rows with both i and j."""
    return multi_hot.T @ multi_hot


def conditional(multi_hot):
    """The solution of exercise 3."""
    counts = together(multi_hot)
    return counts / counts.diagonal().clamp(min=1)[:, None]


def _normalised_in_place(multi_hot):
    answer = conditional(multi_hot)
    multi_hot /= multi_hot.sum(0).clamp(min=1)
    return answer


def test_conditional_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_conditional, conditional, capsys)
    passes(checks.check_conditional, lambda m: (together(m) / m.sum(0)[:, None]).nan_to_num(), capsys)
    passes(checks.check_conditional, lambda m: conditional(m.double()), capsys)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda m: conditional(m).T, "This is P(i | j)"),
        (lambda m: together(m) / together(m).diagonal().clamp(min=1), "This is P(i | j)"),  # a column each
        (lambda m: together(m) / len(m), "divided by all images"),
        (together, "the share that also have j"),
        (lambda m: together(m) / together(m).diagonal()[:, None], "not NaN"),
        (lambda m: conditional(m).fill_diagonal_(0), "1 where i = j"),
        (lambda m: together(m) / together(m).sum(1, keepdim=True).clamp(min=1), "the share that also have j"),
        (lambda m: m @ m.T, "a row and a column for every label"),
        (lambda m: conditional(m).tolist(), "Return a tensor"),
        (_normalised_in_place, "work on a copy"),
    ],
)
def test_conditional_finds_wrong_answers(
    wrong: Callable, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(checks.check_conditional, wrong, capsys, hint)


def prepare(data, split, *, splits=("train",), names=tuple, drop=False, extra=1, boxes=False, sign=1):
    """The solution of exercise 4, with the colleague's mistakes as options."""
    frequency = Counter(name for s in splits for record in data.split(s) for name in record.labels)
    rows = [
        data.vocabulary.encode(sorted(names(record.labels), key=lambda name: sign * frequency[name]))
        for record in data.split(split)
    ]
    return pad([row for row in rows if row] if drop else rows, data.vocabulary.stop, extra=extra)


def tidy(labels):
    """Each label once, by a set: alphabetical by accident."""
    return sorted(set(labels))


def test_prepare_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_prepare, prepare, capsys)

    def with_helpers(data, split):
        rows = [data.vocabulary.encode(record.labels) for record in data.split(split)]
        train = [data.vocabulary.encode(record.labels) for record in data.train]
        frequency = label_frequency(train, len(data.vocabulary))
        return pad_labels([rare_first(row, frequency) for row in rows], data.vocabulary.stop)

    passes(checks.check_prepare, with_helpers, capsys)


@pytest.mark.parametrize(
    ("mistakes", "hint"),
    [
        ({"splits": ("train", "val", "test")}, "comes from train"),
        ({"splits": ("train", "val")}, "Rare labels first"),
        ({"splits": ("test",)}, "Rare labels first"),
        ({"splits": ()}, "Rare labels first"),
        ({"names": tidy}, "the order of record.labels"),
        ({"names": lambda labels: labels[::-1]}, "the order of record.labels"),
        ({"sign": -1}, "Rare labels first"),
        ({"drop": True}, "every image needs its row"),
        ({"extra": 0}, "room for a <stop>"),
        (
            {"splits": ("train", "val", "test"), "names": tidy, "drop": True, "extra": 0},
            "every image needs its row",
        ),
        ({"splits": ("train", "val", "test"), "names": tidy, "extra": 0}, "room for a <stop>"),
        ({"splits": ("train", "val", "test"), "names": tidy}, "first by training frequency"),
    ],
)
def test_prepare_finds_each_mistake(
    mistakes: dict[str, Any], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(checks.check_prepare, lambda data, split: prepare(data, split, **mistakes), capsys, hint)


def test_prepare_finds_frequencies_of_the_split_itself(capsys: pytest.CaptureFixture[str]) -> None:
    fails(
        checks.check_prepare,
        lambda data, split: prepare(data, split, splits=(split,)),
        capsys,
        "Rare labels first",
    )
