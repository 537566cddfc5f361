"""Checks of notebook 06's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from helpers.metrics.label_sets import averages
from lessons.checks import ask, exercise, is_number


@exercise("Exercise 2: the threshold")
def check_choose_threshold(answer: Any) -> str:
    """`choose_threshold(train, val, test) -> float`, each (scores (N, C), target (N, C) bool)."""
    calls = []  # all of them first: a slip is named only where it explains every answer
    for seed, levels in ((0, (0.3, 0.55, 0.8)), (1, (0.75, 0.25, 0.5)), (2, (0.5, 0.7, 0.2))):
        generator = torch.Generator().manual_seed(seed)
        splits = {}
        for name, level in zip(("train", "val", "test"), levels, strict=True):
            scores = torch.rand(80, 6, generator=generator)
            noise = 0.15 * torch.randn(scores.shape, generator=generator)
            splits[name] = (scores, scores + noise >= level)
        parts = {
            "val": ["val"],
            "test": ["test"],
            "train": ["train"],
            "all three": ["train", "val", "test"],
            "val and test": ["val", "test"],
        }
        best, reach = {}, {}  # of every choice of splits: the best thresholds, and their OF1
        for name, members in parts.items():
            together = [torch.cat(tensors) for tensors in zip(*(splits[m] for m in members), strict=True)]
            values = {k / 100: _of1(*together, k / 100) for k in range(1, 100)}
            reach[name] = max(values.values())
            best[name] = [level for level, v in values.items() if v >= reach[name] - 1e-9]
        expected = f"{best['val'][0]:.2f}, with OF1 {reach['val']:.3f} on val"
        call = ask(answer, **splits)
        call.expect(is_number(call.value), expected=expected, hint="Return one number.")
        value = float(call.value)
        hint = "A threshold of probabilities lies between 0 and 1. Is this the position of the best one, not its value?"
        call.expect(0 < value < 1, expected=expected, hint=hint)
        slips = {name for name in best if any(abs(value - level) < 0.011 for level in best[name])}
        reached = _of1(*splits["val"], value)
        calls.append((call, value, reached, reached >= reach["val"] - 1e-3, expected, slips - {"val"}))
    constant = len({value for _, value, *_ in calls}) == 1
    common = [name for name in parts if all(name in slips for *_, slips in calls)]
    for call, _, reached, right, expected, _ in calls:
        hint = f"On val, OF1 is {reached:.3f} at this threshold. Try 0.01, 0.02, … 0.99 on val and keep the best."
        if constant:
            hint += " Yours is the same for every val: let it depend on what was given."
        elif common:
            hint = (
                f"This is the best threshold on {common[0]}. What is chosen is chosen on val, and only there."
            )
        call.expect(right, expected=expected, hint=hint)
    return "Chosen on val; test has no say in it."


def _of1(scores: Tensor, target: Tensor, threshold: float) -> float:
    named = scores >= threshold
    return 2 * float((named & target).sum()) / max(1.0, float(named.sum() + target.sum()))


@exercise("Exercise 3: the two CF1")
def check_cf1(answer: Any) -> str:
    """`cf1(tp, predicted, support) -> (harmonic mean of CP and CR, mean of the labels' F1)`."""
    cases = [
        ([2, 1], [2, 4], [4, 1], "Each label's precision is tp / predicted, its recall tp / support."),
        ([3, 0, 1], [5, 0, 1], [4, 2, 2], "A label that is never predicted has precision 0 (not 0/0), and counts."),
        ([1, 0], [2, 3], [2, 0], "A label that no image has counts, too, with recall 0."),
        ([0, 0], [0, 1], [1, 0], "Where nothing is right, both are 0."),
    ]  # fmt: skip
    for *counts, hint in cases:
        tp, predicted, support = (torch.tensor(count) for count in counts)
        right = averages(tp, predicted, support)
        expected = (float(right["CF1"]), float(right["CF1_mean_of_classes"]))
        call = ask(answer, tp=tp, predicted=predicted, support=support)
        call.check_form(expected, "Return two numbers: the harmonic mean, then the mean of F1.")
        found = tuple(float(value) for value in call.value)
        first, second = (abs(a - b) < 1e-4 for a, b in zip(found, expected, strict=True))
        overall = float(right["OF1"])
        if abs(overall - expected[0]) > 1e-4:
            micro = "The first one is OF1: here the ratios come first and then their mean over the labels."
            call.expect(not abs(found[0] - overall) <= 1e-4, expected=expected, hint=micro)
        if second:
            hint = f"The second number is right, the first (the harmonic mean of CP and CR) is not. {hint}"
        elif first:
            hint = (
                "The first number is right, the second is not: it is the mean of the labels' F1, each "
                "2 tp / (predicted + support), or 0 where that is 0/0."
            )
        slips = {"The two are right, but in the other order.": expected[::-1]}
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-4)
    return "Two definitions, two numbers, one name in the literature: always say which."


def _p_value(differences: list[float], *, slip: str = "") -> float:
    """The solution, with slips as options."""
    seen = sum(differences)
    hits, count = 0, 2 ** len(differences)
    for signs in itertools.product((1, -1), repeat=len(differences)):
        total = sum(s * d for s, d in zip(signs, differences, strict=True))
        if slip == "one":
            hits += total >= seen
        elif slip == "strict":
            hits += abs(total) > abs(seen)
        else:
            hits += abs(total) >= abs(seen)
    return 1 - hits / count if slip == "other" else hits / count


@exercise("Exercise 4: a paired test")
def check_p_value(answer: Any) -> str:
    """`p_value(differences list of N floats) -> float`, over all 2^N swaps."""
    cases = (
        [0.5, 0.25, 0.25],
        [1.0, -0.5, 0.25, 0.75, 0.5],
        [-0.5, -0.25, 0.0, -1.0],
        [0.5, -0.5],
        [0.25] * 8,
    )
    for differences in cases:
        expected = _p_value(differences)
        call = ask(answer, differences=list(differences))
        slips = {
            "Count in both directions: compare sizes, for the other system might have been better by chance.":
                _p_value(differences, slip="one"),
            "Swaps that give just as large a difference count, too (>=, not >).": _p_value(differences, slip="strict"),
            "This is 1 - p. A small p says that so large a difference is rare by chance.": _p_value(differences, slip="other"),
        }  # fmt: skip
        hint = "To swap an image's answers is to turn the sign of its difference: try all 2^N signs, count sums as large as the observed one."
        call.compare(expected, form="Return one number.", slips=slips, hint=hint, tolerance=1e-6)
    return "With many images one draws some thousand random swaps: that is `intervals.compare`."
