"""Figures and the view of notebook 01: labels and their order, a data set image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from helpers.data.images import open_image
from helpers.data.labels import ORDERS, START_NAME, STOP_NAME, order_labels
from helpers.data.records import AnnotatedImages
from helpers.plots import GREY, MARKERS, PALETTE, draw_bars, draw_boxes, draw_image, new_figure
from lessons.figures import STARTS, STOPS, TOKEN, box
from lessons.views import View, choice, figure_view, slider


def label_scatter(
    names: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    *,
    groups: Mapping[str, Sequence[str]],
    xlabel: str,
    ylabel: str,
    title: str,
) -> Figure:
    """One point per label, both axes logarithmic; those of `groups` (name -> labels) named and coloured."""
    figure, axes = new_figure(size=(7.5, 4.8))
    ax = axes[0, 0]
    grouped = {label for labels in groups.values() for label in labels}
    shown = {"other labels": [name for name in names if name not in grouped], **groups}
    for (group, labels), colour, marker in zip(shown.items(), (GREY, *PALETTE), MARKERS, strict=False):
        at = [list(names).index(label) for label in labels]
        ax.scatter([x[i] for i in at], [y[i] for i in at], s=70, color=colour, marker=marker, label=group)
        # Names above and below in turn, from left to right: neighbours do not meet.
        for k, i in enumerate(sorted(at, key=lambda i: x[i]) if group in groups else ()):
            side, va = (8, "bottom") if k % 2 == 0 else (-8, "top")
            style = {"textcoords": "offset points", "fontsize": 12, "color": colour, "ha": "center", "va": va}
            ax.annotate(names[i], (x[i], y[i]), xytext=(0, side), **style)
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel, title=title)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    ax.margins(0.12)
    ax.legend(fontsize=11)
    return figure


def token_grid(panels: Mapping[str, Sequence[Sequence[str]]], lengths: Sequence[int]) -> Figure:
    """Sequences of token names as rows of boxes, one panel below the other.

    panels:  title -> B rows of T names; `<start>` and `<stop>` have colours of their own.
    lengths: labels of each row. Steps after the first lengths + 1 are padding, drawn pale.
    """
    if not panels or not all(len(rows) == len(lengths) > 0 for rows in panels.values()):
        raise ValueError(f"expected panels of {len(lengths)} rows each and at least one row")
    steps = max(len(row) for rows in panels.values() for row in rows)
    size = (1.5 * steps + 0.6, (0.5 * len(lengths) + 0.8) * len(panels))
    figure, axes = new_figure(len(panels), 1, size=size)
    for ax, (title, rows) in zip(axes.flat, panels.items(), strict=True):
        for i, row in enumerate(rows):
            for t, name in enumerate(row):
                colour = {START_NAME: STARTS, STOP_NAME: STOPS}.get(name, TOKEN)
                box(ax, t, i, 0.94, 0.84, name, colour if t <= lengths[i] else "#f4f4f4", linewidth=0)
        ax.set(xlim=(-0.5, steps - 0.5), ylim=(len(rows) - 0.5, -0.5), title=title)
        ax.set_xticks(range(steps), [f"step {t + 1}" for t in range(steps)])
        ax.set_yticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


def sequence_view(
    image: Any,
    labels: Sequence[str],
    values: Sequence[float],
    boxes: Sequence = (),
    *,
    title: str = "",
    xlabel: str = "training images with the label",
) -> Figure:
    """An image with its boxes beside its labels in their order, top to bottom, and `<stop>`.

    values: one number per label, drawn as a bar: training frequencies show the order.
    """
    figure, axes = new_figure(1, 2, size=(9, 4.4), width_ratios=(1, 0.9))
    draw_image(axes[0, 0], image, title)
    draw_boxes(axes[0, 0], boxes)
    ax = axes[0, 1]
    names = [f"{step}. {name}" for step, name in enumerate([*labels, STOP_NAME], start=1)]
    draw_bars(ax, names, {"": [*values, float("nan")]}, numbers="%g", slots=6)
    ax.set(xlim=(0, 1.18 * max([1, *values])), xlabel=xlabel)
    return figure


def dataset_browser(
    data: AnnotatedImages, *, split: str = "train", label: str | None = None, order: str = "rare-first"
) -> View:
    """Leaf through the images of a split: by label, with boxes, labels in one of `labels.ORDERS`.

    label: show only images with this label at first. Raises ValueError for a split without images, or a label that no image of it has.
    """
    import ipywidgets

    records, frequency = data.split(split), data.frequency()
    if not records:
        raise ValueError(f"the {split} split of {data.name} has no images to look at")
    members: dict[str | None, list[int]] = {None: list(range(len(records)))}
    for name in data.vocabulary.labels:
        members[name] = [i for i, record in enumerate(records) if name in record.labels]
    members[""] = [i for i, record in enumerate(records) if not record.labels]
    members = {name: images for name, images in members.items() if images}
    if label not in members:
        raise ValueError(
            f"no image of the {split} split has the label {label!r}: choose another, or None for all"
        )

    def name_of(key: str | None) -> str:
        return {None: "all images", "": "no labels"}.get(key, key)

    options = [(f"{name_of(key)} ({len(images):,})", key) for key, images in members.items()]
    wanted, orders = choice("Show", options, label), choice("Order", ORDERS, order)
    position = slider("IntSlider", "Image", min=1, max=len(members[label]))
    boxes = ipywidgets.Checkbox(value=True, description="boxes", indent=False)
    back = ipywidgets.Button(description="Previous", icon="arrow-left")
    forward = ipywidgets.Button(description="Next", icon="arrow-right")
    generator = torch.Generator().manual_seed(0)

    def turn(step: int) -> None:
        position.value = (position.value - 1 + step) % position.max + 1  # round the end

    def start_again(_: object) -> None:
        position.value, position.max = 1, len(members[wanted.value])

    back.on_click(lambda _: turn(-1))
    forward.on_click(lambda _: turn(1))
    wanted.observe(start_again, names="value")  # before `figure_view` observes it: the position must fit

    def draw(label: str | None, position: int, order: str, boxes: bool) -> tuple[Figure, str]:
        images = members[label]
        record = records[images[position - 1]]
        ids = data.vocabulary.encode(record.labels)
        known = {"vocabulary": data.vocabulary, "frequency": frequency, "generator": generator}
        ids = order_labels(ids, order, **known)
        names = data.vocabulary.decode(ids)
        shown = record.boxes if boxes else ()
        title = f"{split}: {record.path.name}"
        figure = sequence_view(open_image(record.path), names, frequency[ids].tolist(), shown, title=title)
        said = ", ".join(names) or "no labels"
        return figure, f"Image {position:,} of {len(images):,} ({name_of(label)}), {order}: {said}."

    controls = {"label": wanted, "position": position, "order": orders, "boxes": boxes}
    return figure_view(draw, controls, rows=[[wanted, orders, boxes], [back, forward, position]])
