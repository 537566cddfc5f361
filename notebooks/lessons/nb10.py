"""Figures and views of notebook 10: the label graph at any threshold, and where each label looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from helpers.data.images import open_image
from helpers.encoders.crops import on_image
from helpers.plots import GREY, PALETTE, new_figure
from lessons.figures import attention_view
from lessons.views import Examples, View, choice, figure_view, image_slider, slider


def circle_order(weights: Tensor) -> list[int]:
    """The labels 0..C-1 in an order in which those with heavy arrows (C, C) are neighbours.

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
) -> Figure:
    """Labels on a circle, and an arrow i -> j for each weights[i, j] of at least the threshold.

    names: C. weights: (C, C); the diagonal is left out; the width of an arrow grows with its weight.
    order: clockwise from the top (`circle_order`); keep it while the threshold moves. kinds: name -> kind, a colour
    each. focus: a label whose arrows alone are drawn in full, the others pale.
    """
    matrix = np.asarray(weights, dtype=float).copy()
    np.fill_diagonal(matrix, -np.inf)
    order = circle_order(weights) if order is None else list(order)
    place = np.argsort(order)  # of each label on the circle
    angle = np.pi / 2 - 2 * np.pi * place / len(names)
    at = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (C, 2)
    figure, axes = new_figure(size=(7.6, 7.4))
    ax = axes[0, 0]
    edges = np.argwhere(matrix >= threshold).tolist()
    linked = {k for edge in edges for k in edge}
    top = max((matrix[i, j] for i, j in edges), default=1.0)
    for i, j in edges:
        shown = focus is None or focus in (names[i], names[j])
        style = {"color": PALETTE[0], "alpha": 0.85, "zorder": 2}
        if not shown:
            style = {"color": GREY, "alpha": 0.2, "zorder": 1}
        style["linewidth"] = 0.6 + 2.2 * (matrix[i, j] / top if top > 0 else 1.0)
        style |= {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 5, "shrinkB": 7}
        bend = f"arc3,rad={_bend(int(place[j] - place[i]), len(names)):.3f}"
        ax.add_patch(FancyArrowPatch(tuple(at[i]), tuple(at[j]), connectionstyle=bend, **style))
    groups = list(dict.fromkeys(kinds.values())) if kinds else []
    colours = dict(zip(groups, PALETTE[1:], strict=False))
    for k, name in enumerate(names):
        colour = colours[kinds[name]] if kinds and name in kinds else PALETTE[1]
        face = colour if k in linked else "white"
        ax.scatter(*at[k], s=90, color=face, edgecolor=colour, linewidth=2, zorder=3)
        degrees = float(np.degrees(angle[k])) % 360
        left = 90 < degrees < 270
        style = {"rotation": degrees - 180 if left else degrees, "ha": "right" if left else "left"}
        style["fontweight"] = "bold" if name == focus else "normal"
        ax.text(*(at[k] * 1.06), name, fontsize=12, va="center", rotation_mode="anchor", **style)
    ax.set(xlim=(-1.42, 1.42), ylim=(-1.42, 1.42), title=title, aspect="equal")
    ax.set_axis_off()
    if colours:
        handles = [Patch(color=colour, label=group) for group, colour in colours.items()]
        legend = {"frameon": False, "loc": "outside lower center", "fontsize": 12}
        figure.legend(handles=handles, ncols=len(handles), **legend)
    return figure


def _bend(steps: int, count: int) -> float:
    """How much an arrow over so many steps clockwise of `count` is bent, as `arc3` takes it.

    Arrows between labels that are near each other bend inwards, clear of the labels between them, and there and back by
    different amounts; long ones hardly.
    """
    steps = steps % count
    clockwise = steps <= count / 2
    near = max(0.0, 1 - (min(steps, count - steps) - 1) / (count / 4))
    return 0.18 + 0.75 * near if clockwise else 0.18 - 0.55 * near


def graph_figure(
    names: Sequence[str],
    prior: Tensor,
    *,
    threshold: float,
    focus: str | None = None,
    order: Sequence[int] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> tuple[Figure, str]:
    """The arrows i -> j with prior[i, j] = P(j | i) of at least the threshold, and a sentence; see `label_graph`."""
    title = f"arrows: P(to | from) of at least {threshold:g}"
    options = {"title": title, "focus": focus, "order": order, "kinds": kinds}
    figure = label_graph(names, prior, threshold=threshold, **options)
    edges = (prior >= threshold).fill_diagonal_(False)
    linked = (edges | edges.T).any(0).tolist()
    alone = [name for name, has_arrow in zip(names, linked, strict=True) if not has_arrow]
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
) -> View:
    """Move the threshold of the label graph, and pick out a label; arguments as in `graph_figure`."""
    order = circle_order(prior)
    level = slider("FloatSlider", "Threshold", value=threshold, min=0.05, max=1.0, step=0.05)
    focus = choice("Label", [("all labels", None), *((name, name) for name in sorted(names))])

    def draw(threshold: float, focus: str | None) -> tuple[Figure, str]:
        return graph_figure(names, prior, threshold=threshold, focus=focus, order=order, kinds=kinds)

    return figure_view(draw, {"threshold": level, "focus": focus}, rows=[[level, focus]])


def look_figure(
    shown: Examples,
    *,
    image: int = 0,
    label: str,
    crops: int = 0,
    bars: int = 6,
) -> tuple[Figure, str]:
    """Where one label looks in an image, and the labels with the highest scores.

    shown: the system has a `LabelDecoder`; its cells are those of one view of the encoder. crops: its level. Returns the
    figure and a sentence.
    """
    vocabulary, record, cells = shown.system.vocabulary, shown.records[image], shown.cells
    names, k = vocabulary.labels, vocabulary.encode([label])[0]
    with torch.inference_mode():
        look = shown.system.network.attend(shown.one(image))
    scores, tokens = look.logits[0].float().sigmoid().cpu(), look.attention[0, k].float().cpu()
    picture = on_image(tokens, crops, cells)  # (h * level, w * level)
    best = scores.argsort(descending=True, stable=True)[:bars].tolist()
    listed = best if k in best else [*best[:-1], k]
    figure = attention_view(
        open_image(record.path),
        picture.flatten(),
        tuple(picture.shape),
        {"": {names[i]: float(scores[i]) for i in listed}},
        highest=float(picture.max()),
        titles=(", ".join(record.labels), f"{label} looks here", "highest scores"),
        value="score",
        boxes=[box for box in record.boxes if box.label == label],
    )
    present = "" if label in record.labels else "not "
    text = f"{label} is {present}in the picture; its score is {float(scores[k]):.2f}. "
    text += f"Its largest weight is {float(tokens.max()):.2f}, equal ones would be {1 / len(tokens):.3f}."
    if crops:
        whole = float(tokens[-cells[0] * cells[1] :].sum())
        text += f" {whole:.0%} of its attention is on the whole view, the rest on tiles."
    return figure, text


def look_explorer(
    shown: Examples,
    *,
    image: int = 0,
    crops: int = 0,
) -> View:
    """Choose an image and a label, and see where the label looks, present or not; see `look_figure`."""
    position, names = image_slider(len(shown.records), image), sorted(shown.system.vocabulary.labels)
    label = choice("Label", names, next(iter(shown.records[image].labels), None))

    def draw(image: int, label: str) -> tuple[Figure, str]:
        return look_figure(shown, image=image - 1, label=label, crops=crops)

    return figure_view(draw, {"image": position, "label": label}, rows=[[position, label]])
