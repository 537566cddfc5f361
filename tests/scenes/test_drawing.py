"""Geometry of the flat shapes, against formulas and a point-by-point fill."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.scenes import drawing


@settings(max_examples=30)
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


def test_place_flips_and_moves() -> None:
    arrow = [drawing.body(drawing.polygon((0.0, 0.0), (1.0, 0.0), (0.0, 2.0)), (1, 2, 3))]
    for flip, expected in (
        (False, [(0.5, 0.5), (0.6, 0.5), (0.5, 0.3)]),  # y up becomes y down
        (True, [(0.5, 0.5), (0.4, 0.5), (0.5, 0.3)]),
    ):
        (placed,) = drawing.place(arrow, 0.5, 0.5, 0.1, flip=flip)
        np.testing.assert_allclose(placed.points, expected, atol=1e-12)
