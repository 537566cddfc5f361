"""What a model names in photographs and scenes: films of looks, titles, and what the view says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lessons import nb00
from PIL import Image
from reading import drawn

from helpers.data.labels import Vocabulary
from helpers.decoders.search import Decoded

pytest.importorskip("ipywidgets")
CHECKPOINT = SimpleNamespace(vocabulary=Vocabulary(("sea", "sun")))


@pytest.fixture
def named(monkeypatch):
    """What the model names from now on: `named(labels, probabilities)`, the same for every image."""

    def answer(labels, probabilities) -> None:
        one = SimpleNamespace(labels=labels, probabilities=probabilities)
        monkeypatch.setattr(nb00, "predict_images", lambda checkpoint, images: images)
        monkeypatch.setattr(nb00, "name_labels", lambda images, checkpoint: [one] * len(images))

    return answer


def decoded() -> Decoded:
    """ "sun", then stop; two steps over 2 x 2 cells."""
    attention = torch.tensor([[[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]])
    probability = torch.tensor([[0.9, 0.8]])
    values = {"tokens": torch.tensor([[1, 2]]), "lengths": torch.tensor([1]), "attention": attention}
    values |= {"step_probability": probability, "log_probability": probability.log().sum(1)}
    return Decoded(**values)


@pytest.mark.parametrize("size", [(60, 40), (30, 40)])
def test_a_film_has_the_image_and_a_panel_per_step(monkeypatch, size) -> None:
    monkeypatch.setattr(nb00, "predict_images", lambda checkpoint, images: SimpleNamespace(decoded=decoded()))
    figure = nb00.film(CHECKPOINT, Image.new("RGB", size, (90, 120, 200)))
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["image\n", "1. sun\n0.90", "2. <stop>\n0.80"] and drawn(figure)
    assert figure.get_figwidth() <= 9


@pytest.mark.parametrize(
    ("show", "labels", "said"),
    [
        (lambda: nb00.show_scenes(None, [3, 4]), ("sea", "sun"), "sea, sun; sea, sun."),
        (lambda: nb00.show_scenes(None, [3]), (), "(nothing)."),
        (lambda: nb00.show_odd_images(None), ("sun",), "sun 0.90; sun 0.90; sun 0.90."),
        (lambda: nb00.show_scene(None, 7), (), "Named 0, 0 of them right."),
    ],
)
def test_the_alt_text_says_what_was_named(monkeypatch, named, show, labels, said) -> None:
    shown = []
    monkeypatch.setattr(nb00, "show", lambda figure, alt: shown.append(alt))
    named(labels, (0.9, 0.4)[: len(labels)])
    show()
    assert len(shown) == 1 and said in shown[0]


def test_the_view_tells_right_wrong_and_missed(named, quick) -> None:
    scene = nb00.draw_scene(0, split="test", index=7, size=256)
    first, *others = scene.labels
    absent = next(name for name in ("boat", "sea", "sun", "moon") if name not in scene.labels)
    named((first, absent), (0.9, 0.4))
    view = nb00.scene_labeller(None)
    missed = f" Missed: {', '.join(others)}." if others else ""
    assert view.sentence.value == f"Named 2, 1 of them right. Wrong: {absent}.{missed}"
    view.children[0].children[1].click()
    assert view.controls["number"].value == (7 * 7 + 11) % 2000, "another scene"
