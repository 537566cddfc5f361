"""What the drawn world shows: linear < MLP < CNN-RNN < attention < attention without an order; and attention points.

    python -m benchmarks.drawn_world                                     (all rows, three seeds, docs/drawn_world.md)
    python -m benchmarks.drawn_world --rows "attention after" --seeds 0 --with '{"look": "before"}' --output FILE
    python -m benchmarks.drawn_world --table                             (the tables from the numbers that are there)

Trains each row of `ROWS` on the embedded scenes and measures it on validation and test: the metrics, whether the sets
make sense, and for decoders that attend what their maps are worth. Rows that are in the output already are not run
again. The options were chosen on validation with seed 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from helpers.data.batches import Batch, Features
from helpers.data.files import DATA, REPOSITORY, read_json, write_json, write_text
from helpers.data.images import eval_transform, open_image
from helpers.data.labels import decoder_inputs, to_multi_hot
from helpers.data.load import load
from helpers.data.records import AnnotatedImages
from helpers.decoders.adaptive_attention import sentinel_weight, where_it_looked
from helpers.decoders.base import State, most_probable, unroll
from helpers.decoders.label_graph import cooccurrence_prior, neighbours
from helpers.decoders.search import Decoded, greedy
from helpers.encoders.cache import feature_loaders
from helpers.encoders.encoder import Encoder, build_encoder
from helpers.metrics.label_sets import multilabel_metrics, set_consistency
from helpers.metrics.localization import Look, grad_cam, grade, looks_of
from helpers.scenes.content import LABEL_KINDS, RARE_LARGE, RULES
from helpers.systems.base import System
from helpers.systems.registry import build
from helpers.systems.sequence import SequenceSystem
from helpers.training.config import FitOptions
from helpers.training.fit import fit, predict_all

NUMBERS, PAGE = REPOSITORY / "docs" / "drawn_world.json", REPOSITORY / "docs" / "drawn_world.md"
BEGIN, END = "<!-- tables: begin (written by benchmarks/drawn_world.py) -->", "<!-- tables: end -->"
MCC = "test, MCC thresholds"


@dataclass(frozen=True)
class Row:
    """One training: a system, its options, how it is fitted. images: of the training split (None: all).

    graph: of a label graph; False takes its edges away.
    """

    system: str
    options: dict[str, Any] = field(default_factory=dict)
    order: str = "rare-first"
    epochs: int = 30
    learning_rate: float = 3e-3
    ema_decay: float = 0.0
    backbone: str = "scenes_cnn"
    images: int | None = None
    graph: bool = True
    batch_size: int = 64

    def but(self, **changes: Any) -> Row:
        """The same with other values; names that a row does not have are options of the system."""
        names = {f.name for f in fields(self)}
        own = {name: value for name, value in changes.items() if name in names}
        options = {name: value for name, value in changes.items() if name not in names}
        return replace(self, **own, options=self.options | options)


# Each tuned on validation for itself: a linear head wants a high rate and no dropout.
LINEAR = Row("bce", {"dropout": 0.0}, epochs=50, learning_rate=3e-2, ema_decay=0.99)
MLP = Row("bce", {"hidden_size": 512}, epochs=50, learning_rate=1e-2, ema_decay=0.99)
SMALL = {"embedding_size": 64, "feature_dropout": 0.1, "output_dropout": 0.3}
RIA = Row("ria", {**SMALL, "hidden_size": 256}, epochs=40, ema_decay=0.99)
ATTENTION = Row("attention", {**SMALL, "hidden_size": 128, "attention_size": 64, "attention_dropout": 0.0})
GRAPH = Row("ml_gcn", {"hidden_size": 256}, learning_rate=2e-3, epochs=80, batch_size=32)
ROWS = {
    "bce, linear": LINEAR,
    "bce, hidden 512": MLP,
    "ria, rare-first": RIA,
    "ria with c0 from the image, rare-first": RIA.but(learn_cell=True),
    "attention before, rare-first": ATTENTION.but(look="before"),
    "attention after, rare-first": ATTENTION,
    # Without an order they gain from twice the epochs; with one they do not.
    "attention after, PLA": ATTENTION.but(system="attention_pla", epochs=60),
    "attention sentinel, PLA": ATTENTION.but(system="attention_pla", look="sentinel", epochs=60),
    "query2label": Row("query2label", {"hidden_size": 64}, learning_rate=2e-3, ema_decay=0.99),
    "bce, linear, mixed features": LINEAR.but(backbone="scenes_cnn_mixed"),
    "attention after, rare-first, mixed features": ATTENTION.but(backbone="scenes_cnn_mixed"),
}
for _count in (250, 100):
    ROWS[f"ml_gcn, {_count} images"] = GRAPH.but(images=_count)
    ROWS[f"ml_gcn without its graph, {_count} images"] = GRAPH.but(images=_count, graph=False)


# --- training one row -----------------------------------------------------------------------------------------------


@cache
def scenes() -> AnnotatedImages:
    return load("scenes", progress=False)


@cache
def encoder_of(backbone: str) -> Encoder:
    return build_encoder(backbone, weights="scenes")


def label_sets(split: str) -> Tensor:
    """The true labels of a split, (N, C) bool."""
    vocabulary, records = scenes().vocabulary, scenes().split(split)
    sets = torch.zeros(len(records), len(vocabulary), dtype=torch.bool)
    for row, record in zip(sets, records, strict=True):
        row[vocabulary.encode(record.labels)] = True
    return sets


def make_system(row: Row) -> System:
    """The untrained system of a row."""
    data, given = scenes(), dict(row.options)
    if row.system in ("ml_gcn", "lcnet"):
        edges = neighbours(cooccurrence_prior(label_sets("train")[: row.images]), 0.4)
        given["edges"] = edges if row.graph else torch.zeros_like(edges)
    elif row.system == "query2label":
        given["cells"] = encoder_of(row.backbone).grid_size
    elif row.system != "bce":
        given["max_labels"] = max(len(record.labels) for record in data.train)
    return build(row.system, data.vocabulary, encoder_of(row.backbone).dim, **given)


def run(name: str, row: Row, seed: int) -> dict[str, Any]:
    """Train a row with a seed and measure it."""
    started = time.perf_counter()
    torch.manual_seed(seed)
    system = make_system(row)
    data = replace(scenes(), train=scenes().train[: row.images])
    how = {"order": row.order, "batch_size": row.batch_size, "flip": True, "progress": False}
    loaders = feature_loaders(data, encoder_of(row.backbone), cache_dir=DATA / "features", **how)
    fit(
        system,
        loaders["train"],
        validate=lambda model: predict_all(model, loaders["val"]).metrics(),
        select="OF1" if isinstance(system, SequenceSystem) else "mAP",
        options=FitOptions(
            epochs=row.epochs, learning_rate=row.learning_rate, ema_decay=row.ema_decay, seed=seed
        ),
        progress=False,
    )
    result: dict[str, Any] = {"row": name, "seed": seed}
    val = predict_all(system, loaders["val"])
    for rule, key in (("mcc", MCC), ("global", "test")):
        if val.scores is not None:
            system.use_thresholds(rule)
            system.calibrate(val.scores, val.target)
        elif key == MCC:
            continue
        found = predict_all(system, loaders["test"])
        result[key] = found.metrics() | judge(found.predicted, found.target)
    result["val"] = predict_all(system, loaders["val"]).metrics()
    if row.system.startswith("attention"):
        for split in ("val", "test"):
            result[split] |= maps(system, row, split, loaders[split])
        result["test"] |= controls(system, row, loaders["test"])
    return result | {"seconds": time.perf_counter() - started}


# --- what is measured -----------------------------------------------------------------------------------------------


def judge(predicted: Tensor, target: Tensor) -> dict[str, float]:
    """Whether named sets make sense, and how many rare but large labels are found: predicted, target (N, C) bool."""
    encode = scenes().vocabulary.encode
    rules = {encode([label])[0]: encode(needed) for label, needed in RULES.items()}
    rare = encode(RARE_LARGE)
    recall = (predicted & target)[:, rare].sum() / target[:, rare].sum()
    return set_consistency(predicted, label_sets("train"), rules) | {"recall_rare_large": float(recall)}


def decode(system: SequenceSystem, features: Features) -> Decoded:
    return greedy(system.decoder, system.decoder_features(features), max_steps=system.max_labels + 1)


def all_features(loader: DataLoader[Batch]) -> Features:
    return Features(*(torch.cat(parts) for parts in zip(*(batch.features for batch in loader), strict=True)))


def maps(system: SequenceSystem, row: Row, split: str, loader: DataLoader[Batch]) -> dict[str, float]:
    """Pointing and mass of the attention and of Grad-CAM of the same network; the weight of the sentinel."""
    records, grid_size = scenes().split(split), encoder_of(row.backbone).grid_size
    vocabulary, features = scenes().vocabulary, all_features(loader)
    decoded = decode(system, features)
    seen = replace(decoded, attention=where_it_looked(decoded.attention))
    found = grade(looks_of(seen, vocabulary), records, grid_size).all
    cams = grade(grad_cam_looks(system, decoded, features), records, grid_size).all
    result = {
        "pointing": found.pointing,
        "pointing_chance": found.pointing_chance,
        "mass": found.mass,
        "mass_chance": found.mass_chance,
        "grad_cam_pointing": cams.pointing,
        "grad_cam_mass": cams.mass,
    }
    if system.options.sentinel:
        beta, kinds = sentinel_weight(decoded.attention), defaultdict(list)  # (N, T)
        for i, n in enumerate(decoded.lengths.tolist()):
            for t, label in enumerate(vocabulary.decode(decoded.tokens[i, :n])):
                if label in records[i].labels:
                    kinds[LABEL_KINDS[label]].append(float(beta[i, t]))
        result |= {f"sentinel_{kind}": statistics.fmean(weights) for kind, weights in kinds.items()}
    return result


def grad_cam_looks(system: SequenceSystem, decoded: Decoded, features: Features) -> list[Look]:
    """Grad-CAM of the decoder's own score of each label that it named, given the labels that it named before."""
    vocabulary = scenes().vocabulary
    inputs, looks = decoder_inputs(decoded.tokens, vocabulary.start), []  # (N, T)
    for t in range(int(decoded.lengths.max())):
        for rows in (decoded.lengths > t).nonzero().flatten().split(128):
            before, named = inputs[rows, : t + 1], decoded.tokens[rows, t]

            def score(cells: Features, before: Tensor = before) -> Tensor:
                return system.decoder(system.decoder_features(cells), before)[0][:, -1]

            weights = grad_cam(score, features.grid[rows], named)
            looks += map(Look, rows.tolist(), vocabulary.decode(named), weights)
    return looks


