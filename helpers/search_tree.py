"""A beam search that keeps all it saw, for figures: which branches it followed, and where it gave one up. Notebook 06."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.batch import Features
from helpers.decoders import Decoder, State
from helpers.search import check_steps, greedy, step_log_probabilities

ROOT = 0  # place of `<start>` in a tree


class Branch(NamedTuple):
    """A sequence of a tree, by its last token.

    parent: place in the tree of the sequence it continues, -1 for `<start>`. step: tokens up to it, 0 for `<start>`.
    probability: of the token at its step. log_probability: of the whole sequence, natural logarithm.
    fate: "live", it went on in the beam; "ended", it is complete and a candidate; "cut", it was not among the best
        `width` of its step; "hopeless", it was, but a candidate is more probable already; "alone", only greedy search
        goes here.
    """

    parent: int
    token: int
    step: int
    probability: float
    log_probability: float
    fate: str


@dataclass(frozen=True)
class SearchTree:
    """What a beam search saw of one image. Made by `grow`.

    branches: `<start>` first, then step by step, the most probable first. best: place of the winner's last token.
    greedy: places of the tokens of greedy search, from its first label on.
    """

    branches: tuple[Branch, ...]
    best: int
    greedy: tuple[int, ...]

    def path(self, place: int) -> list[int]:
        """Places from the first token to this one."""
        found = []
        while place != ROOT:
            found.append(place)
            place = self.branches[place].parent
        return found[::-1]

    def tokens(self, places: Sequence[int]) -> list[int]:
        """The token ids at these places."""
        return [self.branches[place].token for place in places]

    @property
    def parting(self) -> int | None:
        """The step at which greedy search goes another way than the winner, from 1; None where they agree."""
        for step, (mine, theirs) in enumerate(zip(self.greedy, self.path(self.best), strict=False), start=1):
            if mine != theirs:
                return step
        return None

    @property
    def given_up(self) -> Branch | None:
        """The branch of greedy search that the beam left, None where greedy search ends as a candidate."""
        leaving = (self.branches[i] for i in self.greedy if self.branches[i].fate in ("cut", "hopeless"))
        return next(leaving, None)


@torch.inference_mode()
def grow(decoder: Decoder, features: Features, *, width: int, max_steps: int, others: int = 2) -> SearchTree:
    """Beam search of one image, with all that it weighed up. The winner is that of `beam`. Taught in notebook 06.

    features: of one image, as the decoder takes them. width: sequences that survive a step. max_steps: labels and
    `<stop>` at most. others: sequences kept in the tree at every step beside those that survive. No label is named
    twice. Call `decoder.eval()` before. Raises ValueError for more than one image, a width or others that cannot be.
    """
    if len(features.pooled) != 1:
        raise ValueError(
            f"a tree is of one image, found {len(features.pooled)}: features.select(…) takes one"
        )
    if width < 1 or others < 0:
        raise ValueError(f"width is {width} and others {others}; expected at least 1 and at least 0")
    check_steps(decoder, max_steps, 0, repeats=False)
    alone = greedy(decoder, features, max_steps=max_steps)
    wanted = alone.tokens[0].tolist()[: int(alone.lengths[0]) + 1]
    branches = [Branch(-1, decoder.start_token, 0, 1.0, 0.0, "live")]
    live, state, best = [ROOT], decoder.start(features), None
    path: list[int] = []  # greedy search, as far as the beam went with it
    for step in range(1, max_steps + 1):
        log_p, state = _next(decoder, branches, live, state)
        before = torch.tensor([branches[i].log_probability for i in live], device=log_p.device)
        total, places = (before[:, None] + log_p).flatten().sort(descending=True, stable=True)
        reached: list[tuple[int, int]] = []  # row that it continues, place
        for rank, (value, place) in enumerate(zip(total.tolist(), places.tolist(), strict=True)):
            row, token = divmod(place, log_p.shape[1])
            end = path[-1] if path else ROOT
            follows = live[row] == end and len(path) == step - 1 and wanted[step - 1 : step] == [token]
            if value == -torch.inf or (rank >= width + others and not follows):
                continue
            done = token == decoder.stop_token or step == max_steps
            fate = "cut" if rank >= width else "ended" if done else "live"
            if follows:
                path.append(len(branches))
            if fate == "ended" and (best is None or value > branches[best].log_probability):
                best = len(branches)
            if fate == "live":
                reached.append((row, len(branches)))
            branches.append(Branch(live[row], token, step, float(log_p[row, token].exp()), value, fate))
        going = []
        for row, place in reached:
            if best is not None and branches[place].log_probability <= branches[best].log_probability:
                branches[place] = branches[place]._replace(fate="hopeless")
            else:
                going.append((row, place))
        if not going:
            break
        live = [place for _, place in going]
        state = state.select_hidden(torch.tensor([row for row, _ in going], device=log_p.device))
    for step in range(len(path) + 1, len(wanted) + 1):
        p = float(alone.step_probability[0, step - 1])
        parent = path[-1]
        log_probability = branches[parent].log_probability + float(torch.tensor(p).log())
        path.append(len(branches))
        branches.append(Branch(parent, wanted[step - 1], step, p, log_probability, "alone"))
    assert best is not None  # at max_steps everything that is left ends
    return SearchTree(tuple(branches), best, tuple(path))


def _next(
    decoder: Decoder, branches: Sequence[Branch], live: Sequence[int], state: State
) -> tuple[Tensor, State]:
    """log P of the next token after each live branch, (R, V), nothing named twice; and the next state."""
    device = state.hidden[0].device
    tokens = torch.tensor([branches[i].token for i in live], device=device)
    logits, state, _ = decoder.step(tokens, state)
    taken = torch.zeros(logits.shape, dtype=torch.bool, device=device)
    for row, place in enumerate(live):
        while place != ROOT:
            taken[row, branches[place].token] = True
            place = branches[place].parent
    return step_log_probabilities(logits, taken, allow_stop=True), state
