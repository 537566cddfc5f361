"""Notebook 06's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import heapq
import itertools
import math

import pytest
import torch
from lessons.exercises import nb06 as checks
from test_checks import fails, passes, verdict


@pytest.mark.parametrize("check", [checks.check_beam, checks.check_set_probability, checks.check_p_value])
def test_starters_are_not_solved_yet(check, capsys) -> None:
    for answer in (lambda *_: None, ...):
        assert verdict(check, answer, capsys)[0] is False
        assert "not solved yet" in verdict(check, answer, capsys)[1]


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


def test_beam(capsys) -> None:
    passes(checks.check_beam, beam, capsys)
    passes(checks.check_beam, by_logs, capsys)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"keep_stop": True}, "leave it out"),
        ({"rank": "last"}, "product of the probabilities"),
        ({"places": "each"}, "compete for `width` places"),
        ({"places": "room"}, "takes one of the `width` places"),
        ({"patient": False}, "a candidate, not yet the winner"),
        ({"unended": False}, "complete without <stop>"),
        ({"rank": "length"}, "not by the probability per token"),
    ],
)
def test_beam_finds_slips(options, hint, capsys) -> None:
    fails(checks.check_beam, lambda *a: beam(*a, **options), capsys, hint)


def test_beam_finds_other_mistakes(capsys) -> None:
    fails(checks.check_beam, lambda n, s, w, m: beam(n, s, 1, m), capsys, "This is greedy search")
    fails(checks.check_beam, lambda *a: tuple(beam(*a)), capsys, "a list of label ids")
    fails(checks.check_beam, lambda *a: sorted(beam(*a)), capsys, "Grow every live sequence")
    fails(checks.check_beam, lambda n, s, w, m: beam(n, s, w + 1, m), capsys, "")


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


def test_set_probability(capsys) -> None:
    passes(checks.check_set_probability, summed, capsys)
    passes(checks.check_set_probability, recursive, capsys)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"orders": lambda labels: [tuple(labels)]}, "This is one order"),
        ({"join": max}, "the most probable order"),
        ({"join": lambda ways: sum(ways) / len(ways)}, "no mean to take"),
        ({"with_stop": False}, "belongs to the product"),
        ({"join": lambda ways: math.log(sum(ways))}, "Then add up"),
        ({"join": list}, "Return one number"),
    ],
)
def test_set_probability_finds_slips(options, hint, capsys) -> None:
    fails(checks.check_set_probability, lambda *a: summed(*a, **options), capsys, hint)


def swaps(differences, count=lambda total, seen: abs(total) >= abs(seen)):
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(count(total, sum(differences)) for total in sums) / len(sums)


def test_p_value(capsys) -> None:
    passes(checks.check_p_value, swaps, capsys)

    def by_tensors(differences):
        n = len(differences)
        signs = 1 - 2 * (torch.arange(2**n)[:, None] >> torch.arange(n) & 1)
        sums = signs.double() @ torch.tensor(differences).double()
        return (sums.abs() >= abs(sum(differences)) - 1e-9).double().mean()

    passes(checks.check_p_value, by_tensors, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda d: swaps(d, lambda total, seen: total >= seen), "in both directions"),
        (lambda d: swaps(d, lambda total, seen: abs(total) > abs(seen)), ">=, not >"),
        (lambda d: 1 - swaps(d), "This is 1 - p"),
        (lambda d: 2 * swaps(d), "turn the sign"),
        (lambda d: [swaps(d)], "Return one number"),
    ],
)
def test_p_value_finds_slips(answer, hint, capsys) -> None:
    fails(checks.check_p_value, answer, capsys, hint)
