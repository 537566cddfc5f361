"""Figures of convolutions, grids and feature maps, of losses, and of labels by kind.

Taught in notebook 02. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.plots import GREY, LINES, PALETTE, SEQUENTIAL, STYLE, canvas, draw_image, new_figure, to_pixels


def kernel_responses(
    image: Tensor | np.ndarray,
    kernels: Mapping[str, Tensor | np.ndarray],
    responses: Sequence[Tensor | np.ndarray],
) -> Figure:
    """An image, small kernels with their numbers, and under each what it answers to the image. Notebook 02.

    image: (3, H, W) float in 0..1. kernels: name -> (k, k). responses: one (h, w) a kernel; 0 is drawn grey.
    """
    if not kernels or len(kernels) != len(responses):
        raise ValueError(f"found {len(kernels)} kernels and {len(responses)} responses: give one each")
    columns = 1 + len(kernels)
    figure, axes = new_figure(2, columns, size=(2.6 * columns, 4.6), height_ratios=(0.62, 1))
    axes[0, 0].set_axis_off()
    draw_image(axes[1, 0], image, "image")
    for (name, kernel), response, top, bottom in zip(
        kernels.items(), responses, axes[0, 1:], axes[1, 1:], strict=True
    ):
        kernel, response = np.asarray(kernel, dtype=float), np.asarray(response, dtype=float)
        top.imshow(kernel, cmap=SEQUENTIAL, vmin=-2, vmax=2)
        for (i, j), value in np.ndenumerate(kernel):
            ink = "black" if value > 0 else "white"
            top.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=12, color=ink)
        largest = max(np.abs(response).max(), 1e-9)
        bottom.imshow(response, cmap="gray", vmin=-largest, vmax=largest)
        top.set_title(name)
        for ax in (top, bottom):
            ax.set_axis_off()
    return figure


def receptive_field(
    image: Tensor | np.ndarray,
    influence: Tensor | np.ndarray,
    fields: Mapping[str, tuple[float, float, float, float]],
    *,
    grid: tuple[int, int],
    cell: tuple[int, int],
) -> Figure:
    """An image with its grid and one cell, beside how much each pixel changes that cell. Notebooks 02 and 04.

    influence: (H, W) at least 0, in any unit. fields: name -> (x, y, width, height) in pixels, drawn over it.
    grid: (h, w) cells. cell: (row, column) of the marked one.
    """
    figure, axes = new_figure(1, 2, size=(9.6, 4.7))
    left, right = axes[0]
    draw_image(left, image, f"image, {grid[0]} x {grid[1]} cells and one of them")
    height, width = to_pixels(image).shape[:2]
    rows, columns = height / grid[0], width / grid[1]
    for k in range(1, grid[1]):
        left.axvline(k * columns - 0.5, color="white", linewidth=1)
    for k in range(1, grid[0]):
        left.axhline(k * rows - 0.5, color="white", linewidth=1)
    corner = (cell[1] * columns - 0.5, cell[0] * rows - 0.5)
    left.add_patch(
        Rectangle(corner, columns, rows, fill=False, edgecolor=PALETTE[3], linewidth=3.5, zorder=3)
    )
    influence = np.asarray(influence, dtype=float)
    drawn = right.imshow(influence / max(influence.max(), 1e-12), cmap=SEQUENTIAL, vmin=0, vmax=1)
    figure.colorbar(drawn, ax=right, label="influence on the cell (largest: 1)", shrink=0.85)
    for (name, (x, y, w, h)), colour, line in zip(
        fields.items(), (PALETTE[3], "#ffffff", PALETTE[5]), LINES, strict=False
    ):
        box = Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=colour, linewidth=2.5, linestyle=line)
        box.set_label(name)
        right.add_patch(box)
    figure.legend(
        loc="outside lower center", ncols=len(fields), fontsize=11, facecolor=GREY, labelcolor="white"
    )
    right.set_title("how much each pixel changes that cell")
    right.set_axis_off()
    return figure


def feature_maps(
    images: Sequence[Tensor | np.ndarray],
    maps: Tensor | np.ndarray,
    *,
    rows: Sequence[str],
    titles: Sequence[str] | None = None,
    boxes: Sequence[Sequence[Sequence]] | None = None,
    colour_label: str = "activation",
) -> Figure:
    """Maps over images: a row a channel (or label), a column an image, colours comparable along a row. Notebook 02.

    images: N images. maps: (R, N, h, w) float. rows: R names. titles: N, over the columns.
    boxes: boxes[r][n] are the boxes (`datasets.Box`, pixels of the image) to draw there.
    """
    maps = np.asarray(maps, dtype=float)
    if maps.ndim != 4 or maps.shape[:2] != (len(rows), len(images)):
        raise ValueError(f"expected maps ({len(rows)}, {len(images)}, h, w), found {maps.shape}")
    figure, axes = new_figure(len(rows), len(images), size=(1.9 * len(images) + 1.1, 1.9 * len(rows) + 0.3))
    for r, row in enumerate(axes):
        low, high = min(0.0, maps[r].min()), max(maps[r].max(), 1e-9)
        for n, ax in enumerate(row):
            pixels = to_pixels(images[n])
            ax.imshow(pixels.mean(axis=2), cmap="gray")
            extent = (-0.5, pixels.shape[1] - 0.5, pixels.shape[0] - 0.5, -0.5)
            drawn = ax.imshow(
                maps[r, n],
                extent=extent,
                cmap=SEQUENTIAL,
                vmin=low,
                vmax=high,
                alpha=0.62,
                interpolation="nearest",
            )
            for box in boxes[r][n] if boxes is not None else ():
                place = (box.x - 0.5, box.y - 0.5)
                ax.add_patch(
                    Rectangle(place, box.width, box.height, fill=False, edgecolor="white", linewidth=2.5)
                )
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if titles is not None and r == 0:
                ax.set_title(titles[n])
        row[0].set_ylabel(rows[r], fontsize=13)
        figure.colorbar(drawn, ax=list(row), label=colour_label, shrink=0.9, pad=0.01)
    return figure


def curve_panels(
    panels: Mapping[str, Mapping[str, Sequence[float] | Tensor]],
    x: Sequence[float] | Tensor,
    *,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Lines in panels side by side, with one y axis and the same colours: title -> name -> values (T,). Notebook 02."""
    if not panels:
        raise ValueError("there are no curves to draw")
    figure, axes = new_figure(1, len(panels), size=(5.0 * len(panels), 3.9), sharey=True)
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        for i, (name, values) in enumerate(series.items()):
            line = LINES[i % len(LINES)]
            ax.plot(np.asarray(x), np.asarray(values), line, color=PALETTE[i], linewidth=2.5, label=name)
        ax.set(xlabel=xlabel, title=title)
    axes[0, 0].set_ylabel(ylabel)
    axes[0, -1].legend(frameon=False, fontsize=11)
    return figure


