"""The decoder that looks after reading: against the formulas of its paper, written out one image, step and cell at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.decoders.adaptive_attention import (
    AdaptiveAttentionLSTM,
    candidate_weights,
    sentinel_weight,
    where_it_looked,
)
from helpers.decoders.beam import beam
from helpers.decoders.search import greedy
from helpers.systems.order_free import run_free

C, D, H, A, E, B, L, T = 5, 6, 7, 4, 3, 3, 8, 4


def make(*, sentinel: bool) -> AdaptiveAttentionLSTM:
    torch.manual_seed(0)
    sizes = {"hidden_size": H, "attention_size": A, "embedding_size": E}
    decoder = AdaptiveAttentionLSTM(C, D, sentinel=sentinel, **sizes).double()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(2)  # far from linear, so that a wrong gate shows
    return decoder.eval()


def data(*, dtype: torch.dtype = torch.float64) -> tuple[Features, Tensor]:
    generator = torch.Generator().manual_seed(1)
    grid = torch.randn(B, L, D, generator=generator, dtype=dtype)
    return Features(grid.mean(1), grid), torch.randint(0, C + 2, (B, T), generator=generator)


def reference(
    decoder: AdaptiveAttentionLSTM, features: Features, tokens: Tensor, *, late: bool = True
) -> tuple[Tensor, Tensor]:
    """Lu et al., image by image, step by step, cell by cell. late=False: a wrong one, which asks with h_{t-1}."""
    cell = nn.LSTMCell(E, H).double()
    cell.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in decoder.lstm.state_dict().items()}
    )
    w, all_logits, all_maps = decoder.score.weight[0], [], []
    for image in range(len(tokens)):
        h = decoder.initial_hidden(features.pooled[image])
        m = torch.zeros(H, dtype=h.dtype)
        for token in tokens[image]:
            x, before = decoder.embedding(token), h
            h, m = (y[0] for y in cell(x[None], (h[None], m[None])))
            query = decoder.query(h if late else before)
            candidates = list(features.grid[image])
            keys = [decoder.keys(a) for a in candidates]
            if decoder.sentinel:
                gate = torch.sigmoid(decoder.gate(torch.cat([x, before])))
                candidates.append(decoder.sentinel_value(gate * torch.tanh(m)))
                keys.append(decoder.sentinel_key(candidates[-1]))
            energy = torch.stack([(w * torch.relu(key + query)).sum() for key in keys])
            alpha = torch.exp(energy) / torch.exp(energy).sum()
            context = sum(alpha[i] * candidates[i] for i in range(len(candidates)))
            all_logits.append(decoder.scores(torch.cat([context, h])))
            all_maps.append(alpha[:L])
    return torch.stack(all_logits).view(B, T, C + 1), torch.stack(all_maps).view(B, T, L)


@pytest.mark.parametrize("sentinel", [False, True])
def test_the_formulas_of_the_paper(sentinel):
    decoder, (features, tokens) = make(sentinel=sentinel), data()
    logits, maps = decoder(features, tokens)
    expected_logits, expected_maps = reference(decoder, features, tokens)
    torch.testing.assert_close(logits, expected_logits, atol=1e-9, rtol=0)
    torch.testing.assert_close(maps, expected_maps, atol=1e-9, rtol=0)
    beta = sentinel_weight(maps)
    assert (beta > 0.001).all() if sentinel else (beta < 1e-9).all()


@pytest.mark.parametrize("sentinel", [False, True])
def test_asking_before_reading_is_another_decoder(sentinel):
    """The reference is sharp enough to see a query that is one step old."""
    decoder, (features, tokens) = make(sentinel=sentinel), data()
    _, maps = decoder(features, tokens)
    _, wrong = reference(decoder, features, tokens, late=False)
    assert (maps - wrong).abs().max() > 0.01


@pytest.mark.parametrize("spoil", ["gate", "sentinel_value", "sentinel_key"])
def test_every_part_of_the_sentinel_counts(spoil):
    decoder, (features, tokens) = make(sentinel=True), data()
    wrong = copy.deepcopy(decoder)
    with torch.no_grad():
        getattr(wrong, spoil).weight.neg_()
    assert (decoder(features, tokens)[0] - wrong(features, tokens)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("sentinel", [False, True])
def test_teacher_forcing_is_the_step_loop(sentinel):
    decoder, (features, tokens) = make(sentinel=sentinel).float(), data(dtype=torch.float32)
    logits, maps = decoder(features, tokens)
    state = decoder.start(features)
    for t in range(T):
        step_logits, state, step_maps = decoder.step(tokens[:, t], state)
        torch.testing.assert_close(logits[:, t], step_logits, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(maps[:, t], step_maps, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("sentinel", [False, True])
def test_gradients(sentinel):
    decoder, (features, tokens) = make(sentinel=sentinel), data()
    inputs = (features.pooled.clone().requires_grad_(), features.grid.clone().requires_grad_())

    def both(pooled: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        return decoder(Features(pooled, grid), tokens[:, :3])

    assert torch.autograd.gradcheck(both, inputs, atol=1e-6)
    logits, maps = decoder(features, tokens)
    loss = logits.square().sum() + maps.square().sum()
    expected_logits, expected_maps = reference(decoder, features, tokens)
    # The reference's LSTM is a copy, so its gradients are compared for everything else.
    named = [(n, p) for n, p in decoder.named_parameters() if not n.startswith("lstm")]
    wanted = torch.autograd.grad(
        expected_logits.square().sum() + expected_maps.square().sum(), [p for _, p in named]
    )
    found = torch.autograd.grad(loss, [p for _, p in named])
    for (name, _), one, other in zip(named, found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-6, msg=f"gradient of {name}")


@pytest.mark.parametrize("sentinel", [False, True])
def test_beams_share_the_grid(sentinel):
    decoder, (features, tokens) = make(sentinel=sentinel), data()
    width = 2
    rows = torch.arange(B).repeat_interleave(width)
    shared = decoder.start(features).select_hidden(rows)
    token = tokens[:, :width].flatten()
    found = decoder.step(token, shared)
    copied = decoder.step(token, decoder.start(features.select(rows)))
    torch.testing.assert_close(found[0], copied[0])
    torch.testing.assert_close(found[2], copied[2])
    best = beam(decoder, features, width=1, max_steps=T).best()
    assert torch.equal(best.tokens, greedy(decoder, features, max_steps=T).tokens)


@pytest.mark.parametrize("sentinel", [False, True])
def test_given_attention_is_used(sentinel):
    decoder, (features, tokens) = make(sentinel=sentinel), data()
    state = decoder.start(features)
    logits, _, own = decoder.step(tokens[:, 0], state)
    again, _, back = decoder.step(tokens[:, 0], state, attention=own)
    torch.testing.assert_close(again, logits)  # with a sentinel, the rest of the weights is its own again
    torch.testing.assert_close(back, own)
    other, _, _ = decoder.step(tokens[:, 0], state, attention=own.flip(1))
    assert (other - logits).abs().max() > 1e-3


def test_maps_and_sentinel_weight():
    keys, query = torch.randn(2, L, A), torch.randn(2, 3, A)
    score, extra = torch.randn(1, A), torch.randn(2, 3, A)
    weights = candidate_weights(keys, query, score, extra)
    assert weights.shape == (2, 3, L + 1)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 3))
    torch.testing.assert_close(sentinel_weight(weights[..., :L]), weights[..., L])
    torch.testing.assert_close(where_it_looked(weights[..., :L]).sum(2), torch.ones(2, 3))
    assert where_it_looked(torch.full((1, L), 1e-6)).sum() == 0  # it did not look


def test_order_free_training_runs_through_it():
    decoder, (features, _) = make(sentinel=True).float(), data(dtype=torch.float32)
    logits, maps, inputs = run_free(decoder, features, steps=T)
    again, again_maps = decoder(features, inputs)
    torch.testing.assert_close(logits, again, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(maps, again_maps, atol=1e-6, rtol=1e-6)
