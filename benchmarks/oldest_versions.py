"""Do the fast tests pass at the older end of the version range?

    make bench NAME=oldest_versions
    python benchmarks/oldest_versions.py --python 3.11 -- -x tests/test_labels.py

Makes a throw-away environment with the lowest version that pyproject.toml allows of every direct dependency
(torch 2.11 with torchvision 0.26 among them; what those need is the newest that fits) on the oldest Python, and
runs the tests that are neither `slow` nor `browser` in it. The newer end is requirements.txt: `make test`.
Needs a package index, about 6 GB of disk while it runs, and a few minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS, SUFFIX = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")


def find_uv() -> str:
    """The uv on the PATH or in the environment of this Python."""
    inside = Path(sys.executable).with_name("uv" + SUFFIX)
    uv = shutil.which("uv") or (str(inside) if inside.is_file() else None)
    if uv is None:
        sys.exit("uv is neither on the PATH nor in .venv: make setup brings it")
    return uv


def lowest(project: dict) -> dict[str, str]:
    """Name and lowest allowed version of every direct dependency, those of the tests included."""
    lines = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    wanted = map(Requirement, lines)
    return {
        item.name: next(clause.version for clause in item.specifier if clause.operator == ">=")
        for item in wanted
    }


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    oldest = project["requires-python"].removeprefix(">=")
    parser.add_argument(
        "--python", default=oldest, help="version or path (default: %(default)s, the oldest allowed)"
    )
    parser.add_argument(
        "tests", nargs="*", metavar="-- ARGUMENT", help="for pytest, in place of the whole of tests/"
    )
    options = parser.parse_args()
    uv = find_uv()

    with tempfile.TemporaryDirectory(prefix="oldest-versions-") as folder:
        venv = Path(folder) / "venv"
        python = venv / SCRIPTS / ("python" + SUFFIX)
        subprocess.run([uv, "venv", "--quiet", "--python", options.python, venv], check=True)
        source = ["-r", "pyproject.toml", "--extra", "test", "--resolution", "lowest-direct"]
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *source], cwd=ROOT, check=True)

        print(f"{'package':<18} {'lowest allowed':<16} installed")
        show = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]), sep='\\n')"
        names = lowest(project)
        found = subprocess.run([python, "-c", show, *names], capture_output=True, text=True, check=True)
        for (name, bound), version in zip(names.items(), found.stdout.split(), strict=True):
            print(f"{name:<18} {bound:<16} {version}")
        sys.stdout.flush()

        # Not the caches of the other environment, and nothing compiled by it.
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not browser"]
        return subprocess.run([*run, *options.tests], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
