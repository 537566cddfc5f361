"""Figures of order-free targets: frames stand around the targets, bars are as long as the costs."""

from __future__ import annotations

import numpy as np
import pytest
from lessons import nb05 as ap
from matplotlib.patches import Rectangle

from helpers.plots import to_png

VALUES = [[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]]


def view(**options):
    choices = {"fixed order": [0, 1], "MLA": [1, 0]}
    costs = {"fixed order": 3.5, "MLA": 0.87}
    given = {"choices": choices, "costs": costs} | options
    return ap.alignment_view(
        VALUES, ["step 1", "step 2"], ["sun", "tree", "other"],
        title="said", colour_label="probability", **given,
    )  # fmt: skip


def frames(axes) -> list[tuple[int, int]]:
    """(step, label) of each frame, in the order in which they were drawn."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
    return [(round(p.get_y() + p.get_height() / 2), round(p.get_x() + p.get_width() / 2)) for p in found]


def test_frames_stand_around_the_targets_and_bars_are_as_long_as_the_costs() -> None:
    figure = view()
    matrix, bars = figure.axes[0], figure.axes[1]
    assert frames(matrix) == [(0, 0), (1, 1), (0, 1), (1, 0)]
    assert [text.get_text() for text in matrix.texts] == ["0.10", "0.70", "0.20", "0.60", "0.30", "0.10"]
    assert [bar.get_width() for bar in bars.patches] == [3.5, 0.87]
    assert [tick.get_text() for tick in bars.get_yticklabels()] == ["fixed order", "MLA"]


def test_nested_frames_do_not_hide_each_other() -> None:
    figure = view(choices={"a": [0, 1], "b": [0, 1], "c": [0, 1]}, costs={"a": 1.0, "b": 1.0, "c": 1.0})
    drawn = [p for p in figure.axes[0].patches if not p.get_fill()]
    first = [p for p in drawn if round(p.get_y() + p.get_height() / 2) == 0]
    assert len({p.get_width() for p in first}) == 3
    assert len({p.get_edgecolor() for p in first}) == len({str(p.get_linestyle()) for p in first}) == 3


def test_a_step_without_a_target_has_no_frame_and_an_image_can_stand_beside() -> None:
    figure = view(
        choices={"MLA": [1, -1]}, costs={"MLA": 0.0}, image=np.zeros((8, 8, 3), dtype=np.uint8), highest=1.0
    )
    assert frames(figure.axes[1]) == [(0, 1)]
    assert figure.axes[1].images[0].get_clim() == (0, 1)
    assert len(to_png(figure)) > 1000


@pytest.mark.parametrize(
    "wrong",
    [
        {"costs": {"MLA": 1.0, "fixed order": 2.0}},
        {"costs": {"fixed order": 1.0}},
        {"choices": {}, "costs": {}},
    ],
)
def test_choices_without_their_costs_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="a cost for each"):
        view(**wrong)


def test_a_matrix_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit values"):
        ap.alignment_view(
            VALUES, ["step 1"], ["a", "b", "c"], {"MLA": [0]}, {"MLA": 1.0}, title="", colour_label=""
        )


def test_durations_end_where_a_method_ends() -> None:
    found = {"brute force": {2: 1e-4, 4: 1e-2}, "scipy": {2: 1e-4, 4: 2e-4, 9: 3e-4}}
    axes = ap.duration_curves(found, title="t", ylabel="s").axes[0]
    assert axes.get_yscale() == "log"
    assert [list(line.get_xdata()) for line in axes.lines] == [[2, 4], [2, 4, 9]]
    assert list(axes.get_xticks()) == [2, 4, 9]
    with pytest.raises(ValueError, match="nothing to draw"):
        ap.duration_curves({}, title="", ylabel="")


def test_first_by_epoch_has_a_panel_a_decoder_on_one_scale() -> None:
    shares = {"MLA": np.array([[10.0, 0.0], [40.0, 5.0], [60.0, 1.0]]), "PLA": np.zeros((3, 2))}
    figure = ap.first_by_epoch(shares, ["sun", "tree"])
    left, right = figure.axes[:2]
    assert np.array_equal(left.images[0].get_array(), shares["MLA"].T)
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, 60)
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["sun", "tree"]
    with pytest.raises(ValueError, match="a column for each"):
        ap.first_by_epoch(shares, ["sun"])


def test_every_run_has_its_line() -> None:
    found = {"MLA": [[0.2, 0.8], [0.5, 0.1]], "PLA": [[0.3, 0.3]]}
    figure = ap.run_curves(found, xlabel="epoch", ylabel="share", title="t")
    lines = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [[0.2, 0.8], [0.5, 0.1], [0.3, 0.3]]
    assert list(lines[0].get_xdata()) == [1, 2]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["MLA", "PLA"]
    with pytest.raises(ValueError, match="no runs"):
        ap.run_curves({"MLA": []}, xlabel="", ylabel="", title="")
