"""Checks of notebook 05's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from lessons.checks import Call, ask, exercise, is_number


@exercise("Exercise 2: minimal loss alignment")
def check_mla(answer: Any) -> str:
    """`mla(logits (T, V), labels list of n ids) -> list of n ids`: the target of each of the first n steps."""
    generator = torch.Generator().manual_seed(4)
    # In the first case every slip gives another order.
    first = [
        [2.2, 0.7, -1.1, -2.5, -3.8, 0.0],
        [-1.6, -1.7, -0.4, -0.1, -4.6, 1.9],
        [-4.1, 3.7, 1.2, -0.9, 2.7, 0.0],
        [1.4, 0.2, 2.2, 2.1, -1.8, -1.2],
        [0.7, -0.4, -4.6, 4.1, -4.3, -4.2],
    ]
    cases = [(torch.tensor(first), [3, 0, 4, 1])]
    for steps, outputs, labels in (
        (3, 5, [2, 0]),
        (4, 6, [4]),
        (5, 8, [6, 1, 3]),
        (6, 9, [7, 2, 5, 0]),
        (6, 9, [3, 7, 1, 4, 0]),
    ):
        cases.append((3 * torch.randn(steps, outputs, generator=generator), labels))
    for logits, labels in cases:
        n = len(labels)

        def best(values: Tensor, labels: list[int] = labels) -> list[int]:
            """The labels in the order with the least sum of values (n, V)."""
            rows = values.tolist()
            return list(
                min(
                    itertools.permutations(labels),
                    key=lambda way: sum(r[j] for r, j in zip(rows, way, strict=False)),
                )
            )

        log_p = logits.log_softmax(1)
        expected = best(-log_p[:n])
        call = ask(answer, logits=logits, labels=labels)
        call.check_form(expected, "Return a list of labels, one per step.")
        whole = all(isinstance(j, int) for j in call.value)
        call.expect(
            whole,
            expected=expected,
            hint="Labels are whole numbers: int(…) or .tolist() turn a tensor's entries into some.",
        )
        slips = {
            "`<stop>` keeps its own step, n + 1. It is not handed out.": [*expected, logits.shape[1] - 1],
            "These are places in the list `labels`. Return the labels that stand there.": [
                labels.index(j) for j in expected
            ],
            "This is the step of each label. Return the label of each step.": [
                expected.index(j) for j in labels
            ],
        }
        hint = f"One label for each of the first n = {n} steps: a permutation of `labels`."
        if call.value not in slips.values():
            call.expect(sorted(call.value) == sorted(labels), expected=expected, hint=hint)
        greedy, free = [], list(labels)
        for row in log_p[:n].tolist():
            greedy.append(max(free, key=row.__getitem__))
            free.remove(greedy[-1])
        slips |= {
            "This is the dearest order. A cost is -log p: the sign is missing.": best(log_p[:n]),
            "Each step takes the best label that is left. That is greedy: an early step can take what a later one needs more.": greedy,
            "This is the order in which the labels were given.": list(labels),
            "A cost is -log p. Here the probabilities themselves are summed.": best(-log_p.exp()[:n]),
            "Only the first n steps take part.": best(-log_p[-n:]),
            "The label of a step is found in the rows of the cost matrix: rows are steps, columns are labels.":
                [labels[expected.index(j)] for j in labels],
        }  # fmt: skip
        call.compare(
            expected,
            slips=slips,
            hint="The order of the labels with the smallest sum of -log p over the first n steps.",
        )
    return (
        "The softmax subtracts the same number from a whole row, so plain logits would give the same order."
    )


def _best(cost: list[list[float]], steps: list[int], labels: list[int]) -> dict[int, int]:
    """Step -> label, the cheapest way to hand out `labels` to `steps`."""
    ways = itertools.permutations(labels)
    best = min(ways, key=lambda way: sum(cost[t][j] for t, j in zip(steps, way, strict=True)))
    return dict(zip(steps, best, strict=True))


def _pla(cost: list[list[float]], predicted: list[int], *, slip: str = "") -> list[int]:
    """The solution, with slips as options."""
    n = len(cost)
    steps = range(n - 1, -1, -1) if slip == "last" else range(n)
    kept: dict[int, int] = {}
    for t in steps:
        if 0 <= predicted[t] < n and predicted[t] not in kept.values():
            kept[t] = predicted[t]
    if slip == "mla":
        kept = {}
    free, left = [t for t in range(n) if t not in kept], [j for j in range(n) if j not in kept.values()]
    rest = dict(zip(free, left, strict=True)) if slip == "given" else _best(cost, free, left)
    return [(kept | rest)[t] for t in range(n)]


@exercise("Exercise 3: predicted label alignment")
def check_pla(answer: Any) -> str:
    """`pla(cost (n, n), predicted list of n) -> list of n columns`, the target of each step.

    predicted[t] is the column of the label that step t predicts, or -1 where that is none of the set.
    """
    generator = torch.Generator().manual_seed(3)
    cases = [
        (torch.tensor([[0.8, 0.9, 3.0], [0.9, 3.0, 1.0], [0.7, 3.0, 3.0]]), [0, 0, -1]),
        (torch.tensor([[0.7, 0.8], [0.1, 3.0]]), [0, 0]),
        (torch.tensor([[3.0, 0.2, 2.0], [0.3, 2.0, 2.5], [2.0, 2.5, 0.1]]), [1, 0, 2]),
        (torch.tensor([[2.0, 3.0, 1.5], [1.8, 2.0, 2.5], [0.2, 2.5, 1.9]]), [-1, -1, 0]),
        (torch.tensor([[0.9, 1.0, 0.8], [0.2, 1.5, 2.0], [0.6, 1.2, 2.8]]), [-1, 0, 0]),
        (torch.tensor([[1.0]]), [-1]),
        (torch.zeros(0, 0), []),
    ]
    for n in (4, 4, 5, 5):
        cost = 3 * torch.rand(n, n, generator=generator) + 0.3
        cases.append((cost, torch.randint(-1, n, (n,), generator=generator).tolist()))
    for cost, predicted in cases:
        numbers = [[round(x, 6) for x in row] for row in cost.tolist()]
        expected = _pla(numbers, predicted)
        call = ask(answer, cost=cost, predicted=predicted)
        call.check_form(expected, "Return a list of columns, one per step.")
        whole = all(isinstance(j, int) for j in call.value)
        hint = "Columns are whole numbers: int(…) turns a tensor's entry into one."
        call.expect(whole, expected=expected, hint=hint)
        hint = "Every label goes to exactly one step: the answer is a permutation of 0 to n - 1."
        call.expect(sorted(call.value) == list(range(len(predicted))), expected=expected, hint=hint)
        slips = {
            "This is MLA. In PLA a step that predicts a label of the set gets it, even if that costs more.":
                _pla(numbers, predicted, slip="mla"),
            "If two steps predict the same label, the first one gets it.": _pla(numbers, predicted, slip="last"),
            "The labels left over go where they cost least together, not in the order in which they come.":
                _pla(numbers, predicted, slip="given"),
        }  # fmt: skip
        hint = "First the steps that predict a label of the set, in their order; then the cheapest way for the rest."
        call.compare(expected, slips=slips, hint=hint)
    return "What is predicted is kept, and only the rest is assigned."


@exercise("Exercise 4: repeats and early stops")
def check_failures(answer: Any) -> str:
    """`failures(tokens (B, T), truth (B, C) bool) -> (repeats, early)`: numbers of images.

    `<stop>` is C. What stands after the first `<stop>` does not count.
    """
    stop = 4
    tokens = torch.tensor(
        [
            [0, 1, 4, 4, 4],  # right
            [0, 0, 4, 4, 4],  # a repeat, and too few different ones
            [2, 4, 2, 4, 4],  # after the stop nothing counts; early
            [3, 1, 3, 1, 0],  # a repeat, no stop at all, all labels named
            [4, 4, 4, 4, 4],  # nothing to say, and nothing said
            [1, 2, 3, 4, 4],  # wrong labels, but no stop too soon
            [4, 0, 0, 1, 4],  # silent at once; early
        ]
    )
    members = ([0, 1], [0, 1], [2, 3], [0, 1, 3], [], [0, 1], [0, 1])
    truth = torch.zeros(len(tokens), stop, dtype=torch.bool)
    for row, labels in zip(truth, members, strict=True):
        row[labels] = True
    for rows in (slice(0, 2), slice(2, 3), slice(3, 6), slice(0, 7)):
        given, true = tokens[rows], truth[rows]

        def count(*, cut: bool = True, different: bool = True, given: Tensor = given, true: Tensor = true):
            repeats = early = 0
            for row, labels in zip(given.tolist(), true, strict=True):
                said = row[: row.index(stop)] if cut and stop in row else [x for x in row if x != stop]
                repeats += len(set(said)) < len(said)
                early += (len(set(said)) if different else len(said)) < int(labels.sum())
            return repeats, early

        expected = count()
        call = ask(answer, tokens=given, truth=true)
        pair = isinstance(call.value, tuple | list) and len(call.value) == 2
        hint = "Return two numbers: images with a repeat, images that stop early."
        call.expect(pair, expected=expected, hint=hint)
        hint = "Each of the two is one number, not a tensor of several."
        call.expect(all(map(is_number, call.value)), expected=expected, hint=hint)
        call = Call(call.given, tuple(int(x) for x in call.value))
        stops = sum(len(set(row)) < len(row) for row in given.tolist()), expected[1]
        slips = {
            "What stands after the first `<stop>` does not count.": count(cut=False),
            "`<stop>` fills the rest of every row. That is no repeat.": stops,
            "A label that is said twice is one label: count different ones for an early stop.": count(different=False),
            "First the repeats, then the early stops.": expected[::-1],
        }  # fmt: skip
        hint = "A repeat: fewer different labels than labels said. Early: fewer different labels than the truth has."
        call.compare(expected, slips=slips, hint=hint)
    return "Two counts that no F1 shows."
