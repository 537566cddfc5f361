"""Figures that are drawn outside a lesson: images with boxes or labels, films of attention, an evaluation.

Every function returns a `matplotlib.figure.Figure`; `draw_…` functions draw into given axes. No figure
touches pyplot's global state, so nothing needs closing. The opaque background keeps a figure readable on dark
themes. The colours are those of Okabe and Ito and of cividis, which people with colour-blindness tell apart;
markers, lines and hatches differ as well.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
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
HATCHES = ("", "//", "..", "xx")
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
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure in the style of the course and its axes (rows, columns).

    size: width and height in inches. options: for `Figure.subplots`.
    """
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
    """Display a figure in a notebook; alt says what it shows, for people who cannot see it."""
    from IPython.display import display

    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the figure shows")
    shown = {"image/png": to_png(figure), "text/plain": alt}  # exported pages find the text in the metadata
    display(shown, metadata={"image/png": {"alt": alt}}, raw=True)


# ---------------------------------------------------------------- images and boxes


def to_pixels(image: Tensor | np.ndarray | Image.Image) -> np.ndarray:
    """(3, H, W) float in 0..1, or anything matplotlib shows, as an array with the channels last."""
    if isinstance(image, Tensor):
        image = image.detach().float().clamp(0, 1).cpu().permute(1, 2, 0).numpy()  # (3, H, W) -> (H, W, 3)
    return np.asarray(image)


def wrapped(title: str, inches: float) -> str:
    """A title broken into lines of at most so many inches; line breaks that it already has stay."""
    # Not matplotlib's own wrapping: the layout leaves no room for its lines.
    return "\n".join(textwrap.fill(line, max(8, int(inches * 9.5))) for line in title.split("\n"))


def _inches(axes: Axes) -> float:
    spec = axes.get_subplotspec()
    return axes.figure.get_figwidth() / (spec.get_gridspec().ncols if spec is not None else 1)


def _interpolation(axes: Axes, width: int) -> str:
    """A small image is drawn with the pixels that it has: crisp, and half the file."""
    return "nearest" if width < _inches(axes) * DPI else "antialiased"


def draw_image(axes: Axes, image: Tensor | np.ndarray | Image.Image, title: str = "") -> None:
    """An image without axes, its title above."""
    pixels = to_pixels(image)
    axes.imshow(pixels, interpolation=_interpolation(axes, pixels.shape[1]))
    axes.set_axis_off()
    axes.set_anchor("N")  # in a slot that is too high, the title stays at the top, where there is room for it
    if title:
        axes.set_title(wrapped(title, _inches(axes)))


def draw_boxes(axes: Axes, boxes: Sequence) -> None:
    """Boxes (`records.Box`) over the image in `axes`, one colour per label; equal boxes share a name tag."""
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
        side, background = (
            "right" if at_right else "left",
            {"facecolor": colour, "alpha": 0.9, "pad": 1.5, "lw": 0},
        )
        text = ", ".join(dict.fromkeys(labels))
        axes.text(*tag, text, fontsize=11, color=ink(colour), ha=side, va="bottom", bbox=background)


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
    """Images in rows of `columns`, each `side` inches wide, its title above, its boxes (`records.Box`) over it."""
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


# ---------------------------------------------------------------- bars


def draw_bars(
    axes: Axes,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    colours: Sequence[Any] = PALETTE,
    hatches: Sequence[Any] = HATCHES,
    numbers: str = "%.2f",
    slots: int = 0,
    share: bool = False,
) -> None:
    """Horizontal bars, the first name on top; the bars of several series are below each other at each name.

    series: its name -> one value per name, NaN for no bar. colours, hatches: one entry per series, which may
    be a list of one per bar. numbers: how values are written beside the bars, "" for not at all. slots: room
    for so many names. share: the values lie between 0 and 1.
    """
    places, thick = np.arange(len(names)), 0.8 / len(series)
    for k, (name, values) in enumerate(series.items()):
        bars = axes.barh(
            places + (k - (len(series) - 1) / 2) * thick, np.asarray(values, dtype=float), thick * 0.92,
            color=colours[k], hatch=hatches[k], edgecolor="white", label=name,
        )  # fmt: skip
        if numbers:
            axes.bar_label(bars, fmt=numbers, padding=3, fontsize=11)
    axes.set_yticks(places, names)
    axes.set_ylim(max(len(names), slots) - 0.4, -0.6)
    if share:
        axes.set(xlim=(0, 1.2 if numbers else 1), xticks=[0, 0.5, 1])


