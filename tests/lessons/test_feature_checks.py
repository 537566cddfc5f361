"""Notebook 02's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lessons.exercises import nb02 as checks
from test_checks import Check, fails, passes, verdict

from helpers.metrics.thresholds import choose_global
from helpers.systems.losses import asymmetric_loss

FEATURE_CHECKS = (
    checks.check_to_grid,
    checks.check_asymmetric,
    checks.check_cf1,
    checks.check_choose_threshold,
)


@pytest.mark.parametrize("check", FEATURE_CHECKS)
def test_feature_checks_report_errors_and_nonsense(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    fails(check, lambda *arguments: 1 / 0, capsys, "1 / 0")
    passed, printed = verdict(check, lambda *arguments: "nonsense", capsys)
    assert passed is False and "not right yet" in printed


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x.flatten(2).transpose(1, 2),
        lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1]),
        lambda x: x.movedim(1, -1).flatten(1, 2),
    ],
)
def test_to_grid_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_to_grid, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x: x.reshape(x.shape[0], -1, x.shape[1]), "scrambled"),
        (lambda x: x.flatten(2), "D = 2 numbers a cell"),
        (lambda x: x.permute(0, 3, 2, 1).flatten(1, 2), "column by column"),
        (lambda x: x.flatten(2).transpose(1, 2).flip(1), "Cell i * w + j"),
        (lambda x: x.flatten(2).transpose(1, 2).tolist(), "Return a tensor"),
    ],
)
def test_to_grid_finds_wrong_answers(answer: Any, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_to_grid, answer, capsys, hint)


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


def test_asymmetric_accepts_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_asymmetric, asymmetric, capsys)
    tested = lambda z, y, gamma, clip: asymmetric_loss(z, y, gamma_negative=gamma, clip=clip)  # noqa: E731
    passes(checks.check_asymmetric, tested, capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("logits", "p = sigmoid(logit)"),
        ("no max", "p_m is 0"),
        ("no clip", "use p_m"),
        ("half a clip", "use p_m"),
        ("no gamma", "p ** gamma"),
        ("one minus", "p ** gamma"),
        ("both", "A positive costs"),
        ("two steps", "logsigmoid"),
        ("sign", "A positive costs"),
        ("sum", "the mean over all B * C"),
        ("images", "the mean over all B * C"),
        ("number", "Return a tensor"),
        ("frozen", "its gradient is not"),
        ("detached", "its gradient is not"),
    ],
)
def test_asymmetric_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_asymmetric, lambda *given: asymmetric(*given, slip=slip), capsys, hint)


def test_a_small_difference_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    printed = fails(
        checks.check_asymmetric, lambda *given: asymmetric(*given, slip="no max"), capsys, "p_m is 0"
    )
    found, expected = (
        next(line for line in printed.splitlines() if name in line).split(":")[1]
        for name in ("found:", "expected:")
    )
    assert found.strip() != expected.strip()


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


def test_cf1_accepts_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_cf1, cf1, capsys)
    passes(checks.check_cf1, lambda *counts: [torch.tensor(value) for value in cf1(*counts)], capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("nan", "precision 0"),
        ("only named", "precision 0"),
        ("only present", "recall 0"),
        ("overall", "OF1"),
        ("arithmetic", "tp / predicted"),
        ("zero over zero", "both are 0"),
        ("turned", "in the other order"),
        ("one", "Return two numbers"),
        ("first twice", "The first number is right"),
        ("second twice", "The second number is right"),
    ],
)
def test_cf1_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_cf1, lambda *counts: cf1(*counts, slip=slip), capsys, hint)


def best_threshold(*splits, metric="OF1"):
    """The threshold with the best OF1 on the given splits together."""
    scores, target = (torch.cat(parts) for parts in zip(*splits, strict=True))
    return choose_global(scores, target, metric)


@pytest.mark.parametrize(
    "answer",
    [
        lambda train, val, test: best_threshold(val),
        lambda train, val, test: torch.tensor(best_threshold(val)),
        lambda train, val, test: max(
            (k / 100 for k in range(99, 0, -1)), key=lambda t: checks._of1(*val, t)
        ),  # the last of equally good ones
    ],
)
def test_choose_threshold_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_choose_threshold, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda train, val, test: best_threshold(test), "best threshold on test"),
        (lambda train, val, test: best_threshold(train), "best threshold on train"),
        (lambda train, val, test: best_threshold(train, val, test), "only there"),
        (lambda train, val, test: best_threshold(val, test), "only there"),
        (lambda train, val, test: 0.05, "On val, OF1 is"),
        (lambda train, val, test: 0.5, "the same for every val"),
        (lambda train, val, test: float(train[0][0, 0]), "On val, OF1 is"),
        (lambda train, val, test: round(best_threshold(val) * 100), "not its value"),
        (lambda train, val, test: 1 - best_threshold(val), ""),
        (lambda train, val, test: float(val[0].mean()), ""),
    ],
)
def test_choose_threshold_finds_wrong_answers(
    answer: Any, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(checks.check_choose_threshold, answer, capsys, hint)
