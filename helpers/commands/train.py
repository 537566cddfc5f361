"""Train a system from the command line: `python -m helpers train SYSTEM --output FOLDER`.

Features of a frozen encoder are computed once and cached; with `--no-freeze` the images go through the encoder at
every step. The best validation epoch is kept, thresholds are chosen on validation, and the test split is looked at
once, at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from helpers.commands.parser import fail, parse
from helpers.systems.options import OPTIONS
from helpers.training.config import Config, DataOptions, EncoderOptions, FitOptions, RunOptions

COUNTS = {
    "N+": 0,
    "loss": 3,
    "named_labels": 1,
    "stated_colours": 2,
    "stated_sides": 2,
    "repeats": 2,
}  # no shares

USAGE = """usage: python -m helpers train SYSTEM --output FOLDER [options]

Train an annotation system, select on validation, evaluate on test.

systems:
{systems}

python -m helpers train SYSTEM --help lists the options of a system.
@FILE reads words from a file, such as those in docs/recipes: one option with its value per line.

examples:
  python -m helpers train ria --output runs/ria
      RIA on the generated scenes, with the small CNN that comes with the course
  python -m helpers train ria --data ../my-photos --backbone resnet50 --output runs/mine
      RIA on your own photographs
  python -m helpers train captioner --output runs/captioner
      sentences in place of labels, from the captions of the scenes
  python -m helpers predict image.jpg --checkpoint runs/ria
      label images with the result"""


def usage() -> str:
    """What `train --help` prints: the systems, one line each."""
    systems = "\n".join(f"  {name:<20} {options.__doc__}" for name, options in OPTIONS.items())
    return USAGE.format(systems=systems)


def from_files(words: Sequence[str]) -> list[str]:
    """The words with every @FILE replaced by its words: an option with its value per line; # begins a remark."""
    result: list[str] = []
    for word in words:
        if not word.startswith("@"):
            result.append(word)
            continue
        lines = Path(word[1:]).read_text(encoding="utf-8").splitlines()
        for line in lines:
            result += [] if line.lstrip().startswith("#") else line.split(maxsplit=1)
    return result


def configure(argv: Sequence[str]) -> Config:
    """The words of the command line, checked. Imports nothing heavy; wrong words end the program with status 2."""
    system, *words = from_files(argv)
    if system not in OPTIONS:
        found = (
            f"there is no system {system!r}" if not system.startswith("-") else f"{system} before the system"
        )
        raise ValueError(f"{found}: the first word names the system, one of {', '.join(OPTIONS)}")
    options = OPTIONS[system]
    classes = (options, DataOptions, EncoderOptions, FitOptions, RunOptions)
    return Config(system, *parse(words, f"train {system}", f"{options.__doc__}.", *classes))


def print_table(metrics: dict[str, dict[str, float]]) -> None:
    """The metrics of the splits side by side; shares in percent, other numbers as they are."""
    print(f"{'':>22}" + "".join(f"{split:>10}" for split in metrics))
    for name in metrics["test"]:
        scale, digits = (1, COUNTS[name]) if name in COUNTS else (100, 2)
        cells = (f"{scale * values[name]:>10.{digits}f}" for values in metrics.values())
        print(f"{name:>22}" + "".join(cells))


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors that the user can fix are printed as one line."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(usage(), file=None if words else sys.stderr)
        return 0 if words else 2
    try:
        config = configure(words)
        config.check()
    except (ValueError, OSError) as error:
        return fail(error)
    try:
        from helpers.training.run import run

        metrics = run(config)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        return fail(error)
    except KeyboardInterrupt:
        last = config.run.output / "last.pt"
        then = f"the same command with --resume goes on from {last}"
        if not last.exists():
            then = "no epoch was over yet, so the same command starts anew"
            if config.encoder.cached:
                then += "; the features that are encoded already are kept in the feature cache"
        print(f"\ninterrupted: {then}", file=sys.stderr)
        return 130
    print_table(metrics)
    print(f"checkpoint, metrics and configuration are in {config.run.output}")
    return 0
