"""The systems by name: each learns, its objective is the formula, and what cannot work is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scripted import VOCABULARY, D, learns_by_heart, make_batch, make_system

from helpers.data.batches import Features
from helpers.decoders.adaptive_attention import AdaptiveAttentionLSTM
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.beam import beam
from helpers.decoders.search import greedy
from helpers.systems.options import OPTIONS
from helpers.systems.registry import SYSTEMS, build, parameters

RATES = {"lcnet": 0.01, "query2label": 0.01}  # attention on top of attention wants smaller steps
# Read by `build` itself or by a run: searching, standardising, the order of the labels, where tensors come from.
ELSEWHERE = {
    "beam_width",
    "top_k",
    "standardize",
    "feature_dropout",
    "order",
    "glove",
    "prior",
    "prior_threshold",
}
ELSEWHERE |= {
    "look",
    "captions",
    "min_count",
    "tokenizer",
    "pretrain_epochs",
    "teacher_forcing_epochs",
    "released",
}


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in sorted(SYSTEMS)]
    + [("attention", {"look": "before"}), ("attention_pla", {"look": "sentinel"})],
)
def test_every_system_learns_six_images_by_heart(name: str, options: dict) -> None:
    assert learns_by_heart(make_system(name, **options), make_batch(), lr=RATES.get(name, 0.03))


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_prediction_does_not_depend_on_its_batch(name: str) -> None:
    system, features = make_system(name).eval(), make_batch().features
    together = system.predict(features).predicted
    for i in range(len(together)):
        assert torch.equal(system.predict(features.select(torch.tensor([i]))).predicted[0], together[i])


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_options_and_constructors_agree(name: str) -> None:
    """Every option is read by a constructor, and a default that a constructor has is the one of the options."""
    options, system, network = SYSTEMS[name]
    assert options is OPTIONS[name]
    taken = parameters(system) + (parameters(network) if network else [])
    if options.attends and network is AdaptiveAttentionLSTM:
        taken += parameters(AttentionLSTM)  # for look="before"
    assert {spec.name for spec in options.specs()} - set(taken) <= ELSEWHERE
    if network is not None and name in ("ria", "cnn_rnn", "attention", "lcnet", "ml_gcn"):
        plain = options()
        defaults = network.__init__.__kwdefaults__ | (
            AttentionLSTM.__init__.__kwdefaults__ if name == "attention" else {}
        )
        for parameter, default in defaults.items():
            if hasattr(plain, parameter) and parameter != "node_features":
                assert getattr(plain, parameter) == default, parameter


def test_options_reach_the_system() -> None:
    plain = make_system("ria")
    assert (plain.name, plain.options.hidden_size, plain.decoder.lstm.hidden_size) == ("ria", 32, 32)
    again = build("ria", VOCABULARY, D, plain.options, output_dropout=0.1)
    assert again.options == replace(plain.options, output_dropout=0.1)
    assert (again.decoder.output_dropout.p, plain.decoder.output_dropout.p) == (0.1, 0.3)
    assert make_system("attention", look="before", learn_cell=True).decoder.initial_cell is not None
    for name in ("attention", "attention_mla", "attention_pla", "attention_captioner"):
        before, after, sentinel = (
            make_system(name, look=look).decoder for look in ("before", "after", "sentinel")
        )
        assert isinstance(before, AttentionLSTM) and isinstance(after, AdaptiveAttentionLSTM)
        assert sentinel.sentinel and not after.sentinel
    assert OPTIONS["attention"]().look == "after"
    for name in ("ria", "attention"):
        free = [
            make_system(f"{name}_mla"),
            make_system(f"{name}_pla"),
            make_system(f"{name}_pla", released=True),
        ]
        assert [system.method for system in free] == ["mla", "pla", "pla_released"]
        assert all(type(system.decoder) is type(make_system(name).decoder) for system in free)
        assert make_system(f"{name}_mla", auxiliary_bce=0.1).auxiliary_head
    assert make_system("captioner").decoder.image_input is not None
    assert make_system("query2label").network.graph is None
    assert make_system("sr_cnn_rnn", concept_dropout=0.0).concepts[0].p == 0
    for name, options in OPTIONS.items():
        assert options.needs_grid == (name in ("lcnet", "query2label", "ml_gcn") or "attention" in name)
        assert (options.learns == "words") == ("captioner" in name)


def test_the_sequence_loss_is_the_mean_over_labels_and_one_stop() -> None:
    system, batch = make_system("ria").eval(), make_batch()
    total, count = 0.0, 0
    with torch.no_grad():
        features = system.decoder_features(system.features(batch))
        for i, n in enumerate(batch.lengths.tolist()):
            truth = [*batch.labels[i, :n].tolist(), VOCABULARY.stop]
            inputs = torch.tensor([[VOCABULARY.start, *truth[:-1]]])
            logits, _ = system.decoder(Features(features.pooled[i : i + 1]), inputs)
            for t, token in enumerate(truth):
                total -= float(logits[0, t].log_softmax(-1)[token])
                count += 1
    assert float(system.loss(batch).detach()) == pytest.approx(total / count, abs=1e-5)


def test_the_classifier_chooses_its_thresholds() -> None:
    scores = torch.tensor([[0.2, 0.9, 0.1, 0.3], [0.3, 0.2, 0.2, 0.1], [0.1, 0.8, 0.3, 0.2]])
    target = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
    for rule in ("global", "mcc"):
        system = make_system("bce", thresholds=rule)
        assert (system.thresholds == 0.5).all()
        system.calibrate(scores, target)
        assert (system.thresholds < 0.5).any()
        assert "thresholds" in system.state_dict(), "a checkpoint must carry what was chosen on validation"
    system = make_system("bce", thresholds="top2").eval()
    assert (system.predict(make_batch().features).predicted.sum(1) == 2).all()


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="no system 'resnet'; there are bce"):
        build("resnet", VOCABULARY, D)
    for name, options, message in (
        ("bce", {"loss": "mse"}, "loss is 'mse'; it must be one of bce"),
        ("bce", {"thresholds": "best"}, "'global', 'mcc' or 'top3'"),
        ("ria", {"max_labels": 0}, "max_labels is 0; it must be a whole number of at least 1"),
        ("ria", {"top_k": 5}, r"top_k is 5; it must be in 1\.\.4"),
    ):
        with pytest.raises(ValueError, match=message):
            make_system(name, **options)
    for name, options in (
        ("ria", {"hiden_size": 3}),
        ("bce", {"beam_width": 2}),
        ("captioner", {"top_k": 3}),
    ):
        with pytest.raises(TypeError, match=f"{name} has no option {next(iter(options))}; it has .*"):
            make_system(name, **options)
    with pytest.raises(TypeError, match="ria needs max_labels"):
        build("ria", VOCABULARY, D)
    with pytest.raises(ValueError, match="no features"):
        make_system("bce").loss(replace(make_batch(), features=None))


def test_how_labels_are_searched_for_is_an_option() -> None:
    system, batch = make_system("ria", beam_width=3, top_k=2).eval(), make_batch()
    seen = system.decoder_features(system.features(batch))
    found = system.predict(batch.features)
    assert (found.predicted.sum(1) == 2).all()
    best = beam(system.decoder, seen, width=3, max_steps=2, min_labels=2).best()
    assert torch.equal(found.decoded.tokens, best.tokens)
    system.search_with(beam_width=1)
    alone = greedy(system.decoder, seen, max_steps=4)
    assert torch.equal(system.predict(batch.features).decoded.tokens, alone.tokens)
    with pytest.raises(ValueError, match="beam is 0"):
        system.search_with(beam_width=0)
