"""Judge trained systems from the command line: `python -m helpers evaluate --checkpoint A B --data scenes`.

One table of all metrics with bootstrap intervals, every system compared with the first one on the same images, and
what is behind it: by label, by set size, by label frequency, calibration, and whether search or model errs. Prints
the table; writes evaluation.json and evaluation.png into --output.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from helpers.data.batches import make_loader
from helpers.data.files import DATA, replacing, write_json
from helpers.data.labels import label_frequency
from helpers.data.load import load
from helpers.data.records import AnnotatedImages
from helpers.encoders.cache import FeatureDataset, encode_records
from helpers.metrics.intervals import compare
from helpers.systems.classifier import ScoringSystem
from helpers.systems.registry import CAPTIONERS, NEEDS_GRID
from helpers.systems.sequence import SequenceSystem
from helpers.training.checkpoints import Checkpoint, load_checkpoint
from helpers.training.config import pick_device, threshold_rule
from helpers.training.fit import predict_all
from helpers.training.report import Said, report, run_system

SHOWN = ("mAP", "OP", "OR", "OF1", "CP", "CR", "CF1", "N+", "image_F1", "exact_match")


def parser() -> argparse.ArgumentParser:
    """All options."""
    p = argparse.ArgumentParser(
        prog="python -m helpers evaluate", description="Judge trained systems on a split."
    )
    p.add_argument(
        "--checkpoint", type=Path, nargs="+", required=True, help="checkpoint.safetensors of training folders"
    )
    p.add_argument("--name", nargs="+", help="what to call them (default: their folders)")
    p.add_argument("--data", default="scenes", help="as for python -m helpers train (default: %(default)s)")
    p.add_argument(
        "--data-dir", type=Path, help="where the data set lies (default: data/<name> of the course)"
    )
    p.add_argument(
        "--split", default="test", choices=("val", "test"), help="images to judge on (default: test)"
    )
    p.add_argument("--cache-dir", type=Path, default=DATA / "features", help="folder of the feature cache")
    p.add_argument("--beam-width", type=int, help="of decoders (default: as they were trained; 1 is greedy)")
    p.add_argument(
        "--thresholds",
        type=threshold_rule,
        help="of classifiers: global, mcc or top3, chosen anew on validation (default: as they were trained)",
    )
    p.add_argument(
        "--replicates", type=int, default=1000, help="draws of the bootstrap (default: %(default)s)"
    )
    p.add_argument(
        "--level", type=float, default=0.95, help="share of the draws in an interval (default: %(default)s)"
    )
    p.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    p.add_argument("--batch-size", type=int, default=64, help="images at once (default: %(default)s)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    p.add_argument(
        "--output", type=Path, default=Path("runs/evaluation"), help="folder (default: %(default)s)"
    )
    return p


def make_split_loader(
    checkpoint: Checkpoint, data: AnnotatedImages, split: str, args: argparse.Namespace
) -> DataLoader:
    """The images of a split as the checkpoint's encoder sees them, in order, labels in the order of its training."""
    records = data.split(split)
    name = checkpoint.config.get("system")
    encoder = checkpoint.system.encoder
    cached = encode_records(
        encoder, records, args.cache_dir, grid=name in NEEDS_GRID, device=pick_device(args.device)
    )
    frequency = frequency_of(data)
    dataset = FeatureDataset(
        cached,
        records,
        data.vocabulary,
        augment=False,
        order=checkpoint.config.get("order") or "given",
        frequency=frequency,
    )
    return make_loader(dataset, batch_size=args.batch_size, shuffle=False)


def frequency_of(data: AnnotatedImages):
    """(C,) int64, training images of each label."""
    return label_frequency([data.vocabulary.encode(r.labels) for r in data.train], len(data.vocabulary))