def grouped_bars(
    groups: Mapping[str, Mapping[str, float]],
    *,
    xlabel: str,
    title: str,
    errors: Mapping[str, tuple[float, float]] | None = None,
    marked: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Horizontal bars of labels: the first group left, the others right (kind -> label -> value). Notebook 02.

    errors: label -> (lowest, highest) value, drawn as a line. marked: name of a set -> its labels, in a colour.
    """
    if not groups or not all(groups.values()):
        raise ValueError("there are no labels to draw, or a group has none")
    names = list(groups)
    columns = [names] if len(names) == 1 else [names[:1], names[1:]]
    most = max(sum(len(groups[name]) + 2 for name in column) for column in columns)
    figure = canvas(size=(5.6 * len(columns), 0.25 * most + 1.2))
    colours = {label: PALETTE[i + 1] for i, labels in enumerate((marked or {}).values()) for label in labels}
    parts = figure.subfigures(1, len(columns), squeeze=False)[0]
    with rc_context(STYLE):
        for part, column in zip(parts, columns, strict=True):
            heights = [len(groups[name]) + 1 for name in column]
            places = part.subplots(len(column), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
            for ax, name in zip(places, column, strict=True):
                labels, values = list(groups[name]), list(groups[name].values())
                ax.barh(
                    range(len(labels)), values, color=[colours.get(label, PALETTE[0]) for label in labels]
                )
                for i, label in enumerate(labels):
                    if errors and label in errors:
                        ax.plot(errors[label], (i, i), color="black", linewidth=2)
                ax.set_yticks(range(len(labels)), labels)
                ax.set(title=name, xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5))
            places[-1].set_xlabel(xlabel)
        if marked:
            shown = {"other labels": PALETTE[0]} | {name: PALETTE[i + 1] for i, name in enumerate(marked)}
            handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in shown.values()]
            figure.legend(
                handles, list(shown), loc="outside lower center", ncols=len(shown), frameon=False, fontsize=11
            )
        figure.suptitle(title, fontsize=13)
    return figure
