"""The figures of notebook 06: what is drawn is what was given."""

from __future__ import annotations

import pytest
import torch
from lessons import nb06 as search_plots
from lessons.nb06 import grow
from matplotlib.backends.backend_agg import FigureCanvasAgg
from test_search_tree import Maze

from helpers import plots
from helpers.data.batches import Features
from helpers.metrics.intervals import Interval
from helpers.training.report import calibration

NAMES = ["ant", "bee", "cat", "<stop>", "<start>"]


def test_the_tree_has_every_branch() -> None:
    found = grow(Maze(), Features(torch.zeros(1, 1)), width=2, max_steps=3)
    figure = search_plots.tree(found, NAMES, true=["ant"], title="a tree")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert len(words) == len(found.branches) + 3, "a box a branch, and the steps"
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"goes on", "given up", "greedy search, after the beam left it"} <= legend, (
        "every kind of box is named"
    )
    assert "<start>" in words and "bee ✗  0.40" in words and "ant  0.60" in words and "<stop>  0.36" in words
    places = [text.get_position() for text in figure.axes[0].texts]
    assert len(set(places)) == len(places), "no box hides another"
    plots.to_png(figure)
    FigureCanvasAgg(figure).draw()
    around = figure.legends[0].get_window_extent()
    assert around.x0 >= 0 and around.x1 <= figure.bbox.width, "the legend is not cut, in a small tree either"


def test_the_leaderboard_has_a_row_a_system() -> None:
    systems = {name: {"OF1": Interval(0.9, 0.85, 0.95), "CF1": Interval(0.8, 0.7, 0.9)} for name in "ab"}
    seeds = {name: {"OF1": [0.9, 0.91], "CF1": [0.8, 0.82]} for name in "ab"}
    figure = search_plots.leaderboard(systems, seeds, title="who wins")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b"]
    assert len(figure.axes) == 2
    assert list(figure.axes[0].lines[0].get_xdata()) == [85, 95]
    plots.to_png(figure)


def test_reliability_has_a_panel_a_system() -> None:
    p = torch.tensor([0.1, 0.2, 0.9, 0.95])
    found = calibration(p, p > 0.5)
    figure = search_plots.reliability({"a": found, "b": found}, title="sure?", columns=3)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", ""]
    assert f"claims {found['probability']:.2f}" in figure.axes[0].texts[0].get_text()
    assert figure.axes[0].get_xlabel() == "probability claimed", (
        "of a set or of a sequence: the title says it"
    )
    plots.to_png(figure)


def test_optimism_has_two_lines_a_chooser() -> None:
    figure = search_plots.optimism(
        [1, 2], {"a": [1.0, 2.0]}, {"a": [1.0, 1.1]}, ylabel="OF1", title="best of k"
    )
    assert [line.get_label() for line in figure.axes[0].lines] == ["a: reported", "a: on other images"]
    plots.to_png(figure)


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.5, "0.50"), (0.0412, "0.041"), (0.004, "0.004"), (0.00236, "0.0024"), (1e-6, "<0.0001")],
)
def test_probabilities_are_short(p: float, text: str) -> None:
    assert search_plots._short(p) == text
