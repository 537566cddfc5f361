"""The set-up makes `.venv`, finds in a moment that it is ready, and recovers from what can break it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

POSIX = pytest.mark.skipif(os.name == "nt", reason="make is for Linux and macOS; Windows uses conda")
PINS = (
    "numpy==2.0\n    # via us\nnvidia-cublas==13.4 ; sys_platform == 'linux'\ntriton==3.9\ncuda-toolkit==13\n"
)


class Checkout:
    """A folder with the set-up script, a few pins, and a `uv` that only writes down how it was called."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder, self.tools = folder, folder / "tools"
        (folder / ".ci").mkdir(parents=True)
        shutil.copy(repository / ".ci" / "setup.py", folder / ".ci")
        (folder / "requirements.txt").write_text(PINS)
        self.tools.mkdir()
        self.uv(0)

    def uv(self, status: int) -> None:
        program = self.tools / "uv"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "$@" >> "{self.tools}/calls"\nexit {status}\n'
        )
        program.chmod(0o755)

    def run(self, **variables: str) -> tuple[int, list[str]]:
        """Exit status, and the calls of uv since the last run."""
        calls = self.tools / "calls"
        calls.write_text("")
        path = f"{self.tools}{os.pathsep}{os.environ['PATH']}"
        answer = subprocess.run(
            [sys.executable, self.folder / ".ci" / "setup.py"],
            env=os.environ | {"PATH": path, "CPU": ""} | variables,
            capture_output=True,
            text=True,
        )
        self.output = answer.stdout + answer.stderr
        return answer.returncode, calls.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path, repository) -> Checkout:
    return Checkout(tmp_path / "it's a folder", repository)


@pytest.mark.slow
@POSIX
def test_it_installs_once_and_again_when_the_pins_change(checkout):
    status, calls = checkout.run()
    assert status == 0 and len(calls) == 1 and calls[0].startswith("pip sync") and "3 GB" in checkout.output
    site = next((checkout.folder / ".venv").glob("lib/python*/site-packages"))
    paths = (site / "annotation_course.pth").read_text().splitlines()
    assert [(site / path).resolve() for path in paths] == [checkout.folder, checkout.folder / "notebooks"]
    assert checkout.run() == (0, []) and checkout.output == ""
    mine = checkout.folder / ".venv" / "mine"
    mine.touch()
    (checkout.folder / "requirements.txt").write_text("numpy==2.1\n")
    assert len(checkout.run()[1]) == 1 and mine.exists()


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("harm", ["python", "stamp", "moved"])
def test_a_broken_unfinished_or_moved_environment_is_made_anew(checkout, harm):
    checkout.run()
    mine = checkout.folder / ".venv" / "mine"
    mine.touch()
    if harm == "moved":
        checkout.folder = checkout.folder.rename(checkout.folder.parent / "elsewhere")
        checkout.tools = checkout.folder / "tools"
        checkout.uv(0)
    for name in {"python": ["bin/python", "bin/python3"], "stamp": ["ready.txt"], "moved": []}[harm]:
        (checkout.folder / ".venv" / name).unlink()
    status, calls = checkout.run()
    assert status == 0 and len(calls) == 1 and not (checkout.folder / ".venv" / "mine").exists()


@pytest.mark.slow
@POSIX
def test_a_failed_installation_is_tried_again(checkout):
    checkout.uv(1)
    assert checkout.run()[0] == 1 and "Check the network" in checkout.output
    checkout.uv(0)
    assert checkout.run()[0] == 0 and checkout.run() == (0, [])


