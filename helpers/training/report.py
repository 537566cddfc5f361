"""What is reported of a trained system: metrics with intervals, by label, set size and frequency, calibration, errors.

    said = run_system("ria", checkpoint.system, loader)
    table = report(said, vocabulary.labels, frequency)

`CaptionJudge` judges sentences: BLEU, the loss of the true captions, and whether what is named is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import binary_calibration_error

from helpers.data.batches import Batch, CaptionRows
from helpers.data.labels import decoder_inputs
from helpers.data.records import Record
from helpers.decoders.probability import MAX_LABELS, sequence_log_probability, set_log_probability
from helpers.metrics.captions import bleu, scene_colours, stated_truth, truth
from helpers.metrics.intervals import bootstrap
from helpers.metrics.label_sets import multilabel_metrics, per_label_metrics
from helpers.metrics.thresholds import top_k_mask
from helpers.systems.base import System
from helpers.systems.captioner import Captioner
from helpers.systems.losses import sequence_cross_entropy
from helpers.systems.sequence import SequenceSystem


@dataclass(frozen=True)
class Said:
    """What a system said of the N images of a split, on the CPU.

    predicted, target: (N, C) bool. scores: (N, C) float32, or None. top: (N, C) bool, exactly `k` labels an image.
    probability: (N,) float32, P(predicted set | image) of the system itself; nan where the set was too large.
    truth_probability: (N,) float32, P(true set | image). truth_sequence, found_sequence: (N,) float32, log P of the
        sequences, the true one in the order of training; None for systems without a decoder.
    """

    name: str
    predicted: Tensor
    target: Tensor
    scores: Tensor | None
    top: Tensor | None
    k: int
    probability: Tensor
    truth_probability: Tensor
    truth_sequence: Tensor | None = None
    found_sequence: Tensor | None = None


@torch.inference_mode()
def run_system(
    name: str, system: System, loader: Iterable[Batch], *, device: torch.device | str = "cpu", k: int = 3
) -> Said:
    """Everything that `report` needs; the system is put into eval mode. loader: its `Batch`es.

    For a decoder P(set) is the sum over the orders of the set, for sets of up to 7 labels; for a classifier, whose
    labels are independent, the product over all labels of p or 1 - p.
    """
    system.eval()
    k = min(k, len(system.vocabulary))
    parts: list[dict[str, Tensor]] = []
    for batch in loader:
        batch = batch.to(device)
        part = (
            _run_decoder(system, batch, k)
            if isinstance(system, SequenceSystem)
            else _run_scores(system, batch, k)
        )
        parts.append({key: value.cpu() for key, value in part.items()})
    if not parts:
        raise ValueError("there is nothing to evaluate: the loader gave no batch")
    merged = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return Said(name, k=k, **({"scores": None, "top": None} | merged))


def _run_scores(system: System, batch: Batch, k: int) -> dict[str, Tensor]:
    prediction, target = system.predict(system.features(batch)), batch.multi_hot.bool()
    scores = prediction.scores.float()
    log_p, log_q = scores.clamp(min=1e-12).log(), (1 - scores).clamp(min=1e-12).log()

    def probability(chosen: Tensor) -> Tensor:
        return torch.where(chosen, log_p, log_q).sum(1).exp()

    return {
        "predicted": prediction.predicted,
        "target": target,
        "scores": scores,
        "top": top_k_mask(scores, k),
        "probability": probability(prediction.predicted),
        "truth_probability": probability(target),
    }


def _run_decoder(system: SequenceSystem, batch: Batch, k: int) -> dict[str, Tensor]:
    features = system.features(batch)
    prediction = system.predict(features)
    width, top_k = system.beam_width, system.top_k
    system.search_with(beam_width=width, top_k=k)
    top = system.predict(features).predicted
    system.search_with(beam_width=width, top_k=top_k)
    seen, found, steps = system.decoder_features(features), prediction.decoded, system.max_labels + 1

    def known(function: Callable[..., Tensor], labels: Tensor, lengths: Tensor, most: int) -> Tensor:
        """(B,) log-probabilities, nan for images of more than `most` labels."""
        result = torch.full((len(batch),), torch.nan, device=top.device)
        rows = (lengths <= most).nonzero().flatten()
        if len(rows):
            some = seen.select(rows)
            result[rows] = function(system.decoder, some, labels[rows], lengths[rows], max_steps=steps)
        return result

    small = min(MAX_LABELS, steps)
    result = {
        "predicted": prediction.predicted,
        "target": batch.multi_hot.bool(),
        "top": top,
        "probability": known(set_log_probability, found.tokens, found.lengths, small).exp(),
        "truth_probability": known(set_log_probability, batch.labels, batch.lengths, small).exp(),
        "found_sequence": known(sequence_log_probability, found.tokens, found.lengths, steps),
        "truth_sequence": known(sequence_log_probability, batch.labels, batch.lengths, steps),
    }
    if prediction.scores is not None:
        result["scores"] = prediction.scores.float()
    return result


def report(
    said: Said,
    labels: tuple[str, ...],
    frequency: Tensor,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """The whole table of a system, all of JSON (an undefined number is None).

    labels: C names. frequency: (C,) int64, *training* images of each label. Other arguments as in
    `intervals.bootstrap`.
    """
    intervals = bootstrap(
        said.predicted, said.target, said.scores, replicates=replicates, level=level, seed=seed
    )
    result: dict[str, Any] = {
        "name": said.name,
        "images": len(said.target),
        "level": level,
        "metrics": {name: asdict(value) for name, value in intervals.items()},
        "by_label": by_label(said, labels, frequency),
        "by_set_size": by_set_size(said),
        "by_frequency": by_frequency(said, frequency),
        "set_calibration": calibration(said.probability, (said.predicted == said.target).all(1)),
        "search_or_model": search_or_model(said),
    }
    if said.top is not None:
        result[f"top_{said.k}"] = multilabel_metrics(said.top, said.target)
    if said.scores is not None:
        result["label_calibration"] = calibration(said.scores.flatten(), said.target.flatten())
    return finite(result)


def by_label(said: Said, labels: tuple[str, ...], frequency: Tensor) -> list[dict[str, Any]]:
    """Precision, recall, F1 (and average precision) of every label, the most frequent in training first."""
    found = per_label_metrics(said.predicted, said.target, said.scores)
    return [
        {
            "label": labels[c],
            "train": int(frequency[c]),
            **{key: value[c].item() for key, value in found.items()},
        }
        for c in frequency.argsort(descending=True, stable=True).tolist()
    ]


def by_set_size(said: Said) -> list[dict[str, Any]]:
    """The metrics of the images with 0, 1, 2, … true labels, and how many were named for them."""
    sizes = said.target.sum(1)
    rows = []
    for size in sizes.unique().tolist():
        chosen = sizes == size
        found = multilabel_metrics(said.predicted[chosen], said.target[chosen])
        rows.append(
            {
                "size": size,
                "images": int(chosen.sum()),
                "named": float(said.predicted[chosen].sum(1).double().mean()),
                **{key: found[key] for key in ("OP", "OR", "OF1", "image_F1", "exact_match")},
            }
        )
    return rows


def by_frequency(said: Said, frequency: Tensor, *, bins: int = 5) -> list[dict[str, Any]]:
    """The metrics over rare, …, frequent labels: groups of about equally many labels, the rarest first."""
    rows = []
    for group in frequency.argsort(stable=True).tensor_split(min(bins, len(frequency))):
        found = multilabel_metrics(said.predicted[:, group], said.target[:, group])
        rows.append(
            {
                "least": int(frequency[group].min()),
                "most": int(frequency[group].max()),
                "labels": len(group),
                **{key: found[key] for key in ("CP", "CR", "CF1", "OP", "OR", "OF1", "N+")},
            }
        )
    return rows


def calibration(probability: Tensor, correct: Tensor, *, bins: int = 10) -> dict[str, Any]:
    """Does what is said with probability p come true in a share p of the cases?

    probability: (N,) float, nan for cases to leave out. correct: (N,) bool. bins: of equal width.
    Returns the cases counted, mean probability and share correct in all and in each bin that is not empty,
    `error` (the expected calibration error: the mean distance of the two, weighted by the bins' cases) and `brier`
    (the mean squared difference between probability and 0 or 1).
    """
    known = ~probability.isnan()
    p, y = probability[known].double().clamp(0, 1), correct[known]
    result: dict[str, Any] = {"cases": len(p), "left_out": int((~known).sum()), "bins": []}
    if not len(p):
        return result
    place = (p * bins).long().clamp(max=bins - 1)
    for i in place.unique().tolist():
        inside = place == i
        result["bins"].append(
            {
                "low": i / bins,
                "high": (i + 1) / bins,
                "cases": int(inside.sum()),
                "probability": float(p[inside].mean()),
                "correct": float(y[inside].double().mean()),
            }
        )
    return result | {
        "probability": float(p.mean()),
        "correct": float(y.double().mean()),
        "error": float(binary_calibration_error(p, y.int(), n_bins=bins, norm="l1")),
        "brier": float((p - y.double()).square().mean()),
    }


def search_or_model(said: Said) -> dict[str, Any]:
    """Who errs: where the set is wrong, did the system think the truth more probable and not find it?

    `right`: share of the images with exactly the true set; `search_error`: the truth has the higher probability, so a
    better search would have found something better; `model_error`: it has not, so no search helps. `left_out`: images
    whose probabilities are not known, the set being too large. Beside them the mean probability of the set that was
    found and of the true one, and for a decoder the mean log P of both sequences.
    """
    found, truth = said.probability, said.truth_probability
    known = ~(found.isnan() | truth.isnan())
    right = (said.predicted == said.target).all(1)
    search = known & ~right & (truth > found)
    count = max(1, int(known.sum()))
    result = {
        "images": int(known.sum()),
        "left_out": int((~known).sum()),
        "right": int((known & right).sum()) / count,
        "search_error": int(search.sum()) / count,
        "model_error": int((known & ~right & ~search).sum()) / count,
        "found_probability": float(found[known].mean()),
        "truth_probability": float(truth[known].mean()),
    }
    if said.truth_sequence is not None:
        both = ~(said.truth_sequence.isnan() | said.found_sequence.isnan())
        result["found_log_probability"] = float(said.found_sequence[both].mean())
        result["truth_log_probability"] = float(said.truth_sequence[both].mean())
        result["truth_sequence_more_probable"] = float(
            (said.truth_sequence > said.found_sequence + 1e-4)[both].double().mean()
        )
    return result


def finite(value: Any) -> Any:
    """The same with None for every number that is not finite: JSON has no nan."""
    if isinstance(value, dict):
        return {key: finite(x) for key, x in value.items()}
    if isinstance(value, list):
        return [finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class CaptionJudge:
    """Judges a captioner on a split: `judge(system)` -> loss, BLEU-1 to BLEU-4 and, for scenes, the truth.

    images: the split's images in order, a batch of `Batch` at a time (`make_loader` of an `ImageDataset` or a
        `FeatureDataset`). records: those images. captions: theirs as word ids.
    check_labels: add `truth`, and `stated_truth` where `scene_colours` finds the colours; for scenes only.

    Images without a caption are left out. `loss` is the mean over all words and `<stop>`s of all their captions, under
    teacher forcing and without smoothing: exp(loss) is the perplexity. Raises ValueError where no image has a caption.
    """

    def __init__(
        self,
        images: DataLoader[Batch],
        records: Sequence[Record],
        captions: CaptionRows,
        *,
        check_labels: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if not len(captions):
            raise ValueError(
                "no image of this split has a caption to compare with: captioning needs a data set with captions"
            )
        self.images, self.records, self.captions = images, records, captions
        self.check_labels, self.device = check_labels, device
        self.colours = scene_colours(records) if check_labels else None

    @torch.inference_mode()
    def __call__(self, system: Captioner) -> dict[str, float]:
        was_training = system.training
        system.eval()
        said, total = [], torch.zeros((), dtype=torch.float64)
        try:
            for batch in self.images:
                batch = batch.to(self.device, non_blocking=True)
                features = system.features(batch)
                said += system.sentences(system.decode(features))
                total += self._loss(system, system.decoder_features(features), batch.index.cpu())
        finally:
            system.train(was_training)
        judged = [i for i, record in enumerate(self.records) if record.captions]
        result = bleu([said[i] for i in judged], [self.records[i].captions for i in judged])
        result["loss"] = float(total) / int((self.captions.lengths + 1).sum())
        if self.check_labels:
            result |= truth(said, [record.labels for record in self.records])
        if self.colours is not None:
            result |= stated_truth(said, self.records, self.colours)
        return result

    def _loss(self, system: Captioner, features, index: torch.Tensor) -> torch.Tensor:
        """Summed over the words of all captions of the images `index` (B,)."""
        total = torch.zeros((), dtype=torch.float64)
        first, last = self.captions.first[index], self.captions.first[index + 1]
        # One caption of every image at a time: repeating the grids of all would fill the memory.
        for k in range(int((last - first).max())):
            has = (first + k < last).nonzero().flatten()  # images with so many captions
            labels, lengths = self.captions.padded((first + k)[has].tolist())
            labels, lengths = labels.to(self.device), lengths.to(self.device)
            tokens = decoder_inputs(labels, system.vocabulary.start)
            logits, _ = system.decoder(features.select(has.to(self.device)), tokens)
            total += sequence_cross_entropy(logits, labels, lengths, reduction="sum").double().cpu()
        return total
