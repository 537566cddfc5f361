"""Notebook 02's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lessons.exercises.nb02 import check_asymmetric, check_receptive_field, check_to_grid

from helpers.systems.losses import asymmetric_loss


def asymmetric(logits, multi_hot, gamma, clip, *, slip=""):
    """The asymmetric loss, with one slip or none."""
    p = logits if slip == "logits" else logits.sigmoid()
    p_m = p - clip if slip == "no max" else (p - clip).clamp(min=0)
    if slip == "no clip":
        p_m = p
    log_p = p.log() if slip == "two steps" else torch.nn.functional.logsigmoid(logits)
    q = 1 - (p if slip == "half a clip" else p_m)
    positive = -log_p * ((1 - p) ** gamma if slip == "both" else 1)
    weight = {"no gamma": 1, "one minus": (1 - p_m) ** gamma}.get(slip, p_m**gamma)
    negative = -weight * (
        q.log() if clip or slip == "half a clip" else torch.nn.functional.logsigmoid(-logits)
    )
    cost = multi_hot * positive + (1 - multi_hot) * negative
    if slip == "detached":
        cost = multi_hot * positive + (1 - multi_hot) * -(p_m.detach() ** gamma) * q.log()
    if slip == "number":
        return float(cost.mean())
    if slip == "frozen":
        return cost.mean().detach()
    return {"sum": cost.sum(), "images": cost.sum(1).mean(), "sign": -cost.mean()}.get(slip, cost.mean())


def field(layers, *, slip=""):
    """The receptive field of convolutions (kernel, stride), with one slip or none."""
    size, jump = 0 if slip == "from 0" else 1, 1
    for kernel, stride in layers:
        if slip == "stride first":
            jump *= stride
        step = 1 if slip == "no jump" else jump
        size += (kernel if slip == "whole kernel" else kernel // 2 if slip == "half" else kernel - 1) * step
        if slip == "last stride":
            jump = stride
        elif slip != "stride first":
            jump = jump + stride if slip == "sum" else jump * stride
    return {"list": [size], "jump": jump, "text": str(size)}.get(slip, size)


def of_the_package(logits, multi_hot, gamma, clip):
    return asymmetric_loss(logits, multi_hot, gamma_negative=gamma, clip=clip)


RIGHT = [
    (check_asymmetric, asymmetric),
    (check_asymmetric, of_the_package),
    (check_to_grid, lambda x: x.flatten(2).transpose(1, 2)),
    (check_to_grid, lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])),
    (check_to_grid, lambda x: x.movedim(1, -1).flatten(1, 2)),
    (check_receptive_field, field),
    (check_receptive_field, lambda layers: torch.tensor(field(layers))),
]  # fmt: skip

WRONG = [
    (check_to_grid, lambda x: x.reshape(x.shape[0], -1, x.shape[1]), "scrambled"),
    (check_to_grid, lambda x: x.flatten(2), "D = 2 numbers per cell"),
    (check_to_grid, lambda x: x.permute(0, 3, 2, 1).flatten(1, 2), "column by column"),
    (check_to_grid, lambda x: x.flatten(2).transpose(1, 2).flip(1), "Cell i * w + j"),
    (check_to_grid, lambda x: x.flatten(2).transpose(1, 2).tolist(), "Return a tensor"),
    (check_receptive_field, partial(field, slip="stride first"), "first add, then multiply"),
    (check_receptive_field, partial(field, slip="whole kernel"), "not k"),
    (check_receptive_field, partial(field, slip="no jump"), "several image pixels apart"),
    (check_receptive_field, partial(field, slip="last stride"), "product of all strides"),
    (check_receptive_field, partial(field, slip="from 0"), "its field is 1"),
    (check_receptive_field, partial(field, slip="half"), "(kernel - 1) * jump"),
    (check_receptive_field, partial(field, slip="sum"), "Strides multiply"),
    (check_receptive_field, partial(field, slip="jump"), "(kernel - 1) * jump"),
    (check_receptive_field, partial(field, slip="list"), "one number"),
    (check_receptive_field, partial(field, slip="text"), "one number"),
    (check_receptive_field, lambda layers: 143, "its field is 1"),
    (check_asymmetric, partial(asymmetric, slip="logits"), "p = sigmoid(logit)"),
    (check_asymmetric, partial(asymmetric, slip="no max"), "p_m is 0"),
    (check_asymmetric, partial(asymmetric, slip="no clip"), "use p_m"),
    (check_asymmetric, partial(asymmetric, slip="half a clip"), "use p_m"),
    (check_asymmetric, partial(asymmetric, slip="no gamma"), "p ** gamma"),
    (check_asymmetric, partial(asymmetric, slip="one minus"), "p ** gamma"),
    (check_asymmetric, partial(asymmetric, slip="both"), "A positive costs"),
    (check_asymmetric, partial(asymmetric, slip="two steps"), "logsigmoid"),
    (check_asymmetric, partial(asymmetric, slip="sign"), "A positive costs"),
    (check_asymmetric, partial(asymmetric, slip="sum"), "the mean over all B * C"),
    (check_asymmetric, partial(asymmetric, slip="images"), "the mean over all B * C"),
    (check_asymmetric, partial(asymmetric, slip="number"), "Return a tensor"),
    (check_asymmetric, partial(asymmetric, slip="frozen"), "its gradient is not"),
    (check_asymmetric, partial(asymmetric, slip="detached"), "its gradient is not"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)


def test_a_small_difference_is_shown(fails) -> None:
    printed = fails(check_asymmetric, lambda *given: asymmetric(*given, slip="no max"), "p_m is 0")
    found, expected = (
        next(line for line in printed.splitlines() if name in line).split(":")[1]
        for name in ("found:", "expected:")
    )
    assert found.strip() != expected.strip()
