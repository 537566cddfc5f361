"""Minimum-cost assignment, exactly, in three ways: all permutations, subsets, scipy. No input is checked here:
`alignment.assign` does that.

Taught in notebook 05.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

SOLVERS = ("auto", "permutations", "subsets", "scipy")

# Up to which n "auto" takes a method: measured by benchmarks/alignment_speed.py.
CPU_PERMUTATIONS = 5
CUDA_PERMUTATIONS = 5
CUDA_SUBSETS = 14
# Up to which n a method can be asked for by name: beyond, its tables alone take gigabytes.
MOST_PERMUTATIONS = 8
MOST_SUBSETS = 20
# How many numbers a subset layer may hold (512 MiB of float64); a larger batch is solved in pieces.
LAYER_NUMBERS = 2**26


def solve(score: Tensor, valid: Tensor, method: str) -> Tensor:
    """The assignment of every sample's leading block with the largest sum of its scores, exactly.

    score: (B, n, n) float; -inf forbids a pair (a complete assignment must remain). valid: (B, n) bool, the block.
    method: as in `alignment.assign`. Returns (B, n) int64, the column of each row.
    """
    n, device = score.shape[1], score.device
    if n < 2 or len(score) == 0:
        return counting(n, device).repeat(len(score), 1)
    if method == "auto":
        method = "subsets" if score.is_cuda and n <= CUDA_SUBSETS else "scipy"
        if n <= {"cpu": CPU_PERMUTATIONS, "cuda": CUDA_PERMUTATIONS}.get(device.type, 0):
            method = "permutations"
    if method == "scipy":
        return _by_scipy(score, valid.sum(1))
    # Outside its block a row can only take its own column, for nothing: true infinities bar the others,
    # where a large number would swallow the digits of the scores it is added to.
    score = torch.where(pairs(valid), score, own_column(n, device))
    return _by_permutations(score) if method == "permutations" else _by_subsets(score)


def _by_permutations(score: Tensor) -> Tensor:
    """(B, n, n) -> (B, n): the first of the best of all permutations."""
    n = score.shape[1]
    permutations, entries = _permutation_tables(n, score.device)
    picked = score.flatten(1).index_select(1, entries).unflatten(1, (-1, n))  # (B, n * n) -> (B, n!, n)
    return permutations.index_select(0, picked.sum(2, dtype=torch.float64).argmax(1))


def _by_subsets(score: Tensor) -> Tensor:
    """(B, n, n) -> (B, n): dynamic programming over the sets of columns still free.

    best[S] is the best score of the last |S| rows when the columns S are left for them: the maximum over
    j in S of score[n - |S|, j] + best[S without j]. Layer k holds all sets of k columns. The batch
    is the last dimension throughout, so that a set is one contiguous stretch of memory.
    """
    n = score.shape[1]
    layers = _subset_tables(n, score.device)
    piece = max(1, LAYER_NUMBERS // max(len(columns) for columns, _ in layers))
    if len(score) > piece:
        return torch.cat([_by_subsets(part) for part in score.split(piece)])

    rows = score.permute(1, 2, 0).to(torch.float64, memory_format=torch.contiguous_format)  # (n, n, B)
    best = rows.new_zeros(1, len(score))  # of the empty set
    choices = []
    for k, (columns, without) in enumerate(layers, start=1):
        options = rows[n - k].index_select(0, columns) + best.index_select(0, without)
        best, choice = options.unflatten(0, (-1, k)).max(1)  # (sets * k, B) -> (sets, k, B) -> (sets, B)
        choices.append(choice)

    # Back from the full set, row by row. Columns are listed in rising order and `max` names the first
    # of equals, so every row takes the lowest column that belongs to a best assignment.
    place = torch.zeros_like(choices[-1][0])  # (B,): where the set of free columns stands in its layer
    taken = []
    for k in range(n, 0, -1):
        columns, without = layers[k - 1]
        option = choices[k - 1].gather(0, place[None])[0].add(place, alpha=k)
        taken.append(columns.index_select(0, option))
        place = without.index_select(0, option)
    return torch.stack(taken, dim=1)


def _by_scipy(score: Tensor, sizes: Tensor) -> Tensor:
    """(B, n, n), (B,) -> (B, n), on the host."""
    n = score.shape[1]
    # Scores and sizes travel together: one copy, hence one wait, instead of two.
    score = score.to(torch.promote_types(score.dtype, torch.float32))
    packed = torch.cat([score.flatten(1), sizes[:, None].to(score.dtype)], dim=1).cpu().double().numpy()
    answer = np.tile(np.arange(n), (len(packed), 1))
    for row, numbers in zip(answer, packed, strict=True):
        size = int(numbers[-1])
        if size > 1:
            block = numbers[:-1].reshape(n, n)[:size, :size]
            row[:size] = linear_sum_assignment(block, maximize=True)[1]
    return torch.from_numpy(answer).to(sizes.device, non_blocking=True)


# Tables depend on n alone and are kept per device. A non-blocking copy to a GPU waits for nothing.


@functools.cache
def counting(n: int, device: torch.device, last: int | None = None) -> Tensor:
    """(n,) int64: 0, 1, 2, ..., the last one replaced by `last`."""
    positions = list(range(n - 1)) + [n - 1 if last is None else last] * (n > 0)
    return torch.tensor(positions, dtype=torch.int64).to(device, non_blocking=True)


@functools.cache
def own_column(n: int, device: torch.device) -> Tensor:
    """(n, n) float32: 0 on the diagonal, -inf elsewhere."""
    return torch.full((n, n), -math.inf).fill_diagonal_(0).to(device, non_blocking=True)


@functools.cache
def _permutation_tables(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(n!, n): all permutations in the order of the dictionary; (n! * n,): the entries of a flattened (n, n)
    matrix that each adds up."""
    permutations = torch.tensor(list(itertools.permutations(range(n))))
    entries = (permutations + n * torch.arange(n)).flatten()
    return permutations.to(device, non_blocking=True), entries.to(device, non_blocking=True)


@functools.cache
def _subset_tables(n: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For k = 1..n, for every set of k columns and each of its members in turn: the member (sets * k,), and
    the place in the layer before of the set without it (sets * k,)."""
    sets = np.arange(2**n)
    member = (sets[:, None] >> np.arange(n)) & 1 == 1  # (2^n, n)
    count = member.sum(1)
    place = np.empty(2**n, dtype=np.int64)
    for k in range(n + 1):
        place[count == k] = np.arange(math.comb(n, k))
    layers = []
    for k in range(1, n + 1):
        which, columns = member[count == k].nonzero()
        without = place[sets[count == k][which] - (1 << columns)]
        layers.append(tuple(torch.from_numpy(x).to(device, non_blocking=True) for x in (columns, without)))
    return layers


def pairs(valid: Tensor) -> Tensor:
    """(B, n) bool -> (B, n, n) bool: row and column both valid."""
    return valid[:, :, None] & valid[:, None, :]


def check_solver(method: str, n: int) -> None:
    """Raise ValueError for an unknown method, or one for which n is too large."""
    if method not in SOLVERS:
        raise ValueError(f"unknown assignment method {method!r}: expected one of {', '.join(SOLVERS)}")
    most = {"permutations": MOST_PERMUTATIONS, "subsets": MOST_SUBSETS}.get(method, n)
    if n > most:
        raise ValueError(f"method {method!r} does n up to {most}, found n = {n}: use 'auto' or 'scipy'")
