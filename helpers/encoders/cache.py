"""The feature cache: encode every image once, then train decoders from a memory-mapped file.

A frozen encoder gives the same answer in every epoch; reading it from the disk is tens to hundreds of times faster
than computing it again. Taught in notebook 02.

Large float16 arrays in a folder, written chunk by chunk so that nothing in them has to be trusted.

    pooled.npy      (views, N, D)      a folder of these is what `features.encode_records` leaves
    grid.npy        (views, N, L, D)
    store.json      what they are of, and the CRC-32 of every chunk that is on the disk

A chunk enters store.json after its bytes have reached the disk. Whatever stops the writing (a kill, a full disk, a
power cut), the chunks in store.json whose CRC-32 fits are good and the others are not. Taught in notebook 02.

Images through an encoder into a folder of features; `features.encode_records` decides when. Taught in notebook 02.

Which images, which annotations are these? Their content tells, not their names or places. Taught in notebook 02.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from helpers.data.batches import Batch, Features
from helpers.data.files import read_json, write_json, write_text
from helpers.data.images import Preprocessing, eval_transform, open_image
from helpers.data.labels import Vocabulary, order_labels, pad_labels, to_multi_hot
from helpers.data.records import Record
from helpers.encoders.encoder import Encoder

IMAGES = "images.json"  # in the cache folder: the hashes of the images, see `fingerprints`


AUTOCAST = (None, "bfloat16")


class CachedFeatures:
    """Features on the disk, read as they are needed. Made by `encode_records`. Taught in notebook 02.

    directory: the cache's folder.
    pooled:    (N, D) float16 memory map, of the images as they are.
    grid:      (N, L, D) float16 memory map, or None where only pooled vectors were kept.
    views:     1, or 2 where there are the features of the mirrored images, too (view 1).
    paths:     the images' files, in order.

    It can go to the workers of a DataLoader: they open the files anew instead of getting a copy.
    """

    def __init__(self, directory: Path, store: Store, paths: Sequence[Path]) -> None:
        self.directory, self.paths = directory, tuple(paths)
        self._store = store
        self._arrays = store.open(directory)

    def __len__(self) -> int:
        return self._store.images

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_arrays": None}  # a memory map would be pickled with all its content

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._arrays = self._store.open(self.directory)

    @property
    def views(self) -> int:
        return len(self._arrays["pooled"])

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


def encode_records(
    encoder: Encoder,
    records: Sequence[Record],
    cache_dir: Path | str,
    *,
    grid: bool = True,
    flip: bool = False,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    progress: bool = True,
    autocast: str | None = None,
    channels_last: bool = False,
) -> CachedFeatures:
    """The features of the records' images, from the cache where they are there already. Taught in notebook 02.

    The cache knows them by the backbone, the sha256 of its weights, its preprocessing, the content of the images
    in their order, and by grid, flip and autocast: change one, and they are computed anew. A run that was killed is
    taken up where it stopped; what is damaged is noticed by its checksum and computed anew, with a warning; of
    several processes that want the same features, one computes and the others wait.

    Args:
        encoder: is moved to `device`; runs in eval mode and without gradients.
        cache_dir: holds one folder a set of features.
        grid: keep the grid (N, L, D); False keeps only the pooled vectors, L times smaller.
        flip: also encode the mirrored images, for training with `FeatureDataset(augment=True)`.
        autocast: "bfloat16" to compute in it (on a GPU about twice as fast), None for float32.
        channels_last: the memory format that convolutions like better on many devices.

    Raises:
        DataError: an image cannot be read; the message has its name.
        ValueError: no records, an unknown autocast, features that do not fit into float16 (above 65504 or NaN).
        OSError: not enough space on the disk; nothing has been computed then.
    """
    if not records:
        raise ValueError(
            "there are no images to encode: is this split empty? print(data.describe()) shows the counts"
        )
    if autocast not in AUTOCAST:
        raise ValueError(f"autocast is {autocast!r}, expected None or 'bfloat16'")
    cache_dir = Path(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    paths = [record.path for record in records]
    key = {
        "format": FORMAT,
        "dtype": "float16",
        "backbone": encoder.name,
        "weights": encoder.weights_id,
        "preprocessing": encoder.preprocessing.to_dict(),
        "images": fingerprint(paths, cache_dir / IMAGES, progress=progress),
        "flip": flip,
        "grid": grid,
        "autocast": autocast,
    }
    views, cells = 1 + flip, encoder.grid_size[0] * encoder.grid_size[1]
    shapes: dict[str, tuple[int, ...]] = {"pooled": (views, len(paths), encoder.dim)}
    if grid:
        shapes["grid"] = (views, len(paths), cells, encoder.dim)
    store = Store(key, shapes)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^\w.-]+", "-", encoder.name)  # "timm:…" has a colon, which Windows refuses
    folder = cache_dir / f"{name}-{digest[:16]}"
    if _missing(store, folder, progress):
        with only_one(folder):
            missing = _missing(store, folder, progress)  # none if another process has just made it
            if missing and folder.exists():
                warnings.warn(
                    f"the feature cache {folder} is damaged (a file was cut short or changed): what does not fit its "
                    "checksum is encoded again",
                    stacklevel=2,
                )
            if missing:
                forward = Forward(encoder, torch.device(device), flip, autocast, channels_last)
                fill(store, folder, paths, forward, batch_size, num_workers, progress)
    return CachedFeatures(folder, store, paths)


class FeatureDataset(Dataset[Batch]):
    """Cached features with the images' labels in an order; reads whole batches. Taught in notebook 02.

    Args:
        cached: what `encode_records` gave for `records`.
        vocabulary, order, frequency: as in `datasets.ImageDataset`.
        augment: take the mirrored image half of the time, drawn from torch's global generator; needs flip=True in
            `encode_records`. For training only.

    `datasets.make_loader` gives batches of `Batch` with float32 features.

    Raises ValueError for records other than those that were encoded, an unknown label or order, or augment without
    mirrored features.
    """

    def __init__(
        self,
        cached: CachedFeatures,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        *,
        order: str = "given",
        frequency: Tensor | None = None,
        augment: bool = False,
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
        options: dict[str, Any] = {"vocabulary": vocabulary, "frequency": frequency}
        order_labels([], order, **options)  # a wrong order is refused here, not in a worker
        fixed = "given" if order == "random" else order
        ids = [order_labels(vocabulary.encode(record.labels), fixed, **options) for record in records]
        self.cached, self.order, self.augment = cached, order, augment
        self.labels, self.lengths = pad_labels(ids, vocabulary.stop)  # (N, T), (N,)
        self.multi_hot = to_multi_hot(self.labels, len(vocabulary)).float()  # (N, C)

    def __len__(self) -> int:
        return len(self.cached)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one image."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch of these images: one read for all of them."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        lengths = self.lengths[index]
        labels = self.labels[index, : int(lengths.max()) + 1]  # (B, T of the longest in the batch)
        if self.order == "random":
            labels = _shuffle(labels, lengths)
        view = torch.randint(2, index.shape) if self.augment else 0
        return Batch(index, labels, lengths, self.multi_hot[index], features=self.cached.read(index, view))


def _shuffle(labels: Tensor, lengths: Tensor) -> Tensor:
    """labels (B, T), the first lengths (B,) of each row in random order, the padding after them."""
    noise = torch.rand(labels.shape)
    noise[torch.arange(labels.shape[1]) >= lengths[:, None]] = 2  # padding sorts behind
    return labels.gather(1, noise.argsort(dim=1))


def _missing(store: Store, folder: Path, progress: bool) -> int:
    """How many images of the store the folder lacks, or has with a checksum that does not fit."""
    chunks = store.check(folder, progress=progress) if folder.exists() else []
    return sum(stop - start for start, stop in gaps(chunks, store.images, store.images))


FORMAT = 1


STORE = "store.json"


DTYPE = np.dtype("<f2")

Float16 = NDArray[np.float16]


@dataclass(frozen=True)
class Chunk:
    """Images start..stop-1 in all views, and the CRC-32 of their bytes in each file, view after view."""

    start: int
    stop: int
    crc32: dict[str, int]


@dataclass(frozen=True)
class Store:
    """The plan of a folder: what it is of, and the shape of each of its arrays.

    key:    anything of JSON; a folder with another key is not this store.
    shapes: file name without ".npy" -> (views, N, …); views and N agree.
    """

    key: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @property
    def images(self) -> int:
        """N."""
        return next(iter(self.shapes.values()))[1]

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values()) * DTYPE.itemsize

    @property
    def bytes_per_image(self) -> int:
        """Bytes of one image in all arrays and views."""
        return self.size // self.images

    def create(self, folder: Path) -> None:
        """Make the folder with empty files of the final size (on most disks they take no space yet)."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.shapes:
            header, size = self._layout(name)
            path = folder / f"{name}.npy"
            with path.open("r+b" if path.exists() else "w+b") as file:
                file.write(header)
                file.truncate(size)

    def record(self, folder: Path, chunks: Sequence[Chunk]) -> None:
        """Write store.json; `chunks` are the ones whose bytes are on the disk."""
        content = {
            "format": FORMAT,
            "key": self.key,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "chunks": [[chunk.start, chunk.stop, chunk.crc32] for chunk in chunks],
        }
        write_json(folder / STORE, content)

    def check(self, folder: Path, *, progress: bool = False) -> list[Chunk]:
        """The chunks of the folder that are whole; none where it is missing or is of something else.

        Reads everything once: about 3 GB a second and core from memory, else as fast as the disk.
        """
        try:
            content = read_json(folder / STORE)
            shapes = {name: tuple(shape) for name, shape in content["shapes"].items()}
            chunks = [Chunk(*chunk) for chunk in content["chunks"]]
            if (content["format"], content["key"], shapes) != (FORMAT, self.key, self.shapes):
                return []
            arrays = {name: self._map(folder, name) for name in self.shapes}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []

        def whole(chunk: Chunk) -> bool:
            found = {name: _crc32(array[:, chunk.start : chunk.stop]) for name, array in arrays.items()}
            return found == chunk.crc32

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # zlib lets other threads run
            results = pool.map(whole, chunks)
            good = list(
                tqdm(results, "checking the cache", len(chunks), delay=2, leave=False, disable=not progress)
            )
        return [chunk for chunk, is_whole in zip(chunks, good, strict=True) if is_whole]

    def open(self, folder: Path) -> dict[str, Float16]:
        """The arrays, memory-mapped and read-only. Raises ValueError for a file of another size or shape."""
        return {name: self._map(folder, name) for name in self.shapes}

    def _layout(self, name: str) -> tuple[bytes, int]:
        """The header of a .npy file and its size with the numbers."""
        header = io.BytesIO()
        description = {"descr": DTYPE.str, "fortran_order": False, "shape": self.shapes[name]}
        np.lib.format.write_array_header_1_0(header, description)
        size = header.tell() + int(np.prod(self.shapes[name])) * DTYPE.itemsize
        return header.getvalue(), size

    def _map(self, folder: Path, name: str) -> Float16:
        path, (header, size) = folder / f"{name}.npy", self._layout(name)
        with path.open("rb") as file:
            start = file.read(len(header))
        if start != header or path.stat().st_size != size:
            raise ValueError(f"{path} is not whole: {path.stat().st_size:,} bytes, expected {size:,}")
        return np.memmap(path, dtype=DTYPE, mode="r", offset=len(header), shape=self.shapes[name])


