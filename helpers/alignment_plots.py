"""Figures of order-free targets: which step gets which label, what that costs, and how both change in training.

Taught in notebook 05. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`; `to_gif` makes a
moving picture of several.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from helpers.plots import DPI, PALETTE, SEQUENTIAL, draw_image, new_figure, wrapped

# From white to a blue on which black is still read: numbers stand in the cells, and frames around them.
PALE = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#8cc3e6"])
# Frames differ in colour and in their line. The order is that of the choices: for instance fixed, PLA, MLA.
FRAMES = ((PALETTE[3], "-"), ("#005c43", (0, (4, 1.5))), ("#000000", (0, (1, 1.2))), (PALETTE[4], "-."))
SMALLEST = 0.15  # the paleness at which a box of `alignment_strip` is still seen


def alignment_view(
    values,
    steps: Sequence[str],
    labels: Sequence[str],
    choices: Mapping[str, Sequence[int]],
    costs: Mapping[str, float],
    *,
    title: str,
    colour_label: str,
    image=None,
    highest: float | None = None,
) -> Figure:
    """A matrix of steps and labels, a frame where a target lies, and bars of what the targets cost. Notebook 05.

    values: (n, m) numbers, written into the cells: costs, or probabilities. steps: n names. labels: m names.
    choices: name -> for each step the column that is its target, -1 for none. They are drawn as nested frames.
    costs: name -> nats, a bar each, in the colour of its frame.
    image: drawn at the left, if given. highest: the value with the fullest colour; default the largest.
    """
    values = np.asarray(values, dtype=float)
    if values.shape != (len(steps), len(labels)):
        raise ValueError(f"{len(steps)} steps and {len(labels)} labels do not fit values {values.shape}")
    if list(choices) != list(costs) or len(choices) > len(FRAMES) or not choices:
        raise ValueError(f"expected 1 to {len(FRAMES)} choices and a cost for each, in the same order")
    wide = 1.0 + 1.05 * len(labels)
    widths = ([2.6] if image is not None else []) + [wide, 2.9]
    figure, axes = new_figure(
        1, len(widths), size=(sum(widths) + 1.6, max(3.3, 1.7 + 0.55 * len(steps))), width_ratios=widths
    )
    if image is not None:
        draw_image(axes[0, 0], image)
    ax, bars = axes[0, -2:]
    drawn = ax.imshow(
        values, cmap=PALE, vmin=0, vmax=highest or max(1e-9, float(values.max())), aspect="auto"
    )
    for t, row in enumerate(values):
        for j, value in enumerate(row):
            ax.text(j, t, f"{value:.2f}", ha="center", va="center", fontsize=12)
    for k, chosen in enumerate(choices.values()):
        inset, (colour, line) = 0.03 + 0.08 * k, FRAMES[k]
        for t, j in enumerate(chosen):
            if j >= 0:
                ax.add_patch(
                    Rectangle(
                        (j - 0.5 + inset, t - 0.5 + inset), 1 - 2 * inset, 1 - 2 * inset,
                        fill=False, edgecolor=colour, linestyle=line, linewidth=2.4,
                    )
                )  # fmt: skip
    ax.set_xticks(range(len(labels)), labels, rotation=30 if max(map(len, labels)) > 7 else 0)
    ax.set_yticks(range(len(steps)), steps)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.03).set_label(colour_label, fontsize=12)

    for k, cost in enumerate(costs.values()):
        colour, line = FRAMES[k]
        bars.barh(k, cost, 0.62, color=PALE(0.5), edgecolor=colour, linestyle=line, linewidth=2.4)
        bars.text(cost, k, f"  {cost:.2f}", ha="left", va="center", fontsize=12)
    bars.set_yticks(range(len(costs)), list(costs))
    bars.set_ylim(len(costs) - 0.4, -0.6)
    bars.set_xlim(0, 1.3 * max(1e-9, *costs.values()))
    bars.set(xlabel="nats", title="what the targets cost")
    return figure


def duration_curves(series: Mapping[str, Mapping[int, float]], *, title: str, ylabel: str) -> Figure:
    """Seconds by the size of the set, on a logarithmic axis. Notebook 05.

    series: name -> {size: seconds}; a method may end before the others.
    """
    if not series or not all(series.values()):
        raise ValueError("there is nothing to draw: give each method at least one duration")
    figure, axes = new_figure(size=(7.5, 4.4))
    ax = axes[0, 0]
    for k, (name, found) in enumerate(series.items()):
        ax.plot(list(found), list(found.values()), color=PALETTE[k], marker="osD^vPX*"[k], label=name)
    sizes = sorted({n for found in series.values() for n in found})
    ax.set_xticks(sizes)
    ax.set(yscale="log", xlabel="labels of the image, n", ylabel=ylabel, title=title)
    ax.grid(axis="y", color="#dddddd")
    ax.legend(fontsize=11, frameon=False)
    return figure


def first_by_epoch(shares: Mapping[str, np.ndarray], labels: Sequence[str]) -> Figure:
    """Which label is named first, epoch by epoch: a panel a decoder, a row a label, a column an epoch. Notebook 05.

    shares: name -> (E, K), percent of the images in which label k is named first after epoch e + 1.
    """
    if not shares or any(np.asarray(share).shape[1:] != (len(labels),) for share in shares.values()):
        raise ValueError(f"expected shares of shape (E, {len(labels)}), a column for each of {list(labels)}")
    figure, axes = new_figure(1, len(shares), size=(3.6 * len(shares) + 1.6, 1.5 + 0.31 * len(labels)))
    highest = max(float(np.max(share)) for share in shares.values())
    for ax, (name, share) in zip(axes[0], shares.items(), strict=True):
        share = np.asarray(share, dtype=float).T  # (E, K) -> (K, E)
        drawn = ax.imshow(
            share, cmap=SEQUENTIAL, vmin=0, vmax=highest, aspect="auto", interpolation="nearest"
        )
        epochs = share.shape[1]
        ticks = [e for e in range(epochs) if e == 0 or (e + 1) % 5 == 0]
        ax.set_xticks(ticks, [e + 1 for e in ticks])
        ax.set_yticks(range(len(labels)), labels if ax is axes[0, 0] else [])
        ax.set(title=name, xlabel="epoch")
    bar = figure.colorbar(drawn, ax=axes[0].tolist(), fraction=0.04, pad=0.02)
    bar.set_label("named first, in % of images", fontsize=12)
    return figure


Stack = Sequence[tuple[str, float]]  # from step 1 on: the target, and its probability at that step


def alignment_strip(
    images: Sequence, columns: Mapping[str, Sequence[Stack]], *, names: Sequence[Sequence[str]] | None = None
) -> Figure:
    """The targets of several images at several times: a row an image, a column a time, boxes from step 1 down.

    columns: title -> for each image its targets with their probabilities. A label keeps its colour through a row, so
    that one sees it move; the more probable it is at its step, the fuller the colour. Notebook 05.
    names: for each image its labels in the order that deals out the colours; default as in the first column.
    """
    _check_stacks(images, columns)
    slots = [max(len(stacks[i]) for stacks in columns.values()) for i in range(len(images))]
    heights = [0.55 + 0.36 * max(4, slot) for slot in slots]
    figure, axes = new_figure(
        len(images),
        1 + len(columns),
        size=(1.9 + 1.75 * len(columns), 0.45 + sum(heights)),
        height_ratios=heights,
        width_ratios=[1.9] + [1.75] * len(columns),
    )
    for i, image in enumerate(images):
        draw_image(axes[i, 0], image)
        colours = _colours(names[i] if names is not None else [n for n, _ in next(iter(columns.values()))[i]])
        for ax, (title, stacks) in zip(axes[i, 1:], columns.items(), strict=True):
            _draw_stack(ax, stacks[i], colours, slots=max(4, slots[i]))
            if i == 0:
                ax.set_title(title)
        axes[i, 1].set_yticks(range(slots[i]), [str(t + 1) for t in range(slots[i])])
        axes[i, 1].set_ylabel("step")
    return figure


def alignment_frame(
    images: Sequence, stacks: Sequence[Stack], *, names: Sequence[Sequence[str]], title: str
) -> Figure:
    """The targets of a batch at one time, each under its image: a picture of the animation. Notebook 05.

    stacks, names: as in `alignment_strip`, for this one time.
    """
    _check_stacks(images, {title: stacks})
    slots = max(len(row) for row in names)
    figure, axes = new_figure(
        2, len(images), size=(1.75 * len(images), 2.55 + 0.36 * slots), height_ratios=(1.6, 0.36 * slots)
    )
    for i, image in enumerate(images):
        draw_image(axes[0, i], image)
        _draw_stack(axes[1, i], stacks[i], _colours(names[i]), slots=slots)
    axes[1, 0].set_yticks(range(slots), [str(t + 1) for t in range(slots)])
    axes[1, 0].set_ylabel("step")
    figure.suptitle(title, fontsize=13)
    return figure


def to_gif(figures: Sequence[Figure], *, seconds: float = 0.7, last: float = 2.5, loops: int = 3) -> bytes:
    """Figures of one size as an animated GIF that plays `loops` times and rests at its end. Notebook 05.

    seconds: for each picture; last: for the last one.
    """
    if not figures:
        raise ValueError("an animation needs at least one figure")
    pictures = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=0.8 * DPI)
        picture = Image.open(buffer).convert("RGB")
        # The same 64 colours for all pictures: what stands still takes no room in the file.
        palette = pictures[0] if pictures else None
        pictures.append(
            picture.quantize(64, dither=Image.Dither.NONE)
            if palette is None
            else picture.quantize(palette=palette, dither=Image.Dither.NONE)
        )
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[int(1000 * seconds)] * (len(pictures) - 1) + [int(1000 * last)],
        loop=max(0, loops - 1),
        optimize=False,
    )
    return buffer.getvalue()


def show_gif(gif: bytes, *, alt: str) -> None:
    """Display an animation in a notebook with a text for people who cannot see it; see `plots.show`. Notebook 05."""
    from IPython.display import display

    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the animation shows")
    display({"image/gif": gif, "text/plain": alt}, metadata={"image/gif": {"alt": alt}}, raw=True)


def _check_stacks(images: Sequence, columns: Mapping[str, Sequence[Stack]]) -> None:
    if not len(images) or not columns or any(len(stacks) != len(images) for stacks in columns.values()):
        raise ValueError(
            f"expected the targets of each of {len(images)} images (at least one) in every column"
        )


def _colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each label of an image."""
    return {name: PALETTE[k % (len(PALETTE) - 1)] for k, name in enumerate(names)}


def _draw_stack(ax: Axes, stack: Stack, colours: Mapping[str, str], *, slots: int) -> None:
    """Boxes from step 1 down, the fuller the more probable."""
    for t, (name, probability) in enumerate(stack):
        strength = SMALLEST + (1 - SMALLEST) * min(1.0, max(0.0, probability))
        colour = np.array(to_rgb(colours.get(name, "#8a8a8a")))
        face = 1 - strength * (1 - colour)  # blended with white: the text beside it stays black on light
        style = "round,pad=0,rounding_size=0.08"
        ax.add_patch(
            FancyBboxPatch(
                (0.03, t - 0.42), 0.94, 0.84, boxstyle=style, facecolor=face, edgecolor=colour, lw=1.5
            )
        )
        dark = float(face @ np.array([0.3, 0.59, 0.11])) < 0.45
        text = wrapped(f"{name} {probability:.2f}", 3)
        ax.text(0.5, t, text, ha="center", va="center", fontsize=11, color="white" if dark else "black")
    ax.set(xlim=(0, 1), ylim=(slots - 0.5, -0.5))
    ax.set_xticks([])
    ax.set_yticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
