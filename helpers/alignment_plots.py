"""Figures of order-free targets: which step gets which label, what that costs, and which order training finds.

Taught in notebook 05. As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from helpers.plots import PALETTE, draw_image, new_figure

# From white to a blue on which black is still read: numbers stand in the cells, and frames around them.
PALE = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#8cc3e6"])
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", PALETTE[0], "#00213a"])
# Frames differ in colour and in their line. The order is that of the choices: for instance fixed, PLA, MLA.
FRAMES = ((PALETTE[3], "-"), ("#005c43", (0, (4, 1.5))), ("#000000", (0, (1, 1.2))), (PALETTE[4], "-."))


def alignment_view(
    values,
    steps: Sequence[str],
    labels: Sequence[str],
    choices: Mapping[str, Sequence[int]],
    costs: Mapping[str, float],
    *,
    title: str,
    colour_label: str,
    image=None,
    highest: float | None = None,
) -> Figure:
    """A matrix of steps and labels, a frame where a target lies, and bars of what the targets cost. Notebook 05.

    values: (n, m) numbers, written into the cells: costs, or probabilities. steps: n names. labels: m names.
    choices: name -> for each step the column that is its target, -1 for none. They are drawn as nested frames.
    costs: name -> nats, a bar each, in the colour of its frame.
    image: drawn at the left, if given. highest: the value with the fullest colour; default the largest.
    """
    values = np.asarray(values, dtype=float)
    if values.shape != (len(steps), len(labels)):
        raise ValueError(f"{len(steps)} steps and {len(labels)} labels do not fit values {values.shape}")
    if list(choices) != list(costs) or len(choices) > len(FRAMES) or not choices:
        raise ValueError(f"expected 1 to {len(FRAMES)} choices and a cost for each, in the same order")
    wide = 1.0 + 1.05 * len(labels)
    widths = ([2.6] if image is not None else []) + [wide, 2.9]
    figure, axes = new_figure(
        1, len(widths), size=(sum(widths) + 1.6, max(3.3, 1.7 + 0.55 * len(steps))), width_ratios=widths
    )
    if image is not None:
        draw_image(axes[0, 0], image)
    ax, bars = axes[0, -2:]
    drawn = ax.imshow(
        values, cmap=PALE, vmin=0, vmax=highest or max(1e-9, float(values.max())), aspect="auto"
    )
    for t, row in enumerate(values):
        for j, value in enumerate(row):
            ax.text(j, t, f"{value:.2f}", ha="center", va="center", fontsize=12)
    for k, chosen in enumerate(choices.values()):
        inset, (colour, line) = 0.03 + 0.08 * k, FRAMES[k]
        for t, j in enumerate(chosen):
            if j >= 0:
                ax.add_patch(
                    Rectangle(
                        (j - 0.5 + inset, t - 0.5 + inset), 1 - 2 * inset, 1 - 2 * inset,
                        fill=False, edgecolor=colour, linestyle=line, linewidth=2.4,
                    )
                )  # fmt: skip
    ax.set_xticks(range(len(labels)), labels, rotation=30 if max(map(len, labels)) > 7 else 0)
    ax.set_yticks(range(len(steps)), steps)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.03).set_label(colour_label, fontsize=12)

    for k, cost in enumerate(costs.values()):
        colour, line = FRAMES[k]
        bars.barh(k, cost, 0.62, color=PALE(0.5), edgecolor=colour, linestyle=line, linewidth=2.4)
        bars.text(cost, k, f"  {cost:.2f}", ha="left", va="center", fontsize=12)
    bars.set_yticks(range(len(costs)), list(costs))
    bars.set_ylim(len(costs) - 0.4, -0.6)
    bars.set_xlim(0, 1.3 * max(1e-9, *costs.values()))
    bars.set(xlabel="nats", title="what the targets cost")
    return figure


def duration_curves(series: Mapping[str, Mapping[int, float]], *, title: str, ylabel: str) -> Figure:
    """Seconds by the size of the set, on a logarithmic axis. Notebook 05.

    series: name -> {size: seconds}; a method may end before the others.
    """
    if not series or not all(series.values()):
        raise ValueError("there is nothing to draw: give each method at least one duration")
    figure, axes = new_figure(size=(7.5, 4.4))
    ax = axes[0, 0]
    for k, (name, found) in enumerate(series.items()):
        ax.plot(list(found), list(found.values()), color=PALETTE[k], marker="osD^vPX*"[k], label=name)
    sizes = sorted({n for found in series.values() for n in found})
    ax.set_xticks(sizes)
    ax.set(yscale="log", xlabel="labels of the image, n", ylabel=ylabel, title=title)
    ax.grid(axis="y", color="#dddddd")
    ax.legend(fontsize=11, frameon=False)
    return figure


def run_curves(
    series: Mapping[str, Sequence[Sequence[float]]], *, xlabel: str, ylabel: str, title: str
) -> Figure:
    """A line for every single run, one colour and marker a name: for runs that go different ways. Notebook 05.

    series: name -> S runs of E values, for epochs 1 to E.
    """
    if not series or not all(len(runs) for runs in series.values()):
        raise ValueError("there are no runs to draw: give each name at least one")
    figure, axes = new_figure(size=(7, 4.2))
    ax = axes[0, 0]
    for k, (name, runs) in enumerate(series.items()):
        for i, values in enumerate(runs):
            ax.plot(
                range(1, len(values) + 1),
                values,
                color=PALETTE[k % (len(PALETTE) - 1)],
                marker="osD^vPX"[k % 7],
                markersize=5,
                label=name if i == 0 else None,
            )
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    figure.legend(loc="outside lower center", ncols=len(series), frameon=False, fontsize=11)
    return figure


def first_by_epoch(shares: Mapping[str, np.ndarray], labels: Sequence[str]) -> Figure:
    """Which label is named first, epoch by epoch: a panel a decoder, a row a label, a column an epoch. Notebook 05.

    shares: name -> (E, K), percent of the images in which label k is named first after epoch e + 1.
    """
    if not shares or any(np.asarray(share).shape[1:] != (len(labels),) for share in shares.values()):
        raise ValueError(f"expected shares of shape (E, {len(labels)}), a column for each of {list(labels)}")
    figure, axes = new_figure(1, len(shares), size=(3.6 * len(shares) + 1.6, 1.5 + 0.31 * len(labels)))
    highest = max(float(np.max(share)) for share in shares.values())
    for ax, (name, share) in zip(axes[0], shares.items(), strict=True):
        share = np.asarray(share, dtype=float).T  # (E, K) -> (K, E)
        drawn = ax.imshow(share, cmap=SHARES, vmin=0, vmax=highest, aspect="auto", interpolation="nearest")
        epochs = share.shape[1]
        ticks = [e for e in range(epochs) if e == 0 or (e + 1) % 5 == 0]
        ax.set_xticks(ticks, [e + 1 for e in ticks])
        ax.set_yticks(range(len(labels)), labels if ax is axes[0, 0] else [])
        ax.set(title=name, xlabel="epoch")
    bar = figure.colorbar(drawn, ax=axes[0].tolist(), fraction=0.04, pad=0.02)
    bar.set_label("named first, in % of images", fontsize=12)
    return figure
