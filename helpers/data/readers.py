"""Readers of annotation files, one function per format, into one record type.

A reader is strict about what would change the labels in silence (an unknown category, a missing image, a file
in another encoding): DataError, naming the file and the fix. What it corrects or leaves out, it counts in
`Reading.notes`. All readers end in `_reading`, which checks what every format must fulfil. No image is opened
here.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from helpers.data.images import DataError
from helpers.data.records import SPLITS, Box, Record

# The 20 classes of PASCAL VOC in the order of its development kit, which is alphabetical.
VOC_LABELS = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
TOKEN_FILE, CSV_FILE = "Flickr8k.token.txt", "captions.txt"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
FLICKR_FOLDERS = (
    "Images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "images",
)  # the official name is misspelt
IMAGE_SUFFIXES = {
    f".{kind}"
    for kind in ["jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "jp2", "avif"]
}


class Reading(NamedTuple):
    """What a reader found.

    records: in the order of the file. labels: all of the data set, in the order of the format, whether they
    occur or not.
    notes:   what was corrected or left out, counted: {"duplicate labels in an image's list, kept once": 3}.
    splits:  "train", "val" or "test" of each record where the file says it (CSV, Flickr8k), else empty.
    """

    records: tuple[Record, ...]
    labels: tuple[str, ...]
    notes: Counter[str]
    splits: tuple[str, ...] = ()


class _Row(NamedTuple):
    """An image as a file has it: labels may repeat, and so may the image."""

    name: str
    labels: list[str]
    boxes: list[Box]
    captions: list[str]
    split: str = ""


# ---- data sets of the literature -----------------------------------------------------------------


def read_coco(
    instances_json: Path | str, image_dir: Path | str, captions_json: Path | str | None = None
) -> Reading:
    """Read COCO instance annotations (Lin et al., ECCV 2014), and captions if given.

    Labels are all categories in the order of their ids, an image's labels in the order of their first
    annotation. An annotation that is a crowd (a crowd of people is people, but its box is not the place of
    one of them), or that has `"placed": false` (an attribute of the whole scene), gives a label but no box.
    Raises DataError where a file is missing or not such JSON, a category is unknown or named twice, or an
    image is missing.
    """
    path, notes = Path(instances_json), Counter()
    with _expecting("COCO instances", path):
        content = json.loads(_read_text(path))
        names = {category["id"]: category["name"] for category in content["categories"]}
        rows = {image["id"]: _Row(image["file_name"], [], [], []) for image in content["images"]}
        for image in content["images"]:
            if (last := rows[image["id"]].name) != image["file_name"]:
                raise ValueError(f"image id {image['id']} stands for {image['file_name']} and {last}")
        for annotation in content["annotations"]:
            if annotation["image_id"] not in rows:
                notes["annotations of images that the file does not list, left out"] += 1
                continue
            row, category = rows[annotation["image_id"]], annotation["category_id"]
            label = names.get(category, f"category {category}")
            if label not in row.labels:
                row.labels.append(label)
            if annotation.get("iscrowd"):
                notes["crowd annotations, kept as labels without a box"] += 1
            elif annotation.get("placed", True):
                _add_box(row, label, annotation.get("bbox"), notes)
        labels = [names[number] for number in sorted(names)]
        if len(names) < len(content["categories"]):
            raise ValueError("a category id is there twice")
    if captions_json is not None:
        with _expecting("COCO captions", Path(captions_json)):
            for found in json.loads(_read_text(Path(captions_json)))["annotations"]:
                if found["image_id"] in rows:
                    rows[found["image_id"]].captions.append(found["caption"].strip())
                else:
                    notes["captions of images that the instances file does not list, left out"] += 1
    return _reading(path, Path(image_dir), rows.values(), labels, notes)


def read_corel(samples_json: Path | str, image_dir: Path | str) -> Reading:
    """Read a Corel-5k split: `{"samples": [{"image_name", "image_labels"}], "labels": [names]}`.

    Labels are in the order of the file's list, an image's labels in the order of its own. Raises DataError
    where the file is missing or not such JSON, a label is not in the list, or an image is missing.
    """
    path = Path(samples_json)
    with _expecting("a Corel-5k split", path):
        content = json.loads(_read_text(path))
        rows = [_Row(s["image_name"], list(s["image_labels"]), [], []) for s in content["samples"]]
        labels = list(content["labels"])
    return _reading(path, Path(image_dir), rows, labels, Counter())


def read_voc(folder: Path | str, split: str, *, difficult: bool = False) -> Reading:
    """Read a split of PASCAL VOC 2007 (Everingham et al., IJCV 2010) from its XML.

    Labels are `VOC_LABELS`; an image's labels are in the order of their first object. Raises DataError where
    the list, an annotation or an image is missing, an XML file is damaged, or a class is not of VOC.

    Args:
        folder: the folder `VOCdevkit/VOC2007`, with ImageSets/Main, Annotations and JPEGImages.
        split: a list in ImageSets/Main: "train", "val", "trainval" or "test".
        difficult: keep objects marked difficult. The VOC evaluation leaves them out, and so does the default.
    """
    folder, notes = Path(folder), Counter()
    path, rows = folder / "ImageSets" / "Main" / f"{split}.txt", []
    for image in _read_text(path).split():
        row, xml = _Row(f"{image}.jpg", [], [], []), folder / "Annotations" / f"{image}.xml"
        with _expecting("a VOC annotation", xml):
            for item in ElementTree.fromstring(_read_text(xml)).iterfind("object"):
                if (item.findtext("difficult") or "0").strip() == "1" and not difficult:
                    notes["objects marked difficult, left out"] += 1
                    continue
                label = (item.findtext("name") or "").strip()
                if label not in row.labels:
                    row.labels.append(label)
                left, top, right, bottom = (
                    float(item.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")
                )
                # VOC counts pixels from 1 and includes the last.
                _add_box(row, label, [left - 1, top - 1, right - left + 1, bottom - top + 1], notes)
        rows.append(row)
    return _reading(path, folder / "JPEGImages", rows, VOC_LABELS, notes)


def _add_box(row: _Row, label: str, bbox: Any, notes: Counter[str]) -> None:
    """Append the box [x, y, width, height], or count why there is none; the label stays in either case."""
    valid = isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(v, int | float) for v in bbox)
    if valid and all(map(math.isfinite, bbox)) and min(bbox[2:]) > 0:
        row.boxes.append(Box(label, *map(float, bbox)))
    else:
        notes["annotations without a box of four numbers and an area, kept as labels"] += 1


def captions_file(folder: Path) -> Path | None:
    """The captions of a Flickr8k folder: the official token file, else the CSV; None where there is neither.

    Any file may be called captions.txt: it counts only with the header `image,caption`.
    """
    for path in (folder / TOKEN_FILE, folder / "Flickr8k_text" / TOKEN_FILE, folder / CSV_FILE):
        if path.is_file():
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                header = file.readline(200).lower().replace(" ", "").strip()
            if path.name == TOKEN_FILE or header == "image,caption":
                return path
    return None


def read_flickr8k(folder: Path | str) -> Reading:
    """Read Flickr8k (Hodosh, Young and Hockenmaier, JAIR 2013): five captions per image, no labels.

    Two layouts: the authors' `Flickr8k.token.txt` (`name.jpg#0<tab>caption`), beside the folder
    Flicker8k_Dataset or in Flickr8k_text; and the CSV `captions.txt` with the header `image,caption`, beside
    the folder Images. Where both are there, the token file is read. Beside either, the lists
    `Flickr_8k.{train,dev,test}Images.txt` give the splits; without them `Reading.splits` is empty. All
    captions of an image are in one split, each once. Raises DataError where a line is not as above, an image
    is missing, or an image of a list has no caption or is in two lists.
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
    rows = [_Row(name, [], [], list(dict.fromkeys(captions[name])), splits.get(name, "")) for name in names]
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
                raise DataError(
                    f"{path}: {name} has no caption in {source.name}{_near(name, captions)}: correct it."
                )
            if splits.setdefault(name, split) != split:
                raise DataError(f"{path}: {name} is in {SPLIT_FILES[splits[name]]}, too. Keep one of them.")
    return splits


