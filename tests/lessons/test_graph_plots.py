"""Figures of a label graph: arrows are the edges, labels that belong together stand together."""

from __future__ import annotations

import itertools

import pytest
import torch
from lessons import nb08 as gp
from matplotlib.patches import FancyArrowPatch

from helpers.plots import GREY, to_png

NAMES = ("sun", "rain", "umbrella", "boat", "sea")


def prior() -> torch.Tensor:
    weights = torch.zeros(5, 5)
    weights[2, 1], weights[3, 4], weights[4, 3], weights[1, 2] = 0.9, 1.0, 0.5, 0.3
    weights.fill_diagonal_(1.0)
    return weights


def arrows(figure) -> list[FancyArrowPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


@pytest.mark.parametrize(("threshold", "count"), [(0.2, 4), (0.4, 3), (0.95, 1), (1.01, 0)])
def test_there_is_an_arrow_for_each_edge_and_none_to_itself(threshold, count) -> None:
    figure = gp.label_graph(NAMES, prior(), threshold=threshold)
    assert len(arrows(figure)) == count
    assert [text.get_text() for text in figure.axes[0].texts] == list(NAMES)


def test_arrows_go_from_row_to_column_and_heavy_ones_are_thick() -> None:
    figure = gp.label_graph(NAMES, prior(), threshold=0.4, order=[0, 1, 2, 3, 4])
    at = [tuple(s.get_offsets()[0]) for s in figure.axes[0].collections]
    found = {}
    for patch in arrows(figure):
        begin, end = patch._posA_posB
        found[at.index(tuple(begin)), at.index(tuple(end))] = patch.get_linewidth()
    assert set(found) == {(2, 1), (3, 4), (4, 3)}
    assert found[3, 4] > found[2, 1] > found[4, 3]
    assert at[0] == pytest.approx((0, 1)), "the first stands at the top"


def test_a_label_in_focus_leaves_the_others_pale_and_one_without_edges_is_hollow() -> None:
    figure = gp.label_graph(NAMES, prior(), threshold=0.4, focus="rain")
    pale = [patch.get_alpha() < 0.5 for patch in arrows(figure)]
    assert sorted(pale) == [False, True, True]
    faces = [s.get_facecolor()[0].tolist() for s in figure.axes[0].collections]
    assert faces[0] == [1, 1, 1, 1] and faces[1] != [1, 1, 1, 1]
    assert GREY and len(to_png(figure)) > 5000


def test_what_comes_together_stands_together() -> None:
    order = gp.circle_order(prior())
    assert sorted(order) == [0, 1, 2, 3, 4]
    near = {frozenset(pair) for pair in itertools.pairwise(order)}
    assert {1, 2} in near and {3, 4} in near
    assert gp.circle_order(torch.zeros(2, 2)) == [0, 1] and gp.circle_order(torch.zeros(1, 1)) == [0]
    assert sorted(gp.circle_order(torch.zeros(6, 6))) == list(range(6)), "no edges, no trouble"


def test_kinds_have_a_legend() -> None:
    kinds = dict.fromkeys(NAMES, "object") | {"rain": "attribute"}
    figure = gp.label_graph(NAMES, prior(), threshold=0.4, kinds=kinds)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["object", "attribute"]


def test_matrices_share_a_scale() -> None:
    figure = gp.label_matrices({"a": prior(), "b": 3 * prior()}, NAMES, colour_label="weight")
    assert {ax.collections[0].get_clim() for ax in figure.axes[:2]} == {(0.0, 3.0)}
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(NAMES)
    assert len(to_png(figure)) > 5000


def test_matrices_in_rows_with_a_scale_for_small_weights() -> None:
    panels = {title: prior() for title in "abc"}
    figure = gp.label_matrices(panels, NAMES, colour_label="weight", power=0.5, columns=2)
    norm = figure.axes[0].collections[0].norm
    assert norm(0.25) == pytest.approx(0.5) and norm(1.0) == 1.0, (
        "a quarter of the largest has half of the scale"
    )
    shown = [(bool(ax.get_xticklabels()), bool(ax.get_yticklabels()), ax.axison) for ax in figure.axes[:4]]
    assert shown[:3] == [(False, True, True), (True, False, True), (True, True, True)] and not shown[3][2]
    assert len(to_png(figure)) > 5000


def test_near_labels_have_bent_arrows_that_tell_there_from_back() -> None:
    there, back = (gp._bend(steps, 30) for steps in (1, -1))
    assert there > 0 > back, "clockwise and anticlockwise, both inwards"
    assert there - abs(back) > 0.2, "by different amounts"
    assert gp._bend(14, 30) == gp._bend(-14, 30) == pytest.approx(0.18), "long ones hardly"


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="5 names"):
        gp.label_graph(NAMES, torch.zeros(4, 4), threshold=0.4)
    with pytest.raises(ValueError, match="no label 'moon'"):
        gp.label_graph(NAMES, prior(), threshold=0.4, focus="moon")
    with pytest.raises(ValueError, match="b: 5 names"):
        gp.label_matrices({"a": prior(), "b": torch.zeros(5, 4)}, NAMES, colour_label="x")
