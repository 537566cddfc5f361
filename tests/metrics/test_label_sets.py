"""Set metrics against a count by hand, scikit-learn and torchmetrics; ties, empty labels, refusals."""

from __future__ import annotations

import math
import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from torchmetrics.functional.classification import multilabel_average_precision

from helpers.metrics.label_sets import (
    multilabel_metrics,
    per_label_metrics,
    sequence_metrics,
    set_consistency,
)

quick = settings(max_examples=20)


@st.composite
def tables(draw):
    """predicted, target, scores; scores with many ties, labels and images without anything."""
    images, labels = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    share = draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    target = torch.rand(images, labels, generator=generator) < share
    predicted = torch.rand(images, labels, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.7]))
    scores = torch.randint(-3, 4, (images, labels), generator=generator) * draw(st.sampled_from([0.1, 7.0]))
    return predicted, target, scores.double()


@quick
@given(tables())
def test_equal_to_a_count_by_hand(table):
    """What scikit-learn does not have, with loops and sets of Python."""
    predicted, target, _ = table
    found = multilabel_metrics(predicted, target)
    names = ["CP", "CR", "CF1", "CF1_mean_of_classes", "OP", "OR", "OF1", "N+"]
    assert list(found) == [*names, "image_P", "image_R", "image_F1", "exact_match"]
    said, true = ([{c for c, v in enumerate(row) if v} for row in x.tolist()] for x in (predicted, target))
    pairs = list(zip(said, true, strict=True))
    harmonic = 2 * found["CP"] * found["CR"] / (found["CP"] + found["CR"] or 1)
    assert found["CF1"] == pytest.approx(harmonic, rel=1e-12)
    assert found["N+"] == sum(any(c in s & t for s, t in pairs) for c in range(target.shape[1]))
    assert found["exact_match"] == sum(s == t for s, t in pairs) / len(pairs)


@quick
@given(tables())
def test_equal_to_scikit_learn(table):
    predicted, target, _ = table
    ours, per_label = multilabel_metrics(predicted, target), per_label_metrics(predicted, target)
    # A column more in both keeps scikit-learn from taking a single label for a binary problem.
    pair = [np.pad(x.numpy(), ((0, 0), (0, 1))) for x in (target, predicted)]
    options = {"zero_division": 0, "labels": range(target.shape[1])}
    for names, average in (
        (("CP", "CR", "CF1_mean_of_classes"), "macro"),
        (("OP", "OR", "OF1"), "micro"),
        (("image_P", "image_R", "image_F1"), "samples"),
    ):
        theirs = precision_recall_fscore_support(*pair, average=average, **options)[:3]
        assert [ours[name] for name in names] == pytest.approx(theirs, rel=1e-12)
    theirs = precision_recall_fscore_support(*pair, average=None, **options)
    for key, value in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        np.testing.assert_allclose(per_label[key], value, rtol=1e-12, err_msg=key)
    assert per_label["predicted"].tolist() == predicted.sum(0).tolist()


# ---- mean average precision ----------------------------------------------------------------------------------------


