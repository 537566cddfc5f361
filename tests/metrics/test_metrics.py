"""helpers.metrics against a count by hand, scikit-learn and torchmetrics; ties, empty classes, refusals."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from torchmetrics.functional.classification import multilabel_average_precision

from helpers.metrics.label_sets import (
    MultiLabelMetrics,
    multilabel_metrics,
    per_label_metrics,
    sequence_metrics,
)

quick = settings(max_examples=60, deadline=None)
KEYS = ["CP", "CR", "CF1", "CF1_mean_of_classes", "OP", "OR", "OF1", "N+"]
KEYS += ["image_P", "image_R", "image_F1", "exact_match"]
NAN = math.nan


@st.composite
def tables(draw):
    """predicted, target, scores; scores with many ties, classes and images without anything."""
    images, labels = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    share = draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    target = torch.rand(images, labels, generator=generator) < share
    predicted = torch.rand(images, labels, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.7]))
    scores = torch.randint(-3, 4, (images, labels), generator=generator) * draw(st.sampled_from([0.1, 7.0]))
    return predicted, target, scores.double()


def ratio(part, whole, zero_division):
    return part / whole if whole else zero_division


def mean(values):
    values = [v for v in values if not math.isnan(v)]
    return sum(values) / len(values) if values else NAN


def by_hand(predicted, target, zero_division):
    """Every metric with loops and sets of Python, nothing shared with the implementation."""
    said = [{c for c, v in enumerate(row) if v} for row in predicted.tolist()]
    true = [{c for c, v in enumerate(row) if v} for row in target.tolist()]
    classes = range(target.shape[1])
    tp = [sum(c in s and c in t for s, t in zip(said, true, strict=True)) for c in classes]
    pred = [sum(c in s for s in said) for c in classes]
    real = [sum(c in t for t in true) for c in classes]
    z = zero_division
    cp = mean([ratio(a, b, z) for a, b in zip(tp, pred, strict=True)])
    cr = mean([ratio(a, b, z) for a, b in zip(tp, real, strict=True)])
    return {
        "CP": cp,
        "CR": cr,
        "CF1": 2 * cp * cr / (cp + cr) if cp + cr else 0.0,
        "CF1_mean_of_classes": mean([ratio(2 * tp[c], pred[c] + real[c], z) for c in classes]),
        "OP": ratio(sum(tp), sum(pred), z),
        "OR": ratio(sum(tp), sum(real), z),
        "OF1": ratio(2 * sum(tp), sum(pred) + sum(real), z),
        "N+": sum(x > 0 for x in tp),
        "image_P": mean([ratio(len(s & t), len(s), z) for s, t in zip(said, true, strict=True)]),
        "image_R": mean([ratio(len(s & t), len(t), z) for s, t in zip(said, true, strict=True)]),
        "image_F1": mean(
            [ratio(2 * len(s & t), len(s) + len(t), z) for s, t in zip(said, true, strict=True)]
        ),
        "exact_match": mean([float(s == t) for s, t in zip(said, true, strict=True)]),
    }


@quick
@given(tables(), st.sampled_from([0.0, 1.0, NAN]))
def test_equal_to_a_count_by_hand(table, zero_division):
    predicted, target, _ = table
    ours = multilabel_metrics(predicted, target, zero_division=zero_division)
    assert list(ours) == KEYS
    expected = by_hand(predicted, target, zero_division)
    # torchmetrics gives the share of exact matches in float32
    assert ours.pop("exact_match") == pytest.approx(expected.pop("exact_match"), rel=1e-6)
    assert ours == pytest.approx(expected, nan_ok=True, rel=1e-12)


@quick
@given(tables(), st.sampled_from([0.0, 1.0]))
def test_equal_to_scikit_learn(table, zero_division):
    predicted, target, _ = table
    ours = multilabel_metrics(predicted, target, zero_division=zero_division)
    per_label = per_label_metrics(predicted, target, zero_division=zero_division)
    # A column more in both keeps scikit-learn from taking a single label for a binary problem.
    pair = [np.pad(x.numpy(), ((0, 0), (0, 1))) for x in (target, predicted)]

    def theirs(average):
        labels = range(target.shape[1])
        return precision_recall_fscore_support(
            *pair, average=average, zero_division=zero_division, labels=labels
        )

    for key, average, place in [
        ("CP", "macro", 0),
        ("CR", "macro", 1),
        ("CF1_mean_of_classes", "macro", 2),
        ("OP", "micro", 0),
        ("OR", "micro", 1),
        ("OF1", "micro", 2),
        ("image_P", "samples", 0),
        ("image_R", "samples", 1),
        ("image_F1", "samples", 2),
    ]:
        assert ours[key] == pytest.approx(theirs(average)[place], rel=1e-12), key
    for key, value in zip(("precision", "recall", "f1", "support"), theirs(None), strict=True):
        np.testing.assert_allclose(per_label[key], value, rtol=1e-12, err_msg=key)


def reference_average_precision(scores, target):
    """scikit-learn's, class by class; nan where a class has no positive (there it says 0)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return np.array(
            [
                average_precision_score(y, s) if y.any() else NAN
                for s, y in zip(scores.numpy().T, target.numpy().T, strict=True)
            ]
        )


