"""The systems of the literature: an encoder, a decoder or head, and an objective, put together.

A system takes a `Batch`, gives its loss, and names the labels of its images. It is built by name from plain
options, so that a checkpoint can rebuild it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from helpers.data.labels import Vocabulary
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.base import Decoder, Standardize
from helpers.decoders.label_decoder import LabelDecoder
from helpers.decoders.label_graph import GraphClassifier
from helpers.decoders.lstm import JointEmbedding, LabelLSTM
from helpers.systems.base import System
from helpers.systems.captioner import Captioner
from helpers.systems.classifier import Classifier, ScoringSystem
from helpers.systems.order_free import OrderFreeSystem
from helpers.systems.sequence import SemanticRegularisation, SequenceSystem


def bce(
    vocabulary: Vocabulary, feature_size: int, *, encoder: nn.Module | None = None, **options: Any
) -> System:
    """The baseline: CNN + linear head, a score a label (options of `Classifier`)."""
    return Classifier(vocabulary, feature_size, encoder=encoder, **options)


SHARED = ("max_labels", "encoder", "label_smoothing", "standardize", "feature_dropout")


def _split(options: dict[str, Any], *own: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the system (`SHARED` and `own`), and all others, which are the decoder's."""
    names = (*SHARED, *own)
    return (
        {name: value for name, value in options.items() if name in names},
        {name: value for name, value in options.items() if name not in names},
    )


def _sequence(
    kind: Callable[..., System],
    decoder: Decoder,
    vocabulary: Vocabulary,
    feature_size: int,
    *,
    max_labels: int,
    encoder: nn.Module | None = None,
    label_smoothing: float = 0.0,
    standardize: bool = True,
    feature_dropout: float = 0.5,
    **own: Any,
) -> System:
    """What all decoders share; standardize, feature_dropout: see `Standardize`."""
    return kind(
        vocabulary,
        decoder,
        encoder=encoder,
        prepare=Standardize(feature_size, feature_dropout) if standardize else None,
        max_labels=max_labels,
        label_smoothing=label_smoothing,
        **own,
    )


def ria(vocabulary: Vocabulary, feature_size: int, **options: Any) -> System:
    """RIA: an LSTM started from the image names labels one by one.

    Options: max_labels, encoder and label_smoothing of `SequenceSystem`; standardize and feature_dropout, see
    `Standardize`; the others are those of `LabelLSTM`.
    """
    ours, theirs = _split(options)
    decoder = LabelLSTM(len(vocabulary), feature_size, **theirs)
    return _sequence(SequenceSystem, decoder, vocabulary, feature_size, **ours)


def attention(vocabulary: Vocabulary, feature_size: int, **options: Any) -> System:
    """An LSTM that looks at the grid anew before every label. Taught in notebook 04.

    Options: as in `ria`, attention_penalty of `SequenceSystem`, and those of `AttentionLSTM`.
    """
    ours, theirs = _split(options, "attention_penalty")
    decoder = AttentionLSTM(len(vocabulary), feature_size, **theirs)
    return _sequence(SequenceSystem, decoder, vocabulary, feature_size, **ours)


def _order_free(
    decoder_class: type[LabelLSTM] | type[AttentionLSTM],
    method: str,
    vocabulary: Vocabulary,
    feature_size: int,
    **options: Any,
) -> System:
    own = ["feed_stop", "mask_repeats", "teacher_forcing", "teacher_forcing_steps", "auxiliary_bce"]
    if decoder_class is AttentionLSTM:
        own.append("attention_penalty")
    ours, theirs = _split(options, *own)
    decoder = decoder_class(len(vocabulary), feature_size, **theirs)
    kind = partial(OrderFreeSystem, method=method, feature_size=feature_size)
    return _sequence(kind, decoder, vocabulary, feature_size, **ours)


def _pla(released: bool) -> str:
    return "pla_released" if released else "pla"


def ria_mla(vocabulary: Vocabulary, feature_size: int, **options: Any) -> System:
    """`ria` that learns in which order to name the labels, by MLA. Taught in notebook 05.

    Options: those of `ria`, and feed_stop, mask_repeats, teacher_forcing, teacher_forcing_steps and auxiliary_bce
    of `OrderFreeSystem`.
    """
    return _order_free(LabelLSTM, "mla", vocabulary, feature_size, **options)


def ria_pla(vocabulary: Vocabulary, feature_size: int, *, released: bool = False, **options: Any) -> System:
    """`ria_mla` with PLA: a label that is predicted stays where it was predicted. Taught in notebook 05.

    released: as the paper's published code computes it, see `alignment.align`.
    """
    return _order_free(LabelLSTM, _pla(released), vocabulary, feature_size, **options)


def attention_mla(vocabulary: Vocabulary, feature_size: int, **options: Any) -> System:
    """`ria_mla` with the decoder of `attention`, as in the paper. Taught in notebook 05.

    Options: those of `attention` and of `ria_mla`.
    """
    return _order_free(AttentionLSTM, "mla", vocabulary, feature_size, **options)


def attention_pla(
    vocabulary: Vocabulary, feature_size: int, *, released: bool = False, **options: Any
) -> System:
    """`ria_pla` with the decoder of `attention`, as in the paper. Taught in notebook 05.

    Options: those of `attention` and of `ria_pla`.
    """
    return _order_free(AttentionLSTM, _pla(released), vocabulary, feature_size, **options)


def cnn_rnn(vocabulary: Vocabulary, feature_size: int, **options: Any) -> System:
    """CNN-RNN: labels, image and LSTM state in one space; with image_first=True its HybridNet configuration.

    Options: as in `ria`, and those of `JointEmbedding`. The paper trains on labels in frequent-first order and
    decodes with a beam. Taught in notebook 03b.
    """
    ours, theirs = _split(options)
    decoder = JointEmbedding(len(vocabulary), feature_size, **theirs)
    return _sequence(SequenceSystem, decoder, vocabulary, feature_size, **ours)


