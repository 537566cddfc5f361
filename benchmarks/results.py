"""The results table: every system on scenes and Corel-5k over several seeds, written to docs/results.md.

    python -m benchmarks.results --corel5k DIR --weights FILE --glove FILE

Each run leaves its folder under --runs and is not repeated; a killed run goes on where it was. Without --corel5k only
the scenes are run, and the Corel-5k rows stay as the last complete run left them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from helpers.commands.train import configure
from helpers.data.files import REPOSITORY, read_json, write_json, write_text
from helpers.training.run import run

SHOWN = ("mAP", "OP", "OR", "OF1", "CP", "CR", "CF1", "N+", "exact_match", "repeats", "early_stops")
CAPTIONS_SHOWN = (
    *("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "loss", "named_labels", "true_labels", "true_captions"),
    *("stated_colours", "true_colours", "stated_sides", "true_sides"),
)
COUNTS = {
    "N+": 0,
    "loss": 3,
    "named_labels": 2,
    "stated_colours": 2,
    "stated_sides": 2,
    "repeats": 2,
}  # decimals of what is no share
BEGIN, END = "<!-- results: begin (written by benchmarks/results.py) -->", "<!-- results: end -->"


@dataclass(frozen=True)
class Row:
    """One line of the table: a system with its options, on one data set."""

    data: str
    name: str
    arguments: tuple[str, ...]


# The options were chosen on validation with seed 0; docs/results.md says what was tried.
COMMON = {
    "scenes": "--data scenes",
    "scenes, captions": "--data scenes",
    "corel5k": "--data corel5k --backbone mobilenet_v2 --image-size 224",
}
HEAD = {
    "scenes": "bce --epochs 50 --lr 1e-2 --hidden 512",
    "corel5k": "bce --epochs 30 --lr 2e-3 --hidden 1024",
}
HEAD_SCENES = {"scenes": HEAD["scenes"]}
LINEAR = {
    "scenes": "bce --epochs 50 --lr 3e-2 --dropout 0",
    "corel5k": "bce --epochs 30 --lr 2e-3",
}
RIA = {
    "scenes": "ria --hidden 256 --embedding 64 --epochs 40 --lr 3e-3 --feature-dropout 0.1 --output-dropout 0.3",
    "corel5k": "ria --glove {glove} --lr 5e-4 --epochs 30 --input-dropout 0.3 --output-dropout 0.5",
}
ATTENTION = {
    "scenes": "attention --hidden 128 --embedding 64 --attention-size 64 --epochs 30 --lr 3e-3 --feature-dropout 0.1 "
    "--output-dropout 0.3 --attention-dropout 0",
    "corel5k": "attention --look before --glove {glove} --lr 5e-4 --epochs 25 --input-dropout 0.3 "
    "--output-dropout 0.5 --attention-size 256 --attention-dropout 0.5",
}
# The order of the labels: on scenes also with attention, on Corel-5k only with RIA's decoder, which takes a fifth of the
# time and, without an order, wants a higher rate.
ORDERS = {"scenes": ATTENTION["scenes"]}
POOLED_ORDERS = {"scenes": RIA["scenes"], "corel5k": RIA["corel5k"].replace("5e-4", "1e-3")}
CNN_RNN = {
    "scenes": "cnn_rnn --hidden 128 --epochs 30 --lr 5e-3",
    "corel5k": "cnn_rnn --lr 1e-3 --epochs 30 --output-dropout 0.3",
}
SR = {
    "scenes": "sr_cnn_rnn --hidden 128 --embedding 64 --epochs 30 --lr 2e-3 --pretrain-epochs 5",
    "corel5k": "sr_cnn_rnn --glove {glove} --lr 2e-3 --epochs 30 --input-dropout 0.3 --output-dropout 0.5 "
    "--pretrain-epochs 5",
}
CAPTIONER = {
    "scenes, captions": "captioner --captions all --hidden 192 --embedding 64 --epochs 15 --lr 5e-3 "
    "--feature-dropout 0.3 --output-dropout 0.5 --weight-decay 0.1"
}
LOOKING_CAPTIONER = {
    "scenes, captions": "attention_captioner --look before --captions all --hidden 128 --embedding 64 --attention-size 64 "
    "--epochs 8 --lr 1e-2 --feature-dropout 0.1 --attention-dropout 0 --output-dropout 0.1"
}
# The same options, so that the two rows differ in what the cells hold and in nothing else.
DETAILED_CAPTIONER = {data: options + " --cell-details" for data, options in LOOKING_CAPTIONER.items()}
LCNET = {
    "scenes": "lcnet --hidden 64 --epochs 15 --lr 2e-3",
    "corel5k": "lcnet --hidden 128 --epochs 8 --lr 4e-3 --feature-dropout 0.5 --amp",
}
LCNET_SCENES = {"scenes": LCNET["scenes"]}
VARIANTS = (
    ("bce, linear head", LINEAR, ""),
    ("bce", HEAD, ""),
    ("bce, MCC thresholds", HEAD, "--thresholds mcc"),
    ("bce, asymmetric loss", HEAD, "--loss asymmetric"),
    ("bce, mixed features", HEAD_SCENES, "--backbone scenes_cnn_mixed"),
    ("ria, rare-first", RIA, ""),
    ("ria, c0 from the image", RIA, "--learn-cell"),
    ("ria, frequent-first", RIA, "--order frequent-first"),
    ("ria, random order", RIA, "--order random"),
    ("ria, features not standardised", RIA, "--no-standardize"),
    ("ria, MLA", POOLED_ORDERS, "ria_mla"),
    ("ria, PLA", POOLED_ORDERS, "ria_pla"),
    ("ria, PLA as released", POOLED_ORDERS, "ria_pla --released-pla"),
    ("cnn_rnn", CNN_RNN, ""),
    ("sr_cnn_rnn", SR, ""),
    ("attention, rare-first", ATTENTION, ""),
    ("attention, rare-first, looks before reading", ORDERS, "--look before"),
    ("attention, rare-first, mixed features", ORDERS, "--backbone scenes_cnn_mixed"),
    ("attention, frequent-first", ORDERS, "--order frequent-first"),
    ("attention, random order", ORDERS, "--order random"),
    ("attention, MLA", ORDERS, "attention_mla"),
    ("attention, PLA", ORDERS, "attention_pla"),
    ("attention, PLA as released", ORDERS, "attention_pla --released-pla"),
    ("captioner", CAPTIONER, ""),
    ("captioner with attention", LOOKING_CAPTIONER, ""),
    ("captioner with attention, colours and places", DETAILED_CAPTIONER, ""),
    ("lcnet", LCNET, ""),
    ("lcnet, no graph", LCNET, "--graph none"),
    ("lcnet, prior graph", LCNET_SCENES, "--graph prior"),
    ("lcnet, two layers", LCNET_SCENES, "--layers 2"),
    ("lcnet, the picture twice", LCNET_SCENES, "--crops 1"),
    ("lcnet, four tiles", LCNET_SCENES, "--crops 2"),
    ("query2label", LCNET_SCENES, "query2label"),
    ("ml_gcn", LCNET_SCENES, "ml_gcn"),
)


def rows(args: argparse.Namespace) -> list[Row]:
    """Every system on every data set that is there."""
    found = []
    for data in ["scenes", "scenes, captions"] + (["corel5k"] if args.corel5k else []):
        for name, base, extra in VARIANTS:
            if data not in base:
                continue
            system, *words = base[data].split()
            more = extra.split()
            if more and not more[0].startswith("--"):
                system = more.pop(0)  # the same options for another system
            words = [system, *COMMON[data].split(), *words, *more]
            found.append(Row(data, name, tuple(word.format(glove=args.glove) for word in words)))
    return found


def folder_name(row: Row, seed: int) -> str:
    """`corel5k-ria-rare-first-0`."""
    return f"{row.data}-{row.name}-{seed}".replace(",", "").replace(" ", "-").lower()


def run_row(row: Row, seed: int, args: argparse.Namespace) -> dict:
    """The metrics of one run, from its folder if it is complete."""
    folder = args.runs / folder_name(row, seed)
    if not (folder / "metrics.json").exists():
        more = ["--seed", str(seed), "--output", str(folder), "--cache-dir", str(args.runs / "features")]
        if row.data == "corel5k":
            more += ["--data-dir", str(args.corel5k), "--weights", str(args.weights)]
        if (folder / "last.pt").exists():
            more.append("--resume")
        print(f"== {row.data}: {row.name}, seed {seed}", flush=True)
        run(configure([*row.arguments, *more]))
    return read_json(folder / "metrics.json")


def cell(values: list[float], name: str) -> str:
    """Mean and standard deviation over the seeds; shares in percent."""
    scale, digits = (1, COUNTS[name]) if name in COUNTS else (100, 1)
    mean = scale * statistics.mean(values)
    spread = scale * statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean:.{digits}f} ± {spread:.{max(1, digits)}f}"


def summary(found: dict[str, dict[str, list[dict]]]) -> str:
    """The Markdown tables, one a data set."""
    lines = []
    for data, systems in found.items():
        seeds = max(len(runs) for runs in systems.values())
        device = next(iter(systems.values()))[0]["device"]
        lines += [f"### {data}: test split, mean ± standard deviation over {seeds} seeds ({device})", ""]
        shown = CAPTIONS_SHOWN if "BLEU-4" in next(iter(systems.values()))[0]["test"] else SHOWN
        lines += ["| system | " + " | ".join(shown) + " | s |", "|---|" + "---:|" * (len(shown) + 1)]
        for name, runs in systems.items():
            cells = [cell([r["test"][m] for r in runs], m) if m in runs[0]["test"] else "" for m in shown]
            seconds = statistics.mean(r["seconds"]["total"] - r["seconds"]["encoding"] for r in runs)
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.0f} |")
        lines.append("")
    return "\n".join(lines)


def put_between(text: str, new: str) -> str:
    """Replace what stands between the two marks of docs/results.md."""
    before, mark, rest = text.partition(BEGIN)
    _, other, after = rest.partition(END)
    if not mark or not other:
        raise ValueError(f"docs/results.md has lost its marks: it needs a line {BEGIN!r} and a line {END!r}")
    return f"{before}{BEGIN}\n\n{new}\n{END}{after}"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--corel5k", type=Path, help="folder of Corel-5k")
    p.add_argument("--weights", type=Path, help="ImageNet weights of mobilenet_v2 for Corel-5k")
    p.add_argument("--glove", type=Path, help="GloVe vectors for the labels of Corel-5k")
    p.add_argument("--seeds", type=int, default=3, help="runs of every row (default: %(default)s)")
    p.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "results", help="folder of the runs")
    p.add_argument("--only", default="", help="rows whose data set or name holds this text")
    args = p.parse_args()
    if args.corel5k and not (args.weights and args.glove):
        p.error("--corel5k needs --weights FILE (mobilenet_v2 with ImageNet weights) and --glove FILE")
    numbers = REPOSITORY / "docs" / "results.json"
    found = read_json(numbers)["runs"] if numbers.exists() else {}
    for row in rows(args):
        if args.only in f"{row.data}: {row.name}":
            runs = [run_row(row, seed, args) for seed in range(args.seeds)]
            kept = [{k: r[k] for k in ("test", "val", "seconds", "device", "versions")} for r in runs]
            found.setdefault(row.data, {})[row.name] = kept
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    order = [name for name, _, _ in VARIANTS]
    found = {data: dict(sorted(found[data].items(), key=lambda item: order.index(item[0]))) for data in found}
    write_json(numbers, {"commit": commit, "runs": found})
    page = REPOSITORY / "docs" / "results.md"
    write_text(page, put_between(page.read_text(encoding="utf-8"), summary(found)))
    print(summary(found))


if __name__ == "__main__":
    main()
