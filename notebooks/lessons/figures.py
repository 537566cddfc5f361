"""Figures that several notebooks use: bars, curves, matrices of labels, token sequences, attention beside bars.

As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`; `draw_…` functions draw into given axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor

from helpers.data.labels import STOP_NAME, Vocabulary
from helpers.metrics.localization import Grading, GridSize
from helpers.plots import (
    GREY,
    LINES,
    MARKERS,
    MARKS,
    PALETTE,
    SEQUENTIAL,
    Frame,
    colour_bar,
    draw_attention,
    draw_bars,
    draw_image,
    new_figure,
    to_pixels,
    wrapped,
)

# Boxes of tokens: <start>, <stop>, one that was chosen by hand, all others.
STARTS, STOPS, CHOSEN, TOKEN = "#bfe3d7", "#f8e3b5", "#f0cfe0", "#cfe3f1"


def label_bars(names: Sequence[str], values: Sequence[float], *, xlabel: str, title: str) -> Figure:
    """One horizontal bar per label with its value, in the order given."""
    figure, axes = new_figure(size=(7, 0.9 + 0.29 * len(names)))
    integer = all(float(v).is_integer() for v in values)
    draw_bars(axes[0, 0], names, {"": values}, numbers="%d" if integer else "%.2f")
    axes[0, 0].set(xlabel=xlabel, title=title)
    return figure


def draw_curves(
    axes: Axes,
    series: Mapping[str, Any],
    x: Sequence[float] | None = None,
    *,
    each_run: bool = False,
) -> None:
    """Lines with colours and markers of their own; arguments as in `curves`."""
    for i, (name, values) in enumerate(series.items()):
        at = list(values) if isinstance(values, Mapping) else x
        runs = np.asarray(list(values.values()) if isinstance(values, Mapping) else values, dtype=float)
        runs = np.atleast_2d(runs)  # (S, T)
        at = np.arange(1, runs.shape[1] + 1) if at is None else np.asarray(at)
        style = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "linewidth": 2}
        style["markevery"] = max(1, runs.shape[1] // 12)
        for k, run in enumerate(runs if each_run else runs.mean(0, keepdims=True)):
            axes.plot(at, run, label=name if k == 0 else None, **style)
        if len(runs) > 1 and not each_run:
            axes.fill_between(at, runs.min(0), runs.max(0), color=style["color"], alpha=0.2, linewidth=0)


def curves(
    series: Mapping[str, Any],
    *,
    x: Sequence[float] | None = None,
    xlabel: str,
    ylabel: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
    each_run: bool = False,
) -> Figure:
    """Lines with a legend below them.

    series: name -> values (T,), or (S, T) of S runs: their mean with a band from least to most, with `each_run` a line
    per run; or a mapping from x to value, for lines that end at different places. x: (T,), by default 1 to T.
    log_x: a logarithmic x axis with a tick at each of `x`. log_y: a logarithmic y axis.
    """
    if not series or not all(len(values) for values in series.values()):
        raise ValueError("there are no curves to draw: give every name at least one value")
    figure, axes = new_figure(size=(7, 4.2))
    ax = axes[0, 0]
    draw_curves(ax, series, x, each_run=each_run)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if log_y else "linear")
    if log_x and x is not None:
        ax.set_xscale("log")
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.minorticks_off()
    across = max(1, min(3, len(series), 75 // (8 + max(map(len, series)))))
    figure.legend(loc="outside lower center", ncols=across, frameon=False, fontsize=11)
    return figure


def grouped_bars(
    series: Mapping[str, Sequence[Sequence[float]] | np.ndarray],
    groups: Sequence[str],
    *,
    ylabel: str,
    title: str,
) -> Figure:
    """Bars of several series beside each other in groups; a bar is the mean of S runs.

    series: name -> (S, G), S runs and G groups; NaN leaves a gap. Of several runs, each is a dot.
    """
    values = {name: np.atleast_2d(np.asarray(runs, dtype=float)) for name, runs in series.items()}
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
    figure.legend(loc="outside lower center", ncols=min(4, len(values)), frameon=False, fontsize=11)
    return figure


def curve_panels(
    panels: Mapping[str, Mapping[str, Any]], x: Sequence[float] | Tensor, *, xlabel: str, ylabel: str
) -> Figure:
    """Lines in panels side by side, with one y axis and the same colours: title -> name -> values (T,)."""
    figure, axes = new_figure(1, len(panels), size=(5.0 * len(panels), 3.9), sharey=True)
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        draw_curves(ax, series, x)
        ax.set(xlabel=xlabel, title=title)
    axes[0, 0].set_ylabel(ylabel)
    axes[0, -1].legend(frameon=False, fontsize=11)
    return figure


def heatmaps(
    panels: Mapping[str, Any],
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    colour_label: str,
    xlabel: str = "",
    ylabel: str = "",
    numbers: str = "",
    centred: bool = False,
    power: float = 1.0,
    across: int | None = None,
    cell: tuple[float, float] = (0.33, 0.3),
) -> Figure:
    """Matrices as colours, side by side; NaN stays white.

    panels: title -> (R, C) numbers. rows, columns: R and C names; the columns are those of the rows by default.
    numbers: a format such as ".2f" to write the values into the cells. centred: colours around 0, with a scale per
    panel; else all panels share one scale from 0 (or from the least value, where it is below). power: of that scale;
    1/2 tells small values apart. across: panels in a row, all by default. cell: width and height in inches.
    """
    columns = rows if columns is None else columns
    matrices = {title: np.asarray(matrix, dtype=float) for title, matrix in panels.items()}
    wanted = (len(rows), len(columns))
    if not matrices or 0 in wanted or any(matrix.shape != wanted for matrix in matrices.values()):
        found = [matrix.shape for matrix in matrices.values()]
        raise ValueError(f"expected matrices {wanted}, at least one and not empty; found {found}")
    across = across or len(matrices)
    down = -(-len(matrices) // across)
    size = (across * (0.8 + cell[0] * wanted[1]) + 2.4, down * (0.5 + cell[1] * wanted[0]) + 1.4)
    figure, axes = new_figure(down, across, size=size)
    low = min(0.0, *(np.nanmin(matrix) for matrix in matrices.values()))
    high = max(float(np.nanmax(matrix)) for matrix in matrices.values())
    for ax in axes.flat[len(matrices) :]:
        ax.set_axis_off()
    for k, (ax, (title, matrix)) in enumerate(zip(axes.flat, matrices.items(), strict=False)):
        bound = float(np.nanmax(np.abs(matrix)))
        scale = {"cmap": SEQUENTIAL, "norm": PowerNorm(power, vmin=low, vmax=high)}
        if centred:
            scale = {"cmap": "PuOr", "vmin": -bound, "vmax": bound}
        first, lowest = k % across == 0, k + across >= len(matrices)
        sns.heatmap(
            matrix,
            ax=ax,
            cbar=centred,
            xticklabels=list(columns) if lowest else False,
            yticklabels=list(rows) if first else False,
            annot=bool(numbers),
            fmt=numbers,
            annot_kws={"fontsize": 11},
            **scale,
        )
        ax.tick_params(axis="x", rotation=90)
        ax.tick_params(axis="y", rotation=0)
        ax.set(title=title, xlabel=xlabel if lowest else "", ylabel=ylabel if first else "")
        if centred:
            _name(ax.collections[0].colorbar, colour_label)
    if not centred:
        bar = figure.colorbar(axes.flat[0].collections[0], ax=list(axes.flat), fraction=0.05, pad=0.02)
        _name(bar, colour_label)
    return figure


def _name(bar: Colorbar, label: str) -> None:
    bar.set_label(label, fontsize=12)
    bar.ax.tick_params(labelsize=11)


# ---------------------------------------------------------------- tokens


def box(
    ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, **style: Any
) -> None:
    """A rounded box with a text, its centre at (x, y); style: of the box."""
    corner = (x - width / 2, y - height / 2)
    shape = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": colour, "edgecolor": "black"}
    ax.add_patch(FancyBboxPatch(corner, width, height, **(shape | style)))
    ax.text(x, y, text, ha="center", va="center", fontsize=12)


def arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], *, colour: str = "black", width: float = 1
) -> None:
    """An arrow; width: of its line, in points."""
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, lw=width, **style))


def draw_sequences(ax: Axes, paths: Mapping[str, Sequence[tuple[str, bool]]]) -> int:
    """Token sequences beside each other, one box per token from top to bottom.

    paths: title -> (name, whether it is marked with a star) per step. Returns the number of steps there is room for.
    """
    slots = max(7, *(len(path) for path in paths.values()))
    for x, (name, path) in enumerate(paths.items()):
        ax.text(x, -0.75, wrapped(name, 1.5), fontsize=12, ha="center", va="bottom")
        for t, (token, marked) in enumerate(path):
            colour = CHOSEN if marked else STOPS if token == STOP_NAME else TOKEN
            box(ax, x, t, 0.9, 0.72, token + (" *" if marked else ""), colour)
    ax.set(xlim=(-0.56, len(paths) - 0.44), ylim=(slots - 0.4, -1.6))
    ax.set_yticks(range(slots), [f"step {t + 1}" for t in range(slots)])
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return slots


def until_stop(tokens: Tensor, vocabulary: Vocabulary) -> list[str]:
    """The names of tokens (T,) int64 up to the first `<stop>`, which is the last one."""
    names = vocabulary.decode(tokens)
    return names[: names.index(STOP_NAME) + 1] if STOP_NAME in names else names


# ---------------------------------------------------------------- attention


def attention_gallery(
    panels: Sequence[tuple[Any, Frame]], grid_size: GridSize, *, columns: int = 4, side: float = 2.5
) -> Figure:
    """Single maps over several images, each on a scale of its own: from nothing to its largest weight.

    panels: (image, frame); the title is the frame's label with its probability.
    """
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(rows, columns, size=(side * columns, (side + 0.4) * rows))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (image, frame) in zip(axes.flat, panels, strict=False):
        highest = float(frame.weights.max())
        draw_attention(ax, image, frame.weights, grid_size, highest=highest, boxes=frame.boxes)
        title = f"{frame.label}{MARKS[frame.right]} {frame.probability:.2f}"
        ax.set_title(wrapped(title, side), fontsize=12)
    return figure


def attention_view(
    image: Any,
    weights: Tensor,
    grid_size: GridSize,
    bars: Mapping[str, Mapping[str, float]],
    *,
    highest: float,
    titles: tuple[str, str, str] = ("", "", ""),
    boxes: Sequence = (),
    value: str = "probability",
) -> Figure:
    """An image, a map over it, and bars of the most probable labels.

    bars: name -> {label: probability}; two of them with the same labels are drawn at each label. titles: of the three.
    value: what the bars are, between 0 and 1.
    """
    figure, axes = new_figure(1, 3, size=(11, 3.9), width_ratios=(1, 1.25, 0.95))
    left, middle, right = axes[0]
    draw_image(left, image, titles[0])
    draw_attention(middle, image, weights, grid_size, highest=highest, boxes=boxes)
    middle.set_title(titles[1])
    colour_bar(figure, [middle], highest)
    labels = list(next(iter(bars.values())))
    series = {name: [values[label] for label in labels] for name, values in bars.items()}
    draw_bars(right, labels, series, share=True)
    right.set(xlabel=value, title=titles[2])
    if len(bars) > 1:
        right.legend(fontsize=11, frameon=False, loc="lower right")
    return figure


def pointing_bars(gradings: Mapping[str, Grading], *, title: str, least: int = 1) -> Figure:
    """The pointing game by label: one bar per kind of map, with a mark for chance.

    gradings: name -> `localization.Grading`. least: labels with fewer looks in the first one are left out.
    """
    first = next(iter(gradings.values()))
    names = [name for name, found in first.labels.items() if found.looks >= least]
    if not names:
        raise ValueError(f"no label has {least} looks or more that could be graded")
    known = [first.all, *(first.labels[name] for name in names)]
    rows = [f"{name} ({grade.looks})" for name, grade in zip(["all", *names], known, strict=True)]
    figure, axes = new_figure(size=(8.4, 1.3 + (0.12 + 0.13 * len(gradings)) * len(rows)))
    ax = axes[0, 0]
    series = {}
    for name, grading in gradings.items():
        found = [grading.all, *(grading.labels.get(label) for label in names)]
        series[name] = [grade.pointing if grade else np.nan for grade in found]
    draw_bars(ax, rows, series, numbers="", share=True)
    chance = [grade.pointing_chance for grade in known]
    y = np.arange(len(rows))
    ax.vlines(chance, y - 0.45, y + 0.45, color="black", lw=2.5, label="chance")
    ax.set(xlabel="how often the largest weight is in a box", title=title)
    figure.legend(ncols=len(gradings) + 1, loc="outside lower center", frameon=False, fontsize=11)
    return figure


def receptive_field(
    image: Any,
    influence: Tensor | np.ndarray,
    fields: Mapping[str, tuple[float, float, float, float]],
    *,
    grid: tuple[int, int],
    cell: tuple[int, int],
) -> Figure:
    """An image with its grid and one cell, beside how much each pixel changes that cell.

    influence: (H, W) at least 0, in any unit. fields: name -> (x, y, width, height) in pixels, drawn over it.
    grid: (h, w) cells. cell: (row, column) of the marked one.
    """
    figure, axes = new_figure(1, 2, size=(9.0, 4.4))
    left, right = axes[0]
    draw_image(left, image, f"image, {grid[0]} x {grid[1]} cells and one of them")
    height, width = to_pixels(image).shape[:2]
    rows, columns = height / grid[0], width / grid[1]
    for k in range(1, grid[1]):
        left.axvline(k * columns - 0.5, color="white", linewidth=1)
    for k in range(1, grid[0]):
        left.axhline(k * rows - 0.5, color="white", linewidth=1)
    corner = (cell[1] * columns - 0.5, cell[0] * rows - 0.5)
    frame = {"fill": False, "edgecolor": PALETTE[3], "linewidth": 3.5, "zorder": 3}
    left.add_patch(Rectangle(corner, columns, rows, **frame))
    influence = np.asarray(influence, dtype=float)
    drawn = right.imshow(influence / max(influence.max(), 1e-12), cmap=SEQUENTIAL, vmin=0, vmax=1)
    _name(figure.colorbar(drawn, ax=right, shrink=0.85), "influence on the cell (largest: 1)")
    colours = (PALETTE[3], "#ffffff", PALETTE[5])
    for (name, (x, y, w, h)), colour, line in zip(fields.items(), colours, LINES, strict=False):
        style = {"fill": False, "edgecolor": colour, "linewidth": 2.5, "linestyle": line}
        right.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, label=name, **style))
    legend = {"loc": "outside lower center", "fontsize": 11, "facecolor": GREY, "labelcolor": "white"}
    figure.legend(ncols=len(fields), **legend)
    right.set_title("how much each pixel changes that cell")
    right.set_axis_off()
    return figure
