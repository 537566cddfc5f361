"""Judge trained systems from the command line: `python -m helpers evaluate --checkpoint A B --data scenes`.

One table of all metrics with bootstrap intervals, every system compared with the first one on the same images, and
what is behind it: by label, by set size, by label frequency, calibration, and whether search or model errs. Prints
the table; writes evaluation.json and evaluation.png into --output.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from helpers.commands.parser import fail, parse, printable
from helpers.systems.options import COUNT, THRESHOLDS, Options, Rule, one_of, option
from helpers.training.config import SEED, DataOptions, pick_device, require_folder

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from helpers.data.records import AnnotatedImages
    from helpers.training.checkpoints import Checkpoint
    from helpers.training.report import Said

SHOWN = ("mAP", "OP", "OR", "OF1", "CP", "CR", "CF1", "N+", "image_F1", "exact_match")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Options):
    """What is judged, and how."""

    heading: ClassVar[str] = "judging"
    checkpoint: tuple[Path, ...] = option(
        ..., "training folders, or their checkpoint.safetensors", basic=True
    )
    name: tuple[str, ...] | None = option(None, "what to call them (default: their folders)", basic=True)
    split: str = option("test", "images to judge on", one_of("val", "test"), basic=True)
    output: Path = option(Path("runs/evaluation"), "folder of evaluation.json and evaluation.png", basic=True)
    beam_width: int | None = option(
        None, "of decoders; 1 is greedy (default: as they were trained)", COUNT, basic=True
    )
    thresholds: str | None = option(
        None, "global, mcc or top3, chosen anew on validation (default: as trained)", THRESHOLDS, basic=True
    )
    replicates: int = option(1000, "draws of the bootstrap", COUNT, basic=True)
    level: float = option(
        0.95,
        "share of the draws in an interval",
        Rule("a number between 0 and 1", lambda x: 0 < x < 1),
        basic=True,
    )
    seed: int = option(0, "of the draws", SEED, basic=True)
    batch_size: int = option(64, "images at once", COUNT, basic=True)
    device: str = option("auto", "auto, cpu, cuda or mps", basic=True)
    cache_dir: Path | None = option(
        None, "folder of the feature cache (default: data/features of the course)"
    )


def split_loader(checkpoint: Checkpoint, data: AnnotatedImages, split: str, o: EvaluateOptions) -> DataLoader:
    """The images of a split as the checkpoint's encoder sees them, in order, labels in the order of its training."""
    from helpers.data.files import DATA
    from helpers.encoders.cache import feature_loaders
    from helpers.encoders.encoder import fast_precision

    device = pick_device(o.device)
    precision = checkpoint.config.get("encoder", {}).get("precision", "float32")  # that of its training
    return feature_loaders(
        data,
        checkpoint.system.encoder,
        cache_dir=o.cache_dir or DATA / "features",
        order=getattr(checkpoint.options, "order", "given"),
        batch_size=o.batch_size,
        grid=checkpoint.options.needs_grid,
        device=device,
        precision=fast_precision(device) if precision == "auto" else precision,
        splits=[split],
    )[split]


def judge(path: Path, name: str, data: AnnotatedImages, o: EvaluateOptions) -> Said:
    """What one checkpoint says of the split; thresholds are chosen on validation before."""
    from helpers.systems.classifier import ScoringSystem
    from helpers.systems.sequence import SequenceSystem
    from helpers.training.checkpoints import load_checkpoint
    from helpers.training.fit import predict_all
    from helpers.training.report import run_system

    device = pick_device(o.device)
    checkpoint = load_checkpoint(path, device=device)
    if checkpoint.options.learns == "words":
        raise ValueError(f"{path} writes captions: this command judges sets of labels")
    if checkpoint.vocabulary != data.vocabulary:
        raise ValueError(
            f"{path} was trained on {len(checkpoint.vocabulary)} labels other than the {len(data.vocabulary)} of "
            f"{data.name}: give the --data it was trained on"
        )
    system = checkpoint.system
    if o.beam_width is not None and isinstance(system, SequenceSystem):
        system.search_with(beam_width=o.beam_width, top_k=system.top_k)
    if o.thresholds is not None and isinstance(system, ScoringSystem):
        system.use_thresholds(o.thresholds)
        found = predict_all(system, split_loader(checkpoint, data, "val", o), device=device)
        system.calibrate(found.scores, found.target)
    return run_system(name, system, split_loader(checkpoint, data, o.split, o), device=device)


