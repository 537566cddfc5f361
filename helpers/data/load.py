"""Data sets by name or by folder: `load` finds one, reads it and gives it three fixed splits. Taught in notebook 01.

A test split is never used to choose anything: where a data set has no validation split of its own, a fixed one is
carved from train, by a hash of the file names, so that it is the same on every machine.

In which of the layouts that can be read a folder holds a data set.

Which image is in which split: by a hash of its file name, the same on every machine. Taught in notebook 01.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from tqdm.auto import tqdm

from helpers.data import downloads
from helpers.data.files import DATA, read_json
from helpers.data.images import DataError
from helpers.data.labels import Vocabulary
from helpers.data.readers import (
    captions_file,
    read_coco,
    read_corel,
    read_csv_folder,
    read_flickr8k,
    read_voc,
)
from helpers.data.records import SPLITS, AnnotatedImages, Reading, Record
from helpers.scenes.write import read_manifest, write_scenes

_T = TypeVar("_T")


SOURCES = ("scenes", "corel5k", "coco2014", "coco2017", "voc2007", "flickr8k")


COREL_VAL_SHARE, COREL_VAL_MOST = 1 / 5, 500  # 500 of the 4,500 training images


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
    official val, and val a tenth of train (at most 5,000). Flickr8k: its lists, where they are there. Your own: the CSV's split column, else 70/15/15 by a hash
    of each file name, so that an image stays in its split when you add others.

    Args:
        source: "scenes", "corel5k", "coco2014", "coco2017", "voc2007", "flickr8k", or the path of a folder in one of
            these layouts or with a CSV (or of the CSV).
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
    layout = layout_of(folder)
    if layout == "csv":
        parts = _read_own(folder, seed)
    elif layout == "voc":
        parts = _read_voc_splits(folder, difficult, progress)
    elif layout == "corel":
        parts = _read_corel_splits(folder, seed)
    elif layout == "flickr":
        parts = _read_flickr_splits(folder, seed)
    elif layout == "coco":
        year = {"coco2014": "2014", "coco2017": "2017", "scenes": ""}.get(str(source))
        parts = _read_coco_splits(folder, year, crowd, seed, progress)
    else:
        raise DataError(
            f"{folder}: {holding(folder)}, which is none of the layouts that can be read. Expected {LAYOUTS}."
        )
    return _assemble(name, parts, unlabelled)


class _Parts(NamedTuple):
    """The splits of a data set as read; not each of the three need be there yet."""

    labels: tuple[str, ...]
    splits: dict[str, tuple[Record, ...]]
    notes: list[str]


def _named_folder(source: str, folder: Path, download: bool, progress: bool) -> Path:
    """Where the named data set lies at or below `folder`; scenes are made, others fetched where asked."""
    found = find_layout(folder, source)
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
        found = find_layout(folder, source)
    elif fetched and len(read_json(folder / downloads.DONE)) < len(downloads.SOURCES[source]):
        raise DataError(
            f'{folder}: the download was cut off. load("{source}", download=True) goes on with it.'
        )
    if found is None:
        fetch = f'load("{source}", download=True) fetches it. ' if source in downloads.SOURCES else ""
        raise DataError(
            f"{folder}: {source} is not there (the folder {holding(folder)}). If you have it elsewhere, say so with "
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
    return path if path.is_file() else find_layout(path) or path


def _read_own(path: Path, seed: int) -> _Parts:
    folder, csv_file = (path.parent, path) if path.is_file() else (path, None)
    reading = read_csv_folder(folder, csv_file)
    notes = _notes(csv_file.name if csv_file else "CSV", reading)
    names = [unicodedata.normalize("NFC", r.path.relative_to(folder).as_posix()) for r in reading.records]
    chosen = reading.splits or hash_splits(names, seed)
    splits = divide(reading.records, chosen)
    if not reading.splits:
        notes.append(
            f"split 70/15/15 by a hash of the file names (seed {seed}); a column `split` would say otherwise"
        )
    elif not splits["val"] and len(splits["train"]) > 1:
        notes.append(carve(splits, seed))
    return _Parts(reading.labels, splits, notes)


def _read_corel_splits(folder: Path, seed: int) -> _Parts:
    readings = {split: read_corel(folder / f"{split}.json", folder / split) for split in ("train", "test")}
    parts = _join(readings, {split: f"{split}.json" for split in readings}, folder)
    parts.notes.append(carve(parts.splits, seed, share=COREL_VAL_SHARE, most=COREL_VAL_MOST))
    return parts


def _read_flickr_splits(folder: Path, seed: int) -> _Parts:
    path = captions_file(folder)
    reading = read_flickr8k(folder)
    notes = _notes(path.name if path else folder.name, reading)
    chosen = reading.splits or hash_splits([record.path.name for record in reading.records], seed)
    if not reading.splits:
        notes.append(f"no lists of the splits: split 70/15/15 by a hash of the file names (seed {seed})")
    splits = divide(reading.records, chosen)
    return _Parts(reading.labels, splits, notes)


def _read_coco_splits(folder: Path, year: str | None, crowd: str, seed: int, progress: bool) -> _Parts:
    found = instances(folder)
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
        parts.notes.append(carve(parts.splits, seed))
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
    only_captions = not parts.labels and any(record.captions for record in parts.splits.get("train", ()))
    if unlabelled == "drop" and only_captions:
        raise DataError(
            f"{name}: has captions but no labels, so no image would be left: keep the unlabelled ones."
        )
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
    vocabulary = Vocabulary.none() if only_captions else Vocabulary(parts.labels)
    return AnnotatedImages(name, vocabulary, **splits, notes=tuple(notes))


LAYOUTS = (
    "a CSV file (file,labels), or annotations/instances_train*.json (COCO), or ImageSets/Main (VOC), or train.json "
    "and test.json (Corel-5k), or captions.txt or Flickr8k.token.txt (Flickr8k)"
)


def layout_of(folder: Path) -> str | None:
    """Which of the layouts a folder has: "voc", "coco", "corel", "flickr", "csv", or None."""
    if folder.is_file():
        return "csv"
    if (folder / "ImageSets" / "Main").is_dir():
        return "voc"
    if instances(folder):
        return "coco"
    if (folder / "train.json").is_file() and (folder / "test.json").is_file():
        return "corel"
    if captions_file(folder) is not None and not (folder / "labels.csv").is_file():
        return "flickr"
    return "csv" if any(folder.glob("*.csv")) else None


def find_layout(folder: Path, source: str = "") -> Path | None:
    """The folder itself, or the usual one below it, that has a layout (the one of `source`)."""
    wanted = {
        "voc2007": ("voc",),
        "corel5k": ("corel",),
        "flickr8k": ("flickr",),
        "": ("voc", "coco", "corel", "flickr", "csv"),
    }.get(source, ("coco",))
    for part in dict.fromkeys((".", source or ".", "VOC2007", "VOCdevkit/VOC2007")):
        if layout_of(folder / part) in wanted:
            return folder / part
    return None


def holding(folder: Path) -> str:
    """What a folder holds, for a message."""
    if not folder.is_dir():
        return "does not exist"
    names = sorted(path.name for path in folder.iterdir())
    return f"holds {', '.join(names[:5])}{', …' if len(names) > 5 else ''}" if names else "is empty"


def instances(folder: Path) -> dict[str, dict[str, Path]]:
    """COCO instance files by what follows the split's name: {"2014": {"train": path, "val": path}}."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for base in (folder, folder / "annotations"):
        for path in sorted(base.glob("instances_*.json")):
            if match := re.fullmatch(r"instances_(train|val|test)(.*)\.json", path.name):
                found[match[2]][match[1]] = path
    return found


VAL_SHARE, VAL_MOST = 0.10, 5000  # what is carved from train: a tenth, at most 5,000 images


OWN_SHARES = (0.70, 0.85)  # your own images: train below the first, test from the second on


def hash_splits(names: Sequence[str], seed: int) -> list[str]:
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


def divide(records: Sequence[Record], chosen: Sequence[str]) -> dict[str, tuple[Record, ...]]:
    """The records of each split, in their order; chosen: the split of each record."""
    return {
        split: tuple(record for record, own in zip(records, chosen, strict=True) if own == split)
        for split in SPLITS
    }


def _rank(name: str, seed: int) -> float:
    """A number in [0, 1) drawn from a name: the same on every machine and in every version of Python."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big") / 2**48


def carve(
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
