"""The files of a written set of scenes: COCO tables, and whether a folder can be trusted, kept or replaced."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.scenery.model import LABEL_KINDS, LABELS
from helpers.scenery.render import SPLITS, Scene

VERSION = 1  # raise it when the same parameters give other scenes
MOST_IMAGES = 1_000_000  # images a split: the ids of the splits are so far apart
_ABANDONED = 600  # seconds without a sign of life after which an unfinished folder is that of a killed run


def file_name(index: int) -> str:
    """The name of a picture in its split's folder."""
    return f"{index:06d}.jpg"


def coco_tables(split: str, scenes: Sequence[Scene], parameters: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The COCO files of a split by name, as JSON values."""
    size, first = parameters["size"], (SPLITS.index(split) + 1) * MOST_IMAGES
    info = {"description": f"procedural scenes, {split}", "version": str(VERSION), "seed": parameters["seed"]}
    images = [
        {"id": first + i, "file_name": file_name(i), "width": size, "height": size}
        for i in range(len(scenes))
    ]
    categories = [
        {"id": k, "name": name, "supercategory": LABEL_KINDS[name]} for k, name in enumerate(LABELS, start=1)
    ]
    number = {entry["name"]: entry["id"] for entry in categories}
    annotations: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    for i, scene in enumerate(scenes):
        for box in scene.boxes:
            entry = {
                "id": len(annotations) + 1,
                "image_id": first + i,
                "category_id": number[box.label],
                "bbox": [box.x, box.y, box.width, box.height],
                "area": box.area,
                "iscrowd": 0,
                "segmentation": [],
                "placed": box.placed,
            }
            annotations.append({**entry, "colour": box.colour} if box.colour else entry)
        for caption in scene.captions:
            sentences.append({"id": len(sentences) + 1, "image_id": first + i, "caption": caption})
    return {
        f"instances_{split}.json": {
            "info": info,
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": categories,
        },
        f"captions_{split}.json": {"info": info, "licenses": [], "images": images, "annotations": sentences},
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifest(directory: Path | str) -> dict[str, Any] | None:
    """The manifest of a finished folder of scenes: parameters, sha256 by file; None where there is none to trust.

    A folder is finished if its manifest is readable, the annotation files have the sha256 it names and every
    picture is there. Costs a few milliseconds for the default set.
    """
    directory = Path(directory)
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        sums, parameters = dict(manifest["sha256"]), manifest["parameters"]
        intact = all(_sha256(directory / name) == value for name, value in sums.items())
        for split in SPLITS:
            names = {entry.name for entry in os.scandir(directory / "images" / split) if entry.stat().st_size}
            intact = intact and all(file_name(i) in names for i in range(int(parameters[split])))
            intact = intact and f"instances_{split}.json" in sums and f"captions_{split}.json" in sums
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if intact else None


def clear_abandoned(directory: Path) -> None:
    """Remove the unfinished folders of killed runs beside `directory`; one with a recent sign of life stays."""
    for old in directory.parent.glob(f".{directory.name}-*.part"):
        try:
            if time.time() - old.stat().st_mtime > _ABANDONED:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:  # another run has just finished with it
            continue


def is_settled(directory: Path, manifest: dict[str, Any], overwrite: bool) -> bool:
    """True if the folder is finished and as wanted; False if it may be written; FileExistsError if it may not."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    found = read_manifest(directory)
    if found is not None and {**found, "sha256": None} == {**manifest, "sha256": None}:
        return True
    if found is None and not _is_ours(directory):
        raise FileExistsError(
            f"{directory} is not empty and was not written by write_scenes: name another folder, or remove it"
        )
    if found is not None and not overwrite:
        raise FileExistsError(
            f"{directory} holds scenes with {found['parameters']} (version {found.get('version')}), wanted "
            f"{manifest['parameters']} (version {VERSION}): name another folder, or pass overwrite=True (--overwrite)"
        )
    return False  # damaged scenes are ours to write again


def _is_ours(directory: Path) -> bool:
    try:
        return json.loads((directory / "manifest.json").read_text(encoding="utf-8"))["format"] == "scenes"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def install(folder: Path, directory: Path, names: Sequence[str]) -> None:
    """Give the finished folder its name; where there is one already, replace our files and leave any other.

    The annotations come first, so that an old manifest does not fit them, and the manifest last: a run that is
    killed in between leaves a folder that `read_manifest` does not trust.
    """
    if not directory.exists():
        folder.replace(directory)
        return
    for name in names:
        if (directory / name).is_dir():
            shutil.rmtree(directory / name)
        (folder / name).replace(directory / name)
