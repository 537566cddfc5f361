"""Automatic checks of notebook 02's exercises; how a check works is told in `lessons.checks`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from helpers.metrics.label_sets import averages
from helpers.systems.losses import asymmetric_loss
from lessons.checks import Call, ask, exercise, same


@exercise("Exercise 1: from a feature map to a grid")
def check_to_grid(answer: Any) -> str:
    """`to_grid(feature_map (B, D, h, w)) -> (B, L, D)`, L = h * w, cells row by row. Notebook 02."""
    for shape in ((1, 2, 2, 2), (2, 3, 2, 4), (1, 5, 3, 1)):
        feature_map = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)
        batch, dim, height, width = shape
        cells = [feature_map[:, :, i, j] for i in range(height) for j in range(width)]  # each (B, D)
        expected = torch.stack(cells, dim=1)
        call = ask(answer, feature_map=feature_map)
        call.expect(isinstance(call.value, Tensor), expected=expected, hint="Return a tensor.")
        hint = f"The grid of a map {shape} has B = {batch}, L = {height} * {width} cells and D = {dim} numbers a cell."
        call.expect(call.value.shape == expected.shape, expected=expected, hint=hint)
        scrambled = same(call.value, feature_map.reshape(expected.shape))
        hint = (
            "The shape fits, but the numbers are scrambled: `reshape` and `view` only cut the row of numbers anew. "
            "To bring D to the end, exchange two axes."
        )
        call.expect(not scrambled or same(expected, call.value), expected=expected, hint=hint)
        by_column = torch.stack([feature_map[:, :, i, j] for j in range(width) for i in range(height)], dim=1)
        hint = "These cells go column by column. The grid counts them row by row, from the top left, as one reads."
        call.expect(
            not same(call.value, by_column) or same(expected, by_column), expected=expected, hint=hint
        )
        hint = "Cell i * w + j of the grid holds feature_map[:, :, i, j]."
        call.expect(same(call.value, expected), expected=expected, hint=hint)
    return "Each cell has its own D numbers, row by row."


@exercise("Exercise 2: the asymmetric loss")
def check_asymmetric(answer: Any) -> str:
    """`asymmetric(logits (B, C), multi_hot (B, C), gamma, clip) -> scalar`, the mean over all entries. Notebook 02."""
    yes, no = torch.ones(1, 1), torch.zeros(1, 1)
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(4, 5, generator=generator) * 3
    truth = (torch.rand(4, 5, generator=generator) < 0.3).float()
    sure = torch.tensor([[-200.0, 200.0]])
    cases = [
        (
            torch.tensor([[1.5]]),
            yes,
            4.0,
            0.05,
            "A positive costs -log p with p = sigmoid(logit), and nothing else.",
        ),
        (torch.tensor([[1.5]]), no, 0.0, 0.0, "With gamma = 0 and clip = 0, a negative costs -log(1 - p)."),
        (torch.tensor([[1.5]]), no, 2.0, 0.0, "A negative is weighted by p ** gamma."),
        (
            torch.tensor([[1.5]]),
            no,
            2.0,
            0.2,
            "Both the weight and the logarithm of a negative use p_m = max(p - clip, 0), not p.",
        ),
        (
            torch.tensor([[-4.0]]),
            no,
            3.0,
            0.1,
            "Here p < clip: p_m is 0, and so is the cost. Is there a max(…, 0)?",
        ),
        (many, truth, 4.0, 0.05, "One entry is right: is it the mean over all B * C entries, and not a sum?"),
        (
            sure,
            torch.tensor([[1.0, 0.0]]),
            4.0,
            0.05,
            "sigmoid(-200) is 0 in float32, and log 0 is -infinity: for log p take torch.nn.functional.logsigmoid.",
        ),
    ]
    for logits, multi_hot, gamma, clip, hint in cases:
        expected = asymmetric_loss(logits, multi_hot, gamma_negative=gamma, clip=clip)
        call = ask(answer, logits=logits, multi_hot=multi_hot, gamma=gamma, clip=clip)
        scalar = isinstance(call.value, Tensor) and call.value.numel() == 1
        call.expect(
            scalar, expected=expected, hint="Return a tensor with one number, so that it has a gradient."
        )
        close = torch.allclose(call.value.float().reshape(()), expected, rtol=1e-4, atol=1e-6)
        call.expect(close, expected=expected, hint=hint)
    logits = torch.tensor([[-1.0, 0.5, 2.0]], requires_grad=True)
    multi_hot = torch.tensor([[1.0, 0.0, 0.0]])
    expected = torch.autograd.grad(asymmetric_loss(logits, multi_hot), logits)[0]
    value = answer(logits, multi_hot, 4.0, 0.05)
    found = torch.autograd.grad(value, logits)[0] if value.requires_grad else torch.zeros_like(logits)
    Call("the gradient to logits = [[-1, 0.5, 2]]", found).expect(
        torch.allclose(found, expected, rtol=1e-3, atol=1e-6),
        expected=expected,
        hint="The value is right, its gradient is not: is something detached, or turned into a Python number?",
    )
    return "Positives as in BCE; negatives count the less the surer they are, and nothing below the clip."


@exercise("Exercise 3: the two CF1")
def check_cf1(answer: Any) -> str:
    """`cf1(tp, predicted, support) -> (harmonic mean of CP and CR, mean of the labels' F1)`. Notebook 02."""
    cases = [
        ([2, 1], [2, 4], [4, 1], "Each label's precision is tp / predicted, its recall tp / support."),
        (
            [3, 0, 1],
            [5, 0, 1],
            [4, 2, 2],
            "A label that is never predicted has precision 0 (not 0/0), and counts.",
        ),
        ([1, 0], [2, 3], [2, 0], "A label that no image has counts, too, with recall 0."),
        ([0, 0], [0, 1], [1, 0], "Where nothing is right, both are 0."),
    ]
    for *counts, hint in cases:
        tp, predicted, support = (torch.tensor(count) for count in counts)
        right = averages(tp, predicted, support)
        expected = (float(right["CF1"]), float(right["CF1_mean_of_classes"]))
        call = ask(answer, tp=tp, predicted=predicted, support=support)
        pair = isinstance(call.value, tuple | list) and len(call.value) == 2
        call.expect(
            pair, expected=expected, hint="Return two numbers: the harmonic mean, then the mean of F1."
        )
        found = tuple(float(value) for value in call.value)
        close = all(abs(a - b) < 1e-4 for a, b in zip(found, expected, strict=True))
        turned = all(abs(a - b) < 1e-4 for a, b in zip(found, expected[::-1], strict=True))
        call.expect(close or not turned, expected=expected, hint="The two are right, but in the other order.")
        overall = float(right["OF1"])
        if abs(overall - expected[0]) > 1e-4:
            hint_micro = (
                "The first one is OF1: here the ratios come first and then their mean over the labels."
            )
            call.expect(not abs(found[0] - overall) <= 1e-4, expected=expected, hint=hint_micro)
        first, second = (abs(a - b) < 1e-4 for a, b in zip(found, expected, strict=True))
        if second:
            hint = f"The second number is right, the first (the harmonic mean of CP and CR) is not. {hint}"
        elif first:
            hint = (
                "The first number is right, the second is not: it is the mean of the labels' F1, each "
                "2 tp / (predicted + support), or 0 where that is 0/0."
            )
        call.expect(close, expected=expected, hint=hint)
    return "Two definitions, two numbers, one name in the literature: always say which."


@exercise("Exercise 4: the threshold")
def check_choose_threshold(answer: Any) -> str:
    """`choose_threshold(train, val, test) -> float`, each (scores (N, C), target (N, C) bool). Notebook 02."""
    calls = []  # all of them first: a slip is named only where it explains every answer
    for seed, levels in ((0, (0.3, 0.55, 0.8)), (1, (0.75, 0.25, 0.5)), (2, (0.5, 0.7, 0.2))):
        generator = torch.Generator().manual_seed(seed)
        splits = {}
        for name, level in zip(("train", "val", "test"), levels, strict=True):
            scores = torch.rand(80, 6, generator=generator)
            noise = 0.15 * torch.randn(scores.shape, generator=generator)
            splits[name] = (scores, scores + noise >= level)
        of1 = {name: _of1_of_thresholds(*split) for name, split in splits.items()}
        everything = tuple(torch.cat(parts) for parts in zip(*splits.values(), strict=True))
        of1["all three"] = _of1_of_thresholds(*everything)
        of1["val and test"] = _of1_of_thresholds(
            *(torch.cat(parts) for parts in zip(splits["val"], splits["test"], strict=True))
        )
        best = {
            name: [k / 100 for k, v in values.items() if v >= max(values.values()) - 1e-9]
            for name, values in of1.items()
        }
        expected = f"{best['val'][0]:.2f}, with OF1 {max(of1['val'].values()):.3f} on val"
        call = ask(answer, train=splits["train"], val=splits["val"], test=splits["test"])
        number = isinstance(call.value, int | float) or (
            isinstance(call.value, Tensor) and call.value.numel() == 1
        )
        call.expect(number, expected=expected, hint="Return one number.")
        value = float(call.value)
        hint = "A threshold of probabilities lies between 0 and 1. Is this the position of the best one, not its value?"
        call.expect(0 < value < 1, expected=expected, hint=hint)
        reached = _of1(*splits["val"], value)
        right = reached >= max(of1["val"].values()) - 1e-3
        slips = {
            name
            for name, levels_of in best.items()
            if name != "val" and any(abs(value - level) < 0.011 for level in levels_of)
        }
        calls.append((call, value, reached, right, expected, slips))
    constant = len({value for _, value, *_ in calls}) == 1
    names = ("test", "train", "all three", "val and test")
    common = [name for name in names if all(name in slips for *_, slips in calls)]
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


def _of1_of_thresholds(scores: Tensor, target: Tensor) -> dict[int, float]:
    return {k: _of1(scores, target, k / 100) for k in range(1, 100)}
