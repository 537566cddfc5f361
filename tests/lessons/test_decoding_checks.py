"""Notebook 03's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lessons.exercises import nb03 as checks
from test_checks import fails, passes

from helpers.systems.losses import sequence_cross_entropy


def lstm_step(x, h, c, weight, bias, alive):
    """The solution of exercise 1."""
    i, f, g, o = (torch.cat([x, h], dim=1) @ weight.T + bias).chunk(4, dim=1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h = o.sigmoid() * new_c.tanh()
    keep = alive[:, None]
    return torch.where(keep, new_h, h), torch.where(keep, new_c, c)


def cell_of_torch(x, h, c, weight, bias, alive):
    """Another right answer: PyTorch's own cell, and the rows copied one by one."""
    cell = torch.nn.LSTMCell(x.shape[1], h.shape[1])
    with torch.no_grad():
        cell.weight_ih.copy_(weight[:, : x.shape[1]])
        cell.weight_hh.copy_(weight[:, x.shape[1] :])
        cell.bias_ih.copy_(bias)
        cell.bias_hh.zero_()
        new_h, new_c = cell(x, (h, c))
    for row in range(len(x)):
        if not alive[row]:
            new_h[row], new_c[row] = h[row], c[row]
    return [new_h, new_c]


def slip(**changed):
    """An LSTM step with a slip: `order` of the parts, what `keep` does, or a line of its own."""

    def step(x, h, c, weight, bias, alive):
        parts = dict(
            zip(
                changed.get("order", "ifgo"),
                (torch.cat([x, h], 1) @ weight.T + bias).chunk(4, 1),
                strict=True,
            )
        )
        i, f, g, o = (parts[name] for name in "ifgo")
        new_c = f.sigmoid() * c + i.sigmoid() * (g if changed.get("bare") else g.tanh())
        new_h = o.sigmoid() * (c if changed.get("old") else new_c).tanh()
        if changed.get("no_tanh"):
            new_h = o.sigmoid() * new_c
        keep = alive[:, None]
        if changed.get("forget_rows"):
            return new_h, new_c
        if changed.get("zero_rows"):
            return new_h * keep, new_c * keep
        if changed.get("only_h"):
            return torch.where(keep, new_h, h), new_c
        answer = torch.where(keep, new_h, h), torch.where(keep, new_c, c)
        return answer[::-1] if changed.get("turned") else answer

    return step


@pytest.mark.parametrize("answer", [lstm_step, cell_of_torch, slip()])
def test_lstm_step_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_lstm_step, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (slip(order="figo"), "exchanged"),
        (slip(order="ifog"), "in this order"),
        (slip(order="gifo"), "z = [x, h]"),
        (slip(bare=True), "candidate g goes through tanh"),
        (slip(old=True), "not of the old one"),
        (slip(no_tanh=True), "tanh is missing"),
        (slip(forget_rows=True), "must keep the h and c"),
        (slip(zero_rows=True), "not turn to 0"),
        (slip(only_h=True), "Where alive is False"),
        (slip(turned=True), "h comes first"),
        (lambda x, h, c, weight, bias, alive: h, "Return two tensors"),
        (lambda x, h, c, weight, bias, alive: (h[0], c[0]), "Return two tensors"),
        (lambda x, h, c, weight, bias, alive: lstm_step(x, h, c, weight, 0 * bias, alive), "z = [x, h]"),
    ],
)
def test_lstm_step_finds_slips(answer: Any, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_lstm_step, answer, capsys, hint)


def decoded(step, state, start, stop, max_labels, *, slip=""):
    """The solution of exercise 2, or one with a slip."""
    named, token = [], start
    first_state = state
    for _ in range(max_labels + (slip == "one more")):
        scores, state = step(token, first_state if slip == "no state" else state)
        scores = scores if slip == "in place" else scores.clone()
        if slip == "zero":
            scores[named] = 0
        elif slip == "stop after a repeat":
            if int(scores.argmax()) in named:
                break
        elif slip != "repeats":
            scores[named] = -torch.inf
        if slip == "never stops":
            scores[stop] = -torch.inf
        token = int(scores.argmax())
        if token == stop:
            return [*named, stop] if slip == "keeps stop" else named
        if slip == "drops repeats" and token in named:
            continue
        named.append(token)
        if slip == "feeds start":
            token = start
    return named


def test_greedy_accepts_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_greedy, decoded, capsys)

    def with_tensors(step, state, start, stop, max_labels):
        out_of_play = torch.zeros(stop + 1)
        named, token = [], torch.tensor(start)
        while len(named) < max_labels and (token != stop):
            scores, state = step(token, state)
            token = (scores + out_of_play).argmax()
            if token != stop:
                named.append(token.item())
                out_of_play[token] = -torch.inf
        return named

    passes(checks.check_greedy, with_tensors, capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("repeats", "named twice"),
        ("zero", "named twice"),
        ("stop after a repeat", "the best of what is left"),
        ("never stops", "goes on after <stop>"),
        ("keeps stop", "<stop> ends the list"),
        ("feeds start", "Start with the token"),
        ("no state", "Give `step` the state"),
        ("one more", "At most max_labels"),
        ("in place", "belong to the decoder"),
    ],
)
def test_greedy_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_greedy, lambda *given: decoded(*given, slip=slip), capsys, hint)


def test_greedy_wants_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_greedy, lambda *given: torch.tensor(decoded(*given)), capsys, "a list of ids")


def sequence_loss(logits, targets, lengths, *, slip=""):
    """The solution of exercise 3, or one with a slip."""
    cost = -logits.log_softmax(dim=-1).gather(2, targets[..., None]).squeeze(-1)
    if slip == "raw":
        cost = -logits.gather(2, targets[..., None]).squeeze(-1)
    if slip == "sign":
        cost = -cost
    counts = torch.arange(logits.shape[1]) <= lengths[:, None]
    if slip == "no stop":
        counts = torch.arange(logits.shape[1]) < lengths[:, None]
    if slip == "padding":
        counts = torch.ones_like(counts)
    if slip == "sum":
        return cost[counts].sum()
    if slip == "B":
        return cost[counts].sum() / len(cost)
    if slip == "all":
        return (cost * counts).mean()
    if slip == "images":
        return ((cost * counts).sum(1) / counts.sum(1)).mean()
    if slip == "vector":
        return cost[counts]
    return cost[counts].mean()


@pytest.mark.parametrize("answer", [sequence_loss, sequence_cross_entropy])
def test_sequence_loss_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_sequence_loss, answer, capsys)


def test_sequence_loss_accepts_ignore_index(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(logits, targets, lengths):
        ignored = torch.arange(logits.shape[1]) > lengths[:, None]
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets.masked_fill(ignored, -100))

    passes(checks.check_sequence_loss, answer, capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("padding", "The padding counts"),
        ("no stop", "<stop> does not count"),
        ("sum", "This is the sum"),
        ("B", "not by B."),
        ("all", "not by all B * T"),
        ("images", "mean over images"),
        ("sign", "The sign"),
        ("raw", "logarithm of the softmax"),
        ("vector", "Return one number"),
    ],
)
def test_sequence_loss_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_sequence_loss, lambda *given: sequence_loss(*given, slip=slip), capsys, hint)
