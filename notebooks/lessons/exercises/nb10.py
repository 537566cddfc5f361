"""Checks of notebook 10's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from helpers.decoders.label_graph import cooccurrence_prior, normalized
from lessons.checks import ask, exercise


@exercise("Exercise 2: conditional probabilities")
def check_conditional(answer: Any) -> str:
    """`conditional(multi_hot (N, C)) -> (C, C)`, P(j | i) in row i, 0 on the diagonal."""
    generator = torch.Generator().manual_seed(0)
    small = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 1]]).float()
    unused = (torch.rand(9, 4, generator=generator) < 0.5).float()
    unused[:, 2] = 0
    cases = [
        (small, "Row i: of the images with label i, the share that also have j. The diagonal is 0."),
        ((torch.rand(40, 6, generator=generator) < 0.4).float(), "Row i: of the images with label i, the share with j."),
        (unused, "The row of a label without images is 0 (0/0 is NaN)."),
    ]  # fmt: skip
    for multi_hot, hint in cases:
        expected = cooccurrence_prior(multi_hot)
        together = multi_hot.T @ multi_hot
        call = ask(answer, multi_hot=multi_hot)
        call.check_form(expected, "Return a tensor.")
        slips = {
            "The diagonal is P(i | i) = 1: set it to 0, no label is its own neighbour.":
                together / together.diagonal().clamp(min=1).unsqueeze(1),
            "This is P(i | j): divide each row i by the images of i, not each column.": expected.T.contiguous(),
            "These are counts: divide row i by the number of images with label i.": together,
            "These are counts: divide row i by the number of images with label i. ": together.clone().fill_diagonal_(0),
            "Divided by all images, this is P(i and j). Divide row i by the images of i.":
                (together / len(multi_hot)).fill_diagonal_(0),
        }  # fmt: skip
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-5)
    return "P(j | i) is not P(i | j): an arrow has a direction."


@exercise("Exercise 4: labels look at the image")
def check_look(answer: Any) -> str:
    """`look(queries (C, d), keys (L, d), values (L, e)) -> (seen (C, e), weights (C, L))`."""
    generator = torch.Generator().manual_seed(3)
    for labels, tokens, size, width in ((2, 4, 3, 3), (3, 5, 4, 2), (5, 3, 16, 6)):
        queries, keys, values = (
            torch.randn(n, generator=generator) for n in ((labels, size), (tokens, size), (tokens, width))
        )

        def outcome(energy: Tensor, values: Tensor = values, axis: int = 1) -> tuple[Tensor, Tensor]:
            weights = energy.softmax(axis)
            return weights @ values, weights

        energy = queries @ keys.T
        expected = outcome(energy / math.sqrt(size))
        call = ask(answer, queries=queries, keys=keys, values=values)
        slips = {
            "The energies are divided by √d, d the size of a query.": outcome(energy),
            "The energies are divided by √d, not by d.": outcome(energy / size),
            "Softmax goes over the cells (dimension 1): each label shares out its own attention.":
                outcome(energy / math.sqrt(size), axis=0),
            "First what was seen, then the weights: they are swapped.": expected[::-1],
            "The energies go through softmax over the cells.": (energy / math.sqrt(size) @ values, energy / math.sqrt(size)),
        }  # fmt: skip
        form = "Return two tensors: what was seen, and the weights."
        hint = "weights = softmax over the cells of queries · keysᵀ / √d; seen = weights · values."
        call.compare(expected, form=form, slips=slips, hint=hint, tolerance=1e-5)
    return "All labels look at once: no loop, no order, no <stop>."


@exercise("Exercise 5: a graph that is never NaN")
def check_safe_adjacency(answer: Any) -> str:
    """`safe_adjacency(edges (C, C), product (C, C)) -> (C, C)`: normalised edges + I + softmax of rows."""
    generator = torch.Generator().manual_seed(2)
    for labels, scale in ((3, 1.0), (4, 5.0), (5, 60.0)):
        edges = (torch.rand(labels, labels, generator=generator) < 0.4).float().fill_diagonal_(0) * 0.25
        product = scale * torch.randn(labels, labels, generator=generator)
        product[0] -= 3 * scale  # without softmax its row sum is negative
        one = torch.eye(labels)
        expected = normalized(edges + one + product.softmax(1))
        call = ask(answer, edges=edges, product=product)
        call.check_form(expected, "Return a tensor.")
        hint = "There is a NaN: a row sum was negative, or exp of a large number infinite. Softmax takes care of both."
        call.expect(not call.value.isnan().any(), expected=expected, hint=hint)
        slips = {
            "The identity is missing: each label also hears itself.": normalized(edges + product.softmax(1)),
            "The edges of the prior are missing.": normalized(one + product.softmax(1)),
            "Softmax over the rows: each row sums to 1 (dimension 1, not 0).": normalized(edges + one + product.softmax(0)),
            "This is not normalised yet: R^(-1/2) Aᵀ R^(-1/2).": edges + one + product.softmax(1),
            "Clipped at 0, it is safe, but a label whose row is all negative would learn nothing. Use softmax.":
                normalized(edges + one + product.clamp(min=0)),
        }  # fmt: skip
        hint = "normalized(edges + identity + softmax of the rows of product)."
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-5)
    return "Every row sum is at least 2, whatever the weights are."
