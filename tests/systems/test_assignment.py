"""The solvers of helpers/assignment.py, through `alignment.assign`, against brute force, scipy and what must never happen."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from helpers.systems import alignment as assignment
from helpers.systems.alignment import SOLVERS, assign

EXACT = SOLVERS[1:]  # every method by name


def brute_force(cost: np.ndarray) -> tuple[float, tuple[int, ...]]:
    """The smallest cost of all permutations of (n, n), and the first permutation that has it."""
    n = len(cost)
    return min(
        ((sum(cost[t, p[t]] for t in range(n)), p) for p in itertools.permutations(range(n))),
        key=lambda pair: pair[0],
        default=(0.0, ()),
    )


def greedy(cost: Tensor, sizes: Tensor) -> Tensor:
    """A plausible wrong answer: each row in turn takes the cheapest column left."""
    answer = torch.arange(cost.shape[1]).repeat(len(cost), 1)
    for row, matrix, size in zip(answer, cost.clone(), sizes.tolist(), strict=True):
        for t in range(size):
            row[t] = matrix[t, :size].argmin()
            matrix[:, row[t]] = math.inf
    return answer


def total(cost: Tensor, assignment: Tensor, sizes: Tensor) -> Tensor:
    """(B,) float64: the cost of an assignment of the leading blocks."""
    picked = cost.double().gather(2, assignment[:, :, None])[:, :, 0]
    return torch.where(torch.arange(cost.shape[1]) < sizes[:, None], picked, 0).sum(1)


def check_assignment(solve, cost: Tensor, sizes: Tensor) -> None:
    """The promise of `assign`: a permutation, identity beyond the size, and nothing is cheaper."""
    n = cost.shape[1]
    answer = solve(cost, sizes)
    assert answer.shape == (len(cost), n) and answer.dtype == torch.int64
    everything = torch.arange(n)
    assert torch.equal(answer.sort(1).values, everything.expand(len(cost), n))
    assert torch.equal(
        answer.where(everything >= sizes[:, None], everything), everything.expand(len(cost), n)
    )
    blocks = [c[:s, :s].double().numpy() for c, s in zip(cost, sizes.tolist(), strict=True)]
    if n <= 5:
        best = [brute_force(block)[0] for block in blocks]
    else:
        best = [block[linear_sum_assignment(block)].sum() for block in blocks]
    assert total(cost, answer, sizes).tolist() == pytest.approx(best, abs=1e-9)


@st.composite
def assignment_problems(draw, most: int = 6) -> tuple[Tensor, Tensor]:
    n, batch = draw(st.integers(1, most)), draw(st.integers(1, 3))
    # Small whole numbers make ties, the floats span twelve orders of magnitude.
    number = draw(st.sampled_from([st.integers(-2, 2).map(float), st.floats(-1e6, 1e6, width=32)]))
    cost = torch.tensor(draw(st.lists(number, min_size=batch * n * n, max_size=batch * n * n)))
    sizes = draw(st.lists(st.integers(0, n), min_size=batch, max_size=batch))
    return cost.reshape(batch, n, n), torch.tensor(sizes)


@pytest.mark.parametrize("method", SOLVERS)
@settings(max_examples=60, deadline=None)
@given(problem=assignment_problems())
def test_assign_equals_brute_force(method: str, problem: tuple[Tensor, Tensor]) -> None:
    check_assignment(lambda cost, sizes: assign(cost, sizes, method=method), *problem)


@pytest.mark.parametrize(
    ("method", "n"),
    [("auto", 20), ("scipy", 20), ("subsets", 9), ("subsets", 13), ("permutations", 7)],
)
def test_assign_equals_scipy(method: str, n: int) -> None:
    cost = torch.randn(6, n, n) * 10
    sizes = torch.tensor([n, n, n - 1, n // 2, 1, 0])
    check_assignment(lambda cost, sizes: assign(cost, sizes, method=method), cost, sizes)


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 18])
def test_subsets_at_their_largest(n: int) -> None:
    cost = torch.randn(2, n, n)
    check_assignment(lambda c, s: assign(c, s, method="subsets"), cost, torch.tensor([n, n - 3]))


def test_greedy_fails_the_same_check() -> None:
    """The check has teeth: taking the cheapest column row by row does not pass it."""
    cost = torch.tensor([[[-0.5, -0.45], [-0.9, -0.05]]])
    sizes = torch.tensor([2])
    check_assignment(assign, cost, sizes)
    with pytest.raises(AssertionError):
        check_assignment(greedy, cost, sizes)
    cost = torch.randn(50, 4, 4)
    with pytest.raises(AssertionError):
        check_assignment(greedy, cost, torch.full((50,), 4))


@pytest.mark.parametrize("method", EXACT)
def test_what_lies_outside_the_blocks_changes_nothing(method: str) -> None:
    cost = torch.randn(4, 6, 6)
    sizes = torch.tensor([6, 4, 2, 0])
    inside = torch.arange(6) < sizes[:, None]
    inside = inside[:, :, None] & inside[:, None, :]
    expected = assign(cost, sizes, method=method)
    for filler in (-1e30, 1e30, math.inf, -math.inf, math.nan):
        assert torch.equal(assign(cost.where(inside, filler), sizes, method=method), expected)


@pytest.mark.parametrize("method", EXACT)
def test_padding_costs_no_digits(method: str) -> None:
    """A difference of 1e-6 beside costs of 10,000 still decides in a padded block."""
    cost = torch.full((1, 6, 6), 1e4, dtype=torch.float64)
    for t, column in enumerate([2, 0, 1]):
        cost[0, t, column] -= 1e-6
    answer = assign(cost, torch.tensor([3]), method=method)
    assert answer.tolist() == [[2, 0, 1, 3, 4, 5]]


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_assign(method: str, n: int) -> None:
    answer = assign(torch.randn(3, n, n), torch.full((3,), n), method=method)
    assert torch.equal(answer, torch.zeros(3, n, dtype=torch.int64))
    assert assign(torch.randn(0, 4, 4), torch.zeros(0, dtype=torch.int64), method=method).shape == (0, 4)


@settings(max_examples=60, deadline=None)
@given(problem=assignment_problems(most=5))
def test_ties(problem: tuple[Tensor, Tensor]) -> None:
    """Both methods of the device take the first of the dictionary; every method repeats itself."""
    cost, sizes = problem
    cost = cost.clamp(-3, 3).round()  # ties abound, and sums are exact
    first = [brute_force(c[:s, :s].numpy())[1] for c, s in zip(cost, sizes.tolist(), strict=True)]
    for method in EXACT:
        answer = assign(cost, sizes, method=method)
        assert torch.equal(answer, assign(cost.clone(), sizes, method=method))
        if method != "scipy":
            assert [tuple(row[:s]) for row, s in zip(answer.tolist(), sizes.tolist(), strict=True)] == first


def test_a_large_batch_is_solved_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    cost, sizes = torch.randn(11, 5, 5), torch.full((11,), 5)
    whole = assign(cost, sizes, method="subsets")
    monkeypatch.setattr(assignment, "LAYER_NUMBERS", 100)
    assert torch.equal(assign(cost, sizes, method="subsets"), whole)


@pytest.mark.parametrize(
    ("cost", "sizes", "method", "message"),
    [
        (torch.zeros(2, 3, 4), torch.tensor([1, 1]), "auto", "expected cost"),
        (torch.zeros(2, 3, 3), torch.tensor([1]), "auto", "expected cost"),
        (torch.zeros(2, 3, 3).long(), torch.tensor([1, 1]), "auto", "float cost"),
        (torch.zeros(2, 3, 3), torch.tensor([1.0, 1.0]), "auto", "int64 sizes"),
        (torch.zeros(2, 3, 3), torch.tensor([1, 4]), "auto", r"between 0 and n = 3.*samples \[1\]"),
        (torch.zeros(2, 3, 3), torch.tensor([-1, 3]), "auto", r"samples \[0\]"),
        (torch.zeros(2, 3, 3), torch.tensor([1, 1]), "munkres", "unknown assignment method 'munkres'"),
        (torch.zeros(2, 9, 9), torch.tensor([1, 1]), "permutations", "up to 8, found n = 9"),
        (torch.zeros(2, 21, 21), torch.tensor([1, 1]), "subsets", "up to 20, found n = 21"),
        (torch.tensor([[[0.0]], [[math.nan]]]), torch.tensor([1, 1]), "auto", r"finite.*samples \[1\]"),
        (torch.tensor([[[-math.inf]], [[0.0]]]), torch.tensor([1, 1]), "scipy", r"finite.*samples \[0\]"),
    ],
)
def test_assign_refuses(cost: Tensor, sizes: Tensor, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(cost, sizes, method=method)
