"""Thresholds, draws, tests, choices, calibration and leaderboards: the numbers in them are those that were given."""

from __future__ import annotations

import pytest
import torch
from lessons import nb06 as lesson

from helpers import plots
from helpers.data.labels import Vocabulary
from helpers.metrics.intervals import Difference, Interval
from helpers.metrics.label_sets import multilabel_metrics
from helpers.training.report import calibration

pytest.importorskip("ipywidgets")
VOCABULARY = Vocabulary(("ant", "bee", "cat"))
GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.rand(12, 3, generator=GENERATOR)
TRUTH = torch.rand(12, 3, generator=GENERATOR) < 0.5


@pytest.fixture
def printed(monkeypatch):
    """What is displayed: Markdown sources and alt texts."""
    pytest.importorskip("IPython")
    shown: list[str] = []
    monkeypatch.setattr("IPython.display.display", lambda x, **_: shown.append(getattr(x, "data", x)))
    monkeypatch.setattr(lesson, "show", lambda figure, *, alt: shown.append(alt) or plots.to_png(figure))
    return shown


def test_a_table_has_mean_and_spread(printed) -> None:
    lesson.table({"a": [[1.0, 2.0], [3.0, 2.0]], "b": [[5.0, 6.0]]}, ("x", "y"), "%")
    lines = printed[0].splitlines()
    assert lines[0] == "| % | x | y |"
    assert lines[2:] == ["| a | 2.0 ± 1.4 | 2.0 ± 0.0 |", "| b | 5.0 | 6.0 |"]


def test_a_sweep_agrees_with_the_metrics_at_every_threshold() -> None:
    sweep = lesson.Sweep.of(SCORES, TRUTH)
    assert len(sweep.thresholds) == 99
    for k in (0, 30, 98):
        expected = multilabel_metrics(sweep.thresholds[k] <= SCORES, TRUTH)
        for values, key in ((sweep.precision, "OP"), (sweep.recall, "OR"), (sweep.f1, "OF1")):
            assert float(values[k]) == pytest.approx(expected[key])


def test_a_sweep_without_positives_stays_finite() -> None:
    sweep = lesson.Sweep.of(torch.rand(6, 1), torch.zeros(6, 1, dtype=torch.bool))
    assert sweep.f1.isfinite().all()


def test_the_threshold_view_counts_one_label_and_all_of_them() -> None:
    view = lesson.threshold_view(SCORES, TRUTH, VOCABULARY, label="bee")
    named = int((SCORES[:, 1] >= 0.5).sum())
    assert f"At 0.50: {named} named, {int(TRUTH[:, 1].sum())} true" in view.sentence.value
    view.controls["label"].value = None
    assert f"{int(TRUTH.sum())} true" in view.sentence.value
    before = view.picture.value
    view.controls["level"].value = 0.2
    assert view.picture.value != before and "At 0.20" in view.sentence.value


def test_draws_name_their_marks(printed) -> None:
    marks = {"seen": 3.0, "none": 0.0}
    lesson.show_draws(torch.randn(50) / 100, marks, xlabel="points", title="chance")
    assert "seen at 3.0" in printed[0]


def test_tests_are_a_line_each(printed) -> None:
    found = Difference(0.012, -0.001, 0.025, 0.061)
    lesson.show_tests([("exact_match", 0, found, True), ("OF1", 1, found, False)], "b − a")
    lines = printed[0].splitlines()
    assert lines[2] == "| exact match | 0 | +1.2 | -0.1 to +2.5 | 0.061 | overlap |"
    assert lines[3].endswith("| apart |")


def test_the_leaderboard_has_a_row_per_system() -> None:
    systems = {name: {"OF1": Interval(0.9, 0.85, 0.95), "CF1": Interval(0.8, 0.7, 0.9)} for name in "ab"}
    seeds = {name: {"OF1": [0.9, 0.91], "CF1": [0.8, 0.82]} for name in "ab"}
    figure = lesson.leaderboard(systems, seeds, title="who wins")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b"]
    assert len(figure.axes) == 2
    (interval,) = figure.axes[0].collections[0].get_segments()[:1]
    assert interval[:, 0] == pytest.approx([85, 95])
    plots.to_png(figure)


def test_reliability_has_a_panel_per_system() -> None:
    p = torch.tensor([0.1, 0.2, 0.9, 0.95])
    found = calibration(p, p > 0.5)
    figure = lesson.reliability({"a": found, "b": found}, title="sure?")
    assert [ax.get_title() for ax in figure.axes] == ["a", "b"]
    assert f"claims {found['probability']:.2f}" in figure.axes[0].texts[0].get_text()
    plots.to_png(figure)


def test_optimism_has_two_lines_per_chooser() -> None:
    figure = lesson.optimism([1, 2], {"a": [1.0, 2.0]}, {"a": [1.0, 1.1]}, ylabel="OF1", title="best of k")
    assert [line.get_label() for line in figure.axes[0].lines] == ["a: reported", "a: on other images"]
    plots.to_png(figure)


def test_the_interval_of_a_mean_needs_three_seeds() -> None:
    found = lesson.mean_interval([1.0, 2.0, 3.0])
    assert found.value == 2 and found.high == pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3)
    alone = lesson.mean_interval([1.0])
    assert alone.low == alone.value == alone.high == 1


def test_stored_results_are_ordered_by_the_first_metric() -> None:
    figure = lesson.stored_leaderboard("corel5k", ("CF1", "OF1"))
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    means = {
        n: sum(run["CF1"] for run in runs) / len(runs) for n, runs in lesson.stored_results("corel5k").items()
    }
    assert names == sorted(means, key=lambda n: -means[n])
    width, height = (110 * side for side in figure.get_size_inches())
    assert width <= 1000 and height <= 700


def test_the_stored_view_draws_other_metrics() -> None:
    view = lesson.stored_view()
    assert view.sentence.value.startswith("First in CF1: ")
    before = view.picture.value
    view.controls["first"].value = "OF1"
    assert view.sentence.value.startswith("First in OF1: ") and view.picture.value != before
    view.controls["data"].value = view.controls["data"].options[-1]
    assert "Error" not in view.sentence.value
