"""Figures of searches and of what they find: the tree of a beam, systems in order, calibration. Taught in notebook 06.

As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from helpers.intervals import Interval
from helpers.plots import LINES, MARKERS, PALETTE, draw_image, new_figure
from helpers.search_tree import ROOT, SearchTree

WINNER, GREEDY = PALETTE[0], PALETTE[1]
FACES = {"live": "#ffffff", "ended": "#f8e3b5", "cut": "#e6e6e6", "hopeless": "#e6e6e6", "alone": "#ffffff"}
FAINT = "#8a8a8a"


def tree(
    found: SearchTree, names: Sequence[str], image=None, *, true: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """A beam search as a tree from left to right, a column a step; the winner and greedy search stand out. Notebook 06.

    names: of every token, `<start>` too. image: drawn beside it. true: the image's labels; others get a cross.
    """
    heights = _heights(found)
    steps = max(branch.step for branch in found.branches)
    rows = max(heights.values()) + 1
    size = (2.1 * steps + 1.2, max(3.9, 0.34 * rows + 1.1))
    if image is None:
        figure, axes = new_figure(size=size)
    else:
        figure, axes = new_figure(1, 2, size=(size[0] + 2.6, size[1]), width_ratios=(2.4, size[0]))
        draw_image(axes[0, 0], image)
    ax = axes[0, -1]
    ends = {i: (2.1 * branch.step, heights[i]) for i, branch in enumerate(found.branches)}
    _edges(ax, found, ends)
    for i, branch in enumerate(found.branches):
        name = names[branch.token]
        wrong = true is not None and name not in true and not name.startswith("<")
        text = (
            name
            if i == ROOT
            else f"{name}{' ✗' if wrong else ''}  {_short(math.exp(branch.log_probability))}"
        )
        faint = branch.fate in ("cut", "hopeless")
        edge = WINNER if i == found.best else FAINT if faint else "black"
        edge = GREEDY if branch.fate == "alone" else edge
        box = {"boxstyle": "round,pad=0.25", "facecolor": FACES[branch.fate], "edgecolor": edge}
        box["linewidth"] = 2.5 if i == found.best else 1
        colour = "#595959" if faint else "black"
        ax.text(*ends[i], text, fontsize=11, ha="center", va="center", color=colour, bbox=box, zorder=3)
    ax.set(xlim=(-0.7, 2.1 * steps + 0.9), ylim=(rows - 0.3, -1.4))
    for step in range(1, steps + 1):
        ax.text(2.1 * step, -1.0, f"step {step}", fontsize=12, ha="center", va="center")
    ax.set_axis_off()
    figure.suptitle(title, fontsize=13)
    figure.legend(
        handles=_legend(),
        loc="outside lower center",
        ncols=3 if figure.get_figwidth() > 9 else 2,
        frameon=False,
        fontsize=11,
    )
    return figure


def _short(p: float) -> str:
    """A probability with two digits that say something."""
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}" if p >= 0.0095 else f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def _heights(found: SearchTree) -> dict[int, float]:
    """Rows of the branches: a leaf has one of its own, the others stand in the middle of what follows them."""
    children: dict[int, list[int]] = {}
    for i, branch in enumerate(found.branches):
        children.setdefault(branch.parent, []).append(i)
    heights: dict[int, float] = {}

    def place(i: int) -> None:
        mine = children.get(i, [])
        for child in mine:
            place(child)
        inner = [heights[child] for child in mine]
        heights[i] = (inner[0] + inner[-1]) / 2 if inner else float(sum(j not in children for j in heights))

    place(ROOT)
    return heights


def _edges(ax: Axes, found: SearchTree, ends: Mapping[int, tuple[float, float]]) -> None:
    """A line to every branch; the winner's and those of greedy search on top."""
    thin, thick, dashed = (
        {"color": FAINT, "lw": 1},
        {"color": WINNER, "lw": 5, "alpha": 0.55},
        {"color": GREEDY, "lw": 2.2, "ls": "--"},
    )
    layers = (
        (range(1, len(found.branches)), thin, 1),
        (found.path(found.best), thick, 1.1),
        (found.greedy, dashed, 1.2),
    )
    for places, style, order in layers:
        for i in places:
            (x, y), (u, v) = ends[found.branches[i].parent], ends[i]
            middle = u - 0.85  # flat to a point in front of the box, so that lines do not run under boxes
            ax.plot([x, x + 0.55, middle, u], [y, y, v, v], zorder=order, **style)


