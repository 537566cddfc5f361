"""How an image enters a decoder; concepts turned by hand, set as a reader would set them."""

from __future__ import annotations

import html

import numpy as np
import pytest
import torch
from lessons import nb08 as lesson
from reading import a_figure, bars, texts

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.decoders.base import Decoder, State

pytest.importorskip("ipywidgets")
IMAGE = np.zeros((16, 16, 3), dtype=np.uint8)
SIZES = {"D": 192, "H": 128, "E": 64, "C": 30}


def test_the_four_ways_show_the_same_labels_and_the_shapes() -> None:
    written = texts(lesson.four_ways(IMAGE, ["umbrella", "person"], SIZES))
    assert written.count("umbrella") == written.count("person") == 8  # read and said, in four decoders
    assert written.count("<start>") == written.count("<stop>") == 4
    assert written.count("LSTM") == 13  # one more reads the image
    assert written.count("$v$") == 4 and "$x_3$" in written
    assert any("192 (D)" in text and "30 (C)" in text for text in written)


def test_concepts_changed_by_hand_are_drawn_twice_and_always() -> None:
    names = [f"c{i}" for i in range(6)]
    before, after = [0.9, 0.8, 0.7, 0.1, 0.0, 0.3], [0.9, 0.8, 0.7, 0.1, 0.05, 0.3]
    figure = lesson.concept_view(
        IMAGE, names, before, after, {"own": [("c0", False), ("<stop>", False)]}, most=3
    )
    written = texts(figure)
    assert {"c0", "c1", "c4 (set)"} <= set(written) and "c3" not in written and "c5" not in written
    assert bars(figure) == pytest.approx([0.9, 0.8, 0.0, np.nan, np.nan, 0.05], nan_ok=True)


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
def view(small_data, monkeypatch):
    """The view of two images, and what it draws, newest last."""
    seen: list[dict] = []

    def concept_view(image, names, before, after, paths):
        seen.append({"before": before, "after": after, "paths": paths})
        return a_figure()

    monkeypatch.setattr(lesson, "concept_view", concept_view)
    records = list(small_data.train[:2])
    return lesson.concept_switches(Believer(3), CONCEPTS, records, VOCABULARY, max_labels=3), seen


def test_it_starts_with_the_concepts_of_the_image(view) -> None:
    view, seen = view
    assert len(seen) == 1 and seen[-1]["before"] == seen[-1]["after"] == CONCEPTS[0].tolist()
    assert seen[-1]["paths"] == {"from its own concepts": [("ant", False), ("cat", False), ("<stop>", False)]}
    assert view.controls["value"].value == 0.9  # of the first concept
    assert "From its own concepts: ant, cat, <stop>." in html.unescape(view.sentence.value)


def test_a_concept_turned_by_hand_changes_what_is_said(view) -> None:
    view, seen = view
    view.controls["concept"].value = 1
    assert view.controls["value"].value == 0.2 and len(seen) == 1  # looking changes nothing
    view.controls["value"].value = 0.8
    assert seen[-1]["after"] == pytest.approx([0.9, 0.8, 0.7])
    assert seen[-1]["paths"]["from yours (new: *)"] == [
        ("ant", False),
        ("bee", True),
        ("cat", False),
        ("<stop>", False),
    ]
    assert view.controls["chosen"].value == "You set bee = 0.80."
    assert "With bee = 0.80: ant, bee, cat, <stop>." in html.unescape(view.sentence.value)


@pytest.mark.parametrize("how", ["button", "image"])
def test_it_can_start_again(view, how: str) -> None:
    view, seen = view
    view.controls["value"].value = 0.0
    assert "from yours (new: *)" in seen[-1]["paths"]
    if how == "button":
        view.again.click()
        assert view.controls["value"].value == 0.9
    else:
        view.controls["image"].value = 2
        assert view.controls["value"].value == 0.1 and seen[-1]["before"] == CONCEPTS[1].tolist()
    assert list(seen[-1]["paths"]) == ["from its own concepts"]
    assert view.controls["chosen"].value == "The concepts are the image's own."


def test_it_draws_a_real_picture(small_data) -> None:
    records = list(small_data.train[:1])
    view = lesson.concept_switches(Believer(3), CONCEPTS[:1], records, VOCABULARY, max_labels=3)
    before = bytes(view.picture.value)
    view.controls["value"].value = 0.3
    assert before.startswith(b"\x89PNG") and bytes(view.picture.value) != before
