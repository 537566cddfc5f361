"""Alignment and its solvers against brute force, scipy, the published definitions and what must never happen."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from helpers.systems import alignment
from helpers.systems.alignment import ALIGNMENTS, MOST_PERMUTATIONS, SOLVERS, align, alignment_cost, assign

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
EXACT = SOLVERS[1:]  # every solver by name


# ------------------------------------------------------------------------------------- references


def brute_force(cost: np.ndarray) -> tuple[float, tuple[int, ...]]:
    """The smallest cost of all permutations of (n, n), and the first permutation that has it."""
    n = len(cost)
    return min(
        ((sum(cost[t, p[t]] for t in range(n)), p) for p in itertools.permutations(range(n))),
        key=lambda pair: pair[0],
        default=(0.0, ()),
    )


def reference(logits: Tensor, labels: list[int], method: str) -> list[int]:
    """One image, on lists, word by word as the literature defines the three alignments."""
    n = len(labels)
    log_p = logits.double().log_softmax(-1).tolist()  # T lists of V
    predicted = logits.argmax(-1).tolist()
    if method == "pla_released":
        y = list(labels)
        common = set(labels) & set(predicted)
        unseen = set(labels) - set(predicted)
        for t in range(n):
            if predicted[t] in common:
                other = y.index(predicted[t])
                y[t], y[other] = y[other], y[t]
                common.remove(predicted[t])
        places = [t for t in range(n) if y[t] in unseen]
        names = [y[t] for t in places]
        cost = np.array([[-log_p[t][d] for d in names] for t in places]).reshape(len(places), len(places))
        for t, column in zip(places, brute_force(cost)[1], strict=True):
            y[t] = names[column]
        return y
    fixed = {}
    if method == "pla":
        for t in range(n):
            if predicted[t] in labels and predicted[t] not in fixed.values():
                fixed[t] = predicted[t]
    allowed = (o for o in itertools.permutations(labels) if all(o[t] == d for t, d in fixed.items()))
    return list(min(allowed, key=lambda o: -sum(log_p[t][d] for t, d in enumerate(o))))


def random_batch(
    seed: int, *, sizes: list[int], outputs: int, extra_steps: int = 2, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits that favour the labels of the set, so that PLA has predictions to honour."""
    generator = torch.Generator().manual_seed(seed)
    columns, stop = max(sizes) + 1, outputs - 1
    labels = torch.full((len(sizes), columns), stop)
    for row, size in zip(labels, sizes, strict=True):
        row[:size] = torch.randperm(stop, generator=generator)[:size]
    logits = torch.randn(len(sizes), columns + extra_steps, outputs, generator=generator)
    wanted = torch.zeros(len(sizes), outputs).scatter_(1, labels, 1.0)
    return (logits + 1.5 * wanted[:, None]).to(dtype), labels, torch.tensor(sizes)


# ------------------------------------------------------------------------------------- align


A, B, X, END = range(4)
ORACLES = [
    # probabilities of a, b, x, <stop> at each step; {method: (order, cost)}
    (
        [(0.05, 0.40, 0.50, 0.05), (0.40, 0.05, 0.50, 0.05), (0.60, 0.10, 0.20, 0.10)],
        {"mla": ([B, A], 1.8326), "pla": ([B, A], 1.8326), "pla_released": ([A, B], 5.9915)},
    ),
    (
        [(0.50, 0.45, 0.03, 0.02), (0.90, 0.05, 0.03, 0.02), (0.10, 0.10, 0.10, 0.70)],
        {"mla": ([B, A], 0.9039), "pla": ([A, B], 3.6889), "pla_released": ([A, B], 3.6889)},
    ),
    (
        [(0.10, 0.70, 0.10, 0.10), (0.70, 0.10, 0.10, 0.10), (0.10, 0.10, 0.10, 0.70)],
        {"mla": ([B, A], 0.7133), "pla": ([B, A], 0.7133), "pla_released": ([B, A], 0.7133)},
    ),
]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("probabilities", "expected"), ORACLES)
def test_published_oracles(probabilities: list, expected: dict, solver: str) -> None:
    logits = torch.tensor([probabilities]).log()
    labels, lengths = torch.tensor([[A, B, END]]), torch.tensor([2])
    for method, (order, cost) in expected.items():
        targets = align(logits, labels, lengths, method, solver=solver)
        assert targets.tolist() == [[*order, END]]
        assert alignment_cost(logits, targets, lengths).item() == pytest.approx(cost, abs=1e-4)
    assert alignment_cost(torch.tensor([ORACLES[2][0]]).log(), labels, lengths).item() == pytest.approx(
        4.6052, abs=1e-4
    )


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("method", ALIGNMENTS)
@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    extra_steps=st.integers(0, 4),
    outputs=st.integers(6, 12),
)
def test_align_follows_the_definition(
    method: str, solver: str, seed: int, sizes: list[int], extra_steps: int, outputs: int
) -> None:
    logits, labels, lengths = random_batch(seed, sizes=sizes, outputs=outputs, extra_steps=extra_steps)
    targets = align(logits, labels, lengths, method, solver=solver)
    for row, old, new, size in zip(logits, labels.tolist(), targets.tolist(), sizes, strict=True):
        assert new == reference(row, old[:size], method) + old[size:]


