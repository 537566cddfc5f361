"""Train the small CNN that ships in data/scenes_cnn.safetensors, from scratch, on pictures of one thing.

    python -m benchmarks.pretrain_scenes_cnn
    python -m benchmarks.pretrain_scenes_cnn --n 200 --epochs 2 --output DIR      (to see that it works)

A miniature ImageNet: each picture of `helpers.scenes.single` shows one thing on any backdrop, and nothing goes with
anything. So a decoder still has to learn which things go together. Two heads are trained and thrown away:

- the kind of the thing, by cross-entropy on scores per cell that are pooled by log-sum-exp. Its gradient goes to the
  cells that score highest, so the evidence stays where the thing is. A mean would spread it over the picture;
- place, time and weather, from the mean of the cells, because these are everywhere.

The network of the last epoch is kept, with its weights averaged over the training (EMA): nothing is selected on the
pictures that judge it. The script writes scenes_cnn.safetensors (float16, about 1.3 MB) and its sha256 in checksums.json.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, starmap
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from helpers.data.files import DATA
from helpers.encoders.scenes_cnn import (
    DIM,
    ScenesCNN,
    read_scenes_weights,
    receptive_field,
    write_scenes_weights,
)
from helpers.metrics.localization import hits
from helpers.scenes.layout import Box
from helpers.scenes.single import KINDS, PLACES, TIMES, WEATHERS, draw_single

COURSE_SEED = 0
CHUNK = 100  # pictures that a process draws before it hands them over
TARGETS = {"kind": KINDS, "place": PLACES, "time": TIMES, "weather": WEATHERS}
BACKDROP_WEIGHT = 0.3  # of the loss of place, time and weather


class Scores(NamedTuple):
    """kinds (B, 18). backdrop: place, time and weather, each (B, 3). cells (B, 18, h, w), the kinds' scores per cell."""

    kinds: Tensor
    backdrop: tuple[Tensor, ...]
    cells: Tensor


