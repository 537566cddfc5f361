"""The stage of the scenes: gives every thing of a `Content` its position, size, colour and pose.

The composition of the scenes: what hides what, and so the labels and their boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from helpers.scenes import artwork
from helpers.scenes.artwork import PALETTE
from helpers.scenes.backdrops import ROAD
from helpers.scenes.content import (
    ATTRIBUTES,
    COLOURS,
    LABELS,
    MAX_LABELS,
    MIN_CELLS,
    MIN_VISIBLE,
    P_BALL,
    P_ROUND,
    Content,
    Dice,
    in_company,
    sample_content,
)
from helpers.scenes.drawing import GRID, Colour, Points, Shape, bounds, detail, limb, place, silhouette

GREENS: tuple[Colour, ...] = ((72, 150, 84), (104, 168, 78), (50, 128, 92), (136, 168, 70))


SUN: dict[str, Colour] = {"day": (255, 212, 84), "sunset": (255, 186, 96)}


MOON: Colour = (255, 240, 196)


SIZE = {  # units of the artwork in sides of the picture, in the foreground
    "person": 0.41, "dog": 0.28, "cat": 0.23, "horse": 0.47, "bicycle": 0.32, "tree": 0.62, "house": 0.50,
    "car": 0.40, "bus": 0.84, "elephant": 0.47, "balloon": 0.70, "round": 0.135, "bird": 0.16,
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """Something that is drawn.

    kind:   its label, or "round" until its company has decided between ball and rock.
    colour: a name, or "".
    shapes: in the picture, back to front.
    depth:  height of its foot in the picture (larger is nearer); negative in the sky.
    group:  the action it takes part in, or "".
    """

    kind: str
    colour: str
    shapes: tuple[Shape, ...]
    depth: float
    group: str = ""


class Stage:
    """The things of one scene, placed; `things` is sorted back to front once `fill` has run."""

    def __init__(self, content: Content, dice: Dice) -> None:
        self.content, self.dice = content, dice
        self.things: list[Thing] = []
        low, high = {"meadow": (0.50, 0.60), "city": (0.60, 0.60), "sea": (0.42, 0.52)}[content.place]
        self.horizon = dice.between(low, high)
        self.shore = 1.0  # where the sand begins; 1: open sea
        if content.place == "sea":
            afloat = (
                set(content.present) <= {"boat"} and content.people == "none" and "stand" not in content.birds
            )
            self.shore = 1.0 if afloat and dice.happens(0.6) else dice.between(0.70, 0.78)
        self.near = dice.shuffled((0.17, 0.40, 0.63, 0.85))
        self.far = dice.shuffled((0.13, 0.37, 0.62, 0.87))
        self.sky = dice.shuffled((0.14, 0.38, 0.64, 0.87))

    def fill(self) -> None:
        """Place everything. The people choose their place first, the round thing takes what is left."""
        self._people()
        self._sky()
        self._far()
        self._vehicles()
        self._animals()
        kinds = [thing.kind for thing in self.things]
        land = self.shore < 1.0 or self.content.place != "sea"
        if "round" not in kinds and land and self.content.luck[0] < P_ROUND[in_company(kinds)]:
            y, _ = self._ground(0.35 + 0.65 * self.content.luck[1])
            self._round(self._spot(self.near, 0.08), y)
        self.things.sort(key=lambda thing: thing.depth)

    # ---- where things go -----------------------------------------------------------------------------------------

    def _ground(self, depth: float) -> tuple[float, float]:
        """Height in the picture and growth of what stands at a depth, 0 far to 1 near."""
        top = {"meadow": self.horizon + 0.07, "city": 0.93, "sea": self.shore + 0.09}[self.content.place]
        small = 0.86 if self.content.place == "city" else 0.68
        return top + (0.97 - top) * depth, small + (1 - small) * depth

    def _spot(self, slots: list[float], jitter: float = 0.05) -> float:
        """A free place from left to right, or any where all are taken."""
        middle = slots.pop() if slots else self.dice.between(0.12, 0.88)
        return middle + self.dice.between(-jitter, jitter)

    def _colour(self, kind: str) -> tuple[str, Colour]:
        name = self.dice.one_of(COLOURS[kind])
        return name, PALETTE[name]

    def _add(
        self, kind: str, shapes: Sequence[Shape], at: Points | tuple[float, float], scale: float, *,
        colour: str = "", flip: bool = False, depth: float | None = None, group: str = "",
        behind: Sequence[Shape] = (),
    ) -> None:  # fmt: skip
        placed = place(shapes, at[0], at[1], scale, flip=flip)
        self.things.append(Thing(kind, colour, (*behind, *placed), at[1] if depth is None else depth, group))

    # ---- the things ----------------------------------------------------------------------------------------------

    def _people(self) -> None:
        content, dice = self.content, self.dice
        deed = content.people
        if deed == "none":
            return
        y, growth = self._ground(dice.between(0.5, 1.0))
        x = self._spot(self.near, 0.04)
        flip = x > 0.5 if deed in ("kite", "play", "ride horse") else dice.happens(0.5)
        way = -1 if flip else 1
        if content.player == "dog":
            colour, coat = self._colour("dog")
            size = SIZE["dog"] * growth
            dog = artwork.dog(coat, pose="play")
            self._add("dog", dog, (x, y), size, colour=colour, flip=flip, group="playing")
            self._round(x + way * (0.66 * size + 0.5 * SIZE["round"]), y + 0.004, "playing")
            return
        scale = SIZE["person"] * growth * dice.between(0.94, 1.06)
        colour, shirt = self._colour("person")
        walk = dice.one_of(("walk", "stand"))
        pose = {"kite": "hold", "umbrella": "hold", "walk": walk, "play": "play"}.get(deed, "ride")
        person = artwork.person(shirt, pose=pose, look=int(dice.between(0, 768)))
        if deed.startswith("ride"):
            x = min(max(x, 0.26), 0.74)
            mount = deed.split()[1]
            coat, paint = self._colour(mount)
            size = SIZE[mount] * growth
            shapes = artwork.horse(paint) if mount == "horse" else artwork.bicycle(paint)
            self._add(mount, shapes, (x, y), size, colour=coat, flip=flip, group="riding")
            back, high, scale = (0.02, 0.60, scale * 0.86) if mount == "horse" else (0.16, 0.66, scale * 0.95)
            seat = x - way * back * size, y - high * size + 0.40 * scale  # 0.40: the person's own seat
            self._add(
                "person", person, seat, scale, colour=colour, flip=flip, depth=y + 0.001, group="riding"
            )
            return
        if deed in ("umbrella", "kite"):
            x = min(max(x, 0.24), 0.76)
        group = {"kite": "holding", "umbrella": "holding", "play": "playing"}.get(deed, "")
        self._add("person", person, (x, y), scale, colour=colour, flip=flip, group=group)
        hand = x + way * 0.24 * scale, y - 0.62 * scale
        if deed == "umbrella":
            name, paint = self._colour("umbrella")
            shapes, depth = artwork.umbrella(paint), y + 0.001
            self._add("umbrella", shapes, hand, scale * 0.9, colour=name, flip=flip, depth=depth, group=group)
        elif deed == "kite":
            self._kite(hand, way, y + 0.001)
        elif deed == "play":
            self._round(x + way * (0.30 * scale + 0.5 * SIZE["round"]), y + 0.004, group)

    def _kite(self, hand: tuple[float, float], way: int, depth: float) -> None:
        name, paint = self._colour("kite")
        knot = hand[0] + way * self.dice.between(0.18, 0.32), self.dice.between(0.17, 0.25)
        sag = (hand[0] + knot[0]) / 2 + way * 0.03, (hand[1] + knot[1]) / 2 + 0.05
        curve = [
            tuple(
                (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c
                for a, b, c in zip(hand, sag, knot, strict=True)
            )
            for t in (0, 0.2, 0.4, 0.6, 0.8, 1)
        ]
        string = [detail(limb(*a, *b, 0.006), (250, 250, 250), 220) for a, b in pairwise(curve)]
        size = self.dice.between(0.22, 0.28)
        self._add(
            "kite",
            artwork.kite(paint),
            knot,
            size,
            colour=name,
            flip=way < 0,
            depth=depth,
            group="holding",
            behind=string,
        )

    def _round(self, x: float, y: float, group: str = "") -> None:
        shapes = artwork.round_thing(artwork.ROUND_COLOUR)
        self._add("round", shapes, (x, y), SIZE["round"], depth=y + 0.002, group=group)

    def _sky(self) -> None:
        content, dice = self.content, self.dice
        if content.disc == "sun":
            low = self.horizon - 0.06 if content.time == "sunset" else 0.24
            at = self._spot(self.sky), dice.between(low - 0.10, low)
            self._add("sun", artwork.sun(SUN[content.time]), at, dice.between(0.13, 0.18), depth=-3)
        elif content.disc == "moon":
            at = self._spot(self.sky), dice.between(0.13, 0.24)
            self._add(
                "moon", artwork.moon(MOON), at, dice.between(0.14, 0.18), flip=dice.happens(0.5), depth=-3
            )
        if content.large == "balloon":
            name, paint = self._colour("balloon")
            scale = SIZE["balloon"] * dice.between(0.92, 1.06)
            at = dice.between(0.30, 0.70), dice.between(0.02, 0.06) + scale
            self._add("balloon", artwork.balloon(paint), at, scale, colour=name, depth=-2, group="flying")
        if "fly" in content.birds:
            name, paint = self._colour("bird")
            flip, x, y = dice.happens(0.5), self._spot(self.sky), dice.between(0.20, 0.36)
            for k, (aside, above) in enumerate(
                ((0.0, 0.0), (0.18, 0.10), (-0.16, 0.15))[: len(content.birds)]
            ):
                shapes = artwork.bird(paint, pose="fly" if dice.happens(0.6) else "glide")
                scale = SIZE["bird"] * dice.between(0.85, 1.15) * (1.0 if k == 0 else 0.88)
                at = x + aside + dice.between(-0.02, 0.02), y - above
                group = "flying" if k == 0 else ""  # one is enough for the action
                self._add("bird", shapes, at, scale, colour=name, flip=flip, depth=-1 + 0.1 * k, group=group)

    def _far(self) -> None:
        content, dice = self.content, self.dice
        night, snowy = content.time == "night", content.weather == "snow"
        if "house" in content.present:
            y, growth = self._ground(dice.between(0.0, 0.22))
            name, paint = self._colour("house")
            scale = SIZE["house"] * growth * dice.between(0.9, 1.15)
            at = self._spot(self.far), y
            self._add(
                "house",
                artwork.house(paint, night=night, snowy=snowy),
                at,
                scale,
                colour=name,
                flip=dice.happens(0.5),
            )
        pose, green = dice.pick({"round": 0.6, "fir": 0.4}), dice.one_of(GREENS)
        for _ in range(content.present.count("tree")):
            y, growth = self._ground(0.4 * dice.between(0.0, 1.0) ** 2 if dice.happens(0.85) else 0.75)
            if content.place == "city":
                y, growth = ROAD[0] - 0.01, 0.75
            scale = SIZE["tree"] * growth * dice.between(0.85, 1.15)
            at = self._spot(self.far), y
            self._add("tree", artwork.tree(green, pose=pose, snowy=snowy), at, scale, flip=dice.happens(0.5))
        for k in range(content.present.count("boat")):
            share = dice.between(0.15, 0.45) + (dice.between(0.12, 0.4) if k == 0 else 0.0)
            y = self.horizon + (min(self.shore, 0.92) - 0.02 - self.horizon) * share
            name, paint = self._colour("boat")
            at = self._spot(self.far), y
            self._add(
                "boat", artwork.boat(paint), at, 0.20 + 0.20 * share, colour=name, flip=dice.happens(0.5)
            )

    def _vehicles(self) -> None:
        content, dice = self.content, self.dice
        flip, night = dice.happens(0.5), content.time == "night"
        if content.large == "bus":
            name, paint = self._colour("bus")
            at, scale = (dice.between(0.46, 0.54), 0.845), SIZE["bus"] * dice.between(0.95, 1.05)
            self._add("bus", artwork.bus(paint, night=night), at, scale, colour=name, flip=flip)
        for k in range(content.present.count("car")):
            name, paint = self._colour("car")
            y, growth = self._ground(dice.between(0.3, 0.7))
            if content.place == "city":
                y, growth = (ROAD[1] - 0.03, 1.0) if k == 0 else (ROAD[0] + 0.07, 0.85)
            at, scale = (self._spot(self.near), y), SIZE["car"] * growth
            self._add("car", artwork.car(paint, night=night), at, scale, colour=name, flip=flip != (k == 1))
        if "bicycle" in content.present:
            name, paint = self._colour("bicycle")
            y, growth = self._ground(dice.between(0.4, 0.9))
            at, scale = (self._spot(self.near), y), SIZE["bicycle"] * growth
            self._add("bicycle", artwork.bicycle(paint), at, scale, colour=name, flip=flip)

    def _animals(self) -> None:
        content, dice = self.content, self.dice
        if content.large == "elephant":
            at = dice.between(0.44, 0.52), self._ground(dice.between(0.6, 0.9))[0]
            scale = SIZE["elephant"] * dice.between(0.96, 1.06)
            self._add("elephant", artwork.elephant(PALETTE["grey"]), at, scale, flip=dice.happens(0.5))
        for kind in ("horse", "dog", "cat"):
            if kind not in content.present:
                continue
            y, growth = self._ground(dice.between(0.3, 0.8) if kind == "horse" else dice.between(0.5, 1.0))
            name, paint = self._colour(kind)
            x, flip = self._spot(self.near), dice.happens(0.5)
            scale, asleep = SIZE[kind] * growth * dice.between(0.92, 1.08), kind in content.asleep
            if kind == "horse":
                shapes = artwork.horse(paint)
            else:
                draw = artwork.dog if kind == "dog" else artwork.cat
                shapes = draw(paint, pose="sleep" if asleep else "stand")
            marks = artwork.sleep_marks() if asleep else []
            marks = place(marks, x + (-0.45 if flip else 0.2) * scale, y - 0.46 * scale, 0.24)
            group = "sleeping" if asleep else ""
            self._add(kind, shapes, (x, y), scale, colour=name, flip=flip, group=group, behind=marks)
        if "stand" in content.birds:
            name, paint = self._colour("bird")
            for _ in content.birds:
                y, growth = self._ground(dice.between(0.2, 1.0))
                at, flip = (self._spot(self.near, 0.1), y), dice.happens(0.5)
                shapes = artwork.bird(paint, pose="stand")
                self._add("bird", shapes, at, SIZE["bird"] * growth, colour=name, flip=flip)


@dataclass(frozen=True)
class Region:
    """One annotation, in cells of the measuring grid (1/128 of the side).

    label, colour (a name or ""), left, top, right, bottom (right and bottom excluded), area (visible cells; of an
    action, those of its members); `placed` is False for an attribute of the whole scene, which has no place.
    """

    label: str
    colour: str
    left: int
    top: int
    right: int
    bottom: int
    area: int
    placed: bool = True


@dataclass(frozen=True)
class Composition:
    """A scene that is decided but not drawn.

    place, time, weather: the stage, as in `Content`; horizon, shore: heights in 0..1, from the top.
    things:  what is drawn, back to front.
    actions: (relation, members) pairs, members as positions in `things`.
    regions: one for each of `things`, then for each of `actions`, then for each attribute.
    labels:  in the order of `LABELS`.
    """

    place: str
    time: str
    weather: str
    horizon: float
    shore: float
    things: tuple[Thing, ...]
    actions: tuple[tuple[str, tuple[int, ...]], ...]
    regions: tuple[Region, ...]
    labels: tuple[str, ...]


def compose(rng: Generator) -> Composition:
    """Sample a scene without drawing it.

    The same generator state gives the same scene on every machine, whatever the size of the picture. Only
    `rng.random()` is used. Taught in notebook 01.
    """
    dice = Dice(rng)
    while True:
        content = sample_content(dice)
        stage = Stage(content, dice)
        stage.fill()
        seen = _visible(stage.things)
        kept = {id(thing) for thing, _ in seen}
        if any(thing.group and id(thing) not in kept for thing in stage.things):
            continue  # a part of an action is hidden
        things = _name_round([thing for thing, _ in seen], content)
        actions = _actions(things)
        present = {thing.kind for thing in things} | {name for name, _ in actions}
        present |= {content.place, content.time, content.weather}
        labels = tuple(name for name in LABELS if name in present)
        if len(labels) <= MAX_LABELS:
            break
    masks = [mask for _, mask in seen]
    regions = [_region(thing.kind, thing.colour, mask) for thing, mask in zip(things, masks, strict=True)]
    for name, members in actions:
        regions.append(_region(name, "", np.logical_or.reduce([masks[k] for k in members])))
    for name in ATTRIBUTES:
        if name in labels:
            regions.append(Region(name, "", 0, 0, GRID, GRID, GRID * GRID, placed=False))
    return Composition(
        content.place, content.time, content.weather, stage.horizon, stage.shore,
        tuple(things), tuple(actions), tuple(regions), labels,
    )  # fmt: skip


def _visible(things: Sequence[Thing]) -> list[tuple[Thing, NDArray[np.bool_]]]:
    """The things that can be seen well enough, back to front, each with the cells (128, 128) where it is seen."""
    seen: list[tuple[Thing, NDArray[np.bool_]]] = []
    hidden = np.zeros((GRID, GRID), dtype=bool)
    for thing in reversed(things):  # nearest first: what is left out hides nothing
        mask, total = silhouette(thing.shapes)
        visible = mask & ~hidden
        if np.count_nonzero(visible) >= max(MIN_CELLS, MIN_VISIBLE * total):
            seen.append((thing, visible))
            hidden |= mask
    return seen[::-1]


def _name_round(things: Sequence[Thing], content: Content) -> list[Thing]:
    """The things with the round one named: a ball in company, mostly; a rock otherwise, mostly."""
    ball = content.luck[2] < P_BALL[in_company([thing.kind for thing in things])]
    named = []
    for thing in things:
        if thing.kind == "round":
            thing = replace(thing, kind="ball" if ball or thing.group == "playing" else "rock")
        named.append(thing)
    return named


def _actions(things: Sequence[Thing]) -> list[tuple[str, tuple[int, ...]]]:
    """The relations with the positions of their members; flying and sleeping have one each."""
    actions = []
    for name in ("holding", "riding", "playing"):
        members = tuple(k for k, thing in enumerate(things) if thing.group == name)
        if members:
            actions.append((name, members))
    for k, thing in enumerate(things):
        if thing.group == "sleeping":
            actions.append(("sleeping", (k,)))
        elif thing.kind in ("kite", "balloon") or (thing.kind == "bird" and thing.depth < 0):
            actions.append(("flying", (k,)))
    return actions


def _region(label: str, colour: str, mask: NDArray[np.bool_]) -> Region:
    return Region(label, colour, *bounds(mask), int(np.count_nonzero(mask)))
