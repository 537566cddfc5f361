"""What do crops, fused attention and the number of labels cost LCNet?

    python -m benchmarks.lcnet_speed                # CPU, and the GPU if there is one
    python -m benchmarks.lcnet_speed --output speed.json

Four questions, each side of a comparison in turns in the same run, medians of the rounds; ratios are medians of the
rounds' ratios. On a CPU they are of processor seconds, which hardly depend on who else uses the machine.
  crops       all views of a batch in one pass of the encoder, against one pass a view (level 3: ten views)
  attention   the fused kernel against explicit attention, which makes the weights; training step and inference
  level       a batch's inference by crop level, encoder and decoder
  labels      a training step and inference of the decoder with 20, 80 and 260 labels
On a GPU the peak memory of both sides is given as well.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.data.files import write_json
from helpers.decoders.label_decoder import CrossAttention, LabelDecoder
from helpers.encoders.crops import build_crop_encoder, cut, num_views


class Explicit(CrossAttention):
    """The explicit path in place of the fused kernel; the weights are made and thrown away."""

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.with_weights(x, memory)[0]


def explicit(network: LabelDecoder) -> LabelDecoder:
    """A copy of the network with every fused attention replaced."""
    other = copy.deepcopy(network)
    for module in other.modules():
        if isinstance(module, CrossAttention):
            module.__class__ = Explicit
    return other


def seconds(work: Callable[[], Any], device: torch.device) -> tuple[float, int]:
    """Processor seconds (CPU) or wall seconds (GPU) of one call, and the peak memory in bytes (GPU)."""
    if device.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start, 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start, torch.cuda.max_memory_allocated(device)


def compare(sides: dict[str, Callable[[], Any]], device: torch.device, rounds: int) -> dict[str, Any]:
    """Median seconds of every side, and how many times longer the last one takes than each."""
    spent: dict[str, list[tuple[float, int]]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, work in sides.items():
            found = seconds(work, device)
            if turn:  # the first round warms up
                spent[name].append(found)
    last = spent[list(sides)[-1]]
    return {
        name: {
            "seconds": statistics.median(s for s, _ in runs),
            "times_faster_than_last": statistics.median(b[0] / a[0] for a, b in zip(runs, last, strict=True)),
            "peak_mbyte": max(m for _, m in runs) / 1e6,
        }
        for name, runs in spent.items()
    }


def make_grid(batch: int, tokens: int, size: int, device: torch.device) -> Features:
    grid = torch.randn(batch, tokens, size, device=device, generator=torch.Generator(device).manual_seed(0))
    return Features(grid.mean(1), grid)


def train_step(network: nn.Module, features: Features) -> Callable[[], None]:
    def work() -> None:
        network.train().zero_grad(set_to_none=True)
        network(features).square().mean().backward()

    return work


def inference(network: nn.Module, inputs: Any) -> Callable[[], None]:
    def work() -> None:
        with torch.inference_mode():
            network.eval()(inputs)

    return work


def measure(device: torch.device, rounds: int, batch: int) -> dict[str, Any]:
    torch.manual_seed(0)
    result: dict[str, Any] = {}
    encoder = build_crop_encoder("mobilenet_v2", 3, weights=None, image_size=3 * 224).to(device).eval()
    images = torch.rand(2, 3, encoder.image_size, encoder.image_size, device=device)

    def a_pass_a_view() -> None:
        views = cut(images, encoder.level, encoder.encoder.image_size)
        with torch.inference_mode():
            torch.cat([encoder.encoder(views[:, v]).grid for v in range(encoder.views)], 1)

    sides = {"one pass": inference(encoder, images), "a pass a view": a_pass_a_view}
    result["crops"] = compare(sides, device, rounds)

    for tokens in (49, 10 * 49):
        fused = LabelDecoder(80, 1280).to(device)
        slow = explicit(fused)
        features = make_grid(batch, tokens, 1280, device)
        with torch.inference_mode():
            gap = (fused.eval()(features) - slow.eval()(features)).abs().max()
        if gap > 1e-3:
            raise RuntimeError(f"fused and explicit attention differ by {float(gap):.2g}: nothing to compare")
        for name, make in (("training step", train_step), ("inference", inference)):
            sides = {"fused": make(fused, features), "explicit": make(slow, features)}
            result[f"attention, {name}, {tokens} tokens"] = compare(sides, device, rounds)

    whole = {}
    for level in range(4):
        encoder = build_crop_encoder("mobilenet_v2", level, weights=None, image_size=224 * max(level, 1))
        encoder = encoder.to(device).eval()
        network = LabelDecoder(80, 1280).to(device).eval()
        images = torch.rand(2, 3, encoder.image_size, encoder.image_size, device=device)
        views = num_views(level)
        whole[f"encoder, level {level} ({views} views)"] = inference(encoder, images)
        whole[f"decoder, level {level} ({views} views)"] = inference(
            network, make_grid(2, 49 * views, 1280, device)
        )
    result["level, 2 images"] = compare(whole, device, rounds)

    features = make_grid(batch, 49, 1280, device)
    by_labels = {}
    for labels in (20, 80, 260):
        network = LabelDecoder(labels, 1280).to(device)
        by_labels[f"training step, {labels} labels"] = train_step(network, features)
        by_labels[f"inference, {labels} labels"] = inference(network, features)
    result[f"labels, {batch} images"] = compare(by_labels, device, rounds)
    return result


def report(device: str, result: dict[str, Any]) -> str:
    lines = [device]
    for question, sides in result.items():
        lines.append(question)
        for name, figures in sides.items():
            memory = f", {figures['peak_mbyte']:.0f} MB" if figures["peak_mbyte"] else ""
            lines.append(
                f"  {name:32}{1e3 * figures['seconds']:9.1f} ms{memory}"
                f"   {figures['times_faster_than_last']:5.2f}x faster than the last"
            )
    return "\n".join(lines)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5, help="timed rounds (default: %(default)s)")
    p.add_argument(
        "--batch", type=int, default=8, help="images of the decoder's questions (default: %(default)s)"
    )
    p.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    p.add_argument("--output", type=Path, help="write all figures to this JSON file")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    results = {}
    for kind in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        device = torch.device(kind)
        name = (
            torch.cuda.get_device_name()
            if kind == "cuda"
            else f"CPU {platform.machine()}, {args.threads} threads"
        )
        results[name] = measure(device, args.rounds, args.batch)
        print(report(name, results[name]), flush=True)
    if args.output:
        write_json(args.output, {"torch": torch.__version__, "results": results})


if __name__ == "__main__":
    main()
