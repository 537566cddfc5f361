"""The set-up finds every way in which a `.venv` can be broken, and the Makefile reaches what it names."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

POSIX = pytest.mark.skipif(
    os.name == "nt", reason="make's route is for Linux and macOS; Windows takes conda's"
)


@pytest.fixture
def setup(repository, tmp_path, monkeypatch):
    """.ci/setup.py, with a checkout of its own."""
    spec = importlib.util.spec_from_file_location("course_setup", repository / ".ci" / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, path in (("ROOT", ""), ("PINS", "requirements.txt"), ("VENV", ".venv"), ("OLD", ".venv.old")):
        monkeypatch.setattr(module, name, tmp_path / path)
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / module.SCRIPTS / ("python" + module.SUFFIX))
    (tmp_path / "requirements.txt").write_text(
        "Some_Package==1.0 ; os_name == 'posix'\n    # via us\nother==2\n"
    )
    return module


@pytest.fixture
def site(tmp_path) -> Path:
    """A site-packages folder with one pinned package of three files."""
    folder = tmp_path / "site"
    info = folder / "some_package-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "some_package").mkdir()
    (folder / "some_package" / "__init__.py").write_text("x = 1\n")
    (info / "METADATA").write_text("Name: some-package\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        "some_package/__init__.py,sha256=a,6\n"
        "some_package/__pycache__/__init__.cpython-311.pyc,,\n"
        "some_package-1.0.dist-info/METADATA,sha256=b,32\n"
        "some_package-1.0.dist-info/RECORD,,\n"
    )
    (folder / "some_package" / "__pycache__").mkdir()
    (folder / "some_package" / "__pycache__" / "__init__.cpython-311.pyc").write_text("")
    return folder


@pytest.fixture
def venv(setup):
    """A real, empty `.venv` of that checkout."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", setup.VENV], check=True)
    return setup.VENV


def test_pinned_names_are_normalised_and_ignore_markers(setup):
    assert setup.pinned_names() == {"some-package", "other"}
    setup.PINS.unlink()
    with pytest.raises(setup.SetupError, match=r"git checkout -- requirements\.txt"):
        setup.pinned_names()


def test_a_whole_package_is_not_damaged(setup, site):
    assert setup.damaged(site) == []
    (site / "some_package" / "__init__.py").write_text("x = 1  # somebody's edit\n")
    assert setup.damaged(site) == [], "an edit is not damage"


@pytest.mark.parametrize(
    "harm",
    [
        lambda site: (site / "some_package" / "__init__.py").unlink(),
        lambda site: (site / "some_package" / "__init__.py").write_text("x"),
        lambda site: shutil.rmtree(site / "some_package"),
        lambda site: (site / "some_package-1.0.dist-info" / "METADATA").unlink(),
        lambda site: (site / "some_package-1.0.dist-info" / "RECORD").unlink(),
        lambda site: (site / "some_package-1.0.dist-info" / "RECORD").write_text(""),
        lambda site: (site / "some_package-1.0.dist-info" / "RECORD").write_text(
            "some_package/__init__.py,sha256=a,6\n"
        ),
        lambda site: (site / "some_package-1.0.dist-info" / "RECORD").write_bytes(b"\xff\xfe,,\n"),
        lambda site: (site / "some_package-1.0.dist-info" / "RECORD").write_text("one,two\n"),
    ],
    ids=[
        "file",
        "cut",
        "folder",
        "metadata",
        "record",
        "empty-record",
        "cut-record",
        "binary-record",
        "strange-record",
    ],
)
def test_damage_is_found(setup, site, harm):
    harm(site)
    assert setup.damaged(site) == ["some-package"]


def test_packages_that_are_not_pinned_are_left_to_their_owner(setup, site):
    (site / "some_package" / "__init__.py").unlink()
    setup.PINS.write_text("other==2\n")
    assert setup.damaged(site) == []


def test_a_sound_venv_has_no_fault(setup, venv):
    assert setup.fault(this_python=False) == setup.fault(this_python=True) == ""


def test_no_venv(setup):
    assert "no .venv yet" in setup.fault(this_python=False)


@POSIX
@pytest.mark.parametrize(
    "harm",
    [
        lambda venv: (venv / "bin" / "python").unlink(),
        lambda venv: (venv / "pyvenv.cfg").unlink(),
        lambda venv: (shutil.rmtree(venv), venv.mkdir()),
        lambda venv: (shutil.rmtree(venv), venv.write_text("")),
        lambda venv: [
            ((venv / "bin" / name).unlink(), (venv / "bin" / name).symlink_to("/nowhere/python"))
            for name in ("python", "python3")
        ],
    ],
    ids=["no-python", "no-configuration", "empty", "a-file", "python-uninstalled"],
)
def test_a_broken_interpreter_is_found(setup, venv, harm):
    harm(venv)
    assert "broken" in setup.fault(this_python=False)


