"""Captions of the scenes: short, regular sentences that say only what is in the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.scenes.content import ATTRIBUTES, COLOURS, LABELS, OBJECTS, RELATIONS, Dice
from helpers.scenes.layout import Composition, Thing

CAPTIONS_PER_IMAGE = 3


_PLURALS = {"bus": "buses", "person": "people"}


LABEL_WORDS: dict[str, tuple[str, ...]] = {  # the words by which a caption names a label
    **{name: (name, _PLURALS.get(name, name + "s")) for name in OBJECTS},
    **{name: (name,) for name in ATTRIBUTES + RELATIONS},
    "rain": ("rain", "rainy"),
    "snow": ("snow", "snowy"),
}


_SALIENCE = (
    "person", "elephant", "bus", "balloon", "horse", "dog", "cat", "car", "bicycle", "boat", "house", "bird", "ball",
    "rock", "tree", "sun", "moon",
)  # fmt: skip


_COUNTS = ("", "a", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class _Item:
    """A noun phrase and where the thing that it stands for is, in cells."""

    kind: str
    phrase: str
    plural: bool
    box: tuple[int, int, int, int]
    depth: float  # negative in the sky


def mentioned_labels(caption: str) -> tuple[str, ...]:
    """The labels that a caption names, in the order of `LABELS`: the truth check of a captioner.

    `set(mentioned_labels(caption)) <= set(labels)` holds for every caption of the scenes. Taught in notebook 07.
    """
    words = set(re.findall(r"[a-z]+", caption.lower()))
    return tuple(name for name in LABELS if not words.isdisjoint(LABEL_WORDS[name]))


def mentioned_colours(caption: str) -> tuple[tuple[str, str], ...]:
    """The (colour, label) pairs that a caption states: "a person in red" states ("red", "person").

    Every pair that a caption of the scenes states is that of one of its boxes. Taught in notebook 07.
    """
    words = re.findall(r"[a-z]+(?:-[a-z]+)*", caption.lower())
    found = []
    for i, word in enumerate(words):
        kind = next((name for name in COLOURS if word in LABEL_WORDS[name]), "")
        # Where the colour stands, as `_noun` puts it.
        at = {"person": i + 2, "house": i + 3, "balloon": i - 2}.get(kind, i - 1)
        if kind and 0 <= at < len(words) and any(words[at] in names for names in COLOURS.values()):
            found.append((words[at], kind))
    return tuple(dict.fromkeys(found))


def mentioned_sides(caption: str) -> tuple[tuple[str, str, str], ...]:
    """What a caption states about left and right: "a dog to the left of a tree" states ("dog", "left", "tree").

    Of things that act together the first stands for all: it is whose place the caption tells. Taught in notebook 07.
    """
    match = re.search(r"^(.*)\bto the (left|right) of\b(.*)$", caption.lower())
    if match is None:
        return ()
    sides = []
    for text in (match[1], match[3]):
        words = re.findall(r"[a-z]+", text)
        sides.append(next((k for word in words for k in OBJECTS if word in LABEL_WORDS[k]), ""))
    return ((sides[0], match[2], sides[1]),) if all(sides) else ()


def _with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _noun(thing: Thing) -> str:
    """The thing without its article: "red car", "person in red", "house with a red roof"."""
    if thing.kind == "person":
        return f"person in {thing.colour}"
    if thing.kind == "house":
        return f"house with {_with_article(thing.colour)} roof"
    if thing.kind == "balloon":
        return f"{thing.colour} hot-air balloon"
    return f"{thing.colour} {thing.kind}".strip()


def _items(scene: Composition) -> list[_Item]:
    """What a caption can name, the most striking first; the members of an action make one item."""
    boxes = [
        (r.left, r.top, r.right, r.bottom) for r in scene.regions
    ]  # regions begin with those of the things
    actions = dict(scene.actions)
    told: set[int] = set()
    items = []

    def add(members: Sequence[int], phrase: str, plural: bool = False) -> None:
        told.update(members)
        first = members[0]
        items.append(_Item(scene.things[first].kind, phrase, plural, boxes[first], scene.things[first].depth))

    for name in ("holding", "riding", "playing"):
        if name in actions:
            doers = ("person", "dog")
            who, what = sorted(actions[name], key=lambda k: scene.things[k].kind not in doers)
            verb = {"holding": "holding", "riding": "riding", "playing": "playing with"}[name]
            if scene.things[what].kind == "kite":
                verb = "flying"
            add(
                (who, what),
                f"{_with_article(_noun(scene.things[who]))} {verb} {_with_article(_noun(scene.things[what]))}",
            )
    flying = {members[0] for name, members in scene.actions if name == "flying"}
    asleep = {members[0] for name, members in scene.actions if name == "sleeping"}
    for k, thing in enumerate(scene.things):
        if k in told:
            continue
        if thing.kind in ("sun", "moon"):
            add((k,), f"the {thing.kind}")
            continue
        alike = [
            j
            for j, other in enumerate(scene.things)
            if j not in told
            and (other.kind, other.colour, j in flying, j in asleep)
            == (thing.kind, thing.colour, k in flying, k in asleep)
        ]
        noun = _noun(thing)
        if len(alike) > 1:
            noun = noun.replace(thing.kind, LABEL_WORDS[thing.kind][1], 1)
            phrase = f"{_COUNTS[len(alike)]} {noun}"
        else:
            phrase = _with_article(noun)
        phrase += " flying" * (k in flying) + " sleeping" * (k in asleep)
        add(alike, phrase, len(alike) > 1)
    return sorted(items, key=lambda item: _SALIENCE.index(item.kind))


_PLACES = {"city": "the city", "sea": "the sea", "meadow": "a meadow"}


def _setting(scene: Composition, *, over: bool = False) -> str:
    """Where and when: "in the city at night in the rain"; "over the sea" for what is in the sky."""
    near = "by" if scene.place == "sea" else "in"
    when = {"night": " at night", "sunset": " at sunset", "day": ""}[scene.time]
    weather = {"rain": " in the rain", "snow": " in the snow", "clear": ""}[scene.weather]
    return f"{'over' if over else near} {_PLACES[scene.place]}{when}{weather}"


def _stage(scene: Composition) -> str:
    """The scene as a noun phrase: "a rainy night in the city"."""
    weather = {"rain": "rainy ", "snow": "snowy ", "clear": ""}[scene.weather]
    near = "by" if scene.place == "sea" else "in"
    return f"{_with_article(weather + scene.time)} {near} {_PLACES[scene.place]}"


def _listing(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _where(a: _Item, b: _Item) -> str:
    """How `a` stands to `b`: above, in front of or behind, left or right of; "next to" where none is plain."""
    ax, bx = (a.box[0] + a.box[2]) / 2, (b.box[0] + b.box[2]) / 2
    if min(a.depth, b.depth) < 0 and a.box[3] <= b.box[1]:
        return "above"
    if min(a.depth, b.depth) < 0 and b.box[3] <= a.box[1]:
        return "below"
    across = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    if across > 0.5 * min(a.box[2] - a.box[0], b.box[2] - b.box[0]) and min(a.depth, b.depth) > 0:
        return "in front of" if a.depth > b.depth else "behind"
    if abs(ax - bx) > 16:
        return "to the left of" if ax < bx else "to the right of"
    return "next to"


def captions(scene: Composition, dice: Dice) -> tuple[str, ...]:
    """Three captions of a scene: a listing, where two things are, and the scene first. Taught in notebook 07."""
    items = _items(scene)
    if not items:
        ground = {"city": "the street", "sea": "the water", "meadow": "the grass"}[scene.place]
        ground = "the snow" if scene.weather == "snow" else ground
        sentences = [
            f"an empty place {_setting(scene)}",
            f"there is nothing but the sky and {ground}",
            f"{_stage(scene)} with nothing in sight",
        ]
    else:
        sentences = [_listed(scene, items), _related(scene, items, dice), _staged(scene, items)]
    return tuple(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def _listed(scene: Composition, items: Sequence[_Item]) -> str:
    """ "A white dog and a tree in a meadow with the sun above"."""
    below = [item.phrase for item in items if item.depth > 0]
    above = [item.phrase for item in items if item.depth < 0]
    if not below:
        return f"{_listing(above)} {_setting(scene, over=True)}"
    with_sky = f" with {above[0]} above" if above else ""
    return f"{_listing(below[:2])} {_setting(scene)}{with_sky}"


def _related(scene: Composition, items: Sequence[_Item], dice: Dice) -> str:
    """ "There is a white dog to the left of a tree"."""
    single = [item for item in items if not item.plural]
    if len(single) >= 2:
        a, b = single[:2] if dice.happens(0.7) else single[1::-1]
        there = "there is " if dice.happens(0.5) and not a.phrase.startswith("the ") else ""
        return f"{there}{a.phrase} {_where(a, b)} {b.phrase}"
    item = items[0]
    over = item.depth < 0
    if item.phrase.startswith("the "):
        return f"{item.phrase} shines {_setting(scene, over=over)}"
    return f"there {'are' if item.plural else 'is'} {item.phrase} {_setting(scene, over=over)}"


def _staged(scene: Composition, items: Sequence[_Item]) -> str:
    """ "A rainy night in the city with a yellow car and a bus"."""
    return f"{_stage(scene)} with {_listing([item.phrase for item in items[:3]])}"
