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


@dataclass(frozen=True)
class Beams:
    """What a beam search found for B images: the K best label sequences each, best first.

    tokens:          (B, K, T) int64, `<stop>` from the first stop on.
    lengths:         (B, K) int64, labels before the first stop.
    log_probability: (B, K) float32, log P(sequence | image); -inf where there were fewer than K sequences.
    score:           (B, K) float32, what the search ranked by: log-probability / (length + 1) ** length_penalty.
    attention:       (B, T, L) float32 of the best sequence, or None.
    """

    tokens: Tensor
    lengths: Tensor
    log_probability: Tensor
    score: Tensor
    attention: Tensor | None = None

    def best(self, step_probability: Tensor | None = None) -> Decoded:
        """The best sequence of every image, as greedy search would return it (without step probabilities)."""
        tokens = self.tokens[:, 0]
        if step_probability is None:
            step_probability = torch.full(tokens.shape, torch.nan, device=tokens.device)
        return Decoded(
            tokens, self.lengths[:, 0], self.log_probability[:, 0], step_probability, self.attention
        )


@torch.inference_mode()
def beam(
    decoder: Decoder,
    features: Features,
    *,
    width: int,
    max_steps: int,
    length_penalty: float = 0.0,
    repeats: bool = False,
) -> Beams:
    """Beam search over label sequences, all images and beams in one batch. Taught in notebook 06.

    At every step the `width` best continuations of an image survive. One that ends in `<stop>` joins the image's
    candidates and leaves the beam; the search of an image is over when no live sequence can still beat its
    candidates, or after max_steps (Wang et al., "CNN-RNN: A Unified Framework for Multi-label Image Classification",
    CVPR 2016). Sequences still alive then count as candidates, so a decoder that never stops has a best one too.

    width: K >= 1; 1 is greedy search. length_penalty: 0 ranks by probability, 1 by probability per step.
    Other arguments as in `greedy`.
    """
    if width < 1:
        raise ValueError(f"width is {width}; a beam needs at least one sequence")
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; decoding needs at least one step")
    stop, labels, device = decoder.stop_token, decoder.num_labels, features.pooled.device
    batch, k = len(features.pooled), width
    rows = torch.arange(batch, device=device)
    state = decoder.start(features)
    state = state.select_hidden(rows.repeat_interleave(k))  # hidden (B * k, ...), memory (B, ...)

    token = torch.full((batch * k,), decoder.start_token, device=device)
    live = torch.full((batch, k), -torch.inf, device=device)
    live[:, 0] = 0.0  # k equal starts would give k equal beams
    tokens = torch.full((batch, k, max_steps), stop, device=device)
    taken = torch.zeros(batch, k, labels + 1, dtype=torch.bool, device=device)
    pool = _Candidates.empty(batch, k, max_steps, stop, device)
    parents, maps = [], []
    for t in range(max_steps):
        logits, state, attention = decoder.step(token, state)
        logits = logits.float().view(batch, k, labels + 1)  # (B * k, V) -> (B, k, V)
        if not repeats:
            logits = logits.masked_fill(taken, -torch.inf)
        scores = (live.unsqueeze(-1) + logits.log_softmax(-1)).flatten(1)  # (B, k * V)
        if t == 0 and bool(scores.isnan().any()):
            raise FloatingPointError("the decoder scored NaN: its weights or the features hold NaN")
        live, chosen = scores.topk(min(k, scores.shape[1]), dim=1)
        if live.shape[1] < k:
            live = torch.nn.functional.pad(live, (0, k - live.shape[1]), value=-torch.inf)
            chosen = torch.nn.functional.pad(chosen, (0, k - chosen.shape[1]))
        parent, word = chosen // (labels + 1), chosen % (labels + 1)  # (B, k), (B, k)
        tokens = tokens.gather(1, parent.unsqueeze(-1).expand_as(tokens))
        tokens[:, :, t] = word
        taken = taken.gather(1, parent.unsqueeze(-1).expand_as(taken)).scatter(2, word.unsqueeze(-1), True)
        taken[:, :, stop] = False
        parents.append(parent)
        if attention is not None:
            maps.append(attention.float().view(batch, k, -1))

        last = t == max_steps - 1
        ended = (word == stop) | last
        pool = pool.add(live.masked_fill(~ended, -torch.inf), tokens, t, length_penalty)
        live = live.masked_fill(ended, -torch.inf)
        if last or (device.type == "cpu" and not pool.beatable(live, max_steps, length_penalty)):
            break
        token = word.flatten()
        state = state.select_hidden((rows.unsqueeze(1) * k + parent).flatten())
    return Beams(
        tokens=pool.tokens[:, :, : t + 1],
        lengths=(pool.tokens != stop).sum(-1),
        log_probability=pool.log_probability,
        score=pool.score,
        attention=_trace(maps, parents, pool) if maps else None,
    )


