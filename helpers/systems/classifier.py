"""Systems with a score for every label and thresholds that turn scores into a set; the baseline is one of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.data.batches import Batch
from helpers.data.labels import Vocabulary
from helpers.decoders.base import FeatureNorm
from helpers.metrics.thresholds import apply_thresholds, choose_global, choose_mcc, top_k_mask
from helpers.systems.base import Prediction, System
from helpers.systems.losses import asymmetric_loss, focal_loss

CLASSIFICATION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": binary_cross_entropy_with_logits,
    "focal": focal_loss,
    "asymmetric": asymmetric_loss,
}


def known_rule(rule: str) -> str:
    """The same rule for thresholds, if `ScoringSystem` has it; ValueError otherwise."""
    if rule not in ("global", "mcc") and not (
        rule.startswith("top") and rule[3:].isdecimal() and int(rule[3:])
    ):
        raise ValueError(f"thresholds is {rule!r}; choose 'global', 'mcc' or 'top3' (any number from 1)")
    return rule


class ScoringSystem(System):
    """A system with a score for every label, and thresholds that make a set of them. Taught in notebook 02.

    network: `Features` -> logits (B, C).
    loss: of `CLASSIFICATION_LOSSES`.
    thresholds: "global" (one value for all labels), "mcc" (one a label) or "top<k>" (the k best labels of every
        image); `calibrate` chooses the values on validation. Until then the threshold is 0.5.
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
    ) -> None:
        super().__init__(vocabulary, encoder)
        if loss not in CLASSIFICATION_LOSSES:
            raise ValueError(f"there is no loss {loss!r}; choose one of {sorted(CLASSIFICATION_LOSSES)}")
        self.use_thresholds(thresholds)
        self.network = network
        self.objective = CLASSIFICATION_LOSSES[loss]
        self.register_buffer("thresholds", torch.full((len(vocabulary),), 0.5))

    def use_thresholds(self, rule: str) -> None:
        """Another rule, as `thresholds` above; call `calibrate` after it, the old values stay until then."""
        self.threshold_rule = known_rule(rule)

    def logits(self, batch: Batch) -> Tensor:
        """(B, C) before the sigmoid."""
        return self.network(self.features(batch))

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


class Classifier(ScoringSystem):
    """CNN with a head that scores every label on its own: the baseline. Taught in notebook 02.

    hidden_size: units of a hidden layer (batch-norm, linear, ReLU) before the linear scores; 0 for none.
    loss, thresholds: see `ScoringSystem`.
    """

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
        super().__init__(vocabulary, encoder=encoder, loss=loss, thresholds=thresholds)
        layers: list[nn.Module] = []
        if hidden_size:
            layers = [
                FeatureNorm(feature_size),
                nn.Dropout(dropout),
                nn.Linear(feature_size, hidden_size),
                nn.ReLU(),
            ]
        last = nn.Linear(hidden_size or feature_size, len(vocabulary))
        self.head = nn.Sequential(*layers, nn.Dropout(0.5 if hidden_size else dropout), last)

    def logits(self, batch: Batch) -> Tensor:
        return self.head(self.features(batch).pooled)
