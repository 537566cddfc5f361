"""Decoders that name labels one by one, trained on label sequences in a fixed order: `SequenceSystem`, SR-CNN-RNN."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary, decoder_inputs, to_multi_hot
from helpers.decoders.attention import doubly_stochastic_penalty
from helpers.decoders.base import Decoder
from helpers.decoders.beam import beam
from helpers.decoders.search import Decoded, greedy, sample
from helpers.systems.base import Prediction, System
from helpers.systems.losses import sequence_cross_entropy


@dataclass(frozen=True)
class Decoding:
    """How a sequence is found: greedily, by beam search, or drawn.

    beam: sequences kept, 1 is greedy. length_penalty: of `beam.beam`; 0 prefers short sequences, 1 does not.
    temperature: above 0 draws instead (`search.sample`), with generator; it goes with beam=1.
    """

    beam: int = 1
    length_penalty: float = 0.0
    temperature: float = 0.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.beam < 1 or self.temperature < 0:
            raise ValueError(
                f"beam is {self.beam} and temperature {self.temperature}; expected at least 1 and at least 0"
            )
        if self.beam > 1 and self.temperature:
            raise ValueError("a beam searches and a temperature draws: give one of both")


class SequenceSystem(System):
    """A decoder trained by teacher forcing on labels in a fixed order.

    max_labels: labels named at most; one more step is for `<stop>`.
    prepare: applied to the features before the decoder sees them, for instance `Standardize`.
    attention_penalty: weight of `attention.doubly_stochastic_penalty`, for decoders that attend.
    `decoding` says how `predict` finds the labels, greedily at first; it may be set at any time.
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
        """Search greedily or with a beam; top_k: name exactly so many labels per image.

        With top_k, `<stop>` cannot be named: the labels are those of the best path of this length (the tables of
        Wang et al., CVPR 2016, have the top 3).
        """
        if top_k is not None and not 1 <= top_k <= len(self.vocabulary):
            raise ValueError(
                f"top_k is {top_k}; it must be in 1..{len(self.vocabulary)}, the number of labels"
            )
        self.decoding, self.top_k = Decoding(beam=beam_width), top_k

    @property
    def beam_width(self) -> int:
        """Sequences that the search keeps; 1 is greedy."""
        return self.decoding.beam

    def limits(self) -> dict[str, Any]:
        """What every search of this system obeys."""
        return {"max_steps": self.top_k or self.max_labels + 1, "min_labels": self.top_k or 0}

    def decode(self, features: Features) -> Decoded:
        """The label sequences of B images, from their features."""
        how, seen, limits = self.decoding, self.decoder_features(features), self.limits()
        if how.beam > 1:
            options = {"width": how.beam, "length_penalty": how.length_penalty, "only_best": True}
            return beam(self.decoder, seen, **options, **limits).best()
        if how.temperature:
            return sample(self.decoder, seen, temperature=how.temperature, generator=how.generator, **limits)
        return greedy(self.decoder, seen, **limits)

    def predict(self, features: Features) -> Prediction:
        """The label sequences in `decoded`; `predicted` (B, C) is the set of their labels."""
        decoded = self.decode(features)
        return Prediction(to_multi_hot(decoded.tokens, len(self.vocabulary)).bool(), decoded=decoded)

    def unmasked_tokens(self, features: Features) -> Tensor | None:
        """(B, T) int64, `<stop>` from the first on: what the decoder says, greedily, where it may repeat labels.

        `predict` repeats no label of a set. This shows whether the decoder has learned that.
        """
        return greedy(
            self.decoder, self.decoder_features(features), **self.limits() | {"repeats": True}
        ).tokens


class SemanticRegularisation(SequenceSystem):
    """SR-CNN-RNN: between CNN and LSTM stands a layer of C concepts, one per label, with a loss of its own.

    p = σ(W I + b), a probability for every label, is trained with binary cross-entropy; the decoder sees the image
    only as p. loss = BCE (mean over images and labels) + cross-entropy of the sequence (mean over its tokens) (Liu,
    Xiang, Hospedales, Yang and Sun, "Semantic Regularisation for Recurrent Image Annotation", CVPR 2017).

    decoder: built for feature_size C. feature_size: D of the pooled features I.
    joint: the loss of the sequence trains the concepts too; otherwise its gradient stops at p.
    pretrain_steps: for so many training steps the decoder starts from the true labels (0 or 1) in place of p. In eval
        mode it always starts from p.
    concept_dropout: before the concept layer. concept_weight: of the BCE. Other arguments: those of `SequenceSystem`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        decoder: Decoder,
        *,
        feature_size: int,
        joint: bool = False,
        pretrain_steps: int = 0,
        concept_dropout: float = 0.3,
        concept_weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary, decoder, **options)
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
