"""Spotlights, tests of maps, and views: values are set as a reader would set them, and what they say is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data.batches import Features
from helpers.data.files import DATA
from helpers.data.images import Preprocessing
from helpers.data.labels import Vocabulary
from helpers.data.records import Box, Record
from helpers.decoders.search import Decoded, greedy, trace
from helpers.systems.registry import build
from helpers.training.checkpoints import load_checkpoint

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


@pytest.mark.parametrize("name", ["attention_stepper", "attention_painter"])
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


def test_a_spotlight_shows_what_is_attended_and_fades_the_rest() -> None:
    _, axes = views.new_figure(size=(3, 3))
    image = Image.new("RGB", (40, 30), (200, 0, 0))
    views.draw_spotlight(axes[0, 0], image, torch.eye(12)[5], GRID, boxes=[Box("cat", 2, 2, 9, 9)])
    shown = axes[0, 0].images[0].get_array()  # (30, 40, 3)
    inside = shown[10:20, 10:20]  # cell 5: row 2, column 2 of 3 x 4
    assert inside[..., 0].min() > 0.78 and inside[..., 1:].max() == 0, "in colour"
    shown[10:20, 10:20] = shown[0, 0]
    assert (shown == shown[0, 0]).all() and float(np.ptp(shown[0, 0])) == 0, "one grey elsewhere"
    assert len(axes[0, 0].patches) == 2, "the box has a white and a black outline"


def test_the_scale_of_spotlights_marks_equal_weights() -> None:
    figure, axes = views.new_figure(size=(3, 3))
    views.spotlight_bar(figure, [axes[0, 0]], GRID)
    assert [tick.get_text() for tick in figure.axes[1].get_yticklabels()] == ["0", "1/12", "0.25"]


def test_what_is_hidden_is_a_rectangle_around_a_place() -> None:
    covered = views.hidden(
        torch.ones(3, 8, 8), (0.5, 0.0), (0.5, 0.5)
    )  # half of the height, cut off at the left
    assert (covered == 0).nonzero()[:, 1:].unique(dim=0).tolist() == [
        [y, x] for y in range(2, 6) for x in range(2)
    ]


@pytest.fixture
def seen(system, features) -> views.Seen:
    """The features of the three images, with an encoder that sees the mean colour of 3 x 4 parts."""

    def encoder(images):
        grid = torch.nn.functional.adaptive_avg_pool2d(images, GRID).flatten(2).transpose(1, 2)  # (B, 12, 3)
        grid = torch.cat([grid, grid, grid[..., :2]], 2)
        return Features(grid.mean(1), grid)

    encoder.grid_size, encoder.preprocessing = GRID, Preprocessing(24, (0.5,) * 3, (0.5,) * 3)
    return views.Seen(encoder, (), features, torch.zeros(3, 5, dtype=torch.bool))


@pytest.fixture
def data(system, records):
    return SimpleNamespace(vocabulary=system.vocabulary, test=records)


def test_only_the_cells_of_a_hidden_thing_change_where_cells_are_local(seen, records) -> None:
    Image.new("RGB", (40, 30), (250, 0, 0)).save(records[2].path)
    changes = views.cell_changes(records[2], "dog", seen.encoder)
    assert changes.view(GRID)[:, 2:].sum() == 0 and float(changes[0]) > 0
    torch.testing.assert_close(float(changes.sum()), 1.0)


def test_what_is_forgotten_is_a_share_per_hidden_piece(system, seen, data) -> None:
    decoded = views.decode(system, seen)
    dogs = decoded.tokens.clone().index_fill_(1, torch.tensor([0]), 2)  # it names a dog in every image
    decoded = replace(decoded, tokens=dogs, lengths=torch.ones(3, dtype=torch.int64))
    shares = views.forgotten(system, seen, data, decoded, every=1)
    assert list(shares) == ["hide anywhere", "hide where it looks", "hide its box"]
    assert all(0 <= share <= 1 for share in shares.values())


def test_grad_cam_has_a_map_for_each_named_label(system, seen, data) -> None:
    decoded = views.decode(system, seen)
    looks = views.grad_cam_looks(system, seen, data, decoded)
    named = {(i, name) for i in range(3) for name in said(system, seen.test, i) if name != "<stop>"}
    assert {(look.image, look.label) for look in looks} == named
    assert all(look.weights.shape == (12,) and float(look.weights.min()) >= 0 for look in looks)


def test_the_sentinel_is_averaged_by_kind_of_label() -> None:
    vocabulary = Vocabulary(("dog", "holding", "night"))
    attention = torch.full((1, 4, 2), 0.5)
    attention[0, 1] *= 0.6
    attention[0, 2] *= 0.2
    decoded = Decoded(torch.tensor([[0, 1, 2, 3]]), torch.tensor([3]), None, None, attention)
    record = Record(Path("a.png"), ("dog", "holding", "night"))
    found = views.sentinel_by_kind(decoded, SimpleNamespace(vocabulary=vocabulary, test=[record]))
    assert found == pytest.approx([0, 0.4, 0.8])


def test_photographs_are_graded_as_on_the_card_of_their_model() -> None:
    rows = views.grade_photographs(load_checkpoint(DATA / "photo_attention.safetensors"))
    looks, pointing, chance, *_ = rows["all"]
    assert (
        f"| shipped, all 20 | {looks} | {pointing:.2f} | {chance:.2f} |"
        in (DATA / "photo_attention.md").read_text()
    )
