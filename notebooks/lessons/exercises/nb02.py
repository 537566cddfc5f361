"""Checks of notebook 02's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from helpers.metrics.label_sets import averages
from helpers.systems.losses import asymmetric_loss
from lessons.checks import Call, ask, exercise, is_number


@exercise("Exercise 1: from a feature map to a grid")
def check_to_grid(answer: Any) -> str:
    """`to_grid(feature_map (B, D, h, w)) -> (B, L, D)`, L = h * w, cells row by row."""
    for shape in ((1, 2, 2, 2), (2, 3, 2, 4), (1, 5, 3, 1)):
        feature_map = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)
        batch, dim, height, width = shape
        cells = [feature_map[:, :, i, j] for i in range(height) for j in range(width)]  # each (B, D)
        by_column = [feature_map[:, :, i, j] for j in range(width) for i in range(height)]
        expected = torch.stack(cells, dim=1)
        call = ask(answer, feature_map=feature_map)
        call.check_form(expected, "Return a tensor.")
        hint = f"The grid of a map {shape} has B = {batch}, L = {height} * {width} cells and D = {dim} numbers per cell."
        call.expect(call.value.shape == expected.shape, expected=expected, hint=hint)
        slips = {
            "The shape fits, but the numbers are scrambled: `reshape` and `view` only cut the row of numbers anew. "
            "To bring D to the end, exchange two axes.": feature_map.reshape(expected.shape),
            "These cells go column by column. The grid counts them row by row, from the top left, as one reads.":
                torch.stack(by_column, dim=1),
        }  # fmt: skip
        call.compare(expected, slips=slips, hint="Cell i * w + j of the grid holds feature_map[:, :, i, j].")
    return "Each cell has its own D numbers, row by row."


@exercise("Exercise 2: the asymmetric loss")
def check_asymmetric(answer: Any) -> str:
    """`asymmetric(logits (B, C), multi_hot (B, C), gamma, clip) -> scalar`, the mean over all entries."""
    generator = torch.Generator().manual_seed(0)
    many = (torch.randn(4, 5, generator=generator) * 3).tolist()
    truth = (torch.rand(4, 5, generator=generator) < 0.3).float().tolist()
    one, yes, no = [[1.5]], [[1.0]], [[0.0]]
    cases = [
        (one, yes, 4.0, 0.05, "A positive costs -log p with p = sigmoid(logit), and nothing else."),
        (one, no, 0.0, 0.0, "With gamma = 0 and clip = 0, a negative costs -log(1 - p)."),
        (one, no, 2.0, 0.0, "A negative is weighted by p ** gamma."),
        (one, no, 2.0, 0.2, "Both the weight and the logarithm of a negative use p_m = max(p - clip, 0), not p."),
        ([[-4.0]], no, 3.0, 0.1, "Here p < clip: p_m is 0, and so is the cost. Is there a max(…, 0)?"),
        (many, truth, 4.0, 0.05, "One entry is right: is it the mean over all B * C entries, and not a sum?"),
        ([[-200.0, 200.0]], [[1.0, 0.0]], 4.0, 0.05,
         "sigmoid(-200) is 0 in float32, and log 0 is -infinity: for log p take torch.nn.functional.logsigmoid."),
    ]  # fmt: skip
    for logits, multi_hot, gamma, clip, hint in cases:
        logits, multi_hot = torch.tensor(logits), torch.tensor(multi_hot)
        expected = asymmetric_loss(logits, multi_hot, gamma_negative=gamma, clip=clip)
        call = ask(answer, logits=logits, multi_hot=multi_hot, gamma=gamma, clip=clip)
        form = "Return a tensor with one number, so that it has a gradient."
        call.compare(expected, form=form, hint=hint, tolerance=2e-6)
    logits = torch.tensor([[-1.0, 0.5, 2.0]], requires_grad=True)
    multi_hot = torch.tensor([[1.0, 0.0, 0.0]])
    expected = torch.autograd.grad(asymmetric_loss(logits, multi_hot), logits)[0]
    value = answer(logits, multi_hot, 4.0, 0.05)
    found = torch.autograd.grad(value, logits)[0] if value.requires_grad else torch.zeros_like(logits)
    hint = "The value is right, its gradient is not: is something detached, or turned into a Python number?"
    Call("the gradient to logits = [[-1, 0.5, 2]]", found).compare(expected, hint=hint, tolerance=1e-5)
    return "Positives as in BCE; negatives count the less the surer they are, and nothing below the clip."


@exercise("Exercise 3: the two CF1")
def check_cf1(answer: Any) -> str:
    """`cf1(tp, predicted, support) -> (harmonic mean of CP and CR, mean of the labels' F1)`."""
    cases = [
        ([2, 1], [2, 4], [4, 1], "Each label's precision is tp / predicted, its recall tp / support."),
        ([3, 0, 1], [5, 0, 1], [4, 2, 2], "A label that is never predicted has precision 0 (not 0/0), and counts."),
        ([1, 0], [2, 3], [2, 0], "A label that no image has counts, too, with recall 0."),
        ([0, 0], [0, 1], [1, 0], "Where nothing is right, both are 0."),
    ]  # fmt: skip
    for *counts, hint in cases:
        tp, predicted, support = (torch.tensor(count) for count in counts)
        right = averages(tp, predicted, support)
        expected = (float(right["CF1"]), float(right["CF1_mean_of_classes"]))
        call = ask(answer, tp=tp, predicted=predicted, support=support)
        call.check_form(expected, "Return two numbers: the harmonic mean, then the mean of F1.")
        found = tuple(float(value) for value in call.value)
        first, second = (abs(a - b) < 1e-4 for a, b in zip(found, expected, strict=True))
        overall = float(right["OF1"])
        if abs(overall - expected[0]) > 1e-4:
            micro = "The first one is OF1: here the ratios come first and then their mean over the labels."
            call.expect(not abs(found[0] - overall) <= 1e-4, expected=expected, hint=micro)
        if second:
            hint = f"The second number is right, the first (the harmonic mean of CP and CR) is not. {hint}"
        elif first:
            hint = (
                "The first number is right, the second is not: it is the mean of the labels' F1, each "
                "2 tp / (predicted + support), or 0 where that is 0/0."
            )
        slips = {"The two are right, but in the other order.": expected[::-1]}
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-4)
    return "Two definitions, two numbers, one name in the literature: always say which."


@exercise("Exercise 4: the threshold")
def check_choose_threshold(answer: Any) -> str:
    """`choose_threshold(train, val, test) -> float`, each (scores (N, C), target (N, C) bool)."""
    calls = []  # all of them first: a slip is named only where it explains every answer
    for seed, levels in ((0, (0.3, 0.55, 0.8)), (1, (0.75, 0.25, 0.5)), (2, (0.5, 0.7, 0.2))):
        generator = torch.Generator().manual_seed(seed)
        splits = {}
        for name, level in zip(("train", "val", "test"), levels, strict=True):
            scores = torch.rand(80, 6, generator=generator)
            noise = 0.15 * torch.randn(scores.shape, generator=generator)
            splits[name] = (scores, scores + noise >= level)
        parts = {
            "val": ["val"],
            "test": ["test"],
            "train": ["train"],
            "all three": ["train", "val", "test"],
            "val and test": ["val", "test"],
        }
        best, reach = {}, {}  # of every choice of splits: the best thresholds, and their OF1
        for name, members in parts.items():
            together = [torch.cat(tensors) for tensors in zip(*(splits[m] for m in members), strict=True)]
            values = {k / 100: _of1(*together, k / 100) for k in range(1, 100)}
            reach[name] = max(values.values())
            best[name] = [level for level, v in values.items() if v >= reach[name] - 1e-9]
        expected = f"{best['val'][0]:.2f}, with OF1 {reach['val']:.3f} on val"
        call = ask(answer, **splits)
        call.expect(is_number(call.value), expected=expected, hint="Return one number.")
        value = float(call.value)
        hint = "A threshold of probabilities lies between 0 and 1. Is this the position of the best one, not its value?"
        call.expect(0 < value < 1, expected=expected, hint=hint)
        slips = {name for name in best if any(abs(value - level) < 0.011 for level in best[name])}
        reached = _of1(*splits["val"], value)
        calls.append((call, value, reached, reached >= reach["val"] - 1e-3, expected, slips - {"val"}))
    constant = len({value for _, value, *_ in calls}) == 1
    common = [name for name in parts if all(name in slips for *_, slips in calls)]
    for call, _, reached, right, expected, _ in calls:
        hint = f"On val, OF1 is {reached:.3f} at this threshold. Try 0.01, 0.02, … 0.99 on val and keep the best."
        if constant:
            hint += " Yours is the same for every val: let it depend on what was given."
        elif common:
            hint = (
                f"This is the best threshold on {common[0]}. What is chosen is chosen on val, and only there."
            )
        call.expect(right, expected=expected, hint=hint)
    return "Chosen on val; test has no say in it."


def _of1(scores: Tensor, target: Tensor, threshold: float) -> float:
    named = scores >= threshold
    return 2 * float((named & target).sum()) / max(1.0, float(named.sum() + target.sum()))
