"""Words: captions as tokens and back, the vocabulary of frequent words, and GloVe vectors of labels.

`labels.Vocabulary` holds words as it holds labels, with `<stop>` = C and `<start>` = C+1. One more name is
special,
with an ordinary id: `<unk>` stands for every word that was too rare to learn.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from helpers.data.labels import START_NAME, STOP_NAME, Vocabulary

UNKNOWN = "<unk>"
SPECIAL = frozenset((UNKNOWN, STOP_NAME, START_NAME))
TOKENIZERS = ("simple", "spacy")
LARGEST = torch.finfo(torch.float32).max
Tokenizer = Callable[[str], list[str]]

# "dog's" is two words, as "don't" is: the endings are so frequent that they are worth an id of their own.
_ENDINGS = ("n't", "'s", "'re", "'ve", "'ll", "'d", "'m")
_TOKEN = re.compile(
    r"""
      \d+(?:[.,:]\d+)+                        # 3.5  1,000  10:30
    | (?<!['\w])'(?:s|re|ve|ll|d|m)(?!['\w])  # an ending that stands alone, as in Flickr8k: the dog 's
    | \w+(?:[-']\w+)*                         # words, also hot-air and o'clock
    | \S                                      # anything else, a character each
    """,
    re.VERBOSE,
)
_SAME = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\u00ad": None})
_NO_BLANK_BEFORE = frozenset(".,;:!?)]}%…")
_NO_BLANK_AFTER = frozenset("([{")


def tokenize(text: str) -> list[str]:
    """The words and punctuation marks of a caption, in small letters: "A dog's." -> a, dog, 's, "." .

    A word keeps its inner hyphens and apostrophes; the endings n't, 's, 're, 've, 'll, 'd and 'm are words of
    their own. Curly quotes become straight, and what does not print becomes a blank. No token is a special
    name. `tokenize(detokenize(tokens)) == tokens` for every list that came from here.
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
    """Tokens as a sentence without special names: a capital in front, blanks where a typist puts them."""
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
    """A tokenizer by name: "simple" is `tokenize`; "spacy" is spaCy's English one, in small letters.

    spaCy knows more exceptions and splits words at hyphens; it needs the extra `captions`. Raises ValueError
    for another name and ImportError without spaCy.
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
    """The words that occur at least `min_count` times in these captions; `<unk>`, id 0, is all others.

    Give it the captions of the *training* images alone. The most frequent word comes first, equally frequent
    words in alphabetical order. Raises ValueError where no word is so frequent.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; a word must occur at least once")
    count = Counter(word for caption in captions for word in tokenizer(caption) if word not in SPECIAL)
    kept = sorted((word for word in count if count[word] >= min_count), key=lambda w: (-count[w], w))
    if not kept:
        raise ValueError(
            f"none of the {len(count):,} words occurs {min_count} times: lower min_count (--min-count), or "
            "check that the training images have captions"
        )
    return Vocabulary([UNKNOWN, *kept])


def encode_words(words: Iterable[str], vocabulary: Vocabulary) -> list[int]:
    """Ids of words; a word that the vocabulary lacks is `<unk>`."""
    return vocabulary.encode(word if word in vocabulary else UNKNOWN for word in words)


def sentence(ids: Iterable[int], vocabulary: Vocabulary) -> str:
    """Ids to a sentence, up to the first `<stop>` and without special names."""
    names = vocabulary.decode(ids)
    return detokenize(names[: names.index(STOP_NAME)] if STOP_NAME in names else names)


class GloveVectors(NamedTuple):
    """vectors: (C+2, d) float32: labels, `<stop>`, `<start>`. missing: the names with a random row."""

    vectors: Tensor
    missing: tuple[str, ...]


def load_glove(
    path: Path | str, vocabulary: Vocabulary, *, seed: int = 0, progress: bool = True
) -> GloveVectors:
    """Vectors of a vocabulary from a GloVe text file, e.g. glove.6B.300d.txt (Pennington et al., EMNLP 2014).

    Rows C and C+1 are the words "stop" and "start". A name is looked up as it is, then in lower case, then as
    the mean of its parts between blanks, `_` and `-`. A name that is not in the file gets a random row, drawn
    from `seed`, as long as the vectors that were found. Memory holds only the words that are needed.

    Raises ValueError, with the line number, for a line that is not a word and d numbers, and where the file
    has none of the names.
    """
    names = [*vocabulary.labels, "stop", "start"]
    parts = {name: [part for part in re.split(r"[\s_-]+", name.lower()) if part] for name in names}
    wanted = {word for name in names for word in (name, name.lower(), *parts[name])}
    found = _read_glove(Path(path), wanted, progress=progress)
    if not found:
        raise ValueError(f"{path} has none of the {len(names)} words looked for: is it the right file?")
    rows: list[Tensor | None] = []
    for name in names:
        known = [found[part] for part in parts[name] if part in found]
        mean = torch.stack(known).mean(dim=0) if known else None
        rows.append(found.get(name, found.get(name.lower(), mean)))
    present = torch.stack([row for row in rows if row is not None])
    # A row for every id, needed or not: the draw of one label does not depend on what else is missing.
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(names), present.shape[1], generator=generator) * present.square().mean().sqrt()
    vectors = torch.stack([drawn[i] if row is None else row for i, row in enumerate(rows)])
    return GloveVectors(vectors, tuple(name for name, row in zip(names, rows, strict=True) if row is None))


def _read_glove(path: Path, wanted: set[str], *, progress: bool) -> dict[str, Tensor]:
    """The vectors (d,) float32 of the `wanted` words that the text file has."""
    keys = {word.encode(): word for word in wanted}
    found: dict[str, Tensor] = {}
    size = 0  # d, from the first line
    show = {"unit": "B", "unit_scale": True, "delay": 1, "disable": not progress}
    bar = tqdm(total=path.stat().st_size, desc=path.name, **show)
    with path.open("rb") as file, bar:
        for number, line in enumerate(file, start=1):
            bar.update(len(line))
            word, _, numbers = line.rstrip().partition(b" ")
            count = len(numbers) and numbers.count(b" ") + 1  # of all lines; only the needed ones are read
            size = size or count
            try:
                vector = [float(x) for x in numbers.split(b" ")] if word in keys else []
                if not count or count != size or not all(abs(x) < LARGEST for x in vector):
                    raise ValueError(f"{count} numbers")
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: expected a word and {size or 'its'} finite numbers as in "
                    f"glove.6B.300d.txt, found {line[:60]!r} ({error}); unpack or download the file again"
                ) from error
            if vector:
                found.setdefault(keys[word], torch.tensor(vector, dtype=torch.float32))
    return found
