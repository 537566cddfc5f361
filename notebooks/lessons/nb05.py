"""Notebook 05: targets by hand, the Hungarian method step by step, targets during training, stored results."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.utils.data import DataLoader

from helpers.data.batches import Batch
from helpers.data.files import DATA, REPOSITORY, read_json
from helpers.data.images import open_image
from helpers.data.labels import Vocabulary, to_multi_hot
from helpers.data.records import AnnotatedImages
from helpers.decoders.search import Decoded, greedy
from helpers.encoders.cache import feature_loaders
from helpers.encoders.encoder import Encoder
from helpers.metrics.label_sets import multilabel_metrics
from helpers.metrics.localization import GridSize, grade, looks_of
from helpers.plots import GREY, PALETTE, draw_bars, draw_image, ink, new_figure, show, wrapped
from helpers.scenes.content import RARE_LARGE
from helpers.systems.alignment import align, alignment_cost
from helpers.systems.order_free import run_free
from helpers.systems.sequence import SequenceSystem
from lessons.figures import box, heatmaps
from lessons.views import View, choice, figure_view, slider

# From white to a blue on which black is still readable: numbers are written into the cells, and frames around them.
PALE = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#8cc3e6"])
# A method has its colour and its line in every figure.
FRAMES = {
    "fixed order": (PALETTE[3], "-"),
    "PLA": ("#005c43", (0, (4, 1.5))),
    "MLA": ("#000000", (0, (1, 1.2))),
}


def table(rows: Mapping[str, Sequence[str]], columns: Sequence[str], corner: str = "") -> None:
    """Show a table: name -> its cells."""
    from IPython.display import Markdown, display

    lines = [f"| {corner} | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    display(Markdown("\n".join(lines)))


def batches(data: AnnotatedImages, encoder: Encoder) -> tuple[dict[str, DataLoader[Batch]], Batch]:
    """Order of the labels -> batches of training images, and all test images as one batch."""
    how: dict[str, Any] = {"cache_dir": DATA / "features", "progress": False}
    orders = ("rare-first", "frequent-first")
    train = {
        order: feature_loaders(data, encoder, order=order, splits=("train",), **how)["train"]
        for order in orders
    }
    test = feature_loaders(data, encoder, splits=("test",), batch_size=len(data.test), **how)["test"]
    return train, next(iter(test))


# ---------------------------------------------------------------- targets of probabilities set by hand

NAMES = ("sun", "bird", "tree")
OTHER = "other"  # all that is not in the set, `<stop>` included

# What a decoder might say: for each step the weights of the three labels and of the rest.
PRESETS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "right, in another order": ((10, 80, 5, 5), (5, 10, 80, 5), (85, 5, 5, 5)),
    "says the sun twice": ((5, 40, 45, 10), (50, 5, 40, 5), (60, 5, 20, 15)),
    "the likeliest is not the cheapest": ((50, 0, 45, 5), (90, 0, 5, 5), (5, 85, 5, 5)),
    "says nothing of the set": ((20, 10, 5, 65), (10, 25, 5, 60), (5, 10, 15, 70)),
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
    probability: Tensor, fixed: Sequence[int], methods: Sequence[str] = tuple(FRAMES)
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """The targets of some methods, and what they cost in nats.

    probability: (n, n + 1), of the n labels and of all else at each of n steps. fixed: an order of 0..n-1.
    methods: of `FRAMES`.
    """
    n = len(probability)
    # Outputs: n labels, all else, <stop>. The last step says <stop>, which is the same for all three.
    outputs = torch.full((1, n + 1, n + 2), 1e-12, dtype=torch.float64)
    outputs[0, :n, : n + 1] = probability
    outputs[0, n, n + 1] = 1.0
    logits, labels, lengths = outputs.log(), torch.tensor([[*fixed, n + 1]]), torch.tensor([n])
    targets = {
        name: labels if name == "fixed order" else align(logits, labels, lengths, name.lower())
        for name in methods
    }
    costs = {name: float(alignment_cost(logits, found, lengths)) for name, found in targets.items()}
    return {name: found[0, :n].tolist() for name, found in targets.items()}, costs


def targets_figure(
    weights: Sequence[Sequence[float]],
    *,
    fixed: Sequence[int] = (0, 1, 2),
    methods: Sequence[str] = tuple(FRAMES),
) -> tuple[Figure, str]:
    """What a decoder says at each step, a frame around the targets of every method, and what these cost.

    weights: (n, n + 1), of the n labels and of all else, any scale. fixed: the fixed order, as places in `NAMES`.
    Returns the figure and the targets in words.
    """
    probability = step_probabilities(weights)
    targets, costs = targets_by_hand(probability, fixed, methods)
    labels = [*NAMES, OTHER]
    figure, axes = new_figure(1, 2, size=(8.8, 3.4), width_ratios=(4.6, 2.6))
    ax, bars = axes[0]
    drawn = ax.imshow(probability.numpy(), cmap=PALE, vmin=0, vmax=1, aspect="auto")
    for (t, j), value in np.ndenumerate(probability.numpy()):
        ax.text(j, t, f"{value:.2f}", ha="center", va="center", fontsize=14)
    for k, (name, order) in enumerate(targets.items()):  # nested, so that none hides another
        colour, line = FRAMES[name]
        inset = 0.04 + 0.08 * k
        style = {"edgecolor": colour, "linestyle": line, "linewidth": 2.6}
        for t, j in enumerate(order):
            corner, side = (j - 0.5 + inset, t - 0.5 + inset), 1 - 2 * inset
            ax.add_patch(Rectangle(corner, side, side, fill=False, **style))
    ax.set_xticks(range(len(labels)), labels, fontsize=14)
    ax.set_yticks(range(len(NAMES)), [f"step {t + 1}" for t in range(len(NAMES))], fontsize=14)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title("what the decoder says")
    figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.03).set_label("probability", fontsize=12)
    draw_bars(bars, list(costs), {"": list(costs.values())}, colours=[PALE(0.5)])
    for bar, name in zip(bars.patches, costs, strict=True):
        bar.set(edgecolor=FRAMES[name][0], linestyle=FRAMES[name][1], linewidth=2.6)
    bars.set(xlim=(0, 1.35 * max(1e-9, *costs.values())), xlabel="nats", title="what the targets cost")
    said = ", ".join(labels[j] for j in probability.argmax(1).tolist())
    told = [f"{n}: {', '.join(NAMES[j] for j in o)} ({costs[n]:.2f})" for n, o in targets.items()]
    return figure, f"Said: {said}. Targets and their cost in nats: {'; '.join(told)}."


def show_targets(preset: str, methods: Sequence[str] = tuple(FRAMES)) -> None:
    """The static figure under `target_editor`."""
    figure, sentence = targets_figure(PRESETS[preset], methods=methods)
    show(figure, alt=f"Example “{preset}”: probabilities of three steps, targets framed. {sentence}")


def target_editor(*, preset: str = next(iter(PRESETS)), methods: Sequence[str] = tuple(FRAMES)) -> View:
    """Move the probabilities of three steps, and see the targets and losses of some methods.

    preset: one of `PRESETS`, shown at first. The weights of a step need not sum to 100: they are normalised.
    Raises ValueError for an unknown preset.
    """
    import ipywidgets

    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    sliders = [
        [slider("IntSlider", name, value=weight, max=100, step=5, layout={"width": "210px"})
         for name, weight in zip([*NAMES, OTHER], row, strict=True)]
        for row in PRESETS[preset]
    ]  # fmt: skip
    presets = choice("Example", list(PRESETS), preset)
    orders = itertools.permutations(range(len(NAMES)))
    fixed = choice("Fixed order", [(", ".join(NAMES[j] for j in order), order) for order in orders])
    # The picture depends on this one alone: an example moves twelve sliders, and is drawn once.
    weights = ipywidgets.Label(layout={"display": "none"})

    def collect(_: object = None) -> None:
        weights.value = json.dumps([[one.value for one in row] for row in sliders])

    def choose(_: object) -> None:
        for one, value in zip(
            itertools.chain(*sliders), itertools.chain(*PRESETS[presets.value]), strict=True
        ):
            one.unobserve(collect, names="value")
            one.value = value
            one.observe(collect, names="value")
        collect()

    for one in itertools.chain(*sliders):
        one.observe(collect, names="value")
    presets.observe(choose, names="value")
    collect()

    def draw(weights: str, fixed: tuple[int, ...]) -> tuple[Figure, str]:
        return targets_figure(json.loads(weights), fixed=fixed, methods=methods)

    rows = [[presets, fixed, weights]]
    rows += [[ipywidgets.Label(f"step {t + 1}"), *row] for t, row in enumerate(sliders)]
    view = figure_view(draw, {"weights": weights, "fixed": fixed}, rows=rows)
    view.sliders, view.presets = sliders, presets
    return view


# ---------------------------------------------------------------- the Hungarian method

MATRICES: Mapping[str, list[list[int]]] = {
    "the example of the text": [[3, 2, 1], [1, 5, 2], [1, 4, 4]],
    "zeros at once": [[1, 3, 4], [4, 1, 3], [3, 4, 1]],
    "all say the same": [[1, 2, 3], [1, 3, 5], [1, 4, 7]],
    "four labels": [[2, 9, 2, 7], [6, 4, 3, 7], [5, 8, 1, 8], [2, 6, 3, 9]],
}
LABELS = (*NAMES, "dog")


class Moment(NamedTuple):
    """The matrix at one moment of the Hungarian method.

    pairs: label -> the step that has it. rows, columns: with a line through them. text: what has happened.
    """

    title: str
    text: str
    matrix: np.ndarray
    pairs: Mapping[int, int] = {}
    rows: Sequence[int] = ()
    columns: Sequence[int] = ()


def hungarian_moments(cost: Sequence[Sequence[float]]) -> list[Moment]:
    """All moments of the Hungarian method on a matrix (n, n), n up to 4: steps are rows, labels are columns."""
    cost = np.array(cost, dtype=float)
    n, has = len(cost), {}
    least = cost.min(axis=1)
    left = cost - least[:, None]
    listed = ", ".join(f"{x:g}" for x in least)
    found = [Moment("costs", "What each label costs at each step.", cost)]
    found.append(Moment("rows reduced", f"The least number of each row is subtracted: {listed}.", left))
    listed = ", ".join(f"{x:g}" for x in left.min(axis=0))
    left = left - left.min(axis=0)
    found.append(Moment("columns reduced", f"The least number of each column is subtracted: {listed}.", left))

    def find(step: int, tried: set[int]) -> bool:
        for j in np.flatnonzero(left[step] == 0).tolist():
            if j not in tried:
                tried.add(j)
                if j not in has or find(has[j], tried):
                    has[j] = step
                    return True
        return False

    for step in range(n):
        before, tried = dict(has), set()
        while not find(step, tried):
            stuck = [step, *(has[j] for j in tried)]
            lines = [t for t in range(n) if t not in stuck], sorted(tried)
            taken = ", ".join(LABELS[j] for j in lines[1])
            text = f"Step {step + 1} finds no free zero ({taken} is taken). {n - 1} lines cover all zeros."
            found.append(Moment("zeros covered", text, left, dict(has), *lines))
            free = [j for j in range(n) if j not in tried]
            by = left[np.ix_(stuck, free)].min()
            left = left.copy()
            left[stuck] -= by
            left[:, lines[1]] += by
            text = (
                f"The least number without a line is {by:g}: subtracted there, added where two lines cross."
            )
            found.append(Moment("a new zero", text, left, dict(has)))
            tried = set()
        moves = [f"step {has[j] + 1} takes {LABELS[j]}" for j in sorted(has) if before.get(j) != has[j]]
        if len(moves) > 1:
            found.append(Moment("augmented", f"{'; '.join(moves).capitalize()}.", left, dict(has)))
    order = sorted(has, key=has.get)
    total = " + ".join(f"{cost[t, j]:g}" for t, j in enumerate(order))
    text = f"Each step has a zero: {', '.join(LABELS[j] for j in order)}. The cost is {total} = {cost[range(n), order].sum():g}."
    return [*found, Moment("matched", text, cost, dict(has))]


def draw_moment(ax: Axes, moment: Moment, title: str) -> None:
    """The matrix of a moment: zeros bold, pairs in blue, lines in orange."""
    n = len(moment.matrix)
    for (t, j), value in np.ndenumerate(moment.matrix):
        mine = moment.pairs.get(j) == t
        style = {"facecolor": "#bfd9ee" if mine else "white", "edgecolor": GREY, "linewidth": 1}
        ax.add_patch(Rectangle((j - 0.5, t - 0.5), 1, 1, **style))
        weight = "bold" if value == 0 or mine else "normal"
        ax.text(j, t, f"{value:g}", ha="center", va="center", fontsize=16, fontweight=weight, zorder=3)
        if mine:
            frame = {"fill": False, "edgecolor": PALETTE[0], "linewidth": 3}
            ax.add_patch(Rectangle((j - 0.42, t - 0.42), 0.84, 0.84, **frame))
    style = {"color": PALETTE[1], "linewidth": 15, "alpha": 0.5, "solid_capstyle": "round"}
    for t in moment.rows:
        ax.plot([-0.4, n - 0.6], [t, t], **style)
    for j in moment.columns:
        ax.plot([j, j], [-0.4, n - 0.6], **style)
    ax.set(xlim=(-0.55, n - 0.45), ylim=(n - 0.45, -0.55), aspect="equal", title=title)
    ax.set_xticks(range(n), LABELS[:n], fontsize=13)
    ax.set_yticks(range(n), [f"step {t + 1}" for t in range(n)], fontsize=13)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def show_hungarian(cost: Sequence[Sequence[float]]) -> None:
    """The moments of the Hungarian method as a strip, from the reduced rows on."""
    moments = hungarian_moments(cost)[1:]
    figure, axes = new_figure(-(-len(moments) // 3), 3, size=(8.8, 2.95 * -(-len(moments) // 3)))
    for ax in axes.flat[len(moments) :]:
        ax.set_axis_off()
    for k, (ax, moment) in enumerate(zip(axes.flat, moments, strict=False), start=1):
        total = f": cost {moment.text.split()[-1][:-1]}" if moment.title == "matched" else ""
        draw_moment(ax, moment, f"{k} {moment.title}{total}")
    told = " ".join(f"{k}: {moment.text}" for k, moment in enumerate(moments, start=1))
    show(figure, alt=f"Strip of matrices, steps in rows, labels in columns. {told}")


def hungarian_view() -> View:
    """Step through the Hungarian method on one of `MATRICES`."""
    matrix = choice("Costs", list(MATRICES))
    step = slider("IntSlider", "Step", value=1, min=1, max=len(hungarian_moments(MATRICES[matrix.value])))

    def fit(_: object = None) -> None:
        step.value, step.max = 1, len(hungarian_moments(MATRICES[matrix.value]))

    matrix.observe(fit, names="value")  # before `figure_view` observes it: the step must fit

    def draw(matrix: str, step: int) -> tuple[Figure, str]:
        moment = hungarian_moments(MATRICES[matrix])[step - 1]
        figure, axes = new_figure(size=(4.2, 3.6))
        draw_moment(axes[0, 0], moment, moment.title)
        return figure, moment.text

    return figure_view(draw, {"matrix": matrix, "step": step}, rows=[[matrix, step]])


# ---------------------------------------------------------------- targets while training goes on

SMALLEST = 0.15  # a box has at least this much of its colour, so that it is still visible


class Targets(NamedTuple):
    """Targets of a batch (B, T) int64 and their probability at their steps (B, T)."""

    tokens: Tensor
    probability: Tensor


@torch.inference_mode()
def targets_now(system: SequenceSystem, batch: Batch, method: str) -> Targets:
    """What a method would ask of a system's steps on a batch, without dropout."""
    system.eval()
    logits, _, _ = run_free(system.decoder, system.prepare(batch.features), steps=batch.labels.shape[1])
    tokens = align(logits, batch.labels, batch.lengths, method)
    return Targets(tokens, logits.softmax(2).gather(2, tokens[..., None]).squeeze(2))


