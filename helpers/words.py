"""Captions as words: a tokenizer, its way back, and the vocabulary of the words worth knowing. Taught in notebook 07.

Words are just a larger vocabulary: `labels.Vocabulary` holds them, with ids 0..C-1, `<stop>` = C and `<start>` = C+1.
One more name is special, and is an ordinary id: `<unk>` stands for every word that was too rare to learn.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from helpers.labels import START_NAME, STOP_NAME, Vocabulary

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
