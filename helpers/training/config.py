"""What is wrong with options, said in the first second: ranges of numbers, files and folders, names of metrics.

What the command line says about the systems with a label graph: their options, and the graph itself.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from helpers.data.records import AnnotatedImages
from helpers.data.words import load_glove
from helpers.decoders.label_graph import ADJACENCIES, cooccurrence_prior, cosine_prior, neighbours
from helpers.encoders.crops import layout
from helpers.metrics.captions import bleu, truth
from helpers.metrics.label_sets import multilabel_metrics, sequence_metrics
from helpers.systems.classifier import known_rule
from helpers.systems.registry import CAPTIONERS


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
    """Refuse options of `helpers.commands.train` that cannot work, before any data are read."""
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


PRIORS = ("cooccurrence", "glove")


HIDDEN = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of lcnet, query2label and ml_gcn."""
    g = parser.add_argument_group(
        "label graph (lcnet, query2label, ml_gcn)",
        "labels look at the image, which has heard which labels go together; see also --hidden, --glove, "
        "--feature-dropout, --standardize, --loss and --thresholds",
    )
    yes_or_no = argparse.BooleanOptionalAction
    g.add_argument(
        "--graph",
        default="learned",
        choices=("none", *ADJACENCIES),
        help="of lcnet: no label graph, the prior as it is, or with learned edges added (default: %(default)s)",
    )
    g.add_argument(
        "--prior",
        choices=PRIORS,
        help="which labels are near: together in the training images, or as words (default: glove where --glove "
        "is given, else cooccurrence)",
    )
    g.add_argument(
        "--prior-threshold",
        type=float,
        default=0.4,
        help="nearness that makes an edge, a conditional probability or a cosine (default: %(default)s)",
    )
    g.add_argument(
        "--graph-tokens",
        default="nodes",
        choices=("nodes", "gram"),
        help="what the image hears: a token a label, or the released code's matrix (default: %(default)s)",
    )
    g.add_argument(
        "--node-features",
        choices=("queries", "vectors", "learned"),
        help="what the graph network reads: the label queries, GloVe vectors or vectors of its own (default: "
        "queries; of ml_gcn vectors where --glove is given, else learned)",
    )
    g.add_argument(
        "--queries",
        choices=("random", "learned"),
        help="of the labels (default: random; query2label: learned)",
    )
    g.add_argument(
        "--layers",
        type=whole(1),
        default=1,
        help="times that labels look at the image (default: %(default)s)",
    )
    g.add_argument("--tie-layers", action=yes_or_no, default=False, help="one layer, used again each time")
    g.add_argument("--heads", type=whole(1), default=4, help="of each attention (default: %(default)s)")
    g.add_argument(
        "--layer-dropout", type=real(0, 1), default=0.1, help="in the layers (default: %(default)s)"
    )
    g.add_argument(
        "--labels-first",
        action=yes_or_no,
        default=False,
        help="labels look at the image before it has heard of the graph, as in the released code",
    )
    g.add_argument(
        "--bias",
        default="class",
        choices=("class", "shared"),
        help="one a label, or one (default: %(default)s)",
    )
    g.add_argument(
        "--positions",
        action=yes_or_no,
        default=None,
        help="tell the tokens where on the image they are (default: only query2label does)",
    )


def graph_options(encoder: nn.Module, args: argparse.Namespace) -> dict[str, Any]:
    """The options of `systems.build` for these systems, all of JSON; what was not said is left to the system."""
    options = {
        "thresholds": args.thresholds,
        "hidden_size": args.hidden or HIDDEN,
        "standardize": args.standardize,
        "feature_dropout": args.feature_dropout,
    }
    if args.loss is not None:
        options["loss"] = args.loss
    if args.system == "ml_gcn":
        return options | {"node_features": args.node_features or ("vectors" if args.glove else "learned")}
    level, cells = layout(encoder)
    options |= {
        "heads": args.heads,
        "layers": args.layers,
        "tie_layers": args.tie_layers,
        "dropout": args.layer_dropout,
        "labels_first": args.labels_first,
        "bias": args.bias,
        "cells": list(cells),
        "crops": level,
    }
    for name in ("queries", "positions"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    if args.system == "lcnet":
        options |= {
            "graph": args.graph,
            "graph_tokens": args.graph_tokens,
            "node_features": args.node_features or "queries",
        }
    return options


def graph_tensors(data: AnnotatedImages, args: argparse.Namespace) -> dict[str, Tensor]:
    """What these systems get beside their options: edges from the prior, and word vectors.

    Raises ValueError where word vectors are needed and --glove does not say where they are.
    """
    if args.system == "query2label" or (args.system == "lcnet" and args.graph == "none"):
        return {}
    words = args.node_features == "vectors" or (
        args.system == "ml_gcn" and args.glove and not args.node_features
    )
    prior = args.prior or ("glove" if args.glove else "cooccurrence")
    vectors = None
    if words or prior == "glove":
        if args.glove is None:
            raise ValueError(
                "--prior glove and --node-features vectors need --glove FILE, a text file of word vectors such as "
                "glove.6B.300d.txt"
            )
        glove = load_glove(args.glove, data.vocabulary, seed=args.seed)
        if glove.missing:
            print(f"no vector for {', '.join(glove.missing)}: drawn at random")
        vectors = glove.vectors[: len(data.vocabulary)]  # those of the labels
    nearness = cosine_prior(vectors) if prior == "glove" else cooccurrence_prior(_multi_hot(data))
    edges = neighbours(nearness, args.prior_threshold)
    alone = int(((edges + edges.T).sum(0) == 0).sum())
    print(
        f"label graph: {int(edges.count_nonzero())} edges from the {prior} prior at {args.prior_threshold:g}; "
        f"{alone} of {len(edges)} labels have none"
    )
    return {"edges": edges, **({"vectors": vectors} if words else {})}


def _multi_hot(data: AnnotatedImages) -> Tensor:
    """The labels of the training images, (N, C) bool."""
    present = torch.zeros(len(data.train), len(data.vocabulary), dtype=torch.bool)
    for row, record in zip(present, data.train, strict=True):
        row[data.vocabulary.encode(record.labels)] = True
    return present
