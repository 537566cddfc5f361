"""The embedded dataset: procedural scenes whose every label, box and caption is known, drawn when needed.

`draw_scene` draws one scene, `render` any things on any backdrop. `write_scenes` makes a folder in COCO
format:

    images/train/000000.jpg ...    pictures (JPEG); images/val and images/test alike
    instances_train.json ...       images, annotations, categories; file names are relative to images/train
    captions_train.json ...        three captions per image
    manifest.json                  the parameters, and the sha256 of the six files above: written last

Image `i` of a split depends on (seed, split, i) alone, so a bigger set extends a smaller one, and a bigger
picture has the same labels. Attributes of the whole scene (rain, night) have no place: their annotation
carries the box of the whole image, which COCO readers need, and `"placed": false`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from numpy.random import PCG64, Generator, SeedSequence
from PIL import Image
from tqdm.auto import tqdm

from helpers.scenes.backdrops import Backdrop, draw_backdrop, draw_glitter, draw_weather
from helpers.scenes.captions import captions
from helpers.scenes.content import LABEL_KINDS, LABELS, Dice
from helpers.scenes.drawing import SUPERSAMPLE, paint
from helpers.scenes.layout import Box, Composition, Thing, compose

VERSION = 1  # raise it when the same parameters give other scenes
SPLITS = ("train", "val", "test")  # a split's position here is a part of its images' seed
MIN_SIZE, MAX_SIZE = 32, 1024
MOST_IMAGES = 1_000_000  # per split: the ids of the splits are this far apart

_JPEG = {"quality": 92, "subsampling": 0}  # full colour resolution: flat colours show no fringes
_CHUNK = 50  # images that a process draws at a time
_ABANDONED = 600  # seconds without a new chunk after which an unfinished folder is that of a killed run


@dataclass(frozen=True)
class Scene:
    """A scene: the picture (None where it was not wanted), its labels, boxes in pixels and captions."""

    image: Image.Image | None
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]
    captions: tuple[str, ...]
    composition: Composition | None  # None where it was sent between processes


def draw_scene(
    seed: int = 0, *, split: str = "train", index: int = 0, size: int = 128, picture: bool = True
) -> Scene:
    """Draw one scene: image `index` of the split that `write_scenes(seed=seed)` writes.

    size: side of the picture in pixels, 32 to 1024; labels and captions do not depend on it. picture: False
    makes the scene without its picture, for counting labels quickly. Raises ValueError for values out of
    range.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    check_range(seed, index, size)
    rng = Generator(PCG64(SeedSequence([seed, SPLITS.index(split), index])))
    scene, dice = compose(rng), Dice(rng)
    sentences = captions(scene, dice)
    image = render(scene.backdrop, scene.things, dice, size) if picture else None  # last: it changes no label
    return Scene(image, scene.labels, tuple(box.in_pixels(size) for box in scene.boxes), sentences, scene)


def check_range(seed: int, index: int, size: int) -> None:
    """Raise ValueError for a negative seed or index, or a size out of range."""
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be 0 or more, got seed={seed}, index={index}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")


def render(backdrop: Backdrop, things: Sequence[Thing], dice: Dice, size: int) -> Image.Image:
    """The picture of things, back to front, on a backdrop: size x size pixels, RGB.

    `dice` moves what is not labelled: clouds, waves, windows, rain. `layout.put` makes things.
    """
    canvas = Image.new("RGB", (size * SUPERSAMPLE, size * SUPERSAMPLE))
    draw_backdrop(canvas, backdrop, dice)
    for thing in things:
        if backdrop.place == "sea" and thing.kind in ("sun", "moon"):
            halo = thing.shapes[0]
            draw_glitter(canvas, backdrop, dice, float(halo.points[:, 0].mean()), halo.colour)
        paint(canvas, thing.shapes, backdrop.light)
    draw_weather(canvas, backdrop, dice)
    return canvas.reduce(SUPERSAMPLE)


