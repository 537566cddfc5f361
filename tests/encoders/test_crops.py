"""Wrappers: every pixel is in its tile, colours and places are those of the cells, and the cache tells them apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from helpers.data.batches import Batch
from helpers.data.images import Preprocessing, eval_transform
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.encoders.backbones import Backbone
from helpers.encoders.cache import FeatureDataset, encode_records
from helpers.encoders.crops import (
    CropEncoder,
    DetailEncoder,
    backbone_name,
    build_crop_encoder,
    colour_shares,
    cut,
    layout,
    num_views,
    on_image,
    place_code,
    token_boxes,
)
from helpers.encoders.encoder import Encoder
from helpers.systems.registry import build
from helpers.training.checkpoints import load_checkpoint, save_checkpoint

CELL = 4  # pixels per cell of the toy encoder
RED, GREEN, BLUE, GREY, WHITE = 18, 6, 2, 13, 26  # of 27: 9 * red + 3 * green + blue, each 0, 1 or 2
ADDED = 27 + 14
few = settings(max_examples=25)


def toy_encoder(size: int = 8, *, mean=(0, 0, 0), std=(1, 1, 1)) -> Encoder:
    """An encoder whose cells are the mean colours of their 4x4 pixels: its features can be computed by hand."""
    trunk = nn.Conv2d(3, 3, CELL, stride=CELL, bias=False)
    with torch.no_grad():
        trunk.weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, CELL, CELL) / CELL**2)
    preprocessing = Preprocessing(size=size, mean=mean, std=std)
    return Encoder("toy", Backbone(trunk, lambda net, images: net(images), preprocessing))


def odd_encoder(size: int = 8) -> Encoder:
    """The toy encoder, normalised as no other network does it."""
    return toy_encoder(size, mean=(0.2, 0.4, 0.6), std=(0.3, 0.5, 0.7))


def normalised(pixels: Tensor, encoder) -> Tensor:
    """Pixels (B, 3, H, W) in 0..1 as the encoder gets them."""
    p = encoder.preprocessing
    return (pixels - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Five pictures of coloured noise."""
    result = []
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        result.append(Record(tmp_path / f"{i}.png", ("tree",) * (i % 2)))
    return result


# --- crops -----------------------------------------------------------------------------------------------------


def patch_mean(image: Tensor, box: Tensor) -> Tensor:
    """The mean colour (3,) of a box (x, y, width, height) in pixels, whole numbers."""
    x, y, width, height = (round(v) for v in box.tolist())
    return image[:, y : y + height, x : x + width].mean((1, 2))


@few
@given(level=st.integers(0, 3), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_token_sees_exactly_its_box(level: int, columns: int, seed: int) -> None:
    """A random picture is the planted pattern: a token must be the mean colour of the pixels under its box."""
    encoder = CropEncoder(toy_encoder(CELL * columns), level)
    size = encoder.image_size
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    grid = encoder(image).grid
    boxes = token_boxes(level, encoder.cells, (size, size))
    assert grid.shape == (2, len(boxes), 3) and len(boxes) == num_views(level) * columns**2
    tiles = len(boxes) - columns**2
    for b in range(2):
        for token, box in list(zip(grid[b], boxes, strict=True))[:tiles]:
            assert torch.allclose(token, patch_mean(image[b], box), atol=1e-5)


@few
@given(level=st.integers(1, 3), columns=st.integers(1, 3))
def test_the_whole_view_sees_the_whole_image(level: int, columns: int) -> None:
    """Light up what a token of the whole view covers: that token, and no other of its view, is bright."""
    encoder = CropEncoder(toy_encoder(CELL * columns), level)
    size, count = encoder.image_size, columns**2
    boxes = token_boxes(level, encoder.cells, (size, size))[-count:]
    images = torch.zeros(count, 3, size, size)
    for image, (x, y, width, height) in zip(images, boxes.round().int().tolist(), strict=True):
        image[:, y : y + height, x : x + width] = 1.0
    seen = encoder(images).grid[:, -count:].mean(2)  # (lit box, token)
    assert (seen.diagonal() > 0.75).all()
    assert (seen - seen.diagonal().diag()).max() < 0.25  # the filter of the resize blurs over the edge


@few
@given(
    level=st.integers(1, 3),
    size=st.integers(7, 40),
    corner=st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]),
)
def test_no_pixel_is_dropped_whatever_the_size(level: int, size: int, corner: tuple[int, int]) -> None:
    """A bright pixel planted in a corner is in the tile of that corner, and in no other."""
    tile = 8
    image = torch.zeros(1, 3, size, size)
    image[..., -corner[0], -corner[1]] = 1.0  # 0 is the first row or column, -1 the last
    views = cut(image, level, tile)
    assert views.shape == (1, num_views(level), 3, tile, tile)
    bright = views[0, :-1].flatten(1).sum(1).view(level, level)
    assert bright[-corner[0], -corner[1]] > 0
    assert bright.count_nonzero() == 1 or size < 2 * level  # tiles of one pixel blend into each other
    assert views[0, -1].sum() > 0
    if size % level:  # the published cut, which stops at level * (size // level)
        side = size // level
        assert corner == (0, 0) or image[..., : side * level, : side * level].sum() == 0


