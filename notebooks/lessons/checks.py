"""Automatic checks of the notebooks' exercises: what was given, what was found, what was expected, and a hint.

A check takes what the exercise asked for, usually a function; it prints a verdict and returns whether the answer is
right. It never raises, so a notebook runs to its end with its exercises unsolved. To write one:

    @exercise("Exercise 5: doubling")
    def check_double(answer):
        call = ask(answer, number=3)                      # runs the student's function
        call.expect(call.value == 6, expected=6, hint="Multiply by two.")
        return "That is all there is to it."              # said beside the OK

Its test gives it the right answer, the starter and every wrong answer that one can think of (`tests/test_*checks.py`).
The checks of notebooks 01 to 04 are in `data_checks`, `feature_checks`, `decoding_checks`, `conditioning_checks` (03b) and
`attention_checks`, that of notebook 00 stands below.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

GIVEN = 240  # letters of a report's line about what was given, roughly


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
            for digits in (4, 8, 16):  # as many as tell the two apart
                found = describe(self.value, digits=digits)
                wanted = expected if isinstance(expected, str) else describe(expected, digits=digits)
                if found != wanted:
                    break
            raise _mistake(self.given, found, wanted, hint)

    def refuse(
        self, slips: Mapping[str, Any], *, expected: Any, alike: Callable[[Any, Any], bool] | None = None
    ) -> None:
        """End the check where the answer is what a known slip gives; a slip that gives what is right does not count.

        slips: hint -> what the slip gives. alike: whether two answers are equal; `same` by default.
        """
        alike = same if alike is None else alike
        for hint, value in slips.items():
            slipped = alike(self.value, value) and not alike(expected, value)
            self.expect(not slipped, expected=expected, hint=hint)


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
    limit = max(48, GIVEN // max(1, len(arguments)))
    given = ", ".join(f"{name} = {describe(value, limit=limit)}" for name, value in arguments.items())
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
        hint = f"The error comes from the line `{place.line}`."
        if place.filename == __file__:  # it never got into the function
            hint = (
                f"The function must take {_counted(len(arguments))}, in this order: {', '.join(arguments)}."
            )
        raise _mistake(given, f"{type(error).__name__}: {error}", "a result", hint) from error
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


def describe(value: Any, *, limit: int = 240, digits: int = 4) -> str:
    """A value in a line of a report: tensors with dtype and shape, what is longer than `limit` letters cut.

    digits: of a tensor's numbers, after the point.
    """
    if isinstance(value, Tensor):
        numbers = value.tolist() if not value.is_floating_point() else _rounded(value.tolist(), digits)
        text = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} {numbers}"
    elif isinstance(value, tuple) and any(isinstance(part, Tensor) for part in value):
        share = limit // len(value) - 2
        text = f"({'; '.join(describe(part, limit=share, digits=digits) for part in value)})"
    else:
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 2] + " …"


def _rounded(numbers: Any, digits: int) -> Any:
    return [_rounded(x, digits) for x in numbers] if isinstance(numbers, list) else round(numbers, digits)


def _counted(number: int) -> str:
    return "one argument" if number == 1 else f"{number} arguments"


def _mistake(given: str, found: str, expected: Any, hint: str) -> Mistake:
    expected = expected if isinstance(expected, str) else describe(expected)
    lines = {"given": given, "found": found, "expected": expected, "hint": hint}
    return Mistake("\n".join(f"  {name + ':':<9} {text}" for name, text in lines.items() if text))


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
        one = isinstance(call.value, Tensor) and call.value.numel() == 1
        call.expect(one or isinstance(call.value, int | float), expected=expected, hint="Return one number.")
        call.expect(abs(float(call.value) - expected) < 1e-6, expected=expected, hint=hint)
    return "The same F1, counted over many images, judges every model of this course."
