"""The embedded dataset: determinism, truth of its labels, boxes and captions, and files that can be trusted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import PCG64, Generator
from PIL import Image, ImageDraw

from helpers.commands import scenes as scenes_command
from helpers.scenes import drawing
from helpers.scenes import write as scenes
from helpers.scenes.artwork import ROUND_COLOUR, round_thing
from helpers.scenes.captions import LABEL_WORDS, mentioned_colours, mentioned_labels, mentioned_sides
from helpers.scenes.content import FREQUENT_SMALL, LABEL_KINDS, LABELS, MIN_VISIBLE, RARE_LARGE
from helpers.scenes.layout import Composition, compose
from helpers.scenes.write import Scene, draw_scene, sample_scene, write_scenes

SMALL = {"train": 6, "val": 2, "test": 3, "progress": False}
# sha256 of instances_train.json and captions_train.json for train=20, size=128, seed=0: a change that moves them
# changes the dataset under everybody's feet, and must raise scenes.VERSION and these
INSTANCES_SHA = "a789f821a53c48c2bbad3f04c5b4761dd31273fd2df50c8ec21718d6bfc6907b"
CAPTIONS_SHA = "a4dba0bae5ac143af40666bd2e55e047ea533c5979a4396ccc141d71cb174ddb"


@pytest.fixture(scope="module")
def sampled() -> list[Scene]:
    """The default training set without its pictures."""
    return [sample_scene(0, index=i) for i in range(2000)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("made") / "scenes", train=20, val=2, test=2, progress=False)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _share(sampled: list[Scene], label: str, given: str | None = None, *, absent: bool = False) -> float:
    chosen = [s for s in sampled if given is None or (given in s.labels) != absent]
    return sum(label in s.labels for s in chosen) / len(chosen)


# ---- determinism ---------------------------------------------------------------------------------------------------


def test_the_same_scene_twice() -> None:
    a, b = draw_scene(3, split="test", index=7), draw_scene(3, split="test", index=7)
    assert a.image.tobytes() == b.image.tobytes()
    assert (a.labels, a.boxes, a.captions) == (b.labels, b.boxes, b.captions)
    others = [
        draw_scene(4, split="test", index=7),
        draw_scene(3, index=7),
        draw_scene(3, split="test", index=8),
    ]
    assert all(other.image.tobytes() != a.image.tobytes() for other in others)


def test_sampling_is_drawing_without_the_picture() -> None:
    for index in range(20):
        drawn = draw_scene(0, index=index)
        told = sample_scene(0, index=index)
        assert told.image is None
        assert (drawn.labels, drawn.boxes, drawn.captions) == (told.labels, told.boxes, told.captions)


def test_the_size_changes_pixels_only() -> None:
    for index in range(30):
        small, large = sample_scene(0, index=index, size=48), sample_scene(0, index=index, size=512)
        assert small.labels == large.labels
        assert small.captions == large.captions
        for a, b in zip(small.boxes, large.boxes, strict=True):
            assert (a.label, a.colour, a.placed) == (b.label, b.colour, b.placed)
            for near, far in (
                (a.x, b.x),
                (a.y, b.y),
                (a.x + a.width, b.x + b.width),
                (a.y + a.height, b.y + b.height),
            ):
                assert abs(near / 48 - far / 512) <= 1 / 48 + 1e-9
    assert draw_scene(0, size=48).image.size == (48, 48)


def test_a_generator_goes_on() -> None:
    rng = Generator(PCG64(1))
    first, second = draw_scene(rng), draw_scene(rng)
    assert first.image.tobytes() != second.image.tobytes()
    assert draw_scene(Generator(PCG64(1))).image.tobytes() == first.image.tobytes()


def test_annotations_are_those_of_every_machine(written: Path) -> None:
    sums = {
        name: hashlib.sha256((written / name).read_bytes()).hexdigest()
        for name in _names(written)
        if "train" in name
    }
    assert sums == {"instances_train.json": INSTANCES_SHA, "captions_train.json": CAPTIONS_SHA}


def test_a_bigger_set_extends_a_smaller_one(tmp_path: Path, written: Path) -> None:
    small = write_scenes(tmp_path / "small", **SMALL)
    for name in ("000000.jpg", "000005.jpg"):
        assert (small / "images/train" / name).read_bytes() == (written / "images/train" / name).read_bytes()
    for kind in ("instances", "captions"):
        few, many = (json.loads((folder / f"{kind}_train.json").read_text()) for folder in (small, written))
        assert few["images"] == many["images"][:6]
        assert few["annotations"] == many["annotations"][: len(few["annotations"])]


# ---- what is in the scenes -----------------------------------------------------------------------------------------


def test_labels_and_kinds() -> None:
    assert 22 <= len(LABELS) <= 30 and len(set(LABELS)) == len(LABELS)
    assert tuple(LABEL_KINDS) == LABELS
    assert set(LABEL_KINDS.values()) == {"object", "attribute", "relation"}


def test_label_counts_and_long_tail(sampled: list[Scene]) -> None:
    counts = Counter(len(s.labels) for s in sampled)
    assert set(counts) == set(range(7))
    assert counts.most_common(1)[0][0] == 3
    assert 0.01 < counts[0] / 2000 < 0.06
    frequency = Counter(label for s in sampled for label in s.labels)
    assert set(frequency) == set(LABELS)
    assert 14 <= min(frequency.values()) <= 0.015 * 2000
    assert 0.35 <= max(frequency.values()) / 2000 <= 0.45


def test_labels_depend_on_each_other(sampled: list[Scene]) -> None:
    assert _share(sampled, "umbrella", "rain") > 0.65
    assert _share(sampled, "umbrella", "rain", absent=True) < 0.02
    assert _share(sampled, "boat", "sea", absent=True) == 0
    assert _share(sampled, "moon", "night", absent=True) == 0
    assert _share(sampled, "sun", "rain") == 0


def test_company_decides_between_ball_and_rock(sampled: list[Scene]) -> None:
    with_one = [s for s in sampled if {"ball", "rock"} & set(s.labels)]
    assert not any({"ball", "rock"} <= set(s.labels) for s in with_one)
    follows = [("ball" in s.labels) == bool({"person", "dog"} & set(s.labels)) for s in with_one]
    assert 0.92 < np.mean(follows) < 0.98
    reference = round_thing(ROUND_COLOUR)
    for s in with_one:  # drawn alike: the same colours, the same corners up to position and scale
        (thing,) = [t for t in s.composition.things if t.kind in ("ball", "rock")]
        assert [x.colour for x in thing.shapes] == [x.colour for x in reference]
        scale = np.ptp(thing.shapes[1].points[:, 0]) / np.ptp(reference[1].points[:, 0])
        assert scale == pytest.approx(0.135)


def test_rare_is_large_and_frequent_is_small(sampled: list[Scene]) -> None:
    for label in RARE_LARGE:
        assert 0.007 <= _share(sampled, label) <= 0.03
        assert min(b.width * b.height for s in sampled for b in s.boxes if b.label == label) > 0.25 * 128**2
    for label in FREQUENT_SMALL:
        assert _share(sampled, label) >= 0.14
        assert max(b.width * b.height for s in sampled for b in s.boxes if b.label == label) < 0.05 * 128**2


def test_boxes(sampled: list[Scene]) -> None:
    for s in sampled:
        assert {b.label for b in s.boxes} == set(s.labels)
        for b in s.boxes:
            assert b.x >= 0 and b.y >= 0 and b.width > 0 and b.height > 0
            assert b.x + b.width <= 128 and b.y + b.height <= 128
            assert 0 < b.area <= b.width * b.height
            assert b.placed == (LABEL_KINDS[b.label] != "attribute")
            if not b.placed:
                assert (b.x, b.y, b.width, b.height, b.area) == (0, 0, 128, 128, 128**2)
        placed = [b for b in s.boxes if b.placed]
        things = placed[: len(s.composition.things)]
        for (name, members), box in zip(s.composition.actions, placed[len(things) :], strict=True):
            assert box.label == name
            parts = [things[k] for k in members]
            assert box.x == min(p.x for p in parts) and box.y == min(p.y for p in parts)
            assert box.x + box.width == max(p.x + p.width for p in parts)
            assert box.y + box.height == max(p.y + p.height for p in parts)
            assert len(parts) == (2 if name in ("holding", "riding", "playing") else 1)


def test_everything_labelled_can_be_seen(sampled: list[Scene]) -> None:
    """Visibility by brute force: Pillow paints every silhouette in its own number, nearest last."""
    hidden, off = 0, []
    for s in sampled[:300]:
        seen, things = Image.new("L", (512, 512)), s.composition.things
        alone = []
        for number, thing in enumerate(things, start=1):
            mask = Image.new("1", (1024, 1024))  # the frame and its surroundings: what leaves it counts too
            for shape in thing.shapes:
                if shape.solid:
                    ImageDraw.Draw(mask).polygon((shape.points * 512 + 256).ravel().tolist(), fill=1)
            alone.append(np.asarray(mask).sum())
            seen.paste(number, mask=mask.crop((256, 256, 768, 768)))
        pixels = np.asarray(seen)
        for number, (thing, region) in enumerate(zip(things, s.composition.regions, strict=False), start=1):
            share = (pixels == number).sum() / alone[number - 1]
            assert share > MIN_VISIBLE - 0.05, thing.kind
            hidden += share < 0.8
            rows, columns = np.nonzero(pixels == number)
            found = columns.min() / 4, rows.min() / 4, (columns.max() + 1) / 4, (rows.max() + 1) / 4
            box = region.left, region.top, region.right, region.bottom
            off.append(np.abs(np.array(found) - box).max())
    assert hidden > 20  # things do hide each other
    assert np.mean(off) < 0.8 and max(off) < 8  # cells; more only for a thin tip, the moon's for instance


def test_pictures_show_what_is_labelled() -> None:
    """Without its things the picture changes inside their boxes and, save for shadows and marks, nowhere else."""
    for index in range(12):
        scene = draw_scene(0, index=index)
        if not scene.composition.things or {"sun", "moon"} & set(scene.labels):  # those light up the sky
            continue
        bare = np.asarray(_render(replace(scene.composition, things=()), index), dtype=int)
        changed = np.abs(np.asarray(scene.image, dtype=int) - bare).sum(axis=2) > 30
        inside = np.zeros_like(changed)
        for b in scene.boxes:
            if b.placed:
                inside[max(0, b.y - 2) : b.y + b.height + 4, max(0, b.x - 4) : b.x + b.width + 4] = True
                assert changed[b.y : b.y + b.height, b.x : b.x + b.width].mean() > 0.1
        assert changed[~inside].mean() < 0.02


def _render(scene: Composition, index: int) -> Image.Image:
    from helpers.scenes.captions import captions
    from helpers.scenes.content import Dice
    from helpers.scenes.write import _generator, _render

    rng = _generator(0, "train", index)
    captions(compose(rng), Dice(rng))
    return _render(scene, rng, 128)


# ---- captions --------------------------------------------------------------------------------------------------------


def test_captions_tell_the_truth(sampled: list[Scene]) -> None:
    colours = "red|blue|green|yellow|purple|orange|white|black|brown|grey"
    for s in sampled:
        assert len(s.captions) == 3
        coloured = {(b.colour, b.label) for b in s.boxes}
        for caption in s.captions:
            assert re.fullmatch(r"[A-Z][a-z ,-]*\.", caption), caption
            assert set(mentioned_labels(caption)) <= set(s.labels), caption
            text = caption.replace("hot-air balloon", "balloon")
            for colour, noun in re.findall(rf"(?<!in )\b({colours}) ([a-z]+)", text):
                label = next((x for x in LABELS if noun in LABEL_WORDS[x]), None)
                if label is not None:  # not so in "a red roof"
                    assert (colour, label) in coloured, caption
            for colour in re.findall(rf"person in ({colours})", text):
                assert (colour, "person") in coloured, caption
            for colour in re.findall(rf"house with a ({colours}) roof", text):
                assert (colour, "house") in coloured, caption


def test_left_and_right_in_captions(sampled: list[Scene]) -> None:
    checked = 0
    for s in sampled:
        found = re.fullmatch(
            r"(?:There is a|A)n? (\w+) (\w+) to the (left|right) of an? (\w+) (\w+)\.", s.captions[1]
        )
        if found:
            colour, label, side, other_colour, other = found.groups()
            a = [b for b in s.boxes if (b.colour, b.label) == (colour, label)]
            b = [b for b in s.boxes if (b.colour, b.label) == (other_colour, other)]
            if len(a) == len(b) == 1:
                left = a[0].x + a[0].width / 2 < b[0].x + b[0].width / 2
                assert left == (side == "left"), s.captions[1]
                checked += 1
    assert checked > 30


def test_captions_name_most_of_the_objects(sampled: list[Scene]) -> None:
    named = [
        len(set(mentioned_labels(" ".join(s.captions))) & set(s.labels)) / len(s.labels)
        for s in sampled
        if s.labels
    ]
    assert np.mean(named) > 0.85


def test_mentioned_colours() -> None:
    caption = "A person in red riding a brown horse and two people in blue by a house with an orange roof."
    assert mentioned_colours(caption) == (
        ("red", "person"),
        ("brown", "horse"),
        ("blue", "person"),
        ("orange", "house"),
    )
    assert mentioned_colours("A purple hot-air balloon, a person in a meadow and two green dogs") == (
        ("purple", "balloon"),
        ("green", "dog"),  # there are none: a caption may be wrong
    )
    assert mentioned_colours("Red and blue in front of a tree") == mentioned_colours("") == ()


def test_a_caption_states_only_colours_that_are_there() -> None:
    stated = there = 0
    for index in range(300):
        scene = sample_scene(5, split="train", index=index)
        pairs = {(box.colour, box.label) for box in scene.boxes if box.colour}
        for caption in scene.captions:
            assert set(mentioned_colours(caption)) <= pairs, caption
        stated += len(set(mentioned_colours(" ".join(scene.captions))))
        there += len(pairs)
    assert stated > 0.8 * there


def test_mentioned_sides() -> None:
    caption = "A person in red riding a brown horse to the left of a house with a blue roof."
    assert mentioned_sides(caption) == (("person", "left", "house"),)
    assert mentioned_sides("There is a ball to the right of the sun.") == (("ball", "right", "sun"),)
    for nothing in ("A dog next to a tree.", "To the left of a tree.", "A person to the left of", ""):
        assert mentioned_sides(nothing) == ()


def test_a_caption_puts_things_on_the_side_where_they_are() -> None:
    stated = 0
    for index in range(400):
        scene = sample_scene(6, split="train", index=index)
        for caption in scene.captions:
            for one, side, other in mentioned_sides(caption):
                stated += 1
                middle = {
                    name: [box.x + box.width / 2 for box in scene.boxes if box.label == name]
                    for name in (one, other)
                }
                ways = {a < b for a in middle[one] for b in middle[other]}
                assert (side == "left") in ways, caption
    assert stated > 50


def test_mentioned_labels() -> None:
    assert mentioned_labels("Two birds flying over the city on a rainy night.") == (
        "bird",
        "city",
        "night",
        "rain",
        "flying",
    )
    assert mentioned_labels("A carpet, a skyscraper and a catalogue.") == ()


# ---- files ---------------------------------------------------------------------------------------------------------


def test_pycocotools_reads_the_files(written: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(str(written / "instances_train.json"))
    assert len(coco.getImgIds()) == 20
    assert tuple(c["name"] for c in coco.loadCats(sorted(coco.getCatIds()))) == LABELS
    assert {c["supercategory"] for c in coco.loadCats(coco.getCatIds())} == {
        "object",
        "attribute",
        "relation",
    }
    for index, image in enumerate(coco.loadImgs(sorted(coco.getImgIds()))):
        with Image.open(written / "images/train" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (128, 128)
        entries = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        names = {coco.loadCats(entry["category_id"])[0]["name"] for entry in entries}
        assert names == set(sample_scene(0, index=index).labels)
        assert all(isinstance(v, int) for entry in entries for v in (*entry["bbox"], entry["area"]))
        assert all(entry["iscrowd"] == 0 and isinstance(entry["placed"], bool) for entry in entries)


def test_captions_and_ids(written: Path) -> None:
    told = json.loads((written / "captions_train.json").read_text())
    assert [a["caption"] for a in told["annotations"][:3]] == list(sample_scene(0, index=0).captions)
    ids = [
        i["id"]
        for split in scenes.SPLITS
        for i in json.loads((written / f"instances_{split}.json").read_text())["images"]
    ]
    assert len(ids) == len(set(ids)) == 24


def test_written_pictures_are_the_drawn_ones(written: Path) -> None:
    with Image.open(written / "images/train/000004.jpg") as saved:
        difference = np.abs(
            np.asarray(saved, dtype=int) - np.asarray(draw_scene(0, index=4).image, dtype=int)
        )
    assert difference.mean() < 3


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", **SMALL)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_scenes(folder, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert _names(tmp_path) == ["scenes"]


@pytest.mark.parametrize("damage", ["image gone", "image empty", "annotations cut", "annotations gone"])
def test_a_damaged_folder_is_mended(tmp_path: Path, damage: str) -> None:
    folder = write_scenes(tmp_path / "scenes", **SMALL)
    good = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "notes.txt").write_text("mine")
    picture, annotations = folder / "images/val/000001.jpg", folder / "instances_test.json"
    match damage:
        case "image gone":
            picture.unlink()
        case "image empty":
            picture.write_bytes(b"")
        case "annotations cut":
            annotations.write_bytes(annotations.read_bytes()[:-40])
        case "annotations gone":
            annotations.unlink()
    assert scenes.read_manifest(folder) is None
    write_scenes(folder, **SMALL)
    assert scenes.read_manifest(folder) is not None
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {
        **good,
        "notes.txt": b"mine",
    }


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "_draw_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", **SMALL)
    assert _names(tmp_path) == []


def test_a_killed_run_is_recovered(tmp_path: Path, repository: Path) -> None:
    code = f"from helpers.scenes.write import write_scenes; write_scenes({str(tmp_path / 'scenes')!r}, train=100000, progress=False)"
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


def test_processes_make_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_CHUNK", 3)
    one, two = (write_scenes(tmp_path / str(k), **SMALL, workers=k) for k in (1, 2))
    files = [
        sorted((p.name, p.read_bytes()) for p in folder.rglob("*") if p.is_file()) for folder in (one, two)
    ]
    assert files[0] == files[1]


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
        ({"test": 2.5}, "test must be a whole number"),
        ({"size": 8}, "size must be 32 to 1024"),
        ({"size": 4096}, "size must be 32 to 1024"),
        ({"seed": -3}, "0 or more"),
        ({"seed": True}, "seed must be a whole number"),
        ({"workers": 0}, "workers must be 1 or more"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path: Path, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_scenes(tmp_path / "scenes", **{**SMALL, **wrong})
    assert _names(tmp_path) == []


def test_wrong_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev': choose one of train, val, test"):
        draw_scene(0, split="dev")
    with pytest.raises(ValueError, match="0 or more"):
        draw_scene(0, index=-1)


def test_other_files_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(FileExistsError, match="not written by write_scenes"):
        write_scenes(tmp_path, **SMALL, overwrite=True)
    assert _names(tmp_path) == ["thesis.txt"]
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
    scenes_command.main(
        ["--n", "8", "--size", "32", "--seed", "5", "--workers", "1", "--output", str(tmp_path / "scenes")]
    )
    assert "8 train, 1 val, 2 test images of 32 x 32" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        scenes_command.main(["--n", "8", "--size", "64", "--seed", "5", "--output", str(tmp_path / "scenes")])
    assert "--overwrite" in capsys.readouterr().err


# ---- geometry ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-400, 1400)] * 2), min_size=3, max_size=9, unique=True))
def test_silhouette_is_the_even_odd_rule(corners: list[tuple[int, int]]) -> None:
    points = np.array(corners) / 1000.3
    mask, total = drawing.silhouette([drawing.body(points, (0, 0, 0))])
    rows = (np.arange(-64, 192) + 0.5) / 128
    x, y = np.meshgrid(rows, rows)  # cell centres, the frame and its surroundings
    inside = np.zeros_like(x, dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if y0 != y1:
            inside ^= ((y0 <= y) != (y1 <= y)) & (x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    assert (mask != inside[64:192, 64:192]).sum() <= 1  # a centre on an edge may fall on either side
    assert abs(total - inside.sum()) <= 1


@pytest.mark.parametrize(
    ("points", "area"),
    [
        (drawing.rectangle(0.1, 0.2, 0.6, 0.9), 0.35),
        (drawing.ellipse(0.5, 0.5, 0.3, 0.2, tilt=30, corners=90), np.pi * 0.06),
        (drawing.ring(0.5, 0.5, 0.3, 0.1, corners=90), np.pi * (0.35**2 - 0.25**2)),
        (drawing.arc(0.5, 0.5, 0.4, 0.4, 0, 180, corners=60), np.pi * 0.08),
        (drawing.rounded(0.1, 0.1, 0.9, 0.7, 0.1), 0.8 * 0.6 - (4 - np.pi) * 0.01),
        (drawing.limb(0.3, 0.5, 0.7, 0.5, 0.2), 0.08 + np.pi * 0.01),
    ],
)
def test_areas_of_the_primitives(points: np.ndarray, area: float) -> None:
    mask, total = drawing.silhouette([drawing.body(points, (0, 0, 0))])
    assert mask.sum() == total
    assert total / 128**2 == pytest.approx(area, rel=0.02)


def test_a_blob_goes_through_its_control_points() -> None:
    control = [(0.0, 0.0), (1.0, 0.2), (1.2, 0.9), (0.3, 1.1)]
    curve = drawing.blob(*control, steps=6)
    np.testing.assert_allclose(curve[::6], control, atol=1e-12)
    assert np.linalg.norm(np.diff(curve, axis=0), axis=1).max() < 0.3  # and does not jump


def test_place_flips_tilts_and_moves() -> None:
    arrow = [drawing.body(drawing.polygon((0.0, 0.0), (1.0, 0.0), (0.0, 2.0)), (1, 2, 3))]
    for options, expected in (
        ({}, [(0.5, 0.5), (0.6, 0.5), (0.5, 0.3)]),  # y up becomes y down
        ({"flip": True}, [(0.5, 0.5), (0.4, 0.5), (0.5, 0.3)]),
        ({"tilt": 90}, [(0.5, 0.5), (0.5, 0.4), (0.3, 0.5)]),
        ({"tilt": 90, "flip": True}, [(0.5, 0.5), (0.5, 0.4), (0.7, 0.5)]),
    ):
        (placed,) = drawing.place(arrow, 0.5, 0.5, 0.1, **options)
        np.testing.assert_allclose(placed.points, expected, atol=1e-12)


def test_bounds_of_an_empty_mask_are_refused() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        drawing.bounds(np.zeros((4, 4), dtype=bool))
