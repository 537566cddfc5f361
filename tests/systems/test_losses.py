"""helpers.systems.losses against the formulas written out in float64, and at the edges of the number range."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from helpers.systems.losses import asymmetric_loss, focal_loss, lsep_loss, sequence_cross_entropy

quick = settings(max_examples=25)
LABEL_LOSSES = [asymmetric_loss, focal_loss, lsep_loss]


# --- Sequences ----------------------------------------------------------------------------------


def written_out_sequence_loss(logits, targets, lengths, smoothing=0.0):
    """Sum over the n + 1 steps that count, and their number, in plain Python floats."""
    total, steps = 0.0, 0
    for scores, target, length in zip(logits.tolist(), targets.tolist(), lengths.tolist(), strict=True):
        for t in range(length + 1):
            log_sum = math.log(sum(math.exp(s) for s in scores[t]))
            log_p = [s - log_sum for s in scores[t]]
            total -= (1 - smoothing) * log_p[target[t]] + smoothing * sum(log_p) / len(log_p)
            steps += 1
    return total, steps


@st.composite
def sequences(draw):
    batch, steps, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(2, 6))
    lengths = torch.tensor(draw(st.lists(st.integers(0, steps - 1), min_size=batch, max_size=batch)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    logits = torch.randn(batch, steps, outputs, generator=generator, dtype=torch.float64) * 3
    targets = torch.randint(0, outputs, (batch, steps), generator=generator)
    return logits, targets, lengths


@quick
@given(sequences(), st.sampled_from([0.0, 0.1]))
def test_sequence_loss_is_the_formula(case, smoothing):
    total, steps = written_out_sequence_loss(*case, smoothing)
    mean = sequence_cross_entropy(*case, label_smoothing=smoothing)
    assert mean.item() == pytest.approx(total / steps, rel=1e-9)
    summed = sequence_cross_entropy(*case, label_smoothing=smoothing, reduction="sum")
    assert summed.item() == pytest.approx(total, rel=1e-9)


@quick
@given(sequences())
def test_what_stands_after_the_stop_has_no_say(case):
    logits, targets, lengths = case
    after = torch.arange(logits.shape[1]) > lengths[:, None]
    logits.requires_grad_()
    loss = sequence_cross_entropy(logits, targets, lengths)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[after].any()
    assert gradient[~after].abs().sum(dim=-1).all()  # the stop's step does count
    other = sequence_cross_entropy(logits, targets.masked_fill(after, 0), lengths)
    assert torch.equal(other, loss)


def test_an_image_without_labels_learns_to_stop():
    logits = torch.zeros(1, 3, 4, requires_grad=True)
    loss = sequence_cross_entropy(logits, torch.full((1, 3), 3), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(4))
    loss.backward()
    assert logits.grad[0, 0].tolist() == pytest.approx([0.25, 0.25, 0.25, -0.75])


def test_tokens_weigh_the_same_whatever_their_image():
    # One image of 3 labels and one of none: 4 + 1 steps. A mean of image means would differ.
    logits = torch.zeros(2, 4, 2, dtype=torch.float64)
    logits[0, :, 0] = 2.0
    targets, lengths = torch.zeros(2, 4, dtype=torch.int64), torch.tensor([3, 0])
    easy, even = math.log(1 + math.exp(-2)), math.log(2)
    assert sequence_cross_entropy(logits, targets, lengths).item() == pytest.approx((4 * easy + even) / 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    logits = (torch.randn(4, 5, 261) * 4).to(dtype)
    targets, lengths = torch.randint(0, 261, (4, 5)), torch.tensor([4, 0, 2, 3])
    loss = sequence_cross_entropy(logits, targets, lengths)
    assert loss.dtype == torch.float32
    exact = sequence_cross_entropy(logits.double(), targets, lengths)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_masked_outputs_may_be_minus_infinity():
    logits = torch.zeros(1, 2, 3)
    logits[0, 1, 0] = -torch.inf  # a decoder that may not repeat label 0
    loss = sequence_cross_entropy(logits, torch.tensor([[0, 2]]), torch.tensor([1]))
    assert loss.item() == pytest.approx((math.log(3) + math.log(2)) / 2)


LOGITS, TARGETS, LENGTHS = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64), torch.tensor([1, 2])


@pytest.mark.parametrize(
    ("logits", "targets", "lengths", "message"),
    [
        (LOGITS, TARGETS[:, :2], LENGTHS, r"targets \(2, 3\)"),
        (LOGITS, TARGETS, LENGTHS[:1], r"lengths \(2,\)"),
        (LOGITS, TARGETS, torch.tensor([1, 3]), "more steps"),  # its stop would be cut off in silence
        (LOGITS, TARGETS, torch.tensor([1, -1]), r"lengths are -1\.\.1"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(logits, targets, lengths, message):
    with pytest.raises(ValueError, match=message):
        sequence_cross_entropy(logits, targets, lengths)


# --- Sets ---------------------------------------------------------------------------------------


def written_out_asymmetric(logits, target, gamma_positive, gamma_negative, clip):
    total = 0.0
    for s, y in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-s))
        p_m = max(p - clip, 0.0)
        total -= y * (1 - p) ** gamma_positive * math.log(p) + (1 - y) * p_m**gamma_negative * math.log(
            1 - p_m
        )
    return total


@st.composite
def labelled(draw):
    batch, labels = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    logits = torch.randn(batch, labels, generator=generator, dtype=torch.float64) * 4
    return logits, torch.rand(batch, labels, generator=generator) < 0.4


GAMMAS = st.sampled_from([0.0, 0.5, 1.0, 3.0, 4.0])


@quick
@given(labelled(), GAMMAS, GAMMAS, st.sampled_from([0.0, 0.05, 0.5]), st.booleans())
def test_asymmetric_loss_is_the_formula(case, gamma_positive, gamma_negative, clip, detach):
    logits, target = case
    expected = written_out_asymmetric(logits, target, gamma_positive, gamma_negative, clip)
    options = {
        "gamma_positive": gamma_positive,
        "gamma_negative": gamma_negative,
        "clip": clip,
        "detach_focus": detach,
    }
    summed = asymmetric_loss(logits, target, reduction="sum", **options)
    assert summed.item() == pytest.approx(expected, rel=1e-8, abs=1e-12)
    mean = asymmetric_loss(logits, target.float(), **options)
    assert mean.item() == pytest.approx(expected / logits.numel(), rel=1e-8, abs=1e-12)


@quick
@given(labelled())
def test_without_focus_and_margin_it_is_binary_cross_entropy(case):
    logits, target = case
    expected = F.binary_cross_entropy_with_logits(logits, target.double())
    ours = asymmetric_loss(logits, target, gamma_positive=0, gamma_negative=0, clip=0)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(focal_loss(logits, target, gamma=0), expected, rtol=1e-10, atol=0)


def test_focal_loss_is_symmetric_focus():
    logits, target = torch.randn(5, 7, dtype=torch.float64) * 3, torch.rand(5, 7) < 0.5
    theirs = sigmoid_focal_loss(logits, target.double(), alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(focal_loss(logits, target, gamma=2), theirs, rtol=1e-9, atol=0)


def written_out_lsep(logits, target):
    return [
        math.log(
            1 + sum(math.exp(v - u) for v, a in row for u, b in row if not a and b)  # v outside, u inside
        )
        for row in (
            list(zip(s, y, strict=True)) for s, y in zip(logits.tolist(), target.tolist(), strict=True)
        )
    ]


@quick
@given(labelled())
def test_lsep_is_the_formula(case):
    expected = written_out_lsep(*case)
    assert lsep_loss(*case).item() == pytest.approx(sum(expected) / len(expected), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("fill", [False, True])
def test_lsep_has_nothing_to_rank_without_both_kinds(fill):
    logits = torch.randn(2, 3, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):  # no nan on the way back either
        loss = lsep_loss(logits, torch.full((2, 3), fill))
        loss.backward()
    assert loss.item() == 0 and not logits.grad.any()  # 0, and not nan


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, y: asymmetric_loss(s, y, gamma_positive=1, gamma_negative=3, clip=0.05),
        lambda s, y: asymmetric_loss(s, y, gamma_positive=0.5, gamma_negative=0.5, clip=0.2),
        focal_loss,
        lsep_loss,
    ],
)
def test_gradients(loss):
    logits = (torch.randn(3, 4, dtype=torch.float64) * 2).requires_grad_()
    target = torch.rand(3, 4) < 0.5
    assert torch.autograd.gradcheck(lambda s: loss(s, target), (logits,))


def test_detached_focus_leaves_the_weights_out_of_the_gradient():
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.rand(4, 5) < 0.5
    options = {"gamma_positive": 2.0, "gamma_negative": 4.0, "clip": 0.05}
    (free,) = torch.autograd.grad(asymmetric_loss(logits, target, **options), logits)
    (held,) = torch.autograd.grad(asymmetric_loss(logits, target, detach_focus=True, **options), logits)
    p = logits.detach().sigmoid()
    q_m = (1 - p + 0.05).clamp(max=1)
    # d log p = 1 - p; d log(1 - p_m) = -p (1-p) / (1 - p_m), and 0 below the margin
    positive = -((1 - p) ** 2) * (1 - p)
    negative = (1 - q_m) ** 4 * p * (1 - p) / q_m
    torch.testing.assert_close(held, torch.where(target, positive, negative) / 20)
    assert not torch.allclose(free, held)


def test_easy_negatives_cost_nothing():
    below = torch.tensor([[0.04]]).logit().requires_grad_()
    loss = asymmetric_loss(below, torch.zeros(1, 1))
    loss.backward()
    assert loss.item() == 0 and below.grad.item() == 0


@pytest.mark.parametrize("size", [20.0, 90.0, 1e30])
@pytest.mark.parametrize("clip", [0.0, 1e-9, 0.05, 0.5])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("detach", [False, True])
def test_extreme_logits_stay_finite(size, clip, gamma, detach):
    logits = torch.tensor([[size, -size, size, -size, 0.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0]])
    loss = asymmetric_loss(
        logits, target, gamma_positive=gamma, gamma_negative=gamma, clip=clip, detach_focus=detach
    )
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    if not clip and not gamma:  # the naive log(1 - sigmoid(x)) is infinite from 17 on
        assert loss.item() == pytest.approx((2 * size + math.log(2)) / 5, rel=1e-5)


@pytest.mark.parametrize("size", [20.0, 500.0, 1e30])
def test_extreme_rankings_stay_finite(size):
    logits = torch.tensor([[size, -size, 0.0], [-size, size, 0.0]], requires_grad=True)
    loss = lsep_loss(logits, torch.tensor([[True, False, False], [True, False, False]]))
    loss.backward()
    assert logits.grad.isfinite().all()
    assert loss.item() == pytest.approx(size, rel=1e-5)  # 0 for the first image, 2 size for the second


@pytest.mark.parametrize("loss", LABEL_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_logits_are_computed_in_float32(loss, dtype):
    logits, target = (torch.randn(8, 20) * 4).to(dtype), torch.rand(8, 20) < 0.2
    result = loss(logits, target.to(dtype))
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(loss(logits.double(), target).item(), rel=1e-5)


@pytest.mark.parametrize("loss", LABEL_LOSSES)
def test_sets_that_do_not_fit_are_refused(loss):
    logits = torch.zeros(2, 3)
    for wrong in (torch.zeros(2, 2), torch.zeros(3), torch.zeros(2, 1)):  # the last would broadcast
        with pytest.raises(ValueError, match=r"both be \(B, C\)"):
            loss(logits, wrong)
    with pytest.raises(ValueError, match="not empty"):
        loss(logits[:0], logits[:0])
