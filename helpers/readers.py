"""Readers of annotation files, one function a format, into one record type. Taught in notebook 01.

Every reader is strict about what would change the labels in silence (an unknown category, a missing image, a
file in another encoding): DataError, naming the file and the mend. What it mends or leaves out, it counts in
`Reading.notes`. That all images exist is checked here, from directory listings; their content when they are opened.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import json
import math
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.etree import ElementTree

from .images import DataError

SPLITS = ("train", "val", "test")
# The 20 classes of PASCAL VOC in the order of its development kit, which is alphabetical.
VOC_LABELS = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
)
# A name that is absolute, on another drive or climbs out with "..": annotation files come from strangers.
_LEAVES_FOLDER = re.compile(r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|\0")
_FILE_COLUMNS, _LABEL_COLUMNS = ("file", "image", "filename"), ("labels", "label")


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


def read_coco(
    instances_json: Path | str,
    image_dir: Path | str,
    captions_json: Path | str | None = None,
    *,
    crowd: Literal["label", "box", "drop"] = "label",
) -> Reading:
    """Read COCO instance annotations (Lin et al., ECCV 2014), and captions if given. Taught in notebook 01.

    Labels are the categories in the order of their ids, which for COCO is the usual order of the 80 (person,
    bicycle, car, …), all of them even if some do not occur. An image's labels stand in the order of their first
    annotation. An annotation with `"placed": false` (an attribute of the whole scene) gives a label but no box.

    Args:
        instances_json: for instance `annotations/instances_val2017.json`.
        image_dir: folder of the images that its `file_name`s are relative to.
        captions_json: for instance `annotations/captions_val2017.json`.
        crowd: what an `iscrowd` annotation gives: a "label" (a crowd of people is people, but its box is not the
            place of one of them), the label and a "box", or nothing ("drop").

    Raises:
        DataError: a file is missing or not such JSON, a category is unknown or named twice, an id stands for
            two images, an image is missing.
    """
    path, notes = Path(instances_json), Counter()
    if crowd not in ("label", "box", "drop"):
        raise ValueError(f'crowd must be "label", "box" or "drop", found {crowd!r}')
    content = _read_json(path, {"images": list, "annotations": list, "categories": list})
    names = _coco_categories(content["categories"], path)
    files = _coco_files(content["images"], path)
    annotations = _by_image(content, names, path)
    if strays := sum(len(found) for image, found in annotations.items() if image not in files):
        notes["annotations of images that the file does not list, left out"] += strays
    captions = _coco_captions(Path(captions_json), files, notes) if captions_json is not None else {}
    entries = [image["id"] for image in content["images"]]
    paths = find_images([files[image] for image in entries], Path(image_dir), path, notes)

    rows = []
    for image, file in zip(entries, paths, strict=True):
        labels, boxes = [], []
        for annotation in annotations.get(image, ()):
            is_crowd = bool(annotation.get("iscrowd", 0))
            if is_crowd and crowd == "drop":
                notes["crowd annotations, left out"] += 1
                continue
            label = names[annotation["category_id"]]
            labels.append(label)
            if is_crowd and crowd == "label":
                notes["crowd annotations, kept as labels without a box"] += 1
            elif annotation.get("placed", True):
                _add_box(boxes, label, annotation.get("bbox"), notes)
        rows.append((file, tuple(dict.fromkeys(labels)), tuple(boxes), captions.get(image, ())))
    return Reading(_merge(rows, notes), tuple(names[i] for i in sorted(names)), notes)


def read_corel(samples_json: Path | str, image_dir: Path | str) -> Reading:
    """Read a Corel-5k split: `{"samples": [{"image_name", "image_labels"}], "labels": [names]}`.

    Labels stand in the order of the file's list, an image's labels in the order of its own. Taught in notebook 01.

    Raises:
        DataError: the file is missing or not such JSON, a label is not in the list, an image is missing.
    """
    path, notes = Path(samples_json), Counter()
    content = _read_json(path, {"samples": list, "labels": list})
    known = dict.fromkeys(_text(label, "a label of the list", path) for label in content["labels"])
    names, labels = [], []
    for position, sample in enumerate(content["samples"]):
        if not isinstance(sample, dict) or not isinstance(sample.get("image_labels"), list):
            raise DataError(
                f'{path}: sample {position} is not {{"image_name": …, "image_labels": […]}}: mend or remove it.'
            )
        names.append(_text(sample.get("image_name"), f"the image_name of sample {position}", path))
        for label in sample["image_labels"]:
            if not isinstance(label, str) or label not in known:
                raise DataError(
                    f"{path}: image {names[-1]} has the label {label!r}, which is not among the {len(known)} of the "
                    f'file\'s "labels"{_near(str(label), known)}. Mend its spelling or add it to "labels".'
                )
        labels.append(tuple(sample["image_labels"]))
    paths = find_images(names, Path(image_dir), path, notes)
    rows = [(file, found, (), ()) for file, found in zip(paths, labels, strict=True)]
    return Reading(_merge(rows, notes), tuple(known), notes)


def read_voc(folder: Path | str, split: str, *, difficult: bool = False) -> Reading:
    """Read a split of PASCAL VOC 2007 (Everingham et al., IJCV 2010) from its XML; no image is opened.

    Labels are `VOC_LABELS`; an image's labels stand in the order of their first object. Taught in notebook 01.

    Args:
        folder: the folder `VOCdevkit/VOC2007`, with ImageSets/Main, Annotations and JPEGImages.
        split: a list in ImageSets/Main: "train", "val", "trainval" or "test".
        difficult: keep objects marked difficult. The VOC evaluation leaves them out, and so does the default.

    Raises:
        DataError: the list, an annotation or an image is missing, an XML file is damaged, a class is not of VOC.
    """
    folder, notes = Path(folder), Counter()
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        lists = sorted(file.stem for file in path.parent.glob("*.txt") if "_" not in file.stem)
        found = f"has {', '.join(lists)}" if lists else "has no lists: the folder must be VOCdevkit/VOC2007"
        raise DataError(
            f"{path}: the list of the images of split {split!r} is not there; the folder {found}."
        )
    ids = _decode(path).split()
    rows = []
    paths = find_images([f"{image}.jpg" for image in ids], folder / "JPEGImages", path, notes)
    for image, file in zip(ids, paths, strict=True):
        labels, boxes = _voc_objects(folder / "Annotations" / f"{image}.xml", difficult, notes)
        rows.append((file, tuple(dict.fromkeys(labels)), tuple(boxes), ()))
    return Reading(_merge(rows, notes), VOC_LABELS, notes)


def read_csv_folder(folder: Path | str, csv_file: Path | str | None = None) -> Reading:
    """Read your own images: a folder with a CSV whose first line is `file,labels` or `file,labels,split`.

    A line an image; its labels are separated by `;` (`beach.jpg,sea;sky`), and an image without labels ends
    after the comma. Files are relative to the folder and may lie in subfolders. Several lines of one file are
    merged, so a label a line works too. Columns may be separated by `;` or tabs, as spreadsheets in some
    countries save them. Labels stand in alphabetical order. Taught in notebook 01.

    Args:
        folder: the folder of the images.
        csv_file: the CSV; by default `labels.csv` in the folder, or the only CSV there.

    Raises:
        DataError: there is no CSV or several, it is not UTF-8, its header or a line is not as above, a split is
            not train, val or test (or differs between lines of a file), an image is missing.
    """
    folder, notes = Path(folder), Counter()
    path = _find_csv(folder) if csv_file is None else Path(csv_file)
    names, labels, splits = [], [], []
    for line, row in _csv_rows(path, notes):
        names.append(unicodedata.normalize("NFC", row["file"].strip().replace("\\", "/").removeprefix("./")))
        if not names[-1]:
            raise DataError(f"{path}, line {line}: the file name is empty. Write it or remove the line.")
        # One blank between words and one Unicode form, or "hot  dog" would be a label beside "hot dog".
        pieces = (" ".join(unicodedata.normalize("NFC", p).split()) for p in row["labels"].split(";"))
        labels.append(tuple(piece for piece in pieces if piece))
        splits.append(split := row.get("split", "").strip().lower())
        if "split" in row and split not in SPLITS:
            raise DataError(
                f"{path}, line {line}: the split is {split!r}, expected train, val or test"
                f"{_near(split, SPLITS)}. Mend it, or remove the column for a fixed 70/15/15 split."
            )
    if not names:
        raise DataError(
            f"{path}: has a header but no images. Add a line an image, such as `beach.jpg,sea;sky`."
        )
    paths = find_images(names, folder, path, notes)
    split_of: dict[Path, str] = {}
    for file, split in zip(paths, splits, strict=True):
        if split_of.setdefault(file, split) != split:
            raise DataError(
                f"{path}: {file.name} is in split {split_of[file]} and in {split}. Keep one of them."
            )
    records = _merge([(f, found, (), ()) for f, found in zip(paths, labels, strict=True)], notes)
    if unnamed := len(set(_images_below(folder)) - split_of.keys()):
        notes["images in the folder that the CSV does not name, not used"] = unnamed
    vocabulary = sorted(
        {label for record in records for label in record.labels}, key=lambda x: (x.casefold(), x)
    )
    if alike := len(vocabulary) - len({label.casefold() for label in vocabulary}):
        notes["labels that differ from another only in capitals: check that both are meant"] = alike
    return Reading(records, tuple(vocabulary), notes, tuple(filter(None, split_of.values())))


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


def _merge(rows: Iterable[tuple[Path, tuple, tuple, tuple]], notes: Counter[str]) -> tuple[Record, ...]:
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


def _add_box(boxes: list[Box], label: str, bbox: Any, notes: Counter[str]) -> None:
    """Append the box [x, y, width, height], or count why there is none; the label stays in either case."""
    if bbox is None:
        notes["annotations without a box, kept as labels"] += 1
        return
    valid = isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(v, int | float) for v in bbox)
    if not valid or not all(map(math.isfinite, bbox)) or min(bbox[2:]) <= 0:
        notes["boxes without an area or not four numbers, left out (the label is kept)"] += 1
        return
    boxes.append(Box(label, *map(float, bbox)))


def _decode(path: Path) -> str:
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


def _read_json(path: Path, expected: dict[str, type]) -> dict[str, Any]:
    """A JSON object that has these keys with values of these types."""
    try:
        content = json.loads(_decode(path))
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


def _text(value: Any, what: str, path: Path) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{path}: {what} is {value!r}, expected a non-empty text.")
    return value


def _near(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), n=2)
    return f" (near: {', '.join(matches)})" if matches else ""


def _coco_categories(categories: list[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for category in categories:
        if not isinstance(category, dict) or not isinstance(category.get("id"), int):
            raise DataError(f"{path}: the category {category!r} has no whole number as its id.")
        name = _text(category.get("name"), f"the name of category {category['id']}", path)
        if category["id"] in names or name in names.values():
            raise DataError(
                f"{path}: category {category['id']} ({name}) is there twice. Give each its id and name."
            )
        names[category["id"]] = name
    return names


def _coco_files(images: list[Any], path: Path) -> dict[int, str]:
    files: dict[int, str] = {}
    for image in images:
        if not isinstance(image, dict) or not isinstance(image.get("id"), int):
            raise DataError(f"{path}: the image {image!r} has no whole number as its id.")
        name = _text(image.get("file_name"), f"the file_name of image {image['id']}", path)
        if files.setdefault(image["id"], name) != name:
            raise DataError(
                f"{path}: image id {image['id']} stands for {files[image['id']]} and {name}: change one."
            )
    return files


def _by_image(content: dict[str, Any], names: dict[int, str], path: Path) -> dict[int, list[dict[str, Any]]]:
    """The annotations of each image: the index of pycocotools, or the same built here where it is not installed."""
    for a in content["annotations"]:
        if not isinstance(a, dict) or not all(
            isinstance(a.get(k), int) for k in ("id", "image_id", "category_id")
        ):
            raise DataError(
                f"{path}: an annotation lacks a whole id, image_id or category_id: {str(a)[:120]}"
            )
        if a["category_id"] not in names:
            raise DataError(
                f"{path}: annotation {a['id']} of image {a['image_id']} has the unknown category id "
                f"{a['category_id']}; the file's {len(names)} categories have ids {min(names, default='-')} to "
                f"{max(names, default='-')}. Add the category to the file or remove the annotation."
            )
    try:
        from pycocotools.coco import COCO
    except ImportError:
        found = defaultdict(list)
        for annotation in content["annotations"]:
            found[annotation["image_id"]].append(annotation)
        return found
    index = COCO()
    index.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        index.createIndex()
    return index.imgToAnns


def _coco_captions(path: Path, files: dict[int, str], notes: Counter[str]) -> dict[int, tuple[str, ...]]:
    captions: dict[int, tuple[str, ...]] = {}
    for found in _read_json(path, {"annotations": list})["annotations"]:
        if not isinstance(found, dict) or not isinstance(found.get("caption"), str):
            raise DataError(
                f"{path}: an annotation has no caption: {str(found)[:120]}. Is it a captions file?"
            )
        if found.get("image_id") not in files:
            notes["captions of images that the instances file does not list, left out"] += 1
        elif text := found["caption"].strip():
            captions[found["image_id"]] = (*captions.get(found["image_id"], ()), text)
        else:
            notes["empty captions, left out"] += 1
    return captions


def _voc_objects(path: Path, difficult: bool, notes: Counter[str]) -> tuple[list[str], list[Box]]:
    """Labels and boxes of a VOC annotation file, an object each."""
    text = _decode(path)
    if (
        "<!DOCTYPE" in text or "<!ENTITY" in text
    ):  # entities can unpack a small file to gigabytes; VOC has none
        raise DataError(
            f"{path}: declares a document type, which VOC annotations never do. Remove the declaration."
        )
    labels: list[str] = []
    boxes: list[Box] = []
    try:
        for item in ElementTree.fromstring(text).iterfind("object"):
            label = (item.findtext("name") or "").strip()
            if label not in VOC_LABELS:
                raise DataError(
                    f"{path}: {label!r} is not one of the 20 VOC classes{_near(label, VOC_LABELS)}."
                )
            if (item.findtext("difficult") or "0").strip() == "1" and not difficult:
                notes["objects marked difficult, left out"] += 1
                continue
            left, top, right, bottom = (
                float(item.findtext(f"bndbox/{k}", "nan")) for k in ("xmin", "ymin", "xmax", "ymax")
            )
            labels.append(label)
            # VOC counts pixels from 1 and includes the last.
            _add_box(boxes, label, [left - 1, top - 1, right - left + 1, bottom - top + 1], notes)
    except (ElementTree.ParseError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: damaged XML ({error}). Unpack the VOC archive again.") from error
    return labels, boxes


def _find_csv(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: this folder does not exist. Give the folder that holds your images and labels.csv."
        )
    found = sorted(file for file in folder.glob("*.csv") if file.is_file())
    named = [file for file in found if file.name == "labels.csv"]
    if len(found) != 1 and not named:
        holds = f"holds {', '.join(f.name for f in found[:5])}" if found else "holds no CSV file"
        if not any(folder.iterdir()):
            holds = "is empty"
        raise DataError(
            f"{folder}: {holds}. Expected labels.csv with the first line `file,labels` and then a line an image, such "
            "as `beach.jpg,sea;sky`."
        )
    return (named or found)[0]


def _csv_rows(path: Path, notes: Counter[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Line number and cells (file, labels and, where the header has it, split) of each line of the CSV."""
    text = _decode(path)
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    for delimiter in ",;\t":
        header = [cell.strip().lower() for cell in first.replace('"', "").split(delimiter)]
        columns = ["file" if c in _FILE_COLUMNS else "labels" if c in _LABEL_COLUMNS else c for c in header]
        if columns.count("file") == columns.count("labels") == 1 and columns.count("split") <= 1:
            break
    else:
        raise DataError(
            f"{path}: the first line is {first[:80]!r}, expected `file,labels` (or `file,labels,split`). "
            "Put it above the first image."
        )
    for unused in set(columns) - {"file", "labels", "split"}:
        notes[f"column {unused!r} of the CSV, not used"] = 1
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for position, cells in enumerate(rows):
            if position == 0 or not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{path}, line {rows.line_num}: {len(cells)} cells, but the first line has {len(columns)}. Separate "
                    "labels with `;`, quote a name that holds a comma, and write `beach.jpg,` for no labels."
                )
            yield rows.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path}, line {rows.line_num}: not valid CSV ({error}). Check the quotes."
        ) from error


def _images_below(folder: Path) -> Iterable[Path]:
    """Files that look like images, in the folder and its subfolders; hidden folders left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent) / name
