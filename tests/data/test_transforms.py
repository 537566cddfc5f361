"""Preprocessing and augmentation."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.data.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    Preprocessing,
    denormalize,
    eval_transform,
    train_transform,
)

PLAIN = Preprocessing(size=32, mean=(0, 0, 0), std=(1, 1, 1))  # what comes out is the picture in 0..1


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (32, 32), (1, 1), (7, 300)])
def test_any_picture_becomes_a_float_square(size: tuple[int, int]) -> None:
    for transform in (eval_transform(PLAIN), train_transform(PLAIN, randaugment=True, cutout=0.25)):
        image = transform(noise(*size))
        assert type(image) is torch.Tensor  # a plain one, not a tv_tensor, which would leak into the models
        assert image.dtype == torch.float32
        assert image.shape == (3, 32, 32)
        assert torch.isfinite(image).all()


def test_values_are_those_of_the_formula() -> None:
    picture = noise(32, 32)
    expected = np.asarray(picture, dtype=np.float64) / 255
    expected = (expected - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    image = eval_transform(Preprocessing(size=32))(picture)
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_equal_to_the_preprocessing_published_with_torchvision_weights() -> None:
    from torchvision.models import MobileNet_V2_Weights

    published = MobileNet_V2_Weights.IMAGENET1K_V1.transforms(crop_size=64, resize_size=64, antialias=True)
    picture = noise(64, 64)  # square already, so that its centre crop and our squashing do the same
    torch.testing.assert_close(eval_transform(Preprocessing(size=64))(picture), published(picture))


def test_the_border_of_a_wide_picture_stays_in_view() -> None:
    picture = Image.new("RGB", (320, 32), "black")
    picture.paste("white", (0, 0, 40, 32))  # something at the far left, which a centre crop would lose
    image = eval_transform(PLAIN)(picture)
    assert image[:, :, 0].min() > 0.9
    assert image[:, :, -1].max() < 0.1
    assert image.mean() == pytest.approx(40 / 320, abs=0.01)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_shrinking_is_antialiased(interpolation: str) -> None:
    board = Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    image = eval_transform(Preprocessing(32, (0, 0, 0), (1, 1, 1), interpolation))(board)
    # A checkerboard of single pixels is grey from afar; without antialiasing, samples are black or white.
    assert (image[:, 2:-2, 2:-2] - 0.5).abs().max() < 0.05


def test_interpolation_matters_and_is_used() -> None:
    outputs = [
        eval_transform(Preprocessing(32, (0, 0, 0), (1, 1, 1), name))(noise(50, 50))
        for name in INTERPOLATIONS
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


@settings(max_examples=30, deadline=None)
@given(
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.05, 2)] * 3),
    lead=st.lists(st.integers(0, 3), max_size=2),
    seed=st.integers(0, 99),
)
def test_denormalize_undoes_the_transform(mean: tuple, std: tuple, lead: list[int], seed: int) -> None:
    preprocessing = Preprocessing(16, mean, std)
    picture = noise(16, 16, seed)
    seen = eval_transform(preprocessing)(picture).expand(*lead, 3, 16, 16)
    shown = denormalize(seen, preprocessing)
    original = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255  # (H, W, 3) -> (3, H, W)
    assert shown.shape == seen.shape
    torch.testing.assert_close(shown, original.expand(*lead, 3, 16, 16), atol=1e-5, rtol=0)


def test_denormalize_stays_in_range_and_names_a_wrong_shape() -> None:
    shown = denormalize(torch.randn(2, 3, 4, 4) * 10, Preprocessing())
    assert shown.min() == 0
    assert shown.max() == 1
    with pytest.raises(ValueError, match=r"\(4, 4, 3\)"):
        denormalize(torch.zeros(4, 4, 3), Preprocessing())


def test_settings_survive_json() -> None:
    preprocessing = Preprocessing(288, (0.1, 0.2, 0.3), (1.0, 0.5, 0.25), "bicubic")
    back = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
    assert back == preprocessing
    assert hash(back) == hash(preprocessing)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 0}, "size"),
        ({"size": 2.5}, "size"),
        ({"size": True}, "size"),
        ({"mean": (0.5, 0.5)}, "mean"),
        ({"std": (1, 1, 0)}, "std"),
        ({"interpolation": "sinc"}, "interpolation"),
    ],
)
def test_bad_settings_are_named(changes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Preprocessing(**changes)


def test_settings_of_another_version_are_refused() -> None:
    settings = Preprocessing().to_dict()
    with pytest.raises(ValueError, match="crop"):
        Preprocessing.from_dict({**settings, "crop": 0.875})
    del settings["std"]
    with pytest.raises(ValueError, match="std"):
        Preprocessing.from_dict(settings)


def test_flips_do_what_they_say_as_often_as_they_say() -> None:
    picture = noise(32, 32)
    plain = eval_transform(PLAIN)(picture)
    mirrored = train_transform(PLAIN, horizontal_flip=1.0)(picture)
    torch.testing.assert_close(mirrored, plain.flip(-1))
    upside_down = train_transform(PLAIN, horizontal_flip=0.0, vertical_flip=1.0)(picture)
    torch.testing.assert_close(upside_down, plain.flip(-2))
    default = train_transform(PLAIN)
    flipped = sum(not torch.equal(default(picture), plain) for _ in range(400))
    assert 150 < flipped < 250  # five standard deviations about 200


def test_all_changes_off_is_evaluation() -> None:
    picture = noise(50, 40)
    torch.testing.assert_close(
        train_transform(PLAIN, horizontal_flip=0.0)(picture), eval_transform(PLAIN)(picture)
    )


@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.5, 0.9])
def test_cutout_is_one_square_hole_of_the_mean_colour_in_every_image(fraction: float) -> None:
    preprocessing = Preprocessing(size=32)
    transform = train_transform(preprocessing, horizontal_flip=0.0, cutout=fraction)
    side = round(fraction * 32)
    corners = set()
    for _ in range(20):
        hole = (transform(Image.new("RGB", (32, 32), "white")) == 0).all(0)  # (3, H, W) -> (H, W)
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert hole.sum() == side * side
        assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == side
        corners.add((int(rows.min()), int(columns.min())))
    assert len(corners) > 5  # it moves
    shown = denormalize(torch.zeros(3, 1, 1), preprocessing).flatten()
    torch.testing.assert_close(shown, torch.tensor(IMAGENET_MEAN))


@pytest.mark.parametrize("fraction", [-0.1, 0.001, 0.99, 1.0, 2.0])
def test_a_cutout_that_would_do_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="cutout"):
        train_transform(PLAIN, cutout=fraction)


def test_random_crop_keeps_at_least_the_share_asked_for() -> None:
    # Red grows from left to right and green from top to bottom, so their ranges tell what a crop kept.
    ramp = np.zeros((256, 256, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(256)[None, :], np.arange(256)[:, None]
    transform = train_transform(PLAIN, horizontal_flip=0.0, random_resized_crop=0.5)
    shares = []
    for _ in range(50):
        image = transform(Image.fromarray(ramp))
        width, height = (float(image[c].max() - image[c].min()) for c in (0, 1))
        shares.append(width * height)
    assert 0.42 < min(shares) < 0.75  # half, less the antialiased border
    assert max(shares) > 0.75


@pytest.mark.parametrize(
    "options",
    [
        {"horizontal_flip": 1.5},
        {"vertical_flip": -0.1},
        {"random_resized_crop": 0.0},
        {"random_resized_crop": 1.2},
    ],
)
def test_bad_options_are_named(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        train_transform(PLAIN, **options)


def test_augmentation_repeats_with_the_seed_and_varies_without() -> None:
    transform = train_transform(
        PLAIN, vertical_flip=0.5, randaugment=True, cutout=0.3, random_resized_crop=0.6
    )
    picture = noise(60, 40)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([transform(picture) for _ in range(4)])

    first = draw(0)
    torch.testing.assert_close(draw(0), first)
    assert not torch.equal(draw(1), first)
    assert not torch.equal(first[0], first[1])


def test_transforms_travel_to_worker_processes() -> None:
    transform = train_transform(PLAIN, randaugment=True, cutout=0.3, random_resized_crop=0.6)
    copy = pickle.loads(pickle.dumps(transform))  # as Windows and macOS start their workers
    assert copy(noise(20, 20)).shape == (3, 32, 32)
