"""Label images from the command line: `python -m helpers.predict image.jpg --checkpoint runs/ria/checkpoint.safetensors`.

Prints the labels with their probabilities and saves a picture with both beside each image.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from helpers.batch import Batch
from helpers.checkpoints import Checkpoint, load_checkpoint
from helpers.files import replacing
from helpers.images import open_image
from helpers.systems import Prediction
from helpers.transforms import eval_transform


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


@torch.inference_mode()
def predict_images(checkpoint: Checkpoint, images: list[Image.Image]) -> Prediction:
    """Label RGB images (any size) with a checkpoint, all in one batch. Taught in notebook 00."""
    transform = eval_transform(checkpoint.preprocessing)
    device = next(checkpoint.system.parameters()).device
    size, count = len(images), len(checkpoint.vocabulary)
    batch = Batch(
        index=torch.arange(size),
        labels=torch.full((size, 1), checkpoint.vocabulary.stop),
        lengths=torch.zeros(size, dtype=torch.int64),
        multi_hot=torch.zeros(size, count),
        images=torch.stack([transform(image) for image in images]),
    )
    return checkpoint.system.predict(batch.to(device))


def parser() -> argparse.ArgumentParser:
    """All options."""
    p = argparse.ArgumentParser(prog="python -m helpers.predict", description="Name the labels of images.")
    p.add_argument("images", nargs="+", type=Path, help="image files")
    p.add_argument(
        "--checkpoint", type=Path, required=True, help="checkpoint.safetensors of a training folder"
    )
    p.add_argument("--output", type=Path, help="folder for the pictures (default: beside each image)")
    p.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    return p


def run(args: argparse.Namespace) -> None:
    """Label every image; each picture is saved as <name>-labels.png."""
    from helpers.plots import labelled_image, to_png

    checkpoint = load_checkpoint(args.checkpoint, device=args.device)
    for path in args.images:
        image = open_image(path)
        named = name_labels(predict_images(checkpoint, [image]), checkpoint)[0]
        print(f"{path}")
        for label, probability in zip(named.labels, named.probabilities, strict=True):
            print(f"  {probability:5.2f}  {label}")
        if not named.labels:
            print("  no label")
        target = (args.output or path.parent) / f"{path.stem}-labels.png"
        with replacing(target) as temporary:
            temporary.write_bytes(
                to_png(labelled_image(image, named.labels, named.probabilities, title=path.name))
            )
        print(f"  picture: {target}")


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors that the user can mend are printed as one line."""
    args = parser().parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
