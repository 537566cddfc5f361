"""Figures and views of notebook 07: the tree of a beam search, systems compared, calibration, tables of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd  # with seaborn
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.decoders.base import Decoder, unroll
from helpers.decoders.search import check_steps, greedy, log_probabilities
from helpers.metrics.intervals import Interval
from helpers.plots import GREY, PALETTE, draw_image, new_figure
from lessons.figures import curves
from lessons.views import View, choice, figure_view, image_slider, slider

ROOT = 0  # place of `<start>` in a tree


class Branch(NamedTuple):
    """A sequence of a tree, by its last token.

    parent: place in the tree of the sequence it continues, -1 for `<start>`. step: tokens up to it, 0 for `<start>`.
    probability: of the token at its step. log_probability: of the whole sequence, natural logarithm.
    fate: "live", it went on in the beam; "ended", it is complete and a candidate; "cut", it was not among the best
        `width` of its step; "hopeless", it was, but a candidate is more probable already; "alone", only greedy search
        goes here.
    """

    parent: int
    token: int
    step: int
    probability: float
    log_probability: float
    fate: str


@dataclass(frozen=True)
class SearchTree:
    """What a beam search saw of one image. Made by `grow`.

    branches: `<start>` first, then step by step, the most probable first. best: place of the winner's last token.
    greedy: places of the tokens of greedy search, from its first label on.
    """

    branches: tuple[Branch, ...]
    best: int
    greedy: tuple[int, ...]

    def path(self, place: int) -> list[int]:
        """Places from the first token to this one."""
        found = []
        while place != ROOT:
            found.append(place)
            place = self.branches[place].parent
        return found[::-1]

    def tokens(self, places: Sequence[int]) -> list[int]:
        """The token ids at these places."""
        return [self.branches[place].token for place in places]

    @property
    def parting(self) -> int | None:
        """The step at which greedy search goes another way than the winner, from 1; None where they agree."""
        for step, (mine, theirs) in enumerate(zip(self.greedy, self.path(self.best), strict=False), start=1):
            if mine != theirs:
                return step
        return None

    @property
    def given_up(self) -> Branch | None:
        """The branch of greedy search that the beam left, None where greedy search ends as a candidate."""
        leaving = (self.branches[i] for i in self.greedy if self.branches[i].fate in ("cut", "hopeless"))
        return next(leaving, None)


@torch.inference_mode()
def grow(decoder: Decoder, features: Features, *, width: int, max_steps: int, others: int = 2) -> SearchTree:
    """Beam search of one image that keeps what it saw. The winner is that of `beam`.

    features: of one image, as the decoder takes them. width: sequences that survive a step. max_steps: labels and
    `<stop>` at most. others: sequences kept in the tree at every step beside those that survive. No label is named
    twice. Call `decoder.eval()` before. Raises ValueError for more than one image, a width or others that cannot be.
    """
    if len(features.pooled) != 1:
        raise ValueError(
            f"a tree is of one image, found {len(features.pooled)}: features.select(…) takes one"
        )
    if width < 1 or others < 0:
        raise ValueError(f"width is {width} and others {others}; expected at least 1 and at least 0")
    check_steps(decoder, max_steps, 0, repeats=False)
    alone = greedy(decoder, features, max_steps=max_steps)
    wanted = alone.tokens[0].tolist()[: int(alone.lengths[0]) + 1]
    branches = [Branch(-1, decoder.start_token, 0, 1.0, 0.0, "live")]
    live, best, step = [ROOT], None, 0
    path: list[int] = []  # greedy search, as far as the beam went with it

    def extend(scores: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that survive a step, and the rows that they continue."""
        nonlocal live, best, step
        step += 1
        log_p = log_probabilities(scores)
        before = torch.tensor([branches[i].log_probability for i in live], device=log_p.device)
        total, places = (before[:, None] + log_p).flatten().sort(descending=True, stable=True)
        reached: list[tuple[int, int]] = []  # row that it continues, place
        for rank, (value, place) in enumerate(zip(total.tolist(), places.tolist(), strict=True)):
            row, token = divmod(place, log_p.shape[1])
            end = path[-1] if path else ROOT
            follows = live[row] == end and len(path) == step - 1 and wanted[step - 1 : step] == [token]
            if value == -torch.inf or (rank >= width + others and not follows):
                continue
            done = token == decoder.stop_token or step == max_steps
            fate = "cut" if rank >= width else "ended" if done else "live"
            if follows:
                path.append(len(branches))
            if fate == "ended" and (best is None or value > branches[best].log_probability):
                best = len(branches)
            if fate == "live":
                reached.append((row, len(branches)))
            branches.append(Branch(live[row], token, step, float(log_p[row, token].exp()), value, fate))
        going = []
        for row, place in reached:
            if best is not None and branches[place].log_probability <= branches[best].log_probability:
                branches[place] = branches[place]._replace(fate="hopeless")
            else:
                going.append((row, place))
        live = [place for _, place in going]
        tokens = [branches[place].token for place in live]
        rows = [row for row, _ in going]
        return tuple(torch.tensor(x, dtype=torch.int64, device=log_p.device) for x in (tokens, rows))

    for _ in unroll(decoder, features, extend, steps=max_steps, repeats=False):
        if not live:
            break
    for step in range(len(path) + 1, len(wanted) + 1):
        p = float(alone.step_probability[0, step - 1])
        parent = path[-1]
        log_probability = branches[parent].log_probability + float(torch.tensor(p).log())
        path.append(len(branches))
        branches.append(Branch(parent, wanted[step - 1], step, p, log_probability, "alone"))
    assert best is not None  # at max_steps everything that is left ends
    return SearchTree(tuple(branches), best, tuple(path))


