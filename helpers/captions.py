"""From captions to batches: the captions of a split as word ids, drawn one an image or taken all. Notebook 07.

A split is made of images, never of captions: all captions of an image are on one side (see `datasets.load`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from helpers.batch import Batch
from helpers.labels import Padded, Vocabulary, pad_labels, to_multi_hot
from helpers.loaders import Item, make_loader
from helpers.records import Record
from helpers.words import UNKNOWN, Tokenizer, encode_words, tokenize

PER_IMAGE = ("one", "all")
POOL = 20  # batches whose captions are sorted by length together


class CaptionRows:
    """The captions of N images as word ids, a row a caption, the rows of an image together. Taught in notebook 07.

    image:   (R,) int64, the image of each row.
    lengths: (R,) int64, words of each row; a caption without a word has no row.
    first:   (N + 1,) int64, the rows of image i are first[i] to first[i + 1] - 1; an image may have none.
    """

    def __init__(
        self, records: Sequence[Record], vocabulary: Vocabulary, *, tokenizer: Tokenizer = tokenize
    ) -> None:
        found = [[encode_words(tokenizer(text), vocabulary) for text in r.captions] for r in records]
        found = [[ids for ids in rows if ids] for rows in found]
        rows = list(chain.from_iterable(found))
        self.vocabulary, self.num_images = vocabulary, len(records)
        self.image = torch.tensor([i for i, of in enumerate(found) for _ in of], dtype=torch.int64)
        self.first = torch.tensor([0, *map(len, found)]).cumsum(0)
        self.lengths = torch.tensor([len(ids) for ids in rows], dtype=torch.int64)
        # One flat tensor, not a list a caption: it goes to other processes, and COCO has 600,000.
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
        if not 0 <= row < len(self):
            raise IndexError(f"caption {row} of {len(self)}")
        return self._words[self._ends[row] : self._ends[row + 1]].tolist()

    def padded(self, rows: Sequence[int]) -> Padded:
        """Rows as labels (B, T) padded with `<stop>` and lengths (B,), as `labels.pad_labels` gives them."""
        return pad_labels([self.words(row) for row in rows], self.vocabulary.stop)


class CaptionDataset(Dataset[Any]):
    """Images with a caption each, an item a row of `captions`; for `captions.caption_loader`. Notebook 07.

    images: an `ImageDataset` or a `FeatureDataset` of the images that `captions` belongs to. Its labels are replaced
        by the words; `Batch.index` stays that of the image.
    """

    def __init__(self, images: Dataset[Any], captions: CaptionRows) -> None:
        if len(images) != captions.num_images:  # type: ignore[arg-type]
            raise ValueError(
                f"these are the captions of {captions.num_images} images, but there are {len(images)}: "  # type: ignore[arg-type]
                "give both the same records"
            )
        self.images, self.captions = images, captions

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, row: int) -> Batch | Item:
        """One caption with its image: a batch of one, or an item."""
        found = self.__getitems__([row])
        return found if isinstance(found, Batch) else found[0]

    def __getitems__(self, rows: Sequence[int]) -> Batch | list[Item]:
        images = self.captions.image[torch.as_tensor(rows, dtype=torch.int64)].tolist()
        count = len(self.captions.vocabulary)
        if not hasattr(self.images, "__getitems__"):
            words = map(self.captions.words, rows)
            return [
                self.images[i]._replace(labels=ids, num_labels=count)
                for i, ids in zip(images, words, strict=True)
            ]
        labels, lengths = self.captions.padded(rows)
        batch = self.images.__getitems__(images)
        return replace(batch, labels=labels, lengths=lengths, multi_hot=to_multi_hot(labels, count))


class CaptionBatches(Sampler[list[int]]):
    """Which captions make the batches of an epoch: shuffled, with captions of about one length together.

    per_image: "one" draws one caption of every image, another one each epoch: an epoch sees every image once, and
        over the epochs all captions count alike. "all" takes every caption: an epoch is as many times longer, for
        images of five captions five times, and reads the image as often.
    generator: all random choices come from it; `training.fit` seeds it anew for each epoch.

    Padding is what a batch of different lengths wastes: within `POOL` batches the captions are sorted by length, and
    the batches are shuffled again.
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
        self._first = captions.first[:-1]
        self._count = captions.first.diff()
        self._first, self._count = self._first[self._count > 0], self._count[self._count > 0]

    def __len__(self) -> int:
        return math.ceil(self._size / self.batch_size)

    @property
    def _size(self) -> int:
        return len(self._first) if self.per_image == "one" else len(self.lengths)

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
    """Training batches of images with a caption each; see `CaptionBatches`. Taught in notebook 07.

    images: an `ImageDataset` or a `FeatureDataset` of the records that `captions` was made from.
    """
    generator = torch.Generator().manual_seed(seed)
    return make_loader(
        CaptionDataset(images, captions),
        batch_size=batch_size,
        batch_sampler=CaptionBatches(captions, batch_size, per_image=per_image, generator=generator),
        num_workers=num_workers,
        pin_memory=pin_memory,
    )
