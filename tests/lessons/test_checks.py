"""How every exercise is checked and reported."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lessons import checks
from lessons.exercises.nb00 import check_set_f1

Check = Callable[[Any], bool]


@checks.exercise("Exercise 0: doubling")
def check_double(answer: Any) -> str:
    """A check for these tests."""
    for number in (3, 0):
        call = checks.ask(answer, number=number)
        call.expect(call.value == 2 * number, expected=2 * number, hint="Multiply by two.")
    return "Well done."


def not_written(number: int) -> None:
    """The starter of an exercise."""
    ...


def not_implemented(number: int) -> int:
    """Another way to leave it open."""
    raise NotImplementedError


ALL_CHECKS = [
    check
    for path in sorted((Path(checks.__file__).parent / "exercises").glob("nb*.py"))
    for name, check in vars(importlib.import_module(f"lessons.exercises.{path.stem}")).items()
    if name.startswith("check_")
]


@pytest.mark.parametrize(
    "starter",
    [None, ..., NotImplemented, lambda *_: None, lambda *_: ..., lambda *_: NotImplemented],
)
@pytest.mark.parametrize("check", [check_double, *ALL_CHECKS])
def test_a_starter_is_not_solved_yet_and_does_not_raise(check, starter, verdict) -> None:
    passed, printed = verdict(check, starter)
    assert passed is False
    assert "not solved yet" in printed and "expected:" not in printed


@pytest.mark.parametrize("check", ALL_CHECKS)
def test_errors_and_nonsense_are_reported(check: Check, fails, verdict) -> None:
    fails(check, lambda *arguments: 1 / 0, "1 / 0")
    passed, printed = verdict(check, lambda *arguments: "nonsense")
    assert passed is False and "not right yet" in printed


@pytest.mark.parametrize("starter", [not_written, not_implemented])
def test_functions_as_notebooks_have_them_are_not_solved_yet(starter, verdict) -> None:
    assert "not solved yet" in verdict(check_double, starter)[1]


def test_a_report_says_what_was_given_found_and_expected(passes, fails) -> None:
    passes(check_double, lambda number: 2 * number)
    printed = fails(check_double, lambda number: number**2, "Multiply by two.")
    assert "number = 3" in printed and "found:    9" in printed and "expected: 6" in printed


def test_an_error_in_the_answer_is_reported_with_its_line(fails) -> None:
    def broken(number: int) -> float:
        return number / 0

    printed = fails(check_double, broken, "return number / 0")
    assert "ZeroDivisionError: division by zero" in printed and "number = 3" in printed


def test_a_wrong_number_of_arguments_is_reported(fails) -> None:
    assert "TypeError" in fails(check_double, lambda: 3, "must take one argument, in this order: number.")
    hint = "must take 2 arguments, in this order: named, truth."
    assert "passed.values" not in fails(check_set_f1, lambda named: 0.5, hint)


def test_a_wrong_call_inside_the_answer_is_reported_with_its_line(fails) -> None:
    fails(check_double, lambda number: len(), "len()")


def test_a_result_instead_of_a_function_is_reported(fails) -> None:
    fails(check_double, 6, "the function itself")


def test_a_bug_in_the_check_itself_is_raised() -> None:
    @checks.exercise("broken")
    def check_broken(answer: Any) -> str:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        check_broken(3)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ([2, 1], lambda x: x.sort()),
        ([[1], [2]], lambda x: x[0].append(3)),
        (torch.tensor([1.0]), lambda x: x.add_(1)),
        ({"a": 1}, lambda x: x.update(a=2)),
    ],
)
def test_a_changed_argument_is_reported(argument, change, passes, fails) -> None:
    @checks.exercise("change")
    def check_change(answer: Any) -> str:
        checks.ask(answer, thing=argument)
        return "Fine."

    passes(check_change, lambda thing: 1)
    fails(check_change, lambda thing: change(thing) or 1, "work on a copy")
    passes(check_change, lambda thing: 1)  # the check's own argument is still as it was


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ([1, (2.0, "x")], [1, (2.0, "x")], True),
        ([1, 2], [1, 3], False),
        ([1, 2], [1, 2, 3], False),
        (torch.tensor([1]), torch.tensor([1]), True),
        (torch.tensor([1]), torch.tensor([1.0]), False),
        (torch.tensor([1, 1]), torch.tensor([[1, 1]]), False),
        (torch.tensor([1]), [1], False),
        ([torch.tensor([1.0])], [torch.tensor([2.0])], False),
    ],
)
def test_same_compares_shapes_and_dtypes(a: Any, b: Any, equal: bool) -> None:
    assert checks.same(a, b) is equal and checks.same(b, a) is equal


def test_same_within_a_tolerance() -> None:
    for a, b in ((1.0, 1.001), (torch.tensor([1.0]), torch.tensor([1.001])), ([0.5, 1.0], [0.5, 1.001])):
        assert checks.same(a, b, 0.01)
        assert not checks.same(a, b, 0.0001) and not checks.same(a, b)
    assert checks.same(1000.1, 1000.0, 0.001), "relative to what is larger than 1"
    assert not checks.same(torch.tensor(float("nan")), torch.tensor(1.0), 0.1)


@pytest.mark.parametrize(
    ("found", "expected", "alike"),
    [
        ((1, torch.tensor(2.0)), (1.0, 2.0), True),
        ([torch.tensor([1]), 3], (torch.tensor([1, 2]), 4), True),
        ((1, 2, 3), (1.0, 2.0), False),
        (True, 1.0, False),
        (torch.tensor([1.0, 2.0]), 1.0, False),
        (torch.tensor([1.0, 2.0]), torch.tensor(1.0), False),
        (torch.tensor(True), True, True),
        (1, True, False),
        (2.0, 2, False),
        ((1, 2), [1, 2], False),
    ],
)
def test_the_form_of_an_answer(found: Any, expected: Any, alike: bool) -> None:
    assert checks.alike(found, expected) is alike


def test_a_known_slip_is_named_unless_it_gives_what_is_right() -> None:
    slips = {"squared": 4.0, "cubed": 8.0}
    checks.Call("x = 2", 4.0).compare(4.0, slips=slips, hint="")
    with pytest.raises(checks.Mistake, match=r"found: +8\.0\n.*expected: +4\.0\n.*hint: +cubed"):
        checks.Call("x = 2", 8.0).compare(4.0, slips=slips, hint="")
    with pytest.raises(checks.Mistake, match="cubed"):
        checks.Call("x = 2", 7.9).compare(4.0, slips=slips, hint="", tolerance=0.05)
    with pytest.raises(checks.Mistake, match="Return one number"):
        checks.Call("x = 2", "4").compare(4.0, slips=slips, hint="", form="Return one number.")


def test_values_are_described_in_a_line() -> None:
    assert checks.describe(torch.tensor([[1, 2]])) == "int64 (1, 2) [[1, 2]]"
    assert checks.describe(torch.tensor([1 / 3])) == "float32 (1,) [0.3333]"
    assert checks.describe(torch.tensor(0.5)) == "float32 () 0.5"
    assert "int64 (1,) [1]" in checks.describe((torch.tensor([1]), 3))
    assert len(checks.describe(list(range(1000)))) <= 240
    assert checks.describe(torch.tensor(1e-6)) == "float32 () 0.0"
    assert "1e-06" in checks.describe(torch.tensor(1e-6), digits=8)
    large = torch.rand(80, 6)
    both = checks.describe((large, large > 0.5), limit=120)
    assert len(both) <= 120 and "float32 (80, 6) [[" in both and "bool (80, 6) [[" in both


def test_what_was_given_is_cut_to_a_readable_line() -> None:
    pairs = {name: (torch.rand(80, 6), torch.rand(80, 6)) for name in ("train", "val", "test")}
    given = checks.ask(lambda *_: 1, **pairs).given
    assert len(given) < 280 and given.count("(80, 6)") == 6


@pytest.mark.parametrize(
    ("value", "expected"),
    [(torch.tensor(1e-5), torch.tensor(0.0)), (torch.tensor(0.5), torch.tensor(0.50001))],
)
def test_a_report_shows_enough_digits_to_tell_found_from_expected(value, expected) -> None:
    with pytest.raises(checks.Mistake) as caught:
        checks.Call("", value).expect(False, expected=expected, hint="")
    found, wanted = (line.split(":")[1].strip() for line in str(caught.value).splitlines())
    assert found != wanted
