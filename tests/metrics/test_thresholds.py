"""helpers.metrics.thresholds against scikit-learn and a search by hand; ties, labels without positives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from helpers.metrics.label_sets import multilabel_metrics
from helpers.metrics.thresholds import GLOBAL_METRICS, apply_thresholds, choose_global, choose_mcc, top_k_mask

quick = settings(max_examples=20)


@st.composite
def scored(draw):
    """Probabilities with many ties and values on the grid itself, and a target."""
    images, labels = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    levels = draw(st.sampled_from([20, 1000]))
    scores = torch.randint(0, levels + 1, (images, labels), generator=generator) / levels
    return scores, torch.rand(images, labels, generator=generator) < draw(st.sampled_from([0.0, 0.4, 1.0]))


def test_at_least_the_threshold():
    scores = torch.tensor([[0.2, 0.5], [0.7, 0.49]])
    assert apply_thresholds(scores, 0.5).tolist() == [[False, True], [True, False]]
    assert apply_thresholds(scores, torch.tensor([0.2, 0.6])).tolist() == [[True, False], [True, False]]
    assert apply_thresholds(torch.tensor([[0.3]]), torch.tensor([0.3], dtype=torch.float64)).item()


def test_half_scores_meet_the_threshold_that_was_asked_for():
    # bfloat16 has no 0.3: rounding the threshold would make it 0.30078, which this score reaches.
    score = torch.tensor([[0.3]], dtype=torch.bfloat16)
    assert apply_thresholds(score, 0.3007).item() == (score.item() >= 0.3007)
    assert not apply_thresholds(score, 0.302).item()


@pytest.mark.parametrize(
    ("scores", "thresholds", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3), r"\(2,\), one per label"),
        (torch.zeros(3, 2), torch.tensor([0.5, torch.nan]), "nan"),
        (torch.full((3, 2), torch.nan), 0.5, "nan or infinity"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(scores, thresholds, message):
    with pytest.raises(ValueError, match=message):
        apply_thresholds(scores, thresholds)


@quick
@given(scored(), st.integers(1, 4))
def test_top_k_is_a_sort(case, k):
    scores = case[0]
    k = min(k, scores.shape[1])
    expected = [
        [c in sorted(range(len(row)), key=lambda c, row=row: (-row[c], c))[:k] for c in range(len(row))]
        for row in scores.tolist()
    ]
    assert top_k_mask(scores, k).tolist() == expected


def test_top_k_keeps_the_lower_ids_of_equals_and_refuses_k_outside():
    mask = top_k_mask(torch.zeros(2, 100), 3)
    assert mask.sum(dim=1).tolist() == [3, 3] and mask[:, :3].all()
    for k in (0, 4):
        with pytest.raises(ValueError, match=r"1\.\.3"):
            top_k_mask(torch.zeros(2, 3), k)


@settings(max_examples=4)
@given(scored())
def test_global_threshold_is_the_first_maximum(case):
    scores, target = case
    candidates = torch.arange(1, 100) / 100
    found = [multilabel_metrics(apply_thresholds(scores, c), target) for c in candidates]  # the slow part
    for metric in GLOBAL_METRICS:
        values = [each[metric] for each in found]
        best = choose_global(scores, target, metric)
        assert values[candidates.tolist().index(best)] == max(values)
        assert best == pytest.approx(candidates[int(np.argmax(values))].item())


def test_logits_are_refused_where_probabilities_are_needed():
    scores, target = torch.tensor([[-3.0], [2.0], [5.0]]), torch.tensor([[False], [False], [True]])
    for choose in (choose_global, choose_mcc):
        with pytest.raises(ValueError, match=r"-3\.\.5, not probabilities"):
            choose(scores, target)
    scores, target = torch.randn(60, 3) * 9, torch.rand(60, 3) < 0.4
    thresholds = choose_mcc(scores, target, candidates="all")
    assert all(t in scores[:, c] for c, t in enumerate(thresholds))


def mcc_by_hand(scores, target, candidates, default):
    """scikit-learn's MCC at each candidate, the first maximum, `default` where all are equal."""
    values = [
        matthews_corrcoef(target, scores >= c) if len(np.unique(np.r_[target, scores >= c])) > 1 else 0.0
        for c in candidates
    ]
    values = np.round(values, 9)  # equal is equal up to rounding
    return default if values.max() == values.min() else candidates[int(values.argmax())]


@quick
@given(scored())
@pytest.mark.parametrize("way", ["grid", "all"])
def test_mcc_thresholds_are_scikit_learns(way, case):
    scores, target = case
    expected = [
        mcc_by_hand(
            s, y, np.arange(1, 15, dtype=np.float32) / np.float32(20) if way == "grid" else np.unique(s), 0.42
        )
        for s, y in zip(scores.numpy().T, target.numpy().T, strict=True)
    ]
    ours = choose_mcc(scores, target, candidates=way, default=0.42)
    assert ours.dtype == torch.float32
    assert ours.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_grid_is_the_literatures():
    # Positives at 0.06, 0.61 and 0.71 with negatives just below: the grid has 0.05 … 0.70 and no more.
    scores = torch.tensor([[0.05, 0.65, 0.71], [0.049, 0.6, 0.69], [0.01, 0.1, 0.2]])
    target = torch.tensor([[True, True, True], [False, False, False], [False, False, False]])
    assert choose_mcc(scores, target).tolist() == pytest.approx([0.05, 0.65, 0.70])


def test_a_label_without_positives_gets_the_default():
    scores = torch.tensor([[0.9, 0.9, 0.3], [0.2, 0.2, 0.3], [0.1, 0.1, 0.3]])
    target = torch.tensor([[True, False, True], [False, False, False], [False, False, False]])
    for way in ("grid", "all"):
        chosen = choose_mcc(scores, target, candidates=way, default=0.6)
        # The third label has the same score everywhere: no threshold is better than another.
        assert chosen[1:].tolist() == pytest.approx([0.6, 0.6])
        assert 0.2 < chosen[0] <= 0.9


def test_chosen_thresholds_reach_what_they_promise():
    target = torch.rand(400, 12) < torch.linspace(0.01, 0.6, 12)
    # Each label on its own scale, which is what a threshold per label is for.
    scores = ((torch.randn(400, 12) + 2 * target - 1) * torch.linspace(0.2, 3, 12)).sigmoid()
    half = multilabel_metrics(apply_thresholds(scores, 0.5), target)
    best = multilabel_metrics(apply_thresholds(scores, choose_global(scores, target)), target)
    assert best["OF1"] >= half["OF1"]
    own = multilabel_metrics(apply_thresholds(scores, choose_mcc(scores, target, candidates="all")), target)
    assert own["CF1_mean_of_classes"] > best["CF1_mean_of_classes"]


@pytest.mark.parametrize("choose", [choose_global, choose_mcc])
def test_bad_input_is_refused(choose):
    scores, target = torch.rand(3, 2), torch.rand(3, 2) < 0.5
    for wrong, message in ((target[:2], "must agree"), (target.float(), "bool")):
        with pytest.raises(ValueError, match=message):
            choose(scores, wrong)
    with pytest.raises(ValueError, match="nan or infinity"):
        choose(scores / 0, target)


def test_unknown_names_are_refused():
    scores, target = torch.rand(3, 2), torch.rand(3, 2) < 0.5
    with pytest.raises(ValueError, match="use one of OF1, CF1"):
        choose_global(scores, target, "mAP")
    with pytest.raises(ValueError, match='"grid" or "all"'):
        choose_mcc(scores, target, candidates="every")
