"""The decoder of LCNet: labels, image and label graph look at each other, then every label is scored.

LCNet (released code of an anonymous submission, 2023) joins three ideas: queries that stand for labels (Liu et al.,
Query2Label, 2021; Ridnik et al., ML-Decoder, WACV 2023), a learned label graph (`label_graph`) and crops (`crops`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.decoders.label_graph import CrossAttention, LabelGraph, Tokens, node_table
from helpers.encoders.crops import GridSize, sine_code, token_boxes


class FusionLayer(nn.Module):
    """One post-norm layer: image and graph look at each other (with `fuses`), labels look at the image.

    labels_first: labels look before image and graph have met.
    """

    def __init__(self, size: int, *, heads: int, dropout: float, fuses: bool, labels_first: bool) -> None:
        super().__init__()
        self.labels_first = labels_first
        self.dropout = nn.Dropout(dropout)
        self.label_norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.labels_to_image = CrossAttention(size, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(size, size))
        if fuses:
            self.image_to_graph = CrossAttention(size, heads, dropout)
            self.graph_to_image = CrossAttention(size, heads, dropout)
            self.image_to_graph_again = CrossAttention(size, heads, dropout)
            self.fusion_norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))

    def forward(
        self, labels: Tensor, image: Tensor, graph: Tensor | None, *, weights: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """labels (B, C, d), image (B, N, d), graph (1 or B, M, d) or None -> the three, and attention.

        Without a graph the image stays as it is. attention: with `weights`, where the labels looked, (B, C, N).
        """
        seen, attention = image, None
        if graph is not None:
            image, graph = self._fuse(image, graph)
        labels = self.label_norms[0](labels + self.dropout(labels))
        seen = seen if self.labels_first else image
        if weights:
            attended, attention = self.labels_to_image.with_weights(labels, seen)
        else:
            attended = self.labels_to_image(labels, seen)
        labels = self.label_norms[1](labels + self.dropout(attended))
        labels = self.label_norms[2](labels + self.dropout(self.mlp(labels)))
        return labels, image, graph, attention

    def _fuse(self, image: Tensor, graph: Tensor) -> tuple[Tensor, Tensor]:
        told = self.fusion_norms[0](image + self.dropout(self.image_to_graph(image, graph)))
        graph = self.fusion_norms[1](graph + self.dropout(self.graph_to_image(graph, image)))
        image = self.fusion_norms[2](told + self.dropout(self.image_to_graph_again(told, graph)))
        return image, graph


class LabelLook(NamedTuple):
    """Scores, and where each label looked in the last layer."""

    logits: Tensor  # (B, C)
    attention: Tensor  # (B, C, N), rows sum to 1


class LabelDecoder(nn.Module):
    """Features -> a score per label, by queries, layers of cross-attention and a label graph.

    Where the released code of LCNet differs from what works best here, its choice is named in brackets.

    hidden_size: d, of labels, image tokens and graph [680]. heads [4]. dropout: in the layers [0.1].
    layers: how often labels, image and graph meet [6]. tie_layers: one layer used again and again [yes].
    graph: "none" (labels look at the image only), "prior" or "learned", see `LabelGraph` ["learned"].
    edges: see `LabelGraph`. graph_size: hidden units of the graph network (default: hidden_size) [1024].
    graph_tokens: "nodes", a token per label; "gram", the rows of Gᵀ G + I, d tokens, G the nodes ["gram"].
    node_features: what the graph network reads: "queries", "vectors" (word vectors) or "learned" ["queries"].
    vectors: (C, v) word vectors; vector_size: v, where a checkpoint brings them.
    queries: "random", drawn once and kept, or "learned" ["random"].
    labels_first: labels look at the image before it has met the graph, so hear of the graph a layer later [yes].
        The last layer then has no fusion, which could have no effect.
    bias: "class", one per label, or "shared" ["shared"].
    positions: add to each token a sine code of where it is on the image, and a vector to those of the whole view of
        crops [no]; needs cells, the (h, w) of a view, and crops, the level.
    standardize, feature_dropout: see `Tokens` [no, 0].
    """

    def __init__(
        self,
        num_labels: int,
        feature_size: int,
        *,
        hidden_size: int = 256,
        heads: int = 4,
        layers: int = 1,
        tie_layers: bool = False,
        dropout: float = 0.1,
        graph: str = "learned",
        edges: Tensor | None = None,
        graph_size: int | None = None,
        graph_tokens: str = "nodes",
        node_features: str = "queries",
        vectors: Tensor | None = None,
        vector_size: int = 300,
        queries: str = "random",
        labels_first: bool = False,
        bias: str = "class",
        positions: bool = False,
        cells: GridSize | None = None,
        crops: int = 0,
        standardize: bool = True,
        feature_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        size = hidden_size
        self.tokens = Tokens(feature_size, standardize=standardize, dropout=feature_dropout)
        self.project = nn.Linear(feature_size, size)
        if positions:
            if cells is None:
                raise ValueError("positions need cells, the (h, w) of a view of the encoder")
            boxes = token_boxes(crops, cells)
            self.register_buffer("code", sine_code(boxes, size), persistent=False)
            self.register_buffer("is_whole", (boxes[:, 2] * cells[1]).round() == 1, persistent=False)
            self.whole_view = nn.Parameter(0.02 * torch.randn(size)) if crops else None
        self.positions = positions
        table = torch.randn(num_labels, size)  # (C, d)
        self.queries = nn.Parameter(table) if queries == "learned" else nn.Buffer(table)
        self.graph = nodes = None
        if graph != "none":
            if node_features != "queries":
                own = size if node_features == "learned" else vector_size
                nodes = node_table(num_labels, node_features, vectors=vectors, size=own)
            self.nodes = nodes
            sizes = size if self.nodes is None else self.nodes.shape[1], graph_size or size, size
            self.graph = LabelGraph(num_labels, *sizes, adjacency=graph, edges=edges)
        self.gram, self.depth, self.labels_first = graph_tokens == "gram", layers, labels_first
        fuses = [graph != "none" and not (labels_first and i == layers - 1) for i in range(layers)]
        options = {"heads": heads, "dropout": dropout, "labels_first": labels_first}
        made = fuses[:1] if tie_layers else fuses
        self.layers = nn.ModuleList(FusionLayer(size, fuses=fuse, **options) for fuse in made)
        self.weight = nn.Parameter(torch.empty(num_labels, size))
        nn.init.xavier_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(num_labels if bias == "class" else 1))

    def forward(self, features: Features) -> Tensor:
        """Features with a grid (B, N, D) -> logits (B, C)."""
        return self._run(features, weights=False)[0]

    def attend(self, features: Features) -> LabelLook:
        """The same logits, and where each label looked. For eval mode: the last layer's weights have no dropout."""
        return LabelLook(*self._run(features, weights=True))

    def graph_memory(self) -> Tensor | None:
        """What the image hears of the graph: (1, C, d), with "gram" (1, d, d); None without a graph."""
        if self.graph is None:
            return None
        nodes = self.graph(self.queries if self.nodes is None else self.nodes)  # (C, d)
        if self.gram:
            nodes = nodes.T @ nodes + torch.eye(nodes.shape[1], device=nodes.device)
        return nodes.unsqueeze(0)

    def _run(self, features: Features, *, weights: bool) -> tuple[Tensor, Tensor | None]:
        image = self.project(self.tokens(features))  # (B, N, D) -> (B, N, d)
        if self.positions:
            image = image + self._position_code(image.shape[1])
        labels, graph = self.queries.expand(len(image), -1, -1), self.graph_memory()
        attention = None
        for i in range(self.depth):
            last = i == self.depth - 1
            layer = self.layers[min(i, len(self.layers) - 1)]
            told = None if self.labels_first and last else graph
            labels, image, graph, attention = layer(labels, image, told, weights=weights and last)
        logits = torch.einsum("bcd,cd->bc", labels, self.weight.to(labels.dtype)) + self.bias
        return logits, attention

    def _position_code(self, tokens: int) -> Tensor:
        if tokens != len(self.code):
            raise ValueError(
                f"the image has {tokens} tokens, but the positions are those of {len(self.code)}: build the system "
                "with the cells and the crop level of its encoder"
            )
        if self.whole_view is None:
            return self.code
        return self.code + self.is_whole.unsqueeze(1) * self.whole_view