class Writer:
    """Writes chunks into a folder that `Store.create` has made; use it in a `with` block.

    Written with ordinary writes: a full disk is then an OSError here, where a memory map would kill the process.
    """

    def __init__(self, store: Store, folder: Path, chunks: Sequence[Chunk]) -> None:
        self.store, self.folder, self.chunks = store, folder, list(chunks)
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Writer:
        self._files = {name: (self.folder / f"{name}.npy").open("r+b") for name in self.store.shapes}
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, start: int, arrays: dict[str, Float16]) -> None:
        """Write images from `start` on: arrays of shape (views, n, …), then their line in store.json."""
        for name, array in arrays.items():
            file, shape = self._files[name], self.store.shapes[name]
            header = len(self.store._layout(name)[0])
            row = int(np.prod(shape[2:])) * DTYPE.itemsize
            for view, rows in enumerate(array):
                file.seek(header + (view * shape[1] + start) * row)
                file.write(np.ascontiguousarray(rows).data.cast("B"))
            file.flush()
            os.fsync(file.fileno())
        stop = start + next(iter(arrays.values())).shape[1]
        self.chunks.append(Chunk(start, stop, {name: _crc32(array) for name, array in arrays.items()}))
        self.chunks.sort(key=lambda chunk: chunk.start)
        self.store.record(self.folder, self.chunks)


