"""Train the model for photographs that ships in data/photo_attention.safetensors.

    python -m benchmarks.ship_photo_model --corel DIR --weights mobilenet_v2_imagenet.pth --coco DIR --output DIR
    python -m benchmarks.ship_photo_model ... --epochs 1 --last-epochs 1 --images 64          (to see that it works)

MobileNetV2 from ImageNet weights and a decoder that looks after it has read (`AdaptiveAttentionLSTM`), trained on
Corel-5k, CPU or GPU. The test split is measured once, at the end, with the epoch that was best on validation.

How the attention learns to point, without any box:
- the decoder's gradient goes through the attention into the last blocks of the CNN;
- a linear head scores all labels in every cell, and a log-sum-exp over the cells scores the image (Pinheiro and
  Collobert, "From Image-level to Pixel-level Labeling with Convolutional Networks", CVPR 2015). One cell with the thing
  in it is enough, so a cell learns to say what is in it. The head is only used in training;
- at each step of teacher forcing the attention is asked to agree with this head's map of the label that is named there
  (cross-entropy; no gradient into the head). `--guide 0` leaves this out.

There are two stages: in the second the rates fall to 0 and the agreement weighs more. What ships is the mean of the best
weights of each (Wortsman et al., "Model soups", ICML 2022): the first names labels better, the second looks sharper.

The first blocks of the CNN stay as ImageNet left them. Their maps are computed once per image, at two sizes and mirrored
at one of them; training cuts random windows from these maps. An epoch takes about 90 seconds of one CPU core.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from helpers.data.batches import Features
from helpers.data.files import DATA
from helpers.data.images import Preprocessing, eval_transform, open_image
from helpers.data.labels import Vocabulary, decoder_inputs, order_labels, pad_labels
from helpers.data.load import load
from helpers.data.readers import read_coco
from helpers.data.records import Box, Record
from helpers.decoders.search import Decoded, greedy
from helpers.encoders.encoder import Encoder, build_encoder
from helpers.metrics.label_sets import multilabel_metrics
from helpers.metrics.localization import coverage, hits, pointing
from helpers.systems.losses import asymmetric_loss, sequence_cross_entropy
from helpers.systems.registry import build
from helpers.training.checkpoints import save_checkpoint

NAME = "photo_attention.safetensors"
MOST_BYTES = 9 * 2**20
SIZES = (256, 320)  # pixels; the CNN's first blocks see the squashed images at both
EARLY = 7  # blocks `features[:EARLY]` of MobileNetV2 are computed once; 8 pixels per cell of their map
MAX_LABELS = 5


@dataclass(frozen=True)
class Settings:
    """Everything that was tried. free: the first block that learns, 19 for none."""

    epochs: int = 5  # of the first stage, which is cut from a one-cycle schedule of `cycle` epochs
    cycle: int = 8
    last_epochs: int = 4  # of the second stage: the rates fall from half of their peak to 0
    batch_size: int = 32
    encoder_rate: float = 5e-4
    decoder_rate: float = 2e-3
    weight_decay: float = 0.02
    free: int = 11
    hidden: int = 256
    attention: int = 128
    embedding: int = 128
    sentinel: bool = False
    blind_start: bool = (
        False  # the first state is a learned constant: all that is known comes through the attention
    )
    local: float = 0.1  # weight of the loss of the scores per cell
    guide: float = 0.5  # weight of the agreement of attention and scores per cell, first stage
    last_guide: float = 2.0  # and in the second stage
    entropy: float = 0.0  # weight of the entropy of the attention
    feature_dropout: float = 0.3
    label_smoothing: float = 0.05
    average: float = 0.998  # decay of the moving average of the weights, first stage
    last_average: float = 0.98
    size: int = 320  # of the images in evaluation and in the checkpoint
    seed: int = 0


class PhotoNetwork(nn.Module):
    """The late blocks of MobileNetV2, the sequence system and the scores per cell."""

    def __init__(self, weights: Path | str, vocabulary: Vocabulary, settings: Settings) -> None:
        super().__init__()
        trunk = build_encoder("mobilenet_v2", weights=weights, freeze=True).trunk
        blocks = dict(trunk.named_children())["features"]
        self.early, self.late = blocks[:EARLY], blocks[EARLY:]
        self.free = settings.free - EARLY
        self.system = build(
            "attention",
            vocabulary,
            1280,
            look="sentinel" if settings.sentinel else "after",
            max_labels=MAX_LABELS,
            hidden_size=settings.hidden,
            attention_size=settings.attention,
            embedding_size=settings.embedding,
            feature_dropout=settings.feature_dropout,
            input_dropout=0.1,
            output_dropout=0.4,
            label_smoothing=settings.label_smoothing,
        )
        if settings.blind_start:
            start = self.system.decoder.initial_hidden.weight
            nn.init.zeros_(start).requires_grad_(False)
        self.local = nn.Linear(1280, len(vocabulary))
        nn.init.zeros_(self.local.weight)
        nn.init.constant_(self.local.bias, -4.0)
        for i, block in enumerate(self.late):
            block.requires_grad_(i >= self.free)
        self.early.requires_grad_(False)

    def train(self, mode: bool = True) -> PhotoNetwork:
        super().train(mode)
        self.early.eval()
        self.late[: self.free].eval()
        return self

    def grid(self, maps: Tensor) -> Tensor:
        """Maps of the early blocks (B, 32, n, n) -> the last grid (B, L, D) float32, before it is standardized."""
        kind = maps.device.type
        with torch.autocast(kind, torch.bfloat16):
            with torch.no_grad():
                x = self.late[: self.free](maps.contiguous(memory_format=torch.channels_last))
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.free < len(self.late)):
                x = self.late[self.free :](x)
        return x.float().flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, L, D)

    def features(self, grid: Tensor) -> Features:
        """What the decoder sees of a grid (B, L, D)."""
        return self.system.prepare(Features(grid.mean(1), grid))

    def loss(
        self, maps: Tensor, labels: Tensor, lengths: Tensor, multi_hot: Tensor, s: Settings, guide: float
    ) -> Tensor:
        """labels (B, T) int64 padded with `<stop>`; guide: weight of the agreement of attention and scores per cell."""
        features = self.features(self.grid(maps))
        tokens = decoder_inputs(labels, self.system.vocabulary.start)
        logits, attention = self.system.decoder(features, tokens)
        loss = sequence_cross_entropy(logits, labels, lengths, label_smoothing=s.label_smoothing)
        named = torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]  # (B, T)
        count = named.sum().clamp(min=1)
        where = attention / attention.sum(2, keepdim=True).clamp(min=1e-6)  # a sentinel leaves less than 1
        log_attention = where.clamp(min=1e-8).log()
        if s.local:
            cells = self.local(features.grid)  # (B, L, C)
            image = cells.logsumexp(1) - torch.tensor(float(cells.shape[1])).log()
            loss = loss + s.local * asymmetric_loss(
                image, multi_hot, gamma_negative=2.0, reduction="sum"
            ) / len(maps)
            if guide:
                wanted = labels.clamp(max=cells.shape[2] - 1)[:, None].expand(
                    -1, cells.shape[1], -1
                )  # (B, L, T)
                target = cells.detach().gather(2, wanted).softmax(1).transpose(1, 2)  # (B, T, L)
                agreement = -(target * log_attention).sum(2)
                loss = loss + guide * (agreement * named).sum() / count
        if s.entropy:
            loss = loss + s.entropy * (-(where * log_attention).sum(2) * named).sum() / count
        return loss


@torch.inference_mode()
def early_maps(
    network: PhotoNetwork,
    records: Sequence[Record],
    size: int,
    device: torch.device,
    *,
    mirror: int | None = None,
) -> Tensor:
    """Maps of the early blocks, (N, 32, size / 8, size / 8) float16. mirror: 0 or 1, every second image is mirrored."""
    transform, found = eval_transform(Preprocessing(size=size)), []
    for first in range(0, len(records), 50):
        x = torch.stack([transform(open_image(record.path)) for record in records[first : first + 50]]).to(
            device
        )
        if mirror is not None:
            x[mirror::2] = x[mirror::2].flip(3)
        with torch.autocast(device.type, torch.bfloat16):
            found.append(network.early(x.contiguous(memory_format=torch.channels_last)).half())
    return torch.cat(found)


@torch.inference_mode()
def decode(network: PhotoNetwork, maps: Tensor) -> Decoded:
    """The labels of all images, greedily, with attention padded to `MAX_LABELS` + 1 steps."""
    network.eval()
    parts = []
    for x in maps.split(50):
        grid = network.grid(x.float())
        parts.append(greedy(network.system.decoder, network.features(grid), max_steps=MAX_LABELS + 1))
    steps, stop = MAX_LABELS + 1, network.system.decoder.stop_token

    def padded(x: Tensor, value: float) -> Tensor:
        rest = x.new_full((x.shape[0], steps - x.shape[1], *x.shape[2:]), value)
        return torch.cat([x, rest], 1)

    return Decoded(
        torch.cat([padded(d.tokens, stop) for d in parts]),
        torch.cat([d.lengths for d in parts]),
        torch.cat([d.log_probability for d in parts]),
        torch.cat([padded(d.step_probability, 0) for d in parts]),
        torch.cat([padded(d.attention, 0) for d in parts]),
    )


def multi_hot_of(tokens: Tensor, count: int) -> Tensor:
    """(N, T) int64 -> (N, C) bool."""
    hot = torch.zeros(len(tokens), count + 1, dtype=torch.bool, device=tokens.device)
    return hot.scatter_(1, tokens.clamp(max=count), True)[:, :count]


def scores(network: PhotoNetwork, maps: Tensor, truth: Tensor) -> dict[str, float]:
    """OF1, CF1, N+ and their parts; truth (N, C) bool."""
    metrics = multilabel_metrics(
        multi_hot_of(decode(network, maps).tokens, truth.shape[1]).cpu(), truth.cpu()
    )
    return {key: round(float(metrics[key]), 4) for key in ("OF1", "CF1", "N+", "OP", "OR", "CP", "CR")}


def grad_cam_of(network: PhotoNetwork, maps: Tensor, tokens: Tensor, step: int, label: int) -> Tensor:
    """Grad-CAM of one image's score for `label` at `step`, through attention and pooled vector: (L,).

    maps (1, 32, n, n). tokens (T,): what was named before. Selvaraju et al., ICCV 2017.
    """
    with torch.no_grad():
        grid = network.grid(maps.float())
    cells = grid.clone().requires_grad_()
    inputs = decoder_inputs(tokens.clone()[None], network.system.vocabulary.start)[:, : step + 1]
    with torch.enable_grad():
        logits, _ = network.system.decoder(network.features(cells), inputs)
        (gradient,) = torch.autograd.grad(logits[0, step, label], cells)
    return torch.einsum("bld,bd->bl", grid, gradient.mean(1)).relu()[0]


@torch.no_grad()
def _asked(network: PhotoNetwork, maps: Tensor, tokens: Tensor, labels: Sequence[int]) -> Tensor:
    """The attention (L,) at the step of `tokens` (T,) where one of `labels` is most probable; maps (1, 32, n, n)."""
    inputs = decoder_inputs(tokens.clone()[None], network.system.vocabulary.start)
    logits, attention = network.system.decoder(network.features(network.grid(maps.float())), inputs)
    steps = int((tokens != network.system.decoder.stop_token).sum()) + 1  # with the one that says `<stop>`
    probability = logits[0, :steps].softmax(1)[:, list(labels)].amax(1)  # (T,)
    return attention[0, int(probability.argmax())]


def _grader(
    boxes: Sequence[Box], size: tuple[int, int], side: int
) -> Callable[[Tensor], tuple[float, float, float, float]]:
    """Weights (L,) -> pointing, its chance, mass, its chance."""
    hit, inside = hits(boxes, size, (side, side)), coverage(boxes, size, (side, side))

    def graded(weights: Tensor) -> tuple[float, float, float, float]:
        weights = weights.detach().float().cpu()
        mass = float((weights @ inside) / weights.sum().clamp(min=1e-9))
        return pointing(weights, hit), float(hit.float().mean()), mass, float(inside.mean())

    return graded


def point(
    network: PhotoNetwork, maps: Tensor, records: Sequence[Record], names: dict[str, list[str]]
) -> dict[str, Any]:
    """The pointing game on photographs with COCO's boxes, for labels that both vocabularies know.

    A look is a label that was named and that the photograph has. "attention" grades the map at the step that named it,
    "grad_cam" that of the same score in the same network. "asked" grades every category of the table that the photograph
    has, named or not: the attention at the step where one of its labels is most probable. normalised = (pointing - chance) / (1 - chance).
    """
    network.eval()
    vocabulary, decoded = network.system.vocabulary, decode(network, maps)
    side = round(decoded.attention.shape[2] ** 0.5)  # the grid is square
    rows: dict[str, list[tuple[float, float, float, float]]] = {"attention": [], "grad_cam": [], "asked": []}
    looks, known_labels, found_labels = [], 0, 0
    for i, record in enumerate(records):
        size = open_image(record.path).size
        there = {box.label for box in record.boxes}
        known = sorted({c for cs in names.values() for c in cs} & there)
        known_labels += len(known)
        for category in known:
            graded = _grader([box for box in record.boxes if box.label == category], size, side)
            labels = vocabulary.encode([label for label, cs in names.items() if category in cs])
            rows["asked"].append(graded(_asked(network, maps[i : i + 1], decoded.tokens[i], labels)))
        seen: set[str] = set()
        for t in range(int(decoded.lengths[i])):
            label = vocabulary.labels[int(decoded.tokens[i, t])]
            categories = [c for c in names.get(label, []) if c in there]
            if label not in names:
                continue
            if not categories:
                looks.append((i, label, "wrong"))
                continue
            seen.update(categories)
            graded = _grader([box for box in record.boxes if box.label in categories], size, side)
            rows["attention"].append(graded(decoded.attention[i, t]))
            wanted = int(decoded.tokens[i, t])
            rows["grad_cam"].append(
                graded(grad_cam_of(network, maps[i : i + 1], decoded.tokens[i], t, wanted))
            )
            looks.append((i, label, "right" if rows["attention"][-1][0] else "right, looks elsewhere"))
        found_labels += len(seen)
    result: dict[str, Any] = {"looks": len(rows["attention"]), "known": known_labels, "found": found_labels}
    result["wrong"] = sum(kind == "wrong" for _, _, kind in looks)
    for kind, values in rows.items():
        if values:
            p, c, m, e = torch.tensor(values, dtype=torch.float64).mean(0).tolist()
            result[kind] = {
                "pointing": round(p, 3),
                "chance": round(c, 3),
                "normalised": round((p - c) / (1 - c), 3),
                "mass": round(m, 3),
                "mass_chance": round(e, 3),
            }
    result["each"] = looks
    return result


def brief(found: dict[str, Any]) -> str:
    """One line of `point`."""
    a, g = found.get("attention", {}), found.get("grad_cam", {})
    return (
        f"named {found['found']}/{found['known']} wrong {found['wrong']} looks {found['looks']} "
        f"pointing {a.get('pointing')} chance {a.get('chance')} norm {a.get('normalised')} mass {a.get('mass')} "
        f"(grad-cam norm {g.get('normalised')}, asked norm {found.get('asked', {}).get('normalised')})"
    )


@dataclass
class Targets:
    """Of one split: labels (N, T) rare-first, lengths (N,), multi_hot (N, C)."""

    labels: Tensor
    lengths: Tensor
    multi_hot: Tensor


def targets_of(
    records: Sequence[Record], vocabulary: Vocabulary, frequency: Any, device: torch.device
) -> Targets:
    sequences = [
        order_labels(vocabulary.encode(record.labels), "rare-first", frequency=frequency)
        for record in records
    ]
    padded = pad_labels(sequences, vocabulary.stop)
    hot = torch.zeros(len(records), len(vocabulary))
    for i, sequence in enumerate(sequences):
        hot[i, sequence] = 1
    return Targets(padded.labels.to(device), padded.lengths.to(device), hot.to(device))


def fit(
    network: PhotoNetwork,
    maps: Sequence[Tensor],
    targets: Targets,
    settings: Settings,
    report: Any,
    *,
    last: bool = False,
) -> dict[str, Tensor]:
    """One stage of training; returns the average of the weights with the best report. The network gets the last average.

    maps: one (N, 32, n, n) per size. last: the second stage, which starts from the average of the first.
    """
    torch.manual_seed(settings.seed + last)
    device, count = targets.labels.device, len(targets.labels)
    steps = count // settings.batch_size
    encoder = [p for p in network.late.parameters() if p.requires_grad]
    others = [p for m in (network.system, network.local) for p in m.parameters() if p.requires_grad]
    groups = [
        {"params": p, "lr": r}
        for p, r in ((encoder, settings.encoder_rate), (others, settings.decoder_rate))
        if p
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    if last:
        epochs, decay, weight = settings.last_epochs, settings.last_average, settings.last_guide
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, 0.01, total_iters=epochs * steps)
    else:
        epochs, decay, weight = settings.epochs, settings.average, settings.guide
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [g["lr"] for g in groups], total_steps=settings.cycle * steps, pct_start=0.2
        )
    average = copy.deepcopy(network)
    best, state, taken = -1.0, {}, 0
    for epoch in range(epochs):
        network.train()
        started, total = time.time(), 0.0
        order = torch.randperm(count)
        for batch in order.split(settings.batch_size)[:steps]:
            source = maps[int(torch.randint(len(maps), ()))]
            side = min(
                source.shape[2], 28 + 4 * int(torch.randint(2, ()))
            )  # the window, in cells of 8 pixels
            top, left = (int(torch.randint(source.shape[2] - side + 1, ())) for _ in range(2))
            x = source[batch, :, top : top + side, left : left + side].to(device).float()
            index = batch.to(device)
            loss = network.loss(
                x,
                targets.labels[index],
                targets.lengths[index],
                targets.multi_hot[index],
                settings,
                weight if last else weight * min(1.0, taken / (2 * steps)),
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            taken += 1
            keep = min(decay, taken / (10 + taken))
            with torch.no_grad():
                for a, b in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                    if a.is_floating_point():
                        a.lerp_(b, 1 - keep)
                    else:
                        a.copy_(b)
            total += float(loss.detach())
        value = report(epoch, total / steps, time.time() - started, average)
        if value > best:
            best, state = value, {k: v.detach().clone() for k, v in average.state_dict().items()}
    network.load_state_dict(average.state_dict())
    return state


def write(network: PhotoNetwork, settings: Settings, metrics: dict[str, Any], output: Path) -> Path:
    """The checkpoint, float16, with its encoder; the scores per cell stay behind. Raises ValueError above 9 MiB."""
    encoder = Encoder("mobilenet_v2", _backbone(network, settings.size), freeze=True)
    path = output / NAME
    config = {"system": "attention", "data": "corel5k", **asdict(settings)}
    save_checkpoint(path, network.system, encoder, config=config, metrics=metrics, half=True)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    return path


def _backbone(network: PhotoNetwork, size: int) -> Any:
    from helpers.encoders.backbones import build_backbone

    backbone = build_backbone("mobilenet_v2", weights=None, image_size=size)
    blocks = {f"features.{i}.{k}": v for i, b in enumerate(network.early) for k, v in b.state_dict().items()}
    blocks |= {
        f"features.{EARLY + i}.{k}": v for i, b in enumerate(network.late) for k, v in b.state_dict().items()
    }
    backbone.trunk.load_state_dict(blocks)
    return backbone


def card(settings: Settings, metrics: dict[str, Any], checksum: str, size: int) -> str:
    """The model card, Markdown."""
    lines = [
        "# The model for photographs",
        "",
        f"`{NAME}`: MobileNetV2 and a decoder that looks after it has read. {size:,} bytes, float16, sha256 `{checksum}`.",
        "",
        "- **Made from** MobileNetV2 with ImageNet weights (Apache-2.0; Sandler et al., CVPR 2018) and the labels of Corel-5k's",
        "  training photographs. No photograph of Corel-5k is in the file. It is passed on under Apache-2.0, too.",
        "- **Decoder**: Lu, Xiong, Parikh and Socher, *Knowing When to Look*, CVPR 2017, spatial attention.",
        "- **Recipe**: `python -m benchmarks.ship_photo_model`, seed "
        f"{settings.seed}; {settings.epochs} + {settings.last_epochs} epochs, blocks {settings.free} to 18 of the CNN learn. Labels rare-first, teacher",
        "  forcing. In training only: a score per cell and label, pooled by log-sum-exp, and an attention that is asked to agree",
        "  with the map of the label it names. No box was used. The epoch was chosen on 500 photographs carved from Corel-5k's",
        "  training split; its test split was measured once. The weights are the mean of the best epoch of each stage.",
        f"- **Images** are squashed to {settings.size} x {settings.size} pixels; the grid has {settings.size // 32} x {settings.size // 32} cells.",
        "",
        "| Corel-5k, 260 labels | OF1 | CF1 | N+ |",
        "| --- | --- | --- | --- |",
    ]
    for split in ("val", "test"):
        row = metrics[split]
        lines.append(f"| {split} | {100 * row['OF1']:.1f} | {100 * row['CF1']:.1f} | {row['N+']:.0f} |")
    lines += [
        "",
        "Pointing game, COCO's boxes, labels named right that COCO knows too (`data/photographs/names.json`). Normalised is",
        "(pointing - chance) / (1 - chance).",
        "",
        "| photographs | looks | pointing | chance | normalised | mass (chance) | Grad-CAM of the same score, normalised | all known labels, named or not |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in metrics["pointing"].items():
        if a := found.get("attention"):
            g, k = found["grad_cam"], found["asked"]
            lines.append(
                f"| {name} | {found['looks']} | {a['pointing']:.2f} | {a['chance']:.2f} | {a['normalised']:.2f} | "
                f"{a['mass']:.2f} ({a['mass_chance']:.2f}) | {g['normalised']:.2f} | {k['normalised']:.2f} of {found['known']} |"
            )
    return "\n".join([*lines, "", LIMITS])


LIMITS = """## Limits

