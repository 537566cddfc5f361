"""LCNet's decoder: its switches do what they say, and no image sees another one of its batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scripted import relabel
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.decoders.label_decoder import CrossAttention, FusionLayer, LabelDecoder
from helpers.decoders.label_graph import LabelGraph, neighbours
from helpers.encoders.crops import sine_code, token_boxes

C, D, d, N, F = 6, 10, 8, 12, 5
EDGES = neighbours(torch.rand(C, C, generator=torch.Generator().manual_seed(3)), 0.5)
RELEASED = {"layers": 3, "tie_layers": True, "graph_tokens": "gram", "labels_first": True}
RELEASED |= {"bias": "shared", "standardize": False}
CROPS = {"positions": True, "cells": (2, 3), "crops": 1}


def make(**options) -> LabelDecoder:
    torch.manual_seed(0)
    defaults = {"hidden_size": d, "heads": 2, "edges": EDGES}
    return LabelDecoder(C, D, **(defaults | options)).eval()


def make_features(batch: int = 5, tokens: int = N) -> Features:
    grid = torch.randn(batch, tokens, D, generator=torch.Generator().manual_seed(1))
    return Features(grid.mean(1), grid)


VARIANTS = [
    {},
    {"graph": "prior", "layers": 2},
    {"graph": "none"},
    {"graph_tokens": "gram", "layers": 2, "node_features": "learned"},
    RELEASED,
    RELEASED | {"tie_layers": False} | CROPS,
    {"queries": "learned", "node_features": "vectors", "vectors": torch.randn(C, 4)} | CROPS,
]


# --- attention -------------------------------------------------------------------------------------------------


@given(
    heads=st.sampled_from([1, 2, 4]),
    queries=st.integers(1, 6),
    memory=st.integers(1, 6),
    shared=st.integers(0, 2),
)
def test_cross_attention_is_torchs_and_both_paths_agree(
    heads: int, queries: int, memory: int, shared: int
) -> None:
    """The peer: nn.MultiheadAttention. `shared`: nobody, x or memory is the same for all images."""
    torch.manual_seed(queries)
    ours, peer = CrossAttention(d, heads, 0.1).eval(), nn.MultiheadAttention(d, heads, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        peer.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(d), ours.value.bias]))
        peer.out_proj.load_state_dict(ours.out.state_dict())
    x, y = torch.randn(1 if shared == 1 else 3, queries, d), torch.randn(1 if shared == 2 else 3, memory, d)
    expected, weights = peer(x.expand(3, -1, -1), y.expand(3, -1, -1), y.expand(3, -1, -1))
    explicit, found = ours.with_weights(x, y)
    assert torch.allclose(ours(x, y), expected, atol=1e-5)
    assert torch.allclose(explicit, expected, atol=1e-5)
    assert torch.allclose(found, weights, atol=1e-6)
    assert torch.allclose(found.sum(2), torch.ones(3, queries))


@pytest.mark.parametrize("options", VARIANTS)
def test_attention_on_request_changes_no_score(options: dict) -> None:
    network, features = make(**options), make_features()
    logits, attention = network.attend(features)
    assert torch.allclose(logits, network(features), atol=1e-5)
    assert attention.shape == (5, C, N)
    assert torch.allclose(attention.sum(2), torch.ones(5, C), atol=1e-5)


# --- batches ---------------------------------------------------------------------------------------------------


def independent(network: nn.Module, features: Features) -> bool:
    """Whether each image gets the same scores alone, in another place and among others."""
    together = network(features)
    order = torch.tensor([3, 0, 1, 1, 2, 0])
    moved = network(features.select(order))
    alone = torch.cat([network(features.select(torch.tensor([i]))) for i in range(len(together))])
    return torch.allclose(moved, together[order], atol=1e-5) and torch.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("options", VARIANTS)
def test_an_image_gets_the_same_scores_in_any_batch(options: dict) -> None:
    assert independent(make(**options), make_features())


def test_the_released_reading_of_the_graph_would_be_noticed() -> None:
    """It views (B, d, d) as (d, B, d) where a transpose is meant, so that image b gets the rows i·B + b modulo d.

    (Where B and d have no common factor that is a mere permutation, which attention does not see.)
    """

    class Released(LabelDecoder):
        def graph_memory(self) -> Tensor:
            gram = super().graph_memory()
            batch = self.batch
            return gram.repeat(batch, 1, 1).view(d, batch, d).transpose(0, 1)

        def forward(self, features: Features) -> Tensor:
            self.batch = len(features.grid)
            return super().forward(features)

    torch.manual_seed(0)
    network = Released(C, D, hidden_size=d, heads=2, edges=EDGES, **RELEASED).eval()
    assert not independent(network, make_features(4))
    assert torch.allclose(network(make_features(1)), make(**RELEASED)(make_features(1)), atol=1e-5)


# --- parameters ------------------------------------------------------------------------------------------------


def count_by_hand(*, layers: int, tied: bool, graph: str, released: bool) -> int:
    """Parameters of a decoder without positions, with random queries and a bias per label."""
    linear = lambda a, b: a * b + b  # noqa: E731
    attention = linear(d, d) * 3 + d * d  # the keys have no bias
    label_half = attention + 3 * 2 * d + 2 * linear(d, d)
    fusion = 3 * attention + 3 * 2 * d
    fusions = 0 if graph == "none" else 1 if tied else layers - released
    inner = 4 * -(-C // 4)
    self_attention = 3 * C * inner + 2 * inner + linear(inner, C)
    gcn = 2 * d * d + (2 * C + 2 * self_attention if graph == "learned" else 0)
    labels = (1 if tied else layers) * label_half + linear(d, C)
    return 2 * D + linear(D, d) + labels + fusions * fusion + (0 if graph == "none" else gcn)


def dead_parameters(network: nn.Module) -> list[str]:
    (network.train()(make_features()) * torch.randn(5, C)).sum().backward()
    return [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-10]


@pytest.mark.parametrize("graph", ["none", "prior", "learned"])
@pytest.mark.parametrize(("layers", "tied"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("labels_first", [False, True])
def test_number_of_parameters_by_hand_and_none_dead(
    graph: str, layers: int, tied: bool, labels_first: bool
) -> None:
    if labels_first and layers == 1 and graph != "none":
        return  # the options refuse it
    network = make(graph=graph, layers=layers, tie_layers=tied, labels_first=labels_first)
    expected = count_by_hand(layers=layers, tied=tied, graph=graph, released=labels_first)
    assert sum(p.numel() for p in network.parameters()) == expected
    assert dead_parameters(network) == []


@pytest.mark.parametrize("options", VARIANTS)
def test_no_variant_has_a_dead_parameter(options: dict) -> None:
    assert dead_parameters(make(**options)) == []


# --- labels ----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("options", [v for v in VARIANTS if v.get("node_features") != "vectors"])
def test_scores_follow_the_labels_when_they_are_numbered_anew(options: dict) -> None:
    network, features, order = make(**options), make_features(), torch.tensor([4, 2, 0, 5, 1, 3])
    before = network(features)
    network.queries.copy_(network.queries[order])
    network.weight.copy_(network.weight[order])
    if len(network.bias) == C:
        network.bias.copy_(network.bias[order])
    if network.graph is not None:
        if network.nodes is not None:
            network.nodes.copy_(network.nodes[order])
        if network.graph.learned:
            relabel(network.graph, order)
        else:
            network.graph.edges.copy_(network.graph.edges[order][:, order])
    assert torch.allclose(network(features), before[:, order], atol=1e-5)
    assert not torch.allclose(before[:, order], before, atol=1e-2)


# --- switches --------------------------------------------------------------------------------------------------


def test_tied_layers_are_one_layer_used_again() -> None:
    tied, untied = make(layers=3, tie_layers=True), make(layers=3)
    assert (len(tied.layers), len(untied.layers)) == (1, 3)
    state = tied.state_dict()
    copies = {key.replace("layers.0", f"layers.{i}"): value for key, value in state.items() for i in range(3)}
    untied.load_state_dict(copies)
    features = make_features()
    assert torch.allclose(tied(features), untied(features), atol=1e-6)
    assert not torch.allclose(tied(features), make(layers=1, tie_layers=True)(features), atol=1e-3)


def test_graph_tokens_are_the_nodes_or_their_gram_matrix() -> None:
    nodes, gram = make(), make(graph_tokens="gram")
    g = nodes.graph_memory()[0]
    assert g.shape == (C, d)
    assert torch.equal(g, nodes.graph(nodes.queries))
    assert torch.allclose(gram.graph_memory()[0], g.T @ g + torch.eye(d), atol=1e-5)
    assert make(graph="none").graph_memory() is None


def test_the_graph_reads_queries_words_or_learned_nodes() -> None:
    vectors = torch.randn(C, 4)
    words = make(node_features="vectors", vectors=vectors)
    assert torch.equal(words.graph_memory()[0], words.graph(vectors))
    assert "nodes" in words.state_dict() and "nodes" not in dict(words.named_parameters())
    assert "nodes" in dict(make(node_features="learned").named_parameters())
    assert make().nodes is None
    rebuilt = make(node_features="vectors", vector_size=4, edges=None)
    rebuilt.load_state_dict(words.state_dict())
    assert torch.equal(rebuilt(make_features()), words(make_features()))


def test_the_prior_reaches_the_scores() -> None:
    features = make_features()
    for graph in ("prior", "learned"):
        one, other = make(graph=graph), make(graph=graph, edges=EDGES.T.contiguous())
        assert not torch.allclose(one(features), other(features), atol=1e-6)
    assert torch.equal(make(graph="none")(features), make(graph="none", edges=EDGES.T)(features))


def test_labels_first_hear_of_the_graph_from_the_second_layer_on() -> None:
    """As released: the first layer's labels do not depend on the graph, with ours they do."""
    torch.manual_seed(0)
    labels, image, graph = torch.randn(2, C, d), torch.randn(2, N, d), torch.randn(1, 4, d)
    for labels_first in (True, False):
        layer = FusionLayer(d, heads=2, dropout=0.1, fuses=True, labels_first=labels_first).eval()
        one, fused, told, _ = layer(labels, image, graph)
        other, *_ = layer(labels, image, 2 * graph)
        assert torch.equal(one, other) == labels_first
        assert not torch.allclose(fused, image) and told.shape == (2, 4, d)


