"""How fast is beam search, batched over images and beams, against one image after the other?

    python -m benchmarks.beam_speed --device cpu

There are two other sides, both with a Python loop over the images and lists that hold what was found. In the first the
live sequences of a step go through the same decoder as one batch; in the second one after the other. All must find the
same sequences. The decoders: the RIA that comes with the course, and two with the sizes of Corel-5k (260 labels, at
most 5 an image, 1280 features, grid 7x7) and random weights. Target: 10 times on two CPU cores, 30 times on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.files import DATA
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.base import Decoder
from helpers.decoders.beam import beam
from helpers.decoders.lstm import LabelLSTM
from helpers.training.checkpoints import load_checkpoint

C, D, L = 260, 1280, 49


@torch.inference_mode()
def one_by_one(
    decoder: Decoder, features: Features, *, width: int, max_steps: int, beams_together: bool = True
) -> list[tuple[list[int], float]]:
    """The best labels of every image and their log-probability, image after image.

    beams_together: the live sequences of an image take a step as one batch; otherwise one after the other.
    """
    found = []
    for row in range(len(features.pooled)):
        state = decoder.start(features.select(torch.tensor([row], device=features.pooled.device)))
        live: list[tuple[list[int], float]] = [([], 0.0)]
        finished: list[tuple[list[int], float]] = []
        token = torch.full((1,), decoder.start_token, device=features.pooled.device)
        for t in range(max_steps):
            if beams_together:
                logits, state, _ = decoder.step(token, state)
            else:
                rows = torch.arange(len(live), device=token.device).unsqueeze(1)
                steps = [decoder.step(token[i], state.select_hidden(i)) for i in rows]
                logits = torch.cat([logits for logits, _, _ in steps])
                parts = zip(*(state.hidden for _, state, _ in steps), strict=True)
                state = state._replace(hidden=tuple(torch.cat(part) for part in parts))
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
        ours = beam(decoder, given, **options)
        sides = {
            "batched": partial(beam, decoder, given, only_best=True, **options),
            "image by image": partial(one_by_one, decoder, given, **options),
            "beam by beam": partial(one_by_one, decoder, given, beams_together=False, **options),
        }
        for side in list(sides)[1:]:
            check(ours.tokens[:, 0], ours.log_probability[:, 0], sides[side](), decoder.stop_token)
        # In turns, so that other work on the machine meets all of them.
        rounds = [{side: seconds(task, device) for side, task in sides.items()} for _ in range(args.rounds)]
        for side in sides:
            taken = [times[side] for times in rounds]
            ratio = statistics.median(times[side] / times["batched"] for times in rounds)
            print(f"{name:>18}, {side:>14}: {min(taken):.3f} to {max(taken):.3f} s, {ratio:.1f}x")


if __name__ == "__main__":
    main()
