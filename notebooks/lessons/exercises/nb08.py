"""Checks of notebook 08's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from typing import Any

import torch

from lessons.checks import Call, ask, exercise


@exercise("Exercise 1: the joint embedding")
def check_joint_scores(answer: Any) -> str:
    """`scores(o (B, H), v (B, D), U_o (E, H), U_I (E, D), table (C+2, E)) -> logits (B, C+1)`."""
    generator = torch.Generator().manual_seed(0)
    for batch, units, dim, size, labels in ((2, 3, 4, 2, 3), (3, 4, 5, 4, 6), (4, 6, 6, 6, 4)):
        shapes = {"o": (batch, units), "v": (batch, dim), "U_o": (size, units), "U_I": (size, dim)}
        shapes |= {"table": (labels + 2, size)}
        given = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        o, v, u_o, u_i, table = given.values()
        state, image = o @ u_o.T, v @ u_i.T
        x = (state + image).relu()
        expected = x @ table[:-1].T
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
            "ReLU belongs to x, not to the scores, which may be negative.": ((state + image) @ table[:-1].T).relu(),
            "The scores are those of x, without another ReLU.": (x @ table[:-1].T).relu(),
            "Where is the image? x is made of both projections.": state.relu() @ table[:-1].T,
            "Where is the state of the LSTM? x is made of both projections.": image.relu() @ table[:-1].T,
            "The two projections are added, not multiplied.": (state * image).relu() @ table[:-1].T,
            "It is the last row, <start>, that is left out, not the first.": x @ table[1:].T,
            "Return the logits; the softmax is part of the loss.": expected.softmax(1),
        }  # fmt: skip
        if units == dim == size:
            untransposed = (o @ u_o + v @ u_i).relu() @ table[:-1].T
            slips["A row of U times a column: o @ U_o.T, not o @ U_o."] = untransposed
        hint = (
            "x = ReLU(U_o o + U_I v), row by row, and the score of a label is x times its row of the table."
        )
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-5)
    return "Image and words meet in one space, and the vector that is read is the vector that scores."


@exercise("Exercise 2: what the decoder is given")
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


@exercise("Exercise 3: the ceiling of top-k")
def check_top_k_ceiling(answer: Any) -> str:
    """`ceiling(lengths (N,), k) -> (precision, recall)` of the best system that names exactly k labels."""
    cases = [
        ([3, 3, 3], 3, "With three true labels on every image, three right ones are possible: both are 1."),
        ([1, 1], 3, "Of three labels for an image that has one, at most one is right: precision 1/3, recall 1."),
        ([6, 2], 3, "min(n, k) labels of an image can be right: here 3 and 2 of 6 named, of 8 that are true."),
        ([0, 4, 1], 2, "An image without labels gets k labels, too, all of them wrong."),
        ([0, 1, 2, 5, 6], 4, "Sum min(n, k) over the images. That, over N k, is precision; over all true labels, recall."),
    ]  # fmt: skip
    for lengths, k, hint in cases:
        n = torch.tensor(lengths)
        right = n.clamp(max=k)
        total = float(right.sum())
        expected = (total / (len(n) * k), total / float(n.sum()))
        call = ask(answer, lengths=n, k=k)
        images = n > 0
        each = (right[images] / n[images]).mean().item()
        slips = {
            "You return recall and precision: precision comes first.": expected[::-1],
            "Recall: divide by all true labels, not by image and then average.": (expected[0], each),
            "More than the n labels of an image cannot be right: min(n, k).": (1.0, len(n) * k / float(n.sum())),
            "Images without labels count, too: k wrong labels are named there.":
                (total / max(1, int(images.sum()) * k), expected[1]),
        }  # fmt: skip
        form = "Return two numbers, precision and recall."
        call.compare(expected, form=form, slips=slips, hint=hint, tolerance=1e-6)
    return "No model is in this formula: the numbers are a property of the data and of k."
