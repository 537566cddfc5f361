"""One scene: sampled, described and drawn. `helpers.scenes` writes them in thousands.

The files of a written set of scenes: COCO tables, and whether a folder can be trusted, kept or replaced.

The embedded dataset: procedural scenes, drawn when needed, whose every label, box and caption is known.

    python -m helpers scenes --n 5000 --size 128 --seed 0 --output data/scenes

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

import hashlib
import io
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

from helpers.scenes.backdrops import draw_backdrop, draw_glitter, draw_weather, light_of
from helpers.scenes.captions import captions
from helpers.scenes.content import (
    LABEL_KINDS,
    LABELS,
    Dice,
)
from helpers.scenes.drawing import GRID, finish, new_canvas, paint
from helpers.scenes.layout import Composition, compose

SPLITS = ("train", "val", "test")  # a split's position here is a part of its images' seed


MIN_SIZE, MAX_SIZE = 32, 1024


@dataclass(frozen=True)
class SceneBox:
    """An annotation: label, colour name ("" for none), box in pixels (top-left corner), visible area in pixels.

    `placed` is False for an attribute of the whole scene, whose box is the image.
    """

    label: str
    colour: str
    x: int
    y: int
    width: int
    height: int
    area: int
    placed: bool = True


@dataclass(frozen=True)
class Scene:
    """A scene: the picture (None where it was only sampled), its labels, boxes and captions."""

    image: Image.Image | None
    labels: tuple[str, ...]
    boxes: tuple[SceneBox, ...]
    captions: tuple[str, ...]
    composition: Composition | None


def _generator(seed: int, split: str, index: int) -> Generator:
    return Generator(PCG64(SeedSequence([seed, SPLITS.index(split), index])))


def check_scene(seed: int, split: str, index: int, size: int) -> None:
    """Raise ValueError with what is wrong about the parameters of a scene."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be 0 or more, got seed={seed}, index={index}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")


