"""Beam search, against every label sequence there is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Scripted, brute_force, features, log_table

from helpers.data.batches import Features
from helpers.decoders.base import Decoder, State
from helpers.decoders.beam import beam
from helpers.decoders.lstm import LabelLSTM
from helpers.decoders.search import greedy


@settings(max_examples=10)
@given(
    seed=st.integers(0, 10_000),
    max_steps=st.integers(1, 5),
    penalty=st.sampled_from([0.0, 1.0]),
    repeats=st.booleans(),
    minimum=st.integers(0, 2),
)
def test_a_wide_beam_is_exhaustive(
    seed: int, max_steps: int, penalty: float, repeats: bool, minimum: int
) -> None:
    """Every sequence of 4 labels, ranked: probabilities, scores, tokens and steps."""
    torch.manual_seed(seed)
    max_steps, minimum = (min(max_steps, 3) if repeats else max_steps), min(minimum, max_steps)
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3).eval()
    pooled = torch.randn(2, 3) * 3
    limits = {"max_steps": max_steps, "repeats": repeats, "min_labels": minimum}
    found = beam(decoder, Features(pooled), width=90, length_penalty=penalty, **limits)
    for row in range(2):
        truth = brute_force(decoder, pooled[row : row + 1], **limits)

        def emitted(sequence: tuple[int, ...]) -> int:
            return min(len(sequence) + 1, max_steps)

        ranked = sorted(truth, key=lambda s: truth[s] / emitted(s) ** penalty, reverse=True)
        assert torch.isfinite(found.log_probability[row]).sum() == len(ranked)
        assert [
            tuple(t[:n]) for t, n in zip(found.tokens[row, :3].tolist(), found.lengths[row, :3], strict=True)
        ][: len(ranked)] == ranked[:3]
        for rank, sequence in enumerate(ranked):
            assert found.log_probability[row, rank].item() == pytest.approx(truth[sequence], abs=1e-3)
            score = truth[sequence] / emitted(sequence) ** penalty
            assert found.score[row, rank].item() == pytest.approx(score, abs=1e-3)
            steps = found.step_probability[row, rank]
            assert (steps > 0).sum() == emitted(sequence)
            assert steps[: emitted(sequence)].log().sum().item() == pytest.approx(truth[sequence], abs=1e-3)


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 6), penalty=st.sampled_from([0.0, 0.7]))
def test_the_best_alone_is_the_best(seed: int, width: int, penalty: float) -> None:
    torch.manual_seed(seed)
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3).eval()
    given_features = Features(torch.randn(5, 3) * 3)
    options = {"width": width, "max_steps": 5, "length_penalty": penalty}
    one = beam(decoder, given_features, only_best=True, **options).best()
    other = beam(decoder, given_features, **options).best()
    assert one.lengths.tolist() == other.lengths.tolist()
    for row, n in enumerate(one.lengths.tolist()):
        assert one.tokens[row, :n].tolist() == other.tokens[row, :n].tolist()
    torch.testing.assert_close(one.log_probability, other.log_probability)


def test_the_best_alone_takes_fewer_steps() -> None:
    """Stop has 0.9 at once: nothing that comes later can beat it."""

    class Counting(Scripted):
        steps = 0

        def step(self, tokens, state):
            self.steps += 1
            return super().step(tokens, state)

    counted = []
    for only_best in (True, False):
        decoder = Counting(log_table([[0.04, 0.03, 0.03, 0.9]]))
        beam(decoder, features(1), width=4, max_steps=4, only_best=only_best)
        counted.append(decoder.steps)
    assert counted[0] == 1 < counted[1]


@settings(max_examples=12)
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
    torch.testing.assert_close(one.step_probability, other.step_probability, atol=1e-5, rtol=0)


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


def test_nonsense_is_refused() -> None:
    decoder = Scripted(torch.zeros(1, 1, 3))
    for wrong in ({"width": 0}, {"max_steps": 0}, {"length_penalty": -1.0}, {"min_labels": 3}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            beam(decoder, features(1), **({"width": 2, "max_steps": 2} | wrong))
    with pytest.raises(FloatingPointError, match="1 of 2 images"):
        beam(Scripted(torch.tensor([[[0.0, 0, 0]], [[torch.nan, 0, 0]]])), features(2), width=2, max_steps=2)


def test_searching_keeps_no_graph() -> None:
    decoder = LabelLSTM(4, 3, hidden_size=4, embedding_size=3)
    assert beam(decoder, Features(torch.randn(2, 3)), width=2, max_steps=3).log_probability.is_inference()
