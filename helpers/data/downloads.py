"""Official data sets from the network: sources, downloads that resume, archives that stay in their folder.

Every file has a published checksum, which is compared before unpacking. Call `download` from one process.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm.auto import tqdm

from helpers.data.files import leaves_folder, read_json, write_json
from helpers.data.images import DataError

DONE = "downloaded.json"  # in a data set's folder: the checksums of the archives that were unpacked there

_PIECE = 1 << 15  # bytes; a broken connection can lose this much
_ATTEMPTS = 5  # so many in a row without a new byte are a failure
_TIMEOUT = 30  # seconds without an answer, or without a byte
_PAUSE = 0.5  # seconds; doubled after every attempt that brought nothing


class DownloadError(DataError):
    """A file could not be fetched, or is not the published one."""


@dataclass(frozen=True)
class Source:
    """A published file: the official address, then mirrors; its size in bytes; its checksum as kind:hex."""

    urls: tuple[str, ...]
    size: int
    checksum: str

    @property
    def filename(self) -> str:
        """The last part of the official address."""
        return self.urls[0].rsplit("/", 1)[-1]


def _file(hosts: Sequence[str], path: str, size: int, checksum: str) -> Source:
    return Source(tuple(f"{host}/{path}" for host in hosts), size, checksum)


# The second address of COCO is the same bucket under the storage service's name, which has a certificate; the
# first of VOC forwards to the second.
_COCO = "http://images.cocodataset.org", "https://s3.amazonaws.com/images.cocodataset.org"
_VOC = tuple(f"{host}.robots.ox.ac.uk/pascal/VOC/voc2007" for host in ("http://host", "https://thor"))
_GLOVE = "https://nlp.stanford.edu/data", "https://downloads.cs.stanford.edu/nlp/data"

# Neither COCO nor VOC publishes checksums. These are what unrelated projects compare the official files with
# (torchvision for VOC). Small files come first, so that a wrong folder or a full disk shows soon.
SOURCES: dict[str, tuple[Source, ...]] = {
    "coco2014": (
        _file(
            _COCO,
            "annotations/annotations_trainval2014.zip",
            252_872_794,
            "md5:0a379cfc70b0e71301e0f377548639bd",
        ),
        _file(_COCO, "zips/val2014.zip", 6_645_013_297, "md5:a3d79f5ed8d289b7a7554ce06a5782b3"),
        _file(_COCO, "zips/train2014.zip", 13_510_573_713, "md5:0da8c0bd3d6becc4dcb32757491aca88"),
    ),
    "coco2017": (
        _file(
            _COCO,
            "annotations/annotations_trainval2017.zip",
            252_907_541,
            "md5:f4bbac642086de4f52a3fdda2de5fa2c",
        ),
        _file(_COCO, "zips/val2017.zip", 815_585_330, "md5:442b8da7639aecaf257c1dceb8ba8c80"),
        _file(_COCO, "zips/train2017.zip", 19_336_861_798, "md5:cced6f7f71b7629ddf16f17bbcfab6b2"),
    ),
    "voc2007": (
        _file(_VOC, "VOCtrainval_06-Nov-2007.tar", 460_032_000, "md5:c52e279531787c972589f7e41ab4ae64"),
        _file(_VOC, "VOCtest_06-Nov-2007.tar", 451_020_800, "md5:b6e924de25625d8de591ea690078ad9f"),
    ),
    "glove": (
        _file(
            _GLOVE,
            "glove.6B.zip",
            862_182_613,
            "sha256:617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
        ),
    ),
}

BY_HAND = {  # data sets without an official download
    "corel5k": """\
