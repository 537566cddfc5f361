"""Notebook 08's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import pytest
import torch
from lessons.exercises.nb08 import check_given_concepts, check_joint_scores, check_top_k_ceiling

from helpers.data.batches import Features
from helpers.decoders.lstm import JointEmbedding


def scores(o, v, U_o, U_I, table):
    """The solution of exercise 1."""
    return (o @ U_o.T + v @ U_I.T).relu() @ table[:-1].T


def scores_by_einsum(o, v, U_o, U_I, table):
    x = torch.einsum("bh,eh->be", o, U_o) + torch.einsum("bd,ed->be", v, U_I)
    return torch.einsum("be,ve->bv", x.clamp(min=0), table[: len(table) - 1])


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


def ceiling(lengths, k):
    """The solution of exercise 3."""
    right = lengths.clamp(max=k).sum().item()
    return right / (len(lengths) * k), right / lengths.sum().item()


def ceiling_in_a_loop(lengths, k):
    right = sum(min(int(n), k) for n in lengths)
    return [torch.tensor(right / (len(lengths) * k)), right / int(sum(lengths))]


RIGHT = [
    (check_joint_scores, scores),
    (check_joint_scores, scores_by_einsum),
    (check_given_concepts, given),
    (check_given_concepts, given_in_no_grad),
    (check_top_k_ceiling, ceiling),
    (check_top_k_ceiling, ceiling_in_a_loop),
]  # fmt: skip

WRONG = [
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T + v @ b.T) @ t[:-1].T, "ReLU is missing"),
    (check_joint_scores, lambda o, v, a, b, t: ((o @ a.T).relu() + (v @ b.T).relu()) @ t[:-1].T, "after the sum"),
    (check_joint_scores, lambda o, v, a, b, t: ((o @ a.T + v @ b.T) @ t[:-1].T).relu(), "belongs to x"),
    (check_joint_scores, lambda o, v, a, b, t: scores(o, v, a, b, t).relu(), "without another ReLU"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T).relu() @ t[:-1].T, "Where is the image"),
    (check_joint_scores, lambda o, v, a, b, t: (v @ b.T).relu() @ t[:-1].T, "Where is the state"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T * (v @ b.T)).relu() @ t[:-1].T, "added, not multiplied"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t.T, "never said"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t[:-2].T, "<stop> is scored"),
    (check_joint_scores, lambda o, v, a, b, t: (o @ a.T + v @ b.T).relu() @ t[1:].T, "not the first"),
    (check_joint_scores, lambda o, v, a, b, t: scores(o, v, a, b, t).softmax(1), "softmax is part of the loss"),
    (check_joint_scores, lambda o, v, a, b, t: scores(o, v, a, b, t).tolist(), "Return logits (B, C + 1)"),
    (check_joint_scores, lambda o, v, a, b, t: scores(o, v, a, b, t) + 1, "x = ReLU(U_o o + U_I v)"),
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
    (check_top_k_ceiling, lambda n, k: ceiling(n, k)[::-1], "precision comes first"),
    (check_top_k_ceiling, lambda n, k: (1.0, len(n) * k / n.sum().item()), "cannot be right"),
    (check_top_k_ceiling, lambda n, k: (n.clamp(max=k).sum() / (n > 0).sum() / k, ceiling(n, k)[1]), "without labels count"),
    (check_top_k_ceiling, lambda n, k: (ceiling(n, k)[0], (n.clamp(max=k)[n > 0] / n[n > 0]).mean()), "not by image and then average"),
    (check_top_k_ceiling, lambda n, k: ceiling(n, k)[0], "two numbers"),
    (check_top_k_ceiling, lambda n, k: ("a", "b"), "two numbers"),
    (check_top_k_ceiling, lambda n, k: (0.5, 0.5), "both are 1"),
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
