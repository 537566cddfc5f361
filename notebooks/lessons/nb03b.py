"""Figures of the ways in which an image can enter a label decoder, and of what concepts make it say.

Taught in notebook 03b. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

An interactive view of a decoder that starts from concepts: turn them by hand, see what it says. Notebook 03b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
from helpers.plots import PALETTE, draw_image, new_figure
from lessons.nb03 import arrow, box, draw_sequences, until_stop
from lessons.views import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


IMAGE, CELL, TOKEN = "#f6cf9c", "#cfe3f1", "#f4f4f4"


WAY = PALETTE[3]  # the colour of the image's way in


BEFORE, AFTER = PALETTE[5], PALETTE[4]


def four_ways(image, labels: Sequence[str], sizes: Mapping[str, int]) -> Figure:
    """The four ways of an image into a decoder, side by side, each unrolled over the same labels. Notebook 03b.

    labels: those of the image, in the order in which they are to be said, without `<stop>`; one or two.
    sizes: what D, H, E and C are, for the shapes beside the arrows.
    """
    if missing := {"D", "H", "E", "C"} - sizes.keys():
        raise ValueError(f"sizes lacks {', '.join(sorted(missing))}: give the numbers behind D, H, E and C")
    figure, axes = new_figure(2, 3, size=(13, 7.2), width_ratios=(0.62, 1, 1))
    draw_image(axes[0, 0], image, "the image")
    axes[1, 0].set_axis_off()
    shapes = [
        f"pooled feature $v$: {sizes['D']} (D)",
        f"LSTM state $h$: {sizes['H']} (H)",
        f"label embedding: {sizes['E']} (E)",
        f"concepts $p$: {sizes['C']} (C)",
    ]
    axes[1, 0].text(0, 0.98, "\n\n".join(shapes), fontsize=12, va="top")
    axes[1, 0].plot([0, 0.14], [0.3, 0.3], color=WAY, lw=3)
    axes[1, 0].text(0.2, 0.3, "the way of the image", fontsize=12, va="center")
    axes[1, 0].set(xlim=(0, 1), ylim=(0, 1))
    _as_state(axes[0, 1], labels, concepts=False)
    _as_first_input(axes[0, 2], labels)
    _at_the_output(axes[1, 1], labels)
    _as_state(axes[1, 2], labels, concepts=True)
    return figure


def _cells(ax: Axes, labels: Sequence[str], title: str, *, first: float = 0, joint: bool = False) -> None:
    """The unrolled decoder that the four have in common, its first step at x = first."""
    reads, says = [START_NAME, *labels], [*labels, STOP_NAME]
    top = 2.05 if joint else 1.1
    for t, (read, said) in enumerate(zip(reads, says, strict=True)):
        x = first + t
        box(ax, x, 0, 0.6, 0.6, "LSTM", CELL)
        box(ax, x, -0.95, 0.9, 0.42, read, TOKEN)
        box(ax, x, top, 0.9, 0.42, said, TOKEN)
        arrow(ax, (x, -0.74), (x, -0.32))
        arrow(ax, (x, 0.3), (x, 0.66 if joint else top - 0.22))
        if t:
            arrow(ax, (x - 0.7, 0), (x - 0.31, 0))
    ax.set_title(title)
    ax.set(xlim=(-1.75, 2.6), ylim=(-1.3, 2.4 if joint else 1.75))
    ax.set_axis_off()


def _as_state(ax: Axes, labels: Sequence[str], *, concepts: bool) -> None:
    name = "4 · as concepts (SR-CNN-RNN)" if concepts else "1 · as the first state (RIA)"
    _cells(ax, labels, name)
    if not concepts:
        box(ax, -1.3, 0, 0.6, 0.6, "$v$", IMAGE)
        arrow(ax, (-1.0, 0), (-0.31, 0), colour=WAY, width=3)
        ax.text(-0.66, 0.12, "$h_0$", fontsize=12, ha="center", va="bottom")
        return
    box(ax, -1.3, 1.3, 0.6, 0.6, "$v$", IMAGE)
    box(ax, -1.3, 0, 0.6, 0.6, "$p$", "#f0cfe0")
    arrow(ax, (-1.3, 1.0), (-1.3, 0.32), colour=WAY, width=3)
    arrow(ax, (-1.0, 0), (-0.31, 0), colour=WAY, width=3)
    ax.text(-1.24, 0.66, "σ, own loss", fontsize=12, va="center")
    ax.text(-0.66, 0.12, "$h_0$", fontsize=12, ha="center", va="bottom")


def _as_first_input(ax: Axes, labels: Sequence[str]) -> None:
    _cells(ax, labels, "2 · as the first input (HybridNet)")
    box(ax, -1.3, -0.95, 0.6, 0.42, "$v$", IMAGE)
    box(ax, -1.3, 0, 0.6, 0.6, "LSTM", CELL)
    arrow(ax, (-1.3, -0.74), (-1.3, -0.31), colour=WAY, width=3)
    arrow(ax, (-1.0, 0), (-0.31, 0))
    ax.text(-0.66, 0.12, "$h_0, c_0$", fontsize=12, ha="center", va="bottom")


def _at_the_output(ax: Axes, labels: Sequence[str]) -> None:
    _cells(ax, labels, "3 · at the output of every step (CNN-RNN)", joint=True)
    rail, aside = 1.5, 0.2  # its arrows come down beside those that go up from x_t
    box(ax, -1.3, rail, 0.6, 0.6, "$v$", IMAGE)
    # A rail past all steps, and down from it: every x_t gets the same vector, and none hands it on to the next.
    ax.plot([-1.0, len(labels) - aside], [rail, rail], color=WAY, lw=3, solid_capstyle="round", zorder=0)
    for t in range(len(labels) + 1):
        box(ax, t, 0.9, 0.62, 0.46, f"$x_{t + 1}$", "#bfe3d7")
        arrow(ax, (t, 1.14), (t, 1.83))
        arrow(ax, (t - aside, rail), (t - aside, 1.13), colour=WAY, width=3)
    ax.text(-0.66, rail + 0.1, "$U_I v$", fontsize=12, ha="center", va="bottom")
    ax.text(-1.6, 0, "starts from 0", fontsize=12, va="center")
    arrow(ax, (-0.58, 0), (-0.31, 0))


def label_matrices(matrices: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """Square matrices of the same labels side by side, around 0, the diagonals left out. Notebook 03b.

    matrices: title -> (C, C) numbers.
    """
    if not matrices or any(m.shape != (len(names), len(names)) for m in matrices.values()):
        raise ValueError(f"expected matrices of {len(names)} rows and columns, one for each of the labels")
    side = 1.6 + 0.2 * len(names)
    figure, axes = new_figure(1, len(matrices), size=(side * len(matrices), side - 0.5))
    for ax, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        values = np.asarray(matrix, dtype=float).copy()
        np.fill_diagonal(values, np.nan)
        bound = float(np.nanmax(np.abs(values)))
        drawn = ax.imshow(values, cmap="PuOr", vmin=-bound, vmax=bound, interpolation="nearest")
        ax.set_title(title)
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=11)
        ax.set_yticks(range(len(names)), names, fontsize=11)
        figure.colorbar(drawn, ax=ax, shrink=0.6)
    return figure


def concept_view(
    image,
    names: Sequence[str],
    before: Sequence[float],
    after: Sequence[float],
    paths: Mapping[str, Sequence[tuple[str, bool]]],
    *,
    most: int = 9,
) -> Figure:
    """An image, its most probable concepts with those changed by hand, and what is decoded. Notebook 03b.

    names, before, after: C labels, their probabilities, and those that the decoder is given; where the two differ, both
        are drawn and "(set)" stands behind the name. most: concepts drawn, the changed ones first to be chosen. paths: see `draw_sequences`.
    """
    own, given = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if not len(names) == len(own) == len(given):
        raise ValueError(
            f"found {len(names)} names, {len(own)} and {len(given)} probabilities: give C of each"
        )
    changed = own != given
    chosen = np.argsort(-(2 * changed + np.maximum(own, given)), kind="stable")[: max(most, changed.sum())]
    chosen = chosen[np.argsort(-np.maximum(own, given)[chosen], kind="stable")]
    figure, axes = new_figure(1, 3, size=(12, 4.6), width_ratios=(1.05, 1, 0.42 + 0.5 * len(paths)))
    draw_image(axes[0, 0], image)
    ax = axes[0, 1]
    for y, c in enumerate(chosen):
        if changed[c]:
            ax.barh(y - 0.2, own[c], 0.34, color=BEFORE)
            ax.barh(y + 0.2, given[c], 0.34, color=AFTER, hatch="//", edgecolor="white")
            ax.text(given[c] + 0.02, y + 0.2, f"{given[c]:.2f}", fontsize=11, va="center")
        else:
            ax.barh(y, own[c], 0.7, color=BEFORE)
            ax.text(own[c] + 0.02, y, f"{own[c]:.2f}", fontsize=11, va="center")
    ax.set_yticks(range(len(chosen)), [names[c] + (" (set)" if changed[c] else "") for c in chosen])
    ax.set_ylim(len(chosen) - 0.4, -0.6)
    ax.set_xlim(0, 1.25)
    ax.set_xticks([0, 0.5, 1])
    ax.set_xlabel("probability (hatched: set by hand)")
    ax.set_title("what the decoder is given")
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
    figure = concept_view(
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
