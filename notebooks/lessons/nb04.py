"""Views of notebook 04: walk through the steps of an attention decoder, force its labels, paint its attention.

Each view has a function that draws one of its pictures, which the notebook also shows as a static figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers.data.images import open_image
from helpers.data.labels import ORDERS, order_labels
from helpers.decoders.search import Trace, trace
from helpers.plots import film_strip, frames
from lessons.figures import attention_view
from lessons.views import Examples, View, choice, figure_view, image_slider, slider


@torch.inference_mode()
def _trace(shown: Examples, image: int, **forced: Any) -> Trace:
    """The steps of an image: what the decoder says by itself, or what it is forced to."""
    system = shown.system
    steps = 1 if forced else system.max_labels + 1
    return trace(system.decoder, system.prepare(shown.one(image)), max_steps=steps, **forced)


def attention_step_figure(
    shown: Examples,
    *,
    image: int = 0,
    step: int = 1,
    bars: int = 5,
) -> tuple[Figure, str]:
    """One step of a decoding: image, where it looked, the most probable labels, the gate's mean.

    shown: the system has an attention decoder. step: counted from 1; after the last one, the last one is shown. Returns the figure and a sentence.
    """
    vocabulary, record = shown.system.vocabulary, shown.records[image]
    tracing = _trace(shown, image)
    steps = frames(tracing, vocabulary.labels, record)
    step = min(step, len(steps))
    frame = steps[step - 1]
    gate = ""
    if tracing.gate is not None:  # of a decoder that looks before it reads
        gate = f"; the mean of the gate is {float(tracing.gate[step - 1].mean()):.2f}"
    said = ", ".join(f.label for f in steps[: step - 1]) or "nothing"
    probability = tracing.probability[step - 1]
    best = probability.argsort(descending=True, stable=True)[:bars]
    top = dict(zip(vocabulary.decode(best), probability[best].tolist(), strict=True))
    looks, scores = f"step {step}: looks here, says {frame.label}", f"next label{gate}"
    figure = attention_view(
        open_image(record.path),
        frame.weights,
        shown.cells,
        {"": top},
        highest=float(tracing.attention.max()),
        titles=(f"said so far: {said}", looks, scores),
        boxes=frame.boxes,
    )
    verdict = {None: "", True: " (right)", False: " (wrong)"}[frame.right]
    text = f"Step {step} of {len(steps)}: {frame.label}{verdict}, probability {frame.probability:.2f}{gate}."
    return figure, text


def attention_stepper(
    shown: Examples,
    *,
    image: int = 0,
) -> View:
    """Walk through decodings step by step, by hand or with the play button; see `attention_step_figure`."""
    import ipywidgets

    position = image_slider(len(shown.records), image)
    step = slider("IntSlider", "Step", value=1, min=1, max=shown.system.max_labels + 1)
    play = ipywidgets.Play(value=1, min=1, max=step.max, interval=1500)
    # Linked here and not in the browser, so that both always have the value that the picture shows.
    ipywidgets.link((play, "value"), (step, "value"))

    def fit_steps(_: object = None) -> None:
        count = len(_trace(shown, position.value - 1).tokens)
        step.value, play.max, step.max = 1, count, count

    fit_steps()
    position.observe(fit_steps, names="value")  # before `figure_view` observes it: the step must fit

    def draw(image: int, step: int) -> tuple[Figure, str]:
        return attention_step_figure(shown, image=image - 1, step=step)

    return figure_view(draw, {"image": position, "step": step}, rows=[[position], [play, step]])


def forcing_figure(
    shown: Examples,
    *,
    image: int = 0,
    given: Sequence[str] | None = None,
) -> tuple[Figure, str]:
    """Free running and teacher forcing, one below the other: where the decoder looks, and what it says.

    given: the labels that are fed back; None takes the record's own in their order. Other arguments as in
    `attention_step_figure`.
    """
    vocabulary, record = shown.system.vocabulary, shown.records[image]
    given = list(record.labels if given is None else given)
    free = frames(_trace(shown, image), vocabulary.labels, record)
    fed = _trace(shown, image, given=vocabulary.encode(given))
    forced = frames(fed, vocabulary.labels, record)
    strips = {"free running": free, f"fed: {', '.join(given) or 'nothing'}": forced}
    text = (
        f"Free running it says {', '.join(f.label for f in free)}. Fed {', '.join(['<start>', *given])}, it says "
        f"{', '.join(f.label for f in forced)}."
    )
    return film_strip(open_image(record.path), strips, shown.cells), text


def forcing_explorer(
    shown: Examples,
    *,
    frequency: Tensor | None = None,
    image: int = 0,
) -> View:
    """Teacher forcing against free running, with a first label of your own if you like.

    frequency: (C,) training images by label, for the rare-first order of the labels fed; None keeps the record's.
    Other arguments as in `attention_step_figure`.
    """
    vocabulary, position = shown.system.vocabulary, image_slider(len(shown.records), image)
    orders = [name for name in ORDERS if name != "random" and (frequency is not None or "first" not in name)]
    order = choice("Feed", orders)
    options = [("the image's own", None), *((f"{name} first", name) for name in vocabulary.labels)]
    first = choice("Begin with", options)

    def draw(image: int, order: str, first: str | None) -> tuple[Figure, str]:
        ids = vocabulary.encode(shown.records[image - 1].labels)
        names = vocabulary.decode(order_labels(ids, order, vocabulary=vocabulary, frequency=frequency))
        given = names if first is None else [first, *(name for name in names if name != first)]
        return forcing_figure(shown, image=image - 1, given=given)

    controls = {"image": position, "order": order, "first": first}
    return figure_view(draw, controls, rows=[[position, order, first]])


def painted_figure(
    shown: Examples,
    *,
    image: int = 0,
    step: int = 1,
    rows: tuple[int, int] = (1, 1),
    columns: tuple[int, int] = (1, 1),
    bars: int = 6,
) -> tuple[Figure, str]:
    """Attention that you paint at one step, equal over some cells, against the decoder's own.

    rows, columns: first and last of the cells, counted from 1 at the top left. Before the step, the decoder names what
    it names by itself. Other arguments as in `attention_step_figure`. Raises ValueError for cells off the grid.
    """
    (top, bottom), (left, right), (h, w) = rows, columns, shown.cells
    if not (1 <= top <= bottom <= h and 1 <= left <= right <= w):
        raise ValueError(f"rows {rows} and columns {columns} do not lie on a grid of {h} x {w} cells")
    vocabulary, record = shown.system.vocabulary, shown.records[image]
    painted = torch.zeros(h, w)
    painted[top - 1 : bottom, left - 1 : right] = 1.0
    painted /= painted.sum()
    own = _trace(shown, image)
    step = min(step, len(own.tokens))
    before = own.tokens[: step - 1].tolist()
    mine = _trace(shown, image, given=before, attention={step - 1: painted.flatten()})
    p_own, p_mine = own.probability[step - 1], mine.probability[step - 1]
    best = torch.maximum(p_own, p_mine).argsort(descending=True, stable=True)[:bars]
    names, said = vocabulary.decode(best), ", ".join(vocabulary.decode(before)) or "nothing"
    both = {"its own": p_own, "painted": p_mine}
    figure = attention_view(
        open_image(record.path),
        painted.flatten(),
        shown.cells,
        {name: dict(zip(names, p[best].tolist(), strict=True)) for name, p in both.items()},
        highest=float(painted.max()),
        titles=(f"said so far: {said}", f"painted for step {step}", "next label"),
    )
    was, now = (vocabulary.decode([int(p.argmax())])[0] for p in (p_own, p_mine))
    moved = float((p_own - p_mine).abs().sum()) / 2
    text = (
        f"Step {step}: by itself it says {was} ({float(p_own.max()):.2f}), with the painted attention {now} "
        f"({float(p_mine.max()):.2f}). {moved:.0%} of the probability has moved."
    )
    return figure, text


def attention_painter(
    shown: Examples,
    *,
    image: int = 0,
) -> View:
    """Paint the attention of one step yourself and see the next label change; see `painted_figure`."""
    h, w = shown.cells
    position = image_slider(len(shown.records), image)
    step = slider("IntSlider", "Step", value=1, min=1, max=shown.system.max_labels + 1)
    rows = slider("IntRangeSlider", "Rows", value=(1, max(1, h // 2)), min=1, max=h)
    columns = slider("IntRangeSlider", "Columns", value=(1, max(1, w // 2)), min=1, max=w)

    def draw(image: int, **painted: Any) -> tuple[Figure, str]:
        return painted_figure(shown, image=image - 1, **painted)

    controls = {"image": position, "step": step, "rows": rows, "columns": columns}
    return figure_view(draw, controls, rows=[[position, step], [rows, columns]])