def reference_average_precision(scores, target):
    """scikit-learn's, label by label; nan where a label has no positive (there it says 0)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        columns = zip(scores.numpy().T, target.numpy().T, strict=True)
        return np.array([average_precision_score(y, s) if y.any() else math.nan for s, y in columns])


@quick
@given(tables(), st.integers(0, 99))
def test_average_precision_is_scikit_learns_in_any_order_of_the_images(table, seed):
    predicted, target, scores = table
    expected = reference_average_precision(scores, target)
    ours = per_label_metrics(predicted, target, scores)["average_precision"]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    found = multilabel_metrics(predicted, target, scores)
    mean = np.nanmean(expected) if target.any() else math.nan
    assert found["mAP"] == pytest.approx(mean, nan_ok=True, rel=1e-12)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    assert multilabel_metrics(*(x[order] for x in table)) == pytest.approx(found, nan_ok=True, rel=1e-12)


def test_all_scores_equal_is_one_group():
    target = torch.tensor([[True]] + [[False]] * 4)
    for rows in (target, target.flip(0)):  # sorting with ties in data order says 1.0 or 0.2
        assert multilabel_metrics(rows, rows, torch.full((5, 1), 0.5))["mAP"] == pytest.approx(0.2)


def test_large_logits_are_no_ties():
    target = torch.tensor([[True], [False], [False]])
    scores = torch.tensor([[40.0], [30.0], [20.0]])
    assert multilabel_metrics(target, target, scores)["mAP"] == 1.0
    # What torchmetrics makes of the same logits, the reason for a sort of our own:
    assert multilabel_average_precision(scores, target.int(), num_labels=1, validate_args=False) < 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scores_of_any_scale_and_dtype(dtype):
    target = torch.rand(50, 4) < 0.3
    scores = (torch.randn(50, 4) + target.float()).to(dtype)
    expected = np.nanmean(reference_average_precision(scores.double(), target))
    for monotone in (scores, scores.double().sigmoid(), scores * 64):  # × 64 is exact
        assert multilabel_metrics(target, target, monotone)["mAP"] == pytest.approx(expected, rel=1e-12)


# ---- by hand -------------------------------------------------------------------------------------------------------


def test_the_two_cf1_are_two_numbers():
    # Label 0: precision 1, recall 0.5; label 1: precision 0.5, recall 1.
    predicted, target = torch.tensor([[1, 1], [0, 1]]).bool(), torch.tensor([[1, 1], [1, 0]]).bool()
    result = multilabel_metrics(predicted, target)
    assert result["CP"] == result["CR"] == result["CF1"] == 0.75
    assert result["CF1_mean_of_classes"] == pytest.approx(2 / 3)


def test_overall_is_not_per_image():
    # One image with four labels, all found; one with a label, missed, and a wrong one predicted.
    target = torch.tensor([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]).bool()
    predicted = torch.tensor([[1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]).bool()
    result = multilabel_metrics(predicted, target)
    assert result["OF1"] == pytest.approx(0.8) and result["image_F1"] == pytest.approx(0.5)
    assert result["exact_match"] == 0.5 and result["N+"] == 4


def test_nothing_predicted_or_true_is_zero_without_a_warning():
    nothing, target = torch.zeros(2, 2, dtype=torch.bool), torch.tensor([[True, False], [True, True]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(multilabel_metrics(nothing, target).values()) == {0.0}
        found = multilabel_metrics(nothing, nothing, torch.rand(2, 2))
        per_label_metrics(nothing, nothing, torch.rand(2, 2))
    assert math.isnan(found["mAP"]) and found["exact_match"] == 1


def test_repeats_and_early_stops_by_hand():
    stop = 3
    tokens = torch.tensor(
        [
            [0, 0, 1, 0],  # two repeats, never stops
            [0, stop, stop, stop],  # two labels are true: early
            [1, 1, stop, stop],  # two are true, two emitted, if only one of them: one repeat, not early
            [stop, stop, stop, stop],  # nothing is true: not early
            [2, stop, 2, 2],  # what stands after the stop does not count; one is true: not early
        ]
    )
    target = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=torch.bool)
    assert sequence_metrics(tokens, target) == {"repeats": 3 / 5, "early_stops": 1 / 5}
    more = target.clone()
    more[0] = more[4] = True  # the first never stopped, so it cannot have stopped early; the last now did
    assert sequence_metrics(tokens, more)["early_stops"] == 2 / 5


# ---- do the sets make sense -------------------------------------------------------------------------------------


@quick
@given(tables(), tables(), st.integers(0, 9999))
def test_consistency_is_a_loop_over_pairs_and_rules(table, other, seed):
    labels = min(table[0].shape[1], other[1].shape[1])
    predicted, train = table[0][:, :labels], other[1][:, :labels]
    random = np.random.default_rng(seed)
    rules = {c: random.integers(0, labels, 2).tolist() for c in range(labels) if random.random() < 0.4}
    said, seen = ([{c for c, v in enumerate(row) if v} for row in x.tolist()] for x in (predicted, train))
    unseen = [any(not any({a, b} <= s for s in seen) for a, b in combinations(s, 2)) for s in said]
    broken = [any(c in s and not s & set(needed) for c, needed in rules.items()) for s in said]
    expected = {"unseen_pairs": sum(unseen) / len(said), "broken_rules": sum(broken) / len(said)}
    assert set_consistency(predicted, train, rules) == pytest.approx(expected)
    assert set_consistency(train, train, {})["unseen_pairs"] == 0


def test_consistency_by_hand():
    boat, sea, person = 0, 1, 2
    sets = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]).bool()
    train = torch.tensor([[1, 1, 0], [0, 1, 1]]).bool()  # boat and person never together
    assert set_consistency(sets, train, {boat: [sea]}) == {"unseen_pairs": 1 / 4, "broken_rules": 1 / 4}
    assert set_consistency(sets, train, {boat: [sea, person]})["broken_rules"] == 1 / 4  # one is enough
    with pytest.raises(ValueError, match="train_sets must be bool"):
        set_consistency(sets, train.float(), {})


# ---- refusals ------------------------------------------------------------------------------------------------------

GOOD = torch.zeros(3, 2, dtype=torch.bool)
SCORES = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD[:2], GOOD), r"predicted is \(2, 2\), target is \(3, 2\)"),
        ((GOOD[:, :1], GOOD), "must agree"),  # would broadcast
        ((GOOD, GOOD, SCORES[:2]), r"scores is \(2, 2\)"),
        ((GOOD[0], GOOD[0]), r"must be \(N, C\)"),
        ((GOOD[:0], GOOD[:0]), "not empty"),
        ((GOOD.float(), GOOD), "predicted must be bool, found torch.float32"),
        ((GOOD, GOOD, GOOD), "floating point"),
        ((GOOD, GOOD, SCORES * torch.nan), "nan or infinity"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    for function in (multilabel_metrics, per_label_metrics):
        with pytest.raises(ValueError, match=message):
            function(*arguments)


@pytest.mark.gpu
def test_the_device_does_not_matter():
    table = [torch.rand(500, 20) < 0.3, torch.rand(500, 20) < 0.3, torch.randn(500, 20)]
    assert multilabel_metrics(*(x.cuda() for x in table)) == multilabel_metrics(*table)
