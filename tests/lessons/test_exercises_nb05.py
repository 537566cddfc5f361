"""Notebook 05's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import itertools

import pytest
import torch
from lessons.exercises.nb05 import check_failures, check_mla, check_pla
from scipy.optimize import linear_sum_assignment


def minimal(logits, labels, *, values=None, rows=None, sign=1):
    """The solution, with slips as options."""
    values = -logits.log_softmax(1) if values is None else values
    cost = sign * values[rows or slice(0, len(labels))][:, labels]
    return [labels[j] for j in linear_sum_assignment(cost)[1]]


def greedily(logits, labels):
    free, found = list(labels), []
    for row in logits[: len(labels)].tolist():
        found.append(max(free, key=row.__getitem__))
        free.remove(found[-1])
    return found


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


def failures(tokens, truth, *, cut=True, stops=False, different=True, swap=False):
    """The solution, with slips as options."""
    stop, repeats, early = truth.shape[1], 0, 0
    for row, labels in zip(tokens.tolist(), truth, strict=True):
        said = row[: row.index(stop)] if cut and stop in row else [x for x in row if x != stop]
        counted = row if stops else said
        repeats += len(set(counted)) < len(counted)
        early += (len(set(said)) if different else len(said)) < int(labels.sum())
    return (early, repeats) if swap else (repeats, early)


RIGHT = [
    (check_mla, minimal),
    (check_mla, lambda s, y: minimal(s, y, values=-s)),  # a row's shift does not change the order
    (check_mla, lambda s, y: list(min(itertools.permutations(y), key=lambda way: -sum(float(s[t, j]) for t, j in enumerate(way))))),
    (check_pla, by_bars),
    (check_pla, in_two_parts),
    (check_failures, failures),
    (check_failures, lambda *given: list(map(torch.tensor, failures(*given)))),
]  # fmt: skip

WRONG = [
    (check_mla, lambda s, y: [y.index(j) for j in minimal(s, y)], "places in the list"),
    (check_mla, lambda s, y: [minimal(s, y).index(j) for j in y], "the step of each label"),
    (check_mla, lambda s, y: [y[minimal(s, y).index(j)] for j in y], "rows are steps"),
    (check_mla, lambda s, y: minimal(s, y, sign=-1), "sign is missing"),
    (check_mla, greedily, "That is greedy"),
    (check_mla, lambda s, y: list(y), "in which the labels were given"),
    (check_mla, lambda s, y: minimal(s, y, values=-s.softmax(1)), "probabilities themselves"),
    (check_mla, lambda s, y: minimal(s, y, rows=slice(len(s) - len(y), None)), "Only the first n steps"),
    (check_mla, lambda s, y: [*minimal(s, y), s.shape[1] - 1], "not handed out"),
    (check_mla, lambda s, y: s[: len(y)].argmax(1).tolist(), "a permutation of `labels`"),
    (check_mla, lambda s, y: torch.tensor(minimal(s, y)), "Return a list"),
    (check_mla, lambda s, y: tuple(minimal(s, y)), "Return a list"),
    (check_mla, lambda s, y: [float(j) for j in minimal(s, y)], "whole numbers"),
    (check_mla, lambda s, y: sorted(y), "smallest sum of -log p"),
    (check_pla, lambda c, p: in_two_parts(c, p, keep=False), "This is MLA"),
    (check_pla, lambda c, p: in_two_parts(c, p, reverse=True), "the first one gets it"),
    (check_pla, lambda c, p: in_two_parts(c, p, hungarian=False), "not in the order in which they come"),
    (check_pla, lambda c, p: p, "a permutation"),
    (check_pla, lambda c, p: list(range(len(p))), "not in the order"),
    (check_pla, lambda c, p: list(range(len(p)))[::-1], "First the steps that predict"),
    (check_pla, lambda c, p: torch.tensor(in_two_parts(c, p)), "Return a list"),
    (check_pla, lambda c, p: [float(j) for j in in_two_parts(c, p)], "whole numbers"),
    (check_pla, lambda c, p: c.argmin(1).tolist() if len(c) else [], "a permutation"),
    (check_failures, lambda *given: failures(*given, stops=True), "That is no repeat"),
    (check_failures, lambda *given: failures(*given, cut=False), "after the first `<stop>`"),
    (check_failures, lambda *given: failures(*given, different=False), "is one label"),
    (check_failures, lambda *given: failures(*given, swap=True), "First the repeats"),
    (check_failures, lambda *given: failures(*given)[0], "Return two numbers"),
    (check_failures, lambda tokens, truth: (tokens, truth), "not a tensor of several"),
    (check_failures, lambda tokens, truth: (len(tokens), len(tokens)), "A repeat: fewer"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)


def test_the_cases_tell_one_best_answer() -> None:
    """No tie: another optimum would be refused."""
    given = []
    check_pla(lambda cost, predicted: given.append((cost, predicted)) or in_two_parts(cost, predicted))
    assert len(given) == 11
    for cost, predicted in given:
        n, best = len(predicted), in_two_parts(cost, predicted)
        for other in itertools.permutations(range(n)):
            total = float(sum(cost[t, j] for t, j in enumerate(other)))
            mine = float(sum(cost[t, j] for t, j in enumerate(best)))
            kept = all(other[t] == best[t] for t in range(n) if best[t] == predicted[t])
            assert not kept or list(other) == best or total > mine + 1e-3
