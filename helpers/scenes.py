"""The embedded dataset: procedural scenes, drawn when needed, whose every label, box and caption is known.

    python -m helpers.scenes --n 5000 --size 128 --seed 0 --output data/scenes

writes a folder in COCO format:

    images/train/000000.jpg ...    pictures (JPEG); images/val and images/test alike
    instances_train.json ...       images, annotations, categories; file names are relative to images/train
    captions_train.json ...        three captions an image
    manifest.json                  the parameters, and the sha256 of the six files above: written last

Image `i` of a split depends on (seed, split, i) alone, so a bigger set extends a smaller one, and a bigger picture
has the same labels. Attributes of the whole scene (rain, night) have no place: their annotation carries the box of
the whole image, which COCO readers need, and `"placed": false`. Annotations of coloured things carry `"colour"`.
Taught in notebook 01.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from tqdm.auto import tqdm

from helpers.scenery.files import (
    MOST_IMAGES,
    VERSION,
    clear_abandoned,
    coco_tables,
    file_name,
    install,
    is_settled,
    read_manifest,
)
from helpers.scenery.model import (
    AMBIGUOUS,
    ATTRIBUTES,
    FREQUENT_SMALL,
    LABEL_KINDS,
    LABELS,
    OBJECTS,
    RARE_LARGE,
    RELATIONS,
)
from helpers.scenery.render import SPLITS, Scene, SceneBox, check_scene, draw_scene, sample_scene
from helpers.scenery.text import LABEL_WORDS, mentioned_colours, mentioned_labels, mentioned_sides

__all__ = [
    "AMBIGUOUS", "ATTRIBUTES", "FREQUENT_SMALL", "LABELS", "LABEL_KINDS", "LABEL_WORDS", "OBJECTS", "RARE_LARGE",
    "RELATIONS", "SPLITS", "Scene", "SceneBox", "draw_scene", "mentioned_colours", "mentioned_labels",
    "mentioned_sides", "read_manifest", "sample_scene", "write_scenes",
]  # fmt: skip

_JPEG = {"quality": 92, "subsampling": 0}  # full colour resolution: flat colours show no fringes
_CHUNK = 50  # images between two signs of life


def _draw_chunk(folder: str, split: str, start: int, stop: int, seed: int, size: int) -> list[Scene]:
    """Draw and save images start..stop of a split; a function of the module, for it also runs in other processes."""
    scenes = []
    for index in range(start, stop):
        scene = draw_scene(seed, split=split, index=index, size=size)
        assert scene.image is not None
        buffer = io.BytesIO()
        scene.image.save(buffer, "JPEG", **_JPEG)
        (Path(folder) / "images" / split / file_name(index)).write_bytes(buffer.getvalue())
        scenes.append(replace(scene, image=None, composition=None))
    os.utime(folder)  # a sign of life: other runs leave this folder alone
    return scenes


def _drawn(folder: Path, split: str, count: int, seed: int, size: int, workers: int) -> Iterator[list[Scene]]:
    """The scenes of a split in order, chunk by chunk, their pictures saved."""
    jobs = [(str(folder), split, k, min(k + _CHUNK, count), seed, size) for k in range(0, count, _CHUNK)]
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield _draw_chunk(*job)
        return
    # spawn behaves alike on every system, and never forks a process that has threads
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_draw_chunk, *zip(*jobs, strict=True))


def _check_set(parameters: dict[str, int], workers: int) -> None:
    for name, value in {**parameters, "workers": workers}.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
    for split in SPLITS:
        if not 0 <= parameters[split] < MOST_IMAGES:
            raise ValueError(f"{split} must be 0 to {MOST_IMAGES - 1:,} images, got {parameters[split]}")
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    check_scene(parameters["seed"], "train", 0, parameters["size"])


def write_scenes(
    directory: Path | str,
    *,
    train: int = 2000,
    val: int = 250,
    test: int = 500,
    size: int = 128,
    seed: int = 0,
    progress: bool = True,
    workers: int = 1,
    overwrite: bool = False,
) -> Path:
    """Write the dataset in COCO format, once: a finished folder with the same parameters is left as it is.

    Everything is written to a temporary folder beside `directory`, which takes its name at the end: a run that is
    killed leaves nothing that could be taken for a dataset, and a run ten minutes later clears it away.

    Args:
        directory: the folder to make.
        train, val, test: images in each split.
        size: side of the pictures in pixels, 32 to 1024.
        seed: 0 or more; the same seed gives byte-identical annotations on every machine.
        progress: show a progress bar.
        workers: processes that draw. More than 1 starts new ones by "spawn": safe in a notebook and under an
            `if __name__ == "__main__":` guard, and worth it beyond some 10,000 images.
        overwrite: replace scenes that were written with other parameters.

    Returns:
        The folder.

    Raises:
        ValueError: parameters out of range.
        FileExistsError: the folder holds scenes with other parameters and `overwrite` is False, or other files.

    Taught in notebook 01.
    """
    directory = Path(directory).absolute()
    parameters = {"train": train, "val": val, "test": test, "size": size, "seed": seed}
    _check_set(parameters, workers)
    manifest = {"format": "scenes", "version": VERSION, "parameters": parameters}
    if is_settled(directory, manifest, overwrite):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(directory)
    folder = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", suffix=".part", dir=directory.parent))
    try:
        folder.chmod(0o755)  # mkdtemp makes it for its owner alone
        sums: dict[str, str] = {}
        with tqdm(total=train + val + test, desc="drawing scenes", unit="image", disable=not progress) as bar:
            for split in SPLITS:
                (folder / "images" / split).mkdir(parents=True)
                scenes: list[Scene] = []
                for chunk in _drawn(folder, split, parameters[split], seed, size, workers):
                    scenes += chunk
                    bar.update(len(chunk))
                for name, value in coco_tables(split, scenes, parameters).items():
                    data = json.dumps(value, separators=(",", ":")).encode()
                    (folder / name).write_bytes(data)
                    sums[name] = hashlib.sha256(data).hexdigest()
        text = json.dumps({**manifest, "sha256": sums}, indent=2) + "\n"
        (folder / "manifest.json").write_bytes(text.encode())
        if not is_settled(directory, manifest, overwrite):  # another run may have been quicker
            install(folder, directory, [*sums, "images", "manifest.json"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return directory


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: `python -m helpers.scenes --help`."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.scenes", description="Draw the embedded dataset in COCO format."
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--n", type=int, default=2000, help="training images (default: 2000)")
    parser.add_argument("--val", type=int, help="validation images (default: an eighth of --n)")
    parser.add_argument("--test", type=int, help="test images (default: a quarter of --n)")
    parser.add_argument("--size", type=int, default=128, help="side in pixels (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds, other scenes (default: 0)")
    parser.add_argument(
        "--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes that draw"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace scenes made with other parameters")
    given = parser.parse_args(arguments)
    val = given.n // 8 if given.val is None else given.val
    test = given.n // 4 if given.test is None else given.test
    try:
        folder = write_scenes(
            given.output,
            train=given.n,
            val=val,
            test=test,
            size=given.size,
            seed=given.seed,
            workers=given.workers,
            overwrite=given.overwrite,
        )
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    print(f"{folder}: {given.n} train, {val} val, {test} test images of {given.size} x {given.size} pixels")


if __name__ == "__main__":
    main()
