"""Tables and figures of label vectors and concepts; concepts set by hand, as a reader would set them."""

from __future__ import annotations

import html
import json

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
VOCABULARY = Vocabulary(("ant", "bee", "cat"))
CONCEPTS = torch.tensor([[0.9, 0.2, 0.7], [0.1, 0.8, 0.3]])


def rows(table) -> list[list[str]]:
    """The cells of a Markdown table, its rule left out."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.data.splitlines()]
    return [lines[0], *lines[2:]]


def test_a_table_shows_the_lowest_and_the_highest_run() -> None:
    found = rows(lesson.table({"ria": [[80.04, 79.0], 7]}, ("OF1", "N+"), corner="test"))
    assert found == [["test", "OF1", "N+"], ["ria", "79.0 – 80.0", "7.0"]]


def test_stored_results_are_means_over_the_seeds_and_a_missing_row_has_dashes(monkeypatch, tmp_path) -> None:
    runs = [{"test": {"OF1": 0.5}}, {"test": {"OF1": 0.6}}]
    (tmp_path / "r.json").write_text(json.dumps({"runs": {"corel5k": {"a": runs, "one": runs[:1]}}}))
    monkeypatch.setattr(lesson, "RESULTS", tmp_path / "r.json")
    found = rows(lesson.stored_results({"A": "a", "One": "one", "None": "none"}, metrics=("OF1",)))
    assert found[1:] == [["A", "55.0 ± 7.1"], ["One", "50.0"], ["None", "–"]]


def test_the_stored_results_of_the_course_are_there() -> None:
    assert "±" in lesson.stored_results({"RIA": "ria, rare-first"}).data


def test_a_label_is_not_nearest_to_itself() -> None:
    alike = torch.tensor([[1.0, 0.2, 0.3], [0.2, 1.0, 0.9], [0.3, 0.9, 1.0]])
    found = rows(lesson.nearest_table({"cosine": alike}, ["ant", "cat"], VOCABULARY, count=1))
    assert found[1:] == [["ant", "cat"], ["cat", "bee"]]


@pytest.fixture
def shown(monkeypatch) -> list[tuple]:
    """What is shown: figure and alt text, newest last."""
    found: list[tuple] = []
    monkeypatch.setattr(lesson, "show", lambda figure, *, alt: found.append((figure, alt)))
    return found


def test_found_images_are_marked(small_data, shown) -> None:
    records = [record for record in small_data.train if record.labels][:2]
    label = records[0].labels[0]
    lesson.show_search(records, {label: [0, 1], f"{label} + nothing": [1, 0]})
    figure, alt = shown[-1]
    right = 1 + (label in records[1].labels)
    assert f"{right} of 4" in alt and texts(figure).count("✓") == right


def test_nearness_is_a_mean_over_pairs(shown) -> None:
    cosines = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.1], [0.0, 0.1, 1.0]])
    lesson.show_nearness({"trained": cosines}, torch.tensor([2, 1, 0]))
    assert "trained from 0.30 to 0.00" in shown[-1][1]


def test_bars_say_in_words_what_they_show(shown) -> None:
    lesson.show_squeezed({"H = 8": {"RIA": 39.0, "CNN-RNN": 78.6}}, ylabel="OF1", title="Small")
    assert shown[-1][1] == "Small. H = 8: RIA 39, CNN-RNN 79."
    lesson.show_switches({"umbrella": 5.0, "person": 99.0}, {"flying → bird": 69.0, "night → sun": -14.0})
    assert "least when switched on: umbrella" in shown[-1][1] and bars(shown[-1][0]) == [5, 99, 69, -14]
    lesson.show_company({"umbrella": 0.0, "umbrella + rain": 6.0}, "umbrella")
    assert "umbrella + rain 6" in shown[-1][1] and bars(shown[-1][0]) == [0, 6]


def test_concepts_changed_by_hand_are_drawn_twice_and_always() -> None:
    names = [f"c{i}" for i in range(6)]
    before, after = [0.9, 0.8, 0.7, 0.1, 0.0, 0.3], [0.9, 0.8, 0.7, 0.1, 0.05, 0.3]
    figure = lesson.concept_view(
        IMAGE, names, before, after, {"own": [("c0", False), ("<stop>", False)]}, most=3
    )
    written = texts(figure)
    assert {"c0", "c1", "c4 (set)"} <= set(written) and "c3" not in written and "c5" not in written
    assert bars(figure) == pytest.approx([0.9, 0.8, 0.0, np.nan, np.nan, 0.05], nan_ok=True)


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
