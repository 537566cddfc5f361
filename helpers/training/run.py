"""One training run from its options: data, encoder, cache, system, fit, thresholds, test. Used by `helpers.commands.train`.

What a system of the command line learns, and how it is judged: labels, or the words of captions.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch.utils.data import DataLoader

from helpers.data.batches import CaptionRows, ImageDataset, caption_loader, make_loader
from helpers.data.files import read_json, write_json
from helpers.data.images import eval_transform, train_transform
from helpers.data.labels import Vocabulary, label_frequency
from helpers.data.load import load
from helpers.data.records import SPLITS, AnnotatedImages
from helpers.data.words import load_glove, make_tokenizer, word_vocabulary
from helpers.encoders.cache import FeatureDataset, annotations_id, encode_records
from helpers.encoders.crops import AnyEncoder, DetailEncoder, build_crop_encoder
from helpers.scenes.content import LABELS
from helpers.systems.base import System
from helpers.systems.registry import ATTENTION, CAPTIONERS, LABEL_GRAPH, NEEDS_GRID, ORDER_FREE, build
from helpers.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from helpers.training.config import check_training, graph_options, graph_tensors, pick_device
from helpers.training.fit import FitOptions, Metrics, fit, predict_all
from helpers.training.report import CaptionJudge


@dataclass(frozen=True)
class Loaders:
    """The three splits, batched; train and validation in the order of training."""

    train: DataLoader
    val: DataLoader
    test: DataLoader


def make_encoder(args: argparse.Namespace) -> AnyEncoder:
    """The encoder that the options name, with the defaults of the data set."""
    backbone = args.backbone or ("scenes_cnn" if args.data == "scenes" else "resnet50")
    weights = args.weights or ("scenes" if backbone == "scenes_cnn" else "imagenet")
    torch.manual_seed(args.seed)
    encoder = build_crop_encoder(
        backbone,
        args.crops,
        weights=None if weights == "none" else weights,
        image_size=args.image_size,
        freeze=args.freeze,
    )
    return DetailEncoder(encoder) if args.cell_details else encoder


def make_loaders(
    data: AnnotatedImages,
    task: Task,
    encoder: AnyEncoder,
    args: argparse.Namespace,
    device: torch.device,
) -> Loaders:
    """Batches of cached features where the encoder is frozen, of images where it learns."""
    if args.freeze and (args.cutout or args.randaugment):
        raise ValueError(
            "--cutout and --randaugment change the images of every step, but cached features stay the same: use "
            "--no-freeze"
        )
    frequency = label_frequency([data.vocabulary.encode(r.labels) for r in data.train], len(data.vocabulary))
    loaders = {}
    for split in ("train", "val", "test"):
        records = data.split(split)
        train = split == "train"
        order = {"order": args.order, "frequency": frequency}
        if args.freeze:
            cached = encode_records(
                encoder,
                records,
                args.cache_dir,
                grid=args.system in NEEDS_GRID,
                flip=train and args.flip,
                batch_size=max(1, 64 // getattr(encoder, "views", 1)),  # crops are images too
                device=device,
                num_workers=args.num_workers,
            )
            dataset = FeatureDataset(cached, records, data.vocabulary, augment=train and args.flip, **order)
        else:
            flip = 0.5 if args.flip else 0.0
            transform = (
                train_transform(
                    encoder.preprocessing,
                    horizontal_flip=flip,
                    cutout=args.cutout,
                    randaugment=args.randaugment,
                )
                if train
                else eval_transform(encoder.preprocessing)
            )
            dataset = ImageDataset(records, data.vocabulary, transform, **order)
        if train and task.captions:
            loaders[split] = caption_loader(
                dataset,
                task.captions[split],
                batch_size=args.batch_size,
                per_image=args.captions,
                seed=args.seed,
                num_workers=0 if args.freeze else args.num_workers,
                pin_memory=device.type == "cuda",
            )
            continue
        loaders[split] = make_loader(
            dataset,
            batch_size=args.batch_size,
            shuffle=train,
            seed=args.seed,
            num_workers=0 if args.freeze else args.num_workers,
            pin_memory=device.type == "cuda",
        )
    return Loaders(**loaders)


def fill_defaults(args: argparse.Namespace) -> None:
    """Options that were not given get the values of the paper of the system."""
    usual = {"order": "rare-first", "embedding": 300, "beam_width": 1}
    if args.system == "cnn_rnn":
        usual = {"order": "frequent-first", "embedding": 64, "beam_width": 5}
    if args.system in CAPTIONERS:
        usual |= {"hidden": 256, "embedding": 256}
    for name, value in usual.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def system_options(
    data: AnnotatedImages, task: Task, encoder: AnyEncoder, args: argparse.Namespace
) -> dict[str, Any]:
    """The options of `systems.build`, all of JSON, so that a checkpoint can rebuild the system."""
    if args.system in LABEL_GRAPH:
        return graph_options(encoder, args)
    if args.system == "bce":
        return {"loss": args.loss or "bce", "thresholds": args.thresholds, "hidden_size": args.hidden or 0}
    options = {
        "hidden_size": args.hidden or 512,
        "standardize": args.standardize,
        "feature_dropout": args.feature_dropout,
        "input_dropout": args.input_dropout,
        "output_dropout": args.output_dropout,
        "embedding_size": args.embedding,
        "max_labels": min(args.max_words, int(task.captions["train"].lengths.max()))
        if task.captions
        else max(1, *(len(r.labels) for r in data.train)),
        "label_smoothing": args.label_smoothing,
    }
    if args.beam_width > 1 or args.top_k:
        options["search"] = {"beam_width": args.beam_width, "top_k": args.top_k}
    if args.system == "cnn_rnn":
        options["image_first"] = args.image_first
    if args.system == "sr_cnn_rnn":
        steps = args.pretrain_epochs * math.ceil(len(data.train) / args.batch_size)
        options |= {"joint": args.joint, "pretrain_steps": steps}
    if args.system in ATTENTION:
        options |= {
            "attention_size": args.attention_size,
            "attention_dropout": args.attention_dropout,
            "attention_penalty": args.attention_penalty,
        }
    if args.system in ORDER_FREE:
        epochs = args.teacher_forcing_epochs or max(1, args.epochs // 2)
        options |= {
            "feed_stop": args.feed_stop,
            "mask_repeats": args.mask_repeats,
            "teacher_forcing": args.teacher_forcing,
            "teacher_forcing_steps": epochs * math.ceil(len(data.train) / args.batch_size)
            if args.teacher_forcing
            else 0,
            "auxiliary_bce": args.auxiliary_bce,
        }
    if args.system in ("ria_pla", "attention_pla"):
        options["released"] = args.released_pla
    return options


def make_system(
    data: AnnotatedImages, task: Task, encoder: AnyEncoder, args: argparse.Namespace
) -> tuple[System, dict[str, Any]]:
    """The untrained system and the options that rebuild it. The embedding size follows GloVe where given."""
    options = system_options(data, task, encoder, args)
    tensors = graph_tensors(data, args) if args.system in LABEL_GRAPH else {}
    if options.get("node_features") == "vectors":
        options["vector_size"] = tensors["vectors"].shape[1]
    if args.glove is not None and "embedding_size" in options:
        glove = load_glove(args.glove, task.vocabulary, seed=args.seed)
        if glove.missing:
            print(f"no vector for {', '.join(glove.missing)}: drawn at random")
        options["embedding_size"] = glove.vectors.shape[1]
        tensors = {"vectors": glove.vectors}
    torch.manual_seed(args.seed)
    system = build(
        args.system,
        task.vocabulary,
        encoder.dim,
        encoder=None if args.freeze else encoder,
        **options,
        **tensors,
    )
    return system, options


def take_encoder(encoder: AnyEncoder, before: Checkpoint) -> None:
    """The weights of an encoder that was trained before; it must be of the same kind and size."""
    theirs = before.system.encoder
    if (encoder.name, encoder.preprocessing.size) != (theirs.name, before.preprocessing.size):
        raise ValueError(
            f"the checkpoint has the encoder {theirs.name} at {before.preprocessing.size} px, but this run has "
            f"{encoder.name} at {encoder.preprocessing.size} px: choose the same --backbone, --image-size, --crops and --cell-details"
        )
    encoder.load_state_dict(theirs.state_dict())
    encoder.preprocessing = before.preprocessing


def take_system(system: System, before: Checkpoint) -> None:
    """All the rest of a system that was trained before; names and shapes must be the same."""

    def without_encoder(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: x for name, x in state.items() if not name.startswith("encoder.")}

    ours, theirs = without_encoder(system.state_dict()), without_encoder(before.system.state_dict())
    sizes = [{name: tuple(x.shape) for name, x in state.items()} for state in (ours, theirs)]
    other = sorted(name for name in ours.keys() | theirs.keys() if sizes[0].get(name) != sizes[1].get(name))
    if other or system.vocabulary != before.vocabulary:
        found = f"these differ: {', '.join(other[:5])}" if other else "it has other labels"
        raise ValueError(
            f"--init-from goes on with a system of the same kind, size and labels, but {found}; --init-encoder takes the "
            "encoder alone"
        )
    system.load_state_dict(theirs, strict=False)


def run(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Train, select, calibrate, test; leave everything in `args.output`. Returns the metrics by split."""
    started = time.perf_counter()
    fill_defaults(args)
    device = pick_device(args.device)
    check_training(args)
    data = load(
        args.data,
        args.data_dir,
        unlabelled="drop" if args.drop_unlabelled else "keep",
        download=args.download,
    )
    print(data.describe())
    _require_splits(data)
    task = make_task(data, args)
    if args.flip is None:
        args.flip = args.system not in CAPTIONERS  # a mirror makes "to the left of" a lie
    encoder = make_encoder(args).to(device)
    if args.init_encoder or args.init_from:
        earlier = load_checkpoint(args.init_from or args.init_encoder)
        take_encoder(encoder, earlier)
    config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    annotations = annotations_id(data.split(split) for split in SPLITS)
    if args.resume and (args.output / "config.json").exists():
        before = read_json(args.output / "config.json")
        _refuse_changes(before["arguments"], config)
        if before.get("annotations", annotations) != annotations:  # older runs did not note them
            raise ValueError(
                f"--resume, but the images, labels or splits of {data.name} are not those that this run began with: "
                "bring those back, or train into a new --output"
            )
    loaders = make_loaders(data, task, encoder, args, device)
    encoded = time.perf_counter()
    system, options = make_system(data, task, encoder, args)
    if args.init_from:
        take_system(system, earlier)
    write_json(
        args.output / "config.json",
        {"arguments": config, "options": options, "encoder": encoder.name, "annotations": annotations},
    )
    fit_options = FitOptions(
        epochs=args.epochs,
        learning_rate=args.lr,
        weight_decay=args.weight_decay,
        clip_norm=args.clip_norm,
        ema_decay=0.0 if args.swa else args.ema,
        patience=args.patience,
        amp=args.amp,
        seed=args.seed,
        schedule=args.schedule,
        average="swa" if args.swa else None,
        encoder_rate=args.encoder_rate,
    )
    history = fit(
        system,
        loaders.train,
        validate=task.judge(data, "val", loaders.val, device),
        select=args.select or system.select,
        options=fit_options,
        device=device,
        output=args.output,
        resume=args.resume,
    )
    if type(system).calibrate is not System.calibrate:  # the others have nothing to choose
        val = predict_all(system, loaders.val, device=device)
        if val.scores is not None:
            system.calibrate(val.scores, val.target)
    judged = {"val": loaders.val, "test": loaders.test}
    metrics = {split: task.judge(data, split, loader, device)(system) for split, loader in judged.items()}
    seconds = {"encoding": encoded - started, "total": time.perf_counter() - started}
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )
    write_json(
        args.output / "metrics.json",
        {**metrics, "history": history, "seconds": seconds, "device": where, "versions": versions},
    )
    save_checkpoint(
        args.output / "checkpoint.safetensors",
        system,
        encoder,
        name=args.system,
        options=options,
        config=config,
        metrics=metrics,
        half=args.half,
    )
    return metrics