@pytest.mark.parametrize("solver", SOLVERS)
def test_guarantees(solver: str) -> None:
    """Permutation, `<stop>` in its place, MLA <= PLA <= released PLA, and each gap really occurs."""
    most = MOST_PERMUTATIONS - 1 if solver == "permutations" else 9
    sizes = [0, 1, 2, 3, most, most - 1, 4, 5] * 8
    logits, labels, lengths = random_batch(1, sizes=sizes, outputs=14)
    costs = {}
    for method in ALIGNMENTS:
        targets = align(logits, labels, lengths, method, solver=solver)
        assert torch.equal(targets.sort(1).values, labels.sort(1).values)
        assert torch.equal(targets == 13, labels == 13)
        assert torch.equal(targets[:2], labels[:2])  # no labels, one label
        costs[method] = alignment_cost(logits, targets, lengths)
    rounding = 1e-4
    assert (costs["mla"] <= costs["pla"] + rounding).all()
    assert (costs["pla"] <= costs["pla_released"] + rounding).all()
    assert (costs["mla"] + rounding < costs["pla"]).any()
    assert (costs["pla"] + rounding < costs["pla_released"]).any()
    assert (costs["mla"] <= alignment_cost(logits, labels, lengths) + rounding).all()


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("ties", [False, True])
def test_only_the_released_variant_minds_the_order_of_the_labels(solver: str, ties: bool) -> None:
    sizes = [6, 5, 4, 6, 6, 3] * 5
    logits, labels, lengths = random_batch(2, sizes=sizes, outputs=10)
    if ties:
        logits = logits.round()
    shuffled = labels.clone()
    for row, size in zip(shuffled, sizes, strict=True):
        row[:size] = row[:size][torch.randperm(size)]
    for method in ("mla", "pla"):
        first = align(logits, labels, lengths, method, solver=solver)
        assert torch.equal(first, align(logits, shuffled, lengths, method, solver=solver))
    released = [align(logits, x, lengths, "pla_released", solver=solver) for x in (labels, shuffled)]
    assert not torch.equal(*released)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", ALIGNMENTS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_batch_equals_its_samples(method: str, solver: str, device: str) -> None:
    sizes = [7, 0, 3, 5, 1, 7, 2]
    logits, labels, lengths = (x.to(device) for x in random_batch(3, sizes=sizes, outputs=12))
    together = align(logits, labels, lengths, method, solver=solver)
    for i, size in enumerate(sizes):
        alone = align(logits[i, None], labels[i, None, : size + 1], lengths[i, None], method, solver=solver)
        assert torch.equal(together[i, : size + 1], alone[0])
        assert (together[i, size:] == 11).all()


@pytest.mark.parametrize("method", ["mla", "pla"])
def test_only_the_first_n_steps_count(method: str) -> None:
    logits, labels, lengths = random_batch(4, sizes=[4, 3, 2, 4], outputs=9, extra_steps=3)
    changed = logits.clone()
    for row, size in zip(changed, lengths.tolist(), strict=True):
        row[size:] = torch.randn_like(row[size:]) * 5
    assert torch.equal(align(changed, labels, lengths, method), align(logits, labels, lengths, method))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("method", ALIGNMENTS)
