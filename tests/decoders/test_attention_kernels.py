"""The written-out arithmetic of attention against autograd and plain products."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_attention import A, B, C, L, make

from helpers.decoders import attention as kernels
from helpers.decoders.attention import AttentionLSTM, TeacherForcing, additive_attention


@pytest.mark.parametrize("chunk_bytes", [1, 2 * 4 * 5 * 8, 2**30])  # pieces of 1, of 2 and 1, of all 3 images
def test_the_written_out_backward_pass(
    double: None, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(kernels, "CHUNK_BYTES", chunk_bytes)
    steps, batch, cells, size, hidden, keys = 3, 3, 4, 2, 3, 5
    weights = AttentionLSTM(C, size, hidden_size=hidden, attention_size=keys)._weights()
    shapes = [(steps, batch, 4 * hidden), (batch, hidden), (batch, hidden), (batch, cells, size)]
    shapes += [(batch, cells, keys), *(w.shape for w in weights)]
    arguments = [torch.randn(shape, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(TeacherForcing.apply, arguments)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("chunk_bytes", [1, 7 * L * A * 4, 2**30])
def test_pieces_of_the_batch_do_not_change_the_attention(
    monkeypatch: pytest.MonkeyPatch, queries: int, chunk_bytes: int
) -> None:
    keys, query, weights = torch.randn(B, L, A), torch.randn(B, queries, A), make()._weights()
    energy = F.relu(keys.unsqueeze(1) + query.unsqueeze(2)) @ weights.score[0] + weights.score_bias
    monkeypatch.setattr(kernels, "CHUNK_BYTES", chunk_bytes)
    with torch.no_grad():
        torch.testing.assert_close(additive_attention(keys, query, weights), energy.softmax(2))
    torch.testing.assert_close(additive_attention(keys, query, weights), energy.softmax(2))


@pytest.mark.parametrize(
    ("m", "k", "n"), [(32, 160, 1024), (1024, 160, 32), (1024, 160, 40), (37, 300, 1021), (3, 5, 7)]
)
def test_the_product_through_a_convolution(m: int, k: int, n: int) -> None:
    x, weight, bias = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
    expected = F.linear(x.double(), weight.double(), bias.double()).float()
    torch.testing.assert_close(kernels.linear(x, weight, bias), expected, rtol=1e-4, atol=1e-4)
    d_result = torch.randn(m, n)
    torch.testing.assert_close(
        kernels.linear_backward(d_result, weight), d_result @ weight, rtol=1e-4, atol=1e-4
    )


def test_which_products_go_through_a_convolution() -> None:
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip(f"this CPU has no AVX-512 ({torch.backends.cpu.get_cpu_capability()})")
    large, few = torch.randn(1024, 256), torch.randn(32, 256)
    assert kernels.groups(large, few) >= 16
    assert kernels.groups(large.double(), few.double()) == 0
    assert kernels.groups(large, few[:3]) == 0  # one or two rows are a matrix-vector product
    assert kernels.groups(large[:1021], few) == 0  # a prime cannot be cut into pictures
    with torch.autocast("cpu", torch.bfloat16):
        assert kernels.groups(large, few) == 0
