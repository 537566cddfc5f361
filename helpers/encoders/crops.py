"""Encoders around an encoder: `CropEncoder` looks at tiles as well, `DetailEncoder` adds colours and places.

Crop-Forwarding (LCNet, 2023): at level 2 an image of 896 pixels is seen five times at 448, as four tiles and as a
whole. One batched pass encodes all views, and their tokens form one longer grid.

Details: a sentence says what colour a thing has and which one is on the left. A network that was trained to name
things may forget both, so they are computed from the pixels and appended to every cell.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from helpers.data.batches import Features
from helpers.data.images import denormalize
from helpers.encoders.encoder import Encoder, build_encoder, require_images

GridSize = tuple[int, int]

LEVELS = 3  # of red, green and blue: 27 colours
OCTAVES = 3  # wavelengths of the place: four, two and one times the image's side


# --- crops -----------------------------------------------------------------------------------------------------


def num_views(level: int) -> int:
    """Views of one image: level² tiles and the whole image; at level 0 only the whole."""
    if level < 0:
        raise ValueError(
            f"the crop level is {level}, expected 0 (no crops), or 1, 2, 3 for that many tiles a side"
        )
    return level * level + 1 if level else 1


def cut(images: Tensor, level: int, tile_size: int) -> Tensor:
    """Images (B, 3, S, S) float -> their views (B, num_views, 3, t, t): tiles row by row, then the whole image.

    The image is resized to level * t and then cut, so nothing at its right and lower edge is lost. Tiles do not
    overlap. At level 1 the only tile is the whole image again.
    """
    whole = _resize(images, tile_size).unsqueeze(1)
    if num_views(level) == 1:
        return whole
    tiles = _resize(images, level * tile_size)
    # (B, 3, level*t, level*t) -> (B, 3, level, t, level, t) -> (B, level, level, 3, t, t) -> (B, level², 3, t, t)
    tiles = tiles.unflatten(3, (level, tile_size)).unflatten(2, (level, tile_size))
    return torch.cat([tiles.permute(0, 2, 4, 1, 3, 5).flatten(1, 2), whole], dim=1)


def token_boxes(level: int, cells: GridSize, image_size: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Where on the image each token of a `CropEncoder` is: (N, 4) float32, x, y, width, height.

    cells: (h, w) of one view. image_size: (width, height); by default boxes are in fractions of the image.
    """
    (h, w), (width, height) = cells, image_size
    views = [(level, row, column) for row in range(level) for column in range(level)] + [(1, 0, 0)]
    boxes = [
        ((column + x / w) / side, (row + y / h) / side, 1 / w / side, 1 / h / side)
        for side, row, column in views[-num_views(level) :]
        for y in range(h)
        for x in range(w)
    ]
    return torch.tensor(boxes) * torch.tensor([width, height, width, height])


def on_image(weights: Tensor, level: int, cells: GridSize) -> Tensor:
    """Weights of the tokens (…, N) as one map of the image (…, h * level, w * level) with the same sum.

    A cell of the whole view spreads its weight evenly over the level² cells that it covers. cells: (h, w) of one view.
    """
    h, w = cells
    count, tiles = num_views(level) * h * w, num_views(level) - 1
    if weights.shape[-1] != count:
        raise ValueError(
            f"{weights.shape[-1]} weights, but level {level} with {h} x {w} cells a view has {count} tokens: give "
            "the level and the cells of the encoder that made them"
        )
    whole = weights[..., tiles * h * w :].unflatten(-1, (h, w))  # (…, h, w)
    if not tiles:
        return whole
    # (…, level²*h*w) -> (…, level, level, h, w) -> (…, level, h, level, w) -> (…, level*h, level*w)
    seen = weights[..., : tiles * h * w].unflatten(-1, (level, level, h, w)).transpose(-3, -2)
    seen = seen.flatten(-2).flatten(-3, -2)
    spread = whole.repeat_interleave(level, -2).repeat_interleave(level, -1) / tiles
    return seen + spread


