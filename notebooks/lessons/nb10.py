"""Figures, tables and views of notebook 10: the label graph, labels that are told, and where each label looks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from helpers.data.images import open_image
from helpers.data.records import Record
from helpers.metrics.localization import Grade, GridSize, Look, grade
from helpers.plots import GREY, PALETTE, Frame, draw_bars, draw_image, new_figure, show
from lessons.figures import attention_gallery, attention_view
from lessons.views import View, choice, figure_view, image_slider, slider


def table(rows: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str], corner: str = "") -> None:
    """Show a Markdown table: mean ± standard deviation over the runs.

    rows: name -> for each run one number per column.
    """
    from IPython.display import Markdown, display

    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" + "|--:" * len(columns) + "|"]
    for name, runs in rows.items():
        columns_of = list(zip(*runs, strict=True))
        means = [f"{statistics.fmean(values):.1f}" for values in columns_of]
        spreads = [f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "" for values in columns_of]
        lines.append(f"| {name} | {' | '.join(a + b for a, b in zip(means, spreads, strict=True))} |")
    display(Markdown("\n".join(lines)))


def mean_ap(logits: Tensor, truth: Tensor, asked: Tensor | None = None) -> float:
    """Mean over labels of average precision, in percent: logits (N, C) of any scale, truth (N, C) of 0 and 1.

    asked: (N, C) bool, the cells that count; all by default. A label that is never true there is left out.
    """
    asked = torch.ones_like(truth, dtype=torch.bool) if asked is None else asked
    found = []
    for score, true, ask in zip(logits.T, truth.T, asked.T, strict=True):
        ranked = true[ask][score[ask].argsort(descending=True)].double()
        if ranked.any():
            precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
            found.append(float((precision * ranked).sum() / ranked.sum()))
    return 100 * statistics.fmean(found)


# ---------------------------------------------------------------- the graph


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
    figure, axes = new_figure(size=(8.6, 6.3))
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
        ax.text(*(at[k] * 1.06), name, fontsize=13, va="center", rotation_mode="anchor", **style)
    ax.set(xlim=(-1.42, 1.42), ylim=(-1.4, 1.52), aspect="equal")
    ax.set_title(title, fontsize=14)
    ax.set_axis_off()
    if colours:
        handles = [Patch(color=colour, label=group) for group, colour in colours.items()]
        figure.legend(handles=handles, frameon=False, loc="outside right upper", fontsize=13)
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
    title = f"An arrow from i to j: P(j | i) is at least {threshold:g}"
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


# ---------------------------------------------------------------- labels that are told


Answer = Callable[[Tensor, Tensor], Tensor]  # features (1, D), known (1, C) of -1, 0, 1 -> logits (1, C)


def told_figure(
    answer: Answer,
    features: Tensor,
    records: Sequence[Record],
    names: Sequence[str],
    *,
    image: int,
    told: Mapping[str, bool],
    bars: int = 6,
) -> tuple[Figure, str]:
    """What a network says of an image before and after it is told some labels, and a sentence.

    features: (N, D). told: label -> whether it is there. bars: the labels that change most.
    """
    known, record = torch.zeros(1, len(names)), records[image]
    for name, there in told.items():
        known[0, list(names).index(name)] = 1.0 if there else -1.0
    with torch.inference_mode():
        before, after = (answer(features[image : image + 1], k)[0].sigmoid() for k in (known * 0, known))
    change = (after - before).abs().masked_fill(known[0] != 0, -1.0)
    shown = change.argsort(descending=True, stable=True)[:bars].tolist()
    figure, axes = new_figure(1, 2, size=(9.4, 4.3), width_ratios=(1, 1.2))
    left, right = axes[0]
    draw_image(left, open_image(record.path), ", ".join(record.labels))
    series = {"nothing known": [float(before[c]) for c in shown], "told": [float(after[c]) for c in shown]}
    draw_bars(right, [names[c] for c in shown], series, share=True)
    said = ", ".join(f"{name}: {'yes' if there else 'no'}" for name, there in told.items()) or "nothing"
    right.set(xlabel="score", title=f"told: {said}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=12)
    moves = ", ".join(f"{names[c]} {float(before[c]):.2f} to {float(after[c]):.2f}" for c in shown[:3])
    return figure, f"In the picture: {', '.join(record.labels)}. Told: {said}. Largest changes: {moves}."


def told_view(
    answer: Answer,
    features: Tensor,
    records: Sequence[Record],
    names: Sequence[str],
    *,
    image: int,
    label: str,
) -> View:
    """Choose an image and tell the network of two labels whether they are there; see `told_figure`."""
    position, nothing = image_slider(len(records), image), ("-", None)
    options = [nothing, *((name, name) for name in sorted(names))]
    first, second = choice("Label", options, label), choice("and", options)
    yes, too = (choice("is", [("there", True), ("not there", False)]) for _ in range(2))

    def draw(image: int, first: str | None, yes: bool, second: str | None, too: bool) -> tuple[Figure, str]:
        told = {name: there for name, there in ((first, yes), (second, too)) if name is not None}
        return told_figure(answer, features, records, names, image=image - 1, told=told)

    controls = {"image": position, "first": first, "yes": yes, "second": second, "too": too}
    return figure_view(draw, controls, rows=[[position], [first, yes, second, too]])


# ---------------------------------------------------------------- where labels look


def points(attention: Tensor, records: Sequence[Record], names: Sequence[str], cells: GridSize) -> Grade:
    """How well the maps (N, C, L) of the labels that are there look at their boxes."""
    looks = []
    for n, record in enumerate(records):
        looks += [Look(n, name, attention[n, list(names).index(name)]) for name in record.labels]
    return grade(looks, records, cells).all


def show_looks(
    attention: Tensor,
    logits: Tensor,
    records: Sequence[Record],
    names: Sequence[str],
    cells: GridSize,
    *,
    images: Sequence[int],
) -> None:
    """Show where the labels of some images look, a panel per label: attention (N, C, L), logits (N, C)."""
    panels = []
    for n in images:
        for name in records[n].labels:
            c, boxes = list(names).index(name), [box for box in records[n].boxes if box.label == name]
            frame = Frame(attention[n, c], name, float(logits[n, c].sigmoid()), True, boxes)
            panels.append((open_image(records[n].path), frame))
    figure = attention_gallery(panels, cells)
    text = "; ".join(", ".join(records[n].labels) for n in images)
    show(figure, alt=f"Where each label looks, a panel per label of {len(images)} images ({text}).")


def look_figure(
    attention: Tensor,
    logits: Tensor,
    records: Sequence[Record],
    names: Sequence[str],
    cells: GridSize,
    *,
    image: int,
    label: str,
    bars: int = 6,
) -> tuple[Figure, str]:
    """Where one label looks in an image, the labels with the highest scores, and a sentence.

    attention: (N, C, L), logits: (N, C), of the N records.
    """
    record, c = records[image], list(names).index(label)
    scores, weights = logits[image].sigmoid(), attention[image, c]
    best = scores.argsort(descending=True, stable=True)[:bars].tolist()
    listed = best if c in best else [*best[:-1], c]
    figure = attention_view(
        open_image(record.path),
        weights,
        cells,
        {"": {names[i]: float(scores[i]) for i in listed}},
        highest=float(weights.max()),
        titles=(", ".join(record.labels), f"{label} looks here", "highest scores"),
        value="score",
        boxes=[box for box in record.boxes if box.label == label],
    )
    present = "" if label in record.labels else "not "
    text = f"{label} is {present}in the picture; its score is {float(scores[c]):.2f}. "
    text += f"Its largest weight is {float(weights.max()):.2f}; equal weights are {1 / len(weights):.3f}."
    return figure, text


def look_explorer(
    attention: Tensor,
    logits: Tensor,
    records: Sequence[Record],
    names: Sequence[str],
    cells: GridSize,
    *,
    image: int = 0,
) -> View:
    """Choose an image and a label, and see where the label looks, present or not; see `look_figure`."""
    position = image_slider(len(records), image)
    label = choice("Label", sorted(names), next(iter(records[image].labels), None))

    def draw(image: int, label: str) -> tuple[Figure, str]:
        return look_figure(attention, logits, records, names, cells, image=image - 1, label=label)

    return figure_view(draw, {"image": position, "label": label}, rows=[[position, label]])
