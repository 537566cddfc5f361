"""The view of notebook 00: drawn scenes as a trained model labels them."""

from __future__ import annotations

from matplotlib.figure import Figure

from helpers.plots import labelled_image
from helpers.scenes.write import draw_scene
from helpers.training.annotate import name_labels, predict_images
from helpers.training.checkpoints import Checkpoint
from lessons.views import View, figure_view, slider


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


def scene_labeller(checkpoint: Checkpoint, *, count: int = 2000) -> View:
    """Choose one of `count` scenes by its number; it is drawn and labelled on the spot."""
    import ipywidgets

    number = slider("IntSlider", "Scene", max=count - 1, value=7)
    another = ipywidgets.Button(description="Another one", icon="random")
    another.on_click(lambda _: setattr(number, "value", (number.value * 7 + 11) % count))
    return figure_view(
        lambda number: scene_labeller_figure(checkpoint, number), {"number": number}, rows=[[number, another]]
    )
