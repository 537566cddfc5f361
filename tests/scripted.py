"""Decoders whose probabilities are written down, and every sequence of a decoder, one by one."""

from __future__ import annotations

import torch

from helpers.data.batches import Features
from helpers.decoders.base import Decoder, State


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