Corel-5k has no official download: its photographs come from commercial CDs. Researchers share copies.
Put yours into {folder} like this:
  train/*.jpeg (4,500 photographs)  test/*.jpeg (499 photographs)
  train.json and test.json, each of the form
    {{"samples": [{{"image_name": "1000.jpeg", "image_labels": ["sun", "sky"]}}, ...],
      "labels": [the 260 labels]}}""",
    "flickr8k": """\
Flickr8k is not downloaded for you: its authors give it to researchers who ask for it. Put yours into
{folder}, in either layout:
  Flicker8k_Dataset/*.jpg (8,091 photographs), Flickr8k.token.txt and Flickr_8k.{{train,dev,test}}Images.txt
  Images/*.jpg and captions.txt, with the first line `image,caption` (and the three lists, if there)""",
}


def manual_route(name: str, folder: str | os.PathLike[str]) -> str:
    """How to get a data set by hand: which files, from where, to where. ValueError for an unknown name."""
    if name in BY_HAND:
        return BY_HAND[name].format(folder=Path(folder))
    lines = [
        "To do it by hand, get these files with a browser or another computer and put them, still packed, "
        f"into {Path(folder)}. Then download again: it finds, checks and unpacks them."
    ]
    for source in _sources(name):
        kind, value = source.checksum.split(":")
        lines.append(f"  {source.filename}, {source.size / 1e9:.2f} GB, {kind} {value}")
        lines += [f"    {url}" for url in source.urls]
    return "\n".join(lines)


def download(name: str, folder: str | os.PathLike[str], *, progress: bool = True) -> Path:
    """Fetch, check and unpack an official data set (a key of `SOURCES`); what is done is not done again.

    Archives that were put into the folder by hand are used, and kept. Those it fetches are deleted when
    unpacked. The folder's downloaded.json lists what was unpacked; delete it to repeat everything.

    Raises DownloadError, with the route by hand, without a network or room or for another file than the
    published one; DataError for an archive that is unsafe to unpack; ValueError for an unknown name.
    """
    folder = Path(folder)
    if name in BY_HAND:
        raise DownloadError(manual_route(name, folder))
    done = read_json(folder / DONE) if (folder / DONE).exists() else {}
    for source in _sources(name):
        if done.get(source.filename) == source.checksum:
            continue
        archive = folder / source.filename
        by_hand = archive.exists()
        try:
            fetch(source, archive, progress=progress)
        except DownloadError as error:
            raise DownloadError(f"{error}\n{manual_route(name, folder)}") from error
        write_json(folder / DONE, done)  # begun: `load` does not take a folder that is half unpacked
        extract(archive, folder, progress=progress)
        done[source.filename] = source.checksum
        write_json(folder / DONE, done)
        if not by_hand:
            archive.unlink()
    return folder


def _sources(name: str) -> tuple[Source, ...]:
    if name not in SOURCES:
        known = [*SOURCES, *(f"{other} (by hand)" for other in BY_HAND)]
        raise ValueError(f"no data set {name!r} to download; there are {', '.join(known)}")
    return SOURCES[name]


def fetch(source: Source, path: Path, *, progress: bool = True) -> None:
    """Download a file, resume where an earlier attempt stopped, name it `path` only if the checksum is right.

    The bytes collect in `<path>.part`, which the next run continues. A right file at `path` is left alone; a
    wrong one is never overwritten, for it may be yours. Raises DownloadError where no address answers, the
    disk is too small, `path` is another file or the checksum is wrong (the .part file is then deleted).
    """
    if path.exists():
        if path.is_file() and _checksum(path, source, progress) == source.checksum:
            return
        raise DownloadError(f"{path} exists but is not the published file ({source.checksum}); move it away.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    _check_room(source.size - _length(part), path)
    failures, problems = 0, {}
    while (before := _length(part)) < source.size:
        url = source.urls[
            failures % len(source.urls)
        ]  # the same file everywhere: each continues the other's part
        try:
            _receive(url, part, source.size, progress)
            problems[url] = "broke off"
        except requests.RequestException as error:
            problems[url] = str(error)
        failures = 0 if _length(part) > before else failures + 1
        if failures == _ATTEMPTS:
            raise DownloadError(
                f"{path.name} could not be downloaded. Is there a network? Run it again to continue at byte "
                f"{_length(part):,}.\n" + "\n".join(f"  {url}: {text}" for url, text in problems.items())
            )
        time.sleep(_PAUSE * 2**failures if failures else 0)
    found, length = _checksum(part, source, progress), _length(part)
    if found != source.checksum:
        part.unlink()
        raise DownloadError(
            f"{path.name} is not the published file: {length:,} bytes with {found}, expected {source.size:,} "
            f"with {source.checksum}; it was deleted. If an earlier run had fetched a part, the file has "
            "changed since: try once more."
        )
    part.replace(path)


def _receive(url: str, part: Path, size: int, progress: bool) -> None:
    """Append to `part` what one connection brings."""
    start = _length(part)
    headers = {"Accept-Encoding": "identity"}  # compressed on the way, offsets would not be those of the file
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        if response.status_code != 206:
            start = 0  # the whole file, whether asked for or because the server does not know Range
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and start + int(length) != size:
            raise requests.RequestException(
                f"sends {start + int(length):,} bytes, expected {size:,}: a login page, or a new version"
            )
        bar = _bar(size, f"downloading {part.stem}", progress, start)
        with part.open("ab" if start else "wb") as file, bar:
            for piece in response.iter_content(_PIECE):
                bar.update(file.write(piece))


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bar(total: int, title: str, progress: bool, initial: int = 0) -> tqdm:
    show = {"unit": "B", "unit_scale": True, "delay": 1, "disable": not progress}
    return tqdm(total=total, initial=initial, desc=title, **show)


def _checksum(path: Path, source: Source, progress: bool) -> str:
    """kind:hex of a file. Where only md5 is published, it detects accidents, which is what it is for here."""
    kind = source.checksum.split(":")[0]
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file, _bar(_length(path), f"checking {source.filename}", progress) as bar:
        while block := file.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    return f"{kind}:{digest.hexdigest()}"


def extract(archive: Path, folder: Path, *, progress: bool = True) -> None:
    """Unpack a zip or tar archive into a folder; files of the same name are replaced.

    Raises DataError, before anything is written, for names that lead out of the folder, links and devices.
    """
    title = {"desc": f"unpacking {archive.name}", "unit": " files", "disable": not progress}
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _check_members(archive, [(m.name, m.size, m.isreg() or m.isdir()) for m in members])
            tar.extractall(folder, tqdm(members, **title), filter="data")
    else:
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()  # zipfile makes no links
            _check_members(archive, [(e.filename, e.file_size, True) for e in entries])
            packed.extractall(folder, tqdm(entries, **title))


def _check_members(archive: Path, members: Sequence[tuple[str, int, bool]]) -> None:
    """Refuse an archive by the name, the size and the kind (is it a file or a folder?) of its members."""
    for name, _, ordinary in members:
        if not ordinary or leaves_folder(name):
            raise DataError(
                f"{archive}: refused, nothing was unpacked: {name!r} is a link or leads out of the folder. "
                "Get the archive from its official source."
            )
    _check_room(sum(size for _, size, _ in members), archive)


def _check_room(needed: int, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DownloadError(
            f"{path}: needs {needed / 1e9:,.2f} GB, and {path.parent} has {free / 1e9:,.2f} GB free. Make "
            "room, or choose a folder on another disk."
        )
