"""Label images with a trained system: pictures in, names with probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from helpers.data.batches import Features
from helpers.data.images import eval_transform
from helpers.systems.base import Prediction
from helpers.training.checkpoints import Checkpoint


@dataclass(frozen=True)
class NamedLabels:
    """The labels of one image: names and probabilities, in the order they are to be read.

    For a classifier, probability is that of the label and the best come first; for a decoder it is that of the label
    at the step that named it, and the order is the decoder's own.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


def name_labels(prediction: Prediction, checkpoint: Checkpoint) -> list[NamedLabels]:
    """A batch of predictions as names, one `NamedLabels` per image."""
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


@torch.inference_mode()
def encode_images(checkpoint: Checkpoint, images: Sequence[Image.Image]) -> Features:
    """The features of RGB images of any size, as the checkpoint's system gets them from its encoder."""
    transform = eval_transform(checkpoint.preprocessing)
    device = next(checkpoint.system.parameters()).device
    pixels = torch.stack([transform(image) for image in images])  # (B, 3, S, S)
    return checkpoint.system.encoder(pixels.to(device))


@torch.inference_mode()
def predict_images(checkpoint: Checkpoint, images: Sequence[Image.Image]) -> Prediction:
    """Label RGB images of any size with a checkpoint, all in one batch."""
    return checkpoint.system.predict(encode_images(checkpoint, images))
