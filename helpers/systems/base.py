"""What every system is: a loss for a batch, and labels for the features of images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary
from helpers.decoders.search import Decoded


@dataclass(frozen=True)
class Prediction:
    """The labels of B images."""

    predicted: Tensor  # (B, C) bool, the set of labels
    scores: Tensor | None = None  # (B, C) float32 in 0..1, of systems that score all labels
    decoded: Decoded | None = None  # of systems that name a label sequence


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
        """The features of the images of a batch: those it brings, or its images encoded."""
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

    def predict(self, features: Features) -> Prediction:
        """The labels of B images from their features, as the encoder gives them; call in eval mode."""
        raise NotImplementedError

    def unmasked_tokens(self, features: Features) -> Tensor | None:
        """(B, T) int64, what a decoder says where it may repeat labels; None for systems without a label sequence."""
        return None

    def calibrate(self, scores: Tensor, target: Tensor) -> None:
        """Choose what is chosen after training, on *validation* scores and targets (N, C). Nothing by default."""
