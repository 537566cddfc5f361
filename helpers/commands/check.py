"""Is this machine ready for the course? `python -m helpers check`, and notebook 00.

One line an item: OK, FAIL with what mends it, or INFO for what is optional. It needs nothing but Python
itself to run, so that it can say what is missing from an environment that is otherwise empty.

Versions: what is installed, what pyproject.toml asks for at least, what requirements.txt pins.

Standard library only until something is compared, so that `helpers.commands.check` runs in an empty environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


SET_UP = "make setup (with conda: conda env update -f environment.yml)"


FREE_GIB = 1.0  # the scenes, their features and a few checkpoints together take less


WIDTH = 18  # of the column of names


@dataclass(frozen=True)
class Item:
    """One line of the report.

    status: "OK", "FAIL" or "INFO".
    text:   what was found.
    mend:   what to do about it; a FAIL always has one.
    """

    status: str
    name: str
    text: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<4}  {self.name:<{WIDTH}} {self.text}"
        return f"{line}\n{'':6}{'':{WIDTH}} -> {self.mend}" if self.mend else line


# ---------------------------------------------------------------- the items


def check_python(lowest: str) -> Item:
    """Python itself against the lowest version that the course supports."""
    found = platform.python_version()
    if release(found) < release(lowest):
        return Item(
            "FAIL", "Python", found, f"the course needs {lowest} or newer: install one, then {SET_UP}"
        )
    return Item("OK", "Python", f"{found}, {platform.system()} {platform.machine()}")


def check_package(name: str, bound: str, pins: set[str]) -> Item:
    """One direct dependency against its lower bound; the pinned version is what the course was tested with."""
    found = installed(name)
    if found is None:
        return Item("FAIL", name, "not installed", SET_UP)
    if release(found) < release(bound):
        return Item("FAIL", name, f"{found} is older than {bound}", SET_UP)
    tested = " or ".join(sorted(pins))
    same = not pins or release(found) in {release(pin) for pin in pins}
    return Item("OK", name, found if same else f"{found} (the course was tested with {tested})")


def check_pair(name: str, package: str, dependency: str) -> Item:
    """Whether two packages that must fit each other do, by what the first one asks for."""
    first, second = installed(package), installed(dependency)
    if first is None or second is None:
        missing = package if first is None else dependency
        return Item("FAIL", name, f"{missing} is not installed", SET_UP)
    wanted = requirement(package, dependency)
    found = f"{package} {first} with {dependency} {second}"
    if wanted and not fits(second, wanted):
        return Item("FAIL", name, f"{found}, but it needs {dependency} {wanted}", SET_UP)
    return Item("OK", name, found)


def check_torch_runs() -> Item:
    """Import torch and torchvision and run one compiled operation of each, which a wrong pair cannot."""
    try:
        import torch
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    except Exception as error:  # a broken build fails as ImportError, OSError, RuntimeError, …
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return Item("FAIL", "torch runs", f"{type(error).__name__}: {_relative(reason)}", SET_UP)
    if kept != [0, 2]:
        return Item("FAIL", "torch runs", f"torchvision computes {kept}, not [0, 2]", SET_UP)
    return Item("OK", "torch runs", "an operation of torch and one of torchvision")


def check_gpu() -> Item:
    """The accelerator that torch can use; none is fine."""
    try:
        import torch
    except Exception:  # reported by check_torch_runs
        return Item("INFO", "GPU", "unknown, since torch cannot be imported")
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        names = (f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices)
        return Item("OK", "GPU", "; ".join(names))
    if torch.backends.mps.is_available():
        return Item("OK", "GPU", "Apple, by torch's mps device")
    if shutil.which("nvidia-smi"):
        mend = "only if you want it: an NVIDIA driver that fits CUDA " + str(
            torch.version.cuda or "(this torch has none)"
        )
        return Item("INFO", "GPU", "torch cannot use the NVIDIA card: everything runs on the CPU", mend)
    return Item("INFO", "GPU", "none: everything runs on the CPU")


def check_widgets() -> Item:
    """ipywidgets, and the JupyterLab extension that shows its widgets."""
    item = check_pair("widgets", "ipywidgets", "jupyterlab-widgets")
    extension = Path(
        sys.prefix, "share", "jupyter", "labextensions", "@jupyter-widgets", "jupyterlab-manager"
    )
    if item.status == "OK" and not (extension / "package.json").is_file():
        return Item("FAIL", "widgets", "JupyterLab's widget extension is not in this environment", SET_UP)
    return item


def check_disk(folder: Path) -> Item:
    """Room for the scenes, features and checkpoints."""
    free = shutil.disk_usage(folder).free / 2**30
    text = f"{free:.1f} GiB free" if free < 10 else f"{free:.0f} GiB free"
    if free < FREE_GIB:
        return Item(
            "FAIL", "disk", text, f"free at least {FREE_GIB:.0f} GiB, or move the course to another disk"
        )
    return Item("OK", "disk", text)


def check_scenes(data: Path) -> Item:
    """The embedded dataset, which is drawn on first use."""
    splits = [path.stem.removeprefix("instances_") for path in data.glob("scenes/**/instances_*.json")]
    if len(splits) >= 3:
        return Item("OK", "scenes", "drawn: " + ", ".join(sorted(splits)))
    return Item("INFO", "scenes", "not drawn yet: done on first use, in half a minute, without a network")


def check_weights(data: Path) -> list[Item]:
    """The small weights that the repository ships, by their sha256 in data/checksums.json."""
    listing = data / "checksums.json"
    if not listing.is_file():
        return [
            Item(
                "FAIL",
                "shipped weights",
                "data/checksums.json is missing",
                f"git checkout -- data/{listing.name}",
            )
        ]
    try:
        expected = dict(json.loads(listing.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        return [
            Item(
                "FAIL",
                "shipped weights",
                f"data/checksums.json: {error}",
                f"git checkout -- data/{listing.name}",
            )
        ]
    items = []
    for name, checksum in sorted(expected.items()):
        path, mend = data / name, f"git checkout -- data/{name}"
        if not path.is_file():
            items.append(Item("FAIL", "shipped weights", f"data/{name} is missing", mend))
        elif hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            items.append(
                Item("FAIL", "shipped weights", f"data/{name} is damaged or of another version", mend)
            )
        else:
            items.append(
                Item("OK", "shipped weights", f"{name}, {path.stat().st_size / 2**20:.2f} MiB, as shipped")
            )
    return items


def check_helpers(repository: Path) -> Item:
    """Whether Python finds this `helpers` from any folder, as a notebook in notebooks/ must."""
    command = [sys.executable, "-c", "import helpers; print(*helpers.__path__)"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as elsewhere:
        answer = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60
        )
    if answer.returncode:
        return Item(
            "FAIL",
            "helpers",
            "can only be imported in the course's own folder",
            f"{SET_UP}, or: pip install -e .",
        )
    if Path(answer.stdout.strip()).resolve() != repository / "helpers":
        return Item(
            "FAIL",
            "helpers",
            "those of another copy of the course come first",
            f"{SET_UP}, or: pip install -e .",
        )
    return Item("OK", "helpers", "can be imported from any folder")


def check_browser() -> Item:
    """A Chromium for the tests that drive JupyterLab; nothing in the course needs it."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    if any(shutil.which(name) for name in names):
        return Item("OK", "Chromium", "found, for the browser tests")
    return Item("INFO", "Chromium", "none: only the browser tests miss it")


