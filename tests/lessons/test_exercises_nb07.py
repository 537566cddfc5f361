"""Notebook 07's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import heapq
import itertools
import math
from functools import partial

import pytest
import torch
from lessons.exercises.nb07 import check_beam, check_set_probability


def beam(
    next_p,
    stop,
    width,
    max_labels,
    *,
    rank=None,
    places="shared",
    patient=True,
    unended=True,
    keep_stop=False,
):
    """The solution of the notebook, with slips as options."""
    live, done = [([], 1.0)], []
    for _ in range(max_labels):
        grown = [([*said, k], p * q) for said, p in live for k, q in enumerate(next_p(said))]
        if rank == "last":
            grown = [(said, next_p(said[:-1])[said[-1]]) for said, _ in grown]
        grown.sort(key=lambda x: x[1], reverse=True)
        kept = grown[:width]
        if places == "each":
            kept = [x for said, _ in live for x in [g for g in grown if g[0][:-1] == said][:width]]
        if places == "room":
            kept = [x for x in grown if x[0][-1] == stop] + [x for x in grown if x[0][-1] != stop][:width]
        done += [x for x in kept if x[0][-1] == stop]
        live = [x for x in kept if x[0][-1] != stop]
        if not live or (done and not patient):
            break
    if unended:
        done += live
    if not done:
        return []
    key = (lambda x: x[1] ** (1 / len(x[0]))) if rank == "length" else lambda x: x[1]
    best = max(done, key=key)[0]
    return best if keep_stop else [k for k in best if k != stop]


def by_logs(next_p, stop, width, max_labels):
    """The same with sums of logarithms, a heap, and an early end."""
    live, best = [(0.0, ())], (-math.inf, ())
    for step in range(max_labels):
        grown = []
        for value, said in live:
            for k, q in enumerate(torch.tensor(next_p(list(said))).double()):
                if q > 0:
                    grown.append((value + float(q.log()), (*said, k)))
        live = []
        for value, said in heapq.nlargest(width, grown):
            if said[-1] == stop or step == max_labels - 1:
                best = max(best, (value, said))
            else:
                live.append((value, said))
        if not live or max(live)[0] <= best[0]:
            break
    return [k for k in best[1] if k != stop]


def summed(next_p, labels, stop, *, orders=itertools.permutations, join=sum, with_stop=True):
    """The solution of the notebook, with slips as options."""
    ways = []
    for order in orders(labels):
        p = next_p(list(order))[stop] if with_stop else 1.0
        for i, label in enumerate(order):
            p *= next_p(list(order[:i]))[label]
        ways.append(p)
    return join(ways)


def recursive(next_p, labels, stop, said=()):
    """The same with every beginning asked for once an order of it."""
    if not labels:
        return torch.tensor(next_p(said)[stop])
    p = next_p(said)
    parts = [p[k] * recursive(next_p, [j for j in labels if j != k], stop, (*said, k)) for k in labels]
    return torch.stack([torch.as_tensor(x) for x in parts]).sum()


RIGHT = [
    (check_beam, beam),
    (check_beam, by_logs),
    (check_set_probability, summed),
    (check_set_probability, recursive),
]  # fmt: skip

WRONG = [
    (check_beam, partial(beam, **{"keep_stop": True}), "leave it out"),
    (check_beam, partial(beam, **{"rank": "last"}), "product of the probabilities"),
    (check_beam, partial(beam, **{"places": "each"}), "compete for `width` places"),
    (check_beam, partial(beam, **{"places": "room"}), "takes one of the `width` places"),
    (check_beam, partial(beam, **{"patient": False}), "a candidate, not yet the winner"),
    (check_beam, partial(beam, **{"unended": False}), "complete without <stop>"),
    (check_beam, partial(beam, **{"rank": "length"}), "not by the probability per token"),
    (check_beam, lambda n, s, w, m: beam(n, s, 1, m), "This is greedy search"),
    (check_beam, lambda *a: tuple(beam(*a)), "a list of label ids"),
    (check_beam, lambda *a: sorted(beam(*a)), "Grow every live sequence"),
    (check_beam, lambda n, s, w, m: beam(n, s, w + 1, m), ""),
    (check_set_probability, partial(summed, **{"orders": lambda labels: [tuple(labels)]}), "This is one order"),
    (check_set_probability, partial(summed, **{"join": max}), "the most probable order"),
    (check_set_probability, partial(summed, **{"join": lambda ways: sum(ways) / len(ways)}), "no mean to take"),
    (check_set_probability, partial(summed, **{"with_stop": False}), "belongs to the product"),
    (check_set_probability, partial(summed, **{"join": lambda ways: math.log(sum(ways))}), "Then add up"),
    (check_set_probability, partial(summed, **{"join": list}), "Return one number"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)
