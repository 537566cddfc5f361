"""The artwork of the scenes: palette, people, what they hold and what is in the sky.

Every object is a list of flat shapes in its own units: the foot at the origin, y up, facing right.
"""

from __future__ import annotations

import itertools
import math

from helpers.scenery.drawing import (
    Colour,
    Shape,
    arc,
    blob,
    body,
    darker,
    detail,
    ellipse,
    ground_shadow,
    lighter,
    limb,
    mix,
    polygon,
    rectangle,
    rounded,
)

PALETTE: dict[str, Colour] = {
    "red": (226, 74, 68),
    "orange": (243, 146, 55),
    "yellow": (250, 204, 76),
    "green": (72, 160, 92),
    "blue": (58, 120, 200),
    "purple": (140, 92, 176),
    "white": (245, 243, 236),
    "black": (66, 64, 80),
    "brown": (146, 96, 62),
    "grey": (146, 148, 160),
}
INK: Colour = (52, 46, 66)
SKINS: tuple[Colour, ...] = ((250, 214, 186), (232, 182, 142), (190, 132, 94), (128, 84, 62))
HAIR: tuple[Colour, ...] = ((66, 44, 40), (42, 36, 48), (188, 118, 58), (222, 178, 96))
GLASS: Colour = (190, 226, 240)
WINDOW_AT_NIGHT: Colour = (255, 222, 130)
# what the ball and the rock are both drawn in
ROUND_COLOUR = mix(PALETTE["grey"], PALETTE["brown"], 0.25)


