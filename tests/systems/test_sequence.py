"""SR-CNN-RNN: its two losses, where their gradients go, and how the decoder is pre-trained."""

from __future__ import annotations

import math

import pytest
import torch
from scripted import SMALL, VOCABULARY, D, make_batch

from helpers.data.batches import Features
from helpers.decoders.beam import beam
from helpers.decoders.search import greedy
from helpers.systems.registry import build


def make(**options):
    torch.manual_seed(0)
    return build("sr_cnn_rnn", VOCABULARY, D, **(SMALL | {"standardize": False} | options))


def test_the_loss_is_both_formulas() -> None:
    system, batch = make().eval(), make_batch()
    weight, bias = system.concepts[1].weight, system.concepts[1].bias
    bce, cross_entropy, tokens = 0.0, 0.0, 0
    with torch.no_grad():
        for i, n in enumerate(batch.lengths.tolist()):
            logits = [float(weight[c] @ batch.features.pooled[i] + bias[c]) for c in range(4)]
            p = [1 / (1 + math.exp(-z)) for z in logits]
            y = batch.multi_hot[i].tolist()
            bce -= sum(t * math.log(q) + (1 - t) * math.log(1 - q) for t, q in zip(y, p, strict=True)) / 4
            truth = [*batch.labels[i, :n].tolist(), VOCABULARY.stop]
            inputs = torch.tensor([[VOCABULARY.start, *truth[:-1]]])
            scores, _ = system.decoder(Features(torch.tensor([p])), inputs)
            for t, token in enumerate(truth):
                cross_entropy -= float(scores[0, t].log_softmax(-1)[token])
                tokens += 1
        expected = bce / len(batch) + cross_entropy / tokens
        assert float(system.loss(batch)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_the_sequence_trains_the_concepts_only_when_joint(joint: bool) -> None:
    batch = make_batch()
    system = make(joint=joint).eval()
    system.concept_weight = 0.0  # what is left is the loss of the sequence
    system.loss(batch).backward()
    assert (system.concepts[1].weight.grad.abs().sum() > 0) == joint
    assert system.decoder.initial_hidden.weight.grad.abs().sum() > 0


def test_the_decoder_is_pretrained_on_the_true_labels(monkeypatch) -> None:
    system, batch = make(pretrain_steps=2).train(), make_batch()
    seen = []
    start = system.decoder.start

    def spy(features):
        seen.append(features.pooled.detach().clone())
        return start(features)

    monkeypatch.setattr(system.decoder, "start", spy)
    for _ in range(3):
        system.loss(batch)
    assert torch.equal(seen[0], batch.multi_hot)
    assert torch.equal(seen[1], batch.multi_hot)
    assert ((seen[2] > 0) & (seen[2] < 1)).all(), "joined: the probabilities of the concepts"
    resumed = make(pretrain_steps=2)
    resumed.load_state_dict(system.state_dict())
    assert resumed.steps == 3, "a resumed run goes on where it was"
    fresh = make(pretrain_steps=9)
    monkeypatch.setattr(fresh.decoder, "start", spy)
    fresh.eval().loss(batch)
    assert ((seen[3] > 0) & (seen[3] < 1)).all(), "the truth is never used to judge"


def test_pretraining_trains_the_concepts_too() -> None:
    system, batch = make(pretrain_steps=10).train(), make_batch()
    system.loss(batch).backward()
    assert system.concepts[1].weight.grad.abs().sum() > 0


def test_it_predicts_with_concepts_and_all_searches() -> None:
    system, batch = make().eval(), make_batch()
    found = system.predict(batch.features)
    torch.testing.assert_close(found.scores, system.concept_logits(batch.features).sigmoid())
    features = system.decoder_features(batch.features)
    assert torch.equal(found.decoded.tokens, greedy(system.decoder, features, max_steps=4).tokens)
    one = beam(system.decoder, features, width=1, max_steps=4).best()
    assert torch.equal(found.decoded.tokens, one.tokens)
    system.search_with(beam_width=4)
    assert (system.predict(batch.features).decoded.log_probability >= one.log_probability - 1e-5).all()
