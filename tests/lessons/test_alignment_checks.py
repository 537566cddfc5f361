"""Notebook 05's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import itertools

import pytest
import torch
from lessons.exercises import nb05 as checks
from scipy.optimize import linear_sum_assignment
from test_checks import fails, not_written, passes, verdict


@pytest.mark.parametrize("check", [checks.check_cost_matrix, checks.check_pla, checks.check_failures])
def test_starters_are_not_solved_yet(check, capsys) -> None:
    for starter in (not_written, ...):
        answer = (lambda *_: None) if starter is not_written else starter
        assert verdict(check, answer, capsys)[0] is False
        assert "not solved yet" in verdict(check, answer, capsys)[1]


def costs(logits, labels, *, values=None, rows=None, columns=None):
    """The solution, with slips as options."""
    n = labels.shape[1] - 1
    values = -logits.log_softmax(2) if values is None else values
    wanted = labels[:, None, : columns or n].expand(-1, rows or n, -1)
    return values[:, : rows or n].gather(2, wanted)


def test_cost_matrix(capsys) -> None:
    passes(checks.check_cost_matrix, costs, capsys)
    passes(
        checks.check_cost_matrix,
        lambda s, y: torch.stack([-s[b].log_softmax(1)[: y.shape[1] - 1, y[b, :-1]] for b in range(len(y))]),
        capsys,
    )


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s, y: costs(s, y, rows=s.shape[1]), "All steps are here"),
        (lambda s, y: costs(s, y, rows=y.shape[1], columns=y.shape[1]), "<stop>"),
        (lambda s, y: costs(s, y).transpose(1, 2), "the other way round"),
        (lambda s, y: -costs(s, y), "sign is missing"),
        (lambda s, y: costs(s, y, values=s.softmax(2)), "These are the probabilities"),
        (lambda s, y: costs(s, y, values=-s), "These are the logits"),
        (lambda s, y: -costs(s, y, values=s).log_softmax(2), "over all V outputs"),
        (lambda s, y: costs(s, y, values=-s.log_softmax(1)), "not over the steps"),
        (lambda s, y: costs(s, y, values=-s.log_softmax(0)), "not over the batch"),
        (lambda s, y: -s.log_softmax(2)[:, : y.shape[1] - 1, : y.shape[1] - 1], "the first n outputs"),
        (lambda s, y: costs(s, y[:1].expand_as(y)), "of the first image"),
        (lambda s, y: -s.log_softmax(2), "is a tensor (1, 3, 3)"),
        (lambda s, y: costs(s, y).tolist(), "Return a tensor"),
        (lambda s, y: costs(s, y, values=1 - s.softmax(2)), "Entry [b, t, j]"),
    ],
)
def test_cost_matrix_finds_slips(answer, hint, capsys) -> None:
    fails(checks.check_cost_matrix, answer, capsys, hint)


def by_bars(cost, predicted):
    """PLA as one assignment in which a step that keeps a label can take no other."""
    barred, seen = cost.clone(), set()
    for t, j in enumerate(predicted):
        if j >= 0 and j not in seen:
            seen.add(j)
            barred[t] = 1e6
            barred[t, j] = 0
    return [int(j) for j in linear_sum_assignment(barred.numpy())[1]]


def in_two_parts(cost, predicted, *, reverse=False, hungarian=True, keep=True):
    """The solution of the notebook, with slips as options."""
    n = len(predicted)
    target, free = [None] * n, list(range(n))
    for t in sorted(range(n), reverse=reverse) if keep else ():
        if predicted[t] in free:
            target[t] = predicted[t]
            free.remove(predicted[t])
    steps = [t for t in range(n) if target[t] is None]
    if hungarian:
        order = linear_sum_assignment(cost[steps][:, free].numpy())[1] if steps else []
        free = [free[k] for k in order]
    for t, j in zip(steps, free, strict=True):
        target[t] = j
    return target


def test_pla(capsys) -> None:
    passes(checks.check_pla, by_bars, capsys)
    passes(checks.check_pla, in_two_parts, capsys)


def test_the_cases_tell_one_best_answer() -> None:
    """No tie: another optimum would be refused."""
    given = []
    checks.check_pla(lambda cost, predicted: given.append((cost, predicted)) or in_two_parts(cost, predicted))
    assert len(given) == 11
    for cost, predicted in given:
        n, best = len(predicted), in_two_parts(cost, predicted)
        for other in itertools.permutations(range(n)):
            total = float(sum(cost[t, j] for t, j in enumerate(other)))
            mine = float(sum(cost[t, j] for t, j in enumerate(best)))
            kept = all(other[t] == best[t] for t in range(n) if best[t] == predicted[t])
            assert not kept or list(other) == best or total > mine + 1e-3


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda c, p: in_two_parts(c, p, keep=False), "This is MLA"),
        (lambda c, p: in_two_parts(c, p, reverse=True), "the first one gets it"),
        (lambda c, p: in_two_parts(c, p, hungarian=False), "not in the order in which they come"),
        (lambda c, p: p, "a permutation"),
        (lambda c, p: list(range(len(p))), "not in the order"),
        (lambda c, p: list(range(len(p)))[::-1], "First the steps that predict"),
        (lambda c, p: torch.tensor(in_two_parts(c, p)), "Return a list"),
        (lambda c, p: [float(j) for j in in_two_parts(c, p)], "whole numbers"),
        (lambda c, p: c.argmin(1).tolist() if len(c) else [], "a permutation"),
    ],
)
def test_pla_finds_slips(answer, hint, capsys) -> None:
    fails(checks.check_pla, answer, capsys, hint)


def failures(tokens, truth, *, cut=True, stops=False, different=True, swap=False):
    """The solution, with slips as options."""
    stop, repeats, early = truth.shape[1], 0, 0
    for row, labels in zip(tokens.tolist(), truth, strict=True):
        said = row[: row.index(stop)] if cut and stop in row else [x for x in row if x != stop]
        counted = row if stops else said
        repeats += len(set(counted)) < len(counted)
        early += (len(set(said)) if different else len(said)) < int(labels.sum())
    return (early, repeats) if swap else (repeats, early)


def test_failures(capsys) -> None:
    passes(checks.check_failures, failures, capsys)
    passes(checks.check_failures, lambda *given: list(map(torch.tensor, failures(*given))), capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *given: failures(*given, stops=True), "That is no repeat"),
        (lambda *given: failures(*given, cut=False), "after the first `<stop>`"),
        (lambda *given: failures(*given, different=False), "is one label"),
        (lambda *given: failures(*given, swap=True), "First the repeats"),
        (lambda *given: failures(*given)[0], "Return two numbers"),
        (lambda tokens, truth: (tokens, truth), "not a tensor of several"),
        (lambda tokens, truth: (len(tokens), len(tokens)), "A repeat: fewer"),
    ],
)
def test_failures_finds_slips(answer, hint, capsys) -> None:
    fails(checks.check_failures, answer, capsys, hint)
