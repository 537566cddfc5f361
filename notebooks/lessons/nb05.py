"""Figures and the view of notebook 05: order-free targets, which step gets which label, and what that costs."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from helpers.plots import DPI, GREY, PALETTE, draw_bars, draw_image, ink, new_figure, wrapped
from helpers.systems.alignment import align, alignment_cost
from lessons.figures import box
from lessons.views import View, choice, figure_view, slider

# From white to a blue on which black is still readable: numbers are written into the cells, and frames around them.
PALE = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#8cc3e6"])
# Frames differ in colour and in their line. The order is that of the choices: for instance fixed, PLA, MLA.
FRAMES = ((PALETTE[3], "-"), ("#005c43", (0, (4, 1.5))), ("#000000", (0, (1, 1.2))), (PALETTE[4], "-."))


def alignment_view(
    values: Any,
    steps: Sequence[str],
    labels: Sequence[str],
    choices: Mapping[str, Sequence[int]],
    costs: Mapping[str, float],
    *,
    title: str,
    colour_label: str,
    image: Any = None,
    highest: float | None = None,
) -> Figure:
    """A matrix of steps and labels, a frame around every target, and bars of what the targets cost.

    values: (n, m) numbers, written into the cells: costs, or probabilities. steps: n names. labels: m names.
    choices: name -> for each step the column that is its target, -1 for none. They are drawn as nested frames.
    costs: name -> nats, a bar each, in the colour of its frame.
    image: drawn at the left, if given. highest: the value with the fullest colour; default the largest.
    """
    values = np.asarray(values, dtype=float)
    widths = [2.6] * (image is not None) + [1.0 + 1.05 * len(labels), 2.9]
    size = (sum(widths) + 1.6, max(3.3, 1.7 + 0.55 * len(steps)))
    figure, axes = new_figure(1, len(widths), size=size, width_ratios=widths)
    if image is not None:
        draw_image(axes[0, 0], image)
    ax, bars = axes[0, -2:]
    highest = highest or max(1e-9, float(values.max()))
    drawn = ax.imshow(values, cmap=PALE, vmin=0, vmax=highest, aspect="auto")
    for (t, j), value in np.ndenumerate(values):
        ax.text(j, t, f"{value:.2f}", ha="center", va="center", fontsize=12)
    for k, (chosen, (colour, line)) in enumerate(zip(choices.values(), FRAMES, strict=False)):
        inset = 0.03 + 0.08 * k
        side, style = 1 - 2 * inset, {"edgecolor": colour, "linestyle": line, "linewidth": 2.4}
        for t, j in enumerate(chosen):
            if j >= 0:
                ax.add_patch(Rectangle((j - 0.5 + inset, t - 0.5 + inset), side, side, fill=False, **style))
    ax.set_xticks(range(len(labels)), labels, rotation=30 if max(map(len, labels)) > 7 else 0)
    ax.set_yticks(range(len(steps)), steps)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.03).set_label(colour_label, fontsize=12)

    draw_bars(bars, list(costs), {"": list(costs.values())}, colours=[PALE(0.5)])
    for bar, (colour, line) in zip(bars.patches, FRAMES, strict=False):
        bar.set(edgecolor=colour, linestyle=line, linewidth=2.4)
    bars.set(xlim=(0, 1.3 * max(1e-9, *costs.values())), xlabel="nats", title="what the targets cost")
    return figure


# ---------------------------------------------------------------- targets while training goes on

SMALLEST = 0.15  # a box has at least this much of its colour, so that it is still visible
Stack = Sequence[tuple[str, float]]  # from step 1 on: the target, and its probability at that step


def alignment_strip(
    images: Sequence[Any], columns: Mapping[str, Sequence[Stack]], *, names: Sequence[Sequence[str]]
) -> Figure:
    """The targets of several images at several times: one row per image, one column per time, step 1 on top.

    columns: title -> for each image its targets with their probabilities. A label keeps its colour through a row, so
    that one sees it move; the more probable it is at its step, the fuller the colour.
    names: for each image its labels in the order that deals out the colours.
    """
    slots = [max(4, *(len(stacks[i]) for stacks in columns.values())) for i in range(len(images))]
    heights = [0.3 + 0.36 * slot for slot in slots]
    size = (1.5 + 1.75 * len(columns), 0.45 + sum(heights))
    ratios = {"height_ratios": heights, "width_ratios": [1.5] + [1.75] * len(columns)}
    figure, axes = new_figure(len(images), 1 + len(columns), size=size, **ratios)
    for i, image in enumerate(images):
        draw_image(axes[i, 0], image)
        for ax, stacks in zip(axes[i, 1:], columns.values(), strict=True):
            _draw_stack(ax, stacks[i], names[i], slots=slots[i], numbered=ax is axes[i, 1])
    for ax, title in zip(axes[0, 1:], columns, strict=True):
        ax.set_title(title)
    return figure


def alignment_frame(
    images: Sequence[Any], stacks: Sequence[Stack], *, names: Sequence[Sequence[str]], title: str
) -> Figure:
    """The targets of a batch at one time, each under its image: a picture of the animation.

    stacks, names: as in `alignment_strip`, for this one time.
    """
    slots = max(len(row) for row in names)
    heights = (1.6, 0.36 * slots)
    size = (1.75 * len(images), 2.55 + 0.36 * slots)
    figure, axes = new_figure(2, len(images), size=size, height_ratios=heights)
    for i, image in enumerate(images):
        draw_image(axes[0, i], image)
        _draw_stack(axes[1, i], stacks[i], names[i], slots=slots, numbered=i == 0)
    # Below: in an animation, only what is under the pictures changes, and only that is stored anew.
    figure.supxlabel(title, fontsize=14)
    return figure


def _draw_stack(ax: Axes, stack: Stack, names: Sequence[str], *, slots: int, numbered: bool) -> None:
    """Boxes from step 1 down, the fuller the more probable; names: those of the image, which have a colour each."""
    colours = {name: PALETTE[k % (len(PALETTE) - 1)] for k, name in enumerate(names)}
    for t, (name, probability) in enumerate(stack):
        strength = SMALLEST + (1 - SMALLEST) * min(1.0, max(0.0, probability))
        colour = np.array(to_rgb(colours.get(name, GREY)))
        face = to_hex(1 - strength * (1 - colour))  # blended with white
        box(ax, 0.5, t, 0.94, 0.84, wrapped(f"{name} {probability:.2f}", 3), face, edgecolor=colour, lw=1.5)
        ax.texts[-1].set(color=ink(face), fontsize=11)
    ax.set(xlim=(0, 1), ylim=(slots - 0.5, -0.5), xticks=[], ylabel="step" if numbered else "")
    shown = range(slots if numbered else 0)
    ax.set_yticks(shown, [str(t + 1) for t in shown])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def to_gif(figures: Sequence[Figure], *, seconds: float = 0.7, last: float = 2.5, loops: int = 3) -> bytes:
    """Figures of one size as an animated GIF that plays `loops` times and stops at its end.

    seconds: for each picture; last: for the last one.
    """
    drawn = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=0.75 * DPI)
        drawn.append(Image.open(buffer).convert("RGB"))
    # One palette for all pictures: what does not change takes no room in the file.
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
    durations = [int(1000 * seconds)] * (len(pictures) - 1) + [int(1000 * last)]
    options = {"append_images": pictures[1:], "duration": durations, "loop": max(0, loops - 1)}
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="GIF", save_all=True, optimize=False, **options)
    return buffer.getvalue()


def show_gif(gif: bytes, *, alt: str) -> None:
    """Display an animation in a notebook with a text for people who cannot see it; see `plots.show`."""
    from IPython.display import display

    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the animation shows")
    display({"image/gif": gif, "text/plain": alt}, metadata={"image/gif": {"alt": alt}}, raw=True)


# ---------------------------------------------------------------- targets of probabilities set by hand

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
    """The targets of a fixed order, of PLA and of MLA, and what they cost in nats.

    probability: (n, n + 1), of the n labels and of all else at each of n steps. fixed: an order of 0..n-1.
    """
    n = len(probability)
    # Outputs: n labels, all else, <stop>. The last step says <stop>, which is the same for all three.
    outputs = torch.full((1, n + 1, n + 2), 1e-12, dtype=torch.float64)
    outputs[0, :n, : n + 1] = probability
    outputs[0, n, n + 1] = 1.0
    labels, lengths = torch.tensor([[*fixed, n + 1]]), torch.tensor([n])
    targets = {"fixed order": labels}
    targets |= {name: align(outputs.log(), labels, lengths, name.lower()) for name in ("PLA", "MLA")}
    costs = {name: float(alignment_cost(outputs.log(), found, lengths)) for name, found in targets.items()}
    return {name: found[0, :n].tolist() for name, found in targets.items()}, costs


def targets_figure(
    weights: Sequence[Sequence[float]], *, fixed: Sequence[int] = (0, 1, 2)
) -> tuple[Figure, str]:
    """What a decoder says at each step, the targets of a fixed order, PLA and MLA, and their losses.

    weights: (n, n + 1), of the n labels and of all else, any scale. fixed: the fixed order, as places in `NAMES`.
    Returns the figure and the three orders in words.
    """
    probability = step_probabilities(weights)
    targets, costs = targets_by_hand(probability, fixed)
    steps, labels = [f"step {t + 1}" for t in range(len(NAMES))], [*NAMES, OTHER]
    texts = {"title": "what the decoder says", "colour_label": "probability"}
    figure = alignment_view(probability, steps, labels, targets, costs, highest=1.0, **texts)
    said = ", ".join(labels[j] for j in probability.argmax(1).tolist())
    told = [
        f"{name}: {', '.join(NAMES[j] for j in order)} ({costs[name]:.2f})" for name, order in targets.items()
    ]
    return figure, f"Said: {said}. Targets and their cost in nats: {'; '.join(told)}."


def target_editor(*, preset: str = next(iter(PRESETS))) -> View:
    """Move the probabilities of three steps, and see the targets and losses of three methods.

    preset: one of `PRESETS`, shown at first. The weights of a step need not sum to 100: they are normalised.
    Raises ValueError for an unknown preset.
    """
    import ipywidgets

    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    sliders = [
        [slider("IntSlider", name, value=weight, max=100, step=5, layout={"width": "210px"})
         for name, weight in zip([*NAMES, OTHER], row, strict=True)]
        for row in PRESETS[preset]
    ]  # fmt: skip
    presets = choice("Example", list(PRESETS), preset)
    orders = itertools.permutations(range(len(NAMES)))
    fixed = choice("Fixed order", [(", ".join(NAMES[j] for j in order), order) for order in orders])
    # The picture depends on this one alone: an example moves twelve sliders, and is drawn once.
    weights = ipywidgets.Label(layout={"display": "none"})

    def collect(_: object = None) -> None:
        weights.value = json.dumps([[one.value for one in row] for row in sliders])

    def choose(_: object) -> None:
        for one, value in zip(
            itertools.chain(*sliders), itertools.chain(*PRESETS[presets.value]), strict=True
        ):
            one.unobserve(collect, names="value")
            one.value = value
            one.observe(collect, names="value")
        collect()

    for one in itertools.chain(*sliders):
        one.observe(collect, names="value")
    presets.observe(choose, names="value")
    collect()

    def draw(weights: str, fixed: tuple[int, ...]) -> tuple[Figure, str]:
        return targets_figure(json.loads(weights), fixed=fixed)

    rows = [[presets, fixed, weights]]
    rows += [[ipywidgets.Label(f"step {t + 1}"), *row] for t, row in enumerate(sliders)]
    view = figure_view(draw, {"weights": weights, "fixed": fixed}, rows=rows)
    view.sliders, view.presets = sliders, presets
    return view
