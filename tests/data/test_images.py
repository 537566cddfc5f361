"""Images: every odd file looks as in a viewer or is refused by name; preprocessing and augmentation."""

import io
import json
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from helpers.data import images
from helpers.data.images import (
    IMAGENET_MEAN,
    DataError,
    Preprocessing,
    denormalize,
    eval_transform,
    open_image,
    train_transform,
)

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def photograph(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth colour picture with detail, which JPEG keeps well."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 / width, y * 255 / height, 127 + 100 * np.sin(x / 9 + y / 5)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def grey16_png(values: np.ndarray, transparent: int | None = None) -> bytes:
    """A 16-bit grey PNG written by hand, so that the test does not lean on Pillow's own writer."""
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    marked = b"" if transparent is None else png_chunk(b"tRNS", struct.pack(">H", transparent))
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + marked + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def refused(path: Path | str, *words: str) -> None:
    """Opening fails with a DataError that names the file and has the words."""
    with pytest.raises(DataError) as caught:
        open_image(path)
    for word in (Path(path).name, *words):
        assert word in str(caught.value)


# ---- what opens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.JPEG", "x", "x.txt"])
def test_the_content_decides_not_the_suffix(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    photograph().save(path, format="PNG")
    image = open_image(str(path))
    path.unlink()  # the image does not hold the file
    assert image.mode == "RGB" and image.size == (64, 48)
    np.testing.assert_array_equal(pixels(image), pixels(photograph()))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000", "AVIF"])
def test_every_promised_format_opens(tmp_path: Path, format: str) -> None:
    wanted = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}.get(format)
    if wanted and not features.check(wanted):
        pytest.skip(f"this build of Pillow has no {format}")
    image = open_image(save(tmp_path / "x", photograph(), format=format))
    assert image.mode == "RGB"
    assert np.abs(pixels(image) - pixels(photograph())).mean() < 12  # lossy formats and GIF's palette


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "print.jpg"), ("L", "grey.png"), ("1", "line.png")])
def test_other_modes_become_rgb(tmp_path: Path, mode: str, name: str) -> None:
    source = photograph().convert(mode)
    image = open_image(save(tmp_path / name, source, quality=95))
    assert image.mode == "RGB"
    assert (
        np.abs(pixels(image) - pixels(source.convert("RGB"))).mean() < 6
    )  # a JPEG in CMYK is not a negative


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGBA", (0, 0, 0, 0), WHITE),  # clear black is white, not black
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (0, 0, 255, 128), (127, 127, 255)),
        ("LA", (0, 0), WHITE),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (0, 64), (191, 191, 191)),
    ],
)
def test_alpha_is_laid_over_white(tmp_path: Path, mode: str, value: tuple, expected: tuple) -> None:
    image = open_image(save(tmp_path / "a.png", Image.new(mode, (3, 3), value)))
    assert np.abs(np.array(image.getpixel((1, 1))) - np.array(expected)).max() <= 1


@pytest.mark.parametrize(
    ("name", "transparency", "expected"),
    [
        ("one.png", 1, [RED, WHITE, BLUE, BLACK]),
        ("one.gif", 3, [RED, GREEN, BLUE, WHITE]),
        ("levels.png", bytes([255, 0, 128, 255]), [RED, WHITE, (127, 127, 255), BLACK]),
        ("opaque.png", None, [RED, GREEN, BLUE, BLACK]),
    ],
)
def test_palettes(tmp_path: Path, name: str, transparency: int | bytes | None, expected: list) -> None:
    source = Image.new("P", (4, 1))
    source.putpalette([*RED, *GREEN, *BLUE, *BLACK])
    source.putdata([0, 1, 2, 3])
    options = {} if transparency is None else {"transparency": transparency}
    image = open_image(save(tmp_path / name, source, **options))
    assert [image.getpixel((x, 0)) for x in range(4)] == expected


@pytest.mark.parametrize("top", [65535, 1000, 255])
def test_16_bit_grey_png_is_scaled_not_clipped(tmp_path: Path, top: int) -> None:
    values = np.linspace(0, top, 256).astype(np.uint16).reshape(16, 16)
    (tmp_path / "deep.png").write_bytes(grey16_png(values))
    image = open_image(tmp_path / "deep.png")
    expected = np.round(values / 257).astype(int)  # 65535 / 255
    assert image.mode == "RGB"
    np.testing.assert_array_equal(pixels(image), np.stack([expected] * 3, axis=-1))


