"""Faults of captions are found, repainted captions are false, and the view of a captioner follows its controls."""

from __future__ import annotations

import pytest
import torch
from lessons.nb09 import (
    all_colours,
    faults,
    repaint,
    sentences_figure,
    sentences_of,
    sentences_view,
    show_exposure,
    show_film,
    show_mosaics,
    show_photographs,
    show_reference,
    show_truth,
    verdict,
)

from helpers.data.batches import Features
from helpers.data.readers import read_coco
from helpers.data.records import Box, Record
from helpers.data.words import word_vocabulary
from helpers.metrics.captions import scene_colours
from helpers.scenes.captions import mentioned_colours
from helpers.scenes.content import COLOURS
from helpers.scenes.write import write_scenes
from helpers.systems.captioner import Decoding
from helpers.systems.registry import build

D = 6


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory):
    folder = write_scenes(
        tmp_path_factory.mktemp("s") / "scenes", train=3, val=0, test=0, size=48, progress=False
    )
    files = (folder / "instances_train.json", folder / "images" / "train", folder / "captions_train.json")
    return read_coco(*files).records


@pytest.fixture
def system(records):
    words = word_vocabulary([text for record in records for text in record.captions], min_count=1)
    small = {"hidden_size": 8, "attention_size": 4, "embedding_size": 4}
    return build("attention_captioner", words, D, max_labels=7, **small).eval()


@pytest.fixture
def features() -> Features:
    grid = torch.randn(3, 4, D)
    return Features(grid.mean(1), grid)


BLACK_DOG = frozenset({("black", "dog")})


@pytest.fixture
def dog(tmp_path) -> Record:
    boxes = (Box("dog", 10, 10, 20, 20), Box("tree", 60, 10, 20, 20))
    return Record(tmp_path / "a.png", ("dog", "tree"), boxes=boxes)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A black dog to the left of a tree.", []),
        ("A black dog and a cat.", ["no cat"]),
        ("A white dog and a tree.", ["dog not white"]),
        ("Two dogs and a tree.", ["not two dogs"]),
        ("A black dog to the right of a tree.", ["other side"]),
    ],
)
def test_faults_of_a_caption_are_named(dog, text, found) -> None:
    assert faults(text, dog, BLACK_DOG) == found
    assert verdict(text, dog, BLACK_DOG) == text + "\n" + ("✗ " + found[0] if found else "✓")


def test_the_captions_of_scenes_have_no_fault_until_they_are_repainted(records) -> None:
    shown = scene_colours(records)
    for record, of in zip(records, shown, strict=True):
        for text in record.captions:
            assert not faults(text, record, of)
            painted = repaint(text, of, {kind: list(colours) for kind, colours in COLOURS.items()})
            assert bool(faults(painted, record, of)) == bool(mentioned_colours(text))
    assert set(all_colours(shown)) == {kind for of in shown for _, kind in of}


def test_every_colour_is_repainted() -> None:
    text = "A person in red and a house with a red roof and a red hot-air balloon and a black dog."
    kinds = {
        "person": ["blue", "red"],
        "house": ["red", "brown"],
        "balloon": ["red", "green"],
        "dog": ["black", "tan"],
    }
    expected = "A person in blue and a house with a brown roof and a green hot-air balloon and a tan dog."
    assert repaint(text, frozenset(), kinds) == expected


def test_figures_and_tables_are_shown(system, records, features, capsys) -> None:
    show_photographs([565778, 41888])
    show_mosaics(records[:2], torch.rand(2, 4, 27), (2, 2))
    with torch.inference_mode():
        decoded = system.decode(features)
    show_film(records[0], decoded, system.vocabulary.labels, (2, 2), 0)
    show_exposure(torch.rand(3, 8), torch.rand(3, 8))
    show_reference()
    show_truth({"theirs": [record.captions[0] for record in records]}, records, scene_colours(records))
    printed = capsys.readouterr().out
    assert "Markdown" in printed


def test_sentences_are_those_of_the_searches(system, features) -> None:
    one = features.select(torch.tensor([1]))
    found = sentences_of(system, one, width=4, temperature=0.0)
    assert len(found) == 4 and [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    system.decoding = Decoding(beam=4)
    with torch.inference_mode():
        assert system.sentences(system.decode(one)) == [found[0][0]]
    drawn = sentences_of(system, one, width=4, temperature=1.5, seed=2)
    assert drawn == sentences_of(system, one, width=4, temperature=1.5, seed=2)
    assert drawn != sentences_of(system, one, width=4, temperature=1.5, seed=3)


def test_the_figure_has_image_sentences_and_true_captions(system, records, features) -> None:
    figure, text = sentences_figure(system, records, features, image=2, width=3)
    written = " ".join(t.get_text() for ax in figure.axes for t in ax.texts).replace("\n", " ")
    assert "a beam of 3" in text and text.startswith("Image 3")
    assert "log-probability of the sentence" in written
    assert all(caption in " ".join(written.split()) for caption in records[2].captions)


def test_drawn_sentences_have_the_log_probability_of_the_draw(system, records, features) -> None:
    figure, text = sentences_figure(system, records, features, image=2, width=3, temperature=1.5)
    written = " ".join(t.get_text() for ax in figure.axes for t in ax.texts)
    assert "3 drawn at temperature 1.5" in text and "log-probability of the draw" in written


def test_the_view_follows_its_controls(system, records, features) -> None:
    pytest.importorskip("ipywidgets")
    view = sentences_view(system, records, features)
    before = view.picture.value
    assert "Image 1, a beam of 3" in view.sentence.value
    view.controls["temperature"].value = 1.0
    assert "3 drawn at temperature 1" in view.sentence.value and view.picture.value != before
    view.controls["image"].value, view.controls["width"].value = 2, 1
    assert "Image 2, 1 drawn" in view.sentence.value
    assert not view.sentence.value.startswith("<b>")
