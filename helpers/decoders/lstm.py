"""Decoders that see one vector per image: the LSTM of RIA, and CNN-RNN, which scores in a joint embedding."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.decoders.base import Decoder, FeatureNorm, State, label_embedding


class _EmbeddingLSTM(Decoder):
    """An LSTM that reads label embeddings only: all steps of known labels are one call of the fused kernel."""

    embedding: nn.Embedding
    input_dropout: nn.Dropout
    lstm: nn.LSTM

    def output(self, outputs: Tensor, state: State) -> Tensor:
        """LSTM outputs (R, T, H) -> logits (R, T, V)."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State, None]:
        logits, state = self._run(tokens.unsqueeze(1), state)  # (R,) -> (R, 1)
        return logits.squeeze(1), state, None

    def forward(self, features: Features, tokens: Tensor) -> tuple[Tensor, None]:
        return self._run(tokens, self.start(features))[0], None

    def _run(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        x = self.input_dropout(self.embedding(tokens))  # (R, T, E)
        h, c = state.hidden
        outputs, (h, c) = self.lstm(x, (h.unsqueeze(0), c.unsqueeze(0)))  # (R, T, H); h, c (1, R, H)
        return self.output(outputs, state), state._replace(hidden=(h.squeeze(0), c.squeeze(0)))


class LabelLSTM(_EmbeddingLSTM):
    """An LSTM that sees the image once, as its first hidden state (RIA).

    h0 = W pooled + b and c0 = 0; step t reads the embedding of the previous label and scores all labels and
    `<stop>` (Jin and Nakayama, "Annotation Order Matters: Recurrent Image Annotator for Arbitrary Length Image
    Tagging", ICPR 2016).

    image: "state" as above; "step": h0 = c0 = 0, and the LSTM reads W pooled + b like a word, in an extra input step
        before `<start>`; its logits are not computed (Vinyals et al., "Show and Tell", CVPR 2015, eq. 10 to 12).
    learn_cell: with "state", c0 is linear in pooled too, not 0 (Xu et al., "Show, Attend and Tell", ICML 2015).
    vectors: (C + 2, E) float, given embeddings; embedding_size is ignored then.
    input_dropout: on the embedding. output_dropout: before the scores.
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
        input_dropout: float = 0.0,
        output_dropout: float = 0.3,
        image: Literal["state", "step"] = "state",
        learn_cell: bool = False,
    ) -> None:
        super().__init__(num_labels)
        self.embedding = label_embedding(num_labels, embedding_size, vectors, freeze=freeze_vectors)
        self.initial_hidden = self.initial_cell = self.image_input = None
        if image == "state":
            self.initial_hidden = nn.Linear(feature_size, hidden_size)
            self.initial_cell = nn.Linear(feature_size, hidden_size) if learn_cell else None
        else:
            self.image_input = nn.Linear(feature_size, self.embedding.embedding_dim)
        self.input_dropout = nn.Dropout(input_dropout)
        self.lstm = nn.LSTM(self.embedding.embedding_dim, hidden_size, batch_first=True)
        self.output_dropout = nn.Dropout(output_dropout)
        self.scores = nn.Linear(hidden_size, num_labels + 1)

    def start(self, features: Features) -> State:
        if self.initial_hidden is not None:
            h = self.initial_hidden(features.pooled)  # (B, H)
            c = torch.zeros_like(h) if self.initial_cell is None else self.initial_cell(features.pooled)
            return State(hidden=(h, c))
        x = self.input_dropout(self.image_input(features.pooled)).unsqueeze(1)  # (B, 1, E)
        _, (h, c) = self.lstm(x)
        return State(hidden=(h.squeeze(0), c.squeeze(0)))

    def output(self, outputs: Tensor, state: State) -> Tensor:
        return self.scores(self.output_dropout(outputs))


class JointEmbedding(_EmbeddingLSTM):
    """CNN-RNN: the image joins at the output of every step, and the label embedding also scores.

    The LSTM reads only labels: o_t = LSTM(w of the previous label), from a zero state. Then x_t = ReLU(U_o o_t +
    U_I I) in the space of the embedding, and the score of a label is w · x_t with its own embedding w: a label is
    read and scored by the same vector (Wang, Yang, Mao, Huang, Huang and Xu, "CNN-RNN: A Unified Framework for
    Multi-label Image Classification", CVPR 2016; there E = 64, H = 512, dropout 0.5).

    vectors: (C + 2, E) float, given embeddings; embedding_size is ignored then.
    image_first: HybridNet. The LSTM reads the image before the first label, as BatchNorm(W I + b) of E numbers with
        momentum 0.01, and x_t = ReLU(U_o o_t).
    input_dropout: on the embedding that is read. output_dropout: on both projections into the joint space.
    """

    def __init__(
        self,
        num_labels: int,
        feature_size: int,
        *,
        hidden_size: int = 512,
        embedding_size: int = 64,
        vectors: Tensor | None = None,
        freeze_vectors: bool = False,
        image_first: bool = False,
        input_dropout: float = 0.0,
        output_dropout: float = 0.3,
    ) -> None:
        super().__init__(num_labels)
        self.image_first = image_first
        if vectors is None:
            # Scores are products with these rows: of length 1 on average, they start near 0 for every label.
            vectors = torch.randn(num_labels + 2, embedding_size) * embedding_size**-0.5
            freeze_vectors = False
        self.embedding = label_embedding(num_labels, embedding_size, vectors, freeze=freeze_vectors)
        size = self.embedding.embedding_dim
        self.input_dropout = nn.Dropout(input_dropout)
        self.lstm = nn.LSTM(size, hidden_size, batch_first=True)
        self.from_state = nn.Linear(hidden_size, size)  # U_o
        self.from_image = nn.Linear(feature_size, size)  # U_I; with image_first W, what the LSTM reads
        self.image_norm = FeatureNorm(size, momentum=0.01) if image_first else None
        self.output_dropout = nn.Dropout(output_dropout)

    def start(self, features: Features) -> State:
        """`Features` of B images -> State(hidden=(h, c), memory=(U_I I (B, E),)); no memory with image_first."""
        image = self.from_image(features.pooled)  # (B, E)
        zero = image.new_zeros(len(image), self.lstm.hidden_size)
        if not self.image_first:
            return State((zero, zero), (self.output_dropout(image),))
        _, (h, c) = self.lstm(self.image_norm(image).unsqueeze(1), (zero.unsqueeze(0), zero.unsqueeze(0)))
        return State((h.squeeze(0), c.squeeze(0)))

    def output(self, outputs: Tensor, state: State) -> Tensor:
        x = self.output_dropout(self.from_state(outputs))  # (R, T, E)
        if not self.image_first:
            image = state.memory[0]  # (B, E); the R / B rows of an image stand side by side
            x = x + image.repeat_interleave(len(x) // len(image), 0).unsqueeze(1)
        return x.relu() @ self.embedding.weight[: self.num_labels + 1].T  # (V, E): `<start>` is never scored
