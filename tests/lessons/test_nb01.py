"""Counts, what follows what, labels and their order, and the views: what is drawn, and what is written above the picture."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from lessons import nb01 as lesson
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image
from reading import drawn, ticks, words

from helpers.data.labels import Vocabulary
from helpers.data.records import AnnotatedImages, Box

NAMES = ("sun", "tree", "rain")
PHOTO = Image.new("RGB", (60, 40), (90, 120, 200))


def test_photographs_are_found_by_their_number_and_stored_as_jpeg(monkeypatch) -> None:
    import IPython.display

    shown = []
    monkeypatch.setattr(
        IPython.display, "display", lambda output, **told: shown.append((output, told["metadata"]))
    )
    records = lesson.photographs([226111, 41888])
    assert [record.path.stem for record in records] == ["000000226111", "000000041888"]
    lesson.show_photographs(records)
    ((output, told),) = shown
    assert output["image/jpeg"].startswith(b"\xff\xd8") and told["image/jpeg"]["alt"] == output["text/plain"]
    assert output["text/plain"] == "Photographs with boxes and their labels: (no labels); bird."


def test_frequency_figure_says_what_it_leaves_out() -> None:
    counts, sizes = {"sun": 3, "tree": 9, "rain": 1}, {0: 1, 2: 4}
    whole, short = lesson.frequency_figure(counts, sizes), lesson.frequency_figure(counts, sizes, most=2)
    assert [text.get_text() for text in whole.axes[0].get_xticklabels()] == ["tree", "sun", "rain"]
    assert [text.get_text() for text in short.axes[0].get_xticklabels()] == ["tree", "sun"]
    assert (
        "not shown" not in whole.axes[0].get_title()
        and "(1 rarer labels not shown)" in short.axes[0].get_title()
    )
    assert drawn(whole) and drawn(short)


def test_conditional_figure_goes_from_rare_to_frequent() -> None:
    conditional, frequency = (
        torch.tensor([[1.0, 0.5, 0.2], [0.1, 1, 0.3], [0.4, 0.6, 1]]),
        torch.tensor([5, 9, 2]),
    )
    figure = lesson.conditional_figure(conditional, NAMES, frequency)
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["rain", "sun", "tree"]
    values = ax.collections[0].get_array().reshape(3, 3)
    assert values[0, 1] == pytest.approx(0.4) and values[1, 2] == pytest.approx(
        0.5
    )  # rain -> sun, sun -> tree
    left_out = lesson.conditional_figure(conditional, NAMES, frequency, most=2)
    assert "(1 rarer ones not shown)" in left_out.axes[0].get_title()


def test_a_pair_is_listed_in_both_directions(monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(lesson, "table", lambda rows, columns: shown.append(rows))
    pairs = torch.tensor([[10.0, 4.0], [4.0, 5.0]])
    lesson.show_pairs(pairs, Vocabulary(("sea", "boat")), [("sea", "boat")])
    assert shown == [{"P(boat \\| sea)": ["4 of 10", 0.4], "P(sea \\| boat)": ["4 of 5", 0.8]}]


def follow(order: str, said: list[str]) -> Counter:
    return {(): Counter(sun=3, rain=1), ("sun",): Counter({"<stop>": 2})}.get(tuple(said), Counter())


def test_follow_figure_shows_shares_of_the_sequences() -> None:
    figure = lesson.follow_figure({"a": follow("", []), "b": follow("", ["sun"])})
    assert ticks(figure, 0) == ["sun", "rain"] and words(figure, 0) == ["0.75", "0.25"]
    assert ticks(figure, 1) == ["<stop>"] and drawn(figure)


def test_the_follow_view_says_what_comes_next_or_that_nothing_does(quick) -> None:
    pytest.importorskip("ipywidgets")
    view = lesson.follow_view(follow, NAMES, "rare-first", ["sun"])
    assert view.sentence.value == "2 training sequences begin so. 2 of them go on with &lt;stop&gt;."
    view.controls["label 1"].value = ""
    assert view.sentence.value == "4 training sequences begin so. 3 of them go on with sun."
    view.controls["label 2"].value = "tree"
    assert view.sentence.value == "No training sequence begins with tree in the order rare-first."


def test_token_grid_pales_what_the_loss_does_not_count() -> None:
    rows = [["sun", "rain", "<stop>"], ["<stop>", "<stop>", "<stop>"]]
    figure = lesson.token_grid({"targets": rows}, [2, 0])
    assert words(figure) == [name for row in rows for name in row] and drawn(figure)
    cells = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    sun, rain, stop, empty, pad, more = (cell.get_facecolor() for cell in cells)
    assert sun == rain and stop == empty and pad == more and len({sun, stop, pad}) == 3


@pytest.mark.parametrize(("panels", "lengths"), [({}, []), ({"a": []}, []), ({"a": [["sun"]]}, [1, 2])])
def test_token_grid_refuses_rows_that_do_not_fit(panels, lengths) -> None:
    with pytest.raises(ValueError, match="expected panels"):
        lesson.token_grid(panels, lengths)


def test_sequence_view_lists_the_labels_in_their_order_then_stop() -> None:
    boxes = (Box("sun", 2, 1, 10, 10), Box("tree", 30, 5, 20, 30), Box("shade", 30, 5, 20, 30))
    figure = lesson.sequence_view(PHOTO, ["rain", "sun"], [5, 9], boxes)
    assert ticks(figure, 1) == ["1. rain", "2. sun", "3. <stop>"] and words(figure, 1) == ["5", "9"]
    assert sum(isinstance(p, Rectangle) for p in figure.axes[0].patches) == 2  # three boxes, two places
    assert drawn(figure) and ticks(lesson.sequence_view(PHOTO, [], []), 1) == ["1. <stop>"]


@pytest.fixture
def view(small_data: AnnotatedImages, quick):
    pytest.importorskip("ipywidgets")
    return lesson.dataset_browser(small_data)


def test_the_browser_leafs_round_in_both_directions(view) -> None:
    back, forward = view.children[1].children[:2]
    assert view.sentence.value.startswith("Image 1 of 5 (all images)")
    forward.click()
    assert view.sentence.value.startswith("Image 2 of 5")
    back.click()
    back.click()
    assert view.controls["position"].value == 5 and "Image 5 of 5" in view.sentence.value
    forward.click()
    assert view.controls["position"].value == 1


def test_a_label_narrows_the_browser_to_its_images_and_starts_again(view) -> None:
    position, label = view.controls["position"], view.controls["label"]
    position.value, label.value = 5, "dog"
    assert view.sentence.value == "Image 1 of 2 (dog), rare-first: dog, bird."
    assert position.max == 2
    position.value, label.value = 2, ""
    assert view.sentence.value == "Image 1 of 1 (no labels), rare-first: no labels."
    label.value = None
    assert position.max == 5


def test_only_labels_that_occur_are_offered_with_their_number_of_images(view, small_data) -> None:
    offered = [text for text, _ in view.controls["label"].options]
    assert offered == ["all images (5)", "bird (4)", "cat (1)", "dog (2)", "no labels (1)"]
    offered = [text for text, _ in lesson.dataset_browser(small_data, split="val").controls["label"].options]
    assert offered == ["all images (1)", "bird (1)", "cat (1)"]


def test_the_browser_shows_the_labels_in_the_order_chosen(view) -> None:
    view.controls["position"].value = 4
    orders = {
        "rare-first": "dog, bird",
        "frequent-first": "bird, dog",
        "alphabetical": "bird, dog",
        "given": "dog, bird",
    }
    for order, labels in orders.items():
        view.controls["order"].value = order
        assert view.sentence.value == f"Image 4 of 5 (all images), {order}: {labels}."


def test_the_random_order_shows_every_order_and_leaves_the_random_state_alone(small_data, quick) -> None:
    pytest.importorskip("ipywidgets")
    before = torch.get_rng_state()
    view = lesson.dataset_browser(small_data, order="random")
    seen = set()
    for step in range(20):
        view.controls["position"].value = 2 + 2 * (step % 2)
        seen.add(view.sentence.value.split(": ")[1])
    assert seen == {"bird, dog.", "dog, bird."} and torch.equal(torch.get_rng_state(), before)


def test_boxes_can_be_switched_off(small_data, quick, monkeypatch) -> None:
    pytest.importorskip("ipywidgets")
    shown, real = [], lesson.sequence_view
    monkeypatch.setattr(
        lesson, "sequence_view", lambda *a, **k: shown.append((a[1], a[2], len(a[3]))) or real(*a, **k)
    )
    lesson.dataset_browser(small_data).controls["boxes"].value = False
    assert shown == [(["cat", "bird"], [1, 4], 2), (["cat", "bird"], [1, 4], 0)]


def test_a_damaged_image_is_named_and_the_next_one_shown(view, small_data) -> None:
    small_data.train[1].path.write_bytes(b"")
    view.controls["position"].value = 2
    assert "DataError" in view.sentence.value and "1.png" in view.sentence.value
    view.controls["position"].value = 3
    assert view.sentence.value.startswith("Image 3 of 5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "test split of small has no images"),
        ({"label": "elk"}, "no image of the train split has the label 'elk'"),
        ({"split": "trian"}, "there is no split"),
    ],
)
def test_the_browser_refuses_what_it_cannot_show(small_data, options, message) -> None:
    pytest.importorskip("ipywidgets")
    with pytest.raises(ValueError, match=message):
        lesson.dataset_browser(small_data, **options)
