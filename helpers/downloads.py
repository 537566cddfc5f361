"""The real data sets: where their files are, how to get them with or without a network, unpacked and checked.

Every file has a published checksum and none is used without it. Call `download` from one process at a time.
Taught in notebook 01.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from helpers.archives import extract
from helpers.fetching import DownloadError, fetch, fetch_checked, one_checksum
from helpers.files import read_json, write_json

__all__ = [
    "BY_HAND",
    "DONE",
    "SOURCES",
    "DownloadError",
    "Source",
    "download",
    "extract",
    "fetch",
    "manual_route",
]

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
