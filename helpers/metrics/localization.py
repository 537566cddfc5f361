"""Whether a map looks where the thing is: attention and class activation maps, graded against boxes.

A grid of h x w cells lies over the whole image, whatever its size: images are squashed to a square before they are
encoded, so cell (i, j) covers the columns j/w to (j + 1)/w and the rows i/h to (i + 1)/h of the *original* image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.labels import Vocabulary
from helpers.data.records import Box, Record
from helpers.decoders.search import Decoded
from helpers.encoders.crops import GridSize


class Look(NamedTuple):
    """A label and the map that goes with it."""

    image: int  # position in the list of records
    label: str
    weights: Tensor  # (L,) float, at least 0, cells row by row; divided by its sum before it is graded


class Grade(NamedTuple):
    """How well maps look at boxes: means over `looks` of them, each 0 to 1; NaN where there are none.

    pointing: how often the largest weight is in a box (Zhang et al., "Top-down Neural Attention by Excitation
        Backprop", ECCV 2016). pointing_chance: the same for a cell drawn at random.
    mass: the share of the weights that is in the boxes. mass_chance: the same for equal weights, which is the share
        of the image's area that the boxes take.
    """

    looks: int
    pointing: float
    pointing_chance: float
    mass: float
    mass_chance: float

    @property
    def error(self) -> float:
        """Standard error of `pointing`."""
        return (self.pointing * (1 - self.pointing) / self.looks) ** 0.5 if self.looks else float("nan")


@dataclass(frozen=True)
class Grading:
    """What `grade` found."""

    all: Grade
    labels: dict[str, Grade]  # most looks first
    placeless: Counter[str]  # right labels without a box (night, rain), which cannot be graded
    wrong: Counter[str]  # labels that the image does not have


def coverage(boxes: Sequence[Box], image_size: tuple[int, int], grid_size: GridSize) -> Tensor:
    """The share of each cell that lies in the boxes: (L,) float32 of 0 to 1.

    boxes: in pixels of the original image. image_size: its (width, height). grid_size: (h, w), L = h * w.
    Where boxes overlap, the area counts once.
    """
    h, w = grid_size
    columns, rows = _spans(boxes, image_size, grid_size)
    # Cut the image along all edges of cells and boxes: each piece is either in a box or not.
    xs = torch.cat([torch.arange(w + 1), columns.flatten().clamp(0, w)]).unique()
    ys = torch.cat([torch.arange(h + 1), rows.flatten().clamp(0, h)]).unique()
    x, y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2  # centres of the pieces
    area = _inside(x, y, columns, rows) * torch.outer(ys.diff(), xs.diff())  # in cells
    cell = y.long().unsqueeze(1) * w + x.long().unsqueeze(0)  # the cell of every piece
    covered = torch.zeros(h * w, dtype=torch.float64).index_add_(0, cell.flatten(), area.flatten())
    return covered.clamp(max=1.0).float()


def hits(
    boxes: Sequence[Box], image_size: tuple[int, int], grid_size: GridSize, *, tolerance: float = 0.5
) -> Tensor:
    """Which cells count as "in a box": (L,) bool.

    tolerance: how far the centre of a cell may be outside, in cells. 0.5 takes every cell that a box touches; with 0 a
    thing smaller than a cell may have no hit. (The pointing game of Zhang et al. allows 15 pixels.)
    """
    columns, rows = _spans(boxes, image_size, grid_size)
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in grid_size)
    wider = torch.tensor([-tolerance, tolerance])
    return _inside(x, y, columns + wider, rows + wider).flatten()  # (h, w) -> (L,)


def _spans(boxes: Sequence[Box], image_size: tuple[int, int], grid_size: GridSize) -> tuple[Tensor, Tensor]:
    """(left, right) and (top, bottom) of K boxes in cells, each (K, 2) float64."""
    (width, height), (h, w) = image_size, grid_size
    columns = [(box.x / width * w, (box.x + box.width) / width * w) for box in boxes]
    rows = [(box.y / height * h, (box.y + box.height) / height * h) for box in boxes]
    return tuple(torch.tensor(x, dtype=torch.float64).view(-1, 2) for x in (columns, rows))  # type: ignore[return-value]


def _inside(x: Tensor, y: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Which of the points y (H,) times x (W,) lie in a box: (H, W) bool. A point on an edge is outside."""
    across = (x > columns[:, :1]) & (x < columns[:, 1:])  # (K, W)
    down = (y > rows[:, :1]) & (y < rows[:, 1:])  # (K, H)
    return (down.unsqueeze(2) & across.unsqueeze(1)).any(dim=0)


def pointing(weights: Tensor, hit: Tensor) -> float:
    """Whether the largest of weights (L,) is at a hit (L,) bool: 0 or 1, or the share of hits among equal maxima.

    So a map with the same weight everywhere scores as much as chance.
    """
    return float(hit[weights == weights.max()].double().mean())


def grade(looks: Iterable[Look], records: Sequence[Record], grid_size: GridSize) -> Grading:
    """Grade maps against the boxes of their label.

    looks: from `looks_of`, or class activation maps. records: the images; their files are opened for their size.
    Raises ValueError for maps of another size, negative ones or NaN.
    """
    sizes: dict[int, tuple[int, int]] = {}
    rows: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    placeless, wrong = Counter[str](), Counter[str]()
    for look in looks:
        record, weights = records[look.image], look.weights.detach().double().cpu()
        if weights.shape != (grid_size[0] * grid_size[1],) or not bool((weights >= 0).all()):
            raise ValueError(
                f"the map of {look.label!r} in image {look.image} must hold {grid_size[0]} x {grid_size[1]} numbers "
                f"of at least 0; found shape {tuple(weights.shape)}, least {float(weights.min())}"
            )
        boxes = [box for box in record.boxes if box.label == look.label]
        if look.label not in record.labels:
            wrong[look.label] += 1
            continue
        if not boxes:
            placeless[look.label] += 1
            continue
        if look.image not in sizes:
            sizes[look.image] = open_image(record.path).size
        hit = hits(boxes, sizes[look.image], grid_size).double()
        inside = coverage(boxes, sizes[look.image], grid_size).double()
        total = float(weights.sum())
        mass = float(weights @ inside) / total if total > 0 else float(inside.mean())
        rows[look.label].append((pointing(weights, hit), float(hit.mean()), mass, float(inside.mean())))
    ranked = sorted(rows, key=lambda label: -len(rows[label]))
    every = [row for label in ranked for row in rows[label]]
    return Grading(_mean(every), {label: _mean(rows[label]) for label in ranked}, placeless, wrong)


def _mean(rows: Sequence[tuple[float, float, float, float]]) -> Grade:
    means = torch.tensor(rows, dtype=torch.float64).mean(0).tolist() if rows else [float("nan")] * 4
    return Grade(len(rows), *means)


def looks_of(decoded: Decoded, vocabulary: Vocabulary) -> list[Look]:
    """The labels of a decoding (B images) with the attention of their steps; `<stop>` is left out.

    Image i is the i-th of the batch. Raises ValueError without attention.
    """
    if decoded.attention is None:
        raise ValueError(
            "this decoding has no attention: decode with a system that attends, such as 'attention'"
        )
    return [
        Look(i, vocabulary.labels[int(decoded.tokens[i, t])], decoded.attention[i, t])
        for i in range(len(decoded.tokens))
        for t in range(int(decoded.lengths[i]))
    ]


def class_activation(weight: Tensor, grid: Tensor, labels: Tensor) -> Tensor:
    """CAM: what every cell adds to a label's score, (B, L), negative where it counts against the label.

    weight: (C, D) of a linear head on the mean of the grid. grid: (B, L, D). labels: (B,) int64. The score is the mean
    of this over the cells, plus the bias (Zhou et al., "Learning Deep Features for Discriminative Localization", 2016).
    """
    return torch.einsum("bld,bd->bl", grid, weight[labels])


def grad_cam(logits: Callable[[Features], Tensor], grid: Tensor, labels: Tensor) -> Tensor:
    """Grad-CAM on the grid, for any head: (B, L), at least 0.

    logits: `Features` of B images -> (B, C); differentiable, in eval mode. It gets the grid and its mean as the pooled
    feature, as every `Encoder` makes it. grid: (B, L, D). labels: (B,) int64, the label that the map is for.

    The map is ReLU(Σ_d w_d a_id) with w_d the mean over the cells of the score's gradient (Selvaraju et al., ICCV
    2017, eq. 1 and 2). For a linear head it is the positive part of `class_activation`, divided by L.
    """
    # inference_mode tensors cannot carry gradients; a clone made outside can.
    with torch.inference_mode(False), torch.enable_grad():
        cells = grid.detach().clone().requires_grad_()
        wanted = labels.clone().unsqueeze(1)
        scores = logits(Features(cells.mean(1), cells)).gather(1, wanted)  # (B, 1)
        (gradient,) = torch.autograd.grad(scores.sum(), cells)  # (B, L, D)
    weight = gradient.mean(1)  # (B, D)
    return torch.einsum("bld,bd->bl", grid, weight).relu()
