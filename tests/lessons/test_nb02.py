"""Kernels, feature maps, labels by kind and thresholds; the explorer is set as a reader would set it."""

from __future__ import annotations

import pytest
import torch
from lessons import nb02 as lesson
from matplotlib.colors import to_hex
from reading import bars, drawn, texts, ticks

from helpers import plots
from helpers.data.records import Box
from helpers.metrics.label_sets import multilabel_metrics

pytest.importorskip("ipywidgets")
IMAGE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_kernels_stand_above_their_responses() -> None:
    kernels = {"edge": torch.tensor([[-1.0, 0.25], [0, 1]]), "zero": torch.zeros(2, 2)}
    figure = lesson.kernel_responses(IMAGE, kernels, [torch.randn(8, 8), torch.zeros(8, 8)])
    assert drawn(figure)
    assert {"edge", "zero", "-1", "0.25"} <= set(texts(figure))


def test_feature_maps_share_their_colours_along_a_row() -> None:
    maps = torch.rand(2, 3, 4, 4)
    maps[1, 2] *= 10
    boxes = [[[], [], []], [[Box("bird", 1, 2, 3, 4)], [], []]]
    figure = lesson.feature_maps([IMAGE] * 3, maps, rows=["a", "b"], boxes=boxes)
    assert drawn(figure)
    limits = [ax.images[1].get_clim() for ax in figure.axes[:6]]
    assert len(set(limits[:3])) == len(set(limits[3:])) == 1
    assert limits[3][1] == pytest.approx(float(maps[1].max()))
    assert sum(len(ax.patches) for ax in figure.axes[:6]) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_bars_by_kind_show_every_label_once(number: int) -> None:
    groups = {f"kind {k}": {f"label {k}{i}": 0.1 * i for i in range(4 - k)} for k in range(number)}
    marks = {"errors": {"label 01": (0.0, 0.3)}, "marked": {"marked": ["label 02"]}}
    figure = lesson.bars_by_kind(groups, xlabel="AP", title="t", **marks)
    shown = [name for panel in range(number) for name in ticks(figure, panel)]
    assert shown == [label for labels in groups.values() for label in labels]
    assert drawn(figure) and {"marked", "other labels"} <= set(texts(figure))


def test_a_sweep_agrees_with_the_metrics_at_every_threshold() -> None:
    scores, target = torch.rand(40, 5), torch.rand(40, 5) < 0.3
    sweep = lesson.Sweep.of(scores, target)
    assert len(sweep.thresholds) == 99
    for k in (0, 29, 98):
        expected = multilabel_metrics(scores >= sweep.thresholds[k], target)
        assert float(sweep.precision[k]) == pytest.approx(expected["OP"])
        assert float(sweep.recall[k]) == pytest.approx(expected["OR"])
        assert float(sweep.f1[k]) == pytest.approx(expected["OF1"])
    figure = lesson.threshold_sweeps({"val": sweep, "test": sweep}, {"val": {"chosen": 0.3}})
    assert drawn(figure) and "chosen " in texts(figure)


def test_a_sweep_without_positives_stays_finite() -> None:
    sweep = lesson.Sweep.of(torch.rand(6, 1), torch.zeros(6, 1, dtype=torch.bool))
    assert torch.equal(sweep.f1, torch.zeros(99, dtype=sweep.f1.dtype))


def test_precision_recall_names_its_lines_and_points() -> None:
    x = torch.linspace(0, 1, 5)
    figure = lesson.precision_recall(
        {"bird": (x, 1 - x)}, {"half": {"bird": (0.5, 0.5), "other": (0.1, 0.1)}}, title="t"
    )
    assert drawn(figure) and "bird" in texts(figure) and "half" in texts(figure)


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
def explorer(small_data, quick):
    """The view of five images; its picture holds the titles of its panels."""
    return lesson.threshold_explorer(small_data.train, SCORES, TRUTH, small_data.vocabulary)


def test_the_explorer_says_what_an_image_gets(explorer) -> None:
    assert "this image gets: bird, cat." in explorer.sentence.value
    explorer.controls["position"].value = 5
    assert "this image gets: no label." in explorer.sentence.value
    explorer.controls["threshold"].value = 0.25
    assert "At 0.25, this image gets: bird." in explorer.sentence.value


def test_the_explorer_counts_one_label_and_all_of_them(explorer) -> None:
    tp, named, true = 4, 5, 6
    expected = f"precision {tp / named:.2f}, recall {tp / true:.2f}, F1 {2 * tp / (named + true):.2f}."
    assert explorer.sentence.value.endswith(f"all labels: {expected}")
    explorer.controls["label"].value = "bird"
    assert explorer.sentence.value.endswith("bird: precision 0.67, recall 0.67, F1 0.67.")
    explorer.controls["label"].value = "elk"  # no image has it
    assert explorer.sentence.value.endswith("elk: precision 0.00, recall 0.00, F1 0.00.")


GREEN, RED = "#009E73", "#D55E00"


@pytest.mark.parametrize(
    ("label", "rows"),
    [
        (None, [[("0 wrong, 0 missed", GREEN)] * 2,
                [("0 wrong, 1 missed", RED), ("1 wrong, 0 missed", RED), ("0 wrong, 1 missed", RED)]]),
        ("bird", [[("0.90", GREEN), ("0.80", GREEN), ("0.60", RED)], [("0.30", RED)]]),
        ("elk", [[], []]),
    ],
)  # fmt: skip
def test_the_figure_shows_what_is_named_and_missed(small_data, label, rows) -> None:
    given = small_data.train, SCORES, TRUTH, small_data.vocabulary
    figure, _ = lesson.threshold_figure(*given, threshold=0.5, label=label)
    assert ticks(figure, 1) == ["bird", "cat", "dog", "elk"]  # highest first
    assert bars(figure) == pytest.approx([0.9, 0.7, 0.2, 0.1])
    panels = [ax for ax in figure.axes[3:] if ax.images]
    shown = [(ax.get_title(), to_hex(ax.spines["top"].get_edgecolor()).upper()) for ax in panels]
    assert shown == [*rows[0], *rows[1]]
    if label == "bird":
        f1 = next(line for line in figure.axes[2].lines if line.get_label() == "F1")
        assert float(f1.get_ydata()[49]) == pytest.approx(2 / 3)


def test_the_explorer_draws_for_real(small_data) -> None:
    view = lesson.threshold_explorer(
        small_data.train, SCORES, TRUTH, small_data.vocabulary, label="bird", threshold=0.4
    )
    assert bytes(view.picture.value).startswith(b"\x89PNG") and "Error" not in view.sentence.value
    figure, sentence = lesson.threshold_figure(
        small_data.train, SCORES, TRUTH, small_data.vocabulary, threshold=0.4, label="bird"
    )
    assert sentence == view.sentence.value
    assert plots.to_png(figure) == bytes(view.picture.value)  # the static figure is what the view shows


def test_scores_of_other_images_are_refused(small_data) -> None:
    with pytest.raises(ValueError, match=r"5 records and 4 labels .* \(5, 4\), found \(4, 4\)"):
        lesson.threshold_figure(small_data.train, SCORES[:4], TRUTH[:4], small_data.vocabulary, threshold=0.5)
    with pytest.raises(ValueError, match="zebra"):
        lesson.threshold_figure(
            small_data.train, SCORES, TRUTH, small_data.vocabulary, threshold=0.5, label="zebra"
        )
