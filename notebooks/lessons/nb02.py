"""Notebook 02: kernels, receptive fields, what a cell of the grid knows, heads on features, and two views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn

from helpers.data.files import DATA
from helpers.data.images import open_image
from helpers.data.load import AnnotatedImages
from helpers.data.records import Record
from helpers.encoders.cache import feature_loaders
from helpers.encoders.encoder import Encoder
from helpers.metrics.label_sets import multilabel_metrics
from helpers.metrics.localization import hits
from helpers.plots import (
    MARKS,
    PALETTE,
    colour_bar,
    draw_attention,
    draw_bars,
    draw_image,
    new_figure,
    show,
    to_pixels,
    wrapped,
)
from helpers.scenes.content import AMBIGUOUS, LABEL_KINDS
from helpers.scenes.single import KINDS, SinglePicture
from helpers.training.annotate import encode_images, name_labels
from helpers.training.checkpoints import Checkpoint, load_checkpoint
from lessons import figures
from lessons.views import View, choice, figure_view, image_slider, slider

PHOTOGRAPHS = DATA / "photographs" / "images"
DARK = 0.5  # the probability from which a cell has the darkest colour
SMALL = ("bird", "cat", "sun", "moon")  # the median box is less than 4 % of the picture


def table(rows: Mapping[str, Sequence[float | str]], columns: Sequence[str], corner: str = "") -> None:
    """Show a table: name -> its numbers."""
    from IPython.display import Markdown, display

    lines = [f"| {corner} | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, values in rows.items():
        cells = (value if isinstance(value, str) else f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    display(Markdown("\n".join(lines)))


# ---------------------------------------------------------------- pictures


def show_pictures(singles: Sequence[SinglePicture], records: Sequence[Record]) -> None:
    """Two rows with pictures of one thing, each of another kind, and a row of scenes with their labels."""
    columns = len(records)
    others = list({one.thing.kind: one for one in reversed(singles)}.items())[: 2 * columns]
    figure, axes = new_figure(3, columns, size=(8.6, 6.0), height_ratios=(1, 1, 1.25))
    for ax, (kind, one) in zip(axes[:2].flat, others, strict=True):
        draw_image(ax, one.image)
        ax.set_title(kind)
    for ax, record in zip(axes[2], records, strict=True):
        draw_image(ax, open_image(record.path))
        ax.set_title(wrapped("scene: " + ", ".join(record.labels), 1.9), fontsize=12)
    said = ", ".join(kind for kind, _ in others)
    show(
        figure, alt=f"Above, pictures of one thing each: {said}. Below, {columns} scenes with several things."
    )


# ---------------------------------------------------------------- convolution


def kernel_figure(image: Tensor, kernels: Mapping[str, Tensor], responses: Sequence[Tensor]) -> Figure:
    """An image (3, H, W) in 0..1, and per kernel (k, k) its numbers above its response (h, w); 0 is drawn grey."""
    columns = 1 + len(kernels)
    figure, axes = new_figure(2, columns, size=(2.2 * columns, 3.5), height_ratios=(0.5, 1))
    for ax in axes.flat:
        ax.set_axis_off()
    draw_image(axes[1, 0], image, "image")
    for (name, kernel), response, top, bottom in zip(
        kernels.items(), responses, axes[0, 1:], axes[1, 1:], strict=True
    ):
        largest = max(float(kernel.abs().max()), 1e-9)
        top.imshow(kernel, cmap="gray", vmin=-largest, vmax=largest)
        if len(kernel) <= 3:
            for i, row in enumerate(kernel.tolist()):
                for j, value in enumerate(row):
                    colour = "black" if value > 0 else "white"
                    top.text(
                        j,
                        i,
                        f"{value:.2g}".replace("0.25", "¼"),
                        ha="center",
                        va="center",
                        fontsize=12,
                        color=colour,
                    )
        top.set_title(name)
        strongest = max(float(response.abs().max()), 1e-9)
        bottom.imshow(response, cmap="gray", vmin=-strongest, vmax=strongest)
        bottom.set_title(f"{response.shape[0]} x {response.shape[1]}", fontsize=12)
    return figure


def show_kernels(image: Tensor, kernels: Mapping[str, Tensor], responses: Sequence[Tensor]) -> None:
    """`kernel_figure`, with its alt text; image: as the network gets it, in -1..1."""
    figure = kernel_figure((image + 1) / 2, kernels, responses)
    show(figure, alt=f"A scene, the kernels {', '.join(kernels)}, and the response of the scene to each.")


def kernel_explorer(image: Tensor, kernels: Mapping[str, Tensor]) -> View:
    """Choose a kernel and a stride. image: (3, H, W) in -1..1; kernels: name -> (k, k), or (3, k, k) of a network."""
    which = choice("Kernel", list(kernels))
    step = slider("IntSlider", "Stride", value=1, min=1, max=16)

    def draw(which: str, step: int) -> tuple[Figure, str]:
        kernel = kernels[which]
        weight = kernel.expand(1, 3, *kernel.shape[-2:])
        padding = kernel.shape[-1] // 2
        response = nn.functional.conv2d(image[None], weight, stride=step, padding=padding)[0, 0]
        flat = kernel.mean(0) if kernel.ndim == 3 else kernel
        figure = kernel_figure((image + 1) / 2, {which: flat}, [response])
        return figure, f"{which}, stride {step}: {len(response)} x {len(response)} numbers."

    return figure_view(draw, {"which": which, "step": step}, rows=[[which, step]])


# ---------------------------------------------------------------- the network


@torch.no_grad()
def show_layers(network: nn.Module, image: Tensor) -> None:
    """A table of the network's convolutions, in order; image: (3, H, W)."""
    rows: dict[str, list[str]] = {}
    jump = field = 1

    def follow(name: str) -> Callable[..., None]:
        def hook(module: nn.Conv2d, inputs: Any, output: Tensor) -> None:
            nonlocal jump, field
            (k, _), (s, _) = module.kernel_size, module.stride
            jump, field = jump * s, field + (k - 1) * jump
            shape = " x ".join(map(str, output.shape[1:]))
            rows[f"`{name}`"] = [f"{k} x {k}", str(s), shape, str(jump), str(field)]

        return hook

    found = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    hooks = [module.register_forward_hook(follow(name)) for name, module in found]
    network(image[None])
    for hook in hooks:
        hook.remove()
    table(rows, ["kernel", "stride", "output", "pixels per step", "receptive field"], "convolution")


