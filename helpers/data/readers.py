"""Readers of annotation files, one function per format, into one record type.

A reader refuses what would change the labels in silence (an unknown category, a missing image, another
encoding): DataError, with the file and the fix. What it corrects or leaves out, it counts in `Reading.notes`.
All readers end in `_reading`, which checks what every format must fulfil. No image is opened here.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from helpers.data.files import leaves_folder
from helpers.data.images import DataError
from helpers.data.labels import did_you_mean
from helpers.data.records import SPLITS, Box, Record

# The 20 classes of PASCAL VOC in the order of its development kit, which is alphabetical.
VOC_LABELS = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
TOKEN_FILE, CSV_FILE = "Flickr8k.token.txt", "captions.txt"
SPLIT_FILES = {
    split: f"Flickr_8k.{name}Images.txt"
    for split, name in (("train", "train"), ("val", "dev"), ("test", "test"))
}
FLICKR_FOLDERS = ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "images")  # the official one is misspelt
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"}
IMAGE_SUFFIXES |= {".avif"}
FARTHEST = 1e9  # pixels; a box with a larger number is an error


class Reading(NamedTuple):
    """What a reader found.

    records: in the order of the file. labels: all of the data set, whether they occur or not.
    notes:   what was corrected or left out, counted: {"duplicate labels in an image's list, kept once": 3}.
    splits:  "train", "val" or "test" of each record where the file says it (CSV, Flickr8k), else empty.
    """

    records: tuple[Record, ...]
    labels: tuple[str, ...]
    notes: Counter[str]
    splits: tuple[str, ...] = ()


@dataclass
class _Row:
    """An image as a file has it: labels may repeat, and so may the image."""

    name: str
    labels: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    split: str = ""

    def add(self, label: str, bbox: Any, notes: Counter[str]) -> None:
        """Add a label, once, and its box [x, y, width, height]; None: the label has no box."""
        if label not in self.labels:
            self.labels.append(label)
        if bbox is None:
            return
        numbers = isinstance(bbox, list) and all(isinstance(v, int | float) for v in bbox)
        if numbers and len(bbox) == 4 and all(abs(v) < FARTHEST for v in bbox) and min(bbox[2:]) > 0:
            self.boxes.append(Box(label, *map(float, bbox)))
        else:
            notes["annotations without a box of four numbers and an area, kept as labels"] += 1


# ---- data sets of the literature -----------------------------------------------------------------


def read_coco(
    instances_json: Path | str, image_dir: Path | str, captions_json: Path | str | None = None
) -> Reading:
    """Read COCO instance annotations (Lin et al., ECCV 2014), and captions if given.

    Labels are all categories in the order of their ids, an image's labels in the order of their first
    annotation. A crowd (its box is not the place of one of them) and an annotation with `"placed": false` (an
    attribute of the whole scene) give a label but no box.
    """
    path, notes = Path(instances_json), Counter()
    with _expecting("COCO instances", path):
        content = json.loads(_read_text(path))
        names = {category["id"]: category["name"] for category in content["categories"]}
        if len(names) < len(content["categories"]):
            raise ValueError("a category id is there twice")
        rows: dict[Any, _Row] = {}
        for image in content["images"]:
            number, name = image["id"], image["file_name"]
            if (first := rows.setdefault(number, _Row(name)).name) != name:
                raise ValueError(f"image id {number} stands for {first} and {name}")
        for found in content["annotations"]:
            if (row := rows.get(found["image_id"])) is None:
                notes["annotations of images that the file does not list, left out"] += 1
                continue
            label = names.get(found["category_id"], f"category {found['category_id']}")
            crowd = bool(found.get("iscrowd"))
            notes["crowd annotations, kept as labels without a box"] += crowd
            has_box = not crowd and found.get("placed", True)
            row.add(label, (found.get("bbox") or []) if has_box else None, notes)
        labels = [names[number] for number in sorted(names)]
    if captions_json is not None:
        with _expecting("COCO captions", Path(captions_json)):
            for found in json.loads(_read_text(Path(captions_json)))["annotations"]:
                if (row := rows.get(found["image_id"])) is None:
                    notes["captions of images that the instances file does not list, left out"] += 1
                else:
                    row.captions.append(found["caption"].strip())
    return _reading(path, Path(image_dir), rows.values(), labels, notes)


def read_corel(samples_json: Path | str, image_dir: Path | str) -> Reading:
    """Read a Corel-5k split: `{"samples": [{"image_name", "image_labels"}], "labels": [names]}`."""
    path = Path(samples_json)
    with _expecting("a Corel-5k split", path):
        content = json.loads(_read_text(path))
        rows = [_Row(s["image_name"], list(s["image_labels"])) for s in content["samples"]]
        labels = list(content["labels"])
    return _reading(path, Path(image_dir), rows, labels, Counter())


def read_voc(folder: Path | str, split: str) -> Reading:
    """Read a split of PASCAL VOC 2007 (Everingham et al., IJCV 2010) from its XML.

    folder: `VOCdevkit/VOC2007`, with ImageSets/Main, Annotations and JPEGImages. split: a list in
    ImageSets/Main. Labels are `VOC_LABELS`; an image's labels are in the order of their first object. Objects
    marked difficult are left out, as in the VOC evaluation.
    """
    folder, notes, rows = Path(folder), Counter(), []
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    for image in _read_text(path).split():
        row, xml = _Row(f"{image}.jpg"), folder / "Annotations" / f"{image}.xml"
        with _expecting("a VOC annotation", xml):
            root = ElementTree.fromstring(_read_text(xml))
            if root.tag != "annotation":
                raise ValueError(f"the outermost element is <{root.tag}>, expected <annotation>")
            for item in root.iterfind("object"):
                if (item.findtext("difficult") or "0").strip() == "1":
                    notes["objects marked difficult, left out"] += 1
                    continue
                sides = ("xmin", "ymin", "xmax", "ymax")
                left, top, right, bottom = (float(item.findtext(f"bndbox/{side}", "nan")) for side in sides)
                # VOC counts pixels from 1 and includes the last.
                box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
                row.add((item.findtext("name") or "").strip(), box, notes)
        rows.append(row)
    return _reading(path, folder / "JPEGImages", rows, VOC_LABELS, notes)


def captions_file(folder: Path) -> Path | None:
    """The official token file of a Flickr8k folder, else a CSV with the header `image,caption`, else None."""
    for path in (folder / TOKEN_FILE, folder / "Flickr8k_text" / TOKEN_FILE, folder / CSV_FILE):
        if path.is_file():
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                header = file.readline(200).lower().replace(" ", "").strip()
            if path.name == TOKEN_FILE or header == "image,caption":
                return path
    return None


def read_flickr8k(folder: Path | str) -> Reading:
    """Read Flickr8k (Hodosh, Young and Hockenmaier, JAIR 2013): five captions per image, no labels.

    Two layouts: the authors' `Flickr8k.token.txt` (`name.jpg#0<tab>caption`), beside Flicker8k_Dataset or in
    Flickr8k_text; and the CSV `captions.txt` (`image,caption`), beside Images. The token file is read where
    both are there. The lists `Flickr_8k.{train,dev,test}Images.txt` beside it give the splits; without them
    `Reading.splits` is empty. All captions of an image are in one split, each once.
    """
    folder, notes = Path(folder), Counter()
    path = captions_file(folder)
    if path is None:
        raise DataError(
            f"{folder}: expected {TOKEN_FILE}, or {CSV_FILE} with the first line `image,caption`."
        )
    captions: dict[str, list[str]] = {}
    for line, name, text in _flickr_lines(path, notes):
        if not name:
            raise DataError(
                f"{path}, line {line}: found {text[:80]!r}, expected `name.jpg#0<tab>caption` in a token "
                "file or `name.jpg,caption` in a CSV. Correct or remove the line."
            )
        captions.setdefault(name, []).append(" ".join(text.split()))
    splits = _flickr_splits(path, captions)
    names = [name for name in captions if not splits or name in splits]
    notes["images with captions that are in no list of a split, not used"] += len(captions) - len(names)
    rows = [
        _Row(name, captions=list(dict.fromkeys(captions[name])), split=splits.get(name, "")) for name in names
    ]
    images = next((folder / name for name in FLICKR_FOLDERS if (folder / name).is_dir()), folder)
    return _reading(path, images, rows, (), notes)


def _flickr_lines(path: Path, notes: Counter[str]) -> Iterator[tuple[int, str, str]]:
    """Line number, image and caption; no image where the line is not as it should be."""
    if path.name == CSV_FILE:
        for line, (name, *parts) in list(_csv_lines(path, ","))[1:]:
            notes["captions with commas that were not quoted, put together again"] += len(parts) > 1
            yield line, name.strip() if parts else "", ",".join(parts or [name])
        return
    for line, text in enumerate(_read_text(path).split("\n"), 1):
        if text.strip():
            match = re.fullmatch(r"([^\t]+)#\d+\t(.*)", text.rstrip("\r"))
            yield (line, match[1].strip(), match[2]) if match else (line, "", text)


def _flickr_splits(source: Path, captions: Collection[str]) -> dict[str, str]:
    """The split of each image of the three lists beside the captions; {} where there are no lists at all."""
    lists = {split: source.with_name(name) for split, name in SPLIT_FILES.items()}
    splits: dict[str, str] = {}
    for split, path in lists.items() if any(path.is_file() for path in lists.values()) else ():
        for name in _read_text(path).split():
            if name not in captions:
                meant = did_you_mean(name, captions)
                raise DataError(f"{path}: {name} has no caption in {source.name}: correct it.{meant}")
            if splits.setdefault(name, split) != split:
                raise DataError(f"{path}: {name} is in {SPLIT_FILES[splits[name]]}, too. Keep one of them.")
    return splits


# ---- your own images -----------------------------------------------------------------------------


def read_csv_folder(folder: Path | str, csv_file: Path | str | None = None) -> Reading:
    """Read your own images: a folder with a CSV whose first line is `file,labels` or `file,labels,split`.

    One line per image, its labels separated by `;` (`beach.jpg,sea;sky`); an image without labels ends after
    the comma. Files are relative to the folder and may be in subfolders. Several lines of one file are
    merged. Columns may also be separated by `;` or tabs, as some spreadsheets save them. A quoted list with
    commas is split where the file shows that it is one, see `_label_separator`. Labels are in alphabetical
    order. The CSV is by default `labels.csv` in the folder, or the only CSV there.
    """
    folder, notes = Path(folder), Counter()
    path = _find_csv(folder) if csv_file is None else Path(csv_file)
    lines = list(_own_lines(path, notes))
    separator = _label_separator({cells["labels"].strip() for _, cells in lines}, notes)
    rows = []
    for line, cells in lines:
        name = unicodedata.normalize("NFC", cells["file"].strip().replace("\\", "/").removeprefix("./"))
        if not name:
            raise DataError(f"{path}, line {line}: the file name is empty. Write it or remove the line.")
        split = cells.get("split", "").strip().lower()
        if "split" in cells and split not in SPLITS:
            raise DataError(
                f"{path}, line {line}: the split is {split!r}, expected train, val or test. Correct it, or "
                "remove the column for a fixed 70/15/15 split."
            )
        rows.append(_Row(name, _label_list(cells["labels"], separator), split=split))
    labels = sorted({label for row in rows for label in row.labels}, key=lambda x: (x.casefold(), x))
    reading = _reading(path, folder, rows, labels, notes)
    reading.notes.update(_doubtful(reading))
    images = (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    shown = {file for file in images if not any(p.startswith(".") for p in file.relative_to(folder).parts)}
    unnamed = len(shown - {record.path for record in reading.records})
    reading.notes["images in the folder that the CSV does not name, not used"] = unnamed
    return reading._replace(notes=+reading.notes)  # +: without those that are 0


def _find_csv(folder: Path) -> Path:
    found = sorted(folder.glob("*.csv"))
    if folder / "labels.csv" in found:
        return folder / "labels.csv"
    if len(found) != 1:
        raise DataError(
            f"{folder}: found {', '.join(file.name for file in found) or 'no CSV file'}, expected labels.csv "
            "with the first line `file,labels` and then one line per image, such as `beach.jpg,sea;sky`."
        )
    return found[0]


def _own_lines(path: Path, notes: Counter[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells (file, labels and, where the header has it, split) of each line of the CSV."""
    meant = {"image": "file", "filename": "file", "label": "labels"}
    first = re.split(r"[\r\n]", _read_text(path), maxsplit=1)[0]
    for delimiter in ",;\t":
        header = [cell.strip().lower() for cell in first.replace('"', "").split(delimiter)]
        columns = [meant.get(cell, cell) for cell in header]
        if columns.count("file") == columns.count("labels") == 1 and columns.count("split") <= 1:
            break
    else:
        raise DataError(
            f"{path}: the first line is {first[:80]!r}, expected `file,labels` (or `file,labels,split`). Put "
            "it above the first image."
        )
    notes.update(
        f"column {unused!r} of the CSV, not used" for unused in {*columns} - {"file", "labels", "split"}
    )
    for line, cells in list(_csv_lines(path, delimiter))[1:]:
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {line}: {len(cells)} cells, but the first line has {len(columns)}. Separate "
                "labels with `;`, quote a name that holds a comma, and write `beach.jpg,` for no labels."
            )
        yield line, dict(zip(columns, cells, strict=True))


