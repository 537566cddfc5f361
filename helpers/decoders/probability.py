"""The probability that a decoder gives to known labels, as a sequence, and as a set in any order.

It tells an error of the search (the truth was more probable, but was not found) from an error of the model.
"""

from __future__ import annotations

from itertools import permutations
from math import factorial

import torch
from torch import Tensor
from torch.nn.functional import pad

from helpers.data.batches import Features
from helpers.data.labels import to_multi_hot
from helpers.decoders.base import Decoder, unroll
from helpers.decoders.search import after_the_stop, log_probabilities

# 7 labels have 5,040 orders, and 13,700 beginnings that the decoder must read; 8 would have 109,601.
MAX_LABELS = 7
ROWS = 8192  # beginnings that go through the decoder together


@torch.inference_mode()
def sequence_log_probability(
    decoder: Decoder,
    features: Features,
    labels: Tensor,
    lengths: Tensor,
    *,
    max_steps: int | None = None,
    repeats: bool = False,
) -> Tensor:
    """log P(label sequence | image), `<stop>` included: (B,) float32.

    labels: (B, T) int64, in order; lengths: (B,) int64, how many of them count.
    max_steps: the limit of the search to compare with; a sequence of so many labels needs no `<stop>`. None: no limit.
    repeats: as in `search.greedy`; without it a sequence that names a label twice has probability 0.
    Raises ValueError for a sequence longer than max_steps.
    """
    _check(labels, lengths, decoder, max_steps)
    steps = labels.shape[1] + 1 if max_steps is None else min(labels.shape[1] + 1, max_steps)
    padding = after_the_stop(lengths - 1, labels.shape[1])
    tokens = pad(labels.masked_fill(padding, decoder.stop_token), (0, 1), value=decoder.stop_token)
    log_p = [
        log_probabilities(step.scores).gather(1, step.tokens.unsqueeze(1))
        for step in unroll(decoder, features, None, steps=steps, forced=tokens, repeats=repeats)
    ]
    return sum(torch.cat(log_p, 1).masked_fill(after_the_stop(lengths, steps), 0.0).unbind(1))


