"""Figures of notebook 02: what is drawn, and what is refused."""

from __future__ import annotations

import pytest
import torch
from lessons import nb02 as feature_plots
from matplotlib.figure import Figure

from helpers import plots
from helpers.data.records import Box

IMAGE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def texts(figure: Figure) -> str:
    """Every text of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def drawn(figure: Figure) -> bool:
    """Whether it becomes a picture."""
    return plots.to_png(figure).startswith(b"\x89PNG")


def test_kernels_stand_above_their_responses() -> None:
    kernels = {"edge": torch.tensor([[-1.0, 0.25], [0, 1]]), "zero": torch.zeros(2, 2)}
    figure = feature_plots.kernel_responses(IMAGE, kernels, [torch.randn(8, 8), torch.zeros(8, 8)])
    assert drawn(figure)
    assert {"edge", "zero", "-1", "0.25"} <= set(texts(figure).split("\n"))
    with pytest.raises(ValueError, match="2 kernels and 1 responses"):
        feature_plots.kernel_responses(IMAGE, kernels, [torch.zeros(8, 8)])


def test_receptive_field_marks_the_cell_and_names_the_fields() -> None:
    figure = feature_plots.receptive_field(
        IMAGE, torch.rand(32, 32), {"the cell": (8, 16, 8, 8)}, grid=(4, 4), cell=(2, 1)
    )
    assert drawn(figure)
    assert "the cell" in texts(figure)
    corner = next(patch for patch in figure.axes[0].patches).get_xy()
    assert corner == (7.5, 15.5)  # column 1, row 2 of cells of 8 pixels


def test_feature_maps_share_their_colours_along_a_row() -> None:
    maps = torch.rand(2, 3, 4, 4)
    maps[1, 2] *= 10
    boxes = [[[], [], []], [[Box("bird", 1, 2, 3, 4)], [], []]]
    figure = feature_plots.feature_maps(
        [IMAGE] * 3, maps, rows=["a", "b"], titles=["x", "y", "z"], boxes=boxes
    )
    assert drawn(figure)
    limits = [ax.images[1].get_clim() for ax in figure.axes[:6]]
    assert len(set(limits[:3])) == len(set(limits[3:])) == 1
    assert limits[3][1] == pytest.approx(float(maps[1].max()))
    assert sum(len(ax.patches) for ax in figure.axes[:6]) == 1
    with pytest.raises(ValueError, match=r"expected maps \(1, 3, h, w\)"):
        feature_plots.feature_maps([IMAGE] * 3, maps, rows=["a"])


def test_curve_panels_name_their_lines() -> None:
    x = torch.linspace(0, 1, 5)
    figure = feature_plots.curve_panels(
        {"one": {"a": x, "b": x**2}, "two": {"a": x}}, x, xlabel="x", ylabel="y"
    )
    assert drawn(figure) and {"one", "two"} <= set(texts(figure).split("\n"))
    assert [len(ax.lines) for ax in figure.axes] == [2, 1]
    with pytest.raises(ValueError, match="no curves"):
        feature_plots.curve_panels({}, x, xlabel="x", ylabel="y")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_grouped_bars_show_every_label_once(number: int) -> None:
    groups = {f"kind {k}": {f"label {k}{i}": 0.1 * i for i in range(4 - k)} for k in range(number)}
    figure = feature_plots.grouped_bars(
        groups, xlabel="AP", title="t", errors={"label 01": (0.0, 0.3)}, marked={"marked": ["label 02"]}
    )
    assert drawn(figure)
    shown = [tick.get_text() for ax in figure.axes for tick in ax.get_yticklabels()]
    assert sorted(shown) == sorted(label for labels in groups.values() for label in labels)
    assert {"marked", "other labels"} <= set(texts(figure).split("\n"))
    with pytest.raises(ValueError, match="no labels"):
        feature_plots.grouped_bars({}, xlabel="AP", title="t")
