"""Flat shapes: the few primitives that the procedural scenes are drawn with, their geometry and their
rendering.

A picture is a list of `Shape`s, back to front: filled polygons in a unit square (x to the right, y *down*,
both 0..1). The same list is rendered with Pillow and measured with numpy, so boxes and visibility are those
of what is drawn, cost no rendering, and do not depend on the version of Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

GRID = 128  # boxes and areas are measured in cells of 1/128 of the side, whatever the image size
SUPERSAMPLE = 3  # shapes are drawn this much larger and averaged down, which smooths their edges

Colour = tuple[int, int, int]
Points = NDArray[np.float64]


class Shape(NamedTuple):
    """A filled polygon.

    points: (K, 2) float64, corners (x, y); in the object's own units (y up) until `place` puts it in the
    picture.
    colour: red, green, blue, 0..255.
    alpha:  0..255, opacity.
    solid:  part of the object's silhouette (details inside it, strings and shadows are not).
    glow:   gives light itself: not darkened at night.
    """

    points: Points
    colour: Colour
    alpha: int = 255
    solid: bool = False
    glow: bool = False


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour `share` (0..1) of the way from `a` to `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def darker(colour: Colour, share: float = 0.18) -> Colour:
    """The colour in the shade: mixed with a dark blue, which stays livelier than black."""
    return mix(colour, (28, 26, 60), share)


def lighter(colour: Colour, share: float = 0.25) -> Colour:
    """The colour in the light."""
    return mix(colour, (255, 252, 240), share)


def body(points: Points, colour: Colour) -> Shape:
    """An opaque shape that belongs to the object's silhouette."""
    return Shape(points, colour, solid=True)


def detail(points: Points, colour: Colour, alpha: int = 255, *, glow: bool = False) -> Shape:
    """A shape that is drawn but not counted to the silhouette: an eye, a window, a string."""
    return Shape(points, colour, alpha, glow=glow)


def ground_shadow(x0: float, x1: float, height: float = 0.06) -> Shape:
    """The soft shadow at an object's foot, from x0 to x1."""
    return detail(ellipse((x0 + x1) / 2, 0.0, (x1 - x0) / 2, height), (24, 30, 60), 58)


# ---- primitives: each returns the corners of a polygon, (K, 2) -----------------------------------


def polygon(*corners: tuple[float, float]) -> Points:
    """The polygon with these corners."""
    return np.array(corners, dtype=np.float64)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Points:
    """An axis-aligned rectangle."""
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _directions(angles: NDArray[np.float64]) -> Points:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@lru_cache
def _circle(corners: int) -> Points:
    """The unit circle as (corners, 2), from the right counter-clockwise; shared, so not to be written to."""
    return _directions(np.arange(corners) * (2 * math.pi / corners))


def ellipse(cx: float, cy: float, rx: float, ry: float, *, tilt: float = 0.0, corners: int = 26) -> Points:
    """An ellipse, tilted by `tilt` degrees counter-clockwise (y up)."""
    if not tilt:
        return _circle(corners) * (rx, ry) + (cx, cy)
    c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    axes = np.array([[rx * c, rx * s], [-ry * s, ry * c]])  # rows: where the two axes point
    return _circle(corners) @ axes + (cx, cy)


def arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float, *, corners: int = 16) -> Points:
    """The slice of an ellipse between two angles in degrees, closed by its chord."""
    return _directions(np.linspace(math.radians(start), math.radians(end), corners)) * (rx, ry) + (cx, cy)


def ring(cx: float, cy: float, radius: float, width: float, *, corners: int = 26) -> Points:
    """A circle's outline of some width: the outer circle, then the inner one backwards (even-odd fill)."""
    circle = _directions(np.linspace(0, 2 * math.pi, corners + 1))
    both = np.concatenate([circle * (radius + width / 2), circle[::-1] * (radius - width / 2)])
    return both + np.array([cx, cy])


