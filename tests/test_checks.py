"""The exercises' checks: right answers pass; starters and every wrong answer that we could think of do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from helpers import checks
from helpers.labels import label_frequency, pad_labels
from helpers.losses import asymmetric_loss, sequence_cross_entropy
from helpers.thresholds import choose_global

Check = Callable[[Any], bool]


def verdict(check: Check, answer: Any, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
    """Whether the check passes, and what it prints."""
    capsys.readouterr()
    passed = check(answer)
    return passed, capsys.readouterr().out


def passes(check: Check, answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that an answer is found right, and that this is said once."""
    passed, printed = verdict(check, answer, capsys)
    assert passed is True, printed
    assert ": OK. " in printed and printed.count("\n") == 1


def fails(check: Check, answer: Any, capsys: pytest.CaptureFixture[str], hint: str) -> str:
    """Assert that an answer is found wrong, with what was found, what was expected and a hint with these words."""
    passed, printed = verdict(check, answer, capsys)
    assert passed is False
    assert "not right yet" in printed
    for part in ("found:", "expected:", "hint:"):
        assert part in printed
    assert hint in printed.split("hint:")[1], printed
    return printed


# --- how a check reports ---------------------------------------------------------------------------------------------


@checks.exercise("Exercise 0: doubling")
def check_double(answer: Any) -> str:
    """A check for these tests."""
    for number in (3, 0):
        call = checks.ask(answer, number=number)
        call.expect(call.value == 2 * number, expected=2 * number, hint="Multiply by two.")
    return "Well done."


def not_written(number: int) -> None:
    """The starter of an exercise."""
    ...


def not_implemented(number: int) -> int:
    """Another way to leave it open."""
    raise NotImplementedError


ALL_CHECKS = [check for name, check in vars(checks).items() if name.startswith("check_")]


@pytest.mark.parametrize(
    "starter",
    [None, ..., NotImplemented, lambda *_: None, lambda *_: ..., lambda *_: NotImplemented],
)
@pytest.mark.parametrize("check", [check_double, *ALL_CHECKS])
def test_a_starter_is_not_solved_yet_and_does_not_raise(
    check: Check, starter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    passed, printed = verdict(check, starter, capsys)
    assert passed is False
    assert "not solved yet" in printed and "expected:" not in printed


@pytest.mark.parametrize("check", ALL_CHECKS)
def test_every_check_says_what_it_wants_and_for_which_notebook(check: Check) -> None:
    assert "Notebook 0" in (check.__doc__ or "")


@pytest.mark.parametrize("starter", [not_written, not_implemented])
def test_functions_as_notebooks_have_them_are_not_solved_yet(
    starter: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not solved yet" in verdict(check_double, starter, capsys)[1]


def test_a_report_says_what_was_given_found_and_expected(capsys: pytest.CaptureFixture[str]) -> None:
    passes(check_double, lambda number: 2 * number, capsys)
    printed = fails(check_double, lambda number: number**2, capsys, "Multiply by two.")
    assert "number = 3" in printed and "found:    9" in printed and "expected: 6" in printed


def test_an_error_in_the_answer_is_reported_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(number: int) -> float:
        return number / 0

    printed = fails(check_double, broken, capsys, "return number / 0")
    assert "ZeroDivisionError: division by zero" in printed and "number = 3" in printed


def test_a_wrong_number_of_arguments_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert "TypeError" in fails(check_double, lambda: 3, capsys, "line")


def test_a_result_instead_of_a_function_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    fails(check_double, 6, capsys, "the function itself")


def test_a_bug_in_the_check_itself_is_raised() -> None:
    @checks.exercise("broken")
    def check_broken(answer: Any) -> str:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        check_broken(3)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ([2, 1], lambda x: x.sort()),
        ([[1], [2]], lambda x: x[0].append(3)),
        (torch.tensor([1.0]), lambda x: x.add_(1)),
        ({"a": 1}, lambda x: x.update(a=2)),
    ],
)
def test_a_changed_argument_is_reported(
    argument: Any, change: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    @checks.exercise("change")
    def check_change(answer: Any) -> str:
        checks.ask(answer, thing=argument)
        return "Fine."

    passes(check_change, lambda thing: 1, capsys)
    fails(check_change, lambda thing: change(thing) or 1, capsys, "work on a copy")
    passes(check_change, lambda thing: 1, capsys)  # the check's own argument is still as it was


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ([1, (2.0, "x")], [1, (2.0, "x")], True),
        ([1, 2], (1, 2), False),
        (1, True, False),
        (torch.tensor([1]), torch.tensor([1]), True),
        (torch.tensor([1]), torch.tensor([1.0]), False),
        (torch.tensor([1]), torch.tensor([[1]]), False),
        (torch.tensor([1]), [1], False),
        ([torch.tensor([1.0])], [torch.tensor([2.0])], False),
    ],
)
def test_same_is_strict_about_types_and_shapes(a: Any, b: Any, equal: bool) -> None:
    assert checks.same(a, b) is equal and checks.same(b, a) is equal


