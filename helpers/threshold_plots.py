"""Figures of thresholds: precision and recall, what each threshold gives, and what it names.

Taught in notebook 02. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from helpers.metrics import precision_recall_f1
from helpers.plots import GREY, LINES, MARKERS, PALETTE, STYLE, canvas, new_figure, to_pixels
from helpers.thresholds import apply_thresholds


def precision_recall(
    curves: Mapping[str, tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]],
    points: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    title: str,
) -> Figure:
    """Precision against recall, a line a label, and where each rule for choosing a threshold lands. Notebook 02.

    curves: name -> (recall, precision), each (T,). points: rule -> name -> (recall, precision).
    """
    figure, axes = new_figure(size=(7, 4.6))
    ax = axes[0, 0]
    for i, (name, (recall, precision)) in enumerate(curves.items()):
        ax.step(
            recall,
            precision,
            LINES[i % len(LINES)],
            where="post",
            color=PALETTE[i],
            linewidth=2.5,
            label=name,
        )
    for k, (rule, places) in enumerate(points.items()):
        for i, name in enumerate(curves):
            if name in places:
                at = places[name]
                ax.plot(*at, MARKERS[k], color=PALETTE[i], markersize=11, markeredgecolor="black", zorder=3)
        ax.plot([], [], MARKERS[k], color="white", markeredgecolor="black", markersize=10, label=rule)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.05), title=title)
    ax.legend(frameon=False, fontsize=11, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@dataclass(frozen=True)
class Sweep:
    """What each threshold gives on a split: thresholds, precision, recall and f1, (K,) float each. Notebook 02."""

    thresholds: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor

    @classmethod
    def of(cls, scores: Tensor, target: Tensor) -> Sweep:
        """All decisions together at thresholds 0.01 to 0.99.

        scores: (N, C) float in 0..1; target: (N, C) bool. For one label, pass its column as (N, 1).
        """
        thresholds = torch.arange(1, 100) / 100
        named = [apply_thresholds(scores, float(value)) for value in thresholds]
        tp = torch.stack([(mask & target).sum() for mask in named])
        predicted = torch.stack([mask.sum() for mask in named])
        return cls(thresholds, *precision_recall_f1(tp, predicted, target.sum()))


def draw_sweep(ax: Axes, sweep: Sweep, marks: Mapping[str, float], *, title: str = "") -> None:
    """Precision, recall and F1 against the threshold, with a vertical line at each of `marks` (name -> threshold)."""
    for name, line, colour in (("precision", "--", 0), ("recall", "-.", 1), ("f1", "-", 2)):
        values = np.asarray(getattr(sweep, name))
        shown = {"f1": "F1"}.get(name, name)
        ax.plot(np.asarray(sweep.thresholds), values, line, color=PALETTE[colour], linewidth=2.5, label=shown)
    for k, (name, threshold) in enumerate(marks.items()):
        ax.axvline(threshold, color="black", linewidth=1.5, linestyle=LINES[k % len(LINES)])
        ax.text(threshold, 0.02, f"{name} ", rotation=90, ha="right", va="bottom", fontsize=11)
    ax.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.03))
    ax.set_title(title, pad=24)
    # Above the axes: inside, there is no place that no curve may cross.
    ax.legend(
        frameon=False, fontsize=11, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 0.98), columnspacing=1
    )


def threshold_sweeps(sweeps: Mapping[str, Sweep], marks: Mapping[str, Mapping[str, float]]) -> Figure:
    """Precision, recall and F1 against the threshold, a panel a sweep: title -> Sweep, title -> marks. Notebook 02."""
    figure, axes = new_figure(1, len(sweeps), size=(5.2 * len(sweeps), 3.9), sharey=True)
    for ax, (title, sweep) in zip(axes[0], sweeps.items(), strict=True):
        draw_sweep(ax, sweep, marks.get(title, {}), title=title)
    return figure


def threshold_view(
    image,
    scores: Mapping[str, tuple[float, bool]],
    sweep: Sweep,
    strips: Mapping[str, Sequence[tuple[object, str, bool]]],
    *,
    threshold: float,
    titles: tuple[str, str, str],
    thumbnails: int = 6,
) -> Figure:
    """One threshold seen three ways: on an image, on a split, and in pictures of what it names. Notebook 02.

    scores:  label -> (score, whether it is true of the image), drawn as bars in this order.
    strips:  title -> (image, its title, right or not) each, a row of at most `thumbnails` framed pictures.
    titles:  of the image, the bars and the sweep.
    """
    figure = canvas(size=(10, 3.3 + 1.6 * len(strips)))
    parts = figure.subfigures(1 + len(strips), 1, height_ratios=(1.95, *(1,) * len(strips)))
    parts = np.atleast_1d(parts)
    with rc_context(STYLE):
        left, middle, right = parts[0].subplots(1, 3, width_ratios=(0.9, 1, 1.1))
        left.imshow(to_pixels(image))
        left.set_axis_off()
        left.set_title(titles[0])
        names = list(scores)
        colours = [PALETTE[2] if true else GREY for _, true in scores.values()]
        middle.barh(range(len(names)), [score for score, _ in scores.values()], color=colours)
        middle.axvline(threshold, color="black", linewidth=1.5)
        middle.set_yticks(range(len(names)), names)
        middle.invert_yaxis()
        middle.set(xlim=(0, 1), xlabel="score (green: true)", title=titles[1])
        draw_sweep(right, sweep, {"": threshold}, title=titles[2])
        for part, (title, strip) in zip(parts[1:], strips.items(), strict=True):
            places = part.subplots(1, thumbnails, squeeze=False)[0]
            for k, ax in enumerate(places):
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                if k < len(strip):
                    picture, text, is_right = strip[k]
                    ax.imshow(to_pixels(picture))
                    ax.set_title(text, fontsize=11)
                    ax.spines[:].set(visible=True, color=PALETTE[2] if is_right else PALETTE[3], linewidth=4)
            places[0].set_ylabel(title)
    return figure
