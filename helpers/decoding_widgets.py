"""An interactive view of a decoding, step by step, in which one may say other labels. Taught in notebook 03."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers import decoding_plots
from helpers.batch import Features
from helpers.decoders import Decoder
from helpers.images import open_image
from helpers.labels import STOP_NAME, Vocabulary
from helpers.records import Record
from helpers.tracing import FREE, follow
from helpers.widgets import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


def step_by_step(
    decoder: Decoder,
    features: Features,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> VBox:
    """Walk through a decoding: the five best labels of a step; say another one and see what follows. Notebook 03.

    features: of the B images `records`, as the decoder takes them. max_labels: labels named at most.
    The choice stays when you go to another step, and is dropped with another image or "Start again".
    """
    import ipywidgets

    steps = max_labels + 1
    alone = follow(decoder, features, max_steps=steps)
    wide = {"description_width": "initial"}
    image = ipywidgets.IntSlider(min=1, max=len(records), description="Image", continuous_update=False)
    step = ipywidgets.IntSlider(min=1, max=steps, description="Step", continuous_update=False)
    options = [("what the decoder chooses", FREE)]
    options += [(name, i) for i, name in enumerate(vocabulary.decode(range(vocabulary.num_outputs)))]
    say = ipywidgets.Dropdown(options=options, value=FREE, description="Say at this step", style=wide)
    again = ipywidgets.Button(description="Start again", icon="refresh")
    chosen = ipywidgets.Label()  # in words, and a control, so that what is dropped is drawn
    forced: dict[int, int] = {}  # step from 0 -> token

    def tell() -> None:
        words = [f"{vocabulary.decode([forced[t]])[0]} at step {t + 1}" for t in sorted(forced)]
        chosen.value = f"You say {', '.join(words)}." if words else "The decoder chooses everything."

    def choose(_: object) -> None:
        forced.pop(step.value - 1, None)
        if say.value != FREE:
            forced[step.value - 1] = say.value
        tell()

    def turn(_: object) -> None:
        say.value = forced.get(step.value - 1, FREE)

    def restart(_: object) -> None:
        forced.clear()
        say.value = FREE
        tell()

    say.observe(choose, names="value")  # all before `figure_view` observes: what it draws must be settled
    step.observe(turn, names="value")
    image.observe(restart, names="value")
    again.on_click(restart)
    tell()

    def draw(image: int, step: int, say: int, chosen: str) -> tuple[Figure, str]:
        record, at = records[image - 1], torch.tensor([image - 1])
        wanted = [forced.get(t, FREE) for t in range(steps)]
        found = follow(decoder, features.select(at), max_steps=steps, forced=[wanted])
        own, mine = (until_stop(tokens, vocabulary) for tokens in (alone.tokens[image - 1], found.tokens[0]))
        paths = {"decoder alone": [(name, False) for name in own]}
        if forced:
            paths["with your choices"] = [(name, t in forced) for t, name in enumerate(mine)]
        top = []
        if step <= len(mine):
            values, ids = found.probability[0, step - 1].topk(min(5, vocabulary.num_outputs))
            names = vocabulary.decode(ids)
            top = [
                decoding_plots.NamedLabel(name, p, None if i == vocabulary.stop else name in record.labels)
                for name, p, i in zip(names, values.tolist(), ids.tolist(), strict=True)
            ]
        text = f"True labels: {', '.join(record.labels) or 'none'}. The decoder alone says: {', '.join(own)}."
        text += f" With your choices: {', '.join(mine)}." if forced else ""
        return decoding_plots.step_view(open_image(record.path), paths, top, step=step), text

    return figure_view(
        draw,
        {"image": image, "step": step, "say": say, "chosen": chosen},
        rows=[[image, step], [say, again, chosen]],
    )


def until_stop(tokens: Tensor, vocabulary: Vocabulary) -> list[str]:
    """The names of tokens (T,) int64 up to the first `<stop>`, which is among them. Notebooks 03 and 03b."""
    names = vocabulary.decode(tokens)
    return names[: names.index(STOP_NAME) + 1] if STOP_NAME in names else names