# ---- your own images -----------------------------------------------------------------------------


def read_csv_folder(folder: Path | str, csv_file: Path | str | None = None) -> Reading:
    """Read your own images: a folder with a CSV whose first line is `file,labels` or `file,labels,split`.

    One line per image; its labels are separated by `;` (`beach.jpg,sea;sky`), and an image without labels
    ends after the comma. Files are relative to the folder and may be in subfolders. Several lines of one file
    are merged, so one label per line works too. Columns may be separated by `;` or tabs, as spreadsheets in
    some countries save them. Labels are in alphabetical order. A quoted list with commas (`a.jpg,"bear,
    ice"`) is split where the file shows that it is one, see `_label_separator`. The CSV is by default
    `labels.csv` in the folder, or the only CSV there. Raises DataError where there is none or several, it is
    not UTF-8, its header or a line is not as above, a split is not train, val or test (or differs between
    lines of a file), or an image is missing.
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
                f"{path}, line {line}: the split is {split!r}, expected train, val or "
                f"test{_near(split, SPLITS)}. Correct it, or remove the column for a fixed 70/15/15 split."
            )
        rows.append(_Row(name, _label_list(cells["labels"], separator), [], [], split))
    labels = sorted({label for row in rows for label in row.labels}, key=lambda x: (x.casefold(), x))
    alike = len(labels) - len({label.casefold() for label in labels})
    notes["labels that differ from another only in capitals: check that both are meant"] = alike
    reading = _reading(path, folder, rows, labels, notes)
    images = (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    shown = {file for file in images if not any(p.startswith(".") for p in file.relative_to(folder).parts)}
    if unnamed := len(shown - {record.path for record in reading.records}):
        reading.notes["images in the folder that the CSV does not name, not used"] = unnamed
    return reading


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
    for unused in set(columns) - {"file", "labels", "split"}:
        notes[f"column {unused!r} of the CSV, not used"] = 1
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
    if with_comma and not any(";" in cell for cell in cells) and max(parts.values()) > 1:
        notes["different label lists with commas, split at each comma (`;` is the usual separator)"] = (
            with_comma
        )
        return ","
    notes["different labels with a comma, each kept as one label: separate labels by `;`"] = with_comma
    return ";"


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
    except DataError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, SyntaxError) as error:
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
                f"{source}: image {row.name} has the label {unknown[0]!r}, which is not among the "
                f"{len(labels)} of the data set{_near(str(unknown[0]), labels)}. Correct it or add it there."
            )
        first = merged.setdefault(path, row)
        if first.split != row.split:
            raise DataError(
                f"{source}: {row.name} is in split {first.split} and in {row.split}. Keep one of them."
            )
        notes["duplicate labels in an image's list, kept once"] += len(row.labels) - len(set(row.labels))
        notes["empty captions, left out"] += sum(not caption.strip(" .") for caption in row.captions)
        if first is not row:
            notes["images listed again, merged with the first"] += 1
            for part in ("labels", "boxes", "captions"):
                old = getattr(first, part)
                old += [x for x in getattr(row, part) if x not in old]
    records = (
        Record(
            path,
            tuple(dict.fromkeys(row.labels)),
            tuple(row.boxes),
            tuple(caption for caption in row.captions if caption.strip(" .")),
        )
        for path, row in merged.items()
    )
    splits = tuple(row.split for row in merged.values() if row.split)
    return Reading(tuple(records), tuple(labels), +notes, splits)  # +: without those that are 0


# A name that is absolute, on another drive or climbs out with "..": annotation files come from strangers.
_LEAVES_FOLDER = re.compile(r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|\0")


def _find_images(names: Iterable[str], folder: Path, source: Path, notes: Counter[str]) -> list[Path]:
    """The paths of `names` in `folder`, which must all exist: one listing per folder, no look at each file.

    A name that differs from its file's only in capitals or in the Unicode form of its accents (as happens
    between Windows, macOS and Linux) is taken to mean it and counted in `notes`.
    """
    listings: dict[str, dict[str, str]] = {}
    paths, missing = [], []
    for name in names:
        if _LEAVES_FOLDER.search(name):
            raise DataError(
                f"{source}: the image name {name!r} leads out of {folder}. Write it relative, without '..'."
            )
        parent, _, file = name.rpartition("/")
        if parent not in listings:
            files = _files(folder / parent)
            listings[parent] = {_one_form(found): found for found in files} | {
                found: found for found in files
            }
        found = listings[parent].get(file) or listings[parent].get(_one_form(file))
        if found is None:
            missing.append(name)
        else:
            notes["image names that differ from their file's in capitals or accents, corrected"] += (
                found != file
            )
            paths.append(folder / parent / found)
    if missing:
        held = sorted(_files(folder))[:3]
        raise DataError(
            f"{source}: {len(missing):,} of its {len(paths) + len(missing):,} images are missing in "
            f"{folder}: {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}. That folder holds "
            f"{', '.join(held) or 'no files'}{', …' if held else ''}. Put them there or remove their lines."
        )
    return paths


def _files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.is_dir()]


def _one_form(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _near(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), n=2)
    return f" (near: {', '.join(matches)})" if matches else ""
