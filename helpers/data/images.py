"""From an image file to a tensor: opening, the preprocessing a network expects, augmentations for training.

The transforms are torchvision's v2, whose random numbers come from torch: `torch.manual_seed` fixes them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

# Formats a photograph comes in. A closed list, because Pillow also opens formats that start another program
# (EPS starts Ghostscript) or whose content says so little that a text file passes for an image (TGA).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

# Pillow's limit for refusing a decompression bomb, as our own number: other libraries switch Pillow's off.
MAX_PIXELS = 178_956_970

# EXIF orientation -> what turns the stored picture upright (1 is upright already).
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DataError(ValueError):
    """Bad input data. The message names the file, what was found and what to do about it."""


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image file as a viewer would show it: upright, 8-bit RGB, the first frame of an animation.

    The content decides the format, not the suffix. EXIF orientation is applied. Grey, palette, CMYK and
    16-bit files are converted, 16-bit grey by scaling, never by clipping; transparent pixels are laid over
    white. Colour profiles are not applied. The image does not hold the file, and its `info` is empty, so that
    nothing turns it twice.

    Raises DataError where the file is missing, a folder, empty, cut short, damaged, in none of `FORMATS`, has
    more than `MAX_PIXELS` pixels, or holds numbers without an agreed white (32-bit integer, float).
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder or a device" if path.exists() else "nothing"
        near = sorted(p.name for p in path.parent.glob("*") if p.stem.lower() == path.stem.lower())
        raise DataError(
            f"{path}: expected an image file, found {found}; files of a similar name: "
            f"{', '.join(near[:3]) or 'none'}. Correct the name in the annotations, or put the image there."
        )
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF came with Pillow 11.3
    try:
        with Image.open(path, formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
            image.load()
            orientation = _orientation(image)
            upright = _to_rgb(image, path)
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: too large to open safely ({error}; the limit is {MAX_PIXELS:,} pixels): it can be an "
            "attack on memory. If you trust it, save a smaller copy and use that."
        ) from error
    except Image.UnidentifiedImageError as error:
        with path.open("rb") as file:
            start = file.read(24)  # an HTML error page or a Git LFS pointer shows itself there
        raise DataError(
            f"{path}: not an image; it starts with {start!r}. Expected one of {', '.join(FORMATS)}. Save it "
            "as JPEG or PNG, or drop it from the annotations."
        ) from error
    except Exception as error:  # damaged files make decoders raise anything; none may end a run unnamed
        raise DataError(
            f"{path}: cannot be read as an image ({type(error).__name__}: {error}); it may be damaged or "
            "cut short. Copy or download it again, or drop it from the annotations."
        ) from error
    # Not ImageOps.exif_transpose: it also rewrites the EXIF block and fails on blocks that cameras get wrong.
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    upright.info = {}
    return upright


def _orientation(image: Image.Image) -> object:
    """The EXIF orientation, 1 to 8, if any. Read after load(), in which Pillow turns TIFFs itself."""
    try:
        return image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # broken EXIF data does not make the picture worse: a viewer shows it as stored
        return None


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Any Pillow mode to RGB: 16-bit scaled, transparency over white."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scale_16_bit(np.asarray(image), image.info.get("transparency"), path)
    if image.mode == "F":
        raise DataError(
            f"{path}: holds floating-point pixels without an agreed white. Save it in 8 or 16 bits."
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _scale_16_bit(pixels: np.ndarray, transparent: object, path: Path) -> Image.Image:
    """Grey values (H, W) in 0..65535 to RGB; Pillow's convert would clip everything above 255 to white."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise DataError(
            f"{path}: holds 32-bit grey ({low} to {high}) without an agreed white. Save it in 8 or 16 bits."
        )
    wide = pixels.astype(np.uint32)
    if isinstance(transparent, int):
        wide = np.where(wide == transparent, 65535, wide)
    return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")


