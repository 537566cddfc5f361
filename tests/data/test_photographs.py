"""The photographs that ship: few, small, read like any COCO folder, with a licence that lets everyone pass them on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from helpers.data.load import load

FREE = {
    4,
    5,
    7,
    8,
}  # Attribution, Attribution-ShareAlike, no known restrictions, United States government work


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "data" / "photographs"


def test_each_has_a_free_licence_and_its_credit(folder: Path) -> None:
    credits = (folder / "CREDITS.md").read_text(encoding="utf-8")
    listed = {}
    for path in folder.glob("annotations/instances_*.json"):
        listed |= {
            image["file_name"]: image for image in json.loads(path.read_text(encoding="utf-8"))["images"]
        }
    files = {path.name: path for path in (folder / "images").iterdir()}
    assert listed.keys() == files.keys() and 16 <= len(files) <= 28
    for name, image in listed.items():
        assert image["license"] in FREE, name
        assert f"| {image['id']} |" in credits, f"{name} has no row in CREDITS.md"
        assert files[name].stat().st_size <= 40_000
        with Image.open(files[name]) as opened:
            assert opened.size == (image["width"], image["height"])


def test_they_are_read_with_boxes_labels_and_captions(folder: Path) -> None:
    data = load(str(folder), progress=False)
    records = [*data.train, *data.val, *data.test]
    assert len(records) == len(list((folder / "images").iterdir()))
    assert all(record.captions for record in records) and any(record.boxes for record in records)


def test_names_that_both_vocabularies_know(folder: Path) -> None:
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    categories = json.loads((folder / "annotations" / "instances_val2017.json").read_text(encoding="utf-8"))[
        "categories"
    ]
    known = {category["name"] for category in categories}
    assert {name for both in names.values() for name in both} <= known
