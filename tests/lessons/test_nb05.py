"""Notebook 05: targets by hand against brute force, the Hungarian method's moments, targets over time, the views."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lessons import nb05 as lesson
from matplotlib.patches import FancyBboxPatch, Rectangle

from helpers.data.labels import Vocabulary

pytest.importorskip("ipywidgets")
IMAGES = [np.full((8, 8, 3), 200, dtype=np.uint8)] * 2
VOCABULARY = Vocabulary(["sun", "tree", "dog"])


def frames(axes) -> list[tuple[int, int]]:
    """(step, label) of each frame, in the order in which they were drawn."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
    return [(round(p.get_y() + p.get_height() / 2), round(p.get_x() + p.get_width() / 2)) for p in found]


def test_frames_stand_around_the_targets_and_bars_are_as_long_as_the_costs() -> None:
    figure, sentence = lesson.targets_figure(lesson.PRESETS["says the sun twice"])
    matrix, bars = figure.axes[0], figure.axes[1]
    assert frames(matrix) == [(0, 0), (1, 1), (2, 2), (0, 2), (1, 0), (2, 1), (0, 1), (1, 2), (2, 0)]
    assert [text.get_text() for text in matrix.texts][:4] == ["0.05", "0.40", "0.45", "0.10"]
    assert [round(bar.get_width(), 2) for bar in bars.patches] == [7.6, 4.49, 2.34]
    assert [tick.get_text() for tick in bars.get_yticklabels()] == ["fixed order", "PLA", "MLA"]
    assert "PLA: tree, sun, bird (4.49); MLA: bird, tree, sun (2.34)" in sentence


def test_nested_frames_do_not_hide_each_other() -> None:
    figure, _ = lesson.targets_figure(lesson.PRESETS["has no idea"])
    drawn = [p for p in figure.axes[0].patches if not p.get_fill()]
    first = [p for p in drawn if round(p.get_y() + p.get_height() / 2) == 0]
    assert len({round(p.get_width(), 2) for p in first}) == 3
    assert len({p.get_edgecolor() for p in first}) == len({str(p.get_linestyle()) for p in first}) == 3


def test_only_the_methods_that_were_asked_for_are_drawn() -> None:
    methods = ("fixed order", "MLA")
    figure, sentence = lesson.targets_figure(lesson.PRESETS["has no idea"], methods=methods)
    assert len(frames(figure.axes[0])) == 6 and "PLA" not in sentence
    assert "PLA" not in lesson.target_editor(methods=methods).sentence.value


