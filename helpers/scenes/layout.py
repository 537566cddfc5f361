"""Where things are: every thing of a `Content` gets its position, size, colour and pose.

`put` draws one thing and puts it into a picture, `Stage` all things of a scene, and `compose` samples a scene
and
measures what can be seen of each thing: the labels and their boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from helpers.scenes.artwork import LOOKS, TINTS, draw, sleep_marks
from helpers.scenes.backdrops import HORIZONS, ROAD, SHORES, Backdrop
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
from helpers.scenes.drawing import GRID, Shape, detail, limb, place, silhouette

SIZE = {  # the usual length of a unit of the artwork in sides of the picture, in the foreground
    "person": 0.41, "dog": 0.28, "cat": 0.23, "horse": 0.47, "bicycle": 0.32, "tree": 0.62, "house": 0.50,
    "car": 0.40, "bus": 0.84, "elephant": 0.47, "balloon": 0.70, "round": 0.135, "bird": 0.16, "boat": 0.30,
    "umbrella": 0.37, "kite": 0.25, "sun": 0.155, "moon": 0.16,
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """Something that is drawn.

    kind:   its label, or "round" until its company has decided between ball and rock.
    colour: the name that annotations and captions state, or "" for kinds whose colour they do not state.
    shapes: in the picture, back to front.
    depth:  height of its foot in the picture (larger is nearer); negative in the sky.
    group:  the action it takes part in, or "".
    """

    kind: str
    colour: str
    shapes: tuple[Shape, ...]
    depth: float
    group: str = ""


def put(
    backdrop: Backdrop, kind: str, at: tuple[float, float], scale: float, colour: str, *,
    pose: str = "", look: int = 0, flip: bool = False, depth: float | None = None, group: str = "",
    behind: Sequence[Shape] = (),
) -> Thing:  # fmt: skip
    """One thing in a picture, with snow on it or light in it as the backdrop has.

    kind, colour, pose, look: as for `artwork.draw`. at: where its origin goes, (x, y) in 0..1 of the side, y
    down.
    scale: length of one of its units, in sides of the picture; `SIZE[kind]` is usual. flip: it faces left.
    depth: as in `Thing`, by default the height of its origin. group: as in `Thing`. behind: shapes that go
    with it, placed.
    """
    night, snowy = backdrop.time == "night", backdrop.weather == "snow"
    shapes = draw(kind, colour, pose=pose, look=look, night=night, snowy=snowy)
    placed = (*behind, *place(shapes, *at, scale, flip=flip))
    stated = colour if kind in COLOURS else ""
    return Thing(kind, stated, placed, at[1] if depth is None else depth, group)


class Stage:
    """The things of one scene, placed; `things` is sorted back to front once `fill` has run."""

    def __init__(self, content: Content, dice: Dice) -> None:
        self.content, self.dice = content, dice
        self.things: list[Thing] = []
        horizon, shore = dice.between(*HORIZONS[content.place]), 1.0
        if content.place == "sea":
            afloat = set(content.present) <= {"boat"} and content.people == "none"
            if not (afloat and "stand" not in content.birds and dice.happens(0.6)):
                shore = dice.between(*SHORES)
        self.backdrop = Backdrop(content.place, content.time, content.weather, horizon, shore)
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
        land = self.backdrop.shore < 1.0 or self.content.place != "sea"
        if "round" not in kinds and land and self.content.luck[0] < P_ROUND[in_company(kinds)]:
            y, _ = self._ground(0.35 + 0.65 * self.content.luck[1])
            self._round(self._spot(self.near, 0.08), y)
        self.things.sort(key=lambda thing: thing.depth)

    # ---- where things go -------------------------------------------------------------------------

    def _ground(self, depth: float) -> tuple[float, float]:
        """Height in the picture and growth of what stands at a depth, 0 far to 1 near."""
        beach = self.backdrop.shore + 0.09
        top = {"meadow": self.backdrop.horizon + 0.07, "city": 0.93, "sea": beach}[self.content.place]
        small = 0.86 if self.content.place == "city" else 0.68
        return top + (0.97 - top) * depth, small + (1 - small) * depth

    def _spot(self, slots: list[float], jitter: float = 0.05) -> float:
        """A free place from left to right, or any where all are taken."""
        middle = slots.pop() if slots else self.dice.between(0.12, 0.88)
        return middle + self.dice.between(-jitter, jitter)

    def _colour(self, kind: str) -> str:
        return self.dice.one_of(TINTS[kind])

    def _add(self, *arguments: Any, **options: Any) -> None:
        """Add what `put` makes of the arguments."""
        self.things.append(put(self.backdrop, *arguments, **options))

    # ---- the things ------------------------------------------------------------------------------

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
            colour, size = self._colour("dog"), SIZE["dog"] * growth
            self._add("dog", (x, y), size, colour, pose="play", flip=flip, group="playing")
            self._round(x + way * (0.66 * size + 0.5 * SIZE["round"]), y + 0.004, "playing")
            return
        scale = SIZE["person"] * growth * dice.between(0.94, 1.06)
        colour, walk = self._colour("person"), dice.one_of(("walk", "stand"))
        pose = {"kite": "hold", "umbrella": "hold", "walk": walk, "play": "play"}.get(deed, "ride")
        who = {"pose": pose, "look": int(dice.between(0, LOOKS)), "flip": flip}
        if deed.startswith("ride"):
            x = min(max(x, 0.26), 0.74)
            mount = deed.split()[1]
            coat, size = self._colour(mount), SIZE[mount] * growth
            self._add(mount, (x, y), size, coat, flip=flip, group="riding")
            back, high, scale = (0.02, 0.60, scale * 0.86) if mount == "horse" else (0.16, 0.66, scale * 0.95)
            seat = x - way * back * size, y - high * size + 0.40 * scale  # 0.40: the person's own seat
            self._add("person", seat, scale, colour, **who, depth=y + 0.001, group="riding")
            return
        if deed in ("umbrella", "kite"):
            x = min(max(x, 0.24), 0.76)
        group = {"kite": "holding", "umbrella": "holding", "play": "playing"}.get(deed, "")
        self._add("person", (x, y), scale, colour, **who, group=group)
        hand, depth = (x + way * 0.24 * scale, y - 0.62 * scale), y + 0.001
        if deed == "umbrella":
            colour = self._colour("umbrella")
            self._add("umbrella", hand, scale * 0.9, colour, flip=flip, depth=depth, group=group)
        elif deed == "kite":
            self._kite(hand, way, depth)
        elif deed == "play":
            self._round(x + way * (0.30 * scale + 0.5 * SIZE["round"]), y + 0.004, group)

    def _kite(self, hand: tuple[float, float], way: int, depth: float) -> None:
        colour = self._colour("kite")
        knot = hand[0] + way * self.dice.between(0.18, 0.32), self.dice.between(0.17, 0.25)
        sag = (hand[0] + knot[0]) / 2 + way * 0.03, (hand[1] + knot[1]) / 2 + 0.05
        parts = (((1 - t) ** 2, 2 * t * (1 - t), t * t) for t in (0, 0.2, 0.4, 0.6, 0.8, 1))
        curve = [
            [u * a + v * b + w * c for a, b, c in zip(hand, sag, knot, strict=True)] for u, v, w in parts
        ]
        string = [detail(limb(*a, *b, 0.006), (250, 250, 250), 220) for a, b in pairwise(curve)]
        size = self.dice.between(0.22, 0.28)
        self._add("kite", knot, size, colour, flip=way < 0, depth=depth, group="holding", behind=string)

    def _round(self, x: float, y: float, group: str = "") -> None:
        self._add("round", (x, y), SIZE["round"], "stone", depth=y + 0.002, group=group)

    def _sky(self) -> None:
        content, dice = self.content, self.dice
        if content.disc == "sun":
            sunset = content.time == "sunset"
            low = self.backdrop.horizon - 0.06 if sunset else 0.24
            at = self._spot(self.sky), dice.between(low - 0.10, low)
            self._add("sun", at, dice.between(0.13, 0.18), TINTS["sun"][sunset], depth=-3)
        elif content.disc == "moon":
            at = self._spot(self.sky), dice.between(0.13, 0.24)
            self._add("moon", at, dice.between(0.14, 0.18), "cream", flip=dice.happens(0.5), depth=-3)
        if content.large == "balloon":
            colour = self._colour("balloon")
            scale = SIZE["balloon"] * dice.between(0.92, 1.06)
            at = dice.between(0.30, 0.70), dice.between(0.02, 0.06) + scale
            self._add("balloon", at, scale, colour, depth=-2, group="flying")
        if "fly" in content.birds:
            colour = self._colour("bird")
            flip, x, y = dice.happens(0.5), self._spot(self.sky), dice.between(0.20, 0.36)
            flock = ((0.0, 0.0), (0.18, 0.10), (-0.16, 0.15))[: len(content.birds)]
            for k, (aside, above) in enumerate(flock):
                pose = "fly" if dice.happens(0.6) else "glide"
                scale = SIZE["bird"] * dice.between(0.85, 1.15) * (1.0 if k == 0 else 0.88)
                at = x + aside + dice.between(-0.02, 0.02), y - above
                group = "flying" if k == 0 else ""  # one is enough for the action
                self._add("bird", at, scale, colour, pose=pose, flip=flip, depth=-1 + 0.1 * k, group=group)

    def _far(self) -> None:
        content, dice = self.content, self.dice
        if "house" in content.present:
            y, growth = self._ground(dice.between(0.0, 0.22))
            colour = self._colour("house")
            scale = SIZE["house"] * growth * dice.between(0.9, 1.15)
            self._add("house", (self._spot(self.far), y), scale, colour, flip=dice.happens(0.5))
        pose, green = dice.pick({"round": 0.6, "fir": 0.4}), self._colour("tree")
        for _ in range(content.present.count("tree")):
            y, growth = self._ground(0.4 * dice.between(0.0, 1.0) ** 2 if dice.happens(0.85) else 0.75)
            if content.place == "city":
                y, growth = ROAD[0] - 0.01, 0.75
            scale = SIZE["tree"] * growth * dice.between(0.85, 1.15)
            self._add("tree", (self._spot(self.far), y), scale, green, pose=pose, flip=dice.happens(0.5))
        horizon = self.backdrop.horizon
        for k in range(content.present.count("boat")):
            share = dice.between(0.15, 0.45) + (dice.between(0.12, 0.4) if k == 0 else 0.0)
            y = horizon + (min(self.backdrop.shore, 0.92) - 0.02 - horizon) * share
            colour, at = self._colour("boat"), (self._spot(self.far), y)
            self._add("boat", at, 0.20 + 0.20 * share, colour, flip=dice.happens(0.5))

    def _vehicles(self) -> None:
        content, dice = self.content, self.dice
        flip = dice.happens(0.5)
        if content.large == "bus":
            colour = self._colour("bus")
            at, scale = (dice.between(0.46, 0.54), 0.845), SIZE["bus"] * dice.between(0.95, 1.05)
            self._add("bus", at, scale, colour, flip=flip)
        for k in range(content.present.count("car")):
            colour = self._colour("car")
            y, growth = self._ground(dice.between(0.3, 0.7))
            if content.place == "city":
                y, growth = (ROAD[1] - 0.03, 1.0) if k == 0 else (ROAD[0] + 0.07, 0.85)
            self._add("car", (self._spot(self.near), y), SIZE["car"] * growth, colour, flip=flip != (k == 1))
        if "bicycle" in content.present:
            colour = self._colour("bicycle")
            y, growth = self._ground(dice.between(0.4, 0.9))
            self._add("bicycle", (self._spot(self.near), y), SIZE["bicycle"] * growth, colour, flip=flip)

    def _animals(self) -> None:
        content, dice = self.content, self.dice
        if content.large == "elephant":
            at = dice.between(0.44, 0.52), self._ground(dice.between(0.6, 0.9))[0]
            scale = SIZE["elephant"] * dice.between(0.96, 1.06)
            self._add("elephant", at, scale, "grey", flip=dice.happens(0.5))
        for kind in ("horse", "dog", "cat"):
            if kind not in content.present:
                continue
            y, growth = self._ground(dice.between(0.3, 0.8) if kind == "horse" else dice.between(0.5, 1.0))
            colour = self._colour(kind)
            x, flip = self._spot(self.near), dice.happens(0.5)
            scale = SIZE[kind] * growth * dice.between(0.92, 1.08)
            sleeper: dict[str, Any] = {}
            if kind in content.asleep:
                mark = x + (-0.45 if flip else 0.2) * scale, y - 0.46 * scale
                sleeper = {"pose": "sleep", "group": "sleeping", "behind": place(sleep_marks(), *mark, 0.24)}
            self._add(kind, (x, y), scale, colour, flip=flip, **sleeper)
        if "stand" in content.birds:
            colour = self._colour("bird")
            for _ in content.birds:
                y, growth = self._ground(dice.between(0.2, 1.0))
                at, flip = (self._spot(self.near, 0.1), y), dice.happens(0.5)
                self._add("bird", at, SIZE["bird"] * growth, colour, pose="stand", flip=flip)


@dataclass(frozen=True)
class Box:
    """An annotation: label, colour name ("" for none), box from its top-left corner, visible area.

    `placed` is False for an attribute of the whole scene, which has no place: its box is the picture.
    Lengths are whole cells of the measuring grid in a `Composition`, pixels in a `Scene`.
    """

    label: str
    colour: str
    x: int
    y: int
    width: int
    height: int
    area: int
    placed: bool = True

    @property
    def right(self) -> int:
        """x of its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """y of its lower edge."""
        return self.y + self.height

    @classmethod
    def around(cls, label: str, colour: str, mask: NDArray[np.bool_]) -> Box:
        """The box of the cells (128, 128) where something is seen; at least one is."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y = int(columns[0]), int(rows[0])
        width, height = int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
        return cls(label, colour, x, y, width, height, int(np.count_nonzero(mask)))

    def in_pixels(self, size: int) -> Box:
        """The same in a picture of `size` pixels: the pixels that it covers, even in part."""
        x, y = self.x * size // GRID, self.y * size // GRID
        right, bottom = -(-self.right * size // GRID), -(-self.bottom * size // GRID)  # rounded up
        width, height = right - x, bottom - y
        area = min(max(1, round(self.area * size * size / GRID**2)), width * height)
        return replace(self, x=x, y=y, width=width, height=height, area=area)


@dataclass(frozen=True)
class Composition:
    """A scene that is decided but not drawn.

    things:  what is drawn, back to front.
    actions: (relation, members) pairs, members as positions in `things`.
    boxes:   one for each of `things`, then for each of `actions`, then for each attribute; in cells.
    labels:  in the order of `LABELS`.
    """

    backdrop: Backdrop
    things: tuple[Thing, ...]
    actions: tuple[tuple[str, tuple[int, ...]], ...]
    boxes: tuple[Box, ...]
    labels: tuple[str, ...]


def compose(rng: Generator) -> Composition:
    """Sample a scene without drawing it.

    The same state of `rng` gives the same scene on every machine; only `rng.random()` is used.
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
    boxes = [Box.around(thing.kind, thing.colour, mask) for thing, mask in zip(things, masks, strict=True)]
    for name, members in actions:
        boxes.append(Box.around(name, "", np.logical_or.reduce([masks[k] for k in members])))
    whole = [name for name in ATTRIBUTES if name in labels]
    boxes += [Box(name, "", 0, 0, GRID, GRID, GRID * GRID, placed=False) for name in whole]
    return Composition(stage.backdrop, tuple(things), tuple(actions), tuple(boxes), labels)


def _visible(things: Sequence[Thing]) -> list[tuple[Thing, NDArray[np.bool_]]]:
    """The things that are seen well enough, back to front, each with the cells (128, 128) where it is seen."""
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

    def name(thing: Thing) -> str:
        return "ball" if ball or thing.group == "playing" else "rock"

    return [replace(thing, kind=name(thing)) if thing.kind == "round" else thing for thing in things]


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
