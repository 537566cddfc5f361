"""Figures of a label graph: labels on a circle with arrows, and matrices of labels side by side.

Taught in notebook 08. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from helpers.plots import GREY, PALETTE, SEQUENTIAL, new_figure


def circle_order(weights: Tensor) -> list[int]:
    """The labels 0..C-1 in an order in which those with heavy arrows (C, C) stand together. Notebook 08.

    Average-linkage clustering with optimal leaf order (Bar-Joseph et al., Bioinformatics 2001): it does not depend on
    chance, and short arrows cross less.
    """
    near = np.asarray(weights, dtype=float)
    if len(near) < 3:
        return list(range(len(near)))
    near = np.maximum(near, near.T)
    far = near.max() - near
    np.fill_diagonal(far, 0.0)
    return leaves_list(linkage(squareform(far, checks=False), "average", optimal_ordering=True)).tolist()


def label_graph(
    names: Sequence[str],
    weights: Tensor,
    *,
    threshold: float,
    title: str = "",
    order: Sequence[int] | None = None,
    kinds: Mapping[str, str] | None = None,
    focus: str | None = None,
    size: float = 8.4,
) -> Figure:
    """Labels on a circle, an arrow i -> j where weights[i, j] is at least the threshold. Notebook 08.

    names: C. weights: (C, C); the diagonal is left out; the width of an arrow grows with its weight.
    order: from where at the top clockwise (`circle_order`); keep it while the threshold moves. kinds: name -> kind, a
    colour each. focus: a label whose arrows alone are drawn in full, the others pale. size: inches.
    Raises ValueError for names and weights that do not fit.
    """
    matrix = np.asarray(weights, dtype=float).copy()
    if matrix.shape != (len(names), len(names)) or not len(names):
        raise ValueError(f"{len(names)} names need weights of that size, found {matrix.shape}")
    if focus is not None and focus not in names:
        raise ValueError(f"there is no label {focus!r} in this graph")
    np.fill_diagonal(matrix, -np.inf)
    order = circle_order(weights) if order is None else list(order)
    angle = np.empty(len(names))
    angle[order] = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    place = {k: position for position, k in enumerate(order)}
    at = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (C, 2)
    figure, axes = new_figure(size=(size, size * 0.97))
    ax = axes[0, 0]
    edges = np.argwhere(matrix >= threshold).tolist()
    linked = {k for edge in edges for k in edge}
    top = max((matrix[i, j] for i, j in edges), default=1.0)
    for i, j in edges:
        shown = focus is None or focus in (names[i], names[j])
        strength = matrix[i, j] / top if top > 0 else 1.0
        bend = _bend(place[j] - place[i], len(names))
        ax.add_patch(
            FancyArrowPatch(
                tuple(at[i]), tuple(at[j]), connectionstyle=f"arc3,rad={bend:.3f}", arrowstyle="-|>",
                mutation_scale=13, shrinkA=5, shrinkB=7, linewidth=0.6 + 2.2 * strength,
                color=PALETTE[0] if shown else GREY, alpha=0.85 if shown else 0.2, zorder=2 if shown else 1,
            )
        )  # fmt: skip
    groups = list(dict.fromkeys(kinds.values())) if kinds else []
    colours = dict(zip(groups, PALETTE[1:], strict=False))
    for k, name in enumerate(names):
        colour = colours[kinds[name]] if kinds and name in kinds else PALETTE[1]
        ax.scatter(
            *at[k], s=90, color=colour if k in linked else "white", edgecolor=colour, linewidth=2, zorder=3
        )
        degrees = float(np.degrees(angle[k])) % 360
        left = 90 < degrees < 270
        ax.text(
            *(at[k] * 1.06), name, fontsize=12, rotation=degrees - 180 if left else degrees, rotation_mode="anchor",
            ha="right" if left else "left", va="center", fontweight="bold" if name == focus else "normal",
        )  # fmt: skip
    ax.set(xlim=(-1.42, 1.42), ylim=(-1.42, 1.42), title=title, aspect="equal")
    ax.set_axis_off()
    if colours:
        handles = [Patch(color=colour, label=group) for group, colour in colours.items()]
        figure.legend(
            handles=handles, frameon=False, ncols=len(handles), loc="outside lower center", fontsize=12
        )
    return figure


def _bend(steps: int, count: int) -> float:
    """How much an arrow over so many steps clockwise of `count` is bent, as `arc3` takes it.

    Arrows between labels that stand near each other bend inwards, clear of the labels between them, and there and back
    by different amounts; long ones hardly.
    """
    steps = steps % count
    clockwise = steps <= count / 2
    near = max(0.0, 1 - (min(steps, count - steps) - 1) / (count / 4))
    return 0.18 + 0.75 * near if clockwise else 0.18 - 0.55 * near


def label_matrices(
    panels: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    colour_label: str,
    xlabel: str = "",
    ylabel: str = "",
    highest: float | None = None,
    power: float = 1.0,
    columns: int | None = None,
    side: float = 5.6,
) -> Figure:
    """Matrices of labels (C, C) beside each other with one colour scale from 0; side of one in inches. Notebook 08.

    panels: title -> matrix. power: of the colour scale; 1/2 tells small weights apart. columns: of panels (default: one
    row of them). Raises ValueError for a matrix of another size.
    """
    for title, matrix in panels.items():
        if tuple(matrix.shape) != (len(names), len(names)):
            raise ValueError(f"{title}: {len(names)} names, but a matrix of {tuple(matrix.shape)}")
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(rows, columns, size=(side * columns + 1.9, side * rows + 1.4))
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    highest = max(float(matrix.max()) for matrix in panels.values()) if highest is None else highest
    norm = PowerNorm(power, vmin=0, vmax=highest)
    for k, (ax, (title, matrix)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        first, lowest = k % columns == 0, k + columns >= len(panels)
        sns.heatmap(
            np.asarray(matrix, dtype=float), ax=ax, cmap=SEQUENTIAL, norm=norm, square=True, cbar=False,
            xticklabels=list(names) if lowest else False, yticklabels=list(names) if first else False,
        )  # fmt: skip
        ax.tick_params(axis="x", rotation=90, labelsize=11)
        ax.tick_params(axis="y", rotation=0, labelsize=11)
        ax.set(title=title, xlabel=xlabel if lowest else "", ylabel=ylabel if first else "")
    bar = figure.colorbar(axes.flat[0].collections[0], ax=list(axes.flat), fraction=0.03, pad=0.02)
    bar.set_label(colour_label, fontsize=12)
    bar.ax.tick_params(labelsize=11)
    return figure
