"""A beam search that keeps all it saw, for figures: which branches it followed, and where it gave one up. Notebook 06.

Figures of searches and of what they find: the tree of a beam, systems in order, calibration. Taught in notebook 06.

As in `helpers.plots`, every function returns a `matplotlib.figure.Figure`.

The tables of judged systems, to be looked through. Notebook 06.

A beam search as a tree to be explored. Taught in notebook 06.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.decoders.base import Decoder, State
from helpers.decoders.search import check_steps, greedy, step_log_probabilities
from helpers.metrics.intervals import Interval
from helpers.plots import LINES, MARKERS, PALETTE, draw_image, new_figure
from lessons.views import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


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
    """Beam search of one image, with all that it weighed up. The winner is that of `beam`. Taught in notebook 06.

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
    live, state, best = [ROOT], decoder.start(features), None
    path: list[int] = []  # greedy search, as far as the beam went with it
    for step in range(1, max_steps + 1):
        log_p, state = _next(decoder, branches, live, state)
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
        if not going:
            break
        live = [place for _, place in going]
        state = state.select_hidden(torch.tensor([row for row, _ in going], device=log_p.device))
    for step in range(len(path) + 1, len(wanted) + 1):
        p = float(alone.step_probability[0, step - 1])
        parent = path[-1]
        log_probability = branches[parent].log_probability + float(torch.tensor(p).log())
        path.append(len(branches))
        branches.append(Branch(parent, wanted[step - 1], step, p, log_probability, "alone"))
    assert best is not None  # at max_steps everything that is left ends
    return SearchTree(tuple(branches), best, tuple(path))


def _next(
    decoder: Decoder, branches: Sequence[Branch], live: Sequence[int], state: State
) -> tuple[Tensor, State]:
    """log P of the next token after each live branch, (R, V), nothing named twice; and the next state."""
    device = state.hidden[0].device
    tokens = torch.tensor([branches[i].token for i in live], device=device)
    logits, state, _ = decoder.step(tokens, state)
    taken = torch.zeros(logits.shape, dtype=torch.bool, device=device)
    for row, place in enumerate(live):
        while place != ROOT:
            taken[row, branches[place].token] = True
            place = branches[place].parent
    return step_log_probabilities(logits, taken, allow_stop=True), state


WINNER, GREEDY = PALETTE[0], PALETTE[1]


FACES = {"live": "#ffffff", "ended": "#f8e3b5", "cut": "#e6e6e6", "hopeless": "#e6e6e6", "alone": "#ffffff"}


FAINT = "#8a8a8a"


def tree(
    found: SearchTree, names: Sequence[str], image=None, *, true: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """A beam search as a tree from left to right, a column a step; the winner and greedy search stand out. Notebook 06.

    names: of every token, `<start>` too. image: drawn beside it. true: the image's labels; others get a cross.
    """
    heights = _heights(found)
    steps = max(branch.step for branch in found.branches)
    rows = max(heights.values()) + 1
    size = (2.1 * steps + 1.2, max(3.9, 0.34 * rows + 1.1))
    if image is None:
        figure, axes = new_figure(size=size)
    else:
        figure, axes = new_figure(1, 2, size=(size[0] + 2.6, size[1]), width_ratios=(2.4, size[0]))
        draw_image(axes[0, 0], image)
    ax = axes[0, -1]
    ends = {i: (2.1 * branch.step, heights[i]) for i, branch in enumerate(found.branches)}
    _edges(ax, found, ends)
    for i, branch in enumerate(found.branches):
        name = names[branch.token]
        wrong = true is not None and name not in true and not name.startswith("<")
        text = (
            name
            if i == ROOT
            else f"{name}{' ✗' if wrong else ''}  {_short(math.exp(branch.log_probability))}"
        )
        faint = branch.fate in ("cut", "hopeless")
        edge = WINNER if i == found.best else FAINT if faint else "black"
        edge = GREEDY if branch.fate == "alone" else edge
        box = {"boxstyle": "round,pad=0.25", "facecolor": FACES[branch.fate], "edgecolor": edge}
        box["linewidth"] = 2.5 if i == found.best else 1
        colour = "#595959" if faint else "black"
        ax.text(*ends[i], text, fontsize=11, ha="center", va="center", color=colour, bbox=box, zorder=3)
    ax.set(xlim=(-0.7, 2.1 * steps + 0.9), ylim=(rows - 0.3, -1.4))
    for step in range(1, steps + 1):
        ax.text(2.1 * step, -1.0, f"step {step}", fontsize=12, ha="center", va="center")
    ax.set_axis_off()
    figure.suptitle(title, fontsize=13)
    figure.legend(
        handles=_legend(),
        loc="outside lower center",
        ncols=3 if figure.get_figwidth() > 9 else 2,
        frameon=False,
        fontsize=11,
    )
    return figure


def _short(p: float) -> str:
    """A probability with two digits that say something."""
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}" if p >= 0.0095 else f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def _heights(found: SearchTree) -> dict[int, float]:
    """Rows of the branches: a leaf has one of its own, the others stand in the middle of what follows them."""
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


