"""The artwork of the scenes: trees, houses and vehicles, in units as in `art`."""

from __future__ import annotations

from helpers.scenery.art import GLASS, INK, WINDOW_AT_NIGHT
from helpers.scenery.drawing import (
    Colour,
    Shape,
    blob,
    body,
    darker,
    detail,
    ellipse,
    ground_shadow,
    lighter,
    limb,
    polygon,
    rectangle,
    ring,
    rounded,
)

SNOW: Colour = (246, 249, 255)


def tree(colour: Colour, *, pose: str = "round", snowy: bool = False) -> list[Shape]:
    """A tree one unit tall: round, or a fir; with snow on it in winter."""
    trunk = (128, 88, 62)
    dark, light = darker(colour, 0.2), lighter(colour, 0.16)
    if pose == "fir":
        shapes = [ground_shadow(-0.26, 0.26, 0.035), body(rectangle(-0.045, 0.0, 0.045, 0.24), trunk)]
        for low, high, half in ((0.16, 0.56, 0.32), (0.38, 0.78, 0.25), (0.60, 1.0, 0.18)):
            shapes.append(body(polygon((-half, low), (half, low), (0.0, high)), colour))
            shapes.append(detail(polygon((half * 0.15, low), (half, low), (0.0, high)), dark))
            if snowy:
                top = [
                    (-half * 0.4, high - 0.16),
                    (-half * 0.1, high - 0.20),
                    (half * 0.4, high - 0.16),
                    (0.0, high),
                ]
                shapes.append(detail(polygon(*top), SNOW))
        return shapes
    shapes = [
        ground_shadow(-0.32, 0.32, 0.035),
        body(polygon((-0.06, 0.0), (0.06, 0.0), (0.04, 0.45), (-0.04, 0.45)), trunk),
        body(limb(0.0, 0.30, 0.14, 0.46, 0.05, 0.04), trunk),
        body(ellipse(0.14, 0.56, 0.22, 0.20), dark),
        body(ellipse(-0.15, 0.56, 0.22, 0.20), colour),
        body(ellipse(0.0, 0.76, 0.26, 0.24), colour),
        detail(ellipse(-0.08, 0.82, 0.14, 0.12), light),
        detail(ellipse(-0.20, 0.60, 0.10, 0.08), light),
    ]
    if snowy:
        shapes.append(
            detail(
                blob((-0.22, 0.86), (0.0, 1.01), (0.22, 0.86), (0.10, 0.88), (0.0, 0.84), (-0.12, 0.90)), SNOW
            )
        )
    return shapes


def house(colour: Colour, *, night: bool = False, snowy: bool = False) -> list[Shape]:
    """A house one unit tall with a roof of the given colour."""
    wall, wood = (248, 230, 200), (140, 92, 66)
    pane = WINDOW_AT_NIGHT if night else GLASS
    shapes = [
        ground_shadow(-0.62, 0.66, 0.04),
        body(rectangle(0.24, 0.70, 0.36, 1.02), (176, 104, 86)),
        body(rectangle(-0.50, 0.0, 0.50, 0.58), wall),
        detail(rectangle(0.22, 0.0, 0.50, 0.58), darker(wall, 0.08)),
        body(polygon((-0.62, 0.54), (0.62, 0.54), (0.34, 0.94), (-0.34, 0.94)), colour),
        detail(polygon((0.10, 0.54), (0.62, 0.54), (0.34, 0.94), (0.10, 0.94)), darker(colour, 0.14)),
        detail(rectangle(-0.60, 0.53, 0.60, 0.57), darker(colour, 0.35)),
        detail(rounded(-0.11, 0.0, 0.11, 0.38, 0.08), wood),
        detail(ellipse(0.06, 0.18, 0.02, 0.02, corners=8), (244, 204, 96)),
    ]
    for x in (-0.31, 0.31):
        shapes.append(detail(rectangle(x - 0.12, 0.18, x + 0.12, 0.43), (255, 255, 250)))
        shapes.append(detail(rectangle(x - 0.09, 0.21, x + 0.09, 0.40), pane, glow=night))
        shapes.append(detail(rectangle(x - 0.012, 0.21, x + 0.012, 0.40), (255, 255, 250)))
    if snowy:
        shapes.append(detail(polygon((-0.50, 0.72), (0.50, 0.72), (0.34, 0.96), (-0.34, 0.96)), SNOW))
        shapes.append(detail(rectangle(0.22, 1.00, 0.38, 1.04), SNOW))
    return shapes


def _wheel(x: float, radius: float) -> list[Shape]:
    return [
        body(ellipse(x, radius, radius, radius), (44, 42, 54)),
        detail(ellipse(x, radius, radius * 0.5, radius * 0.5, corners=16), (206, 210, 218)),
    ]


