"""One training run from its options: data, encoder, system, features, fit, thresholds, test."""

from __future__ import annotations

import math
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from filelock import FileLock, Timeout
from torch import Tensor
from torch.utils.data import DataLoader

from helpers.data.batches import CaptionRows, ImageDataset, caption_loader, make_loader
from helpers.data.files import DATA, read_json, write_json, write_text
from helpers.data.images import eval_transform, train_transform
from helpers.data.labels import Vocabulary
from helpers.data.load import load
from helpers.data.records import SPLITS, AnnotatedImages
from helpers.data.words import load_glove, make_tokenizer, word_vocabulary
from helpers.decoders.label_graph import cooccurrence_prior, cosine_prior, neighbours
from helpers.encoders.cache import annotations_id, feature_loaders
from helpers.encoders.crops import AnyEncoder, DetailEncoder, build_crop_encoder, layout
from helpers.encoders.encoder import fast_precision
from helpers.encoders.scenes_cnn import KERNELS
from helpers.scenes.content import LABELS
from helpers.systems.base import System
from helpers.systems.options import (
    DecoderOptions,
    LabelGraphOptions,
    LabelQueryOptions,
    LcnetOptions,
    OrderFreeOptions,
    SrCnnRnnOptions,
)
from helpers.systems.registry import build
from helpers.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from helpers.training.config import Config, pick_device, scaled
from helpers.training.fit import Metrics, evaluate, fit, predict_all, threads_for
from helpers.training.report import CaptionJudge, finite

FEW = 1000  # training images; a run says so
NOTE = """\
A run of {system}. Begun with: python -m helpers train {system} ...

checkpoint.safetensors  the trained model: encoder, decoder, labels. This one file is enough to label images.
metrics.json            what it reaches on validation and test, and the numbers of every epoch
config.json             all options of the run
tensorboard/            the curves: tensorboard --logdir {output}
last.pt                 only while the run is not finished: where it goes on (the same command with --resume)

Label images, with pictures or as a table:
  python -m helpers predict photo.jpg --checkpoint {output} --pictures out
  python -m helpers predict folder --checkpoint {output} --csv labels.csv
Judge it, by itself or beside others, with intervals (--data as in the training):
  python -m helpers evaluate --checkpoint {output} --data ...
"""


def run(config: Config) -> dict[str, Metrics]:
    """Train, select, calibrate, test; leave everything in the output folder. Returns the metrics by split.

    Raises ValueError where another run is training into this folder.
    """
    config.check()
    with only_run(config.run.output):
        config.check()  # another run may have ended a moment ago
        return _run(config)


@contextmanager
def only_run(output: Path) -> Iterator[None]:
    """Let one process at a time train into a folder; clear what a killed one was writing, and a folder left empty."""
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / ".lock")  # the system frees it when its process dies
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"another run is training into {output} right now: wait for it, or choose another --output"
        ) from error
    try:
        for left in output.glob(".*.tmp"):
            left.unlink()
        yield
    finally:
        lock.release()
        if {path.name for path in output.iterdir()} <= {".lock"}:
            shutil.rmtree(output)


