"""Figures and the view of notebook 02: kernels, feature maps, labels by kind, thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from helpers.data.images import open_image
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.metrics.label_sets import precision_recall_f1
from helpers.metrics.thresholds import apply_thresholds
from helpers.plots import (
    DPI,
    GREY,
    LINES,
    MARKERS,
    PALETTE,
    SEQUENTIAL,
    STYLE,
    draw_bars,
    draw_image,
    new_figure,
    to_pixels,
)
from lessons.views import View, choice, figure_view, image_slider, slider


def kernel_responses(
    image: Tensor | np.ndarray,
    kernels: Mapping[str, Tensor | np.ndarray],
    responses: Sequence[Tensor | np.ndarray],
) -> Figure:
    """An image, small kernels with their numbers, and under each its response to the image.

    image: (3, H, W) float in 0..1. kernels: name -> (k, k). responses: one (h, w) per kernel; 0 is drawn grey.
    """
    columns = 1 + len(kernels)
    figure, axes = new_figure(2, columns, size=(2.6 * columns, 4.6), height_ratios=(0.62, 1))
    for ax in axes.flat:
        ax.set_axis_off()
    draw_image(axes[1, 0], image, "image")
    for (name, kernel), response, top, bottom in zip(
        kernels.items(), responses, axes[0, 1:], axes[1, 1:], strict=True
    ):
        kernel, response = np.asarray(kernel, dtype=float), np.asarray(response, dtype=float)
        top.imshow(kernel, cmap=SEQUENTIAL, vmin=-2, vmax=2)
        for (i, j), value in np.ndenumerate(kernel):
            colour = "black" if value > 0 else "white"
            top.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=12, color=colour)
        top.set_title(name)
        largest = max(np.abs(response).max(), 1e-9)
        bottom.imshow(response, cmap="gray", vmin=-largest, vmax=largest)
    return figure


def feature_maps(
    images: Sequence[Any],
    maps: Tensor | np.ndarray,
    *,
    rows: Sequence[str],
    boxes: Sequence[Sequence[Sequence]] | None = None,
) -> Figure:
    """Maps over images: one row per channel (or label), one column per image, colours comparable along a row.

    images: N images. maps: (R, N, h, w) float. rows: R names.
    boxes: boxes[r][n] are the boxes (`records.Box`, pixels of the image) to draw there.
    """
    maps = np.asarray(maps, dtype=float)
    figure, axes = new_figure(len(rows), len(images), size=(1.9 * len(images) + 1.1, 1.9 * len(rows) + 0.3))
    for r, row in enumerate(axes):
        low, high = min(0.0, maps[r].min()), max(maps[r].max(), 1e-9)
        for n, ax in enumerate(row):
            pixels = to_pixels(images[n])
            ax.imshow(pixels.mean(axis=2), cmap="gray")
            extent = (-0.5, pixels.shape[1] - 0.5, pixels.shape[0] - 0.5, -0.5)
            style = {"cmap": SEQUENTIAL, "vmin": low, "vmax": high, "alpha": 0.62, "interpolation": "nearest"}
            drawn = ax.imshow(maps[r, n], extent=extent, **style)
            for box in boxes[r][n] if boxes is not None else ():
                corner, style = (box.x - 0.5, box.y - 0.5), {"edgecolor": "white", "linewidth": 2.5}
                ax.add_patch(Rectangle(corner, box.width, box.height, fill=False, **style))
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(rows[r], fontsize=13)
        figure.colorbar(drawn, ax=list(row), label="activation", shrink=0.9, pad=0.01)
    return figure


def bars_by_kind(
    groups: Mapping[str, Mapping[str, float]],
    *,
    xlabel: str,
    title: str,
    errors: Mapping[str, tuple[float, float]] | None = None,
    marked: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Horizontal bars of labels, one panel per kind (kind -> label -> value between 0 and 1).

    errors: label -> (lowest, highest) value, drawn as a line. marked: name of a set -> its labels, in a colour.
    """
    most = max(map(len, groups.values()))
    figure, axes = new_figure(1, len(groups), size=(3.9 * len(groups), 0.25 * most + 1.6))
    sets = dict(zip(["other labels", *(marked or {})], PALETTE, strict=False))
    colours = {label: sets[name] for name, labels in (marked or {}).items() for label in labels}
    for ax, (name, values) in zip(axes[0], groups.items(), strict=True):
        own = [colours.get(label, PALETTE[0]) for label in values]
        draw_bars(
            ax, list(values), {"": list(values.values())}, colours=[own], numbers="", slots=most, share=True
        )
        for i, label in enumerate(values):
            if errors and label in errors:
                ax.plot(errors[label], (i, i), color="black", linewidth=2)
        ax.set(title=name, xlabel=xlabel)
    if marked:
        handles = [Patch(color=colour, label=name) for name, colour in sets.items()]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=len(sets), frameon=False, fontsize=11
        )
    figure.suptitle(title, fontsize=13)
    return figure