- It knows the 260 labels of Corel-5k: stock photographs of the 1990s. It has no words for rooms, furniture, dogs, bicycles or
  sports. Indoors it names nothing (a kitchen) or something wrong (a bathroom: window).
- Where it does not know a thing it often names a near one with a high probability: white cows are "foals, horses", cats are
  "fox", guineafowl are "zebra, plane". The first label of a list is rare-first and often a guess (probability below .2).
- Of the labels that a COCO photograph has and both sets know, it names about a third. It points well at those that it names
  right; asked for all of them, it points only a little better than chance. Its maps are broad: the peak means more than the rest.
- The pointing table rests on few looks: one photograph more or less moves it by several points.
- Not for decisions about people: `people`, `man` and `woman` are labels of old stock photographs.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ship_photo_model", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--corel", type=Path, required=True, help="folder with Corel-5k")
    parser.add_argument("--weights", type=Path, required=True, help="MobileNetV2's ImageNet weights")
    parser.add_argument(
        "--coco", type=Path, help="folder with COCO 2017, to watch the pointing on its training photographs"
    )
    parser.add_argument("--output", type=Path, default=DATA, help="folder for the model and its card")
    parser.add_argument("--epochs", type=int, default=Settings.epochs, help="of the first stage")
    parser.add_argument("--last-epochs", type=int, default=Settings.last_epochs, help="of the second stage")
    parser.add_argument(
        "--guide", type=float, default=Settings.guide, help="first stage; 0 with --last-guide 0: none"
    )
    parser.add_argument("--last-guide", type=float, default=Settings.last_guide, help="second stage")
    parser.add_argument("--local", type=float, default=Settings.local, help="0: no scores per cell")
    parser.add_argument("--free", type=int, default=Settings.free, help="first block that learns; 19: none")
    parser.add_argument("--size", type=int, choices=SIZES, default=Settings.size, help="of the images in use")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--images", type=int, help="only so many images of each split, to see that it works")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    chosen = {field: getattr(args, field) for field in asdict(Settings()) if hasattr(args, field)}
    settings = Settings(**{**chosen, "cycle": max(Settings.cycle, args.epochs)})
    device = torch.device(args.device)
    torch.manual_seed(settings.seed)

    data = load("corel5k", args.corel, progress=False)
    splits = {split: data.split(split)[: args.images] for split in ("train", "val", "test")}
    network = PhotoNetwork(args.weights, data.vocabulary, settings).to(
        device, memory_format=torch.channels_last
    )
    targets = {
        split: targets_of(records, data.vocabulary, data.frequency(), device)
        for split, records in splits.items()
    }
    maps = [early_maps(network, splits["train"], size, device, mirror=i) for i, size in enumerate(SIZES)]
    val = early_maps(network, splits["val"], settings.size, device)
    names = json.loads((DATA / "photographs" / "names.json").read_text(encoding="utf-8"))
    graded = {
        f"shipped, {split}": _photographs(DATA / "photographs", DATA / "photographs" / "images", split)
        for split in ("train2017", "val2017")
    }
    if args.coco:
        graded["to choose with: train2017"] = _photographs(args.coco, args.coco / "train2017", "train2017")

    def report(epoch: int, loss: float, seconds: float, average: PhotoNetwork) -> float:
        row = scores(average, val, targets["val"].multi_hot.bool())
        print(
            f"epoch {epoch}: loss {loss:.3f}, {seconds:.0f} s, val OF1 {row['OF1']:.3f} CF1 {row['CF1']:.3f}",
            flush=True,
        )
        return row["OF1"] + row["CF1"]

    first, second = (
        fit(network, maps, targets["train"], settings, report, last=last) for last in (False, True)
    )
    network.load_state_dict(
        {name: torch.lerp(x, second[name], 0.5) if x.is_floating_point() else x for name, x in first.items()}
    )
    finish(network, settings, splits, targets, graded, names, device, args.output)


