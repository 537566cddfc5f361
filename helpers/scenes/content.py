"""The generative model of the scenes: what is in a picture, where, and in front of what; nothing is drawn
here.

A scene is sampled top down, each line given the ones above it; every probability is a constant below.

    place -> time of day -> weather -> something large -> what the people do -> trees, houses, animals,
    vehicles, birds, sun or moon -> positions -> what hides what -> ball or rock

What is hidden too much is left out of the picture, so everything in the picture is labelled and nothing else
is. A scene with more than `MAX_LABELS` labels, or one that hides a part of an action, is sampled again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from numpy.random import Generator

OBJECTS = (
    "person", "bird", "tree", "house", "dog", "cat", "horse", "car", "bicycle", "boat", "umbrella", "ball", "rock",
    "kite", "sun", "moon", "bus", "balloon", "elephant",
)  # fmt: skip

ATTRIBUTES = ("city", "sea", "night", "sunset", "rain", "snow")
RELATIONS = ("flying", "holding", "riding", "playing", "sleeping")
LABELS: tuple[str, ...] = OBJECTS + ATTRIBUTES + RELATIONS
LABEL_KINDS: dict[str, str] = {
    **dict.fromkeys(OBJECTS, "object"),
    **dict.fromkeys(ATTRIBUTES, "attribute"),
    **dict.fromkeys(RELATIONS, "relation"),
}

RARE_LARGE = ("bus", "balloon", "elephant")  # a third of the picture or more, each in 1 to 3 % of the images
FREQUENT_SMALL = ("bird", "ball")  # some 2 % of the picture, in 28 % and 15 % of the images
AMBIGUOUS = ("ball", "rock")  # drawn alike: a ball beside a person or a dog, a rock elsewhere

# True of every scene: with a label comes at least one of these. `metrics.label_sets.set_consistency` tests
# named sets.
RULES: dict[str, tuple[str, ...]] = {"holding": ("person",), "riding": ("horse", "bicycle"), "boat": ("sea",)}

MAX_LABELS = 6
MIN_VISIBLE = 0.4  # a thing of which a smaller share can be seen is left out of the picture
MIN_CELLS = 24  # and so is one of fewer cells of the measuring grid of 128 x 128

P_PLACE = {"meadow": 0.68, "city": 0.165, "sea": 0.155}
P_TIME = {
    "meadow": {"day": 0.87, "sunset": 0.05, "night": 0.08},
    "city": {"day": 0.76, "sunset": 0.04, "night": 0.20},
    "sea": {"day": 0.78, "sunset": 0.16, "night": 0.06},
}
P_WEATHER = {
    "meadow": {"clear": 0.80, "rain": 0.12, "snow": 0.08},
    "city": {"clear": 0.74, "rain": 0.18, "snow": 0.08},
    "sea": {"clear": 0.92, "rain": 0.08},
}
P_LARGE = {  # rain and snow keep the balloon on the ground
    "meadow": {"none": 0.948, "elephant": 0.022, "balloon": 0.030},
    "city": {"none": 0.86, "bus": 0.14},
    "sea": {"none": 0.965, "balloon": 0.035},
}
P_PEOPLE = {  # what the people do, by weather
    "clear": {
        "none": 0.56, "walk": 0.13, "kite": 0.085, "ride horse": 0.045, "ride bicycle": 0.045, "play": 0.12,
        "umbrella": 0.010,
    },
    "rain": {"none": 0.10, "walk": 0.06, "ride bicycle": 0.02, "umbrella": 0.82},
    "snow": {"none": 0.50, "walk": 0.35, "ride horse": 0.06, "play": 0.08, "umbrella": 0.01},
}  # fmt: skip
P_PRESENT = {  # the rest, each by itself, by place
    "meadow": {
        "tree": 0.44, "house": 0.23, "dog": 0.13, "cat": 0.11, "horse": 0.06, "car": 0.05, "bicycle": 0.02,
    },
    "city": {"tree": 0.22, "dog": 0.12, "cat": 0.08, "car": 0.55, "bicycle": 0.08},
    "sea": {"boat": 0.52, "tree": 0.06, "dog": 0.12},
}  # fmt: skip
P_BIRD = {"clear": 0.36, "rain": 0.10, "snow": 0.20}
P_BIRD_FLIES = 0.62
P_SUN = {"day": 0.34, "sunset": 0.70}  # under a clear sky
P_MOON = 0.62  # in a clear night
# True: with a person or a dog in the picture; False: without
P_ROUND = {True: 0.24, False: 0.15}  # a round thing lies on the ground
P_BALL = {True: 0.88, False: 0.06}  # it is a ball; with those that are played with, 95 % follow the rule
P_SLEEPS = 0.35  # a dog or a cat

COLOURS: dict[str, tuple[str, ...]] = {
    "person": ("red", "blue", "green", "yellow", "purple", "orange", "white"),
    "bird": ("blue", "red", "yellow", "white"),
    "house": ("red", "blue", "brown"),
    "dog": ("brown", "white", "black"),
    "cat": ("orange", "grey", "black", "white"),
    "horse": ("brown", "white", "black"),
    "car": ("red", "blue", "yellow", "green", "white"),
    "bicycle": ("blue", "red", "green"),
    "boat": ("red", "blue", "yellow", "orange"),
    "umbrella": ("red", "blue", "yellow", "purple", "green"),
    "kite": ("red", "yellow", "purple", "green"),
    "bus": ("red", "yellow", "blue"),
    "balloon": ("red", "purple", "orange"),
}

T = TypeVar("T")


def in_company(kinds: Sequence[str]) -> bool:
    """Whether there is someone a ball would belong to: what decides between `AMBIGUOUS` labels."""
    return "person" in kinds or "dog" in kinds


class Dice:
    """Random choices from `Generator.random` alone, whose stream is the same in all versions of numpy."""

    def __init__(self, rng: Generator) -> None:
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        """A number between two."""
        return low + (high - low) * float(self.rng.random())

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return float(self.rng.random()) < probability

    def one_of(self, items: Sequence[T]) -> T:
        """One of the items, all alike."""
        return items[int(float(self.rng.random()) * len(items))]

    def pick(self, shares: Mapping[str, float]) -> str:
        """One of the keys, by its share."""
        at = float(self.rng.random()) * sum(shares.values())
        for key, share in shares.items():
            at -= share
            if at < 0:
                return key
        return key

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order."""
        left = list(items)
        return [left.pop(int(float(self.rng.random()) * len(left))) for _ in range(len(left))]


