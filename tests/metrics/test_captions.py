"""BLEU, and whether captions state what is there, against their definitions."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from helpers.data.load import load
from helpers.data.records import Box, Record
from helpers.metrics.captions import bleu, scene_colours, scored_words, stated_truth, truth
from helpers.scenes.write import write_scenes


def test_of_equally_near_references_the_shorter_counts() -> None:
    said, short, long = "a b c", "x y", "a b d e"  # 2 and 4 words are equally near to 3
    for references in ([short, long], [long, short]):
        # All words count and the shorter reference has fewer words than the caption: no penalty for brevity.
        assert bleu([said], [references])["BLEU-1"] == pytest.approx(2 / 3)
    assert bleu([said], [[long]])["BLEU-1"] == pytest.approx(2 / 3 * math.exp(1 - 4 / 3))


def bleu_by_hand(captions: list[str], references: list[list[str]], order: int) -> float:
    """BLEU from its definition, with loops."""
    said = [scored_words(c) for c in captions]
    true = [[scored_words(c) for c in of] for of in references]
    length = sum(map(len, said))
    nearest = sum(
        min((abs(len(r) - len(c)), len(r)) for r in of)[1] for c, of in zip(said, true, strict=True)
    )
    log_precision = 0.0
    for n in range(1, order + 1):
        right = total = 0
        for c, of in zip(said, true, strict=True):
            grams = Counter(tuple(c[i : i + n]) for i in range(len(c) - n + 1))
            most: Counter = Counter()
            for r in of:
                most |= Counter(tuple(r[i : i + n]) for i in range(len(r) - n + 1))
            right += sum((grams & most).values())
            total += grams.total()
        if not right:
            return 0.0
        log_precision += math.log(right / total) / order
    return math.exp(log_precision) * math.exp(min(0.0, 1 - nearest / length))


def test_bleu_is_its_definition() -> None:
    captions = ["A dog and a dog and a tree.", "The cat is by the red house", "a dog"]
    references = [
        ["A dog and a cat and a tree.", "There is a dog by a tree."],
        ["The cat is near the red house!", "a cat"],
        ["A dog sleeps in the snow"],
    ]
    found = bleu(captions, references)
    assert list(found) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    for n in range(1, 5):
        assert found[f"BLEU-{n}"] == pytest.approx(bleu_by_hand(captions, references, n), abs=1e-6)
    assert found["BLEU-4"] > 0
    # By hand: 3 right of 3 words, but the reference has 6.
    assert bleu(["a b c"], [["A b c, d e f."]])["BLEU-1"] == pytest.approx(math.exp(1 - 6 / 3))
    assert bleu(["Yes, a dog."], [["yes a dog"]])["BLEU-1"] == pytest.approx(1), (
        "neither case nor punctuation counts"
    )
    for wrong in (([], []), (["a"], [[]]), (["a"], [["a"], ["b"]])):
        with pytest.raises(ValueError, match="at least one reference"):
            bleu(*wrong)


def test_truth_counts_what_is_named_and_there() -> None:
    found = truth(["A red dog and two cats.", "A tree", "Nothing"], [("dog", "tree"), ("tree", "sun"), ()])
    assert found == {
        "named_labels": 1.0,
        "true_labels": pytest.approx(2 / 3),
        "true_captions": pytest.approx(2 / 3),
    }
    assert truth(["Nothing"], [()])["true_labels"] == 0


def test_stated_truth_counts_colours_and_sides_of_what_is_there() -> None:
    def record(*boxes: Box) -> Record:
        return Record(Path("a.jpg"), tuple(dict.fromkeys(box.label for box in boxes)), boxes)

    dog, tree, other = Box("dog", 0, 0, 10, 10), Box("tree", 30, 0, 10, 10), Box("dog", 60, 0, 10, 10)
    captions = [
        "A brown dog to the left of a tree.",  # both right
        "A white dog to the right of a tree.",  # both wrong
        "A white dog to the right of a tree.",  # right: there is a second dog
        "A red car to the left of a tree.",  # there is no car: `truth` sees that
        "A tree.",
    ]
    records = [
        record(dog, tree),
        record(dog, tree),
        record(dog, tree, other),
        record(dog, tree),
        record(tree),
    ]
    brown, both = {("brown", "dog")}, {("brown", "dog"), ("white", "dog")}
    assert stated_truth(captions, records, [brown, brown, both, brown, set()]) == {
        "stated_colours": pytest.approx(3 / 5),
        "true_colours": pytest.approx(2 / 3),
        "stated_sides": pytest.approx(3 / 5),
        "true_sides": pytest.approx(2 / 3),
    }
    assert set(stated_truth([], [], []).values()) == {0}


def test_the_captions_of_the_scenes_state_what_is_there(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", train=24, val=1, test=1, progress=False)
    data = load("scenes", scenes)
    colours = scene_colours(data.train)
    for i in range(3):
        found = stated_truth([record.captions[i] for record in data.train], data.train, colours)
        assert found["true_colours"] == 1 and found["stated_colours"] > 0.5
        assert found["true_sides"] in (0, 1) and (found["true_sides"] == 1) == (found["stated_sides"] > 0)
    shuffled = [data.train[i - 1].captions[0] for i in range(len(data.train))]
    assert stated_truth(shuffled, data.train, colours)["true_colours"] < 0.8
    assert scene_colours([Record(Path("0.jpg"), ())]) is None
    elsewhere = Record(data.train[0].path.with_name("other.jpg"), ())
    assert scene_colours([elsewhere]) is None
