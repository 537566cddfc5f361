"""Labels as a graph: which of them go together, and a graph network over them.

A prior (C, C) says which labels are near, from word vectors or from the training labels. `neighbours` makes edges
of it, `LabelGraph` a vector for every label that has heard from its neighbours; attention may add edges of its own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.decoders.base import FeatureNorm, need_grid, over_cells


def cosine_prior(vectors: Tensor) -> Tensor:
    """Cosine similarity of the labels' word vectors (C, d) -> (C, C) float32, zero on the diagonal."""
    unit = F.normalize(vectors.float(), dim=1)
    return (unit @ unit.T).fill_diagonal_(0.0)


def cooccurrence_prior(multi_hot: Tensor) -> Tensor:
    """P(j | i), how often a training image with label i has label j: (N, C) 0/1 -> (C, C) float32, diagonal 0.

    Chen et al., Multi-Label Image Recognition with Graph Convolutional Networks, CVPR 2019, section 3.3.
    """
    present = multi_hot.float()
    together = present.T @ present  # (C, C), on the diagonal the images of a label
    return (together / together.diagonal().clamp(min=1).unsqueeze(1)).fill_diagonal_(0.0)


def neighbours(prior: Tensor, threshold: float, *, weight: float = 0.25) -> Tensor:
    """Edges where the prior is at least the threshold, none from a label to itself: (C, C) -> (C, C) float32.

    The edges that enter a label (its column) share `weight` (Chen et al., equations 7 and 8).
    """
    edges = (prior >= threshold).float().fill_diagonal_(0.0)
    return weight * edges / edges.sum(0).clamp(min=1)


def normalized(adjacency: Tensor) -> Tensor:
    """R^(-1/2) Aᵀ R^(-1/2), R the row sums of A (C, C), which must be above 0. Kipf and Welling, ICLR 2017."""
    scale = adjacency.sum(1).rsqrt()
    return scale.unsqueeze(1) * adjacency.T * scale


