"""Checks of notebook 01's exercises; how a check works is explained in `lessons.checks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from helpers.data.labels import Vocabulary, pad_labels
from helpers.data.records import AnnotatedImages, Record
from lessons.checks import ask, exercise, same


@exercise("Exercise 3: rare labels first")
def check_rare_first(answer: Any) -> str:
    """`rare_first(ids, frequency (C,) int64) -> list of ids`, least frequent first, ties as given."""
    ties = "Labels that are equally frequent must keep the order in which they were given."
    # Many labels and few frequencies: what is stable on three labels by luck is not on sixty.
    many = torch.randperm(60, generator=torch.Generator().manual_seed(0)).tolist()
    cases = [
        ([0, 1, 2], [50, 3, 20], "Sort by frequency[label]: the smallest number comes first."),
        ([4, 1], [1, 7, 5, 2, 6], "Only the labels of this image belong in the answer, as ids."),
        ([3, 0, 2, 1], [5, 9, 5, 5], ties),
        (many, [100 - i % 3 for i in range(60)], ties),
        ([], [4, 2], "An image without labels is legal: the answer is an empty list."),
    ]
    for ids, frequency, hint in cases:
        call = ask(answer, ids=ids, frequency=torch.tensor(frequency))
        expected = sorted(ids, key=frequency.__getitem__)
        call.compare(expected, form="The answer is a list of ids.", hint=hint)
    return "Rare labels come first, ties stay as they were, and the argument is left alone."


@exercise("Exercise 5, smaller: padding")
def check_pad(answer: Any) -> str:
    """`pad(sequences, stop) -> labels (B, T) int64, lengths (B,) int64`, T = longest + 1."""
    cases = (([[2, 0], [1], []], 3), ([[5, 4, 3, 2]], 6), ([[], []], 2), ([[0], [7, 0, 1]], 8))
    for sequences, stop in cases:
        expected = tuple(pad_labels(sequences, stop))
        call = ask(answer, sequences=sequences, stop=stop)
        call.check_form(expected, "Return two tensors: labels, lengths.")
        for part, right in zip(call.value, expected, strict=True):
            hint = f"Ids and lengths are whole numbers: dtype torch.int64, not {part.dtype}."
            call.expect(part.dtype == right.dtype, expected=expected, hint=hint)
        labels, _ = call.value
        hint = "T is the most labels plus one, so that even the longest row ends with <stop>."
        call.expect(labels.shape == expected[0].shape, expected=expected, hint=hint)
        hint = "After its labels, a row holds the id `stop` and nothing else; the labels stay in their order."
        call.expect(same(labels, expected[0]), expected=expected, hint=hint)
        call.compare(expected, hint="lengths counts the labels of each image; <stop> is not a label.")
    return "Every row ends with <stop>, even that of an image without labels."


@exercise("Exercise 2: conditional probability")
def check_conditional(answer: Any) -> str:
    """`conditional(multi_hot (N, C) float32) -> (C, C) float32`, entry [i, j] is P(j | i)."""
    first = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.float32)
    random = (torch.rand(50, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    never = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.float32)
    for multi_hot in (first, random, never):
        counts = torch.stack(
            [multi_hot[column == 1].sum(0) for column in multi_hot.T]
        )  # [i, j]: with i and j
        times = torch.stack([column.sum() for column in multi_hot.T])[:, None]
        expected = torch.where(times > 0, counts / times.clamp(min=1), 0.0)
        call = ask(answer, multi_hot=multi_hot)
        hint = "Return a tensor (C, C): a row and a column for every label."
        call.check_form(expected, hint)
        call.expect(call.value.shape == expected.shape, expected=expected, hint=hint)
        hint = "A label that is in no image gives 0 divided by 0: its row must be 0, not NaN."
        call.expect(not call.value.isnan().any(), expected=expected, hint=hint)
        slips = {
            "This is P(i | j). Row i is what is given: divide row i by the images with label i.": expected.T,
            "This is P(i and j), divided by all images. Divide row i by the images with label i.": counts / len(multi_hot),
        }  # fmt: skip
        hint = "Entry [i, j]: among the images with label i, the share that also have j; 1 where i = j."
        call.compare(expected, slips=slips, hint=hint, tolerance=1e-5)
    return "One matrix product counts every pair, and row i is divided by the images with label i."


def _small_data() -> AnnotatedImages:
    """A data set (nothing is opened) in which each mistake of exercise 5 changes the result."""

    def split(name: str, *rows: str) -> tuple[Record, ...]:
        return tuple(Record(Path(name, f"{i}.jpg"), tuple(row.split())) for i, row in enumerate(rows))

    return AnnotatedImages(
        name="small",
        vocabulary=Vocabulary(("ant", "bee", "cat", "dog", "elk")),
        # In train: dog 1, elk 2, cat 2, bee 3, ant 4. Over all splits dog has 6, and elk 5.
        train=split("train", "ant bee", "ant elk cat", "bee ant dog", "", "elk cat bee ant"),
        val=split("val", "dog ant", "", "elk cat", "dog elk ant"),
        test=split("test", "dog", "dog elk", "dog"),
    )


@exercise("Exercise 5: fix the colleague's function")
def check_prepare(answer: Any) -> str:
    """`prepare(data, split) -> labels (B, T), lengths (B,)` in rare-first order of training frequency."""
    data = _small_data()
    frequency = data.frequency().tolist()
    elsewhere = [sum(name in r.labels for r in data.val + data.test) for name in data.vocabulary.labels]
    everywhere = [a + b for a, b in zip(frequency, elsewhere, strict=True)]
    for name in ("train", "val"):
        rows = [data.vocabulary.encode(record.labels) for record in data.split(name)]
        expected, leaked = (
            tuple(pad_labels([sorted(row, key=counts.__getitem__) for row in rows], data.vocabulary.stop))
            for counts in (frequency, everywhere)
        )
        call = ask(answer, data=data, split=name)
        call.check_form(expected, "Return two tensors: labels, lengths.")
        labels, lengths = call.value
        hint = f"{name} has {len(rows)} images, one of them without labels: every image needs its row."
        call.expect(len(labels) == len(lengths) == len(rows), expected=expected, hint=hint)
        hint = "Are the images still in their order?"
        call.expect(same(lengths, expected[1]), expected=expected, hint=hint)
        hint = "Every row needs room for a <stop> after its labels: T is the most labels plus one."
        call.expect(labels.shape == expected[0].shape, expected=expected, hint=hint)
        leak = "This order depends on the labels of val and test. The order, like all that is learned, comes from train."
        hint = "Rare labels first by training frequency; among equally frequent ones, the order of record.labels."
        call.compare(expected, slips={leak: leaked}, hint=hint)
    return "No image is lost, nothing is taken from val or test, and ties stay as they were annotated."
