"""An interactive view of one threshold: on an image, on a split, in pictures. Taught in notebook 02."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers import threshold_plots
from helpers.images import open_image
from helpers.labels import Vocabulary
from helpers.metrics import precision_recall_f1
from helpers.records import Record
from helpers.thresholds import apply_thresholds
from helpers.widgets import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


def threshold_figure(
    records: Sequence[Record],
    scores: Tensor,
    target: Tensor,
    vocabulary: Vocabulary,
    *,
    threshold: float,
    label: str | None = None,
    image: int = 0,
    bars: int = 8,
    thumbnails: int = 6,
) -> tuple[Figure, str]:
    """One threshold on an image, on the split and in the pictures that it names; and that in a sentence. Notebook 02.

    scores: (N, C) float in 0..1 and target: (N, C) bool of the N records. label: the one that the curves and the
    pictures are about; None means all labels together, and pictures with any mistake.

    Raises ValueError for an unknown label or shapes that do not fit the records.
    """
    if scores.shape != target.shape or scores.shape != (len(records), len(vocabulary)):
        raise ValueError(
            f"{len(records)} records and {len(vocabulary)} labels need scores and target of shape "
            f"({len(records)}, {len(vocabulary)}), found {tuple(scores.shape)} and {tuple(target.shape)}"
        )
    named = apply_thresholds(scores, threshold)
    columns = slice(None) if label is None else vocabulary.encode([label])
    about, truth = scores[:, columns], target[:, columns]
    sweep = threshold_plots.Sweep.of(about, truth)
    tp, predicted, support = ((named[:, columns] & truth).sum(), named[:, columns].sum(), truth.sum())
    precision, recall, f1 = (float(x) for x in precision_recall_f1(tp, predicted, support))

    def strip(wanted: Tensor, order: Tensor, right: Tensor) -> list[tuple[object, str, bool]]:
        found = [i for i in order.tolist() if wanted[i]][:thumbnails]
        return [(_thumbnail(records[i]), text_of(i), bool(right[i])) for i in found]

    if label is None:
        wrong_in = (named & ~target).sum(1), (target & ~named).sum(1)  # (N,): named wrongly, missed

        def text_of(i: int) -> str:
            return f"{int(wrong_in[0][i])} wrong, {int(wrong_in[1][i])} missed"

        exact = (named == target).all(1)
        strips = {
            "all right": strip(exact, torch.arange(len(records)), exact),
            "most wrong": strip(
                ~exact, (wrong_in[0] + wrong_in[1]).argsort(descending=True, stable=True), exact
            ),
        }
    else:
        score, is_named, is_true = about[:, 0], named[:, columns][:, 0], truth[:, 0]

        def text_of(i: int) -> str:
            return f"{float(score[i]):.2f}"

        best_first = score.argsort(descending=True, stable=True)
        strips = {
            "named": strip(is_named, best_first, is_true),
            "missed": strip(is_true & ~is_named, best_first, torch.zeros_like(is_true)),
        }
    best = scores[image].argsort(descending=True, stable=True)[:bars].tolist()
    subject = "all labels" if label is None else label
    figure = threshold_plots.threshold_view(
        open_image(records[image].path),
        {vocabulary.labels[c]: (float(scores[image, c]), bool(target[image, c])) for c in best},
        sweep,
        strips,
        threshold=threshold,
        titles=(records[image].path.name, "scores of this image", f"{subject}, {len(records)} images"),
        thumbnails=thumbnails,
    )
    said = vocabulary.decode(named[image].nonzero()[:, 0].tolist())
    text = (
        f"At {threshold:.2f}, this image gets: {', '.join(said) or 'no label'}. On the split, {subject}: "
        f"precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f}."
    )
    return figure, text


def _thumbnail(record: Record, side: int = 96):
    picture = open_image(record.path)
    picture.thumbnail((side, side))
    return picture


def threshold_explorer(
    records: Sequence[Record],
    scores: Tensor,
    target: Tensor,
    vocabulary: Vocabulary,
    *,
    label: str | None = None,
    threshold: float = 0.5,
) -> VBox:
    """Move one threshold: what an image is named, precision and recall of the split, and pictures. Notebook 02.

    scores, target: as in `threshold_figure`. label: the one shown at first; None for all together.
    """
    import ipywidgets

    options = [("all labels", None)] + [(name, name) for name in vocabulary.labels]
    wanted = ipywidgets.Dropdown(options=options, value=label, description="Label")
    level = ipywidgets.FloatSlider(
        value=threshold, min=0.01, max=0.99, step=0.01, description="Threshold", continuous_update=False
    )
    position = ipywidgets.IntSlider(min=1, max=len(records), description="Image", continuous_update=False)

    def draw(label: str | None, threshold: float, position: int) -> tuple[Figure, str]:
        return threshold_figure(
            records, scores, target, vocabulary, threshold=threshold, label=label, image=position - 1
        )

    return figure_view(
        draw, {"label": wanted, "threshold": level, "position": position}, rows=[[level, wanted, position]]
    )