def _relative(text: str) -> str:
    """Without the absolute paths of this machine, which nobody needs in a stored output."""
    return text.replace(str(REPOSITORY), ".").replace(sys.prefix, ".venv")


# ---------------------------------------------------------------- the report


def check(repository: Path | str = REPOSITORY) -> list[Item]:
    """All items of the self-check, in the order of the report. Nothing is raised: what breaks becomes a FAIL."""
    repository = Path(repository)
    if sys.version_info < (3, 11):  # noqa: UP036 (too old even to read pyproject.toml)
        return [check_python("3.11")]
    try:
        bounds, pins, lowest = declared(repository)
    except (OSError, KeyError, ValueError) as error:
        mend = "git checkout -- pyproject.toml requirements.txt"
        return [check_python("3.11"), Item("FAIL", "course files", _relative(str(error)), mend)]
    items = [check_python(lowest)]
    items += [check_package(name, bound, pins[name]) for name, bound in bounds.items()]
    steps: list[tuple[str, Callable[[], Item | Sequence[Item]]]] = [
        ("torchvision fits", lambda: check_pair("torchvision fits", "torchvision", "torch")),
        ("torch runs", check_torch_runs),
        ("GPU", check_gpu),
        ("widgets", check_widgets),
        ("helpers", lambda: check_helpers(repository)),
        ("disk", lambda: check_disk(repository)),
        ("scenes", lambda: check_scenes(repository / "data")),
        ("shipped weights", lambda: check_weights(repository / "data")),
        ("Chromium", check_browser),
    ]
    for name, step in steps:
        try:
            found = step()
        except Exception as error:  # a self-check that crashes helps nobody
            found = Item("FAIL", name, f"{type(error).__name__}: {_relative(str(error))}", SET_UP)
        items += [found] if isinstance(found, Item) else found
    return items


