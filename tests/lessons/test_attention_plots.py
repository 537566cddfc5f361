"""Figures of attention: a planted peak is where it was planted, and frames know what is right."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from lessons import nb04 as ap
from PIL import Image

from helpers import plots
from helpers.data.batches import Features
from helpers.data.records import Box, Record
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.search import greedy, trace
from helpers.metrics.localization import Grade, Grading
from helpers.plots import to_png


def pixels_of(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB")).astype(float)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("grid", [(4, 4), (7, 5), (14, 14)])
@pytest.mark.parametrize("size", [(64, 64), (300, 120), (90, 210), (448, 448)])
def test_a_planted_peak_is_drawn_over_its_cell(size, grid, smooth) -> None:
    """The drawn picture is searched for where it changed; the place is turned back into pixels of the image."""
    h, w = grid
    row, column = h - 2, 1
    weights = torch.zeros(h, w)
    weights[row, column] = 1.0
    image = Image.new("RGB", size, (200, 120, 60))
    figure = plots.overlay(image, weights.flatten(), grid, highest=1.0, smooth=smooth)
    empty = plots.overlay(image, torch.zeros(h * w), grid, highest=1.0, smooth=smooth)
    change = np.abs(pixels_of(figure) - pixels_of(empty)).sum(2)
    y, x = (float(v.mean()) for v in np.nonzero(change > 0.9 * change.max()))
    axes = figure.axes[0]
    image_x, image_y = axes.transData.inverted().transform((x + 0.5, change.shape[0] - y - 0.5))
    assert (image_x + 0.5) / size[0] * w - 0.5 == pytest.approx(column, abs=0.25)
    assert (image_y + 0.5) / size[1] * h - 0.5 == pytest.approx(row, abs=0.25)
    touched = np.nonzero(change > 0.02 * change.max())
    corners = axes.transData.inverted().transform(
        [(touched[1].min(), change.shape[0] - touched[0].min()), (touched[1].max(), change.shape[0] - touched[0].max())]
    )  # fmt: skip
    spill = 1.05 if smooth else 0.15  # how far outside of the cell, in cells
    left, right = (corners[:, 0] + 0.5) / size[0] * w
    top, bottom = (corners[:, 1] + 0.5) / size[1] * h
    assert left > column - spill and right < column + 1 + spill
    assert top > row - spill and bottom < row + 1 + spill


def test_the_colours_get_darker_from_least_to_most() -> None:
    """On white, on black-and-white pictures and to every kind of colour vision, more is darker."""
    rgba = plots.HEAT(np.linspace(0, 1, 64))
    for grey in (plots.PALEST, 0.8, 1.0):
        seen = rgba[:, :3] * rgba[:, 3:] + grey * (1 - rgba[:, 3:])
        luminance = seen @ np.array([0.2126, 0.7152, 0.0722])
        assert bool((np.diff(luminance) < 0).all())
    assert rgba[0, 3] == 0.0  # nothing is transparent


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="9 weights does not fit a grid of 2 x 4"):
        plots.overlay(Image.new("RGB", (8, 8)), torch.ones(9), (2, 4))


@pytest.fixture
def decoder() -> AttentionLSTM:
    return AttentionLSTM(5, 8, hidden_size=6, attention_size=4, embedding_size=3).eval()


@pytest.fixture
def features() -> Features:
    grid = torch.randn(1, 12, 8)
    return Features(grid.mean(1), grid)


def test_frames_know_what_is_right_and_where(decoder, features) -> None:
    found = trace(decoder, features, max_steps=6)
    names = ["a", "b", "c", "d", "e"]
    first = names[int(found.tokens[0])]
    record = Record(None, (first,), (Box(first, 1, 2, 3, 4), Box("z", 0, 0, 1, 1)))
    frames = plots.frames(found, names, record)
    assert frames[0].right and [box.x for box in frames[0].boxes] == [1]
    assert all(frame.right is False for frame in frames[1:] if frame.label != "<stop>")
    assert plots.frames(found, names)[0].right is None
    decoded = greedy(decoder, Features(*(x.repeat(2, *[1] * (x.ndim - 1)) for x in features)), max_steps=6)
    same = plots.frames(decoded, names, record, image=1)
    assert [(f.label, f.right) for f in same] == [(f.label, f.right) for f in frames]
    with pytest.raises(ValueError, match="no attention"):
        plots.frames(replace(decoded, attention=None), names)


def test_a_film_strip_has_a_panel_a_step_and_one_scale(decoder, features) -> None:
    found = plots.frames(trace(decoder, features, max_steps=6), ["a", "b", "c", "d", "e"])
    frames = (found * 6)[:6]
    image = Image.new("RGB", (60, 45))
    figure = plots.film_strip(image, {"free": frames, "forced": frames[:2]}, (3, 4), columns=4)
    maps = [ax for ax in figure.axes if len(ax.images) == 2]
    assert len(maps) == 8
    assert len({ax.images[1].norm.vmax for ax in maps}) == 1
    assert maps[0].get_title().startswith(f"1. {frames[0].label}")
    assert any("share of the whole" in ax.get_ylabel().replace("\n", " ") for ax in figure.axes)
    assert len(to_png(figure)) > 1000
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.film_strip(image, {"free": []}, (3, 4))
    gallery = ap.look_gallery([(image, frames[0]), (image, frames[1]._replace(right=False))], (3, 4))
    assert "✗" in gallery.axes[1].get_title()


def test_pointing_bars_show_every_label_with_enough_looks() -> None:
    one = Grade(9, 0.5, 0.2, 0.4, 0.1)
    found = Grading(one, {"a": one, "b": one._replace(looks=2)}, {}, {})
    figure = ap.pointing_bars(
        {"attention": found, "CAM": Grading(one, {"a": one}, {}, {})}, title="t", least=1
    )
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["all (9)", "a (9)", "b (2)"]
    figure = ap.pointing_bars({"attention": found}, title="t", least=3, value="mass")
    assert len(figure.axes[0].get_yticklabels()) == 2
    with pytest.raises(ValueError, match="no label has 99"):
        ap.pointing_bars({"attention": found}, title="t", least=99)


def test_pyplot_knows_nothing_of_the_figures() -> None:
    import matplotlib.pyplot as plt

    plots.overlay(Image.new("RGB", (8, 8)), torch.ones(4), (2, 2))
    assert plt.get_fignums() == []
