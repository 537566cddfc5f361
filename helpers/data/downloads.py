"""The real data sets: where their files are, how to get them with or without a network, unpacked and checked.

Every file has a published checksum and none is used without it. Call `download` from one process at a time.
Taught in notebook 01.

Fetching a file: a download that goes on where it stopped and is checked before it gets its name.

Taught in notebook 01.

Unpacking archives from the network: everything is checked before anything is written.

Taught in notebook 01.
"""

from __future__ import annotations

import filecmp
import hashlib
import lzma
import os
import posixpath
import re
import shutil
import stat
import tarfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.util.retry import Retry

from helpers.data.files import read_json, write_json
from helpers.data.images import DataError

DONE = "downloaded.json"  # in a data set's folder: which archives were unpacked there, by checksum


@dataclass(frozen=True, slots=True)
class Source:
    """A published file: its official address, then others of the very same file; its size in bytes; its checksum."""

    urls: tuple[str, ...]
    size: int
    sha256: str | None = None
    md5: str | None = None

    @property
    def filename(self) -> str:
        """The last part of the official address."""
        return self.urls[0].rsplit("/", 1)[-1]

    @property
    def checksum(self) -> tuple[str, str]:
        """Kind ("sha256" or "md5") and hexadecimal value."""
        return one_checksum(self.sha256, self.md5)


def _coco(path: str, size: int, md5: str) -> Source:
    # The second is the same bucket under the storage service's name, which has a certificate; COCO's has none.
    hosts = ("http://images.cocodataset.org", "https://s3.amazonaws.com/images.cocodataset.org")
    return Source(tuple(f"{host}/{path}" for host in hosts), size, md5=md5)


def _voc(name: str, size: int, md5: str) -> Source:
    # The official host forwards to the second.
    hosts = ("http://host.robots.ox.ac.uk", "https://thor.robots.ox.ac.uk")
    return Source(tuple(f"{host}/pascal/VOC/voc2007/{name}" for host in hosts), size, md5=md5)