def test_same_within_a_tolerance() -> None:
    for a, b in ((1.0, 1.001), (torch.tensor([1.0]), torch.tensor([1.001])), ([0.5, 1.0], [0.5, 1.001])):
        assert checks.same(a, b, tolerance=0.01)
        assert not checks.same(a, b, tolerance=0.0001) and not checks.same(a, b)


def test_values_are_described_in_a_line() -> None:
    assert checks.describe(torch.tensor([[1, 2]])) == "int64 (1, 2) [[1, 2]]"
    assert checks.describe(torch.tensor([1 / 3])) == "float32 (1,) [0.3333]"
    assert checks.describe(torch.tensor(0.5)) == "float32 () 0.5"
    assert "int64 (1,) [1]" in checks.describe((torch.tensor([1]), 3))
    assert len(checks.describe(list(range(1000)))) <= 240


# --- notebook 01: data preparation -----------------------------------------------------------------------------------


def rare_first(ids, frequency):
    """The solution of exercise 1."""
    return sorted(ids, key=frequency.tolist().__getitem__)


def _sorted_in_place(ids, frequency):
    ids.sort(key=lambda i: int(frequency[i]))
    return ids


def _unstable(ids, frequency):
    backwards = ids[::-1]  # ties from behind: what an unstable sort may do
    return sorted(backwards, key=lambda i: int(frequency[i]))


