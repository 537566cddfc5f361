"""The label graph and where labels look: arrows are the edges; views are set as a reader would set them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from lessons import nb10 as lesson
from matplotlib.patches import FancyArrowPatch
from PIL import Image

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.data.records import Box, Record
from helpers.encoders.crops import on_image
from helpers.plots import to_png
from helpers.systems.registry import build

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


def make(tmp_path: Path, crops: int):
    torch.manual_seed(1)
    system = build("lcnet", Vocabulary(PLACES), 8, graph="none", hidden_size=8, heads=2).eval()
    records = []
    for i, labels in enumerate((("boat", "sea"), (), ("rain",))):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (30, 20), (60 * i, 90, 90)).save(path)
        records.append(Record(path, labels, tuple(Box(name, 2, 2, 9, 9) for name in labels)))
    grid = torch.randn(3, (crops * crops + 1 if crops else 1) * 6, 8)
    return system, records, Features(grid.mean(1), grid)


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


@pytest.mark.parametrize("crops", [0, 2])
def test_a_label_looks_where_the_network_says(tmp_path, crops, quick) -> None:
    system, records, features = make(tmp_path, crops)
    view = lesson.look_explorer(lesson.Examples(system, records, features, CELLS), crops=crops)
    assert view.controls["label"].value == "boat"
    look = system.network.attend(features)
    for image, label, there in ((1, "boat", True), (3, "umbrella", False), (3, "rain", True)):
        view.controls["image"].value, view.controls["label"].value = image, label
        k = PLACES.index(label)
        said = view.sentence.value
        assert said.startswith(f"{label} is {'' if there else 'not '}in the picture")
        assert f"its score is {float(look.logits[image - 1, k].sigmoid().detach()):.2f}." in said
        assert ("on the whole view" in said) == bool(crops)
    weights = look.attention[2, 1].detach()
    if crops:
        assert f"{float(weights[-6:].sum()):.0%} of its attention is on the whole view" in said
    assert float(on_image(weights, crops, CELLS).sum()) == pytest.approx(1, abs=1e-5)


def test_scores_are_not_called_probabilities(tmp_path) -> None:
    system, records, features = make(tmp_path, 0)
    figure, _ = lesson.look_figure(lesson.Examples(system, records, features, CELLS), label="sea")
    assert figure.axes[2].get_xlabel() == "score"


def test_views_draw_for_real(small, tmp_path) -> None:
    system, records, features = make(tmp_path, 0)
    for view in (
        lesson.graph_explorer(PLACES, small),
        lesson.look_explorer(lesson.Examples(system, records, features, CELLS), image=1),
    ):
        picture = bytes(view.picture.value)
        assert picture.startswith(b"\x89PNG") and len(picture) > 5000