def test_tiles_run_row_by_row_and_are_the_pixels_themselves() -> None:
    image = torch.arange(3 * 36, dtype=torch.float32).view(1, 3, 6, 6)
    views = cut(image, 2, 3)
    expected = [image[..., :3, :3], image[..., :3, 3:], image[..., 3:, :3], image[..., 3:, 3:]]
    assert torch.equal(views[:, :4], torch.stack(expected, 1))


def test_one_pass_equals_a_pass_a_view() -> None:
    encoder = CropEncoder(toy_encoder(), 3)
    calls = []
    encoder.encoder.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    images = torch.rand(2, 3, 24, 24)
    together = encoder(images).grid
    assert calls == [20], "ten views of two images are one batch"
    views = cut(images, 3, 8)
    one_by_one = [encoder.encoder(views[:, v]).grid for v in range(10)]
    assert torch.allclose(together, torch.cat(one_by_one, 1), atol=1e-6)
    assert torch.allclose(encoder(images[1:]).grid[0], together[1], atol=1e-6)


@few
@given(level=st.integers(0, 3), h=st.integers(1, 3), w=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_map_of_the_image_keeps_every_weight_in_its_place(level: int, h: int, w: int, seed: int) -> None:
    """Against painting box after box on a fine canvas."""
    boxes = token_boxes(level, (h, w), (w * max(level, 1), h * max(level, 1)))
    weights = torch.rand(2, len(boxes), generator=torch.Generator().manual_seed(seed))
    found = on_image(weights, level, (h, w))
    canvas = torch.zeros(2, h * max(level, 1), w * max(level, 1))
    for i, (x, y, width, height) in enumerate(boxes.round().int().tolist()):
        canvas[:, y : y + height, x : x + width] += (weights[:, i] / (width * height))[:, None, None]
    assert torch.allclose(found, canvas, atol=1e-6)
    assert torch.allclose(found.sum((1, 2)), weights.sum(1), atol=1e-5)


def test_boxes_cover_the_image_once_in_every_layer() -> None:
    boxes = token_boxes(2, (2, 3), (640, 480))
    assert boxes[:24].prod(1).isfinite().all()
    areas = boxes[:, 2] * boxes[:, 3]
    assert areas[:24].sum() == pytest.approx(640 * 480)
    assert areas[24:].sum() == pytest.approx(640 * 480)
    assert boxes[5].tolist() == pytest.approx(
        [640 / 3, 120, 640 / 6, 120]
    )  # tile 0, second row, third column
    assert boxes[24 + 4].tolist() == pytest.approx([640 / 3, 240, 640 / 3, 240])


def test_level_one_is_the_image_twice_and_level_zero_the_plain_encoder() -> None:
    images = torch.rand(2, 3, 8, 8)
    once, twice = CropEncoder(toy_encoder(), 0)(images), CropEncoder(toy_encoder(), 1)(images)
    assert torch.equal(once.grid, toy_encoder()(images).grid)
    assert torch.equal(twice.grid, once.grid.repeat(1, 2, 1))
    plain = build_crop_encoder("scenes_cnn", 0, weights=None, image_size=64)
    assert type(plain) is Encoder and layout(plain) == (0, (4, 4))
    crops = build_crop_encoder("scenes_cnn", 2, weights=None, image_size=128)
    assert layout(crops) == (2, (4, 4)) and crops.encoder.image_size == 64 and crops.image_size == 128
    assert crops.grid_size == (20, 4)
    assert build_crop_encoder("scenes_cnn", 3, weights=None).image_size == 3 * 128


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="level is -1"):
        num_views(-1)
    with pytest.raises(ValueError, match=r"shape \(B, 3, 16, 16\)"):
        CropEncoder(toy_encoder(), 2)(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="20 tokens"):
        on_image(torch.rand(4), 2, (2, 2))


# --- details ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "rows", "columns", "seed"), [(2, 1, 3, 0), (3, 2, 2, 1), (4, 1, 1, 2)])
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
    encoder = DetailEncoder(odd_encoder())
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
    encoder = DetailEncoder(odd_encoder(12))
    place = encoder(torch.zeros(2, 3, 12, 12)).grid[1, :, 30:]
    third = 2 / 3
    assert place[:, 0].tolist() == pytest.approx([-third, 0, third] * 3)
    assert place[:, 1].tolist() == pytest.approx([-third] * 3 + [0] * 3 + [third] * 3)
    assert place[4, 2:5].tolist() == pytest.approx([math.sin(math.pi / 4), 1, 0], abs=1e-6)  # x = 1/2
    assert len({tuple(row) for row in place.tolist()}) == 9
    assert place_code(torch.tensor([[0.2, 0.4, 0.1, 0.2]]), 0).tolist() == [pytest.approx([-0.5, 0.0])]


