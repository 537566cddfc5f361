"""The threshold explorer: its values are set as a reader would set them, and what is drawn is read."""

from __future__ import annotations

import pytest
import torch
from lessons import nb02 as widgets
from test_widgets import a_figure

from helpers import plots
from helpers.data.records import AnnotatedImages

ipywidgets = pytest.importorskip("ipywidgets")


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
def explorer(
    small_data: AnnotatedImages, monkeypatch: pytest.MonkeyPatch
) -> tuple[ipywidgets.VBox, list[dict]]:
    """The view of five images, and what it draws, newest last."""
    drawn: list[dict] = []

    def threshold_view(image, scores, sweep, strips, **options):
        drawn.append({"image": image, "scores": scores, "sweep": sweep, "strips": strips} | options)
        return a_figure()

    monkeypatch.setattr(widgets, "threshold_view", threshold_view)
    return widgets.threshold_explorer(small_data.train, SCORES, TRUTH, small_data.vocabulary), drawn


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


def test_the_explorer_draws_for_real(small_data: AnnotatedImages) -> None:
    view = widgets.threshold_explorer(
        small_data.train, SCORES, TRUTH, small_data.vocabulary, label="bird", threshold=0.4
    )
    assert bytes(view.picture.value).startswith(b"\x89PNG") and "Error" not in view.sentence.value
    figure, sentence = widgets.threshold_figure(
        small_data.train, SCORES, TRUTH, small_data.vocabulary, threshold=0.4, label="bird"
    )
    assert sentence == view.sentence.value
    assert plots.to_png(figure) == bytes(view.picture.value)  # the static figure is what the view shows


def test_scores_of_other_images_are_refused(small_data: AnnotatedImages) -> None:
    with pytest.raises(ValueError, match=r"5 records and 4 labels .* \(5, 4\), found \(4, 4\)"):
        widgets.threshold_figure(
            small_data.train, SCORES[:4], TRUTH[:4], small_data.vocabulary, threshold=0.5
        )
    with pytest.raises(ValueError, match="zebra"):
        widgets.threshold_figure(
            small_data.train, SCORES, TRUTH, small_data.vocabulary, threshold=0.5, label="zebra"
        )
