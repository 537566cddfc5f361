"""Records: the one form of an annotated image; a data set of them; and the report of what it holds."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from torch import Tensor
from tqdm.auto import tqdm

from helpers.data.images import DataError, open_image
from helpers.data.labels import Vocabulary, did_you_mean, label_frequency

SPLITS = ("train", "val", "test")


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
    """An annotated image: its file, its labels (each once; none is legal), its boxes and captions, if any."""

    path: Path
    labels: tuple[str, ...]
    boxes: tuple[Box, ...] = ()
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnnotatedImages:
    """A data set: vocabulary and three splits of `Record`s; `notes` say what was corrected or left out."""

    name: str
    vocabulary: Vocabulary
    train: tuple[Record, ...]
    val: tuple[Record, ...]
    test: tuple[Record, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:  # a notebook shows this, not 100,000 records
        counts = ", ".join(f"{len(self.split(name)):,} {name}" for name in SPLITS)
        return f"AnnotatedImages({self.name!r}: {len(self.vocabulary)} labels; images: {counts})"

    def split(self, name: str) -> tuple[Record, ...]:
        """The records of "train", "val" or "test". Raises ValueError for another name."""
        if name not in SPLITS:
            raise ValueError(
                f"there is no split {name!r}: use {', '.join(SPLITS)}.{did_you_mean(str(name), SPLITS)}"
            )
        return getattr(self, name)

    def frequency(self) -> Tensor:
        """Training images of each label, (C,) int64: what rare-first and frequent-first order by."""
        encoded = (self.vocabulary.encode(record.labels) for record in self.train)
        return label_frequency(encoded, len(self.vocabulary))

    def describe(
        self, *, check_images: bool = False, contents: bool = False, progress: bool = True
    ) -> Report:
        """Count what the data set holds; `print` the result.

        check_images: open every image and list those that cannot be read (minutes for COCO).
        contents: find images with the same bytes under two names, within and across splits.
        """
        paths = [record.path for record in chain(self.train, self.val, self.test)]
        return Report(
            name=self.name,
            vocabulary=self.vocabulary,
            splits={name: _count(self.split(name)) for name in SPLITS},
            notes=self.notes,
            bad_images=_bad_images(paths, progress) if check_images else None,
            same_content=same_content(paths, progress=progress) if contents else None,
        )


@dataclass(frozen=True)
class SplitReport:
    """Counts of one split. histogram: images by their number of labels. frequency: images by label."""

    images: int
    histogram: Counter[int]
    frequency: Counter[str]
    boxes: int
    captions: int

    @property
    def unlabelled(self) -> int:
        """Images without labels."""
        return self.histogram[0]

    @property
    def mean(self) -> float:
        """Labels per image; NaN for an empty split."""
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
        rows = {
            "": list(self.splits),
            "images": [f"{s.images:,}" for s in splits],
            "labels that occur": [f"{len(s.frequency):,}" for s in splits],
            "labels per image: min": [f"{min(s.histogram, default='-')}" for s in splits],
            "                  mean": [f"{s.mean:.3f}" for s in splits],
            "                  max": [f"{max(s.histogram, default='-')}" for s in splits],
        }
        for n in sorted(set().union(*(s.histogram for s in splits))):
            what = f"with {n} label{'s' * (n > 1)}" if n else "without labels"
            rows[f"images {what}"] = [f"{s.histogram[n]:,}" for s in splits]
        rows["boxes"] = [f"{s.boxes:,}" for s in splits]
        rows["captions"] = [f"{s.captions:,}" for s in splits]
        width = max(map(len, rows))
        lines = [f"{self.name}: {sum(s.images for s in splits):,} images, {len(self.vocabulary)} labels"]
        lines += [
            f"  {title:<{width}}" + "".join(f"{cell:>9}" for cell in cells) for title, cells in rows.items()
        ]
        frequency = self.splits["train"].frequency
        ranked = sorted(self.vocabulary.labels, key=lambda label: -frequency[label])
        occurring = [f"{label} {frequency[label]:,}" for label in ranked if frequency[label]]
        lines.append(f"  most frequent in train:  {', '.join(occurring[:5]) or '-'}")
        lines.append(f"  least frequent in train: {', '.join(occurring[-5:]) or '-'}")
        if never := [label for label in ranked if not frequency[label]]:
            more = ", …" if len(never) > 8 else ""
            lines.append(f"  never in train ({len(never)}): {', '.join(never[:8])}{more}")
        lines += [f"  note: {note}" for note in self.notes]
        if self.bad_images is not None:
            lines.append(f"  images that cannot be read: {len(self.bad_images)}")
            lines += [f"    {message}" for message in self.bad_images.values()]
        if self.same_content is not None:
            lines.append(f"  groups of images with the same content: {len(self.same_content)}")
            named = (["/".join(path.parts[-2:]) for path in group] for group in self.same_content)
            lines += [f"    {' = '.join(names)}" for names in named]
        return "\n".join(lines)

    __repr__ = __str__  # so that a notebook shows the report, too


def _count(records: Sequence[Record]) -> SplitReport:
    return SplitReport(
        images=len(records),
        histogram=Counter(len(record.labels) for record in records),
        frequency=Counter(label for record in records for label in record.labels),
        boxes=sum(len(record.boxes) for record in records),
        captions=sum(len(record.captions) for record in records),
    )


def _bad_images(paths: Sequence[Path], progress: bool) -> dict[Path, str]:
    """The message of each image that cannot be read."""

    def problem(path: Path) -> str:
        try:
            open_image(path)
        except DataError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(
        min(8, os.cpu_count() or 1)
    ) as pool:  # Pillow decodes outside the interpreter lock
        found = pool.map(problem, paths)
        bar = tqdm(found, total=len(paths), desc="opening images", unit="image", disable=not progress)
        return {path: message for path, message in zip(paths, bar, strict=True) if message}


def same_content(paths: Sequence[Path], *, progress: bool) -> tuple[tuple[Path, ...], ...]:
    """Groups of different files with the same bytes; only files of the same size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        by_size[path.stat().st_size].append(path)
    candidates = [path for alike in by_size.values() if len(alike) > 1 for path in alike]
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for path in tqdm(candidates, desc="comparing images", unit="image", disable=not progress):
        groups[hashlib.sha256(path.read_bytes()).digest()].append(path)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)
