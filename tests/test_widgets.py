"""Views: their values are set as a reader would set them, and what stands above the picture is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers import plots
from helpers.datasets import AnnotatedImages, Box, Record
from helpers.labels import Vocabulary

ipywidgets = pytest.importorskip("ipywidgets")
widgets = pytest.importorskip("helpers.widgets")

# --- what all views share --------------------------------------------------------------------------------------------


def a_figure(side: float = 1.0) -> plots.Figure:
    """A figure that is quickly drawn."""
    return plots.new_figure(size=(side, side))[0]


def test_a_view_is_drawn_at_once_and_again_when_a_value_changes() -> None:
    slider = ipywidgets.IntSlider(value=1, min=1, max=3)
    view = widgets.figure_view(
        lambda side: (a_figure(side), f"side {side}"), {"side": slider}, rows=[[slider]]
    )
    before = bytes(view.picture.value)
    assert view.sentence.value == "side 1" and before.startswith(b"\x89PNG")
    slider.value = 2
    assert view.sentence.value == "side 2" and bytes(view.picture.value) != before
    assert view.picture.format == "png"


def test_a_view_is_not_drawn_twice_for_the_same_values() -> None:
    drawn = []
    a, b = ipywidgets.IntText(value=0), ipywidgets.IntText(value=0)
    a.observe(lambda change: setattr(b, "value", change["new"]), names="value")  # a click that changes both
    widgets.figure_view(
        lambda a, b: (drawn.append((a, b)) or a_figure(), ""), {"a": a, "b": b}, rows=[[a, b]]
    )
    a.value = 5
    assert drawn == [(0, 0), (5, 5)]


def test_an_error_while_drawing_is_shown_and_mended_by_the_next_value() -> None:
    slider = ipywidgets.IntSlider(value=1, min=0, max=3)

    def draw(number: int) -> tuple[plots.Figure, str]:
        return a_figure(), f"{6 / number:.0f} <b>"

    view = widgets.figure_view(draw, {"number": slider}, rows=[[slider]])
    picture = bytes(view.picture.value)
    slider.value = 0
    assert "ZeroDivisionError" in view.sentence.value and bytes(view.picture.value) == picture
    slider.value = 3
    assert view.sentence.value == "2 &lt;b&gt;"  # text, not HTML


# --- notebook 01: the dataset browser --------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are not rendered: for tests that redraw often and read only what stands above."""
    monkeypatch.setattr(plots, "to_png", lambda figure: b"")


@pytest.fixture
def data(tmp_path: Path) -> AnnotatedImages:
    """Five small images; bird is the most frequent label in train, cat the least."""
    rows = ["bird cat", "bird dog", "", "dog bird", "bird"]
    records = []
    for i, row in enumerate(rows):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (20, 20), (40 * i, 90, 90)).save(path)
        boxes = tuple(Box(name, 2.0 + k, 2, 8, 8) for k, name in enumerate(row.split()))
        records.append(Record(path, tuple(row.split()), boxes))
    vocabulary = Vocabulary(("bird", "cat", "dog", "elk"))
    return AnnotatedImages("small", vocabulary, train=tuple(records), val=tuple(records[:1]), test=())


@pytest.mark.usefixtures("quick")
def test_the_browser_leafs_round_in_both_directions(data: AnnotatedImages) -> None:
    view = widgets.dataset_browser(data)
    back, forward = view.children[1].children[:2]
    position = view.controls["position"]
    assert view.sentence.value.startswith("Image 1 of 5 (all images)")
    forward.click()
    assert view.sentence.value.startswith("Image 2 of 5")
    back.click()
    back.click()
    assert position.value == 5 and "Image 5 of 5" in view.sentence.value
    forward.click()
    assert position.value == 1


@pytest.mark.usefixtures("quick")
def test_a_label_narrows_the_browser_to_its_images_and_starts_again(data: AnnotatedImages) -> None:
    view = widgets.dataset_browser(data)
    view.controls["position"].value = 5
    view.controls["label"].value = "dog"
    assert view.sentence.value == "Image 1 of 2 (dog), rare-first: dog, bird."
    assert view.controls["position"].max == 2
    view.controls["position"].value = 2
    view.controls["label"].value = ""
    assert view.sentence.value == "Image 1 of 1 (no labels), rare-first: no labels."
    view.controls["label"].value = None
    assert view.controls["position"].max == 5


@pytest.mark.usefixtures("quick")
def test_only_labels_that_occur_are_offered_with_their_number_of_images(data: AnnotatedImages) -> None:
    offered = [text for text, _ in widgets.dataset_browser(data).controls["label"].options]
    assert offered == ["all images (5)", "bird (4)", "cat (1)", "dog (2)", "no labels (1)"]
    offered = [text for text, _ in widgets.dataset_browser(data, split="val").controls["label"].options]
    assert offered == ["all images (1)", "bird (1)", "cat (1)"]


@pytest.mark.parametrize(
    ("order", "labels"),
    [
        ("rare-first", "dog, bird"),
        ("frequent-first", "bird, dog"),
        ("alphabetical", "bird, dog"),
        ("given", "dog, bird"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_the_browser_shows_the_labels_in_the_order_chosen(
    data: AnnotatedImages, order: str, labels: str
) -> None:
    view = widgets.dataset_browser(data)
    view.controls["position"].value = 4
    view.controls["order"].value = order
    assert view.sentence.value == f"Image 4 of 5 (all images), {order}: {labels}."


@pytest.mark.usefixtures("quick")
def test_the_random_order_shows_every_order_sooner_or_later(data: AnnotatedImages) -> None:
    view = widgets.dataset_browser(data, order="random")
    seen = set()
    for step in range(20):
        view.controls["position"].value = 2 + 2 * (step % 2)
        seen.add(view.sentence.value.split(": ")[1])
    assert seen == {"bird, dog.", "dog, bird."}


def test_boxes_can_be_switched_off(data: AnnotatedImages, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    real = plots.sequence_view
    monkeypatch.setattr(
        plots, "sequence_view", lambda *a, **k: drawn.append((a[1], a[2], len(a[3]))) or real(*a, **k)
    )
    view = widgets.dataset_browser(data)
    view.controls["boxes"].value = False
    assert drawn == [(["cat", "bird"], [1, 4], 2), (["cat", "bird"], [1, 4], 0)]


def test_a_damaged_image_is_named_and_the_next_one_shown(data: AnnotatedImages) -> None:
    data.train[1].path.write_bytes(b"")
    view = widgets.dataset_browser(data)
    view.controls["position"].value = 2
    assert "DataError" in view.sentence.value and "1.png" in view.sentence.value
    view.controls["position"].value = 3
    assert view.sentence.value.startswith("Image 3 of 5")


@pytest.mark.usefixtures("quick")
def test_the_browser_refuses_what_it_cannot_show(data: AnnotatedImages) -> None:
    with pytest.raises(ValueError, match="test split of small has no images"):
        widgets.dataset_browser(data, split="test")
    with pytest.raises(ValueError, match="no image of the train split has the label 'elk'"):
        widgets.dataset_browser(data, label="elk")
    with pytest.raises(ValueError, match="there is no split"):
        widgets.dataset_browser(data, split="trian")


@pytest.mark.usefixtures("quick")
def test_a_view_leaves_the_random_state_alone(data: AnnotatedImages) -> None:
    before = torch.get_rng_state()
    view = widgets.dataset_browser(data, order="random")
    view.controls["position"].value = 2
    assert torch.equal(torch.get_rng_state(), before)
