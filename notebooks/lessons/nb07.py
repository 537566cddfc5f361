"""Figures and views of notebook 07: the tree of a beam search, sequences beside sets, what a wider beam changes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import Vocabulary, to_multi_hot
from helpers.data.records import Record
from helpers.decoders.base import Decoder, unroll
from helpers.decoders.beam import Beams, beam
from helpers.decoders.probability import set_log_probability
from helpers.decoders.search import check_steps, greedy, log_probabilities
from helpers.plots import GREY, PALETTE, draw_bars, draw_image, new_figure, show, wrapped
from lessons.figures import draw_curves, grouped_bars
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


WINNER, GREEDY = PALETTE[0], PALETTE[3]
FACES = {"live": "#ffffff", "ended": "#f8e3b5", "cut": "#e6e6e6", "hopeless": "#e6e6e6", "alone": "#ffffff"}
EDGES = {"live": "black", "ended": "black", "cut": GREY, "hopeless": GREY, "alone": GREEDY}
# Lines to the branches: all, the winner's, those of greedy search.
THIN = {"color": GREY, "lw": 1}
THICK = {"color": WINNER, "lw": 6, "alpha": 0.5}
DASHED = {"color": GREEDY, "lw": 2.2, "ls": "--"}
WIDE = 3  # boxes in a step of a tree that is drawn, beside that of greedy search


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
    widths = [1.5] * (image is not None) + [1.62 * steps + 1.0]
    figure, axes = new_figure(
        1, len(widths), size=(sum(widths) + 0.1, max(3.4, 0.6 * rows + 1.4)), width_ratios=widths
    )
    if image is not None:
        draw_image(axes[0, 0], image)
    ax = axes[0, -1]
    ends = {i: (1.62 * branch.step, heights[i]) for i, branch in enumerate(found.branches)}
    layers = (range(1, len(found.branches)), THIN), (found.path(found.best), THICK), (found.greedy, DASHED)
    for order, (places, style) in enumerate(layers):
        for i in places:
            (x, y), (u, v) = ends[found.branches[i].parent], ends[i]
            # Flat to a point in front of the box, so that lines do not run under boxes.
            ax.plot([x, x + 0.55, u - 0.65, u], [y, y, v, v], zorder=1 + order / 10, **style)
    for i, branch in enumerate(found.branches):
        name = names[branch.token]
        wrong = true is not None and name not in true and not name.startswith("<")
        text = f"{name}{' ✗' if wrong else ''}\n{_short(math.exp(branch.log_probability))}"
        frame = {"boxstyle": "round,pad=0.22", "facecolor": FACES[branch.fate]}
        frame |= {"edgecolor": EDGES[branch.fate], "linewidth": 1}
        if i == found.best:
            frame |= {"edgecolor": WINNER, "linewidth": 3}
        colour = "#595959" if branch.fate in ("cut", "hopeless") else "black"
        style = {
            "fontsize": 13,
            "ha": "center",
            "va": "center",
            "color": colour,
            "zorder": 3,
            "linespacing": 1.05,
        }
        ax.text(*ends[i], name if i == ROOT else text, bbox=frame, **style)
    ax.set(xlim=(-0.45, 1.62 * steps + 0.6), ylim=(rows - 0.4, -1.25))
    for step in range(1, steps + 1):
        ax.text(1.62 * step, -0.95, f"step {step}", fontsize=13, ha="center", va="center")
    ax.set_axis_off()
    figure.suptitle(title, fontsize=14)
    fates = {"live": "goes on", "ended": "complete", "cut": "given up"}
    handles = [
        Line2D([], [], label="the beam's winner", **THICK),
        Line2D([], [], label="greedy search", **DASHED),
        *(Patch(facecolor=FACES[f], edgecolor=EDGES[f], label=text) for f, text in fates.items()),
    ]
    columns = 5 if figure.get_figwidth() > 8 else 3
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=12)
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


def tree_of(decoder: Decoder, features: Features, *, width: int, max_steps: int) -> SearchTree:
    """`grow` with at most `WIDE` boxes in a step, so that the tree can be read."""
    return grow(decoder, features, width=width, max_steps=max_steps, others=max(0, WIDE - width))


def telling_images(
    decoder: Decoder,
    features: Features,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
    count: int = 8,
) -> list[int]:
    """Images whose tree shows most: greedy search and a beam of `WIDE` part, and the beam is right; at most 4 steps.

    features: of the images `records`, as the decoder takes them.
    """
    ranked = []
    for k, record in enumerate(records):
        if len(record.labels) > 3:
            continue
        found = tree_of(decoder, features.select(torch.tensor([k])), width=WIDE, max_steps=max_labels + 1)
        if found.parting is None or max(branch.step for branch in found.branches) > 4:
            continue
        right = set(vocabulary.encode(record.labels))
        mine, alone = (
            {*found.tokens(path)} - {vocabulary.stop} for path in (found.path(found.best), found.greedy)
        )
        ranked.append((2 * (mine == right != alone) + (found.given_up is not None), k))
    return [k for _, k in sorted(ranked, key=lambda pair: (-pair[0], pair[1]))[:count]]


def static_tree(
    decoder: Decoder,
    features: Features,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> None:
    """Show the tree of the first image and width `WIDE`, as `tree_view` draws it; arguments as there."""
    found = tree_of(decoder, features.select(torch.tensor([0])), width=WIDE, max_steps=max_labels + 1)
    names, true = vocabulary.decode(range(len(vocabulary) + 2)), records[0].labels
    title = f"true labels: {', '.join(true)}"
    figure = tree(found, names, open_image(records[0].path), true=true, title=title)
    show(figure, alt=describe(found, vocabulary))


def tree_view(
    searches: Mapping[str, tuple[Decoder, Features]],
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> View:
    """Choose a decoder, an image and a width, and see what the beam followed and what it gave up.

    searches: name -> a decoder in eval mode, and the features of the images `records` as it takes them.
    """
    names = vocabulary.decode(range(len(vocabulary) + 2))
    who, image = choice("Decoder", list(searches)), image_slider(len(records))
    width = slider("IntSlider", "Width", value=WIDE, min=1, max=WIDE)

    def draw(who: str, image: int, width: int) -> tuple[Figure, str]:
        decoder, features = searches[who]
        some, record = features.select(torch.tensor([image - 1])), records[image - 1]
        found = tree_of(decoder, some, width=width, max_steps=max_labels + 1)
        title = f"true labels: {', '.join(record.labels) or 'none'}"
        figure = tree(found, names, open_image(record.path), true=record.labels, title=title)
        return figure, describe(found, vocabulary)

    return figure_view(draw, {"who": who, "image": image, "width": width}, rows=[[who, image, width]])


# ---------------------------------------------------------------- what a search is worth


def show_widths(
    rows: Mapping[tuple[str, int], Sequence[Sequence[float]]],
    columns: Sequence[str],
    *,
    panels: Sequence[str],
) -> None:
    """Show what changes with the width of the beam, one panel per chosen column; a line is the mean of the runs.

    rows: (decoder, width) -> for each run one number per column.
    """
    names, widths = (list(dict.fromkeys(keys)) for keys in zip(*rows, strict=True))
    figure, axes = new_figure(1, len(panels), size=(9, 3.7))
    ends = []
    for ax, panel in zip(axes[0], panels, strict=True):
        k = columns.index(panel)
        series = {
            n: [[row[k] for row in run] for run in zip(*(rows[n, w] for w in widths), strict=True)]
            for n in names
        }
        draw_curves(ax, series, widths)
        ax.set_xscale("log")
        ax.set_xticks(widths, [str(width) for width in widths])
        ax.minorticks_off()
        ax.set(title=panel, xlabel="width of the beam")
        for name, runs in series.items():
            low, high = (statistics.fmean(run[end] for run in runs) for end in (0, -1))
            ends.append(f"{name}, {panel}: {low:.2f} to {high:.2f}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    show(figure, alt="From the narrowest to the widest beam. " + "; ".join(ends) + ".")


def torn_image(beams: Beams, truth: Tensor, decoder: Decoder, features: Features, *, max_steps: int) -> int:
    """The image whose true set gains most by adding up orders, of those where another sequence is the most probable.

    beams: of the N images `features`, as the decoder takes them. truth: (N, C) bool.
    """
    same = (to_multi_hot(beams.tokens.flatten(0, 1), truth.shape[1], dtype=torch.bool)).view(
        *beams.tokens.shape[:2], -1
    ) == truth[:, None]
    true = same.all(dim=2)  # (N, K)
    rows = (true.any(dim=1) & ~true[:, 0] & (truth.sum(dim=1) >= 3)).nonzero().flatten()
    place, some = true[rows].int().argmax(dim=1), features.select(rows)
    first, other = (
        set_log_probability(decoder, some, beams.tokens[rows, k], beams.lengths[rows, k], max_steps=max_steps)
        for k in (0, place)
    )
    return int(rows[(other - first).argmax()])


def show_sequences_and_sets(
    decoder: Decoder,
    features: Features,
    record: Record,
    vocabulary: Vocabulary,
    *,
    max_steps: int,
    count: int = 5,
) -> None:
    """Show an image, its most probable label sequences, and the sets of them with the sum over all orders.

    features: of this image, as the decoder takes them. count: bars at most. Orders of the true set are blue.
    """
    found = beam(decoder, features, width=20, max_steps=max_steps)
    tokens, lengths, names = found.tokens[0], found.lengths[0], vocabulary.labels
    sets = [frozenset(row[:n].tolist()) for row, n in zip(tokens, lengths, strict=True)]
    first = sorted({s: k for k, s in reversed(list(enumerate(sets)))}.values())  # each set once
    image = features.select(torch.zeros(len(first), dtype=torch.int64))
    sums = set_log_probability(decoder, image, tokens[first], lengths[first], max_steps=max_steps).exp()
    left = [(k, float(found.log_probability[0, k].exp())) for k in range(count)]
    right = sorted(zip(first, sums.tolist(), strict=True), key=lambda pair: -pair[1])[:count]
    true = set(vocabulary.encode(record.labels))
    figure, axes = new_figure(1, 3, size=(9, 3.9), width_ratios=(0.8, 1, 1))
    draw_image(axes[0, 0], open_image(record.path), wrapped("true: " + ", ".join(record.labels), 1.5))
    for ax, rows, join, title in (
        (axes[0, 1], left, " → ", "sequences"),
        (axes[0, 2], right, ", ", "sets: all orders together"),
    ):
        texts = [_folded(join.join(names[c] for c in tokens[k, : lengths[k]])) for k, _ in rows]
        colours = [PALETTE[0] if sets[k] == true else GREY for k, _ in rows]
        hatches = ["" if sets[k] == true else "//" for k, _ in rows]
        draw_bars(ax, texts, {"": [p for _, p in rows]}, colours=[colours], hatches=[hatches], numbers="%.3f")
        ax.set(title=title, xlabel="probability")
    best = [", ".join(names[c] for c in tokens[rows[0][0], : lengths[rows[0][0]]]) for rows in (left, right)]
    show(
        figure, alt=f"True labels: {', '.join(record.labels)}. Best sequence: {best[0]}. Best set: {best[1]}."
    )


def _folded(name: str) -> str:
    """A long list of labels in two lines."""
    if len(name) <= 22:
        return name
    cut = name.rfind(" ", 0, 1 + (len(name) + 4) // 2)
    return name[:cut] + "\n" + name[cut + 1 :]


def show_round_things(records: Sequence[Record], groups: Mapping[str, Tensor], *, count: int = 2) -> None:
    """Show the first images of each group with their labels; groups: name -> (N,) bool."""
    chosen = [
        (name, records[k]) for name, rows in groups.items() for k in rows.nonzero().flatten().tolist()[:count]
    ]
    figure, axes = new_figure(1, len(chosen), size=(9, 2.9))
    for ax, (name, record) in zip(axes[0], chosen, strict=True):
        draw_image(ax, open_image(record.path), f"{name}:\n{', '.join(record.labels)}")
    texts = [f"{name}: {', '.join(record.labels)}" for name, record in chosen]
    show(figure, alt="Images with a round thing on the ground. " + "; ".join(texts) + ".")


def show_context(shares: Mapping[str, Sequence[Sequence[float]]], groups: Sequence[str]) -> None:
    """Show bars of the share of "ball" after several words: word -> (runs, groups) in percent."""
    figure = grouped_bars(shares, groups, ylabel="P(ball) / (P(ball) + P(rock)), %", title="Ball or rock?")
    figure.legends[0].remove()
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=12)
    means = [
        f"{word}: "
        + ", ".join(
            f"{statistics.fmean(v):.0f} % {group}"
            for group, v in zip(groups, zip(*runs, strict=True), strict=True)
        )
        for word, runs in shares.items()
    ]
    show(figure, alt="Share of ball after the word … " + "; ".join(means) + ".")