def precision_recall(
    curves: Mapping[str, tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]],
    points: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    title: str,
) -> Figure:
    """Precision against recall, one line per label, and the point that each rule for a threshold chooses.

    curves: name -> (recall, precision), each (T,). points: rule -> name -> (recall, precision).
    """
    figure, axes = new_figure(size=(7, 4.6))
    ax = axes[0, 0]
    for i, (name, (recall, precision)) in enumerate(curves.items()):
        line, colour = LINES[i % len(LINES)], PALETTE[i]
        ax.step(recall, precision, line, where="post", color=colour, linewidth=2.5, label=name)
    for marker, (rule, places) in zip(MARKERS, points.items(), strict=False):
        for i, name in enumerate(curves):
            if name in places:
                style = {"markersize": 11, "markeredgecolor": "black", "zorder": 3}
                ax.plot(*places[name], marker, color=PALETTE[i], **style)
        ax.plot([], [], marker, color="white", markeredgecolor="black", markersize=10, label=rule)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.05), title=title)
    ax.legend(frameon=False, fontsize=11, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


# ---------------------------------------------------------------- thresholds


@dataclass(frozen=True)
class Sweep:
    """What each threshold gives on a split: thresholds, precision, recall and f1, (K,) float each."""

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
    shown = {"precision": sweep.precision, "recall": sweep.recall, "F1": sweep.f1}
    for (name, values), line, colour in zip(shown.items(), ("--", "-.", "-"), PALETTE, strict=False):
        ax.plot(np.asarray(sweep.thresholds), values, line, color=colour, linewidth=2.5, label=name)
    for k, (name, threshold) in enumerate(marks.items()):
        ax.axvline(threshold, color="black", linewidth=1.5, linestyle=LINES[k % len(LINES)])
        ax.text(threshold, 0.02, f"{name} ", rotation=90, ha="right", va="bottom", fontsize=11)
    ax.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.03))
    ax.set_title(title, pad=24)
    # Above the axes: inside, curves may cross every place.
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.98), "columnspacing": 1}
    ax.legend(frameon=False, fontsize=11, ncols=3, **place)


def threshold_sweeps(sweeps: Mapping[str, Sweep], marks: Mapping[str, Mapping[str, float]]) -> Figure:
    """Precision, recall and F1 against the threshold, one panel per sweep: title -> Sweep, title -> marks."""
    figure, axes = new_figure(1, len(sweeps), size=(5.2 * len(sweeps), 3.9), sharey=True)
    for ax, (title, sweep) in zip(axes[0], sweeps.items(), strict=True):
        draw_sweep(ax, sweep, marks.get(title, {}), title=title)
    return figure


THUMBNAILS = 6  # pictures in a row


