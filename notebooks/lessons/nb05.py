"""Figures of order-free targets: which step gets which label, what that costs, and which order training finds.

Taught in notebook 05. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

The targets of a batch as training goes on: a film strip of them, and an animation.

Taught in notebook 05. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`; `to_gif` makes a
moving picture of several.

The interactive view of notebook 05: edit what a decoder says, and see what each kind of target makes of it.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image
from torch import Tensor

from helpers.plots import DPI, PALETTE, draw_image, new_figure, wrapped
from helpers.systems.alignment import align, alignment_cost
from lessons.views import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


# From white to a blue on which black is still read: numbers stand in the cells, and frames around them.
PALE = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#8cc3e6"])


SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", PALETTE[0], "#00213a"])


# Frames differ in colour and in their line. The order is that of the choices: for instance fixed, PLA, MLA.
FRAMES = ((PALETTE[3], "-"), ("#005c43", (0, (4, 1.5))), ("#000000", (0, (1, 1.2))), (PALETTE[4], "-."))


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


def run_curves(
    series: Mapping[str, Sequence[Sequence[float]]], *, xlabel: str, ylabel: str, title: str
) -> Figure:
    """A line for every single run, one colour and marker a name: for runs that go different ways. Notebook 05.

    series: name -> S runs of E values, for epochs 1 to E.
    """
    if not series or not all(len(runs) for runs in series.values()):
        raise ValueError("there are no runs to draw: give each name at least one")
    figure, axes = new_figure(size=(7, 4.2))
    ax = axes[0, 0]
    for k, (name, runs) in enumerate(series.items()):
        for i, values in enumerate(runs):
            ax.plot(
                range(1, len(values) + 1),
                values,
                color=PALETTE[k % (len(PALETTE) - 1)],
                marker="osD^vPX"[k % 7],
                markersize=5,
                label=name if i == 0 else None,
            )
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    figure.legend(loc="outside lower center", ncols=len(series), frameon=False, fontsize=11)
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
        drawn = ax.imshow(share, cmap=SHARES, vmin=0, vmax=highest, aspect="auto", interpolation="nearest")
        epochs = share.shape[1]
        ticks = [e for e in range(epochs) if e == 0 or (e + 1) % 5 == 0]
        ax.set_xticks(ticks, [e + 1 for e in ticks])
        ax.set_yticks(range(len(labels)), labels if ax is axes[0, 0] else [])
        ax.set(title=name, xlabel="epoch")
    bar = figure.colorbar(drawn, ax=axes[0].tolist(), fraction=0.04, pad=0.02)
    bar.set_label("named first, in % of images", fontsize=12)
    return figure


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


NAMES = ("sun", "tree", "bird")


OTHER = "other"  # all that is not in the set, `<stop>` included


# What a decoder might say: for each step the weights of the three labels and of the rest.
PRESETS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "right, in another order": ((10, 5, 80, 5), (80, 5, 10, 5), (5, 85, 5, 5)),
    "the likeliest is not the cheapest": ((50, 45, 0, 5), (90, 5, 0, 5), (5, 5, 85, 5)),
    "says the sun twice": ((70, 10, 15, 5), (60, 10, 25, 5), (20, 50, 20, 10)),
    "says nothing of the set": ((20, 5, 10, 65), (10, 5, 25, 60), (5, 15, 10, 70)),
    "has no idea": ((25, 25, 25, 25), (25, 25, 25, 25), (25, 25, 25, 25)),
}


LEAST = 0.005  # of probability: log 0 would be infinite


def step_probabilities(weights: Sequence[Sequence[float]]) -> Tensor:
    """Weights (n, n + 1), not negative -> probabilities of the same shape; a row without weight is uniform."""
    found = torch.as_tensor(weights, dtype=torch.float64)
    if found.ndim != 2 or found.shape[1] != found.shape[0] + 1 or bool((found < 0).any()):
        raise ValueError(f"expected weights (n, n + 1), none negative, found {tuple(found.shape)}")
    total = found.sum(1, keepdim=True)
    found = torch.where(total > 0, found / total.clamp(min=1e-12), 1 / found.shape[1]).clamp(min=LEAST)
    return found / found.sum(1, keepdim=True)


def targets_by_hand(
    probability: Tensor, fixed: Sequence[int]
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """The targets of a fixed order, of PLA and of MLA, and what they cost in nats. Taught in notebook 05.

    probability: (n, n + 1), of the n labels and of all else at each of n steps. fixed: an order of 0..n-1.
    """
    n = len(probability)
    # Outputs: n labels, all else, <stop>. The last step says <stop>, which is the same for all three.
    outputs = torch.full((1, n + 1, n + 2), 1e-12, dtype=torch.float64)
    outputs[0, :n, : n + 1] = probability
    outputs[0, n, n + 1] = 1.0
    labels, lengths = torch.tensor([[*fixed, n + 1]]), torch.tensor([n])
    targets = {"fixed order": labels, **{
        name: align(outputs.log(), labels, lengths, name.lower()) for name in ("PLA", "MLA")
    }}  # fmt: skip
    costs = {name: float(alignment_cost(outputs.log(), found, lengths)) for name, found in targets.items()}
    return {name: found[0, :n].tolist() for name, found in targets.items()}, costs


def targets_figure(
    weights: Sequence[Sequence[float]], *, names: Sequence[str] = NAMES, fixed: Sequence[int] = (0, 1, 2)
) -> tuple[Figure, str]:
    """What a decoder says at each step, the targets of a fixed order, PLA and MLA, and their losses. Notebook 05.

    weights: (n, n + 1), of the n labels and of all else, any scale. fixed: the fixed order, as places in `names`.
    Returns the figure and the three orders in words.
    """
    probability = step_probabilities(weights)
    if sorted(fixed) != list(range(len(probability))) or len(names) != len(probability):
        raise ValueError(
            f"{len(probability)} steps need as many names and an order of all, found {list(fixed)}"
        )
    targets, costs = targets_by_hand(probability, fixed)
    figure = alignment_view(
        probability,
        [f"step {t + 1}" for t in range(len(names))],
        [*names, OTHER],
        targets,
        costs,
        title="what the decoder says",
        colour_label="probability",
        highest=1.0,
    )
    said = [[*names, OTHER][j] for j in probability.argmax(1).tolist()]
    told = [
        f"{name}: {', '.join(names[j] for j in order)} ({costs[name]:.2f})" for name, order in targets.items()
    ]
    return figure, f"Said: {', '.join(said)}. Targets and their cost in nats: {'; '.join(told)}."


def target_editor(*, names: Sequence[str] = NAMES, preset: str = next(iter(PRESETS))) -> VBox:
    """Move the probabilities of three steps, and see the targets and losses of three methods. Notebook 05.

    preset: one of `PRESETS`, shown at first. The weights of a step need not sum to 100: they are shared out.
    Raises ValueError for an unknown preset.
    """
    import ipywidgets

    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    wide = {"description_width": "initial"}
    sliders = [
        [
            ipywidgets.IntSlider(
                value=weight, max=100, step=5, description=name, continuous_update=False, readout=True,
                layout={"width": "210px"}, style={"description_width": "45px"},
            )
            for name, weight in zip([*names, OTHER], row, strict=True)
        ]
        for row in PRESETS[preset]
    ]  # fmt: skip
    presets = ipywidgets.Dropdown(options=list(PRESETS), value=preset, description="Example", style=wide)
    orders = [
        (", ".join(names[j] for j in order), order) for order in itertools.permutations(range(len(names)))
    ]
    fixed = ipywidgets.Dropdown(options=orders, description="Fixed order", style=wide)
    # The picture hangs on this one alone: an example moves twelve sliders, and is drawn once.
    weights = ipywidgets.Label(layout={"display": "none"})

    def collect(_: object = None) -> None:
        weights.value = json.dumps([[slider.value for slider in row] for row in sliders])

    def choose(_: object) -> None:
        for row, values in zip(sliders, PRESETS[presets.value], strict=True):
            for slider, value in zip(row, values, strict=True):
                slider.unobserve(collect, names="value")
                slider.value = value
                slider.observe(collect, names="value")
        collect()

    for slider in itertools.chain(*sliders):
        slider.observe(collect, names="value")
    presets.observe(choose, names="value")
    collect()

    def draw(weights: str, fixed: tuple[int, ...]) -> tuple[Figure, str]:
        return targets_figure(json.loads(weights), names=names, fixed=fixed)

    rows = [[presets, fixed, weights]]
    rows += [[ipywidgets.Label(f"step {t + 1}"), *row] for t, row in enumerate(sliders)]
    view = figure_view(draw, {"weights": weights, "fixed": fixed}, rows=rows)
    view.sliders, view.presets = sliders, presets
    return view
