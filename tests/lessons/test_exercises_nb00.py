"""Notebook 00's exercise: right answers pass, usual mistakes are named."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lessons.exercises.nb00 import check_set_f1


def set_f1(named, truth, *, slip=""):
    """The solution of notebook 00's exercise, and what usual slips make of it."""
    if not named and not truth and slip != "both empty":
        return 1.0
    right = len(named & truth)
    if slip == "accuracy":
        return right / max(1, len(named | truth))
    precision = right / (len(named) if slip == "0/0" else max(1, len(named)))
    recall = right / max(1, len(truth))
    if slip == "plain mean":
        return (precision + recall) / 2
    if slip == "precision":
        return precision
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def from_counts(named, truth):
    return 2 * len(named & truth) / (len(named) + len(truth)) if named or truth else 1


@pytest.mark.parametrize(
    "answer", [set_f1, from_counts, lambda *sets: torch.tensor(from_counts(*sets)).double()]
)
def test_right_answers_pass(answer, passes) -> None:
    passes(check_set_f1, answer)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("plain mean", "P = 1/2, R = 1/3"),
        ("precision", "P = 1/2, R = 1/3"),
        ("accuracy", "P = 1/2, R = 1/3"),
        ("both empty", "perfectly right"),
        ("0/0", "The error comes from the line"),
    ],
)
def test_a_wrong_answer_gets_its_hint(slip, hint, fails) -> None:
    fails(check_set_f1, partial(set_f1, slip=slip), hint)
