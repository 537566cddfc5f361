"""The captioner: a decoder that writes a sentence word by word, trained on captions.

It is a `SequenceSystem` with words for labels. Its search differs in options only: a sentence may repeat a word and
never holds `<unk>`. An image has several true sentences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary, to_multi_hot
from helpers.data.words import UNKNOWN, sentence
from helpers.decoders.base import Decoder
from helpers.decoders.beam import beam
from helpers.decoders.search import Decoded, greedy, sample
from helpers.systems.base import Prediction
from helpers.systems.sequence import SequenceSystem


@dataclass(frozen=True)
class Decoding:
    """How a sentence is found: greedily, by beam search, or drawn.

    beam: sequences kept, 1 is greedy. length_penalty: of `beam.beam`; 0 prefers short sentences, 1 does not.
    temperature: above 0 draws the words instead (`search.sample`), with generator; it goes with beam=1.
    """

    beam: int = 1
    length_penalty: float = 0.0
    temperature: float = 0.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.beam < 1 or self.temperature < 0:
            raise ValueError(
                f"beam is {self.beam} and temperature {self.temperature}; expected at least 1 and at least 0"
            )
        if self.beam > 1 and self.temperature:
            raise ValueError("a beam searches and a temperature draws: give one of both")


class Captioner(SequenceSystem):
    """A decoder trained by teacher forcing, on one caption per image in a batch.

    vocabulary: of words (`words.word_vocabulary`). max_labels: words at most. `<unk>` is learned and read like any
    word, because what comes after it must be learned, but never said: the other words share its probability.
    decoding: how `predict` finds the sentence; may be set at any time. Other arguments as in `SequenceSystem`.
    """

    select = "BLEU-4"

    def __init__(
        self, vocabulary: Vocabulary, decoder: Decoder, *, encoder: nn.Module | None = None, **options: Any
    ) -> None:
        super().__init__(vocabulary, decoder, encoder=encoder, **options)
        self.never = tuple(vocabulary.encode([UNKNOWN])) if UNKNOWN in vocabulary else ()

    def search_with(self, *, beam_width: int = 1, top_k: int | None = None) -> None:
        """Search for sentences greedily or with a beam; sets `decoding`. A sentence has no top_k: ValueError."""
        if top_k is not None:
            raise ValueError(f"top_k is {top_k}, but a sentence ends where it ends: leave it out")
        self.decoding = Decoding(beam=beam_width)

    def decode(self, features: Features) -> Decoded:
        """The sentences of B images as word ids, from their features."""
        how, seen = self.decoding, self.decoder_features(features)
        limits = {"max_steps": self.max_labels + 1, "repeats": True, "never": self.never}
        if how.beam > 1:
            found = beam(
                self.decoder,
                seen,
                width=how.beam,
                length_penalty=how.length_penalty,
                only_best=True,
                **limits,
            )
            return found.best()
        if how.temperature:
            return sample(self.decoder, seen, temperature=how.temperature, generator=how.generator, **limits)
        return greedy(self.decoder, seen, **limits)

    def predict(self, features: Features) -> Prediction:
        """The sentences in `decoded`; `predicted` (B, C) is the set of their words."""
        decoded = self.decode(features)
        return Prediction(to_multi_hot(decoded.tokens, len(self.vocabulary)).bool(), decoded=decoded)

    def unmasked_tokens(self, features: Features) -> None:
        """None: a sentence may always repeat its words."""
        return None

    def text(self, ids: Iterable[int]) -> str:
        """Word ids as a sentence, up to the first `<stop>` and without special names."""
        return sentence(ids, self.vocabulary)

    def sentences(self, decoded: Decoded) -> list[str]:
        """The sentences of B images as text."""
        return [self.text(ids) for ids in decoded.tokens.tolist()]
