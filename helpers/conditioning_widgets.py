"""An interactive view of a decoder that starts from concepts: turn them by hand, see what it says. Notebook 03b."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from torch import Tensor

from helpers import conditioning_plots
from helpers.batch import Features
from helpers.decoders import Decoder
from helpers.decoding_widgets import until_stop
from helpers.images import open_image
from helpers.labels import Vocabulary
from helpers.records import Record
from helpers.search import greedy
from helpers.widgets import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


def concept_figure(
    decoder: Decoder,
    concepts: Tensor,
    changed: dict[int, float],
    record: Record,
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> tuple[Figure, str]:
    """What a decoder says of an image from its concepts, and from these with some set by hand. Notebook 03b.

    concepts: (C,) float32 in 0..1. changed: label id -> probability. max_labels: labels named at most.
    Returns the figure and a sentence. Call `decoder.eval()` before.
    """
    given = concepts.clone()
    for label, value in changed.items():
        given[label] = value
    own, mine = (
        until_stop(greedy(decoder, Features(p[None]), max_steps=max_labels + 1).tokens[0], vocabulary)
        for p in (concepts, given)
    )
    paths = {"from its own concepts": [(name, False) for name in own]}
    text = f"True labels: {', '.join(record.labels) or 'none'}. From its own concepts: {', '.join(own)}."
    if changed:
        paths["from yours (new: *)"] = [(name, name not in own) for name in mine]
        turned = [f"{vocabulary.labels[label]} = {value:.2f}" for label, value in changed.items()]
        text += f" With {', '.join(turned)}: {', '.join(mine)}."
    figure = conditioning_plots.concept_view(
        open_image(record.path), vocabulary.labels, concepts.tolist(), given.tolist(), paths
    )
    return figure, text


def concept_switches(
    decoder: Decoder,
    concepts: Tensor,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> VBox:
    """Turn the concepts of an image up and down and see what the decoder says then. Notebook 03b.

    concepts: (B, C) float32 in 0..1, of the B images `records`. max_labels: labels named at most.
    What is set stays while you go to other concepts, and is dropped with another image or "Start again". Labels that
    are said only with your concepts have a star.
    """
    import ipywidgets

    wide = {"description_width": "initial"}
    image = ipywidgets.IntSlider(min=1, max=len(records), description="Image", continuous_update=False)
    concept = ipywidgets.Dropdown(
        options=[(name, i) for i, name in enumerate(vocabulary.labels)], description="Concept"
    )
    value = ipywidgets.FloatSlider(
        min=0, max=1, step=0.01, description="Probability", continuous_update=False, style=wide
    )
    again = ipywidgets.Button(description="Start again", icon="refresh")
    chosen = ipywidgets.Label()  # in words, and a control, so that what is dropped is drawn
    changed: dict[int, float] = {}  # label -> probability
    turning: list[bool] = []  # not empty while the slider follows the concept and not the reader's hand

    def tell() -> None:
        words = [f"{vocabulary.labels[label]} = {p:.2f}" for label, p in sorted(changed.items())]
        chosen.value = f"You set {', '.join(words)}." if words else "The concepts are the image's own."

    def follow(_: object = None) -> None:
        turning.append(True)
        value.value = changed.get(concept.value, round(float(concepts[image.value - 1, concept.value]), 2))
        turning.pop()

    def choose(_: object) -> None:
        if not turning:
            changed[concept.value] = value.value
            tell()

    def restart(_: object) -> None:
        changed.clear()
        follow()
        tell()

    value.observe(choose, names="value")  # all before `figure_view` observes: what it draws must be settled
    concept.observe(follow, names="value")
    image.observe(restart, names="value")
    again.on_click(restart)
    follow()
    tell()

    def draw(image: int, chosen: str) -> tuple[Figure, str]:
        return concept_figure(
            decoder, concepts[image - 1], dict(changed), records[image - 1], vocabulary, max_labels=max_labels
        )

    view = figure_view(
        draw, {"image": image, "chosen": chosen}, rows=[[image, again], [concept, value], [chosen]]
    )
    view.controls |= {"concept": concept, "value": value}
    view.again = again
    return view
