"""Figures of attention: a map over its image, a film strip of the steps (`tracing.trace`), bars of the pointing game.

Taught in notebook 04. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

Interactive views of an attention decoder: walk through its steps, force its labels, paint its attention.

Each view has a function that draws one of its pictures, which a notebook also shows as a static figure. Taught in
notebook 04.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import ORDERS, Vocabulary, order_labels
from helpers.data.records import Record
from helpers.decoders.search import trace
from helpers.metrics.localization import Grading, GridSize
from helpers.plots import (
    PALETTE,
    Frame,
    colour_bar,
    draw_attention,
    draw_image,
    film_strip,
    frames,
    new_figure,
    outline,
    wrapped,
)
from helpers.systems.sequence import SequenceSystem
from lessons.views import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox, Widget


def look_gallery(
    panels: Sequence[tuple[object, Frame]], grid_size: GridSize, *, columns: int = 4, side: float = 2.5
) -> Figure:
    """Single looks at several images, each on a scale of its own: from nothing to its largest weight. Notebook 04.

    panels: (image, frame); the title is the frame's label with its probability.
    """
    if not panels:
        raise ValueError("there is nothing to draw: panels is empty")
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(rows, columns, size=(side * columns, (side + 0.4) * rows))
    for k, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if k < len(panels):
            image, frame = panels[k]
            draw_attention(ax, image, frame.weights, grid_size, highest=float(frame.weights.max()))
            outline(ax, frame.boxes)
            mark = {None: "", True: " ✓", False: " ✗"}[frame.right]
            ax.set_title(wrapped(f"{frame.label}{mark} {frame.probability:.2f}", side), fontsize=12)
    return figure


def pointing_bars(
    gradings: Mapping[str, Grading], *, title: str, least: int = 1, value: str = "pointing"
) -> Figure:
    """The pointing game by label, a bar for each kind of map, with a mark for chance. Notebook 04.

    gradings: name -> `localization.Grading`. value: "pointing" or "mass". least: labels with fewer looks are left out
    (of the first grading, which also gives the order).
    """
    first = next(iter(gradings.values()))
    names = [name for name, found in first.labels.items() if found.looks >= least]
    if not names:
        raise ValueError(f"no label has {least} looks or more that could be graded")
    rows = ["all", *names]
    figure, axes = new_figure(size=(8.4, 1.3 + (0.12 + 0.13 * len(gradings)) * len(rows)))
    ax = axes[0, 0]
    thick = 0.8 / len(gradings)
    for k, grading in enumerate(gradings.values()):
        found = [grading.all, *(grading.labels.get(label) for label in names)]
        y = np.arange(len(rows)) + (k - (len(gradings) - 1) / 2) * thick
        values = [getattr(g, value) if g else np.nan for g in found]
        ax.barh(y, values, thick * 0.92, color=PALETTE[k], hatch=("", "//", "..")[k % 3], edgecolor="white")
    chance = [getattr(g, f"{value}_chance") for g in (first.all, *(first.labels[name] for name in names))]
    ax.vlines(chance, np.arange(len(rows)) - 0.45, np.arange(len(rows)) + 0.45, color="black", lw=2.5)
    counts = [first.all.looks, *(first.labels[name].looks for name in names)]
    ax.set_yticks(range(len(rows)), [f"{name} ({n})" for name, n in zip(rows, counts, strict=True)])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    what = {
        "pointing": "how often the largest weight is in a box",
        "mass": "share of the weights in the boxes",
    }
    ax.set(xlabel=what[value], title=title)
    handles = [
        Patch(facecolor=PALETTE[k], hatch=("", "//", "..")[k % 3], edgecolor="white")
        for k in range(len(gradings))
    ]
    line = ax.plot([], [], color="black", lw=2.5)
    figure.legend(
        [*handles, *line], [*gradings, "chance"], ncols=len(gradings) + 1, loc="outside lower center",
        frameon=False, fontsize=11,
    )  # fmt: skip
    return figure


def attention_view(
    image,
    weights: Tensor,
    grid_size: GridSize,
    bars: Mapping[str, Mapping[str, float]],
    *,
    highest: float,
    titles: tuple[str, str, str] = ("", "", ""),
    boxes: Sequence = (),
    value: str = "probability",
) -> Figure:
    """An image, a map over it, and bars of the most probable labels. Notebook 04.

    bars: name -> {label: probability}; two of them with the same labels are drawn side by side. titles: of the three.
    value: what the bars are, between 0 and 1.
    """
    figure, axes = new_figure(1, 3, size=(11, 3.9), width_ratios=(1, 1.25, 0.95))
    draw_image(axes[0, 0], image, titles[0])
    draw_attention(axes[0, 1], image, weights, grid_size, highest=highest)
    outline(axes[0, 1], boxes)
    axes[0, 1].set_title(titles[1])
    colour_bar(figure, [axes[0, 1]], highest)
    ax = axes[0, 2]
    labels = list(next(iter(bars.values())))
    thick = 0.8 / len(bars)
    for k, (name, values) in enumerate(bars.items()):
        y = np.arange(len(labels)) + (k - (len(bars) - 1) / 2) * thick
        drawn = ax.barh(
            y, [values[label] for label in labels], thick * 0.92, color=PALETTE[k], label=name,
            hatch=("", "//")[k % 2], edgecolor="white",
        )  # fmt: skip
        ax.bar_label(drawn, fmt="%.2f", padding=3, fontsize=11)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlim(0, 1.2)
    ax.set_xticks([0, 0.5, 1])
    ax.set(xlabel=value, title=titles[2])
    if len(bars) > 1:
        ax.legend(fontsize=11, frameon=False, loc="lower right")
    return figure


def _one(system: SequenceSystem, features: Features, image: int) -> Features:
    """The features of one image as the decoder gets them."""
    device = next(system.parameters()).device
    with torch.inference_mode():
        return system.prepare(features.select(torch.tensor([image])).to(device))


def _top(probability: Tensor, vocabulary: Vocabulary, count: int) -> dict[str, float]:
    best = probability.argsort(descending=True, stable=True)[:count].tolist()
    return {vocabulary.decode([i])[0]: float(probability[i]) for i in best}


def attention_step_figure(
    system: SequenceSystem,
    records: Sequence[Record],
    features: Features,
    grid_size: GridSize,
    *,
    image: int = 0,
    step: int = 1,
    bars: int = 5,
) -> tuple[Figure, str]:
    """One step of a decoding: image, where it looked, the most probable labels, the gate's mean. Notebook 04.

    system: with an attention decoder, in eval mode. features: of the records, straight from the encoder (N images).
    step: counted from 1; after the last one, the last one is shown. Returns the figure and a sentence.
    """
    vocabulary, record = system.vocabulary, records[image]
    tracing = trace(system.decoder, _one(system, features, image), max_steps=system.max_labels + 1)
    shown = frames(tracing, vocabulary.labels, record)
    step = min(step, len(shown))
    frame, gate = shown[step - 1], float(tracing.gate[step - 1].mean())
    said = [f.label for f in shown[: step - 1]]
    figure = attention_view(
        open_image(record.path),
        frame.weights,
        grid_size,
        {"": _top(tracing.probability[step - 1], vocabulary, bars)},
        highest=float(tracing.attention.max()),
        titles=(
            f"said so far: {', '.join(said) or 'nothing'}",
            f"step {step}: looks here, says {frame.label}",
            f"next label; gate mean {gate:.2f}",
        ),
        boxes=frame.boxes,
    )
    verdict = {None: "", True: " (right)", False: " (wrong)"}[frame.right]
    text = (
        f"Step {step} of {len(shown)}: {frame.label}{verdict}, probability {frame.probability:.2f}; "
        f"the mean of the gate is {gate:.2f}."
    )
    return figure, text


def attention_stepper(
    system: SequenceSystem,
    records: Sequence[Record],
    features: Features,
    grid_size: GridSize,
    *,
    image: int = 0,
) -> VBox:
    """Walk through decodings step by step, by hand or with the play button. Notebook 04.

    Arguments as in `attention_step_figure`.
    """
    import ipywidgets

    position = ipywidgets.IntSlider(
        value=image + 1, min=1, max=len(records), description="Image", continuous_update=False
    )
    step = ipywidgets.IntSlider(
        value=1, min=1, max=system.max_labels + 1, description="Step", continuous_update=False
    )
    play = ipywidgets.Play(value=1, min=1, max=step.max, interval=1500)
    # Linked here and not in the browser, so that both always have the value that the picture shows.
    ipywidgets.link((play, "value"), (step, "value"))

    def fit_steps(_: object = None) -> None:
        tracing = trace(
            system.decoder, _one(system, features, position.value - 1), max_steps=system.max_labels + 1
        )
        step.value, play.max, step.max = 1, len(tracing.tokens), len(tracing.tokens)

    fit_steps()
    position.observe(fit_steps, names="value")  # before `figure_view` observes it: the step must fit

    def draw(image: int, step: int) -> tuple[Figure, str]:
        return attention_step_figure(system, records, features, grid_size, image=image - 1, step=step)

    return figure_view(draw, {"image": position, "step": step}, rows=[[position], [play, step]])


def forcing_figure(
    system: SequenceSystem,
    records: Sequence[Record],
    features: Features,
    grid_size: GridSize,
    *,
    image: int = 0,
    given: Sequence[str] | None = None,
) -> tuple[Figure, str]:
    """Free running and teacher forcing side by side: where the decoder looks, and what it says. Notebook 04.

    given: the labels that are fed back; None takes the record's own, as they stand there. Other arguments as in
    `attention_step_figure`.
    """
    vocabulary, record = system.vocabulary, records[image]
    given = list(record.labels if given is None else given)
    one = _one(system, features, image)
    free = frames(trace(system.decoder, one, max_steps=system.max_labels + 1), vocabulary.labels, record)
    forced = trace(system.decoder, one, max_steps=1, given=vocabulary.encode(given))
    forced_frames = frames(forced, vocabulary.labels, record)
    strips = {"free running": free, f"fed: {', '.join(given) or 'nothing'}": forced_frames}
    figure = film_strip(open_image(record.path), strips, grid_size)
    text = (
        f"Free running it says {', '.join(f.label for f in free)}. Fed {', '.join(['<start>', *given])}, it says "
        f"{', '.join(f.label for f in forced_frames)}."
    )
    return figure, text


def forcing_explorer(
    system: SequenceSystem,
    records: Sequence[Record],
    features: Features,
    grid_size: GridSize,
    *,
    frequency: Tensor | None = None,
    image: int = 0,
) -> VBox:
    """Teacher forcing against free running, with a first label of your own if you like. Notebook 04.

    frequency: (C,) training images by label, for the rare-first order of the labels fed; None keeps the record's.
    Other arguments as in `attention_step_figure`.
    """
    import ipywidgets

    position = ipywidgets.IntSlider(
        value=image + 1, min=1, max=len(records), description="Image", continuous_update=False
    )
    orders = [name for name in ORDERS if name != "random" and (frequency is not None or "first" not in name)]
    order = ipywidgets.Dropdown(options=orders, value=orders[0], description="Feed")
    options = [("the image's own", None)] + [(f"{name} first", name) for name in system.vocabulary.labels]
    first = ipywidgets.Dropdown(options=options, description="Begin with")

    def draw(image: int, order: str, first: str | None) -> tuple[Figure, str]:
        vocabulary = system.vocabulary
        ids = order_labels(
            vocabulary.encode(records[image - 1].labels), order, vocabulary=vocabulary, frequency=frequency
        )
        names = vocabulary.decode(ids)
        given = names if first is None else [first, *(name for name in names if name != first)]
        return forcing_figure(system, records, features, grid_size, image=image - 1, given=given)

    return figure_view(
        draw, {"image": position, "order": order, "first": first}, rows=[[position, order, first]]
    )


def painted_figure(
    system: SequenceSystem,
    records: Sequence[Record],
    features: Features,
    grid_size: GridSize,
    *,
    image: int = 0,
    step: int = 1,
    rows: tuple[int, int] = (1, 1),
    columns: tuple[int, int] = (1, 1),
    bars: int = 6,
) -> tuple[Figure, str]:
    """Attention that you paint at one step, equal over some cells, against the decoder's own. Notebook 04.

    rows, columns: first and last of the cells, counted from 1 at the top left. Until the step, the decoder names what it
    would name by itself. Other arguments as in `attention_step_figure`. Raises ValueError for cells off the grid.
    """
    (top, bottom), (left, right), (h, w) = rows, columns, grid_size
    if not (1 <= top <= bottom <= h and 1 <= left <= right <= w):
        raise ValueError(f"rows {rows} and columns {columns} do not lie on a grid of {h} x {w} cells")
    vocabulary, record = system.vocabulary, records[image]
    painted = torch.zeros(h, w)
    painted[top - 1 : bottom, left - 1 : right] = 1.0
    painted /= painted.sum()
    one = _one(system, features, image)
    own = trace(system.decoder, one, max_steps=system.max_labels + 1)
    step = min(step, len(own.tokens))
    before = own.tokens[: step - 1].tolist()
    mine = trace(system.decoder, one, max_steps=1, given=before, attention={step - 1: painted.flatten()})
    p_own, p_mine = own.probability[step - 1], mine.probability[step - 1]
    best = torch.maximum(p_own, p_mine).argsort(descending=True, stable=True)[:bars].tolist()
    names = vocabulary.decode(best)
    figure = attention_view(
        open_image(record.path),
        painted.flatten(),
        grid_size,
        {
            "its own": dict(zip(names, p_own[best].tolist(), strict=True)),
            "painted": dict(zip(names, p_mine[best].tolist(), strict=True)),
        },
        highest=float(painted.max()),
        titles=(
            f"said so far: {', '.join(vocabulary.decode(before)) or 'nothing'}",
            f"painted for step {step}",
            "next label",
        ),
    )
    was, now = (vocabulary.decode([int(p.argmax())])[0] for p in (p_own, p_mine))
    moved = float((p_own - p_mine).abs().sum()) / 2
    text = (
        f"Step {step}: by itself it says {was} ({float(p_own.max()):.2f}), with the painted attention {now} "
        f"({float(p_mine.max()):.2f}). {moved:.0%} of the probability has moved."
    )
    return figure, text


def attention_painter(
    system: SequenceSystem,
    records: Sequence[Record],
    features: Features,
    grid_size: GridSize,
    *,
    image: int = 0,
) -> VBox:
    """Paint the attention of one step yourself and see the next label change. Notebook 04.

    Arguments as in `attention_step_figure`.
    """
    import ipywidgets

    def slider(kind: type, name: str, **options: Any) -> Widget:
        return kind(min=1, description=name, continuous_update=False, **options)

    h, w = grid_size
    position = slider(ipywidgets.IntSlider, "Image", value=image + 1, max=len(records))
    step = slider(ipywidgets.IntSlider, "Step", value=1, max=system.max_labels + 1)
    rows = slider(ipywidgets.IntRangeSlider, "Rows", value=(1, max(1, h // 2)), max=h)
    columns = slider(ipywidgets.IntRangeSlider, "Columns", value=(1, max(1, w // 2)), max=w)

    def draw(image: int, step: int, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Figure, str]:
        return painted_figure(
            system, records, features, grid_size, image=image - 1, step=step, rows=rows, columns=columns
        )

    controls = {"image": position, "step": step, "rows": rows, "columns": columns}
    return figure_view(draw, controls, rows=[[position, step], [rows, columns]])
