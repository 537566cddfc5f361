"""Word vectors of the labels, from a GloVe text file. Taught in notebook 03."""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from helpers.labels import Vocabulary


class GloveVectors(NamedTuple):
    """Word vectors of the C labels, of `<stop>` and of `<start>`, and what was done to get them.

    vectors:  (C+2, d) float32, a row an id.
    missing:  names that the file does not have: their rows are random.
    averaged: names of several words, each the mean of its words' vectors.
    partial:  those of `averaged` that lack some of their words in the file.
    """

    vectors: Tensor
    missing: tuple[str, ...]
    averaged: tuple[str, ...]
    partial: tuple[str, ...] = ()


def load_glove(
    path: Path | str, vocabulary: Vocabulary, *, seed: int = 0, progress: bool = True
) -> GloveVectors:
    """Vectors of a vocabulary from a GloVe text file such as glove.6B.300d.txt. Taught in notebook 03.

    Rows C and C+1 are the vectors of the words "stop" and "start". A name is looked up as it
    stands, then in lower case, then as the mean of its parts between blanks, `_` and `-`. A name
    with no word in the file gets a random row, drawn from `seed` at the length of the vectors that
    were found. The file is streamed: memory holds only the words that are needed.
    Raises ValueError, with the line number, for a line that is not a word and d numbers, and where
    the file has none of the names. GloVe: Pennington, Socher and Manning, EMNLP 2014.
    """
    names = [*vocabulary.labels, "stop", "start"]
    parts = {name: [part for part in re.split(r"[\s_-]+", name.lower()) if part] for name in names}
    wanted = {word for name in names for word in (name, name.lower(), *parts[name])}
    found = _read_glove(Path(path), wanted, progress=progress)
    rows: list[Tensor | None] = []
    missing, averaged, partial = [], [], []
    for name in names:
        whole = found.get(name, found.get(name.lower()))
        known = [found[part] for part in parts[name] if part in found]
        if whole is None and known:
            whole = torch.stack(known).mean(dim=0)
            averaged.append(name)
            if len(known) < len(parts[name]):
                partial.append(name)
        if whole is None:
            missing.append(name)
        rows.append(whole)
    present = [row for row in rows if row is not None]
    if not present:
        raise ValueError(f"{path} has none of the {len(names)} words looked for: is it the right file?")
    scale = torch.stack(present).square().mean().sqrt()
    # A row for every id, needed or not: the draw of one label does not depend on what else is missing.
    drawn = torch.randn(len(names), present[0].numel(), generator=torch.Generator().manual_seed(seed)) * scale
    vectors = torch.stack([drawn[i] if row is None else row for i, row in enumerate(rows)])
    return GloveVectors(vectors, tuple(missing), tuple(averaged), tuple(partial))


def _read_glove(path: Path, wanted: set[str], *, progress: bool) -> dict[str, Tensor]:
    """The vectors (d,) float32 of the `wanted` words that the text file has."""
    keys = {word.encode(): word for word in wanted}
    found: dict[str, Tensor] = {}
    size = None  # d, from the first line of vectors
    bar = tqdm(
        total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name, delay=1, disable=not progress
    )
    with path.open("rb") as file, bar:
        for number, line in enumerate(file, start=1):
            bar.update(len(line))
            if number == 1 and line.startswith((b"PK\x03\x04", b"\x1f\x8b")):
                raise ValueError(f"{path} is compressed: unpack it and pass the text file inside")
            word, _, rest = line.rstrip().partition(b" ")
            if number == 1 and word.isdigit() and rest.isdigit():
                size = int(rest)  # the header of word2vec's text format: number of words, d
                continue
            count = rest.count(b" ") + 1 if rest else 0
            size = size or count
            if not count or count < size:
                raise _malformed(path, number, f"{count} numbers after the word, expected {size or 'some'}")
            if word not in keys or keys[word] in found:  # a word's first line counts
                continue
            first, *others = rest.split(b" ")
            if count > size and not _is_number(first):
                continue  # glove.840B has tokens of several words
            if count > size or not all(map(_is_number, (first, *others))):
                raise _malformed(
                    path, number, f"a vector of {keys[word]!r} that is not {size} finite numbers"
                )
            found[keys[word]] = torch.tensor([float(x) for x in (first, *others)], dtype=torch.float32)
            if len(found) == len(keys):
                break
    return found


def _is_number(text: bytes) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def _malformed(path: Path, line: int, found: str) -> ValueError:
    mend = (
        "the format is that of glove.6B.300d.txt: a word, then its numbers; download or unpack the file again"
    )
    return ValueError(f"{path}, line {line}: found {found} ({mend})")
