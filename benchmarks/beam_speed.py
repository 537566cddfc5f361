"""How fast is beam search, batched over images and beams, against one image after the other?

    python -m benchmarks.beam_speed --device cpu

The other side is the usual beam search: a Python loop over the images; for each, the live sequences of a step go
through the same decoder as one batch, and lists hold what was found. Both must find the same sequences. The decoders:
the RIA that comes with the course, and two with the sizes of Corel-5k (260 labels, at most 5 an image, 1280 features,
grid 7x7) and random weights. Target: 10 times on two CPU cores, 30 times on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from helpers.attention import AttentionLSTM
from helpers.batch import Features
from helpers.beam import beam
from helpers.checkpoints import load_checkpoint
from helpers.decoders import Decoder, LabelLSTM
from helpers.files import DATA

C, D, L = 260, 1280, 49


@torch.inference_mode()
def one_by_one(
    decoder: Decoder, features: Features, *, width: int, max_steps: int
) -> list[tuple[list[int], float]]:
    """The best labels of every image and their log-probability, image after image."""
    found = []
    for row in range(len(features.pooled)):
        state = decoder.start(features.select(torch.tensor([row], device=features.pooled.device)))
        live: list[tuple[list[int], float]] = [([], 0.0)]
        finished: list[tuple[list[int], float]] = []
        token = torch.full((1,), decoder.start_token, device=features.pooled.device)
        for t in range(max_steps):
            logits, state, _ = decoder.step(token, state)
            for i, (labels, _) in enumerate(live):
                logits[i, labels] = -torch.inf
            scores = logits.log_softmax(-1) + torch.tensor([[s] for _, s in live], device=logits.device)
            best, place = scores.flatten().topk(width)
            going_on, parents = [], []
            for score, where in zip(best.tolist(), place.tolist(), strict=True):
                parent, word = divmod(where, decoder.num_labels + 1)
                if word == decoder.stop_token:
                    finished.append((live[parent][0], score))
                elif t == max_steps - 1:
                    finished.append(([*live[parent][0], word], score))
                else:
                    going_on.append(([*live[parent][0], word], score))
                    parents.append(parent)
            finished = sorted(finished, key=lambda x: -x[1])[:width]
            done = len(finished) == width and (not going_on or going_on[0][1] <= finished[-1][1])
            if not going_on or done:
                break
            live = going_on
            state = state.select_hidden(torch.tensor(parents, device=logits.device))
            token = torch.tensor([labels[-1] for labels, _ in live], device=logits.device)
        found.append(finished[0])
    return found


def seconds(task: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    task()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def check(ours: Tensor, log_probability: Tensor, theirs: list[tuple[list[int], float]], stop: int) -> None:
    """Raise where the two sides disagree: on the probability always, on the labels where there is no tie."""
    for row, (labels, score) in enumerate(theirs):
        found = [token for token in ours[row].tolist() if token != stop]
        if abs(float(log_probability[row]) - score) > 1e-3 or (
            found != labels and abs(float(log_probability[row]) - score) > 1e-5
        ):
            raise SystemExit(f"image {row}: batched {found}, one by one {labels}")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--images", type=int, default=256)
    p.add_argument("--width", type=int, default=10)
    p.add_argument("--max-steps", type=int, default=6)
    p.add_argument("--rounds", type=int, default=5, help="of each, in turns (default: %(default)s)")
    p.add_argument("--device", default="cpu")
    args = p.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    features = Features(torch.randn(args.images, D), torch.randn(args.images, L, D)).to(device)
    print(f"{args.images} images, width {args.width}, at most {args.max_steps} steps, {device}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    scenes = load_checkpoint(DATA / "scenes_ria.safetensors").system.decoder
    for name, decoder in (
        ("RIA of the scenes", scenes),
        ("LabelLSTM", LabelLSTM(C, D, hidden_size=512)),
        ("AttentionLSTM", AttentionLSTM(C, D, hidden_size=512)),
    ):
        decoder = decoder.to(device).eval()
        given = features
        if decoder is scenes:
            given = Features(torch.randn(args.images, scenes.initial_hidden.in_features, device=device))
        else:
            decoder.scores.weight.data *= 5  # sharper than random weights are, as a trained decoder is
        options = {"width": args.width, "max_steps": args.max_steps}
        ours, theirs = beam(decoder, given, **options), one_by_one(decoder, given, **options)
        check(ours.tokens[:, 0], ours.log_probability[:, 0], theirs, decoder.stop_token)
        fast, slow = [], []
        for _ in range(args.rounds):  # in turns, so that other work on the machine meets both
            fast.append(seconds(lambda: beam(decoder, given, only_best=True, **options), device))  # noqa: B023
            slow.append(seconds(lambda: one_by_one(decoder, given, **options), device))  # noqa: B023
        ratio = statistics.median(s / f for s, f in zip(slow, fast, strict=True))
        print(
            f"{name:>18}: batched {min(fast):.3f} to {max(fast):.3f} s, one by one {min(slow):.3f} to "
            f"{max(slow):.3f} s, median of the ratios {ratio:.1f}x"
        )


if __name__ == "__main__":
    main()
