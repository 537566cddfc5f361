"""A trained system as one file: options, vocabulary and weights, enough to label images anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from helpers.data.files import replacing
from helpers.data.images import Preprocessing
from helpers.data.labels import Vocabulary
from helpers.encoders.backbones import weights_id
from helpers.encoders.crops import AnyEncoder, DetailEncoder, backbone_name, build_crop_encoder, layout
from helpers.systems.base import System
from helpers.systems.options import SystemOptions, known
from helpers.systems.registry import build

FORMAT = "2"
MOST_STEPS, MOST_PIXELS = 10_000, 8192  # no system has more labels per image, no encoder a larger side


@dataclass(frozen=True)
class Checkpoint:
    """A system read from disk, in eval mode, its encoder attached.

    name, options: those given to `registry.build`. config: everything the run was told, see `config.Config`.
    metrics: what it reached, by split.
    """

    name: str
    options: SystemOptions
    system: System
    vocabulary: Vocabulary
    preprocessing: Preprocessing
    config: dict[str, Any]
    metrics: dict[str, dict[str, float]]


@contextmanager
def saving(path: Path | str) -> Iterator[Path]:
    """`files.replacing` for what took hours: the new file is on the disk before the old one goes.

    Raises OSError with the file and what to do where it cannot be written, as on a full disk.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors raise their own
        raise OSError(
            f"{path} could not be written ({error}): is the disk full? What was saved there before is as it was. Free "
            "some space; an interrupted training goes on with --resume"
        ) from error


def save_checkpoint(
    path: Path | str,
    system: System,
    encoder: AnyEncoder,
    *,
    config: dict[str, Any],
    metrics: dict[str, dict[str, float]],
    half: bool = False,
) -> None:
    """Write a system that `registry.build` made, and its encoder, to one safetensors file, atomically.

    config: anything of JSON, kept for the record. half: store the weights as float16, which halves the file.
    """
    tensors = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    for key, value in system.state_dict().items():
        if not key.startswith("encoder."):
            tensors[f"system.{key}"] = value
    if half:
        tensors = {key: x.half() if x.is_floating_point() else x for key, x in tensors.items()}
    about = {
        "system": system.name,
        "options": system.options.plain(),
        "labels": list(system.vocabulary.labels),
        "encoder": {
            "name": backbone_name(encoder),
            "crops": layout(encoder)[0],
            "details": isinstance(encoder, DetailEncoder),
            "preprocessing": encoder.preprocessing.to_dict(),
        },
        "config": config,
        "metrics": metrics,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata = {"format": FORMAT, "about": json.dumps(about, allow_nan=False), "sha256": weights_id(tensors)}
    with saving(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_checkpoint(path: Path | str, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read what `save_checkpoint` wrote and rebuild the system. Nothing is unpickled.

    path: the file, or the training folder that holds it as checkpoint.safetensors.

    Raises FileNotFoundError, or ValueError for a damaged file or one of another kind or format.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoint.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}: train one with python -m helpers train")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no dict)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no checkpoint, or a damaged one ({error}): give the checkpoint.safetensors of a training "
            "folder (its last.pt is for --resume only)"
        ) from error
    if metadata.get("format") != FORMAT or "about" not in metadata:
        raise ValueError(
            f"{path} holds no trained system of format {FORMAT} (found {metadata.get('format')}): train again, or "
            "update the course"
        )
    if metadata.get("sha256", checksum := weights_id(tensors)) != checksum:
        raise ValueError(f"{path} is damaged: its weights have changed since they were saved; copy it again")
    try:
        about = json.loads(metadata["about"])
        name, encoder = about["system"], _encoder(about["encoder"])
        encoder.load_state_dict(_part(tensors, "encoder."))
        options = known(name).of(about["options"], what=name)
        if (getattr(options, "max_labels", None) or 0) > MOST_STEPS:
            raise ValueError(f"max_labels is {options.max_labels}")
        system = build(name, Vocabulary(about["labels"]), encoder.dim, options)
        system.load_state_dict(_part(tensors, "system."))
        found = about["config"], about["metrics"]
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged or was edited: its description does not fit its weights ({error})"
        ) from error
    system.encoder = encoder
    system.to(device).eval()
    return Checkpoint(name, options, system, system.vocabulary, encoder.preprocessing, *found)


def _encoder(about: dict[str, Any]) -> AnyEncoder:
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    if preprocessing.size > MOST_PIXELS:
        raise ValueError(f"image_size is {preprocessing.size}")
    encoder = build_crop_encoder(
        about["name"], about["crops"], weights=None, image_size=preprocessing.size, freeze=True
    )
    if about["details"]:
        encoder = DetailEncoder(encoder)
    encoder.preprocessing = preprocessing  # that of the weights, which the random network could not know
    return encoder


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
