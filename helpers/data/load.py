"""Data sets by name or by folder: `load` finds one, reads it and gives it three fixed splits.

A test split is never used to choose anything: where a data set has no validation split of its own, a fixed
one is carved from train, by a hash of the file names, so that it is the same on every machine.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from helpers.data import downloads
from helpers.data.files import DATA, read_json
from helpers.data.images import DataError
from helpers.data.labels import Vocabulary, did_you_mean
from helpers.data.readers import (
    Reading,
    captions_file,
    read_coco,
    read_corel,
    read_csv_folder,
    read_flickr8k,
    read_voc,
)
from helpers.data.records import SPLITS, AnnotatedImages, Record, same_content
from helpers.scenes.write import read_manifest, write_scenes

# The named data sets and the layout of each.
SOURCES = {"scenes": "coco", "corel5k": "corel", "coco2014": "coco", "coco2017": "coco"}
SOURCES |= {"voc2007": "voc", "flickr8k": "flickr"}
OWN_SHARES = (0.70, 0.85)  # your own images: train below the first, test from the second on
VAL_SHARE, VAL_MOST = 0.10, 5000  # what is carved from train: a tenth, at most 5,000 images
COREL_VAL_SHARE, COREL_VAL_MOST = 1 / 5, 500  # 500 of the 4,500 training images


def load(
    source: str | Path = "scenes",
    data_dir: Path | str | None = None,
    *,
    unlabelled: Literal["keep", "drop"] = "keep",
    seed: int = 0,
    download: bool = False,
    progress: bool = True,
) -> AnnotatedImages:
    """Load a data set by name, or your own images by folder; data/README.md describes all of them.

    "scenes" is drawn on first use. Splits: scenes and VOC have all three. Corel-5k: val is 500 of the 4,500
    training images. COCO: test is the official val, and val a tenth of train (at most 5,000). Flickr8k: its
    lists, where they are there. Your own: the CSV's split column, else 70/15/15 by a hash of each file name,
    so that an image stays in its split when you add others.

    source: a key of `SOURCES`, or the path of a folder in one of these layouts or with a CSV (or of the CSV).
    data_dir: folder of the named data set; by default data/<source> of the repository.
    unlabelled: "keep" or "drop" images without labels, after the splits are made.
    seed: of the carved splits. Results compare only for the same seed.
    download: fetch a named data set that is not there from its official source (COCO: 20 GB).

    Raises DataError where the data are not there, or bad, and ValueError for an unknown option.
    """
    if unlabelled not in ("keep", "drop"):
        raise ValueError(f'unlabelled must be "keep" or "drop", found {unlabelled!r}')
    if source in SOURCES:
        name = str(source)
        folder = _named_folder(name, Path(data_dir or DATA / name), download, progress)
    else:
        folder = _own_folder(source, data_dir)
        name = (folder.parent if folder.is_file() else Path(source)).resolve().name
    layout = layout_of(folder)
    if layout in ("csv", "flickr"):
        labels, splits, notes = _from_one_file(folder, layout, seed)
    elif layout is not None:
        year = {"coco2014": "2014", "coco2017": "2017", "scenes": ""}.get(str(source))
        labels, splits, notes = _from_files(folder, layout, year, progress)
    else:
        raise DataError(
            f"{folder}: {_holding(folder)}, which is none of the layouts that can be read. Expected a CSV "
            "(file,labels), annotations/instances_train*.json (COCO), ImageSets/Main (VOC), train.json and "
            "test.json (Corel-5k), or Flickr8k.token.txt or captions.txt with the first line "
            "`image,caption` (Flickr8k)."
        )
    if "val" not in splits:
        corel = {"share": COREL_VAL_SHARE, "most": COREL_VAL_MOST} if layout == "corel" else {}
        notes.append(carve(splits, seed, **corel))
    return _assemble(name, labels, splits, notes, unlabelled)


# ---- where it lies -------------------------------------------------------------------------------


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
        raise DataError(f'{folder}: the download was cut off. load("{source}", download=True) continues it.')
    if found is None:
        fetch = f'load("{source}", download=True) fetches it. ' if source in downloads.SOURCES else ""
        raise DataError(
            f"{folder}: {source} is not there (the folder {_holding(folder)}). If you have it elsewhere, "
            f"give data_dir. {fetch}{downloads.manual_route(source, folder)}"
        )
    return found


def _own_folder(source: str | Path, data_dir: Path | str | None) -> Path:
    """The folder (or CSV) that a path names."""
    if data_dir is not None:
        raise ValueError(f"data_dir goes with a name, and {str(source)!r} is a path: give one of both")
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"{source}: neither a data set ({', '.join(SOURCES)}) nor a folder below {Path.cwd()}."
            f"{did_you_mean(str(source), SOURCES)}"
        )
    return path if path.is_file() else _find_layout(path) or path


def layout_of(folder: Path) -> str | None:
    """The layout of a folder: "voc", "coco", "corel", "flickr", "csv" (also for a CSV file), or None."""
    if folder.is_file():
        return "csv"
    if (folder / "ImageSets" / "Main").is_dir():
        return "voc"
    if _instances(folder):
        return "coco"
    if (folder / "train.json").is_file() and (folder / "test.json").is_file():
        return "corel"
    if captions_file(folder) is not None and not (folder / "labels.csv").is_file():
        return "flickr"
    return "csv" if any(folder.glob("*.csv")) else None


def _find_layout(folder: Path, source: str = "") -> Path | None:
    """The folder itself, or the usual one below it, that has the layout of `source`, or any."""
    for part in (".", source, "VOC2007", "VOCdevkit/VOC2007"):
        layout = layout_of(folder / part)
        if layout is not None and layout == SOURCES.get(source, layout):
            return folder / part
    return None


def _holding(folder: Path) -> str:
    if not folder.is_dir():
        return "does not exist"
    names = sorted(path.name for path in folder.iterdir())
    return f"holds {', '.join(names[:5])}{', …' if len(names) > 5 else ''}" if names else "is empty"


def _instances(folder: Path) -> dict[str, dict[str, Path]]:
    """COCO instance files by what follows the split's name: {"2014": {"train": path, "val": path}}."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for base in (folder, folder / "annotations"):
        for path in sorted(base.glob("instances_*.json")):
            if match := re.fullmatch(r"instances_(train|val|test)(.*)\.json", path.name):
                found[match[2]][match[1]] = path
    return found


