"""How much faster is `AttentionLSTM` than a plain step loop that projects the grid at every step?

    python -m benchmarks.attention_speed                       # CPU, and the GPU if there is one
    python -m benchmarks.attention_speed --output speed.json   # the same figures for a machine to read

Three decoders with the same weights, so with the same answers (checked first):
  plain      the textbook loop: project the grid, add, ReLU, dot, at every step; four matrices for h
  hoisted    the same, with the projection of the grid moved out of the loop and nothing else
  ours       helpers.decoders.attention.AttentionLSTM
Three tasks: `train`, a teacher-forced forward and backward pass with dropout, without an optimiser; `train, grid
too`, the same with a gradient for the grid, as for an encoder that learns along; `infer`, greedy free-running
decoding. The decoders take turns, so a busy machine slows all of them; figures are medians, ratios are medians of
the rounds' ratios. On a CPU the ratio of the processor seconds is given as well: it hardly depends on who else uses
the machine, but does count threads that wait for each other (set OMP_WAIT_POLICY=passive, or --threads 1).

The floor is the time that the algorithm itself needs: its floating-point operations at the rate of a large
matrix product, or its bytes (what a step reads of weights, keys and grid) at the rate of a large copy, both
measured in the same run; phase by phase the larger of the two.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from helpers.data.batches import Features
from helpers.data.files import write_json
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.base import Decoder, State
from helpers.decoders.search import greedy

TASKS = ("train", "train, grid too", "infer")


@dataclass(frozen=True)
class Shapes:
    """The sizes of the comparison, in the letters of the notation page; E embedding, A attention."""

    B: int = 32
    L: int = 14 * 14
    D: int = 2048
    H: int = 2048
    A: int = 1024
    E: int = 300
    C: int = 260
    T: int = 7


class PlainAttention(Decoder):
    """The textbook attention decoder, one step at a time; `hoist` projects the grid once per image.

    Made from an `AttentionLSTM`, whose weights it copies into the usual separate layers.
    """

    def __init__(self, ours: AttentionLSTM, *, hoist: bool) -> None:
        super().__init__(ours.num_labels)
        self.hoist = hoist
        d, a, h = ours.keys.in_features, ours.keys.out_features, ours.from_hidden.in_features
        self.embedding = copy.deepcopy(ours.embedding)
        self.input_dropout, self.output_dropout = (
            nn.Dropout(ours.input_dropout.p),
            nn.Dropout(ours.output_dropout.p),
        )
        self.initial_hidden, self.keys = copy.deepcopy(ours.initial_hidden), copy.deepcopy(ours.keys)
        self.score, self.scores = copy.deepcopy(ours.score), copy.deepcopy(ours.scores)
        self.query, self.gate = nn.Linear(h, a), nn.Linear(h, d)
        self.lstm = nn.LSTMCell(ours.from_embedding.in_features + d, h)
        with torch.no_grad():
            query, gate, gates = ours.from_hidden.weight.split([a, d, 4 * h])
            query_bias, gate_bias, gates_bias = ours.from_hidden.bias.split([a, d, 4 * h])
            self.query.weight.copy_(query)
            self.query.bias.copy_(query_bias)
            self.gate.weight.copy_(gate)
            self.gate.bias.copy_(gate_bias)
            self.lstm.weight_hh.copy_(gates)
            self.lstm.bias_hh.copy_(gates_bias)
            self.lstm.weight_ih.copy_(torch.cat([ours.from_embedding.weight, ours.from_context.weight], 1))
            self.lstm.bias_ih.copy_(ours.from_embedding.bias)

    def start(self, features: Features) -> State:
        h = self.initial_hidden(features.pooled)
        memory = (features.grid, self.keys(features.grid)) if self.hoist else (features.grid,)
        return State((h, torch.zeros_like(h)), memory)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
        h, c = state.hidden
        grid = state.memory[0]
        keys = state.memory[1] if self.hoist else self.keys(grid)  # (B, L, A)
        energy = self.score(F.relu(keys + self.query(h).unsqueeze(1))).squeeze(2)  # (B, L)
        attention = energy.softmax(1)
        context = (grid * attention.unsqueeze(2)).sum(1)  # (B, D)
        context = self.gate(h).sigmoid() * context
        embedded = self.input_dropout(self.embedding(tokens))
        h, c = self.lstm(torch.cat([embedded, context], 1), (h, c))
        return self.scores(self.output_dropout(h)), State((h, c), state.memory), attention


def algorithm(s: Shapes, task: str, item: int) -> list[tuple[str, float, float]]:
    """(phase, FLOPs, bytes) of the algorithm with numbers of `item` bytes, elementwise work left out.

    A product (m, k) x (k, n) counts 2 m k n; its backward pass as much again for each gradient that is needed
    (the embedding and pooled need none). Bytes: every operand of a phase once, and in the steps once a step.
    """
    recurrent = s.H * (s.A + s.D + 4 * s.H) + s.D * 4 * s.H  # weights that a step multiplies with
    looks = 2 * s.B * s.L * (s.A + s.D)  # scores and weighted sum of one step
    project = 2 * s.B * s.L * s.D * s.A
    ends = 2 * s.B * (s.D * s.H + s.T * (s.E * 4 * s.H + s.H * (s.C + 1)))  # h0, embedding, scores
    end_weights = s.D * s.H + s.E * 4 * s.H + s.H * (s.C + 1)
    project_bytes = item * (s.B * s.L * (s.D + s.A) + s.D * s.A)
    step_bytes = item * s.T * (recurrent + s.B * s.L * (s.A + s.D))
    phases = [
        ("projection", project, project_bytes),
        ("steps", s.T * (2 * s.B * recurrent + looks), step_bytes),
        ("h0, embedding, scores", ends, item * end_weights),
    ]
    if task != "infer":
        phases += [
            ("projection, gradient of weights", project, project_bytes),
            ("steps, gradient of data", s.T * (2 * s.B * recurrent + 2 * looks), step_bytes),
            ("steps, gradient of weights", s.T * 2 * s.B * recurrent, item * recurrent),
            ("h0, embedding, scores, gradients", 2 * ends, 2 * item * end_weights),
        ]
    if task == "train, grid too":
        outer = 2 * s.T * s.B * s.L * s.D  # Σ_t α_t d_context_t
        phases.append(("grid, gradient", project + outer, project_bytes + item * s.B * s.L * s.D))
    return phases


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    synchronize(device)
    wall, processor = time.perf_counter(), time.process_time()
    work()
    synchronize(device)
    return time.perf_counter() - wall, time.process_time() - processor


def peaks(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of the fastest large matrix product and bytes/s (read and written) of a large copy."""
    # On a CPU small enough to fit between two turns of whoever else uses the machine, too large for its caches.
    side, numbers = (1024, 2**25) if device.type == "cpu" else (8192, 2**27)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(numbers, device=device)
    target = torch.empty_like(source)
    # The same product as a 1x1 convolution: a CPU's two libraries differ (see `helpers.decoders.attention.linear`).
    pictures, filters = a.view(32, -1, side).mT.unsqueeze(2), b[:, :, None, None]
    products = [lambda: a @ b, lambda: F.conv2d(pictures, filters)]

    def best(work: Callable[[], object]) -> float:
        return min(seconds(work, device)[0] for _ in range(60))

    with torch.inference_mode():
        return 2 * side**3 / min(map(best, products)), 2 * source.nbytes / best(lambda: target.copy_(source))


