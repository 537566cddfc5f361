"""How long does a fixed encoder take per image: as torch has it, channels last, folded, and in bfloat16?

    OMP_NUM_THREADS=1 python -m benchmarks.encoding_speed --backbone mobilenet_v2

Milliseconds of processor time of this thread, the least of some rounds that take turns, and how much the features
differ. The weights are random, which changes no time; --weights FILE for differences that mean something.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from helpers.encoders.encoder import build_encoder, for_inference


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--backbone", default="mobilenet_v2", help="(default: %(default)s)")
    p.add_argument("--weights", help="a file (default: random)")
    p.add_argument("--image-size", type=int, default=224, help="side in pixels (default: %(default)s)")
    p.add_argument("--batch-size", type=int, default=16, help="(default: %(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    args = p.parse_args()
    torch.manual_seed(0)
    encoder = build_encoder(args.backbone, weights=args.weights, image_size=args.image_size).eval()
    plain = build_encoder(args.backbone, weights=args.weights, image_size=args.image_size).eval()
    plain.load_state_dict(encoder.state_dict())
    plain.to(memory_format=torch.contiguous_format)
    fast = for_inference(encoder)
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size)
    ways: dict[str, tuple[nn.Module, bool]] = {
        "as torch has it": (plain, False),
        "channels last": (encoder, False),
        "batch-norms folded": (fast, False),
        "and bfloat16": (fast, True),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    grids: dict[str, Tensor] = {}
    with torch.inference_mode():
        for _ in range(args.rounds + 1):  # the first one warms up
            for name, (network, low) in ways.items():
                start = time.thread_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=low):
                    grids[name] = network(images).grid
                times[name].append(time.thread_time() - start)
    first, wanted = "as torch has it", grids["as torch has it"]
    print(f"{args.backbone}, {args.image_size} px, {torch.get_num_threads()} thread(s)")
    for name, found in times.items():
        least = min(found[1:])
        difference = (grids[name] - wanted).norm() / wanted.norm()
        print(
            f"{name:>20}  {1000 * least / args.batch_size:6.1f} ms an image  {min(times[first][1:]) / least:4.1f}x  "
            f"features differ by {difference:.1e}"
        )


if __name__ == "__main__":
    main()