class CrossAttention(nn.Module):
    """x looks at memory: (B, Q, d), (B, M, d) -> (B, Q, d), as `nn.MultiheadAttention` does.

    Either may have batch size 1 and is then projected once for all images. dropout: of the attention weights.
    inner: size of queries, keys and values of all heads together, d by default, a multiple of heads.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0, *, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or size
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(size, inner)
        self.key = nn.Linear(size, inner, bias=False)  # softmax would not see its bias
        self.value = nn.Linear(size, inner)
        self.out = nn.Linear(inner, size)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = self._heads(x, memory)
        dropout = self.dropout if self.training else 0.0
        return self._join(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout))

    def with_weights(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and where x looked: (B, Q, M), mean of the heads; rows sum to 1. Slower, and without dropout."""
        q, k, v = self._heads(x, memory)
        weights = (q @ k.mT / math.sqrt(q.shape[3])).softmax(3)  # (B, heads, Q, M)
        return self._join(weights @ v), weights.mean(1)

    def _heads(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch = max(len(x), len(memory))
        # (1 or B, length, d) -> (B, heads, length, inner / heads)
        parts = [self.query(x), self.key(memory), self.value(memory)]
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return tuple(part.expand(batch, -1, -1, -1) for part in (q, k, v))

    def _join(self, attended: Tensor) -> Tensor:
        return self.out(attended.transpose(1, 2).flatten(2))  # (B, heads, Q, inner / heads) -> (B, Q, d)


class SelfAttention(CrossAttention):
    """Multi-head attention among C rows of any width: (C, width) to the same; no residual, no dropout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, inner=heads * -(-width // heads))  # the next multiple of the heads

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(0), x.unsqueeze(0))[0]


class LabelGraph(nn.Module):
    """A graph network over the labels; the graph is given, or given and learned.

    node_size: of what it reads. hidden_size, out_size: of its two layers. heads: of the self-attentions.
    adjacency: "prior", the edges and every label itself, A + I (Chen et al., CVPR 2019); or "learned", A + I + S
        where the rows of S are a softmax over attention(A)·attention(A), two self-attentions with the rows of A as
        tokens (Yuan et al., Graph Attention Transformer Network, 2022).
    edges: A, (C, C) from `neighbours`, not learned; None: no edge (a checkpoint brings its own).

    The published learned graph is I plus the bare product, whose row sums can be negative, and the square root of that
    is NaN. With a softmax every row sum is at least 1; and as A is added, learning starts from the prior.
    """

    def __init__(
        self,
        num_labels: int,
        node_size: int,
        hidden_size: int,
        out_size: int,
        *,
        adjacency: str = "learned",
        edges: Tensor | None = None,
        heads: int = 4,
    ) -> None:
        super().__init__()
        edges = torch.zeros(num_labels, num_labels) if edges is None else edges.float()
        if edges.shape != (num_labels, num_labels) or not (edges >= 0).all() or not edges.isfinite().all():
            raise ValueError(
                f"edges must be ({num_labels}, {num_labels}) numbers that are not negative, found "
                f"{tuple(edges.shape)}: make them with neighbours(prior, threshold) for these labels"
            )
        self.register_buffer("edges", edges)
        self.learned = adjacency == "learned"
        if self.learned:
            self.norm = nn.LayerNorm(num_labels, eps=1e-6)
            self.left = SelfAttention(num_labels, heads)
            self.right = SelfAttention(num_labels, heads)
        self.first = nn.Parameter(torch.empty(node_size, hidden_size))
        self.second = nn.Parameter(torch.empty(hidden_size, out_size))
        for weight in (self.first, self.second):
            nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)

    def learned_edges(self) -> Tensor:
        """S, (C, C): what attention adds to the prior; its rows sum to 1."""
        rows = self.norm(self.edges)
        return (self.left(rows) @ self.right(rows)).float().softmax(1)

    def adjacency(self) -> Tensor:
        """(C, C) float32 at least 0: how much row i takes from label j, normalised."""
        graph = self.edges + torch.eye(len(self.edges), device=self.edges.device)
        return normalized(graph + self.learned_edges() if self.learned else graph)

    def forward(self, nodes: Tensor) -> Tensor:
        """Vectors of the labels (C, node_size) -> (C, out_size)."""
        adjacency = self.adjacency().to(nodes.dtype)
        hidden = F.leaky_relu(adjacency @ (nodes @ self.first), 0.2)
        return adjacency @ (hidden @ self.second)


class Tokens(nn.Module):
    """The grid of an image as a network reads it: standardised (batch-norm) on request, with dropout, (B, N, D)."""

    def __init__(self, feature_size: int, *, standardize: bool, dropout: float) -> None:
        super().__init__()
        self.size = feature_size
        self.norm = FeatureNorm(feature_size) if standardize else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        return self.dropout(over_cells(self.norm, need_grid(features, self.size)))


class GraphClassifier(nn.Module):
    """ML-GCN: the weights of a classifier are written by a graph network over the labels.

    logits = W·max over the grid, W (C, D) = graph network of the labels' word vectors (Chen et al., CVPR 2019).
    Options: see `LabelGraph`, `node_table` and `Tokens`.
    """

    def __init__(
        self,
        num_labels: int,
        feature_size: int,
        *,
        hidden_size: int = 256,
        adjacency: str = "prior",
        edges: Tensor | None = None,
        node_features: str = "learned",
        vectors: Tensor | None = None,
        vector_size: int = 300,
        standardize: bool = True,
        feature_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.tokens = Tokens(feature_size, standardize=standardize, dropout=feature_dropout)
        self.nodes = node_table(num_labels, node_features, vectors=vectors, size=vector_size)
        sizes = num_labels, self.nodes.shape[1], hidden_size, feature_size
        self.graph = LabelGraph(*sizes, adjacency=adjacency, edges=edges)

    def forward(self, features: Features) -> Tensor:
        """Features with a grid (B, N, D) -> logits (B, C)."""
        return self.tokens(features).amax(1) @ self.graph(self.nodes).T


def node_table(num_labels: int, kind: str, *, vectors: Tensor | None, size: int) -> Tensor:
    """What a graph network reads: `kind` "learned", a parameter (C, size); "vectors", a buffer of vectors (C, d).

    Without vectors the buffer is (C, size), for those of a checkpoint. Raises ValueError for vectors of other labels.
    """
    if kind == "learned":
        return nn.Parameter(torch.randn(num_labels, size))
    if vectors is None:
        return nn.Buffer(torch.zeros(num_labels, size))
    if len(vectors) != num_labels:
        raise ValueError(
            f"there are {len(vectors)} label vectors for {num_labels} labels: give one per label"
        )
    return nn.Buffer(vectors.float())
