"""Figures and the view of notebook 08: how an image can enter a decoder, and what concepts make it say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import START_NAME, STOP_NAME, Vocabulary
from helpers.data.records import Record
from helpers.decoders.base import Decoder
from helpers.decoders.search import greedy
from helpers.plots import PALETTE, draw_bars, draw_image, new_figure
from lessons.figures import CHOSEN, STARTS, TOKEN, arrow, box, draw_sequences, until_stop
from lessons.views import View, choice, edits_by_hand, figure_view, image_slider, slider

IMAGE, PLAIN = "#f6cf9c", "#f4f4f4"
WAY = {"colour": PALETTE[3], "width": 3}  # arrows of the image's way in


def four_ways(image: Any, labels: Sequence[str], sizes: Mapping[str, int]) -> Figure:
    """The four ways of an image into a decoder, side by side, each unrolled over the same labels.

    labels: those of the image, in the order in which they are to be said, without `<stop>`; one or two.
    sizes: what D, H, E and C are, for the shapes beside the arrows.
    """
    figure, axes = new_figure(2, 3, size=(13, 7.2), width_ratios=(0.62, 1, 1))
    draw_image(axes[0, 0], image, "the image")
    legend = axes[1, 0]
    legend.set_axis_off()
    shapes = [
        f"pooled feature $v$: {sizes['D']} (D)",
        f"LSTM state $h$: {sizes['H']} (H)",
        f"label embedding: {sizes['E']} (E)",
        f"concepts $p$: {sizes['C']} (C)",
    ]
    legend.text(0, 0.98, "\n\n".join(shapes), fontsize=12, va="top")
    legend.plot([0, 0.14], [0.3, 0.3], color=WAY["colour"], lw=WAY["width"])
    legend.text(0.2, 0.3, "the way of the image", fontsize=12, va="center")
    legend.set(xlim=(0, 1), ylim=(0, 1))

    ax = axes[0, 1]
    _unrolled(ax, labels, "1 · as the first state (RIA)", start="$h_0$")
    box(ax, -1.3, 0, 0.6, 0.6, "$v$", IMAGE)
    arrow(ax, (-1.0, 0), (-0.31, 0), **WAY)

    ax = axes[0, 2]
    _unrolled(ax, labels, "2 · as the first input (HybridNet)", start="$h_0, c_0$")
    box(ax, -1.3, -0.95, 0.6, 0.42, "$v$", IMAGE)
    box(ax, -1.3, 0, 0.6, 0.6, "LSTM", TOKEN)
    arrow(ax, (-1.3, -0.74), (-1.3, -0.31), **WAY)
    arrow(ax, (-1.0, 0), (-0.31, 0))

    _at_the_output(axes[1, 1], labels)

    ax = axes[1, 2]
    _unrolled(ax, labels, "4 · as concepts (SR-CNN-RNN)", start="$h_0$")
    box(ax, -1.3, 1.3, 0.6, 0.6, "$v$", IMAGE)
    box(ax, -1.3, 0, 0.6, 0.6, "$p$", CHOSEN)
    arrow(ax, (-1.3, 1.0), (-1.3, 0.32), **WAY)
    arrow(ax, (-1.0, 0), (-0.31, 0), **WAY)
    ax.text(-1.24, 0.66, "σ, own loss", fontsize=12, va="center")
    return figure


def _unrolled(ax: Axes, labels: Sequence[str], title: str, *, start: str = "", joint: bool = False) -> None:
    """The unrolled decoder that the four have in common; start: what is written at the arrow into its first step."""
    top = 2.05 if joint else 1.1
    for x, (read, said) in enumerate(zip([START_NAME, *labels], [*labels, STOP_NAME], strict=True)):
        box(ax, x, 0, 0.6, 0.6, "LSTM", TOKEN)
        box(ax, x, -0.95, 0.9, 0.42, read, PLAIN)
        box(ax, x, top, 0.9, 0.42, said, PLAIN)
        arrow(ax, (x, -0.74), (x, -0.32))
        arrow(ax, (x, 0.3), (x, 0.66 if joint else top - 0.22))
        if x:
            arrow(ax, (x - 0.7, 0), (x - 0.31, 0))
    if start:
        ax.text(-0.66, 0.12, start, fontsize=12, ha="center", va="bottom")
    ax.set(title=title, xlim=(-1.75, 2.6), ylim=(-1.3, 2.4 if joint else 1.75))
    ax.set_axis_off()


def _at_the_output(ax: Axes, labels: Sequence[str]) -> None:
    _unrolled(ax, labels, "3 · at the output of every step (CNN-RNN)", joint=True)
    rail, aside = 1.5, 0.2  # the arrows of the image come down beside those that go up from x_t
    box(ax, -1.3, rail, 0.6, 0.6, "$v$", IMAGE)
    # A line past all steps, and down from it: every x_t gets the same vector, and none hands it on to the next.
    style = {"lw": WAY["width"], "solid_capstyle": "round", "zorder": 0}
    ax.plot([-1.0, len(labels) - aside], [rail, rail], color=WAY["colour"], **style)
    for t in range(len(labels) + 1):
        box(ax, t, 0.9, 0.62, 0.46, f"$x_{t + 1}$", STARTS)
        arrow(ax, (t, 1.14), (t, 1.83))
        arrow(ax, (t - aside, rail), (t - aside, 1.13), **WAY)
    ax.text(-0.66, rail + 0.1, "$U_I v$", fontsize=12, ha="center", va="bottom")
    ax.text(-1.6, 0, "starts from 0", fontsize=12, va="center")
    arrow(ax, (-0.58, 0), (-0.31, 0))


def concept_view(
    image: Any,
    names: Sequence[str],
    before: Sequence[float],
    after: Sequence[float],
    paths: Mapping[str, Sequence[tuple[str, bool]]],
    *,
    most: int = 9,
) -> Figure:
    """An image, its most probable concepts with those changed by hand, and what is decoded.

    names, before, after: C labels, their probabilities, and those that the decoder is given; where the two differ, both
        are drawn and "(set)" follows the name. most: concepts drawn, changed ones in any case. paths: see
        `draw_sequences`.
    """
    own, given = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    changed, higher = own != given, np.maximum(own, given)
    chosen = np.argsort(-(2 * changed + higher), kind="stable")[: max(most, changed.sum())]
    chosen = chosen[np.argsort(-higher[chosen], kind="stable")]
    figure, axes = new_figure(1, 3, size=(12, 4.6), width_ratios=(1.05, 1, 0.42 + 0.5 * len(paths)))
    draw_image(axes[0, 0], image)
    labels = [names[c] + (" (set)" if changed[c] else "") for c in chosen]
    series = {"own": own[chosen]}
    if changed.any():
        series["set by hand"] = np.where(changed, given, np.nan)[chosen]
    draw_bars(axes[0, 1], labels, series, colours=(PALETTE[5], PALETTE[4]), share=True)
    axes[0, 1].set(xlabel="probability (hatched: set by hand)", title="what the decoder is given")
    draw_sequences(axes[0, 2], paths)
    return figure


def concept_figure(
    decoder: Decoder,
    concepts: Tensor,
    changed: dict[int, float],
    record: Record,
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> tuple[Figure, str]:
    """What a decoder says of an image from its concepts, and from these with some set by hand.

    decoder: in eval mode. concepts: (C,) float32 in 0..1. changed: label id -> probability. max_labels: labels named at
    most. Returns the figure and a sentence.
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
        text += f" With {_told(changed, vocabulary)}: {', '.join(mine)}."
    image, names = open_image(record.path), vocabulary.labels
    return concept_view(image, names, concepts.tolist(), given.tolist(), paths), text