def test_any_precision(dtype: torch.dtype, method: str) -> None:
    """The numbers are taken as they are: no rounding beyond that of the logits themselves."""
    logits, labels, lengths = random_batch(5, sizes=[6, 2, 5, 0, 4], outputs=11, dtype=dtype)
    for solver in SOLVERS:
        targets = align(logits, labels, lengths, method, solver=solver)
        same = align(logits.float(), labels, lengths, method, solver=solver)
        assert torch.equal(targets, same)
        cost = alignment_cost(logits, targets, lengths)
        assert cost.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(cost, alignment_cost(logits.float(), targets, lengths).to(cost.dtype))


@pytest.mark.parametrize("method", ALIGNMENTS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_non_finite_logits_are_refused_by_name(method: str, bad: float, dtype: torch.dtype) -> None:
    logits, labels, lengths = random_batch(7, sizes=[3, 0, 2, 3, 1], outputs=8, dtype=dtype)
    logits[1, 0, 5] = bad
    logits[3, -1, 0] = bad
    with pytest.raises(ValueError, match=r"logits must be finite.*samples \[1, 3\] of a batch of 5"):
        align(logits, labels, lengths, method)


def test_a_label_listed_twice_still_gives_a_permutation() -> None:
    logits, labels, lengths = random_batch(8, sizes=[5, 5, 5], outputs=9)
    labels[:, 1] = labels[:, 3]
    logits[0, :2, labels[0, 1]] += 9
    for method in ALIGNMENTS:
        for solver in EXACT:
            targets = align(logits, labels, lengths, method, solver=solver)
            assert torch.equal(targets.sort(1).values, labels.sort(1).values)


def test_empty_batch_and_only_empty_sets() -> None:
    for method in ALIGNMENTS:
        nothing = torch.zeros(0, 4, dtype=torch.int64)
        assert align(torch.zeros(0, 4, 9), nothing, nothing[:, 0], method).shape == (0, 4)
        for columns in (1, 4):
            stops = torch.full((3, columns), 8)
            found = align(torch.randn(3, 5, 9), stops, torch.zeros(3).long(), method)
            assert torch.equal(found, stops) and found.data_ptr() != stops.data_ptr()


def broken(**changes):
    """A valid call (two images of 2 and 1 labels out of 4) with something wrong in it."""
    call = {
        "logits": torch.zeros(2, 3, 5),
        "labels": torch.tensor([[0, 1, 4], [2, 4, 4]]),
        "lengths": torch.tensor([2, 1]),
    }
    return call | changes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (broken(method="pla2"), "unknown alignment 'pla2': expected one of mla, pla, pla_released"),
        (broken(solver="hungarian"), "unknown assignment method 'hungarian'"),
        (broken(logits=torch.zeros(2, 2, 5)), "3 columns .* only 2: run the decoder for at least"),
        (broken(lengths=torch.tensor([2, 2])), r"samples \[1\]"),
        (broken(lengths=torch.tensor([1, 1])), r"samples \[0\]"),
        (broken(lengths=torch.tensor([2, -1])), r"samples \[1\]"),
        (broken(labels=torch.tensor([[0, 1, 2], [2, 4, 4]])), r"samples \[0\]"),
        (broken(lengths=torch.tensor([7, 1])), "between 0 and 2.*samples"),
        (broken(labels=torch.tensor([[0, 1, 4], [-1, 4, 4]])), r"between 0 and <stop> = 4.*samples \[1\]"),
        (broken(labels=torch.tensor([[0, 1, 5], [2, 4, 4]])), r"between 0 and <stop> = 4.*samples \[0\]"),
    ],
)
def test_align_refuses(call: dict, message: str) -> None:
    align(**broken())
    with pytest.raises(ValueError, match=message):
        align(**call)


# ------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("method", ALIGNMENTS)
def test_the_gradient_comes_from_the_chosen_log_probabilities_alone(method: str) -> None:
    logits, labels, lengths = random_batch(10, sizes=[4, 0, 2], outputs=8)
    logits.requires_grad_()
    targets = align(logits, labels, lengths, method)
    assert not targets.requires_grad
    alignment_cost(logits, targets, lengths).sum().backward()
    expected = torch.zeros_like(logits)
    for i, size in enumerate(lengths.tolist()):
        for t in range(size):
            expected[i, t] = logits[i, t].detach().softmax(-1)
            expected[i, t, targets[i, t]] -= 1
    torch.testing.assert_close(logits.grad, expected)