WINNER, GREEDY = PALETTE[0], PALETTE[1]
FACES = {"live": "#ffffff", "ended": "#f8e3b5", "cut": "#e6e6e6", "hopeless": "#e6e6e6", "alone": "#ffffff"}
EDGES = {"live": "black", "ended": "black", "cut": GREY, "hopeless": GREY, "alone": GREEDY}
# Lines to the branches: all, the winner's, those of greedy search.
THIN = {"color": GREY, "lw": 1}
THICK = {"color": WINNER, "lw": 5, "alpha": 0.55}
DASHED = {"color": GREEDY, "lw": 2.2, "ls": "--"}


def tree(
    found: SearchTree,
    names: Sequence[str],
    image: Any = None,
    *,
    true: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """A beam search as a tree from left to right, one column per step; the winner and greedy search are highlighted.

    names: of every token, `<start>` too. image: drawn beside it. true: the image's labels; others get a cross.
    """
    heights = _heights(found)
    steps = max(branch.step for branch in found.branches)
    rows = max(heights.values()) + 1
    widths = [2.4] * (image is not None) + [2.1 * steps + 1.2]
    size = (sum(widths) + 0.2, max(3.9, 0.34 * rows + 1.1))
    figure, axes = new_figure(1, len(widths), size=size, width_ratios=widths)
    if image is not None:
        draw_image(axes[0, 0], image)
    ax = axes[0, -1]
    ends = {i: (2.1 * branch.step, heights[i]) for i, branch in enumerate(found.branches)}
    layers = (range(1, len(found.branches)), THIN), (found.path(found.best), THICK), (found.greedy, DASHED)
    for order, (places, style) in enumerate(layers):
        for i in places:
            (x, y), (u, v) = ends[found.branches[i].parent], ends[i]
            # Flat to a point in front of the box, so that lines do not run under boxes.
            ax.plot([x, x + 0.55, u - 0.85, u], [y, y, v, v], zorder=1 + order / 10, **style)
    for i, branch in enumerate(found.branches):
        name = names[branch.token]
        wrong = true is not None and name not in true and not name.startswith("<")
        text = f"{name}{' ✗' if wrong else ''}  {_short(math.exp(branch.log_probability))}"
        frame = {"boxstyle": "round,pad=0.25", "facecolor": FACES[branch.fate]}
        frame |= {"edgecolor": EDGES[branch.fate], "linewidth": 1}
        if i == found.best:
            frame |= {"edgecolor": WINNER, "linewidth": 2.5}
        colour = "#595959" if branch.fate in ("cut", "hopeless") else "black"
        style = {"fontsize": 11, "ha": "center", "va": "center", "color": colour, "zorder": 3}
        ax.text(*ends[i], name if i == ROOT else text, bbox=frame, **style)
    ax.set(xlim=(-0.7, 2.1 * steps + 0.9), ylim=(rows - 0.3, -1.4))
    for step in range(1, steps + 1):
        ax.text(2.1 * step, -1.0, f"step {step}", fontsize=12, ha="center", va="center")
    ax.set_axis_off()
    figure.suptitle(title, fontsize=13)
    fates = {
        "alone": "greedy search, after the beam left it",
        "live": "goes on",
        "ended": "complete: a candidate",
        "cut": "given up",
    }
    handles = [
        Line2D([], [], label="most probable sequence found", **THICK),
        Line2D([], [], label="greedy search", **DASHED),
        *(Patch(facecolor=FACES[f], edgecolor=EDGES[f], label=text) for f, text in fates.items()),
    ]
    columns = 3 if figure.get_figwidth() > 9 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=11)
    return figure


