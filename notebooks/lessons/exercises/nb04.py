"""Checks of notebook 04's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from helpers.data.records import Box
from helpers.decoders.attention import doubly_stochastic_penalty
from helpers.metrics.localization import hits
from lessons.checks import ask, exercise


@exercise("Exercise 2: additive attention")
def check_attend(answer: Any) -> str:
    """`attend(keys (L, A), query (A,), w (A,)) -> weights (L,)` that sum to 1."""
    generator = torch.Generator().manual_seed(0)
    for cells, size, scale in ((5, 4, 1.0), (3, 3, 1.0), (4, 2, 300.0)):
        keys, query, w = (
            scale**0.5 * torch.randn(n, generator=generator) for n in ((cells, size), (size,), (size,))
        )
        energy = (keys + query).relu() @ w
        expected = energy.softmax(0)
        call = ask(answer, keys=keys, query=query, w=w)
        call.check_form(expected, "Return a tensor.")
        hint = f"One weight for each of the {cells} cells: a tensor of shape ({cells},)."
        call.expect(call.value.shape == expected.shape, expected=expected, hint=hint)
        hint = "exp of a large number is infinite, and infinite / infinite is NaN. torch's softmax takes care of that."
        call.expect(not call.value.isnan().any(), expected=expected, hint=hint)
        slips = {
            "These are the energies. The weights are their softmax.": energy,
            "The energies go through softmax over the cells, not through a sigmoid each.": energy.sigmoid(),
            "There is a ReLU around key + query, before the product with w.": ((keys + query) @ w).softmax(0),
            "The ReLU goes around key + query, not around the energies.": ((keys + query) @ w).relu().softmax(0),
            "Energies are not weights yet: dividing by their sum does not make them positive.": energy / energy.sum(),
            "This is dot-product attention. The additive one adds key and query.": (keys @ query).softmax(0),
            "This has a tanh (as Bahdanau et al. had). Here it is a ReLU.": ((keys + query).tanh() @ w).softmax(0),
        }  # fmt: skip
        total = float(call.value.sum())
        hint = "For each cell: w times ReLU(key + query); then softmax over the cells."
        if abs(total - 1) >= 1e-4:
            hint = "The weights of an image sum to 1, and each is positive."
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-5)
    return "One energy per cell, and softmax shares out the whole."


@exercise("Exercise 3: the strict pointing game")
def check_points_at(answer: Any) -> str:
    """`points_at(weights (L,), boxes, image_size, grid_size) -> bool`: centre of the largest cell in a box."""
    first, second = Box("sun", 10, 10, 30, 20), Box("sun", 150, 60, 40, 35)
    cases = [
        (1, [first], (200, 100), (4, 8), "The centre of cell (0, 1) is at x = 37.5, y = 12.5: in the box 10..40, 10..30."),
        (4, [first], (200, 100), (4, 8), "Here the largest weight is in another cell, far from the box."),
        (8, [first], (200, 100), (4, 8), "Cell 8 is (1, 0): its centre is at x = 12.5, y = 37.5, below the box."),
        (0, [first], (200, 100), (4, 8), "The centre of cell (0, 0) is at x = 12.5, y = 12.5: in the box."),
        (2, [first], (200, 100), (4, 8), "The centre counts: that of cell (0, 2) is at x = 62.5, outside."),
        (22, [first, second], (200, 100), (4, 8), "A label may have several boxes: one of them is enough."),
        (9, [second], (100, 100), (3, 4), "Mind which of image_size and grid_size comes first: (width, height), (h, w)."),
    ]  # fmt: skip
    for cell, boxes, image_size, grid_size, hint in cases:
        weights = torch.full((grid_size[0] * grid_size[1],), 0.01)
        weights[cell] = 0.5
        expected = bool(hits(boxes, image_size, grid_size, tolerance=0)[cell])
        call = ask(answer, weights=weights, boxes=boxes, image_size=image_size, grid_size=grid_size)
        call.compare(expected, form="Return True or False.", hint=hint)
    call = ask(answer, weights=torch.eye(32)[3], boxes=[], image_size=(200, 100), grid_size=(4, 8))
    call.compare(False, hint="Without a box there is nothing to point at.")
    return "Count how often this is True, compare with chance, and a map has a grade."


@exercise("Exercise 4: look everywhere once")
def check_penalty(answer: Any) -> str:
    """`penalty(attention (B, T, L), lengths (B,)) -> scalar`, the doubly stochastic penalty."""
    generator = torch.Generator().manual_seed(0)
    cases = [
        (torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]), torch.tensor([1]), "Each cell gets 1 in all: the penalty is 0."),
        ((4 * torch.rand(2, 3, 4, generator=generator)).softmax(2), torch.tensor([2, 2]), "mean over images and cells of (1 - sum over steps)²."),
        ((4 * torch.rand(3, 4, 5, generator=generator)).softmax(2), torch.tensor([3, 1, 0]), "Only the first lengths + 1 steps of an image count."),
    ]  # fmt: skip
    for attention, lengths, hint in cases:
        expected = doubly_stochastic_penalty(attention, lengths)
        steps = torch.arange(attention.shape[1])
        valid, labels = steps <= lengths[:, None], steps < lengths[:, None]

        def left(keep: Tensor, attention: Tensor = attention) -> Tensor:
            return 1 - (attention * keep.unsqueeze(2)).sum(1)  # (B, L)

        call = ask(answer, attention=attention, lengths=lengths)
        slips = {
            "The padding after <stop> counts, too: leave out the steps after lengths + 1.": left(torch.ones_like(valid)).square().mean(),
            "The step that says <stop> looks, too: an image has lengths + 1 steps.": left(labels).square().mean(),
            "This is the sum. Take the mean over images and cells.": left(valid).square().sum(),
            "Sum over the cells, mean over the images only? It is the mean over both.": left(valid).square().sum(1).mean(),
            "The square is missing.": left(valid).mean(),
            "The absolute value stands where the square should.": left(valid).abs().mean(),
            "Sum over the steps (dimension 1), not over the cells: over the cells it is 1 already.":
                (1 - (attention * valid.unsqueeze(2)).sum(2)).square().mean(),
        }  # fmt: skip
        form = "Return one number: a tensor without dimensions, .mean() gives it."
        call.compare(expected, form=form, slips=slips, hint=hint, tolerance=1e-5)
    return "Softmax makes each step sum to 1; this asks the same of each cell."
