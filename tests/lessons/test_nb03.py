"""Decoding step by step: what is read, said and marked; the walk is set as a reader would set it."""

from __future__ import annotations

import html
from typing import ClassVar

import numpy as np
import pytest
import torch
from lessons import nb03 as lesson
from reading import a_figure, bars, texts

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.decoders.base import Decoder, State

ipywidgets = pytest.importorskip("ipywidgets")
IMAGE = np.zeros((16, 16, 3), dtype=np.uint8)


def test_the_unrolled_decoder_shows_what_is_read_and_said() -> None:
    figure = lesson.unrolled_decoder(["<start>", "cat", "tree"], ["cat", "tree", "<stop>"], IMAGE)
    written = texts(figure)
    assert written.count("LSTM") == 3 and written.count("cat") == 2 and written.count("<start>") == 1


def test_gates_are_sorted_alike_in_all_panels() -> None:
    gate = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.7, 0.5]])  # (T, H): unit 1, then 2, then 0
    figure = lesson.gate_map({"forget gate": gate, "cell": gate - 0.5}, ["<start>", "cat"], IMAGE)
    first, second = (ax.images[0].get_array() for ax in figure.axes[1:3])
    np.testing.assert_allclose(first, [[0.9, 0.7], [0.5, 0.5], [0.1, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(second, np.asarray(first) - 0.5, atol=1e-6)
    assert figure.axes[1].images[0].get_clim() == (0, 1)
    low, high = figure.axes[2].images[0].get_clim()
    assert low == -high  # white is 0
    assert (
        len(
            lesson.gate_map({"cell": torch.randn(2, 100)}, ["a", "b"], IMAGE, units=9)
            .axes[1]
            .images[0]
            .get_array()
        )
        == 9
    )


def test_named_labels_tell_right_from_wrong_without_colour() -> None:
    row = [
        lesson.NamedLabel("cat", 0.9, True),
        lesson.NamedLabel("dog", 0.4, False),
        lesson.NamedLabel("<stop>", 0.8),
    ]
    figure = lesson.named_in_order([IMAGE, IMAGE], [row, []], [["sun", "sea"], []], columns=2)
    assert bars(figure) == [0.9, 0.4, 0.8]
    written = texts(figure)
    assert "dog ✗" in written and "cat" in written and "<stop>" in written
    assert "missed: sun, sea" in written and "nothing missed" in written
    titled = lesson.named_in_order([IMAGE], [row], titles=["made to begin"])
    assert "made to begin" in texts(titled)


def test_a_step_shows_both_paths_and_marks_what_was_chosen() -> None:
    paths = {"alone": [("cat", False), ("<stop>", False)], "yours": [("sun", True), ("cat", False)]}
    figure = lesson.step_view(IMAGE, paths, [lesson.NamedLabel("cat", 0.75, True)], step=2)
    written = texts(figure)
    assert "sun *" in written and written.count("cat") >= 3 and "most probable at step 2" in written
    assert bars(figure) == [0.75]
    assert "the sequence has\nended before" in texts(lesson.step_view(IMAGE, paths, [], step=3))


class Parrot(Decoder):
    """Says label 0, 1, 2, then stops; after label 3 it says 4 and stops. Images make no difference."""

    FOLLOWS: ClassVar = {6: 0, 0: 1, 1: 2, 2: 5, 3: 4, 4: 5}  # <stop> is 5, <start> is 6

    def start(self, features: Features) -> State:
        return State((features.pooled,))

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State, None]:
        logits = torch.zeros(len(tokens), 6)
        for row, token in zip(logits, tokens.tolist(), strict=True):
            row[self.FOLLOWS[token]] = 4.0
        return logits, state, None


@pytest.fixture
def walk(small_data, monkeypatch):
    """The step-by-step view of a parrot, and what it draws, newest last."""
    seen: list[dict] = []

    def step_view(image, paths, top, *, step):
        seen.append({"paths": paths, "top": [label.name for label in top], "step": step, "right": top})
        return a_figure()

    monkeypatch.setattr(lesson, "step_view", step_view)
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    records = list(small_data.train[:2])
    view = lesson.step_by_step(Parrot(5), Features(torch.zeros(2, 1)), records, vocabulary, max_labels=4)
    return view, seen


def names(path: list[tuple[str, bool]]) -> str:
    """A path as text; what was chosen by hand has a star."""
    return " ".join(name + "*" * by_hand for name, by_hand in path)


def test_the_walk_starts_with_what_the_decoder_says(walk) -> None:
    view, seen = walk
    assert names(seen[-1]["paths"]["decoder alone"]) == "ant bee cat <stop>"
    assert len(seen) == 1 and list(seen[-1]["paths"]) == ["decoder alone"]
    assert seen[-1]["top"][0] == "ant" and len(seen[-1]["top"]) == 5
    assert "The decoder alone says: ant, bee, cat, <stop>." in html.unescape(view.sentence.value)
    view.controls["step"].value = 2
    assert seen[-1]["top"][0] == "bee" and seen[-1]["step"] == 2
    view.controls["step"].value = 5  # after <stop>
    assert seen[-1]["top"] == []


def test_saying_another_label_changes_what_follows(walk) -> None:
    view, seen = walk
    view.controls["step"].value = 2
    view.controls["say"].value = 3
    assert names(seen[-1]["paths"]["with your choices"]) == "ant dog* elk <stop>"
    assert names(seen[-1]["paths"]["decoder alone"]) == "ant bee cat <stop>"
    assert view.controls["chosen"].value == "You say dog at step 2."
    assert "With your choices: ant, dog, elk, <stop>." in html.unescape(view.sentence.value)


def test_choices_stay_while_one_walks_and_can_be_taken_back(
    walk,
) -> None:
    view, seen = walk
    step, say = view.controls["step"], view.controls["say"]
    step.value, say.value = 2, 3
    step.value = 4
    assert say.value == -1  # nothing is chosen here
    say.value = 1  # in place of <stop>
    assert names(seen[-1]["paths"]["with your choices"]) == "ant dog* elk bee* cat"
    step.value = 2
    assert say.value == 3
    say.value = -1
    assert view.controls["chosen"].value == "You say bee at step 4."
    assert names(seen[-1]["paths"]["with your choices"]) == "ant bee cat bee* dog"  # cat is taken
    step.value = 4
    say.value = -1
    assert list(seen[-1]["paths"]) == ["decoder alone"]


def test_the_walk_draws_a_real_picture(small_data) -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    records = list(small_data.train[:1])
    view = lesson.step_by_step(Parrot(5), Features(torch.zeros(1, 1)), records, vocabulary, max_labels=4)
    before = view.picture.value
    view.controls["say"].value = 3
    assert bytes(before).startswith(b"\x89PNG") and view.picture.value != before
