"""Data sets by name or by folder: `load` finds one, reads it and gives it three fixed splits. Taught in notebook 01.

A test split is never used to choose anything: where a data set has no validation split of its own, a fixed one is
carved from train, by a hash of the file names, so that it is the same on every machine.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from tqdm.auto import tqdm

from helpers import downloads
from helpers.annotated import AnnotatedImages, Report
from helpers.csv_reader import read_csv_folder
from helpers.files import DATA, read_json
from helpers.flickr import captions_file, read_flickr8k
from helpers.images import DataError
from helpers.labels import Vocabulary
from helpers.layouts import LAYOUTS, find_layout, holding, instances, layout_of
from helpers.loaders import ImageDataset, collate, make_loader, seed_worker
from helpers.readers import read_coco, read_corel, read_voc
from helpers.records import SPLITS, Box, Reading, Record
from helpers.scenes import read_manifest, write_scenes
from helpers.splits import carve, divide, hash_splits

__all__ = [
    "AnnotatedImages",
    "Box",
    "ImageDataset",
    "Record",
    "Report",
    "collate",
    "load",
    "make_loader",
    "seed_worker",
]

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
