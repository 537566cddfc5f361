"""The systems of the literature: an encoder, a decoder or head, and an objective, put together.

A system takes a `Batch`, gives its loss, and names the labels of its images. It is built by name from plain
options, so that a checkpoint can rebuild it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.attention import AttentionLSTM, doubly_stochastic_penalty
from helpers.batch import Batch, Features
from helpers.decoders import Decoder, LabelLSTM
from helpers.labels import Vocabulary, decoder_inputs, to_multi_hot
from helpers.losses import asymmetric_loss, focal_loss, sequence_cross_entropy
from helpers.search import Decoded, greedy
from helpers.thresholds import apply_thresholds, choose_global, choose_mcc, top_k_mask


@dataclass(frozen=True)
class Prediction:
    """What a system says of B images.

    predicted: (B, C) bool, the set of labels.
    scores:    (B, C) float32 in 0..1, or None for systems that name labels without scoring all of them.
    decoded:   the label sequence, or None for systems without one.
    """

    predicted: Tensor
    scores: Tensor | None = None
    decoded: Decoded | None = None


class System(nn.Module):
    """What all systems share. `select` is the validation metric that picks the best epoch.

    encoder: images -> `Features`; None where every batch brings its features (from the cache).
    """

    select = "CF1"

    def __init__(self, vocabulary: Vocabulary, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.encoder = encoder

    def features(self, batch: Batch) -> Features:
        """The batch's own features, or its images encoded."""
        if batch.features is not None:
            return batch.features
        if self.encoder is None or batch.images is None:
            raise ValueError(
                "this batch has no features, and there is no encoder with images to make them: "
                "build the system with encoder=…, or read the batches from a feature cache"
            )
        return self.encoder(batch.images)

    def loss(self, batch: Batch) -> Tensor:
        """The objective on a batch: a scalar."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Prediction:
        """The labels of the images of a batch; call in eval mode."""
        raise NotImplementedError

    def calibrate(self, scores: Tensor, target: Tensor) -> None:
        """Choose what is chosen after training, on *validation* scores and targets (N, C). Nothing by default."""


CLASSIFICATION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": binary_cross_entropy_with_logits,
    "focal": focal_loss,
    "asymmetric": asymmetric_loss,
}


class Classifier(System):
    """CNN with a head that scores every label on its own: the baseline. Taught in notebook 02.

    hidden_size: units of a hidden layer (batch-norm, linear, ReLU) before the linear scores; 0 for none.
    thresholds: "global" (one value for all labels), "mcc" (one a label) or "top<k>" (the k best labels of every
        image); `calibrate` chooses the values on validation. Until then the threshold is 0.5.
    """

    select = "mAP"

    def __init__(
        self,
        vocabulary: Vocabulary,
        feature_size: int,
        *,
        encoder: nn.Module | None = None,
        loss: str = "bce",
        thresholds: str = "global",
        hidden_size: int = 0,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(vocabulary, encoder)
        if loss not in CLASSIFICATION_LOSSES:
            raise ValueError(
                f"there is no loss {loss!r} for bce; choose one of {sorted(CLASSIFICATION_LOSSES)}"
            )
        is_top_k = thresholds.startswith("top") and thresholds[3:].isdigit()
        if thresholds not in ("global", "mcc") and not is_top_k:
            raise ValueError(f"thresholds is {thresholds!r}; choose 'global', 'mcc' or 'top3' (any number)")
        self.objective = CLASSIFICATION_LOSSES[loss]
        self.threshold_rule = thresholds
        layers: list[nn.Module] = []
        if hidden_size:
            layers = [
                nn.BatchNorm1d(feature_size),
                nn.Dropout(dropout),
                nn.Linear(feature_size, hidden_size),
                nn.ReLU(),
            ]
        last = nn.Linear(hidden_size or feature_size, len(vocabulary))
        self.head = nn.Sequential(*layers, nn.Dropout(0.5 if hidden_size else dropout), last)
        self.register_buffer("thresholds", torch.full((len(vocabulary),), 0.5))

    def logits(self, batch: Batch) -> Tensor:
        """(B, C) before the sigmoid."""
        return self.head(self.features(batch).pooled)

    def loss(self, batch: Batch) -> Tensor:
        return self.objective(self.logits(batch).float(), batch.multi_hot)

    def predict(self, batch: Batch) -> Prediction:
        scores = self.logits(batch).float().sigmoid()
        if self.threshold_rule.startswith("top"):
            return Prediction(top_k_mask(scores, int(self.threshold_rule[3:])), scores)
        return Prediction(apply_thresholds(scores, self.thresholds), scores)

    def calibrate(self, scores: Tensor, target: Tensor) -> None:
        if self.threshold_rule == "global":
            self.thresholds.fill_(choose_global(scores, target, metric="OF1"))
        elif self.threshold_rule == "mcc":
            # A label without a positive on validation has no MCC of its own.
            self.thresholds.copy_(choose_mcc(scores, target, default=choose_global(scores, target)))


class Standardize(nn.Module):
    """Features with mean 0 and variance 1 in every dimension (batch-norm). Taught in notebook 03.

    dropout: of the pooled feature; a decoder that looks at the grid has its own for that.

    The published decoders have no such layer, for their CNN learns along. The features of a frozen CNN differ in
    scale and are all positive; a decoder on them as they are learns slowly and ends lower (docs/results.md).
    """

    def __init__(self, feature_size: int, dropout: float) -> None:
        super().__init__()
        self.pooled = nn.BatchNorm1d(feature_size)
        self.grid = nn.BatchNorm1d(feature_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Features:
        grid = features.grid
        if grid is not None:
            # (B, L, D) -> (B * L, D): every cell counts for the statistics of its dimension.
            grid = self.grid(grid.flatten(0, 1)).view_as(grid)
        return Features(self.dropout(self.pooled(features.pooled)), grid)


class SequenceSystem(System):
    """A decoder trained by teacher forcing on labels in a fixed order, decoded greedily. Taught in notebook 03.

    max_labels: labels named at most; one more step is for `<stop>`.
    prepare: applied to the features before the decoder sees them, for instance `Standardize`.
    attention_penalty: weight of `attention.doubly_stochastic_penalty`, for decoders that attend.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        decoder: Decoder,
        *,
        max_labels: int,
        encoder: nn.Module | None = None,
        prepare: nn.Module | None = None,
        label_smoothing: float = 0.0,
        attention_penalty: float = 0.0,
    ) -> None:
        super().__init__(vocabulary, encoder)
        if max_labels < 1:
            raise ValueError(
                f"max_labels is {max_labels}; a decoder must be allowed to name at least one label"
            )
        self.decoder = decoder
        self.prepare = prepare or nn.Identity()
        self.max_labels = max_labels
        self.label_smoothing = label_smoothing
        self.attention_penalty = attention_penalty

    def features(self, batch: Batch) -> Features:
        return self.prepare(super().features(batch))

    def loss(self, batch: Batch) -> Tensor:
        tokens = decoder_inputs(batch.labels, self.vocabulary.start)
        logits, attention = self.decoder(self.features(batch), tokens)
        loss = sequence_cross_entropy(
            logits, batch.labels, batch.lengths, label_smoothing=self.label_smoothing
        )
        if self.attention_penalty:
            loss = loss + self.attention_penalty * doubly_stochastic_penalty(attention, batch.lengths)
        return loss

    def predict(self, batch: Batch) -> Prediction:
        decoded = greedy(self.decoder, self.features(batch), max_steps=self.max_labels + 1)
        return Prediction(to_multi_hot(decoded.tokens, len(self.vocabulary)).bool(), decoded=decoded)


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
