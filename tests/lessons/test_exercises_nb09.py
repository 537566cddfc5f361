"""The checks of notebook 09 accept the right answer and name the slip in every plausible wrong one."""

from __future__ import annotations

from collections import Counter

import pytest
from lessons.exercises.nb09 import check_false_labels, check_precision, check_to_ids

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


def known_words(caption, vocabulary):
    return [*vocabulary.encode(w for w in tokenize(caption) if w in vocabulary), vocabulary.stop]


def split_only(caption, vocabulary):
    return [*vocabulary.encode(w if w in vocabulary else UNKNOWN for w in caption.split()), vocabulary.stop]


def unclipped(words, references, n):
    known = {gram for reference in references for gram in grams(reference, n)}
    return sum(gram in known for gram in grams(words, n)) / max(1, len(grams(words, n)))


def summed(words, references, n):
    known = sum((Counter(grams(reference, n)) for reference in references), Counter())
    return (Counter(grams(words, n)) & known).total() / max(1, len(grams(words, n)))


def as_sets(words, references, n):
    said, known = set(grams(words, n)), {gram for reference in references for gram in grams(reference, n)}
    return len(said & known) / max(1, len(said))


RIGHT = [(check_to_ids, to_ids), (check_precision, precision), (check_false_labels, false_labels)]
WRONG = [
    (check_to_ids, lambda caption, vocabulary: to_ids(caption, vocabulary)[:-1], "<stop> is missing"),
    (check_to_ids, lambda caption, vocabulary: [vocabulary.start, *to_ids(caption, vocabulary)], "never says it"),
    (check_to_ids, known_words, "was left out"),
    (check_to_ids, split_only, "small letters"),
    (check_to_ids, lambda caption, vocabulary: "ids", "Return a list"),
    (check_to_ids, lambda caption, vocabulary: to_ids(caption.replace("a ", ""), vocabulary), "its id"),
    (check_to_ids, lambda caption, vocabulary: to_ids(caption, vocabulary)[::-1], "Each word has its id"),
    (check_to_ids, lambda caption, vocabulary: encode_words(tokenize(caption), vocabulary), "<stop> is missing"),
    (check_precision, unclipped, "Clip"),
    (check_precision, summed, "not their sum"),
    (check_precision, as_sets, "not sets"),
    (check_precision, lambda words, references, n: precision(words, references, 1), "(a, dog)"),
    (check_precision, lambda words, references, n: precision(references[0], [words], n), "Divide by"),
    (check_precision, lambda words, references, n: precision(words, references[:1], n), "has it most"),
    (check_precision, lambda words, references, n: str(precision(words, references, n)), "Return one number"),
    (check_false_labels, lambda caption, labels: set(mentioned_labels(caption)), "not"),
    (check_false_labels, lambda caption, labels: len(false_labels(caption, labels)), "Return a set"),
    (check_false_labels, lambda caption, labels: set(labels) - set(mentioned_labels(caption)), "leaves out"),
    (check_false_labels, lambda caption, labels: set(labels) & set(mentioned_labels(caption)), "named and there"),
    (check_false_labels, lambda caption, labels: set(labels) ^ set(mentioned_labels(caption)), "all differences"),
    (check_false_labels, lambda caption, labels: list(false_labels(caption, labels)), "Return a set"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, passes) -> None:
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint, fails) -> None:
    fails(check, answer, hint)
