"""One label sequence per image: greedy search, sampling, and greedy decoding that keeps all it saw.

All are `unroll` with another choice. Beam search is in `helpers.decoders.beam`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from helpers.data.batches import Features
from helpers.decoders.attention import GridDecoder
from helpers.decoders.base import FREE, Choose, Decoder, State, most_probable, stack_attention, unroll


@dataclass(frozen=True)
class Decoded:
    """The label sequences of B images, at most T steps long."""

    tokens: Tensor  # (B, T) int64, `<stop>` from the first stop on
    lengths: Tensor  # (B,) int64, labels before the first stop
    log_probability: Tensor  # (B,) float32, log P(sequence | image), the first stop included
    step_probability: Tensor  # (B, T) float32, of each token when it was emitted; 0 after the first stop
    attention: Tensor | None = None  # (B, T, L) float32, where the decoder looked


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
    """At every step the most probable label, which the next step reads.

    features: of B images. max_steps: T >= 1, decoder steps at most (labels and `<stop>`).
    repeats: whether a label may be named again. Without it the probability of a named label is 0, and the others
        share what is left, because the labels of an image are a set.
    min_labels: `<stop>` has probability 0 before so many labels; with max_steps equal, every image gets so many.
    never: labels whose probability is 0 at every step, such as the `<unk>` of a captioner.

    The decoder keeps its mode: call `eval()` before. Raises FloatingPointError where the decoder scores NaN.
    """
    limits = {"repeats": repeats, "min_labels": min_labels, "never": never}
    return _decode(decoder, features, most_probable, max_steps, **limits)


@torch.inference_mode()
def sample(
    decoder: Decoder,
    features: Features,
    *,
    max_steps: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    **limits: Any,
) -> Decoded:
    """Label sequences drawn at random, one per image, each step from the decoder's own probabilities.

    temperature: divides the logits; below 1 the likely labels become likelier (near 0 it is greedy search), above
        1 all become alike. The probabilities returned are those at this temperature.
    generator: of the decoder's device. limits: repeats, min_labels and never, as in `greedy`.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0 (use greedy for the limit 0)")

    def draw(scores: Tensor) -> Tensor:
        log_p = log_probabilities(scores, temperature)
        refuse_nan(log_p[:, 0])  # a row with one NaN is NaN throughout
        return torch.multinomial(log_p.exp(), 1, generator=generator).squeeze(1)

    return _decode(decoder, features, draw, max_steps, temperature, **limits)


def _decode(
    decoder: Decoder,
    features: Features,
    choose: Choose,
    max_steps: int,
    temperature: float = 1.0,
    **limits: Any,
) -> Decoded:
    limits = {"repeats": False} | limits
    check_steps(decoder, max_steps, **limits)
    tokens, log_p, attention = [], [], []
    for step in unroll(decoder, features, choose, steps=max_steps, until_stop=True, **limits):
        tokens.append(step.tokens)
        log_p.append(log_probabilities(step.scores, temperature).gather(1, step.tokens.unsqueeze(1)))
        attention.append(step.attention)
    tokens = torch.stack(tokens, 1)  # (B, T)
    lengths = (tokens != decoder.stop_token).sum(1)
    ended = after_the_stop(lengths, tokens.shape[1])
    log_p = torch.cat(log_p, 1).masked_fill(ended, 0.0)  # (B, T)
    log_probability = sum(log_p.unbind(1))
    refuse_nan(log_probability)
    maps = stack_attention(attention)
    step_probability = log_p.exp().masked_fill(ended, 0.0)
    return Decoded(tokens, lengths, log_probability, step_probability, None if maps is None else maps.float())


def log_probabilities(scores: Tensor, temperature: float = 1.0) -> Tensor:
    """log P of the next token from its scores, (..., V) float32; a score of -inf has probability 0."""
    return (scores / temperature).log_softmax(-1)


def after_the_stop(lengths: Tensor, steps: int) -> Tensor:
    """(B, steps) bool, the steps after the first `<stop>`; lengths: (B,) int64, labels before it."""
    return torch.arange(steps, device=lengths.device) > lengths.unsqueeze(1)


