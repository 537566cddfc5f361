"""The feature cache: every image is encoded once, then decoders train from memory-mapped files.

A frozen encoder gives the same features in every epoch, and reading them is tens to hundreds of times faster than
computing them again. One set of features is a folder:

    pooled.npy      (views, N, D) float16
    grid.npy        (views, N, L, D) float16, unless only the pooled vectors are kept
    features.json   the key (what the features are of) and the checksums of the files

While it is written, the folder's name ends with .partial and features.json counts the images that are done.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from helpers.data.batches import Batch, Features, LabelledImages, make_loader
from helpers.data.files import read_json, write_json, write_text
from helpers.data.images import eval_transform, open_image
from helpers.data.labels import Vocabulary
from helpers.data.records import SPLITS, AnnotatedImages, Record
from helpers.encoders.encoder import Encoder, for_inference

Float16 = NDArray[np.float16]

INFO = "features.json"
SAVE_EVERY = 512  # images; an interrupted run loses at most this many
BLOCK = 64 * 2**20  # bytes under one checksum


def feature_loaders(
    data: AnnotatedImages,
    encoder: Encoder,
    *,
    cache_dir: Path | str,
    order: str = "given",
    batch_size: int = 64,
    grid: bool = True,
    flip: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    num_workers: int | None = None,
    splits: Sequence[str] = SPLITS,
    progress: bool = True,
) -> dict[str, DataLoader[Batch]]:
    """Split -> batches of cached features: `encode_records`, `FeatureDataset` and `make_loader` in one.

    Only the training split is shuffled and, with flip, mirrored half of the time. order: of the labels, one of
    `labels.ORDERS`, by the frequencies of the training split. precision, num_workers: as in `encode_records`.
    """
    frequency, device = data.frequency(), torch.device(device)
    loaders = {}
    for split in splits:
        records, mirror = data.split(split), flip and split == "train"
        how: dict[str, Any] = {"device": device, "precision": precision, "progress": progress}
        cached = encode_records(
            encoder, records, cache_dir, grid=grid, flip=mirror, num_workers=num_workers, **how
        )
        labels: dict[str, Any] = {"vocabulary": data.vocabulary, "order": order, "frequency": frequency}
        loaders[split] = make_loader(
            FeatureDataset(cached, records, **labels, augment=mirror),
            batch_size=batch_size,
            shuffle=split == "train",
            seed=seed,
            pin_memory=device.type == "cuda",
        )
    return loaders


def encode_records(
    encoder: Encoder,
    records: Sequence[Record],
    cache_dir: Path | str,
    *,
    grid: bool = True,
    flip: bool = False,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    num_workers: int | None = None,
    progress: bool = True,
) -> CachedFeatures:
    """The features of the records' images, from the cache where they are there already.

    The key is the backbone's name, its weights, its preprocessing, the content of the images in their order, grid,
    flip and precision. Change one, and the images are encoded again. Features with the grid or the mirrored images also serve where
    they are not asked for. An interrupted run continues where it stopped. A folder whose checksums do not fit is
    encoded again as a whole, with a warning. Of several processes that want the same features, one computes them.

    Args:
        encoder: is moved to `device`; a copy of it runs in eval mode and without gradients.
        cache_dir: holds one folder per set of features.
        grid: keep the grid (N, L, D); False keeps only the pooled vectors, L times smaller.
        flip: also encode the mirrored images, for training with `FeatureDataset(augment=True)`.
        batch_size: images at once; the views of a `CropEncoder` count as images.
        precision: that the encoder computes in, "float32" or, faster on some machines, "bfloat16"; see
            `encoder.fast_precision`. Features are stored as float16 in either case.
        num_workers: threads that open the images of the next batch meanwhile (default: one per core).

    Raises:
        DataError: an image cannot be read; the message has its name.
        ValueError: no records, or features that do not fit into float16 (above 65504 or NaN).
        OSError: not enough space on the disk; raised before anything is computed.
    """
    if not records:
        raise ValueError(
            "there are no images to encode: is this split empty? print(data.describe()) shows the counts"
        )
    cache_dir, paths = Path(cache_dir), [record.path for record in records]
    cache_dir.mkdir(parents=True, exist_ok=True)
    key = {
        "backbone": encoder.name,
        "weights": encoder.weights_id,
        "preprocessing": encoder.preprocessing.to_dict(),
        "images": fingerprint(paths, cache_dir / "images.json", progress=progress),
        "grid": grid,
        "flip": flip,
    }
    if precision != "float32":  # else no entry: older caches stay valid
        key["precision"] = precision
    # The features themselves first, then those that hold more.
    for with_grid, with_flip in product([False, True][grid:], [False, True][flip:]):
        folder = _folder(cache_dir, {**key, "grid": with_grid, "flip": with_flip})
        if _is_whole(folder, progress):
            return CachedFeatures(folder, paths, grid=grid, flip=flip)
    folder = _folder(cache_dir, key)
    with _lock(folder):
        if not _is_whole(folder, progress):  # another process may have made it meanwhile
            if folder.exists():
                message = f"the feature cache {folder} is damaged: all its images are encoded again"
                warnings.warn(message, stacklevel=2)
                shutil.rmtree(folder)
            size = max(1, batch_size // getattr(encoder, "views", 1))
            _encode(encoder, records, folder, key, device, progress, size, num_workers)
    return CachedFeatures(folder, paths, grid=grid, flip=flip)


class CachedFeatures:
    """Features on the disk, read as they are needed. Made by `encode_records`.

    directory: the cache's folder.
    pooled:    (N, D) float16 memory map, of the images as they are.
    grid:      (N, L, D) float16 memory map, or None where only pooled vectors are wanted.
    views:     1, or 2 with the features of the mirrored images (view 1).
    paths:     the images' files, in order.

    The workers of a DataLoader open the files themselves instead of getting a copy.
    """

    def __init__(self, directory: Path, paths: Sequence[Path], *, grid: bool, flip: bool) -> None:
        self.directory, self.paths, self.views = directory, tuple(paths), 1 + flip
        self._names = ("pooled", "grid") if grid else ("pooled",)
        self.__setstate__({})

    def __len__(self) -> int:
        return len(self.paths)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_arrays": None}  # a memory map would be pickled with all its content

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        files = {name: np.load(self.directory / f"{name}.npy", mmap_mode="r") for name in self._names}
        self._arrays: dict[str, Float16] = {name: file[: self.views] for name, file in files.items()}

    @property
    def pooled(self) -> Float16:
        return self._arrays["pooled"][0]

    @property
    def grid(self) -> Float16 | None:
        return self._arrays["grid"][0] if "grid" in self._arrays else None

    def read(self, index: Tensor, view: Tensor | int = 0) -> Features:
        """The features of images `index` (B,) int64 as float32: pooled (B, D), grid (B, L, D) or None.

        view: which view of each image, one number or (B,) int64: 0 as it is, 1 mirrored.
        """
        rows = (view * len(self) + index).numpy()
        features = {}
        for name, array in self._arrays.items():
            flat = array.reshape(-1, *array.shape[2:])  # (views, N, …) -> (views*N, …), no copy
            features[name] = torch.from_numpy(np.asarray(np.take(flat, rows, axis=0))).float()
        return Features(**features)


class FeatureDataset(LabelledImages):
    """Cached features with the images' labels in an order; reads whole batches.

    Args:
        cached: what `encode_records` gave for `records`.
        vocabulary, options (order, frequency): as in `batches.LabelledImages`.
        augment: take the mirrored image half of the time, drawn from torch's global generator; needs flip=True in
            `encode_records`. For training only.

    `batches.make_loader` gives batches of `Batch` with float32 features.

    Raises ValueError for records other than those that were encoded, an unknown label or order, or augment without
    mirrored features.
    """

    def __init__(
        self,
        cached: CachedFeatures,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        *,
        augment: bool = False,
        **options: Any,
    ) -> None:
        if [record.path for record in records] != list(cached.paths):
            raise ValueError(
                f"these {len(records)} records are not the {len(cached)} images that were encoded: give FeatureDataset "
                "the records that encode_records got"
            )
        if augment and cached.views < 2:
            raise ValueError(
                "augment=True needs the features of the mirrored images: encode_records(…, flip=True)"
            )
        super().__init__(records, vocabulary, **options)
        self.cached, self.augment = cached, augment

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch of these images: one read for all of them."""
        batch = super().__getitems__(indices)
        view = torch.randint(2, batch.index.shape) if self.augment else 0
        return replace(batch, features=self.cached.read(batch.index, view))


