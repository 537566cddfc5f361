"""The training loop: what it keeps, when it stops, how it resumes. Its model here is one linear layer."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from helpers.data.batches import Batch, Features
from helpers.data.files import load_state
from helpers.systems.base import Prediction
from helpers.training.fit import (
    FitOptions,
    evaluate,
    fit,
    make_average,
    make_schedule,
    parameter_groups,
    predict_all,
)

N, D, C = 40, 6, 3
plan = partial(FitOptions, ema_decay=0.0)


class Toy(nn.Module):
    """A linear multi-label classifier with dropout, which makes the random state matter."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, C)
        self.dropout = nn.Dropout(0.2)

    def loss(self, batch: Batch) -> torch.Tensor:
        logits = self.linear(self.dropout(batch.features.pooled))
        return nn.functional.binary_cross_entropy_with_logits(logits, batch.multi_hot)

    def features(self, batch: Batch) -> Features:
        return batch.features

    def predict(self, features: Features) -> Prediction:
        scores = self.linear(features.pooled).sigmoid()
        return Prediction(scores > 0.5, scores)


def make_batch(items: list[tuple[torch.Tensor, torch.Tensor]]) -> Batch:
    x, y = map(torch.stack, zip(*items, strict=True))
    n = len(items)
    padding = torch.full((n, 1), C)
    return Batch(torch.arange(n), padding, torch.zeros(n, dtype=torch.int64), y, features=Features(x))


@pytest.fixture
def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, D, generator=generator)
    y = (x @ torch.randn(D, C, generator=generator) > 0).float()
    return DataLoader(
        list(zip(x, y, strict=True)),
        batch_size=8,
        shuffle=True,
        collate_fn=make_batch,
        generator=torch.Generator(),
    )


def make_model() -> Toy:
    torch.manual_seed(3)
    return Toy()


def scripted(values: list[float]):
    """A validation that gives these values, one an epoch."""
    remaining = iter(values)
    return lambda model: {"score": next(remaining)}


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.state_dict().values()])


def run(model, loader, **options):
    chosen = {"validate": lambda m: evaluate(m, loader), "select": "OF1", "progress": False}
    return fit(model, loader, **(chosen | options))


def test_it_learns_and_says_so(loader) -> None:
    model = make_model()
    history = run(model, loader, options=plan(epochs=20, learning_rate=0.05))
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert evaluate(model, loader)["OF1"] > 0.9
    assert [row["epoch"] for row in history] == list(range(1, 21))
    assert not model.training


def test_the_best_epoch_is_kept(loader) -> None:
    model, seen = make_model(), []
    values = [0.1, 0.9, 0.3, 0.9]  # of equal ones the first
    run(
        model,
        loader,
        validate=scripted(values),
        select="score",
        options=plan(epochs=4),
        on_epoch=[lambda m, row: seen.append(weights(m).clone())],
    )
    assert torch.equal(weights(model), seen[1])
    assert not torch.equal(seen[1], seen[3])


def test_patience(loader) -> None:
    values = [0.1, 0.5, 0.4, 0.3, 0.2, 0.1]
    history = run(
        make_model(),
        loader,
        validate=scripted(values),
        select="score",
        options=plan(epochs=6, patience=2),
    )
    assert len(history) == 4


def test_the_same_seed_gives_the_same_weights(loader) -> None:
    results = []
    for seed in (0, 0, 1):
        model = make_model()
        run(model, loader, options=plan(epochs=3, seed=seed))
        results.append(weights(model))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("more", [{}, {"ema_decay": 0.9}, {"schedule": "cyclic", "swa": True}], ids=str)
def test_a_resumed_run_is_the_uninterrupted_one(loader, tmp_path: Path, more: dict) -> None:
    options = plan(epochs=5, learning_rate=0.05, **more)
    straight = make_model()
    expected = run(straight, loader, options=options)

    def interrupt(model, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make_model(), loader, options=options, output=tmp_path, on_epoch=[interrupt])
    torch.manual_seed(12345)  # a new process has another random state
    resumed = make_model()
    history = run(resumed, loader, options=options, output=tmp_path, resume=True)
    assert history == expected
    assert torch.equal(weights(resumed), weights(straight))
    assert list((tmp_path / "tensorboard").iterdir())


