"""Figures of judged systems, from what `helpers.evaluate` writes. Notebook 06."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.plots import PALETTE, new_figure

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
