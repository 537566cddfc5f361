"""Decoders whose probabilities are written down, every sequence of a decoder, and small systems on one batch."""

from __future__ import annotations

import torch

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary, pad_labels, to_multi_hot
from helpers.decoders.base import Decoder, State
from helpers.decoders.label_graph import LabelGraph
from helpers.systems.base import System
from helpers.systems.registry import build

VOCABULARY = Vocabulary(["cat", "dog", "bird", "tree"])
D = 16
SMALL = {"max_labels": 3, "hidden_size": 32, "embedding_size": 8}
OPTIONS = dict.fromkeys(("ria", "sr_cnn_rnn", "captioner", "ria_mla", "ria_pla"), SMALL)
OPTIONS |= {"bce": {}, "ml_gcn": {"hidden_size": 32}}
OPTIONS["cnn_rnn"] = SMALL | {
    "embedding_size": 16,
    "output_dropout": 0.0,
}  # half of so few joint numbers is too few
OPTIONS |= dict.fromkeys(
    ("attention", "attention_mla", "attention_pla", "attention_captioner"), SMALL | {"attention_size": 16}
)
OPTIONS |= {name: {"hidden_size": 32, "cells": (2, 2)} for name in ("lcnet", "query2label")}


def make_system(name: str, **options) -> System:
    torch.manual_seed(0)
    return build(name, VOCABULARY, D, **(OPTIONS[name] | options))


def make_batch() -> Batch:
    """Six images of 0 to 3 labels."""
    sequences = [[0], [1, 2], [], [3, 0, 1], [2], [3, 1]]
    labels, lengths = pad_labels(sequences, VOCABULARY.stop)
    pooled = torch.randn(len(sequences), D, generator=torch.Generator().manual_seed(0))
    features = Features(pooled, pooled.unsqueeze(1).repeat(1, 4, 1))
    multi_hot = to_multi_hot(labels, len(VOCABULARY))
    return Batch(torch.arange(len(sequences)), labels, lengths, multi_hot, features=features)


def learns_by_heart(system: System, batch: Batch, *, lr: float) -> bool:
    """Whether it names exactly the labels of this batch within 150 steps of training on it."""
    optimizer = torch.optim.AdamW(system.parameters(), lr=lr)
    for _ in range(6):
        system.train()
        for _ in range(25):
            optimizer.zero_grad()
            system.loss(batch).backward()
            optimizer.step()
        if torch.equal(system.eval().predict(batch.features).predicted, batch.multi_hot.bool()):
            return True
    return False


class Scripted(Decoder):
    """Step t of image b scores table[b, t], whatever was named before."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__(table.shape[-1] - 1)
        self.table = table

    def start(self, features: Features) -> State:
        return State(hidden=(self.table, torch.zeros(len(self.table), dtype=torch.int64)))

    def step(self, tokens, state):
        table, t = state.hidden
        rows = torch.arange(len(table))
        return table[rows, t.clamp(max=table.shape[1] - 1)], State(hidden=(table, t + 1)), None


def features(batch: int) -> Features:
    return Features(torch.zeros(batch, 1))


def log_table(*probabilities) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def brute_force(
    decoder: Decoder, pooled: torch.Tensor, max_steps: int, *, repeats: bool = False, min_labels: int = 0
) -> dict[tuple[int, ...], float]:
    """log P of every label sequence of one image; those of max_steps labels have no stop."""
    found = {}
    stop = decoder.stop_token

    def extend(prefix: tuple[int, ...], state: State, token: int, log_p: float) -> None:
        logits, state, _ = decoder.step(torch.tensor([token]), state)
        if not repeats:
            logits[0, list(prefix)] = -torch.inf
        if len(prefix) < min_labels:
            logits[0, stop] = -torch.inf
        log_probabilities = logits[0].log_softmax(-1)
        for word in range(decoder.num_labels + 1):
            total = log_p + float(log_probabilities[word])
            if word == stop:
                if len(prefix) >= min_labels:
                    found[prefix] = total
            elif repeats or word not in prefix:
                if len(prefix) + 1 == max_steps:
                    found[(*prefix, word)] = total
                else:
                    extend((*prefix, word), state, word, total)

    with torch.no_grad():
        extend((), decoder.start(Features(pooled)), decoder.start_token, 0.0)
    return found


def relabel(graph: LabelGraph, order: torch.Tensor) -> None:
    """Number the labels of a learned graph anew, in everything that has a row or a column per label."""
    graph.edges.copy_(graph.edges[order][:, order])
    graph.norm.weight.copy_(graph.norm.weight[order])
    graph.norm.bias.copy_(graph.norm.bias[order])
    for attention in (graph.left, graph.right):
        for layer in (attention.query, attention.key, attention.value):
            layer.weight.copy_(layer.weight[:, order])
        attention.out.weight.copy_(attention.out.weight[order])
        attention.out.bias.copy_(attention.out.bias[order])