def test_rare_first_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_rare_first, rare_first, capsys)
    passes(
        checks.check_rare_first,
        lambda ids, f: [ids[k] for k in f[ids].argsort(stable=True)] if ids else [],
        capsys,
    )


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda ids, f: sorted(ids, key=lambda i: -int(f[i])), "smallest number comes first"),
        (lambda ids, f: list(ids), "smallest number comes first"),
        (lambda ids, f: sorted(ids), "smallest number comes first"),
        (lambda ids, f: f.argsort(stable=True).tolist(), "Only the labels of this image"),
        (lambda ids, f: f[ids].argsort(stable=True).tolist(), "Only the labels of this image"),
        (lambda ids, f: sorted(ids, key=lambda i: (int(f[i]), i)), "keep the order"),
        (_unstable, "keep the order"),
        (lambda ids, f: sorted(ids, key=lambda i: -int(f[i]))[::-1], "keep the order"),
        (_sorted_in_place, "work on a copy"),
        (lambda ids, f: torch.tensor(rare_first(ids, f)), "a list of ids"),
        (lambda ids, f: rare_first(ids, f) or [0], "empty list"),
    ],
)
def test_rare_first_finds_wrong_answers(
    wrong: Callable, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(checks.check_rare_first, wrong, capsys, hint)


def pad(sequences, stop, *, extra=1, fill=None, dtype=torch.int64, count=0):
    """The solution of exercise 2, with its usual mistakes as options."""
    steps = max(map(len, sequences)) + extra
    fill = stop if fill is None else fill
    rows = [[*ids, *[stop] * (len(ids) < steps)] + [fill] * (steps - len(ids) - 1) for ids in sequences]
    lengths = [len(ids) + count for ids in sequences]
    return torch.tensor(rows, dtype=dtype).reshape(len(rows), steps), torch.tensor(lengths)


def _pad_in_place(sequences, stop):
    steps = max(map(len, sequences)) + 1
    lengths = torch.tensor([len(ids) for ids in sequences])
    for ids in sequences:
        ids += [stop] * (steps - len(ids))
    return torch.tensor(sequences), lengths


def _pad_before(sequences, stop):
    labels, lengths = pad(sequences, stop)
    return torch.stack([row.roll(len(row) - int(n)) for row, n in zip(labels, lengths, strict=True)]), lengths


def test_pad_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_pad, pad, capsys)
    passes(checks.check_pad, pad_labels, capsys)
    passes(checks.check_pad, lambda s, stop: list(pad(s, stop)), capsys)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda s, stop: pad(s, stop, extra=0), "plus one"),  # no <stop> in the longest row
        (lambda s, stop: pad(s, stop, extra=2), "plus one"),
        (lambda s, stop: pad(s, stop, fill=0), "nothing else"),
        (lambda s, stop: pad(s, stop, fill=stop + 1), "nothing else"),
        (lambda s, stop: pad([sorted(ids) for ids in s], stop), "in their order"),
        (_pad_before, "nothing else"),
        (lambda s, stop: pad(s, stop, count=1), "not a label"),
        (lambda s, stop: pad(s, stop, dtype=torch.float32), "torch.int64"),
        (lambda s, stop: pad(s, stop)[0], "two tensors"),
        (lambda s, stop: (pad(s, stop)[0].tolist(), pad(s, stop)[1]), "two tensors"),
        (lambda s, stop: pad([ids for ids in s if ids] or s, stop), "plus one"),  # empty sets dropped
        (lambda s, stop: pad(s, stop)[::-1], "plus one"),
        (_pad_in_place, "work on a copy"),
    ],
)
def test_pad_finds_wrong_answers(wrong: Callable, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_pad, wrong, capsys, hint)


def together(multi_hot):
    """[i, j]: rows with both i and j."""
    return multi_hot.T @ multi_hot


def conditional(multi_hot):
    """The solution of exercise 3."""
    counts = together(multi_hot)
    return counts / counts.diagonal().clamp(min=1)[:, None]


def _normalised_in_place(multi_hot):
    answer = conditional(multi_hot)
    multi_hot /= multi_hot.sum(0).clamp(min=1)
    return answer


def test_conditional_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_conditional, conditional, capsys)
    passes(checks.check_conditional, lambda m: (together(m) / m.sum(0)[:, None]).nan_to_num(), capsys)
    passes(checks.check_conditional, lambda m: conditional(m.double()), capsys)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda m: conditional(m).T, "This is P(i | j)"),
        (lambda m: together(m) / together(m).diagonal().clamp(min=1), "This is P(i | j)"),  # a column each
        (lambda m: together(m) / len(m), "divided by all images"),
        (together, "the share that also have j"),
        (lambda m: together(m) / together(m).diagonal()[:, None], "not NaN"),
        (lambda m: conditional(m).fill_diagonal_(0), "1 where i = j"),
        (lambda m: together(m) / together(m).sum(1, keepdim=True).clamp(min=1), "the share that also have j"),
        (lambda m: m @ m.T, "a row and a column for every label"),
        (lambda m: conditional(m).tolist(), "Return a tensor"),
        (_normalised_in_place, "work on a copy"),
    ],
)
def test_conditional_finds_wrong_answers(
    wrong: Callable, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(checks.check_conditional, wrong, capsys, hint)


def prepare(data, split, *, splits=("train",), names=tuple, drop=False, extra=1, boxes=False, sign=1):
    """The solution of exercise 4, with the colleague's mistakes as options."""
    frequency = Counter(name for s in splits for record in data.split(s) for name in record.labels)
    rows = [
        data.vocabulary.encode(sorted(names(record.labels), key=lambda name: sign * frequency[name]))
        for record in data.split(split)
    ]
    return pad([row for row in rows if row] if drop else rows, data.vocabulary.stop, extra=extra)


def tidy(labels):
    """Each label once, by a set: alphabetical by accident."""
    return sorted(set(labels))


def test_prepare_takes_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_prepare, prepare, capsys)

    def with_helpers(data, split):
        rows = [data.vocabulary.encode(record.labels) for record in data.split(split)]
        train = [data.vocabulary.encode(record.labels) for record in data.train]
        frequency = label_frequency(train, len(data.vocabulary))
        return pad_labels([rare_first(row, frequency) for row in rows], data.vocabulary.stop)

    passes(checks.check_prepare, with_helpers, capsys)


