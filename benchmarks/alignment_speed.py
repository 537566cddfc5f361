"""How fast is order-free alignment, and which exact method should each set size use?

    python -m benchmarks.alignment_speed                       # CPU, and the GPU if there is one
    python -m benchmarks.alignment_speed --output speed.json   # the same figures for a machine to read

1. `align(..., "mla")` on whole batches against two per-image loops written here:
   - python loop: reads the logits step by step and solves in pure Python, as published code does. (That code
     uses a slower solver than the one below, so the comparison is kind to it.)
   - scipy loop: one log-softmax, one copy to the host and one scipy call per image.
   All three must find the same cost before anything is timed.
2. `assign` by each method over n, every block full: where "auto" should change over.

3. A whole training step of `attention_mla` at the size of Corel-5k, and the share that `align` has of it; the same
   step with teacher forcing beside it.

The calls of a comparison take turns of a few milliseconds, so that whatever else the machine does meets all
of them; a figure is the median over the turns of the wall time of a call, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import scipy
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary, to_multi_hot
from helpers.systems.alignment import ALIGNMENTS, MOST_PERMUTATIONS, align, alignment_cost, assign
from helpers.systems.registry import build

# "At least this many times faster", by device: (than the python loop, than the scipy loop).
TARGETS = {"cpu": (10.0, 1.0), "cuda": (50.0, 5.0)}
CROSSOVER_SIZES = range(1, 17)
BLOCK_MS = 5.0
TOO_SLOW_MS = 250.0  # a method that takes this long is not tried on larger n


# ------------------------------------------------------------------------------------- the baselines


def hungarian(cost: list[list[float]]) -> list[int]:
    """The column of each row in a cheapest assignment of a square matrix, by shortest augmenting paths with
    potentials: O(n^3), on plain lists."""
    n = len(cost)
    row_price, column_price = [0.0] * (n + 1), [0.0] * (n + 1)
    owner = [0] * (n + 1)  # the row of each column, both counted from 1; column 0 is where a path starts
    for new_row in range(1, n + 1):
        owner[0], column = new_row, 0
        slack, previous = [float("inf")] * (n + 1), [0] * (n + 1)
        reached = [False] * (n + 1)
        while True:
            reached[column] = True
            row, step, nearest = owner[column], float("inf"), 0
            for j in range(1, n + 1):
                if not reached[j]:
                    reduced = cost[row - 1][j - 1] - row_price[row] - column_price[j]
                    if reduced < slack[j]:
                        slack[j], previous[j] = reduced, column
                    if slack[j] < step:
                        step, nearest = slack[j], j
            for j in range(n + 1):
                if reached[j]:
                    row_price[owner[j]] += step
                    column_price[j] -= step
                else:
                    slack[j] -= step
            column = nearest
            if owner[column] == 0:
                break
        while column:
            owner[column] = owner[previous[column]]
            column = previous[column]
    columns = [0] * n
    for j in range(1, n + 1):
        columns[owner[j] - 1] = j - 1
    return columns


def python_loop(logits: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
    """MLA image by image and step by step; on a GPU every step is a copy to the host."""
    targets = labels.clone()
    for b in range(len(labels)):
        n = int(lengths[b])
        if n < 2:
            continue
        names = labels[b, :n].tolist()
        cost = []
        for t in range(n):
            log_probability = torch.log_softmax(logits[b, t].float(), dim=-1).cpu()
            cost.append([-float(log_probability[name]) for name in names])
        order = [names[column] for column in hungarian(cost)]
        targets[b, :n] = torch.tensor(order, device=labels.device)
    return targets


def scipy_loop(logits: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
    """MLA image by image, one log-softmax, one gather and one copy to the host each."""
    targets = labels.clone()
    for b in range(len(labels)):
        n = int(lengths[b])
        if n < 2:
            continue
        names = labels[b, :n]
        cost = -torch.log_softmax(logits[b, :n].float(), dim=-1)[:, names]  # (n, V) -> (n, n)
        columns = linear_sum_assignment(cost.cpu().numpy())[1]
        targets[b, :n] = names[torch.from_numpy(columns).to(labels.device)]
    return targets


# ------------------------------------------------------------------------------------- the cases


def set_sizes(name: str, batch: int, generator: np.random.Generator) -> np.ndarray:
    """(batch,) labels per image.

    "corel": the counts of the 4,500 training images of Corel-5k. "coco": a geometric distribution from 1 to
    18 with mean 2.9, the mean and the extreme of COCO 2014 train; its exact shape is an assumption.
    "5", "18": all sets that large.
    """
    if name == "corel":
        counts = np.array([7, 68, 485, 1587, 2341, 12])
        return generator.choice(len(counts), size=batch, p=counts / counts.sum())
    if name == "coco":
        return np.minimum(generator.geometric(1 / 2.94, size=batch), 18)
    return np.full(batch, int(name))


CASES = [
    # title, batch, outputs with <stop>, sizes
    ("Corel-5k, as drawn", 32, 261, "corel"),
    ("Corel-5k, all of 5", 32, 261, "5"),
    ("COCO, as drawn", 256, 81, "coco"),
    ("COCO, all of 18", 256, 81, "18"),
]


def make_batch(batch: int, outputs: int, sizes: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, T, V) of a half-trained decoder (the labels of the set stand out), labels and lengths."""
    generator = np.random.default_rng(seed)
    lengths = set_sizes(sizes, batch, generator)
    labels = np.full((batch, lengths.max() + 1), outputs - 1)
    for row, size in zip(labels, lengths, strict=True):
        row[:size] = generator.permutation(outputs - 1)[:size]
    logits = generator.normal(size=(batch, labels.shape[1], outputs)).astype(np.float32)
    for steps, row, size in zip(logits, labels, lengths, strict=True):
        steps[:, row[:size]] += 2
    return torch.from_numpy(logits), torch.from_numpy(labels), torch.from_numpy(lengths)