def car(colour: Colour, *, night: bool = False) -> list[Shape]:
    """A car, one unit long."""
    pane = WINDOW_AT_NIGHT if night else GLASS
    return [
        ground_shadow(-0.55, 0.55, 0.04),
        body(
            blob(
                (-0.34, 0.26), (-0.28, 0.44), (-0.14, 0.50), (0.10, 0.50), (0.22, 0.43), (0.32, 0.26), steps=4
            ),
            darker(colour, 0.08),
        ),
        detail(polygon((-0.26, 0.29), (-0.20, 0.43), (-0.04, 0.455), (-0.04, 0.29)), pane, glow=night),
        detail(polygon((0.0, 0.29), (0.0, 0.455), (0.12, 0.44), (0.23, 0.29)), pane, glow=night),
        body(rounded(-0.50, 0.09, 0.50, 0.30, 0.09), colour),
        detail(rounded(-0.50, 0.09, 0.50, 0.16, 0.05), darker(colour, 0.25)),
        detail(limb(-0.04, 0.24, 0.02, 0.24, 0.018), darker(colour, 0.5)),
        detail(ellipse(0.46, 0.22, 0.035, 0.04, corners=12), (255, 244, 190), glow=True),
        detail(ellipse(-0.475, 0.22, 0.025, 0.035, corners=12), (240, 80, 70)),
        *_wheel(-0.28, 0.105),
        *_wheel(0.28, 0.105),
        *(
            [detail(polygon((0.48, 0.22), (0.95, 0.34), (0.95, 0.02)), (255, 240, 170), 70, glow=True)]
            if night
            else []
        ),
    ]


def bus(colour: Colour, *, night: bool = False) -> list[Shape]:
    """A bus, one unit long and 0.6 tall: large in the picture, rare in the set."""
    pane = WINDOW_AT_NIGHT if night else GLASS
    shapes = [
        ground_shadow(-0.53, 0.53, 0.03),
        body(rounded(-0.50, 0.07, 0.50, 0.62, 0.07), colour),
        detail(rounded(-0.50, 0.07, 0.50, 0.20, 0.05), darker(colour, 0.22)),
        detail(rectangle(-0.50, 0.245, 0.50, 0.275), lighter(colour, 0.75)),
        detail(rounded(-0.46, 0.555, 0.46, 0.595, 0.02), darker(colour, 0.12)),
    ]
    for left in (-0.45, -0.28, -0.11, 0.06):
        shapes.append(detail(rounded(left, 0.32, left + 0.145, 0.53, 0.02), pane, glow=night))
        shapes.append(
            detail(
                polygon((left + 0.09, 0.53), (left + 0.125, 0.53), (left + 0.05, 0.32), (left + 0.015, 0.32)),
                (255, 255, 255),
                70,
            )
        )
    shapes += [
        detail(rounded(0.235, 0.11, 0.345, 0.53, 0.015), darker(colour, 0.45)),
        detail(rectangle(0.245, 0.13, 0.285, 0.51), pane, glow=night),
        detail(rectangle(0.295, 0.13, 0.335, 0.51), pane, glow=night),
        detail(rounded(0.37, 0.30, 0.49, 0.53, 0.02), pane, glow=night),
        detail(ellipse(0.47, 0.16, 0.025, 0.025, corners=12), (255, 244, 190), glow=True),
        *_wheel(-0.29, 0.085),
        *_wheel(0.16, 0.085),
    ]
    return shapes


def bicycle(colour: Colour) -> list[Shape]:
    """A bicycle, 1.3 units long."""
    tyre, bar = (50, 48, 60), 0.05
    hub0, hub1, crank, seat, head = (-0.40, 0.27), (0.40, 0.27), (-0.04, 0.26), (-0.16, 0.62), (0.30, 0.64)
    frame = [(hub0, crank), (crank, seat), (seat, head), (crank, head), (hub0, seat), (hub1, head)]
    return [
        ground_shadow(-0.66, 0.66, 0.04),
        *[body(ring(x, 0.27, 0.245, 0.055), tyre) for x, _ in (hub0, hub1)],
        *[detail(ellipse(x, 0.27, 0.22, 0.22), (255, 255, 255), 60) for x, _ in (hub0, hub1)],
        *[body(limb(*a, *b, bar), colour) for a, b in frame],
        body(limb(*head, 0.27, 0.76, bar), colour),
        body(limb(0.27, 0.76, 0.38, 0.80, 0.055), INK),
        body(limb(-0.26, 0.66, -0.08, 0.66, 0.07), INK),
        detail(ellipse(*crank, 0.06, 0.06, corners=12), INK),
    ]


def boat(colour: Colour) -> list[Shape]:
    """A sailing boat one unit tall; the origin is on the water line."""
    hull = (150, 98, 66)
    return [
        detail(ellipse(0.0, -0.02, 0.50, 0.035), (255, 255, 255), 110),
        body(limb(0.0, 0.1, 0.0, 1.0, 0.03), (104, 74, 58)),
        body(blob((0.04, 0.24), (0.04, 0.62), (0.05, 0.94), (0.26, 0.62), (0.42, 0.26), steps=4), colour),
        body(polygon((-0.035, 0.26), (-0.035, 0.80), (-0.34, 0.26)), lighter(colour, 0.45)),
        body(polygon((0.0, 1.0), (0.0, 0.93), (0.13, 0.965)), (226, 74, 68)),
        body(polygon((-0.46, 0.20), (0.50, 0.20), (0.34, 0.0), (-0.34, 0.0)), hull),
        detail(polygon((-0.46, 0.20), (0.50, 0.20), (0.46, 0.15), (-0.425, 0.15)), (250, 240, 220)),
    ]
