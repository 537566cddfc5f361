"""Train a system from the command line: `python -m helpers.train --help`.

Features of a frozen encoder are computed once and cached; with `--no-freeze` the images go through the encoder at
every step. The best validation epoch is kept, thresholds are chosen on validation, and the test split is looked at
once, at the end.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch.utils.data import DataLoader

from helpers.checkpoints import save_checkpoint
from helpers.datasets import AnnotatedImages, ImageDataset, load, make_loader
from helpers.encoders import Encoder, build_encoder
from helpers.features import FeatureDataset, encode_records
from helpers.files import DATA, read_json, write_json
from helpers.glove import load_glove
from helpers.labels import ORDERS, label_frequency
from helpers.systems import CLASSIFICATION_LOSSES, NEEDS_GRID, SYSTEMS, System, build
from helpers.training import FitOptions, fit, predict_all
from helpers.transforms import eval_transform, train_transform

EXAMPLES = """examples:
  python -m helpers.train --system ria --output runs/ria
      RIA on the generated scenes, with the small CNN that comes with the course
  python -m helpers.train --data corel5k --data-dir DIR --system ria --backbone mobilenet_v2 --weights FILE \\
      --image-size 224 --seed 0 --output runs/corel-ria
      RIA on Corel-5k with your own ImageNet weights
  python -m helpers.predict image.jpg --checkpoint runs/ria/checkpoint.safetensors
      label an image with the result
"""


def parser() -> argparse.ArgumentParser:
    """All options with their defaults."""
    p = argparse.ArgumentParser(
        prog="python -m helpers.train",
        description="Train an annotation system, select on validation, evaluate on test.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    g = p.add_argument_group("data")
    g.add_argument(
        "--data", default="scenes", help="scenes, corel5k, coco2014, coco2017, voc2007, or a folder of yours"
    )
    g.add_argument(
        "--data-dir", type=Path, help="where the data set lies (default: data/<name> of the course)"
    )
    g.add_argument("--download", action="store_true", help="fetch the data set first if it is not there")
    g.add_argument("--drop-unlabelled", action="store_true", help="leave out images without labels")
    g = p.add_argument_group("encoder")
    g.add_argument(
        "--backbone",
        help="torchvision name, timm:<name>, or scenes_cnn (default: scenes_cnn on scenes, else resnet50)",
    )
    g.add_argument("--weights", help="imagenet, scenes, none, or a file (default: what the backbone has)")
    g.add_argument("--image-size", type=int, help="side in pixels (default: the backbone's own)")
    g.add_argument(
        "--freeze",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the encoder as it is and cache its features",
    )
    g.add_argument("--cache-dir", type=Path, default=DATA / "features", help="folder of the feature cache")
    g.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, default=True, help="train on mirrored images too"
    )
    g = p.add_argument_group("system")
    g.add_argument(
        "--system", default="ria", choices=sorted(SYSTEMS), help="which system (default: %(default)s)"
    )
    g.add_argument(
        "--order", default="rare-first", choices=ORDERS, help="order of the labels (default: %(default)s)"
    )
    g.add_argument(
        "--hidden",
        type=int,
        help="units of the LSTM (default: 512), or of a hidden layer of bce (default: none)",
    )
    g.add_argument(
        "--embedding", type=int, default=300, help="size of the label embedding (default: %(default)s)"
    )
    g.add_argument(
        "--feature-dropout",
        type=float,
        default=0.5,
        help="on the image feature of a decoder (default: %(default)s)",
    )
    g.add_argument(
        "--input-dropout",
        type=float,
        default=0.0,
        help="on the embedding of the last label (default: %(default)s)",
    )
    g.add_argument(
        "--output-dropout", type=float, default=0.3, help="before a decoder's scores (default: %(default)s)"
    )
    g.add_argument(
        "--attention-size", type=int, default=512, help="units of the attention (default: %(default)s)"
    )
    g.add_argument(
        "--attention-dropout", type=float, default=0.3, help="on the grid it looks at (default: %(default)s)"
    )
    g.add_argument(
        "--attention-penalty",
        type=float,
        default=0.0,
        help="asks it to look everywhere once (default: %(default)s)",
    )
    g.add_argument(
        "--glove", type=Path, help="GloVe text file; its vectors become the frozen label embedding"
    )
    g.add_argument(
        "--label-smoothing", type=float, default=0.0, help="of the sequence loss (default: %(default)s)"
    )
    g.add_argument(
        "--loss", default="bce", choices=sorted(CLASSIFICATION_LOSSES), help="of bce (default: %(default)s)"
    )
    g.add_argument(
        "--thresholds",
        default="global",
        help="of bce: global, mcc (one a label) or top3 (default: %(default)s)",
    )
    g = p.add_argument_group("training")
    g.add_argument(
        "--epochs", type=int, default=20, help="passes over the training images (default: %(default)s)"
    )
    g.add_argument("--batch-size", type=int, default=64, help="images a step (default: %(default)s)")
    g.add_argument("--lr", type=float, default=1e-3, help="highest learning rate (default: %(default)s)")
    g.add_argument("--weight-decay", type=float, default=1e-2, help="of AdamW (default: %(default)s)")
    g.add_argument(
        "--clip-norm", type=float, default=5.0, help="largest gradient norm (default: %(default)s)"
    )
    g.add_argument(
        "--ema",
        type=float,
        default=0.99,
        metavar="DECAY",
        help="average the weights over about 1 / (1 - DECAY) steps; 0 for none (default: %(default)s)",
    )
    g.add_argument("--patience", type=int, help="stop after this many epochs without gain (default: never)")
    g.add_argument(
        "--select", help="validation metric that picks the best epoch (default: mAP for bce, CF1 else)"
    )
    g.add_argument("--seed", type=int, default=0, help="of weights, order and dropout (default: %(default)s)")
    g = p.add_argument_group("machine")
    g.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    g.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    g.add_argument(
        "--num-workers", type=int, default=0, help="processes that read images (default: %(default)s)"
    )
    g.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for checkpoint.safetensors, metrics.json, config.json, TensorBoard",
    )
    g.add_argument("--half", action="store_true", help="store the checkpoint as float16, half the size")
    g.add_argument("--resume", action="store_true", help="go on with an interrupted run in --output")
    return p


@dataclass(frozen=True)
class Loaders:
    """The three splits, batched; train and validation in the order of training."""

    train: DataLoader
    val: DataLoader
    test: DataLoader


def pick_device(name: str) -> torch.device:
    """`auto` is the first of cuda, mps, cpu that works; a device that is not there is refused."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, but torch sees no CUDA device here: use --device cpu")
    return device