# ------------------------------------------------------------------------------------- measuring


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def interleaved(
    calls: dict[str, Callable[[], object]], device: str, repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """The median over `repeats` turns of the time of one call, ms. A turn is `BLOCK_MS` of calls, or one call
    if that takes longer; a GPU is waited for after every call."""

    def turn(call: Callable[[], object], number: int) -> float:
        wait(device)
        start = clock()
        for _ in range(number):
            call()
            wait(device)
        return (clock() - start) / number * 1e3

    for call in calls.values():
        call()  # tables and caches
    number = {name: max(1, round(BLOCK_MS / max(turn(call, 1), 1e-3))) for name, call in calls.items()}
    times = [{name: turn(call, number[name]) for name, call in calls.items()} for _ in range(repeats)]
    return {name: median(t[name] for t in times) for name in calls}


def check_same_cost(sample: tuple[Tensor, Tensor, Tensor], ours: Tensor, theirs: Tensor) -> None:
    logits, _, lengths = sample
    costs = [alignment_cost(logits, targets, lengths) for targets in (ours, theirs)]
    torch.testing.assert_close(*costs, atol=1e-4, rtol=1e-5)


def compare(device: str, repeats: int, seed: int, clock: Callable[[], float]) -> list[dict]:
    """One row a case: ours and the two loops."""
    rows = []
    for title, batch, outputs, sizes in CASES:
        logits, labels, lengths = (x.to(device) for x in make_batch(batch, outputs, sizes, seed))
        sample = (logits, labels, lengths)
        loops = {"python_loop": python_loop, "scipy_loop": scipy_loop}
        calls = {f"ours_{m}": partial(align, *sample, m) for m in ALIGNMENTS}
        calls |= {name: partial(loop, *sample) for name, loop in loops.items()}
        for name in loops:
            check_same_cost(sample, calls["ours_mla"](), calls[name]())
        ms = interleaved(calls, device, repeats, clock)
        over_python, over_scipy = ms["python_loop"] / ms["ours_mla"], ms["scipy_loop"] / ms["ours_mla"]
        target = TARGETS[device]
        rows.append(
            {
                "device": device,
                "case": title,
                "batch": batch,
                "outputs": outputs,
                "labels_mean": lengths.double().mean().item(),
                "labels_most": int(lengths.max()),
                "ms": ms,
                "faster_than_python_loop": over_python,
                "faster_than_scipy_loop": over_scipy,
                "target": target,
                "met": over_python >= target[0] and over_scipy >= target[1],
            }
        )
    return rows


STEPPED = ("ria", "ria_mla", "ria_pla", "attention", "attention_mla", "attention_pla")
STEPS = 63  # of 64 images: 4,000 images of Corel-5k to train on


def training_step(device: str, repeats: int, seed: int, clock: Callable[[], float]) -> dict:
    """ms of loss and backward on 64 images of 49 cells of 1280, with Corel-5k's labels, by system."""
    logits, labels, lengths = (x.to(device) for x in make_batch(64, 261, "corel", seed))
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randn(64, 49, 1280, generator=generator).to(device)
    index = torch.arange(64, device=device)
    batch = Batch(index, labels, lengths, to_multi_hot(labels, 260), features=Features(grid.mean(1), grid))
    vocabulary = Vocabulary([f"label {i}" for i in range(260)])
    calls: dict[str, Callable[[], object]] = {"align": partial(align, logits, labels, lengths)}
    for name in STEPPED:
        torch.manual_seed(seed)
        size = {"attention_size": 256, "look": "before"} if name.startswith("attention") else {}
        system = build(name, vocabulary, 1280, max_labels=5, **size).to(device).train()

        def step(system: torch.nn.Module = system) -> None:
            system.zero_grad()
            system.loss(batch).backward()

        calls[name] = step
    ms = interleaved(calls, device, repeats, clock)
    return {"device": device, "ms": ms, "share": ms["align"] / ms["attention_mla"]}


def print_training_step(row: dict) -> None:
    ms = row["ms"]
    print(
        f"\na training step, {row['device']}: the alignment alone {ms['align']:.2f} ms, {100 * row['share']:.1f} % of a step of "
        f"attention_mla (target: at most 5 %, {'met' if row['share'] <= 0.05 else 'MISSED'})"
    )
    for name in STEPPED:
        forced = ms[name.split("_")[0]]
        print(
            f"{name:>14}: {ms[name]:6.0f} ms, {ms[name] / forced:.2f} of teacher forcing; an epoch of Corel-5k "
            f"({STEPS} steps) {STEPS * ms[name] / 1000:.1f} s"
        )


def crossover(device: str, batch: int, repeats: int, seed: int, clock: Callable[[], float]) -> list[dict]:
    """One row a size n: each method on (batch, n, n), every block full."""
    rows, dropped = [], set()
    for n in CROSSOVER_SIZES:
        generator = torch.Generator().manual_seed(seed + n)
        cost = torch.randn(batch, n, n, generator=generator).to(device)
        sizes = torch.full((batch,), n, device=device)
        methods = [m for m in ("permutations", "subsets", "scipy") if m not in dropped]
        if n > MOST_PERMUTATIONS and "permutations" in methods:
            methods.remove("permutations")
        calls = {m: partial(assign, cost, sizes, method=m) for m in methods}
        ms = interleaved(calls, device, repeats, clock)
        dropped |= {m for m, t in ms.items() if t > TOO_SLOW_MS and m != "scipy"}
        rows.append({"device": device, "batch": batch, "n": n, "ms": ms, "fastest": min(ms, key=ms.get)})
    return rows


# ------------------------------------------------------------------------------------- reporting


def print_comparison(rows: list[dict]) -> None:
    print("\nAligning a batch, ms; how many times faster mla is than each loop, and the target")
    print(
        f"{'device':7}{'case':20}{'mean':>5}{'most':>5} |{'python loop':>12}{'scipy loop':>11} |"
        f"{'mla':>7}{'pla':>7}{'released':>9} |{'x python':>9}{'x scipy':>8}   target"
    )
    for row in rows:
        ms, (a, b) = row["ms"], row["target"]
        print(
            f"{row['device']:7}{row['case']:20}{row['labels_mean']:5.1f}{row['labels_most']:5d} |"
            f"{ms['python_loop']:12.2f}{ms['scipy_loop']:11.2f} |"
            f"{ms['ours_mla']:7.3f}{ms['ours_pla']:7.3f}{ms['ours_pla_released']:9.3f} |"
            f"{row['faster_than_python_loop']:9.1f}{row['faster_than_scipy_loop']:8.1f}"
            f"   {a:g} and {b:g} {'met' if row['met'] else 'MISSED'}"
        )


def print_crossover(rows: list[dict]) -> None:
    print(f"\nassign by method, {rows[0]['device']}, batch of {rows[0]['batch']}, every block full, ms")
    print(f"{'n':>3}{'permutations':>14}{'subsets':>10}{'scipy':>10}   fastest")
    for row in rows:
        cells = [row["ms"].get(m) for m in ("permutations", "subsets", "scipy")]
        text = "".join(
            f"{'-' if x is None else format(x, '.3f'):>{w}}" for x, w in zip(cells, (14, 10, 10), strict=True)
        )
        print(f"{row['n']:3d}{text}   {row['fastest']}")


def environment() -> dict:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scipy": scipy.__version__,
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    parser.add_argument("--devices", nargs="+", choices=["cpu", "cuda"], default=devices)
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each kind (default 15)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--clock",
        choices=["wall", "processor"],
        default="wall",
        help="processor: CPU rows in processor time, for a machine that is busy with other things",
    )
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()

    about = environment() | {"clock": options.clock}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    comparison, sizes, steps = [], [], []
    for device in options.devices:
        # Processor time means nothing while the work is on a GPU.
        clock = time.process_time if options.clock == "processor" and device == "cpu" else time.perf_counter
        comparison += compare(device, options.repeats, options.seed, clock)
        print_comparison([row for row in comparison if row["device"] == device])
        steps.append(training_step(device, options.repeats, options.seed, clock))
        print_training_step(steps[-1])
        for batch in (32, 256):
            rows = crossover(device, batch, options.repeats, options.seed, clock)
            print_crossover(rows)
            sizes += rows
    if options.output:
        report = {"environment": about, "seed": options.seed, "comparison": comparison, "crossover": sizes}
        report["training_step"] = steps
        temporary = options.output.with_suffix(options.output.suffix + ".tmp")
        temporary.write_text(json.dumps(report, indent=2) + "\n")
        temporary.replace(options.output)


if __name__ == "__main__":
    main()
