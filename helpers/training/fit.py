"""Fitting and evaluating: a loop that knows nothing of the model but `loss(batch)` and `predict(batch)`."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from tqdm.auto import tqdm

from helpers.data.batches import Batch
from helpers.data.files import load_state
from helpers.metrics.label_sets import multilabel_metrics, sequence_metrics
from helpers.systems.base import System
from helpers.training.checkpoints import saving
from helpers.training.config import CYCLE, FitOptions, usual_epochs

Metrics = dict[str, float]


@dataclass(frozen=True)
class Outputs:
    """What a system said of a whole split, on the CPU.

    predicted: (N, C) bool. target: (N, C) bool. scores: (N, C) float32, or None for systems that only name a set.
    said: (N, T) int64, what a decoder says when it may repeat labels, or None where that was not asked for.
    """

    predicted: Tensor
    target: Tensor
    scores: Tensor | None = None
    said: Tensor | None = None

    def metrics(self) -> Metrics:
        """All of `metrics.multilabel_metrics`; with `said` those of `metrics.sequence_metrics` as well."""
        result = multilabel_metrics(self.predicted, self.target, self.scores)
        if self.said is not None:
            result |= sequence_metrics(self.said, self.target)
        return result


@contextmanager
def threads_for(model: nn.Module, device: torch.device | str) -> Iterator[None]:
    """One torch thread while a model that reads one vector per image works on the CPU; restored afterwards.

    Its steps are too small to share: threads wait for one another longer than they compute. A model with an encoder
    or a grid keeps all threads. OMP_NUM_THREADS, where it is set, decides in every case.
    """
    before = torch.get_num_threads()
    needs_grid = getattr(getattr(model, "options", None), "needs_grid", False)
    small = getattr(model, "encoder", None) is None and not needs_grid
    if small and torch.device(device).type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def predict_all(
    system: System,
    loader: Iterable[Batch],
    *,
    device: torch.device | str = "cpu",
    progress: bool = False,
    unmasked: bool = False,
) -> Outputs:
    """Run a system over a split, in eval mode (its mode is restored).

    unmasked: decode once more to fill `said`, which the repeats and early stops are counted from.
    """
    was_training = system.training
    system.eval()
    predicted, target, scores, said = [], [], [], []
    try:
        for batch in tqdm(loader, desc="evaluating", disable=not progress, leave=False):
            features = system.features(batch.to(device, non_blocking=True))
            prediction = system.predict(features)
            predicted.append(prediction.predicted.cpu())
            target.append(batch.multi_hot.bool().cpu())
            if prediction.scores is not None:
                scores.append(prediction.scores.float().cpu())
            if unmasked and (tokens := system.unmasked_tokens(features)) is not None:
                said.append(tokens.cpu())
    finally:
        system.train(was_training)
    if not predicted:
        raise ValueError("there is nothing to evaluate: the loader gave no batch")
    target = torch.cat(target)
    if said:
        steps, stop = max(tokens.shape[1] for tokens in said), target.shape[1]
        # A batch may end early, when all its images have stopped.
        said = [pad(tokens, (0, steps - tokens.shape[1]), value=stop) for tokens in said]
    return Outputs(
        torch.cat(predicted),
        target,
        torch.cat(scores) if scores else None,
        torch.cat(said) if said else None,
    )


def evaluate(system: System, loader: Iterable[Batch], **options: Any) -> Metrics:
    """All metrics of a system on a split, from 0 to 1 (N+ and repeats are counts); options as in `predict_all`."""
    return predict_all(system, loader, **options).metrics()


def fit(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    validate: Callable[[nn.Module], Metrics],
    select: str,
    options: FitOptions | None = None,
    device: torch.device | str = "cpu",
    output: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    on_epoch: Sequence[Callable[[nn.Module, Metrics], None]] = (),
) -> list[Metrics]:
    """Train a model and leave in it the weights of its best validation epoch.

    model: has `loss(batch) -> scalar Tensor`. loader: `Batch`es, with a `generator` if it shuffles.
    validate: called after every epoch with the model to judge; select: the key of its result to maximise.
    output: folder for TensorBoard events and `last.pt`, written after every epoch; with resume, training goes on
        from there and ends with the same weights as a run that was never interrupted.
    on_epoch: called with (model, the epoch's numbers) after every validation.

    Returns one dict an epoch: epoch, train_loss, learning_rate, val_<metric>. Raises FloatingPointError when the
    loss stops being finite (nothing of that epoch is kept), ValueError when `select` is not among the metrics.
    """
    options = options or FitOptions()
    if options.epochs is None:
        options = replace(options, epochs=usual_epochs(len(loader)))
    run = _Run(model, options, len(loader), select, output, torch.device(device))
    if resume:
        run.restore()
    total = options.epochs * len(loader)
    bar = tqdm(
        total=total, initial=run.epoch * len(loader), desc="training", unit="step", disable=not progress
    )
    with bar, run.writer() as writer, threads_for(model, device):
        while run.epoch < options.epochs and not run.out_of_patience():
            # Each epoch starts from a seed of its own: a resumed run draws what the uninterrupted one drew.
            torch.manual_seed(options.seed * 1_000_003 + run.epoch)
            if getattr(loader, "generator", None) is not None:
                loader.generator.manual_seed(options.seed * 1_000_003 + run.epoch)
            loss = run.train_epoch(loader, bar)
            metrics = validate(run.judged)
            if select not in metrics:
                raise ValueError(
                    f"there is no validation metric {select!r} to select on; there are {sorted(metrics)}"
                )
            if math.isnan(metrics[select]):
                raise ValueError(
                    f"the validation metric {select} is not a number, so no epoch is the best: has no validation image "
                    "a label? Then give --select another metric, or the split some labels"
                )
            row = {
                "epoch": run.epoch + 1,
                "train_loss": loss,
                "learning_rate": run.scheduler.get_last_lr()[0],
            }
            row |= {f"val_{name}": value for name, value in metrics.items()}
            run.finish_epoch(row)
            for name, value in row.items():
                if writer is not None and name != "epoch":
                    writer.add_scalar(name.replace("val_", "validation/"), value, row["epoch"])
            bar.set_postfix_str(f"epoch {run.epoch} loss {loss:.3f} val {select} {metrics[select]:.3f}")
            for callback in on_epoch:
                callback(run.judged, row)
    model.load_state_dict(run.best_state)
    model.eval()
    return run.history


def parameter_groups(model: nn.Module, options: FitOptions) -> list[dict]:
    """What AdamW is given: weight decay for matrices only, a rate of its own for the encoder."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            groups.setdefault((name.startswith("encoder."), p.ndim <= 1), []).append(p)
    return [
        {
            "params": chosen,
            "weight_decay": 0.0 if is_vector else options.weight_decay,
            "lr": options.learning_rate * (options.encoder_rate if of_encoder else 1.0),
        }
        for (of_encoder, is_vector), chosen in sorted(groups.items(), key=lambda item: item[0])
    ]


def make_schedule(
    optimizer: torch.optim.Optimizer, options: FitOptions, *, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of every step, see `FitOptions`."""
    if options.schedule == "one-cycle":
        total_steps += 1  # one more than used: no step of the last epoch has rate 0
        warmup = options.warmup
        if abs(warmup * total_steps - 1) < 1e-6:
            warmup *= 1.5  # a warm-up of exactly one step makes OneCycleLR divide by its length less one
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=total_steps,
            pct_start=warmup,
        )
    if options.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, cycle_factor)


def cycle_factor(step: int) -> float:
    """The cyclic schedule's factor of the learning rate: 1, 0.667, 0.334, 0.001, and again."""
    return 1.0 - 0.999 * (step % CYCLE) / (CYCLE - 1)


def make_average(
    model: nn.Module, options: FitOptions, schedule: torch.optim.lr_scheduler.LRScheduler
) -> AveragedModel | None:
    """The average of the weights, see `FitOptions`; the schedule counts the steps."""

    def moving(averages: list[Tensor], weights: list[Tensor], _: Tensor) -> None:
        t = schedule.last_epoch
        get_ema_multi_avg_fn(min(options.ema_decay, (1 + t) / (10 + t)))(averages, weights, None)

    if not options.swa and not options.ema_decay:
        return None
    return AveragedModel(
        model, multi_avg_fn=get_swa_multi_avg_fn() if options.swa else moving, use_buffers=True
    )


class _Run:
    """The state of a training run: what is saved after every epoch and restored on resume."""

    def __init__(
        self,
        model: nn.Module,
        options: FitOptions,
        steps: int,
        select: str,
        output: Path | str | None,
        device: torch.device,
    ) -> None:
        self.model, self.options, self.select, self.device = model.to(device), options, select, device
        self.output = None if output is None else Path(output)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("the model has no parameter to train: everything is frozen")
        self.optimizer = torch.optim.AdamW(parameter_groups(model, options), lr=options.learning_rate)
        self.scheduler = make_schedule(self.optimizer, options, total_steps=options.epochs * steps)
        self.averaged = make_average(model, options, self.scheduler)
        self.judged = model if self.averaged is None else self.averaged.module
        self.parts = {"model": model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        if self.averaged is not None:
            self.parts["average"] = self.averaged
        self.epoch = self.best_epoch = 0
        self.history: list[Metrics] = []
        self.best_state: dict[str, Tensor] = {}

    def train_epoch(self, loader: Iterable[Batch], bar: tqdm) -> float:
        """One pass over the data; the mean loss of its steps."""
        options, total, count = self.options, torch.zeros((), device=self.device), 0
        self.model.train()
        for batch in loader:
            batch = batch.to(self.device, non_blocking=True)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=options.amp):
                loss = self.model.loss(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, options.clip_norm)
            self.optimizer.step()
            self.scheduler.step()
            # After scheduler.step(), last_epoch counts the steps taken: a multiple of CYCLE ends a cycle.
            if self.averaged is not None and (not options.swa or self.scheduler.last_epoch % CYCLE == 0):
                self.averaged.update_parameters(self.model)
            total += loss.detach()
            count += 1
            bar.update()
        mean = float(total) / max(
            count, 1
        )  # read once per epoch: reading at every step would make a GPU wait
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the training loss became {mean}: lower the learning rate (it was {options.learning_rate:g}) "
                "or check the features for infinite values"
            )
        return mean

    def finish_epoch(self, row: Metrics) -> None:
        """Keep the weights if they are the best ones, and save everything."""
        best = max((r[f"val_{self.select}"] for r in self.history), default=-math.inf)
        self.history.append(row)
        self.epoch += 1
        if row[f"val_{self.select}"] > best or not self.best_state:
            self.best_state = {k: v.detach().clone() for k, v in self.judged.state_dict().items()}
            self.best_epoch = self.epoch
        if self.output is not None:
            state = {name: part.state_dict() for name, part in self.parts.items()} | self._progress()
            if self.best_epoch == self.epoch:
                del state["best_state"]  # the same as the weights that were judged last
            with saving(self.output / "last.pt") as temporary:
                torch.save(state | {"options": asdict(self.options)}, temporary)

    def _progress(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("epoch", "history", "best_epoch", "best_state")}

    def restore(self) -> None:
        """Go on from `last.pt`. Raises ValueError where it was trained with other options."""
        path = None if self.output is None else self.output / "last.pt"
        if path is None or not path.exists():
            warnings.warn(f"nothing to resume from ({path} does not exist): starting afresh", stacklevel=3)
            return
        saved = load_state(path, device=self.device)
        with zipfile.ZipFile(path) as file:  # torch writes checksums and does not look at them
            if damaged := file.testzip():
                raise ValueError(
                    f"{path} is damaged ({damaged}): train again into a new --output, or bring back a copy"
                )
        wanted, found = asdict(self.options), saved["options"]
        if changed := sorted(k for k in wanted if wanted[k] != found.get(k)):
            raise ValueError(
                f"{path} was trained with other options ({', '.join(changed)} differ): resume with the same "
                "ones, or train into another output folder"
            )
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        if "best_state" not in saved:
            saved["best_state"] = {k: v.detach().clone() for k, v in self.judged.state_dict().items()}
        for name in self._progress():
            setattr(self, name, saved[name])

    def out_of_patience(self) -> bool:
        patience = self.options.patience
        return patience is not None and self.epoch - self.best_epoch >= patience and self.epoch > 0

    def writer(self) -> AbstractContextManager:
        if self.output is None:
            return nullcontext()
        # Imported here: it takes a second, and notebooks train without it.
        from torch.utils.tensorboard import SummaryWriter

        self.output.mkdir(parents=True, exist_ok=True)
        # Written at once: at the end, or after Ctrl-C, nothing waits for its thread.
        folder = self.output / "tensorboard"
        return SummaryWriter(folder, purge_step=self.epoch + 1, max_queue=1, flush_secs=1)
