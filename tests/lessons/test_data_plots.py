"""Figures of labels and their order: what is drawn. What holds for every figure is in test_plots.py."""

from __future__ import annotations

from lessons import nb01 as data_plots
from matplotlib.patches import Rectangle
from test_plots import BOXES, NAMES, PHOTO, of, words


def test_label_scatter_names_the_groups_alone() -> None:
    groups = {"large": ("rain", "sun"), "small": ("tree",)}
    figure = data_plots.label_scatter(
        [*NAMES, "sea"], [10, 20, 300, 40], [1, 5, 50, 4], groups=groups, xlabel="x", ylabel="y", title="t"
    )
    ax = figure.axes[0]
    assert [len(points.get_offsets()) for points in ax.collections] == [1, 2, 1]
    assert ax.collections[1].get_offsets().tolist() == [[300, 50], [10, 1]]  # rain, sun
    assert sorted(words(figure)) == ["rain", "sun", "tree"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["other labels", "large", "small"]


def test_token_grid_pales_what_the_loss_does_not_count() -> None:
    rows = [["sun", "rain", "<stop>"], ["<stop>", "<stop>", "<stop>"]]
    figure = data_plots.token_grid({"targets": rows}, [2, 0])
    cells = of(figure, Rectangle)
    assert words(figure) == [name for row in rows for name in row] and len(cells) == 6
    colours = [cell.get_facecolor() for cell in cells]
    sun, rain, stop, empty, pad, more = colours
    assert sun == rain and stop == empty and pad == more and len({sun, stop, pad}) == 3


def test_sequence_view_lists_the_labels_in_their_order_then_stop() -> None:
    figure = data_plots.sequence_view(PHOTO, ["rain", "sun"], [5, 9], BOXES)
    assert [tick.get_text() for tick in figure.axes[1].get_yticklabels()] == [
        "1. rain",
        "2. sun",
        "3. <stop>",
    ]
    assert list(figure.axes[1].containers[0].datavalues) == [5, 9]
    assert len(of(figure, Rectangle)) == 2  # three boxes, two places
    nothing = data_plots.sequence_view(PHOTO, [], [])
    assert [tick.get_text() for tick in nothing.axes[1].get_yticklabels()] == ["1. <stop>"]
