"""From records to batches: the torch data set of images, and reproducible loaders. Taught in notebook 01."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from helpers.batch import Batch
from helpers.images import open_image
from helpers.labels import Vocabulary, order_labels, pad_labels, to_multi_hot
from helpers.records import Record


class Item(NamedTuple):
    """One image of a data set. image: (3, H, W) float32. labels: ids in the order of training."""

    index: int
    image: Tensor
    labels: list[int]
    num_labels: int


class ImageDataset(Dataset[Item]):
    """Images of `records` through `transform`, with their labels in an order. Taught in notebook 01.

    Args:
        records: a split of `AnnotatedImages`.
        vocabulary: its vocabulary; a label it lacks is a ValueError.
        transform: PIL RGB image -> (3, H, W) float32, see `transforms`.
        order: one of `labels.ORDERS`. "random" is drawn anew at each access, from torch's global generator.
        frequency: (C,) int64 training frequency, for rare-first and frequent-first: `AnnotatedImages.frequency()`.

    Opening an image that is missing or damaged raises DataError with its name: none is skipped in silence.
    """

    def __init__(
        self,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        transform: Callable[[Image.Image], Tensor],
        *,
        order: str = "given",
        frequency: Tensor | None = None,
    ) -> None:
        options: dict[str, Any] = {"vocabulary": vocabulary, "frequency": frequency}
        order_labels([], order, **options)  # a wrong order is refused here, not in a worker
        fixed = "given" if order == "random" else order
        labels = [order_labels(vocabulary.encode(record.labels), fixed, **options) for record in records]
        # Flat arrays, not 100,000 records: a forked worker would copy every page that holds a Python object it counts.
        self._paths = np.array([os.fsencode(record.path) for record in records])
        self._labels = np.fromiter(chain.from_iterable(labels), dtype=np.int32)
        self._ends = np.cumsum([0, *map(len, labels)])
        self.transform, self.order, self.num_labels = transform, order, len(vocabulary)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image = self.transform(open_image(os.fsdecode(self._paths[index])))
        labels = self._labels[self._ends[index] : self._ends[index + 1]].tolist()
        if self.order == "random":
            labels = order_labels(labels, "random")
        return Item(index, image, labels, self.num_labels)


def collate(items: Sequence[Item] | Batch) -> Batch:
    """Items of `ImageDataset` to a `Batch` with images; a `Batch` (of `FeatureDataset`) passes through.

    Raises ValueError for images of different sizes, which a transform without a fixed size leaves.
    """
    if isinstance(items, Batch):
        return items
    sizes = {tuple(item.image.shape) for item in items}
    if len(sizes) > 1:
        raise ValueError(
            f"images of different shapes in a batch: {sorted(sizes)}. Resize to one size in the transform."
        )
    num_labels = items[0].num_labels
    labels, lengths = pad_labels([item.labels for item in items], num_labels)
    return Batch(
        index=torch.tensor([item.index for item in items]),
        labels=labels,
        lengths=lengths,
        multi_hot=to_multi_hot(labels, num_labels),
        images=torch.stack([item.image for item in items]),
    )


def make_loader(
    dataset: Dataset[Any],
    *,
    batch_size: int,
    shuffle: bool = False,
    num_workers: int = 0,
    seed: int = 0,
    drop_last: bool = False,
    pin_memory: bool = False,
    multiprocessing_context: str | None = None,
    batch_sampler: Sampler[list[int]] | None = None,
) -> DataLoader[Batch]:
    """Batches of an `ImageDataset` or a `FeatureDataset`. Taught in notebook 01.

    `seed` fixes the order of the images in each epoch and the random numbers of the workers (torch, numpy and
    random). With `num_workers=0`, which works everywhere, augmentation draws from torch's global generator instead:
    `torch.manual_seed` makes it repeat.

    Args:
        num_workers: processes that load images; 2 to 16 pay on Linux with large images.
        drop_last: leave out the last batch if it is smaller.
        pin_memory: page-locked batches, for a faster copy to a GPU; without a GPU it is ignored.
        multiprocessing_context: "fork", "spawn" or "forkserver"; by default the platform's.
        batch_sampler: chooses the batches in place of batch_size, shuffle, drop_last and seed. Its `generator`, if it
            has one, becomes the loader's.

    Raises:
        ValueError: shuffling a data set without images.
    """
    if shuffle and len(dataset) == 0:  # type: ignore[arg-type]
        raise ValueError(
            "there are no images to shuffle: is this split empty? print(data.describe()) shows the counts"
        )
    generator = getattr(batch_sampler, "generator", None) or torch.Generator().manual_seed(seed)
    batches = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last}
    return DataLoader(
        dataset,
        **(batches if batch_sampler is None else {"batch_sampler": batch_sampler}),
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory and torch.cuda.is_available(),
        worker_init_fn=seed_worker,
        multiprocessing_context=multiprocessing_context if num_workers else None,
        generator=generator,
        persistent_workers=num_workers > 0,
    )


def seed_worker(worker: int) -> None:
    """Seed numpy and random in a loader's worker from torch, which the loader seeds differently in each."""
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - transforms of others may use the global generator