def cost(probability, order) -> float:
    return -sum(math.log(probability[t, j]) for t, j in enumerate(order))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 100), min_size=4, max_size=4), min_size=3, max_size=3),
    st.permutations(range(3)),
)
def test_targets_are_what_brute_force_finds(weights, fixed) -> None:
    probability = lesson.step_probabilities(weights)
    assert torch.allclose(probability.sum(1), torch.ones(3, dtype=torch.float64))
    targets, costs = lesson.targets_by_hand(probability, fixed)
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
    for name, weights in lesson.PRESETS.items():
        found[name] = lesson.targets_by_hand(lesson.step_probabilities(weights), (0, 1, 2))
    targets, costs = found["right, in another order"]
    assert targets["PLA"] == targets["MLA"] == [1, 2, 0] and costs["fixed order"] > 7 > 1 > costs["MLA"]
    for name in ("the likeliest is not the cheapest", "says the sun twice"):
        targets, costs = found[name]
        assert targets["PLA"] != targets["MLA"] and costs["PLA"] > costs["MLA"] + 1
    said = lesson.step_probabilities(lesson.PRESETS["says the sun twice"]).argmax(1).tolist()
    assert said.count(0) == 2 and found["says the sun twice"][0]["PLA"][1] == 0
    said = lesson.step_probabilities(lesson.PRESETS["says nothing of the set"]).argmax(1).tolist()
    assert said == [3, 3, 3]
    costs = found["has no idea"][1]
    assert (
        max(costs.values()) == pytest.approx(min(costs.values())) == pytest.approx(3 * math.log(4), rel=1e-3)
    )


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="n \\+ 1"):
        lesson.step_probabilities([[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="none negative"):
        lesson.step_probabilities([[1, -2]])


def test_a_slider_moves_the_targets() -> None:
    view = lesson.target_editor()
    before, picture = view.sentence.value, view.picture.value
    assert "PLA: bird, tree, sun (0.61)" in before
    view.sliders[0][0].value = 100  # sun at step 1
    view.sliders[0][1].value = 0  # not bird
    assert view.sentence.value != before and view.picture.value != picture
    assert "Said: sun, tree, sun" in view.sentence.value and "PLA: sun, tree, bird" in view.sentence.value


def test_an_example_is_drawn_once_and_can_be_changed_afterwards(monkeypatch) -> None:
    view = lesson.target_editor()
    drawn = []
    original = lesson.targets_figure
    monkeypatch.setattr(lesson, "targets_figure", lambda *a, **o: drawn.append(1) or original(*a, **o))
    view.presets.value = "the likeliest is not the cheapest"
    assert len(drawn) == 1
    assert [slider.value for slider in view.sliders[0]] == [50, 0, 45, 5]
    assert "PLA: sun, tree, bird (3.86); MLA: tree, sun, bird (1.08)" in view.sentence.value
    view.sliders[0][0].value = 40  # now the tree is the likeliest
    assert len(drawn) == 2 and "PLA: tree, sun, bird" in view.sentence.value


def test_the_fixed_order_is_the_readers_choice() -> None:
    view = lesson.target_editor()
    view.controls["fixed"].value = (1, 2, 0)
    assert "fixed order: bird, tree, sun (0.61)" in view.sentence.value


def test_an_unknown_example_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no preset 'x'"):
        lesson.target_editor(preset="x")


# ---------------------------------------------------------------- the Hungarian method


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_the_moments_end_at_the_cheapest_assignment(cost) -> None:
    n, moments = len(cost), lesson.hungarian_moments(cost)
    last = moments[-1]
    assert last.title == "matched" and sorted(last.pairs) == sorted(last.pairs.values()) == list(range(n))
    best = min(sum(cost[t][j] for t, j in enumerate(order)) for order in itertools.permutations(range(n)))
    assert sum(cost[t][j] for j, t in last.pairs.items()) == best
    assert last.text.endswith(f"= {best}.")
    for moment in moments:
        assert (moment.matrix >= 0).all()
        if moment.title == "zeros covered":
            assert len(moment.rows) + len(moment.columns) == n - 1
            open_to = np.ones((n, n), dtype=bool)
            open_to[list(moment.rows)], open_to[:, list(moment.columns)] = False, False
            assert (moment.matrix[open_to] > 0).all(), "the lines cover all zeros"
        if moment.title != "matched":
            assert all(moment.matrix[t, j] == 0 for j, t in moment.pairs.items())


def test_the_example_of_the_text_has_every_kind_of_moment() -> None:
    moments = lesson.hungarian_moments(lesson.MATRICES["the example of the text"])
    titles = [moment.title for moment in moments]
    assert titles == [
        "costs",
        "rows reduced",
        "columns reduced",
        "zeros covered",
        "a new zero",
        "augmented",
        "matched",
    ]
    assert moments[3].rows == [0] and moments[3].columns == [0]
    assert moments[5].pairs == {1: 0, 2: 1, 0: 2} and "2 + 2 + 1 = 5" in moments[6].text


def test_one_can_step_through_every_matrix() -> None:
    view = lesson.hungarian_view()
    for name, cost in lesson.MATRICES.items():
        view.controls["matrix"].value = name
        moments = lesson.hungarian_moments(cost)
        assert view.controls["step"].value == 1 and view.controls["step"].max == len(moments)
        view.controls["step"].value = len(moments)
        assert view.sentence.value == moments[-1].text


# ---------------------------------------------------------------- targets over time


def boxes(axes) -> list[tuple[str, tuple[float, ...]]]:
    """The texts from step 1 down and the outlines of their boxes."""
    patches = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    return [(text.get_text(), p.get_edgecolor()) for text, p in zip(axes.texts, patches, strict=True)]


def film():
    early = lesson.Targets(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0.1, 0.2], [0.05, 1.0]]))
    late = lesson.Targets(torch.tensor([[1, 0], [2, 3]]), torch.tensor([[0.9, 0.8], [1.0, 1.0]]))
    return lesson.film_strip(IMAGES, {"epoch 1": early, "epoch 9": late}, [2, 1], VOCABULARY)


def test_a_label_keeps_its_colour_when_it_moves() -> None:
    figure = film()
    first, second = (boxes(figure.axes[k]) for k in (1, 2))
    assert [name for name, _ in first] == ["sun 0.10", "tree 0.20"]
    assert [name for name, _ in second] == ["tree 0.90", "sun 0.80"]
    assert first[0][1] == second[1][1] != first[1][1] == second[0][1]


def test_the_more_probable_the_fuller_and_the_stop_is_not_drawn() -> None:
    early, late = (film().axes[k] for k in (4, 5))  # the dog's
    assert [name for name, _ in boxes(early)] == ["dog 0.05"]
    pale, full = (sum(ax.patches[0].get_facecolor()[:3]) for ax in (early, late))
    assert pale > full


# ---------------------------------------------------------------- results


def test_the_order_of_pairs_is_counted_over_what_both_rows_name() -> None:
    tokens = torch.tensor([[0, 1, 3], [1, 0, 2], [2, 3, 3]])
    earlier = lesson.pairs_in_order(tokens, 3)
    assert earlier.tolist() == [[0, 1, 1], [1, 0, 1], [0, 0, 0]]


def test_the_stored_results_are_those_of_the_files(monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(lesson, "table", lambda rows, columns, corner: shown.append(rows))
    lesson.stored_results()
    (rows,) = shown
    assert "Corel-5k: ria, PLA" in rows and "scenes: attention after, rare-first" in rows
    assert all("±" in cells[0] for cells in rows.values())
