"""SR-CNN-RNN: the CNN answers for every label on its own, and the decoder starts from those answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.batch import Batch, Features
from helpers.decoders import Decoder
from helpers.labels import Vocabulary, decoder_inputs
from helpers.losses import sequence_cross_entropy
from helpers.prediction import Prediction
from helpers.sequence import SequenceSystem


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
