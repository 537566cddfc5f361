"""The feature cache: encode every image once, then train decoders from a memory-mapped file.

A frozen encoder gives the same answer in every epoch; reading it from the disk is tens to hundreds of times faster
than computing it again. Taught in notebook 02.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from helpers.batch import Batch, Features
from helpers.encoders import Encoder
from helpers.encoding import Forward, fill
from helpers.feature_store import FORMAT, Float16, Store, gaps, only_one
from helpers.fingerprints import fingerprint
from helpers.labels import Vocabulary, order_labels, pad_labels, to_multi_hot
from helpers.records import Record

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
