"""CNN-RNN's decoder is its formulas, computed here one number at a time."""

from __future__ import annotations

import math

import pytest
import torch
from scripted import brute_force
from torch import nn

from helpers.data.batches import Features
from helpers.decoders.beam import beam
from helpers.decoders.lstm import JointEmbedding
from helpers.decoders.probability import sequence_log_probability
from helpers.decoders.search import greedy, sample

C, D, H, E = 4, 5, 3, 2


def make(**options) -> JointEmbedding:
    torch.manual_seed(0)
    return JointEmbedding(C, D, hidden_size=H, embedding_size=E, **options).eval()


def product(matrix: list[list[float]], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def lstm_by_hand(lstm: nn.LSTM, x: list[float], h: list[float], c: list[float]):
    """i, f, g, o from W_ih x + W_hh h + both biases; c' = f c + i g; h' = o tanh(c')."""
    pre = [
        a + b + d + e
        for a, b, d, e in zip(
            product(lstm.weight_ih_l0.tolist(), x),
            product(lstm.weight_hh_l0.tolist(), h),
            lstm.bias_ih_l0.tolist(),
            lstm.bias_hh_l0.tolist(),
            strict=True,
        )
    ]
    n = len(h)

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    c = [sigmoid(pre[n + k]) * c[k] + sigmoid(pre[k]) * math.tanh(pre[2 * n + k]) for k in range(n)]
    return [sigmoid(pre[3 * n + k]) * math.tanh(c[k]) for k in range(n)], c


@pytest.mark.parametrize("image_first", [False, True])
def test_the_scores_are_the_formula(image_first: bool) -> None:
    decoder = make(image_first=image_first)
    if image_first:
        decoder.image_norm.running_mean.copy_(torch.tensor([0.5, -0.3]))
        decoder.image_norm.running_var.copy_(torch.tensor([2.0, 0.4]))
        decoder.image_norm.weight.data.copy_(torch.tensor([1.5, 0.7]))
        decoder.image_norm.bias.data.copy_(torch.tensor([0.1, -0.2]))
    pooled = torch.randn(1, D)
    tokens = [decoder.start_token, 2, 0]
    embedding = decoder.embedding.weight.tolist()
    image = [
        a + b
        for a, b in zip(
            product(decoder.from_image.weight.tolist(), pooled[0].tolist()),
            decoder.from_image.bias.tolist(),
            strict=True,
        )
    ]
    h, c = [0.0] * H, [0.0] * H
    if image_first:
        norm = decoder.image_norm
        read = [
            (x - float(norm.running_mean[k]))
            / math.sqrt(float(norm.running_var[k]) + norm.eps)
            * norm.weight[k].item()
            + norm.bias[k].item()
            for k, x in enumerate(image)
        ]
        h, c = lstm_by_hand(decoder.lstm, read, h, c)
    expected = []
    for token in tokens:
        h, c = lstm_by_hand(decoder.lstm, embedding[token], h, c)
        projected = product(decoder.from_state.weight.tolist(), h)
        x = [
            max(0.0, p + b + (0.0 if image_first else i))
            for p, b, i in zip(projected, decoder.from_state.bias.tolist(), image, strict=True)
        ]
        expected.append(product(embedding[: C + 1], x))  # the very vectors that are read
    logits, attention = decoder(Features(pooled), torch.tensor([tokens]))
    assert attention is None
    torch.testing.assert_close(logits[0], torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_one_embedding_reads_and_scores() -> None:
    decoder = make()
    logits, _ = decoder(Features(torch.randn(2, D)), torch.tensor([[5, 1], [5, 1]]))
    logits[:, 0, 3].sum().backward()  # scoring label 3 after <start>: nobody read label 3
    assert decoder.embedding.weight.grad[3].abs().sum() > 0
    assert decoder.embedding.weight.grad[5].abs().sum() > 0, "<start> was read"
    assert decoder.embedding.weight.grad[1].abs().sum() == 0


def test_the_image_joins_at_every_step_or_comes_first() -> None:
    tokens = torch.tensor([[C + 1, 1, 0]]).expand(2, 3)
    images = Features(torch.randn(2, D) * 3)
    always, first = make(), make(image_first=True)
    assert len(always.start(images).memory) == 1
    assert first.start(images).memory == ()
    assert (always.start(images).hidden[0] == 0).all()
    assert (first.start(images).hidden[0] != 0).any()
    for decoder in (always, first):
        logits, _ = decoder(images, tokens)
        assert not torch.allclose(logits[0], logits[1])
    assert first.image_norm.momentum == 0.01


@pytest.mark.parametrize("image_first", [False, True])
def test_steps_equal_teacher_forcing_and_all_searches_work(image_first: bool) -> None:
    decoder = make(image_first=image_first)
    decoder.embedding.weight.data *= 4
    images = Features(torch.randn(6, D) * 2)
    tokens = torch.randint(0, C, (6, 3))
    tokens[:, 0] = decoder.start_token
    logits, _ = decoder(images, tokens)
    state = decoder.start(images)
    for t in range(3):
        step, state, _ = decoder.step(tokens[:, t], state)
        torch.testing.assert_close(step, logits[:, t], atol=1e-5, rtol=1e-5)
    best = greedy(decoder, images, max_steps=C + 1)
    one = beam(decoder, images, width=1, max_steps=C + 1).best()
    assert one.tokens.tolist() == best.tokens.tolist()
    wide = beam(decoder, images, width=90, max_steps=C + 1)
    for row in range(6):  # several beams share the one image of their row
        truth = brute_force(decoder, images.pooled[row : row + 1], C + 1)
        assert wide.log_probability[row, 0].item() == pytest.approx(max(truth.values()), abs=1e-4)
    drawn = sample(decoder, images, max_steps=C + 1)
    again = sequence_log_probability(decoder, images, drawn.tokens, drawn.lengths, max_steps=C + 1)
    torch.testing.assert_close(again, drawn.log_probability, atol=1e-4, rtol=0)


def test_given_vectors_are_used() -> None:
    vectors = torch.randn(C + 2, 7)
    decoder = JointEmbedding(C, D, vectors=vectors, freeze_vectors=True)
    assert torch.equal(decoder.embedding.weight, vectors)
    assert not decoder.embedding.weight.requires_grad
    assert JointEmbedding(C, D, vectors=vectors).embedding.weight.requires_grad
    with pytest.raises(ValueError, match="5 rows, but 4 labels"):
        JointEmbedding(C, D, vectors=vectors[1:])
