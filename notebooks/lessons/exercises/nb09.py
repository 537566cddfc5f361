"""Checks of notebook 09's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from helpers.data.labels import Vocabulary
from helpers.data.words import UNKNOWN, encode_words, tokenize
from helpers.scenes.captions import mentioned_labels
from lessons.checks import ask, exercise


@exercise("Exercise 1: words to ids")
def check_to_ids(answer: Any) -> str:
    """`to_ids(caption, vocabulary) -> list of ids`, with `<unk>` for words it lacks and `<stop>` last."""
    vocabulary = Vocabulary([UNKNOWN, "a", "dog", "and", "cat", ".", "'s"])
    cases = [
        ("a dog and a cat", "Each word has its id, and the last id is that of <stop>."),
        ("A Dog.", "The vocabulary is in small letters, and the full stop is a word: use tokenize."),
        ("a zebra and a dog's cat", "zebra is not in the vocabulary: its id is that of <unk>."),
        ("", "A caption without words is <stop> alone."),
    ]
    for caption, hint in cases:
        expected = [*encode_words(tokenize(caption), vocabulary), vocabulary.stop]
        call = ask(answer, caption=caption, vocabulary=vocabulary)
        slips = {
            "<stop> is missing at the end: without it nothing tells the decoder when to stop.": expected[:-1],
            "A caption does not begin with <start>: the decoder reads it, it never says it.": [vocabulary.start, *expected],
            "The unknown word was left out: then the others move up, and the sentence is another.":
                [i for i in expected if i != 0],
        }  # fmt: skip
        call.compare(expected, form="Return a list of whole numbers.", slips=slips, hint=hint)
    return "Words are labels: the same vocabulary, only larger."


@exercise("Exercise 4: the precision in BLEU")
def check_precision(answer: Any) -> str:
    """`precision(words, references, n) -> share of n-grams that a reference has`, clipped."""
    cases = [
        ("a dog and a cat", ["a dog"], 1, "Two of the five words count: dog, and a once."),
        ("a dog and a cat", ["a cat and a dog"], 1, "Every word is in the reference: 1."),
        ("a a a a", ["a dog and a cat"], 1, "The reference has a twice: only two of the four count."),
        (
            "a dog and a cat",
            ["a cat and a dog"],
            2,
            "The pairs are (a, dog), (dog, and), (and, a), (a, cat).",
        ),
        ("a a b", ["a b c", "a d a"], 1, "An n-gram counts as often as the reference that has it most."),
        ("a a a", ["a b c", "a d e"], 1, "The references are not added up: each has a once, so one counts."),
        ("a dog", ["a dog sleeps"], 3, "There is no 3-gram in two words: 0."),
    ]
    for said, true, n, hint in cases:
        words, references = said.split(), [text.split() for text in true]
        grams = _grams(words, n)
        most, total = Counter(), Counter()
        for reference in references:
            most |= _grams(reference, n)
            total += _grams(reference, n)
        count = max(grams.total(), 1)
        expected = (grams & most).total() / count
        call = ask(answer, words=words, references=references, n=n)
        unclipped = sum(c for gram, c in grams.items() if gram in most)
        slips = {
            "Clip: an n-gram counts at most as often as a reference has it.": unclipped / count,
            "Take the largest count over the references, not their sum.": (grams & total).total() / count,
            "Divide by the n-grams of the caption, not by those of the reference.":
                (grams & most).total() / max(1, _grams(references[0], n).total()),
            "Repeated n-grams count, too: use counts, not sets.": len(set(grams) & set(most)) / max(1, len(set(grams))),
        }  # fmt: skip
        call.compare(expected, form="Return one number, 0 to 1.", slips=slips, hint=hint, tolerance=1e-6)
    return "BLEU-4 is the geometric mean of four of these, and a penalty for brevity."


@exercise("Exercise 3: is it true?")
def check_false_labels(answer: Any) -> str:
    """`false_labels(caption, labels) -> set of the labels that the caption names and the image has not`."""
    cases = [
        ("A dog and two cats.", ("dog", "tree"), "Only the cat is not there."),
        ("A dog and two cats.", ("dog", "cat", "tree"), "All that is named is there: the empty set. Silence is no error."),
        ("A dog and two cats.", ("dog",), "There is no cat."),
        ("A person riding a horse at night.", ("person", "night"), "Neither the horse nor the riding is there."),
        ("Nothing in sight", (), "Nothing is named."),
    ]  # fmt: skip
    for caption, labels, hint in cases:
        named = set(mentioned_labels(caption))
        expected = named - set(labels)
        call = ask(answer, caption=caption, labels=labels)
        slips = {
            "These are the labels that the caption leaves out. What is wrong with it is what it adds.": set(labels) - named,
            "These are the labels that are named and there. Asked for are those that are not there.": named & set(labels),
            "These are all differences. A caption need not name everything.": named ^ set(labels),
        }  # fmt: skip
        call.compare(expected, form="Return a set of labels.", slips=slips, hint=hint)
    return "One set difference tells what BLEU does not see."


def _grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
