"""A decoder that looks at the image again at every step: additive attention over the grid and an LSTM.

`AttentionLSTM` is the decoder. Its arithmetic follows: `advance` is one step, `TeacherForcing` all steps of known
labels. It is fast without another result (`benchmarks/attention_speed.py` measures it):
- the grid is projected once per image, not once per step;
- all that reads the previous hidden state is one matrix product, and the scores are one pass over the keys;
- the backward pass of teacher forcing is written out: a weight's gradient is one product over all steps, and nothing
  as large as the keys is kept;
- on some CPUs a matrix product is faster as a convolution (`linear`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from helpers.data.batches import Features
from helpers.decoders.base import Decoder, State, label_embedding, need_grid


class GridDecoder(Decoder):
    """What the decoders with attention share. A is the size of the attention.

    vectors: (C + 2, E) float, given embeddings; embedding_size is ignored then.
    input_dropout: on the embedding. output_dropout: before the scores. attention_dropout: on single numbers of the
    grid, as keys and as values.

    Several rows of tokens and hidden state may share an image: with K * B rows over a memory of B images, rows i * K
    to i * K + K - 1 read image i, and no grid is copied.
    """

    keys: nn.Linear

    def __init__(
        self,
        num_labels: int,
        feature_size: int,
        *,
        hidden_size: int = 512,
        embedding_size: int = 300,
        vectors: Tensor | None = None,
        freeze_vectors: bool = True,
        input_dropout: float = 0.0,
        output_dropout: float = 0.3,
        attention_dropout: float = 0.3,
    ) -> None:
        super().__init__(num_labels)
        self.embedding = label_embedding(num_labels, embedding_size, vectors, freeze=freeze_vectors)
        self.input_dropout = nn.Dropout(input_dropout)
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.output_dropout = nn.Dropout(output_dropout)
        self.initial_hidden = nn.Linear(feature_size, hidden_size)

    def project(self, grid: Tensor) -> Tensor:
        """The keys of a grid: (B, L, D) -> (B, L, A)."""
        return linear(grid.flatten(0, 1), self.keys.weight, self.keys.bias).unflatten(0, grid.shape[:2])

    def check_rows(self, tokens: Tensor, grid: Tensor, attention: Tensor | None) -> None:
        """Raise ValueError for rows that cannot share the grids, or attention that is not (R, L)."""
        if len(tokens) % len(grid):
            raise ValueError(
                f"{len(tokens)} rows cannot share the memory of {len(grid)} images evenly: give every image the "
                "same number of rows, side by side"
            )
        if attention is not None and attention.shape != (len(tokens), grid.shape[1]):
            raise ValueError(
                f"attention is {tuple(attention.shape)}, expected {(len(tokens), grid.shape[1])}: one weight for "
                "each row and grid cell"
            )


class AttentionLSTM(GridDecoder):
    """An LSTM that looks at a weighted mean of the grid at every step.

    With h the previous hidden state: e_i = v·ReLU(W_e a_i + W_h h) + b over the cells a_i, α = softmax(e),
    z = Σ α_i a_i, gate = σ(W_g h), and the LSTM reads [embedding of the previous label; gate * z]. h0 = W pooled
    + b; c0 = 0, or linear in pooled too with `learn_cell` (Xu et al., "Show, Attend and Tell", ICML 2015; for label
    sets: Yazici et al., "Orderless Recurrent Models for Multi-label Classification", CVPR 2020).

    attention_dropout_per: "sequence" draws one mask for all steps; "step" a new one for every step, which is slow,
    because the grid is projected again at every step. Other options: see `GridDecoder`.
    """

    def __init__(
        self,
        num_labels: int,
        feature_size: int,
        *,
        hidden_size: int = 512,
        attention_size: int = 512,
        learn_cell: bool = False,
        attention_dropout_per: Literal["sequence", "step"] = "sequence",
        **options: Any,
    ) -> None:
        super().__init__(num_labels, feature_size, hidden_size=hidden_size, **options)
        self.attention_dropout_per = attention_dropout_per
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
        """`Features` of B images -> State((h, c), (grid (B, L, D), keys (B, L, A))), without keys for dropout per step.

        Raises ValueError without such a grid.
        """
        grid = need_grid(features, self.keys.in_features)
        h = self.initial_hidden(features.pooled)  # (B, H)
        c = torch.zeros_like(h) if self.initial_cell is None else self.initial_cell(features.pooled)
        hidden = widened(h), widened(c)
        grid = grid.to(self._dtype(grid))
        if self._dropout_per_step:
            return State(hidden, (grid,))
        grid = self.attention_dropout(grid)
        return State(hidden, (grid, self.project(grid)))

    def step(
        self, tokens: Tensor, state: State, *, attention: Tensor | None = None
    ) -> tuple[Tensor, State, Tensor]:
        """One step: tokens (R,) int64 -> logits (R, V), the next state, attention (R, L).

        attention: (R, L) float, where to look instead of where the decoder would; rows should sum to 1.
        """
        grid, *keys = state.memory
        self.check_rows(tokens, grid, attention)
        if attention is not None:
            attention = attention.to(state.hidden[0])
        if not keys:
            grid = self.attention_dropout(grid)
            keys = [self.project(grid)]
        moment = advance(self._inputs(tokens), *state.hidden, grid, keys[0], self._weights(), attention)
        logits = self.scores(self.output_dropout(moment.hidden))
        return logits, State((moment.hidden, moment.cell), state.memory), moment.attention

    def forward(self, features: Features, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing: tokens (B, T) int64 -> logits (B, T, V), attention (B, T, L) float32."""
        if self._dropout_per_step:  # masks that change at every step leave nothing to share
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

    def _dtype(self, x: Tensor) -> torch.dtype:
        """What the matrix products on x's device are computed in."""
        kind = x.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.keys.weight.dtype


