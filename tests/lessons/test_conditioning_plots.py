"""Figures of notebook 03b: what stands in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lessons.nb03b import concept_view, four_ways, label_matrices
from test_decoding_plots import bars, texts

IMAGE = np.zeros((16, 16, 3), dtype=np.uint8)
SIZES = {"D": 192, "H": 128, "E": 64, "C": 30}


def test_the_four_ways_show_the_same_labels_and_the_shapes() -> None:
    written = texts(four_ways(IMAGE, ["umbrella", "person"], SIZES))
    assert written.count("umbrella") == written.count("person") == 8  # read and said, in four decoders
    assert written.count("<start>") == written.count("<stop>") == 4
    assert written.count("LSTM") == 13  # one more reads the image
    assert written.count("$v$") == 4 and "$x_3$" in written
    assert any("192 (D)" in text and "30 (C)" in text for text in written)


def test_the_four_ways_need_all_sizes() -> None:
    with pytest.raises(ValueError, match="sizes lacks C"):
        four_ways(IMAGE, ["cat"], {"D": 1, "H": 1, "E": 1})


def test_label_matrices_leave_the_diagonal_out() -> None:
    matrix = torch.tensor([[9.0, 0.5], [0.5, 9.0]])
    figure = label_matrices({"cosine": matrix, "together": -matrix}, ["cat", "dog"])
    assert {"cosine", "together", "cat"} <= set(texts(figure))
    drawn = figure.axes[0].images[0]
    assert np.isnan(drawn.get_array().filled(np.nan).diagonal()).all()
    assert drawn.get_clim() == (-0.5, 0.5) and matrix[0, 0] == 9  # the given matrix is left alone
    with pytest.raises(ValueError, match="3 rows"):
        label_matrices({"cosine": matrix}, ["a", "b", "c"])


def test_concepts_changed_by_hand_are_drawn_twice_and_always() -> None:
    names = [f"c{i}" for i in range(6)]
    before, after = [0.9, 0.8, 0.7, 0.1, 0.0, 0.3], [0.9, 0.8, 0.7, 0.1, 0.05, 0.3]
    figure = concept_view(IMAGE, names, before, after, {"own": [("c0", False), ("<stop>", False)]}, most=3)
    written = texts(figure)
    assert {"c0", "c1", "c4 (set)"} <= set(written) and "c3" not in written and "c5" not in written
    assert bars(figure) == pytest.approx([0.9, 0.8, 0.0, 0.05])
    with pytest.raises(ValueError, match="found 6 names, 5 and 6"):
        concept_view(IMAGE, names, before[:5], after, {"own": []})
