"""The tree that a beam search leaves, comparisons of systems, tables: the winner of a tree is that of `beam`."""

from __future__ import annotations

import html
import math

import pytest
import torch
from lessons import nb07 as lesson
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scripted import Scripted, features, log_table

from helpers import plots
from helpers.data.batches import Features
from helpers.data.labels import Vocabulary
from helpers.decoders.base import Decoder, State
from helpers.decoders.beam import beam
from helpers.decoders.search import greedy
from helpers.metrics.intervals import Interval
from helpers.systems.registry import build
from helpers.training.report import calibration

pytest.importorskip("ipywidgets")
NAMES = ["ant", "bee", "cat", "<stop>", "<start>"]


@pytest.fixture(scope="module", params=["ria", "cnn_rnn", "attention"])
def decoder_and_features(request):
    """A decoder that is sure of something, and features of six images."""
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "embedding_size": 12}
    system = build(request.param, Vocabulary(("ant", "bee", "cat")), 5, max_labels=3, **sizes).eval()
    with torch.no_grad():
        for parameter in system.decoder.parameters():
            parameter.mul_(3)
    grid = torch.randn(6, 4, 5)
    return system.decoder, Features(grid.mean(1), grid)


@pytest.mark.parametrize("width", [1, 2, 4, 40])
def test_the_winner_is_that_of_the_beam(decoder_and_features, width: int) -> None:
    decoder, some = decoder_and_features
    wanted = beam(decoder, some, width=width, max_steps=4, only_best=True).best()
    alone = greedy(decoder, some, max_steps=4)
    for k in range(len(some.pooled)):
        tree = lesson.grow(decoder, some.select(torch.tensor([k])), width=width, max_steps=4)
        found = tree.tokens(tree.path(tree.best))
        assert found == wanted.tokens[k, : len(found)].tolist()
        assert tree.branches[tree.best].log_probability == pytest.approx(
            float(wanted.log_probability[k]), abs=1e-4
        )
        assert tree.tokens(tree.greedy) == alone.tokens[k, : len(tree.greedy)].tolist()
        last = tree.branches[tree.greedy[-1]]
        assert last.log_probability == pytest.approx(float(alone.log_probability[k]), abs=1e-4)
        assert (tree.parting is None) == (tree.tokens(tree.greedy) == found)
        if width == 1:
            assert tree.parting is None and tree.given_up is None


def test_a_tree_is_consistent(decoder_and_features) -> None:
    decoder, some = decoder_and_features
    tree = lesson.grow(decoder, some.select(torch.tensor([1])), width=3, max_steps=4, others=1)
    for place, branch in enumerate(tree.branches):
        if place == lesson.ROOT:
            continue
        parent = tree.branches[branch.parent]
        assert branch.parent < place and branch.step == parent.step + 1
        assert parent.fate == "live" or branch.fate == "alone"
        assert branch.log_probability == pytest.approx(
            parent.log_probability + math.log(branch.probability), abs=1e-4
        )
        tokens = tree.tokens(tree.path(place))
        assert len(set(tokens)) == len(tokens), "no label twice"
    for step in range(1, 5):
        kept = [b for b in tree.branches if b.step == step and b.fate in ("live", "ended", "hopeless")]
        cut = [b for b in tree.branches if b.step == step and b.fate == "cut"]
        assert len(kept) <= 3
        if kept and cut:
            assert min(b.log_probability for b in kept) >= max(b.log_probability for b in cut)


def test_where_greedy_search_is_given_up() -> None:
    """Label 0 looks best at first, and nothing good follows; the beam leaves it at step 2."""
    tree = lesson.grow(Maze(), features(1), width=2, max_steps=3)
    assert tree.tokens(tree.greedy) == [0, 1, 3] and tree.tokens(tree.path(tree.best)) == [1, 3]
    assert tree.parting == 1
    assert tree.given_up is not None and tree.given_up.fate == "hopeless" and tree.given_up.step == 2
    assert [tree.branches[i].fate for i in tree.greedy] == ["live", "hopeless", "alone"]
    assert math.exp(tree.branches[tree.best].log_probability) == pytest.approx(0.4 * 0.9, abs=1e-4)


class Maze(Decoder):
    """Three labels and `<stop>` (3); what is said next depends on the last label alone."""

    def __init__(self) -> None:
        super().__init__(3)
        self.after = torch.tensor(
            [
                [0.0, 0.34, 0.33, 0.33],
                [0.05, 0.0, 0.05, 0.9],
                [0.3, 0.3, 0.0, 0.4],
                [0, 0, 0, 1.0],
                [0.6, 0.4, 0.0, 0.0],
            ]
        ).log()

    def start(self, features: Features) -> State:
        return State((torch.zeros(len(features.pooled)),))

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State, None]:
        return self.after[tokens], state, None