def judge(path: Path, name: str, data: AnnotatedImages, args: argparse.Namespace) -> Said:
    """What one checkpoint says of the split; thresholds are chosen on validation before."""
    device = pick_device(args.device)
    checkpoint = load_checkpoint(path, device=device)
    if checkpoint.config.get("system") in CAPTIONERS:
        raise ValueError(f"{path} writes captions: this command judges sets of labels")
    if checkpoint.vocabulary != data.vocabulary:
        raise ValueError(
            f"{path} was trained on {len(checkpoint.vocabulary)} labels other than the {len(data.vocabulary)} of "
            f"{data.name}: give the --data it was trained on"
        )
    system = checkpoint.system
    if args.beam_width is not None and isinstance(system, SequenceSystem):
        system.search_with(beam_width=args.beam_width, top_k=system.top_k)
    if args.thresholds is not None and isinstance(system, ScoringSystem):
        system.use_thresholds(args.thresholds)
        found = predict_all(system, make_split_loader(checkpoint, data, "val", args), device=device)
        system.calibrate(found.scores, found.target)
    return run_system(name, system, make_split_loader(checkpoint, data, args.split, args), device=device)


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Everything about every checkpoint, as it is written to evaluation.json."""
    names = args.name or [_name_of(path) for path in args.checkpoint]
    if len(names) != len(args.checkpoint) or len(set(names)) != len(names):
        raise ValueError(
            f"{len(args.checkpoint)} checkpoints have the names {names}: give each its own with --name"
        )
    data = load(args.data, args.data_dir)
    frequency = frequency_of(data)
    said = [judge(path, name, data, args) for path, name in zip(args.checkpoint, names, strict=True)]
    options = {"replicates": args.replicates, "level": args.level, "seed": args.seed}
    comparisons = []
    for other in said[1:]:
        differences = compare(
            said[0].predicted,
            other.predicted,
            said[0].target,
            *(
                (said[0].scores, other.scores)
                if other.scores is not None and said[0].scores is not None
                else ()
            ),
            **options,
        )
        comparisons.append(
            {
                "first": said[0].name,
                "second": other.name,
                "differences": {key: asdict(value) for key, value in differences.items()},
            }
        )
    return {
        "data": args.data,
        "split": args.split,
        **options,
        "systems": [report(one, data.vocabulary.labels, frequency, **options) for one in said],
        "comparisons": comparisons,
    }


def table(result: dict[str, Any]) -> str:
    """The metrics of all systems with their intervals, and the comparisons, as text."""
    systems = result["systems"]
    width = max(26, *(len(one["name"]) + 2 for one in systems))
    lines = [f"{'':>14}" + "".join(f"{one['name']:>{width}}" for one in systems)]
    for metric in SHOWN:
        cells = []
        for one in systems:
            value = one["metrics"].get(metric)
            cells.append(f"{'' if value is None else _cell(metric, value):>{width}}")
        if any(cell.strip() for cell in cells):
            lines.append(f"{metric:>14}" + "".join(cells))
    for one in systems:
        errs = one["search_or_model"]
        lines.append(
            f"{one['name']}: {100 * errs['right']:.0f} % right, the search errs in "
            f"{100 * errs['search_error']:.0f} %, the model in {100 * errs['model_error']:.0f} % of "
            f"{errs['images']} images"
        )
    for pair in result["comparisons"]:
        lines.append(f"{pair['second']} less {pair['first']}:")
        for metric in SHOWN:
            if metric in pair["differences"]:
                value = pair["differences"][metric]
                p = "" if value["p"] is None else f"  p = {value['p']:.3f}"
                lines.append(f"{metric:>14}{_cell(metric, value):>26}{p}")
    return "\n".join(lines)


def _cell(metric: str, value: dict[str, float]) -> str:
    scale, digits = (1, 0) if metric == "N+" else (100, 1)
    numbers = [f"{scale * value[key]:.{digits}f}" for key in ("value", "low", "high")]
    return "{} [{}, {}]".format(*numbers)


def _name_of(path: Path) -> str:
    return path.parent.name if path.stem == "checkpoint" else path.stem


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors that the user can mend are printed as one line."""
    args = parser().parse_args(argv)
    try:
        result = evaluate(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from helpers.plots import overview, to_png

    write_json(args.output / "evaluation.json", result)
    with replacing(args.output / "evaluation.png") as temporary:
        temporary.write_bytes(to_png(overview(result)))
    print(table(result))
    print(f"everything is in {args.output / 'evaluation.json'}, the figure beside it")
    return 0