@quick
@given(tables())
def test_average_precision_is_scikit_learns(table):
    predicted, target, scores = table
    expected = reference_average_precision(scores, target)
    ours = per_label_metrics(predicted, target, scores)["average_precision"]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    score = multilabel_metrics(predicted, target, scores)["mAP"]
    assert score == pytest.approx(mean(expected.tolist()), nan_ok=True, rel=1e-12)
    kept = multilabel_metrics(predicted, target, scores, absent="zero")["mAP"]
    assert kept == pytest.approx(np.nan_to_num(expected).mean(), rel=1e-12)


@quick
@given(tables(), st.integers(0, 99))
def test_the_order_of_the_images_does_not_matter(table, seed):
    order = torch.randperm(len(table[0]), generator=torch.Generator().manual_seed(seed))
    first = multilabel_metrics(*table)
    assert multilabel_metrics(*(x[order] for x in table)) == pytest.approx(first, nan_ok=True, rel=1e-12)


def test_all_scores_equal_is_one_group():
    target = torch.tensor([[True]] + [[False]] * 4)
    for rows in (target, target.flip(0)):  # sorting with ties in data order says 1.0 or 0.2
        assert multilabel_metrics(rows, rows, torch.full((5, 1), 0.5))["mAP"] == pytest.approx(0.2)


def test_large_logits_are_no_ties():
    target = torch.tensor([[True], [False], [False]])
    scores = torch.tensor([[40.0], [30.0], [20.0]])
    assert multilabel_metrics(target, target, scores)["mAP"] == 1.0
    # What torchmetrics makes of the same logits, the reason for a sort of our own:
    theirs = multilabel_average_precision(scores, target.int(), num_labels=1, validate_args=False)
    assert theirs < 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scores_of_any_scale_and_dtype(dtype):
    target = torch.rand(50, 4) < 0.3
    scores = (torch.randn(50, 4) + target.float()).to(dtype)
    expected = np.nanmean(reference_average_precision(scores.double(), target))
    for monotone in (scores, scores.double().sigmoid(), scores * 64):  # × 64 is exact
        assert multilabel_metrics(target, target, monotone)["mAP"] == pytest.approx(expected, rel=1e-12)


def test_agrees_with_torchmetrics_on_probabilities():
    target, scores = torch.rand(200, 6) < 0.2, torch.rand(200, 6)
    theirs = multilabel_average_precision(scores, target.int(), num_labels=6, average="none")
    ours = per_label_metrics(target, target, scores)["average_precision"]
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-5, atol=0)


def test_the_two_cf1_are_two_numbers():
    # Class 0: precision 1, recall 0.5; class 1: precision 0.5, recall 1.
    predicted = torch.tensor([[1, 1], [0, 1]]).bool()
    target = torch.tensor([[1, 1], [1, 0]]).bool()
    result = multilabel_metrics(predicted, target)
    assert result["CP"] == result["CR"] == result["CF1"] == 0.75
    assert result["CF1_mean_of_classes"] == pytest.approx(2 / 3)
    assert result["CF1_mean_of_classes"] != result["CF1"]


