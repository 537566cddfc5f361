"""From features to a label sequence, one label at a time: the step interface that every decoder has.

    state = decoder.start(features)
    logits, state, attention = decoder.step(tokens, state)

`unroll` runs these two over many steps: all searches and losses are this one loop. Below it are the layers that several
decoders share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from helpers.data.batches import Features


class State(NamedTuple):
    """What a decoder remembers between two steps. Every tensor has the batch first.

    hidden: tensors that every step replaces, for instance (h, c) of an LSTM, each (B, H).
    memory: tensors computed once in `start` and only read afterwards, for instance the projected image grid.
    """

    hidden: tuple[Tensor, ...]
    memory: tuple[Tensor, ...] = ()

    def select_hidden(self, index: Tensor) -> State:
        """The hidden tensors of the rows `index` (K,) int64; the memory as it is.

        K is a multiple of the batch; the rows of one image stand side by side and read its one memory.
        """
        return self._replace(hidden=tuple(x[index] for x in self.hidden))


class Decoder(nn.Module):
    """The step interface.

    Token ids are labels `0..C-1`, `<stop>` = C, `<start>` = C + 1. A decoder reads ids in `0..C+1` and scores
    V = C + 1 outputs: it can never emit `<start>`.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        if num_labels < 1:
            raise ValueError(f"num_labels is {num_labels}; a decoder needs at least one label")
        self.num_labels = num_labels
        self.stop_token = num_labels
        self.start_token = num_labels + 1

    def start(self, features: Features) -> State:
        """Everything that does not depend on the labels, computed once: `Features` of B images -> `State`."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State, Tensor | None]:
        """One step: tokens (B,) int64 -> logits (B, V), the next state, attention (B, L) or None."""
        raise NotImplementedError

    def forward(self, features: Features, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Teacher forcing: inputs (B, T) int64, `<start>` first -> logits (B, T, V), attention (B, T, L) or None."""
        logits, attention = [], []
        after = tokens.roll(-1, 1)  # what is chosen at a step is read at the next one
        for step in unroll(self, features, None, steps=tokens.shape[1], first=tokens[:, 0], forced=after):
            logits.append(step.logits)
            attention.append(step.attention)
        return torch.stack(logits, 1), stack_attention(attention)


FREE = -1  # in `forced` of `unroll`: the decoder chooses this token itself

# Scores (R, V) -> tokens (R,) int64, and where sequences branch also the rows (R',) that the R' tokens continue.
Choose = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]


class Step(NamedTuple):
    """One step of `unroll`, for R rows."""

    logits: Tensor  # (R, V), with gradient where there is one
    scores: Tensor  # (R, V) float32, without gradient, -inf for tokens that may not be chosen
    tokens: Tensor  # (R,) int64, the choice, which the next step reads
    attention: Tensor | None  # (R, L)


def most_probable(scores: Tensor) -> Tensor:
    """The greedy choice: scores (R, V) -> tokens (R,)."""
    return scores.argmax(-1)


