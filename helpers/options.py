"""What is wrong with options, said in the first second: ranges of numbers, files and folders, names of metrics."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

import torch

from helpers.caption_metrics import bleu, truth
from helpers.classifier import known_rule
from helpers.metrics import multilabel_metrics, sequence_metrics
from helpers.systems import CAPTIONERS


def whole(low: int) -> Callable[[str], int]:
    """The `type` of an argparse option that takes a whole number of at least `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"{text} must be a whole number of at least {low}")
        return value

    return parse


def real(
    low: float, high: float = math.inf, *, above: bool = False, up_to: bool = False
) -> Callable[[str], float]:
    """The `type` of an argparse option that takes a finite number in [low, high).

    above: low itself is refused. up_to: high itself is allowed.
    """
    wanted = f"{'above' if above else 'at least'} {low:g}"
    if high < math.inf:
        wanted += f" and {'at most' if up_to else 'below'} {high:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        inside = (low < value if above else low <= value) and (value <= high if up_to else value < high)
        if not inside:  # nor is NaN
            raise argparse.ArgumentTypeError(f"{text} must be a number {wanted}")
        return value

    return parse


def threshold_rule(text: str) -> str:
    """The `type` of the argparse option --thresholds."""
    try:
        return known_rule(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def pick_device(name: str) -> torch.device:
    """`auto` is the first of cuda, mps, cpu that works; a device that is not there is refused."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"--device {name}: there is no such device; use auto, cpu, cuda or mps")
    if device.type == "cuda" and not cuda:
        raise ValueError(f"--device {name}, but torch sees no CUDA device here: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}, but the last one here is cuda:{torch.cuda.device_count() - 1}")
    if device.type == "mps" and not mps:
        raise ValueError(f"--device {name}, but torch has no MPS here: use --device cpu")
    return device


def require_file(path: Path | str, option: str, mend: str) -> None:
    """Raise FileNotFoundError for an option that names a file which is not there."""
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "there is no such file"
        raise FileNotFoundError(f"{option} {path}: {what}; {mend}")


def require_folder(path: Path, option: str = "--output") -> None:
    """Raise ValueError for a folder that could not be made or written; nothing is made yet."""
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise ValueError(f"{option} {path}: {existing} is a file, not a folder; choose another {option}")
    if not os.access(existing, os.W_OK):
        raise ValueError(f"{option} {path}: {existing} may not be written to; choose another {option}")


def check_training(args: argparse.Namespace) -> None:
    """Refuse options of `helpers.train` that cannot work, before any data are read."""
    if args.hidden == 0 and args.system != "bce":
        raise ValueError(f"--hidden 0: only bce does without a hidden layer; give {args.system} at least 1")
    if args.glove is not None:
        require_file(args.glove, "--glove", "give a text file of word vectors such as glove.6B.300d.txt")
    if args.weights not in (None, "imagenet", "scenes", "none"):
        require_file(args.weights, "--weights", "give imagenet, scenes, none or a weight file")
    if args.select is not None and args.select not in (known := _metrics(args.system)):
        raise ValueError(f"--select {args.select}: there is no such metric; there are {', '.join(known)}")
    require_folder(args.output)
    if args.resume:
        return
    if (args.output / "checkpoint.safetensors").exists():
        raise ValueError(f"{args.output} holds a finished run already: choose another --output, or delete it")
    if (args.output / "last.pt").exists():
        raise ValueError(
            f"{args.output} holds an interrupted run: go on with it with --resume, choose another --output, or "
            "delete it"
        )


def _metrics(system: str) -> list[str]:
    """Every metric that validation may have, asked of the metrics themselves."""
    if system in CAPTIONERS:
        return [*bleu(["a"], [["a"]]), "loss", *truth(["a"], [[]])]
    one = torch.ones(1, 1, dtype=torch.bool)
    return [*multilabel_metrics(one, one, one.float()), *sequence_metrics(torch.zeros(1, 2).long(), one)]
