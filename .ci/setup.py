"""Make the course's `.venv`, mend it, or find in under a second that there is nothing to do.

    python3 .ci/setup.py [--this-python]       set up (every `make` target does this first)
    python3 .ci/setup.py lock [--upgrade]      compile requirements.txt from pyproject.toml (`make lock`)

Nothing is taken on trust from an earlier run: no stamp says "done". The interpreter must start, the folder
must be where it was made for, every file that a pinned package recorded must be there with its size, and uv
compares the versions with the pins. A `.venv` that fails is rebuilt beside the old one's name; the old one
comes back if that is impossible (no network, say). Nothing is written outside this folder and uv's cache.

Standard library only, and an old Python can read it far enough to say that it is too old.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)  # requires-python in pyproject.toml; tests/test_pins.py holds the two together
ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "requirements.txt"
VENV = ROOT / ".venv"
OLD = ROOT / ".venv.old"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
SUFFIX = ".exe" if os.name == "nt" else ""
PYTHON = VENV / SCRIPTS / ("python" + SUFFIX)
PATH_ENTRY = "annotation_course.pth"

# Settings of a shell, another environment or a configuration that would send the packages somewhere else.
MISLEADING = (
    "CONDA_PREFIX PIP_PREFIX PIP_TARGET PIP_USER PYTHONHOME PYTHONPATH UV_SYSTEM_PYTHON UV_TARGET VIRTUAL_ENV"
)
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in MISLEADING.split()}

PROBE = """
import json, sys, sysconfig
print(json.dumps([sys.version_info[:2], sys.prefix, sys.base_prefix, sysconfig.get_path("purelib")]))
"""


class SetupError(Exception):
    """What went wrong and how to mend it, in words for the person at the keyboard."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def call(*command: object, quiet: bool = False) -> bool:
    """Run a command in the checkout; True if it succeeded. A program that cannot start counts as failed."""
    silence = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} if quiet else {}
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.DEVNULL, **silence)
    except OSError:
        return False
    return done.returncode == 0


def remove(path: Path) -> None:
    """Remove a folder, file or link, whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


# ---------------------------------------------------------------- is .venv sound?


def probe() -> tuple[tuple[int, int], Path] | None:
    """(version, site-packages) of `.venv`'s Python; None where it does not run or runs somewhere else."""
    try:
        answer = subprocess.run(
            [str(PYTHON), "-I", "-c", PROBE], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
        )
        version, prefix, base, site = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if prefix == base or not Path(prefix).samefile(VENV):
        return None
    return tuple(version), Path(site)


def made_for_this_folder() -> bool:
    """Whether `.venv` was made at this path: its scripts name it, so a moved or copied one is half broken."""
    try:
        text = (VENV / SCRIPTS / "activate").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return str(VENV) in text or shlex.quote(str(VENV)) in text