def gaps(chunks: Sequence[Chunk], images: int, size: int) -> Iterator[tuple[int, int]]:
    """What the chunks leave out of images 0..images-1, as (start, stop) of at most `size` images each."""
    start = 0
    for begin, end in [*sorted((chunk.start, chunk.stop) for chunk in chunks), (images, images)]:
        for first in range(start, begin, size):
            yield first, min(first + size, begin)
        start = max(start, end)


def check_space(store: Store, partial: Path) -> None:
    """Raise OSError where the store does not fit on the disk, before an hour's work shows it."""
    held = sum(getattr(file.stat(), "st_blocks", 0) * 512 for file in partial.glob("*.npy"))
    needed, free = store.size - held, shutil.disk_usage(partial.parent).free
    if needed > free:
        pooled = int(np.prod(store.shapes["pooled"])) * 2
        raise OSError(
            errno.ENOSPC,
            f"the features of {store.images:,} images need {needed / 1e9:,.2f} GB in {partial.parent}, which has "
            f"{free / 1e9:,.2f} GB free. Free some, choose another cache_dir, or keep only the pooled vectors with "
            f"grid=False ({pooled / 1e9:,.2f} GB)",
        )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time make this folder; the system frees the lock of a process that dies."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"another process is encoding the same images into {folder}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _crc32(array: Float16) -> int:
    """CRC-32 of an array (views, n, …), view after view."""
    value = 0
    for rows in array:
        value = zlib.crc32(np.ascontiguousarray(rows), value)
    return value


