"""Order-free targets: frames, film, animation; the editor is set as a reader would, and compared with brute force."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lessons import nb05 as lesson
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from helpers.plots import DPI, to_png

pytest.importorskip("ipywidgets")
VALUES = [[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]]
IMAGES = [np.full((8, 8, 3), 200, dtype=np.uint8)] * 2
EARLY = [[("sun", 0.1), ("tree", 0.2)], [("dog", 0.05)]]
LATE = [[("tree", 0.9), ("sun", 0.8)], [("dog", 1.0)]]
NAMES = [["sun", "tree"], ["dog"]]


def view(**options):
    choices = {"fixed order": [0, 1], "MLA": [1, 0]}
    costs = {"fixed order": 3.5, "MLA": 0.87}
    given = {"choices": choices, "costs": costs} | options
    return lesson.alignment_view(
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


def boxes(axes) -> list[tuple[str, tuple[float, ...]]]:
    """The texts from step 1 down and the outlines of their boxes."""
    patches = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    return [(text.get_text(), p.get_edgecolor()) for text, p in zip(axes.texts, patches, strict=True)]


def test_a_label_keeps_its_colour_when_it_moves() -> None:
    figure = lesson.alignment_strip(IMAGES, {"epoch 1": EARLY, "epoch 9": LATE}, names=NAMES)
    first, second = (boxes(figure.axes[k]) for k in (1, 2))
    assert [name for name, _ in first] == ["sun 0.10", "tree 0.20"]
    assert [name for name, _ in second] == ["tree 0.90", "sun 0.80"]
    assert first[0][1] == second[1][1] != first[1][1] == second[0][1]


def test_the_more_probable_the_fuller() -> None:
    axes = [
        lesson.alignment_strip(IMAGES, {"a": stacks}, names=NAMES).axes[3] for stacks in (EARLY, LATE)
    ]  # the dog's
    pale, full = (sum(ax.patches[0].get_facecolor()[:3]) for ax in axes)
    assert pale > full


def test_an_animation_has_every_picture_and_ends() -> None:
    names = [["sun", "tree"], ["dog"]]
    drawn = [
        lesson.alignment_frame(IMAGES, stacks, names=names, title=f"epoch {e}")
        for e, stacks in enumerate((EARLY, LATE))
    ]
    gif = lesson.to_gif(drawn, seconds=0.3, last=1.0, loops=2)
    picture = Image.open(io.BytesIO(gif))
    assert picture.format == "GIF" and picture.n_frames == 2 and picture.info["loop"] == 1
    durations, shots = [], []
    for k in range(2):
        picture.seek(k)
        durations.append(picture.info["duration"])
        shots.append(np.asarray(picture.convert("RGB")).astype(int))
    assert durations == [300, 1000]
    assert np.abs(shots[0] - shots[1]).max() > 50, "the targets have moved"
    # The colours of the last picture are those that were drawn, and white stays white.
    figure = lesson.alignment_frame(IMAGES, LATE, names=names, title="epoch 1")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=0.75 * DPI)
    wanted = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    assert np.abs(wanted - shots[1]).max() < 40 and shots[1][0, 0].tolist() == [255, 255, 255]


def test_an_animation_needs_words_for_those_who_cannot_see_it(monkeypatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", lambda data, **options: shown.append((data, options)))
    with pytest.raises(ValueError, match="alt is empty"):
        lesson.show_gif(b"GIF89a", alt=" ")
    lesson.show_gif(b"GIF89a", alt="boxes move")
    ((data, options),) = shown
    assert data == {"image/gif": b"GIF89a", "text/plain": "boxes move"}
    assert options["metadata"] == {"image/gif": {"alt": "boxes move"}}


def cost(probability, order) -> float:
    return -sum(math.log(probability[t, j]) for t, j in enumerate(order))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 100), min_size=4, max_size=4), min_size=3, max_size=3),
    st.permutations(range(3)),
)
def test_targets_are_what_brute_force_finds(weights, fixed) -> None:
    probability = lesson.step_probabilities(weights)
    assert torch.allclose(probability.sum(1), torch.ones(3, dtype=torch.float64))
    targets, costs = lesson.targets_by_hand(probability, fixed)
    assert list(targets) == ["fixed order", "PLA", "MLA"] and targets["fixed order"] == list(fixed)
    for name, order in targets.items():
        assert sorted(order) == [0, 1, 2]
        assert costs[name] == pytest.approx(cost(probability, order), abs=1e-6)
    orders = list(itertools.permutations(range(3)))
    assert costs["MLA"] == pytest.approx(min(cost(probability, order) for order in orders), abs=1e-6)
    kept = {}
    for t, j in enumerate(probability.argmax(1).tolist()):
        if j < 3 and j not in kept.values():
            kept[t] = j
    allowed = [order for order in orders if all(order[t] == j for t, j in kept.items())]
    assert costs["PLA"] == pytest.approx(min(cost(probability, order) for order in allowed), abs=1e-6)


def test_the_presets_show_what_their_names_say() -> None:
    found = {}
    for name, weights in lesson.PRESETS.items():
        found[name] = lesson.targets_by_hand(lesson.step_probabilities(weights), (0, 1, 2))
    targets, costs = found["right, in another order"]
    assert targets["PLA"] == targets["MLA"] == [2, 0, 1] and costs["fixed order"] > 5 > 1 > costs["MLA"]
    targets, costs = found["the likeliest is not the cheapest"]
    assert targets["PLA"] != targets["MLA"] and costs["PLA"] > costs["MLA"] + 1
    said = lesson.step_probabilities(lesson.PRESETS["says the sun twice"]).argmax(1).tolist()
    assert said.count(0) == 2 and found["says the sun twice"][0]["PLA"][0] == 0
    said = lesson.step_probabilities(lesson.PRESETS["says nothing of the set"]).argmax(1).tolist()
    assert said == [3, 3, 3]
    costs = found["has no idea"][1]
    assert (
        max(costs.values()) == pytest.approx(min(costs.values())) == pytest.approx(3 * math.log(4), rel=1e-3)
    )


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="n \\+ 1"):
        lesson.step_probabilities([[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="none negative"):
        lesson.step_probabilities([[1, -2]])


def test_a_slider_moves_the_targets() -> None:
    view = lesson.target_editor()
    before, picture = view.sentence.value, view.picture.value
    assert "PLA: bird, sun, tree (0.61)" in before
    view.sliders[0][0].value = 100  # sun at step 1
    view.sliders[0][2].value = 0  # not bird
    assert view.sentence.value != before and view.picture.value != picture
    assert "Said: sun, sun, tree" in view.sentence.value and "PLA: sun, bird, tree" in view.sentence.value


def test_an_example_is_drawn_once_and_can_be_changed_afterwards(monkeypatch) -> None:
    view = lesson.target_editor()
    drawn = []
    original = lesson.alignment_view
    monkeypatch.setattr(lesson, "alignment_view", lambda *a, **o: drawn.append(1) or original(*a, **o))
    view.presets.value = "the likeliest is not the cheapest"
    assert len(drawn) == 1
    assert [slider.value for slider in view.sliders[0]] == [50, 45, 0, 5]
    assert "PLA: sun, tree, bird (3.86); MLA: tree, sun, bird (1.08)" in view.sentence.value
    view.sliders[0][0].value = 40  # now the tree is the likeliest
    assert len(drawn) == 2 and "PLA: tree, sun, bird" in view.sentence.value


def test_the_fixed_order_is_the_readers_choice() -> None:
    view = lesson.target_editor()
    view.controls["fixed"].value = (2, 0, 1)
    assert "fixed order: bird, sun, tree (0.61)" in view.sentence.value


def test_an_unknown_example_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no preset 'x'"):
        lesson.target_editor(preset="x")
