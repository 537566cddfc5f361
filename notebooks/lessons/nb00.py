"""Figures and the view of notebook 00: photographs and drawn scenes as trained models label them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from helpers.data.files import DATA
from helpers.data.images import open_image
from helpers.plots import draw_image, frames, image_grid, labelled_image, new_figure, show
from helpers.scenes.write import draw_scene
from helpers.training.annotate import name_labels, predict_images
from helpers.training.checkpoints import Checkpoint
from lessons.nb04 import draw_spotlight
from lessons.views import View, figure_view, slider

PHOTOGRAPHS = DATA / "photographs" / "images"


def film(checkpoint: Checkpoint, image: Image.Image) -> Figure:
    """An image and, step by step, where the model looked and what it named; each step has a scale of its own."""
    steps = frames(predict_images(checkpoint, [image]).decoded, checkpoint.vocabulary.labels)
    side = round(len(steps[0].weights) ** 0.5)
    wide = min(1.8, 9 / (1 + len(steps)))  # inches
    size = (wide * (1 + len(steps)), wide * image.height / image.width + 0.65)
    figure, axes = new_figure(1, 1 + len(steps), size=size)
    draw_image(axes[0, 0], image)
    axes[0, 0].set_title("image\n", fontsize=14)
    for t, (ax, step) in enumerate(zip(axes[0, 1:], steps, strict=True)):
        share = step.weights / step.weights.max()
        draw_spotlight(ax, image, share**2, (side, side), full=1.0)  # squared: it shows the square root
        ax.set_title(f"{t + 1}. {step.label}\n{step.probability:.2f}", fontsize=14)
    return figure


def show_photograph(checkpoint: Checkpoint, path: Path) -> None:
    """Label a photograph and show each step: what was named, its probability, and where the model looked."""
    image = open_image(path)
    named = name_labels(predict_images(checkpoint, [image]), checkpoint)[0]
    said = ", ".join(named.labels) or "nothing"
    alt = f"A photograph and, for each label, the places that the model looked at. It named: {said}."
    show(film(checkpoint, image), alt=alt)


def show_scenes(checkpoint: Checkpoint, numbers: Sequence[int], columns: int = 4) -> None:
    """Scenes of the test seed, each with what the model named above it."""
    scenes = [draw_scene(0, split="test", index=number) for number in numbers]
    _show_labelled(checkpoint, [scene.image for scene in scenes], "Drawn scenes", columns)


def show_odd_images(checkpoint: Checkpoint) -> None:
    """Images without content, each with what the model named in it and how probable that was."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    odd = [
        Image.fromarray(noise).resize((128, 128), Image.Resampling.NEAREST),
        Image.linear_gradient("L").resize((128, 128)).convert("RGB"),
        Image.new("RGB", (128, 128), "#5a8f5a"),
    ]
    _show_labelled(checkpoint, odd, "Noise, a grey gradient and a plain green square", 3, numbers=True)


def _show_labelled(
    checkpoint: Checkpoint, images: Sequence[Image.Image], what: str, columns: int, numbers: bool = False
) -> None:
    titles = [
        ", ".join(f"{label} {p:.2f}" if numbers else label for label, p in zip(*named, strict=True))
        or "(nothing)"
        for named in (
            (answer.labels, answer.probabilities)
            for answer in name_labels(predict_images(checkpoint, images), checkpoint)
        )
    ]
    alt = f"{what}, each under the labels that the model named: {'; '.join(titles)}."
    show(image_grid(images, titles, columns=columns, side=2.2), alt=alt)


def scene_labeller_figure(checkpoint: Checkpoint, number: int) -> tuple[Figure, str]:
    """Scene `number` of the test seed as a trained model labels it, right and wrong told apart.

    Returns the figure and a sentence with the labels that were missed.
    """
    scene = draw_scene(0, split="test", index=number, size=256)
    named = name_labels(predict_images(checkpoint, [scene.image]), checkpoint)[0]
    missed = [label for label in scene.labels if label not in named.labels]
    wrong = [label for label in named.labels if label not in scene.labels]
    right = [label in scene.labels for label in named.labels]
    figure = labelled_image(
        scene.image, named.labels, named.probabilities, title=f"scene {number}", right=right
    )
    text = f"Named {len(named.labels)}, {sum(right)} of them right."
    text += f" Wrong: {', '.join(wrong)}." if wrong else ""
    text += f" Missed: {', '.join(missed)}." if missed else ""
    return figure, text


def show_scene(checkpoint: Checkpoint, number: int) -> None:
    """The static figure under the view."""
    figure, sentence = scene_labeller_figure(checkpoint, number)
    show(figure, alt=f"Scene {number}, and bars with the labels that the model named. {sentence}")


def scene_labeller(checkpoint: Checkpoint, *, count: int = 2000) -> View:
    """Choose one of `count` scenes by its number; it is drawn and labelled on the spot."""
    import ipywidgets

    number = slider("IntSlider", "Scene", max=count - 1, value=7)
    another = ipywidgets.Button(description="Another one", icon="random")
    another.on_click(lambda _: setattr(number, "value", (number.value * 7 + 11) % count))
    return figure_view(
        lambda number: scene_labeller_figure(checkpoint, number), {"number": number}, rows=[[number, another]]
    )
