"""Greedy search and sampling on decoders whose probabilities are written down; `follow` and `trace` agree with them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Scripted, features, log_table

from helpers.data.batches import Features
from helpers.data.labels import sequence_lengths
from helpers.decoders.adaptive_attention import AdaptiveAttentionLSTM
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.base import Decoder
from helpers.decoders.beam import beam
from helpers.decoders.lstm import LabelLSTM
from helpers.decoders.search import FREE, follow, greedy, sample, trace


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


def test_without_a_stop_the_limit_or_the_labels_end_it() -> None:
    decoder = Scripted(log_table([[0.5, 0.4, 0.1]]))
    found = greedy(decoder, features(1), max_steps=2)
    assert (found.tokens.tolist(), found.lengths.tolist()) == ([[0, 1]], [2])
    assert greedy(decoder, features(1), max_steps=9).tokens.tolist() == [[0, 1, 2]], "only stop is left"


def test_rows_stop_at_different_steps() -> None:
    stop_now, go_on = [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]
    found = greedy(Scripted(log_table([stop_now, go_on], [go_on, stop_now])), features(2), max_steps=2)
    assert found.tokens.tolist() == [[2, 2], [1, 2]]
    assert found.step_probability[0].tolist() == pytest.approx([0.8, 0.0])


def test_nan_and_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        greedy(Scripted(torch.zeros(1, 1, 3)), features(1), max_steps=0)
    with pytest.raises(FloatingPointError, match="1 of 2 images"):
        greedy(Scripted(torch.tensor([[[0.0, 0, 0]], [[torch.nan, 0, 0]]])), features(2), max_steps=2)


@settings(max_examples=15)
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
    decoder = Scripted(torch.randn(50, 4, 4))
    cold, best = (
        sample(decoder, features(50), max_steps=4, temperature=1e-4),
        greedy(decoder, features(50), max_steps=4),
    )
    assert cold.tokens.tolist() == best.tokens.tolist() and torch.isfinite(cold.log_probability).all()


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


# --- greedy decoding that keeps all it saw ---


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


@settings(max_examples=20)
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


@pytest.fixture(params=["before", "after", "sentinel"])
def attending(request: pytest.FixtureRequest) -> AttentionLSTM | AdaptiveAttentionLSTM:
    """A decoder that looks at the grid before or after it has read its last label."""
    sizes = {"hidden_size": 6, "attention_size": 4, "embedding_size": 3}
    if request.param == "before":
        return AttentionLSTM(5, 8, **sizes).eval()
    return AdaptiveAttentionLSTM(5, 8, sentinel=request.param == "sentinel", **sizes).eval()


@pytest.fixture
def one_image() -> Features:
    """Of one image with 12 cells."""
    grid = torch.randn(1, 12, 8)
    return Features(grid.mean(1), grid)


def test_a_free_trace_is_greedy_search(attending, one_image) -> None:
    for repeats in (False, True):
        decoded = greedy(attending, one_image, max_steps=6, repeats=repeats)
        found = trace(attending, one_image, max_steps=6, repeats=repeats)
        assert torch.equal(found.tokens, decoded.tokens[0])
        torch.testing.assert_close(found.step_probability, decoded.step_probability[0])
        torch.testing.assert_close(found.attention, decoded.attention[0])


def test_a_forced_trace_is_teacher_forcing(attending, one_image) -> None:
    given = [3, 0, 4]
    found = trace(attending, one_image, max_steps=1, given=given, repeats=True)
    logits, attention = attending(one_image, torch.tensor([[attending.start_token, *given]]))
    torch.testing.assert_close(found.probability, logits[0].softmax(-1))
    torch.testing.assert_close(found.attention, attention[0])
    assert len(found.tokens) == 4
    without = trace(attending, one_image, max_steps=1, given=given)
    assert without.probability[1, 3] == 0 and without.probability[3, [3, 0, 4]].sum() == 0


def test_painted_attention_is_used_at_its_step_alone(attending, one_image) -> None:
    mine = torch.eye(12)[7]
    own, painted = (
        trace(attending, one_image, max_steps=3, given=[1, 2], attention=a) for a in (None, {1: mine})
    )
    assert torch.equal(own.attention[0], painted.attention[0])
    assert torch.equal(painted.attention[1], mine)
    assert not torch.allclose(own.probability[1], painted.probability[1])
    with pytest.raises(ValueError, match="one image"):
        trace(attending, Features(torch.randn(2, 8), torch.randn(2, 12, 8)), max_steps=3)