def _legend() -> list[Any]:
    def face(fate: str, text: str, edge: str = "black") -> Patch:
        return Patch(facecolor=FACES[fate], edgecolor=edge, label=text)

    return [
        Line2D([], [], color=WINNER, lw=5, alpha=0.55, label="most probable sequence found"),
        Line2D([], [], color=GREEDY, lw=2.2, ls="--", label="greedy search"),
        face("alone", "greedy search, after the beam left it", GREEDY),
        face("live", "goes on"),
        face("ended", "complete: a candidate"),
        face("cut", "given up", FAINT),
    ]


def leaderboard(
    systems: Mapping[str, Mapping[str, Interval]],
    seeds: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
) -> Figure:
    """Systems as rows, a panel a metric: a dot with its interval over the images, rings for training seeds. Notebook 06.

    systems: name -> metric -> interval; all with the same metrics. seeds: name -> metric -> values of all seeds.
    """
    metrics = list(next(iter(systems.values())))
    figure, axes = new_figure(
        1, len(metrics), size=(3.7 * len(metrics) + 1.4, 1.9 + 0.46 * len(systems)), sharey=True
    )
    for ax, metric in zip(axes[0], metrics, strict=True):
        for row, (name, values) in enumerate(systems.items()):
            one = values[metric]
            ax.plot(
                [100 * one.low, 100 * one.high], [row, row], color=PALETTE[0], lw=3, solid_capstyle="butt"
            )
            ax.plot(100 * one.value, row, "o", color=PALETTE[0], markersize=8)
            others = [100 * value for value in seeds[name][metric]]
            ax.plot(
                others, [row + 0.3] * len(others), "o", color="black", markerfacecolor="white", markersize=5
            )
        ax.set(xlabel=f"{metric.replace('_', ' ')} (percent)", ylim=(len(systems) - 0.5, -0.5))
        ax.grid(axis="x", color="0.88")
        ax.set_axisbelow(True)
    axes[0, 0].set_yticks(range(len(systems)), list(systems))
    handles = [
        Line2D(
            [],
            [],
            color=PALETTE[0],
            lw=3,
            marker="o",
            markersize=8,
            label="first seed, 95 % of the draws of images",
        ),
        Line2D(
            [],
            [],
            color="black",
            marker="o",
            markerfacecolor="white",
            ls="",
            markersize=5,
            label="one training seed",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    figure.suptitle(title, fontsize=13)
    return figure


def reliability(systems: Mapping[str, dict[str, Any]], *, title: str, columns: int = 3) -> Figure:
    """Share of cases that are right against the probability that was claimed, a panel a system. Notebook 06.

    systems: name -> what `evaluation.calibration` returns. The area of a dot grows with its cases.
    """
    rows = -(-len(systems) // columns)
    figure, axes = new_figure(rows, columns, size=(4.1 * columns, 3.9 * rows + 0.4), sharex=True, sharey=True)
    for k, ax in enumerate(axes.flat):
        if k >= len(systems):
            ax.set_axis_off()
            continue
        name, found = list(systems.items())[k]
        ax.plot([0, 1], [0, 1], color="0.6", linestyle="--")
        bins = found["bins"]
        x, y = [b["probability"] for b in bins], [b["correct"] for b in bins]
        ax.plot(x, y, color=PALETTE[0], lw=1.5)
        ax.scatter(
            x, y, s=[20 + 500 * b["cases"] / found["cases"] for b in bins], color=PALETTE[0], alpha=0.75
        )
        text = f"claims {found['probability']:.2f}\nright {found['correct']:.2f}\nerror {found['error']:.2f}"
        ax.text(0.04, 0.96, text, fontsize=11, va="top", transform=ax.transAxes)
        ax.set(title=name, xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        if k // columns == rows - 1:
            ax.set_xlabel("probability claimed")
        if k % columns == 0:
            ax.set_ylabel("share exactly right")
    figure.suptitle(title, fontsize=13)
    return figure


def optimism(
    number: Sequence[int],
    reported: Mapping[str, Sequence[float]],
    worth: Mapping[str, Sequence[float]],
    *,
    ylabel: str,
    title: str,
) -> Figure:
    """What the best of k candidates claims where it was chosen (solid), and is worth elsewhere (dashed). Notebook 06.

    number: k, ascending. reported, worth: who chose -> a value for every k.
    """
    figure, axes = new_figure(size=(7.5, 4.3))
    ax = axes[0, 0]
    for i, name in enumerate(reported):
        for values, line, what in (
            (reported[name], LINES[0], "reported"),
            (worth[name], LINES[1], "on other images"),
        ):
            ax.plot(number, values, line, color=PALETTE[i], marker=MARKERS[i], label=f"{name}: {what}")
    ax.set_xscale("log")
    ax.set_xticks(number, [str(k) for k in number])
    ax.minorticks_off()
    ax.set(xlabel="candidates to choose from", ylabel=ylabel, title=title)
    ax.legend(frameon=False, fontsize=11, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
