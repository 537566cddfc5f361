"""Data sets with one interface: `load` gives train, val and test of any of them, `ImageDataset` and `make_loader`
feed a model from them. Taught in notebook 01.

A test split is never used to choose anything: where a data set has no validation split of its own, a fixed one is
carved from train, by a hash of the file names, so that it is the same on every machine.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from helpers import downloads
from helpers.batch import Batch
from helpers.files import DATA, read_json
from helpers.images import DataError, open_image
from helpers.labels import Vocabulary, label_frequency, order_labels, pad_labels, to_multi_hot
from helpers.readers import (
    SPLITS,
    Box,
    Reading,
    Record,
    read_coco,
    read_corel,
    read_csv_folder,
    read_voc,
)
from helpers.scenes import read_manifest, write_scenes

__all__ = ["AnnotatedImages", "Box", "ImageDataset", "Record", "Report", "collate", "load", "make_loader"]

_T = TypeVar("_T")
SOURCES = ("scenes", "corel5k", "coco2014", "coco2017", "voc2007")
COREL_VAL_SHARE, COREL_VAL_MOST = 1 / 5, 500  # 500 of the 4,500 training images
VAL_SHARE, VAL_MOST = 0.10, 5000  # elsewhere: a tenth of train, at most 5,000 images
OWN_SHARES = (0.70, 0.85)  # your own images: train below the first, test from the second on
LAYOUTS = (
    "a CSV file (file,labels), or annotations/instances_train*.json (COCO), or ImageSets/Main (VOC), or train.json "
    "and test.json (Corel-5k)"
)


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


def load(
    source: str | Path = "scenes",
    data_dir: Path | str | None = None,
    *,
    unlabelled: Literal["keep", "drop"] = "keep",
    difficult: bool = False,
    crowd: Literal["label", "box", "drop"] = "label",
    seed: int = 0,
    download: bool = False,
    progress: bool = True,
) -> AnnotatedImages:
    """Load a data set by name, or your own images by folder. Taught in notebook 01.

    "scenes" is generated on first use. The others are looked for in `data_dir`; data/README.md says how to get
    them. Splits: scenes and VOC have all three. Corel-5k: val is 500 of the 4,500 training images. COCO: test is the
    official val, and val a tenth of train (at most 5,000). Your own: the CSV's split column, else 70/15/15 by a hash
    of each file name, so that an image stays in its split when you add others.

    Args:
        source: "scenes", "corel5k", "coco2014", "coco2017", "voc2007", or the path of a folder in one of these layouts
            or with a CSV (or of the CSV).
        data_dir: folder of the named data set; by default data/<source> of the repository.
        unlabelled: "keep" or "drop" images without labels, after the splits are made.
        difficult: VOC: keep objects marked difficult.
        crowd: COCO: what a crowd annotation gives, see `readers.read_coco`.
        seed: of the carved splits. Figures compare only for the same seed.
        download: fetch a named data set that is not there from its official source (COCO: 20 GB).
        progress: show progress bars.

    Raises:
        DataError: the data are not there, or bad; the message says what to do.
        ValueError: an unknown name or option.
    """
    if unlabelled not in ("keep", "drop"):
        raise ValueError(f'unlabelled must be "keep" or "drop", found {unlabelled!r}')
    if source in SOURCES:
        name = str(source)
        folder = _named_folder(
            name, Path(data_dir) if data_dir is not None else DATA / name, download, progress
        )
    else:
        folder = _own_folder(source, data_dir)
        name = (folder.parent if folder.is_file() else Path(source)).resolve().name
    layout = _layout(folder)
    if layout == "csv":
        parts = _read_own(folder, seed)
    elif layout == "voc":
        parts = _read_voc_splits(folder, difficult, progress)
    elif layout == "corel":
        parts = _read_corel_splits(folder, seed)
    elif layout == "coco":
        year = {"coco2014": "2014", "coco2017": "2017", "scenes": ""}.get(str(source))
        parts = _read_coco_splits(folder, year, crowd, seed, progress)
    else:
        raise DataError(
            f"{folder}: {_holding(folder)}, which is none of the layouts that can be read. Expected {LAYOUTS}."
        )
    return _assemble(name, parts, unlabelled)


class _Parts(NamedTuple):
    """The splits of a data set as read; not each of the three need be there yet."""

    labels: tuple[str, ...]
    splits: dict[str, tuple[Record, ...]]
    notes: list[str]


def _named_folder(source: str, folder: Path, download: bool, progress: bool) -> Path:
    """Where the named data set lies at or below `folder`; scenes are made, others fetched where asked."""
    found = _find_layout(folder, source)
    if source == "scenes":
        folder = found or folder
        if read_manifest(folder) is None:  # not made yet, or damaged
            try:
                write_scenes(folder, progress=progress)
            except FileExistsError as error:
                raise DataError(str(error)) from error
        return folder
    fetched = (folder / downloads.DONE).is_file()
    if download and (fetched or found is None):  # what lies there by hand is used as it is
        downloads.download(source, folder, progress=progress)
        found = _find_layout(folder, source)
    elif fetched and len(read_json(folder / downloads.DONE)) < len(downloads.SOURCES[source]):
        raise DataError(
            f'{folder}: the download was cut off. load("{source}", download=True) goes on with it.'
        )
    if found is None:
        fetch = f'load("{source}", download=True) fetches it. ' if source in downloads.SOURCES else ""
        raise DataError(
            f"{folder}: {source} is not there (the folder {_holding(folder)}). If you have it elsewhere, say so with "
            f"data_dir. {fetch}{downloads.manual_route(source, folder)}"
        )
    return found


def _own_folder(source: str | Path, data_dir: Path | str | None) -> Path:
    """The folder (or CSV) that a path names."""
    if data_dir is not None:
        raise ValueError(
            f"data_dir goes with a name ({', '.join(SOURCES)}); {str(source)!r} is a path: give one of both"
        )
    path = Path(source)
    if not path.exists():
        near = difflib.get_close_matches(str(source).lower(), SOURCES, n=1)
        meant = f' Did you mean "{near[0]}"?' if near else ""
        raise DataError(
            f"{source}: neither a data set ({', '.join(SOURCES)}) nor a folder that exists.{meant} The current folder "
            f"is {Path.cwd()}."
        )
    return path if path.is_file() else _find_layout(path) or path


def _layout(folder: Path) -> str | None:
    """Which of the layouts a folder has: "voc", "coco", "corel", "csv", or None."""
    if folder.is_file():
        return "csv"
    if (folder / "ImageSets" / "Main").is_dir():
        return "voc"
    if _instances(folder):
        return "coco"
    if (folder / "train.json").is_file() and (folder / "test.json").is_file():
        return "corel"
    return "csv" if any(folder.glob("*.csv")) else None


def _find_layout(folder: Path, source: str = "") -> Path | None:
    """The folder itself, or the usual one below it, that has a layout (the one of `source`)."""
    wanted = {"voc2007": ("voc",), "corel5k": ("corel",), "": ("voc", "coco", "corel", "csv")}.get(
        source, ("coco",)
    )
    for part in dict.fromkeys((".", source or ".", "VOC2007", "VOCdevkit/VOC2007")):
        if _layout(folder / part) in wanted:
            return folder / part
    return None


def _holding(folder: Path) -> str:
    """What a folder holds, for a message."""
    if not folder.is_dir():
        return "does not exist"
    names = sorted(path.name for path in folder.iterdir())
    return f"holds {', '.join(names[:5])}{', …' if len(names) > 5 else ''}" if names else "is empty"


def _read_own(path: Path, seed: int) -> _Parts:
    folder, csv_file = (path.parent, path) if path.is_file() else (path, None)
    reading = read_csv_folder(folder, csv_file)
    notes = _notes(csv_file.name if csv_file else "CSV", reading)
    names = [unicodedata.normalize("NFC", r.path.relative_to(folder).as_posix()) for r in reading.records]
    chosen = reading.splits or _hash_splits(names, seed)
    splits = {s: tuple(r for r, c in zip(reading.records, chosen, strict=True) if c == s) for s in SPLITS}
    if not reading.splits:
        notes.append(
            f"split 70/15/15 by a hash of the file names (seed {seed}); a column `split` would say otherwise"
        )
    elif not splits["val"] and len(splits["train"]) > 1:
        notes.append(_carve(splits, seed))
    return _Parts(reading.labels, splits, notes)


def _hash_splits(names: Sequence[str], seed: int) -> list[str]:
    """A split for each name by its hash alone, so that it stays where it is when others come.

    Only where so few images leave a split empty does the image with the nearest hash go there.
    """
    ranks = [_rank(name, seed) for name in names]
    splits = [SPLITS[sum(rank >= share for share in OWN_SHARES)] for rank in ranks]
    order = sorted(range(len(names)), key=ranks.__getitem__)
    if len(names) >= len(SPLITS):
        for split, position in (("train", order[0]), ("test", order[-1]), ("val", order[-2])):
            if split not in splits:
                splits[position] = split
    return splits


def _rank(name: str, seed: int) -> float:
    """A number in [0, 1) drawn from a name: the same on every machine and in every version of Python."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big") / 2**48


