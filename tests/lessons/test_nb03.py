"""Figures and tables of decoding step by step; the walk is set as a reader would set it."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from lessons import nb03 as lesson
from reading import a_figure, bars, texts, words

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.decoders.base import Decoder, State
from helpers.decoders.search import greedy
from helpers.systems.sequence import SequenceSystem

ipywidgets = pytest.importorskip("ipywidgets")
IMAGE = np.zeros((16, 16, 3), dtype=np.uint8)


def test_what_is_named_ends_at_the_first_stop() -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat"))
    tokens, probability = torch.tensor([2, 0, 3, 3]), torch.tensor([0.5, 0.25, 1.0, 0.0])
    found = lesson.named_labels(tokens, probability, vocabulary, ["ant"])
    assert found == [("cat", 0.5, False), ("ant", 0.25, True), ("<stop>", 1.0, None)]
    assert len(lesson.named_labels(tokens, probability, vocabulary, [], whole=True)) == 4


def test_a_table_has_the_lowest_and_the_highest_run_in_percent() -> None:
    table = lesson.score_table(
        {"a": [[0.5, 0.1], [0.52, 0.1]], "b": [[0, 1]]}, ("OF1", "CF1"), corner="test"
    ).data
    assert table.split("\n")[2:] == ["| a | 50.0 – 52.0 | 10.0 |", "| b | 0.0 | 100.0 |"]
    assert table.startswith("| test | OF1 | CF1 |")


def test_bars_are_means_of_the_chosen_columns() -> None:
    rows = {"a": [[0.5, 0.1, 0.0], [0.7, 0.3, 0.0]], "b": [[0.2, 0.2, 1.0]]}
    figure = lesson.score_bars(rows, ("OF1", "CF1", "exact"), panels=(0, 2))
    assert bars(figure) == pytest.approx([60, 20, 0, 100])
    assert [ax.get_title() for ax in figure.axes] == ["OF1", "exact"]


def test_curves_are_shown_with_their_ends_in_words(monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(lesson, "show", lambda figure, alt: told.append(alt))
    lesson.show_memory({"plain": [[1.0, 0.5], [1.0, 0.7]]}, (5, 40))
    lesson.show_losses([(3.0, 3.1), (1.0, 1.5)], ("train", "val"))
    assert "At 40 steps: plain 0.60." in told[0]
    assert "2 epochs: train from 3.00 to 1.00, val from 3.10 to 1.50." in told[1]


def test_orders_are_read_from_left_to_right_and_end_with_what_is_missed() -> None:
    row = [lesson.NamedLabel("cat", 0.9, True), lesson.NamedLabel("<stop>", 0.8)]
    wrong = [lesson.NamedLabel("dog", 0.4, False)]
    rows, missed = {"rare-first": row, "frequent-first": wrong}, {"rare-first": [], "frequent-first": ["cat"]}
    written = words(lesson.orders_aloud(IMAGE, rows, missed), 1)
    assert written == [
        "rare-first",
        "cat",
        "0.90",
        "<stop>",
        "0.80",
        "frequent-first",
        "dog ✗",
        "0.40",
        "cat",
        "missed",
    ]


def test_sets_that_break_a_rule_are_found_and_marked(small_data) -> None:
    vocabulary = Vocabulary(("boat", "sea", "sun"))
    first = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=torch.bool)
    second = torch.ones(3, 3, dtype=torch.bool)
    records = list(small_data.train[:3])
    sets = ("MLP", first), ("RIA", second)
    figure = lesson.broken_rules(records, *sets, vocabulary, {"boat": ["sea"]})
    assert words(figure, 1)[:3] == ["MLP", "boat *", "sun"]
    assert len(figure.axes) == 2  # one image breaks the rule


def test_gates_are_sorted_alike_in_all_panels(small_data) -> None:
    gate, record = (
        torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.7, 0.5]]),
        small_data.train[0],
    )  # (T, H): unit 1, 2, 0
    figure = lesson.gate_map({"forget gate": gate, "cell": gate - 0.5}, ["<start>", "cat"], record)
    first, second = (ax.images[0].get_array() for ax in figure.axes[1:3])
    np.testing.assert_allclose(first, [[0.9, 0.7], [0.5, 0.5], [0.1, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(second, np.asarray(first) - 0.5, atol=1e-6)
    assert figure.axes[1].images[0].get_clim() == (0, 1)
    low, high = figure.axes[2].images[0].get_clim()
    assert low == -high  # white is 0
    many = lesson.gate_map({"forget gate": torch.rand(2, 100)}, ["a", "b"], record, units=9)
    assert len(many.axes[1].images[0].get_array()) == 9


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


def test_the_static_picture_is_what_the_walk_shows(small_data) -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    one = Features(torch.zeros(1, 1))
    figure = lesson.static_step(Parrot(5), one, small_data.train[0], vocabulary, say="dog", steps=5)
    written = texts(figure)
    assert "dog *" in written and written.count("elk") == 1 and "most probable at step 2" in written


def test_images_and_orders_are_read_off_what_was_decoded(small_data, monkeypatch) -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    decoded = greedy(Parrot(5), Features(torch.zeros(2, 1)), max_steps=5)
    records = [replace(record, labels=("bee", "elk")) for record in small_data.train[:2]]
    written = texts(lesson.images_named(records, [1], decoded, vocabulary))
    assert "missed: elk" in written and "ant ✗" in written and "bee" in written
    system = SequenceSystem(vocabulary, Parrot(5), max_labels=4)
    figure = lesson.orders_of({"rare-first": system}, Features(torch.zeros(1, 1)), records[0], vocabulary)
    assert words(figure, 1)[-2:] == ["elk", "missed"]


def test_the_walk_draws_a_real_picture(small_data) -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    records = list(small_data.train[:1])
    view = lesson.step_by_step(Parrot(5), Features(torch.zeros(1, 1)), records, vocabulary, max_labels=4)
    before = view.picture.value
    view.controls["say"].value = 3
    assert bytes(before).startswith(b"\x89PNG") and view.picture.value != before
