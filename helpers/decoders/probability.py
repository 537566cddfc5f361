"""What a decoder thinks of given labels: the probability of a sequence, and of a set in any order. Notebook 06.

A search finds labels; these two ask about labels that are already known, the true ones for instance. Then one can
tell an error of the search (the truth was more probable, but was not found) from one of the model.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.labels import to_multi_hot
from helpers.decoders.base import Decoder
from helpers.decoders.search import step_log_probabilities

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

    labels: (B, T) int64, labels in order, anything after the first `lengths` (B,) int64 of them is not read.
    max_steps: the limit of the search to compare with; a sequence of so many labels needs no `<stop>`. None: no limit.
    repeats: as in `search.greedy`; without it a sequence that names a label twice has probability 0.
    Raises ValueError for a sequence longer than max_steps.
    """
    _check(labels, lengths, decoder, max_steps)
    stop, device = decoder.stop_token, labels.device
    padded = torch.nn.functional.pad(labels, (0, 1), value=stop)  # (B, T + 1)
    steps = torch.arange(padded.shape[1], device=device)
    padded = padded.masked_fill(steps >= lengths.unsqueeze(1), stop)
    total = torch.zeros(len(labels), device=device)
    state = decoder.start(features)
    token = torch.full((len(labels),), decoder.start_token, device=device)
    taken = torch.zeros(len(labels), stop + 1, dtype=torch.bool, device=device)
    for t in range(min(padded.shape[1], max_steps or padded.shape[1])):
        logits, state, _ = decoder.step(token, state)
        log_p = step_log_probabilities(logits, None if repeats else taken, allow_stop=True)
        token = padded[:, t]
        total += log_p.gather(1, token.unsqueeze(1)).squeeze(1).masked_fill(t > lengths, 0.0)
        taken.scatter_(1, token.unsqueeze(1), True)
        taken[:, stop] = False
    return total


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
    max_labels: sets above this size are refused; the work grows with n!. Other arguments as in
        `sequence_log_probability`. With repeats, only the sequences that name every label once are summed.
    Raises ValueError for a set that is too large, or that holds a label twice.

    Orders with the same beginning share it: what is read is every beginning once, level by level, all images with
    equally many labels in one batch.
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
        orders = [1]
        for left in range(n, 0, -1):
            orders.append(orders[-1] * left)
        for some in torch.arange(len(group), device=labels.device).split(max(1, ROWS // orders[-1])):
            image = features.select(group[some])
            result[group[some]] = _sum_over_orders(decoder, image, sets[some], max_steps, repeats)
    return result


def set_probability(
    decoder: Decoder, features: Features, labels: Tensor, lengths: Tensor, **options
) -> Tensor:
    """P(label set | image), (B,) float32: the exponential of `set_log_probability`, which takes the same arguments."""
    return set_log_probability(decoder, features, labels, lengths, **options).exp()


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
    """The most probable *set* among the sequences a beam found: (B, C) bool, its log-probability (B,). Notebook 06.

    tokens: (B, K, T) int64 and log_probability: (B, K), of `beam.Beams`; -inf where there is no sequence. A beam ranks
    sequences, and two orders of one set are two of them; here a set has the sum over all its orders. The true most
    probable set may be missing from the beam. max_labels: larger sets are left out; the best sequence wins where all
    of an image's are. Other arguments as in `set_log_probability`.
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
    score[first] = set_log_probability(
        decoder,
        features.select(image[first]),
        tokens.flatten(0, 1)[first],
        lengths[first],
        max_steps=max_steps,
        max_labels=max_labels,
    )
    value, best = score.view(batch, k).max(1)  # all -inf: the first, which is the best sequence
    return sets.view(batch, k, labels)[torch.arange(batch, device=tokens.device), best], value


def _sum_over_orders(
    decoder: Decoder, features: Features, sets: Tensor, max_steps: int | None, repeats: bool
) -> Tensor:
    """log of the summed probability of all orders of sets (b, n), all of the same size: (b,)."""
    (batch, n), stop, device = sets.shape, decoder.stop_token, sets.device
    state = decoder.start(features)
    total = torch.zeros(batch, 1, device=device)  # (b, R): log P of the R beginnings so far
    token = torch.full((batch,), decoder.start_token, device=device)
    taken = torch.zeros(batch, stop + 1, dtype=torch.bool, device=device)
    before = [()]
    rows = torch.arange(batch, device=device)
    for t in range(n):
        logits, state, _ = decoder.step(token, state)
        log_p = step_log_probabilities(logits, None if repeats else taken, allow_stop=True)
        after = list(permutations(range(n), t + 1))  # positions in the set, R * (n - t) beginnings
        place = {prefix: i for i, prefix in enumerate(before)}
        parent = torch.tensor([place[prefix[:-1]] for prefix in after], device=device)
        word = sets[:, torch.tensor([prefix[-1] for prefix in after], device=device)]  # (b, R')
        parents = (rows.unsqueeze(1) * len(before) + parent).flatten()  # (b * R',)
        token = word.flatten()
        total = total[:, parent] + log_p[parents, token].view(batch, -1)
        taken = taken[parents].scatter(1, token.unsqueeze(1), True)
        state = state.select_hidden(parents)
        before = after
    if max_steps is None or n < max_steps:
        logits, _, _ = decoder.step(token, state)
        log_p = step_log_probabilities(logits, None if repeats else taken, allow_stop=True)
        total = total + log_p[:, stop].view(batch, -1)
    return total.logsumexp(1)


def _check(labels: Tensor, lengths: Tensor, decoder: Decoder, max_steps: int | None) -> None:
    if max_steps is not None and len(lengths) and int(lengths.max()) > max_steps:
        raise ValueError(
            f"a sequence has {int(lengths.max())} labels, more than the {max_steps} steps of the search allow"
        )
    inside = torch.arange(labels.shape[1], device=labels.device) < lengths.unsqueeze(1)
    if bool((lengths > labels.shape[1]).any()):
        raise ValueError(
            f"lengths go up to {int(lengths.max())}, but there are {labels.shape[1]} labels a row"
        )
    if bool((labels[inside] >= decoder.num_labels).any()) or bool((labels[inside] < 0).any()):
        raise ValueError(f"labels must be ids in 0..{decoder.num_labels - 1} before their length is reached")
