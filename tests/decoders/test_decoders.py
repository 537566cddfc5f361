"""The step interface: stepping, whole sequences and the formulas agree."""

from __future__ import annotations

import pytest
import torch

from helpers.data.batches import Features
from helpers.decoders.base import Decoder, State, label_embedding
from helpers.decoders.lstm import LabelLSTM

C, D, H, E = 6, 8, 10, 5


def make_decoder(**options) -> LabelLSTM:
    return LabelLSTM(C, D, hidden_size=H, embedding_size=E, **options).eval()


def test_whole_sequence_equals_stepping() -> None:
    decoder, features = make_decoder(), Features(torch.randn(4, D))
    tokens = torch.randint(0, C + 2, (4, 7))
    whole, attention = decoder(features, tokens)
    stepped, _ = Decoder.forward(decoder, features, tokens)  # the base class's loop over `step`
    assert attention is None
    torch.testing.assert_close(whole, stepped, atol=1e-5, rtol=0)


def test_the_lstm_is_the_one_of_the_text_book() -> None:
    """One step written out from the gate formulas; torch stacks the gates as input, forget, cell, output."""
    decoder, features = make_decoder(), Features(torch.randn(3, D))
    token = torch.tensor([C + 1, 0, C])
    state = decoder.start(features)
    logits, new, _ = decoder.step(token, state)
    h, c = state.hidden
    assert torch.equal(c, torch.zeros_like(c))
    lstm = decoder.lstm
    gates = decoder.embedding(token) @ lstm.weight_ih_l0.T + h @ lstm.weight_hh_l0.T
    i, f, g, o = (gates + lstm.bias_ih_l0 + lstm.bias_hh_l0).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    torch.testing.assert_close(new.hidden[0], h, atol=1e-6, rtol=0)
    torch.testing.assert_close(new.hidden[1], c, atol=1e-6, rtol=0)
    torch.testing.assert_close(logits, decoder.scores(h), atol=1e-6, rtol=0)


def test_the_image_matters_and_the_future_does_not() -> None:
    decoder = make_decoder()
    tokens = torch.randint(0, C, (2, 5))
    a, _ = decoder(Features(torch.zeros(2, D)), tokens)
    b, _ = decoder(Features(torch.ones(2, D)), tokens)
    assert not torch.allclose(a, b)
    changed = tokens.clone()
    changed[:, 3] = (tokens[:, 3] + 1) % C
    c, _ = decoder(Features(torch.zeros(2, D)), changed)
    assert torch.equal(a[:, :3], c[:, :3])
    assert not torch.allclose(a[:, 3:], c[:, 3:])


def test_a_batch_equals_its_samples() -> None:
    decoder, features = make_decoder(), Features(torch.randn(5, D))
    tokens = torch.randint(0, C, (5, 4))
    together, _ = decoder(features, tokens)
    for i in range(5):
        alone, _ = decoder(Features(features.pooled[i : i + 1]), tokens[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=0)


def test_parameter_count_is_the_published_one() -> None:
    """SPEC of RIA on Corel-5k: 2048 features and units, frozen 300-d GloVe, 260 labels."""
    with torch.device("meta"):
        decoder = LabelLSTM(260, 2048, hidden_size=2048, vectors=torch.zeros(262, 300))
    assert sum(p.numel() for p in decoder.parameters() if p.requires_grad) == 23_982_341


def test_given_vectors_are_frozen_or_learned() -> None:
    vectors = torch.randn(C + 2, E)
    frozen = label_embedding(C, 99, vectors, freeze=True)
    assert torch.equal(frozen.weight, vectors)
    assert not frozen.weight.requires_grad
    assert label_embedding(C, 99, vectors, freeze=False).weight.requires_grad
    assert label_embedding(C, E, freeze=True).weight.requires_grad, (
        "random vectors that never learn are of no use"
    )
    with pytest.raises(ValueError, match=r"have 3 rows.*need 8"):
        label_embedding(C, E, torch.zeros(3, E), freeze=True)


def test_state_select_repeats_and_reorders() -> None:
    state = State(hidden=(torch.arange(3.0),), memory=(torch.arange(3.0) * 10,))
    picked = state.select(torch.tensor([2, 2, 0]))
    assert picked.hidden[0].tolist() == [2, 2, 0]
    assert picked.memory[0].tolist() == [20, 20, 0]


def test_no_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one label"):
        LabelLSTM(0, D)