def rounded(x0: float, y0: float, x1: float, y1: float, radius: float) -> Points:
    """A rectangle with round corners."""
    r = min(radius, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    quarter = r * _directions(np.arange(6) * (math.pi / 2 / 5))
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # row vectors turned by 90 degrees
    centres = [(x1 - r, y1 - r), (x0 + r, y1 - r), (x0 + r, y0 + r), (x1 - r, y0 + r)]
    parts = []
    for centre in centres:
        parts.append(quarter + centre)
        quarter = quarter @ turn
    return np.concatenate(parts)


_CAPS = np.concatenate([_circle(12)[:7], -_circle(12)[:7]])  # both ends of a stroke that goes straight down


def limb(x0: float, y0: float, x1: float, y1: float, width0: float, width1: float | None = None) -> Points:
    """A tapered stroke with round ends, from (x0, y0) to (x1, y1): arms, legs, necks, poles."""
    along = math.atan2(y1 - y0, x1 - x0) + math.pi / 2  # the turn that takes "down" to the stroke's direction
    c, s = math.cos(along), math.sin(along)
    points = _CAPS @ np.array([[c, s], [-s, c]])
    points[:7] *= width0 / 2
    points[7:] *= (width0 if width1 is None else width1) / 2
    points[:7] += (x0, y0)
    points[7:] += (x1, y1)
    return points


def blob(*control: tuple[float, float], steps: int = 5) -> Points:
    """A smooth closed curve through the control points (Catmull-Rom)."""
    p1 = np.array(control, dtype=np.float64)
    p0, p2, p3 = (np.concatenate([p1[k:], p1[:k]]) for k in (-1, 1, 2))
    t = (np.arange(steps) / steps)[None, :, None]  # (1, steps, 1) against (K, 1, 2)
    a, b, c, d = (p[:, None, :] for p in (p0, p1, p2, p3))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(-1, 2)  # (K, steps, 2) -> (K * steps, 2)


# ---- geometry ------------------------------------------------------------------------------------


def place(shapes: Sequence[Shape], x: float, y: float, scale: float, *, flip: bool = False) -> list[Shape]:
    """Shapes in their own units (y up) put into the picture (unit square, y down).

    x, y: where the origin of the object goes, in 0..1 of the side. scale: length of one of the object's
    units, in sides of the picture. flip: mirror left and right.
    """
    size = -scale if flip else scale, -scale
    return [shape._replace(points=shape.points * size + (x, y)) for shape in shapes]


def _fill(points: Points, rows: int, columns: int, top: int, left: int) -> NDArray[np.bool_]:
    """(rows, columns) bool: the cells whose centre lies in the polygon (even-odd rule); points in cells."""
    x0, y0 = points[:, 0], points[:, 1]
    x1, y1 = np.concatenate([points[1:], points[:1]]).T
    centre = (np.arange(rows) + (top + 0.5))[:, None]  # (rows, 1) against K edges
    crosses = (y0 <= centre) != (y1 <= centre)
    row, edge = np.nonzero(crosses)
    x = x0[edge] + (centre[row, 0] - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(x - 0.5).astype(np.int64) - left, 0, columns)
    toggles = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    return (np.cumsum(toggles.reshape(rows, columns + 1), axis=1)[:, :-1] % 2).astype(bool)


def silhouette(shapes: Sequence[Shape]) -> tuple[NDArray[np.bool_], int]:
    """The cells that the solid shapes cover.

    Returns the mask (128, 128) bool inside the picture, and the number of cells covered in and outside the
    picture.
    """
    mask = np.zeros((GRID, GRID), dtype=bool)
    solid = [shape.points * GRID for shape in shapes if shape.solid]
    if not solid:
        return mask, 0
    corners = np.concatenate(solid)
    left, top = (math.floor(v) for v in corners.min(axis=0))
    right, bottom = (math.ceil(v) for v in corners.max(axis=0))
    window = np.zeros((bottom - top, right - left), dtype=bool)
    for points in solid:
        x0, y0 = (math.floor(v) for v in points.min(axis=0))
        x1, y1 = (math.ceil(v) for v in points.max(axis=0))
        window[y0 - top : y1 - top, x0 - left : x1 - left] |= _fill(points, y1 - y0, x1 - x0, y0, x0)
    r0, r1, c0, c1 = max(top, 0), min(bottom, GRID), max(left, 0), min(right, GRID)
    if r0 < r1 and c0 < c1:
        mask[r0:r1, c0:c1] = window[r0 - top : r1 - top, c0 - left : c1 - left]
    return mask, int(window.sum())


# ---- rendering -----------------------------------------------------------------------------------


class Light(NamedTuple):
    """What the light does to every colour that does not glow: towards grey, times a tint."""

    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    greyness: float = 0.0

    def on(self, colour: Colour) -> Colour:
        """The colour as seen in this light."""
        grey = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
        dull = [v + (grey - v) * self.greyness for v in colour]
        return tuple(min(255, round(v * t)) for v, t in zip(dull, self.tint, strict=True))  # type: ignore[return-value]


def gradient(canvas: Image.Image, top: float, bottom: float, colours: Sequence[Colour]) -> None:
    """Fill the band between two heights (0..1) with a vertical gradient through `colours`, in place."""
    side = canvas.width
    y0, y1 = round(top * side), round(bottom * side)
    if y1 <= y0:
        return
    at = np.linspace(0, len(colours) - 1, y1 - y0)
    known = np.arange(len(colours))
    strip = np.stack([np.interp(at, known, channel) for channel in zip(*colours, strict=True)], axis=1)
    column = Image.fromarray(np.round(strip).astype(np.uint8)[:, None, :])  # (rows, 1, 3)
    canvas.paste(column.resize((side, y1 - y0), Image.Resampling.NEAREST), (0, y0))


def paint(canvas: Image.Image, shapes: Sequence[Shape], light: Light) -> None:
    """Draw shapes on the (square, RGB) canvas, back to front, in place."""
    side = canvas.width
    opaque, blending = ImageDraw.Draw(canvas), ImageDraw.Draw(canvas, "RGBA")
    for shape in shapes:
        colour = shape.colour if shape.glow else light.on(shape.colour)
        corners = (shape.points * side).ravel().tolist()
        if shape.alpha >= 255:
            opaque.polygon(corners, fill=colour)
        else:
            blending.polygon(corners, fill=(*colour, shape.alpha))
