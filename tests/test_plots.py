"""Figures: what is drawn, what is refused, and that nothing leaks into pyplot. A row in SAMPLES for each function."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from lessons import nb01 as data_plots
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from helpers import plots
from helpers.data.records import Box

PHOTO = Image.new("RGB", (60, 40), (90, 120, 200))
BOXES = (Box("sun", 2, 1, 10, 10), Box("tree", 30, 5, 20, 30), Box("shade", 30, 5, 20, 30))
NAMES = ("sun", "tree", "rain")

# A call of every public function that returns a Figure: name -> figure.
SAMPLES: dict[str, Callable[[], Figure]] = {
    "image_grid": lambda: plots.image_grid([PHOTO] * 5, ["a title"] * 5, boxes=[BOXES] * 5, columns=3),
    "annotated_image": lambda: plots.annotated_image(PHOTO, BOXES, title="a title"),
    "label_bars": lambda: plots.label_bars(NAMES, [3, 2, 1], xlabel="images", title="a title"),
    "heatmap": lambda: plots.heatmap(
        np.eye(3), NAMES, NAMES, title="a title", colour_label="images", numbers=".2f"
    ),
    "curves": lambda: plots.curves(
        {"one run": [1, 2], "three runs": np.ones((3, 2))}, xlabel="epoch", ylabel="loss", title="a title"
    ),
    "labelled_image": lambda: plots.labelled_image(PHOTO, NAMES, [0.9, 0.5, 0.1], title="a title"),
    "label_scatter": lambda: data_plots.label_scatter(
        NAMES, [10, 20, 300], [1, 5, 50], groups={"sky": ("sun",)}, xlabel="x", ylabel="y", title="a title"
    ),
    "token_grid": lambda: data_plots.token_grid(
        {"inputs": [["<start>", "sun"]], "targets": [["sun", "<stop>"]]}, [1]
    ),
    "sequence_view": lambda: data_plots.sequence_view(PHOTO, NAMES, [3, 2, 1], BOXES, title="a title"),
}


def of(figure: Figure, kind: type, panel: int = 0) -> list:
    """The artists of a kind in a panel, without the panel's own background."""
    ax = figure.axes[panel]
    return [artist for artist in ax.findobj(kind) if artist is not ax.patch]


def words(figure: Figure, panel: int = 0) -> list[str]:
    """The texts of a panel that are not empty."""
    return [text.get_text() for text in figure.axes[panel].texts if text.get_text()]


def test_every_figure_function_has_a_sample() -> None:
    """Whoever adds a figure adds a row: the tests below then hold for it, too."""
    functions = {
        name
        for module in (plots, data_plots)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and str(inspect.signature(function).return_annotation) in ("Figure", "<class 'Figure'>")
    } - {"canvas", "overview", "film_strip", "film_of", "overlay"}  # have tests of their own
    assert functions == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_figures_are_readable_and_leave_pyplot_alone(name: str) -> None:
    before = plt.get_fignums()
    figure = SAMPLES[name]()
    png = plots.to_png(figure)
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == before  # nothing to close, nothing shown twice
    assert png.startswith(b"\x89PNG") and len(png) > 2000
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    assert sizes and min(sizes) >= 11  # projected in a classroom
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)  # readable on a dark page


@pytest.mark.parametrize("name", SAMPLES)
def test_no_title_label_or_tag_is_cut_off(name: str) -> None:
    figure = SAMPLES[name]()
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    for ax in figure.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts):
            if text.get_text():
                box = text.get_window_extent()
                assert box.x0 > -1 and box.y0 > -1, text
                assert box.x1 < width + 1 and box.y1 < height + 1, text


@pytest.mark.parametrize(
    "empty",
    [
        lambda: plots.image_grid([]),
        lambda: plots.label_bars([], [], xlabel="x", title="t"),
        lambda: plots.heatmap(np.zeros((0, 0)), [], [], title="t", colour_label="c"),
        lambda: plots.curves({}, xlabel="x", ylabel="y", title="t"),
        lambda: data_plots.label_scatter([], [], [], groups={}, xlabel="x", ylabel="y", title="t"),
        lambda: data_plots.token_grid({}, []),
        lambda: data_plots.token_grid({"inputs": []}, []),
        lambda: data_plots.token_grid({"inputs": [["sun"]]}, [1, 2]),
        lambda: data_plots.sequence_view(PHOTO, ["sun"], []),
        lambda: plots.show(plots.image_grid([PHOTO]), alt=" "),
    ],
)
def test_empty_input_is_refused(empty: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"no |expected|found|empty"):
        empty()


def test_image_grid_has_a_panel_an_image() -> None:
    figure = plots.image_grid([PHOTO] * 5, [f"image {i}" for i in range(5)], columns=3)
    assert len(figure.axes) == 6
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 1, 1, 0]
    assert [ax.get_title() for ax in figure.axes[:5]] == [f"image {i}" for i in range(5)]


