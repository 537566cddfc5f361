"""The options of a run beside its system's: data, encoder, fitting, output. Imports nothing heavy.

Also what is wrong with files and folders, said in the first second.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from helpers.systems.options import (
    COUNT,
    COUNT_OR_0,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_OR_ALL,
    Options,
    Rule,
    ScoringOptions,
    SrCnnRnnOptions,
    SystemOptions,
    one_of,
    option,
)

if TYPE_CHECKING:
    import torch

SEED = Rule("a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32)
SCHEDULES = ("one-cycle", "cyclic", "constant")
CYCLE = 4  # steps
EPOCHS, BATCH_SIZE = 20, 64  # unless they are given
LEAST_STEPS, LEAST_BATCHES = 400, 16  # of a run and of an epoch, unless they are given


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """Which images."""

    heading: ClassVar[str] = "data"
    data: str = option(
        "scenes",
        "scenes, corel5k, coco2014, coco2017, voc2007, flickr8k, or a folder with a labels.csv",
        basic=True,
    )
    data_dir: Path | None = option(None, "its folder (default: data/<name> of the course)", basic=True)
    download: bool = option(False, "fetch the data set first if it is not there")
    drop_unlabelled: bool = option(False, "leave out images without labels")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(Options):
    """What sees the images, and how they are changed while training."""

    heading: ClassVar[str] = "encoder"
    backbone: str | None = option(
        None,
        "torchvision name, timm:<name>, scenes_cnn or scenes_cnn_mixed (default: scenes_cnn on scenes, else resnet50)",
        basic=True,
    )
    weights: str | None = option(None, "imagenet, scenes, none, or a file (default: its own)", basic=True)
    image_size: int | None = option(None, "side in pixels (default: the backbone's own)", COUNT, basic=True)
    freeze: bool = option(True, "cache the features of a fixed encoder", basic=True)
    freeze_up_to: str | None = option(
        None, "keep only its parts up to this one, such as layer3; the others learn", metavar="PART"
    )
    precision: str = option(
        "float32",
        "a fixed encoder computes in this; auto: bfloat16, half the time, where the machine has instructions for it",
        one_of("auto", "float32", "bfloat16"),
    )
    crops: int = option(
        0,
        "look at LEVEL x LEVEL tiles of the image as well, each --image-size / LEVEL large",
        COUNT_OR_0,
        metavar="LEVEL",
    )
    cell_details: bool = option(False, "add the colours and the place of each grid cell, for captions")
    cache_dir: Path | None = option(
        None, "folder of the feature cache (default: data/features of the course)"
    )
    flip: bool | None = option(None, "train on mirrored images too (default: yes, but not for captions)")
    vertical_flip: bool = option(False, "when the encoder learns: train on images turned upside down too")
    cutout: float = option(
        0.0, "when the encoder learns: a hole of this share of the side", SHARE_OR_ALL, metavar="SHARE"
    )
    randaugment: bool = option(False, "when the encoder learns: two random changes of each image")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cached and (self.cutout or self.randaugment or self.vertical_flip):
            raise ValueError(
                "--cutout, --randaugment and --vertical-flip change the images of every step, but cached features "
                "stay the same: use --no-freeze"
            )

    @property
    def cached(self) -> bool:
        """Whether its features are computed once: nothing of the encoder learns."""
        return self.freeze and self.freeze_up_to is None


@dataclass(frozen=True, kw_only=True)
class FitOptions(Options):
    """How to fit. The defaults are those of the results in docs/results.md.

    schedule: "one-cycle": the learning rate goes up to `learning_rate` over the first `warmup` share of all steps,
        then down to nearly 0 along a cosine (OneCycleLR). So `epochs` shapes the whole schedule, not only its end.
        "cyclic": from `learning_rate` down to a thousandth of it in a line of `CYCLE` steps, again and again.
    ema_decay: of the average of the weights, over about 1 / (1 - ema_decay) steps, at the start over fewer: the decay
        of step t is at most (1 + t) / (10 + t), so that the untrained weights do not stay in the average of a short
        run. It is judged and kept; so are the averaged statistics of batch-norms.
    swa: in its place the plain mean of the weights at the end of every `CYCLE` steps (Izmailov et al., "Averaging
        Weights Leads to Wider Optima and Better Generalization", UAI 2018).
    """

    heading: ClassVar[str] = "training"
    epochs: int | None = option(
        None,
        f"passes over the training images (default: {EPOCHS}, or more for {LEAST_STEPS} steps)",
        COUNT,
        basic=True,
    )
    learning_rate: float = option(1e-3, "highest learning rate", POSITIVE, flag="--lr", basic=True)
    # AdamW's own default; applied to matrices, not to biases and norms
    weight_decay: float = option(1e-2, "of AdamW", NOT_NEGATIVE)
    warmup: float = option(0.2, "share of the steps in which one-cycle goes up", SHARE)
    # LSTMs rarely pass it, but one bad batch can
    clip_norm: float = option(5.0, "largest gradient norm", POSITIVE)
    ema_decay: float = option(
        0.99,
        "average of the weights; 0 for none",
        SHARE,
        flag="--ema",
        metavar="DECAY",
        basic=True,
    )
    swa: bool = option(False, "instead, the plain mean of the weights after every fourth step")
    schedule: str = option("one-cycle", "of the learning rate", one_of(*SCHEDULES))
    encoder_rate: float = option(1.0, "factor of the encoder's learning rate", NOT_NEGATIVE, metavar="FACTOR")
    patience: int | None = option(
        None, "stop after N epochs without gain (default: never)", COUNT, basic=True
    )
    amp: bool = option(False, "bfloat16 autocast")
    seed: int = option(0, "of weights, order and dropout", SEED, basic=True)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """What surrounds the fit."""

    heading: ClassVar[str] = "run"
    output: Path = option(..., "folder for the checkpoint and the metrics", basic=True)
    batch_size: int | None = option(
        None, f"images per step (default: {BATCH_SIZE}, less for few images)", COUNT, basic=True
    )
    select: str | None = option(
        None, "validation metric that picks the best epoch (default: mAP, CF1 or BLEU-4)", metavar="METRIC"
    )
    init_encoder: Path | None = option(None, "start from the encoder of an earlier run", metavar="CHECKPOINT")
    init_from: Path | None = option(None, "start from all weights of an earlier run", metavar="CHECKPOINT")
    device: str = option("auto", "auto, cpu, cuda or mps", basic=True)
    num_workers: int | None = option(
        None,
        "threads that read images to encode (default: all cores); processes that read them where the encoder learns "
        "(default: 0)",
        COUNT_OR_0,
    )
    half: bool = option(False, "store the checkpoint as float16, half the size")
    resume: bool = option(False, "go on with an interrupted run in --output", basic=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_encoder and self.init_from:
            raise ValueError("--init-from takes the encoder too: leave out --init-encoder")


@dataclass(frozen=True)
class Config:
    """Everything that a run is told. system: its name; options: its own."""

    system: str
    options: SystemOptions
    data: DataOptions
    encoder: EncoderOptions
    fit: FitOptions
    run: RunOptions

    def plain(self) -> dict[str, Any]:
        """The same, of JSON."""
        return {k: v.plain() if isinstance(v, Options) else v for k, v in vars(self).items()}

    def check(self) -> None:
        """Refuse what cannot work, before anything heavy is imported. Raises ValueError or FileNotFoundError."""
        options, run = self.options, self.run
        glove = getattr(options, "glove", None)
        if glove is not None:
            require_file(glove, "--glove", "give a text file of word vectors such as glove.6B.300d.txt")
        elif (
            getattr(options, "prior", None) == "glove" or getattr(options, "node_features", None) == "vectors"
        ):
            raise ValueError(
                "--prior glove and --node-features vectors need --glove FILE, a text file of word vectors such as "
                "glove.6B.300d.txt"
            )
        if self.encoder.weights not in (None, "imagenet", "scenes", "none"):
            require_file(self.encoder.weights, "--weights", "give imagenet, scenes, none or a weight file")
        if run.select is not None and run.select not in options.metrics:
            raise ValueError(
                f"--select {run.select}: there is no such metric; there are {', '.join(options.metrics)}"
            )
        if run.select == "mAP" and not isinstance(options, (ScoringOptions, SrCnnRnnOptions)):
            raise ValueError(
                f"--select mAP needs a score for every label, and {self.system} names a set: use CF1"
            )
        require_folder(run.output)
        check_csv(self.data.data)
        resumed = run.resume and (run.output / "last.pt").exists()
        if (run.output / "checkpoint.safetensors").exists() and not resumed:
            raise ValueError(
                f"{run.output} holds a finished run already: choose another --output, or delete it"
            )
        if (run.output / "last.pt").exists() and not resumed:
            raise ValueError(
                f"{run.output} holds an interrupted run: go on with it with --resume, choose another --output, or "
                "delete it"
            )


def usual_epochs(steps: int) -> int:
    """As many as a run takes that is not told; steps: of an epoch."""
    return max(EPOCHS, math.ceil(LEAST_STEPS / steps))


def scaled(config: Config, images: int) -> Config:
    """The configuration with the epochs and the batch size that it leaves open; images: those to train on."""
    batch_size = config.run.batch_size
    if batch_size is None:  # a power of two, from 8
        batch_size = min(BATCH_SIZE, max(8, 2 ** int(math.log2(max(1, images // LEAST_BATCHES)))))
    epochs = config.fit.epochs or usual_epochs(math.ceil(images / batch_size))
    return replace(
        config,
        fit=replace(config.fit, epochs=epochs),
        run=replace(config.run, batch_size=batch_size),
    )


def pick_device(name: str) -> torch.device:
    """`auto` is the first of cuda, mps, cpu that works; a device that is not there is refused."""
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"--device {name}: there is no such device; use auto, cpu, cuda or mps")
    if device.type == "cuda" and not cuda:
        raise ValueError(f"--device {name}, but torch sees no CUDA device here: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}, but the last one here is cuda:{torch.cuda.device_count() - 1}")
    if device.type == "mps" and not mps:
        raise ValueError(f"--device {name}, but torch has no MPS here: use --device cpu")
    return device


def check_csv(source: str) -> None:
    """Raise ValueError for a folder whose labels.csv has no header; `data.readers` says the rest, but takes seconds."""
    path = Path(source) / "labels.csv"
    if not path.is_file():
        return
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline().strip()
    words = set(re.split(r"[,;\t]", first.lower().replace('"', "").replace(" ", "")))
    if not words & {"file", "image", "filename"} or not words & {"labels", "label"}:
        raise ValueError(
            f"{path}: the first line is {first[:80]!r}, expected `file,labels` (or `file,labels,split`). Put it above "
            "the first image"
        )


def require_file(path: Path | str, option: str, fix: str) -> None:
    """Raise FileNotFoundError for an option that names a file which is not there."""
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "there is no such file"
        raise FileNotFoundError(f"{option} {path}: {what}; {fix}")


def require_folder(path: Path, option: str = "--output") -> None:
    """Raise ValueError for a folder that could not be made or written; nothing is made yet."""
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise ValueError(f"{option} {path}: {existing} is a file, not a folder; choose another {option}")
    if not os.access(existing, os.W_OK):
        raise ValueError(f"{option} {path}: {existing} may not be written to; choose another {option}")