def make_encoder(args: argparse.Namespace) -> Encoder:
    """The encoder that the options name, with the defaults of the data set."""
    backbone = args.backbone or ("scenes_cnn" if args.data == "scenes" else "resnet50")
    weights = args.weights or ("scenes" if backbone == "scenes_cnn" else "imagenet")
    torch.manual_seed(args.seed)
    return build_encoder(
        backbone,
        weights=None if weights == "none" else weights,
        image_size=args.image_size,
        freeze=args.freeze,
    )


def make_loaders(
    data: AnnotatedImages, encoder: Encoder, args: argparse.Namespace, device: torch.device
) -> Loaders:
    """Batches of cached features where the encoder is frozen, of images where it learns."""
    frequency = label_frequency([data.vocabulary.encode(r.labels) for r in data.train], len(data.vocabulary))
    loaders = {}
    for split in ("train", "val", "test"):
        records = data.split(split)
        train = split == "train"
        order = {"order": args.order, "frequency": frequency}
        if args.freeze:
            cached = encode_records(
                encoder,
                records,
                args.cache_dir,
                grid=args.system in NEEDS_GRID,
                flip=train and args.flip,
                device=device,
                num_workers=args.num_workers,
            )
            dataset = FeatureDataset(cached, records, data.vocabulary, augment=train and args.flip, **order)
        else:
            flip = 0.5 if args.flip else 0.0
            transform = (
                train_transform(encoder.preprocessing, horizontal_flip=flip)
                if train
                else eval_transform(encoder.preprocessing)
            )
            dataset = ImageDataset(records, data.vocabulary, transform, **order)
        loaders[split] = make_loader(
            dataset,
            batch_size=args.batch_size,
            shuffle=train,
            seed=args.seed,
            num_workers=0 if args.freeze else args.num_workers,
            pin_memory=device.type == "cuda",
        )
    return Loaders(**loaders)


def system_options(data: AnnotatedImages, args: argparse.Namespace) -> dict[str, Any]:
    """The options of `systems.build`, all of JSON, so that a checkpoint can rebuild the system."""
    if args.system == "bce":
        return {"loss": args.loss, "thresholds": args.thresholds, "hidden_size": args.hidden or 0}
    options = {
        "hidden_size": args.hidden or 512,
        "feature_dropout": args.feature_dropout,
        "input_dropout": args.input_dropout,
        "output_dropout": args.output_dropout,
        "embedding_size": args.embedding,
        "max_labels": max(1, *(len(r.labels) for r in data.train)),
        "label_smoothing": args.label_smoothing,
    }
    if args.system == "attention":
        options |= {
            "attention_size": args.attention_size,
            "attention_dropout": args.attention_dropout,
            "attention_penalty": args.attention_penalty,
        }
    return options


