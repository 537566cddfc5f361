"""What the command line says about the systems with a label graph: their options, and the graph itself."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn

from helpers.crops import layout
from helpers.datasets import AnnotatedImages
from helpers.glove import load_glove
from helpers.label_graph import ADJACENCIES, cooccurrence_prior, cosine_prior, neighbours
from helpers.options import real, whole

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