def labelled_image(
    image: Any,
    labels: Sequence[str],
    probabilities: Sequence[float],
    *,
    title: str = "",
    right: Sequence[bool] | None = None,
) -> Figure:
    """An image beside the labels it was given and their probabilities.

    right: whether the image has each label; bars of wrong ones are then hatched and of another colour.
    """
    figure, axes = new_figure(1, 2, size=(8.5, 4.2), width_ratios=(1, 0.9))
    draw_image(axes[0, 0], image, title)
    ax = axes[0, 1]
    wrong = [False] * len(labels) if right is None else [not ok for ok in right]
    colours, hatches = [[PALETTE[3 * w] for w in wrong]], [[HATCHES[w] for w in wrong] or None]
    draw_bars(ax, labels, {"": probabilities}, colours=colours, hatches=hatches, slots=5, share=True)
    ax.set_xlabel("probability")
    if right is not None:
        style = {"edgecolor": "white"}
        handles = [
            Patch(facecolor=PALETTE[0], hatch=HATCHES[0], label="right", **style),
            Patch(facecolor=PALETTE[3], hatch=HATCHES[1], label="wrong", **style),
        ]
        figure.legend(handles=handles, frameon=False, ncols=2, loc="outside lower right")
    if not len(labels):
        ax.text(0.5, 0.5, "no label", fontsize=12, ha="center", va="center", transform=ax.transAxes)
    return figure


# ---------------------------------------------------------------- attention


# From nothing to one dark, saturated colour over a pale grey picture: lightness alone tells the order, so
# that the map reads the same with every kind of colour vision, in print and on a poor projector.
HEAT = LinearSegmentedColormap.from_list(
    "heat",
    [(0.85, 0.45, 0.1, 0.0), (0.85, 0.38, 0.08, 0.55), (0.55, 0.05, 0.30, 0.8), (0.2, 0.0, 0.25, 0.92)],
)
SIDE, COLUMNS = 1.9, 7  # of a film strip: inches of a panel, panels in a row
PALEST = 0.55  # black of the picture under a map becomes this grey: a map must be visible on a night, too
UNITS = "attention, share of the whole"
MARKS = {None: "", True: " ✓", False: " ✗"}


class Frame(NamedTuple):
    """One panel of a film strip: a map and what was named with it.

    weights: (L,). label, probability: what was named. right: whether the image has it; None: unknown.
    boxes: where it is (`records.Box`), drawn as outlines.
    """

    weights: Tensor
    label: str
    probability: float
    right: bool | None = None
    boxes: Sequence = ()


