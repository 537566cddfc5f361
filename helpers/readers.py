"""Readers of annotation files, one function a format, into one record type. Taught in notebook 01.

Every reader is strict about what would change the labels in silence (an unknown category, a missing image, a
file in another encoding): DataError, naming the file and the mend. What it mends or leaves out, it counts in
`Reading.notes`. That all images exist is checked here, from directory listings; their content when they are opened.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from helpers.images import DataError
from helpers.records import (
    Box,
    Reading,
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