def _carve(
    splits: dict[str, tuple[Record, ...]], seed: int, *, share: float = VAL_SHARE, most: int = VAL_MOST
) -> str:
    """Move a share of train to val: the first by the hash of their file names; returns the note.

    An image stays in train if it is the last there with one of its labels: nothing can be learned of that label else.
    """
    train = splits["train"]
    left = Counter(label for record in train for label in record.labels)
    count, chosen = min(most, max(1, round(share * len(train)))), set()
    for i in sorted(range(len(train)), key=lambda i: _rank(train[i].path.name, seed)):
        if len(chosen) < count and all(left[label] > 1 for label in train[i].labels):
            chosen.add(i)
            left.subtract(train[i].labels)
    splits["val"] = tuple(record for i, record in enumerate(train) if i in chosen)
    splits["train"] = tuple(record for i, record in enumerate(train) if i not in chosen)
    return f"val is {len(chosen):,} of the {len(train):,} training images, by a hash of their names (seed {seed})"


def _read_corel_splits(folder: Path, seed: int) -> _Parts:
    readings = {split: read_corel(folder / f"{split}.json", folder / split) for split in ("train", "test")}
    parts = _join(readings, {split: f"{split}.json" for split in readings}, folder)
    parts.notes.append(_carve(parts.splits, seed, share=COREL_VAL_SHARE, most=COREL_VAL_MOST))
    return parts