def test_image_grid_draws_the_boxes_of_each_image() -> None:
    figure = plots.image_grid([PHOTO] * 2, boxes=[BOXES[:1], ()])
    assert [len(of(figure, Rectangle, panel)) for panel in (0, 1)] == [1, 0]


def test_titles_are_wrapped_to_their_panel() -> None:
    figure = plots.image_grid(
        [PHOTO] * 4, ["person, umbrella, holding, rain, a very long list of labels"] * 4
    )
    assert "\n" in figure.axes[0].get_title()
    assert plots.wrapped("one\ntwo", 5) == "one\ntwo"
    assert all(len(line) <= 19 for line in plots.wrapped("word " * 20, 2).split("\n"))


def test_small_images_keep_their_pixels_and_large_ones_are_smoothed() -> None:
    small, large = (plots.annotated_image(Image.new("RGB", (side, side))) for side in (64, 2000))
    assert small.axes[0].images[0].get_interpolation() == "nearest"
    assert large.axes[0].images[0].get_interpolation() != "nearest"


def test_tensors_are_shown_with_channels_last_and_within_0_and_1() -> None:
    image = torch.tensor([[[-1.0, 2.0]], [[0.0, 0.5]], [[0.0, 0.25]]])  # (3, 1, 2)
    assert plots.to_pixels(image).tolist() == [[[0, 0, 0], [1, 0.5, 0.25]]]
    assert plots.to_pixels(PHOTO).shape == (40, 60, 3)


def test_boxes_are_where_they_belong_and_equal_ones_share_a_tag() -> None:
    figure = plots.annotated_image(PHOTO, BOXES)
    drawn = [(r.get_x(), r.get_y(), r.get_width(), r.get_height()) for r in of(figure, Rectangle)]
    assert drawn == [(2, 1, 10, 10), (30, 5, 20, 30)]
    assert words(figure) == ["sun", "tree, shade"]


def test_tags_of_boxes_do_not_lie_upon_each_other() -> None:
    boxes = [Box(name, 5, 5 + k, 20, 20) for k, name in enumerate("abcd")]
    figure = plots.annotated_image(Image.new("RGB", (100, 100)), boxes)
    heights = sorted(text.get_position()[1] for text in figure.axes[0].texts)
    assert np.diff(heights).min() > 8


def test_a_label_keeps_its_colour_within_an_image() -> None:
    figure = plots.annotated_image(
        PHOTO, [Box("bird", 1, 9, 5, 5), Box("bird", 20, 20, 5, 5), Box("sun", 40, 20, 5, 5)]
    )
    first, second, sun = (r.get_edgecolor() for r in of(figure, Rectangle))
    assert first == second != sun


def test_label_bars_keep_the_order_and_write_the_values() -> None:
    figure = plots.label_bars(NAMES, [3, 2, 1], xlabel="images", title="t")
    (bars,) = figure.axes[0].containers
    assert isinstance(bars, BarContainer) and list(bars.datavalues) == [3, 2, 1]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(NAMES)
    assert words(figure) == ["3", "2", "1"]
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top  # the first label stands on top
    assert words(plots.label_bars(NAMES, [0.5, 0.25, 1], xlabel="x", title="t")) == ["0.50", "0.25", "1.00"]


def test_heatmap_shows_the_matrix_and_leaves_nan_blank() -> None:
    matrix = np.array([[1.0, np.nan], [0.25, 0.5]])
    figure = plots.heatmap(matrix, ["a", "b"], ["c", "d"], title="t", colour_label="share", numbers=".2f")
    shown = figure.axes[0].collections[0].get_array()
    assert shown.mask.sum() == 1 and shown.compressed().tolist() == [1.0, 0.25, 0.5]
    assert words(figure) == ["1.00", "0.25", "0.50"]
    assert figure.axes[1].get_ylabel() == "share"


def test_curves_draw_the_mean_and_a_band_for_several_runs() -> None:
    runs = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    figure = plots.curves({"runs": runs, "one": [0, 1, 2]}, xlabel="x", ylabel="y", title="t")
    mean, one = figure.axes[0].lines
    assert mean.get_ydata().tolist() == [2, 3, 4] and mean.get_xdata().tolist() == [1, 2, 3]
    assert one.get_ydata().tolist() == [0, 1, 2]
    assert len(figure.axes[0].collections) == 1  # no band round a single run
    assert mean.get_color() != one.get_color() and mean.get_marker() != one.get_marker()
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["runs", "one"]


def test_curves_have_a_tick_at_each_value_of_a_logarithmic_axis() -> None:
    figure = plots.curves({"a": [1, 2, 3]}, x=[1, 10, 300], log_x=True, xlabel="x", ylabel="y", title="t")
    assert figure.axes[0].get_xscale() == "log"
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "10", "300"]


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
