"""Records: the one form into which every annotation file is read, and what the readers share. Taught in notebook 01.

A data set in memory: its vocabulary and splits, and the report of what it holds. Taught in notebook 01.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from tqdm.auto import tqdm

from helpers.data.images import DataError, open_image
from helpers.data.labels import Vocabulary, label_frequency

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


@dataclass(frozen=True)
class AnnotatedImages:
    """A data set: its vocabulary and three splits of `Record`s; `notes` say what was mended or left out."""

    name: str
    vocabulary: Vocabulary
    train: tuple[Record, ...]
    val: tuple[Record, ...]
    test: tuple[Record, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:  # a notebook shows this; 100,000 records would be shown else
        counts = ", ".join(f"{len(self.split(name)):,} {name}" for name in SPLITS)
        return f"AnnotatedImages({self.name!r}: {len(self.vocabulary)} labels; images: {counts})"

    def split(self, name: str) -> tuple[Record, ...]:
        """The records of "train", "val" or "test". Raises ValueError for another name."""
        if name not in SPLITS:
            near = difflib.get_close_matches(str(name), SPLITS, n=1, cutoff=0.3)
            meant = f' Did you mean "{near[0]}"?' if near else ""
            raise ValueError(f'there is no split {name!r}: use "train", "val" or "test".{meant}')
        return getattr(self, name)

    def frequency(self) -> Tensor:
        """Training images of each label, (C,) int64: what rare-first and frequent-first order by."""
        encoded = (self.vocabulary.encode(record.labels) for record in self.train)
        return label_frequency(encoded, len(self.vocabulary))

    def describe(
        self, *, check_images: bool = False, contents: bool = False, progress: bool = True
    ) -> Report:
        """Count what the data set holds; `print` the result. Taught in notebook 01.

        check_images: open every image and list those that cannot be read (minutes for COCO).
        contents: find images with the same bytes under two names, within and across splits.
        """
        records = tuple(chain(self.train, self.val, self.test))
        return Report(
            name=self.name,
            vocabulary=self.vocabulary,
            splits={name: SplitReport.of(self.split(name)) for name in SPLITS},
            notes=self.notes,
            bad_images=self.check_images(progress=progress) if check_images else None,
            same_content=_same_content(records, progress) if contents else None,
        )

    def check_images(self, *, progress: bool = True) -> dict[Path, str]:
        """Open every image of every split; the message of each that cannot be read, by path."""
        paths = [record.path for record in chain(self.train, self.val, self.test)]
        # Threads do: Pillow decodes outside the interpreter lock.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(_try_open, paths)
            bar = tqdm(found, total=len(paths), desc="opening images", unit="image", disable=not progress)
            return {path: message for path, message in zip(paths, bar, strict=True) if message}


@dataclass(frozen=True)
class SplitReport:
    """Counts of one split. histogram: images by their number of labels. frequency: images by label."""

    images: int
    histogram: dict[int, int]
    frequency: Counter[str]
    boxes: int
    captions: int

    @classmethod
    def of(cls, records: Sequence[Record]) -> SplitReport:
        """Count the records of a split."""
        histogram = Counter(len(record.labels) for record in records)
        return cls(
            images=len(records),
            histogram=dict(sorted(histogram.items())),
            frequency=Counter(label for record in records for label in record.labels),
            boxes=sum(len(record.boxes) for record in records),
            captions=sum(len(record.captions) for record in records),
        )

    @property
    def unlabelled(self) -> int:
        """Images without labels."""
        return self.histogram.get(0, 0)

    @property
    def mean(self) -> float:
        """Labels an image; NaN for an empty split."""
        return self.frequency.total() / self.images if self.images else float("nan")


@dataclass(frozen=True, repr=False)
class Report:
    """What `AnnotatedImages.describe` counted: `print` it to read it, its fields are for code.

    bad_images: path -> message of images that cannot be read; None if not checked.
    same_content: groups of paths with the same bytes, within or across splits; None if not looked for.
    """

    name: str
    vocabulary: Vocabulary
    splits: dict[str, SplitReport]
    notes: tuple[str, ...]
    bad_images: dict[Path, str] | None = None
    same_content: tuple[tuple[Path, ...], ...] | None = None

    def __str__(self) -> str:
        splits = list(self.splits.values())
        rows: list[tuple[str, list[str]]] = [
            ("", list(self.splits)),
            ("images", [f"{s.images:,}" for s in splits]),
            ("labels that occur", [f"{len(s.frequency):,}" for s in splits]),
            ("labels an image: min", [f"{min(s.histogram, default='-')}" for s in splits]),
            ("                 mean", [f"{s.mean:.3f}" for s in splits]),
            ("                 max", [f"{max(s.histogram, default='-')}" for s in splits]),
        ]
        for n in sorted(set().union(*(s.histogram for s in splits))):
            what = "without labels" if n == 0 else f"with {n} label{'s' * (n > 1)}"
            rows.append((f"images {what}", [f"{s.histogram.get(n, 0):,}" for s in splits]))
        rows.append(("boxes", [f"{s.boxes:,}" for s in splits]))
        rows.append(("captions", [f"{s.captions:,}" for s in splits]))
        width = max(len(title) for title, _ in rows)
        lines = [f"{self.name}: {sum(s.images for s in splits):,} images, {len(self.vocabulary)} labels"]
        lines += [f"  {title:<{width}}" + "".join(f"{cell:>9}" for cell in cells) for title, cells in rows]
        frequency = self.splits["train"].frequency
        ranked = sorted(self.vocabulary.labels, key=lambda label: -frequency[label])
        occurring = [f"{label} {frequency[label]:,}" for label in ranked if frequency[label]]
        never = [label for label in ranked if not frequency[label]]
        lines.append(f"  most frequent in train:  {', '.join(occurring[:5]) or '-'}")
        lines.append(f"  least frequent in train: {', '.join(occurring[-5:]) or '-'}")
        if never:
            lines.append(
                f"  never in train ({len(never)}): {', '.join(never[:8])}{', …' if len(never) > 8 else ''}"
            )
        lines += [f"  note: {note}" for note in self.notes]
        if self.bad_images is not None:
            lines.append(f"  images that cannot be read: {len(self.bad_images)}")
            lines += [f"    {message}" for message in self.bad_images.values()]
        if self.same_content is not None:
            lines.append(f"  groups of images with the same content: {len(self.same_content)}")
            lines += [
                f"    {' = '.join('/'.join(p.parts[-2:]) for p in group)}" for group in self.same_content
            ]
        return "\n".join(lines)

    __repr__ = __str__  # so that a notebook shows the report, too


def _try_open(path: Path) -> str:
    try:
        open_image(path)
    except DataError as error:
        return str(error)
    return ""


def _same_content(records: Sequence[Record], progress: bool) -> tuple[tuple[Path, ...], ...]:
    """Groups of different files with the same bytes; only files of the same size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(record.path for record in records):
        by_size[path.stat().st_size].append(path)
    candidates = [path for paths in by_size.values() if len(paths) > 1 for path in paths]
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for path in tqdm(candidates, desc="comparing images", unit="image", disable=not progress):
        groups[hashlib.sha256(path.read_bytes()).digest()].append(path)
    return tuple(tuple(paths) for paths in groups.values() if len(paths) > 1)