def _label_separator(cells: set[str], notes: Counter[str]) -> str:
    """`;`, or `,` where no list has a `;` and a part between commas is in two lists; with a note."""
    with_comma = sum("," in cell for cell in cells)
    parts = Counter(part for cell in cells for part in set(_label_list(cell, ",")))
    if with_comma and max(parts.values()) > 1 and not any(";" in cell for cell in cells):
        separator, what = ",", "label lists with commas, split at each comma (`;` is the usual separator)"
    else:
        separator, what = ";", "labels with a comma, each kept as one label: separate labels by `;`"
    notes[f"different {what}"] = with_comma
    return separator


def _doubtful(reading: Reading) -> dict[str, int]:
    """Notes on labels that may be slips: those of one image only, and those that look like another one."""
    frequency = Counter(label for record in reading.records for label in record.labels)
    once = [label for label in reading.labels if frequency[label] == 1]
    forms: dict[str, list[str]] = defaultdict(list)  # without capitals, blanks, the end of a plural, y for i
    for label in reading.labels:
        forms[re.sub(r"[\W_]+", "", label.casefold()).replace("y", "i").rstrip("es") or label].append(label)
    alike = {tuple(group[:2]) for group in forms.values() if len(group) > 1}
    same_start: dict[str, list[str]] = defaultdict(
        list
    )  # and the same digits: "room 1" and "room 2" are both meant
    for label in reading.labels:
        same_start[label[0] + re.sub(r"\D", "", label)].append(label)
    for group in same_start.values():
        for label in set(group).intersection(once[:200]):  # to compare more would take long
            near = difflib.get_close_matches(label, group, n=2, cutoff=0.8)  # the nearest is the label itself
            alike |= {tuple(sorted((label, other))) for other in near[1:]}
    pairs = sorted(" / ".join(pair) for pair in alike)
    return {
        f"labels that only one image has: {_first(once)}": len(once),
        f"pairs of labels that look alike, check that both are meant: {_first(pairs)}": len(pairs),
    }


