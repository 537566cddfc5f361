"""The label graph and where labels look: arrows are the edges; views are set as a reader would set them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from lessons import nb10 as lesson
from matplotlib.patches import FancyArrowPatch
from PIL import Image

from helpers.data.records import Box, Record
from helpers.metrics.label_sets import multilabel_metrics
from helpers.plots import to_png

pytest.importorskip("ipywidgets")
NAMES = ("sun", "rain", "umbrella", "boat", "sea")
PLACES = ("boat", "rain", "sea", "umbrella")
CELLS = (2, 3)


def prior() -> torch.Tensor:
    weights = torch.zeros(5, 5)
    weights[2, 1], weights[3, 4], weights[4, 3], weights[1, 2] = 0.9, 1.0, 0.5, 0.3
    weights.fill_diagonal_(1.0)
    return weights


def arrows(figure) -> list[FancyArrowPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


@pytest.mark.parametrize(("threshold", "count"), [(0.2, 4), (0.4, 3), (0.95, 1), (1.01, 0)])
def test_there_is_an_arrow_for_each_edge_and_none_to_itself(threshold, count) -> None:
    figure = lesson.label_graph(NAMES, prior(), threshold=threshold)
    assert len(arrows(figure)) == count
    assert [text.get_text() for text in figure.axes[0].texts] == list(NAMES)


def test_arrows_go_from_row_to_column_and_heavy_ones_are_thick() -> None:
    figure = lesson.label_graph(NAMES, prior(), threshold=0.4, order=[0, 1, 2, 3, 4])
    at = [tuple(s.get_offsets()[0]) for s in figure.axes[0].collections]
    found = {}
    for patch in arrows(figure):
        begin, end = patch._posA_posB
        found[at.index(tuple(begin)), at.index(tuple(end))] = patch.get_linewidth()
    assert set(found) == {(2, 1), (3, 4), (4, 3)}
    assert found[3, 4] > found[2, 1] > found[4, 3]
    assert at[0] == pytest.approx((0, 1)), "the first stands at the top"


def test_a_label_in_focus_leaves_the_others_pale_and_one_without_edges_is_hollow() -> None:
    figure = lesson.label_graph(NAMES, prior(), threshold=0.4, focus="rain")
    pale = [patch.get_alpha() < 0.5 for patch in arrows(figure)]
    assert sorted(pale) == [False, True, True]
    faces = [s.get_facecolor()[0].tolist() for s in figure.axes[0].collections]
    assert faces[0] == [1, 1, 1, 1] and faces[1] != [1, 1, 1, 1]
    assert len(to_png(figure)) > 5000


def test_what_comes_together_stands_together() -> None:
    order = lesson.circle_order(prior())
    assert sorted(order) == [0, 1, 2, 3, 4]
    near = {frozenset(pair) for pair in itertools.pairwise(order)}
    assert {1, 2} in near and {3, 4} in near
    assert lesson.circle_order(torch.zeros(2, 2)) == [0, 1] and lesson.circle_order(torch.zeros(1, 1)) == [0]
    assert sorted(lesson.circle_order(torch.zeros(6, 6))) == list(range(6)), "no edges, no trouble"


def test_kinds_have_a_legend() -> None:
    kinds = dict.fromkeys(NAMES, "object") | {"rain": "attribute"}
    figure = lesson.label_graph(NAMES, prior(), threshold=0.4, kinds=kinds)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["object", "attribute"]


def test_near_labels_have_bent_arrows_that_tell_there_from_back() -> None:
    there, back = (lesson._bend(steps, 30) for steps in (1, -1))
    assert there > 0 > back, "clockwise and anticlockwise, both inwards"
    assert there - abs(back) > 0.2, "by different amounts"
    assert lesson._bend(14, 30) == lesson._bend(-14, 30) == pytest.approx(0.18), "long ones hardly"


@pytest.fixture
def small() -> torch.Tensor:
    weights = torch.zeros(4, 4)
    weights[0, 2], weights[2, 0], weights[3, 1] = 1.0, 0.5, 0.9
    return weights


def make(tmp_path: Path):
    """Maps (3, 4, 6), logits (3, 4) and records of three images."""
    generator = torch.Generator().manual_seed(1)
    records = []
    for i, labels in enumerate((("boat", "sea"), (), ("rain",))):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (30, 20), (60 * i, 90, 90)).save(path)
        records.append(Record(path, labels, tuple(Box(name, 2, 2, 9, 9) for name in labels)))
    attention = torch.randn(3, 4, 6, generator=generator).softmax(2)
    return attention, torch.randn(3, 4, generator=generator), records


def test_the_threshold_decides_on_arrows_and_a_label_can_be_picked_out(small, quick) -> None:
    view = lesson.graph_explorer(PLACES, small)
    assert view.sentence.value == "3 arrows; without any: none."
    view.controls["threshold"].value = 0.6
    assert view.sentence.value == "2 arrows; without any: none."
    view.controls["threshold"].value = 0.95
    assert view.sentence.value == "1 arrow; without any: rain, umbrella."
    view.controls["threshold"].value = 0.4
    view.controls["focus"].value = "sea"
    said = view.sentence.value
    assert "Arrows from sea: boat (0.50)." in said
    assert "Arrows to sea: boat (1.00)." in said
    view.controls["focus"].value = "rain"
    assert "Arrows from rain: none. Arrows to rain: umbrella (0.90)." in view.sentence.value


def test_the_prior_is_left_as_it_is(small) -> None:
    before = small.clone()
    lesson.graph_figure(PLACES, small, threshold=0.0, focus="sea")
    assert torch.equal(small, before)


def test_a_label_looks_where_the_network_says(tmp_path, quick) -> None:
    attention, logits, records = make(tmp_path)
    view = lesson.look_explorer(attention, logits, records, PLACES, CELLS)
    assert view.controls["label"].value == "boat"
    for image, label, there in ((1, "boat", True), (3, "umbrella", False), (3, "rain", True)):
        view.controls["image"].value, view.controls["label"].value = image, label
        c = PLACES.index(label)
        said = view.sentence.value
        assert said.startswith(f"{label} is {'' if there else 'not '}in the picture")
        assert f"its score is {float(logits[image - 1, c].sigmoid()):.2f}." in said
        assert f"Its largest weight is {float(attention[image - 1, c].max()):.2f};" in said


def told(image: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Logits: the first features; every known label adds itself to the next one."""
    return image[:, :4] + 3 * known.roll(1, 1)


