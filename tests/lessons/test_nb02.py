"""Kernels, receptive fields, cells and heads of notebook 02; the views are set as a reader would set them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lessons import nb02 as lesson
from PIL import Image
from reading import bars, drawn, texts, ticks
from torch import nn

from helpers.data.records import Box, Record
from helpers.scenes.single import KINDS, draw_single

pytest.importorskip("ipywidgets")
IMAGE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
EDGE = torch.tensor([[-1.0, 0.25], [0, 1]])


@pytest.fixture
def told(monkeypatch) -> list[tuple]:
    """What the lesson shows: figures with their alt texts."""
    found: list[tuple] = []
    monkeypatch.setattr(lesson, "show", lambda figure, alt: found.append((figure, alt)))
    return found


@pytest.fixture
def tables(monkeypatch) -> list[str]:
    """The Markdown of the tables that the lesson shows."""
    display = pytest.importorskip("IPython.display")
    found: list[str] = []
    monkeypatch.setattr(display, "display", lambda shown: found.append(shown.data))
    return found


@pytest.fixture
def scene(tmp_path) -> Record:
    """A picture of 32 x 32 pixels with a dog at the top left and a ball at the bottom right."""
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    boxes = (Box("dog", 0, 0, 7, 7), Box("ball", 25, 25, 7, 7))
    return Record(tmp_path / "a.png", ("dog", "ball", "night"), boxes=boxes)


def scores_at(*places: tuple[str, int]) -> torch.Tensor:
    """Scores (1, 16, kinds) of a 4 x 4 grid: high for a kind in a cell, low elsewhere."""
    scores = torch.full((1, 16, len(KINDS)), -5.0)
    for kind, cell in places:
        scores[0, cell, KINDS.index(kind)] = 5.0
    return scores


def test_pictures_are_of_different_kinds(told, scene) -> None:
    lesson.show_pictures([draw_single(0, index=k) for k in range(6)], [scene] * 2)
    ((figure, alt),) = told
    kinds = [ax.get_title() for ax in figure.axes[:4]]
    assert len(set(kinds)) == 4 and all(kind in alt for kind in kinds)
    assert drawn(figure) and any("dog, ball" in text for text in texts(figure))


def test_kernels_stand_above_their_responses(told) -> None:
    lesson.show_kernels(
        IMAGE, {"edge": EDGE, "zero": torch.zeros(2, 2)}, [torch.randn(8, 8), torch.zeros(8, 8)]
    )
    ((figure, alt),) = told
    assert drawn(figure) and "edge, zero" in alt
    assert {"edge", "zero", "-1", "¼", "8 x 8"} <= set(texts(figure))


def test_the_kernel_explorer_slides_as_it_is_told() -> None:
    view = lesson.kernel_explorer(IMAGE, {"edge": EDGE, "learned": torch.randn(3, 7, 7)})
    assert view.sentence.value == "edge, stride 1: 33 x 33 numbers."
    view.controls["which"].value, view.controls["step"].value = "learned", 4
    assert view.sentence.value == "learned, stride 4: 8 x 8 numbers."
    assert bytes(view.picture.value).startswith(b"\x89PNG")


def test_layers_have_their_receptive_field(tables) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 7, stride=4, padding=3), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1))
    lesson.show_layers(network, IMAGE)
    assert tables[0].split("\n")[2:] == [
        "| `0` | 7 x 7 | 4 | 4 x 8 x 8 | 4 | 7 |",
        "| `2` | 3 x 3 | 1 | 5 x 8 x 8 | 4 | 15 |",
    ]
    assert not network[0]._forward_hooks


def test_the_field_is_the_square_with_half_of_the_influence(told, tables) -> None:
    influence = torch.zeros(128, 128)
    influence[60:69, 44:53] = 1.0  # 9 pixels around the top left corner of cell (4, 3)
    lesson.show_field(torch.zeros(3, 128, 128), influence, cell=(4, 3))
    assert "7 x 7 pixels" in told[0][1]  # 49 of 81
    assert "7 pixels wide | 31 %" in tables[0]  # 5 x 5 of 81 are in the cell itself


def test_pointing_counts_things_and_draws_chance(scene) -> None:
    both = scores_at(("dog", 0), ("round", 15))
    assert lesson.pointing(both, [scene]) == pytest.approx((1.0, 1 / 16))
    assert lesson.pointing(scores_at(("dog", 9), ("round", 15)), [scene])[0] == pytest.approx(0.5)


def test_maps_mark_what_is_there(told, scene) -> None:
    lesson.show_maps([scene], scores_at(("dog", 0)), ["dog", "round", "car"])
    ((figure, _),) = told
    assert drawn(figure) and {"dog ✓", "round ✓", "car ✗"} <= set(texts(figure))


def test_a_cell_says_its_most_probable_kinds(scene) -> None:
    figure, sentence = lesson.cell_figure(scene, scores_at(("dog", 5))[0], row=2, column=2)
    assert sentence == "Row 2, column 2: dog 0.99. The map shows dog."
    assert ticks(figure, 1)[0] == "dog" and max(bars(figure)) == pytest.approx(0.9933, abs=1e-3)
    figure, sentence = lesson.cell_figure(scene, scores_at(("dog", 5))[0], row=2, column=2, kind="car")
    assert sentence.endswith("The map shows car.") and "car, in every cell" in texts(figure)


def test_the_cell_explorer_follows_its_controls(scene) -> None:
    view = lesson.cell_explorer([scene], scores_at(("dog", 5)), row=2, column=2)
    assert "dog 0.99" in view.sentence.value
    view.controls["kind"].value = "bus"
    assert "The map shows bus." in view.sentence.value
    view.controls["column"].value = 3
    assert "Row 2, column 3" in view.sentence.value and "dog 0.99" not in view.sentence.value


def test_groups_have_an_f1_of_their_own(tables) -> None:
    labels = ["bird", "dog", "ball", "rock", "holding", "night", "cat", "sun", "moon"]
    target = torch.zeros(2, 9, dtype=torch.bool)
    target[:, :6] = True
    named = target.clone()
    named[0, 0] = False  # one bird of two is missed: F1 is 2 / 3
    lesson.by_group({"a": named}, target, labels)
    assert tables[0].split("\n")[2] == "| a | 67 | 100 | 100 | 100 | 100 |"
    assert lesson.percent(target, target)[0] == "100.0"
