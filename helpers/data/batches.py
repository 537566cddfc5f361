"""What flows through a model, features and batches; how records become batches of images or of captions."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from helpers.data.images import open_image
from helpers.data.labels import Padded, Vocabulary, order_labels, pad_labels, to_multi_hot
from helpers.data.records import Record
from helpers.data.words import UNKNOWN, Tokenizer, encode_words, tokenize


class Features(NamedTuple):
    """What an encoder gives for a batch of images.

    pooled: (B, D) float, the mean over the grid: one vector per image.
    grid:   (B, L, D) float, one vector per grid cell, row by row from the top left; None where only the
            pooled vector was kept (it needs L times less disk and memory).
    """

    pooled: Tensor
    grid: Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Features:
        """The same features on another device."""
        return self._each(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Features:
        """The same features in page-locked memory."""
        return self._each(Tensor.pin_memory)

    def select(self, index: Tensor) -> Features:
        """The features of the images `index` (K,) int64, in that order (repeats allowed)."""
        return self._each(lambda x: x[index])

    def _each(self, function: Callable[[Tensor], Tensor]) -> Features:
        return Features(*(None if x is None else function(x) for x in self))


@dataclass(frozen=True)
class Batch:
    """A batch of B images with their labels; it carries the images, their features, or both.

    index:     (B,) int64, position of the image in its split.
    labels:    (B, T) int64, label ids in the order of training, padded with `<stop>`; T = longest + 1.
    lengths:   (B,) int64, labels of each image without `<stop>`; 0 is legal.
    multi_hot: (B, C) float32, the same labels as a set.
    images:    (B, 3, H, W) float32, preprocessed, or None.
    features:  the images' `Features`, or None.
    """

    index: Tensor
    labels: Tensor
    lengths: Tensor
    multi_hot: Tensor
    images: Tensor | None = None
    features: Features | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        return self._each(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, called by a DataLoader with `pin_memory=True`."""
        return self._each(lambda x: x.pin_memory())

    def _each(self, function: Callable[[Any], Any]) -> Batch:
        return replace(self, **{k: function(x) for k, x in vars(self).items() if x is not None})


# ---- images --------------------------------------------------------------------------------------


class LabelledImages(Dataset[Batch]):
    """The labels of `records` in an order, a batch at a time; a subclass adds images or features.

    order: one of `labels.ORDERS`. "random" is drawn anew at each access, from torch's global generator.
    frequency: (C,) int64, for rare-first and frequent-first: `AnnotatedImages.frequency()`.

    A label that the vocabulary lacks and an unknown order raise ValueError.
    """

    def __init__(
        self,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        *,
        order: str = "given",
        frequency: Tensor | None = None,
    ) -> None:
        options: dict[str, Any] = {"vocabulary": vocabulary, "frequency": frequency}
        order_labels([], order, **options)  # a wrong order is refused here, not in a worker
        fixed = "given" if order == "random" else order
        ids = [order_labels(vocabulary.encode(record.labels), fixed, **options) for record in records]
        # Tensors, not 100,000 records: a forked worker copies every page with an object that it counts.
        self.labels, self.lengths = pad_labels(ids, vocabulary.stop)  # (N, T), (N,)
        self.order, self.num_labels = order, len(vocabulary)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def multi_hot(self) -> Tensor:
        """(N, C) float32, the labels of all images as sets."""
        return to_multi_hot(self.labels, self.num_labels)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one image."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch of these images."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        lengths = self.lengths[index]
        labels = self.labels[index, : int(lengths.max()) + 1]  # (B, T of the longest in the batch)
        if self.order == "random":
            noise = torch.rand(labels.shape)
            noise[torch.arange(labels.shape[1]) >= lengths[:, None]] = 2  # padding sorts behind
            labels = labels.gather(1, noise.argsort(dim=1))
        return Batch(index, labels, lengths, to_multi_hot(labels, self.num_labels))


class ImageDataset(LabelledImages):
    """Batches of the images themselves, opened when asked for.

    transform: PIL RGB image -> (3, H, W) float32, see `images.eval_transform`. options: of `LabelledImages`.
    An image that cannot be read raises DataError with its name.
    """

    def __init__(
        self,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        transform: Callable[[Image.Image], Tensor],
        **options: Any,
    ) -> None:
        super().__init__(records, vocabulary, **options)
        self.transform, self._paths = transform, np.array([os.fsencode(record.path) for record in records])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        paths = [os.fsdecode(self._paths[index]) for index in indices]
        images = torch.stack([self.transform(open_image(path)) for path in paths])
        return replace(super().__getitems__(indices), images=images)


