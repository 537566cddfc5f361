"""Notebook 04: features of two CNNs, maps as spotlights, what maps are tested with, and two views of a decoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import interpolate

from helpers.data.batches import Batch, Features
from helpers.data.files import DATA, read_json
from helpers.data.images import eval_transform, open_image
from helpers.data.labels import decoder_inputs, to_multi_hot
from helpers.data.load import AnnotatedImages
from helpers.data.readers import read_coco
from helpers.data.records import Record
from helpers.decoders.adaptive_attention import sentinel_weight
from helpers.decoders.base import Decoder
from helpers.decoders.search import Decoded, Trace, greedy, trace
from helpers.encoders.cache import feature_loaders
from helpers.encoders.encoder import Encoder, build_encoder
from helpers.metrics.label_sets import multilabel_metrics
from helpers.metrics.localization import Grading, GridSize, Look, grad_cam, grade, hits, looks_of
from helpers.plots import MARKS, Frame, draw_bars, draw_image, frames, new_figure, show, to_pixels, wrapped
from helpers.scenes.content import ATTRIBUTES, OBJECTS
from helpers.systems.sequence import SequenceSystem
from helpers.training.annotate import predict_images
from helpers.training.checkpoints import Checkpoint
from lessons.figures import pointing_bars
from lessons.views import Examples, View, figure_view, image_slider, slider

# ---------------------------------------------------------------- features, numbers, tables


class Seen(NamedTuple):
    """Scenes as one CNN sees them: training batches in the order rare-first, and the features of the test images."""

    encoder: Encoder
    train: Iterable[Batch]
    test: Features
    target: Tensor  # (N, C) bool, the labels of the test images


def features(data: AnnotatedImages, backbone: str) -> Seen:
    """The scenes, encoded once by a shipped CNN."""
    encoder, splits = build_encoder(backbone, weights="scenes"), ("train", "test")
    how = {"cache_dir": DATA / "features", "order": "rare-first", "splits": splits, "progress": False}
    loaders = feature_loaders(data, encoder, **how)
    batches = list(loaders["test"])
    test = Features(*(torch.cat(x) for x in zip(*(batch.features for batch in batches), strict=True)))
    return Seen(encoder, loaders["train"], test, torch.cat([batch.multi_hot for batch in batches]).bool())


def table(rows: Mapping[str, Sequence[float | str]], columns: Sequence[str]) -> None:
    """Show a table: name -> its numbers."""
    from IPython.display import Markdown, display

    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, values in rows.items():
        cells = (value if isinstance(value, str) else f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    display(Markdown("\n".join(lines)))


def show_speed(
    decoders: Mapping[str, Decoder], features: Features, tokens: Tensor, repeats: int = 10
) -> None:
    """A table of the milliseconds that decoders take for a batch: teacher forcing and its backward pass."""
    rows = {}
    for name, decoder in decoders.items():
        started = time.perf_counter()
        for _ in range(repeats):
            decoder(features, tokens)[0].sum().backward(retain_graph=True)
        rows[name] = [f"{1000 * (time.perf_counter() - started) / repeats:.0f}"]
    table(rows, ["forward and backward, ms"])


@torch.inference_mode()
def decode(system: SequenceSystem, seen: Seen, decoder: Decoder | None = None) -> Decoded:
    """The test images, decoded greedily; decoder: in place of the system's own."""
    return greedy(decoder or system.decoder, system.prepare(seen.test), max_steps=system.max_labels + 1)


def scores(decoded: Decoded, seen: Seen) -> list[str]:
    """OF1, CF1 and exactly right sets, in percent."""
    found = multilabel_metrics(to_multi_hot(decoded.tokens, seen.target.shape[1]).bool(), seen.target)
    return [f"{100 * found[name]:.1f}" for name in ("OF1", "CF1", "exact_match")]


# ---------------------------------------------------------------- spotlights

PALE = 0.84  # the grey that everything fades to where a decoder does not look
VISIBLE = LinearSegmentedColormap.from_list("visible", [(PALE,) * 3, "#0072B2"])
FULL = 0.25  # a cell with this weight or more is shown as it is; one scale for all figures


