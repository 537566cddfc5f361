"""Label images from the command line: `python -m helpers.predict image.jpg --checkpoint runs/ria/checkpoint.safetensors`.

Prints the labels with their probabilities and saves a picture with both beside each image; a captioner's sentence in
their place. With --attention it also saves where a system with attention looked at each step.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from helpers.attention import AttentionLSTM
from helpers.batch import Batch, Features
from helpers.captioner import Captioner, Decoding
from helpers.checkpoints import Checkpoint, load_checkpoint
from helpers.crops import layout, on_image
from helpers.files import replacing
from helpers.images import DataError, open_image
from helpers.label_decoder import LabelDecoder
from helpers.options import pick_device, real, require_folder, whole
from helpers.prediction import Prediction
from helpers.transforms import eval_transform

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
            "leave out --attention, or train one that has, with python -m helpers.train --system attention (or "
            "attention_captioner)"
        )


@torch.inference_mode()
def film_of(prediction: Prediction, checkpoint: Checkpoint, image: Image.Image) -> Figure:
    """Where the system looked for each label it named, over the image: the first of the prediction. Notebook 04."""
    from helpers.attention_plots import Frame, film_strip, frames

    level, cells = layout(checkpoint.system.encoder)
    if prediction.decoded is not None:
        film = frames(prediction.decoded, checkpoint.vocabulary.labels)
    else:
        attention = checkpoint.system.network.attend(encode_images(checkpoint, [image])).attention[0].cpu()
        named = name_labels(prediction, checkpoint)[0]
        ids = checkpoint.vocabulary.encode(named.labels)
        triples = zip(attention[ids], named.labels, named.probabilities, strict=True)
        film = [Frame(weights, label, probability) for weights, label, probability in triples]
    # Tokens of crops become one map of the image, finer than the whole view's.
    film = [frame._replace(weights=on_image(frame.weights, level, cells).flatten()) for frame in film]
    return film_strip(image, {"image": film}, tuple(max(level, 1) * side for side in cells))


def parser() -> argparse.ArgumentParser:
    """All options."""
    p = argparse.ArgumentParser(
        prog="python -m helpers.predict", description="Name the labels of images, or caption them."
    )
    p.add_argument("images", nargs="+", type=Path, help="image files")
    p.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="checkpoint.safetensors of a training folder, or the folder",
    )
    p.add_argument("--output", type=Path, help="folder for the pictures (default: beside each image)")
    p.add_argument(
        "--attention",
        action="store_true",
        help="also save <name>-attention.png: where the system looked for each label or word",
    )
    g = p.add_argument_group("captioners")
    g.add_argument(
        "--beam",
        type=whole(1),
        help="sentences that a beam search keeps; 1 is greedy (default: as it was trained)",
    )
    g.add_argument(
        "--temperature",
        type=real(0),
        default=0.0,
        help="draw the words, above 1 wilder (default: 0, no drawing)",
    )
    g.add_argument("--seed", type=int, default=0, help="of the drawing (default: %(default)s)")
    p.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps (default: %(default)s)")
    return p


def run(args: argparse.Namespace) -> None:
    """Label or caption every image; pictures are <name>-labels.png or -caption.png, film strips -attention.png.

    An image that cannot be read does not keep the others from their labels. Raises DataError after the last of them.
    """
    from helpers.plots import image_grid, labelled_image, to_png

    device = pick_device(args.device)
    if args.output is not None:
        require_folder(args.output)
    images = list(dict.fromkeys(args.images))
    _refuse_same_pictures(images, args.output)
    checkpoint = load_checkpoint(args.checkpoint, device=device)
    system = checkpoint.system
    if isinstance(system, Captioner):
        if args.beam is not None or args.temperature:
            generator = torch.Generator(device).manual_seed(args.seed)
            system.decoding = Decoding(beam=args.beam or 1, temperature=args.temperature, generator=generator)
    elif args.beam is not None or args.temperature:
        raise ValueError(
            f"--beam and --temperature are for captioners; the system in {args.checkpoint} names labels: leave them out"
        )
    if args.attention:
        require_attention(checkpoint, args.checkpoint)
    unreadable = []
    for path in images:
        try:
            image = open_image(path)
        except DataError as error:
            unreadable.append(str(error))
            continue
        prediction = predict_images(checkpoint, [image])
        print(f"{path}")
        if isinstance(system, Captioner):
            [caption] = system.sentences(prediction.decoded)
            print(f"  {caption or 'no word'}")
            figure = image_grid([image], [caption], columns=1, side=5)
        else:
            named = name_labels(prediction, checkpoint)[0]
            for label, probability in zip(named.labels, named.probabilities, strict=True):
                print(f"  {probability:5.2f}  {label}")
            if not named.labels:
                print("  no label")
            figure = labelled_image(image, named.labels, named.probabilities, title=path.name)
        kind = "caption" if isinstance(system, Captioner) else "labels"
        target = (args.output or path.parent) / f"{path.stem}-{kind}.png"
        with replacing(target) as temporary:
            temporary.write_bytes(to_png(figure))
        print(f"  picture: {target}")
        if args.attention and (prediction.decoded is not None or prediction.predicted.any()):
            target = target.with_name(f"{path.stem}-attention.png")
            with replacing(target) as temporary:
                temporary.write_bytes(to_png(film_of(prediction, checkpoint, image)))
            print(f"  attention: {target}")
    if unreadable:
        raise DataError("\nerror: ".join(unreadable))


def _refuse_same_pictures(images: list[Path], output: Path | None) -> None:
    """Raise ValueError where the picture of one image would replace that of another."""
    pictures: dict[Path, Path] = {}
    for path in images:
        target = (output or path.parent) / path.stem
        if (other := pictures.setdefault(target, path)) != path:
            raise ValueError(
                f"the pictures of {other} and of {path} would be the same file, {target}-…png: label them one after "
                "the other, each with an --output of its own"
            )


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
