"""Figures of convolutions, grids and feature maps, of losses, and of labels by kind.

Taught in notebook 02. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

Figures of thresholds: precision and recall, what each threshold gives, and what it names.

Taught in notebook 02. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

An interactive view of one threshold: on an image, on a split, in pictures. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.data.images import open_image
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.metrics.label_sets import precision_recall_f1
from helpers.metrics.thresholds import apply_thresholds
from helpers.plots import (
    GREY,
    LINES,
    MARKERS,
    PALETTE,
    SEQUENTIAL,
    STYLE,
    canvas,
    draw_image,
    new_figure,
    to_pixels,
)
from lessons.views import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


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
    thumbnails: int = 6,
) -> tuple[Figure, str]:
    """One threshold on an image, on the split and in the pictures that it names; and that in a sentence. Notebook 02.

    scores: (N, C) float in 0..1 and target: (N, C) bool of the N records. label: the one that the curves and the
    pictures are about; None means all labels together, and pictures with any mistake.

    Raises ValueError for an unknown label or shapes that do not fit the records.
    """
    if scores.shape != target.shape or scores.shape != (len(records), len(vocabulary)):
        raise ValueError(
            f"{len(records)} records and {len(vocabulary)} labels need scores and target of shape "
            f"({len(records)}, {len(vocabulary)}), found {tuple(scores.shape)} and {tuple(target.shape)}"
        )
    named = apply_thresholds(scores, threshold)
    columns = slice(None) if label is None else vocabulary.encode([label])
    about, truth = scores[:, columns], target[:, columns]
    sweep = Sweep.of(about, truth)
    tp, predicted, support = ((named[:, columns] & truth).sum(), named[:, columns].sum(), truth.sum())
    precision, recall, f1 = (float(x) for x in precision_recall_f1(tp, predicted, support))

    def strip(wanted: Tensor, order: Tensor, right: Tensor) -> list[tuple[object, str, bool]]:
        found = [i for i in order.tolist() if wanted[i]][:thumbnails]
        return [(_thumbnail(records[i]), text_of(i), bool(right[i])) for i in found]

    if label is None:
        wrong_in = (named & ~target).sum(1), (target & ~named).sum(1)  # (N,): named wrongly, missed

        def text_of(i: int) -> str:
            return f"{int(wrong_in[0][i])} wrong, {int(wrong_in[1][i])} missed"

        exact = (named == target).all(1)
        strips = {
            "all right": strip(exact, torch.arange(len(records)), exact),
            "most wrong": strip(
                ~exact, (wrong_in[0] + wrong_in[1]).argsort(descending=True, stable=True), exact
            ),
        }
    else:
        score, is_named, is_true = about[:, 0], named[:, columns][:, 0], truth[:, 0]

        def text_of(i: int) -> str:
            return f"{float(score[i]):.2f}"

        best_first = score.argsort(descending=True, stable=True)
        strips = {
            "named": strip(is_named, best_first, is_true),
            "missed": strip(is_true & ~is_named, best_first, torch.zeros_like(is_true)),
        }
    best = scores[image].argsort(descending=True, stable=True)[:bars].tolist()
    subject = "all labels" if label is None else label
    figure = threshold_view(
        open_image(records[image].path),
        {vocabulary.labels[c]: (float(scores[image, c]), bool(target[image, c])) for c in best},
        sweep,
        strips,
        threshold=threshold,
        titles=(records[image].path.name, "scores of this image", f"{subject}, {len(records)} images"),
        thumbnails=thumbnails,
    )
    said = vocabulary.decode(named[image].nonzero()[:, 0].tolist())
    text = (
        f"At {threshold:.2f}, this image gets: {', '.join(said) or 'no label'}. On the split, {subject}: "
        f"precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f}."
    )
    return figure, text


def _thumbnail(record: Record, side: int = 96):
    picture = open_image(record.path)
    picture.thumbnail((side, side))
    return picture


def threshold_explorer(
    records: Sequence[Record],
    scores: Tensor,
    target: Tensor,
    vocabulary: Vocabulary,
    *,
    label: str | None = None,
    threshold: float = 0.5,
) -> VBox:
    """Move one threshold: what an image is named, precision and recall of the split, and pictures. Notebook 02.

    scores, target: as in `threshold_figure`. label: the one shown at first; None for all together.
    """
    import ipywidgets

    options = [("all labels", None)] + [(name, name) for name in vocabulary.labels]
    wanted = ipywidgets.Dropdown(options=options, value=label, description="Label")
    level = ipywidgets.FloatSlider(
        value=threshold, min=0.01, max=0.99, step=0.01, description="Threshold", continuous_update=False
    )
    position = ipywidgets.IntSlider(min=1, max=len(records), description="Image", continuous_update=False)

    def draw(label: str | None, threshold: float, position: int) -> tuple[Figure, str]:
        return threshold_figure(
            records, scores, target, vocabulary, threshold=threshold, label=label, image=position - 1
        )

    return figure_view(
        draw, {"label": wanted, "threshold": level, "position": position}, rows=[[level, wanted, position]]
    )
