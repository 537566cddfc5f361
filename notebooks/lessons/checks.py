"""Automatic checks of exercises: what was given, what was found, what was expected, and a hint.

A check takes what the exercise asked for, usually a function; it prints a verdict and returns whether the answer is
right. It never raises, so a notebook runs to its end with its exercises unsolved. To write one:

    @exercise("Exercise 5: doubling")
    def check_double(answer):
        call = ask(answer, number=3)                                     # runs the student's function
        call.compare(6, slips={"This is the square.": 9}, hint="Multiply by two.")
        return "That is all there is to it."                             # printed beside the OK

Its test gives it the right answer, the starter and every wrong answer that one can think of.
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

    def check_form(self, expected: Any, hint: str) -> None:
        """End the check unless the returned value is of the expected kind (see `alike`)."""
        self.expect(alike(self.value, expected), expected=expected, hint=hint)

    def compare(
        self,
        expected: Any,
        *,
        hint: str,
        form: str = "",
        slips: Mapping[str, Any] | None = None,
        tolerance: float = 0.0,
    ) -> None:
        """End the check unless the returned value is what was expected.

        hint: for a wrong value. form: hint for a value of another kind (see `alike`). slips: hint -> the value that a
        known mistake gives; a mistake that happens to give what is expected does not count. tolerance: of numbers,
        relative to the expected ones where those are larger than 1.
        """
        if form:
            self.check_form(expected, form)
        for words, value in (slips or {}).items():
            slipped = same(self.value, value, tolerance) and not same(expected, value, tolerance)
            self.expect(not slipped, expected=expected, hint=words)
        self.expect(same(self.value, expected, tolerance), expected=expected, hint=hint)


def exercise(name: str) -> Callable[[Callable[[Any], str]], Callable[[Any], bool]]:
    """Make a check of a function that examines an answer and returns a closing remark.

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


def is_number(value: Any) -> bool:
    """Whether a value is one number, or a tensor that holds one."""
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, int | float) and not isinstance(value, bool)


def alike(found: Any, expected: Any) -> bool:
    """Whether a value is of the expected kind: a tensor, a number, a list; a tuple or list of as many such parts."""
    if isinstance(expected, Tensor):
        return isinstance(found, Tensor) and (expected.ndim > 0 or found.numel() == 1)
    if isinstance(expected, tuple):
        pair = isinstance(found, tuple | list) and len(found) == len(expected)
        return pair and all(alike(a, b) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, bool):
        one_bool = isinstance(found, Tensor) and found.dtype == torch.bool and found.numel() == 1
        return isinstance(found, bool) or one_bool
    if isinstance(expected, float):
        return is_number(found)
    return isinstance(found, type(expected))


def same(found: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether two values are equal, tensors with their shape.

    Without a tolerance the dtype counts as well. With one, numbers may differ by as much, relative to the expected ones
    where those are larger than 1.
    """
    if isinstance(expected, Tensor):
        if not isinstance(found, Tensor) or not (
            found.shape == expected.shape or found.numel() == expected.numel() == 1
        ):
            return False
        if not tolerance:
            return found.dtype == expected.dtype and torch.equal(found, expected)
        a, b = found.detach().double().view(expected.shape), expected.detach().double()
        return bool((a == b).logical_or((a - b).abs() <= tolerance * b.abs().clamp(min=1)).all())
    if isinstance(expected, tuple | list):
        listed = isinstance(found, tuple | list) and len(found) == len(expected)
        return listed and all(same(a, b, tolerance) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, float) and tolerance:
        return is_number(found) and abs(float(found) - expected) <= tolerance * max(1.0, abs(expected))
    return bool(found == expected) if is_number(found) or not isinstance(found, Tensor) else False


def describe(value: Any, *, limit: int = 240, digits: int = 4) -> str:
    """A value in a line of a report: tensors with dtype and shape, what is longer than `limit` letters cut.

    digits: of a tensor's numbers, after the point.
    """
    if isinstance(value, Tensor):
        numbers = value.tolist() if not value.is_floating_point() else _rounded(value.tolist(), digits)
        text = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} {numbers}"
    elif isinstance(value, tuple | list) and any(isinstance(part, Tensor) for part in value):
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