def show_field(image: Tensor, influence: Tensor, cell: tuple[int, int]) -> None:
    """How much each pixel (128, 128) changes a cell of an 8 x 8 grid, and the square that holds half of it."""
    top, left, at = 16 * cell[0], 16 * cell[1], torch.arange(128)
    distance = torch.maximum((at - top).abs()[:, None], (at - left).abs()[None])  # (128, 128)
    radius = next(r for r in range(128) if influence[distance <= r].sum() >= influence.sum() / 2)
    x0, y0, x1, y1 = (
        max(0, left - radius),
        max(0, top - radius),
        min(128, left + radius + 1),
        min(128, top + radius + 1),
    )
    own = float(influence[top : top + 16, left : left + 16].sum() / influence.sum())
    fields = {"the cell": (left, top, 16, 16), "half of the influence": (x0, y0, x1 - x0, y1 - y0)}
    figure = figures.receptive_field((image + 1) / 2, influence, fields, grid=(8, 8), cell=cell)
    side = 2 * radius + 1
    show(figure, alt=f"Which pixels change one cell: half of the influence is within {side} x {side} pixels.")
    table(
        {"": [f"{side} pixels wide", f"{100 * own:.0f} %"]},
        ["half of the influence", "its own 16 x 16 pixels"],
    )


# ---------------------------------------------------------------- what a cell knows


def kind_of(label: str) -> str:
    """The kind that a label is drawn as: ball and rock look alike."""
    return "round" if label in AMBIGUOUS else label


