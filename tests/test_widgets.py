"""Views: their values are set as a reader would set them, and what stands above the picture is read."""

from __future__ import annotations

import html
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image

from helpers import plots
from helpers.batch import Features
from helpers.datasets import AnnotatedImages, Box, Record
from helpers.decoders import Decoder, State
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


# --- step by step ----------------------------------------------------------------------------------------------------


class Parrot(Decoder):
    """Says label 0, 1, 2, then stops; after label 3 it says 4 and stops. Images make no difference."""

    FOLLOWS: ClassVar = {6: 0, 0: 1, 1: 2, 2: 5, 3: 4, 4: 5}  # <stop> is 5, <start> is 6

    def start(self, features: Features) -> State:
        return State((features.pooled,))

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State, None]:
        logits = torch.zeros(len(tokens), 6)
        for row, token in zip(logits, tokens.tolist(), strict=True):
            row[self.FOLLOWS[token]] = 4.0
        return logits, state, None


@pytest.fixture
def walk(data: AnnotatedImages, monkeypatch: pytest.MonkeyPatch) -> tuple[ipywidgets.VBox, list[dict]]:
    """The step-by-step view of a parrot, and what it draws, newest last."""
    drawn: list[dict] = []

    def step_view(image, paths, top, *, step):
        drawn.append({"paths": paths, "top": [label.name for label in top], "step": step, "right": top})
        return a_figure()

    monkeypatch.setattr(widgets.decoding_plots, "step_view", step_view)
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    records = list(data.train[:2])
    view = widgets.step_by_step(Parrot(5), Features(torch.zeros(2, 1)), records, vocabulary, max_labels=4)
    return view, drawn


def names(path: list[tuple[str, bool]]) -> str:
    """A path as text; what was chosen by hand has a star."""
    return " ".join(name + "*" * by_hand for name, by_hand in path)


def test_the_walk_starts_with_what_the_decoder_says(walk: tuple[ipywidgets.VBox, list[dict]]) -> None:
    view, drawn = walk
    assert names(drawn[-1]["paths"]["decoder alone"]) == "ant bee cat <stop>"
    assert len(drawn) == 1 and list(drawn[-1]["paths"]) == ["decoder alone"]
    assert drawn[-1]["top"][0] == "ant" and len(drawn[-1]["top"]) == 5
    assert "The decoder alone says: ant, bee, cat, <stop>." in html.unescape(view.sentence.value)
    view.controls["step"].value = 2
    assert drawn[-1]["top"][0] == "bee" and drawn[-1]["step"] == 2
    view.controls["step"].value = 5  # after <stop>
    assert drawn[-1]["top"] == []


def test_saying_another_label_changes_what_follows(walk: tuple[ipywidgets.VBox, list[dict]]) -> None:
    view, drawn = walk
    view.controls["step"].value = 2
    view.controls["say"].value = 3
    assert names(drawn[-1]["paths"]["with your choices"]) == "ant dog* elk <stop>"
    assert names(drawn[-1]["paths"]["decoder alone"]) == "ant bee cat <stop>"
    assert view.controls["chosen"].value == "You say dog at step 2."
    assert "With your choices: ant, dog, elk, <stop>." in html.unescape(view.sentence.value)


def test_choices_stay_while_one_walks_and_can_be_taken_back(
    walk: tuple[ipywidgets.VBox, list[dict]],
) -> None:
    view, drawn = walk
    step, say = view.controls["step"], view.controls["say"]
    step.value, say.value = 2, 3
    step.value = 4
    assert say.value == -1  # nothing is chosen here
    say.value = 1  # in place of <stop>
    assert names(drawn[-1]["paths"]["with your choices"]) == "ant dog* elk bee* cat"
    step.value = 2
    assert say.value == 3
    say.value = -1
    assert view.controls["chosen"].value == "You say bee at step 4."
    assert names(drawn[-1]["paths"]["with your choices"]) == "ant bee cat bee* dog"  # cat is taken
    step.value = 4
    say.value = -1
    assert list(drawn[-1]["paths"]) == ["decoder alone"]


@pytest.mark.parametrize("how", ["button", "image"])
def test_the_walk_can_start_again(walk: tuple[ipywidgets.VBox, list[dict]], how: str) -> None:
    view, drawn = walk
    view.controls["say"].value = 3
    view.controls["step"].value = 2  # nothing is chosen at this step: only the choices themselves change
    if how == "button":
        button = next(
            w for row in view.children[:2] for w in row.children if isinstance(w, ipywidgets.Button)
        )
        button.click()
    else:
        view.controls["image"].value = 2
    assert list(drawn[-1]["paths"]) == ["decoder alone"]
    assert view.controls["chosen"].value == "The decoder chooses everything."
    assert view.controls["say"].value == -1


