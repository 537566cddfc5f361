"""Images with boxes, labelled images and films of attention: a planted peak is drawn where it was planted."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from reading import words

from helpers import plots
from helpers.data.batches import Features
from helpers.data.records import Box, Record
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.search import greedy, trace
from helpers.plots import to_png

PHOTO = Image.new("RGB", (60, 40), (90, 120, 200))
BOXES = (Box("sun", 2, 1, 10, 10), Box("tree", 30, 5, 20, 30), Box("shade", 30, 5, 20, 30))
NAMES = ("sun", "tree", "rain")


def rectangles(figure: Figure, panel: int = 0) -> list[Rectangle]:
    return [patch for patch in figure.axes[panel].patches if isinstance(patch, Rectangle)]


def boxed(image, boxes=()) -> Figure:
    return plots.image_grid([image], boxes=[boxes], columns=1, side=5)


def overlay(image, weights, grid_size) -> Figure:
    figure, axes = plots.new_figure(size=(5.2, 4.2))
    plots.draw_attention(axes[0, 0], image, weights, grid_size, highest=1.0)
    return figure


def test_nothing_to_draw_or_to_say_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        plots.image_grid([])
    with pytest.raises(ValueError, match="alt is empty"):
        plots.show(plots.image_grid([PHOTO]), alt=" ")


def test_image_grid_has_a_panel_an_image() -> None:
    figure = plots.image_grid([PHOTO] * 5, [f"image {i}" for i in range(5)], columns=3)
    assert len(figure.axes) == 6
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 1, 1, 0]
    assert [ax.get_title() for ax in figure.axes[:5]] == [f"image {i}" for i in range(5)]


def test_image_grid_draws_the_boxes_of_each_image() -> None:
    figure = plots.image_grid([PHOTO] * 2, boxes=[BOXES[:1], ()])
    assert [len(rectangles(figure, panel)) for panel in (0, 1)] == [1, 0]


def test_titles_are_wrapped_to_their_panel() -> None:
    figure = plots.image_grid(
        [PHOTO] * 4, ["person, umbrella, holding, rain, a very long list of labels"] * 4
    )
    assert "\n" in figure.axes[0].get_title()
    assert plots.wrapped("one\ntwo", 5) == "one\ntwo"
    assert all(len(line) <= 19 for line in plots.wrapped("word " * 20, 2).split("\n"))


def test_small_images_keep_their_pixels_and_large_ones_are_smoothed() -> None:
    small, large = (boxed(Image.new("RGB", (side, side))) for side in (64, 2000))
    assert small.axes[0].images[0].get_interpolation() == "nearest"
    assert large.axes[0].images[0].get_interpolation() != "nearest"


def test_tensors_are_shown_with_channels_last_and_within_0_and_1() -> None:
    image = torch.tensor([[[-1.0, 2.0]], [[0.0, 0.5]], [[0.0, 0.25]]])  # (3, 1, 2)
    assert plots.to_pixels(image).tolist() == [[[0, 0, 0], [1, 0.5, 0.25]]]
    assert plots.to_pixels(PHOTO).shape == (40, 60, 3)


def test_boxes_are_where_they_belong_and_equal_ones_share_a_tag() -> None:
    figure = boxed(PHOTO, BOXES)
    drawn = [(r.get_x(), r.get_y(), r.get_width(), r.get_height()) for r in rectangles(figure)]
    assert drawn == [(2, 1, 10, 10), (30, 5, 20, 30)]
    assert words(figure) == ["sun", "tree, shade"]


def test_tags_of_boxes_do_not_lie_upon_each_other() -> None:
    boxes = [Box(name, 5, 5 + k, 20, 20) for k, name in enumerate("abcd")]
    figure = boxed(Image.new("RGB", (100, 100)), boxes)
    heights = sorted(text.get_position()[1] for text in figure.axes[0].texts)
    assert np.diff(heights).min() > 8


def test_a_label_keeps_its_colour_within_an_image() -> None:
    figure = boxed(PHOTO, [Box("bird", 1, 9, 5, 5), Box("bird", 20, 20, 5, 5), Box("sun", 40, 20, 5, 5)])
    first, second, sun = (r.get_edgecolor() for r in rectangles(figure))
    assert first == second != sun


def test_labelled_image_says_when_there_is_no_label() -> None:
    assert "no label" in words(plots.labelled_image(PHOTO, [], []), panel=1)
    figure = plots.labelled_image(PHOTO, NAMES, [0.9, 0.5, 0.1])
    assert words(figure, panel=1) == ["0.90", "0.50", "0.10"]


def test_show_displays_a_png_with_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", lambda data, **options: shown.append((data, options)))
    plots.show(plots.image_grid([PHOTO]), alt="A blue photograph.")
    [(data, options)] = shown
    assert data["image/png"].startswith(b"\x89PNG") and data["text/plain"] == "A blue photograph."
    assert options["metadata"]["image/png"]["alt"] == "A blue photograph."


def pixels_of(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB")).astype(float)


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 64), (4, 4)), ((300, 120), (7, 5)), ((90, 210), (14, 14)), ((448, 448), (7, 7))]
)
def test_a_planted_peak_is_drawn_over_its_cell(size, grid) -> None:
    """The drawn picture is searched for where it changed; the place is turned back into cells of the grid."""
    h, w = grid
    row, column = h - 2, 1
    weights = torch.zeros(h, w)
    weights[row, column] = 1.0
    image = Image.new("RGB", size, (200, 120, 60))
    figure, empty = (overlay(image, x.flatten(), grid) for x in (weights, 0 * weights))
    change = np.abs(pixels_of(figure) - pixels_of(empty)).sum(2)
    y, x = np.nonzero(change > 0.02 * change.max())
    edges = [(x.min(), len(change) - y.min()), (x.max(), len(change) - y.max())]
    (left, top), (right, bottom) = figure.axes[0].transData.inverted().transform(edges) + 0.5
    assert np.multiply((left, right), w / size[0]) == pytest.approx([column, column + 1], abs=0.15)
    assert np.multiply((top, bottom), h / size[1]) == pytest.approx([row, row + 1], abs=0.15)


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
        overlay(Image.new("RGB", (8, 8)), torch.ones(9), (2, 4))


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
    figure = plots.film_strip(image, {"free": frames, "forced": frames[:2]}, (3, 4))
    maps = [ax for ax in figure.axes if len(ax.images) == 2]
    assert len(maps) == 8
    assert len({ax.images[1].norm.vmax for ax in maps}) == 1
    assert maps[0].get_title().startswith(f"1. {frames[0].label}")
    assert any("share of the whole" in ax.get_ylabel().replace("\n", " ") for ax in figure.axes)
    assert len(to_png(figure)) > 1000
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.film_strip(image, {"free": []}, (3, 4))
