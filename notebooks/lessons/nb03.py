"""Figures of label sequences as they are named step by step (`tracing.follow`).

Taught in notebook 03. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

An interactive view of a decoding, step by step, in which one may say other labels. Taught in notebook 03.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import START_NAME, STOP_NAME, Vocabulary
from helpers.data.records import Record
from helpers.decoders.base import Decoder
from helpers.decoders.search import FREE, follow
from helpers.plots import PALETTE, SEQUENTIAL, draw_image, new_figure
from lessons.views import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


RIGHT, WRONG, CHOSEN = PALETTE[0], PALETTE[3], PALETTE[4]


GREY = "#595959"


class NamedLabel(NamedTuple):
    """A label that was named, with its probability at that step and whether the image has it; None: unknown."""

    name: str
    probability: float
    right: bool | None = None


def unrolled_decoder(inputs: Sequence[str], outputs: Sequence[str], image) -> Figure:
    """A decoder started from an image, a column a step: what it reads below, what it shall say above. Notebook 03."""
    if len(inputs) != len(outputs) or not inputs:
        raise ValueError(f"found {len(inputs)} inputs and {len(outputs)} outputs: give one of each a step")
    steps = len(inputs)
    figure, axes = new_figure(1, 2, size=(3.4 + 1.75 * steps, 4.0), width_ratios=(2.3, 1.75 * steps + 0.9))
    draw_image(axes[0, 0], image)
    axes[0, 0].set_title("image", fontsize=12)
    ax = axes[0, 1]
    ax.set(xlim=(-1.35, steps - 0.45), ylim=(-1.5, 1.75))
    ax.set_axis_off()
    box(ax, -1.0, 0, 0.5, 0.8, "CNN,\nlinear", "#e4e4e4")
    for t, (read, said) in enumerate(zip(inputs, outputs, strict=True)):
        arrow(ax, (t - 0.74 if t == 0 else t - 0.68, 0), (t - 0.3, 0))
        ax.text(t - 0.5, 0.1, "$h_0$" if t == 0 else f"$h_{t}, c_{t}$", ha="center", va="bottom", fontsize=12)
        box(ax, t, 0, 0.6, 0.8, "LSTM", "#cfe3f1")
        arrow(ax, (t, -0.83), (t, -0.42))
        arrow(ax, (t, 0.42), (t, 0.83))
        for y, name in ((-1.05, read), (1.05, said)):
            colour = {START_NAME: "#bfe3d7", STOP_NAME: "#f8e3b5"}.get(name, "#f4f4f4")
            box(ax, t, y, 0.86, 0.42, name, colour)
    for y, text in ((-1.42, "reads"), (1.42, "shall say")):
        ax.text(-0.9, y + (0.37 if y < 0 else -0.37), text, fontsize=12, color=GREY, ha="center", va="center")
    return figure


def box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    """A rounded box with a text, its middle at (x, y). Notebooks 03 and 03b."""
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.06"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, edgecolor="black"))
    ax.text(x, y, text, ha="center", va="center", fontsize=12)


def arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], *, colour: str = "black", width: float = 1
) -> None:
    """An arrow; width: of its line, in points. Notebooks 03 and 03b."""
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, lw=width, **style))


def gate_map(panels: Mapping[str, Tensor], tokens: Sequence[str], image, *, units: int = 32) -> Figure:
    """An image, and what gates and cell do over the steps of its sequence: a row a unit, a column a step. Notebook 03.

    panels: name -> (T, H) float; gates in 0..1, and the panel "cell" in any range, drawn around 0. Units stand in the
        order of their mean in the first panel, the same in all panels; of many, every few are drawn.
    tokens: what is read at each of the T steps. units: drawn at most.
    """
    if not panels or any(len(values) != len(tokens) for values in panels.values()):
        raise ValueError(f"expected panels (T, H) of {len(tokens)} steps each, one for every token read")
    order = next(iter(panels.values())).mean(0).argsort(descending=True)  # (H,)
    if len(order) > units:
        order = order[torch.linspace(0, len(order) - 1, units).long()]
    wide = max(2.0, 0.34 * len(tokens))
    figure, axes = new_figure(
        1,
        1 + len(panels),
        size=(2.6 + (wide + 0.5) * len(panels), 4.6),
        width_ratios=(2.4, *[wide] * len(panels)),
    )
    draw_image(axes[0, 0], image)
    gates = []
    for ax, (name, values) in zip(axes[0, 1:], panels.items(), strict=True):
        rows = values[:, order].T.numpy()  # (T, units) -> (units, T)
        signed = name == "cell"
        bound = float(np.abs(rows).max()) if signed else 1.0
        colours = {"cmap": "PuOr", "vmin": -bound} if signed else {"cmap": SEQUENTIAL, "vmin": 0}
        drawn = ax.imshow(rows, aspect="auto", interpolation="nearest", vmax=bound, **colours)
        ax.set_title(name)
        ax.set_xticks(range(len(tokens)), tokens, rotation=90)
        ax.set_yticks([])
        if signed:
            figure.colorbar(drawn, ax=ax, shrink=0.8).set_label("value", fontsize=12)
        else:
            gates.append((ax, drawn))
    if gates:
        bar = figure.colorbar(gates[-1][1], ax=gates[-1][0], shrink=0.8, ticks=[0, 0.5, 1])
        bar.set_label("closed … open", fontsize=12)
    axes[0, 1].set_ylabel("units of the LSTM")
    figure.supxlabel("token read at each step", fontsize=12)
    return figure


def named_in_order(
    images: Sequence,
    rows: Sequence[Sequence[NamedLabel]],
    missed: Sequence[Sequence[str]] | None = None,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 3,
) -> Figure:
    """Images, each above the labels that were named in their order with their step probabilities. Notebook 03.

    rows: for each image the labels, `<stop>` included where it was said. missed: true labels that were not named,
        told above the image; or `titles` of your own.
    Right labels and wrong ones differ in colour and in their mark (a wrong one has a cross).
    """
    if not len(images) or len(rows) != len(images):
        raise ValueError(f"found {len(images)} images and {len(rows)} rows of labels: give one row an image")
    lines = -(-len(images) // columns)
    longest = max(6, *(len(row) for row in rows))
    figure, axes = new_figure(
        2 * lines,
        columns,
        size=(3.9 * columns, (2.6 + 0.6 + 0.3 * longest) * lines),
        height_ratios=(2.6, 0.6 + 0.3 * longest) * lines,
    )
    for i in range(lines * columns):
        picture, bars = axes[2 * (i // columns), i % columns], axes[2 * (i // columns) + 1, i % columns]
        if i >= len(images):
            picture.set_axis_off()
            bars.set_axis_off()
            continue
        text = titles[i] if titles is not None else ""
        if missed is not None:
            text = "missed: " + ", ".join(missed[i]) if missed[i] else "nothing missed"
        draw_image(picture, images[i])
        picture.set_title(textwrap.fill(text, 32), fontsize=12)
        _probability_bars(bars, rows[i], slots=longest)
        bars.set_xlabel("probability at its step")
    return figure


def _probability_bars(ax: Axes, row: Sequence[NamedLabel], *, slots: int) -> None:
    """One bar a label from top to bottom."""
    for k, label in enumerate(row):
        colour = {None: GREY, True: RIGHT, False: WRONG}[label.right]
        ax.barh(
            k,
            label.probability,
            color=colour,
            hatch="//" if label.right is False else None,
            edgecolor="white",
        )
        ax.text(label.probability + 0.02, k, f"{label.probability:.2f}", fontsize=11, va="center")
    names = [f"{label.name}{' ✗' if label.right is False else ''}" for label in row]
    ax.set_yticks(range(len(row)), names)
    ax.set_ylim(slots - 0.4, -0.6)
    ax.set_xlim(0, 1.25)
    ax.set_xticks([0, 0.5, 1])


def grouped_bars(
    series: Mapping[str, Sequence[Sequence[float]] | np.ndarray],
    groups: Sequence[str],
    *,
    ylabel: str,
    title: str,
) -> Figure:
    """Bars of several series beside each other in groups, a bar the mean of S runs. Notebook 03.

    series: name -> (S, G), S runs and G groups; NaN leaves a gap. Of several runs, each is a dot.
    """
    values = {name: np.atleast_2d(np.asarray(runs, dtype=float)) for name, runs in series.items()}
    if not values or any(runs.shape[1] != len(groups) for runs in values.values()):
        raise ValueError(f"expected series of shape (S, {len(groups)}), a column for each of {list(groups)}")
    figure, axes = new_figure(size=(max(7.0, 1.6 + 0.42 * len(groups) * len(values)), 4.2))
    ax = axes[0, 0]
    width = 0.8 / len(values)
    for k, (name, runs) in enumerate(values.items()):
        x = np.arange(len(groups)) + (k - (len(values) - 1) / 2) * width
        ax.bar(x, runs.mean(0), width * 0.92, color=PALETTE[k % (len(PALETTE) - 1)], label=name)
        for run in runs if len(runs) > 1 else ():
            ax.plot(x, run, linestyle="", marker="o", markersize=4, color="black", markerfacecolor="white")
    ax.set_xticks(range(len(groups)), groups)
    ax.margins(y=0.08)
    ax.set(ylabel=ylabel, title=title)
    ax.legend(fontsize=11, ncols=len(values), loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    return figure


def step_view(
    image,
    paths: Mapping[str, Sequence[tuple[str, bool]]],
    top: Sequence[NamedLabel],
    *,
    step: int,
    title: str = "",
) -> Figure:
    """A step of decoding: the image, the sequences that are compared, the most probable labels. Notebook 03.

    paths: title -> (name, whether it was chosen by hand) a step; the tokens of the last path at `step` are framed.
    top:   the most probable labels at that step; empty where the sequence has ended before.
    step:  counted from 1.
    """
    if not paths:
        raise ValueError("there is no sequence to draw: paths is empty")
    figure, axes = new_figure(1, 3, size=(11, 4.3), width_ratios=(1.05, 0.42 + 0.5 * len(paths), 0.95))
    draw_image(axes[0, 0], image, title)
    ax = axes[0, 1]
    slots = draw_sequences(ax, paths)
    if step <= slots:
        ax.add_patch(
            Rectangle(
                (-0.52 + len(paths) - 1, step - 1.46), 1.04, 0.92, fill=False, lw=3, edgecolor=PALETTE[3]
            )
        )
    ax = axes[0, 2]
    ax.set_title(f"most probable at step {step}")
    _probability_bars(ax, top, slots=max(5, len(top)))
    ax.set_xlabel("probability")
    if not top:
        ax.text(0.5, 0.5, "the sequence has\nended before", ha="center", va="center", transform=ax.transAxes)
        ax.set_yticks([])
    return figure


def draw_sequences(ax: Axes, paths: Mapping[str, Sequence[tuple[str, bool]]]) -> int:
    """Sequences beside each other in axes, a box a token, from top to bottom. Notebooks 03 and 03b.

    paths: title -> (name, whether it is marked with a star) a step. Returns the number of steps there is room for.
    """
    slots = max(7, *(len(path) for path in paths.values()))
    for x, (name, path) in enumerate(paths.items()):
        ax.text(x, -0.75, textwrap.fill(name, 14), fontsize=12, ha="center", va="bottom")
        for t, (token, marked) in enumerate(path):
            face = "#f8e3b5" if token == STOP_NAME else "#cfe3f1"
            box(ax, x, t, 0.9, 0.72, token + (" *" if marked else ""), "#f0cfe0" if marked else face)
    ax.set(xlim=(-0.56, len(paths) - 0.44), ylim=(slots - 0.4, -1.6))
    ax.set_yticks(range(slots), [f"step {t + 1}" for t in range(slots)])
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return slots


def step_by_step(
    decoder: Decoder,
    features: Features,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> VBox:
    """Walk through a decoding: the five best labels of a step; say another one and see what follows. Notebook 03.

    features: of the B images `records`, as the decoder takes them. max_labels: labels named at most.
    The choice stays when you go to another step, and is dropped with another image or "Start again".
    """
    import ipywidgets

    steps = max_labels + 1
    alone = follow(decoder, features, max_steps=steps)
    wide = {"description_width": "initial"}
    image = ipywidgets.IntSlider(min=1, max=len(records), description="Image", continuous_update=False)
    step = ipywidgets.IntSlider(min=1, max=steps, description="Step", continuous_update=False)
    options = [("what the decoder chooses", FREE)]
    options += [(name, i) for i, name in enumerate(vocabulary.decode(range(vocabulary.num_outputs)))]
    say = ipywidgets.Dropdown(options=options, value=FREE, description="Say at this step", style=wide)
    again = ipywidgets.Button(description="Start again", icon="refresh")
    chosen = ipywidgets.Label()  # in words, and a control, so that what is dropped is drawn
    forced: dict[int, int] = {}  # step from 0 -> token

    def tell() -> None:
        words = [f"{vocabulary.decode([forced[t]])[0]} at step {t + 1}" for t in sorted(forced)]
        chosen.value = f"You say {', '.join(words)}." if words else "The decoder chooses everything."

    def choose(_: object) -> None:
        forced.pop(step.value - 1, None)
        if say.value != FREE:
            forced[step.value - 1] = say.value
        tell()

    def turn(_: object) -> None:
        say.value = forced.get(step.value - 1, FREE)

    def restart(_: object) -> None:
        forced.clear()
        say.value = FREE
        tell()

    say.observe(choose, names="value")  # all before `figure_view` observes: what it draws must be settled
    step.observe(turn, names="value")
    image.observe(restart, names="value")
    again.on_click(restart)
    tell()

    def draw(image: int, step: int, say: int, chosen: str) -> tuple[Figure, str]:
        record, at = records[image - 1], torch.tensor([image - 1])
        wanted = [forced.get(t, FREE) for t in range(steps)]
        found = follow(decoder, features.select(at), max_steps=steps, forced=[wanted])
        own, mine = (until_stop(tokens, vocabulary) for tokens in (alone.tokens[image - 1], found.tokens[0]))
        paths = {"decoder alone": [(name, False) for name in own]}
        if forced:
            paths["with your choices"] = [(name, t in forced) for t, name in enumerate(mine)]
        top = []
        if step <= len(mine):
            values, ids = found.probability[0, step - 1].topk(min(5, vocabulary.num_outputs))
            names = vocabulary.decode(ids)
            top = [
                NamedLabel(name, p, None if i == vocabulary.stop else name in record.labels)
                for name, p, i in zip(names, values.tolist(), ids.tolist(), strict=True)
            ]
        text = f"True labels: {', '.join(record.labels) or 'none'}. The decoder alone says: {', '.join(own)}."
        text += f" With your choices: {', '.join(mine)}." if forced else ""
        return step_view(open_image(record.path), paths, top, step=step), text

    return figure_view(
        draw,
        {"image": image, "step": step, "say": say, "chosen": chosen},
        rows=[[image, step], [say, again, chosen]],
    )


def until_stop(tokens: Tensor, vocabulary: Vocabulary) -> list[str]:
    """The names of tokens (T,) int64 up to the first `<stop>`, which is among them. Notebooks 03 and 03b."""
    names = vocabulary.decode(tokens)
    return names[: names.index(STOP_NAME) + 1] if STOP_NAME in names else names