def person(colour: Colour, *, pose: str = "stand", look: int = 0) -> list[Shape]:
    """A person one unit tall; poses: stand, walk, hold (a hand up in front), play, ride. `look` varies the rest."""
    skin, hair = SKINS[look % 4], HAIR[look // 4 % (4 if look % 4 < 2 else 2)]  # fair hair with fair skin
    trousers = ((62, 74, 118), (92, 76, 92), (70, 104, 112), (120, 92, 78))[look // 16 % 4]
    shoe = INK
    legs = {
        "stand": ((-0.06, -0.07), (0.06, 0.07)),
        "hold": ((-0.06, -0.09), (0.06, 0.08)),
        "walk": ((-0.04, -0.17), (0.05, 0.17)),
        "play": ((-0.05, -0.10), (0.05, 0.24)),
        "ride": ((0.0, 0.12), (0.02, 0.14)),
    }[pose]
    lift = {"play": 0.08, "ride": 0.10}.get(pose, 0.03)
    shapes = [] if pose == "ride" else [ground_shadow(-0.24, 0.24, 0.035)]
    for index, (hip, foot) in enumerate(legs):
        low = lift if index == 1 else (0.03 if pose != "ride" else lift)
        tone = darker(trousers, 0.2) if index == 0 else trousers
        shapes.append(body(limb(hip, 0.42, foot, low, 0.14, 0.10), tone))
        shapes.append(body(limb(foot - 0.01, low, foot + 0.07, low, 0.08), shoe))
    back_hand = {"walk": (-0.22, 0.42), "play": (-0.28, 0.62), "ride": (0.22, 0.50)}.get(pose, (-0.19, 0.40))
    front_hand = {"hold": (0.24, 0.62), "walk": (0.22, 0.44), "play": (0.28, 0.66), "ride": (0.27, 0.48)}.get(
        pose, (0.19, 0.40)
    )
    shapes += [
        body(limb(-0.10, 0.68, *back_hand, 0.10, 0.08), darker(colour, 0.25)),
        body(ellipse(*back_hand, 0.045, 0.045, corners=12), skin),
        body(
            blob(
                (-0.13, 0.40),
                (-0.155, 0.56),
                (-0.12, 0.72),
                (0.0, 0.75),
                (0.12, 0.72),
                (0.155, 0.56),
                (0.13, 0.40),
            ),
            colour,
        ),
        detail(limb(0.0, 0.70, 0.0, 0.78, 0.09), darker(skin, 0.1)),
    ]
    long_hair = look // 64 % 2 == 1
    if long_hair:
        shapes.append(body(rounded(-0.155, 0.68, 0.05, 0.98, 0.1), darker(hair, 0.1)))
    shapes += [
        body(ellipse(0.01, 0.86, 0.125, 0.135), skin),
        body(arc(-0.005, 0.885, 0.145, 0.125, 15, 205), hair),
        detail(ellipse(0.07, 0.85, 0.016, 0.022, corners=8), INK),
        detail(ellipse(0.055, 0.79, 0.025, 0.012, corners=8), darker(skin, 0.4)),
    ]
    if look // 128 % 3 == 0:  # a hat
        shapes += [
            body(arc(0.0, 0.92, 0.14, 0.13, 0, 180), darker(colour, 0.1)),
            body(limb(-0.14, 0.925, 0.20, 0.925, 0.035), darker(colour, 0.3)),
        ]
    shapes += [
        body(limb(0.09, 0.67, *front_hand, 0.10, 0.08), darker(colour, 0.08)),
        body(ellipse(*front_hand, 0.045, 0.045, corners=12), skin),
    ]
    return shapes


def umbrella(colour: Colour) -> list[Shape]:
    """An open umbrella; the origin is the hand that holds it."""
    pole = (92, 74, 70)
    scallops = [
        body(ellipse(x, 0.525, 0.15, 0.05, corners=16), darker(colour, d))
        for x, d in ((-0.29, 0.12), (0.29, 0.3), (0, 0.05))
    ]
    return [
        body(limb(0.0, -0.10, 0.0, 0.93, 0.035), pole),
        detail(limb(0.0, -0.10, 0.06, -0.12, 0.035), pole),
        body(arc(0.0, 0.50, 0.44, 0.38, 0, 180, corners=24), colour),
        *scallops,
        detail(arc(0.0, 0.50, 0.44, 0.38, 115, 180), darker(colour, 0.12)),
        detail(arc(0.0, 0.50, 0.44, 0.38, 0, 65), darker(colour, 0.3)),
    ]


def kite(colour: Colour) -> list[Shape]:
    """A kite one unit tall with a tail; the origin is the knot of its string."""
    other = lighter(colour, 0.55)
    shapes = [
        body(polygon((0.0, 0.55), (0.36, 0.12), (0.0, -0.45), (-0.36, 0.12)), colour),
        detail(polygon((0.0, 0.55), (0.36, 0.12), (0.0, 0.12)), other),
        detail(polygon((0.0, -0.45), (-0.36, 0.12), (0.0, 0.12)), other),
    ]
    bends = [(0.0, -0.45), (-0.10, -0.62), (0.02, -0.76), (-0.10, -0.92)]
    shapes += [body(limb(*a, *b, 0.03), INK) for a, b in itertools.pairwise(bends)]
    for x, y in bends[1:]:
        shapes.append(
            body(
                polygon(
                    (x - 0.11, y - 0.06), (x - 0.11, y + 0.06), (x + 0.11, y - 0.06), (x + 0.11, y + 0.06)
                ),
                colour,
            )
        )
    return shapes


def round_thing(colour: Colour) -> list[Shape]:
    """The ambiguous one: drawn the same whether it is a ball or a rock; the company it keeps decides."""
    return [
        ground_shadow(-0.56, 0.60, 0.12),
        body(ellipse(0.0, 0.46, 0.5, 0.47), colour),
        detail(
            blob(
                (-0.40, 0.20),
                (-0.05, 0.24),
                (0.30, 0.40),
                (0.46, 0.62),
                (0.50, 0.40),
                (0.34, 0.12),
                (0.0, 0.0),
                (-0.30, 0.08),
            ),
            darker(colour, 0.2),
        ),
        detail(ellipse(-0.18, 0.66, 0.15, 0.10, tilt=35, corners=16), lighter(colour, 0.5)),
    ]


def balloon(colour: Colour) -> list[Shape]:
    """A hot-air balloon one unit tall (origin: floor of the basket): large in the picture, rare in the set."""
    other = lighter(colour, 0.7)

    def envelope(width: float) -> list[tuple[float, float]]:
        side = [(0.07, 0.27), (0.20, 0.42), (0.345, 0.60), (0.36, 0.76), (0.25, 0.93)]
        right = [(x * width, y) for x, y in side]
        return [*right, (0.0, 1.0), *[(-x, y) for x, y in reversed(right)]]

    ropes = [detail(limb(s * 0.06, 0.12, s * 0.075, 0.28, 0.012), INK) for s in (-1, 1)]
    return [
        *ropes,
        body(blob(*envelope(1.0), steps=6), colour),
        detail(blob(*envelope(0.72), steps=6), other),
        detail(blob(*envelope(0.40), steps=6), colour),
        detail(
            blob(
                (0.07, 0.27),
                (0.20, 0.42),
                (0.345, 0.60),
                (0.36, 0.76),
                (0.25, 0.93),
                (0.0, 1.0),
                (0.20, 0.86),
                (0.26, 0.66),
                (0.15, 0.42),
                steps=6,
            ),
            INK,
            40,
        ),
        body(rectangle(-0.07, 0.25, 0.07, 0.29), darker(colour, 0.3)),
        body(rounded(-0.085, 0.0, 0.085, 0.13, 0.02), (168, 116, 70)),
        detail(rectangle(-0.09, 0.10, 0.09, 0.135), (120, 80, 54)),
    ]


def sun(colour: Colour) -> list[Shape]:
    """The sun, one unit across, with rays and a soft halo; the origin is its centre."""
    rays = []
    for k in range(10):
        a = 2 * math.pi * k / 10
        rays.append(
            limb(math.cos(a) * 0.60, math.sin(a) * 0.60, math.cos(a) * 0.74, math.sin(a) * 0.74, 0.09, 0.05)
        )
    return [
        Shape(ellipse(0, 0, 1.25, 1.25, corners=36), colour, 40, glow=True),
        Shape(ellipse(0, 0, 0.9, 0.9, corners=36), colour, 60, glow=True),
        *[Shape(ray, colour, glow=True) for ray in rays],
        Shape(ellipse(0, 0, 0.5, 0.5, corners=36), colour, solid=True, glow=True),
        Shape(ellipse(-0.1, 0.1, 0.3, 0.3, corners=28), lighter(colour, 0.35), glow=True),
    ]


def moon(colour: Colour) -> list[Shape]:
    """The crescent moon, one unit tall, with a soft halo; the origin is its centre."""
    outer = arc(0, 0, 0.5, 0.5, 60, 300, corners=26)
    inner = arc(0.28, 0, 0.43, 0.43, 280, 80, corners=20)
    crescent = polygon(*map(tuple, outer), *map(tuple, inner))
    return [
        Shape(ellipse(0, 0, 0.95, 0.95, corners=36), colour, 34, glow=True),
        Shape(crescent, colour, solid=True, glow=True),
    ]