def _run(config: Config) -> dict[str, Metrics]:
    """The system is built before images are encoded, so that an impossible option costs no wait."""
    started = time.perf_counter()
    device = pick_device(config.run.device)
    data = load_data(config)
    print(data.describe())
    config = scaled(config, len(data.train))
    if len(data.train) < FEW:
        print(
            f"only {len(data.train)} images to train on: {config.fit.epochs} epochs in steps of {config.run.batch_size} "
            "(--epochs and --batch-size change that); rare labels will hardly be learned"
        )
    task = make_task(config, data)
    if config.encoder.flip is None:  # a mirror makes "to the left of" a lie
        config = replace(config, encoder=replace(config.encoder, flip=config.options.learns == "labels"))
    encoder = make_encoder(config).to(device)
    earlier = None
    if path := config.run.init_encoder or config.run.init_from:
        earlier = load_checkpoint(path)
        take_encoder(encoder, earlier)
    output = config.run.output
    about = {**config.plain(), "annotations": annotations_id(data.split(split) for split in SPLITS)}
    if config.run.resume and (output / "config.json").exists():
        _refuse_changes(read_json(output / "config.json"), about, data.name)
    system = make_system(config, data, task, encoder)
    if config.run.init_from:
        take_system(system, earlier)
    loaders = make_loaders(config, data, task, encoder, device)
    encoded = time.perf_counter()
    write_json(output / "config.json", about)
    write_text(output / "README.txt", NOTE.format(output=output, system=config.system))
    judges = {s: task.judge(data, s, loaders[s], device, unmasked=True) for s in ("val", "test")}
    history = fit(
        system,
        loaders["train"],
        validate=task.judge(data, "val", loaders["val"], device),
        select=config.run.select or system.select,
        options=config.fit,
        device=device,
        output=output,
        resume=config.run.resume,
    )
    with threads_for(system, device):
        if type(system).calibrate is not System.calibrate:  # the others have nothing to choose
            val = predict_all(system, loaders["val"], device=device)
            system.calibrate(val.scores, val.target)
        metrics = {split: judge(system) for split, judge in judges.items()}
    seconds = {"encoding": encoded - started, "total": time.perf_counter() - started}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions["torchvision"] = torchvision.__version__
    where = f"{device.type}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    save_checkpoint(
        output / "checkpoint.safetensors",
        system,
        encoder,
        config=config.plain(),
        metrics=finite(metrics),
        half=config.run.half,
    )
    about = {"history": history, "seconds": seconds, "device": where, "versions": versions}
    write_json(output / "metrics.json", finite({**metrics, **about}))
    (output / "last.pt").unlink()  # all that was needed to go on
    return metrics


# --- data ---------------------------------------------------------------------------------------------------------


def load_data(config: Config) -> AnnotatedImages:
    """The data set. Raises ValueError where a split is empty: training selects on val and is judged on test."""
    unlabelled = "drop" if config.data.drop_unlabelled else "keep"
    data = load(config.data.data, config.data.data_dir, unlabelled=unlabelled, download=config.data.download)
    if config.options.learns == "labels":
        for split in ("train", "val"):
            if data.split(split) and not any(record.labels for record in data.split(split)):
                raise ValueError(
                    f"{data.name}: no {split} image has a label, and {config.system} learns and is chosen by labels"
                )
    if empty := [split for split in SPLITS if not data.split(split)]:
        raise ValueError(
            f"{data.name}: no image is in {' and '.join(empty)}, and training needs train, val and test: put images "
            "into each (column `split` of a CSV; without this column 15 % of the images are val and 15 % are test)"
        )
    return data


@dataclass(frozen=True)
class Task:
    """What is learned. vocabulary: the labels, or words. captions: by split, as word ids; {} where labels are learned."""

    vocabulary: Vocabulary
    captions: dict[str, CaptionRows]

    def judge(
        self,
        data: AnnotatedImages,
        split: str,
        loader: DataLoader,
        device: torch.device,
        *,
        unmasked: bool = False,
    ) -> Callable[[System], Metrics]:
        """What computes the metrics of a system on a split; loader: its images, in order; unmasked: see `predict_all`."""
        if not self.captions:
            return lambda system: evaluate(system, loader, device=device, unmasked=unmasked)
        # Elsewhere labels are not complete, or named by other words.
        check = set(data.vocabulary.labels) == set(LABELS)
        captions = self.captions[split]
        return CaptionJudge(loader, data.split(split), captions, check_labels=check, device=device)


def make_task(config: Config, data: AnnotatedImages) -> Task:
    """The labels of the data set or, for a captioner, the words of its training captions.

    Raises ValueError for a data set that lacks what the system learns.
    """
    options = config.options
    if options.learns == "labels":
        if not len(data.vocabulary):
            raise ValueError(
                f"{data.name} has captions and no labels for {config.system}: train captioner instead"
            )
        return Task(data.vocabulary, {})
    for split in SPLITS:
        if not any(record.captions for record in data.split(split)):
            raise ValueError(
                f"{config.system} learns from captions, and no {split} image of {data.name} has one: use scenes, "
                "flickr8k, or COCO with its captions_*.json"
            )
    tokenizer = make_tokenizer(options.tokenizer)
    texts = [text for record in data.train for text in record.captions]
    words = word_vocabulary(texts, min_count=options.min_count, tokenizer=tokenizer)
    captions = {split: CaptionRows(data.split(split), words, tokenizer=tokenizer) for split in SPLITS}
    unknown = ", ".join(f"{rows.unknown_share:.1%} of {split}" for split, rows in captions.items())
    print(
        f"{len(words) - 1:,} words occur {options.min_count} times or more in train; <unk> stands for {unknown}"
    )
    return Task(words, captions)