def test_overall_is_not_per_image():
    # One image with four labels, all found; one with a label, missed, and a wrong one said.
    target = torch.tensor([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]).bool()
    predicted = torch.tensor([[1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]).bool()
    result = multilabel_metrics(predicted, target)
    assert result["OF1"] == pytest.approx(0.8) and result["image_F1"] == pytest.approx(0.5)
    assert result["exact_match"] == 0.5 and result["N+"] == 4


def test_nothing_predicted_is_zero_not_nan():
    target = torch.tensor([[True, False], [True, True]])
    result = multilabel_metrics(torch.zeros(2, 2, dtype=torch.bool), target)
    assert set(result.values()) == {0.0}


def test_no_positive_anywhere():
    nothing, scores = torch.zeros(3, 2, dtype=torch.bool), torch.rand(3, 2)
    assert math.isnan(multilabel_metrics(nothing, nothing, scores)["mAP"])
    assert multilabel_metrics(nothing, nothing, scores, absent="zero")["mAP"] == 0
    assert multilabel_metrics(nothing, nothing)["exact_match"] == 1


def test_no_warnings():
    nothing, scores = torch.zeros(3, 2, dtype=torch.bool), torch.rand(3, 2)
    target = torch.tensor([[True, False]] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        multilabel_metrics(nothing, target, scores)
        per_label_metrics(nothing, target, scores)


GOOD = torch.zeros(3, 2, dtype=torch.bool)
SCORES = torch.zeros(3, 2)


@pytest.mark.parametrize("function", [multilabel_metrics, per_label_metrics, MultiLabelMetrics().update])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD[:2], GOOD), r"predicted is \(2, 2\), target is \(3, 2\)"),
        ((GOOD[:, :1], GOOD), "must agree"),  # would broadcast
        ((GOOD, GOOD, SCORES[:2]), r"scores is \(2, 2\)"),
        ((GOOD[0], GOOD[0]), r"must be \(N, C\)"),
        ((GOOD[:0], GOOD[:0]), "not empty"),
        ((GOOD[:, :0], GOOD[:, :0]), "not empty"),
        ((GOOD.float(), GOOD), "predicted must be bool, found torch.float32"),
        ((GOOD, GOOD.int()), "target must be bool"),
        ((GOOD, GOOD, GOOD), "scores must be floating"),
        ((GOOD, GOOD, SCORES * torch.nan), "nan or infinity"),
        ((GOOD, GOOD, SCORES + torch.inf), "nan or infinity"),
    ],
)
def test_bad_input_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize(
    ("option", "message"), [({"zero_division": 0.5}, "zero_division"), ({"absent": "drop"}, "absent")]
)
def test_bad_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        multilabel_metrics(GOOD, GOOD, **option)
    with pytest.raises(ValueError, match=message):
        MultiLabelMetrics(**option)


# --- Over batches -------------------------------------------------------------------------------


@quick
@given(tables(), st.integers(1, 4), st.booleans())
def test_batches_give_the_same_as_all_at_once(table, size, with_scores):
    table = table if with_scores else table[:2]
    metric = MultiLabelMetrics(zero_division=1.0, absent="zero")
    for start in range(0, len(table[0]), size):
        metric.update(*(x[start : start + size] for x in table))
    expected = multilabel_metrics(*table, zero_division=1.0, absent="zero")
    assert metric.compute() == expected
    metric.reset()
    metric.update(*table)
    assert metric.compute() == expected


def test_forgotten_batches_and_scores_are_named():
    metric = MultiLabelMetrics()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns of compute before update, too
        with pytest.raises(ValueError, match="update"):
            metric.compute()
    metric.update(GOOD, GOOD, SCORES)
    with pytest.raises(ValueError, match="always or never"):
        metric.update(GOOD, GOOD)


def _score_a_share(rank: int, folder: Path, table: list[torch.Tensor]) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2
    )
    share = slice(0, 3) if rank == 0 else slice(3, None)  # unequal shares
    results = []
    for arguments in (table, table[:2]):  # with scores and without
        metric = MultiLabelMetrics()
        metric.update(*(x[share] for x in arguments))
        results.append(metric.compute())
    (folder / f"{rank}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_same_as_one(tmp_path):
    table = [torch.rand(8, 3) < 0.5, torch.rand(8, 3) < 0.5, torch.randn(8, 3)]
    mp.spawn(_score_a_share, args=(tmp_path, table), nprocs=2)
    expected = [multilabel_metrics(*table), multilabel_metrics(*table[:2])]
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [pytest.approx(e) for e in expected]


@pytest.mark.gpu
def test_the_device_does_not_matter():
    table = [torch.rand(500, 20) < 0.3, torch.rand(500, 20) < 0.3, torch.randn(500, 20)]
    on_gpu = [x.cuda() for x in table]
    expected = multilabel_metrics(*table)
    assert multilabel_metrics(*on_gpu) == expected
    metric = MultiLabelMetrics().cuda()
    metric.update(*on_gpu)
    assert metric.compute() == expected


def test_repeats_and_early_stops_by_hand():
    stop = 3
    tokens = torch.tensor(
        [
            [0, 0, 1, 0],  # two repeats, never stops
            [0, stop, stop, stop],  # two labels are true: early
            [1, 1, stop, stop],  # two are true, two said, if only one of them: one repeat, not early
            [stop, stop, stop, stop],  # nothing is true: not early
            [2, stop, 2, 2],  # what stands after the stop does not count; one is true: not early
        ]
    )
    target = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=torch.bool)
    assert sequence_metrics(tokens, target) == {"repeats": 3 / 5, "early_stops": 1 / 5}
    more = target.clone()
    more[0] = more[4] = True  # the first never stopped, so it cannot have stopped early; the last now did
    assert sequence_metrics(tokens, more)["early_stops"] == 2 / 5
    with pytest.raises(ValueError, match=r"tokens \(N, T\)"):
        sequence_metrics(tokens, target[:3])
