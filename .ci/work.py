"""Copy notebooks/ to work/, where you may change and run everything; git does not look there.

`make lab` copies what is not there yet, and what you have not changed where a newer version has come. A notebook that
you have changed is never written to: `make update` (--update here) puts its new version beside it, as NAME.new.ipynb.
To begin one again, delete it in work/ and call `make lab`.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def beside(path: Path) -> Path:
    """NAME.new.ipynb, or NAME.new2.ipynb, …: the first that is not there."""
    names = (path.with_suffix(f".new{number or ''}{path.suffix}") for number in (None, *range(2, 1000)))
    return next(name for name in names if not name.exists())


def refresh(source: Path, work: Path, *, update: bool = False) -> tuple[list[Path], list[Path]]:
    """Copy notebooks and images. Returns the files that were written, and changed notebooks with a newer version."""
    noted = work / ".versions.json"  # file -> the sha256 of the version that it was copied from
    versions = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else {}
    written, newer = [], []
    for path in sorted([*source.glob("*.ipynb"), *(source / "images").glob("*")]):
        name = path.relative_to(source).as_posix()
        mine, version = work / name, digest(path)
        if mine.exists() and versions.get(name) == version:
            continue
        if mine.exists() and digest(mine) not in (version, versions.get(name)):
            newer.append(mine)
            if not update:
                continue
            mine = beside(mine)
        mine.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, mine)
        versions[name] = version
        written.append(mine)
    if written:
        noted.write_text(json.dumps(versions, indent=2), encoding="utf-8")
    return written, newer


def trust(paths: list[Path]) -> None:
    """Let JupyterLab show the stored widgets of these notebooks, which are the course's own."""
    import nbformat
    from nbformat.sign import NotebookNotary

    notary = NotebookNotary()
    for path in paths:
        if path.suffix == ".ipynb":
            notary.sign(nbformat.read(path, as_version=4))


if __name__ == "__main__":
    asked = "--update" in sys.argv
    files, changed = refresh(ROOT / "notebooks", ROOT / "work", update=asked)
    trust(files)
    for one in () if asked else changed:
        print(
            f"work: you have changed {one.name}, and there is a newer version; make update puts it beside yours"
        )
    for one in files if asked else ():
        print(f"work: {one.name} is new")
