"""Scoring systems: which loss they are trained with."""

from __future__ import annotations

import pytest
import torch
from scripted import make_batch, make_system

from helpers.systems.classifier import CLASSIFICATION_LOSSES
from helpers.systems.losses import asymmetric_loss


@pytest.mark.parametrize("loss", sorted(CLASSIFICATION_LOSSES))
def test_the_loss_is_chosen_by_name(loss: str) -> None:
    system, batch = make_system("bce", loss=loss).eval(), make_batch()
    expected = CLASSIFICATION_LOSSES[loss](system.logits(batch.features), batch.multi_hot)
    torch.testing.assert_close(system.loss(batch), expected)
    system.loss(batch).backward()
    assert system.head[-1].weight.grad.abs().sum() > 0


def test_the_focus_can_be_left_out_of_the_gradient() -> None:
    batch, gradients = make_batch(), []
    for detach in (False, True):
        system = make_system("bce", loss="asymmetric", detach_focus=detach).eval()
        system.loss(batch).backward()
        gradients.append(system.head[-1].weight.grad)
        logits = system.logits(batch.features)
        expected = asymmetric_loss(logits, batch.multi_hot, detach_focus=detach)
        torch.testing.assert_close(system.loss(batch), expected)
    assert not torch.allclose(*gradients)
    with pytest.raises(ValueError, match="detach_focus is of loss='asymmetric'"):
        make_system("bce", detach_focus=True)