def doubly_stochastic_penalty(attention: Tensor, lengths: Tensor) -> Tensor:
    """Every cell should be looked at once in all steps together: the mean over images and cells of (1 - Σ_t α_ti)².

    attention: (B, T, L). lengths: (B,) int64, labels of each image; steps after its `<stop>` do not count. Returns a
    scalar to add to the loss (Xu et al., 2015, eq. 14; weight 1 there).
    """
    steps = torch.arange(attention.shape[1], device=attention.device)
    valid = steps <= lengths.unsqueeze(1)  # (B, T)
    looked = (attention * valid.unsqueeze(2)).sum(1)  # (B, L)
    return (1.0 - looked).square().mean()


# --- the arithmetic of a step ---


class Weights(NamedTuple):
    """What one step multiplies with."""

    hidden: Tensor  # (A + D + 4H, H): all that reads h, to query, gate and LSTM gates
    hidden_bias: Tensor  # (A + D + 4H,)
    context: Tensor  # (4H, D): from the gated image vector to the LSTM gates
    score: Tensor  # (1, A), v
    score_bias: Tensor  # (1,), b


class Moment(NamedTuple):
    """What one step computed, for R rows."""

    hidden: Tensor  # (R, H)
    cell: Tensor  # (R, H)
    attention: Tensor  # (R, L)
    gate: Tensor  # (R, D)
    context: Tensor  # (R, D), before the gate
    query: Tensor  # (R, A)
    gates: tuple[Tensor, ...]  # i, f, g, o of the LSTM after their sigmoid or tanh, each (R, H)


