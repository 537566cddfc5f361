"""The captioner: a decoder that writes a sentence word by word, trained on captions.

It is a `SequenceSystem` with words for labels: a sentence may repeat a word and never holds `<unk>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.data.words import UNKNOWN, sentence
from helpers.decoders.base import Decoder
from helpers.decoders.search import Decoded
from helpers.systems.sequence import Decoding, SequenceSystem

__all__ = ["Captioner", "Decoding"]


class Captioner(SequenceSystem):
    """A decoder trained by teacher forcing, on one caption per image in a batch.

    vocabulary: of words (`words.word_vocabulary`). max_labels: words at most. `<unk>` is learned and read like any
    word, because what comes after it must be learned, but never said: the other words share its probability.
    """

    select = "BLEU-4"

    def __init__(self, vocabulary: Vocabulary, decoder: Decoder, **options: Any) -> None:
        super().__init__(vocabulary, decoder, **options)
        self.never = tuple(vocabulary.encode([UNKNOWN])) if UNKNOWN in vocabulary else ()

    def search_with(self, *, beam_width: int = 1, top_k: int | None = None) -> None:
        """Search for sentences greedily or with a beam. A sentence has no top_k: ValueError."""
        if top_k is not None:
            raise ValueError(f"top_k is {top_k}, but a sentence ends where it ends: leave it out")
        super().search_with(beam_width=beam_width)

    def limits(self) -> dict[str, Any]:
        return super().limits() | {"repeats": True, "never": self.never}

    def unmasked_tokens(self, features: Features) -> None:
        """None: a sentence may always repeat its words."""
        return None

    def text(self, ids: Iterable[int]) -> str:
        """Word ids as a sentence, up to the first `<stop>` and without special names."""
        return sentence(ids, self.vocabulary)

    def sentences(self, decoded: Decoded) -> list[str]:
        """The sentences of B images as text."""
        return [self.text(ids) for ids in decoded.tokens.tolist()]