def _edges(ax: Axes, found: SearchTree, ends: Mapping[int, tuple[float, float]]) -> None:
    """A line to every branch; the winner's and those of greedy search on top."""
    thin, thick, dashed = (
        {"color": FAINT, "lw": 1},
        {"color": WINNER, "lw": 5, "alpha": 0.55},
        {"color": GREEDY, "lw": 2.2, "ls": "--"},
    )
    layers = (
        (range(1, len(found.branches)), thin, 1),
        (found.path(found.best), thick, 1.1),
        (found.greedy, dashed, 1.2),
    )
    for places, style, order in layers:
        for i in places:
            (x, y), (u, v) = ends[found.branches[i].parent], ends[i]
            middle = u - 0.85  # flat to a point in front of the box, so that lines do not run under boxes
            ax.plot([x, x + 0.55, middle, u], [y, y, v, v], zorder=order, **style)


def _legend() -> list[Any]:
    def face(fate: str, text: str, edge: str = "black") -> Patch:
        return Patch(facecolor=FACES[fate], edgecolor=edge, label=text)

    return [
        Line2D([], [], color=WINNER, lw=5, alpha=0.55, label="most probable sequence found"),
        Line2D([], [], color=GREEDY, lw=2.2, ls="--", label="greedy search"),
        face("alone", "greedy search, after the beam left it", GREEDY),
        face("live", "goes on"),
        face("ended", "complete: a candidate"),
        face("cut", "given up", FAINT),
    ]


