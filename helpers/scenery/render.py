"""One scene: sampled, described and drawn. `helpers.scenes` writes them in thousands."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import PCG64, Generator, SeedSequence
from PIL import Image

from helpers.scenery.backdrops import draw_backdrop, draw_glitter, draw_weather, light_of
from helpers.scenery.drawing import GRID, finish, new_canvas, paint
from helpers.scenery.layout import Composition, compose
from helpers.scenery.model import Dice
from helpers.scenery.text import captions

SPLITS = ("train", "val", "test")  # a split's position here is a part of its images' seed
MIN_SIZE, MAX_SIZE = 32, 1024


@dataclass(frozen=True)
class SceneBox:
    """An annotation: label, colour name ("" for none), box in pixels (top-left corner), visible area in pixels.

    `placed` is False for an attribute of the whole scene, whose box is the image.
    """

    label: str
    colour: str
    x: int
    y: int
    width: int
    height: int
    area: int
    placed: bool = True


@dataclass(frozen=True)
class Scene:
    """A scene: the picture (None where it was only sampled), its labels, boxes and captions."""

    image: Image.Image | None
    labels: tuple[str, ...]
    boxes: tuple[SceneBox, ...]
    captions: tuple[str, ...]
    composition: Composition | None


def _generator(seed: int, split: str, index: int) -> Generator:
    return Generator(PCG64(SeedSequence([seed, SPLITS.index(split), index])))


def check_scene(seed: int, split: str, index: int, size: int) -> None:
    """Raise ValueError with what is wrong about the parameters of a scene."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be 0 or more, got seed={seed}, index={index}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")


def _boxes(scene: Composition, size: int) -> tuple[SceneBox, ...]:
    boxes = []
    for r in scene.regions:
        left, top = r.left * size // GRID, r.top * size // GRID
        right, bottom = -(-r.right * size // GRID), -(-r.bottom * size // GRID)  # rounded up
        area = min(max(1, round(r.area * size * size / GRID**2)), (right - left) * (bottom - top))
        boxes.append(SceneBox(r.label, r.colour, left, top, right - left, bottom - top, area, r.placed))
    return tuple(boxes)


def _make(rng: Generator, size: int, *, draw: bool) -> Scene:
    scene = compose(rng)
    sentences = captions(scene, Dice(rng))
    image = _render(scene, rng, size) if draw else None  # last: the stage's whims change no label
    return Scene(image, scene.labels, _boxes(scene, size), sentences, scene)


def _render(scene: Composition, rng: Generator, size: int) -> Image.Image:
    canvas = new_canvas(size)
    draw_backdrop(
        canvas,
        rng,
        place=scene.place,
        time=scene.time,
        weather=scene.weather,
        horizon=scene.horizon,
        shore=scene.shore,
    )
    light = light_of(scene.time, scene.weather)
    for thing in scene.things:
        if scene.place == "sea" and thing.kind in ("sun", "moon"):
            x, colour = float(thing.shapes[0].points[:, 0].mean()), thing.shapes[0].colour  # its halo
            draw_glitter(canvas, rng, x, horizon=scene.horizon, shore=scene.shore, colour=colour)
        paint(canvas, thing.shapes, light)
    draw_weather(canvas, rng, weather=scene.weather)
    return finish(canvas)


def draw_scene(seed: int | Generator = 0, *, split: str = "train", index: int = 0, size: int = 128) -> Scene:
    """Draw one scene; with a seed, image `index` of the split that `write_scenes(seed=seed)` writes.

    Args:
        seed: 0 or more, or a numpy Generator to go on with (then `split` and `index` do not matter).
        split: "train", "val" or "test".
        index: position in the split.
        size: side of the picture in pixels, 32 to 1024; the labels and captions do not depend on it.

    Raises:
        ValueError: unknown split, a negative seed or index, a size out of range.

    Taught in notebook 01.
    """
    number = 0 if isinstance(seed, Generator) else seed
    check_scene(number, split, index, size)
    return _make(seed if isinstance(seed, Generator) else _generator(seed, split, index), size, draw=True)


def sample_scene(seed: int = 0, *, split: str = "train", index: int = 0, size: int = 128) -> Scene:
    """The same scene as `draw_scene` without its picture (`image` is None): for counting labels quickly."""
    check_scene(seed, split, index, size)
    return _make(_generator(seed, split, index), size, draw=False)
