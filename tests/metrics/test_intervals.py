"""Intervals and paired tests, against metrics computed again draw by draw, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from helpers.metrics import intervals
from helpers.metrics.intervals import bootstrap, compare
from helpers.metrics.label_sets import multilabel_metrics

N, C = 60, 5


def some(seed: int = 0, *, images: int = N, good: float = 0.8):
    """target, predicted (right for a share `good`) and scores with ties."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(images, C, generator=generator) < 0.4
    right = torch.rand(images, C, generator=generator) < good
    scores = (target + torch.randn(images, C, generator=generator)).round(decimals=1)
    return target, target == right, scores


def test_every_draw_has_the_metrics_of_its_images(monkeypatch) -> None:
    monkeypatch.setattr(intervals, "CELLS", 3 * N)  # 7 draws in three pieces
    target, predicted, scores = some()
    draws = torch.randint(N, (7, N), generator=torch.Generator().manual_seed(5))
    drawn = intervals._drawn(predicted, target, scores, 7, 5)
    for i in range(7):
        expected = multilabel_metrics(*(x[draws[i]] for x in (predicted, target, scores)))
        for name, value in expected.items():
            assert float(drawn[name][i]) == pytest.approx(value, abs=1e-6), name


def test_a_mean_over_images_has_the_interval_of_scipy() -> None:
    target, predicted, _ = some(images=200)
    found = bootstrap(predicted, target, replicates=4000)["exact_match"]
    right = (predicted == target).all(1).double().numpy()
    expected = stats.bootstrap(
        (right,), np.mean, n_resamples=4000, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    assert found.value == pytest.approx(right.mean())
    assert found.low == pytest.approx(expected.low, abs=0.01)
    assert found.high == pytest.approx(expected.high, abs=0.01)


def test_rare_labels_do_not_pull_an_interval_off_its_value() -> None:
    """40 labels with one positive each, all found: a draw has a third of them not, but N+ is 40."""
    target = torch.eye(40, dtype=torch.bool)
    found = bootstrap(target, target, replicates=200)
    assert found["N+"].low < found["N+"].value == 40 == found["N+"].high
    assert found["CR"].low < 1 == found["CR"].high


def test_seed_level_and_more_images() -> None:
    target, predicted, scores = some()
    one, two = (bootstrap(predicted, target, scores, replicates=50) for _ in range(2))
    assert one == two
    assert one != bootstrap(predicted, target, scores, replicates=50, seed=1)
    assert one["OF1"].value == multilabel_metrics(predicted, target)["OF1"]
    wide, narrow = (bootstrap(predicted, target, level=level)["OF1"] for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high
    many = bootstrap(*(x.repeat(16, 1) for x in (predicted, target)))["OF1"]
    usual = bootstrap(predicted, target)["OF1"]
    assert (many.high - many.low) == pytest.approx((usual.high - usual.low) / 4, rel=0.2)


def test_a_permutation_is_a_swap_of_answers() -> None:
    """Every swap by hand; with 4 images there are 16, and a large sample meets all."""
    target, first, _ = some(1, images=4)
    second = some(2, images=4)[1]
    every = []
    for bits in range(16):
        swap = torch.tensor([bool(bits >> i & 1) for i in range(4)]).unsqueeze(1)
        a = multilabel_metrics(torch.where(swap, second, first), target)
        b = multilabel_metrics(torch.where(swap, first, second), target)
        every.append({name: b[name] - a[name] for name in a})
    found = compare(first, second, target, replicates=4000)
    for name, value in found.items():
        share = sum(abs(e[name]) >= abs(every[0][name]) - 1e-9 for e in every) / 16
        assert value.value == pytest.approx(every[0][name])
        assert value.p == pytest.approx(share, abs=0.03), name


def test_what_is_better_is_found_and_what_is_equal_is_not() -> None:
    target, good, scores = some(0, images=300, good=0.9)
    bad = target == (torch.rand(300, C, generator=torch.Generator().manual_seed(9)) < 0.75)
    found = compare(bad, good, target, scores, scores)
    assert found["OF1"].p < 0.01
    assert 0 < found["OF1"].low < found["OF1"].value < found["OF1"].high
    assert found["mAP"].p is None and found["mAP"].value == 0
    same = compare(good, good, target)
    assert same["OF1"].p == 1
    assert (same["OF1"].low, same["OF1"].high) == (0, 0)
    back = compare(good, bad, target)["OF1"]
    assert back.value == pytest.approx(-found["OF1"].value)


def test_equal_systems_are_rarely_called_different() -> None:
    below = 0
    for seed in range(30):
        target, first, _ = some(seed, images=40)
        second = target == (torch.rand(40, C, generator=torch.Generator().manual_seed(seed + 999)) < 0.8)
        below += compare(first, second, target, replicates=99, seed=seed)["OF1"].p <= 0.1
    assert below <= 8  # 3 are expected; more than 8 in 30 happens twice in 1000


def test_nonsense_is_refused() -> None:
    target, predicted, _ = some()
    with pytest.raises(ValueError, match="replicates is 0"):
        bootstrap(predicted, target, replicates=0)
    with pytest.raises(ValueError, match="level is 95"):
        bootstrap(predicted, target, level=95)
    with pytest.raises(ValueError, match="same split"):
        compare(predicted, predicted[1:], target)
