"""A decoder that looks after it has read: the LSTM reads the last label, then its new state chooses where to look.

`AttentionLSTM` looks first, and its LSTM reads what it saw. Here nothing of the LSTM depends on what was seen, so
with known labels `nn.LSTM` runs over the whole sequence at once, and then all steps look at once.

J. Lu, C. Xiong, D. Parikh, R. Socher, "Knowing When to Look: Adaptive Attention via A Visual Sentinel for Image
Captioning", CVPR 2017, arXiv:1612.01887: spatial attention (section 3.1), with the sentinel adaptive attention (3.2).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from helpers.data.batches import Features
from helpers.decoders.attention import GridDecoder, active_outer, active_sum, chunks, widened
from helpers.decoders.base import State, need_grid


def candidate_weights(keys: Tensor, query: Tensor, score: Tensor, extra: Tensor | None = None) -> Tensor:
    """Softmax of w·ReLU(key + query) over the cells, and over an extra candidate per query where given.

    keys: (B, L, A). query: (B, K, A), K queries per image. score: (1, A), w. extra: (B, K, A) or None.
    Returns (B, K, L) or (B, K, L + 1), the extra candidate last; float32 (float64 for float64).
    """
    # float32 from here on: half precision would round away the differences that the softmax lives on.
    query = widened(query)  # (B, K, A)
    w = score.to(query.dtype).squeeze(0)  # (A,)
    with torch.autocast(keys.device.type, enabled=False):
        if query.shape[1] == 1:
            energy = (keys.unsqueeze(1) + query.unsqueeze(2)).relu() @ w  # (B, K, L, A) -> (B, K, L)
        else:
            energy = Energies.apply(keys, query, w)
        if extra is not None:
            own = (widened(extra) + query).relu() @ w  # (B, K)
            energy = torch.cat([energy, own.unsqueeze(2)], 2)
        return energy.softmax(2)


class Energies(torch.autograd.Function):
    """w·ReLU(key + query), with a backward pass of its own: keys (B, L, A), query (B, K, A), w (A,) -> (B, K, L).

    Autograd would keep (B, K, L, A) twice. This finds again which ReLUs were on, one query after the other: 5 times
    faster for L = 196 and A = 512.
    """

    @staticmethod
    def forward(ctx: Any, keys: Tensor, query: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(keys, query, w)
        energy = query.new_empty(*query.shape[:2], keys.shape[1])
        for images, buffer in chunks(keys, 1, query.dtype):
            for k in range(query.shape[1]):
                torch.add(keys[images], query[images, k].unsqueeze(1), out=buffer[:, 0])
                energy[images, k] = buffer[:, 0].relu_() @ w
        return energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_energy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys, query, w = ctx.saved_tensors
        threshold, d_energy = (-query).transpose(0, 1), d_energy.transpose(0, 1)  # K first
        sums = [active_sum(keys, *one) for one in zip(threshold, d_energy, strict=True)]
        active = torch.stack(sums)  # (K, B, A)
        d_keys = active_outer(keys, threshold, d_energy)  # (B, L, A), before w
        # Where a ReLU is on, it is k + q; threshold is -q.
        d_w = (d_keys * keys).sum((0, 1)) - (active * threshold).sum((0, 1))
        return (d_keys * w).to(keys.dtype), (active * w).transpose(0, 1), d_w


def sentinel_weight(attention: Tensor) -> Tensor:
    """beta, the weight of the sentinel: what the cells leave. (..., L) -> (...,), 0 for a decoder without one."""
    return (1 - attention.sum(-1)).clamp(min=0)


def where_it_looked(attention: Tensor, least: float = 1e-3) -> Tensor:
    """Attention over the cells as a map that sums to 1, alpha / (1 - beta): (..., L) to the same.

    Where the cells have less than `least` in all, the decoder did not look: the map is 0 everywhere.
    """
    total = attention.sum(-1, keepdim=True)
    return torch.where(total < least, 0.0, attention / total.clamp(min=least))


class AdaptiveAttentionLSTM(GridDecoder):
    """An LSTM that reads the last label, then looks at a weighted mean of the grid to name the next one.

    With x_t the embedding of the label before, and a_i the cells:

        h_t, m_t = LSTM(x_t, h_{t-1}, m_{t-1})                 h_0 linear in pooled, m_0 = 0
        z_i = w·ReLU(W_v a_i + W_g h_t),  α = softmax(z)       where to look
        scores = W_p [Σ α_i a_i; h_t]

    With `sentinel` there is one candidate more than cells, what the LSTM knows already:

        g_t = σ(W_x x_t + W_h h_{t-1}),  s_t = W_u (g_t * tanh(m_t))
        α^ = softmax([z; w·ReLU(W_s s_t + W_g h_t)]),  β its last entry
        scores = W_p [Σ α^_i a_i + β s_t; h_t]

    The paper has tanh for ReLU, brings the cells to the size of the sentinel (here W_u brings the sentinel to the
    size of a cell: one product per step instead of L), and adds context and h_t.

    The attention returned is α^ over the cells, (B, L). With a sentinel it sums to 1 - β: `sentinel_weight` reads β
    off it and `where_it_looked` divides by 1 - β. Other options: see `GridDecoder`.
    """

    def __init__(
        self,
        num_labels: int,
        feature_size: int,
        *,
        hidden_size: int = 512,
        attention_size: int = 512,
        sentinel: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(num_labels, feature_size, hidden_size=hidden_size, **options)
        size = self.embedding.embedding_dim
        self.lstm = nn.LSTM(size, hidden_size, batch_first=True)
        self.keys = nn.Linear(feature_size, attention_size)  # W_v
        self.query = nn.Linear(hidden_size, attention_size, bias=False)  # W_g; the bias is in the keys
        self.score = nn.Linear(attention_size, 1, bias=False)  # w; the softmax would not see a bias
        self.sentinel = sentinel
        if sentinel:
            self.gate = nn.Linear(size + hidden_size, hidden_size)  # [W_x, W_h]
            self.sentinel_value = nn.Linear(hidden_size, feature_size)  # W_u
            self.sentinel_key = nn.Linear(feature_size, attention_size)  # W_s
        self.scores = nn.Linear(feature_size + hidden_size, num_labels + 1)  # W_p

    def start(self, features: Features) -> State:
        """`Features` of B images -> State((h, m), (grid (B, L, D), keys (B, L, A))). ValueError without such a grid."""
        grid = self.attention_dropout(need_grid(features, self.keys.in_features))
        h = self.initial_hidden(features.pooled)  # (B, H)
        return State((h, torch.zeros_like(h)), (grid, self.project(grid)))

    def step(
        self, tokens: Tensor, state: State, *, attention: Tensor | None = None
    ) -> tuple[Tensor, State, Tensor]:
        """One step: tokens (R,) int64 -> logits (R, V), the next state, attention (R, L).

        attention: (R, L) float, where to look instead of where the decoder would; rows should sum to 1, or to less:
        the sentinel, where there is one, gets the rest.
        """
        self.check_rows(tokens, state.memory[0], attention)
        # The rows of an image are K queries to its grid, as the steps of a known sequence are.
        logits, state, attention = self._run(tokens.unsqueeze(1), state, attention)
        return logits.squeeze(1), state, attention.squeeze(1)

    def forward(self, features: Features, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing: tokens (B, T) int64 -> logits (B, T, V), attention (B, T, L)."""
        logits, _, attention = self._run(tokens, self.start(features))
        return logits, attention

    def _run(
        self, tokens: Tensor, state: State, attention: Tensor | None = None
    ) -> tuple[Tensor, State, Tensor]:
        """Tokens (R, T) -> logits (R, T, V), the state after them, attention (R, T, L); R = K * B rows."""
        (h, m), (grid, keys) = state
        rows, steps = tokens.shape
        batch, cells, size = grid.shape
        x = self.input_dropout(self.embedding(tokens))  # (R, T, E)
        hidden, last = self.lstm(x, (h.unsqueeze(0), m.unsqueeze(0)))  # (R, T, H), 2 x (1, R, H)

        def by_image(y: Tensor) -> Tensor:
            return y.reshape(batch, rows // batch * steps, y.shape[-1])  # (R, T, .) -> (B, K * T, .)

        seen = extra = None
        if self.sentinel:
            before = torch.cat([h.unsqueeze(1).to(hidden.dtype), hidden[:, :-1]], 1)  # h_{t-1}, (R, T, H)
            seen = by_image(self.sentinel_value(self._sentinel(x, before, hidden)))  # s, (B, K * T, D)
            extra = self.sentinel_key(seen)
        if attention is None:
            weights = candidate_weights(keys, by_image(self.query(hidden)), self.score.weight, extra)
            maps = weights[..., :cells]  # (B, K * T, L)
        else:
            maps = attention.to(hidden.dtype).reshape(batch, -1, cells)
        context = torch.bmm(maps.to(grid.dtype), grid)  # (B, K * T, D)
        if self.sentinel:
            beta = weights[..., cells:] if attention is None else sentinel_weight(maps).unsqueeze(2)
            context = context + beta.to(grid.dtype) * seen
        both = torch.cat([context.reshape(rows, steps, size), hidden], 2)
        logits = self.scores(self.output_dropout(both))
        state = State(tuple(y.squeeze(0) for y in last), state.memory)
        return logits, state, maps.reshape(rows, steps, cells)

    def _sentinel(self, x: Tensor, before: Tensor, hidden: Tensor) -> Tensor:
        """g_t * tanh(m_t) of all steps at once: x (R, T, E), h_{t-1} and h_t (R, T, H) -> (R, T, H).

        `nn.LSTM` tells h_t of every step, but m_t of the last one only. As h_t = o_t * tanh(m_t), tanh(m_t) is
        h_t / o_t, and the output gate o_t depends on x_t and h_{t-1} alone.
        """
        size, lstm = before.shape[2], self.lstm
        # torch's order of the gates is i, f, g, o: the last rows are those of o.
        output = F.linear(x, lstm.weight_ih_l0[-size:], lstm.bias_ih_l0[-size:])
        output = output + F.linear(before, lstm.weight_hh_l0[-size:], lstm.bias_hh_l0[-size:])
        gate = self.gate(torch.cat([x, before], 2)).sigmoid()
        # 1 / σ(y) = 1 + exp(-y), which cannot become a division by 0.
        return gate * hidden * (1 + (-widened(output)).clamp(max=30).exp())
