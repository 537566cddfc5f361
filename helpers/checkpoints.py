"""A trained system as one file: options, vocabulary and weights, enough to label an image anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from helpers.encoders import Encoder, build_encoder
from helpers.files import load_state, save_state
from helpers.labels import Vocabulary
from helpers.systems import System, build
from helpers.transforms import Preprocessing

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A system read from disk, in eval mode, its encoder attached.

    config: the options the system was trained with. metrics: what it reached, by split.
    """

    system: System
    vocabulary: Vocabulary
    preprocessing: Preprocessing
    config: dict[str, Any]
    metrics: dict[str, dict[str, float]]


def save_checkpoint(
    path: Path | str,
    system: System,
    encoder: Encoder,
    *,
    name: str,
    options: dict[str, Any],
    config: dict[str, Any],
    metrics: dict[str, dict[str, float]],
) -> None:
    """Write a system and its encoder, atomically.

    name, options: those given to `systems.build`. config: anything of JSON, kept for the record.
    """
    state = {key: value for key, value in system.state_dict().items() if not key.startswith("encoder.")}
    save_state(
        path,
        {
            "format": FORMAT,
            "system": name,
            "options": options,
            "labels": list(system.vocabulary.labels),
            "encoder": {
                "name": encoder.name,
                "preprocessing": encoder.preprocessing.to_dict(),
                "state": encoder.state_dict(),
            },
            "state": state,
            "config": config,
            "metrics": metrics,
        },
    )


def load_checkpoint(path: Path | str, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read what `save_checkpoint` wrote and rebuild the system.

    Raises FileNotFoundError, or ValueError for a damaged file or one of another kind or format.
    """
    saved = load_state(path)
    if not isinstance(saved, dict) or "format" not in saved or "system" not in saved:
        raise ValueError(
            f"{path} holds no trained system (a training folder's checkpoint.pt does; last.pt is for --resume only)"
        )
    if saved["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {saved['format']}, this code reads {FORMAT}: train again or update"
        )
    vocabulary = Vocabulary(saved["labels"])
    preprocessing = Preprocessing.from_dict(saved["encoder"]["preprocessing"])
    encoder = build_encoder(
        saved["encoder"]["name"], weights=None, image_size=preprocessing.size, freeze=True
    )
    encoder.preprocessing = preprocessing  # that of the weights, which the random network could not know
    encoder.load_state_dict(saved["encoder"]["state"])
    system = build(saved["system"], vocabulary, encoder.dim, **saved["options"])
    system.load_state_dict(saved["state"])
    system.encoder = encoder
    system.to(device).eval()
    return Checkpoint(system, vocabulary, preprocessing, saved["config"], saved["metrics"])
