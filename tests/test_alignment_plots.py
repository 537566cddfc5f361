"""Figures of order-free targets: frames stand around the targets, and an animation has every picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from helpers import alignment_plots as ap
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


IMAGES = [np.full((8, 8, 3), 200, dtype=np.uint8)] * 2
EARLY = [[("sun", 0.1), ("tree", 0.2)], [("dog", 0.05)]]
LATE = [[("tree", 0.9), ("sun", 0.8)], [("dog", 1.0)]]


def boxes(axes) -> list[tuple[str, tuple[float, ...]]]:
    """The texts from step 1 down and the outlines of their boxes."""
    patches = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    return [(text.get_text(), p.get_edgecolor()) for text, p in zip(axes.texts, patches, strict=True)]


def test_a_label_keeps_its_colour_when_it_moves() -> None:
    figure = ap.alignment_strip(IMAGES, {"epoch 1": EARLY, "epoch 9": LATE})
    first, second = (boxes(figure.axes[k]) for k in (1, 2))
    assert [name for name, _ in first] == ["sun 0.10", "tree 0.20"]
    assert [name for name, _ in second] == ["tree 0.90", "sun 0.80"]
    assert first[0][1] == second[1][1] != first[1][1] == second[0][1]


def test_the_more_probable_the_fuller() -> None:
    axes = [ap.alignment_strip(IMAGES, {"a": stacks}).axes[3] for stacks in (EARLY, LATE)]  # the dog's
    pale, full = (sum(ax.patches[0].get_facecolor()[:3]) for ax in axes)
    assert pale > full


def test_every_image_needs_its_targets() -> None:
    with pytest.raises(ValueError, match="each of 2 images"):
        ap.alignment_strip(IMAGES, {"epoch 1": EARLY[:1]})
    with pytest.raises(ValueError, match="at least one"):
        ap.alignment_strip([], {"epoch 1": []})


def test_an_animation_has_every_picture_and_ends() -> None:
    names = [["sun", "tree"], ["dog"]]
    drawn = [
        ap.alignment_frame(IMAGES, stacks, names=names, title=f"epoch {e}")
        for e, stacks in enumerate((EARLY, LATE))
    ]
    gif = ap.to_gif(drawn, seconds=0.3, last=1.0, loops=2)
    picture = Image.open(io.BytesIO(gif))
    assert picture.format == "GIF" and picture.n_frames == 2 and picture.info["loop"] == 1
    durations, shots = [], []
    for k in range(2):
        picture.seek(k)
        durations.append(picture.info["duration"])
        shots.append(np.asarray(picture.convert("RGB")).astype(int))
    assert durations == [300, 1000]
    assert np.abs(shots[0] - shots[1]).max() > 50, "the targets have moved"
    with pytest.raises(ValueError, match="at least one figure"):
        ap.to_gif([])


def test_an_animation_needs_words_for_those_who_cannot_see_it(monkeypatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", lambda data, **options: shown.append((data, options)))
    with pytest.raises(ValueError, match="alt is empty"):
        ap.show_gif(b"GIF89a", alt=" ")
    ap.show_gif(b"GIF89a", alt="boxes move")
    ((data, options),) = shown
    assert data == {"image/gif": b"GIF89a", "text/plain": "boxes move"}
    assert options["metadata"] == {"image/gif": {"alt": "boxes move"}}
