"""Which image is in which split: by a hash of its file name, the same on every machine. Taught in notebook 01."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from helpers.records import SPLITS, Record

VAL_SHARE, VAL_MOST = 0.10, 5000  # what is carved from train: a tenth, at most 5,000 images
OWN_SHARES = (0.70, 0.85)  # your own images: train below the first, test from the second on


def hash_splits(names: Sequence[str], seed: int) -> list[str]:
    """A split for each name by its hash alone, so that it stays where it is when others come.

    Only where so few images leave a split empty does the image with the nearest hash go there.
    """
    ranks = [_rank(name, seed) for name in names]
    splits = [SPLITS[sum(rank >= share for share in OWN_SHARES)] for rank in ranks]
    order = sorted(range(len(names)), key=ranks.__getitem__)
    if len(names) >= len(SPLITS):
        for split, position in (("train", order[0]), ("test", order[-1]), ("val", order[-2])):
            if split not in splits:
                splits[position] = split
    return splits


def divide(records: Sequence[Record], chosen: Sequence[str]) -> dict[str, tuple[Record, ...]]:
    """The records of each split, in their order; chosen: the split of each record."""
    return {
        split: tuple(record for record, own in zip(records, chosen, strict=True) if own == split)
        for split in SPLITS
    }


def _rank(name: str, seed: int) -> float:
    """A number in [0, 1) drawn from a name: the same on every machine and in every version of Python."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big") / 2**48


def carve(
    splits: dict[str, tuple[Record, ...]], seed: int, *, share: float = VAL_SHARE, most: int = VAL_MOST
) -> str:
    """Move a share of train to val: the first by the hash of their file names; returns the note.

    An image stays in train if it is the last there with one of its labels: nothing can be learned of that label else.
    """
    train = splits["train"]
    left = Counter(label for record in train for label in record.labels)
    count, chosen = min(most, max(1, round(share * len(train)))), set()
    for i in sorted(range(len(train)), key=lambda i: _rank(train[i].path.name, seed)):
        if len(chosen) < count and all(left[label] > 1 for label in train[i].labels):
            chosen.add(i)
            left.subtract(train[i].labels)
    splits["val"] = tuple(record for i, record in enumerate(train) if i in chosen)
    splits["train"] = tuple(record for i, record in enumerate(train) if i not in chosen)
    return f"val is {len(chosen):,} of the {len(train):,} training images, by a hash of their names (seed {seed})"