def check_steps(
    decoder: Decoder, max_steps: int, min_labels: int = 0, repeats: bool = False, never: Sequence[int] = ()
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


class Followed(NamedTuple):
    """What `follow` saw of B images."""

    tokens: Tensor  # (B, T) int64, `<stop>` from the first stop on
    probability: Tensor  # (B, T, V) float32, of every label and `<stop>`; 0 after the first stop


@torch.inference_mode()
def follow(
    decoder: Decoder,
    features: Features,
    *,
    max_steps: int,
    forced: Sequence[Sequence[int]] | None = None,
    repeats: bool = False,
) -> Followed:
    """Greedy decoding that keeps all probabilities, and in which you may choose labels yourself.

    forced: per image the tokens to take from its first step on, whatever the decoder says; `FREE` (-1) where it
        chooses, as it does after the last of them. What follows a `<stop>` does not count. Other arguments: `greedy`.

    Raises ValueError for a wrong number of rows, too long ones, or ids that the decoder cannot emit.
    """
    batch, stop = len(features.pooled), decoder.stop_token
    check_steps(decoder, max_steps)
    rows = [list(row) for row in forced] if forced is not None else [[]] * batch
    longest = max(map(len, rows), default=0)
    if len(rows) != batch or longest > max_steps:
        raise ValueError(
            f"forced has {len(rows)} rows of up to {longest} tokens; expected a row for each of {batch} images, of "
            f"at most max_steps = {max_steps}"
        )
    if bad := {token for row in rows for token in row if not FREE <= token <= stop}:
        raise ValueError(f"forced holds ids {sorted(bad)[:5]} outside -1..{stop} (-1: the decoder chooses)")
    padded = [row + [FREE] * (max_steps - len(row)) for row in rows]
    wanted = torch.tensor(padded, device=features.pooled.device)  # (B, T)
    options = {"forced": wanted, "repeats": repeats, "until_stop": True}
    steps = list(unroll(decoder, features, most_probable, steps=max_steps, **options))
    tokens = torch.stack([step.tokens for step in steps], 1)
    probability = torch.stack([step.scores.softmax(-1) for step in steps], 1)  # (B, T, V)
    ended = after_the_stop((tokens != stop).sum(1), len(steps))
    return Followed(tokens, probability.masked_fill(ended.unsqueeze(2), 0.0))


@dataclass(frozen=True)
class Trace:
    """What a decoder with attention did for one image. Made by `trace`."""

    tokens: Tensor  # (T,) int64, what was named
    probability: Tensor  # (T, V) float32, of every label and `<stop>`
    attention: Tensor  # (T, L) float32

    @property
    def step_probability(self) -> Tensor:
        """(T,) float32, of what was named."""
        return self.probability.gather(1, self.tokens.unsqueeze(1)).squeeze(1)


@torch.inference_mode()
def trace(
    decoder: GridDecoder,
    features: Features,
    *,
    max_steps: int,
    given: Sequence[int] | None = None,
    attention: Mapping[int, Tensor] | None = None,
    repeats: bool = False,
) -> Trace:
    """Decode one image greedily and keep everything.

    features: of one image, as the decoder gets them (after a system's `prepare`). max_steps: at most.
    given: the labels that it reads, whatever it says (teacher forcing), and one step more, in which it should say
        `<stop>`. None: it reads its own labels (free running), as in `greedy`.
    attention: step -> (L,) weights to be used at that step instead of the decoder's own.
    repeats: whether a label may be named again.

    Raises ValueError for more than one image, or max_steps below 1.
    """
    if len(features.pooled) != 1 or max_steps < 1:
        raise ValueError(
            f"trace takes one image and at least one step; found {len(features.pooled)}, {max_steps}"
        )
    device, painted = features.pooled.device, attention or {}
    forced = None
    if given is not None:
        max_steps, forced = len(given) + 1, torch.tensor([[*given, FREE]], device=device)
    probability: list[Tensor] = []
    looks: list[Tensor] = []

    def look(tokens: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
        mine = painted.get(len(looks))
        return decoder.step(tokens, state, attention=None if mine is None else mine.to(device).unsqueeze(0))

    options = {"forced": forced, "repeats": repeats, "step": look}
    for step in unroll(decoder, features, most_probable, steps=max_steps, **options):
        probability.append(step.scores[0].softmax(-1))
        looks.append(step.attention[0].float())
        if given is None and int(step.tokens) == decoder.stop_token:
            break
    every = torch.stack(probability).cpu()
    return Trace(every.argmax(-1), every, torch.stack(looks).cpu())
