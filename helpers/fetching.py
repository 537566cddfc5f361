"""Fetching a file: a download that goes on where it stopped and is checked before it gets its name.

Taught in notebook 01.
"""

import hashlib
import os
import re
import shutil
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.util.retry import Retry

from helpers.images import DataError

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