def test_what_the_encoder_says_stays_and_pooled_is_the_mean() -> None:
    plain = odd_encoder()
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
    crops = CropEncoder(odd_encoder(), level)
    encoder = DetailEncoder(crops)
    size = crops.image_size
    pixels = torch.zeros(1, 3, size, size)
    pixels[0, 0, :, size // 2 :] = 1  # the right half is red
    grid, boxes = encoder(normalised(pixels, encoder)).grid, token_boxes(level, (2, 2))
    assert grid.shape == (1, len(boxes), encoder.dim)
    assert torch.equal(grid[..., :3], crops(normalised(pixels, encoder)).grid)
    right = boxes[:, 0] + boxes[:, 2] / 2 > 0.5
    assert ((grid[0, :, 3 + RED] > 0.5) == right).all()
    assert ((grid[0, :, 30] > 0) == right).all()
    assert layout(encoder) == (level, (2, 2)) and encoder.grid_size == crops.grid_size
    torch.testing.assert_close(grid[0, :, 30:], place_code(boxes))


# --- both ------------------------------------------------------------------------------------------------------


def test_the_feature_cache_keeps_the_tokens_and_tells_encoders_apart(records, tmp_path: Path) -> None:
    sizes = [(0, None), (1, None), (2, None), (2, 20), (1, 16)]
    encoders = [CropEncoder(odd_encoder(), level, image_size=size) for level, size in sizes]
    # Views of another size are other features, also where the images have the same size.
    encoders += [CropEncoder(odd_encoder(16), 1, image_size=16), DetailEncoder(odd_encoder())]
    folders = set()
    for encoder in encoders:
        cached = encode_records(encoder, records, tmp_path / "cache", flip=True, progress=False)
        transform = eval_transform(encoder.preprocessing)
        images = torch.stack([transform(Image.open(record.path)) for record in records])
        expected = encoder(images)
        assert np.abs(cached.grid - expected.grid.numpy()).max() < 2e-3
        assert np.abs(cached.pooled - expected.pooled.numpy()).max() < 2e-3
        mirrored = cached.read(torch.arange(5), 1)
        torch.testing.assert_close(mirrored.grid, encoder(images.flip(-1)).grid, atol=2e-3, rtol=0)
        folders.add(cached.directory)
        batch = FeatureDataset(cached, records, Vocabulary(["tree"])).__getitems__([3, 1])
        assert batch.features.grid.shape == (2, math.prod(encoder.grid_size), encoder.dim)
    assert len(folders) == len(encoders)
    again = encode_records(
        DetailEncoder(odd_encoder()), records, tmp_path / "cache", flip=True, progress=False
    )
    assert again.directory in folders


@pytest.mark.parametrize("details", [False, True])
def test_it_is_frozen_or_learns_as_the_encoder_does(details: bool) -> None:
    def encoder(freeze: bool):
        crops = build_crop_encoder("scenes_cnn", 2, weights=None, image_size=64, freeze=freeze)
        return DetailEncoder(crops) if details else crops

    frozen, learns = encoder(True).train(), encoder(False)
    assert frozen.frozen and not any(m.training for m in frozen.modules() if isinstance(m, nn.BatchNorm2d))
    learns(torch.rand(2, 3, 64, 64)).grid.sum().backward()
    assert not learns.frozen and all(p.grad is not None for p in learns.parameters())


@pytest.mark.parametrize("level", [0, 2])
def test_a_checkpoint_rebuilds_it(tmp_path: Path, level: int) -> None:
    torch.manual_seed(0)
    encoder = DetailEncoder(build_crop_encoder("scenes_cnn", level, weights=None, image_size=64)).eval()
    assert backbone_name(encoder) == "scenes_cnn"
    options = {"max_labels": 2, "hidden_size": 8, "embedding_size": 4, "attention_size": 4}
    vocabulary = Vocabulary(["cat", "dog"])
    system = build("attention", vocabulary, encoder.dim, encoder=encoder, **options).eval()
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, system, encoder, config={}, metrics={})
    found = load_checkpoint(path).system
    assert isinstance(found.encoder, DetailEncoder) and found.encoder.name == encoder.name
    nothing = torch.zeros(2, dtype=torch.int64)
    images = torch.randn(2, 3, 64, 64)
    batch = Batch(torch.arange(2), nothing[:, None] + 2, nothing, torch.zeros(2, 2), images=images)
    with torch.inference_mode():
        torch.testing.assert_close(found.features(batch).grid, system.features(batch).grid)
        torch.testing.assert_close(
            found.predict(found.features(batch)).decoded.log_probability,
            system.predict(system.features(batch)).decoded.log_probability,
        )
