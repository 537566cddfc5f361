"""Images through an encoder into a folder of features; `features.encode_records` decides when. Taught in notebook 02."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from helpers.encoders import Encoder
from helpers.feature_store import Store, Writer, check_space, gaps
from helpers.images import open_image
from helpers.transforms import Preprocessing, eval_transform

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
