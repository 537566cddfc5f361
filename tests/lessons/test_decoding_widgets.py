"""A walk through a decoding: its values are set as a reader would set them, and what is drawn is read."""

from __future__ import annotations

import html
from typing import ClassVar

import pytest
import torch
from lessons import nb03 as widgets
from test_widgets import a_figure

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.data.records import AnnotatedImages
from helpers.decoders.base import Decoder, State

ipywidgets = pytest.importorskip("ipywidgets")


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
def walk(small_data: AnnotatedImages, monkeypatch: pytest.MonkeyPatch) -> tuple[ipywidgets.VBox, list[dict]]:
    """The step-by-step view of a parrot, and what it draws, newest last."""
    drawn: list[dict] = []

    def step_view(image, paths, top, *, step):
        drawn.append({"paths": paths, "top": [label.name for label in top], "step": step, "right": top})
        return a_figure()

    monkeypatch.setattr(widgets, "step_view", step_view)
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    records = list(small_data.train[:2])
    view = widgets.step_by_step(Parrot(5), Features(torch.zeros(2, 1)), records, vocabulary, max_labels=4)
    return view, drawn


def names(path: list[tuple[str, bool]]) -> str:
    """A path as text; what was chosen by hand has a star."""
    return " ".join(name + "*" * by_hand for name, by_hand in path)


def test_the_walk_starts_with_what_the_decoder_says(walk: tuple[ipywidgets.VBox, list[dict]]) -> None:
    view, drawn = walk
    assert names(drawn[-1]["paths"]["decoder alone"]) == "ant bee cat <stop>"
    assert len(drawn) == 1 and list(drawn[-1]["paths"]) == ["decoder alone"]
    assert drawn[-1]["top"][0] == "ant" and len(drawn[-1]["top"]) == 5
    assert "The decoder alone says: ant, bee, cat, <stop>." in html.unescape(view.sentence.value)
    view.controls["step"].value = 2
    assert drawn[-1]["top"][0] == "bee" and drawn[-1]["step"] == 2
    view.controls["step"].value = 5  # after <stop>
    assert drawn[-1]["top"] == []


def test_saying_another_label_changes_what_follows(walk: tuple[ipywidgets.VBox, list[dict]]) -> None:
    view, drawn = walk
    view.controls["step"].value = 2
    view.controls["say"].value = 3
    assert names(drawn[-1]["paths"]["with your choices"]) == "ant dog* elk <stop>"
    assert names(drawn[-1]["paths"]["decoder alone"]) == "ant bee cat <stop>"
    assert view.controls["chosen"].value == "You say dog at step 2."
    assert "With your choices: ant, dog, elk, <stop>." in html.unescape(view.sentence.value)


def test_choices_stay_while_one_walks_and_can_be_taken_back(
    walk: tuple[ipywidgets.VBox, list[dict]],
) -> None:
    view, drawn = walk
    step, say = view.controls["step"], view.controls["say"]
    step.value, say.value = 2, 3
    step.value = 4
    assert say.value == -1  # nothing is chosen here
    say.value = 1  # in place of <stop>
    assert names(drawn[-1]["paths"]["with your choices"]) == "ant dog* elk bee* cat"
    step.value = 2
    assert say.value == 3
    say.value = -1
    assert view.controls["chosen"].value == "You say bee at step 4."
    assert names(drawn[-1]["paths"]["with your choices"]) == "ant bee cat bee* dog"  # cat is taken
    step.value = 4
    say.value = -1
    assert list(drawn[-1]["paths"]) == ["decoder alone"]


@pytest.mark.parametrize("how", ["button", "image"])
def test_the_walk_can_start_again(walk: tuple[ipywidgets.VBox, list[dict]], how: str) -> None:
    view, drawn = walk
    view.controls["say"].value = 3
    view.controls["step"].value = 2  # nothing is chosen at this step: only the choices themselves change
    if how == "button":
        button = next(
            w for row in view.children[:2] for w in row.children if isinstance(w, ipywidgets.Button)
        )
        button.click()
    else:
        view.controls["image"].value = 2
    assert list(drawn[-1]["paths"]) == ["decoder alone"]
    assert view.controls["chosen"].value == "The decoder chooses everything."
    assert view.controls["say"].value == -1


def test_the_walk_draws_a_real_picture(small_data: AnnotatedImages) -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    records = list(small_data.train[:1])
    view = widgets.step_by_step(Parrot(5), Features(torch.zeros(1, 1)), records, vocabulary, max_labels=4)
    before = view.picture.value
    view.controls["say"].value = 3
    assert bytes(before).startswith(b"\x89PNG") and view.picture.value != before
