"""The composition of the scenes: what hides what, and so the labels and their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from helpers.scenery.drawing import GRID, bounds, silhouette
from helpers.scenery.model import (
    ATTRIBUTES,
    LABELS,
    MAX_LABELS,
    MIN_CELLS,
    MIN_VISIBLE,
    P_BALL,
    Content,
    Dice,
    in_company,
    sample_content,
)
from helpers.scenery.stage import Stage, Thing


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
