"""A decoder that names labels one by one, trained on label sequences in a fixed order."""

from __future__ import annotations

from torch import Tensor, nn

from helpers.attention import doubly_stochastic_penalty
from helpers.batch import Batch, Features
from helpers.decoders import Decoder
from helpers.labels import Vocabulary, decoder_inputs, to_multi_hot
from helpers.losses import sequence_cross_entropy
from helpers.prediction import Prediction, System
from helpers.search import greedy


class Standardize(nn.Module):
    """Features with mean 0 and variance 1 in every dimension (batch-norm). Taught in notebook 03.

    dropout: of the pooled feature; a decoder that looks at the grid has its own for that.

    The published decoders have no such layer, for their CNN learns along. The features of a frozen CNN differ in
    scale and are all positive. Whether this helps is measured, not assumed: it does for RIA on Corel-5k, it does
    not on scenes (docs/results.md).
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