def test_a_layer_is_the_published_order_of_steps() -> None:
    torch.manual_seed(0)
    layer = FusionLayer(d, heads=2, dropout=0.1, fuses=True, labels_first=True).eval()
    t, i, m = torch.randn(2, C, d), torch.randn(2, N, d), torch.randn(2, 4, d)
    n, f = layer.label_norms, layer.fusion_norms
    expected = n[0](t + t)
    expected = n[1](expected + layer.labels_to_image(expected, i))
    expected = n[2](expected + layer.mlp(expected))
    i1 = f[0](i + layer.image_to_graph(i, m))
    m1 = f[1](m + layer.graph_to_image(m, i))
    i2 = f[2](i1 + layer.image_to_graph_again(i1, m1))
    for found, wanted in zip(layer(t, i, m), (expected, i2, m1), strict=False):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_bias_of_all_labels_or_of_each() -> None:
    assert make(bias="class").bias.shape == (C,) and make(bias="shared").bias.shape == (1,)
    network, features = make(bias="shared"), make_features()
    before = network(features)
    network.bias.data += 1
    assert torch.allclose(network(features), before + 1, atol=1e-5)


def test_queries_are_drawn_or_learned() -> None:
    assert "queries" not in dict(make().named_parameters()) and "queries" in make().state_dict()
    assert "queries" in dict(make(queries="learned").named_parameters())


