"""A beam search as a tree to be explored. Taught in notebook 06."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from helpers import search_plots
from helpers.batch import Features
from helpers.decoders import Decoder
from helpers.images import open_image
from helpers.labels import Vocabulary
from helpers.records import Record
from helpers.search_tree import SearchTree, grow
from helpers.widgets import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


def describe(found: SearchTree, vocabulary: Vocabulary) -> str:
    """What a tree shows, in a sentence or two. Notebook 06."""
    names = [", ".join(vocabulary.decode(found.tokens(p))) for p in (found.path(found.best), found.greedy)]
    p, alone = (math.exp(found.branches[i].log_probability) for i in (found.best, found.greedy[-1]))
    text = f"The most probable sequence found is {names[0]} (P = {p:.3g})."
    if found.parting is None:
        return text + " Greedy search finds it, too."
    text += f" Greedy search says {names[1]} (P = {alone:.3g}): it parts at step {found.parting}"
    left = found.given_up
    return text + (
        f", and the beam gives it up at step {left.step}." if left else " and ends as a candidate."
    )


def tree_view(
    searches: Mapping[str, tuple[Decoder, Features]],
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
    widest: int = 5,
) -> VBox:
    """Choose a decoder, an image and a width, and see what the beam followed and what it gave up. Notebook 06.

    searches: name -> a decoder in eval mode, and the features of the images `records` as it takes them.
    """
    import ipywidgets

    names = vocabulary.decode(range(len(vocabulary) + 2))
    who = ipywidgets.Dropdown(options=list(searches), description="Decoder")
    image = ipywidgets.IntSlider(min=1, max=len(records), description="Image", continuous_update=False)
    width = ipywidgets.IntSlider(value=3, min=1, max=widest, description="Width", continuous_update=False)

    def draw(who: str, image: int, width: int) -> tuple[Figure, str]:
        decoder, features = searches[who]
        some, record = features.select(torch.tensor([image - 1])), records[image - 1]
        found = grow(decoder, some, width=width, max_steps=max_labels + 1)
        title = f"true labels: {', '.join(record.labels) or 'none'}"
        figure = search_plots.tree(found, names, open_image(record.path), true=record.labels, title=title)
        return figure, describe(found, vocabulary)

    return figure_view(draw, {"who": who, "image": image, "width": width}, rows=[[who, image, width]])
