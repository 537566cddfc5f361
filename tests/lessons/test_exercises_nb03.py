"""Notebook 03's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lessons.exercises.nb03 import check_greedy, check_lstm_step, check_sequence_loss

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


def answer(logits, targets, lengths):
    ignored = torch.arange(logits.shape[1]) > lengths[:, None]
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets.masked_fill(ignored, -100))


RIGHT = [
    (check_lstm_step, lstm_step),
    (check_lstm_step, cell_of_torch),
    (check_lstm_step, slip()),
    (check_greedy, decoded),
    (check_greedy, with_tensors),
    (check_sequence_loss, sequence_loss),
    (check_sequence_loss, sequence_cross_entropy),
    (check_sequence_loss, answer),
]  # fmt: skip

WRONG = [
    (check_lstm_step, slip(order="figo"), "exchanged"),
    (check_lstm_step, slip(order="ifog"), "in this order"),
    (check_lstm_step, slip(order="gifo"), "z = [x, h]"),
    (check_lstm_step, slip(bare=True), "candidate g goes through tanh"),
    (check_lstm_step, slip(old=True), "not of the old one"),
    (check_lstm_step, slip(no_tanh=True), "tanh is missing"),
    (check_lstm_step, slip(forget_rows=True), "must keep the h and c"),
    (check_lstm_step, slip(zero_rows=True), "not turn to 0"),
    (check_lstm_step, slip(only_h=True), "Where alive is False"),
    (check_lstm_step, slip(turned=True), "h comes first"),
    (check_lstm_step, lambda x, h, c, weight, bias, alive: h, "Return two tensors"),
    (check_lstm_step, lambda x, h, c, weight, bias, alive: (h[0], c[0]), "Return two tensors"),
    (check_lstm_step, lambda x, h, c, weight, bias, alive: lstm_step(x, h, c, weight, 0 * bias, alive), "z = [x, h]"),
    (check_greedy, partial(decoded, slip="repeats"), "named twice"),
    (check_greedy, partial(decoded, slip="zero"), "named twice"),
    (check_greedy, partial(decoded, slip="stop after a repeat"), "the best of what is left"),
    (check_greedy, partial(decoded, slip="never stops"), "goes on after <stop>"),
    (check_greedy, partial(decoded, slip="keeps stop"), "<stop> ends the list"),
    (check_greedy, partial(decoded, slip="feeds start"), "Start with the token"),
    (check_greedy, partial(decoded, slip="no state"), "Give `step` the state"),
    (check_greedy, partial(decoded, slip="one more"), "At most max_labels"),
    (check_greedy, partial(decoded, slip="in place"), "belong to the decoder"),
    (check_greedy, lambda *given: torch.tensor(decoded(*given)), "a list of ids"),
    (check_sequence_loss, partial(sequence_loss, slip="padding"), "The padding counts"),
    (check_sequence_loss, partial(sequence_loss, slip="no stop"), "<stop> does not count"),
    (check_sequence_loss, partial(sequence_loss, slip="sum"), "This is the sum"),
    (check_sequence_loss, partial(sequence_loss, slip="B"), "not by B."),
    (check_sequence_loss, partial(sequence_loss, slip="all"), "not by all B * T"),
    (check_sequence_loss, partial(sequence_loss, slip="images"), "mean over images"),
    (check_sequence_loss, partial(sequence_loss, slip="sign"), "The sign"),
    (check_sequence_loss, partial(sequence_loss, slip="raw"), "logarithm of the softmax"),
    (check_sequence_loss, partial(sequence_loss, slip="vector"), "Return one number"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)
