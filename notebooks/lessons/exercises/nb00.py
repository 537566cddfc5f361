"""Check of notebook 00's exercise; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from typing import Any

from lessons.checks import ask, exercise


@exercise("Exercise 3: precision, recall and F1 of a set")
def check_set_f1(answer: Any) -> str:
    """`set_f1(named: set, truth: set) -> float`."""
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
        call.compare(expected, form="Return one number.", hint=hint, tolerance=1e-6)
    return "The same F1, counted over many images, judges every model of this course."