# Neither COCO nor VOC publishes checksums of its own. These are the ones that unrelated projects check the official
# files against (torchvision for VOC), small files first, so that a wrong folder or a full disk shows soon.
SOURCES: dict[str, tuple[Source, ...]] = {
    "coco2014": (
        _coco("annotations/annotations_trainval2014.zip", 252_872_794, "0a379cfc70b0e71301e0f377548639bd"),
        _coco("zips/val2014.zip", 6_645_013_297, "a3d79f5ed8d289b7a7554ce06a5782b3"),
        _coco("zips/train2014.zip", 13_510_573_713, "0da8c0bd3d6becc4dcb32757491aca88"),
    ),
    "coco2017": (
        _coco("annotations/annotations_trainval2017.zip", 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c"),
        _coco("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
        _coco("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
    ),
    "voc2007": (
        _voc("VOCtrainval_06-Nov-2007.tar", 460_032_000, "c52e279531787c972589f7e41ab4ae64"),
        _voc("VOCtest_06-Nov-2007.tar", 451_020_800, "b6e924de25625d8de591ea690078ad9f"),
    ),
    "glove": (
        Source(
            (
                "https://nlp.stanford.edu/data/glove.6B.zip",
                "https://downloads.cs.stanford.edu/nlp/data/glove.6B.zip",
            ),
            862_182_613,
            sha256="617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
        ),
    ),
}

_COREL5K = """\
Corel-5k has no official download: its photographs come from commercial CDs. Copies are shared among researchers.
Put yours into {folder} like this:
  train/*.jpeg (4,500 photographs)  test/*.jpeg (499 photographs)
  train.json and test.json, each of the form
    {{"samples": [{{"image_name": "1000.jpeg", "image_labels": ["sun", "sky"]}}, ...], "labels": [the 260 labels]}}"""

_FLICKR8K = """\
Flickr8k is not downloaded for you: its authors give it to researchers who ask for it. Put yours into {folder},
in either layout:
  Flicker8k_Dataset/*.jpg (8,091 photographs), Flickr8k.token.txt and Flickr_8k.{{train,dev,test}}Images.txt
  Images/*.jpg and captions.txt, with the first line `image,caption` (and the three lists, if you have them)"""

BY_HAND = {"corel5k": _COREL5K, "flickr8k": _FLICKR8K}  # data sets without an official download


def manual_route(name: str, folder: str | os.PathLike[str]) -> str:
    """How to get a data set by hand: which files, from where, to where, with which checksums. Text for a person.

    Args:
        name: a key of `SOURCES` or of `BY_HAND`.
        folder: where the data set is to be.

    Raises:
        ValueError: an unknown name.
    """
    if name in BY_HAND:
        return BY_HAND[name].format(folder=Path(folder))
    lines = [
        f"To do it by hand, get these files with a browser or another computer and put them, still packed, into "
        f"{Path(folder)}. Then download again: it finds, checks and unpacks them."
    ]
    for source in _sources(name):
        kind, value = source.checksum
        lines.append(f"  {source.filename}, {source.size / 1e9:.2f} GB, {kind} {value}")
        lines += [f"    {url}" for url in source.urls]
    return "\n".join(lines)


def download(
    name: str, folder: str | os.PathLike[str], *, keep_archives: bool = False, progress: bool = True
) -> Path:
    """Fetch, check and unpack an official data set; what is done already is not done again.

    Archives that were put into the folder by hand are used, and kept. Those it fetches are deleted when unpacked,
    for they take as much room as their images, unless `keep_archives`. The folder's downloaded.json notes what was
    unpacked; delete it to have everything done again.

    Args:
        name: "coco2014" or "coco2017" (20 GB each, twice that while unpacking), "voc2007" or "glove" (0.9 GB each).
        folder: where the data set is to be; made if missing.
        progress: show tqdm bars.

    Returns:
        The folder.

    Raises:
        DownloadError: no network, no room, or not the published file; with the route by hand.
        DataError: an archive cannot be unpacked.
        ValueError: an unknown name.

    Taught in notebook 01.
    """
    folder = Path(folder)
    if name in BY_HAND:
        raise DownloadError(manual_route(name, folder))
    sources = _sources(name)
    done = read_json(folder / DONE) if (folder / DONE).exists() else {}
    for source in sources:
        value = source.checksum[1]
        if done.get(source.filename) == value:
            continue
        archive = folder / source.filename
        by_hand = archive.exists()
        try:
            _fetch_from_any(source, archive, progress=progress)
        except DownloadError as error:
            raise DownloadError(f"{error}\n{manual_route(name, folder)}") from error
        extract(archive, folder, progress=progress)
        done[source.filename] = value
        write_json(folder / DONE, done)
        if not keep_archives and not by_hand:
            archive.unlink()
    return folder


def _fetch_from_any(source: Source, path: Path, *, progress: bool) -> None:
    """Try the addresses in turn; what one has brought, the next goes on with, for it is the same file."""
    problems: list[str] = []
    for url in source.urls:
        try:
            fetch_checked(url, path, *source.checksum, progress=progress)
            return
        except DownloadError as error:
            problems.append(str(error))
            if path.exists():  # someone's own file has the name: no other address can help
                break
    raise DownloadError("\n".join(problems))


def _sources(name: str) -> tuple[Source, ...]:
    if name not in SOURCES:
        raise ValueError(
            f"no data set {name!r} to download; there are {', '.join([*SOURCES, *(f'{n} (by hand)' for n in BY_HAND)])}"
        )
    return SOURCES[name]


_PIECE = 1 << 15  # bytes; what a broken connection can lose, so small


_BLOCK = 1 << 20  # bytes read at a time for a checksum


_PAUSE = 0.5  # seconds; doubled after every try that brought nothing


_DIGITS = {"sha256": 64, "md5": 32}


class DownloadError(DataError):
    """A file could not be fetched, or is not the published one. The message has the route by hand."""


def fetch(
    url: str,
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    md5: str | None = None,
    retries: int = 4,
    timeout: float = 30.0,
    progress: bool = True,
) -> Path:
    """Download a file; go on where an earlier try stopped; give it its name only if the checksum is right.

    The bytes collect in ``<path>.part``, which an interrupted run leaves behind and the next one continues (HTTP
    Range; a server that cannot do that sends everything again). A file at `path` with the right checksum is left
    alone without asking the network; one with another checksum is never overwritten, for it may be yours.

    Args:
        url: http or https address.
        path: the file to make; its folder is made too.
        sha256, md5: the published checksum in hexadecimal, exactly one of the two.
        retries: how many tries in a row may fail, or break off without getting any further, before it is an error.
        timeout: seconds without an answer, or without a byte, after which a try has failed.
        progress: show tqdm bars.

    Returns:
        The path.

    Raises:
        DownloadError: the server cannot be reached or refuses, the disk is too small, the checksum is wrong (the
            .part file is then deleted), or `path` is another file. With the route by hand.
        ValueError: not exactly one checksum, or one that cannot be right.

    Taught in notebook 01.
    """
    kind, value = one_checksum(sha256, md5)
    path = Path(path)
    try:
        fetch_checked(url, path, kind, value, retries=retries, timeout=timeout, progress=progress)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nTo do it by hand, download\n  {url}\nand save it as\n  {path}\n(its {kind} must be {value})"
        ) from error
    return path


def fetch_checked(
    url: str,
    path: Path,
    kind: str,
    value: str,
    *,
    retries: int = 4,
    timeout: float = 30.0,
    progress: bool = True,
) -> None:
    """`fetch` for a caller that gives the route by hand itself. kind, value: as from `one_checksum`."""
    if path.exists():
        found = "a folder" if path.is_dir() else f"{kind} {_hash(path, kind, progress)}"
        if found == f"{kind} {value}":
            return
        raise DownloadError(
            f"{path} exists but is not the published file (found {found}, expected {kind} {value}); move it away or "
            "delete it, then try again."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        _transfer(url, part, retries=retries, timeout=timeout, progress=progress)
    except requests.HTTPError as error:
        raise DownloadError(f"The server refused: {error}.") from error
    except requests.RequestException as error:
        # What urllib3 wrapped says the same in fewer words.
        cause = getattr(error.args[0], "reason", None) if error.args else None
        raise DownloadError(
            f"{url} could not be downloaded ({cause or error}). Is there a network? Run the same again to go on "
            "where it stopped."
        ) from error
    found = _hash(part, kind, progress)
    if found != value:
        size = part.stat().st_size
        with part.open("rb") as file:
            is_page = file.read(64).lstrip().startswith(b"<")
        part.unlink()
        raise DownloadError(
            f"{url} is not the published file: {size:,} bytes with {kind} {found}, expected {value}; it was deleted. "
            + ("It looks like a web page: a login or an error? " if is_page else "")
            + "If an earlier run had fetched a part of it, the file has changed since: try once more."
        )
    part.replace(path)


def _transfer(url: str, part: Path, *, retries: int, timeout: float, progress: bool) -> None:
    """Bring `part` to its full length, over as many connections as it takes while they get further."""
    again = Retry(
        total=retries,
        backoff_factor=_PAUSE,
        status_forcelist=(429, 500, 502, 503, 504),
        respect_retry_after_header=False,  # a server may ask for hours; better to say so than to seem to hang
    )
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=again))
        session.mount("https://", HTTPAdapter(max_retries=again))
        furthest, failures = _length(part), 0
        while not _one_connection(session, url, part, timeout=timeout, progress=progress):
            # Only new ground counts, or a server that always starts over and breaks off would keep us for ever.
            failures = 0 if _length(part) > furthest else failures + 1
            furthest = max(furthest, _length(part))
            if failures > retries:
                raise requests.ConnectionError(
                    f"it broke off {failures} times in a row at or before byte {furthest:,}"
                )
            time.sleep(_PAUSE * 2**failures)


def _one_connection(
    session: requests.Session, url: str, part: Path, *, timeout: float, progress: bool
) -> bool:
    """Append to `part` what one connection brings; True when the file is complete."""
    offset = _length(part)
    # Compressed on the way, bytes and offsets would not be those of the file.
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
        ranged = response.headers.get("Content-Range", "")
        if (
            response.status_code == 416
        ):  # nothing begins at `offset`: all is there, or the file is shorter now
            if ranged in ("", f"bytes */{offset}"):
                return True
            part.unlink()
            return False
        response.raise_for_status()
        if response.status_code == 206:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", ranged)
            if match is None or int(match[1]) != offset:  # not what was asked for: ask for everything
                part.unlink()
                return False
            total = int(match[2]) + 1 if match[3] == "*" else int(match[3])
        else:
            offset = 0  # all of it, whether asked for or because the server does not know Range
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        free = shutil.disk_usage(part.parent).free
        if not offset:
            free += _length(part)  # about to be overwritten
        if total is not None and total - offset > free:
            raise DownloadError(
                f"{url} needs {(total - offset) / 1e9:,.2f} GB more, and {part.parent} has {free / 1e9:,.2f} GB free. "
                "Make room, or choose a folder on another disk."
            )
        bar = tqdm(
            total=total,
            initial=offset,
            desc=part.stem,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=not progress,
        )
        try:
            with part.open("ab" if offset else "wb") as file, bar:
                for chunk in response.iter_content(_PIECE):
                    file.write(chunk)
                    bar.update(len(chunk))
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return False  # broken off or fallen silent: what has come is kept
        return total is None or _length(part) == total


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _hash(path: Path, kind: str, progress: bool) -> str:
    # md5 is all that some publish; it tells accidents, and that is enough for a picture.
    digest = hashlib.new(kind, usedforsecurity=False)
    size = path.stat().st_size
    quiet = not progress or size < 100 * _BLOCK  # well under a second
    with (
        path.open("rb") as file,
        tqdm(
            total=size,
            desc=f"checking {path.name.removesuffix('.part')}",
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=quiet,
        ) as bar,
    ):
        while chunk := file.read(_BLOCK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def one_checksum(sha256: str | None, md5: str | None) -> tuple[str, str]:
    """Kind and value of the one checksum that is given. Raises ValueError for none, both or a malformed one."""
    given = [(kind, value) for kind, value in (("sha256", sha256), ("md5", md5)) if value is not None]
    if len(given) != 1:
        raise ValueError("give exactly one of sha256= and md5=: no file from the network is used unchecked")
    kind, value = given[0][0], given[0][1].strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{_DIGITS[kind]}}}", value):
        raise ValueError(f"{kind} is {value!r}, expected {_DIGITS[kind]} hexadecimal digits")
    return kind, value


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
