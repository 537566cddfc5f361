"""Train the small CNN that ships in data/scenes_cnn.safetensors, from scratch, on scenes of its own.

    python -m benchmarks.pretrain_scenes_cnn
    python -m benchmarks.pretrain_scenes_cnn --n 200 --epochs 2 --output DIR      (to see that it works)

The scenes are drawn in memory with another seed than the course's (0), so that the network has seen none of the
course's images; the epoch with the best validation mAP, on scenes of that other seed, is kept. It leaves
scenes_cnn.safetensors (float16, about 1.3 MB) and its sha256 in checksums.json.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import PIL
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from helpers.data.files import DATA
from helpers.encoders.scenes_cnn import DIM, ScenesCNN, read_scenes_weights, write_scenes_weights
from helpers.metrics.label_sets import multilabel_metrics, per_label_metrics
from helpers.scenes.content import LABELS
from helpers.scenes.write import draw_scene
from helpers.systems.losses import asymmetric_loss

COURSE_SEED = 0
CHUNK = 100  # scenes a process draws before it hands them over


class Classifier(nn.Module):
    """The network with a linear layer on its mean: images (B, 3, S, S) -> logits (B, C)."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.trunk = ScenesCNN()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(DIM, len(LABELS))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.trunk(images).mean(dim=(2, 3))))


@dataclass(frozen=True)
class Images:
    """pixels (N, 3, S, S) uint8; multi_hot (N, C) float32."""

    pixels: Tensor
    multi_hot: Tensor

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.multi_hot.to(device))


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--n", type=int, default=12_000, help="scenes to train on; a tenth more to validate (%(default)s)"
    )
    p.add_argument("--seed", type=int, default=1000, help="of scenes, weights and order; not 0 (%(default)s)")
    p.add_argument("--size", type=int, default=128, help="side of the images in pixels (%(default)s)")
    p.add_argument("--epochs", type=int, default=16, help="(%(default)s)")
    p.add_argument("--batch-size", type=int, default=64, help="(%(default)s)")
    p.add_argument("--lr", type=float, default=3e-3, help="highest learning rate of OneCycle (%(default)s)")
    p.add_argument("--weight-decay", type=float, default=0.05, help="of AdamW, on convolutions (%(default)s)")
    p.add_argument("--dropout", type=float, default=0.1, help="before the linear layer (%(default)s)")
    p.add_argument("--loss", choices=("bce", "asl"), default="bce", help="(%(default)s)")
    p.add_argument(
        "--ema", type=float, default=0.99, help="decay of the averaged weights, 0 for none (%(default)s)"
    )
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    p.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that draw (%(default)s)"
    )
    p.add_argument("--output", type=Path, default=DATA, help="folder of the two files (%(default)s)")
    return p


