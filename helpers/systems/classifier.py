"""Systems with a score for every label, and thresholds that turn the scores into a set; the baseline is one of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary
from helpers.decoders.base import FeatureNorm
from helpers.metrics.thresholds import apply_thresholds, choose_global, choose_mcc, top_k_mask
from helpers.systems.base import Prediction, System
from helpers.systems.losses import asymmetric_loss, focal_loss, lsep_loss
from helpers.systems.options import THRESHOLDS

CLASSIFICATION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": binary_cross_entropy_with_logits,
    "focal": focal_loss,
    "asymmetric": asymmetric_loss,
    "lsep": lsep_loss,
}


class ScoringSystem(System):
    """A network with a score for every label, and thresholds that make a set of the scores.

    network: `Features` -> logits (B, C).
    loss: of `CLASSIFICATION_LOSSES`. "lsep" only ranks the labels of an image: its scores need chosen thresholds.
    thresholds: "global" (one value for all labels), "mcc" (one per label) or "top<k>" (the k best labels of every
        image); `calibrate` chooses the values on validation. Until then the threshold is 0.5.
    detach_focus: of the asymmetric loss.
    """

    select = "mAP"

    def __init__(
        self,
        vocabulary: Vocabulary,
        network: nn.Module | None = None,
        *,
        encoder: nn.Module | None = None,
        loss: str = "bce",
        thresholds: str = "global",
        detach_focus: bool = False,
    ) -> None:
        super().__init__(vocabulary, encoder)
        self.use_thresholds(thresholds)
        self.network = network
        self.objective = CLASSIFICATION_LOSSES[loss]
        if detach_focus:
            self.objective = partial(self.objective, detach_focus=True)
        self.register_buffer("thresholds", torch.full((len(vocabulary),), 0.5))

    def use_thresholds(self, rule: str) -> None:
        """Another rule, as `thresholds` above; call `calibrate` after it, the old values stay until then."""
        if not THRESHOLDS.holds(rule):
            raise ValueError(f"thresholds is {rule!r}; it must be {THRESHOLDS.text}")
        self.threshold_rule = rule

    def logits(self, features: Features) -> Tensor:
        """(B, C) before the sigmoid."""
        return self.network(features)

    def loss(self, batch: Batch) -> Tensor:
        return self.objective(self.logits(self.features(batch)).float(), batch.multi_hot)

    def predict(self, features: Features) -> Prediction:
        scores = self.logits(features).float().sigmoid()
        if self.threshold_rule.startswith("top"):
            return Prediction(top_k_mask(scores, int(self.threshold_rule[3:])), scores)
        return Prediction(apply_thresholds(scores, self.thresholds), scores)

    def calibrate(self, scores: Tensor, target: Tensor) -> None:
        if self.threshold_rule == "global":
            self.thresholds.fill_(choose_global(scores, target, metric="OF1"))
        elif self.threshold_rule == "mcc":
            # A label without a positive on validation has no MCC of its own.
            self.thresholds.copy_(choose_mcc(scores, target, default=choose_global(scores, target)))


class Classifier(ScoringSystem):
    """CNN with a head that scores every label on its own: the baseline.

    The features are standardised first (batch-norm): without it a linear head on frozen features learns slowly, and
    looks far worse than it is.

    hidden_size: units of a hidden layer (linear, ReLU) before the linear scores; 0 for none.
    Other options: those of `ScoringSystem`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        feature_size: int,
        *,
        hidden_size: int = 0,
        dropout: float = 0.3,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary, **options)
        layers: list[nn.Module] = [FeatureNorm(feature_size)]
        if hidden_size:
            layers += [nn.Dropout(dropout), nn.Linear(feature_size, hidden_size), nn.ReLU()]
        last = nn.Linear(hidden_size or feature_size, len(vocabulary))
        self.head = nn.Sequential(*layers, nn.Dropout(0.5 if hidden_size else dropout), last)

    def logits(self, features: Features) -> Tensor:
        return self.head(features.pooled)