def draw_spotlight(
    axes: Axes, image: Any, weights: Tensor, cells: GridSize, *, full: float = FULL, boxes: Sequence = ()
) -> None:
    """An image in colour where the weights (L,) are, faded where they are not; boxes are drawn as outlines.

    What shows is the square root of weight / full: otherwise a cell with a tenth of that could not be seen.
    """
    pixels = to_pixels(image)[..., :3] / 255.0
    height, width = pixels.shape[:2]
    share = (weights.float().clamp(min=0) / full).clamp(max=1).sqrt().view(1, 1, *cells)  # (L,) -> (h, w)
    shown = interpolate(share, size=(height, width), mode="nearest")[0, 0].numpy()[..., None]
    faded = PALE + 0.12 * (pixels.mean(-1, keepdims=True) - 0.5)  # a trace of the image stays
    draw_image(axes, np.clip(shown * pixels + (1 - shown) * faded, 0, 1))
    for box in boxes:
        for colour, line in (("white", 3.2), ("black", 1.3)):  # visible on light and dark
            corner = (box.x - 0.5, box.y - 0.5)
            axes.add_patch(Rectangle(corner, box.width, box.height, fill=False, lw=line, edgecolor=colour))


def spotlight_bar(
    figure: Figure,
    axes: Sequence[Axes],
    cells: GridSize,
    *,
    full: float = FULL,
    label: str = "weight of a cell",
) -> None:
    """The scale of spotlights, with a mark at 1/L, the weight that each cell has when all are equal."""
    equal = 1 / (cells[0] * cells[1])
    scale = ScalarMappable(PowerNorm(0.5, 0, full), VISIBLE)
    bar = figure.colorbar(scale, ax=list(axes), fraction=0.04, pad=0.02, aspect=18)
    bar.set_ticks([0, equal, full], labels=["0", f"1/{cells[0] * cells[1]}", f"{full:.2f}"])
    bar.minorticks_off()
    bar.ax.axhline(equal, color="black", linewidth=2.5)
    bar.set_label(label, fontsize=12)


def film(
    rows: Sequence[tuple[str, Record, Sequence[Frame]]], cells: GridSize, *, side: float = 1.16
) -> Figure:
    """Decodings as rows of spotlights: (title, record, frames) of each."""
    across = 1 + max(len(strip) for _, _, strip in rows)
    figure, axes = new_figure(len(rows), across, size=(side * across + 0.85, (side + 0.43) * len(rows)))
    for ax in axes.flat:
        ax.set_axis_off()
    for line, (title, record, strip) in zip(axes, rows, strict=True):
        image = open_image(record.path)
        draw_image(line[0], image)
        line[0].set_title(wrapped(title, side), fontsize=12)
        for ax, frame in zip(line[1:], strip, strict=False):
            draw_spotlight(ax, image, frame.weights, cells, boxes=frame.boxes)
            ax.set_title(f"{frame.label}{MARKS[frame.right]}\n{frame.probability:.2f}", fontsize=12)
    spotlight_bar(figure, axes.flat, cells)
    return figure


def show_films(decodings: Mapping[str, Decoded], data: AnnotatedImages, images: Sequence[int]) -> None:
    """Where decoders looked in test images, step by step; decodings: title -> of the test images."""
    rows = []
    for image in images:
        for name, decoded in decodings.items():
            strip = frames(decoded, data.vocabulary.labels, data.test[image], image=image)
            rows.append((name or f"test image {image + 1}", data.test[image], strip))
    side = round(decoded.attention.shape[2] ** 0.5)
    said = "; ".join(f"{name}: {', '.join(frame.label for frame in strip)}" for name, _, strip in rows)
    show(film(rows, (side, side)), alt=f"Rows of spotlights, one panel for each step. {said}.")


# ---------------------------------------------------------------- what a cell knows


def hidden(image: Tensor, centre: tuple[float, float], size: tuple[float, float]) -> Tensor:
    """A copy of an image (3, S, S) with a rectangle in the mean colour; centre and size (y, x) in shares of S."""
    side, copy = image.shape[1], image.clone()
    rows, columns = (
        slice(round(side * max(0, at - length / 2)), round(side * (at + length / 2)))
        for at, length in zip(centre, size, strict=True)
    )
    copy[:, rows, columns] = 0
    return copy