def _short(p: float) -> str:
    """A probability with two significant digits."""
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}" if p >= 0.0095 else f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def _heights(found: SearchTree) -> dict[int, float]:
    """Rows of the branches: a leaf has one of its own, the others are in the middle of what follows them."""
    children: dict[int, list[int]] = {}
    for i, branch in enumerate(found.branches):
        children.setdefault(branch.parent, []).append(i)
    heights: dict[int, float] = {}

    def place(i: int) -> None:
        mine = children.get(i, [])
        for child in mine:
            place(child)
        inner = [heights[child] for child in mine]
        heights[i] = (inner[0] + inner[-1]) / 2 if inner else float(sum(j not in children for j in heights))

    place(ROOT)
    return heights


def leaderboard(
    systems: Mapping[str, Mapping[str, Interval]],
    seeds: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
) -> Figure:
    """Systems as rows, one panel per metric: a dot with its interval over the images, rings for training seeds.

    systems: name -> metric -> interval; all with the same metrics. seeds: name -> metric -> values of all seeds.
    """
    metrics = list(next(iter(systems.values())))
    size = (3.7 * len(metrics) + 1.4, 1.9 + 0.46 * len(systems))
    figure, axes = new_figure(1, len(metrics), size=size, sharey=True)
    rows = np.arange(len(systems))
    dot = {"fmt": "o", "color": PALETTE[0], "markersize": 8, "elinewidth": 3}
    ring = {"color": "black", "marker": "o", "markerfacecolor": "white", "ls": "", "markersize": 5}
    for ax, metric in zip(axes[0], metrics, strict=True):
        found = [values[metric] for values in systems.values()]
        low, value, high = 100 * np.array([(one.low, one.value, one.high) for one in found]).T
        label = "first seed, 95 % of the draws of images"
        ax.errorbar(value, rows, xerr=(value - low, high - value), label=label, **dot)
        points = [(100 * v, row + 0.3) for row, name in enumerate(systems) for v in seeds[name][metric]]
        ax.plot(*zip(*points, strict=True), label="one training seed", **ring)
        ax.set(xlabel=f"{metric.replace('_', ' ')} (percent)", ylim=(len(systems) - 0.5, -0.5))
        ax.grid(axis="x", color="0.88")
        ax.set_axisbelow(True)
    axes[0, 0].set_yticks(rows, list(systems))
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    figure.suptitle(title, fontsize=13)
    return figure


