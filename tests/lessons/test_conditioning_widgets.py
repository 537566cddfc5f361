"""Concepts turned by hand: the values of the view are set as a reader would, and what is drawn is read."""

from __future__ import annotations

import html

import pytest
import torch
from lessons import nb03b as widgets
from test_widgets import a_figure

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.data.records import AnnotatedImages
from helpers.decoders.base import Decoder, State

ipywidgets = pytest.importorskip("ipywidgets")

VOCABULARY = Vocabulary(("ant", "bee", "cat"))
CONCEPTS = torch.tensor([[0.9, 0.2, 0.7], [0.1, 0.8, 0.3]])


class Believer(Decoder):
    """Says every concept above one half, the most probable first, then stops."""

    def start(self, features: Features) -> State:
        return State((features.pooled,))

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State, None]:
        half = torch.full((len(tokens), 1), 0.5)
        return torch.cat([state.hidden[0], half], 1), state, None


@pytest.fixture
def view(small_data: AnnotatedImages, monkeypatch: pytest.MonkeyPatch):
    """The view of two images, and what it draws, newest last."""
    drawn: list[dict] = []

    def concept_view(image, names, before, after, paths):
        drawn.append({"before": before, "after": after, "paths": paths})
        return a_figure()

    monkeypatch.setattr(widgets, "concept_view", concept_view)
    records = list(small_data.train[:2])
    return widgets.concept_switches(Believer(3), CONCEPTS, records, VOCABULARY, max_labels=3), drawn


def test_it_starts_with_the_concepts_of_the_image(view) -> None:
    view, drawn = view
    assert len(drawn) == 1 and drawn[-1]["before"] == drawn[-1]["after"] == CONCEPTS[0].tolist()
    assert drawn[-1]["paths"] == {
        "from its own concepts": [("ant", False), ("cat", False), ("<stop>", False)]
    }
    assert view.controls["value"].value == 0.9  # of the first concept
    assert "From its own concepts: ant, cat, <stop>." in html.unescape(view.sentence.value)


def test_a_concept_turned_by_hand_changes_what_is_said(view) -> None:
    view, drawn = view
    view.controls["concept"].value = 1
    assert view.controls["value"].value == 0.2 and len(drawn) == 1  # looking changes nothing
    view.controls["value"].value = 0.8
    assert drawn[-1]["after"] == pytest.approx([0.9, 0.8, 0.7])
    assert drawn[-1]["paths"]["from yours (new: *)"] == [
        ("ant", False),
        ("bee", True),
        ("cat", False),
        ("<stop>", False),
    ]
    assert view.controls["chosen"].value == "You set bee = 0.80."
    assert "With bee = 0.80: ant, bee, cat, <stop>." in html.unescape(view.sentence.value)


def test_several_concepts_stay_and_the_slider_shows_what_was_set(view) -> None:
    view, drawn = view
    concept, value = view.controls["concept"], view.controls["value"]
    value.value = 0.0
    concept.value = 2
    assert value.value == 0.7
    value.value = 0.05
    assert [name for name, _ in drawn[-1]["paths"]["from yours (new: *)"]] == ["<stop>"]
    concept.value = 0
    assert value.value == 0.0
    assert view.controls["chosen"].value == "You set ant = 0.00, cat = 0.05."


@pytest.mark.parametrize("how", ["button", "image"])
def test_it_can_start_again(view, how: str) -> None:
    view, drawn = view
    view.controls["value"].value = 0.0
    assert "from yours (new: *)" in drawn[-1]["paths"]
    if how == "button":
        view.again.click()
        assert view.controls["value"].value == 0.9
    else:
        view.controls["image"].value = 2
        assert view.controls["value"].value == 0.1 and drawn[-1]["before"] == CONCEPTS[1].tolist()
    assert list(drawn[-1]["paths"]) == ["from its own concepts"]
    assert view.controls["chosen"].value == "The concepts are the image's own."


def test_it_draws_a_real_picture(small_data: AnnotatedImages) -> None:
    records = list(small_data.train[:1])
    view = widgets.concept_switches(Believer(3), CONCEPTS[:1], records, VOCABULARY, max_labels=3)
    before = bytes(view.picture.value)
    view.controls["value"].value = 0.3
    assert before.startswith(b"\x89PNG") and bytes(view.picture.value) != before
