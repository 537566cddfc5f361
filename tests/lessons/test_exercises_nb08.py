"""Notebook 08's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import pytest
import torch
from lessons.exercises.nb08 import check_given_concepts, check_joint_scores

from helpers.data.batches import Features
from helpers.decoders.lstm import JointEmbedding


def scores(h, v, U_h, U_v, table):
    """The solution of exercise 2."""
    return (h @ U_h.T + v @ U_v.T).relu() @ table[:-1].T


def scores_by_einsum(h, v, U_h, U_v, table):
    u = torch.einsum("bh,eh->be", h, U_h) + torch.einsum("bd,ed->be", v, U_v)
    return torch.einsum("be,ve->bv", u.clamp(min=0), table[: len(table) - 1])


def given(logits, multi_hot, joint, pretraining):
    """The solution of exercise 3."""
    if pretraining:
        return multi_hot
    return (logits if joint else logits.detach()).sigmoid()


def given_in_no_grad(logits, multi_hot, joint, pretraining):
    with torch.set_grad_enabled(joint):
        return torch.where(torch.tensor(pretraining), multi_hot, torch.sigmoid(logits)).detach().requires_grad_(
            joint and not pretraining
        )  # fmt: skip


RIGHT = [
    (check_joint_scores, scores),
    (check_joint_scores, scores_by_einsum),
    (check_given_concepts, given),
    (check_given_concepts, given_in_no_grad),
]  # fmt: skip

WRONG = [
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T + v @ b.T) @ t[:-1].T, "ReLU is missing"),
    (check_joint_scores, lambda o, v, a, b, t: ((o @ a.T).relu() + (v @ b.T).relu()) @ t[:-1].T, "after the sum"),
    (check_joint_scores, lambda o, v, a, b, t: ((o @ a.T + v @ b.T) @ t[:-1].T).relu(), "belongs to u"),
    (check_joint_scores, lambda o, v, a, b, t: scores(o, v, a, b, t).relu(), "without another ReLU"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T).relu() @ t[:-1].T, "Where is the image"),
    (check_joint_scores, lambda o, v, a, b, t: (v @ b.T).relu() @ t[:-1].T, "Where is the state"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T * (v @ b.T)).relu() @ t[:-1].T, "added, not multiplied"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t.T, "never said"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t[:-2].T, "<stop> is scored"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t[1:].T, "not the first"),
    (check_joint_scores, lambda o, v, a, b, t: scores(o, v, a, b, t).softmax(1), "softmax is part of the loss"),
    (check_joint_scores, lambda o, v, a, b, t: scores(o, v, a, b, t).tolist(), "Return logits (B, C + 1)"),
    (check_joint_scores, lambda o, v, a, b, t: scores(o, v, a, b, t) + 1, "u = ReLU(U_h h + U_v v)"),
    (check_joint_scores, lambda o, v, a, b, t: o @ a + v @ b, "the line"),
    (check_given_concepts, lambda x, y, j, p: y if p else x if j else x.detach(), "These are logits"),
    (check_given_concepts, lambda x, y, j, p: y if p else (x if j else x.detach()).softmax(1), "not softmax"),
    (check_given_concepts, lambda x, y, j, p: y if p else (x.detach().sigmoid() > 0.5).float(), "Do not decide"),
    (check_given_concepts, lambda x, y, j, p: y, "The true labels are for pre-training"),
    (check_given_concepts, lambda x, y, j, p: (x if j else x.detach()).sigmoid(), "starts from the true labels"),
    (check_given_concepts, lambda x, y, j, p: y if p else x.sigmoid(), "stops here: detach()"),
    (check_given_concepts, lambda x, y, j, p: y if p else x.detach().sigmoid(), "do not detach"),
    (check_given_concepts, lambda x, y, j, p: y if p else (x.detach() if j else x).sigmoid(), "stops here"),
    (check_given_concepts, lambda x, y, j, p: y + 0 * x if p else (x if j else x.detach()).sigmoid(), "do not depend on the logits"),
    (check_given_concepts, lambda x, y, j, p: y.sum(), "a number per concept"),
    (check_given_concepts, lambda x, y, j, p: 1 - x.detach().sigmoid(), "or multi_hot in pre-training"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)


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
