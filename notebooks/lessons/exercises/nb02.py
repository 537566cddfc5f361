"""Checks of notebook 02's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from typing import Any

import torch

from helpers.systems.losses import asymmetric_loss
from lessons.checks import Call, ask, exercise, is_number


@exercise("Exercise 2: from a feature map to a grid")
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


def _field(layers: list[tuple[int, int]], *, slip: str = "") -> int:
    """The receptive field of convolutions (kernel, stride), with one slip or none."""
    field, jump = 1, 1
    for kernel, stride in layers:
        if slip == "stride first":
            jump *= stride
        field += (kernel if slip == "whole kernel" else kernel - 1) * (1 if slip == "no jump" else jump)
        if slip == "last stride":
            jump = stride
        elif slip != "stride first":
            jump = jump + stride if slip == "sum" else jump * stride
    return field


@exercise("Exercise 3: the receptive field")
def check_receptive_field(answer: Any) -> str:
    """`receptive_field(layers) -> int`, layers: (kernel, stride) of each convolution, the first one first."""
    slips = {
        "stride first": "The stride of a layer spreads the layers *after* it: first add, then multiply the jump.",
        "whole kernel": "A kernel of k pixels adds k - 1 to what one pixel saw, not k.",
        "no jump": "Behind a stride, neighbours are several image pixels apart: each of the k - 1 counts that often.",
        "sum": "Strides multiply: two strides of 2 are 4 image pixels apart, and two strides of 1 are 1.",
        "last stride": "The jump is the product of all strides so far, not the last stride alone.",
    }
    cases = [
        [],
        [(3, 1)],
        [(3, 1), (3, 1)],
        [(7, 4), (3, 1)],
        [(3, 2), (3, 2), (3, 1)],
        [(7, 4), (3, 1), (3, 1), (3, 2), (1, 1), (5, 1)],
    ]
    for layers in cases:
        expected = _field(layers)
        call = ask(answer, layers=layers)
        call.expect(is_number(call.value), expected=expected, hint="Return one number: pixels across.")
        hint = "Start with field = 1 and jump = 1. A layer adds (kernel - 1) * jump, then the jump grows by its stride."
        if not layers:
            hint = "Without a layer, a value is one pixel: its field is 1."
        # One layer tells the whole kernel; with more of them it may look like another slip.
        known = {
            words: _field(layers, slip=slip)
            for slip, words in slips.items()
            if slip != "whole kernel" or len(layers) == 1
        }
        call.compare(expected, slips=known, hint=hint)
    return "Each kernel counts in steps of the strides before it."


@exercise("Exercise 5: the asymmetric loss")
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
