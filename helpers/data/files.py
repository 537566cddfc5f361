"""Files that are whole or untouched: a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import getpid
from pathlib import Path
from threading import get_ident
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "data"


# Absolute, on another drive, or with a part of only dots and blanks (Windows drops those at the end of
# names).
_LEAVES_FOLDER = re.compile(r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])(?!\.(?:[/\\]|$))[. ]+(?:[/\\]|$)|\0")


def leaves_folder(name: str) -> bool:
    """Whether a name from an archive or an annotation file leads out of the folder that it is relative to."""
    return _LEAVES_FOLDER.search(name) is not None


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; renamed to `path` only if the block succeeds.

    The parent folder is made. After an error the old file is as it was. The file gets the mode of any new
    file here, whatever the writer gave it (safetensors: only its owner may read it).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Threads may write the same file.
    temporary = path.with_name(f".{path.name}.{getpid()}.{get_ident()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777  # as the umask has it, which can only be asked by changing it
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with Unix line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path | str, value: Any) -> None:
    """Write indented JSON, atomically; NaN and infinity are refused, for JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON; a file that is not JSON raises ValueError with its name."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, too long a number, nested too deep
        raise ValueError(
            f"{path} is not valid JSON ({error}): it may be cut off; make or download it again"
        ) from error


def save_state(path: Path | str, state: dict[str, Any]) -> None:
    """Save tensors, numbers, strings, lists and dicts, atomically. Read back with `load_state`."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path | str, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load what `save_state` wrote, without unpickling code (`weights_only`).

    Raises FileNotFoundError, or ValueError for a file that is cut off or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise ValueError(
            f"{path} cannot be read as saved tensors ({type(error).__name__}): it is cut off, damaged or was "
            "made by another program; make it again"
        ) from error