def _photographs(folder: Path, images: Path, split: str) -> Sequence[Record]:
    return read_coco(folder / "annotations" / f"instances_{split}.json", images).records


def finish(
    network: PhotoNetwork,
    settings: Settings,
    splits: dict[str, Sequence[Record]],
    targets: dict[str, Targets],
    graded: dict[str, Sequence[Record]],
    names: dict[str, list[str]],
    device: torch.device,
    output: Path,
) -> dict[str, Any]:
    """Measure once, write the model, its checksum and its card; returns the metrics."""
    output.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, Any] = {
        split: scores(
            network,
            early_maps(network, splits[split], settings.size, device),
            targets[split].multi_hot.bool(),
        )
        for split in ("val", "test")
    }
    metrics["pointing"] = {
        name: point(network, early_maps(network, records, settings.size, device), records, names)
        for name, records in graded.items()
    }
    path = write(network, settings, {k: metrics[k] for k in ("val", "test")}, output)
    content = path.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    sums = output / "checksums.json"
    known = json.loads(sums.read_text(encoding="utf-8")) if sums.is_file() else {}
    sums.write_text(json.dumps({**known, NAME: checksum}, indent=2) + "\n", encoding="utf-8")
    text = card(settings, metrics, checksum, len(content))
    (output / "photo_attention.md").write_text(text, encoding="utf-8")
    print(text)
    return metrics


if __name__ == "__main__":
    main()
