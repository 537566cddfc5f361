"""Figures of a label graph: labels on a circle with arrows, and matrices of labels side by side.

Taught in notebook 08. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

Interactive views of labels that know each other: the graph at any threshold, and what each label looks at.

Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.records import Record
from helpers.encoders.crops import on_image
from helpers.metrics.localization import GridSize
from helpers.plots import GREY, PALETTE, SEQUENTIAL, new_figure
from helpers.systems.classifier import ScoringSystem
from lessons.nb04 import attention_view
from lessons.views import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


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


def graph_figure(
    names: Sequence[str],
    prior: Tensor,
    *,
    threshold: float,
    focus: str | None = None,
    order: Sequence[int] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> tuple[Figure, str]:
    """The arrows i -> j with prior[i, j] = P(j | i) of at least the threshold, and a sentence. Notebook 08.

    Arguments as in `graph_plots.label_graph`.
    """
    title = f"arrows: P(to | from) of at least {threshold:g}"
    figure = label_graph(
        names, prior, threshold=threshold, title=title, focus=focus, order=order, kinds=kinds
    )
    edges = (prior >= threshold).fill_diagonal_(False)
    alone = [
        name for name, linked in zip(names, (edges | edges.T).any(0).tolist(), strict=True) if not linked
    ]
    count = int(edges.sum())
    text = f"{count} arrow{'' if count == 1 else 's'}; without any: {', '.join(alone) or 'none'}."
    if focus is not None:
        k = list(names).index(focus)
        out = [f"{names[j]} ({float(prior[k, j]):.2f})" for j in edges[k].nonzero().flatten().tolist()]
        into = [f"{names[i]} ({float(prior[i, k]):.2f})" for i in edges[:, k].nonzero().flatten().tolist()]
        text += f" Arrows from {focus}: {', '.join(out) or 'none'}."
        text += f" Arrows to {focus}: {', '.join(into) or 'none'}."
    return figure, text


def graph_explorer(
    names: Sequence[str], prior: Tensor, *, threshold: float = 0.4, kinds: Mapping[str, str] | None = None
) -> VBox:
    """Move the threshold of the label graph, and pick out a label. Notebook 08; arguments as in `graph_figure`."""
    import ipywidgets

    order = circle_order(prior)
    wide = {"description_width": "initial"}
    slider = ipywidgets.FloatSlider(
        value=threshold,
        min=0.05,
        max=1.0,
        step=0.05,
        description="Threshold",
        continuous_update=False,
        style=wide,
    )
    options = [("all labels", None), *((name, name) for name in sorted(names))]
    focus = ipywidgets.Dropdown(options=options, description="Label", style=wide)

    def draw(threshold: float, focus: str | None) -> tuple[Figure, str]:
        return graph_figure(names, prior, threshold=threshold, focus=focus, order=order, kinds=kinds)

    return figure_view(draw, {"threshold": slider, "focus": focus}, rows=[[slider, focus]])


def look_figure(
    system: ScoringSystem,
    records: Sequence[Record],
    features: Features,
    cells: GridSize,
    *,
    image: int = 0,
    label: str,
    crops: int = 0,
    bars: int = 6,
) -> tuple[Figure, str]:
    """What one label looks at in an image, and the labels with the highest scores. Notebook 08.

    system: with a `LabelDecoder`, in eval mode. features: of the records, as from the encoder (N images). cells: (h, w) of
    a view of the encoder, crops: its level. Returns the figure and a sentence.
    """
    names, record = system.vocabulary.labels, records[image]
    k = system.vocabulary.encode([label])[0]
    device = next(system.parameters()).device
    with torch.inference_mode():
        look = system.network.attend(features.select(torch.tensor([image])).to(device))
    scores, tokens = look.logits[0].float().sigmoid().cpu(), look.attention[0, k].float().cpu()
    picture = on_image(tokens, crops, cells)  # (h * level, w * level)
    best = scores.argsort(descending=True, stable=True)[:bars].tolist()
    shown = best if k in best else [*best[:-1], k]
    present = label in record.labels
    figure = attention_view(
        open_image(record.path),
        picture.flatten(),
        tuple(picture.shape),
        {"": {names[i]: float(scores[i]) for i in shown}},
        highest=float(picture.max()),
        titles=(", ".join(record.labels), f"{label} looks here", "highest scores"),
        value="score",
        boxes=[box for box in record.boxes if box.label == label],
    )
    text = f"{label} is {'' if present else 'not '}in the picture; its score is {float(scores[k]):.2f}. "
    text += f"Its largest weight is {float(tokens.max()):.2f}, equal ones would be {1 / len(tokens):.3f}."
    if crops:
        whole = float(tokens[-cells[0] * cells[1] :].sum())
        text += f" {whole:.0%} of its attention is on the whole view, the rest on tiles."
    return figure, text


def look_explorer(
    system: ScoringSystem,
    records: Sequence[Record],
    features: Features,
    cells: GridSize,
    *,
    image: int = 0,
    crops: int = 0,
) -> VBox:
    """Choose an image and a label, and see where the label looks, whether it is there or not. Notebook 08.

    Arguments as in `look_figure`.
    """
    import ipywidgets

    wide = {"description_width": "initial"}
    position = ipywidgets.IntSlider(
        value=image + 1, min=1, max=len(records), description="Image", continuous_update=False
    )
    names = system.vocabulary.labels
    first = records[image].labels[0] if records[image].labels else names[0]
    label = ipywidgets.Dropdown(options=sorted(names), value=first, description="Label", style=wide)

    def draw(image: int, label: str) -> tuple[Figure, str]:
        return look_figure(system, records, features, cells, image=image - 1, label=label, crops=crops)

    return figure_view(draw, {"image": position, "label": label}, rows=[[position, label]])