@pytest.mark.parametrize(
    ("mistakes", "hint"),
    [
        ({"splits": ("train", "val", "test")}, "comes from train"),
        ({"splits": ("train", "val")}, "Rare labels first"),
        ({"splits": ("test",)}, "Rare labels first"),
        ({"splits": ()}, "Rare labels first"),
        ({"names": tidy}, "the order of record.labels"),
        ({"names": lambda labels: labels[::-1]}, "the order of record.labels"),
        ({"sign": -1}, "Rare labels first"),
        ({"drop": True}, "every image needs its row"),
        ({"extra": 0}, "room for a <stop>"),
        (
            {"splits": ("train", "val", "test"), "names": tidy, "drop": True, "extra": 0},
            "every image needs its row",
        ),
        ({"splits": ("train", "val", "test"), "names": tidy, "extra": 0}, "room for a <stop>"),
        ({"splits": ("train", "val", "test"), "names": tidy}, "first by training frequency"),
    ],
)
def test_prepare_finds_each_mistake(
    mistakes: dict[str, Any], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(checks.check_prepare, lambda data, split: prepare(data, split, **mistakes), capsys, hint)


def test_prepare_finds_frequencies_of_the_split_itself(capsys: pytest.CaptureFixture[str]) -> None:
    fails(
        checks.check_prepare,
        lambda data, split: prepare(data, split, splits=(split,)),
        capsys,
        "Rare labels first",
    )


# --- notebook 03 -----------------------------------------------------------------------------------------------------


def lstm_step(x, h, c, weight, bias, alive):
    """The solution of exercise 1."""
    i, f, g, o = (torch.cat([x, h], dim=1) @ weight.T + bias).chunk(4, dim=1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h = o.sigmoid() * new_c.tanh()
    keep = alive[:, None]
    return torch.where(keep, new_h, h), torch.where(keep, new_c, c)


def cell_of_torch(x, h, c, weight, bias, alive):
    """Another right answer: PyTorch's own cell, and the rows copied one by one."""
    cell = torch.nn.LSTMCell(x.shape[1], h.shape[1])
    with torch.no_grad():
        cell.weight_ih.copy_(weight[:, : x.shape[1]])
        cell.weight_hh.copy_(weight[:, x.shape[1] :])
        cell.bias_ih.copy_(bias)
        cell.bias_hh.zero_()
        new_h, new_c = cell(x, (h, c))
    for row in range(len(x)):
        if not alive[row]:
            new_h[row], new_c[row] = h[row], c[row]
    return [new_h, new_c]


def slip(**changed):
    """An LSTM step with a slip: `order` of the parts, what `keep` does, or a line of its own."""

    def step(x, h, c, weight, bias, alive):
        parts = dict(
            zip(
                changed.get("order", "ifgo"),
                (torch.cat([x, h], 1) @ weight.T + bias).chunk(4, 1),
                strict=True,
            )
        )
        i, f, g, o = (parts[name] for name in "ifgo")
        new_c = f.sigmoid() * c + i.sigmoid() * (g if changed.get("bare") else g.tanh())
        new_h = o.sigmoid() * (c if changed.get("old") else new_c).tanh()
        if changed.get("no_tanh"):
            new_h = o.sigmoid() * new_c
        keep = alive[:, None]
        if changed.get("forget_rows"):
            return new_h, new_c
        if changed.get("zero_rows"):
            return new_h * keep, new_c * keep
        if changed.get("only_h"):
            return torch.where(keep, new_h, h), new_c
        answer = torch.where(keep, new_h, h), torch.where(keep, new_c, c)
        return answer[::-1] if changed.get("turned") else answer

    return step


@pytest.mark.parametrize("answer", [lstm_step, cell_of_torch, slip()])
def test_lstm_step_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_lstm_step, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (slip(order="figo"), "exchanged"),
        (slip(order="ifog"), "in this order"),
        (slip(order="gifo"), "z = [x, h]"),
        (slip(bare=True), "candidate g goes through tanh"),
        (slip(old=True), "not of the old one"),
        (slip(no_tanh=True), "tanh is missing"),
        (slip(forget_rows=True), "must keep the h and c"),
        (slip(zero_rows=True), "not turn to 0"),
        (slip(only_h=True), "Where alive is False"),
        (slip(turned=True), "h comes first"),
        (lambda x, h, c, weight, bias, alive: h, "Return two tensors"),
        (lambda x, h, c, weight, bias, alive: (h[0], c[0]), "Return two tensors"),
        (lambda x, h, c, weight, bias, alive: lstm_step(x, h, c, weight, 0 * bias, alive), "z = [x, h]"),
    ],
)
def test_lstm_step_finds_slips(answer: Any, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_lstm_step, answer, capsys, hint)