# What torchvision's ImageNet models were trained with, for RGB in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its images: each has its own, kept with its weights and in the feature cache's key.

    Images are *squashed* to a square of `size` pixels: nothing is cut off, because what is at the edge has
    its label, too.
    mean, std: per channel (red, green, blue), for values in 0..1; (0, 0, 0) and (1, 1, 1) leave them as they
    are, which TResNet expects. interpolation: one of `INTERPOLATIONS`, always antialiased. Wrong values raise
    ValueError.
    """

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists come from JSON and from timm; tuples make equal settings equal
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name} is {getattr(self, name)}, expected three numbers: red, green, blue")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size is {self.size!r}, expected the side of a square in pixels, such as 224")
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std}, expected positive numbers; (1, 1, 1) changes nothing")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is {self.interpolation!r}, expected one of {INTERPOLATIONS}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return {key: list(x) if isinstance(x, tuple) else x for key, x in asdict(self).items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Settings from `to_dict`, read back. Raises ValueError for a missing or an unknown key."""
        expected = {field.name for field in fields(cls)}
        if set(settings) != expected:
            raise ValueError(f"preprocessing has the keys {sorted(settings)}, expected {sorted(expected)}")
        return cls(**settings)


def eval_transform(preprocessing: Preprocessing) -> v2.Compose:
    """PIL RGB image of any size -> float32 (3, size, size), nothing random: for evaluation and the cache."""
    return v2.Compose([_squash(preprocessing), *_to_tensor(preprocessing)])


def train_transform(
    preprocessing: Preprocessing,
    *,
    horizontal_flip: float = 0.5,
    vertical_flip: float = 0.0,
    randaugment: bool = False,
    cutout: float = 0.0,
) -> v2.Compose:
    """`eval_transform` with random changes that leave the labels true.

    horizontal_flip: probability of mirroring left and right. 0 where left and right are labels.
    vertical_flip: probability of turning upside down; for pictures without an up, such as aerial ones.
    randaugment: two random changes of colour or geometry per image, at the published magnitude 9 (Cubuk et
        al., RandAugment, NeurIPS 2020); what a change of geometry uncovers gets the mean colour.
    cutout: side of one square hole as a fraction of the image's side, 0 for none (DeVries and Taylor, 2017,
        with the whole square inside the image). The hole has the mean colour. It may hide a small object
        whose label stays.

    Raises ValueError for a probability or fraction outside its range.
    """
    for name, value in (("horizontal_flip", horizontal_flip), ("vertical_flip", vertical_flip)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}, expected a probability from 0 to 1")
    steps: list[torch.nn.Module] = [_squash(preprocessing)]
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(horizontal_flip))
    if vertical_flip:
        steps.append(v2.RandomVerticalFlip(vertical_flip))
    if randaugment:  # after the resize: its cost and its shifts do not depend on the photograph's size
        mean_colour = [round(255 * value) for value in preprocessing.mean]
        steps.append(v2.RandAugment(interpolation=InterpolationMode.BILINEAR, fill=mean_colour))
    steps += _to_tensor(preprocessing)
    if cutout:
        # A square hole of one size: random erasing with its ranges closed. It gives up without a word on a
        # hole as large as the image or smaller than a pixel.
        if not 0 < cutout < 1 or not 1 <= round(cutout * preprocessing.size) < preprocessing.size:
            raise ValueError(
                f"cutout is {cutout}, expected 0 or a fraction of the side that leaves a hole of at least "
                f"one pixel and less than the whole image of {preprocessing.size} pixels, such as 0.25"
            )
        steps.append(v2.RandomErasing(p=1.0, scale=(cutout**2, cutout**2), ratio=(1.0, 1.0), value=0.0))
    return v2.Compose(steps)


def denormalize(images: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Undo the normalisation, to show what the network saw: float (..., 3, H, W) -> the same, in [0, 1]."""
    if images.dim() < 3 or images.shape[-3] != 3:
        raise ValueError(f"images have the shape {tuple(images.shape)}, expected (..., 3, H, W)")
    mean = images.new_tensor(preprocessing.mean).view(3, 1, 1)  # (3,) -> (3, 1, 1), to broadcast over H and W
    std = images.new_tensor(preprocessing.std).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)


def _squash(preprocessing: Preprocessing) -> v2.Resize:
    size = [preprocessing.size] * 2  # two numbers: a single one would keep the aspect ratio
    return v2.Resize(size, InterpolationMode(preprocessing.interpolation), antialias=True)


def _to_tensor(preprocessing: Preprocessing) -> list[torch.nn.Module]:
    return [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(preprocessing.mean), list(preprocessing.std)),
        v2.ToPureTensor(),
    ]