def reliability(systems: Mapping[str, dict[str, Any]], *, title: str, columns: int = 3) -> Figure:
    """Share of cases that are right against the probability that was claimed, one panel per system.

    systems: name -> what `report.calibration` returns. The area of a dot grows with its cases.
    """
    rows = -(-len(systems) // columns)
    figure, axes = new_figure(rows, columns, size=(4.1 * columns, 3.9 * rows + 0.4), sharex=True, sharey=True)
    for ax in axes.flat[len(systems) :]:
        ax.set_axis_off()
    for k, (ax, (name, found)) in enumerate(zip(axes.flat, systems.items(), strict=False)):
        ax.plot([0, 1], [0, 1], color="0.6", linestyle="--")
        bins = found["bins"]
        x, y = [b["probability"] for b in bins], [b["correct"] for b in bins]
        ax.plot(x, y, color=PALETTE[0], lw=1.5)
        areas = [20 + 500 * b["cases"] / found["cases"] for b in bins]
        ax.scatter(x, y, s=areas, color=PALETTE[0], alpha=0.75)
        text = f"claims {found['probability']:.2f}\nright {found['correct']:.2f}\nerror {found['error']:.2f}"
        ax.text(0.04, 0.96, text, fontsize=11, va="top", transform=ax.transAxes)
        ax.set(title=name, xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        ax.set_xlabel("probability claimed" if k // columns == rows - 1 else "")
        ax.set_ylabel("share exactly right" if k % columns == 0 else "")
    figure.suptitle(title, fontsize=13)
    return figure


def optimism(
    number: Sequence[int],
    reported: Mapping[str, Sequence[float]],
    worth: Mapping[str, Sequence[float]],
    *,
    ylabel: str,
    title: str,
) -> Figure:
    """What the best of k candidates claims where it was chosen (solid), and is worth elsewhere (dashed).

    number: k, ascending. reported, worth: who chose -> a value for every k.
    """
    series = {f"{name}: reported": values for name, values in reported.items()}
    series |= {f"{name}: on other images": worth[name] for name in reported}
    texts = {"xlabel": "candidates to choose from", "ylabel": ylabel, "title": title}
    figure = curves(series, x=number, log_x=True, **texts)
    lines = figure.axes[0].lines
    for solid, dashed in zip(lines, lines[len(reported) :], strict=False):
        dashed.set(color=solid.get_color(), marker=solid.get_marker(), linestyle="--")
    figure.legends[0].remove()
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    return figure


TABLES = {
    "metrics": "all metrics",
    "by_frequency": "by label frequency",
    "by_set_size": "by set size",
    "by_label": "by label",
}


def rows_of(one: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """A table of one judged system (of `report.report`) as rows with equal keys."""
    if table == "metrics":
        return [{"metric": name, **value} for name, value in one["metrics"].items()]
    return one[table]


def as_html(rows: Sequence[dict[str, Any]], sort: str, *, descending: bool = True, most: int = 40) -> str:
    """Rows as an HTML table, sorted by a column; at most so many, with a line that says so."""
    table = pd.DataFrame(rows).sort_values(sort, ascending=not descending, kind="stable")
    rest = f"<p>{len(table) - most} more rows are not shown.</p>" if len(table) > most else ""
    return table.head(most).to_html(index=False, border=0, float_format="%.3f", na_rep="–") + rest


def results_browser(result: dict[str, Any]) -> Any:
    """Choose a system, a table and the column to sort by; result: of `evaluate.evaluate`. Returns a `VBox`."""
    from ipywidgets import HTML, Checkbox, Dropdown, HBox, VBox

    systems = {one["name"]: one for one in result["systems"]}
    system = choice("system", list(systems))
    table = choice("table", [(text, key) for key, text in TABLES.items()])
    sort = Dropdown(description="sort by")
    descending = Checkbox(value=False, description="highest first")
    view = HTML()

    def choose_columns(*_: Any) -> None:
        columns = list(rows_of(systems[system.value], table.value)[0])
        if tuple(sort.options) != tuple(columns):
            sort.options = columns  # sets its value, which draws
        draw()

    def draw(*_: Any) -> None:
        rows = rows_of(systems[system.value], table.value)
        if sort.value in rows[0]:
            view.value = as_html(rows, sort.value, descending=descending.value)

    for control in (system, table):
        control.observe(choose_columns, names="value")
    for control in (sort, descending):
        control.observe(draw, names="value")
    choose_columns()
    return VBox([HBox([system, table]), HBox([sort, descending]), view])


def describe(found: SearchTree, vocabulary: Vocabulary) -> str:
    """What a tree shows, in a sentence or two."""
    names = [", ".join(vocabulary.decode(found.tokens(p))) for p in (found.path(found.best), found.greedy)]
    p, alone = (math.exp(found.branches[i].log_probability) for i in (found.best, found.greedy[-1]))
    text = f"The most probable sequence found is {names[0]} (P = {p:.3g})."
    if found.parting is None:
        return text + " Greedy search finds it, too."
    left = found.given_up
    end = f", and the beam gives it up at step {left.step}." if left else " and ends as a candidate."
    return f"{text} Greedy search says {names[1]} (P = {alone:.3g}): it parts at step {found.parting}{end}"


def tree_view(
    searches: Mapping[str, tuple[Decoder, Features]],
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
    widest: int = 5,
) -> View:
    """Choose a decoder, an image and a width, and see what the beam followed and what it gave up.

    searches: name -> a decoder in eval mode, and the features of the images `records` as it takes them.
    """
    names = vocabulary.decode(range(len(vocabulary) + 2))
    who, image = choice("Decoder", list(searches)), image_slider(len(records))
    width = slider("IntSlider", "Width", value=3, min=1, max=widest)

    def draw(who: str, image: int, width: int) -> tuple[Figure, str]:
        decoder, features = searches[who]
        some, record = features.select(torch.tensor([image - 1])), records[image - 1]
        found = grow(decoder, some, width=width, max_steps=max_labels + 1)
        title = f"true labels: {', '.join(record.labels) or 'none'}"
        figure = tree(found, names, open_image(record.path), true=record.labels, title=title)
        return figure, describe(found, vocabulary)

    return figure_view(draw, {"who": who, "image": image, "width": width}, rows=[[who, image, width]])