def make_loaders(
    config: Config, data: AnnotatedImages, task: Task, encoder: AnyEncoder, device: torch.device
) -> dict[str, DataLoader]:
    """The three splits, batched: cached features where the encoder is frozen, images where it learns."""
    c, workers = config.encoder, config.run.num_workers
    order = getattr(config.options, "order", "given")
    how: dict[str, Any] = {"batch_size": config.run.batch_size, "seed": config.fit.seed}
    if c.cached:
        loaders = feature_loaders(
            data,
            encoder,
            cache_dir=c.cache_dir or DATA / "features",
            order=order,
            grid=config.options.needs_grid,
            flip=c.flip,
            device=device,
            precision=fast_precision(device) if c.precision == "auto" else c.precision,
            num_workers=workers,
            **how,
        )
        how["pin_memory"] = device.type == "cuda"
    else:
        changed = train_transform(
            encoder.preprocessing,
            horizontal_flip=0.5 if c.flip else 0.0,
            vertical_flip=0.5 if c.vertical_flip else 0.0,
            cutout=c.cutout,
            randaugment=c.randaugment,
        )
        transforms = dict.fromkeys(SPLITS, eval_transform(encoder.preprocessing)) | {"train": changed}
        how |= {"num_workers": workers or 0, "pin_memory": device.type == "cuda"}
        labels = {"order": order, "frequency": data.frequency()}
        loaders = {
            split: make_loader(
                ImageDataset(data.split(split), data.vocabulary, transforms[split], **labels),
                shuffle=split == "train",
                **how,
            )
            for split in SPLITS
        }
    if task.captions:
        dataset, captions = loaders["train"].dataset, task.captions["train"]
        loaders["train"] = caption_loader(dataset, captions, per_image=config.options.captions, **how)
    return loaders


# --- encoder and system -------------------------------------------------------------------------------------------


def make_encoder(config: Config) -> AnyEncoder:
    """The encoder that the options name, with the defaults of the data set."""
    c = config.encoder
    backbone = c.backbone or ("scenes_cnn" if config.data.data == "scenes" else "resnet50")
    weights = c.weights or ("scenes" if backbone in KERNELS else "imagenet")
    torch.manual_seed(config.fit.seed)
    encoder = build_crop_encoder(
        backbone,
        c.crops,
        weights=None if weights == "none" else weights,
        image_size=c.image_size,
        freeze=c.freeze_up_to or c.freeze,
    )
    return DetailEncoder(encoder) if c.cell_details else encoder