def leaderboard(
    systems: Mapping[str, Mapping[str, Interval]],
    seeds: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
) -> Figure:
    """Systems as rows, a panel a metric: a dot with its interval over the images, rings for training seeds. Notebook 06.

    systems: name -> metric -> interval; all with the same metrics. seeds: name -> metric -> values of all seeds.
    """
    metrics = list(next(iter(systems.values())))
    figure, axes = new_figure(
        1, len(metrics), size=(3.7 * len(metrics) + 1.4, 1.9 + 0.46 * len(systems)), sharey=True
    )
    for ax, metric in zip(axes[0], metrics, strict=True):
        for row, (name, values) in enumerate(systems.items()):
            one = values[metric]
            ax.plot(
                [100 * one.low, 100 * one.high], [row, row], color=PALETTE[0], lw=3, solid_capstyle="butt"
            )
            ax.plot(100 * one.value, row, "o", color=PALETTE[0], markersize=8)
            others = [100 * value for value in seeds[name][metric]]
            ax.plot(
                others, [row + 0.3] * len(others), "o", color="black", markerfacecolor="white", markersize=5
            )
        ax.set(xlabel=f"{metric.replace('_', ' ')} (percent)", ylim=(len(systems) - 0.5, -0.5))
        ax.grid(axis="x", color="0.88")
        ax.set_axisbelow(True)
    axes[0, 0].set_yticks(range(len(systems)), list(systems))
    handles = [
        Line2D(
            [],
            [],
            color=PALETTE[0],
            lw=3,
            marker="o",
            markersize=8,
            label="first seed, 95 % of the draws of images",
        ),
        Line2D(
            [],
            [],
            color="black",
            marker="o",
            markerfacecolor="white",
            ls="",
            markersize=5,
            label="one training seed",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    figure.suptitle(title, fontsize=13)
    return figure


def reliability(systems: Mapping[str, dict[str, Any]], *, title: str, columns: int = 3) -> Figure:
    """Share of cases that are right against the probability that was claimed, a panel a system. Notebook 06.

    systems: name -> what `evaluation.calibration` returns. The area of a dot grows with its cases.
    """
    rows = -(-len(systems) // columns)
    figure, axes = new_figure(rows, columns, size=(4.1 * columns, 3.9 * rows + 0.4), sharex=True, sharey=True)
    for k, ax in enumerate(axes.flat):
        if k >= len(systems):
            ax.set_axis_off()
            continue
        name, found = list(systems.items())[k]
        ax.plot([0, 1], [0, 1], color="0.6", linestyle="--")
        bins = found["bins"]
        x, y = [b["probability"] for b in bins], [b["correct"] for b in bins]
        ax.plot(x, y, color=PALETTE[0], lw=1.5)
        ax.scatter(
            x, y, s=[20 + 500 * b["cases"] / found["cases"] for b in bins], color=PALETTE[0], alpha=0.75
        )
        text = f"claims {found['probability']:.2f}\nright {found['correct']:.2f}\nerror {found['error']:.2f}"
        ax.text(0.04, 0.96, text, fontsize=11, va="top", transform=ax.transAxes)
        ax.set(title=name, xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        if k // columns == rows - 1:
            ax.set_xlabel("probability claimed")
        if k % columns == 0:
            ax.set_ylabel("share exactly right")
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
    """What the best of k candidates claims where it was chosen (solid), and is worth elsewhere (dashed). Notebook 06.

    number: k, ascending. reported, worth: who chose -> a value for every k.
    """
    figure, axes = new_figure(size=(7.5, 4.3))
    ax = axes[0, 0]
    for i, name in enumerate(reported):
        for values, line, what in (
            (reported[name], LINES[0], "reported"),
            (worth[name], LINES[1], "on other images"),
        ):
            ax.plot(number, values, line, color=PALETTE[i], marker=MARKERS[i], label=f"{name}: {what}")
    ax.set_xscale("log")
    ax.set_xticks(number, [str(k) for k in number])
    ax.minorticks_off()
    ax.set(xlabel="candidates to choose from", ylabel=ylabel, title=title)
    ax.legend(frameon=False, fontsize=11, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


TABLES = {
    "metrics": "all metrics",
    "by_frequency": "by label frequency",
    "by_set_size": "by set size",
    "by_label": "by label",
}


def rows_of(one: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """A table of one judged system (of `evaluation.report`) as rows with equal keys."""
    if table == "metrics":
        return [{"metric": name, **value} for name, value in one["metrics"].items()]
    return one[table]


def as_html(rows: Sequence[dict[str, Any]], sort: str, *, descending: bool = True, most: int = 40) -> str:
    """Rows as an HTML table, sorted by a column; at most so many, with a line that says so."""
    columns = list(rows[0])
    known = [row for row in rows if row[sort] is not None]
    shown = sorted(known, key=lambda row: row[sort], reverse=descending)
    shown += [row for row in rows if row[sort] is None]

    def cell(value: Any) -> str:
        text = (
            "–" if value is None else f"{value:.3f}" if isinstance(value, float) else html.escape(str(value))
        )
        return f"<td style='padding:1px 10px;text-align:{'left' if isinstance(value, str) else 'right'}'>{text}</td>"

    head = "".join(f"<th style='padding:1px 10px'>{html.escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(cell(row[name]) for name in columns)}</tr>" for row in shown[:most])
    rest = f"<p>{len(shown) - most} more rows are not shown.</p>" if len(shown) > most else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def results_browser(result: dict[str, Any]) -> VBox:
    """Choose a system, a table and the column to sort by; result: of `evaluate.evaluate`. Notebook 06."""
    from ipywidgets import HTML, Checkbox, Dropdown, HBox, VBox

    systems = {one["name"]: one for one in result["systems"]}
    system = Dropdown(options=list(systems), description="system")
    table = Dropdown(options=[(text, key) for key, text in TABLES.items()], description="table")
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
        figure = tree(found, names, open_image(record.path), true=record.labels, title=title)
        return figure, describe(found, vocabulary)

    return figure_view(draw, {"who": who, "image": image, "width": width}, rows=[[who, image, width]])