def steps_of(loader, **options) -> tuple[list[list[float]], list[torch.Tensor], torch.Tensor]:
    """The rates and the weights after each step of a run of 2 epochs of 5 steps, and the weights it keeps."""
    model, rates, seen = make_model(), [], []
    original = torch.optim.AdamW.step

    def record(self, *args, **kwargs):
        rates.append([group["lr"] for group in self.param_groups])
        result = original(self, *args, **kwargs)
        seen.append(weights(model).clone())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", record)
        options = plan(epochs=2, learning_rate=0.3, **options)
        run(model, loader, validate=scripted([1, 2]), select="score", options=options)
    return rates, seen, weights(model)


def test_the_cyclic_schedule_and_the_plain_average(loader) -> None:
    rates, seen, kept = steps_of(loader, schedule="cyclic", swa=True)
    cycle = [0.3, 0.2001, 0.1002, 0.0003]
    assert [r[0] for r in rates] == pytest.approx((cycle * 3)[:10])
    # After the fourth and the eighth step, when the rate was lowest; the tenth step is in no full cycle.
    torch.testing.assert_close(kept, (seen[3] + seen[7]) / 2)
    rates, seen, kept = steps_of(loader, schedule="constant")
    assert [r[0] for r in rates] == pytest.approx([0.3] * 10)
    assert torch.equal(kept, seen[-1])


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_run_of_any_number_of_steps(steps: int) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(make_model(), plan()), lr=1e-3)
    schedule = make_schedule(optimizer, plan(), total_steps=steps)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert all(0 < rate <= 1e-3 for rate in rates)


