"""What a classifier's features tend to lose: the colours in every grid cell, and where the cell is. Notebook 07.

A network that was trained to name things may forget their colour, and a mean over the grid forgets who stands on the
left. A sentence says both. This wrapper computes them from the pixels and appends them to every cell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from helpers.batch import Features
from helpers.crops import AroundEncoder, CropEncoder, cut, layout, token_boxes
from helpers.encoders import Encoder, require_images
from helpers.transforms import denormalize

LEVELS = 3  # of red, green and blue: 27 colours
OCTAVES = 3  # wavelengths of the place: four, two and one times the image's side


def colour_shares(images: Tensor, cells: tuple[int, int], levels: int = LEVELS) -> Tensor:
    """How much of each cell has which colour: images (B, 3, H, W) in 0..1 -> (B, L, levels³), row by row.

    A histogram of the cell's pixels (Swain and Ballard, "Color Indexing", IJCV 1991) whose bins have soft edges: the
    bins stand at the points of a grid of levels a channel, and a pixel between two levels belongs to both, in shares
    that sum to 1. So the shares of a cell sum to 1, too. cells: (h, w), L = h * w. The last number runs over blue
    fastest, then green. A mean would mix the red of a car with the grey of its street; here both are seen.
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
    """Where the centres of boxes (N, 4) in fractions of the image are: (N, 2 + 4 * octaves) float32.

    x and y from -1 to 1 (left to right, top to bottom); then the sines, then the cosines of both, at wavelengths of
    4, 2, 1, … times the image's side (the code of Mildenhall et al., "NeRF", ECCV 2020, from a longer wave on).
    """
    centre = boxes[:, :2] + boxes[:, 2:] / 2  # (N, 2): x, y
    angle = centre.unsqueeze(2) * math.pi / 2 * 2.0 ** torch.arange(octaves)  # (N, 2, octaves)
    return torch.cat([2 * centre - 1, angle.sin().flatten(1), angle.cos().flatten(1)], 1)


class DetailEncoder(AroundEncoder):
    """An encoder whose cells also tell their colours and their place; used wherever an `Encoder` is. Notebook 07.

    encoder: an `Encoder` or a `CropEncoder`; it may be frozen or learn. What is appended has no parameters.

    D grows by 27 `colour_shares` and 14 numbers of `place_code`; the tokens of crops have the colours of their tile
    and their place on the whole image. pooled stays the mean of the cells. The name says what was added: the feature
    cache tells the two apart.
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
        """Images (B, 3, S, S) float, preprocessed -> pooled (B, D) and grid (B, L, D), the additions last.

        Raises ValueError for images of another shape or type.
        """
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
    """The name to give to `build_encoder`, without what wraps the backbone."""
    while not isinstance(encoder, Encoder):
        encoder = encoder.encoder
    return encoder.name