def _place(record: Record, label: str) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Centre and size (y, x) of a label's only box in shares of the image; None for none or several."""
    boxes = [box for box in record.boxes if box.label == label]
    if len(boxes) != 1:
        return None
    (box,), (width, height) = boxes, open_image(record.path).size
    return (
        ((box.y + box.height / 2) / height, (box.x + box.width / 2) / width),
        (box.height / height, box.width / width),
    )


@torch.inference_mode()
def cell_changes(record: Record, label: str, encoder: Encoder) -> Tensor:
    """How much each cell changes when the label's thing is hidden: (L,), sums to 1."""
    image = eval_transform(encoder.preprocessing)(open_image(record.path))
    before, after = encoder(torch.stack([image, hidden(image, *_place(record, label))])).grid
    change = (before - after).norm(dim=1)
    return change / change.sum()


def show_what_changes(
    data: AnnotatedImages, seen: Mapping[str, Seen], *, image: int, label: str, count: int = 60
) -> None:
    """Hide a thing: which cells notice? An example as spotlights; in the titles the mean over `count` other images."""
    things = [
        (record, name)
        for record in data.test
        if (name := next((n for n in record.labels if n in OBJECTS and _place(record, n)), None))
    ]
    figure, axes = new_figure(1, 1 + len(seen), size=(8.8, 3.5))
    record, said = data.test[image], []
    picture, boxes = open_image(record.path), [b for b in record.boxes if b.label == label]
    maps = {name: cell_changes(record, label, one.encoder) for name, one in seen.items()}
    full = max(float(changes.max()) for changes in maps.values())
    draw_image(axes[0, 0], picture, f"test image {image + 1}:\nhide the {label}")
    for ax, (name, one) in zip(axes[0, 1:], seen.items(), strict=True):
        cells = one.encoder.grid_size
        inside = [
            float(cell_changes(r, n, one.encoder) @ hits([b for b in r.boxes if b.label == n], open_image(r.path).size, cells).float())
            for r, n in things[:count]
        ]  # fmt: skip
        said.append(f"{name} features:\n{np.mean(inside):.0%} of the change in its cells")
        draw_spotlight(ax, picture, maps[name], cells, full=full, boxes=boxes)
        ax.set_title(said[-1])
    spotlight_bar(figure, axes.flat, cells, full=full, label="share of the change")
    show(figure, alt=f"Which cells change when a thing is hidden. {'; '.join(said)}.".replace("\n", " "))


# ---------------------------------------------------------------- tests of maps


def show_shares(shares: Mapping[str, Mapping[str, float]], *, title: str, xlabel: str) -> None:
    """Bars of shares between 0 and 1: features -> what was done -> share."""
    names = list(next(iter(shares.values())))
    figure, axes = new_figure(size=(8.2, 1.9 + 0.55 * len(names)))
    series = {f"{name} features": [values[key] for key in names] for name, values in shares.items()}
    draw_bars(axes[0, 0], names, series, share=True)
    axes[0, 0].set(xlabel=xlabel, title=title)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    said = "; ".join(
        f"{name}: " + ", ".join(f"{k} {v:.2f}" for k, v in x.items()) for name, x in shares.items()
    )
    show(figure, alt=f"{title}: {xlabel}. {said}.")