def test_the_encoder_has_a_rate_of_its_own(loader) -> None:
    class WithEncoder(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(2, 2)

        def loss(self, batch: Batch) -> torch.Tensor:
            return super().loss(batch) + self.encoder(batch.features.pooled[:, :2]).square().mean()

    model = WithEncoder()
    groups = parameter_groups(model, plan(learning_rate=0.1, encoder_rate=0.01))
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rate == pytest.approx(
        {id(p): 0.001 if name.startswith("encoder.") else 0.1 for name, p in model.named_parameters()}
    )
    before = model.encoder.weight.detach().clone()
    run(model, loader, options=plan(epochs=1, encoder_rate=0.0))
    assert torch.equal(model.encoder.weight, before)


def test_resume_refuses_other_options(loader, tmp_path: Path) -> None:
    run(make_model(), loader, options=plan(epochs=1), output=tmp_path)
    with pytest.raises(ValueError, match=r"other options \(epochs, learning_rate differ\)"):
        run(
            make_model(),
            loader,
            options=plan(epochs=2, learning_rate=1.0),
            output=tmp_path,
            resume=True,
        )


def test_a_flipped_bit_in_last_pt_is_found(loader, tmp_path: Path) -> None:
    run(make_model(), loader, options=plan(epochs=1), output=tmp_path)
    content = (tmp_path / "last.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "last.pt") as file:
        largest = max(file.infolist(), key=lambda one: one.file_size if "/data/" in one.filename else 0)
        raw = file.read(largest)
    place = content.index(raw) + len(raw) // 2
    (tmp_path / "last.pt").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(ValueError, match="is damaged"):
        run(make_model(), loader, options=plan(epochs=1), output=tmp_path, resume=True)


def test_last_pt_holds_no_weights_twice(loader, tmp_path: Path) -> None:
    """The best weights are in it only where they are not those of its last epoch."""
    for name, values in (("best", [1, 2]), ("worse", [2, 1])):
        how = {"validate": scripted(values), "select": "score", "options": plan(epochs=2)}
        run(make_model(), loader, output=tmp_path / name, **how)
        assert ("best_state" in load_state(tmp_path / name / "last.pt")) == (name == "worse")


def test_a_metric_that_is_not_a_number_stops_at_once(loader) -> None:
    with pytest.raises(ValueError, match="score is not a number"):
        run(make_model(), loader, validate=scripted([torch.nan]), select="score", options=plan(epochs=1))


def test_resume_without_a_run_starts_afresh(loader, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="starting afresh"):
        run(make_model(), loader, options=plan(epochs=1), output=tmp_path, resume=True)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_epoch(loader, tmp_path: Path) -> None:
    model = make_model()

    def poison(model, row):
        if row["epoch"] == 1:
            model.linear.weight.data.fill_(torch.nan)

    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        run(model, loader, options=plan(epochs=3), output=tmp_path, on_epoch=[poison])
    saved = load_state(tmp_path / "last.pt")
    assert saved["epoch"] == 1
    assert torch.isfinite(saved["model"]["linear.weight"]).all()


def test_the_average_is_judged_and_kept(loader) -> None:
    judged = []
    model = make_model()
    run(
        model,
        loader,
        validate=lambda m: judged.append(weights(m).clone()) or {"score": len(judged)},
        select="score",
        options=plan(epochs=2, ema_decay=0.99, learning_rate=0.1),
    )
    plain = make_model()
    run(
        plain,
        loader,
        validate=scripted([1, 2]),
        select="score",
        options=plan(epochs=2, learning_rate=0.1),
    )
    start = weights(make_model())
    assert torch.equal(weights(model), judged[-1])
    assert (weights(model) - start).norm() < (weights(plain) - start).norm(), "an average lags behind"


def test_a_short_run_forgets_the_untrained_weights(loader) -> None:
    """The decay of step t is at most (1 + t) / (10 + t): after 40 steps little of the first weights is left."""
    model = make_model()
    schedule = SimpleNamespace(last_epoch=0)
    averaged = make_average(model, FitOptions(ema_decay=0.99), schedule)
    first, expected = weights(model).clone(), None
    for t in range(1, 41):
        with torch.no_grad():
            model.linear.weight += 1
        schedule.last_epoch = t
        averaged.update_parameters(model)
        decay = min(0.99, (1 + t) / (10 + t))
        now = weights(model)
        expected = now if expected is None else decay * expected + (1 - decay) * now
    torch.testing.assert_close(weights(averaged.module), expected)
    lag = (weights(model) - expected).max() / (weights(model) - first).max()
    assert lag < 0.15, "with a constant decay two thirds of the way would be missing"


def test_gradients_are_clipped(loader) -> None:
    class Steep(Toy):
        def loss(self, batch):
            return 1e6 * super().loss(batch)

    torch.manual_seed(3)
    model = Steep()
    norms = []
    model.linear.weight.register_post_accumulate_grad_hook(lambda p: None)
    original = torch.optim.AdamW.step

    def record(self, *args, **kwargs):
        norms.append(torch.stack([p.grad.norm() for p in model.parameters()]).norm().item())
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", record)
        run(model, loader, validate=scripted([1]), select="score", options=plan(epochs=1, clip_norm=0.5))
    assert max(norms) <= 0.5 + 1e-4


def test_what_cannot_be_trained_or_selected_is_refused(loader) -> None:
    frozen = make_model().requires_grad_(False)
    with pytest.raises(ValueError, match="everything is frozen"):
        run(frozen, loader)
    with pytest.raises(ValueError, match="no validation metric 'mAPP'"):
        run(make_model(), loader, select="mAPP", options=plan(epochs=1))


@pytest.mark.parametrize(
    ("part", "environment", "wanted"),
    [
        ({}, {}, 1),
        ({"encoder": None, "options": SimpleNamespace(needs_grid=False)}, {}, 1),
        ({"encoder": nn.Linear(2, 2)}, {}, 2),
        ({"options": SimpleNamespace(needs_grid=True)}, {}, 2),
        ({}, {"OMP_NUM_THREADS": "2"}, 2),
    ],
    ids=["no encoder", "pooled", "encoder", "grid", "environment"],
)
def test_small_models_train_in_one_thread(loader, monkeypatch, part, environment, wanted) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    model, seen, before = make_model(), [], torch.get_num_threads()
    for name, value in part.items():
        setattr(model, name, value)
    torch.set_num_threads(2)
    try:
        run(
            model,
            loader,
            validate=lambda m: seen.append(torch.get_num_threads()) or {"score": 1.0},
            select="score",
            options=plan(epochs=1),
        )
        assert (seen, torch.get_num_threads()) == ([wanted], 2)
    finally:
        torch.set_num_threads(before)


def test_predict_all_restores_the_mode_and_covers_every_image(loader) -> None:
    model = make_model().train()
    outputs = predict_all(model, loader)
    assert model.training
    assert outputs.predicted.shape == outputs.target.shape == outputs.scores.shape == (N, C)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        predict_all(model, [])
