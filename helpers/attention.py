"""A decoder that looks at the image again at every step: additive attention over the grid and an LSTM.

The grid is projected once per image (`start`), not once per step; the arithmetic of a step is in
`helpers.attention_kernels`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from helpers.attention_kernels import TeacherForcing, Weights, advance, linear, widened
from helpers.batch import Features
from helpers.decoders import Decoder, State, label_embedding


class Inspection(NamedTuple):
    """One step of `AttentionLSTM` with what a picture of it needs, for R rows.

    logits: (R, V). state: the next one. attention: (R, L), sums to 1. gate: (R, D) in 0..1, how much of each
    feature of the attended vector the LSTM lets in.
    """

    logits: Tensor
    state: State
    attention: Tensor
    gate: Tensor


def doubly_stochastic_penalty(attention: Tensor, lengths: Tensor) -> Tensor:
    """Ask that every cell be looked at once in all: the mean over images and cells of (1 - Σ_t α_ti)².

    attention: (B, T, L). lengths: (B,) int64, labels of each image; its valid steps are the labels and `<stop>`,
    the padding after them does not count. Returns a scalar to add to the loss (Xu et al., "Show, Attend and
    Tell", ICML 2015, eq. 14; weight 1 there). Taught in notebook 04.
    """
    steps = torch.arange(attention.shape[1], device=attention.device)
    valid = steps <= lengths.unsqueeze(1)  # (B, T)
    looked = (attention * valid.unsqueeze(2)).sum(1)  # (B, L)
    return (1.0 - looked).square().mean()


class AttentionLSTM(Decoder):
    """An LSTM that looks at a weighted mean of the grid at every step. Taught in notebook 04.

    With h the previous hidden state: e_i = v·ReLU(W_e a_i + W_h h) + b over the cells a_i, α = softmax(e),
    z = Σ α_i a_i, gate = σ(W_g h), and the LSTM reads [embedding of the previous label; gate * z]. h0 = W pooled
    + b; c0 = 0, or linear in pooled too (Xu et al., "Show, Attend and Tell", ICML 2015; for label sets: Yazici et
    al., "Orderless Recurrent Models for Multi-label Classification", CVPR 2020).

    num_labels: C. feature_size: D of grid and pooled. hidden_size: H. attention_size: A.
    embedding_size: of the labels; ignored where `vectors` (C + 2, E) are given.
    learn_cell: c0 is linear in pooled. input_dropout is applied to the embedding, output_dropout before the scores.
    attention_dropout: of single numbers of the grid, as seen by the attention (keys and values);
    attention_dropout_per: "sequence" draws one mask for all steps; "step" a new one for every step, which has to
    project the grid again at every step, and is as slow as that.

    Several rows of `tokens` and hidden state may share an image: with K * B rows over a memory of B images, rows
    i * K to i * K + K - 1 read image i, and no grid is copied.
    """

    def __init__(
        self,
        num_labels: int,
        feature_size: int,
        *,
        hidden_size: int = 512,
        attention_size: int = 512,
        embedding_size: int = 300,
        vectors: Tensor | None = None,
        freeze_vectors: bool = True,
        learn_cell: bool = False,
        input_dropout: float = 0.3,
        output_dropout: float = 0.5,
        attention_dropout: float = 0.0,
        attention_dropout_per: Literal["sequence", "step"] = "sequence",
    ) -> None:
        super().__init__(num_labels)
        if attention_dropout_per not in ("sequence", "step"):
            raise ValueError(
                f"attention_dropout_per is {attention_dropout_per!r}; choose 'sequence' or 'step'"
            )
        self.attention_dropout_per = attention_dropout_per
        self.embedding = label_embedding(num_labels, embedding_size, vectors, freeze=freeze_vectors)
        self.input_dropout = nn.Dropout(input_dropout)
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.output_dropout = nn.Dropout(output_dropout)
        self.initial_hidden = nn.Linear(feature_size, hidden_size)
        self.initial_cell = nn.Linear(feature_size, hidden_size) if learn_cell else None
        self.keys = nn.Linear(feature_size, attention_size)  # W_e
        # W_h (A rows), W_g (D rows) and the LSTM's hidden-to-gates matrix (4H rows) all multiply h: one product.
        self.from_hidden = nn.Linear(hidden_size, attention_size + feature_size + 4 * hidden_size)
        self.score = nn.Linear(attention_size, 1)  # v and b
        # The two halves of the LSTM's input matrix: the label's share does not wait for the attention.
        self.from_embedding = nn.Linear(self.embedding.embedding_dim, 4 * hidden_size)
        self.from_context = nn.Linear(feature_size, 4 * hidden_size, bias=False)
        for parameter in (*self.from_embedding.parameters(), *self.from_context.parameters()):
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)  # as nn.LSTM does
        self.scores = nn.Linear(hidden_size, num_labels + 1)

    def start(self, features: Features) -> State:
        """`Features` of B images -> State(hidden=(h, c), memory=(grid (B, L, D), keys (B, L, A))).

        While `attention_dropout_per="step"` is at work the memory is (grid,). Raises ValueError without a grid.
        """
        size = self.keys.in_features
        if features.grid is None:
            raise ValueError(
                "AttentionLSTM needs the image grid, but these features have only the pooled vector: "
                "encode the images with grid=True"
            )
        if features.grid.dim() != 3 or features.grid.shape[2] != size:
            raise ValueError(
                f"the grid is {tuple(features.grid.shape)}, expected (B, L, {size}): this decoder was made with "
                f"feature_size={size}; use the encoder it was made for"
            )
        h = self.initial_hidden(features.pooled)  # (B, H)
        c = torch.zeros_like(h) if self.initial_cell is None else self.initial_cell(features.pooled)
        grid = features.grid.to(self._dtype(features.grid))
        if self._dropout_per_step:
            return State((widened(h), widened(c)), (grid,))
        grid = self.attention_dropout(grid)
        return State((widened(h), widened(c)), (grid, self._project(grid)))

    def step(
        self, tokens: Tensor, state: State, *, attention: Tensor | None = None
    ) -> tuple[Tensor, State, Tensor]:
        """One step: tokens (R,) int64 -> logits (R, V), the next state, attention (R, L).

        attention: (R, L) float, where to look instead of where the decoder would; rows should sum to 1.
        """
        return self.inspect(tokens, state, attention=attention)[:3]

    def inspect(self, tokens: Tensor, state: State, *, attention: Tensor | None = None) -> Inspection:
        """`step` with everything a picture of it needs: the gate as well. Same arguments."""
        grid, *keys = state.memory
        if len(tokens) % len(grid):
            raise ValueError(
                f"{len(tokens)} rows cannot share the memory of {len(grid)} images evenly: give every image the "
                "same number of rows, side by side"
            )
        if attention is not None:
            if attention.shape != (len(tokens), grid.shape[1]):
                raise ValueError(
                    f"attention is {tuple(attention.shape)}, expected {(len(tokens), grid.shape[1])}: one weight "
                    "for each row and grid cell"
                )
            attention = attention.to(state.hidden[0])
        if not keys:
            grid = self.attention_dropout(grid)
            keys = [self._project(grid)]
        moment = advance(self._inputs(tokens), *state.hidden, grid, keys[0], self._weights(), attention)
        logits = self.scores(self.output_dropout(moment.hidden))
        state = State((moment.hidden, moment.cell), state.memory)
        return Inspection(logits, state, moment.attention, moment.gate)

    def forward(self, features: Features, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing: tokens (B, T) int64 -> logits (B, T, V), attention (B, T, L) float32."""
        # The compiler fuses the plain steps by itself, and masks that change every step leave nothing to share.
        if torch.compiler.is_compiling() or self._dropout_per_step:
            return super().forward(features, tokens)
        (h, c), (grid, keys) = self.start(features)
        inputs = self._inputs(tokens.t())  # (T, B, 4H)
        dtype = self._dtype(grid)
        weights = (w.to(dtype) for w in self._weights())
        with torch.autocast(grid.device.type, enabled=False):
            hidden, attention = TeacherForcing.apply(inputs, h, c, grid, keys, *weights)  # time first
        logits = self.scores(self.output_dropout(hidden.transpose(0, 1)))  # (B, T, H) -> (B, T, V)
        return logits, attention.transpose(0, 1)

    @property
    def _dropout_per_step(self) -> bool:
        return self.training and self.attention_dropout_per == "step" and self.attention_dropout.p > 0

    def _weights(self) -> Weights:
        hidden, score = self.from_hidden, self.score
        return Weights(hidden.weight, hidden.bias, self.from_context.weight, score.weight, score.bias)

    def _inputs(self, tokens: Tensor) -> Tensor:
        """The labels' share of the LSTM gates: (...,) int64 -> (..., 4H)."""
        return self.from_embedding(self.input_dropout(self.embedding(tokens)))

    def _project(self, grid: Tensor) -> Tensor:
        """W_e a + bias: (B, L, D) -> (B, L, A)."""
        return linear(grid.flatten(0, 1), self.keys.weight, self.keys.bias).unflatten(0, grid.shape[:2])

    def _dtype(self, x: Tensor) -> torch.dtype:
        """What the matrix products on x's device are computed in."""
        kind = x.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.keys.weight.dtype
