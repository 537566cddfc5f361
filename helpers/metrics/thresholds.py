"""From scores to decisions: one threshold, one per label, or the top k.

A label is predicted where its score is *at least* the threshold, here, while choosing and in `apply_thresholds` alike.
Choose on a validation split: a threshold chosen on the test images makes their metrics too good, and on the training
images the scores are surer than they will be again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.metrics.label_sets import averages, check_scores, check_sets, image_averages

GLOBAL_METRICS = ("OF1", "CF1", "CF1_mean_of_classes", "image_F1", "exact_match")


def apply_thresholds(scores: Tensor, thresholds: float | Tensor) -> Tensor:
    """The labels whose score is at least the threshold, (N, C) bool.

    scores: (N, C) float, finite; thresholds: a number for all labels, or (C,) one per label, on the scale of the scores.
    """
    scores = _checked(scores)
    thresholds = torch.as_tensor(thresholds, dtype=scores.dtype, device=scores.device)
    if thresholds.shape not in ((), (scores.shape[1],)):
        raise ValueError(
            f"thresholds must be one number or ({scores.shape[1]},), one per label; "
            f"found shape {tuple(thresholds.shape)}"
        )
    if thresholds.isnan().any():
        raise ValueError("thresholds hold nan: choose them again")
    return scores >= thresholds


def top_k_mask(scores: Tensor, k: int) -> Tensor:
    """The k labels with the highest scores in each image, (N, C) bool, exactly k per row.

    scores: (N, C) float, finite. Among equal scores the lower id wins. Raises ValueError for k outside 1..C.
    """
    scores = _checked(scores)
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must be in 1..{scores.shape[1]} (the number of labels), found {k}")
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :k]  # stable: topk leaves ties open
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, best, True)


def choose_global(scores: Tensor, target: Tensor, metric: str = "OF1") -> float:
    """The threshold for all labels with the best value of a metric, of 0.01 to 0.99 by 0.01; the first maximum wins.

    scores: (N, C) float, probabilities of the *validation* images; target: (N, C) bool. metric: of `GLOBAL_METRICS`.
    Raises ValueError for another metric, other shapes or scores outside 0..1.
    """
    if metric not in GLOBAL_METRICS:
        raise ValueError(f"cannot choose a threshold by {metric!r}: use one of {', '.join(GLOBAL_METRICS)}")
    scores, target = _checked_pair(scores, target)
    candidates = _candidates(scores, torch.arange(1, 100) / 100)
    if metric in ("image_F1", "exact_match"):  # from the counts of the images, not of the labels
        values = image_averages(*_counts_at(scores.T, target.T, candidates))
    else:
        values = averages(*_counts_at(scores, target, candidates))
    return float(candidates[values[metric].argmax()])


def choose_mcc(scores: Tensor, target: Tensor, *, candidates: str = "grid", default: float = 0.5) -> Tensor:
    """A threshold for each label, the one with the highest Matthews correlation: (C,) float.

    scores: (N, C) float, probabilities of the *validation* images; target: (N, C) bool.
    candidates: "grid", 0.05 to 0.70 by 0.05 as in the literature's Corel-5k code; or "all", every distinct score of
        the label, on any scale. The first maximum, the lowest threshold, wins.
    default: for the labels where no candidate is better than another, such as those without a positive; pass what
        `choose_global` found. (The literature's code gives them 0.05, which predicts them for nearly every image.)
    """
    scores, target = _checked_pair(scores, target)
    if candidates == "all":
        values, correlation, usable = _mcc_at_every_score(scores, target)
    elif candidates == "grid":
        grid = _candidates(scores, torch.arange(1, 15) / 20)
        tp, predicted, support = _counts_at(scores, target, grid)
        correlation = _mcc(tp, predicted, support, len(scores)).T  # (K, C) -> (C, K)
        values, usable = grid.expand(len(correlation), -1), torch.ones_like(correlation, dtype=torch.bool)
    else:
        raise ValueError(f'candidates must be "grid" or "all", found {candidates!r}')
    highest = correlation.masked_fill(~usable, -torch.inf).amax(dim=1)
    lowest = correlation.masked_fill(~usable, torch.inf).amin(dim=1)
    # Equal up to rounding counts as equal, so that the first maximum does not hang on the last bit.
    is_best = usable & (correlation >= highest[:, None] - 1e-12)
    chosen = values.gather(1, is_best.int().argmax(dim=1, keepdim=True)).squeeze(1)  # (C,)
    return torch.where(highest - lowest > 1e-12, chosen, default)


def _counts_at(scores: Tensor, target: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts of each column at each threshold: tp (K, C), predicted (K, C), support (C,), int64."""
    columns, bins = scores.shape[1], len(candidates) + 1
    # How many candidates a score reaches; then a histogram for each column, summed from the top.
    reached = torch.searchsorted(candidates, scores.contiguous(), right=True)  # (N, C)
    cell = reached + bins * torch.arange(columns)

    def at_least(cells: Tensor) -> Tensor:
        counts = torch.bincount(cells.flatten(), minlength=columns * bins).view(columns, bins)
        return (
            counts.flip(1).cumsum(1).flip(1)[:, 1:].T
        )  # bin k + 1 and those above reach candidate k: (K, C)

    return at_least(cell[target]), at_least(cell), target.sum(dim=0)


def _mcc_at_every_score(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each label's scores ascending (C, N), the MCC of each as threshold, and whether it is the first of equal ones."""
    values, order = scores.T.contiguous().sort(dim=1)
    hits = target.T.gather(1, order)
    tp = hits.flip(1).cumsum(dim=1).flip(1)  # positives at or above this position
    predicted = torch.arange(len(scores), 0, -1)
    first = torch.ones_like(hits)
    first[:, 1:] = values[:, 1:] != values[:, :-1]
    return values, _mcc(tp, predicted, target.sum(dim=0)[:, None], len(scores)), first


def _mcc(tp: Tensor, predicted: Tensor, support: Tensor, total: int) -> Tensor:
    """Matthews correlation from counts, float64; 0 where it is not defined."""
    tp, predicted, support = tp.double(), predicted.double(), support.double()
    covariance = tp * total - predicted * support  # = tp·tn - fp·fn
    variance = predicted * (total - predicted) * support * (total - support)
    return torch.where(variance > 0, covariance / variance.clamp(min=1).sqrt(), 0.0)


def _checked(scores: Tensor) -> Tensor:
    check_scores(scores)
    # Half would round the threshold itself: 0.3 in bfloat16 is 0.3008.
    return scores.detach().float() if scores.dtype in (torch.float16, torch.bfloat16) else scores.detach()


def _checked_pair(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    scores = _checked(scores)
    check_sets(target=target)
    if target.shape != scores.shape:
        raise ValueError(
            f"target is {tuple(target.shape)}, scores are {tuple(scores.shape)}: they must agree"
        )
    return scores.cpu(), target.cpu()


def _candidates(scores: Tensor, candidates: Tensor) -> Tensor:
    """The candidates in the dtype of the scores, which must be probabilities."""
    if scores.min() < 0 or scores.max() > 1:
        found = f"{float(scores.min()):.3g}..{float(scores.max()):.3g}"
        raise ValueError(f"scores are in {found}, not probabilities: pass logits.sigmoid()")
    return candidates.to(scores)
