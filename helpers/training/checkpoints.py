"""A trained system as one file: options, vocabulary and weights, enough to label an image anywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from helpers.data.files import replacing
from helpers.data.images import Preprocessing
from helpers.data.labels import Vocabulary
from helpers.encoders.crops import AnyEncoder, DetailEncoder, backbone_name, build_crop_encoder, layout
from helpers.systems.base import System
from helpers.systems.options import SystemOptions, known
from helpers.systems.registry import build

FORMAT = "2"


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
    with replacing(path) as temporary:
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
            temporary,
            metadata={"format": FORMAT, "about": json.dumps(about, allow_nan=False)},
        )


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
    about = json.loads(metadata["about"])
    name, encoder = about["system"], _encoder(about["encoder"])
    encoder.load_state_dict(_part(tensors, "encoder."))
    options = known(name).of(about["options"], what=name)
    system = build(name, Vocabulary(about["labels"]), encoder.dim, options)
    system.load_state_dict(_part(tensors, "system."))
    system.encoder = encoder
    system.to(device).eval()
    return Checkpoint(
        name, options, system, system.vocabulary, encoder.preprocessing, about["config"], about["metrics"]
    )


def _encoder(about: dict[str, Any]) -> AnyEncoder:
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    encoder = build_crop_encoder(
        about["name"], about["crops"], weights=None, image_size=preprocessing.size, freeze=True
    )
    if about["details"]:
        encoder = DetailEncoder(encoder)
    encoder.preprocessing = preprocessing  # that of the weights, which the random network could not know
    return encoder


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
