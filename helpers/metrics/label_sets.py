"""Judging predicted label sets: per class, overall and per image P/R/F1, N+, mAP. Taught in notebook 02.

N images, C classes. Everything comes from three counts: tp (predicted and true), predicted and
support (true), summed over the images for a class and over the classes for an image. torchmetrics
counts; the arithmetic is float64 on the CPU, so that a figure does not depend on the device.

A decision (`predicted`) is made before, by `helpers.metrics.thresholds`: one threshold, one a class, or the
top k; or by the set of labels that a decoder emitted (`helpers.data.labels.to_multi_hot`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multilabel_exact_match, multilabel_stat_scores
from torchmetrics.utilities import dim_zero_cat

from helpers.data.labels import sequence_lengths, to_multi_hot

ABSENT = ("exclude", "zero")


def multilabel_metrics(
    predicted: Tensor,
    target: Tensor,
    scores: Tensor | None = None,
    *,
    zero_division: float = 0.0,
    absent: str = "exclude",
) -> dict[str, float]:
    """Every set metric of the field, each a fraction in 0..1 except N+. Taught in notebook 02.

    predicted: (N, C) bool, the labels given to each image; target: (N, C) bool, the true ones;
    scores: (N, C) float, finite, any scale (logits or probabilities), only needed for mAP.

    - `CP`, `CR`: precision and recall of each class, averaged over all C classes.
    - `CF1`: harmonic mean of CP and CR, the CF1 of the literature and of the Corel-5k tables.
    - `CF1_mean_of_classes`: mean of the classes' own F1 (LCNet's CF1, scikit-learn's macro F1).
    - `OP`, `OR`, `OF1`: overall (micro), all decisions of all classes counted together.
    - `N+`: number of classes with at least one true positive.
    - `image_P`, `image_R`, `image_F1`: computed in each image, then averaged over the images.
    - `exact_match`: share of images whose predicted set is exactly the true one.
    - `mAP`: mean over the classes of non-interpolated average precision. Images with equal scores
      form one group (as in scikit-learn), so their order does not matter.

    zero_division: value of a 0/0, such as the precision of a class that is never predicted: 0.0 (as
      in the literature), 1.0, or nan, which leaves it out of the averages.
    absent: classes without a positive in `target` have no average precision; "exclude" leaves them
      out of mAP (nan where no class is left), "zero" keeps them as 0.
    Raises ValueError for empty input, other shapes or dtypes, and scores that are not finite.
    """
    predicted, target, scores = _checked(predicted, target, scores, zero_division, absent)
    result = averages(*_counts(predicted, target), zero_division=zero_division)
    # The counts of an image are those of a class with the two axes exchanged.
    result |= image_averages(*_counts(predicted.T, target.T), zero_division=zero_division)
    result["exact_match"] = multilabel_exact_match(
        predicted.int(), target.int(), num_labels=target.shape[1], validate_args=False
    )
    if scores is not None:
        result["mAP"] = _with_absent(average_precision(scores, target), absent).nanmean()
    return {name: float(value) for name, value in result.items()}


def sequence_metrics(tokens: Tensor, target: Tensor) -> dict[str, float]:
    """What a set does not tell of a decoder: does it repeat itself, does it stop too early? Taught in notebook 05.

    tokens: (N, T) int64, what the decoder says when it may repeat labels, `<stop>` = C from the first stop on.
    target: (N, C) bool, the true labels.

    - `repeats`: labels an image says again, the mean over the images: emitted before the first `<stop>`, less the
      distinct ones among them.
    - `early_stops`: share of the images that emit `<stop>` after fewer labels (repeats counted) than are true.
    Raises ValueError for shapes that do not fit.
    """
    if tokens.ndim != 2 or target.ndim != 2 or len(tokens) != len(target) or not len(tokens):
        raise ValueError(
            f"expected tokens (N, T) and target (N, C), found {tuple(tokens.shape)} and {tuple(target.shape)}"
        )
    num_labels = target.shape[1]
    emitted = sequence_lengths(tokens, num_labels)
    distinct = to_multi_hot(tokens, num_labels).sum(1)
    stopped = emitted < tokens.shape[1]  # those that never did were cut off by the limit on the steps
    early = stopped & (emitted < target.sum(1))
    return {
        "repeats": float((emitted - distinct).double().mean()),
        "early_stops": float(early.double().mean()),
    }


def per_label_metrics(
    predicted: Tensor,
    target: Tensor,
    scores: Tensor | None = None,
    *,
    zero_division: float = 0.0,
    absent: str = "exclude",
) -> dict[str, Tensor]:
    """The metrics of each class, CPU tensors of shape (C,). Taught in notebook 02.

    Takes what `multilabel_metrics` takes and raises what it raises. `precision`, `recall`, `f1`
    float64; `support` (true images) and `predicted` (predicted images) int64; with scores
    `average_precision` float64, for a class without positives nan, or 0 with absent="zero".
    """
    predicted, target, scores = _checked(predicted, target, scores, zero_division, absent)
    counts = _counts(predicted, target)
    precision, recall, f1 = precision_recall_f1(*counts, zero_division=zero_division)
    result = {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "support": counts[2],
        "predicted": counts[1],
    }
    if scores is not None:
        result["average_precision"] = _with_absent(average_precision(scores, target), absent)
    return result


class MultiLabelMetrics(Metric):
    """`multilabel_metrics` over batches, synchronised over processes by torchmetrics.

    update(predicted (B, C) bool, target (B, C) bool, scores (B, C) float | None), then compute().
    It keeps what it is given (C bytes twice and 4C bytes of scores an image), because exact average
    precision and the averages per image need all of it. Under several processes a sampler that
    repeats images to fill the last batch counts them twice: use one that does not.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, *, zero_division: float = 0.0, absent: str = "exclude", **options: Any) -> None:
        """zero_division, absent: as in `multilabel_metrics`; options: those of torchmetrics.Metric."""
        super().__init__(**options)
        _check_options(zero_division, absent)
        self.zero_division, self.absent = zero_division, absent
        for name in ("predicted", "target", "scores"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, target: Tensor, scores: Tensor | None = None) -> None:
        """Adds a batch. Raises ValueError as `multilabel_metrics` does, at the batch that is wrong."""
        _check_tensors(predicted, target, scores)
        if self.predicted and bool(self.scores) != (scores is not None):
            raise ValueError("scores came with some batches and not with others: pass them always or never")
        self.predicted.append(predicted)
        self.target.append(target)
        if scores is not None:
            self.scores.append(scores.detach())

    def compute(self) -> dict[str, float]:
        """The metrics of everything since the last reset. Raises ValueError where nothing was added."""
        if len(self.predicted) == 0:
            raise ValueError("nothing to score: call update with at least one batch first")
        # Scores that never came are an empty list, and after a synchronisation an empty tensor.
        scores = dim_zero_cat(self.scores) if len(self.scores) else None
        return multilabel_metrics(
            dim_zero_cat(self.predicted),
            dim_zero_cat(self.target),
            scores,
            zero_division=self.zero_division,
            absent=self.absent,
        )