def test_what_is_told_changes_the_other_labels(tmp_path, quick) -> None:
    _, features, records = make(tmp_path)
    view = lesson.told_view(told, features, records, PLACES, image=0, label="rain")
    assert view.sentence.value.startswith("In the picture: boat, sea. Told: rain: yes. Largest changes: sea ")
    before, after = (float((features[0, 2] + x).sigmoid()) for x in (0, 3))
    assert f"sea {before:.2f} to {after:.2f}" in view.sentence.value, "the label after rain"
    view.controls["yes"].value = False
    assert "Told: rain: no." in view.sentence.value
    view.controls["second"].value = "sea"
    assert "Told: rain: no, sea: yes. Largest changes: umbrella" in view.sentence.value, (
        "known ones are not shown"
    )
    view.controls["first"].value = view.controls["second"].value = None
    assert "Told: nothing." in view.sentence.value


def test_mean_average_precision_is_that_of_the_metrics(capsys) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(40, 5, generator=generator), torch.rand(40, 5, generator=generator) < 0.3
    expected = 100 * multilabel_metrics(logits >= 0, truth, logits.sigmoid())["mAP"]
    assert lesson.mean_ap(logits, truth.float()) == pytest.approx(expected, abs=1e-4)
    asked = torch.zeros_like(truth)
    asked[:20] = True
    assert lesson.mean_ap(logits, truth, asked) == pytest.approx(lesson.mean_ap(logits[:20], truth[:20]))


def test_maps_of_labels_that_are_there_are_graded(tmp_path) -> None:
    *_, records = make(tmp_path)
    attention = torch.zeros(3, 4, 6)
    attention[..., 0] = 1.0  # the boxes are in the cell at the top left
    found = lesson.points(attention, records, PLACES, CELLS)
    assert found.looks == 3 and found.pointing == 1
    assert lesson.points(attention.flip(2), records, PLACES, CELLS).pointing == 0


def test_tables_and_galleries_are_shown(tmp_path, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda x, **_: shown.append(x))
    lesson.table({"a": [[1.0, 2.0], [3.0, 2.0]], "b": [[5.0, 6.0]]}, ["x", "y"], "corner")
    assert "| a | 2.0 ± 1.4 | 2.0 ± 0.0 |" in shown[0].data and "| b | 5.0 | 6.0 |" in shown[0].data
    *_, records = make(tmp_path)
    options = {"records": records, "names": PLACES, "cells": CELLS, "images": (0, 2)}
    lesson.show_looks(torch.full((3, 4, 6), 1 / 6), torch.zeros(3, 4), **options)
    assert "a panel per label of 2 images (boat, sea; rain)" in shown[1]["text/plain"]


def test_scores_are_not_called_probabilities(tmp_path) -> None:
    figure, _ = lesson.look_figure(*make(tmp_path), PLACES, CELLS, image=0, label="sea")
    assert figure.axes[2].get_xlabel() == "score"


def test_views_draw_for_real(small, tmp_path) -> None:
    attention, logits, records = make(tmp_path)
    for view in (
        lesson.graph_explorer(PLACES, small),
        lesson.told_view(told, logits, records, PLACES, image=0, label="sea"),
        lesson.look_explorer(attention, logits, records, PLACES, CELLS, image=1),
    ):
        picture = bytes(view.picture.value)
        assert picture.startswith(b"\x89PNG") and len(picture) > 5000
