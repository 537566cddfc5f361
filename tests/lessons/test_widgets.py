"""What all views share: they are drawn at once, again when a value changes, and say what went wrong."""

from __future__ import annotations

import pytest

from helpers import plots

ipywidgets = pytest.importorskip("ipywidgets")
widgets = pytest.importorskip("lessons.views")


def a_figure(side: float = 1.0) -> plots.Figure:
    """A figure that is quickly drawn."""
    return plots.new_figure(size=(side, side))[0]


def test_a_view_is_drawn_at_once_and_again_when_a_value_changes() -> None:
    slider = ipywidgets.IntSlider(value=1, min=1, max=3)
    view = widgets.figure_view(
        lambda side: (a_figure(side), f"side {side}"), {"side": slider}, rows=[[slider]]
    )
    before = bytes(view.picture.value)
    assert view.sentence.value == "side 1" and before.startswith(b"\x89PNG")
    slider.value = 2
    assert view.sentence.value == "side 2" and bytes(view.picture.value) != before
    assert view.picture.format == "png"


def test_a_view_is_not_drawn_twice_for_the_same_values() -> None:
    drawn = []
    a, b = ipywidgets.IntText(value=0), ipywidgets.IntText(value=0)
    a.observe(lambda change: setattr(b, "value", change["new"]), names="value")  # a click that changes both
    widgets.figure_view(
        lambda a, b: (drawn.append((a, b)) or a_figure(), ""), {"a": a, "b": b}, rows=[[a, b]]
    )
    a.value = 5
    assert drawn == [(0, 0), (5, 5)]


def test_an_error_while_drawing_is_shown_and_mended_by_the_next_value() -> None:
    slider = ipywidgets.IntSlider(value=1, min=0, max=3)

    def draw(number: int) -> tuple[plots.Figure, str]:
        return a_figure(), f"{6 / number:.0f} <b>"

    view = widgets.figure_view(draw, {"number": slider}, rows=[[slider]])
    picture = bytes(view.picture.value)
    slider.value = 0
    assert "ZeroDivisionError" in view.sentence.value and bytes(view.picture.value) == picture
    slider.value = 3
    assert view.sentence.value == "2 &lt;b&gt;"  # text, not HTML
