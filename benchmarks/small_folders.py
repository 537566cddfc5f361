"""Are the defaults of a run right for few photographs? 100 to 4,000 of Corel-5k, the defaults against other options.

    python -m benchmarks.small_folders --corel5k DIR --weights FILE

N photographs are drawn from the training split, 70 % to train on and 15 % to choose the epoch, as with a folder of
one's own; all runs are judged on the official 499 test images. Features are encoded once. Runs that are in --output
already are not repeated.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from helpers.commands.train import configure
from helpers.data.batches import Features, make_loader
from helpers.data.files import DATA, REPOSITORY, read_json, write_json
from helpers.data.load import load
from helpers.data.records import AnnotatedImages, Record
from helpers.encoders.cache import CachedFeatures, FeatureDataset, encode_records
from helpers.encoders.encoder import Encoder
from helpers.systems.base import System
from helpers.training.config import Config, scaled
from helpers.training.fit import evaluate, fit, predict_all
from helpers.training.run import Task, make_encoder, make_system

SYSTEMS = ("bce", "ria", "attention")
SEEDS = {100: 3, 300: 3, 1000: 1, 4000: 1}
CHANGES = {  # of the defaults: a factor of the epochs, and options
    "defaults": (1, ""),
    "no average": (1, "--ema 0"),
    "half the epochs": (0.5, ""),
    "twice the epochs": (2, ""),
    "20 epochs of 64": (1, "--epochs 20 --batch-size 64"),
}


class SomeFeatures:
    """`CachedFeatures` of some of the images that were encoded."""

    def __init__(self, cached: CachedFeatures, records: Sequence[Record]) -> None:
        places = {path: place for place, path in enumerate(cached.paths)}
        self.cached, self.views, self.paths = cached, cached.views, [record.path for record in records]
        self.places = torch.tensor([places[path] for path in self.paths])

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: Tensor, view: Tensor | int = 0) -> Features:
        return self.cached.read(self.places[index], view)


def subset(data: AnnotatedImages, count: int, seed: int) -> AnnotatedImages:
    """`count` photographs of the training split: 70 % train, 15 % val (the other 15 % would be a folder's test)."""
    records = random.Random(seed).sample(data.train, count)
    train, val = round(0.7 * count), round(0.85 * count)
    return replace(data, train=tuple(records[:train]), val=tuple(records[train:val]))


def run_one(
    config: Config, data: AnnotatedImages, cached: dict[str, CachedFeatures], encoder: Encoder
) -> dict:
    """Train on a subset; the metrics on test."""
    order = getattr(config.options, "order", "given")
    how = {"vocabulary": data.vocabulary, "order": order, "frequency": data.frequency()}
    loaders: dict[str, DataLoader] = {}
    for split in ("train", "val", "test"):
        source, train = cached["test" if split == "test" else "train"], split == "train"
        some = SomeFeatures(source, data.split(split))
        dataset = FeatureDataset(some, data.split(split), **how, augment=train)
        size = config.run.batch_size if train else 128
        loaders[split] = make_loader(dataset, batch_size=size, shuffle=train, seed=config.fit.seed)
    system: System = make_system(config, data, Task(data.vocabulary, {}), encoder)
    fit(
        system,
        loaders["train"],
        validate=lambda model: evaluate(model, loaders["val"]),
        select=system.select,
        options=config.fit,
        progress=False,
    )
    if type(system).calibrate is not System.calibrate:
        val = predict_all(system, loaders["val"])
        system.calibrate(val.scores, val.target)
    return evaluate(system, loaders["test"])


def table(found: dict[str, dict]) -> str:
    """OF1 in percent, mean ± standard deviation: a row per system and change, a column per size."""
    lines = [
        "| system | options | " + " | ".join(f"{n:,}" for n in SEEDS) + " |",
        "|---|---|" + "---:|" * len(SEEDS),
    ]
    for name in SYSTEMS:
        for change in CHANGES:
            cells = []
            for count in SEEDS:
                runs = [
                    100 * r["OF1"] for key, r in found.items() if key.startswith(f"{name}/{change}/{count}/")
                ]
                spread = f" ± {statistics.stdev(runs):.1f}" if len(runs) > 1 else ""
                cells.append(f"{statistics.mean(runs):.1f}{spread}" if runs else "")
            if any(cells):
                lines.append(f"| {name} | {change} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--corel5k", type=Path, required=True, help="folder of Corel-5k")
    p.add_argument("--weights", type=Path, required=True, help="ImageNet weights of mobilenet_v2")
    p.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS, help="(default: all)")
    p.add_argument("--sizes", nargs="+", type=int, default=list(SEEDS), help="(default: %(default)s)")
    p.add_argument(
        "--changes", nargs="+", default=list(CHANGES), choices=list(CHANGES), help="(default: all)"
    )
    p.add_argument("--seeds", type=int, default=3, help="at most (default: %(default)s)")
    p.add_argument("--output", type=Path, default=REPOSITORY / "runs" / "small_folders.json")
    args = p.parse_args()
    data = load("corel5k", args.corel5k)
    common = [
        "--backbone",
        "mobilenet_v2",
        "--image-size",
        "224",
        "--weights",
        str(args.weights),
        "--output",
        "unused",
    ]
    encoder = make_encoder(configure(["bce", *common]))
    cached = {
        split: encode_records(encoder, data.split(split), DATA / "features", flip=split == "train")
        for split in ("train", "test")
    }
    found = read_json(args.output) if args.output.exists() else {}
    for name in args.systems:
        for count in args.sizes:
            for seed in range(min(args.seeds, SEEDS[count])):
                few = subset(data, count, seed)
                for change in args.changes:
                    key = f"{name}/{change}/{count}/{seed}"
                    if key in found:
                        continue
                    factor, more = CHANGES[change]
                    config = scaled(
                        configure([name, *common, "--seed", str(seed), *more.split()]), len(few.train)
                    )
                    config = replace(
                        config, fit=replace(config.fit, epochs=round(factor * config.fit.epochs))
                    )
                    found[key] = run_one(config, few, cached, encoder)
                    print(f"{key}: OF1 {100 * found[key]['OF1']:.1f}", flush=True)
                    write_json(
                        args.output, {k: {m: x for m, x in v.items() if x == x} for k, v in found.items()}
                    )
    print(table(found))


if __name__ == "__main__":
    main()
