"""The view of a captioner shows what the searches find, and follows its controls."""

from __future__ import annotations

import pytest
import torch
from lessons.nb09 import sentences_figure, sentences_of, sentences_view

from helpers.data.batches import Features
from helpers.data.readers import read_coco
from helpers.data.words import word_vocabulary
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
