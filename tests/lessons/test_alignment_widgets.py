"""The editor of step probabilities: set as a reader would set it, and what it says is compared with brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

ipywidgets = pytest.importorskip("ipywidgets")
from lessons import nb05 as views  # noqa: E402


def cost(probability, order) -> float:
    return -sum(math.log(probability[t, j]) for t, j in enumerate(order))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 100), min_size=4, max_size=4), min_size=3, max_size=3),
    st.permutations(range(3)),
)
def test_targets_are_what_brute_force_finds(weights, fixed) -> None:
    probability = views.step_probabilities(weights)
    assert torch.allclose(probability.sum(1), torch.ones(3, dtype=torch.float64))
    targets, costs = views.targets_by_hand(probability, fixed)
    assert list(targets) == ["fixed order", "PLA", "MLA"] and targets["fixed order"] == list(fixed)
    for name, order in targets.items():
        assert sorted(order) == [0, 1, 2]
        assert costs[name] == pytest.approx(cost(probability, order), abs=1e-6)
    orders = list(itertools.permutations(range(3)))
    assert costs["MLA"] == pytest.approx(min(cost(probability, order) for order in orders), abs=1e-6)
    kept = {}
    for t, j in enumerate(probability.argmax(1).tolist()):
        if j < 3 and j not in kept.values():
            kept[t] = j
    allowed = [order for order in orders if all(order[t] == j for t, j in kept.items())]
    assert costs["PLA"] == pytest.approx(min(cost(probability, order) for order in allowed), abs=1e-6)


def test_the_presets_show_what_their_names_say() -> None:
    found = {}
    for name, weights in views.PRESETS.items():
        found[name] = views.targets_by_hand(views.step_probabilities(weights), (0, 1, 2))
    targets, costs = found["right, in another order"]
    assert targets["PLA"] == targets["MLA"] == [2, 0, 1] and costs["fixed order"] > 5 > 1 > costs["MLA"]
    targets, costs = found["the likeliest is not the cheapest"]
    assert targets["PLA"] != targets["MLA"] and costs["PLA"] > costs["MLA"] + 1
    said = views.step_probabilities(views.PRESETS["says the sun twice"]).argmax(1).tolist()
    assert said.count(0) == 2 and found["says the sun twice"][0]["PLA"][0] == 0
    said = views.step_probabilities(views.PRESETS["says nothing of the set"]).argmax(1).tolist()
    assert said == [3, 3, 3]
    costs = found["has no idea"][1]
    assert (
        max(costs.values()) == pytest.approx(min(costs.values())) == pytest.approx(3 * math.log(4), rel=1e-3)
    )


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="n \\+ 1"):
        views.step_probabilities([[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="none negative"):
        views.step_probabilities([[1, -2]])
    with pytest.raises(ValueError, match="an order of all"):
        views.targets_figure(views.PRESETS["has no idea"], fixed=(0, 0, 1))


def test_a_slider_moves_the_targets() -> None:
    view = views.target_editor()
    before, picture = view.sentence.value, view.picture.value
    assert "PLA: bird, sun, tree (0.61)" in before
    view.sliders[0][0].value = 100  # sun at step 1
    view.sliders[0][2].value = 0  # not bird
    assert view.sentence.value != before and view.picture.value != picture
    assert "Said: sun, sun, tree" in view.sentence.value and "PLA: sun, bird, tree" in view.sentence.value


def test_an_example_is_drawn_once_and_can_be_changed_afterwards(monkeypatch) -> None:
    view = views.target_editor()
    drawn = []
    original = views.alignment_view
    monkeypatch.setattr(views, "alignment_view", lambda *a, **o: drawn.append(1) or original(*a, **o))
    view.presets.value = "the likeliest is not the cheapest"
    assert len(drawn) == 1
    assert [slider.value for slider in view.sliders[0]] == [50, 45, 0, 5]
    assert "PLA: sun, tree, bird (3.86); MLA: tree, sun, bird (1.08)" in view.sentence.value
    view.sliders[0][0].value = 40  # now the tree is the likeliest
    assert len(drawn) == 2 and "PLA: tree, sun, bird" in view.sentence.value


def test_the_fixed_order_is_the_readers_choice() -> None:
    view = views.target_editor()
    view.controls["fixed"].value = (2, 0, 1)
    assert "fixed order: bird, sun, tree (0.61)" in view.sentence.value


def test_an_unknown_example_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no preset 'x'"):
        views.target_editor(preset="x")
