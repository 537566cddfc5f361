"""Judging captions: BLEU against all references, the loss on the true ones, and whether what they name is there.

Taught in notebook 07.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torchmetrics.functional.text import bleu_score

from helpers.data.files import read_json
from helpers.data.records import Record
from helpers.data.words import tokenize
from helpers.scenes.captions import mentioned_colours, mentioned_labels, mentioned_sides


def scored_words(caption: str) -> list[str]:
    """The words of a caption that BLEU counts: small letters, no punctuation, as is the custom for captions."""
    return [word for word in tokenize(caption) if any(map(str.isalnum, word))]


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of a corpus, each from 0 to 1, by torchmetrics. Taught in notebook 07.

    BLEU-n is the geometric mean of the shares of 1-grams to n-grams that a reference of the same image has, each as
    often as the reference that has it most, times a penalty for captions that are shorter than the nearest reference
    (Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002). The counts are added
    up over all images before they are divided: it is no mean over images.

    captions: one an image. references: all of its true captions, at least one an image. Words are those of
    `scored_words`. Raises ValueError for other numbers, or nothing.
    """
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError(
            f"found {len(captions)} captions and references for {sum(map(bool, references))} images; BLEU needs at "
            "least one reference for each caption"
        )
    said = [" ".join(scored_words(caption)) for caption in captions]
    true = [[" ".join(scored_words(caption)) for caption in of] for of in references]
    return {f"BLEU-{n}": float(bleu_score(said, true, n_gram=n)) for n in (1, 2, 3, 4)}


def truth(captions: Iterable[str], labels: Iterable[Sequence[str]]) -> dict[str, float]:
    """Is what the captions name in the picture? For captions of scenes, whose labels are complete. Notebook 07.

    `named_labels`: labels named by a caption, on average. `true_labels`: share of all labels named that the image has.
    `true_captions`: share of the captions that name nothing but labels of their image.

    captions: one an image; labels: the true ones of each image. Which labels a caption names: `mentioned_labels`.
    """
    named, right, whole, count = 0, 0, 0, 0
    for caption, of in zip(captions, labels, strict=True):
        said = set(mentioned_labels(caption))
        named, right = named + len(said), right + len(said & set(of))
        whole, count = whole + (said <= set(of)), count + 1
    return {
        "named_labels": named / max(count, 1),
        "true_labels": right / named if named else 0.0,
        "true_captions": whole / max(count, 1),
    }


def scene_colours(records: Sequence[Record]) -> list[frozenset[tuple[str, str]]] | None:
    """The (colour, label) pairs that each scene shows, from the annotations beside its images. Notebook 07.

    None where they are not there: where a record is no image of a folder of `scenes.write_scenes`.
    """
    found: dict[Path, set[tuple[str, str]]] = {}
    for folder in {record.path.parent for record in records}:
        table = folder.parent.parent / f"instances_{folder.name}.json"
        if not table.is_file():
            return None
        content = read_json(table)
        names = {category["id"]: category["name"] for category in content["categories"]}
        paths = {image["id"]: folder / image["file_name"] for image in content["images"]}
        found |= {path: set() for path in paths.values()}
        for thing in content["annotations"]:
            if thing.get("colour"):
                found[paths[thing["image_id"]]].add((thing["colour"], names[thing["category_id"]]))
    if not all(record.path in found for record in records):
        return None
    return [frozenset(found[record.path]) for record in records]


def stated_truth(
    captions: Iterable[str], records: Sequence[Record], colours: Sequence[Iterable[tuple[str, str]]]
) -> dict[str, float]:
    """Are the colours and the sides that captions of scenes state those of the picture? Notebook 07.

    `stated_colours`, `stated_sides`: how often a caption states the colour of a thing, or which of two things is to the
    left or right of the other, on average; counted where the things themselves are there, for `truth` judges that.
    `true_colours`, `true_sides`: the share of these that is right, or 0 where none is stated. Of several things of a
    kind one has to fit.

    captions: one an image; records: the images; colours: those of each image, from `scene_colours`.
    """
    counts = dict.fromkeys(("colours", "right_colours", "sides", "right_sides"), 0)
    for caption, record, shown in zip(captions, records, colours, strict=True):
        pairs = [pair for pair in mentioned_colours(caption) if pair[1] in record.labels]
        counts["colours"] += len(pairs)
        counts["right_colours"] += len(set(pairs) & set(shown))
        for one, side, other in mentioned_sides(caption):
            places = [(a, b) for a in _middles(record, one) for b in _middles(record, other)]
            counts["sides"] += bool(places)
            counts["right_sides"] += any((a < b) == (side == "left") for a, b in places)
    images = max(len(records), 1)
    return {
        "stated_colours": counts["colours"] / images,
        "true_colours": counts["right_colours"] / max(counts["colours"], 1),
        "stated_sides": counts["sides"] / images,
        "true_sides": counts["right_sides"] / max(counts["sides"], 1),
    }


def _middles(record: Record, label: str) -> list[float]:
    """The x of the middles of a record's boxes of a label, in pixels."""
    return [box.x + box.width / 2 for box in record.boxes if box.label == label]
