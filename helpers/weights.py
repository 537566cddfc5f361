"""Weight files of networks: reading them safely, fitting them to a network, and their identity.

Taught in notebook 02.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from helpers.files import load_state

# What training programs nest the weights in; "encoder" first, for our own checkpoints have a "state" beside it.
_WRAPPERS = ("encoder", "state_dict", "model_state_dict", "model", "state")


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Names and tensors of a weight file, .safetensors or .pth, on the CPU and never unpickled.

    Weights nested in a training program's file ("state_dict", "model", the encoder of our own checkpoints) and
    names that all start with "module." or "trunk." come out plain.

    Raises FileNotFoundError, or ValueError for a file that is damaged or holds no named tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            state: Any = load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a whole .safetensors file ({error}): download it again"
            ) from error
    else:
        state = load_state(path)
    while isinstance(state, dict) and (inner := next((key for key in _WRAPPERS if key in state), None)):
        state = state[inner]
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        found = f"the entries {list(state)[:5]}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ValueError(
            f"{path} holds {found}, expected names and tensors, as model.state_dict() gives them"
        )
    for prefix in ("module.", "trunk."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def load_weights(
    trunk: nn.Module, state: dict[str, Tensor], *, source: str, skip: Iterable[str] = ()
) -> None:
    """Copy `state` into `trunk`, in the trunk's own dtype; every name and shape must fit.

    source: where `state` is from, for the message. skip: parts that the trunk has dropped ("fc", "head.fc"); their
    entries may be in `state`.

    Raises ValueError naming what is missing, unexpected or of another shape.
    """
    skipped = tuple(f"{part}." for part in skip)
    state = {key: value for key, value in state.items() if not key.startswith(skipped)}
    expected = trunk.state_dict()
    problems = {
        # Files from before batch-norm counted its batches lack the counter; nothing here reads it.
        "missing": [key for key in expected if key not in state and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}"
            for kind, names in problems.items()
            if names
        )
        raise ValueError(f"{source} does not fit the network: {found}. Is it the file of another model?")
    trunk.load_state_dict(state, strict=False)


def weights_id(state: dict[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and values: the same on every device and in every memory format.

    The order of the names does not matter. About 1 ms a megabyte.
    """
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
