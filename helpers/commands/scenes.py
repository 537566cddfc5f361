"""Draw the embedded dataset: `python -m helpers scenes --help`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from helpers.scenes.write import write_scenes


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: `python -m helpers scenes --help`."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers scenes", description="Draw the embedded dataset in COCO format."
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--n", type=int, default=2000, help="training images (default: 2000)")
    parser.add_argument("--val", type=int, help="validation images (default: an eighth of --n)")
    parser.add_argument("--test", type=int, help="test images (default: a quarter of --n)")
    parser.add_argument("--size", type=int, default=128, help="side in pixels (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds, other scenes (default: 0)")
    parser.add_argument(
        "--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes that draw"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace scenes made with other parameters")
    given = parser.parse_args(arguments)
    val = given.n // 8 if given.val is None else given.val
    test = given.n // 4 if given.test is None else given.test
    try:
        folder = write_scenes(
            given.output,
            train=given.n,
            val=val,
            test=test,
            size=given.size,
            seed=given.seed,
            workers=given.workers,
            overwrite=given.overwrite,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{folder}: {given.n} train, {val} val, {test} test images of {given.size} x {given.size} pixels")
    return 0
