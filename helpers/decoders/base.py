"""From features to a label sequence, one label at a time: the step interface and the LSTM decoders.

Teacher forcing, free running, greedy, sampling, beam search and the order-free losses all drive the same two
methods, so a new decoder that has them gets all of those.

    state = decoder.start(features)
    logits, state, attention = decoder.step(tokens, state)

Batch-norm of features that bears a batch of one image. Taught in notebook 03.

A decoder that names labels one by one, trained on label sequences in a fixed order.
"""

from __future__ import annotations

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

    def select(self, index: Tensor) -> State:
        """The state of the rows `index` (K,) int64, in that order; a row may be taken more than once."""
        return State(tuple(x[index] for x in self.hidden), tuple(x[index] for x in self.memory))

    def select_hidden(self, index: Tensor) -> State:
        """The hidden tensors of the rows `index` (K,) int64; the memory as it is.

        For beams: K is a whole multiple of the batch, the rows of one image stand together, and all beams of an
        image read the one memory it has.
        """
        return self._replace(hidden=tuple(x[index] for x in self.hidden))


class Decoder(nn.Module):
    """The step interface. Taught in notebook 03.

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
        """Teacher forcing: the inputs of all steps are known.

        tokens: (B, T) int64, `<start>` and the true labels but the last.
        Returns logits (B, T, V) and attention (B, T, L) or None.
        """
        state = self.start(features)
        logits, attention = [], []
        for t in range(tokens.shape[1]):
            step_logits, state, step_attention = self.step(tokens[:, t], state)
            logits.append(step_logits)
            attention.append(step_attention)
        return torch.stack(logits, 1), None if attention[0] is None else torch.stack(attention, 1)


def label_embedding(
    num_labels: int, size: int, vectors: Tensor | None = None, *, freeze: bool
) -> nn.Embedding:
    """Embedding of the C labels, `<stop>` and `<start>`.

    vectors: (C + 2, size) float, for instance `GloveVectors.vectors`; None draws random ones.
    freeze: keep given vectors as they are (random ones are always learned).
    """
    if vectors is None:
        return nn.Embedding(num_labels + 2, size)
    if vectors.shape[0] != num_labels + 2:
        raise ValueError(
            f"the label vectors have {vectors.shape[0]} rows, but {num_labels} labels, <stop> and <start> need "
            f"{num_labels + 2}: load them with the vocabulary of this model"
        )
    return nn.Embedding.from_pretrained(vectors.float(), freeze=freeze)


class FeatureNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` for (B, D), which also trains on a single row; parameters and buffers have the same names.

    One row has no spread, and torch refuses it. Such a batch (the last one of 64k + 1 images, or --batch-size 1) is
    normalised as in eval mode, by the running mean and variance, which it leaves as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class Standardize(nn.Module):
    """Features with mean 0 and variance 1 in every dimension (batch-norm). Taught in notebook 03.

    dropout: of the pooled feature; a decoder that looks at the grid has its own for that.

    The published decoders have no such layer, for their CNN learns along. The features of a frozen CNN differ in
    scale and are all positive. Whether this helps is measured, not assumed: it does for RIA on Corel-5k, it does
    not on scenes (docs/results.md).
    """

    def __init__(self, feature_size: int, dropout: float) -> None:
        super().__init__()
        self.pooled = FeatureNorm(feature_size)
        self.grid = FeatureNorm(feature_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Features:
        grid = features.grid
        if grid is not None:
            # (B, L, D) -> (B * L, D): every cell counts for the statistics of its dimension.
            grid = self.grid(grid.flatten(0, 1)).view_as(grid)
        return Features(self.dropout(self.pooled(features.pooled)), grid)