def test_positions_tell_tokens_apart() -> None:
    features = make_features()
    order = torch.randperm(N)
    shuffled = Features(features.pooled, features.grid[:, order])
    blind, seeing = make(), make(**CROPS)
    assert torch.allclose(blind(features), blind(shuffled), atol=1e-5)
    assert not torch.allclose(seeing(features), seeing(shuffled), atol=1e-4)
    assert seeing.whole_view.shape == (d,)
    assert make(positions=True, cells=(3, 4)).whole_view is None
    tiles = make(positions=True, cells=(2, 2), crops=2)
    assert tiles.is_whole.tolist() == [False] * 16 + [True] * 4
    with pytest.raises(ValueError, match="12 tokens, but the positions are those of 20"):
        tiles(features)
    with pytest.raises(ValueError, match="cells"):
        make(positions=True)


def test_position_code_is_near_for_near_boxes() -> None:
    boxes = token_boxes(0, (4, 5))
    code = sine_code(boxes, 16)
    assert code.shape == (20, 16)
    assert torch.allclose(code[0, :8], code[1, :8], atol=1e-6), "the same row: the same half for y"
    assert not torch.allclose(code[0, 8:], code[1, 8:], atol=1e-3)
    assert (code[0] - code[1]).norm() < (code[0] - code[2]).norm()
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_code(boxes, 10)


def test_the_graph_is_computed_once_a_batch() -> None:
    network = make(layers=2)
    calls = []
    assert isinstance(network.graph, LabelGraph)
    network.graph.register_forward_hook(lambda *_: calls.append(1))
    network(make_features())
    assert len(calls) == 1