@torch.inference_mode()
def controls(system: SequenceSystem, row: Row, loader: DataLoader[Batch]) -> dict[str, float]:
    """Whether the attention matters: OF1 with other weights, and the labels forgotten where a place is hidden."""
    encoder, features, decoder = encoder_of(row.backbone), all_features(loader), system.decoder
    seen, target = system.decoder_features(features), label_sets("test")
    generator = torch.Generator().manual_seed(0)
    # A sentinel keeps its own weight: only where the decoder looks is changed. (B, L) to (B, L).
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "equal": lambda own: own.mean(1, keepdim=True).expand_as(own),
        "other_picture": lambda own: own.roll(1, 0),
        "shifted": lambda own: own.view(-1, *encoder.grid_size).roll(3, 2).flatten(1),  # by 3 columns
        "shuffled": lambda own: own[:, torch.randperm(own.shape[1], generator=generator)],
    }
    result = {}
    for name, change in changes.items():

        def moved(tokens: Tensor, state: State, change: Callable[[Tensor], Tensor] = change) -> Any:
            own = decoder.step(tokens, state)[2]
            return decoder.step(tokens, state, attention=change(own))

        steps = unroll(decoder, seen, most_probable, steps=system.max_labels + 1, repeats=False, step=moved)
        predicted = to_multi_hot(torch.stack([s.tokens for s in steps], 1), len(system.vocabulary)).bool()
        result[f"OF1_{name}"] = multilabel_metrics(predicted, target)["OF1"]
    return result | hide(system, encoder, decode(system, features), generator)