def frames(
    source: Trace | Decoded, labels: Sequence[str], record: Any = None, *, image: int = 0
) -> list[Frame]:
    """The steps of a `Trace`, or of one image of a `Decoded` up to its `<stop>`, as frames.

    labels: names of the C labels. record: the truth (`records.Record`), where it is known. image: row of the
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
    axes: Axes, image: Any, weights: Tensor, grid_size: GridSize, *, highest: float, boxes: Sequence = ()
) -> None:
    """An image in pale grey with a map over it, aligned whatever the sizes of the two; boxes are outlined.

    image: PIL image, array (H, W, 3) or tensor (3, H, W). weights: (L,), cells row by row. grid_size: (h, w).
    highest: the weight with the darkest colour; give maps that are compared the same one.
    """
    h, w = grid_size
    if weights.numel() != h * w:
        raise ValueError(f"a map of {weights.numel()} weights does not fit a grid of {h} x {w} cells")
    pixels = to_pixels(image).astype(float)
    pixels = pixels / 255 if pixels.max() > 1 else pixels
    grey = pixels[..., :3] @ np.array([0.299, 0.587, 0.114]) if pixels.ndim == 3 else pixels
    height, width = grey.shape
    pale = PALEST + (1 - PALEST) * grey
    axes.imshow(pale, cmap="gray", vmin=0, vmax=1, interpolation=_interpolation(axes, width))
    axes.imshow(
        weights.detach().float().cpu().view(h, w).numpy(),  # (L,) -> (h, w)
        cmap=HEAT,
        vmin=0,
        vmax=highest,
        # Pixel centres are whole numbers, so the picture, and with it the grid, ends half a pixel outside.
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    for box in boxes:
        for colour, line in (("white", 4.0), ("black", 1.6)):  # visible on light and dark
            corner = (box.x - 0.5, box.y - 0.5)
            axes.add_patch(Rectangle(corner, box.width, box.height, fill=False, lw=line, edgecolor=colour))
    axes.set_axis_off()
    axes.set_anchor("N")


def colour_bar(figure: Figure, axes: Sequence[Axes], highest: float, label: str = UNITS) -> None:
    """The scale that the maps in `axes` share."""
    scale = ScalarMappable(Normalize(0, highest), HEAT)
    bar = figure.colorbar(scale, ax=list(axes), fraction=0.04, pad=0.02, aspect=18)
    bar.set_label(wrapped(label, 2.2), fontsize=12)
    bar.ax.tick_params(labelsize=11)


def film_strip(image: Any, strips: Mapping[str, Sequence[Frame]], grid_size: GridSize) -> Figure:
    """Where a decoder looked at each step: a row of panels per strip, all with one colour scale, the image
    first.

    strips: title -> frames; several strips of one image can be compared. Longer strips go on in the next row.
    A wrong label has a cross, a right one a tick; outlines are the boxes of the label.
    """
    if not strips or not all(strips.values()):
        raise ValueError("there is nothing to draw: give at least one strip with at least one frame")
    across = min(COLUMNS, 1 + max(map(len, strips.values())))
    # (title, frames) of every row of panels; only the first row of a strip has its title
    rows = [
        (name if start == 0 else "", list(enumerate(strip))[start : start + across - 1])
        for name, strip in strips.items()
        for start in range(0, len(strip), across - 1)
    ]
    height, width = to_pixels(image).shape[:2]
    tall = SIDE * min(2.0, height / width)
    figure, axes = new_figure(len(rows), across, size=(SIDE * across + 1.1, (tall + 0.5) * len(rows) + 0.15))
    highest = max(float(frame.weights.max()) for strip in strips.values() for frame in strip)
    for ax in axes.flat:
        ax.set_axis_off()
    for line, (name, shown) in zip(axes, rows, strict=True):
        if name:
            draw_image(line[0], image)
            line[0].set_title(wrapped(name, SIDE), fontsize=12)
        for ax, (t, frame) in zip(line[1:], shown, strict=False):
            draw_attention(ax, image, frame.weights, grid_size, highest=highest, boxes=frame.boxes)
            title = f"{t + 1}. {frame.label}{MARKS[frame.right]}\n{frame.probability:.2f}"
            ax.set_title(title, fontsize=12)
    colour_bar(figure, axes.flat, highest)
    return figure


@torch.inference_mode()
def film_of(prediction: Prediction, checkpoint: Checkpoint, image: Image.Image) -> Figure:
    """Where the system looked for each label it named, over the image: the first of the prediction."""
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


# ---------------------------------------------------------------- evaluation

METRICS = "OF1", "CF1", "image_F1", "exact_match"


def overview(result: dict[str, Any]) -> Figure:
    """Metrics with intervals, F1 by frequency and by set size, calibration; result: of `evaluate.evaluate`."""
    systems = result["systems"]
    figure, axes = new_figure(2, 2, size=(13, 9.5))
    (metrics, frequency), (size, calibration) = axes
    calibration.plot([0, 1], [0, 1], color="0.6", linestyle="--")
    for i, one in enumerate(systems):
        style = {"color": PALETTE[i % 7], "marker": MARKERS[i % 8]}
        values = [one["metrics"][name] for name in METRICS]
        value, low, high = (np.array([100 * v[key] for v in values]) for key in ("value", "low", "high"))
        places = np.arange(len(METRICS)) + (i - (len(systems) - 1) / 2) * 0.7 / len(systems)
        errors = np.maximum(0, [value - low, high - value])
        metrics.errorbar(value, places, xerr=errors, linestyle="", capsize=3, label=one["name"], **style)
        frequency.plot([100 * row["CF1"] for row in one["by_frequency"]], **style)
        rows = one["by_set_size"]
        size.plot([row["size"] for row in rows], [100 * row["image_F1"] for row in rows], **style)
        bins = one["set_calibration"]["bins"]
        calibration.plot([b["probability"] for b in bins], [b["correct"] for b in bins], **style)
    first, level = systems[0], f"{100 * systems[0]['level']:.0f} %"
    metrics.set_yticks(range(len(METRICS)), [name.replace("_", " ") for name in METRICS])
    metrics.invert_yaxis()
    metrics.set(xlabel="percent", title=f"Metrics, {level} intervals over the images")
    rows = first["by_frequency"]
    frequency.set_xticks(range(len(rows)), [f"{row['least']}–{row['most']}" for row in rows])
    frequency.set(
        xlabel="training images per label", ylabel="CF1 (percent)", title="Rare and frequent labels"
    )
    rows = first["by_set_size"]
    size.set_xticks([row["size"] for row in rows], [f"{row['size']}\n({row['images']})" for row in rows])
    size.set(
        xlabel="true labels (images)", ylabel="F1 per image (percent)", title="Small and large label sets"
    )
    for ax in (frequency, size):
        ax.set_ylim(bottom=0)
    calibration.set(xlabel="probability that the system gives its set", ylabel="share exactly right")
    calibration.set(title="Does it know when it is right?", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    figure.legend(loc="outside lower center", ncols=min(4, len(systems)), frameon=False)
    figure.suptitle(f"{result['data']}, {result['split']} split: {first['images']} images")
    return figure
