"""Metrics of predicted label sets: per label, overall and per image P/R/F1, N+, mAP, and whether the sets make sense.

N images, C labels. Everything comes from three counts: tp (predicted and true), predicted and support (true), summed
over the images for a label and over the labels for an image. The arithmetic is float64 on the CPU, so that a number
does not depend on the device.

What is predicted is decided before: by `helpers.metrics.thresholds`, or by the labels that a decoder emitted
(`helpers.data.labels.to_multi_hot`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from helpers.data.labels import sequence_lengths, to_multi_hot


def multilabel_metrics(predicted: Tensor, target: Tensor, scores: Tensor | None = None) -> dict[str, float]:
    """Every set metric of the field, each a fraction in 0..1 except N+.

    predicted: (N, C) bool, the labels given to each image; target: (N, C) bool, the true ones;
    scores: (N, C) float, finite, any scale (logits or probabilities), only needed for mAP.

    - `CP`, `CR`: precision and recall of each label, averaged over all C labels.
    - `CF1`: harmonic mean of CP and CR, the CF1 of the literature and of the Corel-5k tables.
    - `CF1_mean_of_classes`: mean of the labels' own F1 (LCNet's CF1, scikit-learn's macro F1).
    - `OP`, `OR`, `OF1`: overall (micro), all decisions counted together.
    - `N+`: number of labels with at least one true positive.
    - `image_P`, `image_R`, `image_F1`: computed in each image, then averaged over the images.
    - `exact_match`: share of images whose predicted set is exactly the true one.
    - `mAP`: mean of `average_precision` over the labels with a positive in `target`; nan if there is none.

    A 0/0 counts as 0, such as the precision of a label that is never predicted.
    Raises ValueError for empty input, other shapes or dtypes, and scores that are not finite.
    """
    predicted, target, scores = _checked(predicted, target, scores)
    result = averages(*_counts(predicted, target))
    # The counts of an image are those of a label with the two axes exchanged.
    result |= image_averages(*_counts(predicted.T, target.T))
    if scores is not None:
        result["mAP"] = average_precision(scores, target).nanmean()
    return {name: float(value) for name, value in result.items()}


def per_label_metrics(predicted: Tensor, target: Tensor, scores: Tensor | None = None) -> dict[str, Tensor]:
    """The metrics of each label, tensors (C,), from what `multilabel_metrics` takes.

    `precision`, `recall`, `f1` float64; `support` (true images) and `predicted` (predicted images) int64; with scores
    `average_precision` float64.
    """
    predicted, target, scores = _checked(predicted, target, scores)
    tp, named, support = _counts(predicted, target)
    result = dict(zip(("precision", "recall", "f1"), precision_recall_f1(tp, named, support), strict=True))
    result |= {"support": support, "predicted": named}
    if scores is not None:
        result["average_precision"] = average_precision(scores, target)
    return result


def precision_recall_f1(tp: Tensor, predicted: Tensor, support: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1 from counts of any equal or broadcastable shape, float64; 0/0 is 0."""
    return _ratio(tp, predicted), _ratio(tp, support), _ratio(2 * tp, predicted + support)


def averages(tp: Tensor, predicted: Tensor, support: Tensor) -> dict[str, Tensor]:
    """CP, CR, both CF1, OP, OR, OF1 and N+ from the counts of the labels: (..., C) int64 -> (...) float64."""
    precision, recall, f1 = precision_recall_f1(tp, predicted, support)
    cp, cr = precision.mean(dim=-1), recall.mean(dim=-1)
    overall = precision_recall_f1(tp.sum(dim=-1), predicted.sum(dim=-1), support.sum(dim=-1))
    return {
        "CP": cp,
        "CR": cr,
        "CF1": torch.where(cp + cr == 0, 0.0, 2 * cp * cr / (cp + cr)),
        "CF1_mean_of_classes": f1.mean(dim=-1),
        "OP": overall[0],
        "OR": overall[1],
        "OF1": overall[2],
        "N+": (tp > 0).sum(dim=-1).double(),
    }


def image_averages(tp: Tensor, predicted: Tensor, support: Tensor) -> dict[str, Tensor]:
    """Means over the images of `image_values`: (..., N) int64 -> (...) float64."""
    return {name: value.mean(dim=-1) for name, value in image_values(tp, predicted, support).items()}


def image_values(tp: Tensor, predicted: Tensor, support: Tensor) -> dict[str, Tensor]:
    """image_P, image_R, image_F1 and exact_match of each image from its counts: (..., N) int64 -> (..., N) float64."""
    precision, recall, f1 = precision_recall_f1(tp, predicted, support)
    exact = ((tp == predicted) & (tp == support)).double()
    return {"image_P": precision, "image_R": recall, "image_F1": f1, "exact_match": exact}