def _label_list(cell: str, separator: str) -> list[str]:
    # One blank between words and one Unicode form, or "hot  dog" would be a label beside "hot dog".
    parts = (" ".join(unicodedata.normalize("NFC", part).split()) for part in cell.split(separator))
    return [part for part in parts if part]


# ---- what the readers share ----------------------------------------------------------------------


@contextmanager
def _expecting(what: str, path: Path) -> Iterator[None]:
    """Whatever reading a malformed file raises becomes a DataError that names the file."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a stranger's file can have anything anywhere
        raise DataError(
            f"{path}: not {what} ({type(error).__name__}: {error}). Is it cut short, or a file of another "
            "kind? Correct it, or copy or download it again."
        ) from error


def _read_text(path: Path) -> str:
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
            f"{path}, line {line}: not UTF-8 (found the bytes {content[error.start : error.start + 4]!r}). "
            'Save it as UTF-8: a spreadsheet offers "CSV UTF-8", an editor "Save with encoding".'
        ) from error


def _csv_lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line of a CSV that is not empty."""
    rows = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        yield from ((rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells))
    except csv.Error as error:
        message = f"{path}, line {rows.line_num}: not valid CSV ({error}). Check the quotes."
        raise DataError(message) from error


def _reading(
    source: Path, folder: Path, rows: Collection[_Row], labels: Sequence[str], notes: Counter[str]
) -> Reading:
    """Rows to records: every image exists, every label is known; one record per image, each label once."""
    if bad := [x for x in (*labels, *(row.name for row in rows)) if not isinstance(x, str) or not x.strip()]:
        raise DataError(f"{source}: a label or an image name is {bad[0]!r}, expected a text. Correct it.")
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise DataError(f"{source}: the label {twice[0]!r} is there twice. Give each label one entry.")
    if not rows:
        raise DataError(f"{source}: has no images. Add some, or copy or download it again.")
    merged, known = {}, set(labels)
    for row, path in zip(rows, _find_images([row.name for row in rows], folder, source, notes), strict=True):
        if unknown := [label for label in row.labels if not isinstance(label, str) or label not in known]:
            raise DataError(
                f"{source}: image {row.name} has the label {unknown[0]!r}, which is not among the {len(labels)} of "
                f"the data set. Correct it or add it there.{did_you_mean(str(unknown[0]), labels)}"
            )
        first = merged.setdefault(path, row)
        if first.split != row.split:
            raise DataError(
                f"{source}: {row.name} is in split {first.split} and in {row.split}. Keep one of them."
            )
        notes["duplicate labels in an image's list, kept once"] += len(row.labels) - len(set(row.labels))
        notes["empty captions, left out"] += sum(not _has_words(caption) for caption in row.captions)
        if first is not row:
            notes["images listed again, merged with the first"] += 1
            for part in ("labels", "boxes", "captions"):
                old = getattr(first, part)
                old += [x for x in getattr(row, part) if x not in old]
    records = (
        Record(
            path, tuple(dict.fromkeys(row.labels)), tuple(row.boxes), tuple(filter(_has_words, row.captions))
        )
        for path, row in merged.items()
    )
    splits = tuple(row.split for row in merged.values() if row.split)
    return Reading(tuple(records), tuple(labels), +notes, splits)  # +: without those that are 0


