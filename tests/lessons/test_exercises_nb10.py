"""Notebook 10's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import math

import pytest
import torch
from lessons.exercises.nb10 import check_conditional, check_look, check_safe_adjacency


def conditional(multi_hot):
    together = multi_hot.T @ multi_hot
    return (together / together.diagonal().clamp(min=1)[:, None]).fill_diagonal_(0)


def by_loop(multi_hot):
    n = multi_hot.shape[1]
    result = torch.zeros(n, n)
    for i in range(n):
        rows = multi_hot[multi_hot[:, i] > 0]
        for j in range(n):
            if i != j and len(rows):
                result[i, j] = rows[:, j].mean()
    return result


def normalise(adjacency):
    scale = adjacency.sum(1) ** -0.5
    return scale[:, None] * adjacency.T * scale


def safe(edges, product, *, soft=None, one=True, prior=True):
    soft = product.softmax(1) if soft is None else soft
    a = soft + (torch.eye(len(edges)) if one else 0) + (edges if prior else 0)
    return normalise(a)


def look(queries, keys, values, *, divide=None, axis=1):
    energy = queries @ keys.T / (math.sqrt(queries.shape[1]) if divide is None else divide)
    weights = energy.softmax(axis)
    return weights @ values, weights


def look_by_loop(queries, keys, values):
    rows = [((keys @ q) / len(q) ** 0.5).softmax(0) for q in queries]
    return torch.stack([row @ values for row in rows]), torch.stack(rows)


RIGHT = [
    (check_conditional, conditional),
    (check_conditional, by_loop),
    (check_safe_adjacency, safe),
    (check_look, look),
    (check_look, look_by_loop),
]  # fmt: skip

WRONG = [
    (check_conditional, lambda y: conditional(y).T, "P(i | j)"),
    (check_conditional, lambda y: conditional(y).fill_diagonal_(1), "The diagonal"),
    (check_conditional, lambda y: (y.T @ y).fill_diagonal_(0), "These are counts"),
    (check_conditional, lambda y: y.T @ y, "These are counts"),
    (check_conditional, lambda y: (y.T @ y / len(y)).fill_diagonal_(0), "P(i and j)"),
    (check_conditional, lambda y: (y.T @ y / (y.T @ y).diagonal()[:, None]).fill_diagonal_(0), "0/0 is NaN"),
    (check_conditional, lambda y: conditional(y).tolist(), "Return a tensor"),
    (check_conditional, lambda y: conditional(y) > 0.4, ""),
    (check_safe_adjacency, lambda e, p: safe(e, p, soft=p), "a row sum was negative"),
    (check_safe_adjacency, lambda e, p: safe(e, p, soft=p.exp() / p.exp().sum(1, keepdim=True)), "exp of a large number"),
    (check_safe_adjacency, lambda e, p: safe(e, p, one=False), "identity is missing"),
    (check_safe_adjacency, lambda e, p: safe(e, p, prior=False), "edges of the prior"),
    (check_safe_adjacency, lambda e, p: safe(e, p, soft=p.softmax(0)), "dimension 1"),
    (check_safe_adjacency, lambda e, p: safe(e, p, soft=p.clamp(min=0)), "Clipped"),
    (check_safe_adjacency, lambda e, p: e + torch.eye(len(e)) + p.softmax(1), "not normalised yet"),
    (check_safe_adjacency, lambda e, p: safe(e, p).T, "softmax of the rows"),
    (check_look, lambda q, k, v: look(q, k, v, divide=1), "divided by √d"),
    (check_look, lambda q, k, v: look(q, k, v, divide=q.shape[1]), "not by d"),
    (check_look, lambda q, k, v: look(q, k, v, axis=0), "dimension 1"),
    (check_look, lambda q, k, v: look(q, k, v)[::-1], "swapped"),
    (check_look, lambda q, k, v: look(q, k, v)[0], "Return two tensors"),
    (check_look, lambda q, k, v: (q @ k.T / q.shape[1] ** 0.5 @ v, q @ k.T / q.shape[1] ** 0.5), "go through softmax"),
    (check_look, lambda q, k, v: look(q, k, v.flip(0)), "weights = softmax"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)
