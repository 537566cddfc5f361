"""Make the course's `.venv` from requirements.txt, or find in a moment that it is ready. Standard library only.

Every `make` target runs it first. CPU=1 in the environment installs a torch without CUDA.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)  # requires-python in pyproject.toml; tests/test_setup.py holds the two together
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
CPU = bool(os.environ.get("CPU"))
CUDA = re.compile(r"^(nvidia|cuda|triton)\b")  # packages that only a torch built for CUDA needs
SIZE = (
    "a few hundred MB" if CPU else "on Linux about 3 GB, 6 GB on disk, most of it CUDA (CPU=1 leaves it out)"
)


def run(*command: object, **options: bool) -> bool:
    """Whether a command succeeds, in the checkout; one that cannot start counts as failed."""
    misleading = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME")
    environment = {name: value for name, value in os.environ.items() if name not in misleading}
    try:
        return subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, **options).returncode == 0
    except OSError:
        return False


def find_uv() -> str | Path:
    """uv from the PATH, or from `.venv`, where pip installs it if there is none."""
    for uv in (shutil.which("uv"), BIN / "uv"):
        if uv and run(uv, "--version", capture_output=True):
            return uv
    if not run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"):
        sys.exit("set-up: pip could not install uv (message above). Check the network, then run this again.")
    return BIN / "uv"


def link() -> None:
    """Let every Python of .venv import `helpers` and `lessons`, from whatever folder a notebook is in."""
    site = next(VENV.glob("lib/python*/site-packages"), VENV / "Lib" / "site-packages")
    lines = "".join(f"{os.path.relpath(path, site)}\n" for path in (ROOT, ROOT / "notebooks"))
    file = site / "annotation_course.pth"
    if not file.is_file() or file.read_text(encoding="utf-8") != lines:
        file.write_text(lines, encoding="utf-8")


def set_up() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    pins = "".join(line for line in lines if not (CPU and CUDA.match(line)))
    # The stamp is written last: an unfinished, moved or outdated .venv has another one, or none.
    stamp, ready = VENV / "ready.txt", f"{ROOT}\n{hashlib.sha256(pins.encode()).hexdigest()}\n"
    found = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
    runs = run(PYTHON, "-I", "-c", "", capture_output=True)
    if runs and found == ready:
        link()
        return
    print(f"set-up: installing the packages into .venv. The first time this downloads {SIZE}.", flush=True)
    if not CPU and not runs:
        print(
            "set-up: without an NVIDIA card, `make lab CPU=1` is the smaller way. Ctrl-C stops; nothing is lost."
        )
    stamp.unlink(missing_ok=True)
    if not (runs and found.startswith(f"{ROOT}\n")) and not run(
        sys.executable, "-m", "venv", "--clear", VENV
    ):
        sys.exit(
            "set-up: this Python cannot make a virtual environment. On Debian: apt-get install python3-venv"
        )
    (VENV / "pins.txt").write_text(pins, encoding="utf-8")
    backend = ["--torch-backend", "cpu"] if CPU else []
    if not run(find_uv(), "pip", "sync", "--python", PYTHON, *backend, VENV / "pins.txt"):
        hint = (
            "CPU=1 needs PyTorch's own package index: without access to it, leave CPU=1 out. " if CPU else ""
        )
        sys.exit(
            f"set-up: uv could not install the packages (message above). {hint}Check the network and the disk, run it again."
        )
    link()
    stamp.write_text(ready, encoding="utf-8")
    print("set-up: .venv is ready", flush=True)


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        found = sys.version.split()[0]
        sys.exit(
            f"set-up: Python 3.11 or newer is needed; this is {found}. Then: make lab PYTHON=/path/to/python3"
        )
    set_up()
