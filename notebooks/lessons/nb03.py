"""Figures, tables and the view of notebook 03: label sequences as they are named step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import STOP_NAME, Vocabulary
from helpers.data.records import Record
from helpers.decoders.base import Decoder
from helpers.decoders.search import FREE, Decoded, Followed, follow
from helpers.plots import PALETTE, SEQUENTIAL, draw_bars, draw_image, new_figure, show, wrapped
from helpers.systems.base import System
from lessons.figures import STOPS, TOKEN, box, curves, draw_sequences, until_stop
from lessons.views import View, choice, edits_by_hand, figure_view, image_slider, slider

DARK_GREY = "#595959"
WRONG = "#f6c7b6"


class NamedLabel(NamedTuple):
    """A label that was named, with its probability at that step and whether the image has it; None: unknown."""

    name: str
    probability: float
    right: bool | None = None


def named_labels(
    tokens: Tensor,
    probability: Tensor,
    vocabulary: Vocabulary,
    true: Sequence[str],
    *,
    whole: bool = False,
) -> list[NamedLabel]:
    """Tokens (T,) int64 with the probability (T,) of each, and whether they are among the `true` labels.

    whole: all of them; else up to the first `<stop>`.
    """
    names = vocabulary.decode(tokens) if whole else until_stop(tokens, vocabulary)
    right = [None if name == STOP_NAME else name in true for name in names]
    return [NamedLabel(*row) for row in zip(names, probability.tolist(), right, strict=False)]


def show_memory(found: Mapping[str, Sequence[Sequence[float]]], lengths: Sequence[int]) -> None:
    """Show how often several networks still know the first bit: name -> runs -> share right per length."""
    names = {"xlabel": "steps T", "ylabel": "share right (0.5 is guessing)"}
    figure = curves(found, x=lengths, log_x=True, title="Which network still knows the first bit?", **names)
    ends = ", ".join(f"{name} {sum(run[-1] for run in runs) / len(runs):.2f}" for name, runs in found.items())
    show(figure, alt=f"Share of bits that are right by number of steps. At {lengths[-1]} steps: {ends}.")


def show_losses(history: Sequence[Sequence[float]], names: Sequence[str]) -> None:
    """Show losses over the epochs: for each epoch one loss per name."""
    losses = dict(zip(names, zip(*history, strict=True), strict=True))
    figure = curves(
        losses, xlabel="epoch", ylabel="loss per step (nats)", title="Teacher forcing: RIA learns"
    )
    ends = ", ".join(f"{name} from {row[0]:.2f} to {row[-1]:.2f}" for name, row in losses.items())
    show(figure, alt=f"Loss per step over {len(history)} epochs: {ends}.")


def score_table(
    rows: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str], corner: str = ""
) -> Any:
    """A Markdown table in percent: lowest to highest of the runs, one number where all are alike.

    rows: name -> for each run one share (0..1) per column.
    """
    from IPython.display import Markdown

    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" + "|--:" * len(columns) + "|"]
    for name, runs in rows.items():
        cells = []
        for values in zip(*runs, strict=True):
            low, high = (f"{100 * end(values):.1f}" for end in (min, max))
            cells.append(low if low == high else f"{low} – {high}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return Markdown("\n".join(lines))


def orders_aloud(
    image: Any, rows: Mapping[str, Sequence[NamedLabel]], missed: Mapping[str, Sequence[str]]
) -> Figure:
    """An image and, order by order, the labels as they are named from left to right.

    rows: order -> labels named, `<stop>` last. missed: order -> true labels that it did not name, in red at the end.
    """
    slots = max(len(row) + len(missed[order]) for order, row in rows.items())
    figure, axes = new_figure(1, 2, size=(9, 0.6 + 1.2 * len(rows)), width_ratios=(1, 3.4))
    draw_image(axes[0, 0], image)
    ax = axes[0, 1]
    for y, (order, row) in enumerate(rows.items()):
        ax.text(-0.45, y - 0.34, order, fontsize=14, fontweight="bold")
        for x, label in enumerate(row):
            wrong = label.right is False
            colour = WRONG if wrong else STOPS if label.name == STOP_NAME else TOKEN
            box(ax, x, y, 0.92, 0.4, label.name + (" ✗" if wrong else ""), colour)
            ax.text(x, y + 0.33, f"{label.probability:.2f}", ha="center", va="center", fontsize=12)
        for x, name in enumerate(missed[order], start=len(row)):
            box(ax, x, y, 0.92, 0.4, name, "white", linestyle="--", edgecolor=PALETTE[3])
            ax.text(x, y + 0.33, "missed", ha="center", va="center", fontsize=12, color=PALETTE[3])
    ax.set(xlim=(-0.5, slots - 0.45), ylim=(len(rows) - 0.5, -0.6))
    ax.set_axis_off()
    return figure


def score_bars(
    rows: Mapping[str, Sequence[Sequence[float]]], titles: Sequence[str], panels: Sequence[int]
) -> Figure:
    """Horizontal bars side by side, one panel per chosen column of a `score_table`; the runs are dots.

    rows, titles: as in `score_table`. panels: the columns that are drawn.
    """
    shape = {"size": (9, 1.0 + 0.4 * len(rows)), "width_ratios": [1.1] * len(panels)}
    figure, axes = new_figure(1, len(panels), sharey=True, **shape)
    for ax, column in zip(axes[0], panels, strict=True):
        values = [[100 * run[column] for run in runs] for runs in rows.values()]
        means = {"": [sum(runs) / len(runs) for runs in values]}
        draw_bars(ax, list(rows), means, numbers="")
        for y, runs in enumerate(values):
            ax.plot(runs, [y] * len(runs), "o", color="black", markerfacecolor="white", markersize=5)
        ax.set(title=titles[column], xlabel="% of the test images")
    return figure


def broken_rules(
    records: Sequence[Record],
    first: tuple[str, Tensor],
    second: tuple[str, Tensor],
    vocabulary: Vocabulary,
    rules: Mapping[str, Sequence[str]],
    *,
    count: int = 2,
) -> Figure:
    """The first images on which one system breaks a rule, with its set, that of another system, and the true one.

    first, second: title and named sets (N, C) bool; labels of the first that break a rule have a star.
    rules: label -> labels of which one must be there too.
    """
    images, sets, broken = [], [], []
    for record, *rows in zip(records, first[1], second[1], strict=True):
        mine, other = (vocabulary.decode(row.nonzero().flatten()) for row in rows)
        wrong = [x for x in mine if x in rules and not set(rules[x]) & set(mine)]
        if wrong and len(images) < count:
            images.append(open_image(record.path))
            sets.append({first[0]: mine, second[0]: other, "true": record.labels})
            broken.append(wrong)
    figure, axes = new_figure(
        1, 2 * len(images), size=(4.5 * len(images), 3.8), width_ratios=(0.75, 1.85) * len(images)
    )
    for k, (image, named) in enumerate(zip(images, sets, strict=True)):
        draw_image(axes[0, 2 * k], image)
        paths = {
            name: [(x, name == first[0] and x in broken[k]) for x in labels] for name, labels in named.items()
        }
        draw_sequences(axes[0, 2 * k + 1], paths)
        axes[0, 2 * k + 1].set_yticks([])
    return figure


def gate_map(
    panels: Mapping[str, Tensor], tokens: Sequence[str], record: Record, *, units: int = 32
) -> Figure:
    """An image, and what gates and cell do over the steps of its sequence: one row per unit, one column per step.

    panels: name -> (T, H) float; gates in 0..1, and the panel "cell" in any range, drawn around 0. Units are sorted by
        their mean in the first panel, equally in all panels; of many units, every few are drawn.
    tokens: what is read at each of the T steps. units: drawn at most.
    """
    order = next(iter(panels.values())).mean(0).argsort(descending=True)  # (H,)
    if len(order) > units:
        order = order[torch.linspace(0, len(order) - 1, units).long()]
    figure, axes = new_figure(1, 1 + len(panels), size=(9, 4.2), width_ratios=(1.2, *[1] * len(panels)))
    draw_image(axes[0, 0], open_image(record.path))
    gates = [ax for ax, name in zip(axes[0, 1:], panels, strict=True) if name != "cell"]
    for ax, (name, values) in zip(axes[0, 1:], panels.items(), strict=True):
        rows = values[:, order].T.numpy()  # (T, units) -> (units, T)
        bound = float(np.abs(rows).max())
        style = {"cmap": "PuOr", "vmin": -bound, "vmax": bound}
        if name != "cell":
            style = {"cmap": SEQUENTIAL, "vmin": 0, "vmax": 1}
        drawn = ax.imshow(rows, aspect="auto", interpolation="nearest", **style)
        ax.set_title(name)
        ax.set_xticks(range(len(tokens)), tokens, rotation=90)
        ax.set_yticks([])
        if name == "cell" or ax is gates[-1]:
            where, text = ([ax], "value") if name == "cell" else (gates, "closed … open")
            figure.colorbar(drawn, ax=where, location="bottom", fraction=0.06, pad=0.02).set_label(text)
    axes[0, 1].set_ylabel("units of the LSTM")
    return figure


def named_in_order(
    images: Sequence[Any],
    rows: Sequence[Sequence[NamedLabel]],
    missed: Sequence[Sequence[str]] | None = None,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> Figure:
    """Images, each above the labels that were named in their order with their step probabilities.

    rows: for each image the labels, `<stop>` included where it was said. missed: true labels that were not named,
        written above the image; or `titles` of your own.
    """
    lines = -(-len(images) // columns)
    longest = max(6, *(len(row) for row in rows))
    heights = (1.55, 0.6 + 0.3 * longest)
    size = (2.25 * columns, 0.5 + sum(heights) * lines)
    figure, axes = new_figure(2 * lines, columns, size=size, height_ratios=heights * lines)
    if missed is not None:
        titles = ["missed: " + ", ".join(names) if names else "nothing missed" for names in missed]
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (image, row) in enumerate(zip(images, rows, strict=True)):
        line, column = 2 * (i // columns), i % columns
        draw_image(axes[line, column], image)
        axes[line, column].set_title(wrapped(titles[i], 2.1) if titles else "", fontsize=12)
        draw_named(axes[line + 1, column], row, slots=longest)
        axes[line + 1, column].set_xlabel("probability")
    return figure


def images_named(
    records: Sequence[Record], chosen: Sequence[int], decoded: Decoded, vocabulary: Vocabulary
) -> Figure:
    """`named_in_order` of the images `chosen` of a split that was decoded as a whole."""
    rows, missed = [], []
    for k in chosen:
        labels = records[k].labels
        rows.append(named_labels(decoded.tokens[k], decoded.step_probability[k], vocabulary, labels))
        missed.append([name for name in labels if name not in {label.name for label in rows[-1]}])
    return named_in_order([open_image(records[k].path) for k in chosen], rows, missed)


def orders_of(
    systems: Mapping[str, System], features: Features, record: Record, vocabulary: Vocabulary
) -> Figure:
    """`orders_aloud` of one image: what systems trained with several orders name. features: of this image."""
    rows, missed = {}, {}
    for order, system in systems.items():
        decoded = system.predict(features).decoded
        rows[order] = named_labels(decoded.tokens[0], decoded.step_probability[0], vocabulary, record.labels)
        missed[order] = [name for name in record.labels if name not in {label.name for label in rows[order]}]
    return orders_aloud(open_image(record.path), rows, missed)


def draw_named(ax: Axes, row: Sequence[NamedLabel], *, slots: int) -> None:
    """Labels with bars of their probability; a wrong one has another colour, a hatch and a cross."""
    ax.set_axis_on()
    colours = [{None: DARK_GREY, True: PALETTE[0], False: PALETTE[3]}[label.right] for label in row]
    hatches = ["//" if label.right is False else "" for label in row]
    names = [f"{label.name}{' ✗' if label.right is False else ''}" for label in row]
    values = {"": [label.probability for label in row]}
    draw_bars(ax, names, values, colours=[colours], hatches=[hatches or None], slots=slots, share=True)


def step_view(
    image: Any,
    paths: Mapping[str, Sequence[tuple[str, bool]]],
    top: Sequence[NamedLabel],
    *,
    step: int,
) -> Figure:
    """A step of decoding: the image, the sequences that are compared, the most probable labels.

    paths: title -> (name, whether it was chosen by hand) per step; the token of the last path at `step` is framed.
    top: the most probable labels at that step, counted from 1; empty where the sequence has ended before.
    """
    figure, axes = new_figure(1, 3, size=(9, 4.0), width_ratios=(0.95, 0.42 + 0.5 * len(paths), 0.9))
    picture, sequences, bars = axes[0]
    draw_image(picture, image)
    if step <= draw_sequences(sequences, paths):
        corner, style = (len(paths) - 1.52, step - 1.46), {"lw": 3, "edgecolor": PALETTE[3]}
        sequences.add_patch(Rectangle(corner, 1.04, 0.92, fill=False, **style))
    draw_named(bars, top, slots=max(5, len(top)))
    bars.set(title=f"most probable at step {step}", xlabel="probability")
    if not top:
        text = "the sequence has\nended before"
        bars.text(0.5, 0.5, text, ha="center", va="center", transform=bars.transAxes)
    return figure


def static_step(
    decoder: Decoder, features: Features, record: Record, vocabulary: Vocabulary, *, say: str, steps: int
) -> Figure:
    """What `step_by_step` shows of one image at step 2, after the label `say` was chosen at step 1."""
    forced = vocabulary.encode([say])
    alone, mine = (follow(decoder, features, max_steps=steps, forced=[row]) for row in ([], forced))
    own, said = (until_stop(found.tokens[0], vocabulary) for found in (alone, mine))
    paths = {
        "decoder alone": [(name, False) for name in own],
        "with your choices": [(name, t == 0) for t, name in enumerate(said)],
    }
    return step_view(open_image(record.path), paths, top_labels(mine, 2, vocabulary, record.labels), step=2)


def top_labels(found: Followed, step: int, vocabulary: Vocabulary, true: Sequence[str]) -> list[NamedLabel]:
    """The five most probable labels of the one image in `found`; step: counted from 1."""
    values, ids = found.probability[0, step - 1].topk(min(5, vocabulary.num_outputs))
    return named_labels(ids, values, vocabulary, true, whole=True)


def step_by_step(
    decoder: Decoder,
    features: Features,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> View:
    """Walk through a decoding: the five best labels of a step; say another one and see what follows.

    features: of the B images `records`, as the decoder takes them. max_labels: labels named at most.
    """
    steps = max_labels + 1
    alone = follow(decoder, features, max_steps=steps)
    image, step = image_slider(len(records)), slider("IntSlider", "Step", min=1, max=steps)
    names = vocabulary.decode(range(vocabulary.num_outputs))
    options = [("what the decoder chooses", FREE), *((name, i) for i, name in enumerate(names))]
    say = choice("Say at this step", options, FREE)

    def tell(forced: dict[int, int]) -> str:
        words = [f"{names[token]} at step {t}" for t, token in sorted(forced.items())]
        return f"You say {', '.join(words)}." if words else "The decoder chooses everything."

    edits = edits_by_hand(step, say, own=lambda _: FREE, tell=tell, image=image)

    def draw(image: int, step: int, say: int, chosen: str) -> tuple[Figure, str]:
        record, forced = records[image - 1], edits.values
        wanted = [forced.get(t, FREE) for t in range(1, steps + 1)]
        one = features.select(torch.tensor([image - 1]))
        found = follow(decoder, one, max_steps=steps, forced=[wanted])
        own, mine = (until_stop(tokens, vocabulary) for tokens in (alone.tokens[image - 1], found.tokens[0]))
        paths = {"decoder alone": [(name, False) for name in own]}
        if forced:
            paths["with your choices"] = [(name, t in forced) for t, name in enumerate(mine, start=1)]
        top = []
        if step <= len(mine):
            top = top_labels(found, step, vocabulary, record.labels)
        text = f"True labels: {', '.join(record.labels) or 'none'}. The decoder alone says: {', '.join(own)}."
        text += f" With your choices: {', '.join(mine)}." if forced else ""
        return step_view(open_image(record.path), paths, top, step=step), text

    controls = {"image": image, "step": step, "say": say, "chosen": edits.chosen}
    return figure_view(draw, controls, rows=[[image, step], [say, edits.again, edits.chosen]])