def precision_recall_f1(
    tp: Tensor, predicted: Tensor, support: Tensor, *, zero_division: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1 from counts of any equal or broadcastable shape, float64."""
    return (
        _ratio(tp, predicted, zero_division),
        _ratio(tp, support, zero_division),
        _ratio(2 * tp, predicted + support, zero_division),
    )


def averages(
    tp: Tensor, predicted: Tensor, support: Tensor, *, zero_division: float = 0.0
) -> dict[str, Tensor]:
    """CP, CR, both CF1, OP, OR, OF1 and N+ from the counts of the classes.

    tp, predicted, support: (..., C) int64; returns tensors (...) float64, so that many thresholds
    are judged at once (`thresholds.choose_global`).
    """
    precision, recall, f1 = precision_recall_f1(tp, predicted, support, zero_division=zero_division)
    cp, cr = precision.nanmean(dim=-1), recall.nanmean(dim=-1)
    total = precision_recall_f1(
        tp.sum(dim=-1), predicted.sum(dim=-1), support.sum(dim=-1), zero_division=zero_division
    )
    return {
        "CP": cp,
        "CR": cr,
        "CF1": torch.where(cp + cr == 0, 0.0, 2 * cp * cr / (cp + cr)),  # the limit, not a choice
        "CF1_mean_of_classes": f1.nanmean(dim=-1),
        "OP": total[0],
        "OR": total[1],
        "OF1": total[2],
        "N+": (tp > 0).sum(dim=-1).double(),
    }


def image_averages(
    tp: Tensor, predicted: Tensor, support: Tensor, *, zero_division: float = 0.0
) -> dict[str, Tensor]:
    """image_P, image_R, image_F1 from the counts of the images: (..., N) int64 -> (...) float64."""
    values = precision_recall_f1(tp, predicted, support, zero_division=zero_division)
    return {
        f"image_{name}": value.nanmean(dim=-1) for name, value in zip(["P", "R", "F1"], values, strict=True)
    }


def average_precision(scores: Tensor, target: Tensor) -> Tensor:
    """Non-interpolated average precision of each class, (C,) float64; nan without positives.

    scores: (N, C) float, finite, on the CPU, any scale; target: (N, C) bool. Taught in notebook 02.

    It is the mean, over a class's positives, of the precision among the images that score at least
    as high: images with equal scores form one group, as in scikit-learn. torchmetrics has it, but
    takes a score above 1 for a logit and applies a sigmoid, which makes ties of large ones, and it
    goes class by class in float32 (benchmarks/metrics_speed.py has both times).
    """
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()  # exact; NumPy has no bfloat16
    support = target.sum(dim=0)
    # NumPy sorts values several times faster than torch, which always sorts an index along.
    every = torch.from_numpy(np.sort(scores.T.contiguous().numpy(), axis=1))  # (C, N) ascending
    classes, images = target.T.nonzero(as_tuple=True)
    place = torch.arange(len(classes)) - (support.cumsum(dim=0) - support)[classes]
    # The positives' scores only, (C, P) with P the largest support, padded with infinity.
    own = torch.full((target.shape[1], int(support.max())), torch.inf, dtype=scores.dtype)
    own[classes, place] = scores[images, classes]
    own = own.sort(dim=1).values
    as_high = len(scores) - torch.searchsorted(every, own)  # images that score at least as high
    hits = support[:, None] - torch.searchsorted(own, own)  # positives among them
    precision = hits.double() / as_high.clamp(min=1)  # 0 where padded: no image scores infinity
    return precision.sum(dim=1) / support  # 0/0 is nan


def _counts(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """tp, predicted and support of each column, (C,) int64."""
    tp, fp, _, _, support = multilabel_stat_scores(
        predicted.int(), target.int(), num_labels=target.shape[1], average="none", validate_args=False
    ).unbind(dim=-1)  # (C, 5) -> five of (C,)
    return tp, tp + fp, support


def _with_absent(precision: Tensor, absent: str) -> Tensor:
    return precision.nan_to_num(nan=0.0) if absent == "zero" else precision


def _ratio(part: Tensor, whole: Tensor, zero_division: float) -> Tensor:
    return torch.where(whole > 0, part.double() / whole.clamp(min=1), zero_division)


def _checked(
    predicted: Tensor, target: Tensor, scores: Tensor | None, zero_division: float, absent: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    _check_options(zero_division, absent)
    _check_tensors(predicted, target, scores)
    return predicted.cpu(), target.cpu(), None if scores is None else scores.detach().cpu()


def _check_options(zero_division: float, absent: str) -> None:
    if zero_division not in (0.0, 1.0) and zero_division == zero_division:  # nan differs from itself
        raise ValueError(f"zero_division must be 0.0, 1.0 or nan, found {zero_division!r}")
    if absent not in ABSENT:
        raise ValueError(f"absent must be one of {', '.join(ABSENT)}, found {absent!r}")


def _check_tensors(predicted: Tensor, target: Tensor, scores: Tensor | None) -> None:
    named = {"predicted": predicted, "target": target} | ({} if scores is None else {"scores": scores})
    for name, tensor in named.items():
        if tensor.ndim != 2 or not tensor.numel():
            raise ValueError(f"{name} must be (N, C) and not empty, found shape {tuple(tensor.shape)}")
        if tensor.shape != target.shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, target is {tuple(target.shape)}: they must agree"
            )
        if name == "scores":
            if not tensor.is_floating_point():
                raise ValueError(f"scores must be floating point, found {tensor.dtype}")
            if not tensor.isfinite().all():
                raise ValueError(
                    "scores hold nan or infinity: has the training diverged, or half overflowed?"
                )
        elif tensor.dtype != torch.bool:
            raise ValueError(
                f"{name} must be bool, found {tensor.dtype}: use multi_hot.bool(), "
                "or thresholds.apply_thresholds(scores, 0.5) for scores"
            )