def report(items: Sequence[Item] | None = None) -> bool:
    """Print the items, a line each, and a last line that sums up; True when nothing fails. Used in notebook 00."""
    items = check() if items is None else items
    for item in items:
        print(item)
    failed = [item.name for item in items if item.status == "FAIL"]
    print(
        "\nReady." if not failed else f"\nNot ready: {', '.join(failed)}. The arrows above say what mends it."
    )
    return not failed


def main(_arguments: list[str] | None = None) -> int:
    """The command line: 0 when nothing fails, else 1."""
    with contextlib.suppress(AttributeError):  # a Windows console that cannot show a character shows "?"
        sys.stdout.reconfigure(errors="replace")
    return 0 if report() else 1


def release(version: str) -> tuple[int, ...]:
    """The numbers at the front of a version, without trailing zeros: "2.15.0+cpu" -> (2, 15)."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def installed(package: str) -> str | None:
    """The version of an installed package; None where it is absent or its record is damaged."""
    try:
        return metadata.version(package) or None
    except (metadata.PackageNotFoundError, OSError, KeyError, TypeError):
        return None


def requirement(package: str, dependency: str) -> str | None:
    """What an installed package asks of the version of a dependency: ("torchvision", "torch") -> "==2.15.0"."""
    for line in metadata.requires(package) or []:
        match = re.match(rf"{re.escape(dependency)}\s*\(?([<>=~!][^;)]*)", line.replace("_", "-"))
        if match and "extra" not in line.partition(";")[2]:
            return match.group(1).strip()
    return None


def fits(version: str, specifier: str) -> bool:
    """Whether a version is in a specifier such as "==2.15.0" or "~=3.0.12"; local parts (+cpu) are ignored."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version.partition("+")[0], prereleases=True)


def declared(repository: Path) -> tuple[dict[str, str], dict[str, set[str]], str]:
    """(lower bound of each direct dependency, its pins, lowest Python), from pyproject.toml and requirements.txt.

    A package has several pins where they differ between versions of Python.
    """
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict(re.split(r"\s*>=\s*", line, maxsplit=1) for line in project["dependencies"])
    pins: dict[str, set[str]] = {name: set() for name in bounds}
    for line in (repository / "requirements.txt").read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
        if match and match.group(1) in pins:
            pins[match.group(1)].add(match.group(2))
    return bounds, pins, project["requires-python"].removeprefix(">=")
