"""Label images from the command line: `python -m helpers predict photos/ --checkpoint runs/ria --csv labels.csv`.

Labels with their probabilities, or a captioner's sentence, for files, folders, globs and lists of files. Pictures of
them are drawn only into a folder that is asked for.
"""

from __future__ import annotations

import csv
import glob
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from helpers.commands.parser import fail, parse, printable
from helpers.systems.options import COUNT, NOT_NEGATIVE, SHARE_OR_ALL, Options, option
from helpers.training.config import SEED, pick_device, require_folder

if TYPE_CHECKING:
    from PIL import Image

    from helpers.training.checkpoints import Checkpoint


PHOTOGRAPHS = "photo_attention.safetensors"  # in data/; its card is beside it


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Options):
    """What is labelled, by what, and where the answers go."""

    heading: ClassVar[str] = "what is labelled"
    images: tuple[str, ...] = option(
        ..., "image files, folders of them, patterns such as 'a/*.jpg', or @FILE with one of these per line",
        flag="", metavar="IMAGES", basic=True,
    )  # fmt: skip
    checkpoint: Path | None = option(
        None,
        "a training folder, or its checkpoint.safetensors; else the course's model for photographs",
        basic=True,
    )
    csv: Path | None = option(None, "write file,labels,probabilities to this CSV", metavar="FILE", basic=True)
    jsonl: Path | None = option(
        None, "write one JSON object per image to this file", metavar="FILE", basic=True
    )
    pictures: Path | None = option(
        None, "draw each image with its labels into this folder", metavar="DIR", basic=True
    )
    attention: bool = option(False, "draw there too where the system looked", basic=True)
    top: int | None = option(None, "name exactly N labels", COUNT, basic=True)
    threshold: float | None = option(
        None, "name labels of at least this score, for systems that score all", SHARE_OR_ALL, basic=True
    )
    batch_size: int = option(32, "images at once", COUNT, basic=True)
    device: str = option("auto", "auto, cpu, cuda or mps", basic=True)
    beam: int | None = option(
        None, "captioners: sentences that a beam search keeps; 1 is greedy", COUNT, basic=True
    )
    temperature: float = option(
        0.0, "captioners: above 0 draws the words; above 1 wilder", NOT_NEGATIVE, basic=True
    )
    seed: int = option(0, "captioners: of the drawing", SEED, basic=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention and not self.pictures:
            raise ValueError("--attention draws pictures: say into which folder with --pictures DIR")
        if self.top and self.threshold is not None:
            raise ValueError("--top and --threshold both choose the labels: give one of them")


def find_images(words: Sequence[str]) -> list[Path]:
    """The images that files, folders, patterns and @lists name, each once. A file that is named is taken as it is.

    Raises ValueError for a word that names nothing.
    """
    from helpers.data.readers import IMAGE_SUFFIXES

    result: dict[Path, None] = {}
    for word in words:
        if word.startswith("@"):
            lines = Path(word[1:]).read_text(encoding="utf-8").splitlines()
            found = find_images([line.strip() for line in lines if line.strip()])
        elif Path(word).is_dir():
            found = sorted(p for p in Path(word).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        elif Path(word).exists() or not glob.has_magic(word):
            found = [Path(word)]
        else:
            found = [Path(name) for name in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207  (a Path cannot glob an absolute pattern)
        if not found:
            raise ValueError(f"{word}: there is no image there")
        result |= dict.fromkeys(found)
    return list(result)


def adjust(checkpoint: Checkpoint, o: PredictOptions) -> None:
    """What the options change in how the system names labels or finds sentences. Raises ValueError where it cannot."""
    import torch

    from helpers.systems.captioner import Captioner, Decoding
    from helpers.systems.classifier import ScoringSystem

    system = checkpoint.system
    if o.attention and not checkpoint.options.attends:
        raise ValueError(
            f"this system ({checkpoint.name}) has no attention to show: leave out --attention, or "
            "train one that has, such as attention or attention_captioner"
        )
    if isinstance(system, Captioner):
        if o.top or o.threshold is not None:
            raise ValueError(f"{checkpoint.name} writes sentences: --top and --threshold are for labels")
        if o.beam is not None or o.temperature:
            generator = torch.Generator(pick_device(o.device)).manual_seed(o.seed)
            system.decoding = Decoding(beam=o.beam or 1, temperature=o.temperature, generator=generator)
        return
    if o.beam is not None or o.temperature:
        raise ValueError(
            f"--beam and --temperature are for captioners; {checkpoint.name} names labels: leave them out"
        )
    if isinstance(system, ScoringSystem):
        if o.top:
            system.use_thresholds(f"top{o.top}")
        if o.threshold is not None:
            system.use_thresholds("global")
            system.thresholds.fill_(o.threshold)
    elif o.threshold is not None:
        raise ValueError(f"{checkpoint.name} does not score every label: use --top, or leave out --threshold")
    elif o.top:
        system.search_with(beam_width=system.beam_width, top_k=o.top)


def answers(
    checkpoint: Checkpoint, paths: Sequence[Path], batch_size: int, unreadable: list[str]
) -> Iterator[tuple[Path, Image.Image, dict[str, Any]]]:
    """(path, image, its labels and probabilities, or its caption), in order. Errors of images go to `unreadable`."""
    from tqdm.auto import tqdm

    from helpers.data.images import DataError, open_image
    from helpers.training.annotate import name_labels, predict_images

    words = checkpoint.options.learns == "words"
    with tqdm(total=len(paths), unit="image", disable=len(paths) <= batch_size) as bar:
        for first in range(0, len(paths), batch_size):
            images: dict[Path, Image.Image] = {}
            for path in paths[first : first + batch_size]:
                try:
                    images[path] = open_image(path)
                except DataError as error:
                    unreadable.append(str(error))
            if images:
                prediction = predict_images(checkpoint, list(images.values()))
                if words:
                    found = [{"caption": text} for text in checkpoint.system.sentences(prediction.decoded)]
                else:
                    found = [asdict(named) for named in name_labels(prediction, checkpoint)]
                yield from zip(images, images.values(), found, strict=True)
            bar.update(len(paths[first : first + batch_size]))


def draw(
    checkpoint: Checkpoint, o: PredictOptions, path: Path, image: Image.Image, found: dict[str, Any]
) -> None:
    """<name>-labels.png or -caption.png, and with --attention <name>-attention.png, into --pictures."""
    from helpers.data.files import replacing
    from helpers.plots import film_of, image_grid, labelled_image, to_png
    from helpers.training.annotate import predict_images

    if "caption" in found:
        figures = {"caption": image_grid([image], [found["caption"]], columns=1, side=5)}
    else:
        figures = {"labels": labelled_image(image, found["labels"], found["probabilities"], title=path.name)}
    if o.attention and (found.get("labels") or "caption" in found):
        figures["attention"] = film_of(predict_images(checkpoint, [image]), checkpoint, image)
    for kind, figure in figures.items():
        with replacing(o.pictures / f"{path.stem}-{kind}.png") as temporary:
            temporary.write_bytes(to_png(figure))


def run(o: PredictOptions) -> int:
    """Label or caption every image. An image that cannot be read does not keep the others from their labels.

    Returns the exit status: 1 where an image could not be read.
    """
    paths = find_images(o.images)
    if o.pictures is not None:
        require_folder(o.pictures, "--pictures")
        _refuse_same_pictures(paths, o.pictures)
    from helpers.data.files import DATA, replacing
    from helpers.training.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(o.checkpoint or DATA / PHOTOGRAPHS, device=pick_device(o.device))
    adjust(checkpoint, o)
    columns = ["caption"] if checkpoint.options.learns == "words" else ["labels", "probabilities"]
    unreadable: list[str] = []
    with ExitStack() as stack:
        files = {}
        for kind, path in (("csv", o.csv), ("jsonl", o.jsonl)):
            if path is not None:
                temporary = stack.enter_context(replacing(path))
                files[kind] = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        table = csv.writer(files["csv"]) if o.csv else None
        if table:
            table.writerow(["file", *columns])
        for path, image, found in answers(checkpoint, paths, o.batch_size, unreadable):
            if table:
                table.writerow([path, *(_cell(found[column]) for column in columns)])
            if o.jsonl:
                files["jsonl"].write(json.dumps({"file": str(path)} | found, ensure_ascii=False) + "\n")
            if not files:
                print(printable("\n".join([str(path), *_lines(found)])))
            if o.pictures is not None:
                draw(checkpoint, o, path, image, found)
    for error in unreadable:
        print(f"error: {printable(error)}", file=sys.stderr)
    for place in filter(None, (o.csv, o.jsonl, o.pictures)):
        print(f"{len(paths) - len(unreadable)} of {len(paths)} images: {place}")
    return 1 if unreadable else 0


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ";".join(x if isinstance(x, str) else f"{x:.4f}" for x in value)


def _lines(found: dict[str, Any]) -> list[str]:
    if "caption" in found:
        return [f"  {found['caption'] or 'no word'}"]
    pairs = zip(found["labels"], found["probabilities"], strict=True)
    return [f"  {probability:5.2f}  {label}" for label, probability in pairs] or ["  no label"]


def _refuse_same_pictures(paths: Sequence[Path], folder: Path) -> None:
    """Raise ValueError where the picture of one image would replace that of another."""
    pictures: dict[str, Path] = {}
    for path in paths:
        if (other := pictures.setdefault(path.stem, path)) != path:
            raise ValueError(
                f"the pictures of {other} and of {path} would be the same file, {folder / path.stem}-…png: label them "
                "one after the other, each with --pictures of its own"
            )


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors that the user can fix are printed as one line."""
    words = sys.argv[1:] if argv is None else argv
    about = "Name the labels of images, or caption them."
    [options] = parse(words, "predict", about, PredictOptions, usage="IMAGES [--checkpoint RUN]")
    try:
        return run(options)
    except (ValueError, OSError) as error:
        return fail(error)
