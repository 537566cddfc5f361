"""Labels and their sequences: names to ids, order, padding, sets.

Token ids: labels are 0..C-1, `<stop>` is C, `<start>` is C+1. A decoder reads these C+2 ids and scores the
C+1 that it may emit. There is no padding token: `<stop>` pads, and lengths count the labels before it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from helpers.data.files import read_json, write_json

ORDERS = ("rare-first", "frequent-first", "random", "alphabetical", "given")
STOP_NAME, START_NAME = "<stop>", "<start>"
FORMAT, FORMAT_VERSION = "cnn-rnn-annotation vocabulary", 1


@dataclass(frozen=True)
class Vocabulary:
    """The C label names and their ids, in the order given; immutable.

    Raises ValueError for no labels, a name that is empty, not text or a special token, or a duplicate.
    """

    labels: tuple[str, ...]

    def __init__(self, labels: Sequence[str]) -> None:
        if isinstance(labels, str):
            raise ValueError(
                f"a vocabulary needs a list of labels, found the text {labels!r}: write [{labels!r}]"
            )
        labels = tuple(labels)
        if not labels:
            raise ValueError("a vocabulary needs at least one label, found none: check the annotation file")
        first: dict[str, int] = {}
        for position, label in enumerate(labels):
            if not isinstance(label, str) or not label.strip():
                raise ValueError(f"label {position} is {label!r}: every label must be a non-empty text")
            if label in (STOP_NAME, START_NAME):
                raise ValueError(f"label {position} is {label!r}, the name of a special token: rename it")
            if first.setdefault(label, position) < position:
                raise ValueError(f"label {label!r} is at {first[label]} and again at {position}: remove one")
        self._set(labels)

    def _set(self, labels: tuple[str, ...]) -> None:
        object.__setattr__(self, "labels", labels)  # the way round `frozen`
        object.__setattr__(self, "_ids", {label: i for i, label in enumerate(labels)})

    @classmethod
    def none(cls) -> Vocabulary:
        """The vocabulary of a data set that has captions and no labels (Flickr8k); C is 0."""
        vocabulary = object.__new__(cls)
        vocabulary._set(())
        return vocabulary

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        return label in self._ids

    @property
    def stop(self) -> int:
        """Id of `<stop>`: C."""
        return len(self.labels)

    @property
    def start(self) -> int:
        """Id of `<start>`: C + 1."""
        return len(self.labels) + 1

    @property
    def num_outputs(self) -> int:
        """V = C + 1: what a decoder scores (the labels and `<stop>`)."""
        return len(self.labels) + 1

    def encode(self, labels: Iterable[str]) -> list[int]:
        """Names to ids, in the same order. Raises ValueError for an unknown name, with near matches."""
        if isinstance(labels, str):
            raise ValueError(f"encode needs a list of labels, found the text {labels!r}: write [{labels!r}]")
        labels = list(labels)
        for label in labels:
            if label not in self._ids:
                known = f"from {self.labels[0]!r} to {self.labels[-1]!r}" if self.labels else "only captions"
                raise ValueError(
                    f"unknown label {label!r}: the vocabulary has {len(self)} labels, {known}."
                    f"{did_you_mean(str(label), self.labels)}"
                )
        return [self._ids[label] for label in labels]

    def decode(self, ids: Iterable[int] | Tensor) -> list[str]:
        """Ids 0..C+1 to names, `<stop>` and `<start>` included. Raises ValueError for another id."""
        names = (*self.labels, STOP_NAME, START_NAME)
        ids = [int(i) for i in ids]
        if bad := [i for i in ids if not 0 <= i < len(names)]:  # -1 would silently be the last one
            raise ValueError(
                f"ids {bad[:5]} are outside 0..{len(names) - 1}: are they of another vocabulary?"
            )
        return [names[i] for i in ids]

    def save(self, path: Path | str) -> None:
        """Write the vocabulary as JSON, at once or not at all."""
        write_json(path, {"format": FORMAT, "version": FORMAT_VERSION, "labels": self.labels})

    @classmethod
    def load(cls, path: Path | str) -> Vocabulary:
        """Read what `save` wrote. Raises ValueError, naming the file, for anything else."""
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f'{path} is not a vocabulary: expected JSON with "format": "{FORMAT}"')
        if content.get("version") != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format version {content.get('version')!r}, this code reads {FORMAT_VERSION}: "
                "update the code"
            )
        try:
            return cls(content.get("labels") or ())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question to end an error with: the known words that are spelled alike, in any case; "" for none."""
    by_lower = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold().strip(), by_lower, n=3)
    return f" Did you mean {' or '.join(repr(by_lower[name]) for name in near)}?" if near else ""


class Padded(NamedTuple):
    """Sequences in one tensor. labels: (B, T) int64 padded with `<stop>`; lengths: (B,) int64."""

    labels: Tensor
    lengths: Tensor


def label_frequency(sequences: Iterable[Sequence[int]], num_labels: int) -> Tensor:
    """Images that each label occurs in, (C,) int64; a label counts once per image.

    Raises ValueError for an id outside 0..C-1 (`<stop>` included: pass the labels without padding).
    """
    flat = torch.tensor([i for sequence in sequences for i in set(map(int, sequence))], dtype=torch.int64)
    _check_ids(flat, num_labels)
    return torch.bincount(flat, minlength=num_labels)


