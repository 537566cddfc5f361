"""Everything that is reported of a system, against counts by hand and against scikit-learn."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from scripted import VOCABULARY, D, brute_force, make_batch, make_system
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary, pad_labels, to_multi_hot
from helpers.metrics.label_sets import multilabel_metrics
from helpers.systems.registry import build
from helpers.training.report import (
    Said,
    by_frequency,
    by_set_size,
    calibration,
    report,
    run_system,
    search_or_model,
)

FREQUENCY = torch.tensor([30, 4, 100, 9])


@pytest.mark.parametrize("name", ["bce", "ria", "cnn_rnn", "sr_cnn_rnn", "attention", "attention_mla"])
def test_a_report_of_every_kind_of_system(name: str) -> None:
    said = run_system(name, make_system(name), [make_batch(), make_batch()])
    found = report(said, VOCABULARY.labels, FREQUENCY, replicates=20)
    json.dumps(found, allow_nan=False)
    assert found["images"] == 12
    values = multilabel_metrics(said.predicted, said.target, said.scores)
    for key, value in values.items():
        entry = found["metrics"][key]
        assert entry["value"] == pytest.approx(value)
        assert entry["low"] <= entry["value"] <= entry["high"]
    assert [row["label"] for row in found["by_label"]] == ["bird", "cat", "tree", "dog"]
    assert sum(row["images"] for row in found["by_set_size"]) == 12
    assert (said.top.sum(1) == 3).all()
    assert found["top_3"]["OP"] == pytest.approx(float((said.top & said.target).sum() / said.top.sum()))
    assert ("label_calibration" in found) == (said.scores is not None)
    shares = [found["search_or_model"][key] for key in ("right", "search_error", "model_error")]
    assert sum(shares) == pytest.approx(1)


def test_set_probabilities_are_those_of_every_order() -> None:
    system, batch = make_system("ria").eval(), make_batch()
    said = run_system("ria", system, [batch])
    with torch.no_grad():
        pooled = system.decoder_features(batch.features).pooled
    for i in range(len(batch)):
        every = brute_force(system.decoder, pooled[i : i + 1], 4)
        for chosen, found in (
            (said.target[i], said.truth_probability[i]),
            (said.predicted[i], said.probability[i]),
        ):
            wanted = set(chosen.nonzero().flatten().tolist())
            expected = sum(math.exp(p) for sequence, p in every.items() if set(sequence) == wanted)
            assert float(found) == pytest.approx(expected, abs=1e-5)
        truth = tuple(batch.labels[i, : batch.lengths[i]].tolist())
        assert float(said.truth_sequence[i]) == pytest.approx(every[truth], abs=1e-4)


def test_a_classifier_multiplies_its_labels() -> None:
    system, batch = make_system("bce").eval(), make_batch()
    said = run_system("bce", system, [batch])
    for i in range(len(batch)):
        expected = math.prod(
            float(p) if y else 1 - float(p) for p, y in zip(said.scores[i], said.target[i], strict=True)
        )
        assert float(said.truth_probability[i]) == pytest.approx(expected, rel=1e-4)


def make_said(
    predicted: list[list[int]], target: list[list[int]], p: list[float], truth: list[float]
) -> Said:
    sets = [torch.tensor(x, dtype=torch.bool) for x in (predicted, target)]
    return Said("s", *sets, None, None, 1, torch.tensor(p), torch.tensor(truth))


def test_search_and_model_errors() -> None:
    """Right; the truth was more probable but not found; the truth was less probable; unknown."""
    said = make_said(
        [[1, 0], [1, 0], [1, 0], [1, 1]],
        [[1, 0], [0, 1], [0, 1], [0, 1]],
        [0.5, 0.2, 0.6, math.nan],
        [0.5, 0.3, 0.1, 0.2],
    )
    found = search_or_model(said)
    assert [found[key] for key in ("right", "search_error", "model_error")] == pytest.approx([1 / 3] * 3)
    assert (found["images"], found["left_out"]) == (3, 1)


def test_by_set_size_and_frequency_are_the_metrics_of_their_part() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(50, 4, generator=generator) < 0.4
    predicted = torch.rand(50, 4, generator=generator) < 0.4
    said = replace(make_said([[1]], [[1]], [1.0], [1.0]), predicted=predicted, target=target)
    for row in by_set_size(said):
        chosen = target.sum(1) == row["size"]
        expected = multilabel_metrics(predicted[chosen], target[chosen])
        assert row["image_F1"] == pytest.approx(expected["image_F1"])
        assert row["named"] == pytest.approx(float(predicted[chosen].sum() / chosen.sum()))
    rows = by_frequency(said, FREQUENCY, bins=2)
    assert [(row["least"], row["most"], row["labels"]) for row in rows] == [(4, 9, 2), (30, 100, 2)]
    assert rows[0]["CF1"] == pytest.approx(multilabel_metrics(predicted[:, [1, 3]], target[:, [1, 3]])["CF1"])


def test_calibration_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(500, generator=generator)
    y = torch.rand(500, generator=generator) < p**2  # too sure of itself
    found = calibration(p, y, bins=8)
    correct, mean = calibration_curve(y.numpy(), p.numpy(), n_bins=8)
    assert [b["correct"] for b in found["bins"]] == pytest.approx(correct.tolist(), abs=1e-6)
    assert [b["probability"] for b in found["bins"]] == pytest.approx(mean.tolist(), abs=1e-6)
    assert found["brier"] == pytest.approx(brier_score_loss(y.numpy(), p.numpy()), abs=1e-6)
    error = sum(b["cases"] * abs(b["correct"] - b["probability"]) for b in found["bins"]) / 500
    assert found["error"] == pytest.approx(error, abs=1e-5)
    assert found["probability"] > found["correct"]
    holes = torch.cat([p, torch.tensor([torch.nan])]), torch.cat([y, torch.tensor([True])])
    assert calibration(*holes, bins=8) == found | {"left_out": 1}
    assert calibration(torch.tensor([torch.nan]), torch.tensor([True]))["cases"] == 0


def test_sets_that_are_too_large_are_left_out_not_guessed() -> None:
    vocabulary = Vocabulary([f"l{i}" for i in range(12)])
    labels, lengths = pad_labels([list(range(9)), [3, 1]], vocabulary.stop)
    batch = Batch(
        torch.arange(2), labels, lengths, to_multi_hot(labels, 12), features=Features(torch.randn(2, D))
    )
    system = build("ria", vocabulary, D, max_labels=10, hidden_size=8, embedding_size=4)
    said = run_system("ria", system, [batch])
    assert said.truth_probability.isnan().tolist() == [True, False]
    assert search_or_model(said)["left_out"] >= 1


def test_the_search_of_a_system_is_not_changed() -> None:
    system = make_system("ria", beam_width=2)
    run_system("ria", system, [make_batch()])
    assert (system.beam_width, system.top_k) == (2, None)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        run_system("ria", system, [])
