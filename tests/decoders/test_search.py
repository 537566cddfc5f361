"""Decoding, on decoders whose probabilities are written down."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Scripted, features, log_table

from helpers.data.batches import Features
from helpers.decoders.base import Decoder
from helpers.decoders.beam import beam
from helpers.decoders.lstm import LabelLSTM
from helpers.decoders.search import greedy, sample


def test_cut_at_the_first_stop() -> None:
    """Labels a, b and stop: a, stop, then b, which must not be read."""
    decoder = Scripted(log_table([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]]))
    found = greedy(decoder, features(1), max_steps=3)
    assert found.tokens.tolist() == [[0, 2]]
    assert found.lengths.tolist() == [1]
    # At the second step a is taken: stop has 0.8 of the 0.9 that is left.
    assert found.log_probability.item() == pytest.approx(torch.tensor(0.7 * 0.8 / 0.9).log().item(), abs=1e-6)


def test_repeats_are_a_switch() -> None:
    decoder = Scripted(log_table([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.05, 0.05, 0.9]]))
    with_repeats = greedy(decoder, features(1), max_steps=3, repeats=True)
    assert with_repeats.tokens.tolist() == [[0, 0, 2]]
    assert with_repeats.log_probability.exp().item() == pytest.approx(0.6 * 0.6 * 0.9, abs=1e-6)
    assert greedy(decoder, features(1), max_steps=3).tokens.tolist() == [[0, 1, 2]]


def test_a_decoder_that_never_stops_is_cut() -> None:
    decoder = Scripted(log_table([[0.5, 0.4, 0.1]]))
    found = greedy(decoder, features(1), max_steps=2)
    assert found.tokens.tolist() == [[0, 1]]
    assert found.lengths.tolist() == [2]


def test_all_labels_named_leaves_only_stop() -> None:
    decoder = Scripted(log_table([[0.5, 0.4, 0.1]]))
    assert greedy(decoder, features(1), max_steps=9).tokens.tolist() == [[0, 1, 2]]


def test_rows_stop_at_different_steps() -> None:
    stop_now, go_on = [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]
    found = greedy(Scripted(log_table([stop_now, go_on], [go_on, stop_now])), features(2), max_steps=2)
    assert found.tokens.tolist() == [[2, 2], [1, 2]]
    assert found.step_probability[0].tolist() == pytest.approx([0.8, 0.0])


def test_nan_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="1 of 2 images"):
        greedy(Scripted(torch.tensor([[[0.0, 0, 0]], [[torch.nan, 0, 0]]])), features(2), max_steps=2)


def test_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        greedy(Scripted(torch.zeros(1, 1, 3)), features(1), max_steps=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), labels=st.integers(1, 5), steps=st.integers(1, 7), repeats=st.booleans())
def test_equals_a_loop_over_single_images(seed: int, labels: int, steps: int, repeats: bool) -> None:
    torch.manual_seed(seed)
    decoder = LabelLSTM(labels, 3, hidden_size=4, embedding_size=3).eval()
    pooled = torch.randn(4, 3) * 3
    found = greedy(decoder, Features(pooled), max_steps=steps, repeats=repeats)
    for row in range(4):
        expected, log_p = [], 0.0
        with torch.no_grad():
            state, token = decoder.start(Features(pooled[row : row + 1])), decoder.start_token
            while len(expected) < steps:
                logits, state, _ = decoder.step(torch.tensor([token]), state)
                if not repeats:
                    logits[0, [e for e in expected if e != labels]] = -torch.inf
                log_probabilities = logits[0].log_softmax(-1)
                token = int(log_probabilities.argmax())
                log_p += float(log_probabilities[token])
                if token == labels:
                    break
                expected.append(token)
        length = int(found.lengths[row])
        assert found.tokens[row, :length].tolist() == expected
        assert found.log_probability[row].item() == pytest.approx(log_p, abs=1e-4)
        assert (found.tokens[row, length:] == labels).all()
        if not repeats:
            assert len(set(expected)) == len(expected)


def test_so_many_labels_at_least() -> None:
    decoder = Scripted(log_table([[0.2, 0.1, 0.7], [0.1, 0.2, 0.7], [0.1, 0.1, 0.8]]))
    assert greedy(decoder, features(1), max_steps=3).lengths.tolist() == [0]
    assert greedy(decoder, features(1), max_steps=3, min_labels=1).tokens.tolist() == [[0, 2]]
    exactly = greedy(decoder, features(1), max_steps=2, min_labels=2)
    assert exactly.tokens.tolist() == [[0, 1]]
    # Without `<stop>` a has 2 of 3; then only b is left.
    assert exactly.log_probability.exp().item() == pytest.approx(2 / 3, abs=1e-6)
    for impossible in (-1, 3):
        with pytest.raises(ValueError, match=r"must be in 0\.\.2"):
            greedy(decoder, features(1), max_steps=5, min_labels=impossible)
    assert greedy(decoder, features(1), max_steps=5, min_labels=3, repeats=True).lengths.tolist() == [3]


def draws(decoder: Decoder, count: int, **options) -> list[tuple[int, ...]]:
    found = sample(decoder, features(count), generator=torch.Generator().manual_seed(0), **options)
    return [tuple(row[:n]) for row, n in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_labels_are_drawn_with_their_probabilities(temperature: float) -> None:
    probabilities = torch.tensor([0.6, 0.3, 0.1])
    decoder = Scripted(probabilities.log().expand(20_000, 1, 3))
    found = draws(decoder, 20_000, max_steps=1, temperature=temperature)
    expected = probabilities ** (1 / temperature)
    expected /= expected.sum()
    shares = torch.tensor([found.count(word) for word in ((0,), (1,), ())]) / len(found)
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)


def test_a_draw_knows_its_probability() -> None:
    torch.manual_seed(1)
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3).eval()
    pooled = torch.randn(1, 3).mul(3).expand(30_000, 3)
    for repeats in (False, True):
        found = sample(
            decoder,
            Features(pooled),
            max_steps=2,
            temperature=2.0,
            repeats=repeats,
            generator=torch.Generator().manual_seed(0),
        )
        sequences, index, counts = torch.unique(found.tokens, dim=0, return_inverse=True, return_counts=True)
        for i in range(len(sequences)):
            own = found.log_probability[index == i].exp()
            assert own.std() < 1e-6, "the same sequence, the same probability"
            assert own[0].item() == pytest.approx(float(counts[i]) / len(pooled), abs=0.01)
        product = found.step_probability.where(found.step_probability > 0, 1.0).prod(1)
        torch.testing.assert_close(product, found.log_probability.exp())
        named_twice = (found.tokens[:, 0] == found.tokens[:, 1]) & (found.lengths == 2)
        assert bool(named_twice.any()) == repeats


def test_draws_are_repeated_by_their_generator() -> None:
    decoder = Scripted(torch.zeros(50, 4, 4))
    one, two = (draws(decoder, 50, max_steps=4) for _ in range(2))
    assert one == two
    assert len(set(one)) > 5
    cold = sample(Scripted(torch.randn(50, 4, 4)), features(50), max_steps=4, temperature=1e-3)
    torch.manual_seed(0)
    assert torch.isfinite(cold.log_probability).all()


def test_a_cold_draw_is_greedy() -> None:
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3).eval()
    given = Features(torch.randn(50, 3) * 3)
    cold, best = sample(decoder, given, max_steps=5, temperature=1e-4), greedy(decoder, given, max_steps=5)
    assert cold.tokens.tolist() == best.tokens.tolist()


def test_a_draw_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="temperature is 0"):
        sample(Scripted(torch.zeros(1, 1, 3)), features(1), max_steps=1, temperature=0.0)
    with pytest.raises(FloatingPointError, match="1 of 2 images"):
        sample(Scripted(torch.tensor([[[0.0, 0, 0]], [[torch.nan, 0, 0]]])), features(2), max_steps=2)


def test_searching_keeps_no_graph() -> None:
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3)
    for search in (greedy, sample):
        assert search(decoder, Features(torch.randn(2, 3)), max_steps=3).log_probability.is_inference()


@pytest.mark.parametrize("repeats", [False, True])
def test_never_is_the_same_as_a_score_of_minus_infinity(repeats: bool) -> None:
    decoder, pooled = LabelLSTM(6, 4, hidden_size=8, embedding_size=4).eval(), torch.randn(9, 4)
    options = {"max_steps": 5, "repeats": repeats}
    searches = [
        lambda **never: greedy(decoder, Features(pooled), **options, **never),
        lambda **never: beam(decoder, Features(pooled), width=3, **options, **never),
        lambda **never: sample(
            decoder, Features(pooled), generator=torch.Generator().manual_seed(1), **options, **never
        ),
    ]
    with torch.no_grad():
        decoder.scores.bias[[1, 4]] += 3  # they would be said
        assert all(torch.isin(search().tokens, torch.tensor([1, 4])).any() for search in searches)
        found = [search(never=(1, 4)) for search in searches]
        decoder.scores.bias[[1, 4]] = -torch.inf
        expected = [search() for search in searches]
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.tokens, b.tokens)
        torch.testing.assert_close(a.log_probability, b.log_probability)
        torch.testing.assert_close(a.step_probability, b.step_probability)


def test_never_must_leave_something() -> None:
    decoder = Scripted(log_table([[0.5, 0.4, 0.1]]))
    assert greedy(decoder, features(1), max_steps=9, never=(0, 1)).tokens.tolist() == [[2]]
    for wrong in ({"never": (2,)}, {"never": (-1,)}, {"never": (0, 1), "min_labels": 1}):
        with pytest.raises(ValueError, match=r"labels of this decoder are 0\.\.1|in 0\.\.0"):
            greedy(decoder, features(1), max_steps=9, repeats=True, **wrong)
