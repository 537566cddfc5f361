"""Decoding, on decoders whose probabilities are written down."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.batch import Features
from helpers.decoders import Decoder, LabelLSTM, State
from helpers.search import beam, greedy


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


def brute_force(decoder: Decoder, pooled: torch.Tensor, max_steps: int) -> dict[tuple[int, ...], float]:
    """log P of every label sequence without repeats; those of max_steps labels have no stop."""
    found = {}
    stop = decoder.stop_token

    def extend(prefix: tuple[int, ...], state: State, token: int, log_p: float) -> None:
        logits, state, _ = decoder.step(torch.tensor([token]), state)
        logits[0, list(prefix)] = -torch.inf
        log_probabilities = logits[0].log_softmax(-1)
        for word in range(decoder.num_labels + 1):
            total = log_p + float(log_probabilities[word])
            if word == stop:
                found[prefix] = total
            elif word not in prefix:
                if len(prefix) + 1 == max_steps:
                    found[(*prefix, word)] = total
                else:
                    extend((*prefix, word), state, word, total)

    with torch.no_grad():
        extend((), decoder.start(Features(pooled)), decoder.start_token, 0.0)
    return found


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), max_steps=st.integers(1, 5))
def test_a_wide_beam_is_exhaustive(seed: int, max_steps: int) -> None:
    torch.manual_seed(seed)
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3).eval()
    pooled = torch.randn(2, 3) * 3
    found = beam(decoder, Features(pooled), width=80, max_steps=max_steps)
    for row in range(2):
        truth = sorted(
            brute_force(decoder, pooled[row : row + 1], max_steps).items(), key=lambda item: -item[1]
        )
        for rank, (sequence, log_p) in enumerate(truth[:20]):
            assert found.log_probability[row, rank].item() == pytest.approx(log_p, abs=1e-4)
            if rank == 0:
                assert found.tokens[row, 0, : found.lengths[row, 0]].tolist() == list(sequence)
        assert torch.isfinite(found.log_probability[row]).sum() == len(truth)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 6), repeats=st.booleans())
def test_width_one_is_greedy(seed: int, steps: int, repeats: bool) -> None:
    torch.manual_seed(seed)
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3).eval()
    features = Features(torch.randn(5, 3) * 3)
    one = beam(decoder, features, width=1, max_steps=steps, repeats=repeats).best()
    other = greedy(decoder, features, max_steps=steps, repeats=repeats)
    assert one.tokens.tolist() == other.tokens.tolist()
    assert one.lengths.tolist() == other.lengths.tolist()
    torch.testing.assert_close(one.log_probability, other.log_probability, atol=1e-5, rtol=0)


def test_a_beam_finds_what_greedy_misses() -> None:
    """The first step's best word leads nowhere: b then stop has 0.4 * 0.9, a then anything at most 0.6 * 0.5."""

    class Trap(Decoder):
        def start(self, features):
            return State(hidden=(torch.zeros(len(features.pooled), 1),))

        def step(self, tokens, state):
            table = torch.tensor(
                [[0.25, 0.25, 0.5], [0.05, 0.05, 0.9], [1 / 3] * 3, [0.6, 0.4 - 1e-6, 1e-6]]
            )  # after a, b, stop, start
            return table[tokens].log(), state, None

    decoder = Trap(2)
    assert greedy(decoder, features(1), max_steps=3, repeats=True).tokens[0, 0] == 0
    found = beam(decoder, features(1), width=2, max_steps=3, repeats=True)
    assert found.tokens[0, 0].tolist()[:2] == [1, 2]
    assert found.log_probability[0, 0].exp().item() == pytest.approx(0.36, abs=1e-5)


def test_a_beam_that_never_stops_returns_its_best() -> None:
    never = torch.tensor([[[0.6, 0.4, 0.0]]]).log()
    found = beam(Scripted(never), features(1), width=3, max_steps=2, repeats=True)
    assert found.tokens[0, 0].tolist() == [0, 0]
    assert found.lengths[0, 0] == 2
    assert torch.isfinite(found.log_probability[0, 0])


def test_length_penalty_prefers_longer_sequences() -> None:
    decoder = Scripted(log_table([[0.45, 0.05, 0.5], [0.05, 0.15, 0.8], [0.1, 0.1, 0.8]]))
    short = beam(decoder, features(1), width=4, max_steps=3)
    long = beam(decoder, features(1), width=4, max_steps=3, length_penalty=1.0)
    assert short.lengths[0, 0] == 0
    assert long.lengths[0, 0] == 1


def test_the_attention_of_the_winning_beam_comes_along() -> None:
    """Each word looks at the cell of the word before it; start looks at cell 3."""

    class Looking(LabelLSTM):
        def step(self, tokens, state):
            logits, state, _ = super().step(tokens, state)
            return logits, state, torch.nn.functional.one_hot(tokens, 6).float()

    decoder = Looking(4, 3, hidden_size=4, embedding_size=3).eval()
    pooled = torch.randn(8, 3) * 3
    found = beam(decoder, Features(pooled), width=5, max_steps=4)
    for row in range(8):
        n = int(found.lengths[row, 0])
        words = [decoder.start_token, *found.tokens[row, 0, :n].tolist()]
        looked = found.attention[row].argmax(-1)[: n + 1].tolist()
        assert looked == words[: len(looked)]