def build(s: Shapes, device: torch.device) -> tuple[dict[str, Decoder], Features, Tensor]:
    """The three decoders with the same weights, features and the input tokens (B, T)."""
    torch.manual_seed(0)
    ours = AttentionLSTM(
        s.C, s.D, hidden_size=s.H, attention_size=s.A, vectors=0.4 * torch.randn(s.C + 2, s.E)
    )  # 0.4: about the scale of GloVe
    with torch.no_grad():
        ours.scores.bias[ours.stop_token] = -50.0  # nobody stops early: all T steps are timed
    decoders = {
        "plain": PlainAttention(ours, hoist=False),
        "hoisted": PlainAttention(ours, hoist=True),
        "ours": ours,
    }
    grid = torch.randn(s.B, s.L, s.D).relu()
    features = Features(grid.mean(1), grid).to(device)
    tokens = torch.randint(0, s.C, (s.B, s.T)).to(device)
    return {name: decoder.to(device) for name, decoder in decoders.items()}, features, tokens


def check_equal(decoders: dict[str, Decoder], features: Features, tokens: Tensor) -> float:
    """Largest difference of the log-probabilities; the timing of a wrong answer would be worth nothing."""
    with torch.inference_mode():
        results = [d.eval()(features, tokens)[0].float().log_softmax(-1) for d in decoders.values()]
    difference = max((r - results[0]).abs().max().item() for r in results)
    if difference > 1e-3:
        raise SystemExit(f"the decoders disagree by {difference:.2g} in log-probability: nothing was timed")
    return difference


