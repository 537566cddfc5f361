"""The attention decoder against the formulas written out, in every way of running it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.data.batches import Features
from helpers.decoders import attention
from helpers.decoders.attention import (
    AttentionLSTM,
    TeacherForcing,
    additive_attention,
    doubly_stochastic_penalty,
)
from helpers.decoders.base import Decoder, State
from helpers.decoders.search import greedy

C, B, T, L, D, H, A, E = 9, 5, 4, 6, 7, 8, 10, 3


def make(**options: object) -> AttentionLSTM:
    sizes = {"hidden_size": H, "attention_size": A, "embedding_size": E}
    return AttentionLSTM(C, D, **{**sizes, **options}).eval()


def make_features(
    batch: int = B, *, cells: int = L, size: int = D, dtype: torch.dtype | None = None
) -> Features:
    grid = torch.randn(batch, cells, size, dtype=dtype)
    return Features(grid.mean(1), grid)


def make_tokens(batch: int = B, steps: int = T) -> Tensor:
    return torch.randint(0, C + 2, (batch, steps))


def formulas(
    d: AttentionLSTM, features: Features, tokens: Tensor, *, late_query: bool = False
) -> tuple[Tensor, Tensor]:
    """Show, Attend and Tell as in the paper: one image, one step and one gate at a time, nothing shared.

    late_query: the mistake of attending with the new hidden state instead of the previous one.
    """
    a, h_size = d.keys.out_features, d.from_hidden.in_features
    parts = [a, d.keys.in_features, h_size, h_size, h_size, h_size]
    w_query, w_gate, *u = d.from_hidden.weight.split(parts)
    b_query, b_gate, *b_u = d.from_hidden.bias.split(parts)
    w_x, b_x = d.from_embedding.weight.split(h_size), d.from_embedding.bias.split(h_size)
    w_z = d.from_context.weight.split(h_size)
    all_logits, all_attention = [], []
    for pooled, grid, sequence in zip(features.pooled, features.grid, tokens, strict=True):
        h = d.initial_hidden.weight @ pooled + d.initial_hidden.bias
        c = torch.zeros_like(h)
        if d.initial_cell is not None:
            c = d.initial_cell.weight @ pooled + d.initial_cell.bias
        for token in sequence:
            x = d.embedding.weight[token]

            def look(h: Tensor, grid: Tensor = grid) -> Tensor:
                energy = [
                    d.score.weight[0] @ F.relu(d.keys.weight @ cell + d.keys.bias + w_query @ h + b_query)
                    + d.score.bias[0]
                    for cell in grid
                ]
                return torch.stack(energy).softmax(0)

            attention = look(h)
            z = torch.sigmoid(w_gate @ h + b_gate) * sum(
                w * cell for w, cell in zip(attention, grid, strict=True)
            )
            i, f, g, o = (w_x[k] @ x + b_x[k] + w_z[k] @ z + u[k] @ h + b_u[k] for k in range(4))
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            all_logits.append(d.scores.weight @ h + d.scores.bias)
            all_attention.append(look(h) if late_query else attention)
    shape = tokens.shape
    return torch.stack(all_logits).view(*shape, -1), torch.stack(all_attention).view(*shape, -1)


def gradients(decoder: AttentionLSTM, outputs: tuple[Tensor, Tensor], grid: Tensor) -> dict[str, Tensor]:
    """Of a loss that reads logits and attention, for every parameter and the grid."""
    logits, attention = (x.to(grid.dtype) for x in outputs)
    torch.manual_seed(1)
    loss = (logits * torch.randn(logits.shape)).sum() + 3 * (attention * torch.randn(attention.shape)).sum()
    named = dict(decoder.named_parameters())
    return dict(zip([*named, "grid"], torch.autograd.grad(loss, [*named.values(), grid]), strict=True))


# --- The right answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learn_cell", [False, True])
@pytest.mark.parametrize("run", ["forward", "steps"])
def test_it_is_the_formulas_with_their_gradients(double: None, run: str, learn_cell: bool) -> None:
    decoder, features, tokens = make(learn_cell=learn_cell), make_features(), make_tokens()
    grid = features.grid.requires_grad_()
    expected = formulas(decoder, features, tokens)
    found = decoder(features, tokens) if run == "forward" else Decoder.forward(decoder, features, tokens)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-11)
    expected, found = gradients(decoder, expected, grid), gradients(decoder, found, grid)
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert found["from_hidden.weight"].abs().min() > 0


def test_the_attention_of_a_step_uses_the_hidden_state_before_it(double: None) -> None:
    decoder, features, tokens = make(), make_features(), make_tokens()
    wrong = formulas(decoder, features, tokens, late_query=True)[1]
    assert (decoder(features, tokens)[1] - wrong).abs().max() > 1e-4


def test_parameters_are_those_of_the_published_model() -> None:
    vectors = torch.randn(262, 300)
    with torch.device("meta"):
        decoder = AttentionLSTM(260, 2048, hidden_size=2048, attention_size=1024, vectors=vectors)
    assert sum(p.numel() for p in decoder.parameters() if p.requires_grad) == 49_153_286
    query = 1024 * (2048 + 1)  # the rows of from_hidden that make the query, and their biases
    rest = sum(p.numel() for layer in (decoder.keys, decoder.score) for p in layer.parameters())
    assert query + rest == 4_197_377


def test_every_parameter_gets_a_gradient() -> None:
    """A parameter that never gets one stops training on several GPUs."""
    decoder = make(learn_cell=True).train()
    decoder(make_features(), make_tokens())[0].sum().backward()
    assert [n for n, p in decoder.named_parameters() if p.grad is None] == []


# --- One decoder, many ways to run it -----------------------------------------------------------------------------


# The second is large enough for every product to go through the convolution, where there is AVX-512.
@pytest.mark.parametrize(("batch", "cells", "size"), [(B, L, 12), (32, 20, 192), (1, 20, 192)])
def test_teacher_forcing_is_stepping(batch: int, cells: int, size: int) -> None:
    decoder = AttentionLSTM(C, size, hidden_size=size, attention_size=size, embedding_size=E).eval()
    features, tokens = make_features(batch, cells=cells, size=size), make_tokens(batch)
    grid = features.grid.requires_grad_()
    fast, steps = decoder(features, tokens), Decoder.forward(decoder, features, tokens)
    for x, y in zip(fast, steps, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-5)
    fast, steps = gradients(decoder, fast, grid), gradients(decoder, steps, grid)
    for name in steps:
        scale = float(steps[name].abs().max())
        torch.testing.assert_close(fast[name], steps[name], rtol=0, atol=1e-5 * max(scale, 1.0), msg=name)


@pytest.fixture(scope="module")
def trained() -> tuple[AttentionLSTM, Features, Tensor]:
    """A decoder that has learned which cell's content is named at which step: its margins are wide."""
    torch.manual_seed(0)
    features = make_features(16, size=12)
    decoder = AttentionLSTM(C, 12, hidden_size=24, attention_size=16, embedding_size=6, input_dropout=0.0)
    labels = torch.stack([torch.randperm(C)[: T - 1] for _ in range(16)])
    targets = F.pad(labels, (0, 1), value=decoder.stop_token)  # (16, T)
    inputs = F.pad(labels, (1, 0), value=decoder.start_token)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(decoder(features, inputs)[0].flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
    return decoder.eval(), features, targets


def test_it_learns(trained: tuple[AttentionLSTM, Features, Tensor]) -> None:
    decoder, features, targets = trained
    assert torch.equal(greedy(decoder, features, max_steps=T).tokens, targets)


def test_bfloat16_gives_the_same_labels(trained: tuple[AttentionLSTM, Features, Tensor]) -> None:
    decoder, features, targets = trained
    with torch.autocast("cpu", torch.bfloat16):
        decoded = greedy(decoder, features, max_steps=T)
        state = decoder.start(features)
        logits, attention = decoder(features, make_tokens(16))
    assert torch.equal(decoded.tokens, targets)
    assert {x.dtype for x in state.memory} == {torch.bfloat16}  # half the bytes to read at every step
    assert {x.dtype for x in (*state.hidden, attention)} == {torch.float32}
    assert logits.dtype == torch.bfloat16


def test_bfloat16_gradients_are_as_good_as_autograds(trained: tuple[AttentionLSTM, Features, Tensor]) -> None:
    decoder, features, tokens = trained[0], trained[1], make_tokens(16)
    grid = features.grid.clone().requires_grad_()
    features = features._replace(grid=grid)
    exact = gradients(decoder, decoder(features, tokens), grid)
    with torch.autocast("cpu", torch.bfloat16):  # the backward pass inside it as well, on purpose
        fast = gradients(decoder, decoder(features, tokens), grid)
        plain = gradients(decoder, Decoder.forward(decoder, features, tokens), grid)
    for name in set(exact) - {"score.bias"}:  # whose gradient is 0
        ours, theirs = (
            float(F.cosine_similarity(exact[name].flatten(), x[name].flatten(), dim=0)) for x in (fast, plain)
        )
        assert ours > 0.95 and ours > theirs - 0.01, f"{name}: {ours}, plain steps {theirs}"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same_labels(
    trained: tuple[AttentionLSTM, Features, Tensor], precision: torch.dtype
) -> None:
    decoder, features, targets = trained
    on_gpu, there = copy.deepcopy(decoder).cuda(), features.to("cuda")
    with torch.autocast("cuda", precision, enabled=precision != torch.float32):
        assert torch.equal(greedy(on_gpu, there, max_steps=T).tokens.cpu(), targets)
        logits, attention = on_gpu(there, make_tokens(16).cuda())
        (logits.float().sum() + attention.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in on_gpu.parameters())


# --- Beams and painted attention ------------------------------------------------------------------------


class LargestOutput(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes (views do not count)."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not function.is_view:
            self.largest = max(self.largest, result.numel())
        return result


def test_beams_share_the_memory_of_their_image() -> None:
    k, decoder, features = 3, make(attention_size=2), make_features(size=D)
    tokens = make_tokens(B * k, 1)[:, 0]
    state = decoder.start(features)
    hidden = (torch.randn(B * k, H), torch.randn(B * k, H))
    copied = tuple(x.repeat_interleave(k, 0) for x in state.memory)  # the memory of image i, k times
    expected = decoder.step(tokens, State(hidden, copied))
    with torch.no_grad(), LargestOutput() as seen:
        found = decoder.step(tokens, State(hidden, state.memory))
    torch.testing.assert_close(
        (found[0], found[1].hidden, found[2]), (expected[0], expected[1].hidden, expected[2])
    )
    assert all(x is y for x, y in zip(found[1].memory, state.memory, strict=True))
    # A copy of the grid would be B * k * L * D numbers; the largest thing made is the rows of from_hidden.
    assert seen.largest == B * k * (2 + D + 4 * H) < B * k * L * D


def test_painted_attention_replaces_the_decoders_own() -> None:
    decoder, features, tokens = make(), make_features(), make_tokens()[:, 0]
    state = decoder.start(features)
    logits, _, own = decoder.step(tokens, state)
    torch.testing.assert_close(decoder.step(tokens, state, attention=own)[0], logits)
    # Looking at cell 2 only is the same as an image that has nothing but cell 2.
    painted = F.one_hot(torch.full((B,), 2), L).float()
    found, _, returned = decoder.step(tokens, state, attention=painted)
    assert torch.equal(returned, painted)
    only = State(state.hidden, tuple(x[:, 2:3] for x in state.memory))
    torch.testing.assert_close(found, decoder.step(tokens, only)[0], rtol=0, atol=1e-6)
    assert (found - logits).abs().max() > 1e-4
    with pytest.raises(ValueError, match=r"attention is \(5, 5\), expected \(5, 6\)"):
        decoder.step(tokens, state, attention=painted[:, :5])


def test_features_without_a_fitting_grid_are_refused() -> None:
    decoder = make()
    with pytest.raises(ValueError, match="grid=True"):
        decoder.start(Features(torch.zeros(2, D)))
    with pytest.raises(ValueError, match=r"expected \(B, L, 7\).*feature_size=7"):
        decoder.start(make_features(size=D + 1))
    state = decoder.start(make_features(2))
    with pytest.raises(ValueError, match="3 rows cannot share the memory of 2 images"):
        decoder.step(torch.zeros(3, dtype=torch.int64), State((torch.zeros(3, H),) * 2, state.memory))


# --- What only training does --------------------------------------------------------------------------------------


def test_dropout_of_a_sequence_draws_one_mask_for_keys_and_values() -> None:
    decoder, features = make(attention_dropout=0.5).train(), make_features()
    grid, keys = decoder.start(features).memory
    dropped = grid == 0
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(grid[~dropped], 2 * features.grid[~dropped])
    torch.testing.assert_close(keys, decoder.keys(grid))
    assert not torch.equal(decoder.start(features).memory[0], grid)
    assert torch.equal(decoder.eval().start(features).memory[0], features.grid)


def test_dropout_of_a_step_draws_a_mask_for_every_step() -> None:
    options = {"input_dropout": 0.0, "output_dropout": 0.0, "attention_dropout": 0.5}
    features, tokens = make_features(), make_tokens()
    for per, changes in (("step", True), ("sequence", False)):
        decoder = make(attention_dropout_per=per, **options).train()
        state = decoder.start(features)
        first, second = (decoder.step(tokens[:, 0], state) for _ in range(2))
        assert torch.equal(first[2], second[2]) is not changes
        assert torch.equal(first[0], second[0]) is not changes
        logits, attention = decoder(features, tokens)
        assert logits.shape == (B, T, C + 1) and attention.shape == (B, T, L)
        logits.sum().backward()
    plain = make()
    plain.load_state_dict(decoder.state_dict())
    per_step = make(attention_dropout_per="step", **options)
    per_step.load_state_dict(decoder.state_dict())
    for x, y in zip(per_step(features, tokens), plain(features, tokens), strict=True):  # nothing in eval mode
        assert torch.equal(x, y)


def test_dropout_of_embedding_and_output_is_off_in_eval_mode() -> None:
    features, tokens = make_features(), make_tokens()
    for option in ("input_dropout", "output_dropout"):
        decoder = make(**{"input_dropout": 0.0, "output_dropout": 0.0, option: 0.5})
        assert torch.equal(decoder(features, tokens)[0], decoder(features, tokens)[0])
        decoder.train()
        assert not torch.equal(decoder(features, tokens)[0], decoder(features, tokens)[0])


def test_the_doubly_stochastic_penalty_counts_valid_steps_only() -> None:
    attention = torch.rand(3, T, L).softmax(2).requires_grad_()
    lengths = torch.tensor([0, 2, T - 1])
    penalty = doubly_stochastic_penalty(attention, lengths)
    numbers = attention.tolist()
    expected = [
        (1 - sum(numbers[b][t][i] for t in range(int(lengths[b]) + 1))) ** 2
        for b in range(3)
        for i in range(L)
    ]
    assert penalty.item() == pytest.approx(sum(expected) / len(expected))
    assert penalty.item() != pytest.approx(
        float((1 - attention.detach().sum(1)).square().mean())
    )  # padding counted
    penalty.backward()
    assert attention.grad[0, 0].abs().min() > 0 and attention.grad[0, 1:].abs().max() == 0
    # L steps that look at one cell each leave nothing to ask for.
    assert doubly_stochastic_penalty(torch.eye(L).unsqueeze(0), torch.tensor([L - 1])).item() == 0


# --- The arithmetic ---


@pytest.mark.parametrize("chunk_bytes", [1, 2 * 4 * 5 * 8, 2**30])  # pieces of 1, of 2 and 1, of all 3 images
def test_the_written_out_backward_pass(
    double: None, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(attention, "CHUNK_BYTES", chunk_bytes)
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
    monkeypatch.setattr(attention, "CHUNK_BYTES", chunk_bytes)
    with torch.no_grad():
        torch.testing.assert_close(additive_attention(keys, query, weights), energy.softmax(2))
    torch.testing.assert_close(additive_attention(keys, query, weights), energy.softmax(2))


@pytest.mark.parametrize(
    ("m", "k", "n"), [(32, 160, 1024), (1024, 160, 32), (1024, 160, 40), (37, 300, 1021), (3, 5, 7)]
)
def test_the_product_through_a_convolution(m: int, k: int, n: int) -> None:
    x, weight, bias = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
    expected = F.linear(x.double(), weight.double(), bias.double()).float()
    torch.testing.assert_close(attention.linear(x, weight, bias), expected, rtol=1e-4, atol=1e-4)
    d_result = torch.randn(m, n)
    torch.testing.assert_close(
        attention.linear_backward(d_result, weight), d_result @ weight, rtol=1e-4, atol=1e-4
    )


def test_which_products_go_through_a_convolution() -> None:
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip(f"this CPU has no AVX-512 ({torch.backends.cpu.get_cpu_capability()})")
    large, few = torch.randn(1024, 256), torch.randn(32, 256)
    assert attention.groups(large, few) >= 16
    assert attention.groups(large.double(), few.double()) == 0
    assert attention.groups(large, few[:3]) == 0  # one or two rows are a matrix-vector product
    assert attention.groups(large[:1021], few) == 0  # a prime cannot be cut into pictures
    with torch.autocast("cpu", torch.bfloat16):
        assert attention.groups(large, few) == 0