def advance(
    inputs: Tensor,
    hidden: Tensor,
    cell: Tensor,
    grid: Tensor,
    keys: Tensor,
    weights: Weights,
    attention: Tensor | None = None,
) -> Moment:
    """One step, from the label's share of the LSTM gates, inputs (R, 4H), to the next hidden state.

    hidden, cell: (R, H). grid: (B, L, D). keys: (B, L, A). attention: (R, L), used instead of the decoder's own.
    """
    (batch, cells, size), rows = grid.shape, len(hidden)
    from_hidden = linear(hidden.to(weights.hidden.dtype), weights.hidden, weights.hidden_bias)
    query, gate, gates = from_hidden.split([keys.shape[2], size, inputs.shape[1]], 1)
    if attention is None:
        attention = additive_attention(keys, query.unflatten(0, (batch, -1)), weights).view(rows, cells)
    context = torch.bmm(attention.view(batch, -1, cells).to(grid.dtype), grid).view(rows, size)
    gate = gate.sigmoid()
    gates = gates + inputs + linear(gate * context, weights.context)  # (R, 4H)
    # float32 from here on: the cell state is a sum over all steps.
    i, f, g, o = widened(gates).chunk(4, 1)  # (R, H) each
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cell = f * cell + i * g
    return Moment(o * cell.tanh(), cell, attention, gate, context, query, (i, f, g, o))


def additive_attention(keys: Tensor, query: Tensor, weights: Weights) -> Tensor:
    """α = softmax over the cells of v·ReLU(key + query) + b (Bahdanau et al., ICLR 2015; ReLU as in later captioners).

    keys: (B, L, A). query: (B, K, A), K queries per image. Returns (B, K, L), float32 (float64 for float64).

    ReLU(k + q) = max(k, -q) + q, and v·q is the same for every cell of an image, so the softmax does not see it: one
    pass over the keys instead of two.
    """
    # float32 from here on: half precision would round away the differences that the softmax lives on.
    threshold = -widened(query)
    v, b = weights.score.to(threshold.dtype), weights.score_bias.to(threshold.dtype)
    (batch, cells, size), queries = keys.shape, query.shape[1]
    with torch.autocast(keys.device.type, enabled=False):
        if keys.device.type != "cpu" or torch.is_grad_enabled():
            highest = torch.maximum(keys.unsqueeze(1), threshold.unsqueeze(2))  # (B, K, L, A)
            return F.linear(highest, v, b).squeeze(3).softmax(2)
        scores = threshold.new_empty(batch, queries, cells)
        for images, highest in chunks(keys, queries, threshold.dtype):  # highest: a buffer (b, K, L, A)
            torch.maximum(keys[images].unsqueeze(1), threshold[images].unsqueeze(2), out=highest)
            flat = scores[images].view(-1)  # (b * K * L,)
            torch.mv(highest.view(-1, size), v[0], out=flat)
        return (scores + b).softmax(2)


