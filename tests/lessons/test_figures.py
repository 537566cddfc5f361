"""Figures that several notebooks use: what is drawn, what is refused, and that every function has a sample here."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from lessons import figures
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from reading import bars, drawn, ticks, words

from helpers import plots
from helpers.data.labels import Vocabulary
from helpers.data.records import Box
from helpers.metrics.localization import Grade, Grading
from helpers.plots import Frame

PHOTO = Image.new("RGB", (60, 40), (90, 120, 200))
NAMES = ("sun", "tree", "rain")
AXES = {"xlabel": "x", "ylabel": "y"}
GRADE = Grade(9, 0.5, 0.2, 0.4, 0.1)
GRADING = Grading(GRADE, {"a": GRADE, "b": GRADE._replace(looks=2)}, {}, {})
FRAME = Frame(torch.tensor([0.1, 0.2, 0.7, 0]), "sun", 0.9, False, [Box("sun", 2, 2, 9, 9)])

# A call of every public function that returns a Figure: name -> figure.
SAMPLES: dict[str, Callable[[], Figure]] = {
    "label_bars": lambda: figures.label_bars(NAMES, [3, 2, 1], xlabel="images", title="a title"),
    "curves": lambda: figures.curves({"one": [1, 2], "three": np.ones((3, 2))}, title="a title", **AXES),
    "curve_panels": lambda: figures.curve_panels({"left": {"a": [1, 2]}, "right": {"a": [1, 2]}}, [1, 2], **AXES),
    "grouped_bars": lambda: figures.grouped_bars({"a": [[1, 2]], "b": [[3, 4]]}, ["l", "r"], ylabel="y", title="t"),
    "heatmaps": lambda: figures.heatmaps({"a title": np.eye(3)}, NAMES, colour_label="images", numbers=".2f", **AXES),
    "attention_gallery": lambda: figures.attention_gallery([(PHOTO, FRAME)] * 2, (2, 2)),
    "attention_view": lambda: figures.attention_view(
        PHOTO, FRAME.weights, (2, 2), {"own": {"sun": 0.7}, "painted": {"sun": 0.2}}, highest=0.7, titles=("a", "b", "c")
    ),
    "pointing_bars": lambda: figures.pointing_bars({"attention": GRADING, "CAM": GRADING}, title="a title"),
    "receptive_field": lambda: figures.receptive_field(
        PHOTO, np.ones((40, 60)), {"the cell": (15, 20, 15, 20)}, grid=(2, 4), cell=(1, 1)
    ),
    "image_grid": lambda: plots.image_grid([PHOTO] * 5, ["a title"] * 5, boxes=[FRAME.boxes] * 5, columns=3),
    "labelled_image": lambda: plots.labelled_image(PHOTO, NAMES, [0.9, 0.5, 0.1], title="a title"),
    "film_strip": lambda: plots.film_strip(PHOTO, {"free": [FRAME] * 3}, (2, 2)),
}  # fmt: skip


def test_every_figure_function_has_a_sample() -> None:
    """Whoever adds a figure adds a row: the tests below then hold for it, too."""
    functions = {
        name
        for module in (figures, plots)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and inspect.signature(function).return_annotation == "Figure"
    }
    assert functions - {"overview", "film_of"} == set(SAMPLES)  # those are tested with the commands


@pytest.mark.parametrize("name", SAMPLES)
def test_figures_are_readable_and_leave_pyplot_alone(name: str) -> None:
    before = plt.get_fignums()
    figure = SAMPLES[name]()
    assert drawn(figure) and plt.get_fignums() == before  # nothing to close, nothing shown twice
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    assert sizes and min(sizes) >= 11  # projected in a classroom
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)  # readable on a dark page
    width, height = figure.bbox.size
    for ax in figure.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts):
            if text.get_text():
                box = text.get_window_extent()
                assert box.x0 > -1 and box.y0 > -1, text
                assert box.x1 < width + 1 and box.y1 < height + 1, text


@pytest.mark.parametrize(
    ("empty", "message"),
    [
        (lambda: figures.curves({}, title="t", **AXES), "no curves"),
        (lambda: figures.curves({"a": []}, title="t", **AXES), "no curves"),
        (lambda: figures.heatmaps({}, ["a"], colour_label="c"), "at least one"),
        (lambda: figures.heatmaps({"t": np.zeros((0, 0))}, [], colour_label="c"), "not empty"),
        (lambda: figures.heatmaps({"t": np.zeros((2, 2))}, NAMES, colour_label="c"), "expected matrices \\(3, 3\\)"),
        (lambda: figures.pointing_bars({"attention": GRADING}, title="t", least=99), "no label has 99"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(empty: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        empty()


def test_label_bars_keep_the_order_and_write_the_values() -> None:
    figure = SAMPLES["label_bars"]()
    assert bars(figure) == [3, 2, 1] and ticks(figure) == list(NAMES) and words(figure) == ["3", "2", "1"]
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top  # the first label is on top
    assert words(figures.label_bars(NAMES, [0.5, 0.25, 1], xlabel="x", title="t")) == ["0.50", "0.25", "1.00"]


def test_curves_draw_the_mean_and_a_band_or_each_run() -> None:
    runs = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    figure = figures.curves({"runs": runs, "one": [0, 1, 2]}, title="t", **AXES)
    mean, one = figure.axes[0].lines
    assert mean.get_ydata().tolist() == [2, 3, 4] and mean.get_xdata().tolist() == [1, 2, 3]
    assert one.get_ydata().tolist() == [0, 1, 2]
    assert len(figure.axes[0].collections) == 1  # no band round a single run
    assert mean.get_color() != one.get_color() and mean.get_marker() != one.get_marker()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["runs", "one"]
    first, second, one = (
        figures.curves({"runs": runs, "one": [0, 1, 2]}, each_run=True, title="t", **AXES).axes[0].lines
    )
    assert [line.get_ydata().tolist() for line in (first, second)] == runs.tolist()
    assert first.get_color() == second.get_color() != one.get_color()


def test_curves_may_end_at_different_places_and_have_logarithmic_axes() -> None:
    found = {"brute force": {2: 1e-4, 4: 1e-2}, "scipy": {2: 1e-4, 4: 2e-4, 9: 3e-4}}
    ax = figures.curves(found, log_y=True, title="t", **AXES).axes[0]
    assert ax.get_yscale() == "log" and [list(line.get_xdata()) for line in ax.lines] == [[2, 4], [2, 4, 9]]
    ax = figures.curves({"a": [1, 2, 3]}, x=[1, 10, 300], log_x=True, title="t", **AXES).axes[0]
    assert ax.get_xscale() == "log" and [tick.get_text() for tick in ax.get_xticklabels()] == [
        "1",
        "10",
        "300",
    ]


def test_grouped_bars_are_means_and_dots_are_several_runs() -> None:
    figure = figures.grouped_bars(
        {"a": [[1, 2], [3, 6]], "b": [[5, 5]]}, ["left", "right"], ylabel="%", title="t"
    )
    groups = [group for group in figure.axes[0].containers if isinstance(group, BarContainer)]
    assert [[bar.get_height() for bar in group] for group in groups] == [[2, 4], [5, 5]]
    dots = [line.get_ydata().tolist() for line in figure.axes[0].lines]
    assert dots == [[1, 2], [3, 6]], "a single run is its bar: no dot that looks like several"


def test_heatmaps_show_the_matrix_and_leave_nan_blank() -> None:
    matrix = np.array([[1.0, np.nan], [0.25, 0.5]])
    figure = figures.heatmaps({"t": matrix}, ["a", "b"], ["c", "d"], colour_label="share", numbers=".2f")
    shown = figure.axes[0].collections[0].get_array()
    assert shown.mask.sum() == 1 and shown.compressed().tolist() == [1.0, 0.25, 0.5]
    assert words(figure) == ["1.00", "0.25", "0.50"] and figure.axes[1].get_ylabel() == "share"


def test_heatmaps_share_a_scale_unless_they_are_centred() -> None:
    panels = {"a": np.eye(3), "b": 4 * np.eye(3), "c": -np.eye(3)}
    figure = figures.heatmaps(panels, NAMES, colour_label="w", power=0.5, across=2)
    norms = [ax.collections[0].norm for ax in figure.axes[:3]]
    assert {(norm.vmin, norm.vmax) for norm in norms} == {(-1.0, 4.0)} and norms[0](0.25) == pytest.approx(
        0.5
    )
    shown = [(bool(ax.get_xticklabels()), bool(ax.get_yticklabels()), ax.axison) for ax in figure.axes[:4]]
    assert shown[:3] == [(False, True, True), (True, False, True), (True, True, True)] and not shown[3][2]
    figure = figures.heatmaps(panels, NAMES, colour_label="w", centred=True)
    assert [ax.collections[0].get_clim() for ax in figure.axes[:3]] == [(-1, 1), (-4, 4), (-1, 1)]


def test_receptive_field_marks_the_cell_and_names_the_fields() -> None:
    figure = SAMPLES["receptive_field"]()
    assert figure.axes[0].patches[0].get_xy() == (14.5, 19.5)  # column 1, row 1 of cells of 15 x 20 pixels
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["the cell"]


def test_pointing_bars_show_every_label_with_enough_looks() -> None:
    assert ticks(SAMPLES["pointing_bars"]()) == ["all (9)", "a (9)", "b (2)"]
    figure = figures.pointing_bars({"attention": GRADING}, title="t", least=3)
    assert len(ticks(figure)) == 2 and bars(figure) == [0.5, 0.5]


def test_a_wrong_label_in_a_gallery_has_a_cross() -> None:
    assert "✗" in SAMPLES["attention_gallery"]().axes[1].get_title()


def test_names_until_stop() -> None:
    vocabulary = Vocabulary(("ant", "bee"))
    assert figures.until_stop(torch.tensor([1, 2, 0]), vocabulary) == ["bee", "<stop>"]
    assert figures.until_stop(torch.tensor([1, 0]), vocabulary) == ["bee", "ant"]


def test_a_legend_of_long_names_is_not_cut() -> None:
    figure = figures.curves(
        {f"a name that is rather long, number {k}": [1, 2] for k in range(4)}, title="t", **AXES
    )
    figure.draw_without_rendering()
    around = figure.legends[0].get_window_extent()
    assert around.x0 >= 0 and around.x1 <= figure.bbox.width
