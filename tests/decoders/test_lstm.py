"""RIA's and CNN-RNN's decoders are their formulas, written out with plain products."""

from __future__ import annotations

import pytest
import torch
from scripted import brute_force
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.decoders.base import Decoder
from helpers.decoders.beam import beam
from helpers.decoders.lstm import JointEmbedding, LabelLSTM
from helpers.decoders.probability import sequence_log_probability
from helpers.decoders.search import greedy, sample

C, D, H, E = 4, 5, 3, 2


def make(**options) -> LabelLSTM:
    return LabelLSTM(C, D, hidden_size=H, embedding_size=E, **options).eval()


def make_joint(**options) -> JointEmbedding:
    return JointEmbedding(C, D, hidden_size=H, embedding_size=E, **options).eval()


def lstm_by_hand(lstm: nn.LSTM, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step from the gate formulas; torch stacks the gates as input, forget, cell, output."""
    gates = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
    i, f, g, o = gates.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


# --- RIA ---


@pytest.mark.parametrize(("image", "learn_cell"), [("state", False), ("state", True), ("step", False)])
def test_ria_is_its_formulas(image: str, learn_cell: bool) -> None:
    """The image is the first hidden state, or an extra input step before `<start>` (Show and Tell, eq. 10 to 12)."""
    decoder, pooled = make(image=image, learn_cell=learn_cell), torch.randn(2, D)
    tokens = torch.tensor([[C + 1, 2, 3], [C + 1, 0, C]])
    expected = []
    for features, sequence in zip(pooled, tokens, strict=True):
        h = c = torch.zeros(H)
        if image == "state":
            h = decoder.initial_hidden(features)
            c = decoder.initial_cell(features) if learn_cell else c
        else:
            h, c = lstm_by_hand(decoder.lstm, decoder.image_input(features), h, c)
        for token in sequence:
            h, c = lstm_by_hand(decoder.lstm, decoder.embedding.weight[token], h, c)
            expected.append(decoder.scores(h))
    expected = torch.stack(expected).view(2, 3, C + 1)
    for found in (decoder(Features(pooled), tokens), Decoder.forward(decoder, Features(pooled), tokens)):
        torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=0)


def test_the_image_matters_and_the_future_does_not() -> None:
    decoder, tokens = make(), torch.randint(0, C, (2, 5))
    a, _ = decoder(Features(torch.zeros(2, D)), tokens)
    b, _ = decoder(Features(torch.ones(2, D)), tokens)
    assert not torch.allclose(a, b)
    changed = tokens.clone()
    changed[:, 3] = (tokens[:, 3] + 1) % C
    c, _ = decoder(Features(torch.zeros(2, D)), changed)
    assert torch.equal(a[:, :3], c[:, :3])
    assert not torch.allclose(a[:, 3:], c[:, 3:])


def test_parameter_count_is_the_published_one() -> None:
    """SPEC of RIA on Corel-5k: 2048 features and units, frozen 300-d GloVe, 260 labels."""
    with torch.device("meta"):
        decoder = LabelLSTM(260, 2048, hidden_size=2048, vectors=torch.zeros(262, 300))
    assert sum(p.numel() for p in decoder.parameters() if p.requires_grad) == 23_982_341


# --- CNN-RNN ---


@pytest.mark.parametrize("image_first", [False, True])
def test_the_joint_scores_are_the_formula(image_first: bool) -> None:
    decoder = make_joint(image_first=image_first)
    if image_first:
        assert decoder.image_norm.momentum == 0.01
        decoder.image_norm.running_mean.copy_(torch.tensor([0.5, -0.3]))
        decoder.image_norm.running_var.copy_(torch.tensor([2.0, 0.4]))
        decoder.image_norm.weight.data.copy_(torch.tensor([1.5, 0.7]))
        decoder.image_norm.bias.data.copy_(torch.tensor([0.1, -0.2]))
    pooled, tokens = torch.randn(1, D), [decoder.start_token, 2, 0]
    embedding, image = decoder.embedding.weight, decoder.from_image(pooled)[0]
    h = c = torch.zeros(H)
    if image_first:
        norm = decoder.image_norm
        read = (image - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        h, c = lstm_by_hand(decoder.lstm, read, h, c)
    expected = []
    for token in tokens:
        h, c = lstm_by_hand(decoder.lstm, embedding[token], h, c)
        x = decoder.from_state(h) + (0 if image_first else image)
        expected.append(embedding[: C + 1] @ x.clamp(min=0))  # the very vectors that are read
    logits, attention = decoder(Features(pooled), torch.tensor([tokens]))
    assert attention is None
    torch.testing.assert_close(logits[0], torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_one_embedding_reads_and_scores() -> None:
    decoder = make_joint()
    decoder.from_image.bias.data.fill_(1)  # some joint number is above 0
    logits, _ = decoder(Features(torch.randn(2, D)), torch.tensor([[5, 1], [5, 1]]))
    logits[:, 0, 3].sum().backward()  # scoring label 3 after <start>: nobody read label 3
    assert decoder.embedding.weight.grad[3].abs().sum() > 0
    assert decoder.embedding.weight.grad[5].abs().sum() > 0, "<start> was read"
    assert decoder.embedding.weight.grad[1].abs().sum() == 0


@pytest.mark.parametrize("image_first", [False, True])
def test_steps_equal_teacher_forcing_and_all_searches_work(image_first: bool) -> None:
    decoder = make_joint(image_first=image_first)
    decoder.embedding.weight.data *= 4
    images, tokens = Features(torch.randn(6, D) * 2), torch.randint(0, C, (6, 3))
    stepped, whole = Decoder.forward(decoder, images, tokens)[0], decoder(images, tokens)[0]
    torch.testing.assert_close(stepped, whole, atol=1e-5, rtol=1e-5)
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
