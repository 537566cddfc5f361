"""Unpacking archives from the network: everything is checked before anything is written.

Taught in notebook 01.
"""

import filecmp
import lzma
import os
import posixpath
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from tqdm.auto import tqdm

from helpers.images import DataError


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive. kind: "file", "folder", "link", "hard link" or what else it is, in words."""

    name: str
    kind: str
    size: int = 0
    target: str = ""


def extract(
    archive: str | os.PathLike[str], folder: str | os.PathLike[str], *, progress: bool = True
) -> Path:
    """Unpack a zip or tar archive (also .tar.gz, .bz2, .xz) into a folder, all of it or nothing.

    Every member is checked before the first is written: absolute names, "..", devices, and links that leave the
    folder, alone or together with others, refuse the whole archive. It is unpacked beside the folder and moved in
    by renaming when complete. A folder that exists is added to: files that are there already must be the same,
    byte for byte; another file of the same name is never overwritten.

    Args:
        archive: the file; its content decides the kind, not its suffix.
        folder: where to; made if missing.
        progress: show a tqdm bar.

    Returns:
        The folder, as a full path.

    Raises:
        DataError: the archive is missing, damaged, encrypted, empty, unsafe or of another kind; the disk has no
            room for what is in it; another file of the same name is in the folder. The folder is as it was.

    Taught in notebook 01.
    """
    archive, folder = Path(archive), Path(folder).resolve()
    if not archive.is_file():
        raise DataError(f"{archive}: archive not found. Download it, or correct the path.")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, expected a folder to unpack {archive.name} into.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, so that moving in is a rename; one name, so that a killed run leaves one at most.
    unpacked = folder.with_name(f".{folder.name}.extracting")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        _unpack(archive, unpacked, progress)
        _move_in(unpacked, folder, archive)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
    ) as error:
        raise DataError(
            f"{archive}: damaged or cut short ({type(error).__name__}: {error}). Delete it and download it again."
        ) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return folder


def check_members(members: Sequence[Member], archive: Path) -> None:
    """Refuse an archive in which any member could end up, or point, outside the folder it is unpacked into.

    Stricter than it need be, so that it can be seen to be right: nothing lies below a link and no link leads to
    a link, so that taking ".." off a target by its text is what the file system will do.

    Raises:
        DataError: names the archive, the member and the reason.
    """
    not_folders = {tuple(_parts(member.name)) for member in members if member.kind != "folder"}
    links = {_key(_parts(member.name)) for member in members if member.kind == "link"}
    seen: set[tuple[str, ...]] = set()
    files: set[str] = set()  # those before: a hard link has to find its file written
    for member in members:
        parts = _parts(member.name)
        reason = _unsafe_name(member.name)
        if member.kind not in ("file", "folder", "link", "hard link"):
            reason = f"is {member.kind}"
        elif member.kind != "folder" and re.split(r"[/\\]", member.name)[-1] in ("", "."):
            reason = "has no name"
        elif any(_key(parts[:end]) in links for end in range(1, len(parts))):
            reason = "lies below a link"
        elif any(tuple(parts[:end]) in not_folders for end in range(1, len(parts))):
            reason = "lies below a file"
        elif tuple(parts) in (not_folders if member.kind == "folder" else seen):
            reason = "is there twice"
        elif member.kind == "hard link" and (
            _unsafe_name(member.target) or posixpath.normpath(member.target) not in files
        ):
            reason = f"is a hard link to {member.target!r}, which is no file before it in this archive"
        elif member.kind == "link":
            reason = reason or _unsafe_link(parts[:-1], member.target, links)
        if reason:
            raise DataError(
                f"{archive}: refused, nothing was unpacked: its member {member.name!r} {reason}. "
                "An honest data set has no such member: get the archive from its official source."
            )
        if member.kind != "folder":
            seen.add(tuple(parts))
        if member.kind == "file":
            files.add(posixpath.normpath(member.name))


def _parts(name: str) -> list[str]:
    """The steps of a path. Backslashes separate too: they do on Windows."""
    return [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]


def _key(parts: Sequence[str]) -> tuple[str, ...]:
    """Equal for names that some file systems take for the same (letter case, composed accents)."""
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)


def _unsafe_name(name: str) -> str:
    """Why a name could leave the folder; empty if it cannot."""
    if name.startswith(("/", "\\")) or PureWindowsPath(name).drive:
        return "has an absolute path"
    # Windows drops blanks and dots at the end of a name, so ".. " and "..." are not what they seem.
    if any(not part.strip(". ") for part in _parts(name)):
        return 'leads upwards with ".."'
    return ""


def _unsafe_link(place: Sequence[str], target: str, links: set[tuple[str, ...]]) -> str:
    """Why a symbolic link in the folder `place` could leave the archive's folder; empty if it cannot."""
    if target.startswith(("/", "\\")) or PureWindowsPath(target).drive:
        return f"is a link to the absolute path {target!r}"
    reached = list(place)
    for part in _parts(target):
        if part != "..":
            reached.append(part)
        elif reached:
            reached.pop()
        else:
            return f"is a link to {target!r}, outside the folder"
        if _key(reached) in links:
            return f"is a link to {target!r}, which is or goes through another link"
    return ""


