"""What the tests of lessons share: asking a check for its verdict, reading figures, decoders and systems to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Check = Callable[[Any], bool]


@pytest.fixture
def verdict(capsys: pytest.CaptureFixture[str]) -> Callable[[Check, Any], tuple[bool, str]]:
    """Whether a check passes an answer, and what it prints."""

    def ask(check: Check, answer: Any) -> tuple[bool, str]:
        capsys.readouterr()
        passed = check(answer)
        return passed, capsys.readouterr().out

    return ask


@pytest.fixture
def passes(verdict) -> Callable[[Check, Any], None]:
    """Assert that an answer is found right, and that this is said once."""

    def assert_right(check: Check, answer: Any) -> None:
        passed, printed = verdict(check, answer)
        assert passed is True, printed
        assert ": OK. " in printed and printed.count("\n") == 1

    return assert_right


@pytest.fixture
def fails(verdict) -> Callable[[Check, Any, str], str]:
    """Assert that an answer is found wrong, with what was found, what was expected and a hint with these words."""

    def assert_wrong(check: Check, answer: Any, hint: str) -> str:
        passed, printed = verdict(check, answer)
        assert passed is False and "not right yet" in printed
        assert all(part in printed for part in ("found:", "expected:", "hint:"))
        assert hint in printed.split("hint:")[1], printed
        return printed

    return assert_wrong