def make_loader(
    dataset: Dataset[Batch],
    *,
    batch_size: int,
    shuffle: bool = False,
    num_workers: int = 0,
    seed: int = 0,
    pin_memory: bool = False,
    batch_sampler: Sampler[list[int]] | None = None,
) -> DataLoader[Batch]:
    """Batches of an `ImageDataset`, a `FeatureDataset` or a `CaptionDataset`.

    num_workers: processes that load images; 2 to 16 pay on Linux with large images.
    seed: fixes the order of the images in each epoch and the random numbers of the workers. Without workers
        augmentation draws from torch's global generator instead.
    pin_memory: page-locked batches, for a faster copy to a GPU; without a GPU it is ignored.
    batch_sampler: in place of batch_size, shuffle and seed; its `generator` becomes the loader's.

    Raises ValueError for shuffling a data set without images.
    """
    if shuffle and len(dataset) == 0:  # type: ignore[arg-type]
        raise ValueError("there are no images to shuffle: print(data.describe()) shows which split is empty")
    batches = {"batch_size": batch_size, "shuffle": shuffle}
    return DataLoader(
        dataset,
        **(batches if batch_sampler is None else {"batch_sampler": batch_sampler}),
        num_workers=num_workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory and torch.cuda.is_available(),
        generator=getattr(batch_sampler, "generator", None) or torch.Generator().manual_seed(seed),
        persistent_workers=num_workers > 0,
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch  # the data sets make whole batches; a function with a name, because workers unpickle it


# ---- captions ------------------------------------------------------------------------------------

PER_IMAGE = ("one", "all")
POOL = 20  # batches whose captions are sorted by length together


class CaptionRows:
    """The captions of N images as word ids, one row per caption, in the order of the images.

    image:   (R,) int64, the image of each row.
    lengths: (R,) int64, words of each row; a caption without a word has no row.
    first:   (N + 1,) int64, the rows of image i are first[i] to first[i + 1] - 1; an image may have none.
    """

    def __init__(self, records: Sequence[Record], vocabulary: Vocabulary, *, tokenizer: Tokenizer = tokenize):
        found = [[encode_words(tokenizer(text), vocabulary) for text in r.captions] for r in records]
        found = [[ids for ids in rows if ids] for rows in found]
        rows = list(chain.from_iterable(found))
        self.vocabulary, self.num_images = vocabulary, len(records)
        self.image = torch.tensor([i for i, of in enumerate(found) for _ in of], dtype=torch.int64)
        self.first = torch.tensor([0, *map(len, found)]).cumsum(0)
        self.lengths = torch.tensor([len(ids) for ids in rows], dtype=torch.int64)
        # One flat tensor, not a list per caption: it goes to other processes, and COCO has 600,000.
        self._words = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.int32)
        self._ends = torch.tensor([0, *map(len, rows)]).cumsum(0).tolist()

    def __len__(self) -> int:
        return len(self.image)

    @property
    def unknown_share(self) -> float:
        """Share of the words that are `<unk>`."""
        unknown = self._words == self.vocabulary.encode([UNKNOWN])[0]
        return float(unknown.double().mean()) if len(unknown) else 0.0

    def words(self, row: int) -> list[int]:
        """The word ids of a row, without `<stop>`."""
        return self._words[self._ends[row] : self._ends[row + 1]].tolist()

    def padded(self, rows: Sequence[int]) -> Padded:
        """Rows as labels (B, T) padded with `<stop>` and lengths (B,), as `labels.pad_labels` gives them."""
        return pad_labels([self.words(row) for row in rows], self.vocabulary.stop)


class CaptionDataset(Dataset[Batch]):
    """Images with one caption each: row i of `captions`, its words in place of the labels of its image.

    images: an `ImageDataset` or a `FeatureDataset` of the same records as `captions`.
    """

    def __init__(self, images: Dataset[Batch], captions: CaptionRows) -> None:
        if (count := len(images)) != captions.num_images:  # type: ignore[arg-type]
            raise ValueError(
                f"captions of {captions.num_images} images, but there are {count}: give both the same records"
            )
        self.images, self.captions = images, captions

    def __len__(self) -> int:
        return len(self.captions)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        labels, lengths = self.captions.padded(rows)
        multi_hot = to_multi_hot(labels, len(self.captions.vocabulary))
        batch = self.images.__getitems__(self.captions.image[torch.as_tensor(rows)].tolist())
        return replace(batch, labels=labels, lengths=lengths, multi_hot=multi_hot)


class CaptionBatches(Sampler[list[int]]):
    """Which captions make the batches of an epoch: shuffled, with captions of about one length together.

    per_image: "one" draws one caption of every image, another one each epoch; "all" takes every caption.
    generator: all random choices come from it; `training.fit` seeds it anew for each epoch.

    Within `POOL` batches captions are sorted by length, for little padding; the batches are shuffled again.
    """

    def __init__(
        self, captions: CaptionRows, batch_size: int, *, per_image: str = "one", generator: torch.Generator
    ) -> None:
        if per_image not in PER_IMAGE:
            raise ValueError(f"per_image is {per_image!r}; choose one of {', '.join(PER_IMAGE)}")
        if not len(captions):
            raise ValueError("there is no caption to train on: does the data set have captions?")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; a batch needs at least one caption")
        self.lengths, self.batch_size, self.per_image = captions.lengths, batch_size, per_image
        self.generator = generator
        first, count = captions.first[:-1], captions.first.diff()
        self._first, self._count = first[count > 0], count[count > 0]  # images without captions are not drawn

    def __len__(self) -> int:
        rows = len(self._first) if self.per_image == "one" else len(self.lengths)
        return math.ceil(rows / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        if self.per_image == "one":
            share = torch.rand(len(self._first), generator=self.generator, dtype=torch.float64)
            rows = self._first + (share * self._count).long()
        else:
            rows = torch.arange(len(self.lengths))
        rows = rows[torch.randperm(len(rows), generator=self.generator)]
        batches: list[Tensor] = []
        for pool in rows.split(POOL * self.batch_size):
            batches += pool[self.lengths[pool].argsort(stable=True)].split(self.batch_size)
        for i in torch.randperm(len(batches), generator=self.generator).tolist():
            yield batches[i].tolist()


def caption_loader(
    images: Dataset[Any],
    captions: CaptionRows,
    *,
    batch_size: int,
    per_image: str = "one",
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Training batches of images with one caption each; see `CaptionDataset` and `CaptionBatches`."""
    generator = torch.Generator().manual_seed(seed)
    return make_loader(
        CaptionDataset(images, captions),
        batch_size=batch_size,
        batch_sampler=CaptionBatches(captions, batch_size, per_image=per_image, generator=generator),
        num_workers=num_workers,
        pin_memory=pin_memory,
    )
