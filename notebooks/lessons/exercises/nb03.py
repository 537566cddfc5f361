"""Checks of notebook 03's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lessons.checks import Call, ask, exercise


@exercise("Exercise 1: a step of an LSTM")
def check_lstm_step(answer: Any) -> str:
    """`step(x (B, E), h (B, H), c (B, H), weight (4H, E+H), bias (4H,), alive (B,) bool) -> h, c`."""
    generator = torch.Generator().manual_seed(0)
    for batch, inputs, units in ((2, 3, 2), (5, 4, 3)):
        shapes = {"x": (batch, inputs), "h": (batch, units), "c": (batch, units)}
        shapes |= {"weight": (4 * units, inputs + units), "bias": (4 * units,)}
        given: dict[str, Any] = {
            name: torch.randn(shape, generator=generator) for name, shape in shapes.items()
        }
        # The second call has rows that have ended: the first one tells whether the cell itself is right.
        for alive in (torch.ones(batch, dtype=torch.bool), torch.arange(batch) % 2 == 0):
            expected = _lstm_step(*given.values(), alive)
            call = ask(answer, **given, alive=alive)
            hint = "Return two tensors, the next h and the next c, of the shape (B, H) that h and c have."
            call.check_form(expected, hint)
            shapes_fit = all(a.shape == b.shape for a, b in zip(call.value, expected, strict=True))
            call.expect(shapes_fit, expected=expected, hint=hint)
            hint = "z = [x, h] W^T + b has four parts: i, f, g, o. c = sigma(f) c + sigma(i) tanh(g), h = sigma(o) tanh(c)."
            if not alive.all():
                hint = "Where alive is False, h and c come back as they were given; all other rows make the step."
            slips = _wrong_lstm_steps(*given.values(), alive)
            call.compare(expected, slips=slips, hint=hint, tolerance=1e-5)
    return "The gates are right, and a sequence that has ended keeps its state."


def _lstm_step(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor, alive: Tensor
) -> tuple[Tensor, Tensor]:
    new_h, new_c, _ = _cell(x, h, c, weight, bias)
    return torch.where(alive[:, None], new_h, h), torch.where(alive[:, None], new_c, c)


def _cell(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    i, f, g, o = parts = (torch.cat([x, h], 1) @ weight.T + bias).chunk(4, dim=1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * new_c.tanh(), new_c, parts


def _wrong_lstm_steps(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor, alive: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """What the usual slips give, by the hint that names them."""
    new_h, new_c, (i, f, g, o) = _cell(x, h, c, weight, bias)
    keep = alive[:, None]

    def kept(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(keep, a, h), torch.where(keep, b, c)

    swapped = i.sigmoid() * c + f.sigmoid() * g.tanh()
    other = f.sigmoid() * c + i.sigmoid() * o.tanh()  # chunks read as i, f, o, g
    old_c = o.sigmoid() * c.tanh()
    no_tanh = f.sigmoid() * c + i.sigmoid() * g
    return {
        "Rows in which alive is False must keep the h and c that were given.": (new_h, new_c),
        "Rows in which alive is False must keep h and c, not turn to 0.": (new_h * keep, new_c * keep),
        "f decides what stays of the old c, i what comes in: they are exchanged.": kept(o.sigmoid() * swapped.tanh(), swapped),
        "The four parts of z are i, f, g, o, in this order: the last two are exchanged.": kept(g.sigmoid() * other.tanh(), other),
        "h is made of the new c, not of the old one.": kept(old_c, new_c),
        "The candidate g goes through tanh.": kept(o.sigmoid() * no_tanh.tanh(), no_tanh),
        "h = sigma(o) tanh(c): the tanh is missing.": kept(o.sigmoid() * new_c, new_c),
        "You return c and h: h comes first.": kept(new_h, new_c)[::-1],
    }  # fmt: skip


@exercise("Exercise 3: greedy decoding")
def check_greedy(answer: Any) -> str:
    """`decode(step, state, start, stop, max_labels) -> list of ids`, best label first, none twice.

    `step(token, state) -> (scores (V,), state)`, where V - 1 is `stop`.
    """
    for case in _GREEDY_CASES:
        script, most, hint = case
        stop = len(next(iter(script.values()))) - 1
        start = stop + 1
        expected = _greedy(_Script(script), (), start, stop, most)
        step = _Script(script)
        call = ask(answer, step=step, state=(), start=start, stop=stop, max_labels=most)
        call.check_form(expected, "The answer is a list of ids.")
        found = [int(token) for token in call.value]
        call.expect(stop not in found, expected=expected, hint="<stop> ends the list and is not in it.")
        goes_on = len(expected) < most and found[: len(expected)] == expected != found
        after = "It goes on after <stop> has won: end the list there."
        call.expect(not goes_on, expected=expected, hint=after)
        twice = "A label is named twice: what has been named must not win again (set its score to -inf)."
        call.expect(len(set(found)) == len(found), expected=expected, hint=twice)
        call.expect(found == expected, expected=expected, hint=hint)
        mine = "The scores belong to the decoder, and your function writes into them: work on a copy."
        for handed, written in step.handed_out:
            after = Call("the scores of a step, after your function", handed)
            after.compare(torch.tensor(written, dtype=torch.float32), hint=mine)
    return "It feeds back what it says, names nothing twice, and knows when to stop."


class _Script:
    """A decoder of which every score is written down: by the tokens read so far, the state being those tokens."""

    def __init__(self, scores: dict[tuple[int, ...], list[float]]) -> None:
        self.scores = scores
        self.handed_out: list[tuple[Tensor, list[float]]] = []  # every tensor of scores, and what was in it

    def __deepcopy__(self, memo: dict[int, Any]) -> _Script:
        return self  # what is handed out must come back to the check

    def __call__(self, token: Any, state: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
        read = (*state, int(token))
        # What nobody wrote down depends on the last token only, so a wrong path gives an answer, not an error.
        written = self.scores.get(read, self.scores[(read[-1],)])
        self.handed_out.append((torch.tensor(written, dtype=torch.float32), written))
        return self.handed_out[-1][0], read

    def __repr__(self) -> str:
        return "a decoder's step"


def _greedy(step: Any, state: Any, start: int, stop: int, most: int) -> list[int]:
    named: list[int] = []
    token = start
    while len(named) < most:
        scores, state = step(token, state)
        scores = scores.clone()
        scores[named] = -torch.inf
        token = int(scores.argmax())
        if token == stop:
            break
        named.append(token)
    return named


# Three labels, <stop> = 3, <start> = 4. Each: the scores after what was read, labels at most, a hint.
_GREEDY_CASES: list[tuple[dict[tuple[int, ...], list[float]], int, str]] = [
    ({(4,): [0, 2, 1, -1], (1,): [3, 0, 1, 2], (0,): [0, 0, 1, 5], (2,): [0, 0, 0, 1], (3,): [9, 9, 9, 0]}, 5,
     "Start with the token `start`, then feed back the label that was named, until <stop> wins."),
    ({(4,): [1, 0, 0, 5], (0,): [0, 5, 0, 1], (1,): [0, 0, 5, 1], (2,): [0, 0, 0, 1], (3,): [0, 5, 0, 1]}, 5,
     "Where <stop> wins at once the image has no labels: the answer is an empty list."),
    # What follows 2 depends on what came before it: the state must be handed on.
    ({(4,): [0, 0, 4, 1], (2,): [0, 0, 0, 3], (4, 2): [5, 0, 0, 1], (0,): [0, 0, 0, 5], (4, 2, 0): [0, 4, 0, 1],
      (1,): [0, 0, 0, 1], (3,): [0, 0, 0, 1]}, 5, "Give `step` the state that the step before returned."),
    ({(4,): [4, 0, 1, 0], (0,): [5, 2, 0, 1], (1,): [5, 4, 0, 1], (2,): [9, 9, 9, 0], (3,): [9, 9, 9, 0]}, 5,
     "Where a named label would win again, the best of what is left is taken; that may be <stop>."),
    ({(4,): [3, 0, 0, 1], (0,): [0, 3, 0, 1], (1,): [0, 0, 3, 1], (2,): [0, 0, 0, 1], (3,): [0, 0, 0, 1]}, 2,
     "At most max_labels labels may be named, <stop> or not."),
    ({(4,): [-5, -7, -9, -8], (0,): [-1, -4, -3, -6], (2,): [-1, -4, -1, -3], (1,): [-9, -9, -9, -1], (3,): [0, 0, 0, 1]}, 5,
     "Scores may all be negative: a label is put out of play with -inf, not with 0."),
]  # fmt: skip


@exercise("Exercise 2: the masked loss")
def check_sequence_loss(answer: Any) -> str:
    """`loss(logits (B, T, V), targets (B, T), lengths (B,)) -> scalar`, mean over labels and one stop."""
    generator = torch.Generator().manual_seed(0)
    stop = 4
    for lengths, steps in (([2, 3], 4), ([3, 0, 1], 4), ([0, 0], 2), ([1, 2], 5)):
        sizes = torch.tensor(lengths)
        targets = torch.randint(stop, (len(lengths), steps), generator=generator)
        targets[torch.arange(steps) >= sizes[:, None]] = stop
        logits = 2 * torch.randn(len(lengths), steps, stop + 1, generator=generator)
        cost = -logits.log_softmax(-1).gather(2, targets[..., None]).squeeze(2)  # (B, T)
        counts = torch.arange(steps) <= sizes[:, None]
        labels_only = torch.arange(steps) < sizes[:, None]
        expected = float(cost[counts].mean())
        call = ask(answer, logits=logits, targets=targets, lengths=sizes)
        slips = {
            "The padding counts, too: only the first lengths + 1 steps of an image may.": cost.mean(),
            "<stop> does not count: an image has lengths + 1 steps, or it never learns to stop.": cost[labels_only].mean(),
            "This is the sum. Divide by the number of steps that count.": cost[counts].sum(),
            "Divide by the steps that count, not by all B * T.": cost[counts].sum() / cost.numel(),
            "Divide by the steps that count, not by B.": cost[counts].sum() / len(cost),
            "This is the mean over images of each one's mean. All steps of the batch shall weigh the same.":
                torch.stack([row[keep].mean() for row, keep in zip(cost, counts, strict=True)]).mean(),
            "The sign: a loss is minus the logarithm of the probability.": -expected,
            "Take the logarithm of the softmax, not the logits themselves.":
                -logits.gather(2, targets[..., None]).squeeze(2)[counts].mean(),
        }  # fmt: skip
        slips = {words: float(value) for words, value in slips.items()}
        form = "Return one number: a tensor without dimensions."
        hint = "Mean of -log softmax(logits)[target] over the first lengths + 1 steps of every image."
        call.compare(expected, form=form, slips=slips, hint=hint, tolerance=1e-5)
    return "Every label and one <stop> an image count, and the padding is left out."
