"""Pictures of one thing on any backdrop: what the small CNN is trained on, a miniature ImageNet.

A CNN that was trained on scenes knows their rules (boats are at sea, umbrellas come with rain), and nothing
is left for a decoder to learn. Here every draw is independent of every other: the kind, its colour, pose,
size and place in the picture; the place, the time and the weather.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from PIL import Image

from helpers.scenes.artwork import LOOKS, POSES, TINTS
from helpers.scenes.backdrops import HORIZONS, SHORES, Backdrop
from helpers.scenes.content import AMBIGUOUS, MIN_CELLS, OBJECTS, Dice
from helpers.scenes.drawing import silhouette
from helpers.scenes.layout import SIZE, Box, Thing, put
from helpers.scenes.write import SPLITS, check_range, render

# Ball and rock are drawn alike, so they are one kind here: only their company tells them apart, and here is
# none.
KINDS: tuple[str, ...] = (*(name for name in OBJECTS if name not in AMBIGUOUS), "round")
PLACES, TIMES, WEATHERS = ("meadow", "city", "sea"), ("day", "sunset", "night"), ("clear", "rain", "snow")
SMALLEST, LARGEST = 0.6, 1.15  # times the usual size
IN_FRAME = 0.7  # share of the thing that must be inside the picture
_STREAM = len(SPLITS)  # the random streams before it belong to the splits of the scenes
_MOST_TRIES = 1000


@dataclass(frozen=True)
class SinglePicture:
    """A picture of one thing.

    image: S x S pixels. thing: what is drawn, `thing.kind` is one of `KINDS`. box: around it, in pixels.
    """

    image: Image.Image
    thing: Thing
    backdrop: Backdrop
    box: Box

    @property
    def target(self) -> tuple[int, int, int, int]:
        """Positions of kind, place, time and weather in `KINDS`, `PLACES`, `TIMES` and `WEATHERS`."""
        place, time, weather, *_ = self.backdrop
        kind = KINDS.index(self.thing.kind)
        return kind, PLACES.index(place), TIMES.index(time), WEATHERS.index(weather)


def draw_single(seed: int, *, index: int = 0, size: int = 128) -> SinglePicture:
    """Draw picture `index` of `seed`: one thing on any backdrop. The same seed and index give the same
    picture.

    Raises ValueError for a negative seed or index, or a size out of range.
    """
    check_range(seed, index, size)
    dice = Dice(Generator(PCG64(SeedSequence([seed, _STREAM, index]))))
    place, time, weather = dice.one_of(PLACES), dice.one_of(TIMES), dice.one_of(WEATHERS)
    shore = dice.between(*SHORES) if place == "sea" and dice.happens(0.5) else 1.0
    backdrop = Backdrop(place, time, weather, dice.between(*HORIZONS[place]), shore)
    thing, mask = _somewhere(dice.one_of(KINDS), backdrop, dice)
    box = Box.around(thing.kind, thing.colour, mask).in_pixels(size)
    return SinglePicture(render(backdrop, [thing], dice, size), thing, backdrop, box)


def _somewhere(kind: str, backdrop: Backdrop, dice: Dice) -> tuple[Thing, NDArray[np.bool_]]:
    """A thing of a kind in any pose, colour, size and place, most of it inside the picture; and its cells."""
    colour, pose = dice.one_of(TINTS[kind]), dice.one_of(POSES.get(kind, ("",)))
    look, flip = int(dice.between(0, LOOKS)), dice.happens(0.5)
    scale = SIZE[kind] * dice.between(SMALLEST, LARGEST)
    for _ in range(_MOST_TRIES):
        at = dice.between(0, 1), dice.between(0, 1.2)
        thing = put(backdrop, kind, at, scale, colour, pose=pose, look=look, flip=flip)
        mask, total = silhouette(thing.shapes)
        if np.count_nonzero(mask) >= max(MIN_CELLS, IN_FRAME * total):
            return thing, mask
    raise RuntimeError(f"no place in the picture for a {kind} of size {scale:.2f}")  # never seen
