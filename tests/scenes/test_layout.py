"""Where things are: boxes and visibility, measured again in other ways."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers.scenes.artwork import draw
from helpers.scenes.backdrops import Backdrop
from helpers.scenes.content import LABEL_KINDS, MIN_VISIBLE
from helpers.scenes.layout import SIZE, put
from helpers.scenes.write import Scene, draw_scene

MEADOW = Backdrop("meadow", "day", "clear", 0.55)


def test_the_size_of_the_picture_changes_no_label() -> None:
    for index in range(30):
        small, large = (draw_scene(0, index=index, size=size, picture=False) for size in (48, 512))
        assert (small.labels, small.captions) == (large.labels, large.captions)
        for a, b in zip(small.boxes, large.boxes, strict=True):
            assert (a.label, a.colour, a.placed) == (b.label, b.colour, b.placed)
            edges = [(a.x, b.x), (a.y, b.y), (a.right, b.right), (a.bottom, b.bottom)]
            assert all(abs(near / 48 - far / 512) <= 1 / 48 + 1e-9 for near, far in edges)


def test_boxes(sampled: list[Scene]) -> None:
    for s in sampled:
        assert {b.label for b in s.boxes} == set(s.labels)
        for b in s.boxes:
            assert b.x >= 0 and b.y >= 0 and b.width > 0 and b.height > 0
            assert b.right <= 128 and b.bottom <= 128
            assert 0 < b.area <= b.width * b.height
            assert b.placed == (LABEL_KINDS[b.label] != "attribute")
            if not b.placed:
                assert (b.x, b.y, b.width, b.height, b.area) == (0, 0, 128, 128, 128**2)
        placed = [b for b in s.boxes if b.placed]
        things = placed[: len(s.composition.things)]
        for (name, members), box in zip(s.composition.actions, placed[len(things) :], strict=True):
            parts = [things[k] for k in members]
            assert box.label == name and len(parts) == (2 if name in ("holding", "riding", "playing") else 1)
            assert (box.x, box.y) == (min(p.x for p in parts), min(p.y for p in parts))
            assert (box.right, box.bottom) == (max(p.right for p in parts), max(p.bottom for p in parts))


def test_everything_labelled_can_be_seen(sampled: list[Scene]) -> None:
    """Visibility by brute force: Pillow paints every silhouette in its own number, nearest last."""
    hidden, off = 0, []
    for s in sampled[:100]:
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
        for number, (thing, box) in enumerate(zip(things, s.composition.boxes, strict=False), start=1):
            share = (pixels == number).sum() / alone[number - 1]
            assert share > MIN_VISIBLE - 0.05, thing.kind
            hidden += share < 0.8
            rows, columns = np.nonzero(pixels == number)
            found = columns.min() / 4, rows.min() / 4, (columns.max() + 1) / 4, (rows.max() + 1) / 4
            off.append(np.abs(np.array(found) - (box.x, box.y, box.right, box.bottom)).max())
    assert hidden > 6  # things do hide each other
    assert np.mean(off) < 0.8 and max(off) < 8  # cells; more only for a thin tip, the moon's for instance


def test_ball_and_rock_look_alike(sampled: list[Scene]) -> None:
    reference = draw("round", "stone")
    for s in sampled:
        for thing in s.composition.things:
            if thing.kind in ("ball", "rock"):  # the same colours, the same corners up to position and scale
                assert [x.colour for x in thing.shapes] == [x.colour for x in reference]
                scale = np.ptp(thing.shapes[1].points[:, 0]) / np.ptp(reference[1].points[:, 0])
                assert scale == pytest.approx(SIZE["round"])


def test_one_thing_is_put_anywhere() -> None:
    dog = put(MEADOW, "dog", (0.4, 0.8), 0.2, "brown", pose="sleep")
    assert (dog.kind, dog.colour, dog.depth, dog.group) == ("dog", "brown", 0.8, "")
    for shape, own in zip(dog.shapes, draw("dog", "brown", pose="sleep"), strict=True):
        np.testing.assert_allclose(shape.points, own.points * (0.2, -0.2) + (0.4, 0.8))
    left = put(MEADOW, "dog", (0.4, 0.8), 0.2, "brown", pose="sleep", flip=True, depth=-1)
    np.testing.assert_allclose(left.shapes[1].points[:, 0], 0.8 - dog.shapes[1].points[:, 0])
    assert left.depth == -1
    assert put(MEADOW, "elephant", (0.4, 0.8), 0.2, "grey").colour == ""  # captions do not state it
    winter = put(MEADOW._replace(weather="snow"), "tree", (0.4, 0.8), 0.5, "leaf")
    assert len(winter.shapes) > len(put(MEADOW, "tree", (0.4, 0.8), 0.5, "leaf").shapes)
