"""Automatic checks of the notebooks' exercises: what was given, what was found, what was expected, and a hint.

A check takes what the exercise asked for, usually a function; it prints a verdict and returns whether the answer is
right. It never raises, so a notebook runs to its end with its exercises unsolved. To write one:

    @exercise("Exercise 5: doubling")
    def check_double(answer):
        call = ask(answer, number=3)                      # runs the student's function
        call.expect(call.value == 6, expected=6, hint="Multiply by two.")
        return "That is all there is to it."              # said beside the OK

Its test gives it the right answer, the starter and every wrong answer that one can think of (`tests/test_checks.py`).
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.datasets import AnnotatedImages, Record
from helpers.labels import Vocabulary, pad_labels
from helpers.losses import asymmetric_loss
from helpers.metrics import averages

# --- how a check reports ---------------------------------------------------------------------------------------------


class Unsolved(Exception):
    """The answer is still the starter: `...`, None or NotImplementedError."""


class Mistake(Exception):
    """The answer is wrong; the text says how."""


@dataclass(frozen=True)
class Call:
    """One call of a student's function: what it was given, as text, and what it returned."""

    given: str
    value: Any

    def expect(self, right: bool, *, expected: Any, hint: str) -> None:
        """Go on if `right`, else end the check with what was given, found and expected."""
        if not right:
            raise _mistake(self.given, describe(self.value), expected, hint)


def exercise(name: str) -> Callable[[Callable[[Any], str]], Callable[[Any], bool]]:
    """Make a check of a function that examines an answer and returns a closing remark. Used by every notebook.

    The check prints the verdict under the exercise's `name` and returns True for a right answer. An error inside the
    check itself is a bug of ours and is raised.
    """

    def decorate(examine: Callable[[Any], str]) -> Callable[[Any], bool]:
        @wraps(examine)
        def check(answer: Any) -> bool:
            try:
                if is_starter(answer):
                    raise Unsolved
                remark = examine(answer)
            except Unsolved:
                print(
                    f"{name}: not solved yet. Put your code in the place of `...` and run the cell again "
                    "(a function without `return` gives None, too)."
                )
                return False
            except Mistake as mistake:
                print(f"{name}: not right yet.\n{mistake}")
                return False
            print(f"{name}: OK. {remark}")
            return True

        return check

    return decorate


def ask(function: Any, **arguments: Any) -> Call:
    """Call a student's function with `arguments`, in their order; their names only appear in the report.

    Ends the check if the function is still a starter (Unsolved), raises, or changes an argument (Mistake).
    """
    given = ", ".join(f"{name} = {describe(value)}" for name, value in arguments.items())
    if not callable(function):
        raise _mistake(
            "", describe(function), "a function", "Give the check the function itself, not its result."
        )
    passed = copy.deepcopy(arguments)
    try:
        value = function(*passed.values())
    except NotImplementedError:
        raise Unsolved from None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__}: {error}"
        raise _mistake(given, found, "a result", f"The error comes from the line `{place.line}`.") from error
    for name, before in arguments.items():
        if not same(passed[name], before):
            hint = f"Your function changes `{name}` itself, which its caller still needs: work on a copy."
            raise _mistake(given, f"{name} is now {describe(passed[name])}", f"{name} as it was", hint)
    if is_starter(value):
        raise Unsolved
    return Call(given, value)


def is_starter(value: Any) -> bool:
    """Whether a value is what an unsolved exercise gives: None, `...` or NotImplemented."""
    return value is None or value is ... or value is NotImplemented