@torch.inference_mode()
def set_log_probability(
    decoder: Decoder,
    features: Features,
    labels: Tensor,
    lengths: Tensor,
    *,
    max_steps: int | None = None,
    repeats: bool = False,
    max_labels: int = MAX_LABELS,
) -> Tensor:
    """log P(label set | image), exact: the sum over all n! orders of its n labels, (B,) float32.

    labels: (B, T) int64, the labels of each set in any order, none twice; lengths: (B,) int64.
    max_labels: the work grows with n!. Other arguments as in `sequence_log_probability`. With repeats, only the
        sequences that name every label once are summed.
    Raises ValueError for a set of more than max_labels labels, or that holds a label twice.

    Every beginning of an order is read once, level by level, all images with equally many labels in one batch.
    """
    _check(labels, lengths, decoder, max_steps)
    largest = int(lengths.max()) if len(lengths) else 0
    if largest > max_labels:
        raise ValueError(
            f"a set of {largest} labels has {largest}! orders, and max_labels is {max_labels}: leave such images out "
            "(lengths <= max_labels), raise max_labels if you can wait, or score one order with "
            "sequence_log_probability"
        )
    result = torch.empty(len(labels), device=labels.device)
    for n in lengths.unique().tolist():
        group = (lengths == n).nonzero().flatten()
        sets = labels[group, :n]  # (b, n)
        if bool((sets.sort(1).values.diff() == 0).any()):
            raise ValueError("a set holds a label twice: give every label once")
        for some in torch.arange(len(group), device=labels.device).split(max(1, ROWS // factorial(n))):
            image = features.select(group[some])
            result[group[some]] = _sum_over_orders(decoder, image, sets[some], max_steps, repeats)
    return result


@torch.inference_mode()
def most_probable_set(
    decoder: Decoder,
    features: Features,
    tokens: Tensor,
    log_probability: Tensor,
    *,
    max_steps: int | None = None,
    max_labels: int = MAX_LABELS,
) -> tuple[Tensor, Tensor]:
    """The most probable *set* among the sequences a beam found: (B, C) bool, its log-probability (B,).

    A beam ranks sequences, and two orders of one set are two of them; here a set has the sum over all its orders. A
    more probable set may be missing from the beam.

    tokens: (B, K, T) int64 and log_probability: (B, K), of `beam.Beams`.
    max_labels: larger sets are left out; where all of an image's are, its best sequence wins.
    """
    (batch, k, _), labels = tokens.shape, decoder.num_labels
    sets = to_multi_hot(tokens.flatten(0, 1), labels, dtype=torch.bool)  # (B * K, C)
    image = torch.arange(batch, device=tokens.device).repeat_interleave(k)  # (B * K,)
    _, same = torch.cat([image.unsqueeze(1), sets.long()], 1).unique(dim=0, return_inverse=True)
    rows = torch.arange(batch * k, device=tokens.device)
    first = rows.new_full((int(same.max()) + 1,), batch * k).scatter_reduce(0, same, rows, "amin")
    lengths = sets.sum(1)
    there = (log_probability.flatten() > -torch.inf) & (lengths <= max_labels)
    first = first[there[first]]  # every set of an image once
    score = torch.full((batch * k,), -torch.inf, device=tokens.device)
    found = features.select(image[first]), tokens.flatten(0, 1)[first], lengths[first]
    score[first] = set_log_probability(decoder, *found, max_steps=max_steps, max_labels=max_labels)
    value, best = score.view(batch, k).max(1)  # all -inf: the first, which is the best sequence
    return sets.view(batch, k, labels)[torch.arange(batch, device=tokens.device), best], value


def _sum_over_orders(
    decoder: Decoder, features: Features, sets: Tensor, max_steps: int | None, repeats: bool
) -> Tensor:
    """log of the summed probability of all orders of sets (b, n), all of the same size: (b,).

    Step t reads all beginnings of t labels, R per image side by side, and each branches into those of t + 1 labels.
    """
    (batch, n), stop, device = sets.shape, decoder.stop_token, sets.device
    total = torch.zeros(batch, 1, device=device)  # (b, R): log P of the beginnings
    before: list[tuple[int, ...]] = [()]  # the R beginnings, as places in the set

    def extend(scores: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        nonlocal total, before
        log_p = log_probabilities(scores)  # (b * R, V)
        if len(before[0]) == n:
            total = total + log_p[:, stop].view(batch, -1)
            return torch.full((len(scores),), stop, device=device)
        after = list(permutations(range(n), len(before[0]) + 1))  # R' beginnings
        place = {beginning: i for i, beginning in enumerate(before)}
        parent = torch.tensor([place[beginning[:-1]] for beginning in after], device=device)
        last = torch.tensor([beginning[-1] for beginning in after], device=device)
        rows = (torch.arange(batch, device=device).unsqueeze(1) * len(before) + parent).flatten()  # (b * R',)
        tokens = sets[:, last].flatten()
        total = total[:, parent] + log_p[rows, tokens].view(batch, -1)
        before = after
        return tokens, rows

    needs_stop = max_steps is None or n < max_steps
    for _ in unroll(decoder, features, extend, steps=n + needs_stop, repeats=repeats):
        pass
    return total.logsumexp(1)


def _check(labels: Tensor, lengths: Tensor, decoder: Decoder, max_steps: int | None) -> None:
    if max_steps is not None and len(lengths) and int(lengths.max()) > max_steps:
        raise ValueError(
            f"a sequence has {int(lengths.max())} labels, more than the {max_steps} steps of the search allow"
        )
    inside = torch.arange(labels.shape[1], device=labels.device) < lengths.unsqueeze(1)
    if bool((labels[inside] >= decoder.num_labels).any()):
        raise ValueError(f"labels must be ids in 0..{decoder.num_labels - 1} before their length is reached")