def _boxes(scene: Composition, size: int) -> tuple[SceneBox, ...]:
    boxes = []
    for r in scene.regions:
        left, top = r.left * size // GRID, r.top * size // GRID
        right, bottom = -(-r.right * size // GRID), -(-r.bottom * size // GRID)  # rounded up
        area = min(max(1, round(r.area * size * size / GRID**2)), (right - left) * (bottom - top))
        boxes.append(SceneBox(r.label, r.colour, left, top, right - left, bottom - top, area, r.placed))
    return tuple(boxes)


def _make(rng: Generator, size: int, *, draw: bool) -> Scene:
    scene = compose(rng)
    sentences = captions(scene, Dice(rng))
    image = _render(scene, rng, size) if draw else None  # last: the stage's whims change no label
    return Scene(image, scene.labels, _boxes(scene, size), sentences, scene)


def _render(scene: Composition, rng: Generator, size: int) -> Image.Image:
    canvas = new_canvas(size)
    draw_backdrop(
        canvas,
        rng,
        place=scene.place,
        time=scene.time,
        weather=scene.weather,
        horizon=scene.horizon,
        shore=scene.shore,
    )
    light = light_of(scene.time, scene.weather)
    for thing in scene.things:
        if scene.place == "sea" and thing.kind in ("sun", "moon"):
            x, colour = float(thing.shapes[0].points[:, 0].mean()), thing.shapes[0].colour  # its halo
            draw_glitter(canvas, rng, x, horizon=scene.horizon, shore=scene.shore, colour=colour)
        paint(canvas, thing.shapes, light)
    draw_weather(canvas, rng, weather=scene.weather)
    return finish(canvas)


def draw_scene(seed: int | Generator = 0, *, split: str = "train", index: int = 0, size: int = 128) -> Scene:
    """Draw one scene; with a seed, image `index` of the split that `write_scenes(seed=seed)` writes.

    Args:
        seed: 0 or more, or a numpy Generator to go on with (then `split` and `index` do not matter).
        split: "train", "val" or "test".
        index: position in the split.
        size: side of the picture in pixels, 32 to 1024; the labels and captions do not depend on it.

    Raises:
        ValueError: unknown split, a negative seed or index, a size out of range.

    Taught in notebook 01.
    """
    number = 0 if isinstance(seed, Generator) else seed
    check_scene(number, split, index, size)
    return _make(seed if isinstance(seed, Generator) else _generator(seed, split, index), size, draw=True)


def sample_scene(seed: int = 0, *, split: str = "train", index: int = 0, size: int = 128) -> Scene:
    """The same scene as `draw_scene` without its picture (`image` is None): for counting labels quickly."""
    check_scene(seed, split, index, size)
    return _make(_generator(seed, split, index), size, draw=False)


VERSION = 1  # raise it when the same parameters give other scenes


MOST_IMAGES = 1_000_000  # images a split: the ids of the splits are so far apart


_ABANDONED = 600  # seconds without a sign of life after which an unfinished folder is that of a killed run


def file_name(index: int) -> str:
    """The name of a picture in its split's folder."""
    return f"{index:06d}.jpg"


def coco_tables(split: str, scenes: Sequence[Scene], parameters: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The COCO files of a split by name, as JSON values."""
    size, first = parameters["size"], (SPLITS.index(split) + 1) * MOST_IMAGES
    info = {"description": f"procedural scenes, {split}", "version": str(VERSION), "seed": parameters["seed"]}
    images = [
        {"id": first + i, "file_name": file_name(i), "width": size, "height": size}
        for i in range(len(scenes))
    ]
    categories = [
        {"id": k, "name": name, "supercategory": LABEL_KINDS[name]} for k, name in enumerate(LABELS, start=1)
    ]
    number = {entry["name"]: entry["id"] for entry in categories}
    annotations: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    for i, scene in enumerate(scenes):
        for box in scene.boxes:
            entry = {
                "id": len(annotations) + 1,
                "image_id": first + i,
                "category_id": number[box.label],
                "bbox": [box.x, box.y, box.width, box.height],
                "area": box.area,
                "iscrowd": 0,
                "segmentation": [],
                "placed": box.placed,
            }
            annotations.append({**entry, "colour": box.colour} if box.colour else entry)
        for caption in scene.captions:
            sentences.append({"id": len(sentences) + 1, "image_id": first + i, "caption": caption})
    return {
        f"instances_{split}.json": {
            "info": info,
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": categories,
        },
        f"captions_{split}.json": {"info": info, "licenses": [], "images": images, "annotations": sentences},
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifest(directory: Path | str) -> dict[str, Any] | None:
    """The manifest of a finished folder of scenes: parameters, sha256 by file; None where there is none to trust.

    A folder is finished if its manifest is readable, the annotation files have the sha256 it names and every
    picture is there. Costs a few milliseconds for the default set.
    """
    directory = Path(directory)
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        sums, parameters = dict(manifest["sha256"]), manifest["parameters"]
        intact = all(_sha256(directory / name) == value for name, value in sums.items())
        for split in SPLITS:
            names = {entry.name for entry in os.scandir(directory / "images" / split) if entry.stat().st_size}
            intact = intact and all(file_name(i) in names for i in range(int(parameters[split])))
            intact = intact and f"instances_{split}.json" in sums and f"captions_{split}.json" in sums
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if intact else None


def clear_abandoned(directory: Path) -> None:
    """Remove the unfinished folders of killed runs beside `directory`; one with a recent sign of life stays."""
    for old in directory.parent.glob(f".{directory.name}-*.part"):
        try:
            if time.time() - old.stat().st_mtime > _ABANDONED:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:  # another run has just finished with it
            continue


def is_settled(directory: Path, manifest: dict[str, Any], overwrite: bool) -> bool:
    """True if the folder is finished and as wanted; False if it may be written; FileExistsError if it may not."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    found = read_manifest(directory)
    if found is not None and {**found, "sha256": None} == {**manifest, "sha256": None}:
        return True
    if found is None and not _is_ours(directory):
        raise FileExistsError(
            f"{directory} is not empty and was not written by write_scenes: name another folder, or remove it"
        )
    if found is not None and not overwrite:
        raise FileExistsError(
            f"{directory} holds scenes with {found['parameters']} (version {found.get('version')}), wanted "
            f"{manifest['parameters']} (version {VERSION}): name another folder, or pass overwrite=True (--overwrite)"
        )
    return False  # damaged scenes are ours to write again


def _is_ours(directory: Path) -> bool:
    try:
        return json.loads((directory / "manifest.json").read_text(encoding="utf-8"))["format"] == "scenes"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def install(folder: Path, directory: Path, names: Sequence[str]) -> None:
    """Give the finished folder its name; where there is one already, replace our files and leave any other.

    The annotations come first, so that an old manifest does not fit them, and the manifest last: a run that is
    killed in between leaves a folder that `read_manifest` does not trust.
    """
    if not directory.exists():
        folder.replace(directory)
        return
    for name in names:
        if (directory / name).is_dir():
            shutil.rmtree(directory / name)
        (folder / name).replace(directory / name)


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
