"""The package is laid out as `helpers/__init__.py` says: every module is on its map, and imports run one way."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import helpers

FOLDER = Path(helpers.__file__).parent
MODULES = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            found.add(node.module.split(".")[1])
    return found & MODULES - {module}


def test_imports_make_no_circle() -> None:
    list(TopologicalSorter({module: imports(module) for module in MODULES}).static_order())


def test_every_module_is_on_the_map() -> None:
    listed = re.findall(r"^    ((?:\w+, )*\w+)(?:  |$)", helpers.__doc__, flags=re.MULTILINE)
    listed += re.findall(r"^    ((?:\w+, )*\w+)   \w", helpers.__doc__, flags=re.MULTILINE)
    names = {name for line in listed for name in line.split(", ")}
    assert MODULES - names == set(), "say in helpers/__init__.py what these hold"
    assert names - MODULES == set(), "these are on the map but not there"


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
