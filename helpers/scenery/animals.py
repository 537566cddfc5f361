"""The artwork of the scenes: animals, in units as in `art`."""

from __future__ import annotations

from helpers.scenery.art import INK
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
    mix,
    polygon,
    rectangle,
    rounded,
)


def dog(colour: Colour, *, pose: str = "stand") -> list[Shape]:
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
        body(
            blob(
                (-0.38, 0.36 + lean / 2),
                (-0.34, 0.54 + lean),
                (0.0, 0.52),
                (0.30, 0.58 - lean),
                (0.36, 0.40 - lean),
                (0.15, 0.27 - lean / 2),
                (-0.2, 0.30),
            ),
            colour,
        ),
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


def cat(colour: Colour, *, pose: str = "stand") -> list[Shape]:
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
        body(
            blob((-0.28, 0.0), (-0.29, 0.24), (-0.13, 0.52), (0.13, 0.52), (0.29, 0.24), (0.28, 0.0)), colour
        ),
        detail(ellipse(0.0, 0.24, 0.13, 0.20), light),
        detail(limb(-0.09, 0.22, -0.09, 0.03, 0.10), colour),
        detail(limb(0.09, 0.22, 0.09, 0.03, 0.10), colour),
        body(polygon((-0.27, 0.70), (-0.27, 1.0), (-0.04, 0.88)), dark),
        body(polygon((0.27, 0.70), (0.27, 1.0), (0.04, 0.88)), dark),
        body(ellipse(0.0, 0.70, 0.28, 0.22), colour),
        detail(limb(0.0, 0.90, 0.0, 0.82, 0.05), dark),
        detail(ellipse(0.0, 0.62, 0.11, 0.07, corners=14), light),
        detail(ellipse(-0.11, 0.72, 0.038, 0.05, corners=10), INK),
        detail(ellipse(0.11, 0.72, 0.038, 0.05, corners=10), INK),
        detail(polygon((-0.035, 0.67), (0.035, 0.67), (0.0, 0.63)), (230, 120, 120)),
    ]


def sleep_marks() -> list[Shape]:
    """Two letters z that rise from a sleeper."""
    marks = []
    for x, y, s in ((0.0, 0.0, 0.15), (0.17, 0.2, 0.20)):
        for line in (((0, 1), (1, 1)), ((1, 1), (0, 0)), ((0, 0), (1, 0))):
            (ax, ay), (bx, by) = line
            marks.append(
                detail(
                    limb(x + ax * s, y + ay * s, x + bx * s, y + by * s, 0.045), (250, 250, 255), glow=True
                )
            )
    return marks


def horse(colour: Colour) -> list[Shape]:
    """A horse, about one unit high at the head."""
    dark, mane = darker(colour, 0.25), darker(colour, 0.55)
    legs = [((-0.36, 0.48), (-0.44, 0.26), (-0.40, 0.04)), ((0.26, 0.44), (0.36, 0.24), (0.30, 0.04))]
    near = [((-0.30, 0.48), (-0.28, 0.26), (-0.32, 0.04)), ((0.20, 0.44), (0.18, 0.24), (0.19, 0.04))]
    shapes = [ground_shadow(-0.5, 0.5, 0.05)]
    shapes.append(
        body(
            blob((-0.44, 0.62), (-0.58, 0.58), (-0.62, 0.34), (-0.56, 0.22), (-0.52, 0.40), (-0.44, 0.52)),
            mane,
        )
    )
    for tone, pairs in ((dark, legs), (colour, near)):
        if tone is colour:
            shapes.append(
                body(
                    blob(
                        (-0.46, 0.52),
                        (-0.42, 0.66),
                        (-0.20, 0.66),
                        (0.05, 0.62),
                        (0.24, 0.68),
                        (0.36, 0.58),
                        (0.28, 0.42),
                        (0.0, 0.36),
                        (-0.28, 0.38),
                    ),
                    colour,
                )
            )
        for hip, knee, hoof in pairs:
            shapes.append(body(limb(*hip, *knee, 0.15, 0.085), tone))
            shapes.append(body(limb(*knee, *hoof, 0.085, 0.06), tone))
            shapes.append(body(rectangle(hoof[0] - 0.045, 0.0, hoof[0] + 0.055, 0.06), INK))
    shapes += [
        body(
            blob(
                (0.14, 0.62),
                (0.22, 0.80),
                (0.34, 0.98),
                (0.44, 1.0),
                (0.50, 0.90),
                (0.42, 0.78),
                (0.38, 0.56),
            ),
            colour,
        ),
        body(limb(0.44, 0.92, 0.64, 0.74, 0.17, 0.11), colour),
        detail(ellipse(0.65, 0.735, 0.055, 0.05, corners=12), dark),
        detail(ellipse(0.485, 0.90, 0.02, 0.024, corners=8), INK),
        body(polygon((0.37, 0.96), (0.41, 1.10), (0.46, 0.97)), dark),
        body(
            blob(
                (0.42, 1.03),
                (0.34, 1.02),
                (0.20, 0.86),
                (0.12, 0.66),
                (0.20, 0.66),
                (0.28, 0.84),
                (0.38, 0.95),
            ),
            mane,
        ),
    ]
    return shapes


