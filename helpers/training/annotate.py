"""Label images from the command line: `python -m helpers predict image.jpg --checkpoint runs/ria/checkpoint.safetensors`.

Prints the labels with their probabilities and saves a picture with both beside each image; a captioner's sentence in
their place. With --attention it also saves where a system with attention looked at each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from helpers.data.batches import Batch, Features
from helpers.data.images import eval_transform
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.label_decoder import LabelDecoder
from helpers.systems.base import Prediction
from helpers.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class NamedLabels:
    """The labels of one image: names and probabilities, in the order they are to be read.

    For a classifier, probability is that of the label and the best come first; for a decoder it is that of the label
    at the step that named it, and the order is the decoder's own.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


def name_labels(prediction: Prediction, checkpoint: Checkpoint) -> list[NamedLabels]:
    """A batch of predictions as names, one `NamedLabels` an image. Taught in notebook 00."""
    result = []
    for row in range(len(prediction.predicted)):
        if prediction.decoded is not None:
            n = int(prediction.decoded.lengths[row])
            ids = prediction.decoded.tokens[row, :n].tolist()
            probabilities = prediction.decoded.step_probability[row, :n].tolist()
        else:
            chosen = prediction.predicted[row].nonzero().flatten()
            ids = chosen[prediction.scores[row, chosen].argsort(descending=True, stable=True)].tolist()
            probabilities = prediction.scores[row, ids].tolist()
        result.append(NamedLabels(tuple(checkpoint.vocabulary.decode(ids)), tuple(probabilities)))
    return result


def _images(checkpoint: Checkpoint, images: list[Image.Image]) -> Tensor:
    """RGB images of any size, preprocessed: (B, 3, S, S) float32 on the checkpoint's device."""
    transform = eval_transform(checkpoint.preprocessing)
    device = next(checkpoint.system.parameters()).device
    return torch.stack([transform(image) for image in images]).to(device)


@torch.inference_mode()
def encode_images(checkpoint: Checkpoint, images: list[Image.Image]) -> Features:
    """The features of RGB images (any size), as the checkpoint's system gets them from its encoder."""
    return checkpoint.system.encoder(_images(checkpoint, images))


@torch.inference_mode()
def predict_images(checkpoint: Checkpoint, images: list[Image.Image]) -> Prediction:
    """Label RGB images (any size) with a checkpoint, all in one batch. Taught in notebook 00."""
    size, count = len(images), len(checkpoint.vocabulary)
    pixels = _images(checkpoint, images)
    batch = Batch(
        index=torch.arange(size),
        labels=torch.full((size, 1), checkpoint.vocabulary.stop),
        lengths=torch.zeros(size, dtype=torch.int64),
        multi_hot=torch.zeros(size, count),
        images=pixels,
    )
    return checkpoint.system.predict(batch.to(pixels.device))


def require_attention(checkpoint: Checkpoint, path: Path) -> None:
    """Raise ValueError where the checkpoint's system does not attend."""
    system = checkpoint.system
    if isinstance(getattr(system, "network", None), LabelDecoder):
        return
    if not isinstance(getattr(system, "decoder", None), AttentionLSTM):
        raise ValueError(
            f"the system in {path} ({checkpoint.config.get('system', 'of another kind')}) has no attention to show: "
            "leave out --attention, or train one that has, with python -m helpers train --system attention (or "
            "attention_captioner)"
        )
