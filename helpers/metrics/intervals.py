"""How sure a metric is, and whether the difference between two systems is more than chance.

The bootstrap draws N images from the N test images, with replacement, and computes the metric again: the spread over
many draws is that of the metric (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993), without the spread
over training seeds. A draw is a weight per image, how often it was drawn, so all draws are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.metrics.label_sets import averages, image_values, multilabel_metrics

CELLS = 2**22  # numbers of a weight matrix made at once


@dataclass(frozen=True)
class Interval:
    """A metric on the test images, and the bounds between which it would mostly be on others."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A metric of one system less that of another. p: of the paired permutation test, None if there is none."""

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
    """All of `label_sets.multilabel_metrics` with a bootstrap interval over the images.

    predicted, target: (N, C) bool; scores: (N, C) float or None; on the CPU. replicates: draws. level: share of the
    draws inside. Raises ValueError as `multilabel_metrics` does, and for replicates < 1 or a level outside 0..1.

    An interval has the spread of the draws, but is centred at the value: a draw misses a third of the images, and with
    them rare labels, which lowers the averages over labels and N+ in every draw.
    """
    _check(replicates, level)
    values = multilabel_metrics(predicted, target, scores)
    drawn = _drawn(predicted, target, scores, replicates, seed)
    most = {"N+": target.shape[1]}  # of all others 1
    result = {}
    for name, value in values.items():
        low, high = _around(value, drawn[name], level)
        result[name] = Interval(value, max(0.0, low), min(float(most.get(name, 1)), high))
    return result


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

    The interval is the bootstrap's, both systems judged on the same draws. p is that of a permutation test: if the two
    systems were equal, their answers to any image could be swapped; p is the share of random swaps (every image with
    probability 1/2) whose difference is at least as large, in either direction. mAP has no p: the scores of two
    systems have different scales. Many comparisons find something below 0.05 by chance alone.
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
    for name in [name for name in a if name in b]:
        value, p = b[name] - a[name], None
        if name in swapped:
            p = float((swapped[name].abs() >= abs(value) - 1e-9).sum() + 1) / (replicates + 1)
        result[name] = Difference(value, *_around(value, drawn_b[name] - drawn_a[name], level), p)
    return result


def _around(value: float, drawn: Tensor, level: float) -> tuple[float, float]:
    """The interval around a value with the spread of the draws."""
    tail = (1 - level) / 2
    shift = drawn - drawn.nanmean()
    low, high = shift.nanquantile(torch.tensor([tail, 1 - tail]).double()).tolist()
    return value + low, value + high


def _drawn(
    predicted: Tensor, target: Tensor, scores: Tensor | None, replicates: int, seed: int
) -> dict[str, Tensor]:
    """Every metric on every draw, each (replicates,) float64."""
    parts, images = [], len(target)
    for rows, generator in _chunks(images, replicates, seed):
        draws = torch.randint(images, (rows, images), generator=generator)
        weights = torch.zeros(rows, images).scatter_add_(1, draws, torch.ones(rows, images))
        part = _weighted(weights, predicted, target)
        if scores is not None:
            part["mAP"] = _mean_average_precision(weights, scores, target)
        parts.append(part)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _swapped(first: Tensor, second: Tensor, target: Tensor, replicates: int, seed: int) -> dict[str, Tensor]:
    """Differences of the metrics after random swaps, each (replicates,) float64."""
    parts, images = [], len(target)
    # Rows 0..N-1 are the answers of the first system, N..2N-1 those of the second; weights choose one of each pair.
    predicted, target = torch.cat([first, second]), torch.cat([target, target])
    for rows, generator in _chunks(images, replicates, seed):
        swap = (torch.rand(rows, images, generator=generator) < 0.5).float()
        a = _weighted(torch.cat([1 - swap, swap], dim=1), predicted, target)
        b = _weighted(torch.cat([swap, 1 - swap], dim=1), predicted, target)
        parts.append({name: b[name] - a[name] for name in a})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _chunks(images: int, replicates: int, seed: int) -> Iterator[tuple[int, torch.Generator]]:
    """Rows of weights to make at once, and the generator for them."""
    generator, step = torch.Generator().manual_seed(seed), max(1, CELLS // images)
    for start in range(0, replicates, step):
        yield min(step, replicates - start), generator


def _weighted(weights: Tensor, predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The metrics, but mAP, if image i occurred weights[:, i] times: weights (R, M) float32 -> (R,) float64."""
    tp = predicted & target
    found = averages(*((weights @ x.float()).round().long() for x in (tp, predicted, target)))
    images = image_values(*(x.sum(dim=1) for x in (tp, predicted, target)))
    weights = weights.double()
    return found | {name: (weights @ value) / weights.sum(dim=1) for name, value in images.items()}


def _mean_average_precision(weights: Tensor, scores: Tensor, target: Tensor) -> Tensor:
    """mAP if image i occurred weights[:, i] times: weights (R, N) float32 -> (R,) float64; as `average_precision`."""
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


def _check(replicates: int, level: float) -> None:
    if replicates < 1:
        raise ValueError(f"replicates is {replicates}; the bootstrap needs at least one draw")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it is a share between 0 and 1")
