"""Is this machine ready for the course? `python -m helpers check`, and the first notebook.

One line per item: OK, FAIL with what fixes it, or INFO for what is optional. Only the standard library is needed
to start, so that the report can say what is missing from an empty environment.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
SET_UP = "make setup (with conda: conda env update -f environment.yml)"
FREE_GIB = 1.0  # the scenes, their features and a few checkpoints together take less


class Item(NamedTuple):
    """One line of the report. status: "OK", "FAIL" or "INFO". fix: what to do; a FAIL always has one."""

    status: str
    name: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<4}  {self.name:<18} {self.text}"
        return f"{line}\n{'':24} -> {self.fix}" if self.fix else line


def check_packages(repository: Path) -> Iterator[Item]:
    """Python and each direct dependency against the lower bounds in pyproject.toml."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest, found = project["requires-python"].removeprefix(">="), platform.python_version()
    if _release(found) < _release(lowest):
        yield Item("FAIL", "Python", found, f"install Python {lowest} or newer, then {SET_UP}")
    else:
        yield Item("OK", "Python", f"{found}, {platform.system()} {platform.machine()}")
    for line in project["dependencies"]:
        name, _, bound = line.partition(">=")
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Item("FAIL", name, "not installed", SET_UP)
            continue
        if _release(version) < _release(bound):
            yield Item("FAIL", name, f"{version} is older than {bound}", SET_UP)
        else:
            yield Item("OK", name, version)


def check_torch() -> Iterator[Item]:
    """One compiled operation of torchvision, which fails with a torch that it was not built for; the accelerator."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    if kept == [0, 2]:
        yield Item("OK", "torch runs", "an operation of torch and one of torchvision")
    else:
        yield Item("FAIL", "torch runs", f"torchvision computes {kept}, not [0, 2]", SET_UP)
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        yield Item("OK", "GPU", "; ".join(f"{d.name}, {d.total_memory / 2**30:.0f} GiB" for d in devices))
    elif torch.backends.mps.is_available():
        yield Item("OK", "GPU", "Apple, by torch's mps device")
    elif shutil.which("nvidia-smi"):
        fix = (
            f"only if you want it: an NVIDIA driver for CUDA {torch.version.cuda or '(this torch has none)'}"
        )
        yield Item("INFO", "GPU", "torch cannot use the NVIDIA card: everything runs on the CPU", fix)
    else:
        yield Item("INFO", "GPU", "none: everything runs on the CPU")


def check_widgets() -> Iterator[Item]:
    """ipywidgets and the JupyterLab extension that shows its widgets."""
    extension = Path(
        sys.prefix, "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager/package.json"
    )
    if extension.is_file():
        yield Item("OK", "widgets", f"JupyterLab's extension {metadata.version('jupyterlab-widgets')}")
    else:
        yield Item("FAIL", "widgets", "JupyterLab's widget extension is not in this environment", SET_UP)


def check_data(data: Path) -> Iterator[Item]:
    """Disk space, the drawn scenes, and the shipped weights by their sha256 in checksums.json."""
    free = shutil.disk_usage(data).free / 2**30
    fix = "" if free >= FREE_GIB else f"free at least {FREE_GIB:.0f} GiB, or move the course to another disk"
    yield Item("FAIL" if fix else "OK", "disk", f"{free:.1f} GiB free", fix)
    if len(list(data.glob("scenes/**/instances_*.json"))) >= 3:
        yield Item("OK", "scenes", "drawn")
    else:
        yield Item("INFO", "scenes", "not drawn yet: this happens on first use and takes half a minute")
    for name, checksum in json.loads((data / "checksums.json").read_text(encoding="utf-8")).items():
        path = data / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == checksum:
            yield Item("OK", "shipped weights", f"{name}, {path.stat().st_size / 2**20:.2f} MiB")
        else:
            found = "is damaged or of another version" if path.is_file() else "is missing"
            yield Item("FAIL", "shipped weights", f"data/{name} {found}", f"git checkout -- data/{name}")


def check(repository: Path = REPOSITORY) -> list[Item]:
    """All items, in the order of the report. Nothing is raised: a check that crashes becomes a FAIL."""
    steps: dict[str, tuple[Callable[[], Iterator[Item]], str]] = {
        "packages": (lambda: check_packages(repository), "git checkout -- pyproject.toml"),
        "torch runs": (check_torch, SET_UP),
        "widgets": (check_widgets, SET_UP),
        "data": (lambda: check_data(repository / "data"), "git checkout -- data/"),
    }
    items: list[Item] = []
    for name, (step, fix) in steps.items():
        try:
            items += step()
        except Exception as error:  # a broken package fails as ImportError, OSError, RuntimeError, …
            # Without absolute paths: they would be stored in the output of a notebook.
            text = str(error).replace(str(repository), ".").replace(sys.prefix, ".venv").strip()
            items.append(Item("FAIL", name, f"{type(error).__name__}: {text.partition(chr(10))[0]}", fix))
    return items


def report() -> bool:
    """Print one line per item and a summary. Returns True when nothing fails."""
    items = check()
    print(*items, sep="\n")
    failed = [item.name for item in items if item.status == "FAIL"]
    print(f"\nNot ready: {', '.join(failed)}. The arrows above say what to do." if failed else "\nReady.")
    return not failed


def main(_arguments: list[str] | None = None) -> int:
    """The command line: 0 when nothing fails, else 1."""
    sys.stdout.reconfigure(errors="replace")  # a Windows console that cannot show a character shows "?"
    return 0 if report() else 1


def _release(version: str) -> tuple[int, ...]:
    """The numbers at the front of a version, without trailing zeros: "2.15.0+cpu" -> (2, 15)."""
    numbers = [int(part) for part in re.match(r"\d+(\.\d+)*|", version).group().split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