def _unpack(archive: Path, folder: Path, progress: bool) -> None:
    """Check all members, then unpack them into a new folder."""
    if tarfile.is_tarfile(archive):  # before zip: a tar that ends with a stored zip would pass for one
        with tarfile.open(archive) as tar:
            entries: list[Any] = tar.getmembers()
            _check_all([_tar_member(entry) for entry in entries], archive, folder)
            # The library's own filter is the second fence; it also drops odd owners and permissions.
            _each(entries, lambda entry: tar.extract(entry, folder, filter="data"), archive, progress)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            if any(entry.flag_bits & 1 for entry in entries):
                raise DataError(f"{archive}: is encrypted. Unpack it yourself, with its password.")
            _check_all([_zip_member(entry) for entry in entries], archive, folder)
            _each(entries, lambda entry: packed.extract(entry, folder), archive, progress)
    else:
        with archive.open("rb") as file:
            start = file.read(24)
        raise DataError(
            f"{archive}: neither a zip nor a tar archive, or cut short; it starts with {start!r}. Delete it and "
            "download it again."
        )


def _check_all(members: Sequence[Member], archive: Path, folder: Path) -> None:
    check_members(members, archive)
    if not any(member.kind == "file" for member in members):
        raise DataError(f"{archive}: has no files in it. Delete it and download it again.")
    needed, free = sum(member.size for member in members), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DataError(
            f"{archive}: unpacks to {needed / 1e9:,.1f} GB, and {folder.parent} has {free / 1e9:,.1f} GB free. "
            "Make room, or choose a folder on another disk."
        )


def _each(entries: Sequence[Any], unpack: Callable[[Any], Any], archive: Path, progress: bool) -> None:
    for entry in tqdm(entries, desc=f"unpacking {archive.name}", unit=" files", disable=not progress):
        unpack(entry)


def _tar_member(entry: tarfile.TarInfo) -> Member:
    kinds = (
        (entry.isreg(), "file"),
        (entry.isdir(), "folder"),
        (entry.issym(), "link"),
        (entry.islnk(), "hard link"),
    )
    kind = next((name for holds, name in kinds if holds), "a device, a pipe or something unknown")
    return Member(entry.name, kind, entry.size if kind == "file" else 0, entry.linkname)


def _zip_member(entry: zipfile.ZipInfo) -> Member:
    mode = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == 3 else 0  # 3 is Unix
    if entry.is_dir():
        return Member(entry.filename, "folder")
    if stat.S_ISLNK(mode):  # zipfile would write its target into a text file, which is no use to anyone
        return Member(entry.filename, "a link in a zip")
    return Member(
        entry.filename, "file" if mode in (0, stat.S_IFREG) else "a device or a pipe", entry.file_size
    )


def _move_in(unpacked: Path, folder: Path, archive: Path) -> None:
    if not folder.exists():
        unpacked.replace(folder)
        return
    for source, destination in list(
        _moves(unpacked, folder, archive)
    ):  # all conflicts come up before any move
        shutil.move(source, destination)


def _moves(new: Path, old: Path, archive: Path) -> Iterator[tuple[Path, Path]]:
    """What to move where, as few moves as possible. Raises DataError where another file is in the way."""
    for entry in sorted(new.iterdir()):
        there = old / entry.name
        if not os.path.lexists(there):
            yield entry, there
        elif entry.is_dir() and not entry.is_symlink() and there.is_dir():
            yield from _moves(entry, there, archive)
        elif not _same(entry, there):
            raise DataError(
                f"{there}: is there already and differs from the one in {archive.name}; nothing was changed. "
                "Move it away or delete it, or unpack into another folder."
            )


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
