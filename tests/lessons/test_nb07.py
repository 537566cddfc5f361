"""The tree that a beam search leaves, sequences beside sets: the winner of a tree is that of `beam`."""

from __future__ import annotations

import html
import math
from dataclasses import replace

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
from helpers.systems.registry import build

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
    assert len(words) == len(found.branches) + 3, "a box per branch, and the steps"
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"goes on", "given up", "complete", "greedy search"} <= legend, "every kind of box is named"
    assert "<start>" in words and "bee ✗\n0.40" in words and "ant\n0.60" in words and "<stop>\n0.36" in words
    places = [text.get_position() for text in figure.axes[0].texts]
    assert len(set(places)) == len(places), "no box hides another"
    plots.to_png(figure)
    FigureCanvasAgg(figure).draw()
    around = figure.legends[0].get_window_extent()
    assert around.x0 >= 0 and around.x1 <= figure.bbox.width, "the legend is not cut, in a small tree either"


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


@pytest.fixture
def alts(monkeypatch) -> list[str]:
    """The alt texts of what is shown; every figure is drawn."""
    shown: list[str] = []
    monkeypatch.setattr(lesson, "show", lambda figure, *, alt: shown.append(alt) or plots.to_png(figure))
    return shown


class Shy(Decoder):
    """Names labels 0 and 1 in either order with 0.2 each, or label 2 alone with 0.3: {0, 1} is the best set."""

    def __init__(self) -> None:
        super().__init__(3)
        self.after = torch.tensor(
            [[0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0], [0, 0, 0, 1.0], [0.2, 0.2, 0.3, 0.3]]
        )

    def start(self, features: Features) -> State:
        return State((torch.zeros(len(features.pooled)),))

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State, None]:
        after, (steps,) = self.after[tokens].clone(), state.hidden
        after[steps >= 2] = torch.tensor([0, 0, 0, 1.0])  # two labels at most
        return after.log().clamp(min=-50), State((steps + 1,)), None


def test_at_most_three_boxes_in_a_step_beside_greedy_search() -> None:
    for width in (1, 2, 3):
        found = lesson.tree_of(Maze(), Features(torch.zeros(1, 1)), width=width, max_steps=4)
        for step in range(1, 5):
            boxes = [k for k, branch in enumerate(found.branches) if branch.step == step]
            assert len(set(boxes) - set(found.greedy)) <= lesson.WIDE


def test_sequences_and_sets_disagree(small_data, alts) -> None:
    vocabulary, decoder = Vocabulary(("ant", "bee", "cat")), Shy()
    record = replace(small_data.train[0], labels=("ant", "bee"))
    lesson.show_sequences_and_sets(
        decoder, Features(torch.zeros(1, 1)), record, vocabulary, max_steps=4, count=3
    )
    assert alts[0].startswith("True labels: ant, bee. Best sequence: ")
    assert alts[0].endswith("Best set: ant, bee.") or alts[0].endswith("Best set: bee, ant.")
    assert "Best sequence: cat" in alts[0] or "Best sequence: ." in alts[0]


def test_the_torn_image_is_one_where_the_set_wins() -> None:
    """Of three images, only the second has three true labels that the beam found and did not put first."""
    vocabulary = 4
    torch.manual_seed(0)
    system = build("ria", Vocabulary(tuple("abcd")), 3, max_labels=3, hidden_size=8, embedding_size=4).eval()
    some = Features(torch.randn(3, 3))
    with torch.inference_mode():
        found = beam(system.decoder, some, width=40, max_steps=4)
    sizes = found.lengths
    truth = torch.zeros(3, vocabulary, dtype=torch.bool)
    truth[0, 0] = truth[2, 1] = True  # too small
    place = next(
        k
        for k in range(1, 40)
        if sizes[1, k] == 3
        and set(found.tokens[1, k, :3].tolist()) != set(found.tokens[1, 0, : sizes[1, 0]].tolist())
    )
    truth[1, found.tokens[1, place, :3]] = True
    assert lesson.torn_image(found, truth, system.decoder, some, max_steps=4) == 1


def test_telling_images_part_and_are_short(small_data) -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat"))
    records = [replace(record, labels=("bee",)) for record in small_data.train[:3]]
    records[1] = replace(records[1], labels=("ant", "bee", "cat", "bee"))
    some = Features(torch.zeros(3, 1))
    assert lesson.telling_images(Maze(), some, records, vocabulary, max_labels=3) == [0, 2]


def test_a_static_tree_describes_itself(small_data, alts) -> None:
    vocabulary = Vocabulary(("ant", "bee", "cat"))
    lesson.static_tree(Maze(), Features(torch.zeros(2, 1)), small_data.train[:2], vocabulary, max_labels=3)
    assert "found is bee, <stop> (P = 0.36)" in alts[0]


def test_widths_are_means_of_the_runs(alts) -> None:
    rows = {("a", 1): [[1.0, 2.0], [3.0, 2.0]], ("a", 5): [[2.0, 0.0], [4.0, 0.0]]}
    lesson.show_widths(rows, ("x", "y"), panels=("x", "y"))
    assert "a, x: 2.00 to 3.00; a, y: 2.00 to 0.00" in alts[0]


def test_context_and_round_things_name_their_groups(small_data, alts) -> None:
    lesson.show_context(
        {"nothing": [[80.0, 30.0], [70.0, 40.0]], "dog": [[90.0, 80.0]] * 2}, ("some", "none")
    )
    assert "nothing: 75 % some, 35 % none; dog: 90 % some, 80 % none" in alts[0]
    rows = torch.zeros(len(small_data.train), dtype=torch.bool)
    rows[:2] = True
    lesson.show_round_things(small_data.train, {"here": rows})
    assert alts[1].count("here: ") == 2
