"""The targets of a batch over time: labels keep their colours, and an animation has every picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from lessons import nb05 as af
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from helpers.plots import DPI

IMAGES = [np.full((8, 8, 3), 200, dtype=np.uint8)] * 2
EARLY = [[("sun", 0.1), ("tree", 0.2)], [("dog", 0.05)]]
LATE = [[("tree", 0.9), ("sun", 0.8)], [("dog", 1.0)]]


def boxes(axes) -> list[tuple[str, tuple[float, ...]]]:
    """The texts from step 1 down and the outlines of their boxes."""
    patches = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    return [(text.get_text(), p.get_edgecolor()) for text, p in zip(axes.texts, patches, strict=True)]


def test_a_label_keeps_its_colour_when_it_moves() -> None:
    figure = af.alignment_strip(IMAGES, {"epoch 1": EARLY, "epoch 9": LATE})
    first, second = (boxes(figure.axes[k]) for k in (1, 2))
    assert [name for name, _ in first] == ["sun 0.10", "tree 0.20"]
    assert [name for name, _ in second] == ["tree 0.90", "sun 0.80"]
    assert first[0][1] == second[1][1] != first[1][1] == second[0][1]


def test_the_more_probable_the_fuller() -> None:
    axes = [af.alignment_strip(IMAGES, {"a": stacks}).axes[3] for stacks in (EARLY, LATE)]  # the dog's
    pale, full = (sum(ax.patches[0].get_facecolor()[:3]) for ax in axes)
    assert pale > full


def test_every_image_needs_its_targets() -> None:
    with pytest.raises(ValueError, match="each of 2 images"):
        af.alignment_strip(IMAGES, {"epoch 1": EARLY[:1]})
    with pytest.raises(ValueError, match="at least one"):
        af.alignment_strip([], {"epoch 1": []})


def test_an_animation_has_every_picture_and_ends() -> None:
    names = [["sun", "tree"], ["dog"]]
    drawn = [
        af.alignment_frame(IMAGES, stacks, names=names, title=f"epoch {e}")
        for e, stacks in enumerate((EARLY, LATE))
    ]
    gif = af.to_gif(drawn, seconds=0.3, last=1.0, loops=2)
    picture = Image.open(io.BytesIO(gif))
    assert picture.format == "GIF" and picture.n_frames == 2 and picture.info["loop"] == 1
    durations, shots = [], []
    for k in range(2):
        picture.seek(k)
        durations.append(picture.info["duration"])
        shots.append(np.asarray(picture.convert("RGB")).astype(int))
    assert durations == [300, 1000]
    assert np.abs(shots[0] - shots[1]).max() > 50, "the targets have moved"
    # The colours of the last picture are those that were drawn, and white stays white.
    figure = af.alignment_frame(IMAGES, LATE, names=names, title="epoch 1")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=0.75 * DPI)
    wanted = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    assert np.abs(wanted - shots[1]).max() < 40 and shots[1][0, 0].tolist() == [255, 255, 255]
    with pytest.raises(ValueError, match="at least one figure"):
        af.to_gif([])


def test_an_animation_needs_words_for_those_who_cannot_see_it(monkeypatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", lambda data, **options: shown.append((data, options)))
    with pytest.raises(ValueError, match="alt is empty"):
        af.show_gif(b"GIF89a", alt=" ")
    af.show_gif(b"GIF89a", alt="boxes move")
    ((data, options),) = shown
    assert data == {"image/gif": b"GIF89a", "text/plain": "boxes move"}
    assert options["metadata"] == {"image/gif": {"alt": "boxes move"}}