def film_strip(
    images: Sequence[Any], times: Mapping[str, Targets], lengths: Sequence[int], vocabulary: Vocabulary
) -> Figure:
    """Targets of images (the first rows of each `Targets`) over time: one row per image, step 1 on top.

    A label keeps its colour through a row, so that one sees it move; the more probable it is at its step, the fuller.
    """
    figure, axes = new_figure(
        len(images), 1 + len(times), size=(9, 1.9 * len(images)), width_ratios=[1.35] + [1.6] * len(times)
    )
    for i, (image, length) in enumerate(zip(images, lengths, strict=True)):
        draw_image(axes[i, 0], image)
        last = list(times.values())[-1].tokens[i, :length].tolist()
        for ax, (title, targets) in zip(axes[i, 1:], times.items(), strict=True):
            for t, token in enumerate(targets.tokens[i, :length].tolist()):
                probability = float(targets.probability[i, t])
                strength = SMALLEST + (1 - SMALLEST) * probability
                colour = np.array(to_rgb(PALETTE[last.index(token) % (len(PALETTE) - 1)]))
                face = to_hex(1 - strength * (1 - colour))  # blended with white
                text = wrapped(f"{vocabulary.labels[token]} {probability:.2f}", 3)
                box(ax, 0.5, t, 0.96, 0.84, text, face, edgecolor=colour, lw=1.5)
                ax.texts[-1].set(color=ink(face))
            ax.set(xlim=(0, 1), ylim=(length - 0.5, -0.5), xticks=[])
            ax.set_yticks(range(length), [str(t + 1) for t in range(length)] if ax is axes[i, 1] else [])
            ax.set_ylabel("step" if ax is axes[i, 1] else "")
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            if i == 0:
                ax.set_title(title)
    return figure