def decoded(step, state, start, stop, max_labels, *, slip=""):
    """The solution of exercise 2, or one with a slip."""
    named, token = [], start
    first_state = state
    for _ in range(max_labels + (slip == "one more")):
        scores, state = step(token, first_state if slip == "no state" else state)
        scores = scores.clone()
        if slip == "zero":
            scores[named] = 0
        elif slip == "stop after a repeat":
            if int(scores.argmax()) in named:
                break
        elif slip != "repeats":
            scores[named] = -torch.inf
        if slip == "never stops":
            scores[stop] = -torch.inf
        token = int(scores.argmax())
        if token == stop:
            return [*named, stop] if slip == "keeps stop" else named
        if slip == "drops repeats" and token in named:
            continue
        named.append(token)
        if slip == "feeds start":
            token = start
    return named


def test_greedy_accepts_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_greedy, decoded, capsys)

    def with_tensors(step, state, start, stop, max_labels):
        out_of_play = torch.zeros(stop + 1)
        named, token = [], torch.tensor(start)
        while len(named) < max_labels and (token != stop):
            scores, state = step(token, state)
            token = (scores + out_of_play).argmax()
            if token != stop:
                named.append(token.item())
                out_of_play[token] = -torch.inf
        return named

    passes(checks.check_greedy, with_tensors, capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("repeats", "named twice"),
        ("zero", "named twice"),
        ("stop after a repeat", "the best of what is left"),
        ("never stops", "goes on after <stop>"),
        ("keeps stop", "<stop> ends the list"),
        ("feeds start", "Start with the token"),
        ("no state", "Give `step` the state"),
        ("one more", "At most max_labels"),
    ],
)
def test_greedy_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_greedy, lambda *given: decoded(*given, slip=slip), capsys, hint)


def test_greedy_wants_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_greedy, lambda *given: torch.tensor(decoded(*given)), capsys, "a list of ids")


def sequence_loss(logits, targets, lengths, *, slip=""):
    """The solution of exercise 3, or one with a slip."""
    cost = -logits.log_softmax(dim=-1).gather(2, targets[..., None]).squeeze(-1)
    if slip == "raw":
        cost = -logits.gather(2, targets[..., None]).squeeze(-1)
    if slip == "sign":
        cost = -cost
    counts = torch.arange(logits.shape[1]) <= lengths[:, None]
    if slip == "no stop":
        counts = torch.arange(logits.shape[1]) < lengths[:, None]
    if slip == "padding":
        counts = torch.ones_like(counts)
    if slip == "sum":
        return cost[counts].sum()
    if slip == "B":
        return cost[counts].sum() / len(cost)
    if slip == "all":
        return (cost * counts).mean()
    if slip == "images":
        return ((cost * counts).sum(1) / counts.sum(1)).mean()
    if slip == "vector":
        return cost[counts]
    return cost[counts].mean()