def test_a_moved_checkout_is_found(setup, venv, tmp_path, monkeypatch):
    moved = tmp_path / "it's another folder"
    moved.mkdir()
    venv.rename(moved / ".venv")
    monkeypatch.setattr(setup, "VENV", moved / ".venv")
    monkeypatch.setattr(setup, "PYTHON", moved / ".venv" / setup.SCRIPTS / ("python" + setup.SUFFIX))
    assert "another folder" in setup.fault(this_python=False)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", setup.VENV], check=True)
    assert setup.fault(this_python=False) == "", "a path with a blank and a quote is no fault"


def test_damage_inside_is_a_fault(setup, venv, site):
    inside = setup.probe()[1]
    shutil.copytree(site, inside, dirs_exist_ok=True)
    assert setup.fault(this_python=False) == ""
    (inside / "some_package" / "__init__.py").unlink()
    assert setup.fault(this_python=False) == ".venv is damaged: files are missing or cut off in some-package"


def test_another_python_is_a_fault_only_when_asked_for(setup, venv, monkeypatch):
    monkeypatch.setattr(setup.sys, "version_info", (3, 99))
    assert setup.fault(this_python=False) == ""
    assert "another one was asked for" in setup.fault(this_python=True)


def test_an_old_python_is_refused_before_anything_is_touched(setup, venv, monkeypatch):
    monkeypatch.setattr(setup.sys, "version_info", (3, 10, 1))
    monkeypatch.setattr(setup.shutil, "which", lambda _: None)
    with pytest.raises(setup.SetupError, match=r"needs Python 3\.11 or newer"):
        setup.set_up(this_python=True)
    with pytest.raises(setup.SetupError, match=r"needs Python 3\.11 or newer"):
        setup.suitable_python()
    assert venv.is_dir()


def test_the_old_venv_comes_back_when_a_new_one_cannot_be_made(setup, venv, monkeypatch):
    (venv / "mine").write_text("x")

    def fail(**_):
        raise setup.SetupError("no network")

    monkeypatch.setattr(setup, "make_venv", setup.VENV.mkdir)
    monkeypatch.setattr(setup, "install", fail)
    with pytest.raises(setup.SetupError, match="no network"):
        setup.rebuild("it is broken")
    assert (venv / "mine").read_text() == "x" and not setup.OLD.exists()


def test_helpers_become_importable_without_an_absolute_path(setup, venv, tmp_path):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text("")
    inside = setup.probe()[1]
    setup.make_importable(inside)
    assert str(tmp_path) not in (inside / setup.PATH_ENTRY).read_text()
    code = "import helpers; print(*helpers.__path__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [setup.PYTHON, "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).samefile(tmp_path / "helpers")


def test_settings_of_another_environment_do_not_reach_the_installer(repository):
    code = (
        "import runpy, sys; run = runpy.run_path('.ci/setup.py'); "
        "print(sorted({'PYTHONPATH', 'VIRTUAL_ENV', 'PIP_TARGET', 'HTTPS_PROXY'} & set(run['ENVIRONMENT'])))"
    )
    misleading = dict.fromkeys(("PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "HTTPS_PROXY"), "/x")
    run = [sys.executable, "-c", code]
    answer = subprocess.run(
        run, cwd=repository, env=os.environ | misleading, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "['HTTPS_PROXY']"


# ---------------------------------------------------------------- the Makefile


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


def test_make_alone_lists_every_command(make, repository):
    targets = re.search(
        r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    listed = re.findall(r"^  make (\w+) ", make(), re.MULTILINE)
    assert set(listed) == set(targets.group(1).split())


def test_every_command_but_clean_sets_itself_up(make):
    for target in ("lab", "test", "fast", "notebooks", "bench", "lint", "lock"):
        assert ".ci/setup.py" in make("-n", target), target
    assert ".ci/setup.py" not in make("-n", "clean")


def test_lab_passes_arguments_on_and_keeps_the_token(make):
    command = make("-n", "lab", "ARGS=--no-browser --port 9999")
    assert command.rstrip().endswith("--no-browser --port 9999")
    assert "notebooks/00_start_here.ipynb" in command and "token" not in command
    assert "--user" not in command and "ipykernel" not in command


def test_the_environment_of_lab_does_not_reach_the_set_up(make):
    """Else `python3` would be the one inside a broken `.venv`."""
    set_up = next(line for line in make("-n", "lab").splitlines() if ".ci/setup.py" in line)
    assert "PATH=" not in set_up and "VIRTUAL_ENV" not in set_up


def test_clean_keeps_the_data(make):
    assert not re.search(r"\bdata\b", make("-n", "clean"))


@POSIX
def test_ci_runs_the_readme_command(repository):
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith('exec make test "$@"')
    subprocess.run(["bash", "-n", script], check=True)
