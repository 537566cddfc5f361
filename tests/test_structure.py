"""The layout holds: folders import downwards only, lessons are never imported by helpers, Jupyter only on use."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELPERS, LESSONS = ROOT / "helpers", ROOT / "notebooks" / "lessons"
# From top to bottom: a folder imports only from those before it.
FOLDERS = ["scenes", "data", "encoders", "decoders", "metrics", "systems", "training", "plots", "commands"]
NOTEBOOK_PACKAGES = {"ipywidgets", "IPython", "pycocotools", "nbclient", "nbformat", "jupyterlab"}
FILES = sorted([*HELPERS.rglob("*.py"), *LESSONS.rglob("*.py")])


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of all modules imported anywhere in a file; `from a import b` counts as a and as a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def folder_of(path: Path) -> str:
    return path.relative_to(HELPERS).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(HELPERS)], ids=name)
def test_imports_run_downwards(path: Path) -> None:
    if path.parent == HELPERS and path.stem != "plots":
        pytest.skip("the entry point and the package's docstring")
    mine = FOLDERS.index(folder_of(path))
    for module in imported(tree_of(path)):
        assert not module.startswith("lessons"), (
            f"{name(path)} imports {module}: helpers never import lessons"
        )
        parts = module.split(".")
        if parts[0] == "helpers" and len(parts) > 1 and parts[1] in FOLDERS:
            assert FOLDERS.index(parts[1]) <= mine, f"{name(path)} imports {module}, which stands below it"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_notebook_package_is_needed_to_import(path: Path) -> None:
    """The models run on machines without Jupyter or pycocotools: those are imported where they are used."""
    top = ast.Module([n for n in tree_of(path).body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    needed = {module.split(".")[0] for module in imported(top)}
    assert not needed & NOTEBOOK_PACKAGES


def test_no_circle_inside_a_folder() -> None:
    """Files of one folder can be read in one order, too."""
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in HELPERS.rglob("*.py")}
    needs = {m: imported(tree_of(p)) & modules.keys() - {m} for m, p in modules.items()}
    while needs:
        free = [m for m, n in needs.items() if not n & needs.keys()]
        assert free, f"these import each other in a circle: {sorted(needs)}"
        for m in free:
            del needs[m]
