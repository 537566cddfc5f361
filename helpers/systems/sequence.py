"""Decoders that name labels one by one, trained on label sequences in a fixed order: `SequenceSystem`, SR-CNN-RNN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary, decoder_inputs, to_multi_hot
from helpers.decoders.attention import doubly_stochastic_penalty
from helpers.decoders.base import Decoder
from helpers.decoders.beam import beam
from helpers.decoders.search import greedy
from helpers.systems.base import Prediction, System
from helpers.systems.losses import sequence_cross_entropy


class SequenceSystem(System):
    """A decoder trained by teacher forcing on labels in a fixed order.

    It is decoded greedily, unless `search_with` says otherwise.

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
        self.search_with()

    def decoder_features(self, features: Features) -> Features:
        """What the decoder sees of B images, from their features."""
        return self.prepare(features)

    def loss(self, batch: Batch) -> Tensor:
        tokens = decoder_inputs(batch.labels, self.vocabulary.start)
        logits, attention = self.decoder(self.decoder_features(self.features(batch)), tokens)
        return self.sequence_loss(logits, attention, batch.labels, batch.lengths)

    def sequence_loss(
        self, logits: Tensor, attention: Tensor | None, targets: Tensor, lengths: Tensor
    ) -> Tensor:
        """Cross-entropy of logits (B, T, V) and targets (B, T), and the penalty on attention (B, T, L): a scalar."""
        loss = sequence_cross_entropy(logits, targets, lengths, label_smoothing=self.label_smoothing)
        if self.attention_penalty:
            loss = loss + self.attention_penalty * doubly_stochastic_penalty(attention, lengths)
        return loss

    def search_with(self, *, beam_width: int = 1, top_k: int | None = None) -> None:
        """Choose how labels are searched for: greedily or with a beam; top_k: exactly so many labels per image.

        With top_k, `<stop>` cannot be named: the labels are those of the best path of this length (the tables of
        Wang et al., CVPR 2016, have the top 3).
        """
        if beam_width < 1:
            raise ValueError(f"beam_width is {beam_width}; it must be at least 1, which is greedy search")
        if top_k is not None and not 1 <= top_k <= len(self.vocabulary):
            raise ValueError(
                f"top_k is {top_k}; it must be in 1..{len(self.vocabulary)}, the number of labels"
            )
        self.beam_width, self.top_k = beam_width, top_k

    def predict(self, features: Features) -> Prediction:
        seen, limits = self.decoder_features(features), self._limits()
        if self.beam_width == 1:
            decoded = greedy(self.decoder, seen, **limits)
        else:
            decoded = beam(self.decoder, seen, width=self.beam_width, only_best=True, **limits).best()
        return Prediction(to_multi_hot(decoded.tokens, len(self.vocabulary)).bool(), decoded=decoded)

    def unmasked_tokens(self, features: Features) -> Tensor | None:
        """(B, T) int64, `<stop>` from the first on: what the decoder says, greedily, where it may repeat labels.

        The labels of an image are a set, so `predict` repeats none. This shows whether the decoder has learned that.
        """
        return greedy(self.decoder, self.decoder_features(features), repeats=True, **self._limits()).tokens

    def _limits(self) -> dict[str, int]:
        return {"max_steps": self.top_k or self.max_labels + 1, "min_labels": self.top_k or 0}


class SemanticRegularisation(SequenceSystem):
    """SR-CNN-RNN: between CNN and LSTM stands a layer of C concepts, one per label, with a loss of its own.

    p = σ(W I + b), a probability for every label, is trained with binary cross-entropy; the decoder sees the image
    only as p. loss = BCE (mean over images and labels) + cross-entropy of the sequence (mean over its tokens) (Liu,
    Xiang, Hospedales, Yang and Sun, "Semantic Regularisation for Recurrent Image Annotation", CVPR 2017).

    decoder: built for feature_size C. feature_size: D of the pooled features I.
    joint: the loss of the sequence trains the concepts too; otherwise its gradient stops at p, and CNN and LSTM learn
        side by side.
    pretrain_steps: for so many training steps the decoder starts from the true labels (0 or 1) in place of p, while
        the concepts learn from their own loss; then both are joined. In eval mode it always starts from p.
    concept_dropout: before the concept layer. concept_weight: of the BCE. Other arguments: those of `SequenceSystem`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        decoder: Decoder,
        *,
        feature_size: int,
        max_labels: int,
        joint: bool = False,
        pretrain_steps: int = 0,
        concept_dropout: float = 0.3,
        concept_weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary, decoder, max_labels=max_labels, **options)
        if pretrain_steps < 0:
            raise ValueError(f"pretrain_steps is {pretrain_steps}; it must be 0 (none) or more")
        self.concepts = nn.Sequential(nn.Dropout(concept_dropout), nn.Linear(feature_size, len(vocabulary)))
        self.joint = joint
        self.pretrain_steps = pretrain_steps
        self.concept_weight = concept_weight
        # Counted here and not by the training loop, so that a resumed run goes on where it was.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def concept_logits(self, features: Features) -> Tensor:
        """(B, C) float32 before the sigmoid."""
        return self.concepts(self.prepare(features).pooled).float()

    def decoder_features(self, features: Features) -> Features:
        return Features(self.concept_logits(features).sigmoid())

    def loss(self, batch: Batch) -> Tensor:
        logits = self.concept_logits(self.features(batch))
        concepts = (logits if self.joint else logits.detach()).sigmoid()
        if self.training:
            # torch.where, because reading the counter would make a GPU wait.
            concepts = torch.where(self.steps < self.pretrain_steps, batch.multi_hot.to(concepts), concepts)
            self.steps += 1
        scores, _ = self.decoder(Features(concepts), decoder_inputs(batch.labels, self.vocabulary.start))
        sequence = self.sequence_loss(scores, None, batch.labels, batch.lengths)
        return self.concept_weight * binary_cross_entropy_with_logits(logits, batch.multi_hot) + sequence

    def predict(self, features: Features) -> Prediction:
        """The decoder's labels; `scores` are the concept probabilities."""
        return replace(super().predict(features), scores=self.decoder_features(features).pooled)
