"""The step interface: `unroll` obeys its options, and what several decoders share."""

from __future__ import annotations

import pytest
import torch
from scripted import Scripted, features, log_table
from torch import Tensor, nn

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary
from helpers.decoders.base import (
    FREE,
    Decoder,
    FeatureNorm,
    State,
    label_embedding,
    most_probable,
    unroll,
)
from helpers.decoders.lstm import LabelLSTM
from helpers.systems.registry import SYSTEMS, build

A, B, STOP, START = range(4)
# Two images: one wants a, a, b, <stop>; the other b, <stop>, a, a.
SAID = log_table(
    [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]],
    [[0.3, 0.6, 0.1], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1]],
)


def chosen(**options) -> list[list[int]]:
    """The tokens that `unroll` chooses for the two images, greedily where the options leave a choice."""
    found = unroll(Scripted(SAID), features(2), most_probable, steps=4, **options)
    return torch.stack([step.tokens for step in found], 1).tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[A, A, B, STOP], [B, STOP, A, A]]),
        ({"repeats": False}, [[A, B, STOP, STOP], [B, STOP, A, STOP]]),
        ({"never": [A]}, [[B, B, B, STOP], [B, STOP, B, B]]),
        ({"min_labels": 2}, [[A, A, B, STOP], [B, B, A, A]]),
        ({"min_labels": 2, "repeats": False}, [[A, B, STOP, STOP], [B, A, STOP, STOP]]),
        ({"until_stop": True}, [[A, A, B, STOP], [B, STOP, STOP, STOP]]),
        ({"until_stop": True, "repeats": False}, [[A, B, STOP], [B, STOP, STOP]]),
        (
            {"forced": torch.tensor([[FREE, B, FREE, FREE], [A, A, FREE, STOP]])},
            [[A, B, B, STOP], [A, A, A, STOP]],
        ),
        (
            {"forced": torch.tensor([[B] + [FREE] * 3, [FREE] * 4]), "repeats": False},
            [[B, A, STOP, STOP], [B, STOP, A, STOP]],
        ),
    ],
    ids=str,
)
def test_unroll_obeys_its_options(options: dict, expected: list[list[int]]) -> None:
    assert chosen(**options) == expected


class Recording(Scripted):
    """Remembers what it read."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table)
        self.read: list[list[int]] = []

    def step(self, tokens: Tensor, state: State):
        self.read.append(tokens.tolist())
        return super().step(tokens, state)


def test_a_step_reads_the_choice_of_the_step_before() -> None:
    for first, start in ((None, START), (torch.tensor([A, A]), A)):
        decoder = Recording(SAID)
        list(unroll(decoder, features(2), most_probable, steps=3, first=first))
        assert decoder.read == [[start, start], [A, B], [A, STOP]]


def test_sequences_branch() -> None:
    """Every row continues with both labels; only the first of each pair of the second step goes on."""
    choices = iter(
        [
            (torch.tensor([A, B, A, B]), torch.tensor([0, 0, 1, 1])),
            (torch.tensor([B, A]), torch.tensor([0, 3])),
            torch.tensor([STOP, STOP]),
        ]
    )
    decoder = Recording(SAID)
    steps = list(unroll(decoder, features(2), lambda _: next(choices), steps=3, repeats=False))
    assert decoder.read == [[START, START], [A, B, A, B], [B, A]]
    torch.testing.assert_close(steps[1].logits, SAID[[0, 0, 1, 1], 1])
    assert steps[1].scores.isinf().tolist() == [[k == row % 2 for k in range(3)] for row in range(4)]
    assert steps[2].scores.isinf().tolist() == [[True, True, False]] * 2, "a row takes its own past along"


def test_gradient_passes_through_the_logits_alone() -> None:
    decoder = LabelLSTM(5, 4, hidden_size=6, embedding_size=3)
    for step in unroll(decoder, Features(torch.randn(2, 4)), most_probable, steps=2, repeats=False):
        assert step.logits.requires_grad and not step.scores.requires_grad
        assert torch.equal(step.logits.isinf(), torch.zeros_like(step.logits, dtype=torch.bool))


def test_teacher_forcing_is_stepping() -> None:
    decoder, images = LabelLSTM(6, 8, hidden_size=10, embedding_size=5).eval(), Features(torch.randn(4, 8))
    tokens = torch.randint(0, 8, (4, 7))
    whole, attention = decoder(images, tokens)
    stepped, _ = Decoder.forward(decoder, images, tokens)  # the loop, for decoders without a faster way
    assert attention is None
    torch.testing.assert_close(whole, stepped, atol=1e-5, rtol=0)


def test_no_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one label"):
        LabelLSTM(0, 8)


def test_given_vectors_are_frozen_or_learned() -> None:
    vectors = torch.randn(8, 5)
    frozen = label_embedding(6, 99, vectors, freeze=True)
    assert torch.equal(frozen.weight, vectors)
    assert not frozen.weight.requires_grad
    assert label_embedding(6, 99, vectors, freeze=False).weight.requires_grad
    assert label_embedding(6, 5, None, freeze=True).weight.requires_grad, "random vectors must be learned"
    with pytest.raises(ValueError, match=r"have 3 rows.*need 8"):
        label_embedding(6, 5, torch.zeros(3, 5), freeze=True)


def test_more_rows_are_normalised_as_by_torch_and_one_row_by_what_is_known() -> None:
    ours, theirs = FeatureNorm(4), nn.BatchNorm1d(4)
    x = 3 + 2 * torch.randn(16, 4)
    assert torch.equal(ours(x), theirs(x))
    theirs.load_state_dict(ours.state_dict())
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(4)(x[:1])
    one = ours(x[:1])
    torch.testing.assert_close(one, theirs.eval()(x[:1]))
    assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())
    one.square().sum().backward()
    assert ours.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in SYSTEMS] + [("bce", {"hidden_size": 4}), ("cnn_rnn", {"image_first": True})],
)
def test_every_system_trains_on_one_image(name: str, options: dict) -> None:
    fields = [spec.name for spec in SYSTEMS[name].options.specs()]
    if "max_labels" in fields:
        options = {"max_labels": 2, "hidden_size": 4, **options}
    if "attention_size" in fields:
        options = {**options, "attention_size": 4}
    if name in ("lcnet", "ml_gcn"):
        options = {**options, "edges": torch.eye(3)}
    if name == "query2label":
        options = {"positions": False}
    system = build(name, Vocabulary(("cat", "dog", "<unk>")), 8, **options).train()
    batch = Batch(
        index=torch.zeros(1, dtype=torch.int64),
        labels=torch.tensor([[1, 0, 3]]),
        lengths=torch.tensor([2]),
        multi_hot=torch.tensor([[1.0, 1.0, 0.0]]),
        features=Features(torch.rand(1, 8), torch.rand(1, 1, 8)),
    )
    loss = system.loss(batch)
    loss.backward()
    assert loss.isfinite()
