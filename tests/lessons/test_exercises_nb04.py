"""Notebook 04's exercises: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

import pytest
import torch
from lessons.exercises.nb04 import check_attend, check_penalty, check_points_at

from helpers.decoders.attention import doubly_stochastic_penalty
from helpers.metrics.localization import hits


def attend(keys, query, v):
    return torch.softmax((keys + query).relu() @ v, 0)


def naive_softmax(keys, query, v):
    e = ((keys + query).relu() @ v).exp()
    return e / e.sum()


def points_at(weights, boxes, image_size, grid_size, *, swap=False, first=False, tolerance=0.0, least=False):
    """The solution, with slips as options."""
    cell = int(weights.argmin() if least else weights.argmax())
    h, w = grid_size[::-1] if swap else grid_size
    x, y = (cell % w + 0.5) / w * image_size[0], (cell // w + 0.5) / h * image_size[1]
    dx, dy = tolerance * image_size[0] / w, tolerance * image_size[1] / h
    return any(
        b.x - dx < x < b.x + b.width + dx and b.y - dy < y < b.y + b.height + dy
        for b in (boxes[:1] if first else boxes)
    )


def penalty(attention, lengths, *, offset=1, power=2, reduce=torch.mean, axis=1):
    keep = torch.arange(attention.shape[1]) < lengths[:, None] + offset
    return reduce((1 - (attention * keep[:, :, None]).sum(axis)).abs() ** power)


RIGHT = [
    (check_attend, attend),
    (check_attend, lambda k, q, v: torch.softmax(torch.relu(k + q[None]) @ v[:, None], 0)[:, 0]),
    (check_points_at, points_at),
    (check_points_at, lambda weights, boxes, s, g: hits(boxes, s, g, tolerance=0)[weights.argmax()]),
    (check_penalty, penalty),
    (check_penalty, doubly_stochastic_penalty),
]  # fmt: skip

WRONG = [
    (check_attend, lambda k, q, v: (k + q).relu() @ v, "These are the energies"),
    (check_attend, lambda k, q, v: ((k + q).relu() @ v).sigmoid(), "not through a sigmoid"),
    (check_attend, lambda k, q, v: ((k + q) @ v).softmax(0), "There is a ReLU"),
    (check_attend, lambda k, q, v: ((k + q) @ v).relu().softmax(0), "The ReLU goes around"),
    (check_attend, lambda k, q, v: (k @ q).softmax(0), "dot-product"),
    (check_attend, lambda k, q, v: ((k + q).tanh() @ v).softmax(0), "tanh"),
    (check_attend, lambda k, q, v: (k + q).relu().softmax(1) @ v, "sum to 1"),
    (check_attend, lambda k, q, v: ((k + q).relu() * v).softmax(0), "One weight for each"),
    (check_attend, lambda k, q, v: ((k + q).relu() @ v).softmax(0).tolist(), "Return a tensor"),
    (check_attend, naive_softmax, "softmax takes care"),
    (check_attend, lambda k, q, v: ((k - q).relu() @ v).softmax(0), "For each cell"),
    (check_points_at, lambda *given: points_at(*given, swap=True), ""),
    (check_points_at, lambda *given: points_at(*given, first=True), "several boxes"),
    (check_points_at, lambda *given: points_at(*given, tolerance=0.5), ""),
    (check_points_at, lambda *given: points_at(*given, least=True), ""),
    (check_points_at, lambda weights, boxes, s, g: True, "another cell"),
    (check_points_at, lambda weights, boxes, s, g: float(weights.max()), "True or False"),
    (check_points_at, lambda weights, boxes, s, g: int(weights.argmax()), "True or False"),
    (check_points_at, lambda weights, boxes, s, g: points_at(weights, boxes, s[::-1], g), ""),
    (check_penalty, lambda a, n: penalty(a, n, offset=99), "padding"),
    (check_penalty, lambda a, n: penalty(a, n, offset=0), "The step that says <stop>"),
    (check_penalty, lambda a, n: penalty(a, n, power=1), "absolute value"),
    (check_penalty, lambda a, n: penalty(a, n, reduce=torch.sum), "This is the sum"),
    (check_penalty, lambda a, n: penalty(a, n, reduce=lambda x: x.sum(1).mean()), "mean over both"),
    (check_penalty, lambda a, n: penalty(a, n, axis=2), "Sum over the steps"),
    (check_penalty, lambda a, n: penalty(a, n, reduce=lambda x: x), "one number"),
    (check_penalty, lambda a, n: float(penalty(a, n)), "one number"),
    (check_penalty, lambda a, n: -penalty(a, n) + 1, "penalty is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)
