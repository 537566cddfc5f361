"""Records: the one form into which every annotation file is read, and what the readers share. Taught in notebook 01."""

from __future__ import annotations

import difflib
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from helpers.images import DataError

SPLITS = ("train", "val", "test")

# A name that is absolute, on another drive or climbs out with "..": annotation files come from strangers.
_LEAVES_FOLDER = re.compile(r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|\0")


@dataclass(frozen=True, slots=True)
class Box:
    """Where a label is: pixels of the upright original image, x and y of the top left corner."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Record:
    """An annotated image: its file, its labels (each once; none is legal), boxes and captions if there are any."""

    path: Path
    labels: tuple[str, ...]
    boxes: tuple[Box, ...] = ()
    captions: tuple[str, ...] = ()


class Reading(NamedTuple):
    """What a reader found.

    records: in the order of the file.
    labels:  every label of the data set, in the order the format states, whether it occurs or not.
    notes:   what was mended or left out, counted: {"duplicate labels in an image's list, kept once": 3}.
    splits:  "train", "val" or "test" of each record where the file says it (CSV), else empty.
    """

    records: tuple[Record, ...]
    labels: tuple[str, ...]
    notes: Counter[str]
    splits: tuple[str, ...] = ()


def find_images(names: Sequence[str], folder: Path, source: Path, notes: Counter[str]) -> list[Path]:
    """The paths of `names` in `folder`, all of which must exist: a listing a folder, no look at each file.

    A name that differs from a single file only in capitals or in the Unicode form of its accents (as happens
    between Windows, macOS and Linux) is taken to mean it and counted in `notes`.

    Raises:
        DataError: the folder or images are missing (the first are named), or a name leads out of the folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: this folder should hold the images of {source}, but it does not exist.")
    listings: dict[str, dict[str, str]] = {}
    alike: dict[str, dict[str, list[str]]] = {}
    paths, missing = [], []
    for name in names:
        if _LEAVES_FOLDER.search(name):
            raise DataError(
                f"{source}: the image name {name!r} leads out of {folder}. Names must be relative to it, without '..'."
            )
        parent, _, file = name.rpartition("/")
        if parent not in listings:
            listings[parent] = _listing(folder / parent)
        found = listings[parent].get(file)
        if found is None:
            if parent not in alike:
                alike[parent] = defaultdict(list)
                for other in listings[parent]:
                    alike[parent][_same_name(other)].append(other)
            candidates = alike[parent].get(_same_name(file), [])
            if len(candidates) != 1:
                missing.append(name)
                continue
            found = candidates[0]
            notes["image names that differ from their file's in capitals or accents, mended"] += 1
        paths.append(folder / parent / found)
    if missing:
        raise _missing_images(missing, len(names), folder, source)
    return paths


def _listing(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.name for entry in entries if not entry.is_dir()}


def _same_name(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _missing_images(missing: list[str], total: int, folder: Path, source: Path) -> DataError:
    shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    if len(missing) < total:
        return DataError(
            f"{source}: {len(missing):,} of {total:,} images are missing in {folder}: {shown}. Put them there or "
            "remove them from the file."
        )
    held = sorted(_listing(folder))
    found = (
        f"{len(held):,} files ({', '.join(held[:3])}{', …' if len(held) > 3 else ''})" if held else "no files"
    )
    return DataError(
        f"{source}: none of its {total:,} images ({shown}) is in {folder}, which holds {found}. Is it a label file "
        "for other images, or the wrong folder?"
    )


def merge(rows: Iterable[tuple[Path, tuple, tuple, tuple]], notes: Counter[str]) -> tuple[Record, ...]:
    """Records of (path, labels, boxes, captions), one a path, each label once; both mends are counted."""
    merged: dict[Path, Record] = {}
    for path, labels, boxes, captions in rows:
        once = tuple(dict.fromkeys(labels))
        if len(once) < len(labels):
            notes["duplicate labels in an image's list, kept once"] += len(labels) - len(once)
        if path in merged:
            notes["images listed again, merged with the first"] += 1
            old = merged[path]
            once = tuple(dict.fromkeys(old.labels + once))
            boxes = tuple(dict.fromkeys(old.boxes + boxes))
            captions = tuple(dict.fromkeys(old.captions + captions))
        merged[path] = Record(path, once, boxes, captions)
    return tuple(merged.values())


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without its mark (BOM)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: this annotation file does not exist. Check the folder you gave.") from error
    if not content or content.isspace():
        raise DataError(f"{path}: the file is empty. Copy or download it again.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 (found the bytes {content[error.start : error.start + 4]!r}). Save the "
            'file as UTF-8: a spreadsheet offers "CSV UTF-8", an editor "Save with encoding".'
        ) from error


def read_json_object(path: Path, expected: dict[str, type]) -> dict[str, Any]:
    """A JSON object that has these keys with values of these types."""
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f"{path}: not valid JSON ({error}). Was it cut short? Copy or download it again."
        ) from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a JSON object with {', '.join(expected)}, found a {type(content).__name__}."
        )
    if wrong := [key for key, kind in expected.items() if not isinstance(content.get(key), kind)]:
        raise DataError(
            f"{path}: expected a list {' and a list '.join(map(repr, wrong))}; the file has "
            f"{', '.join(map(repr, content)) or 'nothing'}. Is it an annotation file of another kind?"
        )
    return content


def require_text(value: Any, what: str, path: Path) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{path}: {what} is {value!r}, expected a non-empty text.")
    return value


def near(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), n=2)
    return f" (near: {', '.join(matches)})" if matches else ""
