"""Scenes as pictures and as files: the same at every run, finished or not there, never over somebody's files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from PIL import Image

from helpers.commands import scenes as scenes_command
from helpers.scenes import write as scenes
from helpers.scenes.artwork import TINTS
from helpers.scenes.backdrops import HORIZONS, LIGHTS, Backdrop
from helpers.scenes.content import LABELS, Dice
from helpers.scenes.layout import SIZE, put
from helpers.scenes.write import draw_scene, render, write_scenes

SMALL = {"train": 6, "val": 2, "test": 3, "progress": False}
# sha256 of instances_train.json and captions_train.json for train=20, size=128, seed=0: a change that moves them
# changes the dataset under everybody's feet, and must raise scenes.VERSION and these
INSTANCES_SHA = "a789f821a53c48c2bbad3f04c5b4761dd31273fd2df50c8ec21718d6bfc6907b"
CAPTIONS_SHA = "a4dba0bae5ac143af40666bd2e55e047ea533c5979a4396ccc141d71cb174ddb"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- pictures ------------------------------------------------------------------------------------------------------


def test_the_same_scene_twice() -> None:
    a, b = draw_scene(3, split="test", index=7), draw_scene(3, split="test", index=7)
    told = draw_scene(3, split="test", index=7, picture=False)
    assert a.image.tobytes() == b.image.tobytes() and told.image is None
    assert (a.labels, a.boxes, a.captions) == (b.labels, b.boxes, b.captions)
    assert (a.labels, a.boxes, a.captions) == (told.labels, told.boxes, told.captions)
    for seed, split, index in ((4, "test", 7), (3, "train", 7), (3, "test", 8)):
        assert draw_scene(seed, split=split, index=index).image.tobytes() != a.image.tobytes()
    assert draw_scene(0, size=48).image.size == (48, 48)


def test_pictures_show_what_is_labelled() -> None:
    """Without its things the picture changes inside their boxes and, save for shadows and marks, nowhere else."""
    for index in range(12):
        scene = draw_scene(0, index=index)
        things = scene.composition.things
        if not things or {"sun", "moon"} & set(scene.labels):  # those light up the sky
            continue
        dices = Dice(Generator(PCG64(index))), Dice(Generator(PCG64(index)))
        shown = zip((things, ()), dices, strict=True)
        picture, bare = (
            np.asarray(render(scene.composition.backdrop, *one, 128), dtype=int) for one in shown
        )
        changed = np.abs(picture - bare).sum(axis=2) > 30
        inside = np.zeros_like(changed)
        for b in scene.boxes:
            if b.placed:
                inside[max(0, b.y - 2) : b.bottom + 4, max(0, b.x - 4) : b.right + 4] = True
                assert changed[b.y : b.bottom, b.x : b.right].mean() > 0.1
        assert changed[~inside].mean() < 0.02


@pytest.mark.parametrize("place", HORIZONS)
def test_one_thing_on_any_backdrop(place: str) -> None:
    """Also what never occurs: an elephant in the snow at sea."""
    kinds = iter(SIZE)
    for time_of_day, weather in product(LIGHTS, ("clear", "rain", "snow")):
        backdrop = Backdrop(place, time_of_day, weather, 0.5, 0.75)
        none, *ones = (
            render(backdrop, [put(backdrop, kind, (0.5, 0.8), SIZE[kind], TINTS[kind][0]) for kind in shown],
                   Dice(Generator(PCG64(1))), 32)
            for shown in ((), (next(kinds),), (next(kinds),))
        )  # fmt: skip
        for one in ones:
            assert one.size == (32, 32) and (np.asarray(one) != np.asarray(none))[8:28, 8:28].any()


# ---- files ---------------------------------------------------------------------------------------------------------


def test_annotations_are_those_of_every_machine(written: Path) -> None:
    files = ("instances_train.json", "captions_train.json")
    sums = [hashlib.sha256((written / name).read_bytes()).hexdigest() for name in files]
    assert sums == [INSTANCES_SHA, CAPTIONS_SHA]


def test_a_bigger_set_extends_a_smaller_one(tmp_path: Path, written: Path) -> None:
    small = write_scenes(tmp_path / "small", **SMALL)
    for name in ("000000.jpg", "000005.jpg"):
        assert (small / "images/train" / name).read_bytes() == (written / "images/train" / name).read_bytes()
    for kind in ("instances", "captions"):
        few, many = (json.loads((folder / f"{kind}_train.json").read_text()) for folder in (small, written))
        assert few["images"] == many["images"][:6]
        assert few["annotations"] == many["annotations"][: len(few["annotations"])]


def test_pycocotools_reads_the_files(written: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(str(written / "instances_train.json"))
    assert len(coco.getImgIds()) == 20
    assert tuple(c["name"] for c in coco.loadCats(sorted(coco.getCatIds()))) == LABELS
    kinds = {c["supercategory"] for c in coco.loadCats(coco.getCatIds())}
    assert kinds == {"object", "attribute", "relation"}
    for index, image in enumerate(coco.loadImgs(sorted(coco.getImgIds()))):
        with Image.open(written / "images/train" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (128, 128)
        entries = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        names = {coco.loadCats(entry["category_id"])[0]["name"] for entry in entries}
        assert names == set(draw_scene(0, index=index, picture=False).labels)
        assert all(isinstance(v, int) for entry in entries for v in (*entry["bbox"], entry["area"]))
        assert all(entry["iscrowd"] == 0 and isinstance(entry["placed"], bool) for entry in entries)


def test_written_captions_ids_and_pictures_are_the_drawn_ones(written: Path) -> None:
    told = json.loads((written / "captions_train.json").read_text())
    assert [a["caption"] for a in told["annotations"][:3]] == list(draw_scene(0, index=0).captions)
    tables = [json.loads((written / f"instances_{split}.json").read_text()) for split in scenes.SPLITS]
    assert len({image["id"] for table in tables for image in table["images"]}) == 24
    with Image.open(written / "images/train/000004.jpg") as saved:
        drawn = draw_scene(0, index=4).image
        assert np.abs(np.asarray(saved, dtype=int) - np.asarray(drawn, dtype=int)).mean() < 3


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", **SMALL)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_scenes(folder, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert names(tmp_path) == ["scenes"]


@pytest.mark.parametrize("damage", ["image gone", "image empty", "annotations cut", "annotations gone"])
def test_a_damaged_folder_is_fixed(tmp_path: Path, damage: str) -> None:
    folder = write_scenes(tmp_path / "scenes", **SMALL)
    good = contents(folder)
    (folder / "notes.txt").write_text("mine")
    picture, annotations = folder / "images/val/000001.jpg", folder / "instances_test.json"
    if "gone" in damage:
        (picture if "image" in damage else annotations).unlink()
    else:
        picture.write_bytes(b"") if "image" in damage else annotations.write_bytes(b"{}")
    assert scenes.read_manifest(folder) is None
    write_scenes(folder, **SMALL)
    assert scenes.read_manifest(folder) is not None
    assert contents(folder) == {**good, "notes.txt": b"mine"}


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "_draw_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", **SMALL)
    assert names(tmp_path) == []


@pytest.mark.slow
def test_a_killed_run_is_recovered(tmp_path: Path, repository: Path) -> None:
    options = f"{str(tmp_path / 'scenes')!r}, train=100000, progress=False"
    code = f"from helpers.scenes.write import write_scenes; write_scenes({options})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=repository)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".scenes-*.part/images/train/*.jpg")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    (left,) = tmp_path.glob(".scenes-*.part")
    assert scenes.read_manifest(tmp_path / "scenes") is None
    folder = write_scenes(tmp_path / "scenes", **SMALL)
    assert scenes.read_manifest(folder) is not None
    assert left.is_dir()  # it might be another run's, still at work
    os.utime(left, (0, 0))  # an hour later …
    write_scenes(folder, **{**SMALL, "seed": 1}, overwrite=True)
    assert not left.exists()


@pytest.mark.slow
def test_processes_make_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_CHUNK", 3)
    one, two = (write_scenes(tmp_path / str(k), **SMALL, workers=k) for k in (1, 2))
    assert contents(one) == contents(two)


def test_an_empty_split_is_legal(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", train=1, val=0, test=0, progress=False)
    assert json.loads((folder / "instances_val.json").read_text())["images"] == []
    assert scenes.read_manifest(folder)["parameters"]["val"] == 0


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train": -1}, "train must be 0 to"),
        ({"val": 2_000_000}, "val must be 0 to"),
        ({"size": 8}, "size must be 32 to 1024"),
        ({"size": 4096}, "size must be 32 to 1024"),
        ({"seed": -3}, "0 or more"),
        ({"workers": 0}, "workers must be 1 or more"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path: Path, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_scenes(tmp_path / "scenes", **{**SMALL, **wrong})
    assert names(tmp_path) == []


def test_wrong_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev': choose one of train, val, test"):
        draw_scene(0, split="dev")
    with pytest.raises(ValueError, match="0 or more"):
        draw_scene(0, index=-1)


def test_other_files_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(FileExistsError, match="not written by write_scenes"):
        write_scenes(tmp_path, **SMALL, overwrite=True)
    assert names(tmp_path) == ["thesis.txt"]
    (tmp_path / "manifest.json").write_text('{"format": "something else"}')
    with pytest.raises(FileExistsError, match="not written by write_scenes"):
        write_scenes(tmp_path, **SMALL, overwrite=True)


def test_other_parameters_need_overwrite(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", **SMALL)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_scenes(folder, **{**SMALL, "size": 64})
    write_scenes(folder, **{**SMALL, "size": 64}, overwrite=True)
    assert scenes.read_manifest(folder)["parameters"]["size"] == 64
    with Image.open(folder / "images/train/000000.jpg") as picture:
        assert picture.size == (64, 64)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--n", "8", "--seed", "5", "--workers", "1", "--output", str(tmp_path / "scenes")]
    scenes_command.main([*how, "--size", "32"])
    assert "8 train, 1 val, 2 test images of 32 x 32" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        scenes_command.main([*how, "--size", "64"])
    assert "--overwrite" in capsys.readouterr().err
