"""Beam search: the most probable label sequences, all images and beams in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.data.batches import Features
from helpers.decoders.base import Decoder
from helpers.decoders.search import Decoded, check_steps, log_probabilities, refuse_nan


@dataclass(frozen=True)
class Beams:
    """What a beam search found for B images: the K best label sequences each, best first."""

    tokens: Tensor  # (B, K, T) int64, `<stop>` from the first stop on
    lengths: Tensor  # (B, K) int64, labels before the first stop
    log_probability: Tensor  # (B, K) float32, log P(sequence | image); -inf where there were fewer sequences
    score: Tensor  # (B, K) float32, what was ranked by: log-probability / (tokens emitted) ** length_penalty
    step_probability: Tensor  # (B, K, T) float32, of each token when it was emitted; 0 after the first stop
    attention: Tensor | None = None  # (B, T, L) float32 of the best sequence

    def best(self) -> Decoded:
        """The best sequence of every image, as greedy search would return it."""
        kept = (self.tokens, self.lengths, self.log_probability, self.step_probability)
        return Decoded(*(x[:, 0] for x in kept), self.attention)


@torch.inference_mode()
def beam(
    decoder: Decoder,
    features: Features,
    *,
    width: int,
    max_steps: int,
    length_penalty: float = 0.0,
    repeats: bool = False,
    min_labels: int = 0,
    never: Sequence[int] = (),
    only_best: bool = False,
) -> Beams:
    """Beam search over label sequences.

    At every step the `width` best continuations of an image survive. One that ends in `<stop>` joins the image's
    candidates and leaves the beam; the search of an image is over when no live sequence can still beat its
    candidates, or after max_steps (Wang et al., "CNN-RNN", CVPR 2016). Sequences still alive then are candidates too.

    width: K >= 1; 1 is greedy search. length_penalty: 0 ranks by probability, 1 by probability per token.
    only_best: stop as soon as the best candidate is certain; the others may then be missing or not the best ones.
    Other arguments as in `greedy`. Raises FloatingPointError where the decoder scores NaN.
    """
    if width < 1:
        raise ValueError(f"width is {width}; a beam needs at least one sequence")
    if length_penalty < 0:
        raise ValueError(f"length_penalty is {length_penalty}; it must be 0 or above")
    check_steps(decoder, max_steps, min_labels, repeats, never)
    stop, outputs, device = decoder.stop_token, decoder.num_labels + 1, features.pooled.device
    batch, k = len(features.pooled), width
    state = decoder.start(features)

    # What the decoder reads at a step: `columns` live sequences of each image in `active`. One at first, because K
    # equal starts would give K equal beams.
    active, columns = torch.arange(batch, device=device), 1
    token = torch.full((batch,), decoder.start_token, device=device)
    live = torch.zeros(batch, 1, device=device)
    tokens = torch.full((batch, k, max_steps), stop, device=device)
    so_far = torch.full((batch, k, max_steps), -torch.inf, device=device)  # log P of each beginning
    taken = torch.zeros(batch, k, outputs, dtype=torch.bool, device=device)
    taken[..., list(never)] = True
    pool = _Candidates.empty(tokens)
    history = []
    for t in range(max_steps):
        logits, state, attention = decoder.step(token, state)
        taken[..., stop] = t < min_labels
        log_p = _spread(logits.float(), active, batch, columns)  # (A * columns, V) -> (B, columns, V)
        log_p = log_probabilities(log_p.masked_fill(taken[:, :columns], -torch.inf))
        scores = (live.unsqueeze(-1) + log_p).flatten(1)  # (B, columns * V)
        if t == 0:
            refuse_nan(scores[:, 0])
        if scores.shape[1] < k:
            scores = torch.nn.functional.pad(scores, (0, k - scores.shape[1]), value=-torch.inf)
        live, chosen = scores.topk(k, dim=1)
        parent, word = (chosen // outputs).clamp(max=columns - 1), chosen % outputs  # (B, k), (B, k)
        tokens, so_far, taken = (_rows(x, parent) for x in (tokens, so_far, taken))
        tokens[:, :, t], so_far[:, :, t] = word, live
        if not repeats:
            taken = taken.scatter(2, word.unsqueeze(-1), True)

        last = t == max_steps - 1
        ended = (word == stop) | last
        pool = pool.add(live.masked_fill(~ended, -torch.inf), tokens, so_far, t, length_penalty)
        hopeless = ~pool.can_enter(live, max_steps, length_penalty, only_best)
        live, order = live.masked_fill(ended | hopeless, -torch.inf).sort(dim=1, descending=True, stable=True)
        maps = None if attention is None else _spread(attention.float(), active, batch, columns)
        history.append(_Step(parent, order, maps))
        if last:
            break
        keep = torch.arange(len(active), device=device)
        before, columns = columns, k
        # Rows without a future are not computed. On a GPU they are: it would wait for the CPU to count them.
        if device.type == "cpu":
            columns = int((live > -torch.inf).sum(1).max())
            keep = (live[active, 0] > -torch.inf).nonzero().flatten()
            if columns == 0:
                break
        live, order = live[:, :columns], order[:, :columns]
        tokens, so_far, taken = (
            torch.cat([_rows(x, order), x[:, columns:]], 1) for x in (tokens, so_far, taken)
        )
        active = active[keep]
        rows = keep.unsqueeze(1) * before + parent.gather(1, order)[active]  # (A, columns)
        token = word.gather(1, order)[active].flatten()
        memory = state.memory if len(keep) == batch else tuple(x[keep] for x in state.memory)
        state = state._replace(memory=memory).select_hidden(rows.flatten())
    log_probability = pool.log_probability()
    refuse_nan(log_probability[:, 0])
    return Beams(
        tokens=pool.tokens[:, :, : t + 1],
        lengths=(pool.tokens != stop).sum(-1),
        log_probability=log_probability,
        score=pool.score,
        step_probability=pool.step_probability()[:, :, : t + 1],
        attention=_trace(history, pool),
    )


@dataclass(frozen=True)
class _Candidates:
    """The best finished sequences of every image, best first, and where each ended (beam slot, step)."""

    score: Tensor  # (B, k)
    tokens: Tensor  # (B, k, T)
    so_far: Tensor  # (B, k, T), log P of the first 1, 2, ... tokens
    slot: Tensor  # (B, k) int64, place in the beam when it ended
    end: Tensor  # (B, k) int64, step at which it ended

    @staticmethod
    def empty(tokens: Tensor) -> _Candidates:
        """None yet; tokens: (B, k, T), all `<stop>`."""
        nothing = torch.full(tokens.shape, -torch.inf, device=tokens.device)
        zeros = torch.zeros(tokens.shape[:2], dtype=torch.int64, device=tokens.device)
        return _Candidates(nothing[..., 0], tokens, nothing, zeros, zeros)

    def add(
        self, log_p: Tensor, tokens: Tensor, so_far: Tensor, t: int, length_penalty: float
    ) -> _Candidates:
        """Merge the sequences that ended at step t (others have log-probability -inf); keep the k best."""
        k = self.score.shape[1]
        # Tokens emitted are t + 1, `<stop>` among them: the same for all that end at this step.
        score = torch.cat([self.score, log_p / (t + 1) ** length_penalty], 1)
        slot = torch.arange(k, device=score.device).expand_as(log_p)
        score, order = score.sort(dim=1, descending=True, stable=True)
        order = order[:, :k]

        def merge(old: Tensor, new: Tensor) -> Tensor:
            both = torch.cat([old, new], 1)
            return both.gather(1, order) if both.ndim == 2 else _rows(both, order)

        end = merge(self.end, torch.full_like(slot, t))
        kept = merge(self.tokens, tokens), merge(self.so_far, so_far), merge(self.slot, slot)
        return _Candidates(score[:, :k], *kept, end)

    def can_enter(self, live: Tensor, max_steps: int, length_penalty: float, only_best: bool) -> Tensor:
        """Which live sequences (B, k) may still enter the candidates: log P only falls as a sequence grows."""
        worst = self.score[:, :1] if only_best else self.score[:, -1:]
        return live / max_steps**length_penalty > worst

    def log_probability(self) -> Tensor:
        """(B, k), -inf where there is no sequence."""
        total = self.so_far.gather(2, self.end.unsqueeze(-1)).squeeze(-1)
        return total.masked_fill(self.score == -torch.inf, -torch.inf)

    def step_probability(self) -> Tensor:
        """(B, k, T), 0 after the end and where there is no sequence."""
        before = torch.cat([torch.zeros_like(self.so_far[..., :1]), self.so_far[..., :-1]], -1)
        steps = torch.arange(self.so_far.shape[-1], device=self.so_far.device)
        inside = (steps <= self.end.unsqueeze(-1)) & (self.score > -torch.inf).unsqueeze(-1)
        return torch.where(inside, (self.so_far - before).exp(), 0.0)


class _Step(NamedTuple):
    """What it takes to follow a sequence back through a step."""

    parent: Tensor  # (B, k), the column that was read for each sequence
    order: Tensor  # (B, k), the sequence that each column of the next step continues
    maps: Tensor | None  # (B, columns, L), where the decoder looked


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """The rows index (B, K) of x (B, k, N): (B, K, N)."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _spread(x: Tensor, active: Tensor, batch: int, columns: int) -> Tensor:
    """(A * columns, N) of the active images -> (B, columns, N), 0 for the others."""
    x = x.view(len(active), columns, -1)
    return x if len(active) == batch else x.new_zeros(batch, *x.shape[1:]).index_copy(0, active, x)


def _trace(history: list[_Step], pool: _Candidates) -> Tensor | None:
    """Attention (B, T, L) of each image's best sequence, following its parents back from where it ended."""
    if history[0].maps is None:
        return None
    rows = torch.arange(len(pool.slot), device=pool.slot.device)
    slot, end = pool.slot[:, 0], pool.end[:, 0]
    picked = [torch.zeros_like(history[0].maps[:, 0])] * len(history)
    for t in reversed(range(len(history))):
        inside = t <= end
        column = history[t].parent[rows, slot].where(inside, 0)
        picked[t] = torch.where(inside.unsqueeze(1), history[t].maps[rows, column], 0.0)
        if t:
            slot = torch.where(inside, history[t - 1].order[rows, column], slot)
    return torch.stack(picked, 1)
