"""Checks of notebook 08's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from typing import Any

import torch

from lessons.checks import Call, ask, exercise


@exercise("Exercise 2: the joint scores")
def check_joint_scores(answer: Any) -> str:
    """`scores(h (B, H), v (B, D), U_h (E, H), U_v (E, D), table (C+2, E)) -> logits (B, C+1)`."""
    generator = torch.Generator().manual_seed(0)
    for batch, units, dim, size, labels in ((2, 3, 4, 2, 3), (3, 4, 5, 4, 6), (4, 6, 6, 6, 4)):
        shapes = {"h": (batch, units), "v": (batch, dim), "U_h": (size, units), "U_v": (size, dim)}
        shapes |= {"table": (labels + 2, size)}
        given = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        h, v, u_h, u_v, table = given.values()
        state, image = h @ u_h.T, v @ u_v.T
        u = (state + image).relu()
        expected = u @ table[:-1].T
        call = ask(answer, **given)
        shape = tuple(getattr(call.value, "shape", ()))
        hint = "<start>, the last row of the table, is read but never said: leave it out of the scores."
        call.expect(shape != (batch, labels + 2), expected=expected, hint=hint)
        hint = "<stop> is scored, too: only the last row of the table, <start>, is left out."
        call.expect(shape != (batch, labels), expected=expected, hint=hint)
        hint = "Return logits (B, C + 1): a row per image."
        call.expect(shape == tuple(expected.shape), expected=expected, hint=hint)
        slips = {
            "The ReLU is missing.": (state + image) @ table[:-1].T,
            "ReLU comes after the sum of both projections, not before it.": (state.relu() + image.relu()) @ table[:-1].T,
            "ReLU belongs to u, not to the scores, which may be negative.": ((state + image) @ table[:-1].T).relu(),
            "The scores are those of u, without another ReLU.": (u @ table[:-1].T).relu(),
            "Where is the image? u is made of both projections.": state.relu() @ table[:-1].T,
            "Where is the state of the LSTM? u is made of both projections.": image.relu() @ table[:-1].T,
            "The two projections are added, not multiplied.": (state * image).relu() @ table[:-1].T,
            "It is the last row, <start>, that is left out, not the first.": u @ table[1:].T,
            "Return the logits; the softmax is part of the loss.": expected.softmax(1),
        }  # fmt: skip
        if units == dim == size:
            untransposed = (h @ u_h + v @ u_v).relu() @ table[:-1].T
            slips["A row of U times a column: h @ U_h.T, not h @ U_h."] = untransposed
        hint = (
            "u = ReLU(U_h h + U_v v), row by row, and the score of a label is u times its row of the table."
        )
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-5)
    return "Image and words meet in one space, and the vector that is read is the vector that scores."


@exercise("Exercise 3: what the decoder is given")
def check_given_concepts(answer: Any) -> str:
    """`given(logits (B, C), multi_hot (B, C), joint, pretraining) -> (B, C)`, with the right gradient."""
    generator = torch.Generator().manual_seed(0)
    for joint, pretraining in ((False, False), (True, False), (False, True), (True, True)):
        logits = 2 * torch.randn(2, 3, generator=generator)
        multi_hot = (torch.rand(2, 3, generator=generator) < 0.5).float()
        probability = logits.sigmoid()
        expected = multi_hot if pretraining else probability
        given = logits.clone().requires_grad_()
        call = ask(answer, logits=given, multi_hot=multi_hot, joint=joint, pretraining=pretraining)
        shape = tuple(getattr(call.value, "shape", ()))
        hint = "Return a number per concept, (B, C)."
        call.expect(shape == tuple(expected.shape), expected=expected, hint=hint)
        slips = {
            "These are logits. The decoder reads probabilities: sigmoid.": logits,
            "Each concept is a question of its own: sigmoid, not softmax.": logits.softmax(1),
            "Do not decide for the decoder: it reads probabilities, not 0 or 1.": (probability > 0.5).float(),
        }
        if pretraining:
            slips = {"In pre-training the decoder starts from the true labels, multi_hot.": probability}
        else:
            slips["The true labels are for pre-training; otherwise it reads what the CNN thinks."] = multi_hot
        hint = "sigmoid(logits), or multi_hot in pre-training."
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-5)
        has, wanted = call.value.requires_grad, joint and not pretraining
        told = Call(call.given, "a tensor that carries a gradient" if has else "a tensor without a gradient")
        wants = "a gradient to the logits" if wanted else "no gradient to the logits"
        if pretraining:
            hint = "True labels do not depend on the logits: return multi_hot itself."
        elif joint:
            hint = "With joint=True the loss of the sequence trains the concepts, too: do not detach."
        else:
            hint = "With joint=False the gradient of the sequence stops here: detach()."
        told.expect(has == wanted, expected=wants, hint=hint)
    return "Three ways to start the same decoder; they differ in who teaches whom."
