"""The systems of the literature: an encoder, a decoder or head, and an objective, put together.

A system takes a `Batch`, gives its loss, and names the labels of its images. It is built by name from plain
options, so that a checkpoint can rebuild it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from helpers.attention import AttentionLSTM
from helpers.classifier import Classifier
from helpers.decoders import LabelLSTM
from helpers.labels import Vocabulary
from helpers.prediction import System
from helpers.sequence import SequenceSystem, Standardize


def bce(
    vocabulary: Vocabulary, feature_size: int, *, encoder: nn.Module | None = None, **options: Any
) -> System:
    """The baseline: CNN + linear head, a score a label (options of `Classifier`)."""
    return Classifier(vocabulary, feature_size, encoder=encoder, **options)


def ria(
    vocabulary: Vocabulary,
    feature_size: int,
    *,
    encoder: nn.Module | None = None,
    max_labels: int,
    label_smoothing: float = 0.0,
    standardize: bool = True,
    feature_dropout: float = 0.5,
    **options: Any,
) -> System:
    """RIA: an LSTM started from the image names labels one by one.

    standardize, feature_dropout: see `Standardize`. Other options are those of `LabelLSTM`.
    """
    return SequenceSystem(
        vocabulary,
        LabelLSTM(len(vocabulary), feature_size, **options),
        encoder=encoder,
        prepare=Standardize(feature_size, feature_dropout) if standardize else None,
        max_labels=max_labels,
        label_smoothing=label_smoothing,
    )


def attention(
    vocabulary: Vocabulary,
    feature_size: int,
    *,
    encoder: nn.Module | None = None,
    max_labels: int,
    label_smoothing: float = 0.0,
    standardize: bool = True,
    feature_dropout: float = 0.5,
    attention_penalty: float = 0.0,
    **options: Any,
) -> System:
    """An LSTM that looks at the grid anew before every label. Taught in notebook 04.

    standardize, feature_dropout: see `Standardize`. Other options are those of `AttentionLSTM`.
    """
    return SequenceSystem(
        vocabulary,
        AttentionLSTM(len(vocabulary), feature_size, **options),
        encoder=encoder,
        prepare=Standardize(feature_size, feature_dropout) if standardize else None,
        max_labels=max_labels,
        label_smoothing=label_smoothing,
        attention_penalty=attention_penalty,
    )


SYSTEMS: dict[str, Callable[..., System]] = {"bce": bce, "ria": ria, "attention": attention}
NEEDS_GRID = frozenset({"attention"})  # the others read the pooled feature alone


def build(
    name: str, vocabulary: Vocabulary, feature_size: int, *, encoder: nn.Module | None = None, **options: Any
) -> System:
    """The system `name` of `SYSTEMS`; unknown names and options are refused."""
    if name not in SYSTEMS:
        raise ValueError(f"there is no system {name!r}; there are {', '.join(SYSTEMS)}")
    return SYSTEMS[name](vocabulary, feature_size, encoder=encoder, **options)
