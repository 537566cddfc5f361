"""Every kind of thing can be drawn by its name, in its poses and colours."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.scenes.artwork import DRAWERS, LOOKS, POSES, TINTS, draw
from helpers.scenes.content import COLOURS, OBJECTS
from helpers.scenes.drawing import Shape


def pixels(shapes: list[Shape]) -> list[tuple]:
    """What can be compared of a drawing."""
    return [(shape.points.round(9).tobytes(), *shape[1:]) for shape in shapes]


def test_there_is_a_drawing_of_every_object() -> None:
    assert set(DRAWERS) == set(OBJECTS) - {"ball", "rock"} | {"round"}
    assert set(TINTS) == set(DRAWERS) and COLOURS.items() <= TINTS.items()


@pytest.mark.parametrize("kind", DRAWERS)
def test_a_kind_in_all_its_poses_and_colours(kind: str) -> None:
    poses, colours = POSES.get(kind, ("",)), TINTS[kind]
    drawn = {(pose, colour): draw(kind, colour, pose=pose) for pose in poses for colour in colours}
    assert len({str(pixels(shapes)) for shapes in drawn.values()}) == len(drawn)  # each is another one
    assert pixels(draw(kind, colours[0])) == pixels(drawn[poses[0], colours[0]])  # the first is the default
    for shapes in drawn.values():
        corners = np.concatenate([shape.points for shape in shapes if shape.solid])
        assert 0.8 < np.ptp(corners, axis=0).max() < 1.7  # about one unit large, however it stands


@pytest.mark.parametrize("option", ["night", "snowy"])
def test_night_and_snow_change_only_what_they_light_or_cover(option: str) -> None:
    changed = {
        kind for kind in DRAWERS
        if pixels(draw(kind, TINTS[kind][0], **{option: True})) != pixels(draw(kind, TINTS[kind][0]))
    }  # fmt: skip
    assert changed == {"night": {"house", "car", "bus"}, "snowy": {"tree", "house"}}[option]


def test_people_differ() -> None:
    looks = {str(pixels(draw("person", "red", look=look))) for look in range(LOOKS)}
    assert len(looks) > 100


def test_unknown_kinds_and_poses_are_refused() -> None:
    with pytest.raises(ValueError, match="choose a kind of person, bird"):
        draw("ball", "stone")
    with pytest.raises(ValueError, match="a pose of stand, play, sleep"):
        draw("dog", "brown", pose="fly")