def average_precision(scores: Tensor, target: Tensor) -> Tensor:
    """Non-interpolated average precision of each label, (C,) float64; nan without positives.

    scores: (N, C) float, finite, on the CPU, any scale; target: (N, C) bool.

    It is the mean, over a label's positives, of the precision among the images that score at least as high: images
    with equal scores form one group, as in scikit-learn. torchmetrics has it, but applies a sigmoid to scores above 1,
    which makes large ones equal, and it is slower (benchmarks/metrics_speed.py).
    """
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()  # exact; NumPy has no bfloat16
    support = target.sum(dim=0)
    # NumPy sorts values several times faster than torch, which always sorts an index along.
    every = torch.from_numpy(np.sort(scores.T.contiguous().numpy(), axis=1))  # (C, N) ascending
    labels, images = target.T.nonzero(as_tuple=True)
    place = torch.arange(len(labels)) - (support.cumsum(dim=0) - support)[labels]
    # The positives' scores only, (C, P) with P the largest support, padded with infinity.
    own = torch.full((target.shape[1], int(support.max())), torch.inf, dtype=scores.dtype)
    own[labels, place] = scores[images, labels]
    own = own.sort(dim=1).values
    as_high = len(scores) - torch.searchsorted(every, own)  # images that score at least as high
    hits = support[:, None] - torch.searchsorted(own, own)  # positives among them
    precision = hits.double() / as_high.clamp(min=1)  # 0 where padded: no image scores infinity
    return precision.sum(dim=1) / support  # 0/0 is nan


def sequence_metrics(tokens: Tensor, target: Tensor) -> dict[str, float]:
    """What the set does not show of a decoder: whether it repeats labels or stops too early.

    tokens: (N, T) int64, unmasked (repeats allowed), `<stop>` = C from the first stop on. target: (N, C) bool.

    - `repeats`: labels emitted before the first `<stop>`, less the distinct ones among them; the mean over the images.
    - `early_stops`: share of the images that emit `<stop>` after fewer labels (repeats counted) than are true.
    """
    num_labels = target.shape[1]
    emitted = sequence_lengths(tokens, num_labels)
    distinct = to_multi_hot(tokens, num_labels).sum(1)
    stopped = emitted < tokens.shape[1]  # those that never did were cut off by the limit on the steps
    early = stopped & (emitted < target.sum(1))
    return {
        "repeats": float((emitted - distinct).double().mean()),
        "early_stops": float(early.double().mean()),
    }


def set_consistency(
    predicted: Tensor, train_sets: Tensor, rules: Mapping[int, Sequence[int]]
) -> dict[str, float]:
    """Whether predicted sets make sense: shares of the N sets, in 0..1. Compare them with those of the true sets.

    predicted: (N, C) bool. train_sets: (M, C) bool, the label sets of the training images. rules: label id -> ids of
    which at least one must be there too (`scenes.content.RULES`, with the vocabulary's ids).

    - `unseen_pairs`: sets that hold two labels which never occur together in training.
    - `broken_rules`: sets that hold a label of `rules` without any of those it needs.
    """
    check_sets(predicted=predicted, train_sets=train_sets)
    predicted, train = predicted.cpu(), train_sets.cpu().float()
    unseen = ((train.T @ train) == 0).fill_diagonal_(False)  # (C, C)
    clash = (predicted.float() @ unseen.float() > 0) & predicted  # (N, C) labels that clash with another one
    broken = torch.zeros(len(predicted), dtype=torch.bool)
    for label, needed in rules.items():
        broken |= predicted[:, label] & ~predicted[:, list(needed)].any(dim=1)
    shares = {"unseen_pairs": clash.any(dim=1), "broken_rules": broken}
    return {name: float(value.double().mean()) for name, value in shares.items()}


def check_sets(**sets: Tensor) -> None:
    """Raise ValueError, with the name, for what is not a (N, C) bool tensor with N, C > 0."""
    for name, tensor in sets.items():
        if tensor.ndim != 2 or not tensor.numel():
            raise ValueError(f"{name} must be (N, C) and not empty, found shape {tuple(tensor.shape)}")
        if tensor.dtype != torch.bool:
            raise ValueError(
                f"{name} must be bool, found {tensor.dtype}: use multi_hot.bool(), "
                "or thresholds.apply_thresholds(scores, 0.5) for scores"
            )


def check_scores(scores: Tensor) -> None:
    """Raise ValueError for what is not a (N, C) floating point tensor of finite numbers with N, C > 0."""
    if scores.ndim != 2 or not scores.numel() or not scores.is_floating_point():
        found = f"{tuple(scores.shape)} {scores.dtype}"
        raise ValueError(f"scores must be (N, C) floating point and not empty, found {found}")
    if not scores.isfinite().all():
        raise ValueError("scores hold nan or infinity: has the training diverged, or half overflowed?")


def _checked(
    predicted: Tensor, target: Tensor, scores: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The three on the CPU, or ValueError."""
    check_sets(predicted=predicted, target=target)
    if scores is not None:
        check_scores(scores)
        scores = scores.detach().cpu()
    for name, tensor in (("predicted", predicted), ("scores", scores)):
        if tensor is not None and tensor.shape != target.shape:
            shapes = f"{name} is {tuple(tensor.shape)}, target is {tuple(target.shape)}"
            raise ValueError(f"{shapes}: they must agree")
    return predicted.cpu(), target.cpu(), scores


def _counts(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """tp, predicted and support of each column, (C,) int64."""
    return (predicted & target).sum(dim=0), predicted.sum(dim=0), target.sum(dim=0)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part.double() / whole.clamp(min=1), 0.0)
