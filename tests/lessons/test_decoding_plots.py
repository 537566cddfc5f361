"""Figures of decoding: what is read, said and marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lessons.nb03 import NamedLabel, gate_map, grouped_bars, named_in_order, step_view, unrolled_decoder
from matplotlib.figure import Figure

from helpers import plots

IMAGE = np.zeros((16, 16, 3), dtype=np.uint8)


def texts(figure: Figure) -> list[str]:
    """What is written in a figure, ticks and titles included."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def bars(figure: Figure) -> list[float]:
    """The lengths of the horizontal bars, panel by panel."""
    return [bar.get_width() for ax in figure.axes for container in ax.containers for bar in container]


def test_the_unrolled_decoder_shows_what_is_read_and_said() -> None:
    figure = unrolled_decoder(["<start>", "cat", "tree"], ["cat", "tree", "<stop>"], IMAGE)
    written = texts(figure)
    assert written.count("LSTM") == 3 and written.count("cat") == 2 and written.count("<start>") == 1
    with pytest.raises(ValueError, match="found 1 inputs and 2 outputs"):
        unrolled_decoder(["<start>"], ["cat", "<stop>"], IMAGE)


def test_gates_are_sorted_alike_in_all_panels() -> None:
    gate = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.7, 0.5]])  # (T, H): unit 1, then 2, then 0
    figure = gate_map({"forget gate": gate, "cell": gate - 0.5}, ["<start>", "cat"], IMAGE)
    first, second = (ax.images[0].get_array() for ax in figure.axes[1:3])
    np.testing.assert_allclose(first, [[0.9, 0.7], [0.5, 0.5], [0.1, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(second, np.asarray(first) - 0.5, atol=1e-6)
    assert figure.axes[1].images[0].get_clim() == (0, 1)
    low, high = figure.axes[2].images[0].get_clim()
    assert low == -high  # white is 0
    assert (
        len(gate_map({"cell": torch.randn(2, 100)}, ["a", "b"], IMAGE, units=9).axes[1].images[0].get_array())
        == 9
    )
    with pytest.raises(ValueError, match="of 3 steps"):
        gate_map({"cell": gate}, ["a", "b", "c"], IMAGE)


def test_named_labels_tell_right_from_wrong_without_colour() -> None:
    row = [NamedLabel("cat", 0.9, True), NamedLabel("dog", 0.4, False), NamedLabel("<stop>", 0.8)]
    figure = named_in_order([IMAGE, IMAGE], [row, []], [["sun", "sea"], []], columns=2)
    assert bars(figure) == [0.9, 0.4, 0.8]
    written = texts(figure)
    assert "dog ✗" in written and "cat" in written and "<stop>" in written
    assert "missed: sun, sea" in written and "nothing missed" in written
    titled = named_in_order([IMAGE], [row], titles=["made to begin"])
    assert "made to begin" in texts(titled)
    with pytest.raises(ValueError, match="found 1 images and 2 rows"):
        named_in_order([IMAGE], [row, row])


def test_grouped_bars_are_means_and_dots_are_several_runs() -> None:
    figure = grouped_bars({"a": [[1, 2], [3, 6]], "b": [[5, 5]]}, ["left", "right"], ylabel="%", title="t")
    ax = figure.axes[0]
    assert [[bar.get_height() for bar in group] for group in ax.containers] == [[2, 4], [5, 5]]
    dots = [line.get_ydata().tolist() for line in ax.lines]
    assert dots == [[1, 2], [3, 6]], "a single run is its bar: no dot that looks like several"
    with pytest.raises(ValueError, match="shape \\(S, 2\\)"):
        grouped_bars({"a": [[1, 2, 3]]}, ["left", "right"], ylabel="%", title="t")


def test_a_step_shows_both_paths_and_marks_what_was_chosen() -> None:
    paths = {"alone": [("cat", False), ("<stop>", False)], "yours": [("sun", True), ("cat", False)]}
    figure = step_view(IMAGE, paths, [NamedLabel("cat", 0.75, True)], step=2)
    written = texts(figure)
    assert "sun *" in written and written.count("cat") >= 3 and "most probable at step 2" in written
    assert bars(figure) == [0.75]
    assert "the sequence has\nended before" in texts(step_view(IMAGE, paths, [], step=3))
    with pytest.raises(ValueError, match="paths is empty"):
        step_view(IMAGE, {}, [], step=1)


def test_figures_can_be_written(tmp_path: Path) -> None:
    figure = step_view(IMAGE, {"alone": [("cat", False)]}, [NamedLabel("cat", 1.0)], step=1)
    assert plots.to_png(figure).startswith(b"\x89PNG")