def make_system(config: Config, data: AnnotatedImages, task: Task, encoder: AnyEncoder) -> System:
    """The untrained system. What its options leave open is found from the data, the encoder and the word vectors."""
    options, found, tensors = config.options, {}, {}
    steps = math.ceil(len(data.train) / config.run.batch_size)  # of an epoch
    if isinstance(options, DecoderOptions):
        if options.learns == "words":
            found["max_labels"] = min(options.max_labels, int(task.captions["train"].lengths.max()))
        else:
            found["max_labels"] = max(1, *(len(record.labels) for record in data.train))
        if options.glove:
            tensors["vectors"] = word_vectors(config, task.vocabulary)
            found["embedding_size"] = tensors["vectors"].shape[1]
    if isinstance(options, SrCnnRnnOptions):
        found["pretrain_steps"] = options.pretrain_epochs * steps
    if isinstance(options, OrderFreeOptions) and options.teacher_forcing:
        epochs = options.teacher_forcing_epochs or max(1, config.fit.epochs // 2)
        found["teacher_forcing_steps"] = epochs * steps
    if isinstance(options, LabelQueryOptions):
        found["crops"], found["cells"] = layout(encoder)
    if isinstance(options, LabelGraphOptions):
        tensors = graph_tensors(config, data)
        if "vectors" in tensors:
            found["vector_size"] = tensors["vectors"].shape[1]
    options = replace(options, **found)
    torch.manual_seed(config.fit.seed)
    learning = None if config.encoder.cached else encoder
    return build(config.system, task.vocabulary, encoder.dim, options, encoder=learning, **tensors)


def word_vectors(config: Config, vocabulary: Vocabulary) -> Tensor:
    """The vectors of --glove for the vocabulary and its two special tokens: (C + 2, E)."""
    glove = load_glove(config.options.glove, vocabulary, seed=config.fit.seed)
    if glove.missing:
        print(f"no vector for {', '.join(glove.missing)}: drawn at random")
    return glove.vectors


def graph_tensors(config: Config, data: AnnotatedImages) -> dict[str, Tensor]:
    """What a system with a label graph gets beside its options: edges from the prior, and word vectors (C, E)."""
    options = config.options
    if isinstance(options, LcnetOptions) and options.graph == "none":
        return {}
    tensors, reads_words = {}, options.node_features == "vectors"
    if reads_words or options.prior == "glove":
        vectors = word_vectors(config, data.vocabulary)[: len(data.vocabulary)]  # those of the labels
        if reads_words:
            tensors["vectors"] = vectors
    if options.prior == "glove":
        nearness = cosine_prior(vectors)
    else:
        present = torch.zeros(len(data.train), len(data.vocabulary), dtype=torch.bool)
        for row, record in zip(present, data.train, strict=True):
            row[data.vocabulary.encode(record.labels)] = True
        nearness = cooccurrence_prior(present)
    edges = neighbours(nearness, options.prior_threshold)
    alone = int(((edges + edges.T).sum(0) == 0).sum())
    print(
        f"label graph: {int(edges.count_nonzero())} edges from the {options.prior} prior at "
        f"{options.prior_threshold:g}; {alone} of {len(edges)} labels have none"
    )
    return tensors | {"edges": edges}


# --- going on with an earlier run ---------------------------------------------------------------------------------


def take_encoder(encoder: AnyEncoder, before: Checkpoint) -> None:
    """The weights of an encoder that was trained before; it must be of the same kind and size."""
    theirs = before.system.encoder
    if (encoder.name, encoder.preprocessing.size) != (theirs.name, before.preprocessing.size):
        raise ValueError(
            f"the checkpoint has the encoder {theirs.name} at {before.preprocessing.size} px, but this run has "
            f"{encoder.name} at {encoder.preprocessing.size} px: choose the same --backbone, --image-size, --crops and "
            "--cell-details"
        )
    encoder.load_state_dict(theirs.state_dict())
    encoder.preprocessing = before.preprocessing


def take_system(system: System, before: Checkpoint) -> None:
    """All the rest of a system that was trained before; names and shapes must be the same."""
    ours, theirs = (
        {name: x for name, x in s.state_dict().items() if not name.startswith("encoder.")}
        for s in (system, before.system)
    )
    names = sorted(ours.keys() | theirs.keys())
    differ = [n for n in names if n not in ours or n not in theirs or ours[n].shape != theirs[n].shape]
    if differ or system.vocabulary != before.vocabulary:
        what = f"these differ: {', '.join(differ[:5])}" if differ else "it has other labels"
        raise ValueError(
            f"--init-from goes on with a system of the same kind, size and labels, but {what}; --init-encoder takes "
            "the encoder alone"
        )
    system.load_state_dict(theirs, strict=False)


def _refuse_changes(before: dict[str, Any], now: dict[str, Any], name: str) -> None:
    """A resumed run must be the same run."""
    free = {"resume", "device", "num_workers", "output", "cache_dir", "half"}
    changed = []
    for part, value in now.items():
        old = before.get(part)
        if isinstance(value, dict) and isinstance(old, dict):
            changed += [
                f"{k}: {old.get(k)} -> {v}" for k, v in value.items() if k not in free and old.get(k) != v
            ]
        elif part == "annotations" and old != value:
            raise ValueError(
                f"--resume, but the images, labels or splits of {name} are not those that this run began with: "
                "bring those back, or train into a new --output"
            )
        elif old != value:
            changed.append(f"{part}: {old} -> {value}")
    if changed:
        raise ValueError(
            f"--resume, but the options changed ({'; '.join(changed)}): use the same, or a new --output"
        )
