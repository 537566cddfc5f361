"""Objectives: cross-entropy over a label sequence, and losses over C independent labels.

All of them compute in float32 (float64 if that is what they get): half precision rounds probabilities near 1 to 1,
and log(1 - 1) is -infinity. All take logits, because log(sigmoid(x)) in one step stays finite.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100


def sequence_cross_entropy(
    logits: Tensor, targets: Tensor, lengths: Tensor, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of a label sequence and its `<stop>`, a scalar.

    logits: (B, T, V) float; targets: (B, T) int64; lengths: (B,) int64, labels without `<stop>`.
    Only the first lengths + 1 steps of an image count, its labels and one `<stop>`. "mean" is over all these steps of
    the batch, so an image weighs by its number of labels; "sum" is for dividing by the steps of a larger batch.
    label_smoothing: share of the target spread over all V outputs; needs finite logits.

    Raises ValueError for shapes that do not fit, and for a sequence that does not fit into T steps with its `<stop>`
    (only checked on the CPU: the check would make a GPU wait).
    """
    if targets.shape != logits.shape[:2] or lengths.shape != logits.shape[:1]:
        raise ValueError(
            f"logits {tuple(logits.shape)} need targets {tuple(logits.shape[:2])} and lengths "
            f"{tuple(logits.shape[:1])}, found {tuple(targets.shape)} and {tuple(lengths.shape)}"
        )
    steps = logits.shape[1]
    if lengths.device.type == "cpu" and not 0 <= int(lengths.min()) <= int(lengths.max()) < steps:
        raise ValueError(
            f"lengths are {int(lengths.min())}..{int(lengths.max())}, but {steps} steps hold 0..{steps - 1} "
            "labels and <stop>: give the decoder more steps"
        )
    padding = torch.arange(steps, device=lengths.device) > lengths[:, None]  # (B, T)
    return F.cross_entropy(
        _full_precision(logits).flatten(0, 1),  # (B, T, V) -> (B*T, V)
        targets.masked_fill(padding, IGNORE).flatten(),  # (B, T) -> (B*T,)
        ignore_index=IGNORE,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


def asymmetric_loss(
    logits: Tensor,
    multi_hot: Tensor,
    *,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    clip: float = 0.05,
    reduction: str = "mean",
    detach_focus: bool = False,
) -> Tensor:
    """Asymmetric loss, a scalar: easy negatives count less and less, then nothing.

    With p = sigmoid(logits), y = multi_hot and p_m = max(p - clip, 0), an entry costs
    -y (1-p)^gamma_positive log p - (1-y) p_m^gamma_negative log(1 - p_m).
    Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021, equations 4 to 7.

    logits: (B, C) float; multi_hot: (B, C) 0/1, bool or float. Raises ValueError for shapes that do not fit.
    gamma_positive, gamma_negative: focusing, >= 0; both 0 with clip=0 is binary cross-entropy.
    clip: probability margin in 0..1 below which a negative costs nothing.
    reduction: "mean" over B·C entries, or "sum" as in the paper. LCNet uses 10000 times the mean.
    detach_focus: no gradient through the two focusing weights, as in the authors' and LCNet's code.
    """
    logits, target = _pair(logits, multi_hot)
    log_p, log_q = F.logsigmoid(logits), F.logsigmoid(-logits)  # q = 1 - p
    log_q_m = log_q
    if clip:
        # 1 - p_m = min(q + clip, 1), which is at least clip: its logarithm is safe.
        log_q_m = (torch.sigmoid(-logits) + clip).clamp(max=1).log()
    with torch.set_grad_enabled(torch.is_grad_enabled() and not detach_focus):
        # Powers as exp(gamma log): x^gamma has no finite derivative at 0 where gamma < 1.
        positive_focus = (gamma_positive * log_q).exp() if gamma_positive else 1.0
        negative_focus = (gamma_negative * log_p).exp() if gamma_negative else 1.0
        if clip and gamma_negative:
            # Where p <= clip the whole term is 0 (its logarithm is), so the floor changes nothing.
            negative_focus = (torch.sigmoid(logits) - clip).clamp(min=1e-12).pow(gamma_negative)
    values = -(target * positive_focus * log_p + (1 - target) * negative_focus * log_q_m)
    return values.mean() if reduction == "mean" else values.sum()


def focal_loss(logits: Tensor, multi_hot: Tensor, *, gamma: float = 3.0) -> Tensor:
    """Focal loss, a scalar: entries that are already right count less.

    The asymmetric loss with the same focusing on both sides and no margin. Lin et al., Focal Loss for Dense Object
    Detection, ICCV 2017, equation 4, where gamma is 2; the Corel-5k baselines of the literature use 3.
    """
    return asymmetric_loss(logits, multi_hot, gamma_positive=gamma, gamma_negative=gamma, clip=0.0)


def lsep_loss(logits: Tensor, multi_hot: Tensor) -> Tensor:
    """Log-sum-exp pairwise loss, the mean over the images: every true label should score above every other one.

    An image costs log(1 + sum over v not in Y, u in Y of exp(s_v - s_u)); 0 where it has no label or all of them. Li,
    Song and Luo, Improving Pairwise Ranking for Multi-label Image Classification, CVPR 2017. It only ranks: the scores
    need a threshold of their own. Arguments and errors as in `asymmetric_loss`.
    """
    logits, target = _pair(logits, multi_hot)
    positive = target > 0.5
    # The double sum of products is a product of two sums. A large finite number stands for -infinity,
    # which makes nan on the way back where an image has no label at all.
    nothing = torch.finfo(logits.dtype).min / 4
    others = logits.masked_fill(positive, nothing).logsumexp(dim=1)  # (B,)
    own = (-logits).masked_fill(~positive, nothing).logsumexp(dim=1)  # (B,)
    return torch.logaddexp(others + own, torch.zeros_like(own)).mean()


def _full_precision(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _pair(logits: Tensor, multi_hot: Tensor) -> tuple[Tensor, Tensor]:
    """Both in full precision. Broadcasting would hide shapes that do not fit."""
    if logits.ndim != 2 or not logits.numel() or logits.shape != multi_hot.shape:
        raise ValueError(
            f"logits and multi_hot must both be (B, C) and not empty, found {tuple(logits.shape)} "
            f"and {tuple(multi_hot.shape)}"
        )
    logits = _full_precision(logits)
    return logits, multi_hot.to(logits)
