"""The dataset browser: its values are set as a reader would set them, and what stands above the picture is read."""

from __future__ import annotations

import pytest
import torch
from lessons import nb01 as data_plots
from lessons import nb01 as widgets

from helpers.data.records import AnnotatedImages

pytest.importorskip("ipywidgets")


@pytest.mark.usefixtures("quick")
def test_the_browser_leafs_round_in_both_directions(small_data: AnnotatedImages) -> None:
    view = widgets.dataset_browser(small_data)
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
def test_a_label_narrows_the_browser_to_its_images_and_starts_again(small_data: AnnotatedImages) -> None:
    view = widgets.dataset_browser(small_data)
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
def test_only_labels_that_occur_are_offered_with_their_number_of_images(small_data: AnnotatedImages) -> None:
    offered = [text for text, _ in widgets.dataset_browser(small_data).controls["label"].options]
    assert offered == ["all images (5)", "bird (4)", "cat (1)", "dog (2)", "no labels (1)"]
    offered = [text for text, _ in widgets.dataset_browser(small_data, split="val").controls["label"].options]
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
    small_data: AnnotatedImages, order: str, labels: str
) -> None:
    view = widgets.dataset_browser(small_data)
    view.controls["position"].value = 4
    view.controls["order"].value = order
    assert view.sentence.value == f"Image 4 of 5 (all images), {order}: {labels}."


@pytest.mark.usefixtures("quick")
def test_the_random_order_shows_every_order_sooner_or_later(small_data: AnnotatedImages) -> None:
    view = widgets.dataset_browser(small_data, order="random")
    seen = set()
    for step in range(20):
        view.controls["position"].value = 2 + 2 * (step % 2)
        seen.add(view.sentence.value.split(": ")[1])
    assert seen == {"bird, dog.", "dog, bird."}


@pytest.mark.usefixtures("quick")
def test_boxes_can_be_switched_off(small_data: AnnotatedImages, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    real = data_plots.sequence_view
    monkeypatch.setattr(
        data_plots, "sequence_view", lambda *a, **k: drawn.append((a[1], a[2], len(a[3]))) or real(*a, **k)
    )
    view = widgets.dataset_browser(small_data)
    view.controls["boxes"].value = False
    assert drawn == [(["cat", "bird"], [1, 4], 2), (["cat", "bird"], [1, 4], 0)]


def test_a_damaged_image_is_named_and_the_next_one_shown(small_data: AnnotatedImages) -> None:
    small_data.train[1].path.write_bytes(b"")
    view = widgets.dataset_browser(small_data)
    view.controls["position"].value = 2
    assert "DataError" in view.sentence.value and "1.png" in view.sentence.value
    view.controls["position"].value = 3
    assert view.sentence.value.startswith("Image 3 of 5")


@pytest.mark.usefixtures("quick")
def test_the_browser_refuses_what_it_cannot_show(small_data: AnnotatedImages) -> None:
    with pytest.raises(ValueError, match="test split of small has no images"):
        widgets.dataset_browser(small_data, split="test")
    with pytest.raises(ValueError, match="no image of the train split has the label 'elk'"):
        widgets.dataset_browser(small_data, label="elk")
    with pytest.raises(ValueError, match="there is no split"):
        widgets.dataset_browser(small_data, split="trian")


@pytest.mark.usefixtures("quick")
def test_a_view_leaves_the_random_state_alone(small_data: AnnotatedImages) -> None:
    before = torch.get_rng_state()
    view = widgets.dataset_browser(small_data, order="random")
    view.controls["position"].value = 2
    assert torch.equal(torch.get_rng_state(), before)
