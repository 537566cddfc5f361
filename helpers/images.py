"""Opening images: whatever file a data set brings becomes an upright 8-bit RGB picture, or is refused by name.

Taught in notebook 01.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

# Formats a photograph comes in. A closed list, because Pillow also opens formats that start another program
# (EPS starts Ghostscript) or whose content says so little that a text file passes for an image (TGA).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

# Pillow's own limit for refusing a decompression bomb, as our own number: other libraries switch Pillow's off.
MAX_PIXELS = 178_956_970

_ORIENTATION_TAG = 0x0112
# EXIF orientation -> what turns the stored picture upright (1 is upright already).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_truncation_lock = threading.Lock()


class DataError(ValueError):
    """Bad input data. The message names the file, what was found and what to do about it."""


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image file as a viewer would show it: upright, 8-bit RGB, the first frame of an animation.

    The content decides the format, not the suffix (a PNG named .jpg opens). EXIF orientation is applied; grey,
    palette, CMYK and 16-bit files are converted, 16-bit grey by scaling (65535 becomes 255), never by clipping;
    transparent pixels are laid over white. Colour profiles are not applied. Taught in notebook 01.

    Args:
        path: the image file: JPEG, PNG, GIF, WebP, BMP, TIFF, PPM, JPEG 2000 or (where Pillow has it) AVIF.

    Returns:
        A PIL image in mode "RGB", independent of the file, with empty ``info`` (so nothing turns it twice).

    Raises:
        DataError: the file is missing, a folder, empty, cut short, damaged, not an image of these formats, has
            more than ``MAX_PIXELS`` pixels, or holds numbers without an agreed white (32-bit integer, float).
    """
    path = Path(path)
    _check_file(path)
    try:
        with path.open("rb") as file, Image.open(file, formats=_available_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path, f"{image.width}x{image.height} pixels")
            with _refuse_truncated():
                image.load()
            upright = _turn_upright(_to_rgb(image, path), _orientation(image))
    except (DataError, MemoryError):
        raise
    except PermissionError as error:
        raise DataError(
            f"{path}: may not be read ({error.strerror}). Change the file's permissions."
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"{path}: not an image, not even its header can be read; it starts with {_first_bytes(path)!r}. Expected one "
            f"of {', '.join(FORMATS)}. Save it as JPEG or PNG, or drop it from the annotations."
        ) from error
    except Exception as error:  # damaged files make decoders raise anything; none may end a run unnamed
        raise DataError(
            f"{path}: the image is damaged or cut short ({type(error).__name__}: {error}; {path.stat().st_size:,} "
            "bytes on disk). Copy or download it again, or drop it from the annotations."
        ) from error
    upright.info = {}
    return upright


def _check_file(path: Path) -> None:
    """Refuse what is not a file with something in it."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected an image file. Give the path of one image.")
    if not path.exists():
        if not path.parent.is_dir():
            found = f"the folder {path.parent} does not exist either. Check the image folder you gave"
        else:
            near = sorted(p.name for p in path.parent.iterdir() if p.stem.lower() == path.stem.lower())[:3]
            found = (
                f"the folder has {', '.join(near)}" if near else "the folder has no file of a similar name"
            )
            found += ". Mend the name in the annotations or put the image there"
        raise DataError(f"{path}: image not found; {found}.")
    if not path.is_file():
        raise DataError(f"{path}: is not an ordinary file (a device or a pipe), expected an image file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy or download it again, or drop it.")


def _available_formats() -> list[str]:
    """FORMATS that this build of Pillow can open (AVIF came with Pillow 11.3)."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _first_bytes(path: Path) -> bytes:
    """The start of a file, for a message: an HTML error page or a Git LFS pointer shows itself there."""
    with path.open("rb") as file:
        return file.read(24)


def _too_large(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: too large to open safely ({found}; the limit is {MAX_PIXELS:,} pixels). A small file that unpacks "
        "to this can be an attack on memory. If you trust it, save a smaller copy and use that."
    )


@contextmanager
def _refuse_truncated() -> Iterator[None]:
    """Have Pillow refuse files that are cut short, even where another library told it to fill them with grey."""
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        yield
        return
    with _truncation_lock:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none. Read after load(): TIFFs are turned by Pillow in load."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF data does not make the picture worse: a viewer shows it as stored
        return 1
    return value if isinstance(value, int) else 1


def _turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    # Not ImageOps.exif_transpose: it also writes the EXIF block anew and fails on blocks that cameras get wrong.
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Any Pillow mode to RGB: 16-bit scaled, transparency over white."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scale_16_bit(np.asarray(image), image.info.get("transparency"), path)
    if image.mode == "F":
        raise DataError(
            f"{path}: holds floating-point pixels, which have no agreed white. Save it as an 8- or 16-bit image."
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _scale_16_bit(pixels: np.ndarray, transparent: object, path: Path) -> Image.Image:
    """Grey values (H, W) in 0..65535 to RGB; Pillow's own convert would clip everything above 255 to white."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise DataError(
            f"{path}: holds 32-bit grey values ({low} to {high}), which have no agreed white. "
            "Save it as an 8- or 16-bit image."
        )
    wide = pixels.astype(np.uint32)
    if isinstance(transparent, int):
        wide = np.where(wide == transparent, 65535, wide)
    return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
