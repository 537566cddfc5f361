"""The explorable tree: its values are set as a reader would set them, and what is drawn is read."""

from __future__ import annotations

import html

import pytest
import torch
from lessons import nb06 as search_widgets
from test_search_tree import Maze

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.data.records import AnnotatedImages

ipywidgets = pytest.importorskip("ipywidgets")


def test_a_tree_to_explore(small_data: AnnotatedImages) -> None:
    searches = {name: (Maze(), Features(torch.zeros(2, 1))) for name in ("first", "second")}
    vocabulary = Vocabulary(("ant", "bee", "cat"))
    view = search_widgets.tree_view(searches, small_data.train[:2], vocabulary, max_labels=3)
    text = html.unescape(view.sentence.value)
    assert "found is bee, <stop> (P = 0.36)" in text
    assert "Greedy search says ant, bee, <stop>" in text
    assert "it parts at step 1, and the beam gives it up at step 2." in text
    wide = view.picture.value
    view.controls["width"].value = 1
    assert "Greedy search finds it, too." in view.sentence.value
    assert view.picture.value != wide and bytes(view.picture.value).startswith(b"\x89PNG")
    narrow = view.picture.value
    view.controls["image"].value = 2
    assert view.picture.value != narrow, "another image is drawn"
    view.controls["who"].value = "second"
    assert "Error" not in view.sentence.value


def test_a_greedy_path_that_stays_a_candidate() -> None:
    found = search_widgets.grow(Maze(), Features(torch.zeros(1, 1)), width=20, max_steps=4)
    text = search_widgets.describe(found, Vocabulary(("ant", "bee", "cat")))
    assert found.parting == 1 and ("ends as a candidate" in text or "gives it up" in text)
