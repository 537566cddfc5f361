"""The systems: their objectives are the formulas, they can learn, and what cannot work is refused."""

from __future__ import annotations

import pytest
import torch

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary, pad_labels, to_multi_hot
from helpers.decoders.beam import beam
from helpers.decoders.search import greedy
from helpers.systems.base import System
from helpers.systems.registry import SYSTEMS, build

VOCABULARY = Vocabulary(["cat", "dog", "bird", "tree"])
D = 16
SMALL = {"max_labels": 3, "hidden_size": 32, "embedding_size": 8}
ATTENTION = SMALL | {"attention_size": 16}
JOINT = SMALL | {"embedding_size": 16, "output_dropout": 0.0}  # half of so few joint numbers would be too few
OPTIONS = {
    "bce": {},
    "ria": SMALL,
    "cnn_rnn": JOINT,
    "sr_cnn_rnn": SMALL,
    "captioner": SMALL,
    "ria_mla": SMALL,
    "ria_pla": SMALL,
} | dict.fromkeys(("attention", "attention_mla", "attention_pla", "attention_captioner"), ATTENTION)
LABELS = {"hidden_size": 32, "cells": (2, 2)}
OPTIONS |= {"ml_gcn": {"hidden_size": 32}, "lcnet": LABELS, "query2label": LABELS}
RATES = {"lcnet": 0.01, "query2label": 0.01}  # attention on top of attention wants smaller steps


def make_batch() -> Batch:
    sequences = [[0], [1, 2], [], [3, 0, 1], [2], [3, 1]]
    labels, lengths = pad_labels(sequences, VOCABULARY.stop)
    pooled = torch.randn(len(sequences), D, generator=torch.Generator().manual_seed(0))
    return Batch(
        torch.arange(len(sequences)),
        labels,
        lengths,
        to_multi_hot(labels, len(VOCABULARY)),
        features=Features(pooled, pooled.unsqueeze(1).repeat(1, 4, 1)),
    )


def make_system(name: str, **options):
    torch.manual_seed(0)
    return build(name, VOCABULARY, D, **(OPTIONS[name] | options))


def learns_by_heart(system: System, batch: Batch, *, lr: float) -> bool:
    """Whether it names exactly the labels of this batch within 150 steps of training on it."""
    optimizer = torch.optim.AdamW(system.parameters(), lr=lr)
    for _ in range(6):
        system.train()
        for _ in range(25):
            optimizer.zero_grad()
            system.loss(batch).backward()
            optimizer.step()
        if torch.equal(system.eval().predict(batch).predicted, batch.multi_hot.bool()):
            return True
    return False


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_system_learns_six_images_by_heart(name: str) -> None:
    assert learns_by_heart(make_system(name), make_batch(), lr=RATES.get(name, 0.03))


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_prediction_does_not_depend_on_its_batch(name: str) -> None:
    system, batch = make_system(name).eval(), make_batch()
    together = system.predict(batch).predicted
    for i in range(len(batch)):
        row = torch.tensor([i])
        alone = Batch(
            batch.index[row],
            batch.labels[row],
            batch.lengths[row],
            batch.multi_hot[row],
            features=batch.features.select(row),
        )
        assert torch.equal(system.predict(alone).predicted[0], together[i])


def test_the_sequence_loss_is_the_mean_over_labels_and_one_stop() -> None:
    system, batch = make_system("ria").eval(), make_batch()
    total, count = 0.0, 0
    with torch.no_grad():
        for i, n in enumerate(batch.lengths.tolist()):
            truth = [*batch.labels[i, :n].tolist(), VOCABULARY.stop]
            inputs = torch.tensor([[VOCABULARY.start, *truth[:-1]]])
            logits, _ = system.decoder(Features(batch.features.pooled[i : i + 1]), inputs)
            for t, token in enumerate(truth):
                total -= float(logits[0, t].log_softmax(-1)[token])
                count += 1
        assert float(system.loss(batch)) == pytest.approx(total / count, abs=1e-5)


def test_the_classifier_chooses_its_thresholds() -> None:
    scores = torch.tensor([[0.2, 0.9, 0.1, 0.3], [0.3, 0.2, 0.2, 0.1], [0.1, 0.8, 0.3, 0.2]])
    target = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
    for rule in ("global", "mcc"):
        system = make_system("bce", thresholds=rule)
        assert (system.thresholds == 0.5).all()
        system.calibrate(scores, target)
        assert (system.thresholds < 0.5).any()
        assert "thresholds" in system.state_dict(), "a checkpoint must carry what was chosen on validation"
    batch = make_batch()
    assert (make_system("bce", thresholds="top2").eval().predict(batch).predicted.sum(1) == 2).all()


@pytest.mark.parametrize("loss", ["bce", "focal", "asymmetric"])
def test_every_classification_loss_trains(loss: str) -> None:
    system, batch = make_system("bce", loss=loss), make_batch()
    value = system.loss(batch)
    value.backward()
    assert value > 0
    assert system.head[-1].weight.grad.abs().sum() > 0


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="no system 'resnet'; there are"):
        build("resnet", VOCABULARY, D)
    with pytest.raises(ValueError, match="no loss 'mse'"):
        make_system("bce", loss="mse")
    with pytest.raises(ValueError, match="'global', 'mcc' or 'top3'"):
        make_system("bce", thresholds="best")
    with pytest.raises(ValueError, match="at least one label"):
        make_system("ria", max_labels=0)
    with pytest.raises(TypeError):
        make_system("ria", hiden_size=3)
    batch = make_batch()
    bare = Batch(batch.index, batch.labels, batch.lengths, batch.multi_hot)
    with pytest.raises(ValueError, match="no features"):
        make_system("bce").loss(bare)


def test_how_labels_are_searched_for_is_an_option() -> None:
    system, batch = make_system("ria", search={"beam_width": 3, "top_k": 2}).eval(), make_batch()
    found = system.predict(batch)
    assert (found.predicted.sum(1) == 2).all()
    best = beam(system.decoder, system.decoder_features(batch), width=3, max_steps=2, min_labels=2).best()
    assert torch.equal(found.decoded.tokens, best.tokens)
    system.search_with(beam_width=1)
    alone = greedy(system.decoder, system.decoder_features(batch), max_steps=4)
    assert torch.equal(system.predict(batch).decoded.tokens, alone.tokens)
    with pytest.raises(ValueError, match="beam_width is 0"):
        system.search_with(beam_width=0)
    with pytest.raises(ValueError, match=r"top_k is 5; it must be in 1\.\.4"):
        system.search_with(top_k=5)
    with pytest.raises(ValueError, match="does not search for labels"):
        make_system("bce", search={"beam_width": 2})