@pytest.mark.slow
@POSIX
def test_cpu_leaves_out_the_cuda_packages_and_nothing_else(checkout, repository):
    status, calls = checkout.run(CPU="1")
    assert status == 0 and "--torch-backend cpu" in calls[0]
    kept = [
        line for line in (checkout.folder / ".venv" / "pins.txt").read_text().splitlines() if line[0] != " "
    ]
    assert kept == ["numpy==2.0"]
    assert len(checkout.run()[1]) == 1, "without CPU=1 the CUDA packages come back"
    cuda = re.compile(r"^(nvidia|cuda|triton)")
    text = (repository / "requirements.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text)
    askers = {
        re.match(r"[\w.-]+", block).group(): set(re.findall(r"(?:via|#) +([\w-]+)", block))
        for block in blocks
    }
    for name, asked_by in askers.items():
        if cuda.match(name):
            assert all(cuda.match(other) or other in ("torch", "via") for other in asked_by), name


def test_the_oldest_python(repository):
    script = (repository / ".ci" / "setup.py").read_text(encoding="utf-8")
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    oldest = re.search(r"OLDEST = \((\d+), (\d+)\)", script).groups()
    assert 'requires-python = ">={}.{}"'.format(*oldest) in project


@pytest.fixture
def make(repository):
    program = shutil.which("make")
    if program is None:
        pytest.skip("no make on this machine (conda's route needs none)")

    def run(*arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        command = [program, *arguments]
        return subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True, check=True
        ).stdout

    return run


def test_make_lists_its_commands_and_each_sets_itself_up(make, repository):
    text = (repository / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split()
    assert re.findall(r"^  make (\w+) ", make(), re.MULTILINE) == targets
    for target in set(targets) - {"help", "clean", "update"}:
        assert ".ci/setup.py" in make("-n", target), target
    assert not re.search(r"setup.py|\bdata\b", make("-n", "clean"))


def test_lab_passes_arguments_on_and_keeps_the_token(make):
    command = make("-n", "lab", "ARGS=--no-browser --port 9999")
    assert command.rstrip().endswith("--no-browser --port 9999")
    assert "work/00_start_here.ipynb" in command and "token" not in command
    # The environment of lab must not reach the set-up: `python3` would be the one inside a broken .venv.
    set_up = next(line for line in command.splitlines() if ".ci/setup.py" in line)
    assert "PATH=" not in set_up and "VIRTUAL_ENV" not in set_up


@pytest.fixture
def refresh(repository):
    spec = importlib.util.spec_from_file_location("work", repository / ".ci" / "work.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.refresh


def test_the_working_copy_keeps_what_you_changed(refresh, tmp_path):
    source, work = tmp_path / "notebooks", tmp_path / "work"
    (source / "images").mkdir(parents=True)
    (source / "images" / "a.svg").write_text("picture")
    for name in ("mine", "untouched", "deleted"):
        (source / f"{name}.ipynb").write_text("first")
    written, newer = refresh(source, work)
    assert len(written) == 4 and newer == [] and (work / "images" / "a.svg").read_text() == "picture"
    assert refresh(source, work) == ([], [])
    (work / "mine.ipynb").write_text("my answer")
    (work / "deleted.ipynb").unlink()
    assert refresh(source, work) == ([work / "deleted.ipynb"], [])
    for name in ("mine", "untouched"):
        (source / f"{name}.ipynb").write_text("second")
    (source / "later.ipynb").write_text("second")
    written, newer = refresh(source, work)  # as `make lab` does after a pull
    assert written == [work / "later.ipynb", work / "untouched.ipynb"] and newer == [work / "mine.ipynb"]
    assert refresh(source, work, update=True) == ([work / "mine.new.ipynb"], [work / "mine.ipynb"])
    assert (work / "mine.ipynb").read_text() == "my answer"
    assert (work / "mine.new.ipynb").read_text() == (work / "untouched.ipynb").read_text() == "second"
    assert refresh(source, work, update=True) == ([], []), "the new version is there already"
    (source / "mine.ipynb").write_text("third")
    assert refresh(source, work, update=True)[0] == [work / "mine.new2.ipynb"]


def test_jupyter_asks_for_no_news(repository):
    """The setting has the name that JupyterLab's own schema gives it."""
    settings = json.loads((repository / ".ci/jupyter/labconfig/default_setting_overrides.json").read_text())
    [(plugin, values)] = settings.items()
    package, name = plugin.split(":")
    schema = Path(sys.prefix, "share/jupyter/lab/schemas", *package.split("/"), f"{name}.json")
    properties = json.loads(schema.read_text(encoding="utf-8"))["properties"]
    assert values["fetchNews"] == "false" in [choice["const"] for choice in properties["fetchNews"]["oneOf"]]
    assert values.keys() <= properties.keys()


@POSIX
def test_ci_runs_the_readme_command(repository):
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith('exec make test "$@"')
    subprocess.run(["bash", "-n", script], check=True)
