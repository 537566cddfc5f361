"""What is in the scenes: how often, and with what."""

from __future__ import annotations

from collections import Counter

from helpers.scenes.content import FREQUENT_SMALL, LABEL_KINDS, LABELS, RARE_LARGE, RULES
from helpers.scenes.write import Scene


def share(sampled: list[Scene], label: str, given: str = "", *, without: bool = False) -> float:
    """How often a label occurs in the scenes with (or without) the label `given`."""
    chosen = [s for s in sampled if not given or (given in s.labels) != without]
    return sum(label in s.labels for s in chosen) / len(chosen)


def areas(sampled: list[Scene], label: str) -> list[float]:
    """The boxes of a label as shares of the picture."""
    return [b.width * b.height / 128**2 for s in sampled for b in s.boxes if b.label == label]


def test_labels_and_kinds() -> None:
    assert 22 <= len(LABELS) <= 30 and len(set(LABELS)) == len(LABELS)
    assert tuple(LABEL_KINDS) == LABELS
    assert set(LABEL_KINDS.values()) == {"object", "attribute", "relation"}


def test_label_counts_and_long_tail(sampled: list[Scene]) -> None:
    counts = Counter(len(s.labels) for s in sampled)
    assert set(counts) == set(range(7))
    assert counts.most_common(1)[0][0] == 3
    assert 0.01 < counts[0] / 1000 < 0.06
    frequency = Counter(label for s in sampled for label in s.labels)
    assert set(frequency) == set(LABELS)
    assert 7 <= min(frequency.values()) <= 20
    assert 350 <= max(frequency.values()) <= 450


def test_labels_depend_on_each_other(sampled: list[Scene]) -> None:
    assert share(sampled, "umbrella", "rain") > 0.65
    assert share(sampled, "umbrella", "rain", without=True) < 0.02
    assert share(sampled, "moon", "night", without=True) == 0
    assert share(sampled, "sun", "rain") == 0


def test_the_rules_hold_in_every_scene(sampled: list[Scene]) -> None:
    for label, needed in RULES.items():
        with_it = [s for s in sampled if label in s.labels]
        assert with_it and all(set(needed) & set(s.labels) for s in with_it)


def test_company_decides_between_ball_and_rock(sampled: list[Scene]) -> None:
    with_one = [s for s in sampled if {"ball", "rock"} & set(s.labels)]
    assert not any({"ball", "rock"} <= set(s.labels) for s in with_one)
    follows = [("ball" in s.labels) == bool({"person", "dog"} & set(s.labels)) for s in with_one]
    assert 0.92 < sum(follows) / len(follows) < 0.98


def test_rare_is_large_and_frequent_is_small(sampled: list[Scene]) -> None:
    for label in RARE_LARGE:
        assert 0.007 <= share(sampled, label) <= 0.03
        assert min(areas(sampled, label)) > 0.25
    for label in FREQUENT_SMALL:
        assert share(sampled, label) >= 0.14
        assert max(areas(sampled, label)) < 0.05
