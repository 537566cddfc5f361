"""The stage of the scenes: sky, land and water by day, at sunset and at night, and the weather in front of it."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image

from helpers.scenes.drawing import (
    Colour,
    Light,
    Shape,
    detail,
    ellipse,
    gradient,
    limb,
    mix,
    paint,
    polygon,
    rectangle,
)

SKIES: dict[str, tuple[Colour, ...]] = {
    "day": ((92, 172, 230), (150, 206, 240), (218, 240, 246)),
    "sunset": ((84, 78, 150), (226, 118, 116), (255, 208, 132)),
    "night": ((18, 24, 62), (34, 42, 92), (70, 78, 132)),
}


OVERCAST: dict[str, tuple[Colour, ...]] = {
    "day": ((122, 140, 162), (160, 176, 192), (196, 208, 216)),
    "sunset": ((92, 84, 122), (168, 120, 128), (214, 170, 146)),
    "night": ((24, 30, 56), (40, 48, 80), (66, 74, 104)),
}


LIGHTS: dict[str, Light] = {
    "day": Light(),
    "sunset": Light((1.0, 0.84, 0.76), 0.05),
    "night": Light((0.60, 0.64, 0.86), 0.10),
}


ROAD = (0.68, 0.88)  # top and bottom of the street in the city; pavements lie on both sides


WINDOW: Colour = (255, 220, 130)


def light_of(time: str, weather: str) -> Light:
    """The light on everything at a time of day and in a weather."""
    light = LIGHTS[time]
    if weather == "clear":
        return light
    dim = 0.88 if weather == "rain" else 0.97
    return Light(tuple(t * dim for t in light.tint), light.greyness + 0.18)  # type: ignore[arg-type]


def _between(rng: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _clouds(rng: Generator, horizon: float, colour: Colour, count: int) -> list[Shape]:
    shapes = []
    for _ in range(count):
        x, y, s = _between(rng, 0, 1), _between(rng, 0.05, horizon * 0.62), _between(rng, 0.06, 0.12)
        alpha = int(_between(rng, 150, 230))
        puffs = (
            (-1.0, 0.1, 0.55, 0.30),
            (-0.3, -0.25, 0.62, 0.5),
            (0.5, -0.1, 0.6, 0.42),
            (1.1, 0.15, 0.45, 0.25),
        )
        corners = [ellipse(x + dx * s, y + dy * s, rx * s, ry * s) for dx, dy, rx, ry in puffs]
        shapes += (
            [detail(c, colour) for c in corners]
            if alpha > 190
            else [detail(ellipse(x, y, 1.5 * s, 0.28 * s), colour, alpha)]
        )
    return shapes


def _hills(rng: Generator, horizon: float, height: float, colour: Colour, waves: int) -> Shape:
    x = np.linspace(0.0, 1.0, 28)
    phase, second = _between(rng, 0, 6.3), _between(rng, 0, 6.3)
    y = horizon - height * (0.55 + 0.3 * np.sin(x * waves + phase) + 0.15 * np.sin(x * waves * 2.3 + second))
    top = np.stack([x, y], axis=1)
    return detail(np.concatenate([top, [[1.0, horizon + 0.02], [0.0, horizon + 0.02]]]), colour)


def _meadow(canvas: Image.Image, rng: Generator, horizon: float, weather: str, light: Light) -> list[Shape]:
    snow = weather == "snow"
    ground: tuple[Colour, ...] = (
        ((238, 243, 252), (214, 224, 242)) if snow else ((160, 206, 108), (100, 166, 84))
    )
    far: Colour = (206, 218, 238) if snow else (132, 184, 150)
    near: Colour = (224, 232, 246) if snow else (138, 192, 110)
    hills = [_hills(rng, horizon, 0.16, far, 5), _hills(rng, horizon, 0.08, near, 8)]
    paint(canvas, hills, light)
    gradient(canvas, horizon, 1.0, [light.on(c) for c in ground])
    shapes = []
    tuft = mix(ground[1], (40, 90, 60), 0.25) if not snow else (196, 208, 230)
    for _ in range(14):
        x, y = _between(rng, 0, 1), _between(rng, horizon + 0.04, 0.99)
        s = 0.012 + 0.016 * (y - horizon)
        if snow:
            shapes.append(detail(ellipse(x, y, s * 2.2, s * 0.45, corners=12), tuft, 150))
        else:
            shapes += [
                detail(limb(x, y, x + dx * s, y - s * 1.5, s * 0.4, s * 0.15), tuft) for dx in (-0.8, 0, 0.8)
            ]
    if not snow:
        petals = ((250, 246, 240), (252, 214, 92), (236, 130, 150))[int(rng.random() * 3)]
        for _ in range(int(rng.random() * 10)):
            x, y = _between(rng, 0, 1), _between(rng, horizon + 0.1, 0.99)
            shapes.append(detail(ellipse(x, y, 0.008, 0.007, corners=8), petals))
    if rng.random() < 0.35:  # a path to the horizon
        x = _between(rng, 0.25, 0.75)
        bend = _between(rng, -0.2, 0.2)
        path = (226, 206, 164) if not snow else (226, 228, 236)
        shapes.insert(
            0,
            detail(
                polygon(
                    (x, horizon),
                    (x + 0.012, horizon),
                    (x + bend * 0.5 + 0.07, horizon + 0.16),
                    (x + bend + 0.26, 1.0),
                    (x + bend - 0.04, 1.0),
                    (x + bend * 0.5 + 0.01, horizon + 0.16),
                ),
                path,
            ),
        )
    return shapes


def _city(
    canvas: Image.Image, rng: Generator, horizon: float, weather: str, night: bool, light: Light
) -> list[Shape]:
    shapes = []
    facades = ((176, 152, 168), (204, 168, 142), (150, 164, 190), (190, 178, 152), (164, 140, 132))
    for layer, (low, high, fade) in enumerate(((0.30, 0.46, 0.5), (0.14, 0.34, 0.0))):
        x = -0.03
        while x < 1.0:
            width = _between(rng, 0.10, 0.19)
            height = _between(rng, low, high)
            colour = mix(facades[int(rng.random() * 5)], (178, 196, 222), fade)
            shapes.append(detail(rectangle(x, horizon - height, x + width - 0.008 * layer, horizon), colour))
            if layer and weather == "snow":
                shapes.append(
                    detail(
                        rectangle(
                            x - 0.004, horizon - height - 0.014, x + width - 0.004, horizon - height + 0.008
                        ),
                        (246, 249, 255),
                    )
                )
            columns = 2 if width < 0.14 else 3
            step = width / (columns + 0.6)
            rows = int(height / 0.07)
            for row in range(rows):
                for column in range(columns):
                    lit = rng.random() < 0.55
                    left, top = x + step * (column + 0.45), horizon - height + 0.025 + row * 0.07
                    pane = (
                        mix(colour, WINDOW, 0.85 - fade)
                        if night and lit
                        else mix(colour, (60, 80, 120), 0.35 - fade * 0.4)
                    )
                    shapes.append(
                        detail(
                            rectangle(left, top, left + step * 0.55, top + 0.035), pane, glow=night and lit
                        )
                    )
            x += width
    paint(canvas, shapes, light)
    pavement: Colour = (236, 240, 250) if weather == "snow" else (206, 200, 196)
    road: Colour = (206, 212, 226) if weather == "snow" else (112, 112, 126)
    kerb = mix(pavement, (80, 80, 96), 0.4)
    gradient(canvas, horizon, ROAD[0], [light.on(mix(pavement, (120, 116, 130), 0.15))])
    gradient(canvas, *ROAD, [light.on(road), light.on(mix(road, (60, 60, 76), 0.15))])
    gradient(canvas, ROAD[1], 1.0, [light.on(pavement), light.on(mix(pavement, (120, 116, 130), 0.12))])
    street = [detail(rectangle(0, y, 1, y + 0.012), kerb) for y in (ROAD[0] - 0.012, ROAD[1])]
    middle, offset = sum(ROAD) / 2, _between(rng, -0.2, 0.0)
    for k in range(6):
        x = offset + 0.24 * k
        street.append(detail(rectangle(x, middle, x + 0.11, middle + 0.014), (240, 236, 214)))
    return street


def _sea(
    canvas: Image.Image, rng: Generator, horizon: float, shore: float, time: str, light: Light
) -> list[Shape]:
    deep: Colour = {"day": (44, 128, 184), "sunset": (96, 104, 160), "night": (44, 92, 150)}[time]
    shallow: Colour = {"day": (120, 204, 212), "sunset": (220, 150, 140), "night": (84, 140, 176)}[time]
    gradient(canvas, horizon, 1.0, [light.on(deep), light.on(mix(deep, shallow, 0.7)), light.on(shallow)])
    shapes = []
    for _ in range(22):
        x, y = _between(rng, 0, 1), _between(rng, horizon + 0.015, shore)
        w = 0.02 + 0.09 * (y - horizon)
        shapes.append(detail(ellipse(x, y, w, 0.0045, corners=12), (255, 255, 255), 90))
    if shore < 1.0:
        x = np.linspace(0, 1, 24)
        edge = shore + 0.012 * np.sin(x * 7 + _between(rng, 0, 6)) + 0.008 * np.sin(x * 17)

        def below(y: np.ndarray, colour: Colour, alpha: int = 255) -> Shape:
            return detail(np.concatenate([np.stack([x, y], axis=1), [[1.0, 1.0], [0.0, 1.0]]]), colour, alpha)

        shapes += [
            below(edge - 0.012, (250, 252, 252)),
            below(edge + 0.006, (222, 190, 140)),
            below(edge + 0.03, (244, 218, 164)),
        ]
        for _ in range(10):
            px, py = _between(rng, 0, 1), _between(rng, shore + 0.06, 0.99)
            shapes.append(detail(ellipse(px, py, 0.007, 0.004, corners=8), (214, 180, 130)))
    return shapes


def draw_backdrop(
    canvas: Image.Image, rng: Generator, *, place: str, time: str, weather: str, horizon: float, shore: float
) -> None:
    """Draw sky and land on the canvas, in place. `rng` moves clouds, hills, waves and windows only."""
    light, night = light_of(time, weather), time == "night"
    gradient(canvas, 0.0, horizon + 0.01, (SKIES if weather == "clear" else OVERCAST)[time])
    shapes = []
    if night and weather == "clear":
        for _ in range(26):
            x, y, r = _between(rng, 0, 1), _between(rng, 0, horizon * 0.8), _between(rng, 0.002, 0.006)
            shapes.append(detail(ellipse(x, y, r, r, corners=8), (250, 246, 220), glow=True))
    cloud = {"day": (255, 255, 255), "sunset": (250, 190, 170), "night": (84, 92, 140)}[time]
    if weather == "rain":
        cloud = {"day": (104, 116, 136), "sunset": (104, 92, 120), "night": (52, 58, 86)}[time]
    count = {"clear": 1 + int(rng.random() * 3), "rain": 5, "snow": 3}[weather]
    shapes += [s._replace(glow=True) for s in _clouds(rng, horizon, cloud, count)]
    paint(canvas, shapes, light)
    if place == "city":
        shapes = _city(canvas, rng, horizon, weather, night, light)
    elif place == "sea":
        shapes = _sea(canvas, rng, horizon, shore, time, light)
    else:
        shapes = _meadow(canvas, rng, horizon, weather, light)
    paint(canvas, shapes, light)


def draw_glitter(
    canvas: Image.Image, rng: Generator, x: float, *, horizon: float, shore: float, colour: Colour
) -> None:
    """Draw the reflection of sun or moon on the sea below it, in place."""
    shapes = []
    for k in range(9):
        y = horizon + 0.012 + (min(shore, 0.9) - horizon - 0.03) * k / 8
        w = (0.012 + 0.05 * (y - horizon)) * _between(rng, 0.7, 1.6)
        shapes.append(
            detail(ellipse(x + _between(rng, -0.012, 0.012), y, w, 0.005, corners=12), colour, 170, glow=True)
        )
    paint(canvas, shapes, Light())


def draw_weather(canvas: Image.Image, rng: Generator, *, weather: str) -> None:
    """Draw rain streaks or snowflakes in front of everything, in place."""
    shapes = []
    if weather == "rain":
        for _ in range(70):
            x, y, length = _between(rng, -0.05, 1.05), _between(rng, -0.05, 1.0), _between(rng, 0.035, 0.075)
            shapes.append(
                detail(limb(x, y, x - length * 0.28, y + length, 0.004, 0.006), (226, 238, 250), 130)
            )
    elif weather == "snow":
        for _ in range(70):
            x, y, r = _between(rng, 0, 1), _between(rng, 0, 1), _between(rng, 0.004, 0.011)
            shapes.append(detail(ellipse(x, y, r, r, corners=10), (255, 255, 255), 225, glow=True))
    paint(canvas, shapes, Light())
