"""Reader of Flickr8k, which has captions and no labels, in both of its public layouts. Taught in notebook 07."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from helpers.images import DataError
from helpers.records import Reading, Record, find_images, near, read_text

TOKEN_FILE, CSV_FILE = "Flickr8k.token.txt", "captions.txt"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
IMAGE_FOLDERS = ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "images")  # the official name is misspelt
# The one name in the official token file that no image has.
_STRAY = "2258277193_586949ec62.jpg.1"


def captions_file(folder: Path) -> Path | None:
    """The captions of a Flickr8k folder: the official token file, else the CSV; None where there is neither.

    Any file may be called captions.txt: it counts only where a folder of images or a fitting header goes with it.
    """
    for base in (folder, folder / "Flickr8k_text"):
        if (base / TOKEN_FILE).is_file():
            return base / TOKEN_FILE
    path = folder / CSV_FILE
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = file.readline(200).decode("utf-8-sig", errors="replace")
    has_header = [cell.strip().lower() for cell in first.split(",")] == ["image", "caption"]
    return path if has_header or any((folder / name).is_dir() for name in IMAGE_FOLDERS) else None


def read_flickr8k(folder: Path | str) -> Reading:
    """Read Flickr8k (Hodosh, Young and Hockenmaier, JAIR 2013): five captions an image, no labels.

    Two layouts: the authors' `Flickr8k.token.txt` (`name.jpg#0<tab>caption`) with the lists of the splits
    `Flickr_8k.{train,dev,test}Images.txt`, beside the folder Flicker8k_Dataset or in Flickr8k_text; and the CSV
    `captions.txt` with the header `image,caption`, beside the folder Images. The lists count for either; without
    them `Reading.splits` is empty. Where both are there, the token file is read. Taught in notebook 07.

    An image's captions stand in the order of the file, each once. A record is an image, so that all captions of an
    image are in one split.

    Raises:
        DataError: there is no captions file, a line or the header is not as above, an image is missing, an image of
            a list has no caption or is in two lists.
    """
    folder, notes = Path(folder), Counter()
    path = captions_file(folder)
    if path is None:
        raise DataError(
            f"{folder}: expected {TOKEN_FILE} or {CSV_FILE} (with the first line `image,caption`) in it. Unpack "
            "Flickr8k there."
        )
    rows = _token_rows(path) if path.name == TOKEN_FILE else _csv_rows(path, notes)
    captions: dict[str, dict[str, None]] = {}
    for name, caption in rows:
        known = captions.setdefault(name, {})
        text = " ".join(caption.split())
        if not text.strip(" ."):
            notes["empty captions, left out"] += 1
        elif text in known:
            notes["captions that an image has twice, kept once"] += 1
        else:
            known[text] = None
    if stray := captions.pop(_STRAY, None):
        notes[f"captions of {_STRAY}, a known slip of the official file, left out"] = len(stray)
    if not captions:
        raise DataError(f"{path}: has no captions. Copy or download it again.")
    splits = _read_lists(folder, path, captions)
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), folder)
    if unused := len(captions.keys() - splits.keys()) if splits else 0:
        notes["images with captions that are in no list of a split, not used"] = unused
    names = [name for name in captions if not splits or name in splits]
    if mute := [name for name in names if not captions[name]]:
        notes["images whose captions are all empty, left out"] = len(mute)
        names = [name for name in names if captions[name]]
    paths = find_images(names, images, path, notes)
    records = tuple(Record(p, (), (), tuple(captions[name])) for p, name in zip(paths, names, strict=True))
    return Reading(records, (), notes, tuple(splits[name] for name in names) if splits else ())


def _token_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Image and caption of each line `name.jpg#0<tab>caption` of the official file."""
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        match = re.fullmatch(r"([^\t]+)#\d+\t(.*)", text.rstrip("\r"))
        if match is None:
            raise DataError(
                f"{path}, line {line}: found {text[:80]!r}, expected `name.jpg#0`, a tab and the caption. Mend or "
                "remove the line, or download the file again."
            )
        yield match[1].strip(), match[2]


def _csv_rows(path: Path, notes: Counter[str]) -> Iterator[tuple[str, str]]:
    """Image and caption of each line `name.jpg,caption` of the CSV; a caption with commas that was not quoted is put together again."""
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(rows)]
        if header != ["image", "caption"]:
            raise DataError(
                f"{path}: the first line is {','.join(header)[:80]!r}, expected `image,caption`. Put it above the first "
                "image."
            )
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            name = cells[0].strip()
            if len(cells) < 2 or not name:
                raise DataError(
                    f"{path}, line {rows.line_num}: found {','.join(cells)[:80]!r}, expected `name.jpg,caption`. Mend or "
                    "remove the line."
                )
            if len(cells) > 2:
                notes["captions with commas that were not quoted, put together again"] += 1
            yield name, ",".join(cells[1:])
    except csv.Error as error:
        raise DataError(
            f"{path}, line {rows.line_num}: not valid CSV ({error}). Check the quotes."
        ) from error


def _read_lists(folder: Path, source: Path, captions: Iterable[str]) -> dict[str, str]:
    """The split of each image of the three lists; {} where there are no lists at all."""
    found = {
        split: next((b / name for b in (source.parent, folder) if (b / name).is_file()), source.parent / name)
        for split, name in SPLIT_FILES.items()
    }
    there = [path for path in found.values() if path.is_file()]
    if not there:
        return {}
    if missing := [path.name for path in found.values() if path not in there]:
        raise DataError(
            f"{source.parent}: has {', '.join(path.name for path in there)}, but not {' and '.join(missing)}. Put all "
            "three lists there, or none for a fixed 70/15/15 split."
        )
    known, splits = set(captions), {}
    for split, path in found.items():
        for name in read_text(path).split():
            if name not in known:
                raise DataError(
                    f"{path}: {name} has no caption in {source.name}{near(name, known)}. Mend the name, or download "
                    "both files again."
                )
            if splits.setdefault(name, split) != split:
                raise DataError(
                    f"{path}: {name} is in {SPLIT_FILES[splits[name]]}, too: its captions would be learned and judged. "
                    "Keep one of them."
                )
    return splits