def test_only_one_image_and_a_possible_width() -> None:
    decoder = Scripted(log_table([[0.5, 0.5]], [[0.5, 0.5]]))
    with pytest.raises(ValueError, match="one image"):
        lesson.grow(decoder, features(2), width=2, max_steps=2)
    with pytest.raises(ValueError, match="width is 0"):
        lesson.grow(decoder, features(1), width=0, max_steps=2)


def test_the_tree_has_every_branch() -> None:
    found = lesson.grow(Maze(), Features(torch.zeros(1, 1)), width=2, max_steps=3)
    figure = lesson.tree(found, NAMES, true=["ant"], title="a tree")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert len(words) == len(found.branches) + 3, "a box a branch, and the steps"
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"goes on", "given up", "greedy search, after the beam left it"} <= legend, (
        "every kind of box is named"
    )
    assert "<start>" in words and "bee ✗  0.40" in words and "ant  0.60" in words and "<stop>  0.36" in words
    places = [text.get_position() for text in figure.axes[0].texts]
    assert len(set(places)) == len(places), "no box hides another"
    plots.to_png(figure)
    FigureCanvasAgg(figure).draw()
    around = figure.legends[0].get_window_extent()
    assert around.x0 >= 0 and around.x1 <= figure.bbox.width, "the legend is not cut, in a small tree either"


def test_the_leaderboard_has_a_row_a_system() -> None:
    systems = {name: {"OF1": Interval(0.9, 0.85, 0.95), "CF1": Interval(0.8, 0.7, 0.9)} for name in "ab"}
    seeds = {name: {"OF1": [0.9, 0.91], "CF1": [0.8, 0.82]} for name in "ab"}
    figure = lesson.leaderboard(systems, seeds, title="who wins")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b"]
    assert len(figure.axes) == 2
    (interval,) = figure.axes[0].collections[0].get_segments()[:1]
    assert interval[:, 0] == pytest.approx([85, 95])
    plots.to_png(figure)


def test_reliability_has_a_panel_a_system() -> None:
    p = torch.tensor([0.1, 0.2, 0.9, 0.95])
    found = calibration(p, p > 0.5)
    figure = lesson.reliability({"a": found, "b": found}, title="sure?", columns=3)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", ""]
    assert f"claims {found['probability']:.2f}" in figure.axes[0].texts[0].get_text()
    assert figure.axes[0].get_xlabel() == "probability claimed", (
        "of a set or of a sequence: the title says it"
    )
    plots.to_png(figure)


def test_optimism_has_two_lines_a_chooser() -> None:
    figure = lesson.optimism([1, 2], {"a": [1.0, 2.0]}, {"a": [1.0, 1.1]}, ylabel="OF1", title="best of k")
    assert [line.get_label() for line in figure.axes[0].lines] == ["a: reported", "a: on other images"]
    plots.to_png(figure)


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.5, "0.50"), (0.0412, "0.041"), (0.004, "0.004"), (0.00236, "0.0024"), (1e-6, "<0.0001")],
)
def test_probabilities_are_short(p: float, text: str) -> None:
    assert lesson._short(p) == text


def test_a_tree_to_explore(small_data) -> None:
    searches = {name: (Maze(), Features(torch.zeros(2, 1))) for name in ("first", "second")}
    vocabulary = Vocabulary(("ant", "bee", "cat"))
    view = lesson.tree_view(searches, small_data.train[:2], vocabulary, max_labels=3)
    text = html.unescape(view.sentence.value)
    assert "found is bee, <stop> (P = 0.36)" in text
    assert "Greedy search says ant, bee, <stop>" in text
    assert "it parts at step 1, and the beam gives it up at step 2." in text
    wide = view.picture.value
    view.controls["width"].value = 1
    assert "Greedy search finds it, too." in view.sentence.value
    assert view.picture.value != wide and bytes(view.picture.value).startswith(b"\x89PNG")
    narrow = view.picture.value
    view.controls["image"].value = 2
    assert view.picture.value != narrow, "another image is drawn"
    view.controls["who"].value = "second"
    assert "Error" not in view.sentence.value


def test_a_greedy_path_that_stays_a_candidate() -> None:
    found = lesson.grow(Maze(), Features(torch.zeros(1, 1)), width=20, max_steps=4)
    text = lesson.describe(found, Vocabulary(("ant", "bee", "cat")))
    assert found.parting == 1 and ("ends as a candidate" in text or "gives it up" in text)
