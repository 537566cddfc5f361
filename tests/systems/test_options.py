"""The options classes: values are checked, JSON goes round, subclasses inherit what they do not change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.data.batches import PER_IMAGE
from helpers.data.labels import ORDERS
from helpers.data.words import TOKENIZERS
from helpers.metrics.captions import bleu, truth
from helpers.metrics.label_sets import multilabel_metrics
from helpers.systems import options as all_options
from helpers.systems.classifier import CLASSIFICATION_LOSSES
from helpers.systems.options import (
    OPTIONS,
    AttentionOptions,
    CnnRnnOptions,
    LcnetOptions,
    MlGcnOptions,
    RiaOptions,
)
from helpers.training.config import EncoderOptions, FitOptions, RunOptions


@pytest.mark.parametrize("name", OPTIONS)
def test_json_goes_round(name: str) -> None:
    options = OPTIONS[name]()
    assert OPTIONS[name].of(json.loads(json.dumps(options.plain()))) == options
    assert all(spec.about["help"] and len(spec.about["help"]) < 112 for spec in options.specs())
    assert options.__doc__ and "\n" not in options.__doc__


def test_paths_and_tuples_come_back() -> None:
    options = LcnetOptions(glove=Path("a/b.txt"), cells=(2, 3))
    assert options.plain()["glove"] == "a/b.txt"
    assert LcnetOptions.of(json.loads(json.dumps(options.plain()))) == options
    assert LcnetOptions(glove=Path("x")).prior == "glove" and LcnetOptions().prior == "cooccurrence"
    assert (
        MlGcnOptions(glove=Path("x")).node_features == "vectors" and MlGcnOptions().node_features == "learned"
    )


def test_a_subclass_that_changes_a_default_keeps_the_rest() -> None:
    ria, cnn_rnn = ({spec.name: spec for spec in cls.specs()} for cls in (RiaOptions, CnnRnnOptions))
    assert (ria["order"].default, cnn_rnn["order"].default) == ("rare-first", "frequent-first")
    assert ria["order"].about == cnn_rnn["order"].about and ria["hidden_size"].flag == "--hidden"
    assert list(RiaOptions.of({"hidden_size": 3}).plain())[:2] == ["hidden_size", "embedding_size"]


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (RiaOptions, {"hidden_size": 0}, "hidden_size is 0; it must be a whole number of at least 1"),
        (
            RiaOptions,
            {"output_dropout": 1.0},
            "output_dropout is 1.0; it must be a number at least 0 and below 1",
        ),
        (CnnRnnOptions, {"order": "first"}, "order is 'first'; it must be one of rare-first, frequent-first"),
        (AttentionOptions, {"look": "around"}, "look is 'around'; it must be one of before, after, sentinel"),
        (AttentionOptions, {"learn_cell": True}, "learn_cell is of look='before', and look is 'after'"),
        (
            AttentionOptions,
            {"look": "sentinel", "attention_dropout_per": "step"},
            "attention_dropout_per is of",
        ),
        (LcnetOptions, {"heads": 3}, "3 heads cannot share 256 units evenly"),
        (LcnetOptions, {"positions": True, "hidden_size": 6, "heads": 2}, "a multiple of 4 units"),
        (LcnetOptions, {"labels_first": True}, "never use it"),
        (LcnetOptions, {"loss": "bce", "detach_focus": True}, "detach_focus is of loss='asymmetric'"),
        (FitOptions, {"epochs": 0}, "epochs is 0"),
        (FitOptions, {"ema_decay": 1.0}, "ema_decay is 1.0"),
        (FitOptions, {"learning_rate": float("nan")}, "learning_rate is nan; it must be a number above 0"),
        (FitOptions, {"patience": 0}, "patience is 0"),
        (FitOptions, {"schedule": "waltz"}, "one of one-cycle, cyclic, constant"),
        (FitOptions, {"encoder_rate": -1.0}, "encoder_rate is -1.0"),
        (EncoderOptions, {"cutout": 0.5}, "use --no-freeze"),
        (RunOptions, {"output": "x", "init_from": "a", "init_encoder": "b"}, "leave out --init-encoder"),
    ],
)
def test_impossible_values_are_refused(cls: type, values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls.of(values)


def test_the_choices_are_those_of_the_code() -> None:
    choices = {
        spec.name: spec.about["rule"].choices
        for cls in OPTIONS.values()
        for spec in cls.specs()
        if spec.about["rule"] and spec.about["rule"].choices
    }
    assert set(choices["order"]) == set(ORDERS) and set(choices["loss"]) == set(CLASSIFICATION_LOSSES)
    assert choices["captions"] == PER_IMAGE and choices["tokenizer"] == TOKENIZERS
    for rule in (all_options.THRESHOLDS,):
        assert all(rule.holds(x) for x in ("global", "mcc", "top1", "top12"))
        assert not any(rule.holds(x) for x in ("best", "top", "top0", "0.5", ""))


def test_the_metrics_to_select_by_are_those_there_are() -> None:
    import torch

    one = torch.ones(1, 1, dtype=torch.bool)
    assert set(OPTIONS["bce"].metrics) == set(multilabel_metrics(one, one, one.float()))
    assert set(OPTIONS["captioner"].metrics) == {*bleu(["a"], [["a"]]), *truth(["a"], [[]])}
