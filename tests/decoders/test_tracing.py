"""`follow` and `trace`: they agree with greedy search and teacher forcing, and go where they are told."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.data.batches import Features
from helpers.data.labels import sequence_lengths
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.lstm import LabelLSTM
from helpers.decoders.search import FREE, follow, greedy, trace

LABELS, SIZE, STOP = 5, 7, 5


@pytest.fixture
def decoder() -> LabelLSTM:
    """A decoder of random weights that is not undecided."""
    model = LabelLSTM(LABELS, SIZE, hidden_size=8, embedding_size=6).eval()
    with torch.no_grad():
        model.scores.weight.mul_(20)
        model.scores.bias[STOP] += 1.5
    return model


@pytest.mark.parametrize("repeats", [True, False])
def test_follow_with_nothing_forced_is_greedy_search(decoder: LabelLSTM, repeats: bool) -> None:
    features = Features(torch.randn(64, SIZE))
    found = follow(decoder, features, max_steps=6, repeats=repeats)
    expected = greedy(decoder, features, max_steps=6, repeats=repeats)
    assert torch.equal(found.tokens, expected.tokens)
    chosen = found.probability.gather(2, found.tokens[..., None]).squeeze(2)
    torch.testing.assert_close(chosen, expected.step_probability)
    assert (sequence_lengths(found.tokens, STOP) > 1).any() and (found.tokens == STOP).any()


def test_probabilities_sum_to_one_until_the_stop_and_are_zero_after_it(decoder: LabelLSTM) -> None:
    found = follow(decoder, Features(torch.randn(64, SIZE)), max_steps=6)
    live = torch.arange(found.tokens.shape[1]) <= sequence_lengths(found.tokens, STOP)[:, None]
    torch.testing.assert_close(found.probability.sum(2), live.float())
    assert not live.all()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(FREE, STOP), max_size=5), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_what_is_forced_is_said_and_the_rest_is_the_decoders_choice(rows: list[list[int]], seed: int) -> None:
    torch.manual_seed(seed)
    decoder = LabelLSTM(LABELS, SIZE, hidden_size=8, embedding_size=6).eval()
    found = follow(decoder, Features(torch.randn(len(rows), SIZE)), max_steps=6, forced=rows)
    for row, tokens, probability in zip(rows, found.tokens.tolist(), found.probability, strict=True):
        end = tokens.index(STOP) if STOP in tokens else len(tokens)
        for t, token in enumerate(tokens[: end + 1]):
            if t < len(row) and row[t] != FREE:
                assert token == row[t]
            else:
                assert token == int(probability[t].argmax())
        assert all(token == STOP for token in tokens[end:])


def test_a_forced_label_changes_the_state_and_is_not_named_again(decoder: LabelLSTM) -> None:
    features = Features(torch.randn(1, SIZE))
    forced = follow(decoder, features, max_steps=6, forced=[[2]])
    assert forced.tokens[0, 0] == 2 and (forced.probability[0, 1:, 2] == 0).all()
    state = decoder.start(features)
    _, state, _ = decoder.step(torch.tensor([decoder.start_token]), state)
    logits, _, _ = decoder.step(torch.tensor([2]), state)
    logits[0, 2] = -torch.inf
    torch.testing.assert_close(forced.probability[:, 1], logits.softmax(-1))


def test_a_batch_is_its_images(decoder: LabelLSTM) -> None:
    features, rows = Features(torch.randn(5, SIZE)), [[1], [], [FREE, 3], [STOP], [0, 1, 2]]
    together = follow(decoder, features, max_steps=6, forced=rows)
    for i, row in enumerate(rows):
        alone = follow(decoder, features.select(torch.tensor([i])), max_steps=6, forced=[row])
        steps = alone.tokens.shape[1]
        assert torch.equal(alone.tokens[0], together.tokens[i, :steps])
        assert (together.tokens[i, steps:] == STOP).all()
        torch.testing.assert_close(alone.probability[0], together.probability[i, :steps])


@pytest.mark.parametrize(
    ("forced", "message"),
    [
        ([[1]], "a row for each of 2 images"),
        ([[1] * 7, []], "at most max_steps = 6"),
        ([[STOP + 1], []], "ids \\[6\\] outside"),
        ([[-2], []], "outside -1..5"),
    ],
)
def test_follow_refuses_what_cannot_be_said(
    decoder: LabelLSTM, forced: list[list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        follow(decoder, Features(torch.randn(2, SIZE)), max_steps=6, forced=forced)


def test_follow_needs_a_step(decoder: LabelLSTM) -> None:
    with pytest.raises(ValueError, match="max_steps is 0"):
        follow(decoder, Features(torch.randn(2, SIZE)), max_steps=0)


@pytest.fixture
def attending() -> AttentionLSTM:
    return AttentionLSTM(5, 8, hidden_size=6, attention_size=4, embedding_size=3).eval()


@pytest.fixture
def features() -> Features:
    """Of one image with 12 cells."""
    grid = torch.randn(1, 12, 8)
    return Features(grid.mean(1), grid)


def test_a_free_trace_is_greedy_search(attending, features) -> None:
    for repeats in (False, True):
        decoded = greedy(attending, features, max_steps=6, repeats=repeats)
        found = trace(attending, features, max_steps=6, repeats=repeats)
        assert torch.equal(found.tokens, decoded.tokens[0])
        torch.testing.assert_close(
            found.probability.gather(1, found.tokens[:, None])[:, 0], decoded.step_probability[0]
        )
        torch.testing.assert_close(found.attention, decoded.attention[0])
        assert found.gate.shape == (len(found.tokens), 8) and bool(
            ((found.gate > 0) & (found.gate < 1)).all()
        )


def test_a_forced_trace_is_teacher_forcing(attending, features) -> None:
    given = [3, 0, 4]
    found = trace(attending, features, max_steps=1, given=given, repeats=True)
    logits, attention = attending(features, torch.tensor([[attending.start_token, *given]]))
    torch.testing.assert_close(found.probability, logits[0].softmax(-1))
    torch.testing.assert_close(found.attention, attention[0])
    assert len(found.tokens) == 4
    without = trace(attending, features, max_steps=1, given=given)
    assert without.probability[1, 3] == 0 and without.probability[3, [3, 0, 4]].sum() == 0


def test_painted_attention_is_used_at_its_step_alone(attending, features) -> None:
    mine = torch.eye(12)[7]
    own, painted = (
        trace(attending, features, max_steps=3, given=[1, 2], attention=a) for a in (None, {1: mine})
    )
    assert torch.equal(own.attention[0], painted.attention[0])
    assert torch.equal(painted.attention[1], mine)
    assert not torch.allclose(own.probability[1], painted.probability[1])
    with pytest.raises(ValueError, match="one image"):
        trace(attending, Features(torch.randn(2, 8), torch.randn(2, 12, 8)), max_steps=3)
