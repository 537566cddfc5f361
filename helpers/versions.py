"""Versions: what is installed, what pyproject.toml asks for at least, what requirements.txt pins.

Standard library only until something is compared, so that `helpers.environment` runs in an empty environment.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path


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
