"""Notebook 03b's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lessons.exercises import nb03b as checks
from test_checks import fails, passes

from helpers.data.batches import Features
from helpers.decoders.lstm import JointEmbedding


def scores(o, v, U_o, U_I, table):
    """The solution of exercise 1."""
    return (o @ U_o.T + v @ U_I.T).relu() @ table[:-1].T


def scores_by_einsum(o, v, U_o, U_I, table):
    x = torch.einsum("bh,eh->be", o, U_o) + torch.einsum("bd,ed->be", v, U_I)
    return torch.einsum("be,ve->bv", x.clamp(min=0), table[: len(table) - 1])


@pytest.mark.parametrize("answer", [scores, scores_by_einsum])
def test_joint_scores_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_joint_scores, answer, capsys)


def test_the_solution_is_the_decoder_of_the_package() -> None:
    torch.manual_seed(0)
    decoder = JointEmbedding(4, 5, hidden_size=3, embedding_size=2).eval()
    with torch.no_grad():
        decoder.from_state.bias.zero_()
        decoder.from_image.bias.zero_()
        v, token = torch.randn(2, 5), torch.tensor([5, 5])
        logits, state, _ = decoder.step(token, decoder.start(Features(v)))
        mine = scores(
            state.hidden[0],
            v,
            decoder.from_state.weight,
            decoder.from_image.weight,
            decoder.embedding.weight,
        )
    torch.testing.assert_close(mine, logits)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda o, v, a, b, t: (o @ a.T + v @ b.T) @ t[:-1].T, "ReLU is missing"),
        (lambda o, v, a, b, t: ((o @ a.T).relu() + (v @ b.T).relu()) @ t[:-1].T, "after the sum"),
        (lambda o, v, a, b, t: ((o @ a.T + v @ b.T) @ t[:-1].T).relu(), "belongs to x"),
        (lambda o, v, a, b, t: scores(o, v, a, b, t).relu(), "without another ReLU"),
        (lambda o, v, a, b, t: (o @ a.T).relu() @ t[:-1].T, "Where is the image"),
        (lambda o, v, a, b, t: (v @ b.T).relu() @ t[:-1].T, "Where is the state"),
        (lambda o, v, a, b, t: (o @ a.T * (v @ b.T)).relu() @ t[:-1].T, "added, not multiplied"),
        (lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t.T, "never said"),
        (lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t[:-2].T, "<stop> is scored"),
        (lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t[1:].T, "not the first"),
        (lambda o, v, a, b, t: scores(o, v, a, b, t).softmax(1), "softmax is part of the loss"),
        (lambda o, v, a, b, t: scores(o, v, a, b, t).tolist(), "Return logits (B, C + 1)"),
        (lambda o, v, a, b, t: scores(o, v, a, b, t) + 1, "x = ReLU(U_o o + U_I v)"),
        (lambda o, v, a, b, t: o @ a + v @ b, "the line"),
    ],
)
def test_joint_scores_refuses_wrong_answers(answer: Any, hint: str, capsys) -> None:
    fails(checks.check_joint_scores, answer, capsys, hint)


def given(logits, multi_hot, joint, pretraining):
    """The solution of exercise 2."""
    if pretraining:
        return multi_hot
    return (logits if joint else logits.detach()).sigmoid()


def given_in_no_grad(logits, multi_hot, joint, pretraining):
    with torch.set_grad_enabled(joint):
        return torch.where(torch.tensor(pretraining), multi_hot, torch.sigmoid(logits)).detach().requires_grad_(
            joint and not pretraining
        )  # fmt: skip


@pytest.mark.parametrize("answer", [given, given_in_no_grad])
def test_given_concepts_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_given_concepts, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x, y, j, p: y if p else x if j else x.detach(), "These are logits"),
        (lambda x, y, j, p: y if p else (x if j else x.detach()).softmax(1), "not softmax"),
        (lambda x, y, j, p: y if p else (x.detach().sigmoid() > 0.5).float(), "Do not decide"),
        (lambda x, y, j, p: y, "The true labels are for pre-training"),
        (lambda x, y, j, p: (x if j else x.detach()).sigmoid(), "starts from the true labels"),
        (lambda x, y, j, p: y if p else x.sigmoid(), "stops here: detach()"),
        (lambda x, y, j, p: y if p else x.detach().sigmoid(), "do not detach"),
        (lambda x, y, j, p: y if p else (x.detach() if j else x).sigmoid(), "stops here"),
        (
            lambda x, y, j, p: y + 0 * x if p else (x if j else x.detach()).sigmoid(),
            "owe nothing to the logits",
        ),
        (lambda x, y, j, p: y.sum(), "a number a concept"),
        (lambda x, y, j, p: 1 - x.detach().sigmoid(), "or multi_hot in pre-training"),
    ],
)
def test_given_concepts_refuses_wrong_answers(answer: Any, hint: str, capsys) -> None:
    fails(checks.check_given_concepts, answer, capsys, hint)


def ceiling(lengths, k):
    """The solution of exercise 3."""
    right = lengths.clamp(max=k).sum().item()
    return right / (len(lengths) * k), right / lengths.sum().item()


def ceiling_in_a_loop(lengths, k):
    right = sum(min(int(n), k) for n in lengths)
    return [torch.tensor(right / (len(lengths) * k)), right / int(sum(lengths))]


@pytest.mark.parametrize("answer", [ceiling, ceiling_in_a_loop])
def test_top_k_ceiling_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_top_k_ceiling, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda n, k: ceiling(n, k)[::-1], "precision comes first"),
        (lambda n, k: (1.0, len(n) * k / n.sum().item()), "cannot be right"),
        (lambda n, k: (n.clamp(max=k).sum() / (n > 0).sum() / k, ceiling(n, k)[1]), "without labels count"),
        (
            lambda n, k: (ceiling(n, k)[0], (n.clamp(max=k)[n > 0] / n[n > 0]).mean()),
            "not by image and then average",
        ),
        (lambda n, k: ceiling(n, k)[0], "two numbers"),
        (lambda n, k: ("a", "b"), "two numbers"),
        (lambda n, k: (0.5, 0.5), "both are 1"),
    ],
)
def test_top_k_ceiling_refuses_wrong_answers(answer: Any, hint: str, capsys) -> None:
    fails(checks.check_top_k_ceiling, answer, capsys, hint)


@pytest.mark.parametrize(
    "check", [checks.check_joint_scores, checks.check_given_concepts, checks.check_top_k_ceiling]
)
@pytest.mark.parametrize("starter", [None, ..., lambda *a: None, lambda *a: ...])
def test_a_starter_is_not_solved_yet(check: Any, starter: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(starter) is False
    assert "not solved yet" in capsys.readouterr().out
