"""A decoder that names labels one by one, trained on label sequences in a fixed order.

SR-CNN-RNN: the CNN answers for every label on its own, and the decoder starts from those answers.
"""

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
    """A decoder trained by teacher forcing on labels in a fixed order. Taught in notebook 03.

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

    def search_with(self, *, beam_width: int = 1, top_k: int | None = None) -> None:
        """Choose how labels are searched for: greedily or with a beam; top_k: exactly so many labels an image.

        With top_k, `<stop>` cannot be named: the labels are those of the best path of this length (the tables of
        Wang et al., CVPR 2016, have the top 3).
        """
        if beam_width < 1:
            raise ValueError(f"beam_width is {beam_width}; 1 is greedy search, and there is nothing below it")
        if top_k is not None and not 1 <= top_k <= len(self.vocabulary):
            raise ValueError(
                f"top_k is {top_k}; it must be in 1..{len(self.vocabulary)}, the number of labels"
            )
        self.beam_width, self.top_k = beam_width, top_k

    def decoder_features(self, batch: Batch) -> Features:
        """What the decoder sees of the images of a batch."""
        return self.features(batch)

    def find_labels(self, features: Features) -> Prediction:
        """The labels of B images, from what the decoder sees of them."""
        options = {"max_steps": self.top_k or self.max_labels + 1, "min_labels": self.top_k or 0}
        if self.beam_width == 1:
            decoded = greedy(self.decoder, features, **options)
        else:
            decoded = beam(self.decoder, features, width=self.beam_width, only_best=True, **options).best()
        # The labels of an image are a set, so a search repeats none. What the decoder itself would say shows whether
        # it has learned that.
        said = greedy(self.decoder, features, repeats=True, **options).tokens
        return Prediction(
            to_multi_hot(decoded.tokens, len(self.vocabulary)).bool(), decoded=decoded, said=said
        )

    def predict(self, batch: Batch) -> Prediction:
        return self.find_labels(self.decoder_features(batch))


class SemanticRegularisation(SequenceSystem):
    """Between CNN and LSTM stands a layer of C concepts, one a label, with a loss of its own.

    Taught in notebook 03b.

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

    def concept_logits(self, batch: Batch) -> Tensor:
        """(B, C) before the sigmoid."""
        return self.concepts(self.features(batch).pooled)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.concept_logits(batch).float()
        concepts = (logits if self.joint else logits.detach()).sigmoid()
        if self.training:
            # torch.where, for reading the counter would make a GPU wait.
            concepts = torch.where(self.steps < self.pretrain_steps, batch.multi_hot.to(concepts), concepts)
            self.steps += 1
        tokens = decoder_inputs(batch.labels, self.vocabulary.start)
        scores, _ = self.decoder(Features(concepts), tokens)
        sequence = sequence_cross_entropy(
            scores, batch.labels, batch.lengths, label_smoothing=self.label_smoothing
        )
        return self.concept_weight * binary_cross_entropy_with_logits(logits, batch.multi_hot) + sequence

    def decoder_features(self, batch: Batch) -> Features:
        return Features(self.concept_logits(batch).float().sigmoid())

    def predict(self, batch: Batch) -> Prediction:
        """The decoder's labels; `scores` are the concept probabilities."""
        features = self.decoder_features(batch)
        return replace(self.find_labels(features), scores=features.pooled)
