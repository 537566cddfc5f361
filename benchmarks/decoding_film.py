"""Draw docs/images/decoding.gif: one photograph and one drawn scene, labelled one label at a time.

    python -m benchmarks.decoding_film

The photograph is labelled by the model that ships, the scene by an attention decoder that is trained here without an
order of the labels (a minute or two). Both are in data that the models have not seen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from helpers.commands.train import configure
from helpers.data.files import DATA, REPOSITORY
from helpers.data.images import open_image
from helpers.plots import frames
from helpers.scenes.write import draw_scene
from helpers.training.annotate import predict_images
from helpers.training.checkpoints import Checkpoint, load_checkpoint
from helpers.training.run import run

FILM = REPOSITORY / "docs" / "images" / "decoding.gif"
PHOTOGRAPH, SCENE = "000000303818.jpg", 98  # of data/photographs; of the test scenes
CREDIT = "Photograph: COCO 303818, CC BY 2.0, made smaller and faded; see data/photographs/CREDITS.md"
TRAINING = (
    "attention_pla --backbone scenes_cnn --hidden 128 --embedding 64 --attention-size 64 --epochs 15 --lr 3e-3 "
    "--feature-dropout 0.1 --input-dropout 0 --attention-dropout 0 --output-dropout 0.3 --seed 0"
)
SIZE, SIDE, COLOURS = (600, 360), 304, 160  # of the film; of the picture in it; in the palette
PALE = 222  # grey of what is not looked at


class Step(NamedTuple):
    """A step of a decoder: how visible each cell of the picture is (h, w), 0 to 1, and the label that it named."""

    visible: np.ndarray
    label: str


def font(size: int, name: str = "DejaVuSans.ttf") -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", name), size)


def steps_of(checkpoint: Checkpoint, picture: Image.Image) -> list[Step]:
    """Decode a picture; in each step the cell with the largest weight is fully visible."""
    decoded = predict_images(checkpoint, [picture]).decoded
    named = [frame for frame in frames(decoded, checkpoint.vocabulary.labels) if frame.label != "<stop>"]
    side = round(len(named[0].weights) ** 0.5)
    maps = [(frame.weights / frame.weights.max()).view(side, side).numpy() for frame in named]
    return [Step(visible, frame.label) for visible, frame in zip(maps, named, strict=True)]


def spotlight(picture: Image.Image, visible: np.ndarray) -> Image.Image:
    """The picture where it is looked at, pale grey elsewhere; the cell with the largest weight has a frame."""
    grid = Image.fromarray(visible).resize(picture.size, Image.Resampling.NEAREST)
    share, pixels = np.asarray(grid)[..., None], np.asarray(picture, dtype=float)
    pale = PALE + 0.12 * (pixels.mean(-1, keepdims=True) - 128)
    lit = Image.fromarray((share * pixels + (1 - share) * pale).clip(0, 255).astype("uint8"))
    row, column = np.unravel_index(visible.argmax(), visible.shape)
    height, width = lit.height / visible.shape[0], lit.width / visible.shape[1]
    corners = [column * width, row * height, (column + 1) * width, (row + 1) * height]
    ImageDraw.Draw(lit).rectangle(corners, outline="#D55E00", width=3)
    return lit


def card(picture: Image.Image, title: str, labels: Sequence[str], note: str) -> Image.Image:
    """One frame of the film: the picture, and beside it the labels so far, the last one in bold."""
    frame = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(frame)
    frame.paste(picture, (16 + (SIDE - picture.width) // 2, 16 + (SIDE - picture.height) // 2))
    draw.text((SIDE + 44, 22), title, "black", font(20, "DejaVuSans-Bold.ttf"))
    draw.text((SIDE + 44, 54), note, "#555555", font(17))
    for k, label in enumerate(labels):
        last = k == len(labels) - 1
        box = (SIDE + 44, 94 + 46 * k, SIDE + 250, 132 + 46 * k)
        draw.rounded_rectangle(box, 8, "#f8e3b5" if last else "#cfe3f1", "black")
        name = font(20, "DejaVuSans-Bold.ttf" if last else "DejaVuSans.ttf")
        draw.text((SIDE + 60, 113 + 46 * k), f"{k + 1}. {label}", "black", name, anchor="lm")
    draw.text((16, SIZE[1] - 26), CREDIT, "#555555", font(11))  # in each frame: no frame stands without it
    return frame


def film(checkpoint: Checkpoint, picture: Image.Image, title: str) -> list[tuple[Image.Image, int]]:
    """(frame, milliseconds): the picture, each look and the label that follows, and the picture with all labels."""
    steps = steps_of(checkpoint, picture)
    picture = picture.copy()
    picture.thumbnail((SIDE, SIDE))
    labels = [step.label for step in steps]
    found = [(card(picture, title, [], "what is in it?"), 1200)]
    for k, step in enumerate(steps):
        lit = spotlight(picture, step.visible)
        found.append((card(lit, title, labels[:k], "looks …"), 700))
        found.append((card(lit, title, labels[: k + 1], "names a label"), 900))
    return [*found, (card(picture, title, labels, "stop"), 1800)]


def in_few_colours(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Pictures of one size with a palette of `COLOURS` that they share."""
    together = Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures]))
    palette = together.quantize(COLOURS)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scene-model", type=Path, help="a checkpoint, in place of training one")
    given = parser.parse_args().scene_model
    with tempfile.TemporaryDirectory() as folder:
        output = given.parent if given else Path(folder) / "run"
        if given is None:
            run(configure([*TRAINING.split(), "--output", str(output)]))
        scenes = load_checkpoint(given or output / "checkpoint.safetensors")
    photograph = open_image(DATA / "photographs" / "images" / PHOTOGRAPH)
    scene = draw_scene(0, split="test", index=SCENE, size=SIDE).image
    parts = [
        film(load_checkpoint(DATA / "photo_attention.safetensors"), photograph, "A photograph"),
        film(scenes, scene, "A drawn scene"),
    ]
    # One palette per part: then a frame stores only what differs from the one before.
    pictures = [picture for part in parts for picture in in_few_colours([frame for frame, _ in part])]
    durations = [milliseconds for part in parts for _, milliseconds in part]
    pictures[0].save(
        FILM, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
    )
    print(f"{FILM.relative_to(REPOSITORY)}: {len(pictures)} frames, {FILM.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
