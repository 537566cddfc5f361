"""How every exercise is checked and reported, and the exercise of notebook 00; those of the others have their own files."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lessons import checks

Check = Callable[[Any], bool]


def verdict(check: Check, answer: Any, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
    """Whether the check passes, and what it prints."""
    capsys.readouterr()
    passed = check(answer)
    return passed, capsys.readouterr().out


def passes(check: Check, answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that an answer is found right, and that this is said once."""
    passed, printed = verdict(check, answer, capsys)
    assert passed is True, printed
    assert ": OK. " in printed and printed.count("\n") == 1


def fails(check: Check, answer: Any, capsys: pytest.CaptureFixture[str], hint: str) -> str:
    """Assert that an answer is found wrong, with what was found, what was expected and a hint with these words."""
    passed, printed = verdict(check, answer, capsys)
    assert passed is False
    assert "not right yet" in printed
    for part in ("found:", "expected:", "hint:"):
        assert part in printed
    assert hint in printed.split("hint:")[1], printed
    return printed


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
def test_a_starter_is_not_solved_yet_and_does_not_raise(
    check: Check, starter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    passed, printed = verdict(check, starter, capsys)
    assert passed is False
    assert "not solved yet" in printed and "expected:" not in printed


@pytest.mark.parametrize("check", ALL_CHECKS)
def test_every_check_says_what_it_wants_and_for_which_notebook(check: Check) -> None:
    assert "Notebook 0" in (check.__doc__ or "")


@pytest.mark.parametrize("starter", [not_written, not_implemented])
def test_functions_as_notebooks_have_them_are_not_solved_yet(
    starter: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not solved yet" in verdict(check_double, starter, capsys)[1]


def test_a_report_says_what_was_given_found_and_expected(capsys: pytest.CaptureFixture[str]) -> None:
    passes(check_double, lambda number: 2 * number, capsys)
    printed = fails(check_double, lambda number: number**2, capsys, "Multiply by two.")
    assert "number = 3" in printed and "found:    9" in printed and "expected: 6" in printed


def test_an_error_in_the_answer_is_reported_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(number: int) -> float:
        return number / 0

    printed = fails(check_double, broken, capsys, "return number / 0")
    assert "ZeroDivisionError: division by zero" in printed and "number = 3" in printed


def test_a_wrong_number_of_arguments_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert "TypeError" in fails(
        check_double, lambda: 3, capsys, "must take one argument, in this order: number."
    )
    hint = "must take 2 arguments, in this order: named, truth."
    assert "passed.values" not in fails(checks.check_set_f1, lambda named: 0.5, capsys, hint)


def test_a_wrong_call_inside_the_answer_is_reported_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    fails(check_double, lambda number: len(), capsys, "len()")


def test_a_result_instead_of_a_function_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    fails(check_double, 6, capsys, "the function itself")


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
def test_a_changed_argument_is_reported(
    argument: Any, change: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    @checks.exercise("change")
    def check_change(answer: Any) -> str:
        checks.ask(answer, thing=argument)
        return "Fine."

    passes(check_change, lambda thing: 1, capsys)
    fails(check_change, lambda thing: change(thing) or 1, capsys, "work on a copy")
    passes(check_change, lambda thing: 1, capsys)  # the check's own argument is still as it was


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ([1, (2.0, "x")], [1, (2.0, "x")], True),
        ([1, 2], (1, 2), False),
        (1, True, False),
        (torch.tensor([1]), torch.tensor([1]), True),
        (torch.tensor([1]), torch.tensor([1.0]), False),
        (torch.tensor([1]), torch.tensor([[1]]), False),
        (torch.tensor([1]), [1], False),
        ([torch.tensor([1.0])], [torch.tensor([2.0])], False),
    ],
)
def test_same_is_strict_about_types_and_shapes(a: Any, b: Any, equal: bool) -> None:
    assert checks.same(a, b) is equal and checks.same(b, a) is equal


def test_same_within_a_tolerance() -> None:
    for a, b in ((1.0, 1.001), (torch.tensor([1.0]), torch.tensor([1.001])), ([0.5, 1.0], [0.5, 1.001])):
        assert checks.same(a, b, tolerance=0.01)
        assert not checks.same(a, b, tolerance=0.0001) and not checks.same(a, b)


def test_a_known_slip_is_refused_with_its_hint_unless_it_gives_what_is_right() -> None:
    checks.Call("x = 2", 4.0).refuse({"squared": 4.0, "halved": 1.0}, expected=4.0)
    with pytest.raises(checks.Mistake, match=r"found: +8\.0\n.*expected: +4\.0\n.*hint: +cubed"):
        checks.Call("x = 2", 8.0).refuse({"squared": 4.0, "cubed": 8.0}, expected=4.0)
    with pytest.raises(checks.Mistake, match="cubed"):
        checks.Call("x = 2", 7.9).refuse({"cubed": 8.0}, expected=4.0, alike=lambda a, b: abs(a - b) < 0.5)


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


def set_f1(named, truth, *, slip=""):
    """The solution of notebook 00's exercise, and what usual slips make of it."""
    if not named and not truth and slip != "both empty":
        return 1.0
    right = len(named & truth)
    if slip == "accuracy":
        return right / max(1, len(named | truth))
    precision = right / (len(named) if slip == "0/0" else max(1, len(named)))
    recall = right / max(1, len(truth))
    if slip == "plain mean":
        return (precision + recall) / 2
    if slip == "precision":
        return precision
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def test_set_f1_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_set_f1, set_f1, capsys)

    def from_counts(named, truth):
        return 2 * len(named & truth) / (len(named) + len(truth)) if named or truth else 1

    passes(checks.check_set_f1, from_counts, capsys)
    passes(checks.check_set_f1, lambda named, truth: torch.tensor(from_counts(named, truth)).double(), capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("plain mean", "P = 1/2, R = 1/3"),
        ("precision", "P = 1/2, R = 1/3"),
        ("accuracy", "P = 1/2, R = 1/3"),
        ("both empty", "perfectly right"),
        ("0/0", "The error comes from the line"),
    ],
)
def test_set_f1_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_set_f1, lambda named, truth: set_f1(named, truth, slip=slip), capsys, hint)
