"""Metrics of captions: BLEU against all references, and for scenes whether what a caption states is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torchmetrics.functional.text import bleu_score

from helpers.data.files import read_json
from helpers.data.records import Record
from helpers.data.words import tokenize
from helpers.scenes.captions import mentioned_colours, mentioned_labels, mentioned_sides


def scored_words(caption: str) -> list[str]:
    """The words of a caption that BLEU counts: lower case, no punctuation, as is usual for captions."""
    return [word for word in tokenize(caption) if any(map(str.isalnum, word))]


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of a corpus, each from 0 to 1, by torchmetrics.

    BLEU-n is the geometric mean of the shares of 1-grams to n-grams that a reference of the same image has, each as
    often as the reference that has it most, times a penalty for captions that are shorter than the nearest reference
    (Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002). The counts of all
    images are added up before they are divided.

    captions: one per image. references: its true captions, at least one per image. Raises ValueError otherwise.
    """
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError(
            f"found {len(captions)} captions and references for {sum(map(bool, references))} images; BLEU needs at "
            "least one reference for each caption"
        )
    said = [" ".join(scored_words(caption)) for caption in captions]
    # Of references that are equally near in length, torchmetrics takes the first: so the shorter comes first.
    words = [sorted((scored_words(caption) for caption in of), key=len) for of in references]
    true = [[" ".join(reference) for reference in of] for of in words]
    return {f"BLEU-{n}": float(bleu_score(said, true, n_gram=n)) for n in (1, 2, 3, 4)}


def truth(captions: Iterable[str], labels: Iterable[Sequence[str]]) -> dict[str, float]:
    """Whether what captions of scenes name is in the picture; the labels of scenes are complete.

    captions: one per image; labels: the true ones of each image. A caption names its `mentioned_labels`.

    - `named_labels`: labels named by a caption, on average.
    - `true_labels`: share of all labels named that the image has.
    - `true_captions`: share of the captions that name nothing but labels of their image.
    """
    pairs = [(set(mentioned_labels(caption)), set(of)) for caption, of in zip(captions, labels, strict=True)]
    named, right = sum(len(said) for said, _ in pairs), sum(len(said & of) for said, of in pairs)
    return {
        "named_labels": named / max(len(pairs), 1),
        "true_labels": right / max(named, 1),
        "true_captions": sum(said <= of for said, of in pairs) / max(len(pairs), 1),
    }


def stated_truth(
    captions: Iterable[str], records: Sequence[Record], colours: Sequence[Iterable[tuple[str, str]]]
) -> dict[str, float]:
    """Whether the colours and sides that captions of scenes state are those of the picture.

    captions: one per image; records: the images; colours: those of each image, from `scene_colours`.

    - `stated_colours`, `stated_sides`: how often a caption states the colour of a thing, or which of two things is to
      the left or right of the other, on average; counted where the things are there, for `truth` judges that.
    - `true_colours`, `true_sides`: the share of these that is right, or 0 where none is stated. Of several things of a
      kind one has to fit.
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


def scene_colours(records: Sequence[Record]) -> list[frozenset[tuple[str, str]]] | None:
    """The (colour, label) pairs that each scene shows, from the annotations beside its images.

    None if a record is no image of a folder of `scenes.write_scenes`.
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
