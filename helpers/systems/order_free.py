"""A decoder that names labels one by one, trained on sets: it decides itself in which order to name them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary
from helpers.decoders.base import FREE, Decoder, most_probable, stack_attention, unroll
from helpers.systems.alignment import align
from helpers.systems.sequence import SequenceSystem


def run_free(
    decoder: Decoder,
    features: Features,
    *,
    steps: int,
    feed_stop: bool = True,
    mask_repeats: bool = False,
    forced: Tensor | None = None,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Let a decoder read its own most probable outputs, with gradient through its state, not through the choice.

    No step is left out after a `<stop>`: training needs the scores of all of them.

    features: of B images. steps: T >= 1.
    feed_stop: a `<stop>` that scores highest is read next like any label (as in the published code); otherwise the
        best label is read instead.
    mask_repeats: a label that was read is not read again. (The logits themselves stay as they are.)
    forced: (B,) bool, images that read the true labels instead; labels: (B, T') int64, T' <= T, what they read.
    Returns logits (B, T, V), attention (B, T, L) or None, and what was read, (B, T) int64, `<start>` first.
    """
    truth = None
    if forced is not None:
        # (B, T'), then `<stop>`, the last column, again and again up to (B, T).
        columns = torch.arange(steps, device=labels.device).clamp(max=labels.shape[1] - 1)
        truth = labels[:, columns].masked_fill(~forced.unsqueeze(1), FREE)
    limits = {"repeats": not mask_repeats, "min_labels": 0 if feed_stop else steps}
    logits, attention, tokens = [], [], []
    for step in unroll(decoder, features, most_probable, steps=steps, forced=truth, **limits):
        logits.append(step.logits)
        attention.append(step.attention)
        tokens.append(step.tokens)
    inputs = torch.stack(tokens, 1).roll(1, 1)
    inputs[:, 0] = decoder.start_token
    return torch.stack(logits, 1), stack_attention(attention), inputs


class OrderFreeSystem(SequenceSystem):
    """A decoder trained free running, on targets that are aligned with what it says.

    The decoder reads its own most probable outputs, in training as in use. Then `alignment.align` assigns the labels of
    each image to the steps, and the loss is the cross-entropy of the steps up to `<stop>`: the order of the labels in
    a batch does not matter. Yazici et al., "Orderless Recurrent Models for Multi-label Classification", CVPR 2020.

    method: "mla", "pla" or "pla_released", see `align`. The released PLA also looks at what is said after the last
        label, so it runs max_labels + 2 steps, as its code does; the others run as many as the batch needs.
    feed_stop, mask_repeats: what is read next in training, see `run_free`. Prediction does not repeat labels anyway.
    teacher_forcing: share of the images, drawn anew at every training step, that read their labels in the order of
        the batch and are to say them in that order. It falls linearly to 0 over the first `teacher_forcing_steps`
        training steps. They are counted in a buffer, so a resumed run mixes as the uninterrupted one did.
    auxiliary_bce: weight of the binary cross-entropy of a linear head on the pooled feature, of size `feature_size`; 0
        for no head. It teaches the encoder, so it does little with a frozen one.
    Other arguments: those of `SequenceSystem`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        decoder: Decoder,
        *,
        feature_size: int = 0,
        method: str = "mla",
        feed_stop: bool = True,
        mask_repeats: bool = False,
        teacher_forcing: float = 0.0,
        teacher_forcing_steps: int = 0,
        auxiliary_bce: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary, decoder, **options)
        if (teacher_forcing > 0) != (teacher_forcing_steps > 0):
            raise ValueError(
                f"teacher_forcing is {teacher_forcing} over teacher_forcing_steps = {teacher_forcing_steps} steps: "
                "give both, or neither"
            )
        self.method = method
        self.feed_stop = feed_stop
        self.mask_repeats = mask_repeats
        self.teacher_forcing = teacher_forcing
        self.teacher_forcing_steps = teacher_forcing_steps
        if teacher_forcing:
            self.register_buffer("steps_taken", torch.zeros((), dtype=torch.int64))
        self.auxiliary_bce = auxiliary_bce
        self.auxiliary_head = nn.Linear(feature_size, len(vocabulary)) if auxiliary_bce else None

    def loss(self, batch: Batch) -> Tensor:
        features = self.decoder_features(self.features(batch))
        forced = self._forced(batch)
        most = batch.labels.shape[1]
        steps = max(most, self.max_labels + 2) if self.method == "pla_released" else most
        reads = {"feed_stop": self.feed_stop, "mask_repeats": self.mask_repeats}
        logits, attention, _ = run_free(
            self.decoder, features, steps=steps, forced=forced, labels=batch.labels, **reads
        )
        targets = align(logits, batch.labels, batch.lengths, self.method)
        if forced is not None:
            targets = torch.where(forced.unsqueeze(1), batch.labels, targets)
        attention = None if attention is None else attention[:, :most]
        loss = self.sequence_loss(logits[:, :most], attention, targets, batch.lengths)
        if self.auxiliary_head is not None:
            scores = self.auxiliary_head(features.pooled).float()
            loss = loss + self.auxiliary_bce * binary_cross_entropy_with_logits(scores, batch.multi_hot)
        return loss

    def _forced(self, batch: Batch) -> Tensor | None:
        """(B,) bool, the images with teacher forcing at this step, or None without mixing."""
        if not (self.training and self.teacher_forcing):
            return None
        left = (1 - self.steps_taken / self.teacher_forcing_steps).clamp(min=0)
        self.steps_taken += 1
        return torch.rand(len(batch), device=batch.labels.device) < self.teacher_forcing * left
