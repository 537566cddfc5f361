"""Figures of attention: a map over its image, a film strip of the steps (`tracing.trace`), bars of the pointing game.

Taught in notebook 04. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from helpers.labels import STOP_NAME
from helpers.localization import Grading, GridSize
from helpers.plots import DPI, PALETTE, draw_image, new_figure, to_pixels, wrapped
from helpers.search import Decoded
from helpers.tracing import Trace

# From nothing to one dark, saturated colour over a pale grey picture: lightness alone tells the order, so that the
# map reads the same with every kind of colour vision, in print and on a poor projector.
HEAT = LinearSegmentedColormap.from_list(
    "heat",
    [(0.85, 0.45, 0.1, 0.0), (0.85, 0.38, 0.08, 0.55), (0.55, 0.05, 0.30, 0.8), (0.2, 0.0, 0.25, 0.92)],
)
PALEST = 0.55  # black of the picture under a map becomes this grey: a map must stand out on a night, too
UNITS = "attention, share of the whole"


class Frame(NamedTuple):
    """One panel of a film strip: a map and what was named with it.

    weights: (L,). label, probability: what was said. right: whether the image has it; None: unknown.
    boxes: where it is (`datasets.Box`), drawn as outlines.
    """

    weights: Tensor
    label: str
    probability: float
    right: bool | None = None
    boxes: Sequence = ()


def frames(source: Trace | Decoded, labels: Sequence[str], record=None, *, image: int = 0) -> list[Frame]:
    """The steps of a `Trace`, or of one image of a `Decoded` up to its `<stop>`, as frames. Notebook 04.

    labels: names of the C labels. record: the truth (`datasets.Record`), where it is known. image: row of the
    `Decoded`. Raises ValueError for a decoding without attention.
    """
    if isinstance(source, Decoded):
        if source.attention is None:
            raise ValueError("this decoding has no attention to show: its decoder does not look at a grid")
        steps = min(int(source.lengths[image]) + 1, source.tokens.shape[1])
        tokens, attention = source.tokens[image, :steps], source.attention[image, :steps]
        probability = source.step_probability[image, :steps]
    else:
        tokens, attention, probability = source.tokens, source.attention, source.step_probability
    result = []
    for token, p, weights in zip(tokens.tolist(), probability.tolist(), attention, strict=True):
        name = labels[token] if token < len(labels) else STOP_NAME
        known = record is not None and name != STOP_NAME
        right = name in record.labels if known else None
        boxes = [box for box in record.boxes if box.label == name] if known else ()
        result.append(Frame(weights, name, p, right, boxes))
    return result


def draw_attention(
    axes: Axes, image, weights: Tensor, grid_size: GridSize, *, highest: float, smooth: bool = False
) -> None:
    """An image in pale grey with a map over it, aligned whatever the sizes of the two. Notebook 04.

    image: PIL image, array (H, W, 3) or tensor (3, H, W). weights: (L,), cells row by row. grid_size: (h, w).
    highest: the weight with the darkest colour; give maps that are compared the same one.
    smooth: blend neighbouring cells; else each cell is one colour, which is what there is.
    """
    h, w = grid_size
    if weights.numel() != h * w:
        raise ValueError(f"a map of {weights.numel()} weights does not fit a grid of {h} x {w} cells")
    pixels = to_pixels(image).astype(float)
    pixels = pixels / 255 if pixels.max() > 1 else pixels
    grey = pixels[..., :3] @ np.array([0.299, 0.587, 0.114]) if pixels.ndim == 3 else pixels
    height, width = grey.shape
    # A small picture is drawn with the pixels that it has: crisp, and half the file.
    inches = axes.get_position().width * axes.figure.get_figwidth()
    sharp = "nearest" if width < inches * DPI else "antialiased"
    axes.imshow(PALEST + (1 - PALEST) * grey, cmap="gray", vmin=0, vmax=1, interpolation=sharp)
    axes.imshow(
        weights.detach().float().cpu().view(h, w).numpy(),  # (L,) -> (h, w)
        cmap=HEAT,
        vmin=0,
        vmax=highest,
        # Pixel centres are whole numbers, so the picture, and with it the grid, ends half a pixel outside.
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="bilinear" if smooth else "nearest",
    )
    axes.set_axis_off()
    axes.set_anchor("N")


def outline(axes: Axes, boxes: Sequence) -> None:
    """Boxes as outlines that show on light and dark."""
    for box in boxes:
        for colour, line in (("white", 4.0), ("black", 1.6)):
            corner = (box.x - 0.5, box.y - 0.5)
            axes.add_patch(Rectangle(corner, box.width, box.height, fill=False, lw=line, edgecolor=colour))


def colour_bar(figure: Figure, axes: Sequence[Axes], highest: float, label: str = UNITS) -> None:
    """The scale that the maps in `axes` share."""
    scale = ScalarMappable(Normalize(0, highest), HEAT)
    bar = figure.colorbar(scale, ax=list(axes), fraction=0.04, pad=0.02, aspect=18)
    bar.set_label(wrapped(label, 2.2), fontsize=12)
    bar.ax.tick_params(labelsize=11)


def overlay(
    image, weights: Tensor, grid_size: GridSize, *, title: str = "", boxes: Sequence = (), label: str = UNITS,
    highest: float | None = None, smooth: bool = False,
) -> Figure:  # fmt: skip
    """One map over its image with a colour bar. Notebook 04; arguments as in `draw_attention`."""
    highest = float(weights.max()) if highest is None else highest
    figure, axes = new_figure(size=(5.2, 4.2))
    draw_attention(axes[0, 0], image, weights, grid_size, highest=highest, smooth=smooth)
    outline(axes[0, 0], boxes)
    axes[0, 0].set_title(title)
    colour_bar(figure, [axes[0, 0]], highest, label)
    return figure


def film_strip(
    image,
    strips: Mapping[str, Sequence[Frame]],
    grid_size: GridSize,
    *,
    side: float = 1.9,
    columns: int = 7,
    smooth: bool = False,
) -> Figure:
    """Where a decoder looked at each step, a row of panels a strip, all with one colour scale. Notebook 04.

    strips: title -> frames; several strips of one image can be compared. The image itself stands first.
    columns: panels in a row; longer strips go on in the next row.
    A wrong label has a cross, a right one a tick; outlines are the boxes of the label.
    """
    if not strips or not all(strips.values()):
        raise ValueError("there is nothing to draw: give at least one strip with at least one frame")
    across = min(columns, 1 + max(map(len, strips.values())))
    lines = {name: -(-len(row) // (across - 1)) for name, row in strips.items()}
    height, width = to_pixels(image).shape[:2]
    tall = side * min(2.0, height / width)
    rows = sum(lines.values())
    figure, axes = new_figure(rows, across, size=(side * across + 1.1, (tall + 0.5) * rows + 0.05))
    highest = max(float(frame.weights.max()) for row in strips.values() for frame in row)
    line = 0
    for name, row in strips.items():
        for k in range(lines[name]):
            first = axes[line + k, 0]
            if k == 0:
                draw_image(first, image)
                first.set_title(wrapped(name, side), fontsize=12)
            first.set_axis_off()
            for j, ax in enumerate(axes[line + k, 1:]):
                t = k * (across - 1) + j
                ax.set_axis_off()
                if t >= len(row):
                    continue
                frame = row[t]
                draw_attention(ax, image, frame.weights, grid_size, highest=highest, smooth=smooth)
                outline(ax, frame.boxes)
                mark = {None: "", True: " ✓", False: " ✗"}[frame.right]
                ax.set_title(f"{t + 1}. {frame.label}{mark}\n{frame.probability:.2f}", fontsize=12)
        line += lines[name]
    colour_bar(figure, axes.flat, highest)
    return figure


def look_gallery(
    panels: Sequence[tuple[object, Frame]], grid_size: GridSize, *, columns: int = 4, side: float = 2.5
) -> Figure:
    """Single looks at several images, each on a scale of its own: from nothing to its largest weight. Notebook 04.

    panels: (image, frame); the title is the frame's label with its probability.
    """
    if not panels:
        raise ValueError("there is nothing to draw: panels is empty")
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(rows, columns, size=(side * columns, (side + 0.4) * rows))
    for k, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if k < len(panels):
            image, frame = panels[k]
            draw_attention(ax, image, frame.weights, grid_size, highest=float(frame.weights.max()))
            outline(ax, frame.boxes)
            mark = {None: "", True: " ✓", False: " ✗"}[frame.right]
            ax.set_title(wrapped(f"{frame.label}{mark} {frame.probability:.2f}", side), fontsize=12)
    return figure


def pointing_bars(
    gradings: Mapping[str, Grading], *, title: str, least: int = 1, value: str = "pointing"
) -> Figure:
    """The pointing game by label, a bar for each kind of map, with a mark for chance. Notebook 04.

    gradings: name -> `localization.Grading`. value: "pointing" or "mass". least: labels with fewer looks are left out
    (of the first grading, which also gives the order).
    """
    first = next(iter(gradings.values()))
    names = [name for name, found in first.labels.items() if found.looks >= least]
    if not names:
        raise ValueError(f"no label has {least} looks or more that could be graded")
    rows = ["all", *names]
    figure, axes = new_figure(size=(8.4, 1.3 + (0.12 + 0.13 * len(gradings)) * len(rows)))
    ax = axes[0, 0]
    thick = 0.8 / len(gradings)
    for k, grading in enumerate(gradings.values()):
        found = [grading.all, *(grading.labels.get(label) for label in names)]
        y = np.arange(len(rows)) + (k - (len(gradings) - 1) / 2) * thick
        values = [getattr(g, value) if g else np.nan for g in found]
        ax.barh(y, values, thick * 0.92, color=PALETTE[k], hatch=("", "//", "..")[k % 3], edgecolor="white")
    chance = [getattr(g, f"{value}_chance") for g in (first.all, *(first.labels[name] for name in names))]
    ax.vlines(chance, np.arange(len(rows)) - 0.45, np.arange(len(rows)) + 0.45, color="black", lw=2.5)
    counts = [first.all.looks, *(first.labels[name].looks for name in names)]
    ax.set_yticks(range(len(rows)), [f"{name} ({n})" for name, n in zip(rows, counts, strict=True)])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    what = {
        "pointing": "how often the largest weight is in a box",
        "mass": "share of the weights in the boxes",
    }
    ax.set(xlabel=what[value], title=title)
    handles = [
        Patch(facecolor=PALETTE[k], hatch=("", "//", "..")[k % 3], edgecolor="white")
        for k in range(len(gradings))
    ]
    line = ax.plot([], [], color="black", lw=2.5)
    figure.legend(
        [*handles, *line], [*gradings, "chance"], ncols=len(gradings) + 1, loc="outside lower center",
        frameon=False, fontsize=11,
    )  # fmt: skip
    return figure


def attention_view(
    image,
    weights: Tensor,
    grid_size: GridSize,
    bars: Mapping[str, Mapping[str, float]],
    *,
    highest: float,
    titles: tuple[str, str, str] = ("", "", ""),
    boxes: Sequence = (),
    value: str = "probability",
) -> Figure:
    """An image, a map over it, and bars of the most probable labels. Notebook 04.

    bars: name -> {label: probability}; two of them with the same labels are drawn side by side. titles: of the three.
    value: what the bars are, between 0 and 1.
    """
    figure, axes = new_figure(1, 3, size=(11, 3.9), width_ratios=(1, 1.25, 0.95))
    draw_image(axes[0, 0], image, titles[0])
    draw_attention(axes[0, 1], image, weights, grid_size, highest=highest)
    outline(axes[0, 1], boxes)
    axes[0, 1].set_title(titles[1])
    colour_bar(figure, [axes[0, 1]], highest)
    ax = axes[0, 2]
    labels = list(next(iter(bars.values())))
    thick = 0.8 / len(bars)
    for k, (name, values) in enumerate(bars.items()):
        y = np.arange(len(labels)) + (k - (len(bars) - 1) / 2) * thick
        drawn = ax.barh(
            y, [values[label] for label in labels], thick * 0.92, color=PALETTE[k], label=name,
            hatch=("", "//")[k % 2], edgecolor="white",
        )  # fmt: skip
        ax.bar_label(drawn, fmt="%.2f", padding=3, fontsize=11)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlim(0, 1.2)
    ax.set_xticks([0, 0.5, 1])
    ax.set(xlabel=value, title=titles[2])
    if len(bars) > 1:
        ax.legend(fontsize=11, frameon=False, loc="lower right")
    return figure
