"""Greedy decoding that keeps all it saw, for figures: `follow` for any decoder, `trace` for one with attention.

Taught in notebooks 03 and 04.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.attention import AttentionLSTM
from helpers.batch import Features
from helpers.decoders import Decoder

FREE = -1  # in `forced`: here the decoder chooses


class Followed(NamedTuple):
    """What `follow` saw of B images.

    tokens:      (B, T) int64, `<stop>` from the first stop on.
    probability: (B, T, V) float32, of every label and `<stop>` at every step; 0 after the first stop.
    """

    tokens: Tensor
    probability: Tensor


@torch.inference_mode()
def follow(
    decoder: Decoder,
    features: Features,
    *,
    max_steps: int,
    forced: Sequence[Sequence[int]] | None = None,
    repeats: bool = False,
) -> Followed:
    """Greedy decoding that keeps all scores, and in which you may choose labels yourself. Taught in notebook 03.

    features: of B images. max_steps: decoder steps at most, >= 1.
    forced: for each image the tokens to take from its first step on, whatever the decoder says; `FREE` (-1) where the
        decoder chooses, as it does after the last of them. What stands after a `<stop>` does not count.
    repeats: as in `search.greedy`, whose tokens and probabilities it gives where nothing is forced.

    Call `decoder.eval()` before. Raises ValueError for a wrong number of rows, too long ones, or ids that the decoder
    cannot emit.
    """
    batch, device, stop = len(features.pooled), features.pooled.device, decoder.stop_token
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; decoding needs at least one step")
    rows = [list(row) for row in forced] if forced is not None else [[]] * batch
    if len(rows) != batch or max(map(len, rows), default=0) > max_steps:
        raise ValueError(
            f"forced has {len(rows)} rows of up to {max(map(len, rows), default=0)} tokens; expected a row for each "
            f"of {batch} images, of at most max_steps = {max_steps}"
        )
    if bad := {token for row in rows for token in row if not FREE <= token <= stop}:
        raise ValueError(f"forced holds ids {sorted(bad)[:5]} outside -1..{stop} (-1: the decoder chooses)")
    wanted = torch.tensor([[*row, *[FREE] * (max_steps - len(row))] for row in rows], device=device)  # (B, T)
    state = decoder.start(features)
    token = torch.full((batch,), decoder.start_token, device=device)
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    taken = torch.zeros(batch, stop + 1, dtype=torch.bool, device=device)
    tokens, probability = [], []
    for t in range(max_steps):
        logits, state, _ = decoder.step(token, state)
        if not repeats:
            logits = logits.masked_fill(taken, -torch.inf)
        p = logits.float().softmax(-1).masked_fill(done[:, None], 0.0)  # (B, V)
        token = torch.where(wanted[:, t] == FREE, p.argmax(-1), wanted[:, t]).masked_fill(done, stop)
        tokens.append(token)
        probability.append(p)
        done = done | (token == stop)
        taken = taken.scatter(1, token[:, None], True)
        taken[:, stop] = False
        if bool(done.all()):
            break
    return Followed(torch.stack(tokens, 1), torch.stack(probability, 1))


@dataclass(frozen=True)
class Trace:
    """What an attention decoder did for one image. Made by `trace`.

    tokens: (T,) int64, what was named. probability: (T, V) float32, of every label and `<stop>` at each step.
    attention: (T, L) float32. gate: (T, D) float32, how much of each feature of the attended vector was let in.
    """

    tokens: Tensor
    probability: Tensor
    attention: Tensor
    gate: Tensor

    @property
    def step_probability(self) -> Tensor:
        """(T,) float32, of what was named."""
        return self.probability.gather(1, self.tokens.unsqueeze(1)).squeeze(1)


@torch.inference_mode()
def trace(
    decoder: AttentionLSTM,
    features: Features,
    *,
    max_steps: int,
    given: Sequence[int] | None = None,
    attention: Mapping[int, Tensor] | None = None,
    repeats: bool = False,
) -> Trace:
    """Decode one image and keep everything. Taught in notebook 04.

    features: of one image, as the decoder gets them (after a system's `prepare`). max_steps: at most.
    given: the labels fed back, whatever the decoder says (teacher forcing); one step more than labels is taken, in
        which it should say `<stop>`. None: it reads its own labels (free running), as `search.greedy`.
    attention: step -> (L,) weights to be used at that step instead of the decoder's own.
    repeats: let a label be named again.

    Call `decoder.eval()` before. Raises ValueError for more than one image, or max_steps below 1.
    """
    if len(features.pooled) != 1 or max_steps < 1:
        raise ValueError(
            f"trace takes one image and at least one step; found {len(features.pooled)}, {max_steps}"
        )
    device, stop = features.pooled.device, decoder.stop_token
    state = decoder.start(features)
    token = torch.tensor([decoder.start_token], device=device)
    taken = torch.zeros(stop + 1, dtype=torch.bool, device=device)
    rows: list[tuple[Tensor, ...]] = []
    for t in range(max_steps if given is None else len(given) + 1):
        mine = None if attention is None or t not in attention else attention[t].to(device).unsqueeze(0)
        seen = decoder.inspect(token, state, attention=mine)
        state = seen.state
        logits = seen.logits[0].float()
        if not repeats:
            logits = logits.masked_fill(taken, -torch.inf)
        probability = logits.softmax(-1)
        named = probability.argmax()
        rows.append((named, probability, seen.attention[0].float(), seen.gate[0].float()))
        if given is None and int(named) == stop:
            break
        if given is not None and t == len(given):
            break
        token = named.view(1) if given is None else torch.tensor([given[t]], device=device)
        taken[token] = True
        taken[stop] = False
    return Trace(*(torch.stack(column).cpu() for column in zip(*rows, strict=True)))
