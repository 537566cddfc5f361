"""Figures that several notebooks share, and what all figures are drawn with. Every function returns a `matplotlib.figure.Figure`.

No figure touches pyplot's global state, so nothing needs closing and nothing leaks from one cell to the next. The
background is opaque, which keeps a figure readable on dark themes; colours are those of Okabe and Ito and of cividis,
which people with colour-blindness tell apart.

Figures of attention: a map over its image, a film strip of the steps (`tracing.trace`), bars of the pointing game.

Taught in notebook 04. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

Figures of judged systems, from what `helpers.commands.evaluate` writes. Notebook 06.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image
from torch import Tensor

from helpers.data.labels import STOP_NAME
from helpers.decoders.search import Decoded, Trace
from helpers.encoders.crops import layout, on_image
from helpers.metrics.localization import GridSize
from helpers.systems.base import Prediction
from helpers.training.annotate import encode_images, name_labels
from helpers.training.checkpoints import Checkpoint

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
    """An image beside the labels it was given and their probabilities. `helpers.commands.predict`, notebook 00.

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


METRICS = ("OF1", "CF1", "image_F1", "exact_match")


def overview(result: dict[str, Any]) -> Figure:
    """Metrics with intervals, F1 by label frequency and by set size, calibration; result: of `evaluate.evaluate`."""
    systems = result["systems"]
    figure, axes = new_figure(2, 2, size=(13, 9.5))
    draw_intervals(axes[0, 0], systems)
    draw_by_frequency(axes[0, 1], systems)
    draw_by_set_size(axes[1, 0], systems)
    draw_calibration(axes[1, 1], systems)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), frameon=False)
    figure.suptitle(f"{result['data']}, {result['split']} split: {systems[0]['images']} images")
    return figure


def draw_intervals(axes: Axes, systems: Sequence[dict[str, Any]], metrics: Sequence[str] = METRICS) -> None:
    """Each metric of each system as a dot on its interval."""
    for i, one in enumerate(systems):
        offset = (i - (len(systems) - 1) / 2) * 0.7 / len(systems)
        values = [one["metrics"][name] for name in metrics]
        middle = [100 * v["value"] for v in values]
        errors = [
            [max(0.0, 100 * (v["value"] - v["low"])) for v in values],
            [max(0.0, 100 * (v["high"] - v["value"])) for v in values],
        ]
        places = [k + offset for k in range(len(metrics))]
        axes.errorbar(
            middle, places, xerr=errors, fmt="o", color=PALETTE[i % 7], capsize=3, label=one["name"]
        )
    axes.set_yticks(range(len(metrics)), [name.replace("_", " ") for name in metrics])
    axes.invert_yaxis()
    axes.set(xlabel="percent", title=f"Metrics, {100 * systems[0]['level']:.0f} % intervals over the images")


def draw_by_frequency(axes: Axes, systems: Sequence[dict[str, Any]]) -> None:
    """CF1 of rare, …, frequent labels, grouped by their training images."""
    for i, one in enumerate(systems):
        rows = one["by_frequency"]
        axes.plot(range(len(rows)), [100 * r["CF1"] for r in rows], "o-", color=PALETTE[i % 7])
    rows = systems[0]["by_frequency"]
    axes.set_xticks(range(len(rows)), [f"{r['least']}–{r['most']}" for r in rows])
    axes.set(xlabel="training images of a label", ylabel="CF1 (percent)", title="Rare and frequent labels")
    axes.set_ylim(bottom=0)


def draw_by_set_size(axes: Axes, systems: Sequence[dict[str, Any]]) -> None:
    """F1 of the images with few and many labels."""
    for i, one in enumerate(systems):
        rows = one["by_set_size"]
        axes.plot([r["size"] for r in rows], [100 * r["image_F1"] for r in rows], "o-", color=PALETTE[i % 7])
    rows = systems[0]["by_set_size"]
    axes.set_xticks([r["size"] for r in rows], [f"{r['size']}\n({r['images']})" for r in rows])
    axes.set(
        xlabel="true labels (images)", ylabel="F1 of an image (percent)", title="Small and large label sets"
    )
    axes.set_ylim(bottom=0)


def draw_calibration(axes: Axes, systems: Sequence[dict[str, Any]]) -> None:
    """Share of exactly right sets against the probability the system gave them; on the line: it knows."""
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--")
    for i, one in enumerate(systems):
        bins = one["set_calibration"]["bins"]
        axes.plot(
            [b["probability"] for b in bins],
            [b["correct"] for b in bins],
            "o-",
            color=PALETTE[i % 7],
        )
    axes.set(
        xlabel="probability of the set, says the system",
        ylabel="share exactly right",
        title="Does it know when it is right?",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )


@torch.inference_mode()
def film_of(prediction: Prediction, checkpoint: Checkpoint, image: Image.Image) -> Figure:
    """Where the system looked for each label it named, over the image: the first of the prediction. Notebook 04."""
    level, cells = layout(checkpoint.system.encoder)
    if prediction.decoded is not None:
        film = frames(prediction.decoded, checkpoint.vocabulary.labels)
    else:
        attention = checkpoint.system.network.attend(encode_images(checkpoint, [image])).attention[0].cpu()
        named = name_labels(prediction, checkpoint)[0]
        ids = checkpoint.vocabulary.encode(named.labels)
        triples = zip(attention[ids], named.labels, named.probabilities, strict=True)
        film = [Frame(weights, label, probability) for weights, label, probability in triples]
    # Tokens of crops become one map of the image, finer than the whole view's.
    film = [frame._replace(weights=on_image(frame.weights, level, cells).flatten()) for frame in film]
    return film_strip(image, {"image": film}, tuple(max(level, 1) * side for side in cells))
