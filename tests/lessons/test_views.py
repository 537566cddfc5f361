"""What all views share: they are drawn at once, again when a value changes, and say what went wrong; edits by hand."""

from __future__ import annotations

import pytest
from lessons import views
from reading import a_figure

ipywidgets = pytest.importorskip("ipywidgets")


def test_a_view_is_drawn_at_once_and_again_when_a_value_changes() -> None:
    slider = views.image_slider(3)
    view = views.figure_view(lambda side: (a_figure(side), f"side {side}"), {"side": slider}, rows=[[slider]])
    before = bytes(view.picture.value)
    assert view.sentence.value == "side 1" and before.startswith(b"\x89PNG")
    slider.value = 2
    assert view.sentence.value == "side 2" and bytes(view.picture.value) != before
    assert view.picture.format == "png"


def test_a_view_is_not_drawn_twice_for_the_same_values() -> None:
    drawn = []
    a, b = ipywidgets.IntText(value=0), ipywidgets.IntText(value=0)
    a.observe(lambda change: setattr(b, "value", change["new"]), names="value")  # a click that changes both
    views.figure_view(lambda a, b: (drawn.append((a, b)) or a_figure(), ""), {"a": a, "b": b}, rows=[[a, b]])
    a.value = 5
    assert drawn == [(0, 0), (5, 5)]


def test_an_error_while_drawing_is_shown_and_gone_with_the_next_value() -> None:
    slider = ipywidgets.IntSlider(value=1, min=0, max=3)
    view = views.figure_view(lambda n: (a_figure(), f"{6 / n:.0f} <b>"), {"n": slider}, rows=[[slider]])
    picture = bytes(view.picture.value)
    slider.value = 0
    assert "ZeroDivisionError" in view.sentence.value and bytes(view.picture.value) == picture
    slider.value = 3
    assert view.sentence.value == "2 &lt;b&gt;"  # text, not HTML


def test_a_choice_starts_with_its_first_option_or_the_one_given() -> None:
    assert views.choice("Label", [("all", None), ("sun", "sun")]).value is None
    assert views.choice("Label", ["sun", "sea"]).value == "sun"
    assert views.choice("Label", ["sun", "sea"], "sea").value == "sea"


def test_edits_stay_by_place_and_are_taken_back_or_dropped() -> None:
    place, image = views.choice("Place", [0, 1]), views.image_slider(2)
    editor = views.slider("IntSlider", "Value", min=0, max=9)
    edits = views.edits_by_hand(place, editor, own=lambda k: 3 + k, tell=lambda e: f"{e}", image=image)
    assert editor.value == 3 and edits.values == {} and edits.chosen.value == "{}"
    editor.value = 7
    place.value = 1
    assert editor.value == 4 and edits.values == {0: 7}, "looking changes nothing"
    editor.value = 9
    place.value = 0
    assert editor.value == 7 and edits.values == {0: 7, 1: 9}
    editor.value = 3
    assert edits.values == {1: 9} and edits.chosen.value == "{1: 9}", "its own value takes an edit back"
    edits.again.click()
    assert edits.values == {} and editor.value == 3
    editor.value, image.value = 5, 2
    assert edits.values == {} and edits.chosen.value == "{}"