# ---- its splits ----------------------------------------------------------------------------------

# All labels, the records of each split (without val where one is to be carved), and notes.
_Parts = tuple[tuple[str, ...], dict[str, tuple[Record, ...]], list[str]]


def _from_one_file(folder: Path, layout: str, seed: int) -> _Parts:
    """A data set with one file for all its images: a CSV, or Flickr8k."""
    if layout == "flickr":
        reading, title = read_flickr8k(folder), "captions"
        names = [record.path.name for record in reading.records]
    else:
        folder, csv_file = (folder.parent, folder) if folder.is_file() else (folder, None)
        reading, title = read_csv_folder(folder, csv_file), csv_file.name if csv_file else "CSV"
        names = [record.path.relative_to(folder).as_posix() for record in reading.records]
    notes, chosen = _notes(title, reading), reading.splits
    if not chosen:
        chosen = hash_splits([unicodedata.normalize("NFC", name) for name in names], seed)
        where = "lists of the splits" if layout == "flickr" else "a column `split`"
        notes.append(f"split 70/15/15 by a hash of the file names (seed {seed}); {where} would say otherwise")
    split_of = dict(zip((record.path for record in reading.records), chosen, strict=True))
    splits = {
        split: tuple(record for record in reading.records if split_of[record.path] == split)
        for split in SPLITS
    }
    if reading.splits and not splits["val"] and len(splits["train"]) > 1:
        del splits["val"]
    if layout == "csv":
        groups = same_content(list(split_of), progress=False)
        if twice := [group for group in groups if len({split_of[path] for path in group}) > 1]:
            named = " = ".join(f"{path.name} ({split_of[path]})" for path in twice[0])
            notes.append(
                f"{len(twice):,} images are in two splits under different names: {named} for example"
            )
    return reading.labels, splits, notes


