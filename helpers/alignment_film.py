"""The targets of a batch as training goes on: a film strip of them, and an animation.

Taught in notebook 05. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`; `to_gif` makes a
moving picture of several.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from helpers.plots import DPI, PALETTE, draw_image, new_figure, wrapped

SMALLEST = 0.15  # a box is at least this full of its colour, so that it is still seen

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
    heights = [0.3 + 0.36 * max(4, slot) for slot in slots]
    figure, axes = new_figure(
        len(images),
        1 + len(columns),
        size=(1.5 + 1.75 * len(columns), 0.45 + sum(heights)),
        height_ratios=heights,
        width_ratios=[1.5] + [1.75] * len(columns),
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
    # Below: in an animation, only what is under the pictures changes, and only that is stored anew.
    figure.supxlabel(title, fontsize=14)
    return figure


def to_gif(figures: Sequence[Figure], *, seconds: float = 0.7, last: float = 2.5, loops: int = 3) -> bytes:
    """Figures of one size as an animated GIF that plays `loops` times and rests at its end. Notebook 05.

    seconds: for each picture; last: for the last one.
    """
    if not figures:
        raise ValueError("an animation needs at least one figure")
    drawn = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=0.75 * DPI)
        drawn.append(Image.open(buffer).convert("RGB"))
    # One palette for all pictures: what stands still takes no room in the file.
    width, height = drawn[0].size
    everything = Image.new("RGB", (width, height * len(drawn)))
    for k, picture in enumerate(drawn):
        everything.paste(picture, (0, k * height))
    palette = everything.quantize(200, dither=Image.Dither.NONE)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in drawn]
    for picture in pictures:
        colours, paper = picture.getpalette(), 3 * picture.getpixel((0, 0))
        colours[paper : paper + 3] = [255, 255, 255]  # the corner is background, and stays white
        picture.putpalette(colours)
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