def widened(x: Tensor) -> Tensor:
    """`x` in float32 where it is half precision, else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


# --- all steps at once ---


class TeacherForcing(torch.autograd.Function):
    """All steps of `advance` whose label inputs are known, with a backward pass of its own. Everything is time first.

    Autograd would keep three tensors of the size of the keys for every step, and add up as many gradients of every
    weight as there are steps. This keeps small ones, finds again which ReLUs were on, and multiplies once.

    inputs: (T, B, 4H). hidden, cell: (B, H). grid: (B, L, D). keys: (B, L, A). then the five `Weights`.
    Returns hidden (T, B, H) and attention (T, B, L).
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, cell: Tensor, grid: Tensor, keys: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights = Weights(*weights)
        hiddens, cells, moments = [hidden], [cell], []
        for step_inputs in inputs:
            moment = advance(step_inputs, hiddens[-1], cells[-1], grid, keys, weights)
            hiddens.append(moment.hidden)
            cells.append(moment.cell)
            moments.append(moment)
        stacked = [torch.stack(x) for x in zip(*(m[2:6] for m in moments), strict=True)]
        gates = torch.stack([torch.cat(m.gates, 1) for m in moments])  # (T, B, 4H)
        hiddens, cells = torch.stack(hiddens), torch.stack(cells)  # (T + 1, B, H)
        ctx.save_for_backward(hiddens, cells, *stacked, gates, grid, keys, *weights)
        return hiddens[1:].clone(), stacked[0].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor, d_attention: Tensor) -> tuple[Tensor | None, ...]:
        hidden, cell, attention, gate, context, query, gates, grid, keys, *weights = ctx.saved_tensors
        weights = Weights(*weights)
        dtype = weights.hidden.dtype
        steps = len(attention)
        threshold = -widened(query)
        active, d_energy, d_from_hidden, d_gates, d_context = ([None] * steps for _ in range(5))
        dh, dc = torch.zeros_like(hidden[0]), torch.zeros_like(cell[0])
        with torch.autocast(keys.device.type, enabled=False):
            for t in reversed(range(steps)):
                # The LSTM: h = o tanh(c), c = f c' + i g.
                i, f, g, o = gates[t].chunk(4, 1)
                tanh_c = cell[t + 1].tanh()
                dh = dh + d_hidden[t]
                dc = dc + dh * o * (1 - tanh_c * tanh_c)
                d_i, d_f = dc * g * i * (1 - i), dc * cell[t] * f * (1 - f)
                d_g, d_o = dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)
                d_gates[t] = torch.cat([d_i, d_f, d_g, d_o], 1).to(dtype)  # (B, 4H)
                dc = dc * f
                # The gated context: z = Σ α a, then gate * z.
                d_gated = linear_backward(d_gates[t], weights.context)  # (B, D)
                d_context[t] = d_gated * gate[t]
                d_gate = d_gated * context[t] * gate[t] * (1 - gate[t])
                # The softmax, then the scores.
                d_alpha = torch.bmm(d_context[t].unsqueeze(1), grid.mT).squeeze(1) + d_attention[t]  # (B, L)
                d_energy[t] = attention[t] * (d_alpha - (attention[t] * d_alpha).sum(1, keepdim=True))
                active[t] = active_sum(keys, threshold[t], d_energy[t])  # (B, A)
                d_query = active[t] * weights.score
                d_from_hidden[t] = torch.cat([d_query.to(dtype), d_gate, d_gates[t]], 1)  # (B, A + D + 4H)
                dh = linear_backward(d_from_hidden[t], weights.hidden).to(dh.dtype)
            active, d_energy, d_from_hidden, d_gates, d_context = map(
                torch.stack, (active, d_energy, d_from_hidden, d_gates, d_context)
            )
            # One product for all steps: (rows, T * B) x (T * B, columns).
            gated = (gate * context).flatten(0, 1)
            before = hidden[:-1].flatten(0, 1).to(dtype)
            d_hidden_weight = linear(d_from_hidden.flatten(0, 1).mT, before.mT)
            d_context_weight = linear(d_gates.flatten(0, 1).mT, gated.mT)
            d_keys = active_outer(keys, threshold, d_energy)
            # Where a ReLU is on, it is k + q; threshold is -q.
            d_score = (d_keys * keys).sum((0, 1)) - (active * threshold).sum((0, 1))
            d_grid = None
            if ctx.needs_input_grad[3]:  # Σ_t α_t d_context_t: (B, L, T) x (B, T, D)
                d_grid = torch.bmm(attention.permute(1, 2, 0).to(dtype), d_context.transpose(0, 1))
        d_keys = (d_keys * weights.score).to(keys.dtype)
        d_bias = d_score.new_zeros(1)  # the softmax does not see b
        d_weights = d_hidden_weight, d_from_hidden.sum((0, 1)), d_context_weight, d_score.unsqueeze(0), d_bias
        return d_gates, dh, dc, d_grid, d_keys, *d_weights


def active_sum(keys: Tensor, threshold: Tensor, d_energy: Tensor) -> Tensor:
    """Σ_i d_energy_i [key_i > threshold]: keys (B, L, A), threshold (B, A), d_energy (B, L) -> (B, A)."""
    result = torch.empty_like(threshold)
    for images, active in chunks(keys, 1, keys.dtype):
        torch.gt(keys[images], threshold[images].unsqueeze(1), out=active[:, 0])  # 1.0 or 0.0
        result[images] = torch.bmm(d_energy[images].unsqueeze(1).to(active.dtype), active[:, 0]).squeeze(1)
    return result