def pinned_names() -> set[str]:
    """The normalised names of all packages in requirements.txt, whatever their markers."""
    try:
        lines = PINS.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise SetupError("requirements.txt is missing: git checkout -- requirements.txt") from None
    names = [re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*(?===)", line) for line in lines]
    return {normal(name.group()) for name in names if name}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def damaged(site: Path) -> list[str]:
    """Pinned packages in `site` that lost files, or were only half installed, by their own records."""
    pinned = pinned_names()
    found = []
    for info in sorted(site.glob("*.dist-info")):
        name = normal(info.name.partition("-")[0])
        if name in pinned and not complete(site, info):
            found.append(name)
    return found


def complete(site: Path, info: Path) -> bool:
    """Whether every file in a package's RECORD is there and not cut off."""
    listed = set()
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as record:
            for path, _, size in csv.reader(record):
                listed.add(path)
                # Larger than recorded is somebody's edit; missing or shorter is damage. Strings, for the
                # whole check is 40,000 files in a fifth of a second and a Path for each would double that.
                if os.stat(f"{site}/{path}").st_size < int(size or 0):  # noqa: PTH116
                    return False
    except (OSError, ValueError):
        return False
    return info.name + "/RECORD" in listed  # a record that is cut off does not reach its own line


def fault(*, this_python: bool) -> str:
    """Why `.venv` must be made anew, or "" where it is sound as far as it goes (pins may still be missing)."""
    if not os.path.lexists(VENV):
        return "there is no .venv yet"
    found = probe()
    if found is None:
        return ".venv is broken: its Python does not run, or is not its own"
    version, site = found
    if version < OLDEST:
        return ".venv has Python {}.{}, too old for the course".format(*version)
    if this_python and version != sys.version_info[:2]:
        return ".venv has Python {}.{}, another one was asked for".format(*version)
    if not made_for_this_folder():
        return ".venv was made for another folder (the checkout was moved or copied)"
    lost = damaged(site)
    if lost:
        more = ", …" if len(lost) > 4 else ""
        return ".venv is damaged: files are missing or cut off in " + ", ".join(lost[:4]) + more
    return ""


# ---------------------------------------------------------------- making it


def find_uv() -> Path | str | None:
    """A uv that runs: on the PATH, in `.venv`, or in the `.venv` being replaced."""
    inside = [str(folder / SCRIPTS / ("uv" + SUFFIX)) for folder in (VENV, OLD)]
    for candidate in [shutil.which("uv"), *inside]:
        if candidate and call(candidate, "--version", quiet=True):
            return candidate
    return None


def bootstrap_uv() -> Path | str:
    """The uv to use; fetched with `.venv`'s pip where the machine has none."""
    uv = find_uv()
    if uv is not None and OLD not in Path(uv).parents:
        return uv
    # By force, for pip may believe in one that lost its program.
    options = ["--quiet", "--disable-pip-version-check", "--force-reinstall"]
    if call(PYTHON, "-m", "pip", "install", *options, "uv", quiet=bool(uv)):
        return VENV / SCRIPTS / ("uv" + SUFFIX)
    if uv is None:
        raise SetupError(
            "uv, the installer, is not on the PATH and pip could not fetch it (its message is above). "
            "Check the network, or pip's index settings, and run the same command again."
        )
    # No network, but the old .venv had one: uv is a single program, so a copy works.
    return shutil.copy2(uv, VENV / SCRIPTS)


def suitable_python() -> str:
    """The Python to make `.venv` with: this one, or a newer one on the PATH where this one is too old."""
    if sys.version_info[:2] >= OLDEST:
        # Inside an activated environment, the Python under it: that environment may go away.
        return getattr(sys, "_base_executable", None) or sys.executable
    for minor in range(OLDEST[1] + 3, OLDEST[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer and call(newer, "-c", "pass", quiet=True):
            return newer
    raise too_old()


def too_old() -> SetupError:
    return SetupError(
        "the course needs Python {}.{} or newer; {} is {}. Install one from python.org or your system's packages, "
        "then: make {} PYTHON=/path/to/python3".format(
            *OLDEST, sys.executable, sys.version.split()[0], os.environ.get("GOAL") or "lab"
        )
    )


def make_venv() -> None:
    python = suitable_python()
    say(f"Making .venv with {python}")
    with_pip = call(python, "-c", "import ensurepip, venv", quiet=True)
    if not with_pip and find_uv() is None:
        raise SetupError(
            f"{python} cannot make a virtual environment: its ensurepip is missing. On Debian and Ubuntu: "
            "sudo apt-get install python3-venv. Then run the same command again."
        )
    if not call(python, "-m", "venv", *([] if with_pip else ["--without-pip"]), VENV):
        raise SetupError(f"{python} -m venv failed; its message is above.")


def install(*, fresh: bool) -> None:
    """Bring `.venv` to the pins. Packages that a student added stay."""
    uv = bootstrap_uv()
    pins = ["--python", PYTHON, "-r", PINS]
    # When all is there this is the whole work, and needs no network.
    if not fresh and call(uv, "pip", "install", "--offline", "--quiet", *pins, quiet=True):
        return
    free = shutil.disk_usage(ROOT).free / 2**30
    say(
        "Installing the pinned packages: a few minutes the first time (on Linux about 3 GB to download and "
        f"6 GB on disk; {free:.0f} GB are free)"
    )
    if call(uv, "pip", "install", *pins):
        return
    say("That failed. Trying again from uv's cache alone, then with pip.")
    if call(uv, "pip", "install", "--offline", "--quiet", *pins, quiet=True):
        return
    # pip knows mirrors and certificates from its own settings, which uv does not read.
    if not call(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-r", PINS):
        raise SetupError(
            "the pinned packages could not be installed (messages above). Check the network and the free disk "
            "space, then run the same command again: it goes on from what was downloaded."
        )


def make_importable(site: Path) -> None:
    """Put the checkout on the path of `.venv`'s Python, so that notebooks can `import helpers`.

    The entry is relative to site-packages; no build step, no network, nothing that goes stale.
    """
    entry, text = site / PATH_ENTRY, os.path.relpath(ROOT, site) + "\n"
    try:
        current = entry.read_text(encoding="utf-8")
    except OSError:
        current = ""
    if current != text:
        temporary = entry.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(entry)


def set_up(*, this_python: bool) -> None:
    if this_python and sys.version_info[:2] < OLDEST:
        raise too_old()
    pinned_names()  # says so where there are none, before anything is touched
    reason = fault(this_python=this_python)
    if not reason:
        install(fresh=False)
    else:
        rebuild(reason)
    found = probe()
    if found is None:
        raise SetupError("the new .venv does not run; please report this with the messages above.")
    lost = damaged(found[1])
    if lost:
        raise SetupError(
            "files are missing or cut off in packages just installed: {0}. The download cache may be damaged: "
            "uv cache clean {0}, then run the same command again.".format(" ".join(lost))
        )
    make_importable(found[1])
    if os.path.lexists(OLD):
        remove(OLD)
    if reason:
        say(".venv is ready")


def rebuild(reason: str) -> None:
    """A new `.venv`; the old one is put back if it cannot be made."""
    say(reason[0].upper() + reason[1:] + ".")
    replaced = os.path.lexists(VENV)
    if replaced:
        remove(OLD)
        VENV.rename(OLD)
    try:
        make_venv()
        install(fresh=True)
    except BaseException:
        if replaced:
            remove(VENV)
            OLD.rename(VENV)
        raise


@contextlib.contextmanager
def one_at_a_time():
    """`make lab` and `make test` in two windows must not set up together; the lock dies with its process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (ROOT / ".venv.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Another set-up is running in this folder; waiting for it …")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def lock(options: list[str]) -> None:
    """Write requirements.txt: every dependency pinned for every platform, and no address of an index."""
    fixed = "--universal --python-version {}.{} --extra test --no-header --no-emit-index-url".format(*OLDEST)
    command = [*fixed.split(), "--no-emit-find-links", *options, "pyproject.toml", "-o", "requirements.txt"]
    uv = find_uv()
    if uv is None:
        set_up(this_python=False)
        uv = find_uv()
    if not call(uv, "pip", "compile", "--quiet", *command):
        raise SetupError(
            "uv could not compile the pins (its message is above); requirements.txt is unchanged."
        )


def main(arguments: list[str]) -> int:
    try:
        with one_at_a_time():
            if arguments[:1] == ["lock"]:
                lock(arguments[1:])
            else:
                set_up(this_python="--this-python" in arguments)
    except SetupError as error:
        say(f"\nset-up: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nset-up: interrupted; run the same command again to go on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