def test_16_bit_grey_in_other_files_and_byte_orders(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    expected = np.round(values / 257).astype(int)
    little = save(tmp_path / "little.tif", Image.fromarray(values))
    # Big-endian by hand: header, nine directory entries, one strip.
    strip = values.astype(">u2").tobytes()
    # size, bits, no compression, where the strip begins, its rows
    tags = (256, 257, 258, 259, 262, 273, 277, 278)
    entries = zip(tags, (16, 16, 16, 1, 1, 8 + 2 + 9 * 12 + 4, 1, 16), strict=True)
    big = tmp_path / "big.tif"
    body = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    body += struct.pack(">HHII", 279, 4, 1, len(strip))
    big.write_bytes(b"MM\0*" + struct.pack(">IH", 8, 9) + body + struct.pack(">I", 0) + strip)
    portable = tmp_path / "deep.pgm"
    portable.write_bytes(b"P5 16 16 65535\n" + strip)  # Pillow reads this one into mode "I"
    for path in (little, big, portable):
        np.testing.assert_array_equal(pixels(open_image(path))[..., 0], expected, err_msg=path.name)


def test_16_bit_grey_with_a_transparent_level(tmp_path: Path) -> None:
    (tmp_path / "t.png").write_bytes(grey16_png(np.array([[0, 30000, 65535]]), transparent=30000))
    assert [open_image(tmp_path / "t.png").getpixel((x, 0))[0] for x in range(3)] == [0, 255, 255]


def test_numbers_without_an_agreed_white_are_refused(tmp_path: Path) -> None:
    floats = Image.fromarray(np.ones((4, 4), np.float32))
    refused(save(tmp_path / "f.tif", floats), "floating-point", "16 bits")
    wide = Image.fromarray(np.array([[0, 70000]], dtype=np.int32))
    refused(save(tmp_path / "i.tif", wide), "32-bit", "70000", "16 bits")


# ---- upright -------------------------------------------------------------------------------------


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours of the four corners, each as the nearest of four: top left, top right, bottom left, bottom right."""
    width, height = image.size
    found = [
        np.array(image.getpixel(at))
        for at in [(2, 2), (width - 3, 2), (2, height - 3), (width - 3, height - 3)]
    ]
    return [
        min((RED, GREEN, BLUE, WHITE), key=lambda c: np.abs(value - np.array(c)).sum()) for value in found
    ]


# The picture as meant to be seen, and for each EXIF orientation how a camera stores it.
AS_STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("format", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, format: str) -> None:
    upright = np.zeros((40, 64, 3), dtype=np.uint8)
    upright[:20, :32], upright[:20, 32:], upright[20:, :32], upright[20:, 32:] = RED, GREEN, BLUE, WHITE
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(AS_STORED[orientation](upright)))
    image = open_image(save(tmp_path / f"turned.{format}", stored, exif=exif))
    assert image.size == (64, 40)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]
    assert image.getexif().get(0x0112, 1) == 1  # so that no one turns it again
    assert image.info == {}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    for number, block in enumerate([b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0"]):
        path = save(tmp_path / f"{number}.jpg", photograph(), exif=block)
        assert open_image(path).size == (64, 48)
    exif = Image.Exif()
    exif[0x0112] = 77
    assert open_image(save(tmp_path / "77.jpg", photograph(), exif=exif)).size == (64, 48)


# ---- animations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_several(tmp_path: Path, format: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "webp" else {}
    path = save(tmp_path / f"moving.{format}", frames[0], save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as check:
        assert check.n_frames == 3
    image = open_image(path)
    assert image.size == (20, 10)
    assert image.getpixel((5, 5)) == RED


# ---- what is refused -----------------------------------------------------------------------------


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.jpg", "found nothing", "similar name: none")
    save(tmp_path / "None.jpeg", photograph())
    refused(tmp_path / "none.jpg", "similar name: None.jpeg")
    refused(tmp_path / "nowhere" / "a.jpg", "found nothing")
    (tmp_path / "album.jpg").mkdir()
    refused(tmp_path / "album.jpg", "folder")


@pytest.mark.skipif(os.name == "nt", reason="links and pipes need rights on Windows")
def test_broken_link_and_pipe(tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    refused(tmp_path / "link.jpg", "found nothing")
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "device")  # and does not wait for it for ever


@pytest.mark.parametrize("content", [b"", b"just text\n", b"<html>404</html>", b"version https://git-lfs"])
def test_not_an_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fake.jpg").write_bytes(content)
    refused(tmp_path / "fake.jpg", "not an image", repr(content[:24]), "JPEG")


def test_formats_that_start_other_programs_are_not_even_tried(tmp_path: Path) -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with Image.open(io.BytesIO(script)) as check:
        assert check.format == "EPS"  # Pillow would hand it to Ghostscript
    (tmp_path / "trap.jpg").write_bytes(script)
    refused(tmp_path / "trap.jpg", "not an image")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_cut_short(tmp_path: Path, format: str, kept: float) -> None:
    buffer = io.BytesIO()
    noise(64, 48).save(buffer, format)
    path = tmp_path / "cut"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * kept)])
    refused(path, "" if kept == 0.1 else "download it again")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be enormous."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(999)))


@pytest.mark.parametrize("pillow_guards", [True, False])
def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillow_guards: bool) -> None:
    if not pillow_guards:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as other libraries do
    (tmp_path / "bomb.png").write_bytes(bomb(60_000, 60_000))
    refused(tmp_path / "bomb.png", "too large", f"{images.MAX_PIXELS:,}", "smaller copy")


@pytest.mark.skipif(
    os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root may read all"
)
def test_no_permission(tmp_path: Path) -> None:
    path = save(tmp_path / "locked.jpg", photograph())
    path.chmod(0)
    refused(path, "Permission denied")


CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=6
)


@pytest.mark.filterwarnings("ignore::Warning")
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), CHANGES, st.floats(0, 1))
def test_whatever_is_wrong_it_opens_or_is_refused_by_name(
    tmp_path: Path, format: str, changes, kept: float
) -> None:
    buffer = io.BytesIO()
    photograph(24, 16).save(buffer, format)
    content = bytearray(buffer.getvalue())
    for place, value in changes:
        start = int(place * len(content))
        content[start : start + len(value)] = value
    path = tmp_path / "damaged.jpg"
    path.write_bytes(content[: int(len(content) * kept)])
    try:
        image = open_image(path)
    except DataError as error:
        assert "damaged.jpg" in str(error)
    else:
        assert image.mode == "RGB" and image.width > 0


# ---- from picture to tensor ----------------------------------------------------------------------

PLAIN = Preprocessing(size=32, mean=(0, 0, 0), std=(1, 1, 1))  # what comes out is the picture in 0..1


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (32, 32), (1, 1), (7, 300)])
def test_any_picture_becomes_a_float_square(size: tuple[int, int]) -> None:
    for transform in (eval_transform(PLAIN), train_transform(PLAIN, randaugment=True, cutout=0.25)):
        image = transform(noise(*size))
        assert type(image) is torch.Tensor  # a plain one, not a tv_tensor, which would leak into the models
        assert (image.dtype, image.shape) == (torch.float32, (3, 32, 32)) and torch.isfinite(image).all()


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


@settings(max_examples=20)
@given(
    st.tuples(*[st.floats(0, 1)] * 3),
    st.tuples(*[st.floats(0.05, 2)] * 3),
    st.lists(st.integers(0, 3), max_size=2),
)
def test_denormalize_undoes_the_transform(mean: tuple, std: tuple, lead: list[int]) -> None:
    preprocessing = Preprocessing(16, mean, std)
    picture = noise(16, 16)
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


BAD_SETTINGS = {"size": 0}, {"size": 2.5}, {"size": True}, {"mean": (0.5, 0.5)}, {"std": (1, 1, 0)}


@pytest.mark.parametrize("changes", [*BAD_SETTINGS, {"interpolation": "sinc"}])
def test_bad_settings_are_named(changes: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
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
    torch.testing.assert_close(train_transform(PLAIN, horizontal_flip=0.0)(picture), plain)
    default = train_transform(PLAIN)
    flipped = sum(not torch.equal(default(picture), plain) for _ in range(400))
    assert 150 < flipped < 250  # five standard deviations about 200


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


BAD_OPTIONS = [{"cutout": x} for x in (-0.1, 0.001, 0.99, 1.0, 2.0)]


@pytest.mark.parametrize("options", [*BAD_OPTIONS, {"horizontal_flip": 1.5}, {"vertical_flip": -0.1}])
def test_bad_options_and_a_cutout_that_would_do_nothing_are_named(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        train_transform(PLAIN, **options)


def test_augmentation_repeats_with_the_seed_and_varies_without() -> None:
    transform = train_transform(PLAIN, vertical_flip=0.5, randaugment=True, cutout=0.3)
    picture = noise(60, 40)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([transform(picture) for _ in range(4)])

    first = draw(0)
    torch.testing.assert_close(draw(0), first)
    copy = pickle.loads(pickle.dumps(transform))  # as Windows and macOS start their workers
    assert copy(picture).shape == (3, 32, 32)
    assert not torch.equal(draw(1), first)
    assert not torch.equal(first[0], first[1])
