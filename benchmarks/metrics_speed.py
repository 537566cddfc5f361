"""How long scoring takes: every metric of N images and C labels, and choosing thresholds, on the CPU.

    python -m benchmarks.metrics_speed --images 40000 --labels 80

Prints the median of some runs in seconds. The aim is under 1 s for all metrics of COCO's 40,000
validation images.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torchmetrics.functional.classification import multilabel_average_precision

from helpers.metrics.label_sets import average_precision, multilabel_metrics
from helpers.metrics.thresholds import apply_thresholds, choose_global, choose_mcc


def seconds(function: Callable[[], object], repeats: int) -> str:
    """Median and range of the wall-clock time of a call, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        begin = perf_counter()
        function()
        times.append(perf_counter() - begin)
    return f"{median(times):6.3f} s  ({min(times):.3f} to {max(times):.3f})"


def processor() -> str:
    """The name of the CPU where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--positives", type=float, default=2.9, help="labels per image, on average")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    generator = torch.Generator().manual_seed(options.seed)
    shape = (options.images, options.labels)
    target = torch.rand(shape, generator=generator) < options.positives / options.labels
    logits = torch.randn(shape, generator=generator) + 2 * target - 2
    scores = logits.sigmoid()
    predicted = apply_thresholds(scores, 0.5)

    print(f"{options.images} images x {options.labels} labels, torch {torch.__version__}, {processor()},")
    print(f"{options.threads} thread(s), median of {options.repeats} runs")
    for name, function in {
        "sets only": lambda: multilabel_metrics(predicted, target),
        "with mAP": lambda: multilabel_metrics(predicted, target, scores),
        "with mAP, logits": lambda: multilabel_metrics(predicted, target, logits),
        "AP alone": lambda: average_precision(scores, target),
        "AP of torchmetrics": lambda: multilabel_average_precision(
            scores, target.int(), num_labels=options.labels, average="none", validate_args=False
        ),
        "global threshold": lambda: choose_global(scores, target),
        "MCC, grid": lambda: choose_mcc(scores, target),
        "MCC, every score": lambda: choose_mcc(scores, target, candidates="all"),
    }.items():
        print(f"  {name:<20}{seconds(function, options.repeats)}", flush=True)


if __name__ == "__main__":
    main()
