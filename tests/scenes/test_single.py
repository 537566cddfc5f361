"""Pictures of one thing: exactly one, whatever is drawn, and nothing that goes with anything."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.scenes.artwork import kite
from helpers.scenes.content import OBJECTS
from helpers.scenes.single import KINDS, PLACES, TIMES, WEATHERS, draw_single


@pytest.fixture(scope="module")
def drawn():
    return [draw_single(7, index=index, size=32) for index in range(360)]


def test_kinds_are_the_objects_with_ball_and_rock_as_one():
    assert set(KINDS) == set(OBJECTS) - {"ball", "rock"} | {"round"} and len(KINDS) == 18


def test_a_picture_depends_on_seed_and_index_alone():
    one, again = draw_single(7, index=3), draw_single(7, index=3)
    assert one.image.tobytes() == again.image.tobytes()
    assert (one.target, one.box) == (again.target, again.box)
    others = draw_single(7, index=4), draw_single(8, index=3)
    assert all(other.image.tobytes() != one.image.tobytes() for other in others)
    assert draw_single(7, index=3, size=64).target == one.target  # the size changes pixels only


def test_everything_occurs_and_nothing_goes_with_anything(drawn):
    """Kinds are drawn alike; a kind says nothing of place, time and weather, nor these of each other (chi-squared)."""
    targets = np.array([one.target for one in drawn])
    counts = np.bincount(targets[:, 0], minlength=len(KINDS))
    assert counts.min() > 8 and counts.max() < 38  # 20 expected of each
    for column, names in ((1, PLACES), (2, TIMES), (3, WEATHERS)):
        assert len(set(targets[:, column])) == len(names)
        for other, size in ((0, len(KINDS)), (1, 3), (2, 3), (3, 3)):
            if other != column:
                table = np.zeros((size, 3))
                np.add.at(table, (targets[:, other], targets[:, column]), 1)
                expected = np.outer(table.sum(1), table.sum(0)) / len(targets)
                free = (size - 1) * 2
                assert ((table - expected) ** 2 / expected).sum() < free + 4 * (2 * free) ** 0.5


def test_things_are_anywhere_in_the_picture(drawn):
    for one in drawn:
        assert one.thing.group == ""  # in no action
        assert 0 <= one.box.x < one.box.right <= 32 and 0 <= one.box.y < one.box.bottom <= 32
    tops = [one.box.y for one in drawn if one.thing.kind == "boat"]
    assert min(tops) < 8 and max(tops) > 16  # also in the sky


def test_a_kite_has_no_string(drawn):
    """What tells of an action is drawn by the stage beside the thing; a thing alone is its own artwork only."""
    flown = next(one.thing for one in drawn if one.thing.kind == "kite")
    assert len(flown.shapes) == len(kite((200, 0, 0)))


@pytest.mark.parametrize("wrong", [{"index": -1}, {"size": 8}, {"seed": -1}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="must be"):
        draw_single(**{"seed": 1, **wrong})