def unroll(
    decoder: Decoder,
    features: Features,
    choose: Choose | None,
    *,
    steps: int,
    first: Tensor | None = None,
    forced: Tensor | None = None,
    repeats: bool = True,
    never: Sequence[int] = (),
    min_labels: int = 0,
    until_stop: bool = False,
    step: Callable[[Tensor, State], tuple[Tensor, State, Tensor | None]] | None = None,
) -> Iterator[Step]:
    """Run a decoder: at every step it reads the token that was chosen at the step before.

    features: of B images. steps: T, at most.
    choose: a token from its scores; None where `forced` holds all. With rows as well, token i continues row rows[i].
    first: (B,) int64, what the first step reads; None: `<start>`.
    forced: (B, T) int64, tokens that are taken whatever `choose` says; `FREE` (-1) where it decides.
    repeats: False: a label that was chosen before cannot be chosen again. never: labels that cannot be chosen.
    min_labels: `<stop>` cannot be chosen before so many steps.
    until_stop: a row that has stopped chooses `<stop>` from then on. On a CPU the loop ends when all rows have stopped;
        a GPU would wait for the answer at every step.
    step: called in place of `decoder.step`.
    """
    step = step or decoder.step
    batch, device, stop = len(features.pooled), features.pooled.device, decoder.stop_token
    tokens = torch.full((batch,), decoder.start_token, device=device) if first is None else first
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    barred = torch.zeros(batch, stop + 1, dtype=torch.bool, device=device)
    if never:
        barred[:, list(never)] = True
    restricted = bool(not repeats or never or min_labels)
    state = decoder.start(features)
    for t in range(steps):
        logits, state, attention = step(tokens, state)
        scores = logits.detach().float()
        if restricted:
            barred[:, stop] = t < min_labels
            scores = scores.masked_fill(barred, -torch.inf)
        if choose is None:
            tokens = forced[:, t]
        else:
            tokens = choose(scores)
            if isinstance(tokens, tuple):
                tokens, rows = tokens
                state, barred = state.select_hidden(rows), barred[rows]
            if forced is not None:
                tokens = torch.where(forced[:, t] == FREE, tokens, forced[:, t])
        if until_stop:
            tokens = tokens.masked_fill(done, stop)
            done = done | (tokens == stop)
        if not repeats:
            barred.scatter_(1, tokens.unsqueeze(1), True)
        yield Step(logits, scores, tokens, attention)
        if until_stop and device.type == "cpu" and bool(done.all()):
            return


def stack_attention(attention: Sequence[Tensor | None]) -> Tensor | None:
    """The attention of T steps, each (B, L) or None, as (B, T, L) or None."""
    return None if attention[0] is None else torch.stack(attention, 1)


def label_embedding(num_labels: int, size: int, vectors: Tensor | None, *, freeze: bool) -> nn.Embedding:
    """Embedding of the C labels, `<stop>` and `<start>`: random, or given vectors (C + 2, size), frozen or learned."""
    if vectors is None:
        return nn.Embedding(num_labels + 2, size)
    if vectors.shape[0] != num_labels + 2:
        raise ValueError(
            f"the label vectors have {vectors.shape[0]} rows, but {num_labels} labels, <stop> and <start> need "
            f"{num_labels + 2}: load them with the vocabulary of this model"
        )
    return nn.Embedding.from_pretrained(vectors.float(), freeze=freeze)


def need_grid(features: Features, size: int) -> Tensor:
    """The grid (B, L, size) of features. Raises ValueError where there is none, or one of another size."""
    if features.grid is None:
        raise ValueError(
            "this system needs the image grid, but these features have only the pooled vector: encode the images "
            "with grid=True"
        )
    if features.grid.dim() != 3 or features.grid.shape[2] != size:
        raise ValueError(
            f"the grid is {tuple(features.grid.shape)}, expected (B, L, {size}): this system was made with "
            f"feature_size={size}; use the encoder it was made for"
        )
    return features.grid


class FeatureNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` for (B, D) that also trains on a single row, which has no spread and which torch refuses.

    Such a batch (the last one of 64k + 1 images, or --batch-size 1) is normalised as in eval mode.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def over_cells(norm: nn.Module, grid: Tensor) -> Tensor:
    """`norm` of a grid (B, L, D): every cell counts for the statistics of its dimension."""
    return norm(grid.flatten(0, 1)).view_as(grid)  # (B, L, D) -> (B * L, D) and back


class Standardize(nn.Module):
    """Features with mean 0 and variance 1 in every dimension (batch-norm), and dropout on the pooled one.

    The published decoders have no such layer: their CNN learns along. The features of a frozen CNN differ in scale and
    are all positive. docs/results.md has what the layer brings.
    """

    def __init__(self, feature_size: int, dropout: float) -> None:
        super().__init__()
        self.pooled = FeatureNorm(feature_size)
        self.grid = FeatureNorm(feature_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Features:
        grid = None if features.grid is None else over_cells(self.grid, features.grid)
        return Features(self.dropout(self.pooled(features.pooled)), grid)
