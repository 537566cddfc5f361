"""Figures, tables and views of notebook 06: thresholds, intervals, tests, choices on test, calibration, leaderboards."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from helpers.data.files import REPOSITORY, read_json
from helpers.data.labels import Vocabulary
from helpers.metrics.intervals import Difference, Interval
from helpers.metrics.label_sets import precision_recall_f1
from helpers.metrics.thresholds import apply_thresholds
from helpers.plots import LINES, PALETTE, new_figure, show
from lessons.figures import curves
from lessons.views import View, choice, figure_view, slider

T_THREE = 4.303  # 97.5 % point of Student's t with 2 degrees of freedom: for a mean of three seeds


def table(
    rows: Mapping[Any, Sequence[Sequence[float]]], columns: Sequence[str], corner: str = "", digits: int = 1
) -> None:
    """Show a Markdown table: mean ± standard deviation over the runs, the plain number where there is one run.

    rows: name, or a tuple of its parts -> for each run one number per column.
    """
    from IPython.display import Markdown, display

    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" + "|--:" * len(columns) + "|"]
    for name, runs in rows.items():
        cells = []
        for values in zip(*runs, strict=True):
            text = f"{statistics.fmean(values):.{digits}f}"
            cells.append(f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text)
        title = name if isinstance(name, str) else ", ".join(map(str, name))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    display(Markdown("\n".join(lines)))


# ---------------------------------------------------------------- thresholds


@dataclass(frozen=True)
class Sweep:
    """What each threshold gives on a split: thresholds, precision, recall and f1, (K,) float each."""

    thresholds: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor

    @classmethod
    def of(cls, scores: Tensor, target: Tensor) -> Sweep:
        """All decisions together at thresholds 0.01 to 0.99.

        scores: (N, C) float in 0..1; target: (N, C) bool. For one label, pass its column as (N, 1).
        """
        thresholds = torch.arange(1, 100) / 100
        named = [apply_thresholds(scores, float(value)) for value in thresholds]
        tp = torch.stack([(mask & target).sum() for mask in named])
        predicted = torch.stack([mask.sum() for mask in named])
        return cls(thresholds, *precision_recall_f1(tp, predicted, target.sum()))


def draw_sweep(ax: Axes, sweep: Sweep, marks: Mapping[str, float]) -> None:
    """Precision, recall and F1 against the threshold, with a vertical line at each of `marks` (name -> threshold)."""
    shown = {"precision": sweep.precision, "recall": sweep.recall, "F1": sweep.f1}
    for (name, values), line, colour in zip(shown.items(), ("--", "-.", "-"), PALETTE, strict=False):
        ax.plot(np.asarray(sweep.thresholds), values, line, color=colour, linewidth=2.5, label=name)
    for k, (name, threshold) in enumerate(marks.items()):
        ax.axvline(threshold, color="black", linewidth=1.8, linestyle=LINES[k % len(LINES)], label=name)
    ax.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.03))


def threshold_figure(
    scores: Tensor, target: Tensor, vocabulary: Vocabulary, *, label: str | None, marks: Mapping[str, float]
) -> Figure:
    """The scores of images with and without a label, and what each threshold gives on the split.

    scores: (N, C) float in 0..1, target: (N, C) bool. label: None for all labels together. marks: name -> threshold.
    """
    columns = list(range(len(vocabulary))) if label is None else vocabulary.encode([label])
    about, truth = scores[:, columns], target[:, columns]
    figure, axes = new_figure(1, 2, size=(9, 4.1))
    left, right = axes[0]
    steps = np.linspace(0, 1, 26)
    style = {"edgecolor": "black", "linewidth": 0.5}
    left.hist(about[truth].numpy(), steps, color=PALETTE[0], alpha=0.75, label="label is there", **style)
    left.hist(
        about[~truth].numpy(), steps, color=PALETTE[1], alpha=0.65, label="it is not", hatch="//", **style
    )
    left.set_yscale("log")
    for k, threshold in enumerate(marks.values()):
        left.axvline(threshold, color="black", linewidth=1.8, linestyle=LINES[k % len(LINES)])
    subject = "all labels" if label is None else label
    left.set(xlabel="score", ylabel="decisions (log scale)", title=f"{subject}: scores")
    left.legend(frameon=False, fontsize=12)
    draw_sweep(right, Sweep.of(about, truth), marks)
    right.set_title(f"{subject}: what a threshold gives")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def threshold_view(scores: Tensor, target: Tensor, vocabulary: Vocabulary, *, label: str) -> View:
    """Choose a label and move its threshold. Arguments as in `threshold_figure`; label: the one at first."""
    options = [("all labels", None)] + [(name, name) for name in vocabulary.labels]
    wanted = choice("Label", options, label)
    level = slider("FloatSlider", "Threshold", value=0.5, min=0.01, max=0.99, step=0.01)

    def draw(label: str | None, level: float) -> tuple[Figure, str]:
        figure = threshold_figure(scores, target, vocabulary, label=label, marks={"your threshold": level})
        columns = list(range(len(vocabulary))) if label is None else vocabulary.encode([label])
        named, truth = apply_thresholds(scores, level)[:, columns], target[:, columns]
        found = precision_recall_f1((named & truth).sum(), named.sum(), truth.sum())
        values = ", ".join(
            f"{n} {float(x):.2f}" for n, x in zip(("precision", "recall", "F1"), found, strict=True)
        )
        return figure, f"At {level:.2f}: {int(named.sum())} named, {int(truth.sum())} true; {values}."

    return figure_view(draw, {"label": wanted, "level": level}, rows=[[wanted, level]])


# ---------------------------------------------------------------- intervals and tests


def show_draws(values: Tensor, marks: Mapping[str, float], *, xlabel: str, title: str) -> None:
    """Show a histogram of what chance gives, with vertical lines; values: (R,); marks: name -> place, in percent."""
    figure, axes = new_figure(size=(7.6, 3.9))
    ax = axes[0, 0]
    ax.hist(100 * values.numpy(), 31, color=PALETTE[5], edgecolor="white")
    for k, (name, place) in enumerate(marks.items()):
        ax.axvline(place, color=PALETTE[(0, 3, 3)[k]], linewidth=2.5, linestyle=LINES[k and 1], label=name)
    ax.set(xlabel=xlabel, ylabel="number of draws", title=title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    places = ", ".join(f"{name} at {place:.1f}" for name, place in marks.items())
    show(figure, alt=f"Histogram of {len(values)} draws of {xlabel}; {places}.")


def show_tests(lines: Sequence[tuple[str, int, Difference, bool]], name: str) -> None:
    """Show paired tests as a Markdown table: (metric, seed, difference, whether the two single intervals overlap)."""
    from IPython.display import Markdown, display

    head = f"| {name} | seed | difference | 95 % interval | p | single intervals |\n|---|--:|--:|--:|--:|---|"
    rows = [
        f"| {metric.replace('_', ' ')} | {seed} | {100 * d.value:+.1f} | {100 * d.low:+.1f} to {100 * d.high:+.1f} "
        f"| {d.p:.3f} | {'overlap' if overlap else 'apart'} |"
        for metric, seed, d, overlap in lines
    ]
    display(Markdown("\n".join([head, *rows])))


def leaderboard(
    systems: Mapping[str, Mapping[str, Interval]],
    seeds: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
) -> Figure:
    """Systems as rows, one panel per metric: a dot with its interval over the images, rings for training seeds.

    systems: name -> metric -> interval; all with the same metrics. seeds: name -> metric -> values of all seeds.
    """
    metrics = list(next(iter(systems.values())))
    figure, axes = new_figure(1, len(metrics), size=(9, 1.8 + 0.5 * len(systems)), sharey=True)
    rows = np.arange(len(systems))
    dot = {"fmt": "o", "color": PALETTE[0], "markersize": 8, "elinewidth": 3}
    ring = {"color": "black", "marker": "o", "markerfacecolor": "white", "ls": "", "markersize": 6}
    for ax, metric in zip(axes[0], metrics, strict=True):
        found = [values[metric] for values in systems.values()]
        low, value, high = 100 * np.array([(one.low, one.value, one.high) for one in found]).T
        ax.errorbar(value, rows, xerr=(value - low, high - value), label="95 % interval", **dot)
        points = [(100 * v, row + 0.3) for row, name in enumerate(systems) for v in seeds[name][metric]]
        ax.plot(*zip(*points, strict=True), label="one training seed", **ring)
        ax.set(xlabel=f"{metric.replace('_', ' ')} (percent)", ylim=(len(systems) - 0.5, -0.5))
        ax.grid(axis="x", color="0.88")
        ax.set_axisbelow(True)
    axes[0, 0].set_yticks(rows, list(systems))
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize=12)
    figure.suptitle(title, fontsize=14)
    return figure


def optimism(
    number: Sequence[int],
    reported: Mapping[str, Sequence[float]],
    worth: Mapping[str, Sequence[float]],
    *,
    ylabel: str,
    title: str,
) -> Figure:
    """What the best of k candidates claims where it was chosen (solid), and is worth elsewhere (dashed).

    number: k, ascending. reported, worth: who chose -> a value for every k.
    """
    series = {f"{name}: reported": values for name, values in reported.items()}
    series |= {f"{name}: on other images": worth[name] for name in reported}
    texts = {"xlabel": "candidates to choose from", "ylabel": ylabel, "title": title}
    figure = curves(series, x=number, log_x=True, **texts)
    lines = figure.axes[0].lines
    for solid, dashed in zip(lines, lines[len(reported) :], strict=False):
        dashed.set(color=solid.get_color(), marker=solid.get_marker(), linestyle="--")
    figure.legends[0].remove()
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=12)
    return figure


def reliability(systems: Mapping[str, dict[str, Any]], *, title: str) -> Figure:
    """Share of cases that are right against the probability that was claimed, one panel per system.

    systems: name -> what `report.calibration` returns. The area of a dot grows with its cases.
    """
    figure, axes = new_figure(1, len(systems), size=(2.95 * len(systems), 3.6), sharey=True)
    for ax, (name, found) in zip(axes[0], systems.items(), strict=True):
        ax.plot([0, 1], [0, 1], color="0.5", linestyle="--")
        x, y = ([b[key] for b in found["bins"]] for key in ("probability", "correct"))
        ax.plot(x, y, color=PALETTE[0], lw=1.5)
        areas = [20 + 400 * b["cases"] / found["cases"] for b in found["bins"]]
        ax.scatter(x, y, s=areas, color=PALETTE[0], alpha=0.75)
        text = f"claims {found['probability']:.2f}\nright {found['correct']:.2f}\nerror {found['error']:.2f}"
        ax.text(0.03, 0.97, text, fontsize=12, va="top", transform=ax.transAxes)
        ax.set(title=name, xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xlabel="probability claimed")
    axes[0, 0].set_ylabel("share right")
    figure.suptitle(title, fontsize=14)
    return figure


# ---------------------------------------------------------------- stored results


def stored_results(data: str) -> dict[str, list[dict[str, float]]]:
    """System -> the test metrics of its seeds, from docs/results.json; data: such as "corel5k"."""
    runs = read_json(REPOSITORY / "docs" / "results.json")["runs"][data]
    return {name: [run["test"] for run in seeds] for name, seeds in runs.items()}


def mean_interval(values: Sequence[float]) -> Interval:
    """The 95 % interval around the mean of three seeds (Student's t); of another number of seeds the mean alone."""
    mean = statistics.fmean(values)
    half = T_THREE * statistics.stdev(values) / 3**0.5 if len(values) == 3 else 0.0
    return Interval(mean, mean - half, mean + half)


def stored_leaderboard(data: str, metrics: Sequence[str]) -> Figure:
    """All stored systems of a data set, the best in the first metric on top; intervals are those of the mean of seeds."""
    found = {n: runs for n, runs in stored_results(data).items() if all(m in runs[0] for m in metrics)}
    values = {n: {m: [run[m] for run in runs] for m in metrics} for n, runs in found.items()}
    order = sorted(values, key=lambda n: -statistics.fmean(values[n][metrics[0]]))
    intervals = {n: {m: mean_interval(values[n][m]) for m in metrics} for n in order}
    title = f"{data}, test: mean of three seeds, ordered by {metrics[0]}"
    figure = leaderboard(intervals, {n: values[n] for n in order}, title=title)
    figure.set_size_inches(9, min(6.3, 1.6 + 0.27 * len(order)))
    return figure


def stored_view() -> View:
    """Choose a data set of docs/results.json and the two metrics to compare."""
    runs = read_json(REPOSITORY / "docs" / "results.json")["runs"]
    sets = [name for name, by in runs.items() if any("OF1" in seeds[0]["test"] for seeds in by.values())]
    names = ("OF1", "CF1", "exact_match", "CF1_mean_of_classes", "image_F1", "mAP")
    data, first, second = (
        choice(text, options, value)
        for text, options, value in (
            ("Data", sets, sets[0]),
            ("Order by", names, "CF1"),
            ("Beside it", names, "OF1"),
        )
    )

    def draw(data: str, first: str, second: str) -> tuple[Figure, str]:
        metrics = list(dict.fromkeys([first, second]))
        figure = stored_leaderboard(data, metrics)
        best = figure.axes[0].get_yticklabels()[0].get_text()
        return figure, f"First in {first}: {best}."

    return figure_view(draw, {"data": data, "first": first, "second": second}, rows=[[data, first, second]])