@pytest.mark.parametrize("answer", [sequence_loss, sequence_cross_entropy])
def test_sequence_loss_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_sequence_loss, answer, capsys)


def test_sequence_loss_accepts_ignore_index(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(logits, targets, lengths):
        ignored = torch.arange(logits.shape[1]) > lengths[:, None]
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets.masked_fill(ignored, -100))

    passes(checks.check_sequence_loss, answer, capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("padding", "The padding counts"),
        ("no stop", "<stop> does not count"),
        ("sum", "This is the sum"),
        ("B", "not by B."),
        ("all", "not by all B * T"),
        ("images", "mean over images"),
        ("sign", "The sign"),
        ("raw", "logarithm of the softmax"),
        ("vector", "Return one number"),
    ],
)
def test_sequence_loss_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_sequence_loss, lambda *given: sequence_loss(*given, slip=slip), capsys, hint)


# --- notebook 02: CNN features ---------------------------------------------------------------------------------------

FEATURE_CHECKS = (
    checks.check_to_grid,
    checks.check_asymmetric,
    checks.check_cf1,
    checks.check_choose_threshold,
)


@pytest.mark.parametrize("check", FEATURE_CHECKS)
def test_feature_starters_are_not_solved_yet(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    for starter in (..., None, lambda *arguments: ...):
        passed, printed = verdict(check, starter, capsys)
        assert passed is False and "not solved yet" in printed


@pytest.mark.parametrize("check", FEATURE_CHECKS)
def test_feature_checks_report_errors_and_nonsense(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    fails(check, lambda *arguments: 1 / 0, capsys, "1 / 0")
    passed, printed = verdict(check, lambda *arguments: "nonsense", capsys)
    assert passed is False and "not right yet" in printed


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x.flatten(2).transpose(1, 2),
        lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1]),
        lambda x: x.movedim(1, -1).flatten(1, 2),
    ],
)
def test_to_grid_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_to_grid, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x: x.reshape(x.shape[0], -1, x.shape[1]), "scrambled"),
        (lambda x: x.flatten(2), "D = 2 numbers a cell"),
        (lambda x: x.permute(0, 3, 2, 1).flatten(1, 2), "column by column"),
        (lambda x: x.flatten(2).transpose(1, 2).flip(1), "Cell i * w + j"),
        (lambda x: x.flatten(2).transpose(1, 2).tolist(), "Return a tensor"),
    ],
)
def test_to_grid_finds_wrong_answers(answer: Any, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_to_grid, answer, capsys, hint)


def asymmetric(logits, multi_hot, gamma, clip, *, slip=""):
    """The asymmetric loss, with one slip or none."""
    p = logits if slip == "logits" else logits.sigmoid()
    p_m = p - clip if slip == "no max" else (p - clip).clamp(min=0)
    if slip == "no clip":
        p_m = p
    log_p = p.log() if slip == "two steps" else torch.nn.functional.logsigmoid(logits)
    q = 1 - (p if slip == "half a clip" else p_m)
    positive = -log_p * ((1 - p) ** gamma if slip == "both" else 1)
    weight = {"no gamma": 1, "one minus": (1 - p_m) ** gamma}.get(slip, p_m**gamma)
    negative = -weight * (
        q.log() if clip or slip == "half a clip" else torch.nn.functional.logsigmoid(-logits)
    )
    cost = multi_hot * positive + (1 - multi_hot) * negative
    if slip == "detached":
        cost = multi_hot * positive + (1 - multi_hot) * -(p_m.detach() ** gamma) * q.log()
    if slip == "number":
        return float(cost.mean())
    if slip == "frozen":
        return cost.mean().detach()
    return {"sum": cost.sum(), "images": cost.sum(1).mean(), "sign": -cost.mean()}.get(slip, cost.mean())