def show_film(times: Mapping[str, Targets], batch: Batch, data: AnnotatedImages, images: int = 3) -> None:
    """`film_strip` of the first images of a batch of training images."""
    pictures = [open_image(data.train[k].path) for k in batch.index[:images].tolist()]
    figure = film_strip(pictures, times, batch.lengths[:images].tolist(), data.vocabulary)
    end, same = list(times.values())[-1].tokens, []
    for title, targets in times.items():
        rows = zip(targets.tokens, end, batch.lengths.tolist(), strict=True)
        kept = [float((a[:n] == b[:n]).float().mean()) for a, b, n in rows]
        same.append(f"{title} {sum(kept) / len(kept):.0%}")
    alt = f"Targets of {images} images over time. Labels that are at their last step, over the batch: {', '.join(same)}."
    show(figure, alt=alt)


def show_emerging(times: Mapping[str, Targets], vocabulary: Vocabulary, length: int, rows: int = 14) -> None:
    """For the most frequent labels of a batch: to which step they are assigned, over time; all sets have one length."""
    count = {}
    for title, targets in times.items():
        count[title] = torch.zeros(len(vocabulary), length)
        for t in range(length):
            count[title][:, t] = torch.bincount(targets.tokens[:, t], minlength=len(vocabulary))
    last = list(count.values())[-1]
    most = last.sum(1).argsort(descending=True, stable=True)[:rows]
    place = (last[most] * torch.arange(length)).sum(1) / last[most].sum(1)
    most = most[place.argsort(stable=True)]
    panels = {title: 100 * c[most] / c[most].sum(1, keepdim=True) for title, c in count.items()}
    names, steps = vocabulary.decode(most), [str(t + 1) for t in range(length)]
    words = {"colour_label": "% of the images with this label", "xlabel": "step"}
    figure = heatmaps(panels, names, steps, cell=(0.32, 0.27), **words)
    for ax in figure.axes:
        ax.tick_params(axis="x", rotation=0)
    show(
        figure,
        alt=f"Which step each label is assigned to, over training. In the end, from first to last: {', '.join(names)}.",
    )


