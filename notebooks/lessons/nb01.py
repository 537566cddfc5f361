"""Figures of labels and their order: how frequent and how large, as sequences, beside their image.

Taught in notebook 01. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

An interactive view of a data set, image by image. Taught in notebook 01.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from helpers.data.images import open_image
from helpers.data.labels import ORDERS, order_labels
from helpers.data.records import AnnotatedImages
from helpers.plots import GREY, MARKERS, PALETTE, draw_boxes, draw_image, ink, new_figure
from lessons.views import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


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
    """A point a label, both axes logarithmic; those of `groups` (name -> labels) named and coloured. Notebook 01."""
    if not len(names):
        raise ValueError("there are no labels to draw")
    figure, axes = new_figure(size=(7.5, 4.8))
    ax = axes[0, 0]
    grouped = {label for labels in groups.values() for label in labels}
    shown = {"other labels": [name for name in names if name not in grouped], **groups}
    for (group, labels), colour, marker in zip(shown.items(), (GREY, *PALETTE), MARKERS, strict=False):
        at = [list(names).index(label) for label in labels]
        ax.scatter([x[i] for i in at], [y[i] for i in at], s=70, color=colour, marker=marker, label=group)
        # Names above and below in turn, from left to right: neighbours do not meet.
        for k, i in enumerate(sorted(at, key=lambda i: x[i]) if group in groups else ()):
            above = k % 2 == 0
            ax.annotate(
                names[i],
                (x[i], y[i]),
                xytext=(0, 8 if above else -8),
                textcoords="offset points",
                fontsize=12,
                color=colour,
                ha="center",
                va="bottom" if above else "top",
            )
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel, title=title)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    ax.margins(0.12)
    ax.legend(fontsize=11)
    return figure


def token_grid(panels: Mapping[str, Sequence[Sequence[str]]], lengths: Sequence[int]) -> Figure:
    """Sequences of token names as rows of cells, a panel below the other. Notebooks 01 and 03.

    panels:  title -> B rows of T names; `<start>` and `<stop>` have colours of their own.
    lengths: labels of each row. Steps after the first lengths + 1 are padding, drawn pale.
    """
    if not panels or not all(len(rows) == len(lengths) > 0 for rows in panels.values()):
        raise ValueError(f"expected panels of {len(lengths)} rows each and at least one row")
    steps = max(len(row) for rows in panels.values() for row in rows)
    figure, axes = new_figure(
        len(panels), 1, size=(1.5 * steps + 0.6, (0.5 * len(lengths) + 0.8) * len(panels))
    )
    for ax, (title, rows) in zip(axes.flat, panels.items(), strict=True):
        for i, row in enumerate(rows):
            for t, name in enumerate(row):
                counts = t <= lengths[i]
                colour = {"<start>": PALETTE[2], "<stop>": PALETTE[1]}.get(name, PALETTE[0])
                face = colour if counts else "#eeeeee"
                ax.add_patch(Rectangle((t - 0.47, i - 0.42), 0.94, 0.84, facecolor=face, linewidth=0))
                colour_of_text = ink(colour) if counts else "#707070"
                ax.text(t, i, name, fontsize=12, ha="center", va="center", color=colour_of_text)
        ax.set(xlim=(-0.5, steps - 0.5), ylim=(len(rows) - 0.5, -0.5), title=title)
        ax.set_xticks(range(steps), [f"step {t + 1}" for t in range(steps)])
        ax.set_yticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


def sequence_view(
    image,
    labels: Sequence[str],
    values: Sequence[float],
    boxes: Sequence = (),
    *,
    title: str = "",
    xlabel: str = "training images with the label",
) -> Figure:
    """An image with its boxes beside its labels in their order, top to bottom, and `<stop>`. Notebook 01.

    values: a number a label, drawn as a bar: with training frequencies, the order can be seen.
    """
    if len(labels) != len(values):
        raise ValueError(f"found {len(labels)} labels and {len(values)} values: give one value a label")
    figure, axes = new_figure(1, 2, size=(9, 4.4), width_ratios=(1, 0.9))
    draw_image(axes[0, 0], image, title)
    draw_boxes(axes[0, 0], boxes)
    ax = axes[0, 1]
    bars = ax.barh(range(len(labels)), values, color=PALETTE[0])
    ax.bar_label(bars, padding=3, fontsize=11)
    names = [f"{step}. {name}" for step, name in enumerate([*labels, "<stop>"], start=1)]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(max(len(names), 6) - 0.4, -0.6)
    ax.set_xlim(0, 1.18 * max([1, *values]))
    ax.set_xlabel(xlabel)
    return figure


def dataset_browser(
    data: AnnotatedImages, *, split: str = "train", label: str | None = None, order: str = "rare-first"
) -> VBox:
    """Leaf through the images of a split: by label, with boxes, labels in one of `labels.ORDERS`. Notebook 01.

    label: show only images with this label at first.

    Raises ValueError for a split without images, or a label that no image of it has.
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

    wide = {"description_width": "initial"}
    options = [(f"{name_of(key)} ({len(images):,})", key) for key, images in members.items()]
    wanted = ipywidgets.Dropdown(options=options, value=label, description="Show")
    position = ipywidgets.IntSlider(
        min=1, max=len(members[label]), description="Image", continuous_update=False, style=wide
    )
    orders = ipywidgets.Dropdown(options=ORDERS, value=order, description="Order")
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
        ids = order_labels(
            data.vocabulary.encode(record.labels),
            order,
            vocabulary=data.vocabulary,
            frequency=frequency,
            generator=generator,
        )
        names = data.vocabulary.decode(ids)
        figure = sequence_view(
            open_image(record.path),
            names,
            frequency[ids].tolist(),
            record.boxes if boxes else (),
            title=f"{split}: {record.path.name}",
        )
        text = f"Image {position:,} of {len(images):,} ({name_of(label)}), {order}: {', '.join(names) or 'no labels'}."
        return figure, text

    return figure_view(
        draw,
        {"label": wanted, "position": position, "order": orders, "boxes": boxes},
        rows=[[wanted, orders, boxes], [back, forward, position]],
    )
