"""Large float16 arrays in a folder, written chunk by chunk so that nothing in them has to be trusted.

    pooled.npy      (views, N, D)      a folder of these is what `features.encode_records` leaves
    grid.npy        (views, N, L, D)
    store.json      what they are of, and the CRC-32 of every chunk that is on the disk

A chunk enters store.json after its bytes have reached the disk. Whatever stops the writing (a kill, a full disk, a
power cut), the chunks in store.json whose CRC-32 fits are good and the others are not. Taught in notebook 02.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.files import read_json, write_json

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