# ---------------------------------------------------------------- results


@torch.inference_mode()
def said(system: SequenceSystem, batch: Batch, *, repeats: bool = False) -> Decoded:
    """What a system says of a batch, greedily."""
    seen = system.eval().prepare(batch.features)
    return greedy(system.decoder, seen, max_steps=system.max_labels + 1, repeats=repeats)


def results(system: SequenceSystem, batch: Batch, data: AnnotatedImages, cells: GridSize) -> list[str]:
    """OF1, CF1, exact sets, recall of bus, balloon, elephant, and pointing, all in percent of the test images."""
    decoded, truth = said(system, batch), batch.multi_hot.bool()
    named = to_multi_hot(decoded.tokens, truth.shape[1]).bool()
    scores = multilabel_metrics(named, truth)
    large = data.vocabulary.encode(RARE_LARGE)
    scores["large"] = float(named[:, large][truth[:, large]].float().mean())
    shown = [f"{100 * scores[name]:.1f}" for name in ("OF1", "CF1", "exact_match", "large")]
    pointing = grade(looks_of(decoded, data.vocabulary), data.test, cells).all.pointing
    return [*shown, f"{100 * pointing:.0f}"]


def faults(system: SequenceSystem, batch: Batch) -> list[str]:
    """Of what a system says where it may repeat labels: images with a repeat, images with too few different labels."""
    found = said(system, batch, repeats=True)
    different = to_multi_hot(found.tokens, batch.multi_hot.shape[1]).sum(1)
    counts = (different < found.lengths, different < batch.lengths)
    return [str(int(count.sum())) for count in counts]