def measure(s: Shapes, device: torch.device, precision: str, rounds: int) -> dict[str, Any]:
    """Time all tasks of the decoders on one device."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    decoders, features, tokens = build(s, device)
    result: dict[str, Any] = {"device": device_name(device), "precision": precision}
    if precision == "float32":
        result["largest_difference"] = check_equal(decoders, features, tokens)
    flops, bandwidth = peaks(device, dtype)
    result |= {"peak_tflops": flops / 1e12, "copy_gb_per_s": bandwidth / 1e9}

    def run(task: str, decoder: Decoder) -> None:
        with torch.autocast(device.type, dtype) if precision == "bf16" else nullcontext():
            if task == "infer":
                greedy(decoder, features, max_steps=s.T)
                return
            decoder.zero_grad(set_to_none=True)
            grid = features.grid.detach().requires_grad_(task == "train, grid too")
            logits, _ = decoder(features._replace(grid=grid), tokens)
        F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten()).backward()

    for task in TASKS:
        for decoder in decoders.values():
            decoder.train(task != "infer")
            run(task, decoder)  # warm-up
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
        for _ in tqdm(range(rounds), desc=f"{device.type} {precision} {task}", leave=False):
            for name, decoder in decoders.items():
                spent[name].append(seconds(partial(run, task, decoder), device))
        for decoder in decoders.values():
            decoder.zero_grad(set_to_none=True)
        result[task] = summary(spent, algorithm(s, task, dtype.itemsize), flops, bandwidth)
    return result


def summary(
    spent: dict[str, list[tuple[float, float]]],
    phases: list[tuple[str, float, float]],
    flops: float,
    bandwidth: float,
) -> dict[str, Any]:
    """The figures of one task from the (wall, processor) seconds of every decoder's rounds."""
    wall, processor = ({name: [pair[k] for pair in x] for name, x in spent.items()} for k in (0, 1))

    def ratios(times: dict[str, list[float]]) -> dict[str, float]:
        return {
            name: statistics.median(p / x for p, x in zip(times["plain"], times[name], strict=True))
            for name in times
        }

    ours = statistics.median(wall["ours"])
    work, moved = sum(f for _, f, _ in phases), sum(b for _, _, b in phases)
    floor = sum(max(f / flops, b / bandwidth) for _, f, b in phases)
    return {
        "milliseconds": {name: 1e3 * statistics.median(x) for name, x in wall.items()},
        "times_faster": ratios(wall),
        "times_faster_processor_time": ratios(processor),
        "gflop": work / 1e9,
        "gbyte": moved / 1e9,
        "floor_milliseconds": 1e3 * floor,
        "share_of_floor": floor / ours,
        "share_of_peak_flops": work / ours / flops,
        "share_of_copy_rate": moved / ours / bandwidth,
        "wall_seconds": wall,
        "processor_seconds": processor,
    }


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def report(result: dict[str, Any]) -> str:
    """The table of one device and precision."""
    names = list(result["infer"]["milliseconds"])
    lines = [
        f"{result['device']}, {result['precision']}: matrix product {result['peak_tflops']:.2f} TFLOP/s, "
        f"copy {result['copy_gb_per_s']:.0f} GB/s",
        f"{'':16}" + "".join(f"{name:>18}" for name in names) + f"{'floor':>12}{'GFLOP':>8}{'GB':>6}",
    ]
    for task in TASKS:
        r = result[task]
        cells = (f"{r['milliseconds'][name]:8.1f} ms {r['times_faster'][name]:5.2f}x" for name in names)
        lines.append(
            f"{task:16}" + "".join(f"{cell:>18}" for cell in cells) + f"{r['floor_milliseconds']:9.1f} ms"
            f"{r['gflop']:8.1f}{r['gbyte']:6.2f}"
        )
        lines.append(
            f"{'':16}ours: {r['share_of_floor']:.0%} of the floor, {r['share_of_peak_flops']:.0%} of the FLOP/s, "
            f"{r['share_of_copy_rate']:.0%} of the copy rate"
            + (
                f"; {r['times_faster_processor_time']['ours']:.2f}x fewer processor seconds"
                if "CPU" in result["device"]
                else ""
            )
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", choices=("all", "cpu", "cuda"), default="all", help="default: what there is"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("float32", "tf32", "bf16"),
        help="default: float32 on a CPU, all three on a GPU",
    )
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default 7)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    devices = [torch.device("cpu")] if arguments.device in ("all", "cpu") else []
    if arguments.device in ("all", "cuda") and torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    if not devices:
        raise SystemExit("there is no CUDA device here: leave --device out, or run this where there is one")
    shapes = Shapes()
    results = []
    for device in devices:
        default = ("float32",) if device.type == "cpu" else ("float32", "tf32", "bf16")
        for precision in arguments.precision or default:
            results.append(measure(shapes, device, precision, arguments.rounds))
            print(report(results[-1]), flush=True)
    if arguments.output:
        write_json(
            arguments.output, {"torch": torch.__version__, "shapes": asdict(shapes), "results": results}
        )


if __name__ == "__main__":
    main()