def hide(
    system: SequenceSystem, encoder: Encoder, decoded: Decoded, generator: torch.Generator
) -> dict[str, float]:
    """Cover a piece of the size of the label's box where the attention is largest, or anywhere: is the label forgotten?

    For the right labels with exactly one box, each in a copy of its own of the picture. "box" covers the box itself.
    """
    vocabulary, (h, w), transform = (
        scenes().vocabulary,
        encoder.grid_size,
        eval_transform(encoder.preprocessing),
    )
    hidden, covered = [], {"attention": [], "anywhere": [], "box": []}
    for i, n in enumerate(decoded.lengths.tolist()):
        record = scenes().test[i]
        picture = open_image(record.path)
        pixels = transform(picture)  # (3, S, S)
        for t, token in enumerate(decoded.tokens[i, :n].tolist()):
            boxes = [box for box in record.boxes if box.label == vocabulary.labels[token]]
            if len(boxes) != 1:
                continue
            (box,), side = boxes, encoder.image_size
            tall, wide = box.height / picture.height, box.width / picture.width  # shares of the picture
            cells = {
                "attention": int(decoded.attention[i, t].argmax()),
                "anywhere": int(torch.randint(h * w, (), generator=generator)),
            }
            centres = {name: ((cell // w + 0.5) / h, (cell % w + 0.5) / w) for name, cell in cells.items()}
            centres["box"] = (box.y / picture.height + tall / 2, box.x / picture.width + wide / 2)
            for name, (y, x) in centres.items():
                copy = pixels.clone()
                rows = slice(round(side * max(0, y - tall / 2)), round(side * (y + tall / 2)))
                columns = slice(round(side * max(0, x - wide / 2)), round(side * (x + wide / 2)))
                copy[:, rows, columns] = 0  # the mean colour
                covered[name].append(copy)
            hidden.append(token)
    result = {"hidden_labels": len(hidden)}
    for name, copies in covered.items():
        named = [system.predict(encoder(part)).predicted for part in torch.stack(copies).split(128)]
        kept = torch.cat(named)[torch.arange(len(hidden)), hidden]
        result[f"forgotten_{name}"] = 1 - float(kept.float().mean())
    return result


# --- tables ---------------------------------------------------------------------------------------------------------

# title -> split, and column -> key
TABLES = {
    "Test": ("test", {"OF1": "OF1", "CF1": "CF1", "exact match": "exact_match", "mAP": "mAP"}),
    "Where it looks, test": (
        "test",
        {
            "pointing": "pointing",
            "mass": "mass",
            "Grad-CAM: pointing": "grad_cam_pointing",
            "mass of Grad-CAM": "grad_cam_mass",
        },
    ),
    "Weight of the sentinel by kind of label, test": (
        "test",
        {"things": "sentinel_object", "attributes": "sentinel_attribute", "relations": "sentinel_relation"},
    ),
    "Does the attention matter? OF1 with its own weights and with others, test": (
        "test",
        {
            "own": "OF1",
            "equal": "OF1_equal",
            "another picture's": "OF1_other_picture",
            "shifted": "OF1_shifted",
            "shuffled": "OF1_shuffled",
        },
    ),
    "Labels forgotten when a piece of the size of their box is hidden, test": (
        "test",
        {
            "where it looks": "forgotten_attention",
            "anywhere": "forgotten_anywhere",
            "the box": "forgotten_box",
        },
    ),
    "Sets with an unseen pair, sets with a broken rule, recall of rare but large labels, test": (
        "test",
        {
            "unseen pair": "unseen_pairs",
            "broken rule": "broken_rules",
            "recall of rare but large": "recall_rare_large",
        },
    ),
    "The same with an MCC threshold per label": (
        MCC,
        {
            "OF1": "OF1",
            "unseen pair": "unseen_pairs",
            "broken rule": "broken_rules",
            "recall of rare but large": "recall_rare_large",
        },
    ),
    "What was tried, validation, seed 0": (
        "tried",
        {"OF1": "OF1", "CF1": "CF1", "exact match": "exact_match", "pointing": "pointing", "mass": "mass"},
    ),
}


def tables(runs: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, in percent, as Markdown."""
    by_row = defaultdict(list)
    for result in runs:
        by_row[result["row"]].append(result)
    lines = []
    for title, (split, columns) in TABLES.items():
        # The first column may be OF1, which every row has; the second tells whether the table is about a row.
        needed = list(columns.values())[1]
        shown = {name: mine for name, mine in by_row.items() if needed in mine[0].get(split, {})}
        lines += [f"**{title}**", "", f"| row | {' | '.join(columns)} | seeds |"]
        lines.append("|---|" + "---:|" * (len(columns) + 1))
        for name, mine in shown.items():
            cells = [cell([r[split][key] for r in mine if key in r[split]]) for key in columns.values()]
            lines.append(f"| {name} | {' | '.join(cells)} | {len(mine)} |")
        lines.append("")
    return "\n".join(lines)


def cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.1f}{spread}"


def write_page(runs: Sequence[dict[str, Any]]) -> None:
    """The tables into docs/drawn_world.md, between its marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n\n{tables(runs)}\n{END}{rest.partition(END)[2]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and is not in the file yet; print the tables and write them to the page."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", nargs="+", default=[""], help="rows whose name contains one of these")
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    p.add_argument("--with", dest="changes", type=json.loads, default={}, help="JSON: changes of the rows")
    p.add_argument("--output", type=Path, default=NUMBERS, help="JSON file of the numbers (%(default)s)")
    p.add_argument("--table", action="store_true", help="train nothing")
    options = p.parse_args(arguments)
    if options.output.is_file():
        runs = read_json(options.output)
    else:
        true = label_sets("test")
        runs = [{"row": "the true sets", "seed": 0, "test": judge(true, true)}]
    have = {(result["row"], result["seed"]) for result in runs}
    tail = "".join(f", {name} {value}" for name, value in options.changes.items())
    chosen = [name for name in ROWS if any(part in name for part in options.rows)]
    for seed in () if options.table else options.seeds:
        for name in chosen:
            if (name + tail, seed) not in have:
                runs.append(run(name + tail, ROWS[name].but(**options.changes), seed))
                write_json(options.output, runs)
                print(f"{name}{tail}, seed {seed}: {runs[-1]['seconds']:.0f} s", flush=True)
    print(tables(runs))
    if options.output == NUMBERS:
        write_page(runs)


if __name__ == "__main__":
    main()
