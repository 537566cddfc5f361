"""The checks of notebook 07 accept the right answer and name the slip in every plausible wrong one."""

from __future__ import annotations

from collections import Counter

import pytest
from lessons.exercises.nb07 import check_false_labels, check_precision, check_to_ids

from helpers.data.words import UNKNOWN, encode_words, tokenize
from helpers.scenes.captions import mentioned_labels


def to_ids(caption, vocabulary):
    return [*encode_words(tokenize(caption), vocabulary), vocabulary.stop]


def precision(words, references, n):
    def grams(of):
        return Counter(tuple(of[i : i + n]) for i in range(len(of) - n + 1))

    said, most = grams(words), Counter()
    for reference in references:
        most |= grams(reference)
    return (said & most).total() / max(1, said.total())


def false_labels(caption, labels):
    return set(mentioned_labels(caption)) - set(labels)


def grams(of, n):
    return [tuple(of[i : i + n]) for i in range(len(of) - n + 1)]


@pytest.mark.parametrize(
    ("check", "answer"),
    [(check_to_ids, to_ids), (check_precision, precision), (check_false_labels, false_labels)],
)
def test_the_right_answer_passes_and_the_starter_does_not(check, answer, capsys) -> None:
    assert check(answer)
    assert "OK" in capsys.readouterr().out
    assert not check(...)
    assert "not solved yet" in capsys.readouterr().out.lower()


@pytest.mark.parametrize(
    ("check", "answer", "hint"),
    [
        (check_to_ids, lambda caption, vocabulary: to_ids(caption, vocabulary)[:-1], "<stop> is missing"),
        (check_to_ids, lambda caption, vocabulary: [vocabulary.start, *to_ids(caption, vocabulary)], "never says it"),
        (
            check_to_ids,
            lambda caption, vocabulary: [*vocabulary.encode(w for w in tokenize(caption) if w in vocabulary), vocabulary.stop],
            "was left out",
        ),
        (
            check_to_ids,
            lambda caption, vocabulary: [
                *vocabulary.encode(w if w in vocabulary else UNKNOWN for w in caption.split()),
                vocabulary.stop,
            ],
            "small letters",
        ),
        (check_to_ids, lambda caption, vocabulary: "ids", "Return a list"),
        (
            check_precision,
            lambda words, references, n: sum(g in {x for r in references for x in grams(r, n)} for g in grams(words, n))
            / max(1, len(grams(words, n))),
            "Clip",
        ),
        (
            check_precision,
            lambda words, references, n: (
                Counter(grams(words, n)) & sum((Counter(grams(r, n)) for r in references), Counter())
            ).total()
            / max(1, len(grams(words, n))),
            "not their sum",
        ),
        (
            check_precision,
            lambda words, references, n: len(set(grams(words, n)) & {g for r in references for g in grams(r, n)})
            / max(1, len(set(grams(words, n)))),
            "not sets",
        ),
        (check_precision, lambda words, references, n: precision(words, references, 1), "(a, dog)"),
        (check_precision, lambda words, references, n: None, "not solved yet"),
        (check_false_labels, lambda caption, labels: set(labels) - set(mentioned_labels(caption)), "leaves out"),
        (check_false_labels, lambda caption, labels: set(labels) & set(mentioned_labels(caption)), "named and there"),
        (check_false_labels, lambda caption, labels: set(labels) ^ set(mentioned_labels(caption)), "all differences"),
        (check_false_labels, lambda caption, labels: list(false_labels(caption, labels)), "Return a set"),
    ],
)  # fmt: skip
def test_a_slip_is_named(check, answer, hint, capsys) -> None:
    assert not check(answer)
    assert hint.lower() in capsys.readouterr().out.lower()
