"""The tree that a beam search leaves: its winner is that of `beam`, its greedy path that of `greedy`."""

from __future__ import annotations

import math

import pytest
import torch
from lessons.nb06 import ROOT, grow
from scripted import Scripted, features, log_table
from test_systems import make_batch, make_system

from helpers.data.batches import Features
from helpers.decoders.base import Decoder, State
from helpers.decoders.beam import beam
from helpers.decoders.search import greedy


@pytest.fixture(scope="module", params=["ria", "cnn_rnn", "attention"])
def decoder_and_features(request):
    """A decoder that is sure of something, and features of six images."""
    torch.manual_seed(3)
    system = make_system(request.param).eval()
    with torch.no_grad():
        for parameter in system.decoder.parameters():
            parameter.mul_(3)
        return system.decoder, system.decoder_features(make_batch())


@pytest.mark.parametrize("width", [1, 2, 4, 40])
def test_the_winner_is_that_of_the_beam(decoder_and_features, width: int) -> None:
    decoder, some = decoder_and_features
    wanted = beam(decoder, some, width=width, max_steps=4, only_best=True).best()
    alone = greedy(decoder, some, max_steps=4)
    for k in range(len(some.pooled)):
        tree = grow(decoder, some.select(torch.tensor([k])), width=width, max_steps=4)
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
    tree = grow(decoder, some.select(torch.tensor([1])), width=3, max_steps=4, others=1)
    for place, branch in enumerate(tree.branches):
        if place == ROOT:
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
    tree = grow(Maze(), features(1), width=2, max_steps=3)
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
        grow(decoder, features(2), width=2, max_steps=2)
    with pytest.raises(ValueError, match="width is 0"):
        grow(decoder, features(1), width=0, max_steps=2)
