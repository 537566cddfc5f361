"""Captions of the scenes: short, regular sentences that say only what is in the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.scenes.content import ATTRIBUTES, COLOURS, LABELS, OBJECTS, RELATIONS, Dice
from helpers.scenes.layout import Box, Composition, Thing

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
_PLACES = {"city": "the city", "sea": "the sea", "meadow": "a meadow"}


# ---- what a caption states -----------------------------------------------------------------------


def mentioned_labels(caption: str) -> tuple[str, ...]:
    """The labels that a caption names, in the order of `LABELS`."""
    words = set(re.findall(r"[a-z]+", caption.lower()))
    return tuple(name for name in LABELS if not words.isdisjoint(LABEL_WORDS[name]))


def mentioned_colours(caption: str) -> tuple[tuple[str, str], ...]:
    """The (colour, label) pairs that a caption states: "a person in red" states ("red", "person").

    Every pair that a scene's own captions state is that of one of its boxes.
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
    """What a caption states about left and right: "a dog to the left of a tree" states ("dog", "left",
    "tree").

    Of things that act together the first stands for all: the caption tells its place.
    """
    match = re.search(r"^(.*)\bto the (left|right) of\b(.*)$", caption.lower())
    if match is None:
        return ()
    sides = []
    for text in (match[1], match[3]):
        words = re.findall(r"[a-z]+", text)
        sides.append(next((k for word in words for k in OBJECTS if word in LABEL_WORDS[k]), ""))
    return ((sides[0], match[2], sides[1]),) if all(sides) else ()


# ---- writing captions ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """A noun phrase, and the thing and box that it is about: of several things, those of the first."""

    phrase: str
    thing: Thing
    box: Box
    plural: bool

    @property
    def above(self) -> bool:
        """Whether it is in the sky."""
        return self.thing.depth < 0


def captions(scene: Composition, dice: Dice) -> tuple[str, ...]:
    """Three captions of a scene: a listing, where two things are, and the setting first."""
    items = _items(scene)
    if not items:
        ground = {"city": "the street", "sea": "the water", "meadow": "the grass"}[scene.backdrop.place]
        ground = "the snow" if scene.backdrop.weather == "snow" else ground
        sentences = [
            f"an empty place {_setting(scene)}",
            f"there is nothing but the sky and {ground}",
            f"{_stage(scene)} with nothing in sight",
        ]
    else:
        sentences = [_listed(scene, items), _related(scene, items, dice), _staged(scene, items)]
    return tuple(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def _items(scene: Composition) -> list[_Item]:
    """What a caption can name, the most striking first; the members of an action make one item."""
    things, told, items = scene.things, set[int](), list[_Item]()

    def add(members: Sequence[int], phrase: str, plural: bool = False) -> None:
        told.update(members)
        items.append(_Item(phrase, things[members[0]], scene.boxes[members[0]], plural))

    for name, members in scene.actions:
        if len(members) == 2:
            who, what = sorted(members, key=lambda k: things[k].kind not in ("person", "dog"))
            verb = "flying" if things[what].kind == "kite" else name + " with" * (name == "playing")
            who_phrase, what_phrase = (_with_article(_noun(things[k])) for k in (who, what))
            add((who, what), f"{who_phrase} {verb} {what_phrase}")
    doing = {members[0]: name for name, members in scene.actions if len(members) == 1}
    for k, thing in enumerate(things):
        if k in told:
            continue
        if thing.kind in ("sun", "moon"):
            add((k,), f"the {thing.kind}")
            continue
        same = thing.kind, thing.colour, doing.get(k)
        left = [j for j in range(len(things)) if j not in told]
        alike = [j for j in left if (things[j].kind, things[j].colour, doing.get(j)) == same]
        phrase = _with_article(_noun(thing))
        if len(alike) > 1:
            noun = _noun(thing).replace(thing.kind, LABEL_WORDS[thing.kind][1], 1)
            phrase = f"{_COUNTS[len(alike)]} {noun}"
        add(alike, f"{phrase} {doing[k]}" if k in doing else phrase, len(alike) > 1)
    return sorted(items, key=lambda item: _SALIENCE.index(item.thing.kind))


def _noun(thing: Thing) -> str:
    """The thing without its article: "red car", "person in red", "house with a red roof"."""
    if thing.kind == "person":
        return f"person in {thing.colour}"
    if thing.kind == "house":
        return f"house with {_with_article(thing.colour)} roof"
    if thing.kind == "balloon":
        return f"{thing.colour} hot-air balloon"
    return f"{thing.colour} {thing.kind}".strip()


def _with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _setting(scene: Composition, *, over: bool = False) -> str:
    """Where and when: "in the city at night in the rain"; "over the sea" for what is in the sky."""
    place, time, weather, _, _ = scene.backdrop
    near = "over" if over else "by" if place == "sea" else "in"
    when = {"night": " at night", "sunset": " at sunset", "day": ""}[time]
    how = {"rain": " in the rain", "snow": " in the snow", "clear": ""}[weather]
    return f"{near} {_PLACES[place]}{when}{how}"


def _stage(scene: Composition) -> str:
    """The scene as a noun phrase: "a rainy night in the city"."""
    place, time, weather, _, _ = scene.backdrop
    how = {"rain": "rainy ", "snow": "snowy ", "clear": ""}[weather]
    return f"{_with_article(how + time)} {'by' if place == 'sea' else 'in'} {_PLACES[place]}"


def _listing(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _where(a: _Item, b: _Item) -> str:
    """Where `a` is: above, in front of, behind, left or right of `b`; "next to" where none is plain."""
    one, other, sky = a.box, b.box, a.above or b.above
    if sky and one.bottom <= other.y:
        return "above"
    if sky and other.bottom <= one.y:
        return "below"
    across = min(one.right, other.right) - max(one.x, other.x)
    if across > 0.5 * min(one.width, other.width) and min(a.thing.depth, b.thing.depth) > 0:
        return "in front of" if a.thing.depth > b.thing.depth else "behind"
    apart = (other.x + other.right) / 2 - (one.x + one.right) / 2
    if abs(apart) > 16:
        return "to the left of" if apart > 0 else "to the right of"
    return "next to"


def _listed(scene: Composition, items: Sequence[_Item]) -> str:
    """ "A white dog and a tree in a meadow with the sun above"."""
    below = [item.phrase for item in items if not item.above]
    above = [item.phrase for item in items if item.above]
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
    setting = _setting(scene, over=item.above)
    if item.phrase.startswith("the "):
        return f"{item.phrase} shines {setting}"
    return f"there {'are' if item.plural else 'is'} {item.phrase} {setting}"


def _staged(scene: Composition, items: Sequence[_Item]) -> str:
    """ "A rainy night in the city with a yellow car and a bus"."""
    return f"{_stage(scene)} with {_listing([item.phrase for item in items[:3]])}"