def pointing(scores: Tensor, records: Sequence[Record]) -> tuple[float, float]:
    """The pointing game over all things with a box, and its chance. scores: (N, L, kinds), of cells."""
    side = round(scores.shape[1] ** 0.5)
    found = []
    for record, own in zip(records, scores, strict=True):
        for label in record.labels:
            boxes = [box for box in record.boxes if box.label == label]
            if boxes and kind_of(label) in KINDS:
                hit = hits(boxes, open_image(record.path).size, (side, side))
                best = int(own[:, KINDS.index(kind_of(label))].argmax())
                found.append((float(hit[best]), float(hit.float().mean())))
    return tuple(sum(values) / len(found) for values in zip(*found, strict=True))


def show_maps(records: Sequence[Record], scores: Tensor, kinds: Sequence[str]) -> None:
    """Scenes, and over each the probability of some kinds per cell. scores: (N, L, kinds), logits."""
    side = round(scores.shape[1] ** 0.5)
    figure, axes = new_figure(
        len(records), 1 + len(kinds), size=(1.45 * (1 + len(kinds)), 1.65 * len(records))
    )
    for line, record, own in zip(axes, records, scores.sigmoid(), strict=True):
        image = open_image(record.path)
        draw_image(line[0], image, "scene")
        for ax, kind in zip(line[1:], kinds, strict=True):
            boxes = [
                box
                for box in record.boxes
                if kind_of(box.label) == kind and LABEL_KINDS[box.label] == "object"
            ]
            draw_attention(ax, image, own[:, KINDS.index(kind)], (side, side), highest=DARK, boxes=boxes)
            ax.set_title(f"{kind}{MARKS[bool(boxes)]}")
    colour_bar(figure, axes.flat, DARK, "probability (0.5 and more: darkest)")
    said = "; ".join(", ".join(record.labels) for record in records)
    show(figure, alt=f"Scenes ({said}) and how much each cell says {', '.join(kinds)}, as colour.")


def cell_figure(
    record: Record, scores: Tensor, *, row: int, column: int, kind: str = ""
) -> tuple[Figure, str]:
    """One cell: where it is, its most probable kinds, and the map of one kind (the cell's best by default).

    scores: (L, kinds), logits. row, column: from 1.
    """
    side = round(len(scores) ** 0.5)
    probability = scores.sigmoid()
    own = probability[(row - 1) * side + column - 1]
    best = own.argsort(descending=True)[:6].tolist()
    kind = kind or KINDS[best[0]]
    image = open_image(record.path)
    figure, axes = new_figure(1, 3, size=(8.4, 3.1), width_ratios=(1, 1, 1))
    draw_image(axes[0, 0], image, "scene, one cell")
    step = to_pixels(image).shape[0] / side
    for colour, line in (("white", 5), ("black", 2.5)):
        corner = ((column - 1) * step - 0.5, (row - 1) * step - 0.5)
        axes[0, 0].add_patch(Rectangle(corner, step, step, fill=False, edgecolor=colour, linewidth=line))
    names = [KINDS[k] for k in best]
    draw_bars(axes[0, 1], names, {"": own[best].tolist()}, share=True)
    axes[0, 1].set(title="what this cell says", xlabel="probability")
    draw_attention(axes[0, 2], image, probability[:, KINDS.index(kind)], (side, side), highest=DARK)
    axes[0, 2].set_title(f"{kind}, in every cell")
    return figure, f"Row {row}, column {column}: {names[0]} {float(own[best[0]]):.2f}. The map shows {kind}."


def cell_explorer(
    records: Sequence[Record], scores: Tensor, *, image: int = 0, row: int = 1, column: int = 1
) -> View:
    """Choose a scene, a cell and a kind. scores: (N, L, kinds), logits."""
    side = round(scores.shape[1] ** 0.5)
    position, kind = (
        image_slider(len(records), image),
        choice("Map of", [("its best", ""), *((name, name) for name in KINDS)], ""),
    )
    rows, columns = (
        slider("IntSlider", name, value=value, min=1, max=side)
        for name, value in (("Row", row), ("Column", column))
    )

    def draw(position: int, row: int, column: int, kind: str) -> tuple[Figure, str]:
        chosen = {"row": row, "column": column, "kind": kind}
        return cell_figure(records[position - 1], scores[position - 1], **chosen)

    controls = {"position": position, "row": rows, "column": columns, "kind": kind}
    return figure_view(draw, controls, rows=[[position, rows, columns, kind]])


