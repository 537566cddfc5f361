"""What every kind of thing looks like: flat shapes in its own units, the origin at its foot, y up, facing
right.

`draw` makes a thing from its kind, colour and pose; the functions below it hold the outlines, one kind each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from helpers.scenes.content import COLOURS
from helpers.scenes.drawing import (
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
    ring,
    rounded,
)

PALETTE: dict[str, Colour] = {
    "red": (226, 74, 68), "orange": (243, 146, 55), "yellow": (250, 204, 76), "green": (72, 160, 92),
    "blue": (58, 120, 200), "purple": (140, 92, 176), "white": (245, 243, 236), "black": (66, 64, 80),
    "brown": (146, 96, 62), "grey": (146, 148, 160),
    # those of things whose colour is never stated
    "leaf": (72, 150, 84), "moss": (104, 168, 78), "pine": (50, 128, 92), "olive": (136, 168, 70),
    "gold": (255, 212, 84), "amber": (255, 186, 96), "cream": (255, 240, 196), "stone": (146, 135, 136),
}  # fmt: skip
# The colours that a kind can have. Those of `COLOURS` are stated in annotations and captions.
TINTS: dict[str, tuple[str, ...]] = {
    **COLOURS,
    "tree": ("leaf", "moss", "pine", "olive"),
    "sun": ("gold", "amber"),  # by day, at sunset
    "moon": ("cream",),
    "round": ("stone",),  # both ball and rock
    "elephant": ("grey",),
}
POSES: dict[str, tuple[str, ...]] = {  # the first is the usual one; other kinds have one pose without a name
    "person": ("stand", "walk", "hold", "play", "ride"),
    "dog": ("stand", "play", "sleep"),
    "cat": ("stand", "sleep"),
    "bird": ("fly", "glide", "stand"),
    "tree": ("round", "fir"),
}
LOOKS = 768  # persons that differ in skin, hair, trousers and hat

INK: Colour = (52, 46, 66)
SKINS: tuple[Colour, ...] = ((250, 214, 186), (232, 182, 142), (190, 132, 94), (128, 84, 62))
HAIR: tuple[Colour, ...] = ((66, 44, 40), (42, 36, 48), (188, 118, 58), (222, 178, 96))
GLASS: Colour = (190, 226, 240)
WINDOW_AT_NIGHT: Colour = (255, 222, 130)
SNOW: Colour = (246, 249, 255)


def draw(
    kind: str, colour: str, *, pose: str = "", look: int = 0, night: bool = False, snowy: bool = False
) -> list[Shape]:
    """A thing of a kind, back to front, in its own units: see the module's docstring.

    kind: one of `DRAWERS`. colour: a name of `PALETTE`, usually one of `TINTS[kind]`. pose: one of
    `POSES[kind]`, or "" for the first. look: 0 to LOOKS - 1, which person. night: windows and lamps are lit.
    snowy: snow lies on roofs and branches. Raises ValueError for an unknown kind or pose.
    """
    poses = POSES.get(kind, ("",))
    if kind not in DRAWERS or (pose and pose not in poses):
        raise ValueError(
            f"cannot draw kind {kind!r} in pose {pose!r}: choose a kind of {', '.join(DRAWERS)}, and for "
            f"{kind!r} a pose of {', '.join(poses) or 'none'}"
        )
    options: dict[str, object] = {"pose": pose or poses[0]} if kind in POSES else {}
    if kind == "person":
        options["look"] = look
    if kind in ("house", "car", "bus"):
        options["night"] = night
    if kind in ("tree", "house"):
        options["snowy"] = snowy
    return DRAWERS[kind](PALETTE[colour], **options)


# Outlines are tables of numbers: several corners a line.
# fmt: off


def wheel(x: float, radius: float) -> list[Shape]:
    """A wheel of a car or bus, on the ground at x."""
    tyre, hub = ellipse(x, radius, radius, radius), ellipse(x, radius, radius * 0.5, radius * 0.5, corners=16)
    return [body(tyre, (44, 42, 54)), detail(hub, (206, 210, 218))]


def person(colour: Colour, pose: str, look: int) -> list[Shape]:
    """A person one unit tall; "hold": a hand is up in front. `look` varies skin, hair, trousers and hat."""
    skin, hair = SKINS[look % 4], HAIR[look // 4 % (4 if look % 4 < 2 else 2)]  # fair hair with fair skin
    trousers = ((62, 74, 118), (92, 76, 92), (70, 104, 112), (120, 92, 78))[look // 16 % 4]
    # Of the back and of the front: x of the hip, foot (x, y); and both hands.
    back_leg, front_leg, back_hand, front_hand = {
        "stand": ((-0.06, -0.07, 0.03), (0.06, 0.07, 0.03), (-0.19, 0.40), (0.19, 0.40)),
        "hold": ((-0.06, -0.09, 0.03), (0.06, 0.08, 0.03), (-0.19, 0.40), (0.24, 0.62)),
        "walk": ((-0.04, -0.17, 0.03), (0.05, 0.17, 0.03), (-0.22, 0.42), (0.22, 0.44)),
        "play": ((-0.05, -0.10, 0.03), (0.05, 0.24, 0.08), (-0.28, 0.62), (0.28, 0.66)),
        "ride": ((0.0, 0.12, 0.10), (0.02, 0.14, 0.10), (0.22, 0.50), (0.27, 0.48)),
    }[pose]
    shapes = [] if pose == "ride" else [ground_shadow(-0.24, 0.24, 0.035)]
    for (hip, foot, low), tone in ((back_leg, darker(trousers, 0.2)), (front_leg, trousers)):
        shapes.append(body(limb(hip, 0.42, foot, low, 0.14, 0.10), tone))
        shapes.append(body(limb(foot - 0.01, low, foot + 0.07, low, 0.08), INK))
    shapes += [
        body(limb(-0.10, 0.68, *back_hand, 0.10, 0.08), darker(colour, 0.25)),
        body(ellipse(*back_hand, 0.045, 0.045, corners=12), skin),
        body(blob((-0.13, 0.40), (-0.155, 0.56), (-0.12, 0.72), (0.0, 0.75), (0.12, 0.72), (0.155, 0.56),
            (0.13, 0.40)), colour),
        detail(limb(0.0, 0.70, 0.0, 0.78, 0.09), darker(skin, 0.1)),
    ]
    if look // 64 % 2 == 1:  # long hair
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
    return [
        body(limb(0.0, -0.10, 0.0, 0.93, 0.035), pole),
        detail(limb(0.0, -0.10, 0.06, -0.12, 0.035), pole),
        body(arc(0.0, 0.50, 0.44, 0.38, 0, 180, corners=24), colour),
        body(ellipse(-0.29, 0.525, 0.15, 0.05, corners=16), darker(colour, 0.12)),
        body(ellipse(0.29, 0.525, 0.15, 0.05, corners=16), darker(colour, 0.3)),
        body(ellipse(0, 0.525, 0.15, 0.05, corners=16), darker(colour, 0.05)),
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
        bow = (x - 0.11, y - 0.06), (x - 0.11, y + 0.06), (x + 0.11, y - 0.06), (x + 0.11, y + 0.06)
        shapes.append(body(polygon(*bow), colour))
    return shapes


def round_thing(colour: Colour) -> list[Shape]:
    """The ambiguous one: drawn the same whether it is a ball or a rock; the company it keeps decides."""
    return [
        ground_shadow(-0.56, 0.60, 0.12),
        body(ellipse(0.0, 0.46, 0.5, 0.47), colour),
        detail(blob((-0.40, 0.20), (-0.05, 0.24), (0.30, 0.40), (0.46, 0.62), (0.50, 0.40), (0.34, 0.12),
            (0.0, 0.0), (-0.30, 0.08)), darker(colour, 0.2)),
        detail(ellipse(-0.18, 0.66, 0.15, 0.10, tilt=35, corners=16), lighter(colour, 0.5)),
    ]


def balloon(colour: Colour) -> list[Shape]:
    """A hot-air balloon one unit tall (origin: floor of the basket): large and rare."""
    other = lighter(colour, 0.7)

    def envelope(width: float) -> list[tuple[float, float]]:
        side = [(0.07, 0.27), (0.20, 0.42), (0.345, 0.60), (0.36, 0.76), (0.25, 0.93)]
        right = [(x * width, y) for x, y in side]
        return [*right, (0.0, 1.0), *[(-x, y) for x, y in reversed(right)]]

    return [
        *[detail(limb(s * 0.06, 0.12, s * 0.075, 0.28, 0.012), INK) for s in (-1, 1)],
        body(blob(*envelope(1.0), steps=6), colour),
        detail(blob(*envelope(0.72), steps=6), other),
        detail(blob(*envelope(0.40), steps=6), colour),
        detail(blob((0.07, 0.27), (0.20, 0.42), (0.345, 0.60), (0.36, 0.76), (0.25, 0.93), (0.0, 1.0),
            (0.20, 0.86), (0.26, 0.66), (0.15, 0.42), steps=6), INK, 40),
        body(rectangle(-0.07, 0.25, 0.07, 0.29), darker(colour, 0.3)),
        body(rounded(-0.085, 0.0, 0.085, 0.13, 0.02), (168, 116, 70)),
        detail(rectangle(-0.09, 0.10, 0.09, 0.135), (120, 80, 54)),
    ]


def sun(colour: Colour) -> list[Shape]:
    """The sun, one unit across, with rays and a soft halo; the origin is its centre."""
    turns = [2 * math.pi * k / 10 for k in range(10)]
    rays = [(math.cos(a), math.sin(a)) for a in turns]
    return [
        Shape(ellipse(0, 0, 1.25, 1.25, corners=36), colour, 40, glow=True),
        Shape(ellipse(0, 0, 0.9, 0.9, corners=36), colour, 60, glow=True),
        *[Shape(limb(x * 0.60, y * 0.60, x * 0.74, y * 0.74, 0.09, 0.05), colour, glow=True) for x, y in rays],
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


def dog(colour: Colour, pose: str) -> list[Shape]:
    """A dog, about one unit long; poses: stand, play (leaning forward), sleep."""
    dark = darker(colour, 0.28)
    if pose == "sleep":
        return [
            ground_shadow(-0.55, 0.55),
            body(limb(-0.42, 0.16, -0.62, 0.08, 0.09, 0.05), dark),
            body(blob((-0.45, 0.0), (-0.46, 0.26), (-0.1, 0.38), (0.28, 0.26), (0.34, 0.0)), colour),
            body(limb(0.12, 0.05, 0.56, 0.05, 0.11), dark),
            body(ellipse(0.40, 0.21, 0.17, 0.155), colour),
            body(limb(0.46, 0.15, 0.60, 0.13, 0.13, 0.09), lighter(colour)),
            detail(ellipse(0.65, 0.15, 0.03, 0.028, corners=10), INK),
            detail(ellipse(0.31, 0.20, 0.07, 0.13, tilt=20), dark),
            detail(limb(0.42, 0.25, 0.49, 0.24, 0.022), INK),
        ]
    lean = 0.12 if pose == "play" else 0.0
    front = 0.56 if pose == "play" else 0.27
    return [
        ground_shadow(-0.42, 0.48),
        body(limb(-0.34, 0.50, -0.52, 0.74 + lean, 0.09, 0.05), dark),
        body(limb(-0.30, 0.40, -0.36, 0.04, 0.13, 0.09), dark),
        body(limb(0.18, 0.38, front - 0.10, 0.04, 0.12, 0.09), dark),
        body(blob((-0.38, 0.36 + lean / 2), (-0.34, 0.54 + lean), (0.0, 0.52), (0.30, 0.58 - lean),
            (0.36, 0.40 - lean), (0.15, 0.27 - lean / 2), (-0.2, 0.30)), colour),
        body(limb(-0.24, 0.40, -0.22, 0.04, 0.14, 0.09), colour),
        body(limb(0.24, 0.38 - lean, front, 0.04, 0.12, 0.09), colour),
        body(limb(0.28, 0.50 - lean, 0.40, 0.68 - lean, 0.24, 0.20), colour),
        body(ellipse(0.42, 0.72 - lean, 0.17, 0.16), colour),
        body(limb(0.48, 0.67 - lean, 0.64, 0.65 - lean, 0.15, 0.10), lighter(colour)),
        detail(ellipse(0.69, 0.68 - lean, 0.035, 0.03, corners=10), INK),
        detail(ellipse(0.47, 0.77 - lean, 0.025, 0.03, corners=10), INK),
        body(ellipse(0.31, 0.68 - lean, 0.07, 0.15, tilt=-14), dark),
        detail(limb(0.27, 0.50 - lean, 0.40, 0.54 - lean, 0.05), (220, 70, 70)),
    ]


def cat(colour: Colour, pose: str) -> list[Shape]:
    """A cat: sitting and looking at us, about one unit tall, or asleep, curled up."""
    dark, light = darker(colour, 0.28), lighter(colour, 0.4)
    if pose == "sleep":
        return [
            ground_shadow(-0.6, 0.6),
            body(ellipse(0.0, 0.27, 0.52, 0.28), colour),
            detail(limb(-0.15, 0.52, -0.10, 0.40, 0.05), dark),
            detail(limb(-0.30, 0.48, -0.23, 0.36, 0.05), dark),
            body(polygon((0.15, 0.36), (0.17, 0.60), (0.33, 0.46)), dark),
            body(polygon((0.40, 0.46), (0.55, 0.56), (0.56, 0.34)), dark),
            body(ellipse(0.36, 0.26, 0.24, 0.21), colour),
            detail(limb(0.24, 0.28, 0.32, 0.26, 0.03), INK),
            detail(limb(0.42, 0.26, 0.50, 0.28, 0.03), INK),
            detail(ellipse(0.37, 0.19, 0.035, 0.025, corners=8), (230, 130, 130)),
            body(limb(-0.46, 0.14, 0.20, 0.05, 0.13, 0.10), dark),
        ]
    return [
        ground_shadow(-0.34, 0.40),
        body(limb(-0.22, 0.08, -0.46, 0.14, 0.10, 0.09), dark),
        body(limb(-0.46, 0.14, -0.48, 0.38, 0.09, 0.07), dark),
        body(blob((-0.28, 0), (-0.29, 0.24), (-0.13, 0.52), (0.13, 0.52), (0.29, 0.24), (0.28, 0)), colour),
        detail(ellipse(0.0, 0.24, 0.13, 0.20), light),
        *[detail(limb(x, 0.22, x, 0.03, 0.10), colour) for x in (-0.09, 0.09)],
        *[body(polygon((s * 0.27, 0.70), (s * 0.27, 1.0), (s * 0.04, 0.88)), dark) for s in (-1, 1)],
        body(ellipse(0.0, 0.70, 0.28, 0.22), colour),
        detail(limb(0.0, 0.90, 0.0, 0.82, 0.05), dark),
        detail(ellipse(0.0, 0.62, 0.11, 0.07, corners=14), light),
        *[detail(ellipse(x, 0.72, 0.038, 0.05, corners=10), INK) for x in (-0.11, 0.11)],
        detail(polygon((-0.035, 0.67), (0.035, 0.67), (0.0, 0.63)), (230, 120, 120)),
    ]


def sleep_marks() -> list[Shape]:
    """Two letters z that rise from a sleeper."""
    corners = (0, 1), (1, 1), (0, 0), (1, 0)
    return [
        detail(limb(x + ax * s, y + ay * s, x + bx * s, y + by * s, 0.045), (250, 250, 255), glow=True)
        for x, y, s in ((0.0, 0.0, 0.15), (0.17, 0.2, 0.20))
        for (ax, ay), (bx, by) in itertools.pairwise(corners)
    ]


def horse(colour: Colour) -> list[Shape]:
    """A horse, about one unit high at the head."""
    dark, mane = darker(colour, 0.25), darker(colour, 0.55)

    def leg(hip: tuple[float, float], knee: tuple[float, float], hoof: float, tone: Colour) -> list[Shape]:
        return [
            body(limb(*hip, *knee, 0.15, 0.085), tone),
            body(limb(*knee, hoof, 0.04, 0.085, 0.06), tone),
            body(rectangle(hoof - 0.045, 0.0, hoof + 0.055, 0.06), INK),
        ]

    return [
        ground_shadow(-0.5, 0.5, 0.05),
        body(blob((-0.44, 0.62), (-0.58, 0.58), (-0.62, 0.34), (-0.56, 0.22), (-0.52, 0.40), (-0.44, 0.52)),
            mane),
        *leg((-0.36, 0.48), (-0.44, 0.26), -0.40, dark),
        *leg((0.26, 0.44), (0.36, 0.24), 0.30, dark),
        body(blob((-0.46, 0.52), (-0.42, 0.66), (-0.20, 0.66), (0.05, 0.62), (0.24, 0.68), (0.36, 0.58),
            (0.28, 0.42), (0.0, 0.36), (-0.28, 0.38)), colour),
        *leg((-0.30, 0.48), (-0.28, 0.26), -0.32, colour),
        *leg((0.20, 0.44), (0.18, 0.24), 0.19, colour),
        body(blob((0.14, 0.62), (0.22, 0.80), (0.34, 0.98), (0.44, 1.0), (0.50, 0.90), (0.42, 0.78),
            (0.38, 0.56)), colour),
        body(limb(0.44, 0.92, 0.64, 0.74, 0.17, 0.11), colour),
        detail(ellipse(0.65, 0.735, 0.055, 0.05, corners=12), dark),
        detail(ellipse(0.485, 0.90, 0.02, 0.024, corners=8), INK),
        body(polygon((0.37, 0.96), (0.41, 1.10), (0.46, 0.97)), dark),
        body(blob((0.42, 1.03), (0.34, 1.02), (0.20, 0.86), (0.12, 0.66), (0.20, 0.66), (0.28, 0.84),
            (0.38, 0.95)), mane),
    ]


def elephant(colour: Colour) -> list[Shape]:
    """An elephant, one unit tall, 1.4 long: large in the picture, rare in the set."""
    dark, light = darker(colour, 0.22), lighter(colour, 0.18)
    return [
        ground_shadow(-0.62, 0.62, 0.06),
        body(limb(-0.60, 0.62, -0.70, 0.34, 0.05, 0.04), dark),
        *[body(rounded(x - 0.10, 0.0, x + 0.10, 0.46, 0.05), dark) for x in (-0.26, 0.36)],
        body(blob((-0.60, 0.36), (-0.62, 0.66), (-0.40, 0.90), (0.0, 0.94), (0.32, 0.86),
            (0.46, 0.56), (0.36, 0.30), (-0.05, 0.24), (-0.45, 0.26)), colour),
        *[body(rounded(x - 0.11, 0.0, x + 0.11, 0.46, 0.05), colour) for x in (-0.46, 0.18)],
        *[detail(rounded(x - 0.10, 0.0, x + 0.10, 0.05, 0.03), light) for x in (-0.46, 0.18)],
        body(ellipse(0.48, 0.74, 0.23, 0.24), colour),
        body(blob((0.54, 0.86), (0.72, 0.72), (0.77, 0.44), (0.76, 0.20), (0.86, 0.13), (0.90, 0.20),
            (0.97, 0.18), (0.92, 0.04), (0.78, 0.02), (0.66, 0.16), (0.64, 0.42), (0.50, 0.58)), colour),
        body(blob((0.56, 0.56), (0.70, 0.44), (0.82, 0.46), (0.72, 0.40), (0.58, 0.48)), (250, 244, 226)),
        detail(ellipse(0.60, 0.78, 0.026, 0.03, corners=10), INK),
        body(blob((0.40, 0.90), (0.20, 0.96), (0.08, 0.76), (0.16, 0.50), (0.32, 0.48), (0.42, 0.64)), dark),
        detail(blob((0.36, 0.84), (0.22, 0.88), (0.15, 0.74), (0.20, 0.58), (0.30, 0.57), (0.36, 0.68)),
            mix(dark, (232, 170, 170), 0.35)),
    ]


def bird(colour: Colour, pose: str) -> list[Shape]:
    """A bird about one unit across: in flight with the wings up or down, or standing."""
    dark, light = darker(colour, 0.3), lighter(colour, 0.35)
    beak = (244, 160, 52)
    if pose == "stand":
        return [
            ground_shadow(-0.3, 0.3, 0.05),
            detail(limb(-0.04, 0.25, -0.05, 0.0, 0.05), beak),
            detail(limb(0.08, 0.25, 0.08, 0.0, 0.05), beak),
            body(polygon((-0.25, 0.34), (-0.62, 0.34), (-0.58, 0.46), (-0.2, 0.52)), dark),
            body(blob((-0.34, 0.42), (-0.10, 0.20), (0.20, 0.22), (0.34, 0.46), (0.34, 0.70), (0.12, 0.64)),
                colour),
            body(ellipse(0.26, 0.74, 0.19, 0.18, corners=18), colour),
            detail(ellipse(0.16, 0.36, 0.15, 0.14, corners=14), light),
            detail(blob((0.10, 0.52), (-0.12, 0.56), (-0.40, 0.38), (-0.10, 0.32)), dark),
            body(polygon((0.41, 0.80), (0.62, 0.73), (0.42, 0.68)), beak),
            detail(ellipse(0.32, 0.78, 0.035, 0.04, corners=8), INK),
        ]
    tip = 0.95 if pose == "fly" else -0.30
    return [
        body(blob((0.02, 0.36), (-0.20, tip * 0.7 + 0.15), (-0.42, tip), (-0.40, tip * 0.5 + 0.15),
            (-0.24, 0.30)), dark),
        body(polygon((-0.22, 0.34), (-0.62, 0.42), (-0.58, 0.22), (-0.2, 0.22)), dark),
        body(blob((-0.32, 0.30), (-0.05, 0.16), (0.26, 0.22), (0.40, 0.36), (0.26, 0.46), (-0.05, 0.42)),
            colour),
        body(ellipse(0.34, 0.40, 0.15, 0.14, corners=16), colour),
        body(polygon((0.46, 0.45), (0.66, 0.38), (0.46, 0.33)), beak),
        detail(ellipse(0.38, 0.43, 0.03, 0.035, corners=8), INK),
        body(blob((0.16, 0.36), (0.12, tip * 0.6 + 0.2), (-0.06, tip), (-0.14, tip * 0.5 + 0.15),
            (-0.14, 0.32)), light),
    ]


def tree(colour: Colour, pose: str, snowy: bool) -> list[Shape]:
    """A tree one unit tall: round, or a fir; with snow on it in winter."""
    trunk = (128, 88, 62)
    dark, light = darker(colour, 0.2), lighter(colour, 0.16)
    if pose == "fir":
        shapes = [ground_shadow(-0.26, 0.26, 0.035), body(rectangle(-0.045, 0.0, 0.045, 0.24), trunk)]
        for low, high, half in ((0.16, 0.56, 0.32), (0.38, 0.78, 0.25), (0.60, 1.0, 0.18)):
            shapes.append(body(polygon((-half, low), (half, low), (0.0, high)), colour))
            shapes.append(detail(polygon((half * 0.15, low), (half, low), (0.0, high)), dark))
            if snowy:
                rim = (-half * 0.4, high - 0.16), (-half * 0.1, high - 0.20), (half * 0.4, high - 0.16)
                shapes.append(detail(polygon(*rim, (0.0, high)), SNOW))
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
        shapes.append(detail(blob((-0.22, 0.86), (0.0, 1.01), (0.22, 0.86), (0.10, 0.88), (0.0, 0.84),
            (-0.12, 0.90)), SNOW))
    return shapes


def house(colour: Colour, night: bool, snowy: bool) -> list[Shape]:
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


def car(colour: Colour, night: bool) -> list[Shape]:
    """A car, one unit long."""
    pane = WINDOW_AT_NIGHT if night else GLASS
    beam = detail(polygon((0.48, 0.22), (0.95, 0.34), (0.95, 0.02)), (255, 240, 170), 70, glow=True)
    return [
        ground_shadow(-0.55, 0.55, 0.04),
        body(blob((-0.34, 0.26), (-0.28, 0.44), (-0.14, 0.50), (0.10, 0.50), (0.22, 0.43), (0.32, 0.26),
            steps=4), darker(colour, 0.08)),
        detail(polygon((-0.26, 0.29), (-0.20, 0.43), (-0.04, 0.455), (-0.04, 0.29)), pane, glow=night),
        detail(polygon((0.0, 0.29), (0.0, 0.455), (0.12, 0.44), (0.23, 0.29)), pane, glow=night),
        body(rounded(-0.50, 0.09, 0.50, 0.30, 0.09), colour),
        detail(rounded(-0.50, 0.09, 0.50, 0.16, 0.05), darker(colour, 0.25)),
        detail(limb(-0.04, 0.24, 0.02, 0.24, 0.018), darker(colour, 0.5)),
        detail(ellipse(0.46, 0.22, 0.035, 0.04, corners=12), (255, 244, 190), glow=True),
        detail(ellipse(-0.475, 0.22, 0.025, 0.035, corners=12), (240, 80, 70)),
        *wheel(-0.28, 0.105), *wheel(0.28, 0.105),
        *([beam] if night else []),
    ]


def bus(colour: Colour, night: bool) -> list[Shape]:
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
        glint = (left + 0.09, 0.53), (left + 0.125, 0.53), (left + 0.05, 0.32), (left + 0.015, 0.32)
        shapes.append(detail(polygon(*glint), (255, 255, 255), 70))
    shapes += [
        detail(rounded(0.235, 0.11, 0.345, 0.53, 0.015), darker(colour, 0.45)),
        *[detail(rectangle(x, 0.13, x + 0.04, 0.51), pane, glow=night) for x in (0.245, 0.295)],
        detail(rounded(0.37, 0.30, 0.49, 0.53, 0.02), pane, glow=night),
        detail(ellipse(0.47, 0.16, 0.025, 0.025, corners=12), (255, 244, 190), glow=True),
        *wheel(-0.29, 0.085), *wheel(0.16, 0.085),
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


DRAWERS: dict[str, Callable[..., list[Shape]]] = {
    "person": person, "bird": bird, "tree": tree, "house": house, "dog": dog, "cat": cat, "horse": horse,
    "car": car, "bicycle": bicycle, "boat": boat, "umbrella": umbrella, "round": round_thing, "kite": kite,
    "sun": sun, "moon": moon, "bus": bus, "balloon": balloon, "elephant": elephant,
}