def same(a: Any, b: Any, *, tolerance: float = 0.0) -> bool:
    """Whether two values are equal, with type, shape and dtype; numbers may differ by `tolerance`."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        return torch.allclose(a, b, rtol=0, atol=tolerance) if tolerance else torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y, tolerance=tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and tolerance:
        return abs(a - b) <= tolerance
    return bool(a == b)


def describe(value: Any) -> str:
    """A value in a line of a report: tensors with dtype and shape, long ones cut."""
    if isinstance(value, Tensor):
        numbers = value.tolist() if not value.is_floating_point() else _rounded(value.tolist())
        text = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} {numbers}"
    elif isinstance(value, tuple) and any(isinstance(part, Tensor) for part in value):
        text = f"({'; '.join(describe(part) for part in value)})"
    else:
        text = repr(value)
    return text if len(text) <= 240 else text[:230] + " …"


def _rounded(numbers: Any) -> Any:
    return [_rounded(x) for x in numbers] if isinstance(numbers, list) else round(numbers, 4)


def _mistake(given: str, found: str, expected: Any, hint: str) -> Mistake:
    expected = expected if isinstance(expected, str) else describe(expected)
    lines = {"given": given, "found": found, "expected": expected, "hint": hint}
    return Mistake("\n".join(f"  {name + ':':<9} {text}" for name, text in lines.items() if text))


# --- notebook 01: data preparation -----------------------------------------------------------------------------------


@exercise("Exercise 1: rare labels first")
def check_rare_first(answer: Any) -> str:
    """`rare_first(ids, frequency (C,) int64) -> list of ids`, least frequent first, ties as given. Notebook 01."""
    ties = "Labels that are equally frequent must keep the order in which they were given."
    # Many labels and few frequencies: what is stable on three labels by luck is not on sixty.
    many = torch.randperm(60, generator=torch.Generator().manual_seed(0)).tolist()
    counts = torch.tensor([100 - i % 3 for i in range(60)])
    cases = [
        ([0, 1, 2], torch.tensor([50, 3, 20]), "Sort by frequency[label]: the smallest number comes first."),
        (
            [4, 1],
            torch.tensor([1, 7, 5, 2, 6]),
            "Only the labels of this image belong in the answer, as ids.",
        ),
        ([3, 0, 2, 1], torch.tensor([5, 9, 5, 5]), ties),
        (many, counts, ties),
        ([], torch.tensor([4, 2]), "An image without labels is legal: the answer is an empty list."),
    ]
    for ids, frequency, hint in cases:
        expected = sorted(ids, key=frequency.tolist().__getitem__)
        call = ask(answer, ids=ids, frequency=frequency)
        call.expect(isinstance(call.value, list), expected=expected, hint="The answer is a list of ids.")
        call.expect(call.value == expected, expected=expected, hint=hint)
    return "Rare labels come first, ties stay as they were, and the argument is left alone."


@exercise("Exercise 2: padding")
def check_pad(answer: Any) -> str:
    """`pad(sequences, stop) -> labels (B, T) int64, lengths (B,) int64`, T = longest + 1. Notebook 01."""
    for sequences, stop in (
        ([[2, 0], [1], []], 3),
        ([[5, 4, 3, 2]], 6),
        ([[], []], 2),
        ([[0], [7, 0, 1]], 8),
    ):
        expected = tuple(pad_labels(sequences, stop))
        call = ask(answer, sequences=sequences, stop=stop)
        pair = isinstance(call.value, tuple | list) and len(call.value) == 2
        tensors = pair and all(isinstance(part, Tensor) for part in call.value)
        call.expect(tensors, expected=expected, hint="Return two tensors: labels, lengths.")
        for part, right in zip(call.value, expected, strict=True):
            hint = f"Ids and lengths are whole numbers: dtype torch.int64, not {part.dtype}."
            call.expect(part.dtype == right.dtype, expected=expected, hint=hint)
        labels, lengths = call.value
        hint = "T is the most labels plus one, so that even the longest row ends with <stop>."
        call.expect(labels.shape == expected[0].shape, expected=expected, hint=hint)
        hint = "After its labels, a row holds the id `stop` and nothing else; the labels stay in their order."
        call.expect(same(labels, expected[0]), expected=expected, hint=hint)
        hint = "lengths counts the labels of each image; <stop> is not a label."
        call.expect(same(lengths, expected[1]), expected=expected, hint=hint)
    return "Every row ends with <stop>, even that of an image without labels."


@exercise("Exercise 3: conditional probability")
def check_conditional(answer: Any) -> str:
    """`conditional(multi_hot (N, C) float32) -> (C, C) float32`, entry [i, j] is P(j | i). Notebook 01."""
    first = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.float32)
    random = (torch.rand(50, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    never = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.float32)
    for multi_hot in (first, random, never):
        counts = torch.stack(
            [multi_hot[column == 1].sum(0) for column in multi_hot.T]
        )  # [i, j]: with i and j
        times = torch.stack([column.sum() for column in multi_hot.T])[:, None]
        expected = torch.where(times > 0, counts / times.clamp(min=1), 0.0)
        call = ask(answer, multi_hot=multi_hot)
        shape = isinstance(call.value, Tensor) and call.value.shape == expected.shape
        call.expect(
            shape, expected=expected, hint="Return a tensor (C, C): a row and a column for every label."
        )
        found = call.value.float()
        hint = "A label that is in no image gives 0 divided by 0: its row shall be 0, not NaN."
        call.expect(not found.isnan().any(), expected=expected, hint=hint)
        hint = "This is P(i | j). Row i is what is given: divide row i by the images with label i."
        turned = same(found, expected.T.contiguous(), tolerance=1e-5)
        call.expect(not turned or same(expected, expected.T.contiguous()), expected=expected, hint=hint)
        hint = "This is P(i and j), divided by all images. Divide row i by the images with label i."
        call.expect(not same(found, counts / len(multi_hot), tolerance=1e-5), expected=expected, hint=hint)
        hint = "Entry [i, j]: among the images with label i, the share that also have j; 1 where i = j."
        call.expect(same(found, expected, tolerance=1e-5), expected=expected, hint=hint)
    return "One matrix product counts every pair, and row i is divided by the images with label i."


def _small_data() -> AnnotatedImages:
    """A data set (nothing is opened) in which each mistake of exercise 4 changes the result."""

    def split(name: str, *rows: str) -> tuple[Record, ...]:
        return tuple(Record(Path(name, f"{i}.jpg"), tuple(row.split())) for i, row in enumerate(rows))

    return AnnotatedImages(
        name="small",
        vocabulary=Vocabulary(("ant", "bee", "cat", "dog", "elk")),
        # In train: dog 1, elk 2, cat 2, bee 3, ant 4. Over all splits dog has 6, and elk 5.
        train=split("train", "ant bee", "ant elk cat", "bee ant dog", "", "elk cat bee ant"),
        val=split("val", "dog ant", "", "elk cat", "dog elk ant"),
        test=split("test", "dog", "dog elk", "dog"),
    )


@exercise("Exercise 4: mend the colleague's function")
def check_prepare(answer: Any) -> str:
    """`prepare(data, split) -> labels (B, T), lengths (B,)` in rare-first order of training frequency. Notebook 01."""
    data = _small_data()
    frequency = data.frequency().tolist()
    for name in ("train", "val"):
        rows = [data.vocabulary.encode(record.labels) for record in data.split(name)]
        expected = tuple(
            pad_labels([sorted(row, key=frequency.__getitem__) for row in rows], data.vocabulary.stop)
        )
        call = ask(answer, data=data, split=name)
        pair = isinstance(call.value, tuple | list) and len(call.value) == 2
        tensors = pair and all(isinstance(part, Tensor) for part in call.value)
        call.expect(tensors, expected=expected, hint="Return two tensors: labels, lengths.")
        labels, lengths = call.value
        hint = f"{name} has {len(rows)} images, one of them without labels: every image needs its row."
        call.expect(len(labels) == len(lengths) == len(rows), expected=expected, hint=hint)
        call.expect(
            same(lengths, expected[1]), expected=expected, hint="Are the images still in their order?"
        )
        hint = "Every row needs room for a <stop> after its labels: T is the most labels plus one."
        call.expect(labels.shape == expected[0].shape, expected=expected, hint=hint)
        everywhere = [frequency[i] + sum(data.vocabulary.labels[i] in r.labels for r in data.val + data.test)
                      for i in range(len(frequency))]  # fmt: skip
        leaked = pad_labels([sorted(row, key=everywhere.__getitem__) for row in rows], data.vocabulary.stop)
        hint = "This order depends on the labels of val and test. What is learned, and the order is, comes from train."
        call.expect(not same(labels, leaked.labels), expected=expected, hint=hint)
        hint = "Rare labels first by training frequency; among equally frequent ones, the order of record.labels."
        call.expect(same(labels, expected[0]), expected=expected, hint=hint)
    return "No image is lost, nothing is taken from val or test, and ties stay as they were annotated."


# --- notebook 02: CNN features ---------------------------------------------------------------------------------------


@exercise("Exercise 1: from a feature map to a grid")
def check_to_grid(answer: Any) -> str:
    """`to_grid(feature_map (B, D, h, w)) -> (B, L, D)`, L = h * w, cells row by row. Notebook 02."""
    for shape in ((1, 2, 2, 2), (2, 3, 2, 4), (1, 5, 3, 1)):
        feature_map = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)
        batch, dim, height, width = shape
        cells = [feature_map[:, :, i, j] for i in range(height) for j in range(width)]  # each (B, D)
        expected = torch.stack(cells, dim=1)
        call = ask(answer, feature_map=feature_map)
        call.expect(isinstance(call.value, Tensor), expected=expected, hint="Return a tensor.")
        hint = f"The grid of a map {shape} has B = {batch}, L = {height} * {width} cells and D = {dim} numbers a cell."
        call.expect(call.value.shape == expected.shape, expected=expected, hint=hint)
        scrambled = same(call.value, feature_map.reshape(expected.shape))
        hint = (
            "The shape fits, but the numbers are scrambled: `reshape` and `view` only cut the row of numbers anew. "
            "To bring D to the end, exchange two axes."
        )
        call.expect(not scrambled or same(expected, call.value), expected=expected, hint=hint)
        by_column = torch.stack([feature_map[:, :, i, j] for j in range(width) for i in range(height)], dim=1)
        hint = "These cells go column by column. The grid counts them row by row, from the top left, as one reads."
        call.expect(
            not same(call.value, by_column) or same(expected, by_column), expected=expected, hint=hint
        )
        hint = "Cell i * w + j of the grid holds feature_map[:, :, i, j]."
        call.expect(same(call.value, expected), expected=expected, hint=hint)
    return "Each cell has its own D numbers, row by row."


@exercise("Exercise 2: the asymmetric loss")
def check_asymmetric(answer: Any) -> str:
    """`asymmetric(logits (B, C), multi_hot (B, C), gamma, clip) -> scalar`, the mean over all entries. Notebook 02."""
    yes, no = torch.ones(1, 1), torch.zeros(1, 1)
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(4, 5, generator=generator) * 3
    truth = (torch.rand(4, 5, generator=generator) < 0.3).float()
    sure = torch.tensor([[-200.0, 200.0]])
    cases = [
        (
            torch.tensor([[1.5]]),
            yes,
            4.0,
            0.05,
            "A positive costs -log p with p = sigmoid(logit), and nothing else.",
        ),
        (torch.tensor([[1.5]]), no, 0.0, 0.0, "With gamma = 0 and clip = 0, a negative costs -log(1 - p)."),
        (torch.tensor([[1.5]]), no, 2.0, 0.0, "A negative is weighted by p ** gamma."),
        (
            torch.tensor([[1.5]]),
            no,
            2.0,
            0.2,
            "Both the weight and the logarithm of a negative use p_m = max(p - clip, 0), not p.",
        ),
        (
            torch.tensor([[-4.0]]),
            no,
            3.0,
            0.1,
            "Here p < clip: p_m is 0, and so is the cost. Is there a max(…, 0)?",
        ),
        (many, truth, 4.0, 0.05, "One entry is right: is it the mean over all B * C entries, and not a sum?"),
        (
            sure,
            torch.tensor([[1.0, 0.0]]),
            4.0,
            0.05,
            "sigmoid(-200) is 0 in float32, and log 0 is -infinity: for log p take torch.nn.functional.logsigmoid.",
        ),
    ]
    for logits, multi_hot, gamma, clip, hint in cases:
        expected = asymmetric_loss(logits, multi_hot, gamma_negative=gamma, clip=clip)
        call = ask(answer, logits=logits, multi_hot=multi_hot, gamma=gamma, clip=clip)
        scalar = isinstance(call.value, Tensor) and call.value.numel() == 1
        call.expect(
            scalar, expected=expected, hint="Return a tensor with one number, so that it has a gradient."
        )
        close = torch.allclose(call.value.float().reshape(()), expected, rtol=1e-4, atol=1e-6)
        call.expect(close, expected=expected, hint=hint)
    logits = torch.tensor([[-1.0, 0.5, 2.0]], requires_grad=True)
    multi_hot = torch.tensor([[1.0, 0.0, 0.0]])
    expected = torch.autograd.grad(asymmetric_loss(logits, multi_hot), logits)[0]
    value = answer(logits, multi_hot, 4.0, 0.05)
    found = torch.autograd.grad(value, logits)[0] if value.requires_grad else torch.zeros_like(logits)
    Call("the gradient to logits = [[-1, 0.5, 2]]", found).expect(
        torch.allclose(found, expected, rtol=1e-3, atol=1e-6),
        expected=expected,
        hint="The value is right, its gradient is not: is something detached, or turned into a Python number?",
    )
    return "Positives as in BCE; negatives count the less the surer they are, and nothing below the clip."


@exercise("Exercise 3: the two CF1")
def check_cf1(answer: Any) -> str:
    """`cf1(tp, predicted, support) -> (harmonic mean of CP and CR, mean of the labels' F1)`. Notebook 02."""
    cases = [
        ([2, 1], [2, 4], [4, 1], "Each label's precision is tp / predicted, its recall tp / support."),
        (
            [3, 0, 1],
            [5, 0, 1],
            [4, 2, 2],
            "A label that is never predicted has precision 0 (not 0/0), and counts.",
        ),
        ([1, 0], [2, 3], [2, 0], "A label that no image has counts, too, with recall 0."),
        ([0, 0], [0, 1], [1, 0], "Where nothing is right, both are 0."),
    ]
    for *counts, hint in cases:
        tp, predicted, support = (torch.tensor(count) for count in counts)
        right = averages(tp, predicted, support)
        expected = (float(right["CF1"]), float(right["CF1_mean_of_classes"]))
        call = ask(answer, tp=tp, predicted=predicted, support=support)
        pair = isinstance(call.value, tuple | list) and len(call.value) == 2
        call.expect(
            pair, expected=expected, hint="Return two numbers: the harmonic mean, then the mean of F1."
        )
        found = tuple(float(value) for value in call.value)
        close = all(abs(a - b) < 1e-4 for a, b in zip(found, expected, strict=True))
        turned = all(abs(a - b) < 1e-4 for a, b in zip(found, expected[::-1], strict=True))
        call.expect(close or not turned, expected=expected, hint="The two are right, but in the other order.")
        overall = float(right["OF1"])
        if abs(overall - expected[0]) > 1e-4:
            hint_micro = (
                "The first one is OF1: here the ratios come first and then their mean over the labels."
            )
            call.expect(not abs(found[0] - overall) <= 1e-4, expected=expected, hint=hint_micro)
        call.expect(close, expected=expected, hint=hint)
    return "Two definitions, two numbers, one name in the literature: always say which."


@exercise("Exercise 4: the threshold")
def check_choose_threshold(answer: Any) -> str:
    """`choose_threshold(train, val, test) -> float`, each (scores (N, C), target (N, C) bool). Notebook 02."""
    for seed, levels in ((0, (0.3, 0.55, 0.8)), (1, (0.75, 0.25, 0.5)), (2, (0.5, 0.7, 0.2))):
        generator = torch.Generator().manual_seed(seed)
        splits = {}
        for name, level in zip(("train", "val", "test"), levels, strict=True):
            scores = torch.rand(80, 6, generator=generator)
            noise = 0.15 * torch.randn(scores.shape, generator=generator)
            splits[name] = (scores, scores + noise >= level)
        of1 = {name: _of1_of_thresholds(*split) for name, split in splits.items()}
        everything = tuple(torch.cat(parts) for parts in zip(*splits.values(), strict=True))
        of1["all three"] = _of1_of_thresholds(*everything)
        of1["val and test"] = _of1_of_thresholds(
            *(torch.cat(parts) for parts in zip(splits["val"], splits["test"], strict=True))
        )
        best = {
            name: [k / 100 for k, v in values.items() if v >= max(values.values()) - 1e-9]
            for name, values in of1.items()
        }
        expected = f"{best['val'][0]:.2f}, with OF1 {max(of1['val'].values()):.3f} on val"
        call = ask(answer, train=splits["train"], val=splits["val"], test=splits["test"])
        number = isinstance(call.value, int | float) or (
            isinstance(call.value, Tensor) and call.value.numel() == 1
        )
        call.expect(number, expected=expected, hint="Return one number.")
        value = float(call.value)
        hint = "A threshold of probabilities lies between 0 and 1. Is this the position of the best one, not its value?"
        call.expect(0 < value < 1, expected=expected, hint=hint)
        reached = _of1(*splits["val"], value)
        right = reached >= max(of1["val"].values()) - 1e-3
        for name in ("test", "train", "all three", "val and test"):
            if any(abs(value - level) < 0.011 for level in best[name]):
                hint = (
                    f"This is the best threshold on {name}. What is chosen is chosen on val, and only there."
                )
                call.expect(right, expected=expected, hint=hint)
        hint = f"On val, OF1 is {reached:.3f} at this threshold. Try 0.01, 0.02, … 0.99 on val and keep the best."
        call.expect(right, expected=expected, hint=hint)
    return "Chosen on val; test has no say in it."


def _of1(scores: Tensor, target: Tensor, threshold: float) -> float:
    named = scores >= threshold
    return 2 * float((named & target).sum()) / max(1.0, float(named.sum() + target.sum()))


def _of1_of_thresholds(scores: Tensor, target: Tensor) -> dict[int, float]:
    return {k: _of1(scores, target, k / 100) for k in range(1, 100)}


@exercise("Exercise: precision, recall and F1 of a set")
def check_set_f1(answer: Any) -> str:
    """`set_f1(named: set, truth: set) -> float`. Notebook 00."""
    cases = [
        ({"cat", "tree"}, {"cat", "tree"}, 1.0, "Everything is right: precision and recall are both 1."),
        ({"cat", "dog"}, {"cat", "tree", "sun"}, 0.4, "One of 2 named is right, one of 3 found: P = 1/2, R = 1/3."),
        ({"cat", "dog", "sun"}, {"cat"}, 0.5, "P = 1/3 and R = 1. Their plain mean is 2/3; F1 is the harmonic mean."),
        ({"dog"}, {"cat"}, 0.0, "Nothing is right: P + R is 0, and 0/0 must not happen. The answer is 0."),
        (set(), {"cat"}, 0.0, "Nothing was named: there is no precision to divide by. The answer is 0."),
        ({"cat"}, set(), 0.0, "There was nothing to name: no recall to divide by. The answer is 0."),
        (set(), set(), 1.0, "Nothing to name and nothing named: that is perfectly right, so 1."),
    ]  # fmt: skip
    for named, truth, expected, hint in cases:
        call = ask(answer, named=set(named), truth=set(truth))
        is_number = isinstance(call.value, int | float)
        call.expect(is_number, expected=expected, hint="Return one number.")
        call.expect(abs(call.value - expected) < 1e-6, expected=expected, hint=hint)
    return "The same F1, counted over many images, judges every model of this course."


# --- notebook 03: LSTM decoding --------------------------------------------------------------------------------------


@exercise("Exercise 1: a step of an LSTM")
def check_lstm_step(answer: Any) -> str:
    """`step(x (B, E), h (B, H), c (B, H), weight (4H, E+H), bias (4H,), alive (B,) bool) -> h, c`. Notebook 03."""
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
            pair = isinstance(call.value, tuple | list) and len(call.value) == 2
            right = pair and all(
                isinstance(a, Tensor) and a.shape == b.shape
                for a, b in zip(call.value, expected, strict=True)
            )
            call.expect(right, expected=expected, hint=hint)
            for name, wrong in _wrong_lstm_steps(*given.values(), alive):
                matches = same(tuple(call.value), wrong, tolerance=1e-5) and not same(
                    wrong, expected, tolerance=1e-5
                )
                call.expect(not matches, expected=expected, hint=name)
            hint = "z = [x, h] W^T + b has four parts: i, f, g, o. c = sigma(f) c + sigma(i) tanh(g), h = sigma(o) tanh(c)."
            if not alive.all():
                hint = "Where alive is False, h and c come back as they were given; all other rows make the step."
            call.expect(same(tuple(call.value), expected, tolerance=1e-5), expected=expected, hint=hint)
    return "The gates are right, and a sequence that has ended keeps its state."


def _lstm_step(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor, alive: Tensor
) -> tuple[Tensor, Tensor]:
    i, f, g, o = (torch.cat([x, h], 1) @ weight.T + bias).chunk(4, dim=1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h = o.sigmoid() * new_c.tanh()
    return torch.where(alive[:, None], new_h, h), torch.where(alive[:, None], new_c, c)


def _wrong_lstm_steps(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor, alive: Tensor
) -> list[tuple[str, tuple[Tensor, Tensor]]]:
    """What the usual slips give, each with the hint that names it."""
    i, f, g, o = (torch.cat([x, h], 1) @ weight.T + bias).chunk(4, dim=1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h = o.sigmoid() * new_c.tanh()
    keep = alive[:, None]

    def kept(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(keep, a, h), torch.where(keep, b, c)

    swapped = i.sigmoid() * c + f.sigmoid() * g.tanh()
    other = f.sigmoid() * c + i.sigmoid() * o.tanh()  # chunks read as i, f, o, g
    old_c = o.sigmoid() * c.tanh()
    no_tanh = f.sigmoid() * c + i.sigmoid() * g
    return [
        ("Rows in which alive is False must keep the h and c that were given.", (new_h, new_c)),
        ("Rows in which alive is False must keep h and c, not turn to 0.", (new_h * keep, new_c * keep)),
        ("f decides what stays of the old c, i what comes in: they are exchanged.", kept(o.sigmoid() * swapped.tanh(), swapped)),
        ("The four parts of z are i, f, g, o, in this order: the last two are exchanged.", kept(g.sigmoid() * other.tanh(), other)),
        ("h is made of the new c, not of the old one.", kept(old_c, new_c)),
        ("The candidate g goes through tanh.", kept(o.sigmoid() * no_tanh.tanh(), no_tanh)),
        ("h = sigma(o) tanh(c): the tanh is missing.", kept(o.sigmoid() * new_c, new_c)),
        ("You return c and h: h comes first.", kept(new_h, new_c)[::-1]),
    ]  # fmt: skip


@exercise("Exercise 2: greedy decoding")
def check_greedy(answer: Any) -> str:
    """`decode(step, state, start, stop, max_labels) -> list of ids`, best label first, none twice. Notebook 03.

    `step(token, state) -> (scores (V,), state)`, where V - 1 is `stop`.
    """
    for case in _GREEDY_CASES:
        script, most, hint = case
        stop = len(next(iter(script.values()))) - 1
        start = stop + 1
        expected = _greedy(_Script(script), (), start, stop, most)
        step = _Script(script)
        call = ask(answer, step=step, state=(), start=start, stop=stop, max_labels=most)
        call.expect(isinstance(call.value, list), expected=expected, hint="The answer is a list of ids.")
        found = [int(token) for token in call.value]
        call.expect(stop not in found, expected=expected, hint="<stop> ends the list and is not in it.")
        goes_on = len(expected) < most and found[: len(expected)] == expected != found
        call.expect(
            not goes_on, expected=expected, hint="It goes on after <stop> has won: end the list there."
        )
        twice = "A label is named twice: what has been named must not win again (set its score to -inf)."
        call.expect(len(set(found)) == len(found), expected=expected, hint=twice)
        call.expect(found == expected, expected=expected, hint=hint)
    return "It feeds back what it says, names nothing twice, and knows when to stop."


class _Script:
    """A decoder of which every score is written down: by the tokens read so far, the state being those tokens."""

    def __init__(self, scores: dict[tuple[int, ...], list[float]]) -> None:
        self.scores = scores

    def __call__(self, token: Any, state: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
        read = (*state, int(token))
        # What nobody wrote down depends on the last token only, so a wrong path gives an answer, not an error.
        return torch.tensor(self.scores.get(read, self.scores[(read[-1],)]), dtype=torch.float32), read

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Script) and self.scores == other.scores

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
    (
        {(4,): [0, 2, 1, -1], (1,): [3, 0, 1, 2], (0,): [0, 0, 1, 5], (2,): [0, 0, 0, 1], (3,): [9, 9, 9, 0]},
        5,
        "Start with the token `start`, then feed back the label that was named, until <stop> wins.",
    ),
    (
        {(4,): [1, 0, 0, 5], (0,): [0, 5, 0, 1], (1,): [0, 0, 5, 1], (2,): [0, 0, 0, 1], (3,): [0, 5, 0, 1]},
        5,
        "Where <stop> wins at once the image has no labels: the answer is an empty list.",
    ),
    (
        # What follows 2 depends on what came before it: the state must be handed on.
        {(4,): [0, 0, 4, 1], (2,): [0, 0, 0, 3], (4, 2): [5, 0, 0, 1], (0,): [0, 0, 0, 5], (4, 2, 0): [0, 4, 0, 1],
         (1,): [0, 0, 0, 1], (3,): [0, 0, 0, 1]},
        5,
        "Give `step` the state that the step before returned.",
    ),
    (
        {(4,): [4, 0, 1, 0], (0,): [5, 2, 0, 1], (1,): [5, 4, 0, 1], (2,): [9, 9, 9, 0], (3,): [9, 9, 9, 0]},
        5,
        "Where a named label would win again, the best of what is left is taken; that may be <stop>.",
    ),
    (
        {(4,): [3, 0, 0, 1], (0,): [0, 3, 0, 1], (1,): [0, 0, 3, 1], (2,): [0, 0, 0, 1], (3,): [0, 0, 0, 1]},
        2,
        "At most max_labels labels may be named, <stop> or not.",
    ),
    (
        {(4,): [-5, -7, -9, -8], (0,): [-1, -4, -3, -6], (2,): [-1, -4, -1, -3], (1,): [-9, -9, -9, -1], (3,): [0, 0, 0, 1]},
        5,
        "Scores may all be negative: a label is put out of play with -inf, not with 0.",
    ),
]  # fmt: skip


@exercise("Exercise 3: the masked loss")
def check_sequence_loss(answer: Any) -> str:
    """`loss(logits (B, T, V), targets (B, T), lengths (B,)) -> scalar`, mean over labels and one stop. Notebook 03."""
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
        expected = cost[counts].mean()
        call = ask(answer, logits=logits, targets=targets, lengths=sizes)
        found = torch.as_tensor(call.value)
        call.expect(
            found.ndim == 0, expected=expected, hint="Return one number: a tensor without dimensions."
        )
        wrong = {
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
        for hint, value in wrong.items():
            slip = torch.allclose(found.float(), value, atol=1e-5) and not torch.allclose(
                value, expected, atol=1e-5
            )
            call.expect(not slip, expected=expected, hint=hint)
        hint = "Mean of -log softmax(logits)[target] over the first lengths + 1 steps of every image."
        call.expect(torch.allclose(found.float(), expected, atol=1e-5), expected=expected, hint=hint)
    return "Every label and one <stop> an image count, and the padding is left out."