def _told(changed: Mapping[int, float], vocabulary: Vocabulary) -> str:
    return ", ".join(f"{vocabulary.labels[label]} = {p:.2f}" for label, p in sorted(changed.items()))


def concept_switches(
    decoder: Decoder,
    concepts: Tensor,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> View:
    """Turn the concepts of an image up and down and see what the decoder says then.

    concepts: (B, C) float32 in 0..1, of the B images `records`. max_labels: labels named at most. Labels that are said
    only with the reader's concepts have a star.
    """
    image = image_slider(len(records))
    concept = choice("Concept", [(name, i) for i, name in enumerate(vocabulary.labels)])
    value = slider("FloatSlider", "Probability", min=0, max=1, step=0.01)

    def own(label: int) -> float:
        return round(float(concepts[image.value - 1, label]), 2)

    def tell(changed: dict[int, float]) -> str:
        told = _told(changed, vocabulary)
        return f"You set {told}." if changed else "The concepts are the image's own."

    edits = edits_by_hand(concept, value, own=own, tell=tell, image=image)

    def draw(image: int, chosen: str) -> tuple[Figure, str]:
        given = decoder, concepts[image - 1], edits.values, records[image - 1], vocabulary
        return concept_figure(*given, max_labels=max_labels)

    controls = {"image": image, "chosen": edits.chosen}
    view = figure_view(draw, controls, rows=[[image, edits.again], [concept, value], [edits.chosen]])
    view.controls |= {"concept": concept, "value": value}
    view.again = edits.again
    return view
