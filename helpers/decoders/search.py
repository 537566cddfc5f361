"""Decoding one sequence an image: greedy search and sampling. Beam search is in `helpers.decoders.beam`.

All searches take features, so an image goes through its encoder once, and drive the same `start` and `step`.

Greedy decoding that keeps all it saw, for figures: `follow` for any decoder, `trace` for one with attention.

Taught in notebooks 03 and 04.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.data.batches import Features
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.base import Decoder


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
def greedy(
    decoder: Decoder,
    features: Features,
    *,
    max_steps: int,
    repeats: bool = False,
    min_labels: int = 0,
    never: Sequence[int] = (),
) -> Decoded:
    """At every step the most probable label, fed back as the next input. Taught in notebook 03.

    features: of B images. max_steps: T >= 1, decoder steps at most (labels and `<stop>`).
    repeats: let a label be named again; by default its probability is 0 once named, for the labels of an image
        are a set, and the probabilities of a step are those of what is left.
    min_labels: `<stop>` has probability 0 before so many labels are named; with max_steps the same number, every
        image gets exactly so many.
    never: labels whose probability is 0 at every step, such as the `<unk>` of a captioner.

    A sequence ends at its first `<stop>`, or after max_steps labels. The decoder keeps its mode: call `eval()`
    before, or dropout stays on. Raises FloatingPointError where the decoder scores NaN.
    """
    return _follow(decoder, features, lambda log_p: log_p.max(-1), max_steps, repeats, min_labels, never)


@torch.inference_mode()
def sample(
    decoder: Decoder,
    features: Features,
    *,
    max_steps: int,
    temperature: float = 1.0,
    repeats: bool = False,
    min_labels: int = 0,
    never: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> Decoded:
    """Label sequences drawn at random, one an image, each step from the decoder's own probabilities. Notebook 06.

    temperature: divides the logits; below 1 the likely labels become likelier (near 0 it is greedy search), above
        1 all become alike. generator: of the decoder's device; the same one draws the same sequences again.
    Other arguments as in `greedy`.

    The probabilities returned are those of the draw, with which each label was drawn at this temperature: at
    temperature 1 they are the decoder's (at another, `set_probability.sequence_log_probability` has those).
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0 (use greedy for the limit 0)")

    def draw(log_p: Tensor) -> tuple[Tensor, Tensor]:
        refuse_nan(log_p[:, 0])  # a row with one NaN is NaN throughout
        token = torch.multinomial(log_p.exp(), 1, generator=generator)  # (B, 1)
        return log_p.gather(1, token).squeeze(1), token.squeeze(1)

    return _follow(decoder, features, draw, max_steps, repeats, min_labels, never, temperature)


def step_log_probabilities(
    logits: Tensor, taken: Tensor | None, *, allow_stop: bool, temperature: float = 1.0
) -> Tensor:
    """log P of the next token, (..., V) float32, from logits (..., V).

    taken: (..., V) bool, tokens that have probability 0 from here on, or None. allow_stop: whether `<stop>`, the
    last token, may come now. What is left is normalised anew.
    """
    logits = logits.float()
    if taken is not None:
        logits = logits.masked_fill(taken, -torch.inf)
    if not allow_stop:
        stop = torch.arange(logits.shape[-1], device=logits.device) == logits.shape[-1] - 1
        logits = logits.masked_fill(stop, -torch.inf)
    return (logits / temperature if temperature != 1 else logits).log_softmax(-1)


def check_steps(
    decoder: Decoder, max_steps: int, min_labels: int, repeats: bool, never: Sequence[int] = ()
) -> None:
    """Raise ValueError for limits that no label sequence can meet."""
    if wrong := [label for label in never if not 0 <= label < decoder.num_labels]:
        raise ValueError(
            f"never holds {wrong}, but the labels of this decoder are 0..{decoder.num_labels - 1} (<stop> is always "
            "possible)"
        )
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; decoding needs at least one step")
    left = decoder.num_labels - len(set(never))
    most = max_steps if repeats and left else min(max_steps, left)
    if not 0 <= min_labels <= most:
        raise ValueError(
            f"min_labels is {min_labels}; with {max_steps} steps and {left} labels it must be in 0..{most}"
        )


def refuse_nan(log_probability: Tensor) -> None:
    """Raise FloatingPointError where a search met NaN: log_probability (B,)."""
    if bool(log_probability.isnan().any()):
        rows = log_probability.isnan().nonzero().flatten().tolist()
        raise FloatingPointError(
            f"the decoder scored NaN for {len(rows)} of {len(log_probability)} images (batch rows {rows[:5]}): "
            "its weights or the features hold NaN; check the training loss and the feature cache"
        )


def _follow(
    decoder: Decoder,
    features: Features,
    choose: Callable[[Tensor], tuple[Tensor, Tensor]],
    max_steps: int,
    repeats: bool,
    min_labels: int,
    never: Sequence[int],
    temperature: float = 1.0,
) -> Decoded:
    """One sequence an image; choose: log-probabilities (B, V) -> those of the tokens (B,), the tokens (B,)."""
    check_steps(decoder, max_steps, min_labels, repeats, never)
    stop = decoder.stop_token
    batch, device = len(features.pooled), features.pooled.device
    state = decoder.start(features)
    tokens = torch.full((batch, max_steps), stop, device=device)
    probability = torch.zeros(batch, max_steps, device=device)
    log_probability = torch.zeros(batch, device=device)
    attention = []
    token = torch.full((batch,), decoder.start_token, device=device)
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    taken = torch.zeros(batch, decoder.num_labels + 1, dtype=torch.bool, device=device)
    taken[:, list(never)] = True
    mask = None if repeats and not never else taken
    for t in range(max_steps):
        logits, state, step_attention = decoder.step(token, state)
        scores = step_log_probabilities(logits, mask, allow_stop=t >= min_labels, temperature=temperature)
        log_p, token = choose(scores)  # (B,), (B,)
        token = token.masked_fill(done, stop)
        log_p = log_p.masked_fill(done, 0.0)
        tokens[:, t] = token
        probability[:, t] = log_p.exp().masked_fill(done, 0.0)
        log_probability += log_p
        if step_attention is not None:
            attention.append(step_attention.float())
        done = done | (token == stop)
        if not repeats:
            taken.scatter_(1, token.unsqueeze(1), True)
            taken[:, stop] = False  # stopping is always possible
        # Asking whether all have stopped would make a GPU wait for the CPU at every step.
        if device.type == "cpu" and bool(done.all()):
            break
    refuse_nan(log_probability)
    steps = t + 1
    return Decoded(
        tokens=tokens[:, :steps],
        lengths=(tokens != stop).sum(1),
        log_probability=log_probability,
        step_probability=probability[:, :steps],
        attention=torch.stack(attention, 1) if attention else None,
    )


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
