"""Figures, tables and the view of notebook 08: label vectors, concepts that are switched by hand, a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.decoders.base import Decoder
from helpers.decoders.search import greedy
from helpers.plots import PALETTE, draw_bars, draw_image, new_figure, show
from lessons.figures import curves, draw_sequences, grouped_bars, until_stop
from lessons.views import View, choice, edits_by_hand, figure_view, image_slider, slider

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results.json"


def table(
    rows: Mapping[str, Sequence[Sequence[float] | float]],
    columns: Sequence[str],
    *,
    corner: str = "",
    form: str = ".1f",
) -> Any:
    """A Markdown table of numbers; a cell with several runs shows the lowest and the highest.

    rows: name -> one cell per column, each a number or the numbers of several runs. form: of a number.
    """
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" + "|--:" * len(columns) + "|"]
    for name, cells in rows.items():
        written = []
        for cell in cells:
            runs = cell if isinstance(cell, Sequence) else [cell]
            low, high = format(min(runs), form), format(max(runs), form)
            written.append(low if low == high else f"{low} – {high}")
        lines.append(f"| {name} | {' | '.join(written)} |")
    return _markdown(lines)


def _markdown(lines: Sequence[str]) -> Any:
    from IPython.display import Markdown

    return Markdown("\n".join(lines))


def stored_results(
    systems: Mapping[str, str],
    data: str = "corel5k",
    *,
    metrics: Sequence[str] = ("OF1", "CF1", "exact_match"),
) -> Any:
    """A Markdown table from docs/results.json, in percent: mean ± standard deviation over the seeds.

    systems: name in the table -> name of the row in the file; a row that the file lacks has dashes.
    """
    stored = json.loads(RESULTS.read_text())["runs"][data]
    lines = [f"| {data}, stored | {' | '.join(metrics)} |", "|---" + "|--:" * len(metrics) + "|"]
    for name, row in systems.items():
        cells = ["–"] * len(metrics)
        if row in stored:
            values = [[100 * run["test"][metric] for run in stored[row]] for metric in metrics]
            cells = [f"{fmean(v):.1f} ± {stdev(v):.1f}" if len(v) > 1 else f"{v[0]:.1f}" for v in values]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return _markdown(lines)


# ---------------------------------------------------------------- label vectors


def show_search(records: Sequence[Record], found: Mapping[str, Sequence[int]]) -> None:
    """Show the images that a search found, one row per query.

    found: query, labels joined by " + " -> indices of records, the best first. An image with all labels of its query
    has a check mark, another one a cross.
    """
    across = max(map(len, found.values()))
    figure, axes = new_figure(len(found), across, size=(8.6, 1.72 * len(found)))
    right = 0
    for row, (query, images) in zip(axes, found.items(), strict=True):
        for ax, k in zip(row, images, strict=False):
            good = set(query.split(" + ")) <= set(records[k].labels)
            right += good
            draw_image(ax, open_image(records[k].path), "✓" if good else "✗")
        row[0].text(
            -0.12, 0.5, query.replace(" + ", "\n+ "), transform=row[0].transAxes, ha="right", va="center"
        )
    count = sum(map(len, found.values()))
    show(figure, alt=f"The images nearest to {', '.join(found)}: {right} of {count} have what was asked for.")


def nearest_table(
    columns: Mapping[str, Tensor], words: Sequence[str], vocabulary: Vocabulary, count: int = 2
) -> Any:
    """A Markdown table: for each word the labels that are most alike to it, by several matrices (C, C)."""
    lines = [f"| label | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for k in vocabulary.encode(words):
        cells = []
        for alike in columns.values():
            others = alike[k].index_fill(0, torch.tensor([k]), -torch.inf)
            cells.append(", ".join(vocabulary.decode(others.topk(count).indices)))
        lines.append(f"| {vocabulary.labels[k]} | {' | '.join(cells)} |")
    return _markdown(lines)


def show_nearness(cosines: Mapping[str, Tensor], ranked: Tensor) -> None:
    """Show the mean cosine of two labels by how many places they are apart in an order.

    cosines: name -> (C, C). ranked: (C,) int64, the labels in that order.
    """
    apart = range(1, min(len(ranked), 26))  # the few pairs that are further apart would only be noise
    series = {
        name: [matrix[ranked][:, ranked].diagonal(d).mean().item() for d in apart]
        for name, matrix in cosines.items()
    }
    labels = {"xlabel": "places apart in the order by frequency", "ylabel": "mean cosine of two labels"}
    figure = curves(series, title="Who is near whom among the label vectors?", **labels)
    ends = ", ".join(f"{name} from {line[0]:.2f} to {line[-1]:.2f}" for name, line in series.items())
    show(figure, alt=f"Mean cosine of two label vectors by their distance in the order by frequency: {ends}.")


# ---------------------------------------------------------------- verdict


def show_squeezed(rows: Mapping[str, Mapping[str, float]], *, ylabel: str, title: str) -> None:
    """Show groups of bars, one group per system: setting -> system -> number."""
    groups = list(next(iter(rows.values())))
    series = {setting: [[row[name] for name in groups]] for setting, row in rows.items()}
    wrapped = [name.replace(", ", ",\n") for name in groups]
    figure = grouped_bars(series, wrapped, ylabel=ylabel, title=title)
    told = "; ".join(
        f"{setting}: " + ", ".join(f"{name} {value:.0f}" for name, value in row.items())
        for setting, row in rows.items()
    )
    show(figure, alt=f"{title}. {told}.")


# ---------------------------------------------------------------- concepts


def show_switches(obeyed: Mapping[str, float], brought: Mapping[str, float]) -> None:
    """Show how often concepts that were switched on were named, and what came or went with them; all in %."""
    size = (9, 1.2 + 0.36 * max(len(obeyed), len(brought)))
    figure, axes = new_figure(1, 2, size=size, width_ratios=(1, 1))
    draw_bars(axes[0, 0], list(obeyed), {"": list(obeyed.values())}, numbers="%.0f")
    axes[0, 0].set(title="Switched on: is it named?", xlabel="% of the images without it", xlim=(0, 112))
    draw_bars(axes[0, 1], list(brought), {"": list(brought.values())}, colours=[PALETTE[1]], numbers="%+.0f")
    axes[0, 1].set(title="Switched on: what else changes?", xlabel="percentage points")
    axes[0, 1].margins(x=0.2)
    least, most = min(obeyed, key=obeyed.get), max(brought, key=brought.get)
    show(figure, alt=f"Bars. Named least when switched on: {least}. What changes most: {most}.")


def show_company(shares: Mapping[str, float], word: str) -> None:
    """Show how often a label is named, in %, by the concepts that are switched on."""
    figure, axes = new_figure(size=(8, 1.2 + 0.42 * len(shares)))
    draw_bars(axes[0, 0], list(shares), {"": list(shares.values())}, numbers="%.0f")
    xlabel = f"named {word}, in % of the images"
    axes[0, 0].set(title="Concepts that are switched on together", xlabel=xlabel, xlim=(0, 112))
    told = ", ".join(f"{name} {value:.0f}" for name, value in shares.items())
    show(figure, alt=f"How often {word} is named, in % of the images, by concepts switched on: {told}.")


def concept_view(
    image: Any,
    names: Sequence[str],
    before: Sequence[float],
    after: Sequence[float],
    paths: Mapping[str, Sequence[tuple[str, bool]]],
    *,
    most: int = 8,
) -> Figure:
    """An image, its most probable concepts with those changed by hand, and what is decoded.

    names, before, after: C labels, their probabilities, and those that the decoder is given; where the two differ, both
        are drawn and "(set)" follows the name. most: concepts drawn, changed ones in any case. paths: see
        `draw_sequences`.
    """
    own, given = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    changed, higher = own != given, np.maximum(own, given)
    chosen = np.argsort(-(2 * changed + higher), kind="stable")[: max(most, changed.sum())]
    chosen = chosen[np.argsort(-higher[chosen], kind="stable")]
    figure, axes = new_figure(1, 3, size=(9, 4.0), width_ratios=(0.85, 0.8, 0.42 + 0.5 * len(paths)))
    draw_image(axes[0, 0], image)
    labels = [names[c] + (" (set)" if changed[c] else "") for c in chosen]
    series = {"own": own[chosen]}
    if changed.any():
        series["set by hand"] = np.where(changed, given, np.nan)[chosen]
    draw_bars(axes[0, 1], labels, series, colours=(PALETTE[5], PALETTE[4]), share=True)
    axes[0, 1].set(xlabel="probability (hatched: set)", title="concepts")
    draw_sequences(axes[0, 2], paths)
    return figure


def concept_figure(
    decoder: Decoder,
    concepts: Tensor,
    changed: dict[int, float],
    record: Record,
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> tuple[Figure, str]:
    """What a decoder says of an image from its concepts, and from these with some set by hand.

    decoder: in eval mode. concepts: (C,) float32 in 0..1. changed: label id -> probability. max_labels: labels named at
    most. Returns the figure and a sentence.
    """
    given = concepts.clone()
    for label, value in changed.items():
        given[label] = value
    own, mine = (
        until_stop(greedy(decoder, Features(p[None]), max_steps=max_labels + 1).tokens[0], vocabulary)
        for p in (concepts, given)
    )
    paths = {"from its own concepts": [(name, False) for name in own]}
    text = f"True labels: {', '.join(record.labels) or 'none'}. From its own concepts: {', '.join(own)}."
    if changed:
        paths["from yours (new: *)"] = [(name, name not in own) for name in mine]
        text += f" With {_told(changed, vocabulary)}: {', '.join(mine)}."
    image, names = open_image(record.path), vocabulary.labels
    return concept_view(image, names, concepts.tolist(), given.tolist(), paths), text


def _told(changed: Mapping[int, float], vocabulary: Vocabulary) -> str:
    return ", ".join(f"{vocabulary.labels[label]} = {p:.2f}" for label, p in sorted(changed.items()))


def show_concepts(
    decoder: Decoder,
    concepts: Tensor,
    changed: dict[int, float],
    record: Record,
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> None:
    """Show the figure of `concept_figure`."""
    figure, text = concept_figure(decoder, concepts, changed, record, vocabulary, max_labels=max_labels)
    show(figure, alt=f"Static: an image, its concepts, some set by hand, and two decoded sequences. {text}")


def concept_switches(
    decoder: Decoder,
    concepts: Tensor,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> View:
    """Turn the concepts of an image up and down and see what the decoder says then.

    concepts: (B, C) float32 in 0..1, of the B images `records`. max_labels: labels named at most. Labels that are said
    only with the reader's concepts have a star.
    """
    image = image_slider(len(records))
    concept = choice("Concept", [(name, i) for i, name in enumerate(vocabulary.labels)])
    value = slider("FloatSlider", "Probability", min=0, max=1, step=0.01)

    def own(label: int) -> float:
        return round(float(concepts[image.value - 1, label]), 2)

    def tell(changed: dict[int, float]) -> str:
        told = _told(changed, vocabulary)
        return f"You set {told}." if changed else "The concepts are the image's own."

    edits = edits_by_hand(concept, value, own=own, tell=tell, image=image)

    def draw(image: int, chosen: str) -> tuple[Figure, str]:
        given = decoder, concepts[image - 1], edits.values, records[image - 1], vocabulary
        return concept_figure(*given, max_labels=max_labels)

    controls = {"image": image, "chosen": edits.chosen}
    view = figure_view(draw, controls, rows=[[image, edits.again], [concept, value], [edits.chosen]])
    view.controls |= {"concept": concept, "value": value}
    view.again = edits.again
    return view
