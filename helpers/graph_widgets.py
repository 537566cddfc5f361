"""Interactive views of labels that know each other: the graph at any threshold, and what each label looks at.

Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers.attention_plots import attention_view
from helpers.batch import Features
from helpers.classifier import ScoringSystem
from helpers.crops import on_image
from helpers.graph_plots import circle_order, label_graph
from helpers.images import open_image
from helpers.localization import GridSize
from helpers.records import Record
from helpers.widgets import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


def graph_figure(
    names: Sequence[str],
    prior: Tensor,
    *,
    threshold: float,
    focus: str | None = None,
    order: Sequence[int] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> tuple[Figure, str]:
    """The arrows i -> j with prior[i, j] = P(j | i) of at least the threshold, and a sentence. Notebook 08.

    Arguments as in `graph_plots.label_graph`.
    """
    title = f"arrows: P(to | from) of at least {threshold:g}"
    figure = label_graph(
        names, prior, threshold=threshold, title=title, focus=focus, order=order, kinds=kinds
    )
    edges = (prior >= threshold).fill_diagonal_(False)
    alone = [
        name for name, linked in zip(names, (edges | edges.T).any(0).tolist(), strict=True) if not linked
    ]
    count = int(edges.sum())
    text = f"{count} arrow{'' if count == 1 else 's'}; without any: {', '.join(alone) or 'none'}."
    if focus is not None:
        k = list(names).index(focus)
        out = [f"{names[j]} ({float(prior[k, j]):.2f})" for j in edges[k].nonzero().flatten().tolist()]
        into = [f"{names[i]} ({float(prior[i, k]):.2f})" for i in edges[:, k].nonzero().flatten().tolist()]
        text += f" Arrows from {focus}: {', '.join(out) or 'none'}."
        text += f" Arrows to {focus}: {', '.join(into) or 'none'}."
    return figure, text


def graph_explorer(
    names: Sequence[str], prior: Tensor, *, threshold: float = 0.4, kinds: Mapping[str, str] | None = None
) -> VBox:
    """Move the threshold of the label graph, and pick out a label. Notebook 08; arguments as in `graph_figure`."""
    import ipywidgets

    order = circle_order(prior)
    wide = {"description_width": "initial"}
    slider = ipywidgets.FloatSlider(
        value=threshold,
        min=0.05,
        max=1.0,
        step=0.05,
        description="Threshold",
        continuous_update=False,
        style=wide,
    )
    options = [("all labels", None), *((name, name) for name in sorted(names))]
    focus = ipywidgets.Dropdown(options=options, description="Label", style=wide)

    def draw(threshold: float, focus: str | None) -> tuple[Figure, str]:
        return graph_figure(names, prior, threshold=threshold, focus=focus, order=order, kinds=kinds)

    return figure_view(draw, {"threshold": slider, "focus": focus}, rows=[[slider, focus]])


def look_figure(
    system: ScoringSystem,
    records: Sequence[Record],
    features: Features,
    cells: GridSize,
    *,
    image: int = 0,
    label: str,
    crops: int = 0,
    bars: int = 6,
) -> tuple[Figure, str]:
    """What one label looks at in an image, and the labels with the highest scores. Notebook 08.

    system: with a `LabelDecoder`, in eval mode. features: of the records, as from the encoder (N images). cells: (h, w) of
    a view of the encoder, crops: its level. Returns the figure and a sentence.
    """
    names, record = system.vocabulary.labels, records[image]
    k = system.vocabulary.encode([label])[0]
    device = next(system.parameters()).device
    with torch.inference_mode():
        look = system.network.attend(features.select(torch.tensor([image])).to(device))
    scores, tokens = look.logits[0].float().sigmoid().cpu(), look.attention[0, k].float().cpu()
    picture = on_image(tokens, crops, cells)  # (h * level, w * level)
    best = scores.argsort(descending=True, stable=True)[:bars].tolist()
    shown = best if k in best else [*best[:-1], k]
    present = label in record.labels
    figure = attention_view(
        open_image(record.path),
        picture.flatten(),
        tuple(picture.shape),
        {"": {names[i]: float(scores[i]) for i in shown}},
        highest=float(picture.max()),
        titles=(", ".join(record.labels), f"{label} looks here", "highest scores"),
        value="score",
        boxes=[box for box in record.boxes if box.label == label],
    )
    text = f"{label} is {'' if present else 'not '}in the picture; its score is {float(scores[k]):.2f}. "
    text += f"Its largest weight is {float(tokens.max()):.2f}, equal ones would be {1 / len(tokens):.3f}."
    if crops:
        whole = float(tokens[-cells[0] * cells[1] :].sum())
        text += f" {whole:.0%} of its attention is on the whole view, the rest on tiles."
    return figure, text


def look_explorer(
    system: ScoringSystem,
    records: Sequence[Record],
    features: Features,
    cells: GridSize,
    *,
    image: int = 0,
    crops: int = 0,
) -> VBox:
    """Choose an image and a label, and see where the label looks, whether it is there or not. Notebook 08.

    Arguments as in `look_figure`.
    """
    import ipywidgets

    wide = {"description_width": "initial"}
    position = ipywidgets.IntSlider(
        value=image + 1, min=1, max=len(records), description="Image", continuous_update=False
    )
    names = system.vocabulary.labels
    first = records[image].labels[0] if records[image].labels else names[0]
    label = ipywidgets.Dropdown(options=sorted(names), value=first, description="Label", style=wide)

    def draw(image: int, label: str) -> tuple[Figure, str]:
        return look_figure(system, records, features, cells, image=image - 1, label=label, crops=crops)

    return figure_view(draw, {"image": position, "label": label}, rows=[[position, label]])