@torch.inference_mode()
def forgotten(
    system: SequenceSystem, seen: Seen, data: AnnotatedImages, decoded: Decoded, *, every: int = 5
) -> dict[str, float]:
    """Hide a piece as large as the label's box: its box, where attention is largest, or anywhere. How many forget?

    Over the right labels with one box, each in a copy of its image; every: take one of so many of them.
    """
    prepare, (h, w) = eval_transform(seen.encoder.preprocessing), seen.encoder.grid_size
    generator = torch.Generator().manual_seed(0)
    right = [
        (look, place)
        for look in looks_of(decoded, data.vocabulary)
        if look.label in data.test[look.image].labels and (place := _place(data.test[look.image], look.label))
    ][::every]
    pictures = {"hide anywhere": [], "hide where it looks": [], "hide its box": []}
    for look, (centre, size) in right:
        image = prepare(open_image(data.test[look.image].path))
        anywhere = int(torch.randint(h * w, (), generator=generator))
        cells = {"hide anywhere": anywhere, "hide where it looks": int(look.weights.argmax())}
        middles = {name: ((cell // w + 0.5) / h, (cell % w + 0.5) / w) for name, cell in cells.items()}
        for name, middle in (middles | {"hide its box": centre}).items():
            pictures[name].append(hidden(image, middle, size))
    wanted = torch.tensor(data.vocabulary.encode([look.label for look, _ in right]))
    result = {}
    for name, changed in pictures.items():
        parts = [seen.encoder(torch.stack(changed[k : k + 64])) for k in range(0, len(changed), 64)]
        said = system.predict(Features(*(torch.cat(x) for x in zip(*parts, strict=True)))).predicted
        result[name] = float((~said[torch.arange(len(said)), wanted]).float().mean())
    return result


def grad_cam_looks(
    system: SequenceSystem, seen: Seen, data: AnnotatedImages, decoded: Decoded, *, images: int = 250
) -> list[Look]:
    """Grad-CAM of the decoder's own score for each label that it named, given those that it named before."""
    vocabulary, inputs, looks = data.vocabulary, decoder_inputs(decoded.tokens, data.vocabulary.start), []
    for t in range(decoded.tokens.shape[1]):
        rows = (decoded.lengths[:images] > t).nonzero().flatten()
        for part in rows.split(64) if len(rows) else ():
            said = inputs[part, : t + 1].clone()  # a clone made here may take part in gradients

            def score(cells: Features, said: Tensor = said) -> Tensor:
                return system.decoder(system.prepare(cells), said)[0][:, -1]

            named = decoded.tokens[part, t].clone()
            maps = grad_cam(score, seen.test.grid[part], named)
            looks += map(Look, part.tolist(), vocabulary.decode(named), maps)
    return looks


def show_pointing(gradings: Mapping[str, Grading], *, least: int = 20) -> None:
    """The pointing game by label, for several kinds of maps."""
    said = "; ".join(f"{name} {found.all.pointing:.2f}" for name, found in gradings.items())
    chance = next(iter(gradings.values())).all.pointing_chance
    figure = pointing_bars(gradings, title="Pointing game by label (looks)", least=least)
    show(
        figure,
        alt=f"How often the largest weight is in a box of the label. All labels: {said}; chance {chance:.2f}.",
    )


def sentinel_by_kind(decoded: Decoded, data: AnnotatedImages) -> list[float]:
    """The sentinel's mean weight at right labels: things, relations, labels without a place."""
    beta, kinds = sentinel_weight(decoded.attention), ([], [], [])
    for image, length in enumerate(decoded.lengths.tolist()):
        for t, name in enumerate(data.vocabulary.decode(decoded.tokens[image, :length])):
            if name in data.test[image].labels:
                kinds[0 if name in OBJECTS else 2 if name in ATTRIBUTES else 1].append(float(beta[image, t]))
    return [float(np.mean(values)) for values in kinds]


# ---------------------------------------------------------------- views


@torch.inference_mode()
def grade_photographs(checkpoint: Checkpoint) -> dict[str, list[float | str]]:
    """The pointing game on the course's photographs: label -> looks, pointing, its chance, mass, its chance.

    Graded is what the model names, COCO's annotation has, too, and names.json knows under both names.
    """
    folder = DATA / "photographs"
    names, records = read_json(folder / "names.json"), []
    for path in sorted((folder / "annotations").glob("instances_*.json")):
        records += read_coco(path, folder / "images").records
    decoded = predict_images(checkpoint, [open_image(record.path) for record in records]).decoded
    looks = []
    for look in looks_of(decoded, checkpoint.vocabulary):
        there = {box.label for box in records[look.image].boxes}
        looks += [look._replace(label=name) for name in names.get(look.label, ()) if name in there][:1]
    found = grade(looks, records, checkpoint.system.encoder.grid_size)
    rows = {"all": found.all} | found.labels
    return {
        name: [str(g.looks), g.pointing, g.pointing_chance, g.mass, g.mass_chance] for name, g in rows.items()
    }


def _trace(shown: Examples, image: int, **forced: Any) -> Trace:
    """The steps of an image: what the decoder says by itself, or what it is forced to."""
    system = shown.system
    steps = 1 if forced else system.max_labels + 1
    return trace(system.decoder, system.prepare(shown.one(image)), max_steps=steps, **forced)


def _step_view(
    record: Record,
    weights: Tensor,
    cells: GridSize,
    titles: Sequence[str],
    bars: Mapping,
    boxes: Sequence = (),
) -> Figure:
    """An image, a spotlight on it, and bars of the most probable labels: name -> {label: probability}."""
    figure, axes = new_figure(1, 3, size=(9, 3.4), width_ratios=(1, 1.22, 0.8))
    image, (left, middle, right) = open_image(record.path), axes[0]
    draw_image(left, image, titles[0])
    draw_spotlight(middle, image, weights, cells, boxes=boxes)
    middle.set_title(titles[1])
    spotlight_bar(figure, [middle], cells)
    labels = list(next(iter(bars.values())))
    draw_bars(right, labels, {name: list(values.values()) for name, values in bars.items()}, share=True)
    right.set(xlabel="probability", title=titles[2])
    if len(bars) > 1:
        right.legend(fontsize=11, frameon=False, loc="lower right")
    return figure


def _top(vocabulary: Any, probability: Tensor, best: Tensor) -> dict[str, float]:
    return dict(zip(vocabulary.decode(best), probability[best].tolist(), strict=True))


def attention_step_figure(
    shown: Examples, *, image: int = 0, step: int = 1, bars: int = 5
) -> tuple[Figure, str]:
    """One step of a decoding: image, where it looked, the most probable labels; and a sentence.

    step: counted from 1; after the last one, the last one is shown.
    """
    vocabulary, record = shown.system.vocabulary, shown.records[image]
    tracing = _trace(shown, image)
    steps = frames(tracing, vocabulary.labels, record)
    step = min(step, len(steps))
    frame, probability = steps[step - 1], tracing.probability[step - 1]
    said = ", ".join(f.label for f in steps[: step - 1]) or "nothing"
    best = probability.argsort(descending=True, stable=True)[:bars]
    titles = (f"read so far: {said}", f"step {step}: looks here", f"says {frame.label}")
    top = {"": _top(vocabulary, probability, best)}
    figure = _step_view(record, frame.weights, shown.cells, titles, top, frame.boxes)
    verdict = {None: "", True: " (right)", False: " (wrong)"}[frame.right]
    return (
        figure,
        f"Step {step} of {len(steps)}: {frame.label}{verdict}, probability {frame.probability:.2f}.",
    )


def attention_stepper(shown: Examples, *, image: int = 0) -> View:
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


def painted_figure(
    shown: Examples,
    *,
    image: int = 0,
    step: int = 1,
    rows: tuple[int, int] = (1, 1),
    columns: tuple[int, int] = (1, 1),
    bars: int = 5,
) -> tuple[Figure, str]:
    """Attention that you paint at one step, equal over some cells, against the decoder's own; and a sentence.

    rows, columns: first and last of the cells, counted from 1 at the top left. Before the step, the decoder names what
    it names by itself.
    """
    (top, bottom), (left, right), (h, w) = rows, columns, shown.cells
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
    both = {"its own": _top(vocabulary, p_own, best), "painted": _top(vocabulary, p_mine, best)}
    said = ", ".join(vocabulary.decode(before)) or "nothing"
    titles = (f"read so far: {said}", f"painted for step {step}", "next label")
    figure = _step_view(record, painted.flatten(), shown.cells, titles, both)
    was, now = (vocabulary.decode([int(p.argmax())])[0] for p in (p_own, p_mine))
    text = (
        f"Step {step}: by itself it says {was} ({float(p_own.max()):.2f}), with the painted attention {now} "
        f"({float(p_mine.max()):.2f})."
    )
    return figure, text


def attention_painter(shown: Examples, *, image: int = 0) -> View:
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


def show_step(draw: Callable[..., tuple[Figure, str]], shown: Examples, **place: Any) -> None:
    """The static figure under a view: `attention_step_figure` or `painted_figure`."""
    figure, sentence = draw(shown, **place)
    show(figure, alt=f"Image, spotlight and bars of the most probable labels. {sentence}")
