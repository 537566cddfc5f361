"""Label images from the command line: `python -m helpers predict image.jpg --checkpoint runs/ria/checkpoint.safetensors`.

Prints the labels with their probabilities and saves a picture with both beside each image; a captioner's sentence in
their place. With --attention it also saves where a system with attention looked at each step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from helpers.data.files import replacing
from helpers.data.images import DataError, open_image
from helpers.plots import film_of
from helpers.systems.captioner import Captioner, Decoding
from helpers.training.annotate import name_labels, predict_images, require_attention
from helpers.training.checkpoints import load_checkpoint
from helpers.training.config import pick_device, real, require_folder, whole

if TYPE_CHECKING:
    pass


def parser() -> argparse.ArgumentParser:
    """All options."""
    p = argparse.ArgumentParser(
        prog="python -m helpers predict", description="Name the labels of images, or caption them."
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