def _folder(cache_dir: Path, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^\w.-]+", "-", key["backbone"])  # "timm:…" has a colon, which Windows refuses
    return cache_dir / f"{name}-{digest[:16]}"


def _is_whole(folder: Path, progress: bool) -> bool:
    """Whether the folder is there and its files have the checksums that were noted when they were written."""
    try:
        return read_json(folder / INFO)["crc32"] == _checksums(folder, progress)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _checksums(folder: Path, progress: bool) -> list[int]:
    """CRC-32 of each block of the arrays' files. Reads about 3 GB per second and core, or as fast as the disk."""
    files = [np.memmap(path, mode="r") for path in sorted(folder.glob("*.npy"))]
    blocks = [file[start : start + BLOCK] for file in files for start in range(0, len(file), BLOCK)]
    return _in_threads(zlib.crc32, blocks, "checking the cache", progress)


def _in_threads(
    function: Callable[[Any], Any], items: Sequence[Any], title: str, progress: bool
) -> list[Any]:
    """The results of a function that lets other threads run, with a progress bar where it takes long."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(function, items)
        return list(tqdm(results, title, len(items), delay=2, leave=False, disable=not progress))


def _lock(folder: Path) -> AbstractContextManager[Any]:
    """Let one process at a time make this folder; the system frees the lock of a process that dies."""
    lock = FileLock(f"{folder}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"another process is encoding the same images into {folder}; waiting for it")
        return lock.acquire()


@torch.no_grad()
def _encode(
    encoder: Encoder,
    records: Sequence[Record],
    folder: Path,
    key: dict[str, Any],
    device: torch.device | str,
    progress: bool,
    batch_size: int,
    num_workers: int | None,
) -> None:
    """Write the features of all images into `folder`, which is .partial until the end."""
    partial, count = folder.with_name(f"{folder.name}.partial"), len(records)
    shapes: dict[str, tuple[int, ...]] = {"pooled": (1 + key["flip"], count, encoder.dim)}
    if key["grid"]:
        shapes["grid"] = (1 + key["flip"], count, math.prod(encoder.grid_size), encoder.dim)
    try:  # an interrupted run left its arrays and how many images are done
        done = read_json(partial / INFO)["done"]
        arrays = {name: open_memmap(partial / f"{name}.npy", mode="r+") for name in shapes}
    except (OSError, ValueError):
        done, arrays = 0, _create(partial, shapes)
    saved, fast = done, for_inference(encoder.to(device))
    batches = _images(
        [record.path for record in records[done:]],
        eval_transform(encoder.preprocessing),
        batch_size,
        num_workers,
    )
    low = torch.autocast(torch.device(device).type, torch.bfloat16, enabled="precision" in key)
    title = f"encoding with {encoder.name}"
    try:
        with (
            low,
            closing(batches),
            tqdm(total=count, initial=done, desc=title, unit="image", disable=not progress) as bar,
        ):
            for batch in batches:
                pixels = batch.to(device)
                views = [fast(view) for view in ([pixels, pixels.flip(-1)] if key["flip"] else [pixels])]
                for name in arrays:
                    values = torch.stack([getattr(view, name) for view in views]).half()  # (views, B, …)
                    fits = values.isfinite().flatten(2).all(dim=2).all(dim=0)  # (B,)
                    if not fits.all():
                        raise ValueError(
                            f"{encoder.name} gives features that float16 cannot hold (above 65504, or not a number) "
                            f"for {records[done + int(fits.long().argmin())].path}: are its weights those of this backbone?"
                        )
                    arrays[name][:, done : done + len(batch)] = values.cpu().numpy()
                done += len(batch)
                bar.update(len(batch))
                if done - saved >= SAVE_EVERY or done == count:
                    for name in arrays:
                        arrays[name].flush()
                    write_json(partial / INFO, {"done": done})
                    saved = done
    except ValueError:
        # An image or the weights are at fault. Repairing them changes the key: nobody would continue here.
        shutil.rmtree(partial, ignore_errors=True)
        raise
    arrays.clear()  # Windows renames no folder with open files
    write_json(partial / INFO, {"key": key, "done": count, "crc32": _checksums(partial, progress)})
    partial.replace(folder)


def _images(
    paths: Sequence[Path], transform: Callable[[Image.Image], Tensor], batch_size: int, threads: int | None
) -> Iterator[Tensor]:
    """The images (B, 3, S, S) in batches, in order. Threads read the next batch while one is in use."""

    def read(path: Path) -> Tensor:
        return transform(open_image(path))

    # Threads, not processes: decoding and resizing let others run, and no process must be started.
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        waiting: deque[list[Future[Tensor]]] = deque()
        try:
            for start in range(0, len(paths), batch_size):
                waiting.append([pool.submit(read, path) for path in paths[start : start + batch_size]])
                if len(waiting) > 1:
                    yield torch.stack([image.result() for image in waiting.popleft()])
            for images in waiting:
                yield torch.stack([image.result() for image in images])
        finally:
            pool.shutdown(cancel_futures=True)


def _create(partial: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Float16]:
    """Empty arrays. Their space is reserved: writing to a memory map on a full disk would kill the process."""
    sizes = {name: 2 * math.prod(shape) for name, shape in shapes.items()}  # bytes
    shutil.rmtree(partial, ignore_errors=True)
    needed, free = sum(sizes.values()), shutil.disk_usage(partial.parent).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"the features of {shapes['pooled'][1]:,} images need {needed / 1e9:,.2f} GB in {partial.parent}, which has "
            f"{free / 1e9:,.2f} GB free. Free some, choose another cache_dir, or keep only the pooled vectors with "
            f"grid=False ({sizes['pooled'] / 1e9:,.2f} GB)",
        )
    partial.mkdir()
    arrays = {}
    for name, shape in shapes.items():
        path = partial / f"{name}.npy"
        arrays[name] = open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        if hasattr(os, "posix_fallocate"):  # elsewhere the check above must do
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return arrays


def fingerprint(paths: Sequence[Path], index: Path, *, progress: bool = True) -> str:
    """sha256 over the content of the files, in their order.

    Reading 80,000 photographs takes a minute, so the JSON file `index` keeps their hashes, by path, size and time of
    the last change. A lost or damaged index is made again. Raises DataError for a file that cannot be read, by name.
    """
    try:
        known = dict(read_json(index))
    except (OSError, ValueError, TypeError):
        known = {}

    def entry(path: Path) -> tuple[str, str]:
        """What `index` knows a file by, and the sha256 of its content."""
        try:
            stat = path.stat()
            name = f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}"
            if name not in known:
                with path.open("rb") as file:
                    return name, hashlib.file_digest(file, "sha256").hexdigest()
            return name, known[name]
        except OSError:
            open_image(path)  # says what is wrong, as a DataError
            raise

    entries = _in_threads(entry, paths, "hashing images", progress)
    if not known.keys() >= dict(entries).keys():
        write_text(index, json.dumps(known | dict(entries)))
    return hashlib.sha256("".join(sha256 for _, sha256 in entries).encode()).hexdigest()


def annotations_id(splits: Iterable[Sequence[Record]]) -> str:
    """sha256 over the file names, labels and captions of the images, in order; their folders do not count."""
    found = [[(record.path.name, record.labels, record.captions) for record in split] for split in splits]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