CHUNK = 512  # images that a kill can cost


CHUNK_BYTES = 64 * 2**20  # and the memory that they may take meanwhile


class Images(Dataset[Tensor]):
    """The images (3, S, S) float32, preprocessed; in a class of its own, for it goes to other processes."""

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.paths = np.array([os.fsencode(path) for path in paths])
        self.transform = eval_transform(preprocessing)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(open_image(os.fsdecode(self.paths[index])))


class Forward:
    """How a batch of images is encoded."""

    def __init__(
        self, encoder: Encoder, device: torch.device, flip: bool, autocast: str | None, channels_last: bool
    ) -> None:
        self.encoder, self.device, self.flip, self.autocast = encoder, device, flip, autocast
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    @contextmanager
    def in_eval_mode(self) -> Iterator[None]:
        """The encoder on the device and in eval mode; afterwards in the mode it was in."""
        training = self.encoder.training
        self.encoder.to(self.device, memory_format=self.memory_format).eval()
        try:
            yield
        finally:
            self.encoder.train(training)

    @torch.no_grad()
    def __call__(self, images: Tensor, names: Iterable[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Images (B, 3, S, S) -> "pooled" (views, B, D) and "grid" (views, B, L, D), float16, and fits (B,) bool.

        Only the arrays in `names` leave the device. fits is False for an image whose features float16 cannot hold.
        """
        images = images.to(self.device, memory_format=self.memory_format, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast is not None):
            views = [self.encoder(view) for view in ([images, images.flip(-1)] if self.flip else [images])]
        arrays = {
            name: torch.stack([getattr(view, name) for view in views]).half() for name in ("pooled", "grid")
        }
        fits = arrays["grid"].isfinite().flatten(2).all(dim=-1).all(dim=0)  # (views, B, L, D) -> (B,)
        return {name: arrays[name].cpu() for name in names}, fits.cpu()


def fill(
    store: Store,
    folder: Path,
    paths: Sequence[Path],
    forward: Forward,
    batch_size: int,
    num_workers: int,
    progress: bool,
) -> None:
    """Encode what the folder lacks, in a second folder that takes its name at the end."""
    partial = folder.with_name(f"{folder.name}.partial")
    if folder.exists():  # damaged: what is good in it stays
        shutil.rmtree(partial, ignore_errors=True)
        folder.replace(partial)
    check_space(store, partial)
    resumed = partial.exists()
    store.create(partial)
    chunks = store.check(partial, progress=progress) if resumed else []
    store.record(partial, chunks)
    size = max(1, min(CHUNK, CHUNK_BYTES // store.bytes_per_image) // batch_size) * batch_size
    todo = list(gaps(chunks, len(paths), size))
    batches = [
        list(range(first, min(first + batch_size, stop)))
        for start, stop in todo
        for first in range(start, stop, batch_size)
    ]
    loader = iter(
        DataLoader(
            Images(paths, forward.encoder.preprocessing),
            batch_sampler=batches,
            num_workers=num_workers,
            pin_memory=forward.device.type == "cuda",
            generator=torch.Generator(),  # the global one must not tell whether there was a cache
        )
    )
    done = len(paths) - sum(stop - start for start, stop in todo)
    bar = tqdm(
        total=len(paths),
        initial=done,
        desc=f"encoding with {forward.encoder.name}",
        unit="image",
        disable=not progress,
    )
    try:
        with bar, forward.in_eval_mode(), Writer(store, partial, chunks) as writer:
            for start, stop in todo:
                parts = []
                for first in range(start, stop, batch_size):
                    arrays, fits = forward(next(loader), store.shapes)
                    if not fits.all():
                        raise _does_not_fit(paths[first + int(fits.long().argmin())], forward.encoder.name)
                    parts.append(arrays)
                    bar.update(len(fits))
                whole = {
                    name: torch.cat([part[name] for part in parts], dim=1).numpy() for name in store.shapes
                }
                writer.write(start, whole)
    except ValueError:
        # It is the fault of an image or of the weights. Mending them makes another key: nobody would finish this one.
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.replace(folder)


def _does_not_fit(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{name} gives features that float16 cannot hold (above 65504, or not a number) for {path}: are its weights "
        "those of this backbone?"
    )


SETTLED = 2 * 10**9  # ns; a file changed within the last two seconds may change again within its time stamp


def fingerprint(paths: Sequence[Path], index: Path, *, progress: bool = True) -> str:
    """sha256 over the content of the files, in their order.

    Reading 80,000 photographs takes a minute, so their hashes are kept in the JSON file `index`, as git does, with
    the size and the time stamp by which a changed file shows. An index that is lost or damaged is made anew.

    Raises DataError for a file that cannot be read, by name.
    """
    try:
        known = dict(read_json(index))
    except (OSError, ValueError, TypeError):
        known = {}

    def entry(path: Path) -> tuple[int, int, str]:
        """Size in bytes, time stamp in ns, sha256."""
        try:
            stat = path.stat()
            found = known.get(str(path.absolute()))
            if found and found[:2] == [stat.st_size, stat.st_mtime_ns]:
                return stat.st_size, stat.st_mtime_ns, found[2]
            with path.open("rb") as file:
                return stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            open_image(path)  # says what is wrong, as a DataError
            raise

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # reading and hashing let other threads run
        results = pool.map(entry, paths)
        entries = list(
            tqdm(results, "hashing images", len(paths), delay=2, leave=False, disable=not progress)
        )
    settled = time.time_ns() - SETTLED
    new = {
        str(path.absolute()): list(found)
        for path, found in zip(paths, entries, strict=True)
        if found[1] < settled
    }
    if any(known.get(path) != found for path, found in new.items()):
        with suppress(OSError):  # a folder that may only be read: hash again next time
            write_text(index, json.dumps({**known, **new}))
    return hashlib.sha256("".join(sha256 for _, _, sha256 in entries).encode()).hexdigest()


def annotations_id(splits: Iterable[Sequence[Record]]) -> str:
    """sha256 over the file names, labels and captions of the images, split by split and in their order.

    The folders that they lie in do not count: a data set may be moved.
    """
    found = [[(record.path.name, record.labels, record.captions) for record in split] for split in splits]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
