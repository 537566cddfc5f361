"""Batch-norm of features that bears a batch of one image. Taught in notebook 03."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import batch_norm


class FeatureNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` for (B, D), which also trains on a single row; parameters and buffers have the same names.

    One row has no spread, and torch refuses it. Such a batch (the last one of 64k + 1 images, or --batch-size 1) is
    normalised as in eval mode, by the running mean and variance, which it leaves as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)
