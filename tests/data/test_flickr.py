"""Flickr8k in both layouts: split by image, nothing lost in silence, and every slip named with its mend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from helpers.data import downloads
from helpers.data.images import DataError
from helpers.data.labels import Vocabulary
from helpers.data.load import load
from helpers.data.readers import SPLIT_FILES, captions_file, read_flickr8k

NAMES = tuple(f"{100 + n}_a.jpg" for n in range(10))
LISTS = {"train": NAMES[:6], "val": NAMES[6:8], "test": NAMES[8:]}
STRAY = "2258277193_586949ec62.jpg.1"


def images(folder: Path, names=NAMES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)


def captions_of(name: str) -> list[str]:
    return [f"A dog , number {k} , of {name[:3]} ." for k in range(5)]


def official(folder: Path, *, lists: dict | None = LISTS, more: str = "", text: str = "") -> Path:
    """The authors' layout."""
    images(folder / "Flicker8k_Dataset")
    lines = [f"{name}#{k}\t{c}\n" for name in NAMES for k, c in enumerate(captions_of(name))]
    below = folder / text
    below.mkdir(exist_ok=True)
    (below / "Flickr8k.token.txt").write_text("".join(lines) + more, encoding="utf-8")
    for split, names in (lists or {}).items():
        (below / SPLIT_FILES[split]).write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def as_csv(folder: Path, *, header: str = "image,caption", more: str = "") -> Path:
    """The layout with one CSV."""
    images(folder / "Images")
    lines = [f'{name},"{c}"\n' for name in NAMES for c in captions_of(name)]
    (folder / "captions.txt").write_text(f"{header}\n" + "".join(lines) + more, encoding="utf-8")
    return folder


def refused(*parts: str):
    return pytest.raises(DataError, match=r"[\s\S]*".join(re.escape(part) for part in parts))


@pytest.mark.parametrize("text", ["", "Flickr8k_text"])
def test_the_official_layout_keeps_the_official_splits(tmp_path: Path, text: str) -> None:
    data = load("flickr8k", official(tmp_path / "data", text=text))
    for split, names in LISTS.items():
        records = data.split(split)
        assert tuple(r.path.name for r in records) == names
        assert all(r.captions == tuple(captions_of(r.path.name)) and r.labels == () for r in records)
    assert data.vocabulary == Vocabulary.none() and len(data.vocabulary) == 0
    assert data.notes == ()
    assert "10 images, 0 labels" in str(data.describe())
    assert load(tmp_path / "data").test == data.test  # recognised without its name


def test_both_layouts_give_the_same_records(tmp_path: Path) -> None:
    one = read_flickr8k(official(tmp_path / "a", lists=None))
    two = read_flickr8k(as_csv(tmp_path / "b"))
    assert [(r.path.name, r.captions) for r in one.records] == [
        (r.path.name, r.captions) for r in two.records
    ]
    assert one.splits == two.splits == ()


def test_without_lists_the_split_is_by_image_and_stays(tmp_path: Path) -> None:
    data = load("flickr8k", as_csv(tmp_path))
    sets = [{r.path.name for r in data.split(split)} for split in ("train", "val", "test")]
    assert all(sets) and sum(map(len, sets)) == len(set().union(*sets)) == len(NAMES)
    assert all(len(r.captions) == 5 for split in ("train", "val", "test") for r in data.split(split))
    assert any("hash" in note for note in data.notes)
    assert [{r.path.name for r in load(tmp_path).split(s)} for s in ("train", "val", "test")] == sets


def test_lists_beside_the_csv_count(tmp_path: Path) -> None:
    for split, names in LISTS.items():
        (tmp_path / SPLIT_FILES[split]).write_text("\n".join(names))
    data = load("flickr8k", as_csv(tmp_path))
    assert tuple(r.path.name for r in data.val) == LISTS["val"]