def forget_tables() -> None:
    """As in a fresh process."""
    for table in ("counting", "own_column", "_permutation_tables", "_subset_tables"):
        getattr(alignment, table).cache_clear()


def test_autocast_and_inference_mode() -> None:
    """Neither changes the answer, and tables made in inference mode serve training afterwards."""
    logits, labels, lengths = random_batch(12, sizes=[5, 3, 2], outputs=9, dtype=torch.bfloat16)
    for method, solver in itertools.product(ALIGNMENTS, EXACT):
        forget_tables()
        with torch.inference_mode():
            answers = [align(logits, labels, lengths, method, solver=solver)]
        with torch.autocast("cpu", torch.bfloat16):
            answers.append(align(logits, labels, lengths, method, solver=solver))
        leaf = logits.float().requires_grad_()
        answers.append(align(leaf, labels, lengths, method, solver=solver))
        alignment_cost(leaf, answers[0].clone(), lengths).sum().backward()
        assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])


# ------------------------------------------------------------------------------------- the solvers


def total(cost: Tensor, answer: Tensor, sizes: Tensor) -> Tensor:
    """(B,) float64: the cost of an assignment of the leading blocks."""
    picked = cost.double().gather(2, answer[:, :, None])[:, :, 0]
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
@settings(max_examples=30)
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


@settings(max_examples=30)
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
    monkeypatch.setattr(alignment, "LAYER_NUMBERS", 100)
    assert torch.equal(assign(cost, sizes, method="subsets"), whole)


@pytest.mark.parametrize(
    ("cost", "sizes", "method", "message"),
    [
        (torch.zeros(2, 3, 4), torch.tensor([1, 1]), "auto", "expected cost"),
        (torch.zeros(2, 3, 3), torch.tensor([1]), "auto", "expected cost"),
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


# ------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("method", ALIGNMENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("most", [2, 5, 6, 9, 12, alignment.CUDA_SUBSETS, 18])
def test_gpu_equals_cpu(method: str, dtype: torch.dtype, most: int) -> None:
    sizes = [most, most - 1, 0, 1, most // 2, most] * 6
    logits, labels, lengths = random_batch(15, sizes=sizes, outputs=81, dtype=dtype)
    expected = alignment_cost(logits, align(logits, labels, lengths, method), lengths)
    for solver in SOLVERS:
        if solver == "permutations" and most > MOST_PERMUTATIONS:
            continue
        targets = align(logits.cuda(), labels.cuda(), lengths.cuda(), method, solver=solver)
        assert targets.is_cuda
        if solver in ("permutations", "subsets") and most <= 12:
            # The same method breaks ties alike on both devices.
            assert torch.equal(targets.cpu(), align(logits, labels, lengths, method, solver=solver))
        torch.testing.assert_close(
            alignment_cost(logits, targets.cpu(), lengths), expected, atol=1e-4, rtol=1e-5
        )


BAD_ON_GPU = """
import torch
from helpers.systems.alignment import align
logits = torch.zeros(2, 3, 5, device="cuda")
labels = torch.tensor([[0, 1, 4], [2, 4, 4]], device="cuda")
lengths = torch.tensor([2, 1], device="cuda")
align(logits, labels, lengths)
torch.cuda.synchronize()
print("fine so far", flush=True)
{damage}
align(logits, labels, lengths)
torch.cuda.synchronize()
print("never printed", flush=True)
"""


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("logits[1, 0, 0] = float('nan')", "logits must be finite"),
        ("logits[1, 0, 0] = float('-inf')", "logits must be finite"),
        ("lengths[1] = 2", "a row of labels must be"),
    ],
)
def test_bad_data_is_refused_on_the_gpu(damage: str, message: str, repository) -> None:
    """In a process of its own: a device-side assertion leaves CUDA unusable."""
    run = subprocess.run(
        [sys.executable, "-c", BAD_ON_GPU.format(damage=damage)],
        cwd=repository, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode != 0 and "fine so far" in run.stdout and "never printed" not in run.stdout
    assert message in run.stderr or "device-side assert" in run.stderr
