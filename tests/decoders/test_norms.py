"""Batch-norm that bears a batch of one image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.data.batches import Batch, Features
from helpers.data.labels import Vocabulary
from helpers.decoders.base import FeatureNorm
from helpers.systems.registry import SYSTEMS, build


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
    vocabulary = Vocabulary(("cat", "dog", "<unk>"))
    fields = [spec.name for spec in SYSTEMS[name].options.specs()]
    if "max_labels" in fields:
        options = {"max_labels": 2, "hidden_size": 4, **options}
    if "attention_size" in fields:
        options = {**options, "attention_size": 4}
    if name in ("lcnet", "ml_gcn"):
        options = {**options, "edges": torch.eye(3)}
    if name == "query2label":
        options = {"positions": False}
    system = build(name, vocabulary, 8, **options).train()
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