@dataclass(frozen=True)
class _Candidates:
    """The best finished sequences of every image, best first, and where each ended (beam slot, step)."""

    score: Tensor  # (B, k)
    log_probability: Tensor  # (B, k)
    tokens: Tensor  # (B, k, T)
    slot: Tensor  # (B, k) int64, place in the beam when it ended
    end: Tensor  # (B, k) int64, step at which it ended

    @staticmethod
    def empty(batch: int, k: int, steps: int, stop: int, device: torch.device) -> _Candidates:
        nothing = torch.full((batch, k), -torch.inf, device=device)
        zeros = torch.zeros(batch, k, dtype=torch.int64, device=device)
        return _Candidates(nothing, nothing, torch.full((batch, k, steps), stop, device=device), zeros, zeros)

    def add(self, log_probability: Tensor, tokens: Tensor, t: int, length_penalty: float) -> _Candidates:
        """Merge the sequences that ended at step t (others have log-probability -inf); keep the k best."""
        k = self.score.shape[1]
        # Words emitted are t + 1, `<stop>` among them: the same for all that end at this step.
        score = torch.cat([self.score, log_probability / (t + 1) ** length_penalty], 1)
        slot = torch.arange(k, device=score.device).expand_as(log_probability)
        score, order = score.sort(dim=1, descending=True, stable=True)
        order = order[:, :k]

        def merge(old: Tensor, new: Tensor) -> Tensor:
            return torch.cat([old, new], 1).gather(1, order)

        everything = torch.cat([self.tokens, tokens], 1)
        return _Candidates(
            score=score[:, :k],
            log_probability=merge(self.log_probability, log_probability),
            tokens=everything.gather(1, order.unsqueeze(-1).expand(-1, -1, everything.shape[-1])),
            slot=merge(self.slot, slot),
            end=merge(self.end, torch.full_like(slot, t)),
        )

    def beatable(self, live: Tensor, max_steps: int, length_penalty: float) -> bool:
        """Can any live sequence still enter the candidates? Log-probabilities only fall as a sequence grows."""
        bound = live.max(1).values / max_steps**length_penalty
        return bool((bound > self.score[:, -1]).any())


def _trace(maps: list[Tensor], parents: list[Tensor], pool: _Candidates) -> Tensor:
    """Attention (B, T, L) of each image's best sequence, following its parents back from where it ended."""
    rows = torch.arange(len(pool.slot), device=pool.slot.device)
    slot, end = pool.slot[:, 0], pool.end[:, 0]
    picked = [torch.zeros_like(maps[0][:, 0])] * len(maps)
    for t in reversed(range(len(maps))):
        inside = t <= end
        parent = parents[t][rows, slot]
        # The map of step t was computed before the beams were reordered: it stands at the parent's place.
        picked[t] = torch.where(inside.unsqueeze(1), maps[t][rows, parent], 0.0)
        slot = torch.where(inside, parent, slot)
    return torch.stack(picked, 1)