def _from_files(folder: Path, layout: str, year: str | None, progress: bool) -> _Parts:
    """A data set with an annotation file per split: COCO (of a year, if that is known), VOC or Corel-5k."""
    if layout == "coco":
        suffix, files = _coco_files(folder, year)
    elif layout == "voc":
        files = {split: Path(f"{split}.txt") for split in SPLITS}
    else:
        files = {split: folder / f"{split}.json" for split in ("train", "test")}
    labels, splits, notes = None, {}, []
    # Shown if it takes more than a second (COCO: about 15).
    bar = tqdm(files.items(), desc="reading annotations", unit="file", delay=1, disable=not progress)
    for split, path in bar:
        if layout == "coco":
            places = (folder / f"{split}{suffix}", folder / "images" / f"{split}{suffix}", folder / "images")
            images = next((place for place in places if place.is_dir()), places[0])
            captions = path.with_name(f"captions_{split}{suffix}.json")
            reading = read_coco(path, images, captions if captions.is_file() else None)
        elif layout == "voc":
            reading = read_voc(folder, split)
        else:
            reading = read_corel(path, folder / split)
        labels = labels or reading.labels
        if reading.labels != labels:
            odd = ", ".join(sorted(set(reading.labels) ^ set(labels))[:5]) or "in their order"
            raise DataError(
                f"{folder}: the label lists of {files['train'].name} and {path.name} differ ({odd}). Give "
                "both the same."
            )
        splits[split] = reading.records
        notes += _notes(path.name, reading)
    if "test" not in splits:  # the annotations of COCO's official test split are not public
        splits["test"] = splits.pop("val")
        notes.append("test is the official val split, as usual: the labels of the official test are secret")
    return labels, splits, notes


def _coco_files(folder: Path, year: str | None) -> tuple[str, dict[str, Path]]:
    """What follows the split's name in the instance files, and the file of each split, train first."""
    found = _instances(folder)
    if year is not None:
        found = {year: found.get(year, {})}
    if len(found) > 1:
        years = " and ".join(map(repr, found))
        raise DataError(f'{folder}: has instance files of {years}. Say which: load("coco2014", folder).')
    [(suffix, files)] = found.items()
    if "train" not in files or not {"val", "test"} & files.keys():
        held = ", ".join(path.name for path in files.values()) or "neither"
        raise DataError(
            f"{folder}: expected annotations/instances_train{suffix}.json and instances_val{suffix}.json, "
            f"found {held}."
        )
    return suffix, {split: files[split] for split in SPLITS if split in files}


def _notes(file: str, reading: Reading) -> list[str]:
    return [f"{file}: {count:,} {what}" for what, count in reading.notes.items()]


def _assemble(
    name: str,
    labels: tuple[str, ...],
    splits: dict[str, tuple[Record, ...]],
    notes: list[str],
    unlabelled: str,
) -> AnnotatedImages:
    """The checks that every data set goes through."""
    only_captions = not labels and any(record.captions for record in splits["train"])
    if unlabelled == "drop" and only_captions:
        raise DataError(f"{name}: has no labels, so no image would be left: keep the unlabelled ones.")
    for split, records in splits.items() if unlabelled == "drop" else ():
        splits[split] = tuple(record for record in records if record.labels)
        if dropped := len(records) - len(splits[split]):
            notes.append(f"{split}: {dropped:,} images without labels, dropped")
    if not splits["train"]:
        raise DataError(f"{name}: no image is in the train split. Add images, or a column `split`.")
    notes += [f"{split}: has no images" for split in SPLITS if not splits[split]]
    paths = {split: {record.path for record in records} for split, records in splits.items()}
    for a, b in combinations(SPLITS, 2):
        if shared := len(paths[a] & paths[b]):
            notes.append(f"{shared:,} images are in {a} and in {b}: results on {b} will be too good")
    vocabulary = Vocabulary.none() if only_captions else Vocabulary(labels)
    return AnnotatedImages(name, vocabulary, **splits, notes=tuple(notes))


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


def carve(
    splits: dict[str, tuple[Record, ...]], seed: int, *, share: float = VAL_SHARE, most: int = VAL_MOST
) -> str:
    """Move a share of train to val: the first by the hash of their file names; returns the note.

    The last image with one of its labels stays in train: the label could not be learned without it.
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
    return (
        f"val is {len(chosen):,} of the {len(train):,} training images, by a hash of the names (seed {seed})"
    )


def _rank(name: str, seed: int) -> float:
    """A number in [0, 1) drawn from a name: the same on every machine and in every version of Python."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big") / 2**48