def active_outer(keys: Tensor, threshold: Tensor, d_energy: Tensor) -> Tensor:
    """Σ_t d_energy_t [key > threshold_t]: keys (B, L, A), threshold (T, B, A), d_energy (T, B, L) -> (B, L, A)."""
    result = torch.zeros_like(keys, dtype=d_energy.dtype)
    for images, active in chunks(keys, 1, keys.dtype):
        for t in range(len(threshold)):
            torch.gt(keys[images], threshold[t, images].unsqueeze(1), out=active[:, 0])
            result[images].addcmul_(active[:, 0], d_energy[t, images].unsqueeze(2))
    return result


# A CPU goes through the images in pieces of about this size: an intermediate as large as the keys is then read back
# from the cache and not from memory. A GPU takes all images at once.
CHUNK_BYTES = 4 * 2**20


def chunks(keys: Tensor, queries: int, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """The images in pieces, each with the same buffer (b, queries, L, A) to write to; keys: (B, L, A)."""
    batch, cells, size = keys.shape
    images = batch
    if keys.device.type == "cpu":
        images = min(batch, max(1, CHUNK_BYTES // (queries * cells * size * dtype.itemsize)))
    buffer = torch.empty(images, queries, cells, size, dtype=dtype, device=keys.device)
    for first in range(0, batch, images):
        piece = slice(first, min(first + images, batch))
        yield piece, buffer[: piece.stop - piece.start]


# --- products ---


def groups(image: Tensor, filters: Tensor) -> int:
    """How many pictures to cut the rows of `image` (m, k) into for `linear`'s convolution; 0: use a plain product.

    On a CPU with AVX-512 PyTorch gives a float32 convolution to oneDNN, which uses AVX-512 on every maker's chips,
    and a matrix product to MKL, which does so on Intel's only: a step's products are 2 times faster on AMD. oneDNN
    gets batches of 16 and more only; below 2**22 multiplications its overhead shows.
    """
    if (
        image.device.type != "cpu"
        or not image.dtype == filters.dtype == torch.float32
        or torch.backends.cpu.get_cpu_capability() != "AVX512"
        or torch.is_autocast_enabled("cpu")
        or len(filters) < 4
        or image.numel() * len(filters) < 2**22
    ):
        return 0
    return next((g for g in range(16, 65) if len(image) % g == 0), 0)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weightᵀ + bias, as `F.linear`: x (m, k), weight (n, k), bias (n,) -> (m, n).

    A 1x1 convolution is the same product. The larger operand is its picture, for oneDNN reorders the other one.
    """
    if len(x) < len(weight) and (g := groups(weight, x)):
        result = F.conv2d(as_pictures(weight, g), x[:, :, None, None])  # (g, m, 1, n / g)
        result = result.squeeze(2).mT.flatten(0, 1).mT.contiguous()  # (n, m) -> (m, n)
        return result if bias is None else result + bias
    if g := groups(x, weight):
        result = F.conv2d(as_pictures(x, g), weight[:, :, None, None], bias)  # (g, n, 1, m / g)
        return result.squeeze(2).mT.flatten(0, 1)  # (m, n)
    return F.linear(x, weight, bias)


def linear_backward(d_result: Tensor, weight: Tensor) -> Tensor:
    """The gradient of x in `linear(x, weight)`: d_result (m, n), weight (n, k) -> (m, k)."""
    if not (g := groups(weight, d_result)):
        return d_result @ weight
    size = (len(d_result), weight.shape[1], 1, 1)
    pictures, d_pictures = as_pictures(weight, g), as_pictures(d_result.mT, g)
    return torch.nn.grad.conv2d_weight(pictures, size, d_pictures)[:, :, 0, 0]


def as_pictures(rows: Tensor, g: int) -> Tensor:
    """(m, k) -> (g, k, 1, m / g), channels last: where the rows are contiguous nothing is copied."""
    return rows.contiguous().unflatten(0, (g, -1)).mT.unsqueeze(2)
