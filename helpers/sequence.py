"""A decoder that names labels one by one, trained on label sequences in a fixed order."""

from __future__ import annotations

from torch import Tensor, nn

from helpers.attention import doubly_stochastic_penalty
from helpers.batch import Batch, Features
from helpers.beam import beam
from helpers.decoders import Decoder
from helpers.labels import Vocabulary, decoder_inputs, to_multi_hot
from helpers.losses import sequence_cross_entropy
from helpers.norms import FeatureNorm
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
        self.pooled = FeatureNorm(feature_size)
        self.grid = FeatureNorm(feature_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Features:
        grid = features.grid
        if grid is not None:
            # (B, L, D) -> (B * L, D): every cell counts for the statistics of its dimension.
            grid = self.grid(grid.flatten(0, 1)).view_as(grid)
        return Features(self.dropout(self.pooled(features.pooled)), grid)


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