def _instances(folder: Path) -> dict[str, dict[str, Path]]:
    """COCO instance files by what follows the split's name: {"2014": {"train": path, "val": path}}."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for base in (folder, folder / "annotations"):
        for path in sorted(base.glob("instances_*.json")):
            if match := re.fullmatch(r"instances_(train|val|test)(.*)\.json", path.name):
                found[match[2]][match[1]] = path
    return found


def _read_coco_splits(folder: Path, year: str | None, crowd: str, seed: int, progress: bool) -> _Parts:
    found = _instances(folder)
    if year is not None:
        found = {year: found.get(year, {})}
    if len(found) > 1:
        raise DataError(
            f"{folder}: has instance files of {' and '.join(map(repr, found))}. Say which by name, such as "
            f'load("coco2014", "{folder.name}").'
        )
    [(suffix, files)] = found.items()
    if "train" not in files or not {"val", "test"} & files.keys():
        raise DataError(
            f"{folder}: expected annotations/instances_train{suffix}.json and instances_val{suffix}.json, found "
            f"{', '.join(path.name for path in files.values()) or 'neither'}. data/README.md says where they come from."
        )
    readings = {}
    for split, path in _bar(files.items(), progress):
        names = (f"{split}{suffix}", f"images/{split}{suffix}", "images")
        images = next((folder / name for name in names if (folder / name).is_dir()), folder / names[0])
        captions = path.with_name(f"captions_{split}{suffix}.json")
        readings[split] = read_coco(path, images, captions if captions.is_file() else None, crowd=crowd)
    parts = _join(readings, {split: path.name for split, path in files.items()}, folder)
    if "test" not in files:  # the annotations of the official test split are not public
        parts.splits["test"] = parts.splits.pop("val")
        parts.notes.append(
            "test is the official val split, as is the custom: labels of the official test are secret"
        )
    if "val" not in parts.splits:
        parts.notes.append(_carve(parts.splits, seed))
    return parts


def _read_voc_splits(folder: Path, difficult: bool, progress: bool) -> _Parts:
    readings = {split: read_voc(folder, split, difficult=difficult) for split in _bar(SPLITS, progress)}
    return _join(readings, {split: f"{split}.txt" for split in SPLITS}, folder)


def _bar(items: Iterable[_T], progress: bool) -> Iterable[_T]:
    """A progress bar over annotation files, shown if they take more than a second (COCO: about 15)."""
    return tqdm(items, desc="reading annotations", unit="file", delay=1, disable=not progress)


def _join(readings: dict[str, Reading], files: dict[str, str], folder: Path) -> _Parts:
    """The splits of one data set, which must have the same labels in the same order."""
    (first, reading), *others = readings.items()
    for split, other in others:
        if other.labels != reading.labels:
            odd = sorted(set(other.labels) ^ set(reading.labels))
            raise DataError(
                f"{folder}: the label lists of {files[first]} and {files[split]} differ ("
                f"{', '.join(odd[:5]) if odd else 'in their order'}). Give both the same list."
            )
    notes = [note for split, found in readings.items() for note in _notes(files[split], found)]
    return _Parts(reading.labels, {split: found.records for split, found in readings.items()}, notes)


def _notes(file: str, reading: Reading) -> list[str]:
    return [f"{file}: {count:,} {what}" for what, count in reading.notes.items()]


def _assemble(name: str, parts: _Parts, unlabelled: str) -> AnnotatedImages:
    """The checks that every data set goes through."""
    splits, notes = {split: parts.splits.get(split, ()) for split in SPLITS}, list(parts.notes)
    for split, records in splits.items():
        kept = tuple(record for record in records if record.labels)
        if unlabelled == "drop" and len(kept) < len(records):
            notes.append(f"{split}: {len(records) - len(kept):,} images without labels, dropped")
            splits[split] = kept
    if not splits["train"]:
        raise DataError(
            f"{name}: no image is in the train split. Check the file, or add images or a column `split`."
        )
    notes += [f"{split}: has no images" for split in SPLITS if not splits[split]]
    paths = {split: {record.path for record in records} for split, records in splits.items()}
    for a, b in combinations(SPLITS, 2):
        if shared := len(paths[a] & paths[b]):
            notes.append(f"{shared:,} images are in {a} and in {b}: figures on {b} will be too good")
    return AnnotatedImages(name, Vocabulary(parts.labels), **splits, notes=tuple(notes))


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


class Item(NamedTuple):
    """One image of a data set. image: (3, H, W) float32. labels: ids in the order of training."""

    index: int
    image: Tensor
    labels: list[int]
    num_labels: int


class ImageDataset(Dataset[Item]):
    """Images of `records` through `transform`, with their labels in an order. Taught in notebook 01.

    Args:
        records: a split of `AnnotatedImages`.
        vocabulary: its vocabulary; a label it lacks is a ValueError.
        transform: PIL RGB image -> (3, H, W) float32, see `transforms`.
        order: one of `labels.ORDERS`. "random" is drawn anew at each access, from torch's global generator.
        frequency: (C,) int64 training frequency, for rare-first and frequent-first: `AnnotatedImages.frequency()`.

    Opening an image that is missing or damaged raises DataError with its name: none is skipped in silence.
    """

    def __init__(
        self,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        transform: Callable[[Image.Image], Tensor],
        *,
        order: str = "given",
        frequency: Tensor | None = None,
    ) -> None:
        options: dict[str, Any] = {"vocabulary": vocabulary, "frequency": frequency}
        order_labels([], order, **options)  # a wrong order is refused here, not in a worker
        fixed = "given" if order == "random" else order
        labels = [order_labels(vocabulary.encode(record.labels), fixed, **options) for record in records]
        # Flat arrays, not 100,000 records: a forked worker would copy every page that holds a Python object it counts.
        self._paths = np.array([os.fsencode(record.path) for record in records])
        self._labels = np.fromiter(chain.from_iterable(labels), dtype=np.int32)
        self._ends = np.cumsum([0, *map(len, labels)])
        self.transform, self.order, self.num_labels = transform, order, len(vocabulary)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image = self.transform(open_image(os.fsdecode(self._paths[index])))
        labels = self._labels[self._ends[index] : self._ends[index + 1]].tolist()
        if self.order == "random":
            labels = order_labels(labels, "random")
        return Item(index, image, labels, self.num_labels)


def collate(items: Sequence[Item] | Batch) -> Batch:
    """Items of `ImageDataset` to a `Batch` with images; a `Batch` (of `FeatureDataset`) passes through.

    Raises ValueError for images of different sizes, which a transform without a fixed size leaves.
    """
    if isinstance(items, Batch):
        return items
    sizes = {tuple(item.image.shape) for item in items}
    if len(sizes) > 1:
        raise ValueError(
            f"images of different shapes in a batch: {sorted(sizes)}. Resize to one size in the transform."
        )
    num_labels = items[0].num_labels
    labels, lengths = pad_labels([item.labels for item in items], num_labels)
    return Batch(
        index=torch.tensor([item.index for item in items]),
        labels=labels,
        lengths=lengths,
        multi_hot=to_multi_hot(labels, num_labels),
        images=torch.stack([item.image for item in items]),
    )


def make_loader(
    dataset: Dataset[Any],
    *,
    batch_size: int,
    shuffle: bool = False,
    num_workers: int = 0,
    seed: int = 0,
    drop_last: bool = False,
    pin_memory: bool = False,
    multiprocessing_context: str | None = None,
) -> DataLoader[Batch]:
    """Batches of an `ImageDataset` or a `FeatureDataset`. Taught in notebook 01.

    `seed` fixes the order of the images in each epoch and the random numbers of the workers (torch, numpy and
    random). With `num_workers=0`, which works everywhere, augmentation draws from torch's global generator instead:
    `torch.manual_seed` makes it repeat.

    Args:
        num_workers: processes that load images; 2 to 16 pay on Linux with large images.
        drop_last: leave out the last batch if it is smaller.
        pin_memory: page-locked batches, for a faster copy to a GPU; without a GPU it is ignored.
        multiprocessing_context: "fork", "spawn" or "forkserver"; by default the platform's.

    Raises:
        ValueError: shuffling a data set without images.
    """
    if shuffle and len(dataset) == 0:  # type: ignore[arg-type]
        raise ValueError(
            "there are no images to shuffle: is this split empty? print(data.describe()) shows the counts"
        )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory and torch.cuda.is_available(),
        drop_last=drop_last,
        worker_init_fn=seed_worker,
        multiprocessing_context=multiprocessing_context if num_workers else None,
        generator=torch.Generator().manual_seed(seed),
        persistent_workers=num_workers > 0,
    )


def seed_worker(worker: int) -> None:
    """Seed numpy and random in a loader's worker from torch, which the loader seeds differently in each."""
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - transforms of others may use the global generator