@dataclass(frozen=True)
class Content:
    """What is in a scene, before anything has a position.

    large:   "none", "bus", "elephant" or "balloon".
    people:  what the people do: a key of `P_PEOPLE["clear"]`.
    player:  "person" or "dog" where `people` is "play", else "".
    present: the other things on land and water, most of them once.
    asleep:  those of `present` that sleep.
    birds:   one pose each, "fly" or "stand".
    disc:    "sun", "moon" or "".
    luck:    three numbers in 0..1 that decide whether there is a round thing, and which it is.
    """

    place: str
    time: str
    weather: str
    large: str
    people: str
    player: str
    present: tuple[str, ...]
    asleep: tuple[str, ...]
    birds: tuple[str, ...]
    disc: str
    luck: tuple[float, float, float]


def sample_content(dice: Dice) -> Content:
    """What is in the picture: one draw from the tables of probabilities above."""
    place = dice.pick(P_PLACE)
    time = dice.pick(P_TIME[place])
    weather = dice.pick(P_WEATHER[place])
    large = dice.pick(P_LARGE[place])
    if large == "balloon" and (weather != "clear" or time == "night"):
        large = "none"  # balloons start in fine weather
    people = dice.pick(P_PEOPLE[weather])
    if (place == "city" and people == "ride horse") or (place == "sea" and people == "ride bicycle"):
        people = "walk"
    if large in ("bus", "elephant") and people not in ("walk", "umbrella"):
        people = "none"  # there is no room for more
    player = dice.pick({"person": 0.5, "dog": 0.5}) if people == "play" else ""
    room = 0.35 if large != "none" else 1.0
    present = [name for name, share in P_PRESENT[place].items() if dice.happens(share * room)]
    if "horse" in people or "bicycle" in people:  # the ridden one is the only one
        present = [name for name in present if name not in ("horse", "bicycle")]
    if player == "dog":
        present = [name for name in present if name != "dog"]
    extra = {"tree": 0.45, "car": 0.25, "boat": 0.35}
    present += [name for name in present if name in extra and dice.happens(extra[name] * room)]
    asleep = tuple(name for name in present if name in ("dog", "cat") and dice.happens(P_SLEEPS))
    birds: tuple[str, ...] = ()
    if dice.happens(P_BIRD[weather] * (0.5 if time == "night" else 1.0)):
        if dice.happens(P_BIRD_FLIES):
            birds = ("fly",) * (1 + int(dice.happens(0.45)) + int(dice.happens(0.25)))
        else:
            birds = ("stand",) * (1 + int(dice.happens(0.25)))
    disc = ""
    if weather == "clear":
        if time == "night":
            disc = "moon" if dice.happens(P_MOON) else ""
        else:
            disc = "sun" if dice.happens(P_SUN[time]) else ""
    luck = (dice.between(0, 1), dice.between(0, 1), dice.between(0, 1))
    return Content(place, time, weather, large, people, player, tuple(present), asleep, birds, disc, luck)