def test_the_walk_draws_a_real_picture(data: AnnotatedImages) -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
    records = list(data.train[:1])
    view = widgets.step_by_step(Parrot(5), Features(torch.zeros(1, 1)), records, vocabulary, max_labels=4)
    before = view.picture.value
    view.controls["say"].value = 3
    assert bytes(before).startswith(b"\x89PNG") and view.picture.value != before


# --- notebook 02: the threshold explorer -----------------------------------------------------------------------------

# Two images are right at 0.5, the others wrong: number 2 misses its dog, 3 names a bird that is not there.
TRUTH = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
SCORES = torch.tensor(
    [
        [0.9, 0.7, 0.2, 0.1],
        [0.8, 0.1, 0.6, 0.1],
        [0.1, 0.2, 0.4, 0.1],
        [0.6, 0.3, 0.3, 0.1],
        [0.3, 0.1, 0.1, 0.1],
    ]
)


@pytest.fixture
def explorer(data: AnnotatedImages, monkeypatch: pytest.MonkeyPatch) -> tuple[ipywidgets.VBox, list[dict]]:
    """The view of five images, and what it draws, newest last."""
    drawn: list[dict] = []

    def threshold_view(image, scores, sweep, strips, **options):
        drawn.append({"image": image, "scores": scores, "sweep": sweep, "strips": strips} | options)
        return a_figure()

    monkeypatch.setattr(widgets.feature_plots, "threshold_view", threshold_view)
    return widgets.threshold_explorer(data.train, SCORES, TRUTH, data.vocabulary), drawn


def test_the_explorer_says_what_an_image_gets(explorer: tuple, quick: None) -> None:
    view, drawn = explorer
    assert "this image gets: bird, cat." in view.sentence.value
    assert list(drawn[-1]["scores"]) == ["bird", "cat", "dog", "elk"]  # highest first
    assert drawn[-1]["scores"]["cat"] == (pytest.approx(0.7), True)
    view.controls["position"].value = 5
    assert "this image gets: no label." in view.sentence.value
    view.controls["threshold"].value = 0.25
    assert "At 0.25, this image gets: bird." in view.sentence.value
    assert drawn[-1]["threshold"] == 0.25
    assert not any("Error" in text for text in [view.sentence.value])


def test_the_explorer_counts_one_label_and_all_of_them(explorer: tuple, quick: None) -> None:
    view, drawn = explorer
    tp, named, true = 4, 5, 6
    expected = f"precision {tp / named:.2f}, recall {tp / true:.2f}, F1 {2 * tp / (named + true):.2f}."
    assert view.sentence.value.endswith(f"all labels: {expected}")
    assert [text for _, text, _ in drawn[-1]["strips"]["all right"]] == ["0 wrong, 0 missed"] * 2
    assert [text for _, text, _ in drawn[-1]["strips"]["most wrong"]] == [
        "0 wrong, 1 missed",
        "1 wrong, 0 missed",
        "0 wrong, 1 missed",
    ]
    view.controls["label"].value = "bird"
    assert view.sentence.value.endswith("bird: precision 0.67, recall 0.67, F1 0.67.")
    strips = drawn[-1]["strips"]
    assert [(text, right) for _, text, right in strips["named"]] == [
        ("0.90", True),
        ("0.80", True),
        ("0.60", False),
    ]
    assert [(text, right) for _, text, right in strips["missed"]] == [("0.30", False)]
    sweep = drawn[-1]["sweep"]
    assert float(sweep.f1[49]) == pytest.approx(2 / 3) and float(sweep.recall[24]) == 1


def test_a_label_that_no_image_has_can_be_explored(explorer: tuple, quick: None) -> None:
    view, drawn = explorer
    view.controls["label"].value = "elk"
    assert view.sentence.value.endswith("elk: precision 0.00, recall 0.00, F1 0.00.")
    assert drawn[-1]["strips"] == {"named": [], "missed": []}


def test_the_explorer_draws_for_real(data: AnnotatedImages) -> None:
    view = widgets.threshold_explorer(data.train, SCORES, TRUTH, data.vocabulary, label="bird", threshold=0.4)
    assert bytes(view.picture.value).startswith(b"\x89PNG") and "Error" not in view.sentence.value
    figure, sentence = widgets.threshold_figure(
        data.train, SCORES, TRUTH, data.vocabulary, threshold=0.4, label="bird"
    )
    assert sentence == view.sentence.value
    assert plots.to_png(figure) == bytes(view.picture.value)  # the static figure is what the view shows


def test_scores_of_other_images_are_refused(data: AnnotatedImages) -> None:
    with pytest.raises(ValueError, match=r"5 records and 4 labels .* \(5, 4\), found \(4, 4\)"):
        widgets.threshold_figure(data.train, SCORES[:4], TRUTH[:4], data.vocabulary, threshold=0.5)
    with pytest.raises(ValueError, match="zebra"):
        widgets.threshold_figure(data.train, SCORES, TRUTH, data.vocabulary, threshold=0.5, label="zebra")
