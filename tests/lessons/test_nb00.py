"""Scenes labelled on the spot: the view says what the model names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lessons import nb00

pytest.importorskip("ipywidgets")


def test_the_view_tells_right_wrong_and_missed(monkeypatch, quick) -> None:
    scene = nb00.draw_scene(0, split="test", index=7, size=256)
    first, *others = scene.labels
    absent = next(name for name in ("boat", "sea", "sun", "moon") if name not in scene.labels)
    named = SimpleNamespace(labels=(first, absent), probabilities=(0.9, 0.4))
    monkeypatch.setattr(nb00, "predict_images", lambda checkpoint, images: None)
    monkeypatch.setattr(nb00, "name_labels", lambda prediction, checkpoint: [named])
    view = nb00.scene_labeller(None)
    missed = f" Missed: {', '.join(others)}." if others else ""
    assert view.sentence.value == f"Named 2, 1 of them right. Wrong: {absent}.{missed}"
    view.children[0].children[1].click()
    assert view.controls["number"].value == (7 * 7 + 11) % 2000, "another scene"
