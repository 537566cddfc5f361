"""Notebook 01's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import torch
from lessons.exercises.nb01 import check_conditional, check_pad, check_prepare, check_rare_first

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


def with_helpers(data, split):
    rows = [data.vocabulary.encode(record.labels) for record in data.split(split)]
    train = [data.vocabulary.encode(record.labels) for record in data.train]
    frequency = label_frequency(train, len(data.vocabulary))
    return pad_labels([rare_first(row, frequency) for row in rows], data.vocabulary.stop)


RIGHT = [
    (check_rare_first, rare_first),
    (check_rare_first, lambda ids, f: [ids[k] for k in f[ids].argsort(stable=True)] if ids else []),
    (check_pad, pad),
    (check_pad, pad_labels),
    (check_pad, lambda s, stop: list(pad(s, stop))),
    (check_conditional, conditional),
    (check_conditional, lambda m: (together(m) / m.sum(0)[:, None]).nan_to_num()),
    (check_conditional, lambda m: conditional(m.double())),
    (check_prepare, prepare),
    (check_prepare, with_helpers),
]  # fmt: skip

WRONG = [
    (check_rare_first, lambda ids, f: sorted(ids, key=lambda i: -int(f[i])), "smallest number comes first"),
    (check_rare_first, lambda ids, f: list(ids), "smallest number comes first"),
    (check_rare_first, lambda ids, f: sorted(ids), "smallest number comes first"),
    (check_rare_first, lambda ids, f: f.argsort(stable=True).tolist(), "Only the labels of this image"),
    (check_rare_first, lambda ids, f: f[ids].argsort(stable=True).tolist(), "Only the labels of this image"),
    (check_rare_first, lambda ids, f: sorted(ids, key=lambda i: (int(f[i]), i)), "keep the order"),
    (check_rare_first, _unstable, "keep the order"),
    (check_rare_first, lambda ids, f: sorted(ids, key=lambda i: -int(f[i]))[::-1], "keep the order"),
    (check_rare_first, _sorted_in_place, "work on a copy"),
    (check_rare_first, lambda ids, f: torch.tensor(rare_first(ids, f)), "a list of ids"),
    (check_rare_first, lambda ids, f: rare_first(ids, f) or [0], "empty list"),
    (check_pad, lambda s, stop: pad(s, stop, extra=0), "plus one"),
    (check_pad, lambda s, stop: pad(s, stop, extra=2), "plus one"),
    (check_pad, lambda s, stop: pad(s, stop, fill=0), "nothing else"),
    (check_pad, lambda s, stop: pad(s, stop, fill=stop + 1), "nothing else"),
    (check_pad, lambda s, stop: pad([sorted(ids) for ids in s], stop), "in their order"),
    (check_pad, _pad_before, "nothing else"),
    (check_pad, lambda s, stop: pad(s, stop, count=1), "not a label"),
    (check_pad, lambda s, stop: pad(s, stop, dtype=torch.float32), "torch.int64"),
    (check_pad, lambda s, stop: pad(s, stop)[0], "two tensors"),
    (check_pad, lambda s, stop: (pad(s, stop)[0].tolist(), pad(s, stop)[1]), "two tensors"),
    (check_pad, lambda s, stop: pad([ids for ids in s if ids] or s, stop), "plus one"),
    (check_pad, lambda s, stop: pad(s, stop)[::-1], "plus one"),
    (check_pad, _pad_in_place, "work on a copy"),
    (check_conditional, lambda m: conditional(m).T, "This is P(i | j)"),
    (check_conditional, lambda m: together(m) / together(m).diagonal().clamp(min=1), "This is P(i | j)"),
    (check_conditional, lambda m: together(m) / len(m), "divided by all images"),
    (check_conditional, together, "the share that also have j"),
    (check_conditional, lambda m: together(m) / together(m).diagonal()[:, None], "not NaN"),
    (check_conditional, lambda m: conditional(m).fill_diagonal_(0), "1 where i = j"),
    (check_conditional, lambda m: together(m) / together(m).sum(1, keepdim=True).clamp(min=1), "the share that also have j"),
    (check_conditional, lambda m: m @ m.T, "a row and a column for every label"),
    (check_conditional, lambda m: conditional(m).tolist(), "Return a tensor"),
    (check_conditional, _normalised_in_place, "work on a copy"),
    (check_prepare, partial(prepare, **{"splits": ("train", "val", "test")}), "comes from train"),
    (check_prepare, partial(prepare, **{"splits": ("train", "val")}), "Rare labels first"),
    (check_prepare, partial(prepare, **{"splits": ("test",)}), "Rare labels first"),
    (check_prepare, partial(prepare, **{"splits": ()}), "Rare labels first"),
    (check_prepare, partial(prepare, **{"names": tidy}), "the order of record.labels"),
    (check_prepare, partial(prepare, **{"names": lambda labels: labels[::-1]}), "the order of record.labels"),
    (check_prepare, partial(prepare, **{"sign": -1}), "Rare labels first"),
    (check_prepare, partial(prepare, **{"drop": True}), "every image needs its row"),
    (check_prepare, partial(prepare, **{"extra": 0}), "room for a <stop>"),
    (check_prepare, partial(prepare, **{"splits": ("train", "val", "test"), "names": tidy, "drop": True, "extra": 0}), "every image needs its row"),
    (check_prepare, partial(prepare, **{"splits": ("train", "val", "test"), "names": tidy, "extra": 0}), "room for a <stop>"),
    (check_prepare, partial(prepare, **{"splits": ("train", "val", "test"), "names": tidy}), "first by training frequency"),
    (check_prepare, lambda data, split: prepare(data, split, splits=(split,)), "Rare labels first"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)
