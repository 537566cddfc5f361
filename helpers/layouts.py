"""In which of the layouts that can be read a folder holds a data set."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from helpers.flickr import captions_file

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
