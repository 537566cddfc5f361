"""Maps graded against boxes: the geometry against counted pixels, the games against maps whose score is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from helpers.data.batches import Features
from helpers.data.images import Preprocessing, eval_transform
from helpers.data.labels import Vocabulary
from helpers.data.records import Box, Record
from helpers.decoders.search import Decoded
from helpers.metrics.localization import (
    Look,
    class_activation,
    coverage,
    grad_cam,
    grade,
    hits,
    looks_of,
    pointing,
)


def counted(boxes, image_size, grid_size, fine=12) -> torch.Tensor:
    """`coverage` by brute force: points in every cell, those in a box counted."""
    (width, height), (h, w) = image_size, grid_size
    y = (torch.arange(h * fine) + 0.5) / (h * fine) * height
    x = (torch.arange(w * fine) + 0.5) / (w * fine) * width
    inside = torch.zeros(len(y), len(x), dtype=torch.bool)
    for b in boxes:
        rows, columns = (y > b.y) & (y < b.y + b.height), (x > b.x) & (x < b.x + b.width)
        inside |= rows[:, None] & columns[None]
    return inside.view(h, fine, w, fine).float().mean((1, 3)).flatten()


box_strategy = st.builds(
    lambda x, y, width, height: Box("a", x, y, width, height),
    *[st.integers(0, 90)] * 2,
    *[st.integers(1, 60)] * 2,
)


@settings(max_examples=15)
@given(
    st.lists(box_strategy, min_size=0, max_size=4),
    st.tuples(st.integers(20, 120), st.integers(20, 120)),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_coverage_agrees_with_counted_points(boxes, image_size, grid_size) -> None:
    exact = coverage(boxes, image_size, grid_size)
    assert exact.dtype == torch.float32 and exact.shape == (grid_size[0] * grid_size[1],)
    # The pieces are exact, the points are not: a box's edge may miss a row of them in a cell.
    torch.testing.assert_close(exact, counted(boxes, image_size, grid_size, fine=30), atol=0.15, rtol=0)


def test_coverage_by_hand_on_an_image_that_is_not_square() -> None:
    # 200 x 100 pixels under 2 x 4 cells of 50 x 50. The box takes a quarter of cell (0, 1), half of (0, 2).
    box = Box("a", 75, 25, 75, 25)
    for boxes in ([box], [box, box]):  # an area counts once
        assert coverage(boxes, (200, 100), (2, 4)).tolist() == [0, 0.25, 0.5, 0, 0, 0, 0, 0]
    assert coverage([Box("a", -10, -10, 500, 500)], (200, 100), (2, 4)).tolist() == [1.0] * 8
    assert coverage([], (200, 100), (2, 4)).tolist() == [0.0] * 8


@pytest.mark.parametrize(
    ("box", "tolerance", "expected"),
    [
        ((10, 10, 20, 20), 0.5, [1, 0, 0, 0]),  # within cell (0, 0) of 40 x 40, and around its centre
        ((30, 30, 8, 8), 0.5, [1, 0, 0, 0]),  # within the same cell, away from its centre
        ((30, 30, 8, 8), 0, [0, 0, 0, 0]),
        ((20, 20, 20, 20), 0.5, [1, 0, 0, 0]),  # meets the other cells only along its edges
        ((39, 39, 2, 2), 0.5, [1, 1, 1, 1]),  # a corner of all four
    ],
)
def test_tolerance_decides_which_cells_are_hits(box, tolerance, expected) -> None:
    assert hits([Box("a", *box)], (80, 80), (2, 2), tolerance=tolerance).tolist() == expected


@settings(max_examples=15)
@given(
    box_strategy, st.tuples(st.integers(20, 120), st.integers(20, 120)), st.tuples(*[st.integers(1, 7)] * 2)
)
def test_a_cell_is_hit_exactly_when_a_box_covers_some_of_it(box, image_size, grid_size) -> None:
    covered = coverage([box], image_size, grid_size)
    hit = hits([box], image_size, grid_size)
    assert bool((covered[~hit] < 1e-4).all())
    assert bool((hit[covered > 1e-6]).all())


@pytest.mark.parametrize(("size", "grid"), [((64, 64), 4), ((200, 80), 7), ((50, 170), 8), ((33, 47), 4)])
def test_a_planted_thing_is_found_in_its_cell_after_the_real_preprocessing(size, grid) -> None:
    """A white square on black goes through the real transform; the brightest cell must be a hit of its box."""
    generator = torch.Generator().manual_seed(size[0] * grid)
    for _ in range(6):
        width, height = size
        box_width, box_height = 1.4 * width / grid, 1.4 * height / grid
        x = float(torch.rand((), generator=generator)) * (width - box_width)
        y = float(torch.rand((), generator=generator)) * (height - box_height)
        image = Image.new("RGB", size, "black")
        corners = [round(v) for v in (x, y, x + box_width, y + box_height)]
        image.paste("white", corners)
        box = Box("a", corners[0], corners[1], corners[2] - corners[0], corners[3] - corners[1])
        pixels = eval_transform(Preprocessing(size=16 * grid))(image).mean(0)  # (S, S)
        cells = pixels.view(grid, 16, grid, 16).mean((1, 3)).flatten()  # (h, 16, w, 16) -> (L,)
        assert pointing(cells, hits([box], size, (grid, grid))) == 1.0
        # The brightness of the cells is the coverage, which is more than being near.
        share = (cells - cells.min()) / (2.64 - float(pixels.min()))
        covered = coverage([box], size, (grid, grid))
        assert float((share / share.sum() - covered / covered.sum()).abs().max()) < 0.08


# --- the games -------------------------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """A wide and a high image; `sun` in the left half of the first, `night` nowhere."""
    for name, size in (("0.png", (80, 40)), ("1.png", (40, 80))):
        Image.new("RGB", size).save(tmp_path / name)
    return [
        Record(tmp_path / "0.png", ("sun", "night"), (Box("sun", 0, 0, 40, 40), Box("dog", 60, 0, 20, 40))),
        Record(tmp_path / "1.png", ("dog",), (Box("dog", 0, 60, 20, 20), Box("dog", 20, 0, 20, 20))),
    ]


def one_cell(index: int, cells: int = 16) -> torch.Tensor:
    return torch.eye(cells)[index]


def test_a_grading_by_hand(records) -> None:
    looks = [
        Look(0, "sun", one_cell(0)),  # in the box
        Look(0, "sun", one_cell(15)),  # outside
        Look(0, "night", one_cell(3)),  # has no box
        Look(0, "dog", one_cell(3)),  # has a box, but the image is not labelled dog
        Look(1, "dog", torch.tensor([0.0] * 3 + [0.75] + [0.0] * 8 + [0.25] + [0.0] * 3)),  # one of each box
        Look(1, "cat", one_cell(0)),
    ]
    found = grade(looks, records, (4, 4))
    assert found.labels["sun"] == (2, 0.5, 0.5, 0.5, 0.5)
    assert found.labels["dog"] == (1, 1.0, 0.25, 1.0, 0.25)
    assert list(found.labels) == ["sun", "dog"]  # most looks first
    assert found.all.looks == 3 and found.all.pointing == pytest.approx(2 / 3)
    assert found.placeless == {"night": 1} and found.wrong == {"dog": 1, "cat": 1}
    assert found.labels["sun"].error == pytest.approx(0.125**0.5)


def test_a_map_that_says_nothing_scores_what_chance_does(records) -> None:
    looks = [
        Look(i, label, torch.full((35,), 1 / 35))
        for i, r in enumerate(records)
        for label in r.labels
        if label != "night"
    ]
    found = grade(looks, records, (5, 7))
    for each in (found.all, *found.labels.values()):
        assert each.pointing == pytest.approx(each.pointing_chance)
        assert each.mass == pytest.approx(each.mass_chance)


def test_a_map_of_zeros_scores_what_chance_does(records) -> None:
    each = grade([Look(0, "sun", torch.zeros(16))], records, (4, 4)).all
    assert each.mass == each.mass_chance == each.pointing == 0.5


def test_scale_does_not_matter_and_rows_are_not_columns(records) -> None:
    weights = torch.rand(16)
    a, b = (grade([Look(1, "dog", weights * k)], records, (4, 4)).all for k in (1, 100))
    assert a == pytest.approx(b)
    # The dog's boxes are at the left below and at the right above: a transposed map must lose.
    above = grade([Look(1, "dog", one_cell(3))], records, (4, 4)).all.pointing
    transposed = grade([Look(1, "dog", one_cell(3).view(4, 4).flip(1).flatten())], records, (4, 4))
    assert (above, transposed.all.pointing) == (1.0, 0.0)


@pytest.mark.parametrize("weights", [torch.ones(9), -torch.ones(16), torch.full((16,), torch.nan)])
def test_maps_that_are_no_maps_are_refused(records, weights) -> None:
    with pytest.raises(ValueError, match="4 x 4 numbers of at least 0"):
        grade([Look(0, "sun", weights)], records, (4, 4))


def test_nothing_to_grade_is_no_number(records) -> None:
    found = grade([], records, (4, 4))
    assert found.all.looks == 0 and found.all.pointing != found.all.pointing and not found.labels


def test_looks_are_the_named_labels_without_stop() -> None:
    vocabulary = Vocabulary(("a", "b", "c"))
    attention = torch.rand(2, 3, 4).softmax(-1)
    decoded = Decoded(
        torch.tensor([[2, 0, 3], [3, 3, 3]]),
        torch.tensor([2, 0]),
        torch.zeros(2),
        torch.zeros(2, 3),
        attention,
    )
    looks = looks_of(decoded, vocabulary)
    assert [(look.image, look.label) for look in looks] == [(0, "c"), (0, "a")]
    assert torch.equal(looks[1].weights, attention[0, 1])
    with pytest.raises(ValueError, match="no attention"):
        looks_of(replace(decoded, attention=None), vocabulary)


# --- CAM and Grad-CAM ------------------------------------------------------------------------------------------------


def test_cam_is_what_each_cell_adds_to_the_score() -> None:
    head = nn.Linear(6, 3)
    grid, labels = torch.randn(4, 10, 6), torch.tensor([0, 2, 1, 1])
    cam = class_activation(head.weight, grid, labels)
    score = head(grid.mean(1)).gather(1, labels[:, None]).squeeze(1)
    torch.testing.assert_close(cam.mean(1) + head.bias[labels], score)


def test_grad_cam_of_a_linear_head_is_cam() -> None:
    head = nn.Linear(6, 3)
    grid, labels = torch.randn(4, 10, 6), torch.tensor([0, 2, 1, 1])
    found = grad_cam(lambda features: head(features.pooled), grid, labels)
    torch.testing.assert_close(found, class_activation(head.weight, grid, labels).relu() / 10)
    assert bool((found > 0).any()) and bool((found == 0).any())


def test_grad_cam_of_any_head_is_its_definition() -> None:
    """Against finite differences, cell by cell, with a head that is neither linear nor a mean."""

    def logits(features: Features) -> torch.Tensor:
        return torch.tanh(features.grid).square().amax(1) @ torch.ones(3, 2).double() * features.pooled[:, :2]

    grid, labels = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([1, 0])
    gradient = torch.zeros_like(grid)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in grid.shape)).tolist():
        moved = []
        for step in (1e-6, -1e-6):
            other = grid.clone()
            other[tuple(index)] += step
            moved.append(logits(Features(other.mean(1), other))[index[0], labels[index[0]]])
        gradient[tuple(index)] = (moved[0] - moved[1]) / 2e-6
    expected = (grid * gradient.mean(1, keepdim=True)).sum(2).relu()
    torch.testing.assert_close(grad_cam(logits, grid, labels), expected, atol=1e-6, rtol=1e-5)


def test_grad_cam_works_inside_inference_mode_and_leaves_no_gradient() -> None:
    head = nn.Linear(6, 3)
    with torch.inference_mode():
        grid = torch.randn(2, 4, 6)
        found = grad_cam(lambda features: head(features.pooled), grid, torch.tensor([0, 1]))
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in head.parameters())
