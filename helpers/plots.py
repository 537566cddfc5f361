"""Figures of the notebooks: data, labels and curves. Every function returns a `matplotlib.figure.Figure`.

No figure touches pyplot's global state, so nothing needs closing and nothing leaks from one cell to the next. The
background is opaque, which keeps a figure readable on dark themes; colours are those of Okabe and Ito and of cividis,
which people with colour-blindness tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

# Okabe and Ito, "Color Universal Design", 2008; black last: it is for text and axes.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
SEQUENTIAL = "cividis"
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
    axes.imshow(to_pixels(image))
    axes.set_axis_off()
    if title:
        axes.set_title(title, wrap=True)


def image_grid(
    images: Sequence, titles: Sequence[str] | None = None, *, columns: int = 4, side: float = 2.4
) -> Figure:
    """Images in rows of `columns`, with a title above each; side of an image in inches. Notebooks 00 and 01."""
    if not len(images):
        raise ValueError("there are no images to draw")
    rows = -(-len(images) // columns)
    figure, axes = new_figure(rows, columns, size=(side * columns, (side + 0.45) * rows))
    for i, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if i < len(images):
            draw_image(ax, images[i], "" if titles is None else titles[i])
    return figure


def annotated_image(image, boxes: Sequence = (), *, title: str = "") -> Figure:
    """An image with its boxes (`datasets.Box`, pixels of this image), each named and in a colour of its own."""
    figure, axes = new_figure(size=(5, 5))
    ax = axes[0, 0]
    draw_image(ax, image, title)
    names = sorted({box.label for box in boxes})
    for box in boxes:
        colour = PALETTE[names.index(box.label) % (len(PALETTE) - 1)]
        ax.add_patch(
            Rectangle((box.x, box.y), box.width, box.height, fill=False, linewidth=2.5, edgecolor=colour)
        )
        ax.text(
            box.x,
            box.y,
            box.label,
            fontsize=11,
            va="bottom",
            bbox={"facecolor": colour, "alpha": 0.9, "pad": 1.5, "lw": 0},
        )
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
    figure, axes = new_figure(size=(7, 0.6 + 0.29 * len(names)))
    ax = axes[0, 0]
    positions = np.arange(len(names))
    bars = ax.barh(positions, np.asarray(values, dtype=float), color=list(colours) if colours else PALETTE[0])
    integer = all(float(v).is_integer() for v in values)
    ax.bar_label(bars, fmt="%d" if integer else "%.2f", padding=3, fontsize=10)
    ax.set_yticks(positions, names)
    ax.invert_yaxis()
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
    """A matrix as colours with a labelled colour bar; numbers is a format such as ".2f" to write into the cells."""
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
        cbar_kws={"label": colour_label},
    )
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
) -> Figure:
    """Lines with a legend. A series (S, T) of S runs is drawn as its mean with a band from least to most."""
    figure, axes = new_figure(size=(7, 4))
    ax = axes[0, 0]
    markers = "osD^vPX*"
    for i, (name, values) in enumerate(series.items()):
        values = np.atleast_2d(np.asarray(values, dtype=float))
        steps = np.arange(1, values.shape[1] + 1) if x is None else np.asarray(x)
        colour = PALETTE[i % len(PALETTE)]
        # Markers too: colour alone is not enough for everyone.
        every = max(1, values.shape[1] // 12)
        ax.plot(
            steps, values.mean(0), color=colour, marker=markers[i % len(markers)], markevery=every, label=name
        )
        if len(values) > 1:
            ax.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend(frameon=False)
    return figure


def labelled_image(
    image, labels: Sequence[str], probabilities: Sequence[float], *, title: str = ""
) -> Figure:
    """An image beside the labels it was given and their probabilities. `helpers.predict`, notebook 00."""
    figure, axes = new_figure(1, 2, size=(8.5, 4.2), width_ratios=(1, 0.9))
    draw_image(axes[0, 0], image, title)
    ax = axes[0, 1]
    positions = np.arange(len(labels))
    bars = ax.barh(positions, probabilities, color=PALETTE[0])
    ax.bar_label(bars, fmt="%.2f", padding=3)
    ax.set_yticks(positions, labels)
    ax.set_ylim(max(len(labels), 5) - 0.4, -0.6)
    ax.set_xlim(0, 1.12)
    ax.set_xticks([0, 0.5, 1])
    ax.set_xlabel("probability")
    if not len(labels):
        ax.text(0.5, 0.5, "no label", ha="center", va="center", transform=ax.transAxes)
    return figure
