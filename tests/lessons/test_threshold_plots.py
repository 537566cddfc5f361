"""Figures of thresholds: they agree with the metrics."""

from __future__ import annotations

import pytest
import torch
from lessons import nb02 as threshold_plots
from test_feature_plots import drawn, texts

from helpers.metrics.label_sets import multilabel_metrics


def test_a_sweep_agrees_with_the_metrics_at_every_threshold() -> None:
    scores, target = torch.rand(40, 5), torch.rand(40, 5) < 0.3
    sweep = threshold_plots.Sweep.of(scores, target)
    assert len(sweep.thresholds) == 99
    for k in (0, 29, 98):
        expected = multilabel_metrics(scores >= sweep.thresholds[k], target)
        assert float(sweep.precision[k]) == pytest.approx(expected["OP"])
        assert float(sweep.recall[k]) == pytest.approx(expected["OR"])
        assert float(sweep.f1[k]) == pytest.approx(expected["OF1"])
    figure = threshold_plots.threshold_sweeps({"val": sweep, "test": sweep}, {"val": {"chosen": 0.3}})
    assert drawn(figure) and "chosen" in texts(figure)


def test_a_sweep_without_positives_stays_finite() -> None:
    sweep = threshold_plots.Sweep.of(torch.rand(6, 1), torch.zeros(6, 1, dtype=torch.bool))
    assert torch.equal(sweep.f1, torch.zeros(99, dtype=sweep.f1.dtype))


def test_precision_recall_names_its_lines_and_points() -> None:
    x = torch.linspace(0, 1, 5)
    figure = threshold_plots.precision_recall(
        {"bird": (x, 1 - x)}, {"half": {"bird": (0.5, 0.5), "other": (0.1, 0.1)}}, title="t"
    )
    assert drawn(figure) and "bird" in texts(figure) and "half" in texts(figure)
