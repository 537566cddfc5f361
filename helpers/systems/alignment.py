"""Order-free targets: every step of a decoder gets the label that fits what it predicted.

A set of labels has no order, a sequence of steps has one. These functions do not fix the order in advance: they look
at the scores of each step and assign the labels to the steps (V. O. Yazici, A. Gonzalez-Garcia, A. Ramisa,
B. Twardowski, J. van de Weijer, "Orderless Recurrent Models for Multi-label Classification", CVPR 2020).

Below `align` stand the solvers of the assignment problem, all exact: all permutations, dynamic programming over
subsets, scipy.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ALIGNMENTS = ("mla", "pla", "pla_released")


@torch.no_grad()
def align(
    logits: Tensor, labels: Tensor, lengths: Tensor, method: str = "mla", *, solver: str = "auto"
) -> Tensor:
    """Reorder each image's labels to fit what the decoder predicts.

    Only the first n steps take part, n being the image's number of labels; `<stop>` stays at step n.

    - "mla", minimal loss alignment: the order with the smallest cross-entropy.
    - "pla", predicted label alignment: a step that predicts (argmax) a label of the set gets it, the first such step
      if there are several; the others go where the cross-entropy is smallest.
    - "pla_released": PLA as the paper's published code computes it: a label predicted only at a step >= n stays where
      the swaps of the others left it. So it depends on the order the labels came in and can be worse than "pla".

    The `alignment_cost` of "mla" <= that of "pla" <= that of "pla_released". On a GPU nothing waits for the host up to
    n = `CUDA_SUBSETS` labels, and there is one copy to it beyond.

    logits:  (B, T, V) float of any precision, T >= T'; the last output, V - 1, is `<stop>`.
    labels:  (B, T') int64, label ids in 0..V-2, then `<stop>` (at least one a row).
    lengths: (B,) int64, labels of each row without `<stop>`; 0 is legal.
    solver:  as `method` of `assign`.
    Returns (B, T') int64: `labels` with the first `lengths` of each row permuted.
    Raises ValueError for an unknown method or solver, too few steps, logits that are not finite, and labels and lengths
    that contradict each other. A GPU refuses the last two without waiting: a later CUDA call reports the assertion.
    """
    n = _check_alignment(logits, labels, lengths, method, solver)
    if n < 2:
        return labels.clone()

    valid = counting(n, labels.device) < lengths[:, None]  # (B, n)
    # Sorted, the same set gives the same matrix, so that ties do not depend on the order the labels
    # came in; `<stop>` is the largest id and stays behind. The released PLA does depend on the order.
    columns = labels[:, :n] if method == "pla_released" else labels[:, :n].sort(dim=1).values
    # log p is the logit less log-sum-exp of its step. That is the same for every label, so it shifts
    # all assignments alike and the logits can be compared as they are.
    score = logits[:, :n].gather(2, columns[:, None, :].expand(-1, n, -1))  # (B, n steps, n labels)
    if method == "mla":
        order = solve(score, valid, solver)
    else:
        predicted = (logits if method == "pla_released" else logits[:, :n]).argmax(2)
        kept = (predicted[:, :n, None] == columns[:, None, :]) & pairs(valid)  # (B, n, n)
        kept &= kept.cumsum(2) == 1  # one label per step, even if a label is listed twice
        kept &= kept.cumsum(1) == 1  # one step per label: the first that predicts it
        if method == "pla":
            barred = kept.any(2, keepdim=True) & ~kept  # a step that keeps a label can take no other
            order = solve(score.masked_fill(barred, -math.inf), valid, solver)
        else:
            seen = (predicted[:, :, None] == columns[:, None, :]).any(1)  # (B, T, n) -> (B, n)
            order = _released_order(score, kept, ~seen, valid, solver)
    return torch.cat([columns.gather(1, order), labels[:, n:]], dim=1)


def _released_order(score: Tensor, kept: Tensor, unseen: Tensor, valid: Tensor, solver: str) -> Tensor:
    """(B, n): the order of the released PLA, swaps first, then an assignment of the labels that no step predicts.

    score (B, n, n); kept (B, n, n) bool: step t keeps label j; unseen (B, n) bool.
    """
    n = score.shape[1]
    positions = counting(n, score.device)
    order = positions.expand(len(score), n)
    keeps, wanted = kept.any(2), kept.long().argmax(2)  # (B, n): step t keeps one, and which
    for t in range(n):
        here, there = order[:, t, None], wanted[:, t, None]  # (B, 1)
        swapped = torch.where(positions == t, there, torch.where(order == there, here, order))
        order = torch.where(keeps[:, t, None], swapped, order)
    score = score.gather(2, order[:, None, :].expand(-1, n, -1))  # column p: the label now at place p
    # The unseen labels are not a leading block: all others are fixed to their places here.
    score = torch.where(pairs(unseen.gather(1, order)), score, own_column(n, score.device))
    return order.gather(1, solve(score, valid, solver))


def alignment_cost(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """What an order of the labels costs: the sum of -log p(target) over the steps before `<stop>`, with gradient.

    logits: (B, T, V) float, T >= T'. targets: (B, T') int64, as `align` returns them. lengths: (B,) int64.
    Returns (B,) float32 (float64 for float64 logits), in nats; 0 for an image without labels.
    """
    # Half precision would round a sum of 20 terms to a few tenths.
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_probability = logits[:, : targets.shape[1]].log_softmax(-1, dtype=dtype)
    chosen = log_probability.gather(2, targets[:, :, None]).squeeze(2)  # (B, T', V) -> (B, T')
    counted = torch.arange(targets.shape[1], device=targets.device) < lengths[:, None]
    return -torch.where(counted, chosen, 0).sum(1)


@torch.no_grad()
def assign(cost: Tensor, sizes: Tensor, *, method: str = "auto") -> Tensor:
    """The minimum-cost assignment of every sample's leading block, exactly.

    - "permutations" scores all n! of them, n up to 8.
    - "subsets", dynamic programming over the 2^n sets of columns still free, n up to 20 (M. Held, R. M. Karp, "A
      Dynamic Programming Approach to Sequencing Problems", J. SIAM 1962). Both stay on the device.
    - "scipy": one copy to the host, then `scipy.optimize.linear_sum_assignment` sample by sample.
    - "auto": what is fastest for this n and device.

    Sums are taken in float64. Among assignments of equal cost "permutations" and "subsets" take the first of the
    dictionary (row 0 gets its lowest possible column, then row 1, ...), "scipy" takes its own.

    cost:  (B, n, n) float, finite in the leading blocks; what is outside of them is ignored.
    sizes: (B,) int64 in 0..n: rows and columns 0..size-1 of a sample are its block.
    Returns (B, n) int64: entry [b, t] is the column of row t; rows beyond the size keep their own.
    Raises ValueError for an unknown method, an n beyond its reach, sizes outside 0..n and costs that are not finite.
    """
    n = cost.shape[1]
    if cost.shape != (len(sizes), n, n):
        raise ValueError(
            f"expected cost (B, n, n) and sizes (B,), found {tuple(cost.shape)} and {tuple(sizes.shape)}"
        )
    check_solver(method, n)
    _require((sizes >= 0) & (sizes <= n), f"sizes must lie between 0 and n = {n}")
    valid = counting(n, cost.device) < sizes[:, None]
    _require_finite(torch.where(pairs(valid), cost, 0), "cost")
    return solve(-cost, valid, method)


def _check_alignment(logits: Tensor, labels: Tensor, lengths: Tensor, method: str, solver: str) -> int:
    """Refuse what `align` cannot use, see there; returns n, the columns of labels without `<stop>`."""
    if method not in ALIGNMENTS:
        raise ValueError(f"unknown alignment {method!r}: expected one of {', '.join(ALIGNMENTS)}")
    if logits.shape[1] < labels.shape[1]:
        raise ValueError(
            f"{labels.shape[1]} columns of labels (with <stop>) need as many steps, the logits have only "
            f"{logits.shape[1]}: run the decoder for at least labels.shape[1] steps"
        )
    n, stop = labels.shape[1] - 1, logits.shape[2] - 1
    check_solver(solver, n)
    # (B, T'); the last column cannot hold a label, whatever `lengths` says.
    valid = counting(n + 1, labels.device, last=torch.iinfo(torch.int64).max) < lengths[:, None]
    rule = f"a row of labels must be `lengths` ids below <stop> = {stop}, then <stop>"
    _require((labels < stop) == valid, rule)
    if not labels.is_cuda:  # there, gather itself stops such labels, and such lengths act like 0 or n
        _require(labels == labels.clamp(0, stop), f"labels must lie between 0 and <stop> = {stop}")
        _require(lengths == lengths.clamp(0, n), f"lengths must lie between 0 and {n}")
    _require_finite(logits, "logits")
    return n


def _require(fine: Tensor, message: str) -> None:
    """Refuse samples with a False in `fine` (B, ...) bool: by name, or on a GPU without waiting."""
    if fine.is_cuda:
        torch._assert_async(fine.all(), message)
    elif not fine.all():
        wrong = [i for i, row in enumerate(fine) if not row.all()]
        raise ValueError(f"{message}: not so for samples {wrong} of a batch of {len(fine)}")


def _require_finite(values: Tensor, what: str) -> None:
    """Refuse NaN and infinity in `values` (B, ...)."""
    if values.numel():
        # amax of a NaN is NaN: one pass over the values where all is well.
        every = (values.abs().amax() < math.inf).expand(len(values))
        fine = every if values.is_cuda or every.all() else values.isfinite()
        _require(fine, f"{what} must be finite, NaN or infinity found")


SOLVERS = ("auto", "permutations", "subsets", "scipy")
# Up to which n "auto" takes a method: measured by benchmarks/alignment_speed.py.
AUTO_PERMUTATIONS = 5
CUDA_SUBSETS = 14
# Up to which n a method can be asked for by name: beyond, its tables alone take gigabytes.
MOST_PERMUTATIONS = 8
MOST_SUBSETS = 20
# How many numbers a subset layer may hold (512 MiB of float64); a larger batch is solved in pieces.
LAYER_NUMBERS = 2**26


def solve(score: Tensor, valid: Tensor, method: str) -> Tensor:
    """`assign` by the largest sum of scores (B, n, n), -inf where a pair is forbidden; valid: (B, n) bool, the block."""
    n, device = score.shape[1], score.device
    if n < 2 or len(score) == 0:
        return counting(n, device).repeat(len(score), 1)
    if method == "auto":
        method = "subsets" if score.is_cuda and n <= CUDA_SUBSETS else "scipy"
        if n <= AUTO_PERMUTATIONS:
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
    """(n!, n): all permutations in the order of the dictionary; (n! * n,): the entries of a flattened (n, n) matrix
    that each adds up."""
    permutations = torch.tensor(list(itertools.permutations(range(n))))
    entries = (permutations + n * torch.arange(n)).flatten()
    return permutations.to(device, non_blocking=True), entries.to(device, non_blocking=True)


@functools.cache
def _subset_tables(n: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For k = 1..n, for every set of k columns and each of its members in turn: the member (sets * k,), and the place
    of the set without it in the layer before (sets * k,)."""
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
