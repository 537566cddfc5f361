"""Captions as words: a tokenizer, its way back, and the vocabulary of the words worth knowing. Taught in notebook 07.

Words are just a larger vocabulary: `labels.Vocabulary` holds them, with ids 0..C-1, `<stop>` = C and `<start>` = C+1.
One more name is special, and is an ordinary id: `<unk>` stands for every word that was too rare to learn.

Word vectors of the labels, from a GloVe text file. Taught in notebook 03.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from helpers.data.labels import START_NAME, STOP_NAME, Vocabulary

UNKNOWN = "<unk>"


SPECIAL = frozenset((UNKNOWN, STOP_NAME, START_NAME))


TOKENIZERS = ("simple", "spacy")

Tokenizer = Callable[[str], list[str]]

# "dog's" is two words, as "don't" is: the endings are so frequent that they are worth an id of their own.
_ENDINGS = ("n't", "'s", "'re", "'ve", "'ll", "'d", "'m")


_TOKEN = re.compile(
    r"""
      \d+(?:[.,:]\d+)+                        # 3.5  1,000  10:30
    | (?<!['\w])'(?:s|re|ve|ll|d|m)(?!['\w])  # an ending that stands alone, as in the files of Flickr8k: the dog 's
    | \w+(?:[-']\w+)*                         # words, also hot-air and o'clock
    | \S                                      # anything else, a character each
    """,
    re.VERBOSE,
)


_SAME = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\u00ad": None})


_NO_BLANK_BEFORE = frozenset(".,;:!?)]}%…")


_NO_BLANK_AFTER = frozenset("([{")


def tokenize(text: str) -> list[str]:
    """The words and punctuation marks of a caption, in small letters: `"A dog's ball."` -> a, dog, 's, ball, "." .

    A word keeps its inner hyphens and apostrophes; the endings n't, 's, 're, 've, 'll, 'd and 'm are words of their
    own. Curly quotes become straight, and what does not print becomes a blank. No token is one of the special names.
    `tokenize(detokenize(tokens)) == tokens` for every list that came from here. Taught in notebook 07.
    """
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).translate(_SAME)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    words = []
    for word in _TOKEN.findall(text):
        ending = next((e for e in _ENDINGS if word.removesuffix(e)[-1:].isalnum() and word.endswith(e)), "")
        words += [word.removesuffix(ending), ending] if ending else [word]
    return words


def detokenize(tokens: Sequence[str]) -> str:
    """Tokens as a sentence: blanks where a typist would put them, a capital in front. The way back of `tokenize`.

    Special names (`<unk>`, `<stop>`, `<start>`) are left out. `["a", "dog", "'s", "ball", "."]` -> "A dog's ball."
    """
    text, before, quoted = "", "", False
    for token in tokens:
        if token in SPECIAL:
            continue
        joined = not text or token in _NO_BLANK_BEFORE or before in _NO_BLANK_AFTER
        if token in _ENDINGS:  # joined to a word only
            joined = not text or (before[-1:].isalnum() and before not in _ENDINGS)
        elif token == '"':
            joined = joined or quoted
        elif before == '"' and quoted:
            joined = True  # what follows an opening quote
        text += token if joined else f" {token}"
        quoted ^= token == '"'
        before = token
    first = text[:1].upper()
    return first + text[1:] if first.lower() == text[:1] else text


def make_tokenizer(name: str = "simple") -> Tokenizer:
    """A tokenizer by name: "simple" is `tokenize`; "spacy" is spaCy's English one, in small letters, if installed.

    spaCy's knows more of the exceptions of English (it also splits words at hyphens); it needs the extra `captions`,
    no model. Raises ValueError for another name and ImportError, with the command that mends it, without spaCy.
    """
    if name not in TOKENIZERS:
        raise ValueError(f"there is no tokenizer {name!r}; there are {', '.join(TOKENIZERS)}")
    if name == "simple":
        return tokenize
    try:
        from spacy.lang.en import English
    except ImportError as error:
        raise ImportError(
            'the tokenizer "spacy" needs the package spacy, which is not installed: '
            "python -m pip install -e '.[captions]' installs it, and \"simple\" does without"
        ) from error
    split = English().tokenizer
    return lambda text: [token.lower_ for token in split(text.strip()) if not token.is_space]


def word_vocabulary(
    captions: Iterable[str], *, min_count: int = 5, tokenizer: Tokenizer = tokenize
) -> Vocabulary:
    """The words that occur at least `min_count` times in these captions; `<unk>`, id 0, stands for all others.

    Give it the captions of the *training* images alone: a word that only a test caption has cannot be known. The
    most frequent word comes first, words as frequent as each other in alphabetical order. Taught in notebook 07.
    Raises ValueError where no word is so frequent.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; a word must occur at least once")
    count = Counter(word for caption in captions for word in tokenizer(caption) if word not in SPECIAL)
    kept = sorted((word for word in count if count[word] >= min_count), key=lambda w: (-count[w], w))
    if not kept:
        raise ValueError(
            f"none of the {len(count):,} words occurs {min_count} times: lower min_count (--min-count), or check that the "
            "training images have captions"
        )
    return Vocabulary([UNKNOWN, *kept])


def encode_words(words: Iterable[str], vocabulary: Vocabulary) -> list[int]:
    """Ids of words; a word that the vocabulary lacks is `<unk>`."""
    return vocabulary.encode(word if word in vocabulary else UNKNOWN for word in words)


def sentence(ids: Iterable[int], vocabulary: Vocabulary) -> str:
    """Ids to a sentence, up to the first `<stop>` and without special names. Taught in notebook 07."""
    names = vocabulary.decode(ids)
    return detokenize(names[: names.index(STOP_NAME)] if STOP_NAME in names else names)


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