def order_labels(
    ids: Sequence[int],
    order: str,
    *,
    vocabulary: Vocabulary | None = None,
    frequency: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> list[int]:
    """The labels of one image in the order in which a decoder learns to emit them.

    order: one of `ORDERS`. "rare-first" (Jin and Nakayama, ICPR 2016) and "frequent-first" (Wang et al., CVPR
    2016) need `frequency` (C,), counted on the *training* images; ties keep the given order. "alphabetical"
    needs `vocabulary` and ignores case. "random" draws from `generator`, or from torch's global one. Raises
    ValueError for an unknown order or a missing option.
    """
    ids = [int(i) for i in ids]
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}: use one of {', '.join(ORDERS)}")
    if order == "given":
        return ids
    if order == "random":
        return [ids[i] for i in torch.randperm(len(ids), generator=generator)]
    if order == "alphabetical":
        if vocabulary is None:
            raise ValueError('order "alphabetical" needs vocabulary=')
        names = vocabulary.decode(ids)
        return [ids[i] for i in sorted(range(len(ids)), key=lambda i: (names[i].casefold(), names[i]))]
    if frequency is None:
        raise ValueError(
            f'order "{order}" needs frequency=, counted on the training images by label_frequency'
        )
    _check_ids(torch.tensor(ids, dtype=torch.int64), len(frequency))
    sign = 1 if order == "rare-first" else -1
    counts = frequency.tolist()
    return sorted(ids, key=lambda i: sign * counts[i])  # sorted is stable: ties keep the given order


def pad_labels(sequences: Sequence[Sequence[int]], stop: int) -> Padded:
    """Label ids of B images as labels (B, T) and lengths (B,): T = longest + 1, so that every row ends with
    `<stop>`.

    Raises ValueError for an id outside 0..stop-1.
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64)
    flat = torch.tensor([int(i) for i in chain.from_iterable(sequences)], dtype=torch.int64)
    _check_ids(flat, stop)
    steps = int(lengths.max()) + 1 if len(lengths) else 1
    labels = torch.full((len(lengths), steps), stop, dtype=torch.int64)
    labels[torch.arange(steps) < lengths[:, None]] = flat
    return Padded(labels, lengths)


def decoder_inputs(labels: Tensor, start: int) -> Tensor:
    """What a decoder reads under teacher forcing: `<start>`, then labels[:, :-1]; (B, T) int64 for both."""
    _check_tokens(labels)
    return torch.cat([labels.new_full((len(labels), 1), start), labels], dim=1)[:, : labels.shape[1]]


def sequence_lengths(tokens: Tensor, stop: int) -> Tensor:
    """Labels before the first `<stop>`: tokens (B, T) int64 -> (B,) int64; T where there is no `<stop>`."""
    _check_tokens(tokens)
    return _before_stop(tokens, stop).sum(dim=1)


def to_multi_hot(tokens: Tensor, num_labels: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The set of labels before the first `<stop>`: tokens (B, T) int64 -> (B, C), 1 for a member.

    dtype: float32, or torch.bool for the metrics. Raises ValueError for an id outside 0..C before the stop.
    """
    _check_tokens(tokens)
    # Positions from the first stop on write to column C, which is then dropped.
    columns = tokens.masked_fill(~_before_stop(tokens, num_labels), num_labels)
    _check_ids(columns, num_labels + 1)
    multi_hot = torch.zeros(len(tokens), num_labels + 1, dtype=dtype, device=tokens.device)
    return multi_hot.scatter_(1, columns, 1)[:, :num_labels]  # (B, C+1) -> (B, C)


def from_multi_hot(multi_hot: Tensor, order: str, **options: Any) -> Padded:
    """Sets (B, C), bool or 0/1, to padded sequences; order ("given": by id), options: as in `order_labels`.

    Raises ValueError for another shape or for values other than 0 and 1.
    """
    if multi_hot.ndim != 2 or not multi_hot.shape[1]:
        raise ValueError(f"multi_hot must have shape (B, C), found {tuple(multi_hot.shape)}")
    if not ((multi_hot == 0) | (multi_hot == 1)).all():
        raise ValueError("multi_hot must hold 0 and 1 only: apply a threshold to scores first")
    members = [row.nonzero().flatten().tolist() for row in multi_hot]
    return pad_labels([order_labels(ids, order, **options) for ids in members], multi_hot.shape[1])


def _before_stop(tokens: Tensor, stop: int) -> Tensor:
    return (tokens == stop).cumsum(dim=1) == 0  # (B, T) bool


def _check_tokens(tokens: Tensor) -> None:
    if tokens.ndim != 2 or tokens.dtype != torch.int64:
        raise ValueError(f"expected token ids (B, T) int64, found {tuple(tokens.shape)} {tokens.dtype}")


def _check_ids(ids: Tensor, limit: int) -> None:
    if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < limit):
        bad = ids[(ids < 0) | (ids >= limit)].unique().tolist()
        raise ValueError(f"label ids {bad[:5]} are outside 0..{limit - 1}: are they of another vocabulary?")
