"""Ten drawn scenes and ten photographs, drawn by lot, as their systems decode them: docs/images/films_*.jpg.

    python -m benchmarks.film_strips --checkpoint runs/film      (a run with the options of benchmarks.decoding_film)

Each row is an image, then what the system named, one label per step, with the place where it looked. The scenes are of
the test split and decoded by the checkpoint given; the photographs are those in data/photographs, decoded by the model
for photographs that ships. Nothing is chosen by hand: the lot is the seed.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

from helpers.commands.predict import PHOTOGRAPHS
from helpers.data.files import DATA, REPOSITORY, read_json, replacing
from helpers.data.images import open_image
from helpers.data.load import load
from helpers.decoders.adaptive_attention import where_it_looked
from helpers.plots import MARKS, draw_attention, draw_image, new_figure, to_png, wrapped
from helpers.training.annotate import predict_images
from helpers.training.checkpoints import Checkpoint, load_checkpoint

STEPS = (
    6  # panels in a row behind the image; what is named later is left out, and the title of the image says so
)
SIDE = 1.55  # of a panel in inches


def strip(
    checkpoint: Checkpoint,
    images: Sequence[Image.Image],
    right: Callable[[int, str], bool | None],
    titles: Sequence[str],
) -> Figure:
    """One row per image. right: whether image i has a label; None where nobody knows."""
    with torch.inference_mode():
        decoded = predict_images(checkpoint, images).decoded
    looked, grid_size = where_it_looked(decoded.attention), checkpoint.system.encoder.grid_size
    figure, axes = new_figure(len(images), 1 + STEPS, size=(SIDE * (1 + STEPS), (SIDE + 0.34) * len(images)))
    for i, (image, line) in enumerate(zip(images, axes, strict=True)):
        for ax in line:
            ax.set_axis_off()
        labels = checkpoint.vocabulary.decode(decoded.tokens[i, : int(decoded.lengths[i])])
        draw_image(line[0], image)
        more = f"\n({len(labels) - STEPS} more)" if len(labels) > STEPS else ""
        line[0].set_title(wrapped(titles[i], SIDE) + more, fontsize=10)
        for t, (ax, label) in enumerate(zip(line[1:], labels, strict=False)):
            weights = looked[i, t]
            draw_attention(ax, image, weights, grid_size, highest=float(weights.max()))
            probability = float(decoded.step_probability[i, t])
            ax.set_title(f"{t + 1}. {label}{MARKS[right(i, label)]}\n{probability:.2f}", fontsize=10)
    return figure


def scenes(checkpoint: Checkpoint, seed: int) -> Figure:
    """Ten images of the test split."""
    records = random.Random(seed).sample(load("scenes", progress=False).test, 10)
    true = [sorted(set(record.labels)) for record in records]
    images = [open_image(record.path) for record in records]
    figure = strip(
        checkpoint, images, lambda i, label: label in true[i], [f"true labels: {len(m)}" for m in true]
    )
    figure.suptitle(
        "Ten test scenes by lot: a tick is right, a cross is wrong, the colour is where it looked",
        fontsize=12,
    )
    return figure


def photographs(checkpoint: Checkpoint, seed: int) -> Figure:
    """Ten of the photographs; right where COCO's annotation says so, unknown for the labels that COCO has not."""
    folder = DATA / "photographs"
    names = read_json(folder / "names.json")  # our label -> COCO categories that it may be
    pictures, has = [], {}  # (image id, file), image id -> names of its categories
    for path in sorted((folder / "annotations").glob("instances_*.json")):
        found = read_json(path)
        categories = {category["id"]: category["name"] for category in found["categories"]}
        pictures += [(image["id"], image["file_name"]) for image in found["images"]]
        for annotation in found["annotations"]:
            has.setdefault(annotation["image_id"], set()).add(categories[annotation["category_id"]])
    chosen = random.Random(seed).sample(sorted(pictures), 10)
    images = [open_image(folder / "images" / name) for _, name in chosen]

    def right(i: int, label: str) -> bool | None:
        return bool(set(names[label]) & has.get(chosen[i][0], set())) if label in names else None

    figure = strip(checkpoint, images, right, [f"COCO {number}" for number, _ in chosen])
    figure.suptitle(
        "Ten photographs by lot: ticks and crosses for the labels that COCO has, too (credits: data/photographs/CREDITS.md)",
        fontsize=12,
    )
    return figure


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--checkpoint", type=Path, help="of a system with attention on scenes; without it only photographs"
    )
    p.add_argument("--seed", type=int, default=0, help="of the lot (%(default)s)")
    p.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "images", help="(%(default)s)")
    args = p.parse_args()
    figures = {"films_photographs.jpg": photographs(load_checkpoint(DATA / PHOTOGRAPHS), args.seed)}
    if args.checkpoint:
        figures["films_scenes.jpg"] = scenes(load_checkpoint(args.checkpoint), args.seed)
    for name, figure in figures.items():
        with replacing(args.output / name) as temporary:
            Image.open(BytesIO(to_png(figure))).convert("RGB").save(temporary, "JPEG", quality=82)
        print(args.output / name)


if __name__ == "__main__":
    main()
