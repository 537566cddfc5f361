"""Readers of annotation files, one function a format, into one record type. Taught in notebook 01.

Every reader is strict about what would change the labels in silence (an unknown category, a missing image, a
file in another encoding): DataError, naming the file and the mend. What it mends or leaves out, it counts in
`Reading.notes`. That all images exist is checked here, from directory listings; their content when they are opened.

Reader of your own images: a folder with a CSV of file names and labels. Taught in notebook 01.

Reader of Flickr8k, which has captions and no labels, in both of its public layouts. Taught in notebook 07.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from helpers.data.images import DataError
from helpers.data.records import (
    SPLITS,
    Box,
    Reading,
    Record,
    find_images,
    merge,
    near,
    read_json_object,
    read_text,
    require_text,
)

# The 20 classes of PASCAL VOC in the order of its development kit, which is alphabetical.
VOC_LABELS = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)


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
    content = read_json_object(path, {"images": list, "annotations": list, "categories": list})
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
    return Reading(merge(rows, notes), tuple(names[i] for i in sorted(names)), notes)


def read_corel(samples_json: Path | str, image_dir: Path | str) -> Reading:
    """Read a Corel-5k split: `{"samples": [{"image_name", "image_labels"}], "labels": [names]}`.

    Labels stand in the order of the file's list, an image's labels in the order of its own. Taught in notebook 01.

    Raises:
        DataError: the file is missing or not such JSON, a label is not in the list, an image is missing.
    """
    path, notes = Path(samples_json), Counter()
    content = read_json_object(path, {"samples": list, "labels": list})
    known = dict.fromkeys(require_text(label, "a label of the list", path) for label in content["labels"])
    names, labels = [], []
    for position, sample in enumerate(content["samples"]):
        if not isinstance(sample, dict) or not isinstance(sample.get("image_labels"), list):
            raise DataError(
                f'{path}: sample {position} is not {{"image_name": …, "image_labels": […]}}: mend or remove it.'
            )
        names.append(require_text(sample.get("image_name"), f"the image_name of sample {position}", path))
        for label in sample["image_labels"]:
            if not isinstance(label, str) or label not in known:
                raise DataError(
                    f"{path}: image {names[-1]} has the label {label!r}, which is not among the {len(known)} of the "
                    f'file\'s "labels"{near(str(label), known)}. Mend its spelling or add it to "labels".'
                )
        labels.append(tuple(sample["image_labels"]))
    paths = find_images(names, Path(image_dir), path, notes)
    rows = [(file, found, (), ()) for file, found in zip(paths, labels, strict=True)]
    return Reading(merge(rows, notes), tuple(known), notes)


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
    ids = read_text(path).split()
    rows = []
    paths = find_images([f"{image}.jpg" for image in ids], folder / "JPEGImages", path, notes)
    for image, file in zip(ids, paths, strict=True):
        labels, boxes = _voc_objects(folder / "Annotations" / f"{image}.xml", difficult, notes)
        rows.append((file, tuple(dict.fromkeys(labels)), tuple(boxes), ()))
    return Reading(merge(rows, notes), VOC_LABELS, notes)


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


def _coco_categories(categories: list[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for category in categories:
        if not isinstance(category, dict) or not isinstance(category.get("id"), int):
            raise DataError(f"{path}: the category {category!r} has no whole number as its id.")
        name = require_text(category.get("name"), f"the name of category {category['id']}", path)
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
        name = require_text(image.get("file_name"), f"the file_name of image {image['id']}", path)
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
    for found in read_json_object(path, {"annotations": list})["annotations"]:
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
    text = read_text(path)
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
                    f"{path}: {label!r} is not one of the 20 VOC classes{near(label, VOC_LABELS)}."
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


IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
)

_FILE_COLUMNS, _LABEL_COLUMNS = ("file", "image", "filename"), ("labels", "label")


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
                f"{near(split, SPLITS)}. Mend it, or remove the column for a fixed 70/15/15 split."
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
    records = merge([(f, found, (), ()) for f, found in zip(paths, labels, strict=True)], notes)
    if unnamed := len(set(_images_below(folder)) - split_of.keys()):
        notes["images in the folder that the CSV does not name, not used"] = unnamed
    vocabulary = sorted(
        {label for record in records for label in record.labels}, key=lambda x: (x.casefold(), x)
    )
    if alike := len(vocabulary) - len({label.casefold() for label in vocabulary}):
        notes["labels that differ from another only in capitals: check that both are meant"] = alike
    return Reading(records, tuple(vocabulary), notes, tuple(filter(None, split_of.values())))


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
    text = read_text(path)
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


TOKEN_FILE, CSV_FILE = "Flickr8k.token.txt", "captions.txt"


SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


IMAGE_FOLDERS = ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "images")  # the official name is misspelt


# The one name in the official token file that no image has.
_STRAY = "2258277193_586949ec62.jpg.1"


def captions_file(folder: Path) -> Path | None:
    """The captions of a Flickr8k folder: the official token file, else the CSV; None where there is neither.

    Any file may be called captions.txt: it counts only where a folder of images or a fitting header goes with it.
    """
    for base in (folder, folder / "Flickr8k_text"):
        if (base / TOKEN_FILE).is_file():
            return base / TOKEN_FILE
    path = folder / CSV_FILE
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = file.readline(200).decode("utf-8-sig", errors="replace")
    has_header = [cell.strip().lower() for cell in first.split(",")] == ["image", "caption"]
    return path if has_header or any((folder / name).is_dir() for name in IMAGE_FOLDERS) else None


def read_flickr8k(folder: Path | str) -> Reading:
    """Read Flickr8k (Hodosh, Young and Hockenmaier, JAIR 2013): five captions an image, no labels.

    Two layouts: the authors' `Flickr8k.token.txt` (`name.jpg#0<tab>caption`) with the lists of the splits
    `Flickr_8k.{train,dev,test}Images.txt`, beside the folder Flicker8k_Dataset or in Flickr8k_text; and the CSV
    `captions.txt` with the header `image,caption`, beside the folder Images. The lists count for either; without
    them `Reading.splits` is empty. Where both are there, the token file is read. Taught in notebook 07.

    An image's captions stand in the order of the file, each once. A record is an image, so that all captions of an
    image are in one split.

    Raises:
        DataError: there is no captions file, a line or the header is not as above, an image is missing, an image of
            a list has no caption or is in two lists.
    """
    folder, notes = Path(folder), Counter()
    path = captions_file(folder)
    if path is None:
        raise DataError(
            f"{folder}: expected {TOKEN_FILE} or {CSV_FILE} (with the first line `image,caption`) in it. Unpack "
            "Flickr8k there."
        )
    rows = _token_rows(path) if path.name == TOKEN_FILE else _flickr_rows(path, notes)
    captions: dict[str, dict[str, None]] = {}
    for name, caption in rows:
        known = captions.setdefault(name, {})
        text = " ".join(caption.split())
        if not text.strip(" ."):
            notes["empty captions, left out"] += 1
        elif text in known:
            notes["captions that an image has twice, kept once"] += 1
        else:
            known[text] = None
    if stray := captions.pop(_STRAY, None):
        notes[f"captions of {_STRAY}, a known slip of the official file, left out"] = len(stray)
    if not captions:
        raise DataError(f"{path}: has no captions. Copy or download it again.")
    splits = _read_lists(folder, path, captions)
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), folder)
    if unused := len(captions.keys() - splits.keys()) if splits else 0:
        notes["images with captions that are in no list of a split, not used"] = unused
    names = [name for name in captions if not splits or name in splits]
    if mute := [name for name in names if not captions[name]]:
        notes["images whose captions are all empty, left out"] = len(mute)
        names = [name for name in names if captions[name]]
    paths = find_images(names, images, path, notes)
    records = tuple(Record(p, (), (), tuple(captions[name])) for p, name in zip(paths, names, strict=True))
    return Reading(records, (), notes, tuple(splits[name] for name in names) if splits else ())


def _token_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Image and caption of each line `name.jpg#0<tab>caption` of the official file."""
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        match = re.fullmatch(r"([^\t]+)#\d+\t(.*)", text.rstrip("\r"))
        if match is None:
            raise DataError(
                f"{path}, line {line}: found {text[:80]!r}, expected `name.jpg#0`, a tab and the caption. Mend or "
                "remove the line, or download the file again."
            )
        yield match[1].strip(), match[2]