def draw_chunk(seed: int, split: str, start: int, stop: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes start..stop-1: pixels (n, 3, S, S) uint8 and labels (n, C) bool. Runs in other processes."""
    scenes = [draw_scene(seed, split=split, index=index, size=size) for index in range(start, stop)]
    pixels = np.stack(
        [np.asarray(scene.image).transpose(2, 0, 1) for scene in scenes]
    )  # (n, S, S, 3) -> (n, 3, S, S)
    return pixels, np.array([[label in scene.labels for label in LABELS] for scene in scenes])


def draw(seed: int, split: str, count: int, size: int, workers: int) -> Images:
    """`count` scenes of a split, drawn by `workers` processes (by this one if that is 1)."""
    jobs = [(seed, split, start, min(start + CHUNK, count), size) for start in range(0, count, CHUNK)]
    pixels = torch.empty(count, 3, size, size, dtype=torch.uint8)
    multi_hot = torch.empty(count, len(LABELS))
    with ExitStack() as stack:
        if workers > 1:
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
            chunks = pool.map(draw_chunk, *zip(*jobs, strict=True))
        else:
            chunks = starmap(draw_chunk, jobs)
        for job, (drawn, labels) in zip(jobs, tqdm(chunks, f"drawing {split}", len(jobs)), strict=True):
            pixels[job[2] : job[3]] = torch.from_numpy(drawn)
            multi_hot[job[2] : job[3]] = torch.from_numpy(labels)
    return Images(pixels, multi_hot)


def to_input(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) to -1..1 float32: what `Preprocessing` with mean and std 0.5 does."""
    return pixels.float() / 127.5 - 1


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, move and scale each a little, and change its brightness and contrast a little.

    images (B, 3, S, S) in -1..1 to the same. Labels stay true: nothing of size leaves the picture.
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
    images = F.grid_sample(images, where, padding_mode="reflection", align_corners=False)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    contrast, brightness = between(0.85, 1.15)[:, None, None, None], between(-0.1, 0.1)[:, None, None, None]
    return (mean + (images - mean) * contrast + brightness).clamp(-1, 1)


@torch.no_grad()
def score(model: nn.Module, images: Images, batch_size: int) -> Tensor:
    """Logits (N, C) on the CPU, in eval mode and float32: as the course will use the network."""
    model.eval()
    return torch.cat([model(to_input(pixels)) for pixels in images.pixels.split(batch_size)]).cpu()


def mean_average_precision(logits: Tensor, images: Images) -> float:
    """mAP over the labels that occur."""
    return multilabel_metrics(logits > 0, images.multi_hot.bool().cpu(), logits)["mAP"]


def train(arguments: argparse.Namespace, train_set: Images, val_set: Images) -> tuple[Classifier, float]:
    """Train, and return the network of the best epoch, on the CPU, with its validation mAP."""
    torch.manual_seed(arguments.seed)
    device = torch.device(arguments.device)
    train_set, val_set = train_set.to(device), val_set.to(device)
    model = Classifier(arguments.dropout).to(device, memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]  # batch-norm and biases
    groups = [
        {"params": decayed, "weight_decay": arguments.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=arguments.lr)
    steps = max(1, len(train_set.pixels) // arguments.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, arguments.lr, epochs=arguments.epochs, steps_per_epoch=steps, pct_start=0.2
    )
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(arguments.ema), use_buffers=True)
    judged = averaged.module if arguments.ema else model
    loss_of = F.binary_cross_entropy_with_logits if arguments.loss == "bce" else asymmetric_loss
    dice = torch.Generator(device).manual_seed(arguments.seed)
    best, best_map = deepcopy(model), -1.0
    bar = tqdm(range(arguments.epochs), "training", unit="epoch")
    for _ in bar:
        model.train()
        total = 0.0
        for index in torch.randperm(len(train_set.pixels), device=device, generator=dice).split(
            arguments.batch_size
        )[:steps]:
            images = augment(to_input(train_set.pixels[index]), dice).contiguous(
                memory_format=torch.channels_last
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(images)
            loss = loss_of(logits.float(), train_set.multi_hot[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            total += loss.detach()
        found = mean_average_precision(score(judged, val_set, arguments.batch_size), val_set)
        if found > best_map:
            best, best_map = deepcopy(judged), found
        bar.set_postfix(loss=f"{float(total) / steps:.4f}", mAP=f"{found:.4f}", best=f"{best_map:.4f}")
    return best.cpu(), best_map


def main(arguments: Sequence[str] | None = None) -> float:
    """Draw, train, write, read back. Returns the validation mAP of what was written."""
    options = parser().parse_args(arguments)
    if options.seed == COURSE_SEED:
        raise SystemExit(
            f"--seed {COURSE_SEED} draws the course's own images, which must stay unseen: choose another"
        )
    started = time.perf_counter()
    train_set = draw(options.seed, "train", options.n, options.size, options.workers)
    val_set = draw(options.seed, "val", max(1, options.n // 10), options.size, options.workers)
    print(f"drawn in {time.perf_counter() - started:.0f} s; training on {options.device}")
    model, best_map = train(options, train_set, val_set)
    words = sys.argv[1:] if arguments is None else list(arguments)
    metadata = {
        "network": "helpers.encoders.scenes_cnn.ScenesCNN",
        "command": shlex.join(["python", "-m", "benchmarks.pretrain_scenes_cnn", *words]),
        "seed": str(options.seed),
        "val_mAP": f"{best_map:.4f}",
        "labels": ", ".join(LABELS),
        "versions": f"torch {torch.__version__}, torchvision {torchvision.__version__}, pillow {PIL.__version__}",
    }
    path = write_scenes_weights(model.trunk, metadata, options.output)
    model.trunk.load_state_dict(read_scenes_weights(options.output))  # as float16 has rounded them
    logits = score(model, val_set, options.batch_size)
    shipped = mean_average_precision(logits, val_set)
    details = per_label_metrics(logits > 0, val_set.multi_hot.bool(), logits)
    for label, precision, support in zip(
        LABELS, details["average_precision"], details["support"], strict=True
    ):
        print(f"{label:>12}  AP {precision:.3f}  in {int(support)} of {len(logits)}")
    print(f"validation mAP {best_map:.4f}, {shipped:.4f} after rounding to float16")
    print(f"{path}: {path.stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s in all")
    return shipped


if __name__ == "__main__":
    main()