def test_slips_that_can_be_mended_are_counted(tmp_path: Path) -> None:
    more = f"{NAMES[0]},  .\n{NAMES[0]},a bare, unquoted caption\n{NAMES[1]},a bare, unquoted caption\n"
    reading = read_flickr8k(as_csv(tmp_path, more=more + f'{NAMES[0]},"{captions_of(NAMES[0])[0]}"\n'))
    assert reading.records[0].captions[-1] == "a bare, unquoted caption"
    assert sorted(reading.notes.values()) == [1, 1, 2]
    assert any("empty captions" in note for note in reading.notes)


def test_the_known_slip_of_the_official_file_and_unlisted_images(tmp_path: Path) -> None:
    lists = {**LISTS, "test": NAMES[8:9]}
    more = "".join(f"{STRAY}#{k}\tA man .\n" for k in range(5))
    data = load("flickr8k", official(tmp_path, lists=lists, more=more))
    assert sum(len(data.split(s)) for s in ("train", "val", "test")) == 9
    assert any(STRAY in note for note in data.notes)
    assert any("1 images with captions that are in no list" in note for note in data.notes)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("105_a.jpg A dog\n", ["token.txt, line 51", "105_a.jpg A dog", "a tab and the caption"]),
        ("nowhere.jpg#0\tA dog\n", ["1 of 11 images are missing", "nowhere.jpg", "remove them"]),
        ("../nowhere.jpg#0\tA dog\n", ["leads out of"]),
    ],
)
def test_a_broken_token_file_is_refused(tmp_path: Path, line: str, parts: list[str]) -> None:
    with refused(*parts):
        read_flickr8k(official(tmp_path, lists=None, more=line))


@pytest.mark.parametrize(
    ("header", "line", "parts"),
    [
        ("file,labels", "", ["captions.txt", "'file,labels'", "expected `image,caption`"]),
        ("100_a.jpg,A dog", "", ["expected `image,caption`", "above the first image"]),
        ("image,caption", "105_a.jpg\n", ["line 52", "'105_a.jpg'", "expected `name.jpg,caption`"]),
        ("image,caption", ",A dog\n", ["line 52", "',A dog'"]),
        ("image,caption", '105_a.jpg,"A dog\n', ["not valid CSV", "Check the quotes"]),
        ("image,caption", "nowhere.jpg,A dog\n", ["1 of 11 images are missing", "nowhere.jpg"]),
    ],
)
def test_a_broken_csv_is_refused(tmp_path: Path, header: str, line: str, parts: list[str]) -> None:
    with refused(*parts):
        read_flickr8k(as_csv(tmp_path, header=header, more=line))


def test_lists_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with refused("devImages", "109_b.jpg has no caption", "near: 109_a.jpg"):
        read_flickr8k(official(tmp_path / "a", lists={**LISTS, "val": ("109_b.jpg",)}))
    with refused("testImages", "106_a.jpg", "devImages"):
        read_flickr8k(official(tmp_path / "b", lists={**LISTS, "test": ("106_a.jpg",)}))
    with refused("but not Flickr_8k.testImages.txt", "all three"):
        read_flickr8k(official(tmp_path / "c", lists={s: LISTS[s] for s in ("train", "val")}))


def test_folders_that_are_something_else(tmp_path: Path) -> None:
    with refused("expected Flickr8k.token.txt or captions.txt"):
        read_flickr8k(tmp_path)
    (tmp_path / "captions.txt").write_text("notes of a film\n")
    assert captions_file(tmp_path) is None
    with refused("flickr8k is not there", "its authors give it to researchers"):
        load("flickr8k", tmp_path)
    with pytest.raises(downloads.DownloadError, match=r"Flickr8k\.token\.txt"):
        downloads.download("flickr8k", tmp_path)


def test_dropping_the_unlabelled_ones_would_leave_nothing(tmp_path: Path) -> None:
    with refused("has captions but no labels"):
        load("flickr8k", as_csv(tmp_path), unlabelled="drop")
