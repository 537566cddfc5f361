"""What is behind and in front of the things: sky, land and water at three times of day, and the weather."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from helpers.scenes.content import Dice
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

HORIZONS = {"meadow": (0.50, 0.60), "city": (0.60, 0.60), "sea": (0.42, 0.52)}  # from the top, in 0..1
SHORES = (0.70, 0.78)  # where the sand begins, if there is a beach
ROAD = (0.68, 0.88)  # top and bottom of the street in the city; pavements lie on both sides

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
WINDOW: Colour = (255, 220, 130)
# a thick cloud: position and radius of its parts
PUFFS = ((-1.0, 0.1, 0.55, 0.30), (-0.3, -0.25, 0.62, 0.5), (0.5, -0.1, 0.6, 0.42), (1.1, 0.15, 0.45, 0.25))


class Backdrop(NamedTuple):
    """A picture without its things.

    place: meadow, city or sea. time: day, sunset or night. weather: clear, rain or snow. horizon: its height,
    in 0..1 from the top. shore: where the sand begins, likewise; 1 is open sea.
    """

    place: str
    time: str
    weather: str
    horizon: float
    shore: float = 1.0

    @property
    def light(self) -> Light:
        """The light on everything that does not glow."""
        light = LIGHTS[self.time]
        if self.weather == "clear":
            return light
        dim = 0.88 if self.weather == "rain" else 0.97
        return Light(tuple(t * dim for t in light.tint), light.greyness + 0.18)  # type: ignore[arg-type]


def draw_backdrop(canvas: Image.Image, backdrop: Backdrop, dice: Dice) -> None:
    """Draw sky and land on the canvas, in place. `dice` moves clouds, hills, waves and windows only."""
    time, weather, horizon = backdrop.time, backdrop.weather, backdrop.horizon
    gradient(canvas, 0.0, horizon + 0.01, (SKIES if weather == "clear" else OVERCAST)[time])
    shapes = []
    if time == "night" and weather == "clear":
        for _ in range(26):
            x, y, r = dice.between(0, 1), dice.between(0, horizon * 0.8), dice.between(0.002, 0.006)
            shapes.append(detail(ellipse(x, y, r, r, corners=8), (250, 246, 220), glow=True))
    white: dict[str, Colour] = {"day": (255, 255, 255), "sunset": (250, 190, 170), "night": (84, 92, 140)}
    grey: dict[str, Colour] = {"day": (104, 116, 136), "sunset": (104, 92, 120), "night": (52, 58, 86)}
    count = {"clear": 1 + int(dice.between(0, 3)), "rain": 5, "snow": 3}[weather]
    clouds = _clouds(dice, horizon, (grey if weather == "rain" else white)[time], count)
    paint(canvas, shapes + [cloud._replace(glow=True) for cloud in clouds], backdrop.light)
    draw = {"meadow": _meadow, "city": _city, "sea": _sea}[backdrop.place]
    paint(canvas, draw(canvas, backdrop, dice), backdrop.light)


def _clouds(dice: Dice, horizon: float, colour: Colour, count: int) -> list[Shape]:
    shapes = []
    for _ in range(count):
        x, y, s = dice.between(0, 1), dice.between(0.05, horizon * 0.62), dice.between(0.06, 0.12)
        alpha = int(dice.between(150, 230))
        if alpha > 190:
            parts = [ellipse(x + dx * s, y + dy * s, rx * s, ry * s) for dx, dy, rx, ry in PUFFS]
            shapes += [detail(part, colour) for part in parts]
        else:
            shapes.append(detail(ellipse(x, y, 1.5 * s, 0.28 * s), colour, alpha))
    return shapes


def _hills(dice: Dice, horizon: float, height: float, colour: Colour, waves: int) -> Shape:
    x = np.linspace(0.0, 1.0, 28)
    phase, second = dice.between(0, 6.3), dice.between(0, 6.3)
    y = horizon - height * (0.55 + 0.3 * np.sin(x * waves + phase) + 0.15 * np.sin(x * waves * 2.3 + second))
    top = np.stack([x, y], axis=1)
    return detail(np.concatenate([top, [[1.0, horizon + 0.02], [0.0, horizon + 0.02]]]), colour)


def _meadow(canvas: Image.Image, backdrop: Backdrop, dice: Dice) -> list[Shape]:
    horizon, light, snow = backdrop.horizon, backdrop.light, backdrop.weather == "snow"
    ground = ((238, 243, 252), (214, 224, 242)) if snow else ((160, 206, 108), (100, 166, 84))
    far: Colour = (206, 218, 238) if snow else (132, 184, 150)
    near: Colour = (224, 232, 246) if snow else (138, 192, 110)
    hills = [_hills(dice, horizon, 0.16, far, 5), _hills(dice, horizon, 0.08, near, 8)]
    paint(canvas, hills, light)
    gradient(canvas, horizon, 1.0, [light.on(c) for c in ground])
    shapes = []
    tuft = mix(ground[1], (40, 90, 60), 0.25) if not snow else (196, 208, 230)
    for _ in range(14):
        x, y = dice.between(0, 1), dice.between(horizon + 0.04, 0.99)
        s = 0.012 + 0.016 * (y - horizon)
        if snow:
            shapes.append(detail(ellipse(x, y, s * 2.2, s * 0.45, corners=12), tuft, 150))
        else:
            blades = [limb(x, y, x + dx * s, y - s * 1.5, s * 0.4, s * 0.15) for dx in (-0.8, 0, 0.8)]
            shapes += [detail(blade, tuft) for blade in blades]
    if not snow:
        petals: Colour = dice.one_of(((250, 246, 240), (252, 214, 92), (236, 130, 150)))
        for _ in range(int(dice.between(0, 10))):
            x, y = dice.between(0, 1), dice.between(horizon + 0.1, 0.99)
            shapes.append(detail(ellipse(x, y, 0.008, 0.007, corners=8), petals))
    if dice.happens(0.35):  # a path to the horizon
        x = dice.between(0.25, 0.75)
        bend = dice.between(-0.2, 0.2)
        half = horizon + 0.16
        left = (x + bend - 0.04, 1.0), (x + bend * 0.5 + 0.01, half)
        right = (x + bend * 0.5 + 0.07, half), (x + bend + 0.26, 1.0)
        path = polygon((x, horizon), (x + 0.012, horizon), *right, *left)
        shapes.insert(0, detail(path, (226, 206, 164) if not snow else (226, 228, 236)))
    return shapes


def _city(canvas: Image.Image, backdrop: Backdrop, dice: Dice) -> list[Shape]:
    horizon, light, snow = backdrop.horizon, backdrop.light, backdrop.weather == "snow"
    shapes = []
    facades = ((176, 152, 168), (204, 168, 142), (150, 164, 190), (190, 178, 152), (164, 140, 132))
    for near, (low, high, fade) in enumerate(((0.30, 0.46, 0.5), (0.14, 0.34, 0.0))):
        x = -0.03
        while x < 1.0:
            width = dice.between(0.10, 0.19)
            height = dice.between(low, high)
            colour = mix(dice.one_of(facades), (178, 196, 222), fade)
            roof = horizon - height
            shapes.append(detail(rectangle(x, roof, x + width - 0.008 * near, horizon), colour))
            if near and snow:
                top = rectangle(x - 0.004, roof - 0.014, x + width - 0.004, roof + 0.008)
                shapes.append(detail(top, (246, 249, 255)))
            columns = 2 if width < 0.14 else 3
            step = width / (columns + 0.6)
            for row in range(int(height / 0.07)):
                for column in range(columns):
                    lit = dice.happens(0.55) and backdrop.time == "night"
                    left, top = x + step * (column + 0.45), horizon - height + 0.025 + row * 0.07
                    pane = mix(colour, (60, 80, 120), 0.35 - fade * 0.4)
                    if lit:
                        pane = mix(colour, WINDOW, 0.85 - fade)
                    window = rectangle(left, top, left + step * 0.55, top + 0.035)
                    shapes.append(detail(window, pane, glow=lit))
            x += width
    paint(canvas, shapes, light)
    pavement: Colour = (236, 240, 250) if snow else (206, 200, 196)
    road: Colour = (206, 212, 226) if snow else (112, 112, 126)
    kerb = mix(pavement, (80, 80, 96), 0.4)
    gradient(canvas, horizon, ROAD[0], [light.on(mix(pavement, (120, 116, 130), 0.15))])
    gradient(canvas, *ROAD, [light.on(road), light.on(mix(road, (60, 60, 76), 0.15))])
    gradient(canvas, ROAD[1], 1.0, [light.on(pavement), light.on(mix(pavement, (120, 116, 130), 0.12))])
    street = [detail(rectangle(0, y, 1, y + 0.012), kerb) for y in (ROAD[0] - 0.012, ROAD[1])]
    middle, offset = sum(ROAD) / 2, dice.between(-0.2, 0.0)
    for k in range(6):
        x = offset + 0.24 * k
        street.append(detail(rectangle(x, middle, x + 0.11, middle + 0.014), (240, 236, 214)))
    return street


def _sea(canvas: Image.Image, backdrop: Backdrop, dice: Dice) -> list[Shape]:
    _, time, _, horizon, shore = backdrop
    light = backdrop.light
    deep: Colour = {"day": (44, 128, 184), "sunset": (96, 104, 160), "night": (44, 92, 150)}[time]
    shallow: Colour = {"day": (120, 204, 212), "sunset": (220, 150, 140), "night": (84, 140, 176)}[time]
    gradient(canvas, horizon, 1.0, [light.on(deep), light.on(mix(deep, shallow, 0.7)), light.on(shallow)])
    shapes = []
    for _ in range(22):
        x, y = dice.between(0, 1), dice.between(horizon + 0.015, shore)
        w = 0.02 + 0.09 * (y - horizon)
        shapes.append(detail(ellipse(x, y, w, 0.0045, corners=12), (255, 255, 255), 90))
    if shore < 1.0:
        x = np.linspace(0, 1, 24)
        edge = shore + 0.012 * np.sin(x * 7 + dice.between(0, 6)) + 0.008 * np.sin(x * 17)
        for y, colour in ((-0.012, (250, 252, 252)), (0.006, (222, 190, 140)), (0.03, (244, 218, 164))):
            shore_line = np.stack([x, edge + y], axis=1)
            shapes.append(detail(np.concatenate([shore_line, [[1.0, 1.0], [0.0, 1.0]]]), colour))
        for _ in range(10):
            px, py = dice.between(0, 1), dice.between(shore + 0.06, 0.99)
            shapes.append(detail(ellipse(px, py, 0.007, 0.004, corners=8), (214, 180, 130)))
    return shapes


def draw_glitter(canvas: Image.Image, backdrop: Backdrop, dice: Dice, x: float, colour: Colour) -> None:
    """Draw the reflection of a sun or moon at `x` on the sea below it, in place."""
    horizon, shore = backdrop.horizon, backdrop.shore
    shapes = []
    for k in range(9):
        y = horizon + 0.012 + (min(shore, 0.9) - horizon - 0.03) * k / 8
        w = (0.012 + 0.05 * (y - horizon)) * dice.between(0.7, 1.6)
        wave = ellipse(x + dice.between(-0.012, 0.012), y, w, 0.005, corners=12)
        shapes.append(detail(wave, colour, 170, glow=True))
    paint(canvas, shapes, Light())


def draw_weather(canvas: Image.Image, backdrop: Backdrop, dice: Dice) -> None:
    """Draw rain streaks or snowflakes in front of everything, in place."""
    shapes = []
    if backdrop.weather == "rain":
        for _ in range(70):
            x, y, length = dice.between(-0.05, 1.05), dice.between(-0.05, 1.0), dice.between(0.035, 0.075)
            streak = limb(x, y, x - length * 0.28, y + length, 0.004, 0.006)
            shapes.append(detail(streak, (226, 238, 250), 130))
    elif backdrop.weather == "snow":
        for _ in range(70):
            x, y, r = dice.between(0, 1), dice.between(0, 1), dice.between(0.004, 0.011)
            shapes.append(detail(ellipse(x, y, r, r, corners=10), (255, 255, 255), 225, glow=True))
    paint(canvas, shapes, Light())
