"""Decoding: from a decoder's step-by-step scores to a label sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.batch import Features
from helpers.decoders import Decoder


@dataclass(frozen=True)
class Decoded:
    """The label sequences of B images, at most T steps long.

    tokens:           (B, T) int64, label ids, `<stop>` from the first stop on.
    lengths:          (B,) int64, labels before the first stop.
    log_probability:  (B,) float32, log P(sequence | image), the first stop included.
    step_probability: (B, T) float32, probability of each token when it was emitted; 0 after the first stop.
    attention:        (B, T, L) float32, where the decoder looked at each step, or None.
    """

    tokens: Tensor
    lengths: Tensor
    log_probability: Tensor
    step_probability: Tensor
    attention: Tensor | None = None


@torch.inference_mode()
def greedy(decoder: Decoder, features: Features, *, max_steps: int, repeats: bool = False) -> Decoded:
    """At every step the most probable label, fed back as the next input. Taught in notebook 03.

    features: of B images. max_steps: T >= 1, decoder steps at most (labels and `<stop>`).
    repeats: let a label be named again; by default its probability is 0 once named, for the labels of an image
        are a set, and the probabilities of a step are those of what is left.

    A sequence ends at its first `<stop>`, or after max_steps labels. The decoder keeps its mode: call `eval()`
    before, or dropout stays on. Raises FloatingPointError where the decoder scores NaN.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; decoding needs at least one step")
    stop = decoder.stop_token
    batch = len(features.pooled)
    device = features.pooled.device
    state = decoder.start(features)
    tokens = torch.full((batch, max_steps), stop, device=device)
    probability = torch.zeros(batch, max_steps, device=device)
    log_probability = torch.zeros(batch, device=device)
    attention = []
    token = torch.full((batch,), decoder.start_token, device=device)
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    taken = torch.zeros(batch, decoder.num_labels + 1, dtype=torch.bool, device=device)
    for t in range(max_steps):
        logits, state, step_attention = decoder.step(token, state)
        if not repeats:
            logits = logits.masked_fill(taken, -torch.inf)
        log_p, token = logits.float().log_softmax(-1).max(-1)  # (B,), (B,)
        token = token.masked_fill(done, stop)
        log_p = log_p.masked_fill(done, 0.0)
        tokens[:, t] = token
        probability[:, t] = log_p.exp().masked_fill(done, 0.0)
        log_probability += log_p
        if step_attention is not None:
            attention.append(step_attention.float())
        done = done | (token == stop)
        taken.scatter_(1, token.unsqueeze(1), True)
        taken[:, stop] = False  # stopping is always possible
        # Asking whether all have stopped would make a GPU wait for the CPU at every step.
        if device.type == "cpu" and bool(done.all()):
            break
    if bool(log_probability.isnan().any()):
        rows = log_probability.isnan().nonzero().flatten().tolist()
        raise FloatingPointError(
            f"the decoder scored NaN for {len(rows)} of {batch} images (batch rows {rows[:5]}): "
            "its weights or the features hold NaN; check the training loss and the feature cache"
        )
    steps = t + 1
    return Decoded(
        tokens=tokens[:, :steps],
        lengths=(tokens != stop).sum(1),
        log_probability=log_probability,
        step_probability=probability[:, :steps],
        attention=torch.stack(attention, 1) if attention else None,
    )
