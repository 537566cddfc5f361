"""The package is laid out as `helpers/__init__.py` says: every module is on its map, and imports run one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import helpers

FOLDER = Path(helpers.__file__).parent
MODULES = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
LINES = re.findall(r"^    ((?:\w+, )*\w+)(?:  |$)", helpers.__doc__, flags=re.MULTILINE)
MAP = [name for line in LINES for name in line.split(", ")]  # from top to bottom


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            found.add(node.module.split(".")[1])
    return found & MODULES - {module}


def test_every_module_is_on_the_map_once() -> None:
    assert set(MAP) - MODULES == set(), "these are on the map but not there"
    assert MODULES - set(MAP) == set(), "say in helpers/__init__.py what these hold"
    assert len(MAP) == len(set(MAP))


@pytest.mark.parametrize("module", MAP)
def test_a_module_imports_from_those_above_it_alone(module: str) -> None:
    """So there is no circle, and the map can be read from top to bottom."""
    below = imports(module) - set(MAP[: MAP.index(module)])
    assert not below, f"{module} imports what stands below it in helpers/__init__.py: move one of them"


def test_nothing_needs_a_notebook_package_to_be_imported() -> None:
    """The models run on machines without Jupyter or pycocotools: those are imported where they are used."""
    for module in MODULES:
        tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
        top = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert not {name.split(".")[0] for name in top} & {
            "ipywidgets",
            "IPython",
            "pycocotools",
            "nbclient",
            "jupyterlab",
        }