def evaluate(o: EvaluateOptions, source: DataOptions) -> dict[str, Any]:
    """Everything about every checkpoint, as it is written to evaluation.json."""
    require_folder(o.output)
    names = o.name or tuple(_name_of(path) for path in o.checkpoint)
    if len(names) != len(o.checkpoint) or len(set(names)) != len(names):
        raise ValueError(
            f"{len(o.checkpoint)} checkpoints have the names {', '.join(names)}: give each its own with --name"
        )
    from helpers.data.load import load
    from helpers.metrics.intervals import compare
    from helpers.training.report import report

    unlabelled = "drop" if source.drop_unlabelled else "keep"
    data = load(source.data, source.data_dir, unlabelled=unlabelled, download=source.download)
    frequency = data.frequency()
    said = [judge(path, name, data, o) for path, name in zip(o.checkpoint, names, strict=True)]
    how = {"replicates": o.replicates, "level": o.level, "seed": o.seed}
    comparisons = []
    for other in said[1:]:
        scores = (said[0].scores, other.scores)
        scores = () if any(s is None for s in scores) else scores
        found = compare(said[0].predicted, other.predicted, said[0].target, *scores, **how)
        differences = {key: asdict(value) for key, value in found.items()}
        comparisons.append({"first": said[0].name, "second": other.name, "differences": differences})
    return {
        "data": source.data,
        "split": o.split,
        **how,
        "systems": [report(one, data.vocabulary.labels, frequency, **how) for one in said],
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
        lines.append(f"{one['name']}: {_who_errs(one['search_or_model'])}")
    for pair in result["comparisons"]:
        lines.append(f"{pair['second']} less {pair['first']}:")
        for metric in SHOWN:
            if metric in pair["differences"]:
                value = pair["differences"][metric]
                p = "" if value["p"] is None else f"  p = {value['p']:.3f}"
                lines.append(f"{metric:>14}{_cell(metric, value):>26}{p}")
    return "\n".join(lines)


def _who_errs(found: dict[str, float]) -> str:
    """Search and model are told apart only where there is a search, and the system has learned something."""
    right = f"{100 * found['right']:.0f} % of {found['images']} images right"
    if "truth_log_probability" not in found:
        return f"{right}; it scores labels, so no search can err"
    if not found["right"]:
        return f"{right}: it has learned too little to say whether the search or the model errs"
    return f"{right}, the search errs in {100 * found['search_error']:.0f} %, the model in {100 * found['model_error']:.0f} %"


def _cell(metric: str, value: dict[str, float]) -> str:
    scale, digits = (1, 0) if metric == "N+" else (100, 1)
    numbers = [f"{scale * value[key]:.{digits}f}" for key in ("value", "low", "high")]
    return "{} [{}, {}]".format(*numbers)


def _name_of(path: Path) -> str:
    return path.parent.name if path.name == "checkpoint.safetensors" else path.stem


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors that the user can fix are printed as one line."""
    words = sys.argv[1:] if argv is None else argv
    about = "Judge trained systems on a split, the others compared with the first."
    options, source = parse(
        words, "evaluate", about, EvaluateOptions, DataOptions, usage="--checkpoint RUN RUN"
    )
    try:
        result = evaluate(options, source)
        print(printable(table(result)))  # first: whatever happens to the files, the numbers are there
        from helpers.data.files import replacing, write_json
        from helpers.plots import overview, to_png

        write_json(options.output / "evaluation.json", result)
        with replacing(options.output / "evaluation.png") as temporary:
            temporary.write_bytes(to_png(overview(_without_formulas(result))))
    except (ValueError, OSError) as error:
        return fail(error)
    print(f"everything is in {options.output / 'evaluation.json'}, the figure beside it")
    return 0


def _without_formulas(result: dict[str, Any]) -> dict[str, Any]:
    """The same with $ in names as matplotlib writes it, which else begins a formula there."""
    systems = [one | {"name": one["name"].replace("$", r"\$")} for one in result["systems"]]
    return result | {"data": result["data"].replace("$", r"\$"), "systems": systems}