# ---- a folder of scenes --------------------------------------------------------------------------


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

    Everything is written to a temporary folder beside `directory`, which takes its name at the end: a run
    that is killed leaves nothing that could be taken for a dataset, and a run ten minutes later clears it
    away.

    train, val, test: images in each split. size: side of the pictures in pixels, 32 to 1024. seed: 0 or more;
    the same seed gives byte-identical annotations on every machine. overwrite: replace scenes with other
    parameters.
    workers: processes that draw. More than 1 starts new ones by "spawn": safe in a notebook and under an
    `if __name__ == "__main__":` guard, and worth it beyond some 10,000 images.

    Returns the folder. Raises ValueError for parameters out of range, FileExistsError if the folder holds
    scenes with other parameters and `overwrite` is False, or files that `write_scenes` did not write.
    """
    directory = Path(directory).absolute()
    counts = {"train": train, "val": val, "test": test}
    for split, count in counts.items():
        if not 0 <= count < MOST_IMAGES:
            raise ValueError(f"{split} must be 0 to {MOST_IMAGES - 1:,} images, got {count}")
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    check_range(seed, 0, size)
    manifest = {"format": "scenes", "version": VERSION, "parameters": {**counts, "size": size, "seed": seed}}
    if _is_finished(directory, manifest, overwrite):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(directory)
    folder = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", suffix=".part", dir=directory.parent))
    try:
        folder.chmod(0o755)  # mkdtemp makes it for its owner alone
        sums: dict[str, str] = {}
        show = {"desc": "drawing scenes", "unit": "image", "disable": not progress}
        with tqdm(total=sum(counts.values()), **show) as bar:
            for split, count in counts.items():
                (folder / "images" / split).mkdir(parents=True)
                scenes: list[Scene] = []
                for chunk in _drawn(folder, split, count, seed, size, workers):
                    scenes += chunk
                    bar.update(len(chunk))
                for name, table in _coco_tables(split, scenes, size, seed).items():
                    data = json.dumps(table, separators=(",", ":")).encode()
                    (folder / name).write_bytes(data)
                    sums[name] = hashlib.sha256(data).hexdigest()
        text = json.dumps({**manifest, "sha256": sums}, indent=2) + "\n"
        (folder / "manifest.json").write_bytes(text.encode())
        if not _is_finished(directory, manifest, overwrite):  # another run may have been quicker
            _install(folder, directory, [*sums, "images", "manifest.json"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return directory


def read_manifest(directory: Path | str) -> dict[str, Any] | None:
    """The manifest of a finished folder of scenes: parameters, sha256 by file; None where there is none to
    trust.

    A folder is finished if its manifest is readable, the annotation files have the sha256 it names and every
    picture is there. Costs a few milliseconds for the default set.
    """
    directory = Path(directory)
    manifest = _manifest(directory)
    try:
        for split in SPLITS:
            for name in (f"instances_{split}.json", f"captions_{split}.json"):
                if manifest["sha256"][name] != hashlib.sha256((directory / name).read_bytes()).hexdigest():
                    return None
            names = {entry.name for entry in os.scandir(directory / "images" / split) if entry.stat().st_size}
            if not names >= {_file_name(i) for i in range(manifest["parameters"][split])}:
                return None
    except (OSError, KeyError, TypeError):
        return None
    return manifest


def _manifest(directory: Path) -> dict[str, Any]:
    """What `write_scenes` noted about a folder, finished or damaged; {} where it did not write it."""
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        return manifest if manifest["format"] == "scenes" else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _file_name(index: int) -> str:
    return f"{index:06d}.jpg"


def _drawn(folder: Path, split: str, count: int, seed: int, size: int, workers: int) -> Iterator[list[Scene]]:
    """The scenes of a split in order, chunk by chunk, their pictures saved."""
    jobs = [(folder, split, k, min(k + _CHUNK, count), seed, size) for k in range(0, count, _CHUNK)]
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield _draw_chunk(*job)
        return
    # spawn behaves alike on every system, and never forks a process that has threads
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_draw_chunk, *zip(*jobs, strict=True))


def _draw_chunk(folder: Path, split: str, start: int, stop: int, seed: int, size: int) -> list[Scene]:
    """Draw and save images start..stop of a split; at module level, because other processes run it, too."""
    scenes = []
    for index in range(start, stop):
        scene = draw_scene(seed, split=split, index=index, size=size)
        scene.image.save(folder / "images" / split / _file_name(index), "JPEG", **_JPEG)
        scenes.append(replace(scene, image=None, composition=None))  # not worth sending between processes
    os.utime(folder)  # a sign of life: other runs leave this folder alone
    return scenes


def _coco_tables(split: str, scenes: Sequence[Scene], size: int, seed: int) -> dict[str, dict[str, Any]]:
    """The COCO files of a split by name, as JSON values."""
    first = (SPLITS.index(split) + 1) * MOST_IMAGES
    ids = range(first, first + len(scenes))
    info = {"description": f"procedural scenes, {split}", "version": str(VERSION), "seed": seed}
    images = [{"id": i, "file_name": _file_name(i - first), "width": size, "height": size} for i in ids]
    names = enumerate(LABELS, start=1)
    categories = [{"id": k, "name": name, "supercategory": LABEL_KINDS[name]} for k, name in names]
    annotations: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    for image, scene in zip(ids, scenes, strict=True):
        for box in scene.boxes:
            entry = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": LABELS.index(box.label) + 1,
                "bbox": [box.x, box.y, box.width, box.height],
                "area": box.area,
                "iscrowd": 0,
                "segmentation": [],
                "placed": box.placed,
            }
            annotations.append({**entry, "colour": box.colour} if box.colour else entry)
        for caption in scene.captions:
            sentences.append({"id": len(sentences) + 1, "image_id": image, "caption": caption})
    common = {"info": info, "licenses": [], "images": images}
    return {
        f"instances_{split}.json": {**common, "annotations": annotations, "categories": categories},
        f"captions_{split}.json": {**common, "annotations": sentences},
    }


def _is_finished(directory: Path, manifest: dict[str, Any], overwrite: bool) -> bool:
    """True if the folder is finished and as wanted; False if it may be written, else FileExistsError."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    found = read_manifest(directory)
    if found is not None and {**found, "sha256": None} == {**manifest, "sha256": None}:
        return True
    if found is None and not _manifest(directory):
        raise FileExistsError(
            f"{directory} is not empty and was not written by write_scenes: name another folder, or remove it"
        )
    if found is not None and not overwrite:
        raise FileExistsError(
            f"{directory} holds scenes with {found['parameters']} (version {found.get('version')}), wanted "
            f"{manifest['parameters']} (version {VERSION}): name another folder, or pass overwrite=True "
            "(--overwrite)"
        )
    return False  # damaged scenes are ours to write again


def _clear_abandoned(directory: Path) -> None:
    """Remove the unfinished folders of killed runs beside `directory`, unless another run may be at work."""
    for old in directory.parent.glob(f".{directory.name}-*.part"):
        try:
            if time.time() - old.stat().st_mtime > _ABANDONED:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:  # another run has just finished with it
            continue


def _install(folder: Path, directory: Path, names: Sequence[str]) -> None:
    """Give the finished folder its name; where there is one already, replace our files and leave any other.

    The annotations come first, so that an old manifest does not fit them, and the manifest last: a run that
    is killed in between leaves a folder that `read_manifest` does not trust.
    """
    if not directory.exists():
        folder.replace(directory)
        return
    for name in names:
        if (directory / name).is_dir():
            shutil.rmtree(directory / name)
        (folder / name).replace(directory / name)
