"""Annotation files in the format of each data set, with images that no reader opens."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.data.readers import SPLIT_FILES

CATEGORIES = [{"id": 7, "name": "train"}, {"id": 1, "name": "person"}, {"id": 90, "name": "rain"}]
NAMES = tuple(f"{100 + n}_a.jpg" for n in range(10))
LISTS = {"train": NAMES[:6], "val": NAMES[6:8], "test": NAMES[8:]}


def touch(folder: Path, *names: str) -> Path:
    """Files with these names; a reader looks for images, it does not open them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not opened")
    return folder


def annotation(number: int, image: int, category: int, **more: object) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "bbox": [1, 2, 3, 4.5], **more}


def coco(folder: Path, images: dict[int, str] | list[dict], annotations: list[dict], **more: object) -> Path:
    """COCO's instances.json in the folder, without the images."""
    if isinstance(images, dict):
        images = [{"id": number, "file_name": name} for number, name in images.items()]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def coco_splits(folder: Path, counts: dict[str, int], suffix: str = "2017", *, categories: int = 3) -> Path:
    """Image n of a split has labels "label 0" to "label n % 3"; a fourth is in none."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    named = [{"id": k, "name": f"label {k}"} for k in range(categories)]
    for split, count in counts.items():
        images = {n: f"{split}{n}.jpg" for n in range(count)}
        annotations = [annotation(10 * n + k, n, k) for n in range(count) for k in range(n % 3)]
        path = coco(folder, images, annotations, categories=named)
        path.replace(folder / "annotations" / f"instances_{split}{suffix}.json")
        touch(folder / f"{split}{suffix}", *images.values())
    return folder


def corel(
    folder: Path, samples: list, labels: tuple | list = ("sky", "sea", "sun"), split: str = "train"
) -> Path:
    """A Corel-5k split from (name, labels) pairs, without the images."""
    named = [{"image_name": s[0], "image_labels": s[1]} if isinstance(s, tuple) else s for s in samples]
    path = folder / f"{split}.json"
    path.write_text(json.dumps({"samples": named, "labels": list(labels)}))
    return path


def corel_splits(folder: Path, train: int, test: int) -> Path:
    """Image n of a split has the first n % 4 labels."""
    for split, count in (("train", train), ("test", test)):
        samples = [(f"{split}{n}.jpeg", ["sky", "sea", "sun"][: n % 4]) for n in range(count)]
        touch(folder / split, *(name for name, _ in samples))
        corel(folder, samples, split=split)
    return folder


def voc_object(name: str, *, difficult: int = 0, box: tuple = (48, 240, 195, 371)) -> str:
    # A part has a box of its own, which must not be taken for the object's.
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name>{part}<difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def voc(folder: Path, images: dict[str, str], split: str = "train") -> Path:
    """A split of VOC from name -> objects."""
    for image, objects in images.items():
        touch(folder, f"JPEGImages/{image}.jpg", f"Annotations/{image}.xml", f"ImageSets/Main/{split}.txt")
        (folder / "Annotations" / f"{image}.xml").write_text(f"<annotation>{objects}</annotation>")
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images) + "\n")
    return folder


def voc_splits(folder: Path, counts: dict[str, int]) -> Path:
    for split, count in counts.items():
        voc(folder, {f"{split}{n}": voc_object("dog") for n in range(count)}, split)
    return folder


def captions_of(name: str) -> list[str]:
    return [f"A dog , number {k} , of {name[:3]} ." for k in range(5)]


def _flickr(folder: Path, images: str, path: Path, text: str, lists: dict | None) -> Path:
    touch(folder / images, *NAMES)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    for split, listed in (lists or {}).items():
        path.with_name(SPLIT_FILES[split]).write_text("\n".join(listed) + "\n", encoding="utf-8")
    return folder


def flickr(folder: Path, *, lists: dict | None = LISTS, more: str = "", below: str = "") -> Path:
    """Flickr8k in the layout of its authors."""
    lines = [f"{name}#{k}\t{c}\n" for name in NAMES for k, c in enumerate(captions_of(name))]
    path = folder / below / "Flickr8k.token.txt"
    return _flickr(folder, "Flicker8k_Dataset", path, "".join(lines) + more, lists)


def flickr_csv(folder: Path, *, lists: dict | None = None, more: str = "") -> Path:
    """Flickr8k in the layout with one CSV."""
    lines = [f'{name},"{c}"\n' for name in NAMES for c in captions_of(name)]
    return _flickr(
        folder, "Images", folder / "captions.txt", "image,caption\n" + "".join(lines) + more, lists
    )


def own(folder: Path, text: str | bytes, *images: str) -> Path:
    """Your own images with this labels.csv."""
    touch(folder, *(images or ("a.jpg", "b.jpg")))
    (folder / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def own_rows(folder: Path, rows: dict[str, str], header: str = "file,labels") -> Path:
    return own(folder, f"{header}\n" + "".join(f"{name},{cells}\n" for name, cells in rows.items()), *rows)
