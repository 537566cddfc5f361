"""Views of an attention decoder: their values are set as a reader would set them, and what they say is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.data.records import Box, Record
from helpers.decoders.search import greedy, trace
from helpers.systems.registry import build

ipywidgets = pytest.importorskip("ipywidgets")
views = pytest.importorskip("lessons.nb04")
GRID = (3, 4)


@pytest.fixture
def system(request: pytest.FixtureRequest):
    """A small decoder with random weights, large enough to name several labels and to depend on its attention."""
    torch.manual_seed(3)
    system = build(
        "attention",
        Vocabulary(("bird", "cat", "dog", "elk", "fox")), 8, max_labels=4, hidden_size=6, attention_size=4,
        embedding_size=3, look=getattr(request, "param", "after"),
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in system.decoder.named_parameters():
            if name.startswith(("from_", "scores")):
                parameter.mul_(4)
        system.decoder.scores.bias[5] = -2.0  # not at once <stop>
    return system.eval()


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    found = []
    for i, labels in enumerate((("bird", "cat"), (), ("dog",))):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (40, 30), (60 * i, 90, 90)).save(path)
        found.append(Record(path, labels, tuple(Box(name, 2, 2, 9, 9) for name in labels)))
    return found


@pytest.fixture
def features() -> Features:
    grid = torch.randn(3, 12, 8)
    return Features(grid.mean(1), grid)


def said(system, features, image: int) -> list[str]:
    """What greedy search says of an image, `<stop>` included."""
    decoded = greedy(system.decoder, system.prepare(features.select(torch.tensor([image]))), max_steps=5)
    return system.vocabulary.decode(decoded.tokens[0])


@pytest.mark.parametrize("system", ["before", "after"], indirect=True)
def test_the_stepper_says_what_greedy_search_does_at_each_step(system, records, features, quick) -> None:
    view = views.attention_stepper(views.Examples(system, records, features, GRID))
    expected = said(system, features, 0)
    assert len(expected) > 2, "the fixture should name labels"
    pictures = set()
    for t, name in enumerate(expected, start=1):
        view.controls["step"].value = t
        assert view.sentence.value.startswith(
            f"Step {t} of {len(expected)}: {name.replace('<', '&lt;').replace('>', '&gt;')}"
        )
        pictures.add(view.picture.value)
    assert len(pictures) == len(expected)
    assert ("the mean of the gate is 0." in view.sentence.value) == (system.options.look == "before")


@pytest.mark.parametrize("name", ["attention_stepper", "forcing_explorer", "attention_painter"])
def test_views_draw_for_real(system, records, features, name) -> None:
    view = getattr(views, name)(views.Examples(system, records, features, GRID))
    picture = bytes(view.picture.value)
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000


def test_play_and_slider_move_together_and_a_new_image_starts_again(system, records, features, quick) -> None:
    view = views.attention_stepper(views.Examples(system, records, features, GRID))
    play = view.children[1].children[0]
    assert isinstance(play, ipywidgets.Play)
    play.value = 2
    assert view.controls["step"].value == 2 and view.sentence.value.startswith("Step 2")
    view.controls["image"].value = 3
    assert play.value == view.controls["step"].value == 1
    length = len(said(system, features, 2))
    assert play.max == view.controls["step"].max == length
    assert view.sentence.value.startswith(f"Step 1 of {length}")


def test_a_step_after_the_last_shows_the_last(system, records, features) -> None:
    length = len(said(system, features, 0))
    text = views.attention_step_figure(views.Examples(system, records, features, GRID), image=0, step=50)[1]
    assert text.startswith(f"Step {length} of {length}")


def test_forcing_shows_both_and_follows_the_choice(system, records, features, quick) -> None:
    frequency = torch.tensor([9, 2, 3, 1, 1])
    view = views.forcing_explorer(views.Examples(system, records, features, GRID), frequency=frequency)
    free = f"Free running it says {', '.join(said(system, features, 0))}. Fed ".replace("<", "&lt;").replace(
        ">", "&gt;"
    )
    assert view.sentence.value.startswith(free + "&lt;start&gt;, cat, bird, it says")
    view.controls["order"].value = "frequent-first"
    assert "&lt;start&gt;, bird, cat, it says" in view.sentence.value
    before = view.picture.value
    view.controls["first"].value = "elk"
    assert view.sentence.value.startswith(free) and "&lt;start&gt;, elk, bird, cat, it" in view.sentence.value
    assert view.picture.value != before
    view.controls["image"].value = 2  # without labels
    view.controls["first"].value = None
    assert "Fed &lt;start&gt;, it says" in view.sentence.value
    unordered = views.forcing_explorer(views.Examples(system, records, features, GRID))
    assert set(unordered.controls["order"].options) == {"alphabetical", "given"}


def test_painting_changes_the_next_label_as_the_decoder_says(system, records, features, quick) -> None:
    view = views.attention_painter(views.Examples(system, records, features, GRID))
    view.controls["step"].value = 2
    texts = set()
    for row in (1, 2, 3):
        view.controls["rows"].value = (row, row)
        view.controls["columns"].value = (2, 2)
        texts.add(view.sentence.value)
    assert len(texts) == 3
    painted = torch.eye(12)[2 * 4 + 1]  # row 3, column 2
    one = system.prepare(features.select(torch.tensor([0])))
    first = system.vocabulary.encode(said(system, features, 0)[:1])
    found = trace(system.decoder, one, max_steps=1, given=first, attention={1: painted})
    name, p = system.vocabulary.decode([int(found.tokens[1])])[0], float(found.probability[1].max())
    assert f"with the painted attention {name} ({p:.2f})" in view.sentence.value


@pytest.mark.parametrize(
    ("rows", "columns"), [((0, 1), (1, 1)), ((1, 4), (1, 1)), ((1, 1), (3, 2)), ((1, 1), (5, 5))]
)
def test_cells_off_the_grid_are_refused(system, records, features, rows, columns) -> None:
    with pytest.raises(ValueError, match="grid of 3 x 4 cells"):
        views.painted_figure(views.Examples(system, records, features, GRID), rows=rows, columns=columns)
