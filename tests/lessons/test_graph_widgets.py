"""Views of the label graph: their values are set as a reader would set them, and what they say is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.data.records import Box, Record
from helpers.encoders.crops import on_image
from helpers.systems.registry import lcnet

ipywidgets = pytest.importorskip("ipywidgets")
from lessons import nb08 as views  # noqa: E402

NAMES = ("boat", "rain", "sea", "umbrella")
CELLS = (2, 3)


@pytest.fixture
def prior() -> torch.Tensor:
    weights = torch.zeros(4, 4)
    weights[0, 2], weights[2, 0], weights[3, 1] = 1.0, 0.5, 0.9
    return weights


def make(tmp_path: Path, crops: int):
    torch.manual_seed(1)
    system = lcnet(Vocabulary(NAMES), 8, graph="none", hidden_size=8, heads=2).eval()
    records = []
    for i, labels in enumerate((("boat", "sea"), (), ("rain",))):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (30, 20), (60 * i, 90, 90)).save(path)
        records.append(Record(path, labels, tuple(Box(name, 2, 2, 9, 9) for name in labels)))
    grid = torch.randn(3, (crops * crops + 1 if crops else 1) * 6, 8)
    return system, records, Features(grid.mean(1), grid)


def test_the_threshold_decides_on_arrows_and_a_label_can_be_picked_out(prior, quick) -> None:
    view = views.graph_explorer(NAMES, prior)
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


def test_the_prior_is_left_as_it_is(prior) -> None:
    before = prior.clone()
    views.graph_figure(NAMES, prior, threshold=0.0, focus="sea")
    assert torch.equal(prior, before)


@pytest.mark.parametrize("crops", [0, 2])
def test_a_label_looks_where_the_network_says(tmp_path, crops, quick) -> None:
    system, records, features = make(tmp_path, crops)
    view = views.look_explorer(system, records, features, CELLS, crops=crops)
    assert view.controls["label"].value == "boat"
    look = system.network.attend(features)
    for image, label, there in ((1, "boat", True), (3, "umbrella", False), (3, "rain", True)):
        view.controls["image"].value, view.controls["label"].value = image, label
        k = NAMES.index(label)
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
    figure, _ = views.look_figure(system, records, features, CELLS, label="sea")
    assert figure.axes[2].get_xlabel() == "score"


def test_views_draw_for_real(prior, tmp_path) -> None:
    system, records, features = make(tmp_path, 0)
    for view in (
        views.graph_explorer(NAMES, prior),
        views.look_explorer(system, records, features, CELLS, image=1),
    ):
        picture = bytes(view.picture.value)
        assert picture.startswith(b"\x89PNG") and len(picture) > 5000
