"""Notebook 02's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lessons.exercises import nb02 as checks
from lessons.exercises.nb02 import check_asymmetric, check_cf1, check_choose_threshold, check_to_grid

from helpers.metrics.thresholds import choose_global
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


def cf1(tp, predicted, support, *, slip=""):
    """Both CF1, with one slip or none."""
    if slip == "nan":
        precision, recall = tp / predicted, tp / support
    else:
        precision, recall = tp / predicted.clamp(min=1), tp / support.clamp(min=1)
    if slip == "only named":
        precision = precision[predicted > 0]
    if slip == "only present":
        recall = recall[support > 0]
    if slip == "swapped counts":
        precision, recall = recall * 0 + tp, precision
    CP, CR = precision.mean(), recall.mean()
    f1 = 2 * tp / (predicted + support).clamp(min=1)
    if slip == "overall":
        CP, CR = tp.sum() / predicted.sum(), tp.sum() / support.sum()
    harmonic = (CP + CR) / 2 if slip == "arithmetic" else 2 * CP * CR / (CP + CR).clamp(min=1e-12)
    if slip == "zero over zero":
        harmonic = 2 * CP * CR / (CP + CR)
    pair = (harmonic.item(), f1.mean().item())
    twice = {"first twice": (pair[0], pair[0]), "second twice": (pair[1], pair[1])}
    return {"turned": pair[::-1], "one": pair[0], **twice}.get(slip, pair)


def best_threshold(*splits, metric="OF1"):
    """The threshold with the best OF1 on the given splits together."""
    scores, target = (torch.cat(parts) for parts in zip(*splits, strict=True))
    return choose_global(scores, target, metric)


def of_the_package(logits, multi_hot, gamma, clip):
    return asymmetric_loss(logits, multi_hot, gamma_negative=gamma, clip=clip)


RIGHT = [
    (check_asymmetric, asymmetric),
    (check_asymmetric, of_the_package),
    (check_to_grid, lambda x: x.flatten(2).transpose(1, 2)),
    (check_to_grid, lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])),
    (check_to_grid, lambda x: x.movedim(1, -1).flatten(1, 2)),
    (check_cf1, cf1),
    (check_cf1, lambda *counts: [torch.tensor(value) for value in cf1(*counts)]),
    (check_choose_threshold, lambda train, val, test: best_threshold(val)),
    (check_choose_threshold, lambda train, val, test: torch.tensor(best_threshold(val))),
    (check_choose_threshold, lambda train, val, test: max( (k / 100 for k in range(99, 0, -1)), key=lambda t: checks._of1(*val, t) )),
]  # fmt: skip

WRONG = [
    (check_to_grid, lambda x: x.reshape(x.shape[0], -1, x.shape[1]), "scrambled"),
    (check_to_grid, lambda x: x.flatten(2), "D = 2 numbers per cell"),
    (check_to_grid, lambda x: x.permute(0, 3, 2, 1).flatten(1, 2), "column by column"),
    (check_to_grid, lambda x: x.flatten(2).transpose(1, 2).flip(1), "Cell i * w + j"),
    (check_to_grid, lambda x: x.flatten(2).transpose(1, 2).tolist(), "Return a tensor"),
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
    (check_cf1, partial(cf1, slip="nan"), "precision 0"),
    (check_cf1, partial(cf1, slip="only named"), "precision 0"),
    (check_cf1, partial(cf1, slip="only present"), "recall 0"),
    (check_cf1, partial(cf1, slip="overall"), "OF1"),
    (check_cf1, partial(cf1, slip="arithmetic"), "tp / predicted"),
    (check_cf1, partial(cf1, slip="zero over zero"), "both are 0"),
    (check_cf1, partial(cf1, slip="turned"), "in the other order"),
    (check_cf1, partial(cf1, slip="one"), "Return two numbers"),
    (check_cf1, partial(cf1, slip="first twice"), "The first number is right"),
    (check_cf1, partial(cf1, slip="second twice"), "The second number is right"),
    (check_choose_threshold, lambda train, val, test: best_threshold(test), "best threshold on test"),
    (check_choose_threshold, lambda train, val, test: best_threshold(train), "best threshold on train"),
    (check_choose_threshold, lambda train, val, test: best_threshold(train, val, test), "only there"),
    (check_choose_threshold, lambda train, val, test: best_threshold(val, test), "only there"),
    (check_choose_threshold, lambda train, val, test: 0.05, "On val, OF1 is"),
    (check_choose_threshold, lambda train, val, test: 0.5, "the same for every val"),
    (check_choose_threshold, lambda train, val, test: float(train[0][0, 0]), "On val, OF1 is"),
    (check_choose_threshold, lambda train, val, test: round(best_threshold(val) * 100), "not its value"),
    (check_choose_threshold, lambda train, val, test: 1 - best_threshold(val), ""),
    (check_choose_threshold, lambda train, val, test: float(val[0].mean()), ""),
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
