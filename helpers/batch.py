"""What flows through a model: the features of a batch of images, and the batch itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


class Features(NamedTuple):
    """What an encoder says of a batch of images. Taught in notebook 02.

    pooled: (B, D) float, the mean over the grid: one vector an image.
    grid:   (B, L, D) float, one vector a grid cell, row by row from the top left; None where
            only the pooled vector was kept (it needs L times less disk and memory).
    """

    pooled: Tensor
    grid: Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Features:
        """The same features on another device."""
        return Features(*(None if x is None else x.to(device, non_blocking=non_blocking) for x in self))

    def select(self, index: Tensor) -> Features:
        """The features of the images `index` (K,) int64, in that order (repeats allowed)."""
        return Features(*(None if x is None else x[index] for x in self))


@dataclass(frozen=True)
class Batch:
    """A batch of B images with their labels; it carries the images, their features, or both.

    index:     (B,) int64, position of the image in its split.
    labels:    (B, T) int64, label ids in the order of training, padded with `<stop>`; T = longest + 1.
    lengths:   (B,) int64, labels of each image without `<stop>`; 0 is legal.
    multi_hot: (B, C) float32, the same labels as a set.
    images:    (B, 3, H, W) float32, preprocessed, or None.
    features:  the images' `Features`, or None.
    """

    index: Tensor
    labels: Tensor
    lengths: Tensor
    multi_hot: Tensor
    images: Tensor | None = None
    features: Features | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in vars(self).items()
            if value is not None
        }
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, called by a DataLoader with `pin_memory=True`."""
        pinned = {name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, Tensor)}
        if self.features is not None:
            pinned["features"] = Features(*(None if x is None else x.pin_memory() for x in self.features))
        return replace(self, **pinned)