# ---------------------------------------------------------------- heads


class Split(NamedTuple):
    """A split, encoded once: grid (N, L, D), pooled (N, D), target (N, C) bool."""

    grid: Tensor
    pooled: Tensor
    target: Tensor


def features(data: AnnotatedImages, encoder: Encoder) -> dict[str, Split]:
    """The splits, encoded once, images in their order."""
    loaders = feature_loaders(data, encoder, cache_dir=DATA / "features", order="rare-first", progress=False)
    result = {}
    for name, loader in loaders.items():
        batches = list(loader)
        order = torch.cat([batch.index for batch in batches]).argsort()
        parts = zip(*((b.features.grid, b.features.pooled, b.multi_hot.bool()) for b in batches), strict=True)
        result[name] = Split(*(torch.cat(part)[order] for part in parts))
    return result


def percent(named: Tensor, target: Tensor) -> list[str]:
    """OF1, CF1 and exact match in percent; named, target: (N, C) bool."""
    found = multilabel_metrics(named, target)
    return [f"{100 * found[name]:.1f}" for name in ("OF1", "CF1", "exact_match")]


def by_group(named: Mapping[str, Tensor], target: Tensor, labels: Sequence[str]) -> None:
    """A table of F1 over groups of labels; named: name -> (N, C) bool."""
    things = [name for name in labels if LABEL_KINDS[name] == "object" and name not in AMBIGUOUS]
    groups = {
        "small things": SMALL,
        "other things": [name for name in things if name not in SMALL],
        "ball and rock": AMBIGUOUS,
        "relations": [name for name in labels if LABEL_KINDS[name] == "relation"],
        "whole scene": [name for name in labels if LABEL_KINDS[name] == "attribute"],
    }
    rows = {}
    for name, said in named.items():
        columns = [[labels.index(label) for label in group] for group in groups.values()]
        counts = ((2 * (said & target)[:, c].sum(), said[:, c].sum() + target[:, c].sum()) for c in columns)
        rows[name] = [f"{100 * float(hit / both):.0f}" for hit, both in counts]
    table(rows, list(groups), "F1, %")


# ---------------------------------------------------------------- photographs


def photo_model() -> Checkpoint:
    """The shipped model for photographs: MobileNetV2 and a decoder."""
    return load_checkpoint(DATA / "photo_attention.safetensors")


@torch.inference_mode()
def show_similarity(model: Checkpoint, photograph: Any, cells: Sequence[tuple[int, int]]) -> None:
    """A photograph, and for some cells (row, column from 1) how similar all cells are to it: the cosine."""
    image: Image.Image = open_image(photograph)
    grid = encode_images(model, [image]).grid[0]  # (L, D)
    h, w = model.system.encoder.grid_size
    grid = nn.functional.normalize(grid - grid.mean(0), dim=1)
    figure, axes = new_figure(1, 1 + len(cells), size=(2.1 * (1 + len(cells)) + 0.6, 1.9))
    draw_image(axes[0, 0], image, "photograph")
    across, down = image.width / w, image.height / h
    for ax, (row, column) in zip(axes[0, 1:], cells, strict=True):
        cosine = (grid @ grid[(row - 1) * w + column - 1]).clamp(min=0)
        draw_attention(ax, image, cosine, (h, w), highest=1.0)
        corner = ((column - 1) * across - 0.5, (row - 1) * down - 0.5)
        ax.add_patch(Rectangle(corner, across, down, fill=False, edgecolor=PALETTE[2], linewidth=3))
        ax.set_title(f"like {row}, {column}")
    colour_bar(figure, axes.flat, 1.0, "cosine")
    places = " and ".join(f"row {row}, column {column}" for row, column in cells)
    show(figure, alt=f"A photograph, and over it how similar its cells are to those at {places}.")
    (named,) = name_labels(model.system.predict(encode_images(model, [image])), model)
    table({"the whole model names": [", ".join(named.labels) or "no label"]}, ["labels"])
