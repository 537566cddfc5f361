"""Notebook 08's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import math

import pytest
import torch
from lessons.exercises import nb08 as checks
from test_checks import fails, passes


def conditional(multi_hot):
    together = multi_hot.T @ multi_hot
    return (together / together.diagonal().clamp(min=1)[:, None]).fill_diagonal_(0)


def test_conditional(capsys) -> None:
    passes(checks.check_conditional, conditional, capsys)

    def by_loop(multi_hot):
        n = multi_hot.shape[1]
        result = torch.zeros(n, n)
        for i in range(n):
            rows = multi_hot[multi_hot[:, i] > 0]
            for j in range(n):
                if i != j and len(rows):
                    result[i, j] = rows[:, j].mean()
        return result

    passes(checks.check_conditional, by_loop, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda y: conditional(y).T, "P(i | j)"),
        (lambda y: conditional(y).fill_diagonal_(1), "The diagonal"),
        (lambda y: (y.T @ y).fill_diagonal_(0), "These are counts"),
        (lambda y: y.T @ y, "These are counts"),
        (lambda y: (y.T @ y / len(y)).fill_diagonal_(0), "P(i and j)"),
        (lambda y: (y.T @ y / (y.T @ y).diagonal()[:, None]).fill_diagonal_(0), "0/0 is NaN"),
        (lambda y: conditional(y).tolist(), "Return a tensor"),
        (lambda y: conditional(y) > 0.4, ""),
    ],
)
def test_conditional_finds_slips(answer, hint, capsys) -> None:
    fails(checks.check_conditional, answer, capsys, hint)


def propagate(adjacency, nodes, *, flip=True, d=None, power=-0.5):
    d = adjacency.sum(1) if d is None else d
    a = adjacency.T if flip else adjacency
    return (d**power)[:, None] * a * d**power @ nodes


def test_propagate(capsys) -> None:
    passes(checks.check_propagate, propagate, capsys)

    def with_matrices(adjacency, nodes):
        half = torch.diag(adjacency.sum(1) ** -0.5)
        return half @ adjacency.T @ half @ nodes

    passes(checks.check_propagate, with_matrices, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda a, x: propagate(a, x, flip=False), "must be transposed"),
        (lambda a, x: propagate(a, x, d=a.sum(0)), "not of the columns"),
        (lambda a, x: a.T @ x, "normalisation is missing"),
        (lambda a, x: propagate(a, x, power=0.5), "not +1/2"),
        (lambda a, x: propagate(a, x, power=-1.0), "on both sides"),
        (lambda a, x: (a.T / a.sum(1)[:, None]) @ x, "on the left"),
        (lambda a, x: (a.T / a.sum(1)) @ x, "on the right"),
        (lambda a, x: propagate(a, torch.eye(len(a))), "Multiply the nodes"),
        (lambda a, x: propagate(a + torch.eye(len(a)), x), "Row i of the result"),
        (lambda a, x: propagate(a, x).relu() - 1, "Row i of the result"),
    ],
)
def test_propagate_finds_slips(answer, hint, capsys) -> None:
    fails(checks.check_propagate, answer, capsys, hint)


def safe(edges, product, *, soft=None, one=True, prior=True):
    soft = product.softmax(1) if soft is None else soft
    a = soft + (torch.eye(len(edges)) if one else 0) + (edges if prior else 0)
    return propagate(a, torch.eye(len(edges)))


def test_safe_adjacency(capsys) -> None:
    passes(checks.check_safe_adjacency, safe, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda e, p: safe(e, p, soft=p), "a row sum was negative"),
        (lambda e, p: safe(e, p, soft=p.exp() / p.exp().sum(1, keepdim=True)), "exp of a large number"),
        (lambda e, p: safe(e, p, one=False), "identity is missing"),
        (lambda e, p: safe(e, p, prior=False), "edges of the prior"),
        (lambda e, p: safe(e, p, soft=p.softmax(0)), "dimension 1"),
        (lambda e, p: safe(e, p, soft=p.clamp(min=0)), "Clipped"),
        (lambda e, p: e + torch.eye(len(e)) + p.softmax(1), "not normalised yet"),
        (lambda e, p: safe(e, p).T, "softmax of the rows"),
    ],
)
def test_safe_adjacency_finds_slips(answer, hint, capsys) -> None:
    fails(checks.check_safe_adjacency, answer, capsys, hint)


def look(queries, keys, values, *, divide=None, axis=1):
    energy = queries @ keys.T / (math.sqrt(queries.shape[1]) if divide is None else divide)
    weights = energy.softmax(axis)
    return weights @ values, weights


def test_look(capsys) -> None:
    passes(checks.check_look, look, capsys)

    def by_loop(queries, keys, values):
        rows = [((keys @ q) / len(q) ** 0.5).softmax(0) for q in queries]
        return torch.stack([row @ values for row in rows]), torch.stack(rows)

    passes(checks.check_look, by_loop, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda q, k, v: look(q, k, v, divide=1), "divided by √d"),
        (lambda q, k, v: look(q, k, v, divide=q.shape[1]), "not by d"),
        (lambda q, k, v: look(q, k, v, axis=0), "dimension 1"),
        (lambda q, k, v: look(q, k, v)[::-1], "swapped"),
        (lambda q, k, v: look(q, k, v)[0], "Return two tensors"),
        (
            lambda q, k, v: (q @ k.T / q.shape[1] ** 0.5 @ v, q @ k.T / q.shape[1] ** 0.5),
            "go through softmax",
        ),
        (lambda q, k, v: look(q, k, v.flip(0)), "weights = softmax"),
    ],
)
def test_look_finds_slips(answer, hint, capsys) -> None:
    fails(checks.check_look, answer, capsys, hint)


@pytest.mark.parametrize(
    "check",
    [checks.check_conditional, checks.check_propagate, checks.check_safe_adjacency, checks.check_look],
)
def test_starters_are_not_solved_yet(check, capsys) -> None:
    assert check(...) is False and "not solved yet" in capsys.readouterr().out
    assert check(lambda *given: None) is False and "not solved yet" in capsys.readouterr().out
