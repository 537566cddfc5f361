"""Figures of decoding, and `follow`: it agrees with greedy search, and goes where it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from helpers import plots
from helpers.batch import Features
from helpers.decoders import LabelLSTM
from helpers.decoding_plots import (
    FREE,
    NamedLabel,
    follow,
    gate_map,
    grouped_bars,
    named_in_order,
    step_view,
    unrolled_decoder,
)
from helpers.labels import sequence_lengths
from helpers.search import greedy

LABELS, SIZE, STOP = 5, 7, 5
IMAGE = np.zeros((16, 16, 3), dtype=np.uint8)


@pytest.fixture
def decoder() -> LabelLSTM:
    """A decoder of random weights that is not undecided."""
    model = LabelLSTM(LABELS, SIZE, hidden_size=8, embedding_size=6).eval()
    with torch.no_grad():
        model.scores.weight.mul_(20)
        model.scores.bias[STOP] += 1.5
    return model


def texts(figure: Figure) -> list[str]:
    """What is written in a figure, ticks and titles included."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def bars(figure: Figure) -> list[float]:
    """The lengths of the horizontal bars, panel by panel."""
    return [bar.get_width() for ax in figure.axes for container in ax.containers for bar in container]


# --- follow ----------------------------------------------------------------------------------------------------------


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


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_unrolled_decoder_shows_what_is_read_and_said() -> None:
    figure = unrolled_decoder(["<start>", "cat", "tree"], ["cat", "tree", "<stop>"], IMAGE)
    written = texts(figure)
    assert written.count("LSTM") == 3 and written.count("cat") == 2 and written.count("<start>") == 1
    with pytest.raises(ValueError, match="found 1 inputs and 2 outputs"):
        unrolled_decoder(["<start>"], ["cat", "<stop>"], IMAGE)


def test_gates_are_sorted_alike_in_all_panels() -> None:
    gate = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.7, 0.5]])  # (T, H): unit 1, then 2, then 0
    figure = gate_map({"forget gate": gate, "cell": gate - 0.5}, ["<start>", "cat"], IMAGE)
    first, second = (ax.images[0].get_array() for ax in figure.axes[1:3])
    np.testing.assert_allclose(first, [[0.9, 0.7], [0.5, 0.5], [0.1, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(second, np.asarray(first) - 0.5, atol=1e-6)
    assert figure.axes[1].images[0].get_clim() == (0, 1)
    low, high = figure.axes[2].images[0].get_clim()
    assert low == -high  # white is 0
    assert (
        len(gate_map({"cell": torch.randn(2, 100)}, ["a", "b"], IMAGE, units=9).axes[1].images[0].get_array())
        == 9
    )
    with pytest.raises(ValueError, match="of 3 steps"):
        gate_map({"cell": gate}, ["a", "b", "c"], IMAGE)


def test_named_labels_tell_right_from_wrong_without_colour() -> None:
    row = [NamedLabel("cat", 0.9, True), NamedLabel("dog", 0.4, False), NamedLabel("<stop>", 0.8)]
    figure = named_in_order([IMAGE, IMAGE], [row, []], [["sun", "sea"], []], columns=2)
    assert bars(figure) == [0.9, 0.4, 0.8]
    written = texts(figure)
    assert "dog ✗" in written and "cat" in written and "<stop>" in written
    assert "missed: sun, sea" in written and "nothing missed" in written
    titled = named_in_order([IMAGE], [row], titles=["made to begin"])
    assert "made to begin" in texts(titled)
    with pytest.raises(ValueError, match="found 1 images and 2 rows"):
        named_in_order([IMAGE], [row, row])


def test_grouped_bars_are_means_and_dots_are_runs() -> None:
    figure = grouped_bars({"a": [[1, 2], [3, 6]], "b": [[5, 5]]}, ["left", "right"], ylabel="%", title="t")
    ax = figure.axes[0]
    assert [[bar.get_height() for bar in group] for group in ax.containers] == [[2, 4], [5, 5]]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 2], [3, 6], [5, 5]]
    with pytest.raises(ValueError, match="shape \\(S, 2\\)"):
        grouped_bars({"a": [[1, 2, 3]]}, ["left", "right"], ylabel="%", title="t")


def test_a_step_shows_both_paths_and_marks_what_was_chosen() -> None:
    paths = {"alone": [("cat", False), ("<stop>", False)], "yours": [("sun", True), ("cat", False)]}
    figure = step_view(IMAGE, paths, [NamedLabel("cat", 0.75, True)], step=2)
    written = texts(figure)
    assert "sun *" in written and written.count("cat") >= 3 and "most probable at step 2" in written
    assert bars(figure) == [0.75]
    assert "the sequence has\nended before" in texts(step_view(IMAGE, paths, [], step=3))
    with pytest.raises(ValueError, match="paths is empty"):
        step_view(IMAGE, {}, [], step=1)


def test_figures_can_be_written(tmp_path: Path) -> None:
    figure = step_view(IMAGE, {"alone": [("cat", False)]}, [NamedLabel("cat", 1.0)], step=1)
    assert plots.to_png(figure).startswith(b"\x89PNG")
