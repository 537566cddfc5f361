"""Checks of notebook 05's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from lessons.checks import Call, ask, exercise, is_number


@exercise("Exercise 1: the cost matrices of a batch")
def check_cost_matrix(answer: Any) -> str:
    """`cost_matrices(logits (B, T, V), labels (B, T') int64) -> (B, n, n)`, n = T' - 1.

    Entry [b, t, j] is -log p_t(label j) of image b. Rows of labels end with `<stop>` = V - 1.
    """
    generator = torch.Generator().manual_seed(0)
    for batch, steps, outputs, rows in (
        (1, 4, 5, [[2, 0, 1, 4]]),
        (2, 5, 6, [[4, 1, 0, 5], [3, 5, 5, 5]]),
        (3, 4, 7, [[5, 2, 6], [6, 6, 6], [0, 1, 6]]),
    ):
        logits, labels = 3 * torch.randn(batch, steps, outputs, generator=generator), torch.tensor(rows)
        n = labels.shape[1] - 1

        def pick(values: Tensor, n: int = n, labels: Tensor = labels) -> Tensor:
            """(B, T, V) -> (B, n, n): the first n steps, the columns of the labels."""
            return values[:, :n].gather(2, labels[:, None, :n].expand(-1, n, -1))

        log_p = logits.log_softmax(2)
        expected = -pick(log_p)
        call = ask(answer, logits=logits, labels=labels)
        call.check_form(expected, "Return a tensor.")
        everything = labels[:, None, :].expand(-1, steps, -1)
        slips = {
            "All steps are here. A label can only go to one of the first n = T' - 1.":
                -log_p.gather(2, everything[:, :, :n]),
            "The last column of labels holds a <stop> in every row. It keeps its step and is not handed out.":
                -log_p[:, : n + 1].gather(2, everything[:, : n + 1]),
            "Rows are steps, columns are labels: this is the other way round.":
                expected.transpose(1, 2).contiguous(),
            "A cost is -log p: the more probable, the cheaper. The sign is missing.": -expected,
            "These are the probabilities. A cost is -log p.": pick(log_p.exp()),
            "These are the logits with a minus. First turn them into log-probabilities.": -pick(logits),
            "The softmax is over all V outputs of a step, and only then the labels are picked.":
                -pick(logits).log_softmax(2),
            "The softmax is over the outputs of a step (dimension 2), not over the steps.":
                -pick(logits.log_softmax(1)),
            "The softmax is over the outputs of a step (dimension 2), not over the batch.":
                -pick(logits.log_softmax(0)),
            "These are the first n outputs. The columns are those of each image's own labels.": -log_p[:, :n, :n],
            "Every image has labels of its own: these are the columns of the first image.":
                -pick(log_p, labels=labels[:1].expand_as(labels)),
        }  # fmt: skip
        hint = "Entry [b, t, j] is the negative log-probability of label j of image b at step t, over all V outputs."
        if call.value.shape != expected.shape:
            hint = f"Here B = {batch} and n = {n}: the answer is a tensor ({batch}, {n}, {n}), image, step, label."
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-4)
    return "One `log_softmax` and one `gather` for the whole batch: nothing has to leave the GPU."


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


@exercise("Exercise 2: predicted label alignment")
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


@exercise("Exercise 3: repeats and early stops")
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
