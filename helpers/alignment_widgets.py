"""The interactive view of notebook 05: edit what a decoder says, and see what each kind of target makes of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers.alignment import align, alignment_cost
from helpers.alignment_plots import alignment_view
from helpers.widgets import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox

NAMES = ("sun", "tree", "bird")
OTHER = "other"  # all that is not in the set, `<stop>` included
# What a decoder might say: for each step the weights of the three labels and of the rest.
PRESETS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "right, in another order": ((10, 5, 80, 5), (80, 5, 10, 5), (5, 85, 5, 5)),
    "the likeliest is not the cheapest": ((50, 45, 0, 5), (90, 5, 0, 5), (5, 5, 85, 5)),
    "says the sun twice": ((70, 10, 15, 5), (60, 10, 25, 5), (20, 50, 20, 10)),
    "says nothing of the set": ((20, 5, 10, 65), (10, 5, 25, 60), (5, 15, 10, 70)),
    "has no idea": ((25, 25, 25, 25), (25, 25, 25, 25), (25, 25, 25, 25)),
}
LEAST = 0.005  # of probability: log 0 would be infinite


def step_probabilities(weights: Sequence[Sequence[float]]) -> Tensor:
    """Weights (n, n + 1), not negative -> probabilities of the same shape; a row without weight is uniform."""
    found = torch.as_tensor(weights, dtype=torch.float64)
    if found.ndim != 2 or found.shape[1] != found.shape[0] + 1 or bool((found < 0).any()):
        raise ValueError(f"expected weights (n, n + 1), none negative, found {tuple(found.shape)}")
    total = found.sum(1, keepdim=True)
    found = torch.where(total > 0, found / total.clamp(min=1e-12), 1 / found.shape[1]).clamp(min=LEAST)
    return found / found.sum(1, keepdim=True)


def targets_by_hand(
    probability: Tensor, fixed: Sequence[int]
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """The targets of a fixed order, of PLA and of MLA, and what they cost in nats. Taught in notebook 05.

    probability: (n, n + 1), of the n labels and of all else at each of n steps. fixed: an order of 0..n-1.
    """
    n = len(probability)
    # Outputs: n labels, all else, <stop>. The last step says <stop>, which is the same for all three.
    outputs = torch.full((1, n + 1, n + 2), 1e-12, dtype=torch.float64)
    outputs[0, :n, : n + 1] = probability
    outputs[0, n, n + 1] = 1.0
    labels, lengths = torch.tensor([[*fixed, n + 1]]), torch.tensor([n])
    targets = {"fixed order": labels, **{
        name: align(outputs.log(), labels, lengths, name.lower()) for name in ("PLA", "MLA")
    }}  # fmt: skip
    costs = {name: float(alignment_cost(outputs.log(), found, lengths)) for name, found in targets.items()}
    return {name: found[0, :n].tolist() for name, found in targets.items()}, costs


def targets_figure(
    weights: Sequence[Sequence[float]], *, names: Sequence[str] = NAMES, fixed: Sequence[int] = (0, 1, 2)
) -> tuple[Figure, str]:
    """What a decoder says at each step, the targets of a fixed order, PLA and MLA, and their losses. Notebook 05.

    weights: (n, n + 1), of the n labels and of all else, any scale. fixed: the fixed order, as places in `names`.
    Returns the figure and the three orders in words.
    """
    probability = step_probabilities(weights)
    if sorted(fixed) != list(range(len(probability))) or len(names) != len(probability):
        raise ValueError(
            f"{len(probability)} steps need as many names and an order of all, found {list(fixed)}"
        )
    targets, costs = targets_by_hand(probability, fixed)
    figure = alignment_view(
        probability,
        [f"step {t + 1}" for t in range(len(names))],
        [*names, OTHER],
        targets,
        costs,
        title="what the decoder says",
        colour_label="probability",
        highest=1.0,
    )
    said = [[*names, OTHER][j] for j in probability.argmax(1).tolist()]
    told = [
        f"{name}: {', '.join(names[j] for j in order)} ({costs[name]:.2f})" for name, order in targets.items()
    ]
    return figure, f"Said: {', '.join(said)}. Targets and their cost in nats: {'; '.join(told)}."


def target_editor(*, names: Sequence[str] = NAMES, preset: str = next(iter(PRESETS))) -> VBox:
    """Move the probabilities of three steps, and see the targets and losses of three methods. Notebook 05.

    preset: one of `PRESETS`, shown at first. The weights of a step need not sum to 100: they are shared out.
    Raises ValueError for an unknown preset.
    """
    import ipywidgets

    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    wide = {"description_width": "initial"}
    sliders = [
        [
            ipywidgets.IntSlider(
                value=weight, max=100, step=5, description=name, continuous_update=False, readout=True,
                layout={"width": "210px"}, style={"description_width": "45px"},
            )
            for name, weight in zip([*names, OTHER], row, strict=True)
        ]
        for row in PRESETS[preset]
    ]  # fmt: skip
    presets = ipywidgets.Dropdown(options=list(PRESETS), value=preset, description="Example", style=wide)
    orders = [
        (", ".join(names[j] for j in order), order) for order in itertools.permutations(range(len(names)))
    ]
    fixed = ipywidgets.Dropdown(options=orders, description="Fixed order", style=wide)
    # The picture hangs on this one alone: an example moves twelve sliders, and is drawn once.
    weights = ipywidgets.Label(layout={"display": "none"})

    def collect(_: object = None) -> None:
        weights.value = json.dumps([[slider.value for slider in row] for row in sliders])

    def choose(_: object) -> None:
        for row, values in zip(sliders, PRESETS[presets.value], strict=True):
            for slider, value in zip(row, values, strict=True):
                slider.unobserve(collect, names="value")
                slider.value = value
                slider.observe(collect, names="value")
        collect()

    for slider in itertools.chain(*sliders):
        slider.observe(collect, names="value")
    presets.observe(choose, names="value")
    collect()

    def draw(weights: str, fixed: tuple[int, ...]) -> tuple[Figure, str]:
        return targets_figure(json.loads(weights), names=names, fixed=fixed)

    rows = [[presets, fixed, weights]]
    rows += [[ipywidgets.Label(f"step {t + 1}"), *row] for t, row in enumerate(sliders)]
    view = figure_view(draw, {"weights": weights, "fixed": fixed}, rows=rows)
    view.sliders, view.presets = sliders, presets
    return view