def sr_cnn_rnn(vocabulary: Vocabulary, feature_size: int, **options: Any) -> System:
    """SR-CNN-RNN: RIA's decoder, started from a probability for every label in place of the image.

    Options: as in `ria`, and joint and pretrain_steps of `SemanticRegularisation`. Taught in notebook 03b.
    """
    ours, theirs = _split(options, "joint", "pretrain_steps")
    decoder = LabelLSTM(len(vocabulary), len(vocabulary), **theirs)
    kind = partial(SemanticRegularisation, feature_size=feature_size)
    return _sequence(kind, decoder, vocabulary, feature_size, **ours)


def captioner(vocabulary: Vocabulary, feature_size: int, **options: Any) -> System:
    """Sentences: an LSTM that reads the image as its first word, `LabelLSTM(image="step")`. Taught in notebook 07.

    vocabulary: of words, with `<unk>`. Options: as in `ria`; max_labels: words at most.
    """
    ours, theirs = _split(options)
    decoder = LabelLSTM(len(vocabulary), feature_size, image="step", **theirs)
    return _sequence(Captioner, decoder, vocabulary, feature_size, **ours)


def attention_captioner(vocabulary: Vocabulary, feature_size: int, **options: Any) -> System:
    """Sentences from an LSTM that looks at the grid anew before every word. Taught in notebook 07.

    vocabulary: of words, with `<unk>`. Options: as in `attention`; max_labels: words at most.
    """
    ours, theirs = _split(options, "attention_penalty")
    decoder = AttentionLSTM(len(vocabulary), feature_size, **theirs)
    return _sequence(Captioner, decoder, vocabulary, feature_size, **ours)


def lcnet(
    vocabulary: Vocabulary,
    feature_size: int,
    *,
    encoder: nn.Module | None = None,
    loss: str = "asymmetric",
    thresholds: str = "global",
    **options: Any,
) -> System:
    """LCNet: labels look at the image, which has heard from a learned graph of the labels. Taught in notebook 08.

    loss, thresholds: see `ScoringSystem`. Other options are those of `LabelDecoder`.
    """
    network = LabelDecoder(len(vocabulary), feature_size, **options)
    return ScoringSystem(vocabulary, network, encoder=encoder, loss=loss, thresholds=thresholds)


def query2label(
    vocabulary: Vocabulary,
    feature_size: int,
    *,
    queries: str = "learned",
    positions: bool = True,
    **options: Any,
) -> System:
    """Labels look at the image, without a graph: Query2Label (Liu et al., 2021). Taught in notebook 08.

    queries="random", positions=False is ML-Decoder (Ridnik et al., WACV 2023) with a query a label. Left out:
    Query2Label's encoder layer before the decoder. Options of `lcnet` but those of the graph.
    """
    return lcnet(vocabulary, feature_size, graph="none", queries=queries, positions=positions, **options)


def ml_gcn(
    vocabulary: Vocabulary,
    feature_size: int,
    *,
    encoder: nn.Module | None = None,
    loss: str = "bce",
    thresholds: str = "global",
    edges: Tensor | None = None,
    **options: Any,
) -> System:
    """ML-GCN: a fixed label graph writes the classifier (Chen et al., CVPR 2019). Taught in notebook 08.

    loss, thresholds: see `ScoringSystem`. Other options are those of `GraphClassifier`.
    """
    network = GraphClassifier(len(vocabulary), feature_size, edges=edges, **options)
    return ScoringSystem(vocabulary, network, encoder=encoder, loss=loss, thresholds=thresholds)


SYSTEMS: dict[str, Callable[..., System]] = {
    "bce": bce,
    "cnn_rnn": cnn_rnn,
    "ria": ria,
    "sr_cnn_rnn": sr_cnn_rnn,
    "ria_mla": ria_mla,
    "ria_pla": ria_pla,
    "attention": attention,
    "attention_mla": attention_mla,
    "attention_pla": attention_pla,
    "lcnet": lcnet,
    "query2label": query2label,
    "ml_gcn": ml_gcn,
    "captioner": captioner,
    "attention_captioner": attention_captioner,
}


ORDER_FREE = frozenset({"ria_mla", "ria_pla", "attention_mla", "attention_pla"})  # trained without an order


LABEL_GRAPH = frozenset({"lcnet", "query2label", "ml_gcn"})  # labels that look at the image


CAPTIONERS = frozenset({"captioner", "attention_captioner"})  # their vocabulary is of words


ATTENTION = frozenset({"attention", "attention_mla", "attention_pla", "attention_captioner"})


NEEDS_GRID = ATTENTION | LABEL_GRAPH  # the others read the pooled feature alone


def build(
    name: str,
    vocabulary: Vocabulary,
    feature_size: int,
    *,
    encoder: nn.Module | None = None,
    search: dict[str, Any] | None = None,
    **options: Any,
) -> System:
    """The system `name` of `SYSTEMS`; unknown names and options are refused.

    search: options of `SequenceSystem.search_with`, for systems with a decoder.
    """
    if name not in SYSTEMS:
        raise ValueError(f"there is no system {name!r}; there are {', '.join(SYSTEMS)}")
    system = SYSTEMS[name](vocabulary, feature_size, encoder=encoder, **options)
    if search is not None:
        if not isinstance(system, SequenceSystem):
            raise ValueError(f"{name} does not search for labels: leave out beam_width and top_k")
        system.search_with(**search)
    return system