def sine_code(boxes: Tensor, size: int) -> Tensor:
    """Sines and cosines of the centres of boxes (N, 4) in fractions of the image: (N, size).

    First y, then x, at wavelengths from 1 to 10000 times the image's side (Carion et al., End-to-End Object Detection
    with Transformers, ECCV 2020). Raises ValueError for a size not divisible by 4.
    """
    if size % 4:
        raise ValueError(f"a position code needs a multiple of 4 numbers, found {size}")
    centre = boxes[:, :2] + boxes[:, 2:] / 2  # (N, 2): x, y
    rates = 10000 ** (-torch.arange(size // 4) / (size // 4))
    angle = 2 * math.pi * centre.flip(1).unsqueeze(2) * rates  # (N, 2, size / 4)
    return torch.cat([angle.sin(), angle.cos()], dim=2).flatten(1)


class AroundEncoder(nn.Module):
    """A wrapper of an `encoder` without parameters of its own."""

    encoder: nn.Module

    @property
    def frozen(self) -> bool:
        """Whether no parameter learns."""
        return self.encoder.frozen

    @property
    def weights_id(self) -> str:
        """That of the encoder: see `Encoder.weights_id`."""
        return self.encoder.weights_id


class CropEncoder(AroundEncoder):
    """An encoder that also looks at tiles; used wherever an `Encoder` is.

    encoder: encodes a view; t is its image size. level: tiles per side, see `cut`.
    image_size: S, the side in pixels of the images it gets (default: level * t).

    Its grid (B, N, D) has the tokens of all views, N = views * h * w; `token_boxes` and `on_image` say where they are.
    grid_size is (views * h, w), the views below one another. pooled is the mean of all tokens. The name has level and
    t, and the preprocessing S, so the feature cache keeps them apart.
    """

    def __init__(self, encoder: Encoder, level: int, *, image_size: int | None = None) -> None:
        super().__init__()
        self.encoder, self.level, self.views = encoder, level, num_views(level)
        tile = encoder.image_size
        self.image_size = image_size or max(level, 1) * tile
        self.name = f"{encoder.name}, crops {level} of {tile} px"
        self.dim, self.cells = encoder.dim, encoder.grid_size
        self.grid_size = (self.views * self.cells[0], self.cells[1])
        self.preprocessing = replace(encoder.preprocessing, size=self.image_size)

    def forward(self, images: Tensor) -> Features:
        """Images (B, 3, S, S) float, preprocessed -> pooled (B, D) and grid (B, N, D)."""
        require_images(images, self.image_size, self.name)
        views = cut(images, self.level, self.encoder.image_size)  # (B, views, 3, t, t)
        grid = self.encoder(views.flatten(0, 1)).grid  # (B*views, L, D)
        grid = grid.unflatten(0, (len(images), self.views)).flatten(1, 2)  # (B, views*L, D)
        return Features(pooled=grid.mean(dim=1), grid=grid)


def build_crop_encoder(
    name: str,
    level: int,
    *,
    weights: str | Path | None = "imagenet",
    image_size: int | None = None,
    freeze: bool | str = True,
) -> Encoder | CropEncoder:
    """`encoder.build_encoder`; with a level above 0, a `CropEncoder` around it.

    image_size: S, the side of the whole image in pixels; a view then has S // level. Default: views of the backbone's
        own size.
    """
    tile = image_size if image_size is None else image_size // max(level, 1)
    encoder = build_encoder(name, weights=weights, image_size=tile, freeze=freeze)
    return encoder if num_views(level) == 1 else CropEncoder(encoder, level, image_size=image_size)


def layout(encoder: nn.Module) -> tuple[int, GridSize]:
    """(level, cells of a view) of any kind of encoder, as `token_boxes` and `on_image` take them."""
    return getattr(encoder, "level", 0), getattr(encoder, "cells", encoder.grid_size)


def _resize(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


# --- details ---------------------------------------------------------------------------------------------------


def colour_shares(images: Tensor, cells: tuple[int, int], levels: int = LEVELS) -> Tensor:
    """How much of each cell has which colour: images (B, 3, H, W) in 0..1 -> (B, L, levels³), row by row.

    A histogram of the cell's pixels (Swain and Ballard, "Color Indexing", IJCV 1991) with soft bins: a pixel between
    two of the `levels` levels of a channel counts for both, in shares that sum to 1, as those of a cell do. cells:
    (h, w), L = h * w. The last dimension runs over blue fastest, then green.
    """
    steps = torch.arange(levels, device=images.device).view(-1, 1, 1)
    # (B, 3, levels, H, W): 1 at the level itself, falling to 0 at the next one on either side.
    near = (1 - (images.clamp(0, 1).unsqueeze(2) * (levels - 1) - steps).abs()).clamp_min(0)
    red, green, blue = near.unbind(1)
    green_blue = (green.unsqueeze(2) * blue.unsqueeze(1)).flatten(1, 2)  # (B, levels², H, W)
    # One level of red at a time: all bins of all pixels at once would be levels³ images.
    pooled = [adaptive_avg_pool2d(red[:, i : i + 1] * green_blue, cells) for i in range(levels)]
    return torch.cat(pooled, 1).flatten(2).transpose(1, 2)  # (B, levels³, h, w) -> (B, L, levels³)


def place_code(boxes: Tensor, octaves: int = OCTAVES) -> Tensor:
    """The centres of boxes (N, 4) in fractions of the image as numbers: (N, 2 + 4 * octaves) float32.

    x and y from -1 to 1 (left to right, top to bottom); then the sines, then the cosines of both, at wavelengths of
    4, 2, 1, … times the image's side (the code of Mildenhall et al., "NeRF", ECCV 2020, from a longer wave on).
    """
    centre = boxes[:, :2] + boxes[:, 2:] / 2  # (N, 2): x, y
    angle = centre.unsqueeze(2) * math.pi / 2 * 2.0 ** torch.arange(octaves)  # (N, 2, octaves)
    return torch.cat([2 * centre - 1, angle.sin().flatten(1), angle.cos().flatten(1)], 1)


class DetailEncoder(AroundEncoder):
    """An encoder whose cells also have their colours and their place; used wherever an `Encoder` is.

    D grows by 27 `colour_shares` and 14 numbers of `place_code`. The tokens of crops have the colours of their tile
    and their place on the whole image. pooled stays the mean of the cells. The name has what was added.
    """

    def __init__(self, encoder: Encoder | CropEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.name = f"{encoder.name}, {LEVELS**3} colours and {OCTAVES} octaves of place"
        self.level, self.cells = layout(encoder)
        self.grid_size, self.image_size = encoder.grid_size, encoder.image_size
        self.views = getattr(encoder, "views", 1)
        self.preprocessing = encoder.preprocessing
        place = place_code(token_boxes(self.level, self.cells))
        self.register_buffer("place", place, persistent=False)  # (L, 14)
        self.dim = encoder.dim + LEVELS**3 + place.shape[1]

    def forward(self, images: Tensor) -> Features:
        """Images (B, 3, S, S) float, preprocessed -> pooled (B, D) and grid (B, L, D), the additions last."""
        require_images(images, self.image_size, self.name)
        seen = self.encoder(images).grid
        pixels = denormalize(images.float(), self.preprocessing)
        tile = self.encoder.encoder.image_size if isinstance(self.encoder, CropEncoder) else self.image_size
        shares = colour_shares(cut(pixels, self.level, tile).flatten(0, 1), self.cells)  # (B*views, h*w, 27)
        shares = shares.unflatten(0, (len(images), self.views)).flatten(1, 2)  # (B, L, 27)
        grid = torch.cat([seen, shares, self.place.expand(len(images), -1, -1)], 2)
        return Features(pooled=grid.mean(dim=1), grid=grid)


AnyEncoder = Encoder | CropEncoder | DetailEncoder


def backbone_name(encoder: AnyEncoder) -> str:
    """The name to give to `build_encoder`, without the wrappers."""
    while not isinstance(encoder, Encoder):
        encoder = encoder.encoder
    return encoder.name
