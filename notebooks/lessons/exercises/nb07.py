"""Checks of notebook 07's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from lessons.checks import Call, ask, exercise


class _Next:
    """P(next token | what was said), written down by random numbers; a named label has probability 0."""

    def __init__(self, labels: int, seed: int) -> None:
        self.labels, self.seed = labels, seed

    def __call__(self, said: Any) -> list[float]:
        said = [int(token) for token in said]
        number = sum((token + 1) * 17**place for place, token in enumerate(said))
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        weights = (1.5 * torch.randn(self.labels + 1, generator=generator, dtype=torch.float64)).exp()
        weights[[token for token in said if token < self.labels]] = 0
        return (weights / weights.sum()).tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Next:
        return self  # nothing in it changes

    def __repr__(self) -> str:
        return f"probabilities of {self.labels} labels and <stop> (script {self.seed})"


def _beam(next_p: _Next, stop: int, width: int, most: int, *, slip: str = "") -> list[int]:
    """The solution, with slips as options."""
    live: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    done: list[tuple[tuple[int, ...], float]] = []
    for _ in range(most):
        grown = [
            ((*said, k), q if slip == "last" else p * q)
            for said, p in live
            for k, q in enumerate(next_p(said))
        ]
        grown.sort(key=lambda pair: -pair[1])
        if slip == "each":
            kept = [x for said, _ in live for x in [g for g in grown if g[0][:-1] == said][:width]]
        elif slip == "room":
            kept = [x for x in grown if x[0][-1] == stop] + [x for x in grown if x[0][-1] != stop][:width]
        else:
            kept = grown[:width]
        ended = [x for x in kept if x[0][-1] == stop]
        live = [x for x in kept if x[0][-1] != stop]
        done += ended
        if (slip == "first" and ended) or not live:
            break
    if slip != "ended":
        done += live
    if not done:
        return []
    best = max(done, key=lambda pair: pair[1] ** (1 / len(pair[0])) if slip == "length" else pair[1])[0]
    return [token for token in best if token != stop]


# Labels, width, labels at most, script: together they tell apart all slips, and a wrong width or number of steps.
_BEAM_CASES = (
    *((3, 1, 3, 2995), (3, 2, 3, 1441), (3, 2, 3, 2910), (4, 2, 3, 2422), (5, 2, 4, 2923), (5, 3, 4, 2961)),
    *((5, 3, 4, 2956), (4, 3, 2, 992), (4, 60, 3, 5)),
)


_BEAM_SLIPS = {
    "last": "A sequence has the product of the probabilities of all its tokens, not that of the last one.",
    "each": "All continuations of all sequences compete for `width` places, not those of each one for itself.",
    "room": "A continuation that ends in <stop> takes one of the `width` places of its step, too.",
    "first": "The first sequence that ends is a candidate, not yet the winner: others may be more probable.",
    "ended": "A sequence of `max_labels` labels is complete without <stop>: it is a candidate, too.",
    "length": "Rank by the probability itself, not by the probability per token.",
}


@exercise("Exercise 1: beam search")
def check_beam(answer: Any) -> str:
    """`beam(next_p, stop, width, max_labels) -> list of ids`, the labels of the best sequence.

    `next_p(said)` gives the probabilities of all V next tokens after a list of ids. Labels are 0 .. stop - 1.
    """
    calls, right = [], []
    for labels, width, most, script in _BEAM_CASES:
        next_p = _Next(labels, script)
        expected = _beam(next_p, labels, width, most)
        call = ask(answer, next_p=next_p, stop=labels, width=width, max_labels=most)
        call.check_form(expected, "The answer is a list of label ids.")
        call = Call(call.given, [int(token) for token in call.value])
        hint = "<stop> ends the sequence and is no label: leave it out."
        call.expect(labels not in call.value, expected=expected, hint=hint)
        calls.append(call)
        right.append(expected)
    hint = (
        "Grow every live sequence by every token, keep the `width` most probable, move those with <stop> to the "
        "candidates; after `max_labels` steps, those still alive are candidates, too."
    )
    found = [call.value for call in calls]  # only all cases together tell which slip it is
    if found == [_beam(_Next(n, script), n, 1, most) for n, _, most, script in _BEAM_CASES]:
        hint = "This is greedy search: one sequence survives a step. Keep `width` of them."
    for slip, words in _BEAM_SLIPS.items():
        if found == [_beam(_Next(n, s), n, width, most, slip=slip) for n, width, most, s in _BEAM_CASES]:
            hint = words
    for call, expected in zip(calls, right, strict=True):
        call.compare(expected, hint=hint)
    return "A width of 1 is greedy search, a large one tries everything."


def _set(next_p: _Next, labels: list[int], stop: int, *, slip: str = "") -> float:
    """The solution, with slips as options."""
    ways = []
    for order in itertools.permutations(labels):
        p = 1.0
        for place, token in enumerate((*order, stop)):
            if token != stop or slip != "stop":
                p *= next_p(order[:place])[token]
        ways.append(p)
    if slip == "given":
        return ways[0]
    return max(ways) if slip == "best" else sum(ways) / (len(ways) if slip == "mean" else 1)


@exercise("Exercise 3: the probability of a set")
def check_set_probability(answer: Any) -> str:
    """`set_probability(next_p, labels, stop) -> float`, `next_p` as in exercise 1."""
    cases = ((3, [1]), (3, [2, 0]), (4, [3, 1, 0]), (3, []), (5, [0, 4, 2, 1]))
    for number, (count, labels) in enumerate(cases):
        next_p = _Next(count, 100 + number)
        expected = _set(next_p, labels, count)
        call = ask(answer, next_p=next_p, labels=labels, stop=count)
        slips = {
            "This is one order. The set has been named in every order of its labels.": _set(next_p, labels, count, slip="given"),
            "This is the most probable order. A set has the probability of all its orders together.":
                _set(next_p, labels, count, slip="best"),
            "The orders exclude each other: their probabilities add up, there is no mean to take.":
                _set(next_p, labels, count, slip="mean"),
            "The set is complete only when <stop> is said: its probability belongs to the product.":
                _set(next_p, labels, count, slip="stop"),
        }  # fmt: skip
        hint = "For every order: multiply the probabilities of its labels, each given those before it, and of <stop>. Then add up."
        call.compare(expected, form="Return one number.", slips=slips, hint=hint, tolerance=1e-6)
    return "n labels have n! orders; `set_log_probability` shares their beginnings."