def _flickr_rows(path: Path, notes: Counter[str]) -> Iterator[tuple[str, str]]:
    """Image and caption of each line `name.jpg,caption` of the CSV; a caption with commas that was not quoted is put together again."""
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(rows)]
        if header != ["image", "caption"]:
            raise DataError(
                f"{path}: the first line is {','.join(header)[:80]!r}, expected `image,caption`. Put it above the first "
                "image."
            )
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            name = cells[0].strip()
            if len(cells) < 2 or not name:
                raise DataError(
                    f"{path}, line {rows.line_num}: found {','.join(cells)[:80]!r}, expected `name.jpg,caption`. Mend or "
                    "remove the line."
                )
            if len(cells) > 2:
                notes["captions with commas that were not quoted, put together again"] += 1
            yield name, ",".join(cells[1:])
    except csv.Error as error:
        raise DataError(
            f"{path}, line {rows.line_num}: not valid CSV ({error}). Check the quotes."
        ) from error


def _read_lists(folder: Path, source: Path, captions: Iterable[str]) -> dict[str, str]:
    """The split of each image of the three lists; {} where there are no lists at all."""
    found = {
        split: next((b / name for b in (source.parent, folder) if (b / name).is_file()), source.parent / name)
        for split, name in SPLIT_FILES.items()
    }
    there = [path for path in found.values() if path.is_file()]
    if not there:
        return {}
    if missing := [path.name for path in found.values() if path not in there]:
        raise DataError(
            f"{source.parent}: has {', '.join(path.name for path in there)}, but not {' and '.join(missing)}. Put all "
            "three lists there, or none for a fixed 70/15/15 split."
        )
    known, splits = set(captions), {}
    for split, path in found.items():
        for name in read_text(path).split():
            if name not in known:
                raise DataError(
                    f"{path}: {name} has no caption in {source.name}{near(name, known)}. Mend the name, or download "
                    "both files again."
                )
            if splits.setdefault(name, split) != split:
                raise DataError(
                    f"{path}: {name} is in {SPLIT_FILES[splits[name]]}, too: its captions would be learned and judged. "
                    "Keep one of them."
                )
    return splits