def _has_words(caption: str) -> bool:
    return bool(caption.strip(" ."))


def _find_images(names: Iterable[str], folder: Path, source: Path, notes: Counter[str]) -> list[Path]:
    """The paths of `names` in `folder`, which must all exist: one listing per folder, no look at each file.

    A name may differ from its file's in capitals or in the Unicode form of its accents, as happens between
    Windows, macOS and Linux. This is counted in `notes`, and so are links out of `folder`.
    """
    listings: dict[str, dict[str, str]] = {}
    links: set[Path] = set()
    paths, missing = [], []
    for name in names:
        if leaves_folder(name):  # annotation files come from strangers
            raise DataError(
                f"{source}: the image name {name!r} leads out of {folder}. Write it relative, without '..'."
            )
        parent, _, file = name.rpartition("/")
        if parent not in listings:
            files = _files(folder / parent)
            listings[parent] = {_one_form(f): f for f in files} | {f: f for f in files}
            inside = (folder / parent).resolve().is_relative_to(folder.resolve())
            links |= {folder / parent / f for f, is_link in files.items() if is_link or not inside}
        found = listings[parent].get(file) or listings[parent].get(_one_form(file))
        if found is None:
            missing.append(name)
            continue
        changed = "image names that differ from their file's in capitals or accents, corrected"
        notes[changed] += found != file
        paths.append(folder / parent / found)
    if missing:
        held = sorted(_files(folder))
        raise DataError(
            f"{source}: {len(missing):,} of its {len(paths) + len(missing):,} images are missing in {folder}: "
            f"{_first(missing)}. That folder holds {_first(held, 3) or 'no files'}. Put them there or remove "
            "their lines."
        )
    out = [path for path in links.intersection(paths) if not path.resolve().is_relative_to(folder.resolve())]
    notes["images that are links out of the image folder: check that they are meant"] += len(out)
    return paths


def _files(folder: Path) -> dict[str, bool]:
    """The names of the files in a folder, and whether each is a link."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.is_symlink() for entry in entries if not entry.is_dir()}


def _one_form(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _first(words: Sequence[str], count: int = 5) -> str:
    return ", ".join(words[:count]) + ", …" * (len(words) > count)