class Classifier(nn.Module):
    """The network with its two heads: images (B, 3, S, S) -> `Scores`."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ScenesCNN()
        self.kinds = nn.Conv2d(DIM, len(KINDS), 1)
        self.backdrop = nn.Linear(DIM, len(PLACES) + len(TIMES) + len(WEATHERS))

    def forward(self, images: Tensor) -> Scores:
        grid = self.trunk(images)  # (B, D, h, w)
        cells = self.kinds(grid).float()
        # The log of the mean of exp. Its softmax over kinds is the softmax over kinds and cells, summed over cells.
        kinds = cells.flatten(2).logsumexp(2) - math.log(cells[0, 0].numel())
        backdrop = self.backdrop(grid.mean(dim=(2, 3))).float()
        return Scores(kinds, backdrop.split([len(PLACES), len(TIMES), len(WEATHERS)], 1), cells)


@dataclass(frozen=True)
class Pictures:
    """pixels (N, 3, S, S) uint8; targets (N, 4) int64: kind, place, time, weather; boxes: N, around the things."""

    pixels: Tensor
    targets: Tensor
    boxes: list[Box]


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--n", type=int, default=12_000, help="pictures to train on; a tenth more to validate (%(default)s)"
    )
    p.add_argument(
        "--seed", type=int, default=1000, help="of pictures, weights and order; not 0 (%(default)s)"
    )
    p.add_argument("--size", type=int, default=128, help="side of the images in pixels (%(default)s)")
    p.add_argument("--epochs", type=int, default=10, help="(%(default)s)")
    p.add_argument("--batch-size", type=int, default=64, help="(%(default)s)")
    p.add_argument("--lr", type=float, default=3e-3, help="highest learning rate of OneCycle (%(default)s)")
    p.add_argument("--weight-decay", type=float, default=0.05, help="of AdamW, on convolutions (%(default)s)")
    p.add_argument("--ema", type=float, default=0.99, help="decay of the averaged weights (%(default)s)")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    p.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that draw (%(default)s)"
    )
    p.add_argument("--output", type=Path, default=DATA, help="folder of the two files (%(default)s)")
    return p


def draw_chunk(seed: int, start: int, stop: int, size: int) -> tuple[np.ndarray, np.ndarray, list[Box]]:
    """Pictures start..stop-1: pixels (n, 3, S, S) uint8, targets (n, 4), n boxes. Runs in other processes.

    `draw_single` asserts of each picture that it holds exactly one thing and no action.
    """
    drawn = [draw_single(seed, index=index, size=size) for index in range(start, stop)]
    pixels = np.stack([np.asarray(one.image).transpose(2, 0, 1) for one in drawn])  # from (n, S, S, 3)
    return pixels, np.array([one.target for one in drawn]), [one.box for one in drawn]


def draw(seed: int, start: int, stop: int, size: int, workers: int) -> Pictures:
    """Pictures start..stop-1 of a seed, drawn by `workers` processes (by this one if that is 1)."""
    jobs = [(seed, first, min(first + CHUNK, stop), size) for first in range(start, stop, CHUNK)]
    with ExitStack() as stack:
        if workers > 1:
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
            chunks = pool.map(draw_chunk, *zip(*jobs, strict=True))
        else:
            chunks = starmap(draw_chunk, jobs)
        pixels, targets, boxes = zip(*tqdm(chunks, "drawing", len(jobs)), strict=True)
    pixels, targets = (torch.from_numpy(np.concatenate(parts)) for parts in (pixels, targets))
    return Pictures(pixels, targets, list(chain(*boxes)))


def to_input(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) to -1..1 float32: what `Preprocessing` with mean and std 0.5 does."""
    return pixels.float() / 127.5 - 1


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, move and scale each a little, and change its brightness and contrast a little.

    images (B, 3, S, S) in -1..1 to the same. The border is repeated outwards: mirrored, it could show a thing twice.
    """
    count = len(images)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, device=images.device, generator=generator)

    mirror = (between(0, 1) < 0.5) * -2.0 + 1
    scale = between(0.92, 1.05)
    matrix = images.new_zeros(count, 2, 3)  # of each image, from target to source, in units of half a side
    matrix[:, 0, 0], matrix[:, 1, 1] = mirror * scale, scale
    matrix[:, 0, 2], matrix[:, 1, 2] = between(-0.08, 0.08), between(-0.08, 0.08)
    where = F.affine_grid(matrix, list(images.shape), align_corners=False)
    images = F.grid_sample(images, where, padding_mode="border", align_corners=False)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    contrast, brightness = between(0.85, 1.15)[:, None, None, None], between(-0.1, 0.1)[:, None, None, None]
    return (mean + (images - mean) * contrast + brightness).clamp(-1, 1)


def loss_of(scores: Scores, targets: Tensor) -> Tensor:
    """Cross-entropy of the kind, and `BACKDROP_WEIGHT` times those of place, time and weather."""
    backdrop = sum(F.cross_entropy(x, targets[:, k]) for k, x in enumerate(scores.backdrop, start=1))
    return F.cross_entropy(scores.kinds, targets[:, 0]) + BACKDROP_WEIGHT * backdrop


@torch.no_grad()
def judge(model: nn.Module, pictures: Pictures) -> dict[str, Tensor]:
    """What is right, (N,) bool each: the four `TARGETS`, and "pointing": the kind's best cell is at the thing.

    In eval mode and float32: as the course will use the network.
    """
    model.eval()
    device, right = next(model.parameters()).device, {name: [] for name in (*TARGETS, "pointing")}
    for index in torch.arange(len(pictures.pixels)).split(256):
        pixels, targets = pictures.pixels[index].to(device), pictures.targets[index].to(device)
        scores = model(to_input(pixels))
        for k, (name, found) in enumerate(zip(TARGETS, (scores.kinds, *scores.backdrop), strict=True)):
            right[name].append((found.argmax(1) == targets[:, k]).cpu())
        own = scores.cells[torch.arange(len(index)), targets[:, 0]]  # (B, h, w)
        size, cells = (pixels.shape[3], pixels.shape[2]), tuple(own.shape[1:])
        best = own.flatten(1).argmax(1).tolist()
        at_thing = [hits([pictures.boxes[i]], size, cells)[cell] for i, cell in zip(index, best, strict=True)]
        right["pointing"].append(torch.stack(at_thing))
    return {name: torch.cat(parts) for name, parts in right.items()}


def train(options: argparse.Namespace, train_set: Pictures, val_set: Pictures) -> Classifier:
    """Train, and return the averaged network of the last epoch, on the CPU. Prints what is right after each epoch."""
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    pixels, targets = train_set.pixels.to(device), train_set.targets.to(device)
    model = Classifier().to(device, memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]  # batch-norm and biases
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.lr)
    steps = max(1, len(pixels) // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, epochs=options.epochs, steps_per_epoch=steps, pct_start=0.2
    )
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.ema), use_buffers=True)
    dice = torch.Generator(device).manual_seed(options.seed)
    started = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        model.train()
        total = torch.zeros((), device=device)
        order = torch.randperm(len(pixels), device=device, generator=dice)
        for index in tqdm(order.split(options.batch_size)[:steps], f"epoch {epoch}", leave=False):
            images = augment(to_input(pixels[index]), dice)
            # bfloat16 halves the time on a GPU, and on CPUs that have it.
            with torch.autocast(device.type, torch.bfloat16):
                scores = model(images.contiguous(memory_format=torch.channels_last))
            loss = loss_of(scores, targets[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            total += loss.detach()
        right = judge(averaged.module, val_set)
        text = "  ".join(f"{name} {100 * float(x.float().mean()):.1f} %" for name, x in right.items())
        seconds = time.perf_counter() - started
        print(f"epoch {epoch}: loss {float(total) / steps:.3f}  {text}  ({seconds:.0f} s)", flush=True)
    return deepcopy(averaged.module).cpu()


def main(arguments: Sequence[str] | None = None) -> float:
    """Draw, train, write, read back. Returns the share of validation things named right by what was written."""
    options = parser().parse_args(arguments)
    if options.seed == COURSE_SEED:
        raise SystemExit(
            f"--seed {COURSE_SEED} draws the course's own images, which must stay unseen: choose another"
        )
    started = time.perf_counter()
    how = {"size": options.size, "workers": options.workers}
    train_set = draw(options.seed, 0, options.n, **how)
    val_set = draw(options.seed, options.n, options.n + max(1, options.n // 10), **how)
    print(f"drawn in {time.perf_counter() - started:.0f} s; training on {options.device}", flush=True)
    model = train(options, train_set, val_set)
    found = float(judge(model, val_set)["kind"].float().mean())
    words = sys.argv[1:] if arguments is None else list(arguments)
    field = receptive_field(model.trunk)
    metadata = {
        "network": f"helpers.encoders.scenes_cnn.ScenesCNN, a cell sees {field} x {field} pixels",
        "command": shlex.join(["python", "-m", "benchmarks.pretrain_scenes_cnn", *words]),
        "seed": str(options.seed),
        "val_accuracy": f"{found:.4f}",
        "kinds": ", ".join(KINDS),
        "versions": f"torch {torch.__version__}, torchvision {torchvision.__version__}, pillow {PIL.__version__}",
    }
    path = write_scenes_weights(model.trunk, metadata, options.output)
    model.trunk.load_state_dict(read_scenes_weights(options.output))  # as float16 has rounded them
    shipped = judge(model, val_set)
    for k, kind in enumerate(KINDS):
        mine = val_set.targets[:, 0] == k
        share, at_thing = (float(shipped[name][mine].float().mean()) for name in ("kind", "pointing"))
        print(f"{kind:>12}  right {share:.3f}  pointing {at_thing:.3f}  of {int(mine.sum())}")
    accuracy = float(shipped["kind"].float().mean())
    print(f"validation: {found:.4f} of the things right, {accuracy:.4f} after rounding to float16")
    print(f"{path}: {path.stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s in all")
    return accuracy


if __name__ == "__main__":
    main()
