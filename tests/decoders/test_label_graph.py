"""The label graph: its priors are the formulas, it is never NaN, and it belongs to labels, not to their numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scripted import relabel
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.decoders.label_graph import (
    GraphClassifier,
    LabelGraph,
    SelfAttention,
    cooccurrence_prior,
    cosine_prior,
    neighbours,
    normalized,
)

C, E, H, D = 7, 5, 6, 8


def random_edges(labels: int = C, seed: int = 0) -> Tensor:
    prior = torch.rand(labels, labels, generator=torch.Generator().manual_seed(seed))
    return neighbours(prior, 0.6)


def test_cooccurrence_is_a_conditional_probability() -> None:
    images = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]])
    prior = cooccurrence_prior(images)
    expected = torch.zeros(4, 4)
    for i in range(4):
        for j in range(4):
            with_i = [row for row in images.tolist() if row[i]]
            if i != j and with_i:
                expected[i, j] = sum(row[j] for row in with_i) / len(with_i)
    assert torch.allclose(prior, expected)
    assert prior[0, 1] == pytest.approx(2 / 3) and prior[1, 0] == 1  # it has a direction
    assert (prior[3] == 0).all(), "a label without images has no row of NaN"


def test_cosine_prior_of_words() -> None:
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 1.0], [0.0, 0.0]])
    prior = cosine_prior(vectors)
    half = 0.5**0.5
    assert torch.allclose(prior[0], torch.tensor([0, 1, 0, -half, 0]), atol=1e-6)
    assert torch.equal(prior, prior.T) and (prior.diagonal() == 0).all() and prior.isfinite().all()


@given(labels=st.integers(1, 9), threshold=st.floats(0.05, 1), seed=st.integers(0, 99))
def test_edges_that_enter_a_label_share_a_weight(labels: int, threshold: float, seed: int) -> None:
    prior = torch.rand(labels, labels, generator=torch.Generator().manual_seed(seed))
    edges = neighbours(prior, threshold)
    for j in range(labels):
        entering = [i for i in range(labels) if i != j and prior[i, j] >= threshold]
        expected = torch.zeros(labels)
        expected[entering] = 0.25 / max(len(entering), 1)
        assert torch.allclose(edges[:, j], expected)


def test_normalising_is_the_formula() -> None:
    a = torch.rand(C, C) + 0.1
    scale = torch.diag(a.sum(1) ** -0.5)
    assert torch.allclose(normalized(a), scale @ a.T @ scale, atol=1e-6)


def released_adjacency(graph: LabelGraph) -> Tensor:
    """The rule of the released code: I and the bare product of the two attentions, normalised by its row sums."""
    rows = graph.norm(graph.edges)
    return normalized(graph.left(rows) @ graph.right(rows) + torch.eye(len(graph.edges)))


def test_the_learned_graph_is_never_nan_where_the_released_rule_is() -> None:
    released = 0
    for seed in range(40):
        torch.manual_seed(seed)
        graph = LabelGraph(20, E, H, D, edges=random_edges(20, seed))
        for module in (graph.left, graph.right):  # as the release starts them
            for weight in module.parameters():
                if weight.ndim == 2:
                    nn.init.xavier_uniform_(weight)
        with torch.no_grad():
            found = graph.adjacency()
            assert found.isfinite().all() and (found >= 0).all()
            released += bool(released_adjacency(graph).isnan().any())
    assert released > 0, "the test would not notice a rule that can fail"


@given(scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e3]), seed=st.integers(0, 50), bare=st.booleans())
def test_the_learned_graph_is_finite_whatever_the_weights(scale: float, seed: int, bare: bool) -> None:
    torch.manual_seed(seed)
    graph = LabelGraph(C, E, H, D, edges=None if bare else random_edges(seed=seed))
    with torch.no_grad():
        for name, weight in graph.named_parameters():
            if name.startswith(("left", "right", "norm")):
                weight.copy_(torch.randn_like(weight) * scale)
    found = graph.adjacency()
    assert found.isfinite().all() and (found >= 0).all()
    found.sum().backward()
    gradients = [p.grad for p in graph.left.parameters()]
    assert all(g.isfinite().all() for g in gradients)


def test_adjacency_of_the_prior_is_the_edges_and_oneself() -> None:
    edges = random_edges()
    graph = LabelGraph(C, E, H, D, adjacency="prior", edges=edges)
    assert {name for name, _ in graph.named_parameters()} == {"first", "second"}
    assert torch.allclose(graph.adjacency(), normalized(edges + torch.eye(C)))
    nodes = torch.randn(C, E)
    a = graph.adjacency()
    hidden = torch.nn.functional.leaky_relu(a @ nodes @ graph.first, 0.2)
    assert torch.allclose(graph(nodes), a @ hidden @ graph.second, atol=1e-5)


def test_learning_adds_a_distribution_to_the_prior() -> None:
    graph = LabelGraph(C, E, H, D, edges=random_edges())
    added = graph.learned_edges()
    assert torch.allclose(added.sum(1), torch.ones(C)) and (added > 0).all()
    assert torch.allclose(graph.adjacency(), normalized(graph.edges + added + torch.eye(C)))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_self_attention_is_torchs(heads: int) -> None:
    """The peer: nn.MultiheadAttention with the same weights, where the width is a multiple of the heads."""
    width = 8
    ours, peer = SelfAttention(width, heads), nn.MultiheadAttention(width, heads, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        peer.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(width), ours.value.bias]))
        peer.out_proj.weight.copy_(ours.out.weight)
        peer.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(5, width)
    assert torch.allclose(ours(x), peer(x[None], x[None], x[None], need_weights=False)[0][0], atol=1e-5)


@torch.no_grad()
def test_the_graph_does_not_depend_on_the_numbers_of_the_labels() -> None:
    graph, nodes, order = LabelGraph(C, E, H, D, edges=random_edges()), torch.randn(C, E), torch.randperm(C)
    nn.init.normal_(graph.norm.weight)
    nn.init.normal_(graph.norm.bias)
    before = graph(nodes)
    unchanged = graph(nodes[order])
    relabel(graph, order)
    assert torch.allclose(graph(nodes[order]), before[order], atol=1e-5)
    assert not torch.allclose(unchanged, before[order], atol=1e-3), "the graph would matter to nobody"


def test_number_of_parameters_by_hand_and_none_dead() -> None:
    graph = LabelGraph(C, E, H, D, edges=random_edges(), heads=4)
    inner = 8  # 7 labels, 4 heads: the next multiple of 4
    attention = 3 * C * inner + 2 * inner + inner * C + C
    assert sum(p.numel() for p in graph.parameters()) == 2 * C + 2 * attention + E * H + H * D
    (graph(torch.randn(C, E)) * torch.randn(C, D)).sum().backward()
    dead = [name for name, p in graph.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-9]
    assert dead == []


def make_features(batch: int = 4, tokens: int = 6) -> Features:
    grid = torch.randn(batch, tokens, D, generator=torch.Generator().manual_seed(1))
    return Features(grid.mean(1), grid)


def test_ml_gcn_scores_with_weights_from_the_graph() -> None:
    vectors = torch.randn(C, E)
    network = GraphClassifier(
        C, D, hidden_size=H, edges=random_edges(), node_features="vectors", vectors=vectors
    ).eval()
    features = make_features()
    weights = network.graph(vectors)
    assert torch.allclose(network(features), network.tokens(features).max(1).values @ weights.T, atol=1e-5)
    assert "nodes" in network.state_dict(), "a checkpoint must carry the word vectors"
    assert {n for n, _ in network.named_parameters()} == {
        "tokens.norm.weight",
        "tokens.norm.bias",
        "graph.first",
        "graph.second",
    }
    rebuilt = GraphClassifier(C, D, hidden_size=H, node_features="vectors", vector_size=E).eval()
    rebuilt.load_state_dict(network.state_dict())
    assert torch.equal(rebuilt(features), network(features))
    network.train()(features).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(7, 7\) numbers"):
        LabelGraph(C, E, H, D, edges=torch.zeros(3, 3))
    with pytest.raises(ValueError, match="not negative"):
        LabelGraph(C, E, H, D, edges=torch.full((C, C), -1.0))
    with pytest.raises(ValueError, match="3 label vectors for 7 labels"):
        GraphClassifier(C, D, node_features="vectors", vectors=torch.zeros(3, E))
    with pytest.raises(ValueError, match="grid=True"):
        GraphClassifier(C, D)(Features(torch.zeros(1, D)))
