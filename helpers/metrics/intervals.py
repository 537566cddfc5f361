"""How sure is a metric, and is the difference between two systems more than chance? Taught in notebook 06.

All systems were judged on the same N test images; other images of the same kind would have given other figures. The
bootstrap draws N images from the N, with replacement, and computes the metric again: the spread over many such draws
is that of the metric (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993). What it does not show is the
spread over training seeds.

An image is drawn so many times: the counts of a draw are weights, and all draws are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.metrics.label_sets import averages, multilabel_metrics, precision_recall_f1

CELLS = 2**22  # numbers of a weight matrix made at once


@dataclass(frozen=True)
class Interval:
    """A metric on the test images, and between which values it would mostly be on others."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A metric of one system less that of another. p: of the paired permutation test, None where there is none."""

    value: float
    low: float
    high: float
    p: float | None


def bootstrap(
    predicted: Tensor,
    target: Tensor,
    scores: Tensor | None = None,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """All of `metrics.multilabel_metrics` with a bootstrap interval over the images.

    predicted, target: (N, C) bool; scores: (N, C) float or None. replicates: draws. level: share of the draws inside.
    Raises ValueError as `multilabel_metrics` does, and for replicates < 1 or a level outside 0..1.

    An interval has the spread of the draws, but is centred at the value: a draw misses a third of the images, and so
    some rare labels altogether, which pulls the averages over labels and N+ down in every draw. Where that pull is
    nil it is the usual percentile interval, up to the difference between the value and the mean of the draws.
    """
    _check(replicates, level)
    values = multilabel_metrics(predicted, target, scores)
    drawn = _drawn(predicted, target, scores, replicates, seed)
    bounds = len(target[0])
    return {
        name: Interval(value, *_around(value, drawn[name], level, bounds if name == "N+" else 1.0))
        for name, value in values.items()
    }


def compare(
    first: Tensor,
    second: Tensor,
    target: Tensor,
    first_scores: Tensor | None = None,
    second_scores: Tensor | None = None,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Metrics of `second` less those of `first`, two systems on the same images: first, second, target (N, C) bool.

    The interval is the bootstrap's, both systems judged on the same draws: hard images are hard for both, so the
    difference is surer than either metric. p is that of a permutation test: were the two systems equal, one could
    swap their answers to any image; p is the share of random swaps (every image with probability 1/2) whose
    difference is at least as large, in either direction. mAP has no p: scores of two systems cannot be swapped, for
    their scales differ. Many comparisons find something below 0.05 by chance alone.
    """
    _check(replicates, level)
    if first.shape != second.shape:
        raise ValueError(
            f"the systems named labels of {tuple(first.shape)} and {tuple(second.shape)} images and labels: compare "
            "them on the same split"
        )
    a, b = multilabel_metrics(first, target, first_scores), multilabel_metrics(second, target, second_scores)
    drawn_a = _drawn(first, target, first_scores, replicates, seed)
    drawn_b = _drawn(second, target, second_scores, replicates, seed)
    swapped = _swapped(first, second, target, replicates, seed + 1)
    result = {}
    for name in a.keys() & b.keys():
        value = b[name] - a[name]
        low, high = _around(value, drawn_b[name] - drawn_a[name], level, None)
        p = None
        if name in swapped:
            p = float((swapped[name].abs() >= abs(value) - 1e-9).sum() + 1) / (replicates + 1)
        result[name] = Difference(value, low, high, p)
    return {name: result[name] for name in a if name in result}


def _around(value: float, drawn: Tensor, level: float, most: float | None) -> tuple[float, float]:
    """The interval; most: the largest value there can be (the least is 0), or None where there is no bound."""
    tail = (1 - level) / 2
    shift = drawn - drawn.nanmean()
    low, high = (value + float(x) for x in shift.nanquantile(torch.tensor([tail, 1 - tail]).double()))
    return (low, high) if most is None else (max(0.0, low), min(float(most), high))


def _weights(images: int, replicates: int, seed: int) -> Iterator[Tensor]:
    """How often each image is drawn: (R', N) float32, some draws at a time."""
    generator = torch.Generator().manual_seed(seed)
    step = max(1, CELLS // images)
    for first in range(0, replicates, step):
        rows = min(step, replicates - first)
        draws = torch.randint(images, (rows, images), generator=generator)
        yield torch.zeros(rows, images).scatter_add_(1, draws, torch.ones(rows, images))


def _drawn(
    predicted: Tensor, target: Tensor, scores: Tensor | None, replicates: int, seed: int
) -> dict[str, Tensor]:
    """Every metric on every draw, each (replicates,) float64."""
    parts = []
    sums = [x.float() for x in (predicted & target, predicted, target)]
    images = _image_values(predicted, target)
    for weights in _weights(len(target), replicates, seed):
        part = averages(*((weights @ x).round().long() for x in sums))
        part |= {name: (weights.double() @ value) / len(target) for name, value in images.items()}
        if scores is not None:
            part["mAP"] = _mean_average_precision(weights, scores, target)
        parts.append(part)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _image_values(predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The metrics that are means over images, as (N,) float64."""
    p, r, f1 = precision_recall_f1((predicted & target).sum(1), predicted.sum(1), target.sum(1))
    exact = (predicted == target).all(1).double()
    return {"image_P": p, "image_R": r, "image_F1": f1, "exact_match": exact}


def _mean_average_precision(weights: Tensor, scores: Tensor, target: Tensor) -> Tensor:
    """mAP of every draw (R,), float64: weights (R, N). Equal scores form one group, as in `metrics`."""
    total, count = torch.zeros(len(weights)).double(), torch.zeros(len(weights)).double()
    for c in target.any(0).nonzero().flatten().tolist():
        values, order = scores[:, c].sort(descending=True)
        # The last place with the same score: a group counts as a whole.
        last = len(values) - 1 - torch.searchsorted(values.flip(0).contiguous(), values)
        places = target[order, c].nonzero().flatten()  # of the positives, best first
        end = last[places]
        above = weights[:, order].cumsum(1)[:, end]  # (R, P) images that score at least as high
        own = weights[:, order[places]]
        hits = own.cumsum(1)[:, torch.searchsorted(places, end, right=True) - 1]
        support = own.sum(1)
        precision = (own * hits / above.clamp(min=1)).sum(1) / support.clamp(min=1)
        total += precision.where(support > 0, 0.0)
        count += support > 0
    return total / count


def _swapped(first: Tensor, second: Tensor, target: Tensor, replicates: int, seed: int) -> dict[str, Tensor]:
    """Differences of the metrics after random swaps, each (replicates,) float64."""
    generator = torch.Generator().manual_seed(seed)
    step, images = max(1, CELLS // len(target)), len(target)
    support = target.sum(0)
    counts = [[x.float() for x in (y & target, y)] for y in (first, second)]
    values = [_image_values(y, target) for y in (first, second)]
    parts = []
    for start in range(0, replicates, step):
        swap = (torch.rand(min(step, replicates - start), images, generator=generator) < 0.5).float()
        sides = []
        for own, other in ((0, 1), (1, 0)):
            tp, predicted = (
                (swap @ b + (1 - swap) @ a).round().long()
                for a, b in zip(counts[own], counts[other], strict=True)
            )
            side = averages(tp, predicted, support.expand_as(tp))
            for name in values[own]:
                mixed = swap.double() @ values[other][name] + (1 - swap).double() @ values[own][name]
                side[name] = mixed / images
            sides.append(side)
        parts.append({name: sides[1][name] - sides[0][name] for name in sides[0]})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _check(replicates: int, level: float) -> None:
    if replicates < 1:
        raise ValueError(f"replicates is {replicates}; the bootstrap needs at least one draw")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it is a share between 0 and 1")
