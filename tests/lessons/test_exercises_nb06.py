"""Notebook 06's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from lessons.exercises import nb06 as checks
from lessons.exercises.nb06 import check_cf1, check_choose_threshold, check_p_value

from helpers.metrics.thresholds import choose_global


def best_threshold(*splits, metric="OF1"):
    """The threshold with the best OF1 on the given splits together."""
    scores, target = (torch.cat(parts) for parts in zip(*splits, strict=True))
    return choose_global(scores, target, metric)


def cf1(tp, predicted, support, *, slip=""):
    """Both CF1, with one slip or none."""
    if slip == "nan":
        precision, recall = tp / predicted, tp / support
    else:
        precision, recall = tp / predicted.clamp(min=1), tp / support.clamp(min=1)
    if slip == "only named":
        precision = precision[predicted > 0]
    if slip == "only present":
        recall = recall[support > 0]
    if slip == "swapped counts":
        precision, recall = recall * 0 + tp, precision
    CP, CR = precision.mean(), recall.mean()
    f1 = 2 * tp / (predicted + support).clamp(min=1)
    if slip == "overall":
        CP, CR = tp.sum() / predicted.sum(), tp.sum() / support.sum()
    harmonic = (CP + CR) / 2 if slip == "arithmetic" else 2 * CP * CR / (CP + CR).clamp(min=1e-12)
    if slip == "zero over zero":
        harmonic = 2 * CP * CR / (CP + CR)
    pair = (harmonic.item(), f1.mean().item())
    twice = {"first twice": (pair[0], pair[0]), "second twice": (pair[1], pair[1])}
    return {"turned": pair[::-1], "one": pair[0], **twice}.get(slip, pair)


def swaps(differences, count=lambda total, seen: abs(total) >= abs(seen)):
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(count(total, sum(differences)) for total in sums) / len(sums)


def by_tensors(differences):
    n = len(differences)
    signs = 1 - 2 * (torch.arange(2**n)[:, None] >> torch.arange(n) & 1)
    sums = signs.double() @ torch.tensor(differences).double()
    return (sums.abs() >= abs(sum(differences)) - 1e-9).double().mean()


RIGHT = [
    (check_cf1, cf1),
    (check_cf1, lambda *counts: [torch.tensor(value) for value in cf1(*counts)]),
    (check_choose_threshold, lambda train, val, test: best_threshold(val)),
    (check_choose_threshold, lambda train, val, test: torch.tensor(best_threshold(val))),
    (check_choose_threshold, lambda train, val, test: max((k / 100 for k in range(99, 0, -1)), key=lambda t: checks._of1(*val, t))),
    (check_p_value, swaps),
    (check_p_value, by_tensors),
]  # fmt: skip

WRONG = [
    (check_cf1, partial(cf1, slip="nan"), "precision 0"),
    (check_cf1, partial(cf1, slip="only named"), "precision 0"),
    (check_cf1, partial(cf1, slip="only present"), "recall 0"),
    (check_cf1, partial(cf1, slip="overall"), "OF1"),
    (check_cf1, partial(cf1, slip="arithmetic"), "tp / predicted"),
    (check_cf1, partial(cf1, slip="zero over zero"), "both are 0"),
    (check_cf1, partial(cf1, slip="turned"), "in the other order"),
    (check_cf1, partial(cf1, slip="one"), "Return two numbers"),
    (check_cf1, partial(cf1, slip="first twice"), "The first number is right"),
    (check_cf1, partial(cf1, slip="second twice"), "The second number is right"),
    (check_choose_threshold, lambda train, val, test: best_threshold(test), "best threshold on test"),
    (check_choose_threshold, lambda train, val, test: best_threshold(train), "best threshold on train"),
    (check_choose_threshold, lambda train, val, test: best_threshold(train, val, test), "only there"),
    (check_choose_threshold, lambda train, val, test: best_threshold(val, test), "only there"),
    (check_choose_threshold, lambda train, val, test: 0.05, "On val, OF1 is"),
    (check_choose_threshold, lambda train, val, test: 0.5, "the same for every val"),
    (check_choose_threshold, lambda train, val, test: float(train[0][0, 0]), "On val, OF1 is"),
    (check_choose_threshold, lambda train, val, test: round(best_threshold(val) * 100), "not its value"),
    (check_choose_threshold, lambda train, val, test: 1 - best_threshold(val), ""),
    (check_choose_threshold, lambda train, val, test: float(val[0].mean()), ""),
    (check_p_value, lambda d: swaps(d, lambda total, seen: total >= seen), "in both directions"),
    (check_p_value, lambda d: swaps(d, lambda total, seen: abs(total) > abs(seen)), ">=, not >"),
    (check_p_value, lambda d: 1 - swaps(d), "This is 1 - p"),
    (check_p_value, lambda d: 2 * swaps(d), "turn the sign"),
    (check_p_value, lambda d: [swaps(d)], "Return one number"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)
