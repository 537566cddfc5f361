"""Cell details: planted colours are found in their cells, places are those of the cells, and nothing else changes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from helpers.data.batches import Batch
from helpers.data.images import Preprocessing, eval_transform
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.encoders.backbones import Backbone
from helpers.encoders.cache import encode_records
from helpers.encoders.crops import (
    CropEncoder,
    DetailEncoder,
    backbone_name,
    build_crop_encoder,
    colour_shares,
    layout,
    place_code,
    token_boxes,
)
from helpers.encoders.encoder import Encoder, build_encoder
from helpers.systems.registry import build
from helpers.training.checkpoints import load_checkpoint, save_checkpoint

RED, GREEN, BLUE, GREY, WHITE = 18, 6, 2, 13, 26  # of 27: 9 * red + 3 * green + blue, each 0, 1 or 2
ADDED = 27 + 14


def toy_encoder(size: int = 8) -> Encoder:
    """Mean colours of 4x4 pixels, normalised as no other network does it."""
    trunk = nn.Conv2d(3, 3, 4, stride=4)
    preprocessing = Preprocessing(size=size, mean=(0.2, 0.4, 0.6), std=(0.3, 0.5, 0.7))
    return Encoder("toy", Backbone(trunk, lambda net, images: net(images), preprocessing))


def normalised(pixels: torch.Tensor, encoder) -> torch.Tensor:
    """Pixels (B, 3, H, W) in 0..1 as the encoder gets them."""
    mean, std = (
        torch.tensor(x).view(3, 1, 1) for x in (encoder.preprocessing.mean, encoder.preprocessing.std)
    )
    return (pixels - mean) / std


@given(levels=st.integers(2, 4), rows=st.integers(1, 3), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_shares_are_those_of_a_loop_over_pixels(levels: int, rows: int, columns: int, seed: int) -> None:
    images = torch.rand(2, 3, rows * 2, columns * 3, generator=torch.Generator().manual_seed(seed))
    expected = torch.zeros(2, rows * columns, levels**3)
    for b in range(2):
        for y in range(rows * 2):
            for x in range(columns * 3):
                pixel = images[b, :, y, x] * (levels - 1)
                for bins in np.ndindex(levels, levels, levels):
                    share = math.prod(
                        max(0.0, 1 - abs(float(p) - i)) for p, i in zip(pixel, bins, strict=True)
                    )
                    number = (bins[0] * levels + bins[1]) * levels + bins[2]
                    expected[b, (y // 2) * columns + x // 3, number] += share / 6
    found = colour_shares(images, (rows, columns), levels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum(2), torch.ones(2, rows * columns))


def test_planted_colours_are_found_in_their_cells() -> None:
    """A half-red, half-white cell has both colours and no pink, which is what its mean would be."""
    encoder = DetailEncoder(toy_encoder())
    pixels = torch.zeros(1, 3, 8, 8)
    pixels[0, 0, :4, :4] = 1  # top left: red
    pixels[0, 1, :4, 4:] = 1  # top right: green
    pixels[0, 2, 4:, :4] = 1  # bottom left: blue
    pixels[0, :, 4:6, 4:], pixels[0, 0, 6:, 4:] = 1, 1  # bottom right: white over red
    grid = encoder(normalised(pixels, encoder)).grid[0, :, 3:30]
    for cell, colour in enumerate((RED, GREEN, BLUE)):
        assert grid[cell, colour] == pytest.approx(1, abs=1e-5)
    assert grid[3, [WHITE, RED]].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
    grey = encoder(normalised(torch.full((1, 3, 8, 8), 0.5), encoder)).grid[0, :, 3 + GREY]
    assert grey.tolist() == pytest.approx([1] * 4, abs=1e-5)


def test_places_run_row_by_row() -> None:
    encoder = DetailEncoder(toy_encoder(12))
    place = encoder(torch.zeros(2, 3, 12, 12)).grid[1, :, 30:]
    third = 2 / 3
    assert place[:, 0].tolist() == pytest.approx([-third, 0, third] * 3)
    assert place[:, 1].tolist() == pytest.approx([-third] * 3 + [0] * 3 + [third] * 3)
    assert place[4, 2:5].tolist() == pytest.approx([math.sin(math.pi / 4), 1, 0], abs=1e-6)  # x = 1/2
    assert len({tuple(row) for row in place.tolist()}) == 9
    assert place_code(torch.tensor([[0.2, 0.4, 0.1, 0.2]]), 0).tolist() == [pytest.approx([-0.5, 0.0])]


def test_what_the_encoder_says_stays_and_pooled_is_the_mean() -> None:
    plain = toy_encoder()
    encoder = DetailEncoder(plain)
    images = torch.randn(3, 3, 8, 8)
    found = encoder(images)
    assert found.grid.shape == (3, 4, encoder.dim) == (3, 4, 3 + ADDED)
    assert torch.equal(found.grid[:, :, :3], plain(images).grid)
    torch.testing.assert_close(found.pooled, found.grid.mean(1))
    torch.testing.assert_close(encoder(images[1:2]).grid[0], found.grid[1])  # a batch is its samples
    with pytest.raises(ValueError, match=r"shape \(B, 3, 8, 8\)"):
        encoder(torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize("level", [1, 2])
def test_tokens_of_crops_have_the_colours_of_their_tile(level: int) -> None:
    crops = CropEncoder(toy_encoder(), level)
    encoder = DetailEncoder(crops)
    size = crops.image_size
    pixels = torch.zeros(1, 3, size, size)
    pixels[0, 0, :, size // 2 :] = 1  # the right half is red
    grid = encoder(normalised(pixels, encoder)).grid
    assert grid.shape == (1, len(crops.boxes), encoder.dim)
    assert torch.equal(grid[..., :3], crops(normalised(pixels, encoder)).grid)
    right = crops.boxes[:, 0] + crops.boxes[:, 2] / 2 > 0.5
    assert ((grid[0, :, 3 + RED] > 0.5) == right).all()
    assert ((grid[0, :, 30] > 0) == right).all()
    assert layout(encoder) == (level, (2, 2)) and encoder.grid_size == crops.grid_size
    torch.testing.assert_close(grid[0, :, 30:], place_code(token_boxes(level, (2, 2))))


def test_it_is_frozen_or_learns_as_the_encoder_does() -> None:
    assert DetailEncoder(toy_encoder()).frozen
    learns = DetailEncoder(build_encoder("scenes_cnn", weights=None, image_size=32, freeze=False))
    learns(torch.rand(2, 3, 32, 32)).grid.sum().backward()
    assert not learns.frozen and all(p.grad is not None for p in learns.parameters())


def test_the_feature_cache_tells_it_from_the_plain_encoder(tmp_path: Path) -> None:
    records = []
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        records.append(Record(tmp_path / f"{i}.png", ()))
    plain = toy_encoder()
    encoder = DetailEncoder(plain)
    cached = [
        encode_records(e, records, tmp_path / "cache", flip=True, progress=False) for e in (plain, encoder)
    ]
    assert cached[0].directory != cached[1].directory
    again = encode_records(DetailEncoder(plain), records, tmp_path / "cache", flip=True, progress=False)
    assert again.directory == cached[1].directory
    transform = eval_transform(plain.preprocessing)
    images = torch.stack([transform(Image.open(record.path)) for record in records])
    assert np.abs(cached[1].grid - encoder(images).grid.numpy()).max() < 2e-3
    mirrored = cached[1].read(torch.arange(3), 1).grid
    torch.testing.assert_close(mirrored, encoder(images.flip(-1)).grid, atol=2e-3, rtol=0)


@pytest.mark.parametrize("level", [0, 2])
def test_a_checkpoint_rebuilds_it(tmp_path: Path, level: int) -> None:
    torch.manual_seed(0)
    encoder = DetailEncoder(build_crop_encoder("scenes_cnn", level, weights=None, image_size=64)).eval()
    assert backbone_name(encoder) == "scenes_cnn"
    options = {"max_labels": 2, "hidden_size": 8, "embedding_size": 4, "attention_size": 4}
    vocabulary = Vocabulary(["cat", "dog"])
    system = build("attention", vocabulary, encoder.dim, encoder=encoder, **options).eval()
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, system, encoder, name="attention", options=options, config={}, metrics={})
    found = load_checkpoint(path).system
    assert isinstance(found.encoder, DetailEncoder) and found.encoder.name == encoder.name
    nothing = torch.zeros(2, dtype=torch.int64)
    images = torch.randn(2, 3, 64, 64)
    batch = Batch(torch.arange(2), nothing[:, None] + 2, nothing, torch.zeros(2, 2), images=images)
    with torch.inference_mode():
        torch.testing.assert_close(found.features(batch).grid, system.features(batch).grid)
        torch.testing.assert_close(
            found.predict(batch).decoded.log_probability, system.predict(batch).decoded.log_probability
        )