def make_system(
    data: AnnotatedImages, encoder: Encoder, args: argparse.Namespace
) -> tuple[System, dict[str, Any]]:
    """The untrained system and the options that rebuild it. The embedding size follows GloVe where given."""
    options = system_options(data, args)
    vectors = {}
    if args.glove is not None and "embedding_size" in options:
        glove = load_glove(args.glove, data.vocabulary, seed=args.seed)
        if glove.missing:
            print(f"no vector for {', '.join(glove.missing)}: drawn at random")
        options["embedding_size"] = glove.vectors.shape[1]
        vectors = {"vectors": glove.vectors}
    torch.manual_seed(args.seed)
    system = build(
        args.system,
        data.vocabulary,
        encoder.dim,
        encoder=None if args.freeze else encoder,
        **options,
        **vectors,
    )
    return system, options


def run(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Train, select, calibrate, test; leave everything in `args.output`. Returns the metrics by split."""
    started = time.perf_counter()
    device = pick_device(args.device)
    if (args.output / "checkpoint.safetensors").exists() and not args.resume:
        raise ValueError(f"{args.output} holds a finished run already: choose another --output, or delete it")
    data = load(
        args.data,
        args.data_dir,
        unlabelled="drop" if args.drop_unlabelled else "keep",
        download=args.download,
    )
    print(data.describe())
    encoder = make_encoder(args).to(device)
    config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    if args.resume and (args.output / "config.json").exists():
        _refuse_changes(read_json(args.output / "config.json")["arguments"], config)
    loaders = make_loaders(data, encoder, args, device)
    encoded = time.perf_counter()
    system, options = make_system(data, encoder, args)
    write_json(
        args.output / "config.json", {"arguments": config, "options": options, "encoder": encoder.name}
    )
    fit_options = FitOptions(
        epochs=args.epochs,
        learning_rate=args.lr,
        weight_decay=args.weight_decay,
        clip_norm=args.clip_norm,
        ema_decay=args.ema,
        patience=args.patience,
        amp=args.amp,
        seed=args.seed,
    )
    history = fit(
        system,
        loaders.train,
        validate=lambda model: predict_all(model, loaders.val, device=device).metrics(),
        select=args.select or system.select,
        options=fit_options,
        device=device,
        output=args.output,
        resume=args.resume,
    )
    val = predict_all(system, loaders.val, device=device)
    if val.scores is not None:
        system.calibrate(val.scores, val.target)
        val = predict_all(system, loaders.val, device=device)
    metrics = {"val": val.metrics(), "test": predict_all(system, loaders.test, device=device).metrics()}
    seconds = {"encoding": encoded - started, "total": time.perf_counter() - started}
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )
    write_json(
        args.output / "metrics.json",
        {**metrics, "history": history, "seconds": seconds, "device": where, "versions": versions},
    )
    save_checkpoint(
        args.output / "checkpoint.safetensors",
        system,
        encoder,
        name=args.system,
        options=options,
        config=config,
        metrics=metrics,
        half=args.half,
    )
    return metrics


def _refuse_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """A resumed run must be the same run."""
    free = {"resume", "device", "num_workers", "output", "cache_dir"}
    changed = [
        f"{k}: {before[k]} -> {now[k]}" for k in now if k not in free and k in before and before[k] != now[k]
    ]
    if changed:
        raise ValueError(
            f"--resume, but the options changed ({'; '.join(changed)}): use the same, or a new --output"
        )


def print_table(metrics: dict[str, dict[str, float]]) -> None:
    """The metrics of the splits side by side; shares in percent, N+ as a count."""
    print(f"{'':>22}" + "".join(f"{split:>10}" for split in metrics))
    for name in metrics["test"]:
        cells = (
            f"{values[name]:>10.0f}" if name == "N+" else f"{100 * values[name]:>10.2f}"
            for values in metrics.values()
        )
        print(f"{name:>22}" + "".join(cells))


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors that the user can mend are printed as one line."""
    args = parser().parse_args(argv)
    try:
        metrics = run(args)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\ninterrupted: the same command with --resume goes on from {args.output / 'last.pt'}",
            file=sys.stderr,
        )
        return 130
    print_table(metrics)
    print(f"checkpoint, metrics and configuration are in {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