def elephant(colour: Colour) -> list[Shape]:
    """An elephant, one unit tall, 1.4 long: large in the picture, rare in the set."""
    dark, light = darker(colour, 0.22), lighter(colour, 0.18)
    shapes = [ground_shadow(-0.62, 0.62, 0.06), body(limb(-0.60, 0.62, -0.70, 0.34, 0.05, 0.04), dark)]
    shapes += [body(rounded(x - 0.10, 0.0, x + 0.10, 0.46, 0.05), dark) for x in (-0.26, 0.36)]
    shapes.append(
        body(
            blob(
                (-0.60, 0.36),
                (-0.62, 0.66),
                (-0.40, 0.90),
                (0.0, 0.94),
                (0.32, 0.86),
                (0.46, 0.56),
                (0.36, 0.30),
                (-0.05, 0.24),
                (-0.45, 0.26),
            ),
            colour,
        )
    )
    shapes += [body(rounded(x - 0.11, 0.0, x + 0.11, 0.46, 0.05), colour) for x in (-0.46, 0.18)]
    shapes += [detail(rounded(x - 0.10, 0.0, x + 0.10, 0.05, 0.03), light) for x in (-0.46, 0.18)]
    shapes += [
        body(ellipse(0.48, 0.74, 0.23, 0.24), colour),
        body(
            blob(
                (0.54, 0.86),
                (0.72, 0.72),
                (0.77, 0.44),
                (0.76, 0.20),
                (0.86, 0.13),
                (0.90, 0.20),
                (0.97, 0.18),
                (0.92, 0.04),
                (0.78, 0.02),
                (0.66, 0.16),
                (0.64, 0.42),
                (0.50, 0.58),
            ),
            colour,
        ),
        body(blob((0.56, 0.56), (0.70, 0.44), (0.82, 0.46), (0.72, 0.40), (0.58, 0.48)), (250, 244, 226)),
        detail(ellipse(0.60, 0.78, 0.026, 0.03, corners=10), INK),
        body(blob((0.40, 0.90), (0.20, 0.96), (0.08, 0.76), (0.16, 0.50), (0.32, 0.48), (0.42, 0.64)), dark),
        detail(
            blob((0.36, 0.84), (0.22, 0.88), (0.15, 0.74), (0.20, 0.58), (0.30, 0.57), (0.36, 0.68)),
            mix(dark, (232, 170, 170), 0.35),
        ),
    ]
    return shapes


def bird(colour: Colour, *, pose: str = "fly") -> list[Shape]:
    """A bird about one unit across: in flight with the wings up or down, or standing."""
    dark, light = darker(colour, 0.3), lighter(colour, 0.35)
    beak = (244, 160, 52)
    if pose == "stand":
        return [
            ground_shadow(-0.3, 0.3, 0.05),
            detail(limb(-0.04, 0.25, -0.05, 0.0, 0.05), beak),
            detail(limb(0.08, 0.25, 0.08, 0.0, 0.05), beak),
            body(polygon((-0.25, 0.34), (-0.62, 0.34), (-0.58, 0.46), (-0.2, 0.52)), dark),
            body(
                blob((-0.34, 0.42), (-0.10, 0.20), (0.20, 0.22), (0.34, 0.46), (0.34, 0.70), (0.12, 0.64)),
                colour,
            ),
            body(ellipse(0.26, 0.74, 0.19, 0.18, corners=18), colour),
            detail(ellipse(0.16, 0.36, 0.15, 0.14, corners=14), light),
            detail(blob((0.10, 0.52), (-0.12, 0.56), (-0.40, 0.38), (-0.10, 0.32)), dark),
            body(polygon((0.41, 0.80), (0.62, 0.73), (0.42, 0.68)), beak),
            detail(ellipse(0.32, 0.78, 0.035, 0.04, corners=8), INK),
        ]
    tip = 0.95 if pose == "fly" else -0.30
    return [
        body(
            blob(
                (0.02, 0.36),
                (-0.20, tip * 0.7 + 0.15),
                (-0.42, tip),
                (-0.40, tip * 0.5 + 0.15),
                (-0.24, 0.30),
            ),
            dark,
        ),
        body(polygon((-0.22, 0.34), (-0.62, 0.42), (-0.58, 0.22), (-0.2, 0.22)), dark),
        body(
            blob((-0.32, 0.30), (-0.05, 0.16), (0.26, 0.22), (0.40, 0.36), (0.26, 0.46), (-0.05, 0.42)),
            colour,
        ),
        body(ellipse(0.34, 0.40, 0.15, 0.14, corners=16), colour),
        body(polygon((0.46, 0.45), (0.66, 0.38), (0.46, 0.33)), beak),
        detail(ellipse(0.38, 0.43, 0.03, 0.035, corners=8), INK),
        body(
            blob(
                (0.16, 0.36), (0.12, tip * 0.6 + 0.2), (-0.06, tip), (-0.14, tip * 0.5 + 0.15), (-0.14, 0.32)
            ),
            light,
        ),
    ]
