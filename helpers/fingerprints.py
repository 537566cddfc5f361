"""Which images, which annotations are these? Their content tells, not their names or places. Taught in notebook 02."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tqdm.auto import tqdm

from helpers.files import read_json, write_text
from helpers.images import open_image
from helpers.records import Record

SETTLED = 2 * 10**9  # ns; a file changed within the last two seconds may change again within its time stamp


def fingerprint(paths: Sequence[Path], index: Path, *, progress: bool = True) -> str:
    """sha256 over the content of the files, in their order.

    Reading 80,000 photographs takes a minute, so their hashes are kept in the JSON file `index`, as git does, with
    the size and the time stamp by which a changed file shows. An index that is lost or damaged is made anew.

    Raises DataError for a file that cannot be read, by name.
    """
    try:
        known = dict(read_json(index))
    except (OSError, ValueError, TypeError):
        known = {}

    def entry(path: Path) -> tuple[int, int, str]:
        """Size in bytes, time stamp in ns, sha256."""
        try:
            stat = path.stat()
            found = known.get(str(path.absolute()))
            if found and found[:2] == [stat.st_size, stat.st_mtime_ns]:
                return stat.st_size, stat.st_mtime_ns, found[2]
            with path.open("rb") as file:
                return stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            open_image(path)  # says what is wrong, as a DataError
            raise

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # reading and hashing let other threads run
        results = pool.map(entry, paths)
        entries = list(
            tqdm(results, "hashing images", len(paths), delay=2, leave=False, disable=not progress)
        )
    settled = time.time_ns() - SETTLED
    new = {
        str(path.absolute()): list(found)
        for path, found in zip(paths, entries, strict=True)
        if found[1] < settled
    }
    if any(known.get(path) != found for path, found in new.items()):
        with suppress(OSError):  # a folder that may only be read: hash again next time
            write_text(index, json.dumps({**known, **new}))
    return hashlib.sha256("".join(sha256 for _, _, sha256 in entries).encode()).hexdigest()


def annotations_id(splits: Iterable[Sequence[Record]]) -> str:
    """sha256 over the file names, labels and captions of the images, split by split and in their order.

    The folders that they lie in do not count: a data set may be moved.
    """
    found = [[(record.path.name, record.labels, record.captions) for record in split] for split in splits]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
