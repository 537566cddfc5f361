"""Figures that several notebooks share, and what all figures are drawn with. Every function returns a `matplotlib.figure.Figure`.

No figure touches pyplot's global state, so nothing needs closing and nothing leaks from one cell to the next. The
background is opaque, which keeps a figure readable on dark themes; colours are those of Okabe and Ito and of cividis,
which people with colour-blindness tell apart.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

# Okabe and Ito, "Color Universal Design", 2008; black last: it is for text and axes.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
SEQUENTIAL = "cividis"
GREY = "#8a8a8a"
# Colour alone is not enough for everyone.
MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")
DPI = 110
STYLE = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def new_figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options
) -> tuple[Figure, np.ndarray]:
    """An empty figure in the style of the course; size in inches; options go to `Figure.subplots`.

    Returns the figure and its axes, an array (rows, columns).
    """
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def canvas(*, size: tuple[float, float]) -> Figure:
    """A figure without axes, for subfigures; size in inches. Draw in it `with rc_context(STYLE)`."""
    return Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def show(figure: Figure, *, alt: str) -> None:
    """Display a figure in a notebook with a text for people who cannot see it.

    alt: what the figure shows, in a sentence or two. It is stored with the output, where exported pages find it, and
    stands in for the picture in a text-only view.
    """
    from IPython.display import display

    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the figure shows")
    display(
        {"image/png": to_png(figure), "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


def to_pixels(image: Tensor | np.ndarray) -> np.ndarray:
    """(3, H, W) float in 0..1, or anything matplotlib shows, as an array with the channels last."""
    if isinstance(image, Tensor):
        image = image.detach().float().clamp(0, 1).cpu().permute(1, 2, 0).numpy()  # (3, H, W) -> (H, W, 3)
    return np.asarray(image)


def draw_image(axes: Axes, image: Tensor | np.ndarray, title: str = "") -> None:
    """An image without axes, its title above."""
    spec = axes.get_subplotspec()
    inches = axes.figure.get_figwidth() / (spec.get_gridspec().ncols if spec is not None else 1)
    pixels = to_pixels(image)
    # A small image is drawn with the pixels that it has: crisp, and half the file.
    axes.imshow(pixels, interpolation="nearest" if pixels.shape[1] < inches * DPI else "antialiased")
    axes.set_axis_off()
    axes.set_anchor(
        "N"
    )  # in a slot that is too high, the title stays at the top, where the layout made room for it
    if title:
        axes.set_title(wrapped(title, inches))


def wrapped(title: str, inches: float) -> str:
    """A title in lines that are not wider than so many inches; the lines that it has already stay apart."""
    # Not matplotlib's own wrapping: the layout leaves no room for its lines.
    return "\n".join(textwrap.fill(line, max(8, int(inches * 9.5))) for line in title.split("\n"))


def draw_boxes(axes: Axes, boxes: Sequence) -> None:
    """Boxes (`datasets.Box`) over the image drawn in `axes`, a colour a label; equal boxes share one name tag."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()  # rows count downwards: bottom is the larger
    width, height = right - left, bottom - top
    names = sorted({box.label for box in boxes})
    shared: dict[tuple[float, ...], list[str]] = {}
    for box in boxes:
        shared.setdefault((box.x, box.y, box.width, box.height), []).append(box.label)
    tags: list[tuple[float, float]] = []
    for (x, y, box_width, box_height), labels in shared.items():
        colour = PALETTE[names.index(labels[0]) % (len(PALETTE) - 1)]
        axes.add_patch(Rectangle((x, y), box_width, box_height, fill=False, linewidth=2.5, edgecolor=colour))
        # The tag stays inside the picture, and moves down where another one is.
        at_right = x > left + 0.6 * width
        tag = [x + box_width if at_right else x, max(y, top + 0.09 * height)]
        while any(abs(tag[0] - a) < 0.3 * width and abs(tag[1] - b) < 0.085 * height for a, b in tags):
            tag[1] += 0.09 * height
        tags.append((tag[0], tag[1]))
        axes.text(
            *tag,
            ", ".join(dict.fromkeys(labels)),
            fontsize=11,
            color=ink(colour),
            ha="right" if at_right else "left",
            va="bottom",
            bbox={"facecolor": colour, "alpha": 0.9, "pad": 1.5, "lw": 0},
        )