def pairs_in_order(tokens: Tensor, count: int) -> Tensor:
    """Tokens (N, T) int64 -> (C, C): in how many rows label a is named before label b."""
    never = tokens.shape[1]
    steps = torch.arange(never).expand_as(tokens)
    place = torch.full((len(tokens), count + 1), never).scatter(1, tokens, steps)[:, :count]
    return ((place[:, :, None] < place[:, None, :]) & (place[:, None, :] < never)).sum(0)


def order_of(system: SequenceSystem, batch: Batch, frequency: Tensor) -> list[str]:
    """In percent of the pairs that are named: how often the rarer label is first; how often the usual one is."""
    earlier = pairs_in_order(said(system, batch).tokens, len(frequency))
    rarer = frequency[:, None] < frequency[None, :]
    first = earlier[rarer].sum() / (earlier[rarer].sum() + earlier.T[rarer].sum())
    settled = torch.maximum(earlier, earlier.T).sum() / (earlier + earlier.T).sum()
    return [f"{100 * float(first):.0f}", f"{100 * float(settled):.0f}"]


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation of shares, in percent."""
    shares = 100 * torch.tensor(values, dtype=torch.float64)
    return f"{float(shares.mean()):.1f} ± {float(shares.std()):.1f}"


def stored_results() -> None:
    """A table of long runs from `docs/`: with and without an order, test, mean ± standard deviation over the seeds."""
    rows, columns = {}, ("OF1", "CF1", "exact_match")
    drawn = read_json(REPOSITORY / "docs" / "drawn_world.json")
    names = (
        "ria, rare-first",
        "attention after, rare-first",
        "attention after, PLA",
        "attention sentinel, PLA",
    )
    for name in names:
        seeds = [run["test"] for run in drawn if run["row"] == name and "test" in run]
        if len(seeds) > 1:
            rows[f"scenes: {name}"] = [
                *(spread([seed[c] for seed in seeds]) for c in columns),
                spread([seed["pointing"] for seed in seeds]) if "pointing" in seeds[0] else "",
                str(len(seeds)),
            ]
    stored = read_json(REPOSITORY / "docs" / "results.json")["runs"]["corel5k"]
    for name in ("ria, rare-first", "ria, frequent-first", "ria, MLA", "ria, PLA"):
        seeds = [run["test"] for run in stored[name]]
        rows[f"Corel-5k: {name}"] = [*(spread([s[c] for s in seeds]) for c in columns), "", str(len(seeds))]
    table(rows, ["OF1 %", "CF1 %", "exact %", "pointing %", "seeds"], "test")
