"""A decoder that names labels one by one, trained on sets: it decides itself in which order to name them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary
from helpers.decoders.attention import doubly_stochastic_penalty
from helpers.decoders.base import FREE, Decoder, most_probable, stack_attention, unroll
from helpers.systems.alignment import ALIGNMENTS, align
from helpers.systems.losses import sequence_cross_entropy
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
    """Let a decoder read its own most probable outputs, with gradient. Taught in notebook 05.

    Nothing waits for the host, and no step is left out after a `<stop>`: training needs the scores of all of them.
    No gradient passes through the choice of what is fed back; it does pass through the decoder's memory.

    features: of B images. steps: T >= 1.
    feed_stop: a `<stop>` that scores highest is fed back like any label (as the published code does); otherwise the
        best label is fed back instead.
    mask_repeats: a label that was fed back is not fed back again. (The scores themselves stay as they are.)
    forced: (B,) bool, images that read the true labels instead; labels: (B, T') int64, T' <= T, what they read.
    Returns logits (B, T, V), attention (B, T, L) or None, and what was fed in, (B, T) int64, `<start>` first.
    """
    if forced is not None:
        # (B, T): past its last column a row of labels goes on with that column, which is `<stop>`.
        columns = torch.arange(steps, device=labels.device).clamp(max=labels.shape[1] - 1)
        forced = labels[:, columns].masked_fill(~forced.unsqueeze(1), FREE)
    inputs, logits, attention = (
        [torch.full_like(features.pooled[:, 0], decoder.start_token, dtype=torch.int64)],
        [],
        [],
    )
    for step in unroll(
        decoder,
        features,
        most_probable,
        steps=steps,
        forced=forced,
        repeats=not mask_repeats,
        min_labels=0 if feed_stop else steps,
    ):
        logits.append(step.logits)
        attention.append(step.attention)
        inputs.append(step.tokens)
    return torch.stack(logits, 1), stack_attention(attention), torch.stack(inputs[:-1], 1)


class OrderFreeSystem(SequenceSystem):
    """A decoder trained free running on targets that are aligned with what it says. Taught in notebook 05.

    The decoder reads its own most probable outputs, in training as in use. Then the labels of each image are handed
    out to the steps by `alignment.align`, and the loss is the cross-entropy of the steps up to `<stop>`: the order
    of the labels in a batch is of no account. Yazici et al., "Orderless Recurrent Models for Multi-label
    Classification", CVPR 2020.

    method: "mla", "pla" or "pla_released", see `align`. The released PLA also looks at what is said after the last
        label, so it runs max_labels + 2 steps, as its code does; the others run as many as the batch needs.
    feed_stop, mask_repeats: what is fed back in training, see `run_free`. Prediction does not repeat labels anyway.
    teacher_forcing: share of the images, drawn anew at every training step, that read their labels in the order of
        the batch and are to say them in that order. It falls from this value to 0 along a line over the first
        `teacher_forcing_steps` training steps. The steps are counted in the buffer `steps_taken`, which is part of
        the state, and the draw comes from torch's generator, which `fit` seeds in every epoch: so a resumed run
        mixes as the uninterrupted one did. In eval mode there is no mixing.
    auxiliary_bce: weight of the binary cross-entropy (mean over images and labels) of a linear head on the pooled
        feature, of size `feature_size`; 0 for no head. It teaches the encoder, so it does little with a frozen one.
    Other arguments: those of `SequenceSystem`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        decoder: Decoder,
        *,
        max_labels: int,
        method: str = "mla",
        feed_stop: bool = True,
        mask_repeats: bool = False,
        teacher_forcing: float = 0.0,
        teacher_forcing_steps: int = 0,
        auxiliary_bce: float = 0.0,
        feature_size: int | None = None,
        encoder: nn.Module | None = None,
        prepare: nn.Module | None = None,
        label_smoothing: float = 0.0,
        attention_penalty: float = 0.0,
    ) -> None:
        super().__init__(
            vocabulary,
            decoder,
            max_labels=max_labels,
            encoder=encoder,
            prepare=prepare,
            label_smoothing=label_smoothing,
            attention_penalty=attention_penalty,
        )
        if method not in ALIGNMENTS:
            raise ValueError(f"there is no alignment {method!r}; choose one of {', '.join(ALIGNMENTS)}")
        if not 0 <= teacher_forcing <= 1:
            raise ValueError(f"teacher_forcing is {teacher_forcing}; it is a share and must be in 0..1")
        if (teacher_forcing > 0) != (teacher_forcing_steps > 0):
            raise ValueError(
                f"teacher_forcing is {teacher_forcing} over teacher_forcing_steps = {teacher_forcing_steps} steps: "
                "give both, or neither"
            )
        if auxiliary_bce < 0 or (auxiliary_bce and feature_size is None):
            raise ValueError(
                f"auxiliary_bce is {auxiliary_bce} and feature_size {feature_size}: the weight must be at least 0, "
                "and the head needs the size of the pooled feature"
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
        features = self.features(batch)
        forced = self._forced(batch)
        steps = batch.labels.shape[1]
        if self.method == "pla_released":
            steps = max(steps, self.max_labels + 2)
        logits, attention, _ = run_free(
            self.decoder,
            features,
            steps=steps,
            feed_stop=self.feed_stop,
            mask_repeats=self.mask_repeats,
            forced=forced,
            labels=batch.labels,
        )
        targets = align(logits, batch.labels, batch.lengths, self.method)
        if forced is not None:
            targets = torch.where(forced.unsqueeze(1), batch.labels, targets)
        logits = logits[:, : targets.shape[1]]
        loss = sequence_cross_entropy(logits, targets, batch.lengths, label_smoothing=self.label_smoothing)
        if self.attention_penalty:
            attention = attention[:, : targets.shape[1]]
            loss = loss + self.attention_penalty * doubly_stochastic_penalty(attention, batch.lengths)
        if self.auxiliary_head is not None:
            scores = self.auxiliary_head(features.pooled).float()
            loss = loss + self.auxiliary_bce * binary_cross_entropy_with_logits(scores, batch.multi_hot)
        return loss

    def _forced(self, batch: Batch) -> Tensor | None:
        """(B,) bool, the images that are taught by force at this step, or None without mixing."""
        if not (self.training and self.teacher_forcing):
            return None
        left = (1 - self.steps_taken / self.teacher_forcing_steps).clamp(min=0)
        self.steps_taken += 1
        return torch.rand(len(batch), device=batch.labels.device) < self.teacher_forcing * left