def ink(background: str) -> str:
    """Black or white, whichever is read more easily on a colour "#rrggbb"."""
    red, green, blue = (int(background[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 else "white"


def image_grid(
    images: Sequence,
    titles: Sequence[str] | None = None,
    *,
    boxes: Sequence[Sequence] | None = None,
    columns: int = 4,
    side: float = 2.4,
) -> Figure:
    """Images in rows of `columns`, with a title above each; side of an image in inches. Notebooks 00 and 01.

    boxes: for each image the boxes to draw over it (`datasets.Box`).
    """
    if not len(images):
        raise ValueError("there are no images to draw")
    rows = -(-len(images) // columns)
    lines = max((wrapped(title, side).count("\n") + 1 for title in titles or ()), default=0)
    figure, axes = new_figure(rows, columns, size=(side * columns, (side + 0.24 * lines + 0.1) * rows))
    for i, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if i < len(images):
            draw_image(ax, images[i], "" if titles is None else titles[i])
            if boxes is not None:
                draw_boxes(ax, boxes[i])
    return figure


def annotated_image(image, boxes: Sequence = (), *, title: str = "") -> Figure:
    """An image with its boxes (`datasets.Box`, pixels of this image), each named and in a colour of its own."""
    figure, axes = new_figure(size=(5, 5))
    draw_image(axes[0, 0], image, title)
    draw_boxes(axes[0, 0], boxes)
    return figure


def label_bars(
    names: Sequence[str],
    values: Sequence[float],
    *,
    xlabel: str,
    title: str,
    colours: Sequence[str] | None = None,
) -> Figure:
    """One horizontal bar a label with its value, in the order given. Notebooks 00 to 03."""
    if not len(names):
        raise ValueError("there are no labels to draw")
    figure, axes = new_figure(size=(7, 0.9 + 0.29 * len(names)))
    ax = axes[0, 0]
    positions = np.arange(len(names))
    bars = ax.barh(positions, np.asarray(values, dtype=float), color=list(colours) if colours else PALETTE[0])
    integer = all(float(v).is_integer() for v in values)
    ax.bar_label(bars, fmt="%d" if integer else "%.2f", padding=3, fontsize=11)
    ax.set_yticks(positions, names)
    ax.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    ax.set_xlabel(xlabel)
    ax.set_title(title)
    return figure


def heatmap(
    matrix,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    colour_label: str,
    xlabel: str = "",
    ylabel: str = "",
    numbers: str = "",
) -> Figure:
    """A matrix as colours with a labelled colour bar; NaN stays white. Notebooks 01 to 03.

    numbers: a format such as ".2f" to write the values into the cells.
    """
    if not len(rows) or not len(columns):
        raise ValueError("there is no matrix to draw: it has no rows or no columns")
    size = (3.2 + 0.33 * len(columns), 2.2 + 0.3 * len(rows))
    figure, axes = new_figure(size=size)
    ax = axes[0, 0]
    sns.heatmap(
        np.asarray(matrix, dtype=float),
        ax=ax,
        cmap=SEQUENTIAL,
        xticklabels=list(columns),
        yticklabels=list(rows),
        annot=bool(numbers),
        fmt=numbers,
        annot_kws={"fontsize": 11},
    )
    bar = ax.collections[0].colorbar
    bar.set_label(colour_label, fontsize=12)
    bar.ax.tick_params(labelsize=12)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure


def curves(
    series: Mapping[str, Sequence[float] | np.ndarray],
    *,
    x: Sequence[float] | None = None,
    xlabel: str,
    ylabel: str,
    title: str,
    log_x: bool = False,
) -> Figure:
    """Lines with a legend. A series (S, T) of S runs is drawn as its mean with a band from least to most.

    log_x: a logarithmic x axis with a tick at each of `x`.
    """
    if not series:
        raise ValueError("there are no curves to draw")
    figure, axes = new_figure(size=(7, 4))
    ax = axes[0, 0]
    for i, (name, values) in enumerate(series.items()):
        values = np.atleast_2d(np.asarray(values, dtype=float))
        steps = np.arange(1, values.shape[1] + 1) if x is None else np.asarray(x)
        colour = PALETTE[i % len(PALETTE)]
        every = max(1, values.shape[1] // 12)
        ax.plot(
            steps, values.mean(0), color=colour, marker=MARKERS[i % len(MARKERS)], markevery=every, label=name
        )
        if len(values) > 1:
            ax.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if log_x and x is not None:
        ax.set_xscale("log")
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.minorticks_off()
    ax.legend(frameon=False, fontsize=11)
    return figure


def labelled_image(
    image,
    labels: Sequence[str],
    probabilities: Sequence[float],
    *,
    title: str = "",
    right: Sequence[bool] | None = None,
) -> Figure:
    """An image beside the labels it was given and their probabilities. `helpers.predict`, notebook 00.

    right: whether each label is one of the image's; wrong ones are then hatched, in another colour.
    """
    figure, axes = new_figure(1, 2, size=(8.5, 4.2), width_ratios=(1, 0.9))
    draw_image(axes[0, 0], image, title)
    ax = axes[0, 1]
    positions = np.arange(len(labels))
    judged = [True] * len(labels) if right is None else list(right)
    bars = ax.barh(positions, probabilities, color=[PALETTE[0] if ok else PALETTE[3] for ok in judged])
    for bar, ok in zip(bars, judged, strict=True):
        bar.set(hatch="" if ok else "//", edgecolor="white")
    ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=11)
    ax.set_yticks(positions, labels)
    ax.set_ylim(max(len(labels), 5) - 0.4, -0.6)
    ax.set_xlim(0, 1.12)
    ax.set_xticks([0, 0.5, 1])
    ax.set_xlabel("probability")
    if right is not None:
        figure.legend(
            handles=[Patch(color=PALETTE[0]), Patch(facecolor=PALETTE[3], hatch="//", edgecolor="white")],
            labels=["right", "wrong"],
            frameon=False,
            ncols=2,
            loc="outside lower right",
        )
    if not len(labels):
        ax.text(0.5, 0.5, "no label", fontsize=12, ha="center", va="center", transform=ax.transAxes)
    return figure
