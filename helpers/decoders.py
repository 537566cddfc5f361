"""From features to a label sequence, one label at a time: the step interface and the LSTM decoders.

Teacher forcing, free running, greedy, sampling, beam search and the order-free losses all drive the same two
methods, so a new decoder that has them gets all of those.

    state = decoder.start(features)
    logits, state, attention = decoder.step(tokens, state)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from helpers.batch import Features


class State(NamedTuple):
    """What a decoder remembers between two steps. Every tensor has the batch first.

    hidden: tensors that every step replaces, for instance (h, c) of an LSTM, each (B, H).
    memory: tensors computed once in `start` and only read afterwards, for instance the projected image grid.
    """

    hidden: tuple[Tensor, ...]
    memory: tuple[Tensor, ...] = ()

    def select(self, index: Tensor) -> State:
        """The state of the rows `index` (K,) int64, in that order; a row may be taken more than once."""
        return State(tuple(x[index] for x in self.hidden), tuple(x[index] for x in self.memory))

    def select_hidden(self, index: Tensor) -> State:
        """The hidden tensors of the rows `index` (K,) int64; the memory as it is.

        For beams: K is a whole multiple of the batch, the rows of one image stand together, and all beams of an
        image read the one memory it has.
        """
        return self._replace(hidden=tuple(x[index] for x in self.hidden))


class Decoder(nn.Module):
    """The step interface. Taught in notebook 03.

    Token ids are labels `0..C-1`, `<stop>` = C, `<start>` = C + 1. A decoder reads ids in `0..C+1` and scores
    V = C + 1 outputs: it can never emit `<start>`.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        if num_labels < 1:
            raise ValueError(f"num_labels is {num_labels}; a decoder needs at least one label")
        self.num_labels = num_labels
        self.stop_token = num_labels
        self.start_token = num_labels + 1

    def start(self, features: Features) -> State:
        """Everything that does not depend on the labels, computed once: `Features` of B images -> `State`."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State, Tensor | None]:
        """One step: tokens (B,) int64 -> logits (B, V), the next state, attention (B, L) or None."""
        raise NotImplementedError

    def forward(self, features: Features, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Teacher forcing: the inputs of all steps are known.

        tokens: (B, T) int64, `<start>` and the true labels but the last.
        Returns logits (B, T, V) and attention (B, T, L) or None.
        """
        state = self.start(features)
        logits, attention = [], []
        for t in range(tokens.shape[1]):
            step_logits, state, step_attention = self.step(tokens[:, t], state)
            logits.append(step_logits)
            attention.append(step_attention)
        return torch.stack(logits, 1), None if attention[0] is None else torch.stack(attention, 1)


def label_embedding(
    num_labels: int, size: int, vectors: Tensor | None = None, *, freeze: bool
) -> nn.Embedding:
    """Embedding of the C labels, `<stop>` and `<start>`.

    vectors: (C + 2, size) float, for instance `GloveVectors.vectors`; None draws random ones.
    freeze: keep given vectors as they are (random ones are always learned).
    """
    if vectors is None:
        return nn.Embedding(num_labels + 2, size)
    if vectors.shape[0] != num_labels + 2:
        raise ValueError(
            f"the label vectors have {vectors.shape[0]} rows, but {num_labels} labels, <stop> and <start> need "
            f"{num_labels + 2}: load them with the vocabulary of this model"
        )
    return nn.Embedding.from_pretrained(vectors.float(), freeze=freeze)


class LabelLSTM(Decoder):
    """An LSTM that sees the image once, as its first hidden state (RIA). Taught in notebook 03.

    h0 = W pooled + b and c0 = 0; step t reads the embedding of the previous label and scores all labels and
    `<stop>` (Jin and Nakayama, "Annotation Order Matters: Recurrent Image Annotator for Arbitrary Length Image
    Tagging", ICPR 2016).

    num_labels: C. feature_size: D of the pooled features. hidden_size: H.
    image: "state" as above; "step": h0 = c0 = 0, and the LSTM reads W pooled + b as if it were a word, in a step of
        its own before `<start>`, whose scores nobody asks for (Vinyals et al., "Show and Tell: A Neural Image Caption
        Generator", CVPR 2015, eq. 10 to 12; notebook 07).
    embedding_size: of the labels; ignored where `vectors` (C + 2, E) are given.
    input_dropout is applied to the embedding, output_dropout before the scores.
    """

    def __init__(
        self,
        num_labels: int,
        feature_size: int,
        *,
        hidden_size: int = 512,
        embedding_size: int = 300,
        vectors: Tensor | None = None,
        freeze_vectors: bool = True,
        input_dropout: float = 0.3,
        output_dropout: float = 0.5,
        image: Literal["state", "step"] = "state",
    ) -> None:
        super().__init__(num_labels)
        if image not in ("state", "step"):
            raise ValueError(f"image is {image!r}; choose 'state' or 'step'")
        self.embedding = label_embedding(num_labels, embedding_size, vectors, freeze=freeze_vectors)
        self.initial_hidden = self.image_input = None
        if image == "state":
            self.initial_hidden = nn.Linear(feature_size, hidden_size)
        else:
            self.image_input = nn.Linear(feature_size, self.embedding.embedding_dim)
        self.input_dropout = nn.Dropout(input_dropout)
        self.lstm = nn.LSTM(self.embedding.embedding_dim, hidden_size, batch_first=True)
        self.output_dropout = nn.Dropout(output_dropout)
        self.scores = nn.Linear(hidden_size, num_labels + 1)

    def start(self, features: Features) -> State:
        if self.initial_hidden is not None:
            h = self.initial_hidden(features.pooled)  # (B, H)
            return State(hidden=(h, torch.zeros_like(h)))
        x = self.input_dropout(self.image_input(features.pooled)).unsqueeze(1)  # (B, 1, E)
        _, (h, c) = self.lstm(x)
        return State(hidden=(h.squeeze(0), c.squeeze(0)))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State, None]:
        logits, state = self._run(tokens.unsqueeze(1), state)  # (B,) -> (B, 1)
        return logits.squeeze(1), state, None

    def forward(self, features: Features, tokens: Tensor) -> tuple[Tensor, None]:
        # No step depends on an earlier output, so the whole sequence is one call of the fused kernel.
        logits, _ = self._run(tokens, self.start(features))
        return logits, None

    def _run(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        x = self.input_dropout(self.embedding(tokens))  # (B, T, E)
        h, c = state.hidden
        y, (h, c) = self.lstm(x, (h.unsqueeze(0), c.unsqueeze(0)))  # y (B, T, H); h, c (1, B, H)
        return self.scores(self.output_dropout(y)), State(hidden=(h.squeeze(0), c.squeeze(0)))