def test_asymmetric_accepts_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_asymmetric, asymmetric, capsys)
    tested = lambda z, y, gamma, clip: asymmetric_loss(z, y, gamma_negative=gamma, clip=clip)  # noqa: E731
    passes(checks.check_asymmetric, tested, capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("logits", "p = sigmoid(logit)"),
        ("no max", "p_m is 0"),
        ("no clip", "use p_m"),
        ("half a clip", "use p_m"),
        ("no gamma", "p ** gamma"),
        ("one minus", "p ** gamma"),
        ("both", "A positive costs"),
        ("two steps", "logsigmoid"),
        ("sign", "A positive costs"),
        ("sum", "the mean over all B * C"),
        ("images", "the mean over all B * C"),
        ("number", "Return a tensor"),
        ("frozen", "its gradient is not"),
        ("detached", "its gradient is not"),
    ],
)
def test_asymmetric_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_asymmetric, lambda *given: asymmetric(*given, slip=slip), capsys, hint)


def cf1(tp, predicted, support, *, slip=""):
    """Both CF1, with one slip or none."""
    if slip == "nan":
        precision, recall = tp / predicted, tp / support
    else:
        precision, recall = tp / predicted.clamp(min=1), tp / support.clamp(min=1)
    if slip == "only named":
        precision = precision[predicted > 0]
    if slip == "only present":
        recall = recall[support > 0]
    if slip == "swapped counts":
        precision, recall = recall * 0 + tp, precision
    CP, CR = precision.mean(), recall.mean()
    f1 = 2 * tp / (predicted + support).clamp(min=1)
    if slip == "overall":
        CP, CR = tp.sum() / predicted.sum(), tp.sum() / support.sum()
    harmonic = (CP + CR) / 2 if slip == "arithmetic" else 2 * CP * CR / (CP + CR).clamp(min=1e-12)
    if slip == "zero over zero":
        harmonic = 2 * CP * CR / (CP + CR)
    pair = (harmonic.item(), f1.mean().item())
    return {"turned": pair[::-1], "one": pair[0]}.get(slip, pair)


def test_cf1_accepts_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_cf1, cf1, capsys)
    passes(checks.check_cf1, lambda *counts: [torch.tensor(value) for value in cf1(*counts)], capsys)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ("nan", "precision 0"),
        ("only named", "precision 0"),
        ("only present", "recall 0"),
        ("overall", "OF1"),
        ("arithmetic", "tp / predicted"),
        ("zero over zero", "both are 0"),
        ("turned", "in the other order"),
        ("one", "Return two numbers"),
    ],
)
def test_cf1_finds_slips(slip: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(checks.check_cf1, lambda *counts: cf1(*counts, slip=slip), capsys, hint)


def best_threshold(*splits, metric="OF1"):
    """The threshold with the best OF1 on the given splits together."""
    scores, target = (torch.cat(parts) for parts in zip(*splits, strict=True))
    return choose_global(scores, target, metric)


@pytest.mark.parametrize(
    "answer",
    [
        lambda train, val, test: best_threshold(val),
        lambda train, val, test: torch.tensor(best_threshold(val)),
        lambda train, val, test: max(
            (k / 100 for k in range(99, 0, -1)), key=lambda t: checks._of1(*val, t)
        ),  # the last of equally good ones
    ],
)
def test_choose_threshold_accepts_right_answers(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    passes(checks.check_choose_threshold, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda train, val, test: best_threshold(test), "best threshold on test"),
        (lambda train, val, test: best_threshold(train), "best threshold on train"),
        (lambda train, val, test: best_threshold(train, val, test), "only there"),
        (lambda train, val, test: best_threshold(val, test), "only there"),
        (lambda train, val, test: 0.05, "On val, OF1 is"),
        (lambda train, val, test: round(best_threshold(val) * 100), "not its value"),
        (lambda train, val, test: 1 - best_threshold(val), ""),
        (lambda train, val, test: float(val[0].mean()), ""),
    ],
)
def test_choose_threshold_finds_wrong_answers(
    answer: Any, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(checks.check_choose_threshold, answer, capsys, hint)
