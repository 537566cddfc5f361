"""The probability of sequences and sets, against sums over every sequence there is."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import brute_force

from helpers.data.batches import Features
from helpers.data.labels import pad_labels
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.beam import beam
from helpers.decoders.lstm import LabelLSTM
from helpers.decoders.probability import (
    most_probable_set,
    sequence_log_probability,
    set_log_probability,
)
from helpers.decoders.search import greedy


def decoder_and_image(seed: int, labels: int = 4) -> tuple[LabelLSTM, torch.Tensor]:
    torch.manual_seed(seed)
    decoder = LabelLSTM(labels, 3, hidden_size=4, embedding_size=3).eval()
    return decoder, torch.randn(1, 3) * 3


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), max_steps=st.integers(1, 6), repeats=st.booleans())
def test_sequences_and_sets_have_the_probability_of_all_their_orders(
    seed: int, max_steps: int, repeats: bool
) -> None:
    decoder, pooled = decoder_and_image(seed)
    max_steps = min(max_steps, 3) if repeats else max_steps
    truth = brute_force(decoder, pooled, max_steps, repeats=repeats)
    sequences = [list(s) for s in truth]
    options = {"max_steps": max_steps, "repeats": repeats}
    many = Features(pooled.expand(len(sequences), 3))
    found = sequence_log_probability(decoder, many, *pad_labels(sequences, 4), **options)
    torch.testing.assert_close(found, torch.tensor(list(truth.values())), atol=1e-4, rtol=0)

    sets = [s for n in range(min(4, max_steps) + 1) for s in combinations(range(4), n)]
    expected = [sum(2.718281828459045 ** truth[order] for order in permutations(s)) for s in sets]
    many = Features(pooled.expand(len(sets), 3))
    found = set_log_probability(decoder, many, *pad_labels([list(s) for s in sets], 4), **options).exp()
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-4)
    if not repeats:
        assert found.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_without_a_limit_stop_always_counts() -> None:
    decoder, pooled = decoder_and_image(3)
    truth = brute_force(decoder, pooled, 9)
    labels, lengths = pad_labels([[2, 0, 1, 3]], 4)
    found = sequence_log_probability(decoder, Features(pooled), labels, lengths)
    assert found.item() == pytest.approx(truth[2, 0, 1, 3], abs=1e-4)


def test_the_order_in_which_a_set_is_given_does_not_matter() -> None:
    decoder, pooled = decoder_and_image(0)
    many = Features(pooled.expand(6, 3))
    labels, lengths = pad_labels([list(order) for order in permutations([3, 0, 2])], 4)
    found = set_log_probability(decoder, many, labels, lengths)
    torch.testing.assert_close(found, found[:1].expand(6))
    one = sequence_log_probability(decoder, many, labels, lengths)
    torch.testing.assert_close(one.logsumexp(0), found[0])


def test_images_do_not_mix_and_large_groups_are_cut(monkeypatch) -> None:
    """Sets of 0 to 5 labels of different images in one call, cut into pieces, with a decoder that has a memory."""
    monkeypatch.setattr("helpers.decoders.probability.ROWS", 7)
    decoder = AttentionLSTM(6, 5, hidden_size=4, embedding_size=3, attention_size=4).eval()
    images = Features(torch.randn(12, 5), torch.randn(12, 4, 5))
    sets = [torch.randperm(6)[: i % 6].tolist() for i in range(12)]
    together = set_log_probability(decoder, images, *pad_labels(sets, 6))
    for i, labels in enumerate(sets):
        one = images.select(torch.tensor([i]))
        alone = set_log_probability(decoder, one, *pad_labels([labels], 6))
        orders = [list(order) for order in permutations(labels)]
        many = Features(*(x.expand(len(orders), *x.shape[1:]) for x in one))
        summed = sequence_log_probability(decoder, many, *pad_labels(orders, 6)).logsumexp(0)
        assert together[i].item() == pytest.approx(alone.item(), abs=1e-5)
        assert together[i].item() == pytest.approx(summed.item(), abs=1e-4)


def test_what_a_search_found_has_the_probability_it_said() -> None:
    decoder, _ = decoder_and_image(0)
    images = Features(torch.randn(20, 3) * 3)
    for steps in (2, 5):
        found = greedy(decoder, images, max_steps=steps)
        again = sequence_log_probability(decoder, images, found.tokens, found.lengths, max_steps=steps)
        torch.testing.assert_close(again, found.log_probability, atol=1e-5, rtol=0)


def test_what_is_not_read_does_not_count() -> None:
    decoder, pooled = decoder_and_image(0)
    lengths = torch.tensor([2])
    for rest in ([0, 0], [4, 4], [99, -1]):
        labels = torch.tensor([[3, 1, *rest]])
        for score in (sequence_log_probability, set_log_probability):
            clean = score(decoder, Features(pooled), labels[:, :2], lengths)
            assert score(decoder, Features(pooled), labels, lengths).item() == clean.item()


def test_a_label_twice_cannot_be() -> None:
    decoder, pooled = decoder_and_image(0)
    twice = torch.tensor([[1, 1]]), torch.tensor([2])
    assert sequence_log_probability(decoder, Features(pooled), *twice).item() == -torch.inf
    assert torch.isfinite(sequence_log_probability(decoder, Features(pooled), *twice, repeats=True)).all()
    with pytest.raises(ValueError, match="twice"):
        set_log_probability(decoder, Features(pooled), *twice)


def test_what_is_too_much_is_refused() -> None:
    decoder, pooled = decoder_and_image(0, labels=9)
    labels, lengths = torch.arange(9).unsqueeze(0), torch.tensor([8])
    with pytest.raises(ValueError, match=r"8 labels has 8! orders, and max_labels is 7"):
        set_log_probability(decoder, Features(pooled), labels, lengths)
    with pytest.raises(ValueError, match="more than the 3 steps"):
        sequence_log_probability(decoder, Features(pooled), labels, lengths, max_steps=3)
    with pytest.raises(ValueError, match=r"0\.\.8"):
        sequence_log_probability(decoder, Features(pooled), labels + 1, torch.tensor([9]))


@pytest.mark.parametrize("width", [1, 3, 100])
def test_the_most_probable_set_of_a_beam(width: int) -> None:
    """Against the sums over all orders; with a beam as wide as all sequences it is the best set there is."""
    torch.manual_seed(4)
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3).eval()
    some = Features(torch.randn(8, 3) * 3)
    found = beam(decoder, some, width=width, max_steps=4)
    chosen, value = most_probable_set(decoder, some, found.tokens, found.log_probability, max_steps=4)
    other = 0
    for i in range(8):
        sums: dict[frozenset[int], float] = {}
        for sequence, log_p in brute_force(decoder, some.pooled[i : i + 1], 4).items():
            sums[frozenset(sequence)] = sums.get(frozenset(sequence), 0.0) + 2.718281828459045**log_p
        there = found.log_probability[i] > -torch.inf
        mine = {frozenset(t for t in row.tolist() if t < 4) for row in found.tokens[i][there]}
        best = max(mine, key=sums.__getitem__)
        assert frozenset(chosen[i].nonzero().flatten().tolist()) == best
        assert value[i].exp().item() == pytest.approx(sums[best], abs=1e-5)
        assert width < 100 or best == max(sums, key=sums.__getitem__)
        first = found.tokens[i, 0].tolist()
        other += best != frozenset(t for t in first if t < 4)
    assert width == 1 or other, "the best set is not always that of the best sequence"


def test_where_all_sets_are_too_large_the_best_sequence_wins() -> None:
    decoder, pooled = decoder_and_image(3)
    found = beam(decoder, Features(pooled), width=2, max_steps=3, min_labels=3)
    chosen, value = most_probable_set(
        decoder, Features(pooled), found.tokens, found.log_probability, max_steps=3, max_labels=2
    )
    assert value.item() == -torch.inf
    assert sorted(found.tokens[0, 0].tolist()) == chosen[0].nonzero().flatten().tolist()
