"""Figures and the view of notebook 03: label sequences as they are named step by step (`search.follow`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import START_NAME, STOP_NAME, Vocabulary
from helpers.data.records import Record
from helpers.decoders.base import Decoder
from helpers.decoders.search import FREE, follow
from helpers.plots import PALETTE, SEQUENTIAL, draw_bars, draw_image, new_figure, wrapped
from lessons.figures import STARTS, STOPS, TOKEN, arrow, box, draw_sequences, until_stop
from lessons.views import View, choice, edits_by_hand, figure_view, image_slider, slider

DARK_GREY = "#595959"


class NamedLabel(NamedTuple):
    """A label that was named, with its probability at that step and whether the image has it; None: unknown."""

    name: str
    probability: float
    right: bool | None = None


def unrolled_decoder(inputs: Sequence[str], outputs: Sequence[str], image: Any) -> Figure:
    """A decoder started from an image, one column per step: below what it reads, above what it should say."""
    steps = len(inputs)
    figure, axes = new_figure(1, 2, size=(3.4 + 1.75 * steps, 4.0), width_ratios=(2.3, 1.75 * steps + 0.9))
    draw_image(axes[0, 0], image, "image")
    ax = axes[0, 1]
    ax.set(xlim=(-1.35, steps - 0.45), ylim=(-1.5, 1.75))
    ax.set_axis_off()
    box(ax, -1.0, 0, 0.5, 0.8, "CNN,\nlinear", "#e4e4e4")
    for t, (read, said) in enumerate(zip(inputs, outputs, strict=True)):
        arrow(ax, (t - 0.74 if t == 0 else t - 0.68, 0), (t - 0.3, 0))
        ax.text(t - 0.5, 0.1, "$h_0$" if t == 0 else f"$h_{t}, c_{t}$", ha="center", va="bottom", fontsize=12)
        box(ax, t, 0, 0.6, 0.8, "LSTM", TOKEN)
        arrow(ax, (t, -0.83), (t, -0.42))
        arrow(ax, (t, 0.42), (t, 0.83))
        for y, name in ((-1.05, read), (1.05, said)):
            box(ax, t, y, 0.86, 0.42, name, {START_NAME: STARTS, STOP_NAME: STOPS}.get(name, "#f4f4f4"))
    for y, text in ((-1.05, "reads"), (1.05, "should say")):
        ax.text(-0.9, y, text, fontsize=12, color=DARK_GREY, ha="center", va="center")
    return figure


def gate_map(panels: Mapping[str, Tensor], tokens: Sequence[str], image: Any, *, units: int = 32) -> Figure:
    """An image, and what gates and cell do over the steps of its sequence: one row per unit, one column per step.

    panels: name -> (T, H) float; gates in 0..1, and the panel "cell" in any range, drawn around 0. Units are sorted by
        their mean in the first panel, equally in all panels; of many units, every few are drawn.
    tokens: what is read at each of the T steps. units: drawn at most.
    """
    order = next(iter(panels.values())).mean(0).argsort(descending=True)  # (H,)
    if len(order) > units:
        order = order[torch.linspace(0, len(order) - 1, units).long()]
    wide = max(2.0, 0.34 * len(tokens))
    size = (2.6 + (wide + 0.9) * len(panels), 4.6)
    figure, axes = new_figure(1, 1 + len(panels), size=size, width_ratios=(2.4, *[wide] * len(panels)))
    draw_image(axes[0, 0], image)
    for ax, (name, values) in zip(axes[0, 1:], panels.items(), strict=True):
        rows = values[:, order].T.numpy()  # (T, units) -> (units, T)
        bound = float(np.abs(rows).max())
        style = {"cmap": "PuOr", "vmin": -bound, "vmax": bound}
        if name != "cell":
            style = {"cmap": SEQUENTIAL, "vmin": 0, "vmax": 1}
        drawn = ax.imshow(rows, aspect="auto", interpolation="nearest", **style)
        ax.set_title(name)
        ax.set_xticks(range(len(tokens)), tokens, rotation=90)
        ax.set_yticks([])
        figure.colorbar(drawn, ax=ax, shrink=0.8).set_label("value" if name == "cell" else "closed … open")
    axes[0, 1].set_ylabel("units of the LSTM")
    figure.supxlabel("token read at each step", fontsize=12)
    return figure


def named_in_order(
    images: Sequence[Any],
    rows: Sequence[Sequence[NamedLabel]],
    missed: Sequence[Sequence[str]] | None = None,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 3,
) -> Figure:
    """Images, each above the labels that were named in their order with their step probabilities.

    rows: for each image the labels, `<stop>` included where it was said. missed: true labels that were not named,
        written above the image; or `titles` of your own.
    """
    lines = -(-len(images) // columns)
    longest = max(6, *(len(row) for row in rows))
    heights = (2.6, 0.6 + 0.3 * longest)
    size = (3.9 * columns, sum(heights) * lines)
    figure, axes = new_figure(2 * lines, columns, size=size, height_ratios=heights * lines)
    if missed is not None:
        titles = ["missed: " + ", ".join(names) if names else "nothing missed" for names in missed]
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (image, row) in enumerate(zip(images, rows, strict=True)):
        line, column = 2 * (i // columns), i % columns
        draw_image(axes[line, column], image)
        axes[line, column].set_title(wrapped(titles[i], 3.4) if titles else "", fontsize=12)
        draw_named(axes[line + 1, column], row, slots=longest)
        axes[line + 1, column].set_xlabel("probability at its step")
    return figure


def draw_named(ax: Axes, row: Sequence[NamedLabel], *, slots: int) -> None:
    """Labels with bars of their probability; a wrong one has another colour, a hatch and a cross."""
    ax.set_axis_on()
    colours = [{None: DARK_GREY, True: PALETTE[0], False: PALETTE[3]}[label.right] for label in row]
    hatches = ["//" if label.right is False else "" for label in row]
    names = [f"{label.name}{' ✗' if label.right is False else ''}" for label in row]
    values = {"": [label.probability for label in row]}
    draw_bars(ax, names, values, colours=[colours], hatches=[hatches or None], slots=slots, share=True)


def step_view(
    image: Any,
    paths: Mapping[str, Sequence[tuple[str, bool]]],
    top: Sequence[NamedLabel],
    *,
    step: int,
) -> Figure:
    """A step of decoding: the image, the sequences that are compared, the most probable labels.

    paths: title -> (name, whether it was chosen by hand) per step; the token of the last path at `step` is framed.
    top: the most probable labels at that step, counted from 1; empty where the sequence has ended before.
    """
    figure, axes = new_figure(1, 3, size=(11, 4.3), width_ratios=(1.05, 0.42 + 0.5 * len(paths), 0.95))
    picture, sequences, bars = axes[0]
    draw_image(picture, image)
    if step <= draw_sequences(sequences, paths):
        corner, style = (len(paths) - 1.52, step - 1.46), {"lw": 3, "edgecolor": PALETTE[3]}
        sequences.add_patch(Rectangle(corner, 1.04, 0.92, fill=False, **style))
    draw_named(bars, top, slots=max(5, len(top)))
    bars.set(title=f"most probable at step {step}", xlabel="probability")
    if not top:
        text = "the sequence has\nended before"
        bars.text(0.5, 0.5, text, ha="center", va="center", transform=bars.transAxes)
    return figure


def step_by_step(
    decoder: Decoder,
    features: Features,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> View:
    """Walk through a decoding: the five best labels of a step; say another one and see what follows.

    features: of the B images `records`, as the decoder takes them. max_labels: labels named at most.
    """
    steps = max_labels + 1
    alone = follow(decoder, features, max_steps=steps)
    image, step = image_slider(len(records)), slider("IntSlider", "Step", min=1, max=steps)
    names = vocabulary.decode(range(vocabulary.num_outputs))
    options = [("what the decoder chooses", FREE), *((name, i) for i, name in enumerate(names))]
    say = choice("Say at this step", options, FREE)

    def tell(forced: dict[int, int]) -> str:
        words = [f"{names[token]} at step {t}" for t, token in sorted(forced.items())]
        return f"You say {', '.join(words)}." if words else "The decoder chooses everything."

    edits = edits_by_hand(step, say, own=lambda _: FREE, tell=tell, image=image)

    def draw(image: int, step: int, say: int, chosen: str) -> tuple[Figure, str]:
        record, forced = records[image - 1], edits.values
        wanted = [forced.get(t, FREE) for t in range(1, steps + 1)]
        one = features.select(torch.tensor([image - 1]))
        found = follow(decoder, one, max_steps=steps, forced=[wanted])
        own, mine = (until_stop(tokens, vocabulary) for tokens in (alone.tokens[image - 1], found.tokens[0]))
        paths = {"decoder alone": [(name, False) for name in own]}
        if forced:
            paths["with your choices"] = [(name, t in forced) for t, name in enumerate(mine, start=1)]
        top = []
        if step <= len(mine):
            values, ids = found.probability[0, step - 1].topk(min(5, vocabulary.num_outputs))
            for i, p in zip(ids.tolist(), values.tolist(), strict=True):
                right = None if i == vocabulary.stop else names[i] in record.labels
                top.append(NamedLabel(names[i], p, right))
        text = f"True labels: {', '.join(record.labels) or 'none'}. The decoder alone says: {', '.join(own)}."
        text += f" With your choices: {', '.join(mine)}." if forced else ""
        return step_view(open_image(record.path), paths, top, step=step), text

    controls = {"image": image, "step": step, "say": say, "chosen": edits.chosen}
    return figure_view(draw, controls, rows=[[image, step], [say, edits.again, edits.chosen]])