def _require_splits(data: AnnotatedImages) -> None:
    """Training selects on val and is judged on test, so it needs all three."""
    empty = [split for split in SPLITS if not data.split(split)]
    if empty:
        raise ValueError(
            f"{data.name}: no image is in {' and '.join(empty)}, and training needs train, val and test: put images "
            "into each (column `split` of a CSV; without this column 15 % of the images are val and 15 % are test)"
        )


def _refuse_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """A resumed run must be the same run."""
    free = {"resume", "device", "num_workers", "output", "cache_dir"}
    changed = [
        f"{k}: {before[k]} -> {now[k]}" for k in now if k not in free and k in before and before[k] != now[k]
    ]
    if changed:
        raise ValueError(
            f"--resume, but the options changed ({'; '.join(changed)}): use the same, or a new --output"
        )


@dataclass(frozen=True)
class Task:
    """What is learned. vocabulary: the labels, or words. captions: by split, as word ids; {} where labels are learned."""

    vocabulary: Vocabulary
    captions: dict[str, CaptionRows]

    def judge(
        self, data: AnnotatedImages, split: str, loader: DataLoader, device: torch.device
    ) -> Callable[[System], Metrics]:
        """What computes the metrics of a system on a split; loader: its images, in order."""
        if not self.captions:
            return lambda system: predict_all(system, loader, device=device).metrics()
        check = set(data.vocabulary.labels) == set(
            LABELS
        )  # elsewhere labels are not complete, or words others
        captions = self.captions[split]
        return CaptionJudge(loader, data.split(split), captions, check_labels=check, device=device)


def make_task(data: AnnotatedImages, args: argparse.Namespace) -> Task:
    """The labels of the data set or, for a captioner, the words of its training captions.

    Raises ValueError for a data set that lacks what the system learns.
    """
    if args.system not in CAPTIONERS:
        if not len(data.vocabulary):
            raise ValueError(
                f"{data.name} has captions and no labels for --system {args.system}: use --system captioner"
            )
        return Task(data.vocabulary, {})
    for split in SPLITS:
        if not any(record.captions for record in data.split(split)):
            raise ValueError(
                f"--system {args.system} learns from captions, and no {split} image of {data.name} has one: use scenes, "
                "flickr8k, or COCO with its captions_*.json"
            )
    tokenizer = make_tokenizer(args.tokenizer)
    texts = [text for record in data.train for text in record.captions]
    words = word_vocabulary(texts, min_count=args.min_count, tokenizer=tokenizer)
    captions = {split: CaptionRows(data.split(split), words, tokenizer=tokenizer) for split in SPLITS}
    unknown = ", ".join(f"{rows.unknown_share:.1%} of {split}" for split, rows in captions.items())
    print(
        f"{len(words) - 1:,} words occur {args.min_count} times or more in train; <unk> stands for {unknown}"
    )
    return Task(words, captions)