def threshold_figure(
    records: Sequence[Record],
    scores: Tensor,
    target: Tensor,
    vocabulary: Vocabulary,
    *,
    threshold: float,
    label: str | None = None,
    image: int = 0,
    bars: int = 8,
) -> tuple[Figure, str]:
    """One threshold on an image, on the split and in the pictures that it names; and that in a sentence.

    scores: (N, C) float in 0..1 and target: (N, C) bool of the N records. label: the one that the curves and the
    pictures are about; None means all labels together, and pictures with any mistake. Right ones have a green frame.

    Raises ValueError for an unknown label or shapes that do not fit the records.
    """
    if scores.shape != target.shape or scores.shape != (len(records), len(vocabulary)):
        raise ValueError(
            f"{len(records)} records and {len(vocabulary)} labels need scores and target of shape "
            f"({len(records)}, {len(vocabulary)}), found {tuple(scores.shape)} and {tuple(target.shape)}"
        )
    columns = list(range(len(vocabulary))) if label is None else vocabulary.encode([label])
    about, truth = scores[:, columns], target[:, columns]
    named = apply_thresholds(scores, threshold)
    chosen = named[:, columns]  # (N, 1) or (N, C), like `about` and `truth`
    wrong, missed = (chosen & ~truth).sum(1), (truth & ~chosen).sum(1)  # (N,)
    right = wrong + missed == 0
    if label is None:
        texts = [f"{int(a)} wrong, {int(b)} missed" for a, b in zip(wrong, missed, strict=True)]
        order = (wrong + missed).argsort(descending=True, stable=True).tolist()
        rows = {"all right": right, "most wrong": ~right}
    else:
        texts = [f"{float(score):.2f}" for score in about[:, 0]]
        order = about[:, 0].argsort(descending=True, stable=True).tolist()
        rows = {"named": chosen[:, 0], "missed": missed > 0}

    top = [name for name in ("image", "scores", "sweep") for _ in range(THUMBNAILS // 3)]
    places = [top, *([f"{title} {k}" for k in range(THUMBNAILS)] for title in rows)]
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 6.5), dpi=DPI, layout="constrained")
        axes = figure.subplot_mosaic(places, height_ratios=(1.95, 1, 1))
    draw_image(axes["image"], open_image(records[image].path), records[image].path.name)
    best = scores[image].argsort(descending=True, stable=True)[:bars]
    colours = [PALETTE[2] if true else GREY for true in target[image, best]]
    values = {"": scores[image, best].tolist()}
    draw_bars(axes["scores"], vocabulary.decode(best), values, colours=[colours], numbers="", share=True)
    axes["scores"].axvline(threshold, color="black", linewidth=1.5)
    axes["scores"].set(xlabel="score (green: true)", title="scores of this image")
    subject = "all labels" if label is None else label
    draw_sweep(
        axes["sweep"], Sweep.of(about, truth), {"": threshold}, title=f"{subject}, {len(records)} images"
    )
    for title, members in rows.items():
        shown = [i for i in order if members[i]]
        for k in range(THUMBNAILS):
            ax = axes[f"{title} {k}"]
            ax.set(xticks=[], yticks=[], ylabel=title if k == 0 else "")
            ax.spines[:].set_visible(k < len(shown))
            if k < len(shown):
                picture = open_image(records[shown[k]].path)
                picture.thumbnail((96, 96))
                ax.imshow(picture)
                ax.set_title(texts[shown[k]], fontsize=11)
                ax.spines[:].set(color=PALETTE[2] if right[shown[k]] else PALETTE[3], linewidth=4)
    said = vocabulary.decode(named[image].nonzero()[:, 0].tolist())
    counts = (chosen & truth).sum(), chosen.sum(), truth.sum()
    precision, recall, f1 = (float(x) for x in precision_recall_f1(*counts))
    text = (
        f"At {threshold:.2f}, this image gets: {', '.join(said) or 'no label'}. On the split, {subject}: "
        f"precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f}."
    )
    return figure, text


def threshold_explorer(
    records: Sequence[Record],
    scores: Tensor,
    target: Tensor,
    vocabulary: Vocabulary,
    *,
    label: str | None = None,
    threshold: float = 0.5,
) -> View:
    """Move one threshold: what an image is named, precision and recall of the split, and pictures.

    scores, target: as in `threshold_figure`. label: the one shown at first; None for all together.
    """
    options = [("all labels", None)] + [(name, name) for name in vocabulary.labels]
    wanted, position = choice("Label", options, label), image_slider(len(records))
    level = slider("FloatSlider", "Threshold", value=threshold, min=0.01, max=0.99, step=0.01)

    def draw(label: str | None, threshold: float, position: int) -> tuple[Figure, str]:
        chosen = {"threshold": threshold, "label": label, "image": position - 1}
        return threshold_figure(records, scores, target, vocabulary, **chosen)

    controls = {"label": wanted, "threshold": level, "position": position}
    return figure_view(draw, controls, rows=[[level, wanted, position]])
