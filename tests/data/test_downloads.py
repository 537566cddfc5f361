"""Downloads against a real server on this machine: resuming, checksums; archives that stay in their folder."""

import hashlib
import io
import re
import socket
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.data import downloads
from helpers.data.downloads import (
    DONE,
    SOURCES,
    DownloadError,
    Source,
    download,
    extract,
    fetch,
    manual_route,
)
from helpers.data.images import DataError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
MD5, SHA256 = (f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}" for kind in ("md5", "sha256"))
PIECE = downloads._PIECE


@dataclass
class Server:
    """A web server with faults to order, and a record of what it was asked and what it sent."""

    files: dict[str, bytes] = field(default_factory=lambda: {"/file.bin": CONTENT})
    ranges: bool = True  # understands Range
    cut_after: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    end: int = len(CONTENT)  # every answer breaks off at this byte of the file
    statuses: list[int] = field(default_factory=list)  # answer these first
    length: bool = True  # says how long the file is
    sent: int = 0
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.asked.append(wanted)
            content = server.files.get(self.path)
            status = server.statuses.pop(0) if server.statuses else 200 if content is not None else 404
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
            self.send_response(206 if start else 200)
            if server.length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start : max(start, server.end)]
            if server.cut_after:
                body = body[: server.cut_after.pop(0)]
            server.sent += len(body)  # before the client can look
            self.wfile.write(body)

    return Handler


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[ThreadingHTTPServer] = []

    def start(**options: object) -> Server:
        server = Server(**options)
        http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append(http)
        server.url = f"http://127.0.0.1:{http.server_port}"
        return server

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "file.bin"  # its folder is made


def get(server: Server, path: Path, checksum: str = SHA256) -> None:
    fetch(Source((f"{server.url}/file.bin",), len(CONTENT), checksum), path, progress=False)


def left_over(path: Path, content: bytes) -> None:
    """What an earlier run left."""
    path.parent.mkdir(exist_ok=True)
    path.with_name("file.bin.part").write_bytes(content)


# ---- one file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [SHA256, MD5])
@pytest.mark.parametrize("length", [True, False])
def test_a_file_arrives_whole_and_under_its_name_only(serve, path: Path, checksum: str, length: bool) -> None:
    server = serve(length=length)
    get(server, path, checksum)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    get(server, path, checksum)
    assert server.asked == [None]  # a right file is left alone without asking the network


def test_a_wrong_file_in_the_way_is_never_overwritten(serve, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"my own notes")
    server = serve()
    with pytest.raises(DownloadError, match=r"file\.bin exists but is not the published file.*move it away"):
        get(server, path)
    assert path.read_bytes() == b"my own notes"
    assert server.asked == []


def test_a_second_run_fetches_only_the_rest(serve, path: Path) -> None:
    left_over(path, CONTENT[:600_000])
    server = serve()
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert (server.asked, server.sent) == (["bytes=600000-"], 400_000)
    path.unlink()
    left_over(path, CONTENT)  # complete: it only gets its name
    get(server, path)
    assert path.read_bytes() == CONTENT and server.sent == 400_000


def test_a_broken_connection_continues_within_the_run_where_it_broke(serve, path: Path) -> None:
    server = serve(cut_after=[300_000, 400_000, 0, 0])
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert (
        server.sent - len(CONTENT) < 2 * PIECE
    )  # two breaks, each within a piece that had not been kept yet
    starts = [int(asked[6:-1]) for asked in server.asked[1:]]
    assert starts == pytest.approx([300_000, 700_000, 700_000, 700_000], abs=2 * PIECE)


def test_many_cuts_are_no_failure_while_each_brings_something(serve, path: Path) -> None:
    get(serve(cut_after=[2 * PIECE] * 14), path)
    assert path.read_bytes() == CONTENT


def test_a_run_that_failed_is_continued_by_the_next(serve, path: Path) -> None:
    server = serve(end=700_000)
    with pytest.raises(DownloadError, match="Run it again to continue at byte 6"):
        get(server, path)
    assert not path.exists()
    kept = path.with_name("file.bin.part").stat().st_size
    assert 700_000 - kept < PIECE
    server.sent, server.end = 0, len(CONTENT)
    get(server, path)
    assert path.read_bytes() == CONTENT and server.sent == len(CONTENT) - kept


def test_a_server_without_range_starts_over(serve, path: Path) -> None:
    left_over(path, b"x" * 600_000)  # would spoil the file if it were kept
    server = serve(ranges=False)
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=600000-"]  # one answer is enough: the whole file is in it
    server = serve(ranges=False, end=500_000)
    path.unlink()
    with pytest.raises(DownloadError, match="continue at byte"):
        get(server, path)
    assert len(server.asked) == 6  # the first, which got somewhere, and five in vain


@pytest.mark.parametrize(("checksum", "found"), [(f"sha256:{'0' * 64}", SHA256), (f"md5:{'0' * 32}", MD5)])
def test_a_wrong_checksum_leaves_nothing_behind(serve, path: Path, checksum: str, found: str) -> None:
    with pytest.raises(DownloadError) as caught:
        get(serve(), path, checksum)
    assert all(word in str(caught.value) for word in (path.name, "1,000,000 bytes", checksum, found))
    assert list(path.parent.iterdir()) == []


def test_a_file_that_changed_between_two_runs_is_noticed_and_the_next_try_is_clean(serve, path: Path) -> None:
    left_over(path, b"old version".ljust(400_000))
    with pytest.raises(DownloadError, match="has changed since: try once more"):
        get(serve(), path)
    assert list(path.parent.iterdir()) == []
    get(serve(), path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": {}}, "404"),
        ({"statuses": [503] * 99}, "503"),
        ({"files": {"/file.bin": b"<html>Log in</html>"}}, "19 bytes, expected 1,000,000: a login page"),
    ],
)
def test_a_server_that_refuses(serve, path: Path, options: dict, message: str) -> None:
    with pytest.raises(DownloadError, match=message):
        get(serve(**options), path)
    assert not path.exists()


def test_a_server_in_trouble_is_asked_again(serve, path: Path) -> None:
    server = serve(statuses=[503, 500])
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_no_network_and_a_silent_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.05)
    with socket.socket() as taken, socket.create_server(("127.0.0.1", 0)) as silent:
        taken.bind(("127.0.0.1", 0))  # but nobody listens; the other takes connections and never answers
        urls = tuple(f"http://127.0.0.1:{s.getsockname()[1]}/file.bin" for s in (taken, silent))
        with pytest.raises(DownloadError, match=r"Is there a network\?[\s\S]*timed out") as caught:
            fetch(Source(urls, len(CONTENT), MD5), path, progress=False)
    assert all(url in str(caught.value) for url in urls)
    assert isinstance(caught.value, DataError)


def room(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_no_room(serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 500_000)
    with pytest.raises(DownloadError, match="Make room"):
        get(serve(), path)
    left_over(path, CONTENT[:600_000])  # the rest has room enough
    get(serve(), path)


# ---- whole data sets -----------------------------------------------------------------------------


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


@pytest.fixture
def toy(serve, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A data set of two archives on the local server, known as "toy"; the second has moved to its second address."""
    one, two = zipped(images__a=b"a", images__b=b"b"), zipped(images__c=b"c", labels=b"abc")
    server = serve(files={"/one.zip": one, "/two.zip": two})
    sums = f"sha256:{hashlib.sha256(one).hexdigest()}", f"md5:{hashlib.md5(two).hexdigest()}"
    addresses = (f"{server.url}/missing/two.zip", f"{server.url}/two.zip")
    sources = Source((f"{server.url}/one.zip",), len(one), sums[0]), Source(addresses, len(two), sums[1])
    monkeypatch.setitem(SOURCES, "toy", sources)
    return server


def content_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


UNPACKED = {"images/a", "images/b", "images/c", "labels", DONE}


def test_a_data_set_is_fetched_unpacked_and_not_fetched_again(toy: Server, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert download("toy", folder, progress=False) == folder
    assert content_of(folder) == UNPACKED
    assert len(toy.asked) == 3  # one.zip, two.zip where it no longer is, two.zip at the next address
    download("toy", folder, progress=False)
    assert len(toy.asked) == 3
    (folder / DONE).unlink()  # the documented way to have it all done again, over what is there
    download("toy", folder, progress=False)
    assert content_of(folder) == UNPACKED and len(toy.asked) == 6


def test_archives_put_there_by_hand_are_used_and_kept(toy: Server, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        (tmp_path / name).write_bytes(toy.files[f"/{name}"])
    download("toy", tmp_path, progress=False)
    assert toy.asked == []
    assert content_of(tmp_path) == {*UNPACKED, "one.zip", "two.zip"}
    (tmp_path / DONE).unlink()
    (tmp_path / "one.zip").write_bytes(b"cut short")
    with pytest.raises(DownloadError, match=r"one\.zip exists but is not the published file"):
        download("toy", tmp_path, progress=False)
    assert (tmp_path / "one.zip").read_bytes() == b"cut short"


def test_a_data_set_that_cannot_be_had_names_every_file_to_get_by_hand(toy: Server, tmp_path: Path) -> None:
    two = toy.files.pop("/two.zip")
    with pytest.raises(DownloadError) as caught:
        download("toy", tmp_path, progress=False)
    md5 = hashlib.md5(two).hexdigest()
    for word in ("one.zip", "two.zip", "/missing/two.zip", f"md5 {md5}", str(tmp_path), "by hand"):
        assert word in str(caught.value)
    assert content_of(tmp_path) == {"images/a", "images/b", DONE}  # what was done stays done
    toy.files["/two.zip"] = two
    toy.asked.clear()
    download("toy", tmp_path, progress=False)
    assert len(toy.asked) == 2


def test_unknown_names_and_those_by_hand(tmp_path: Path) -> None:
    for ask in (download, manual_route):
        with pytest.raises(ValueError, match=r"no data set 'coco'.*coco2014.*voc2007.*corel5k"):
            ask("coco", tmp_path)
    with pytest.raises(DownloadError, match="no official download") as caught:
        download("corel5k", tmp_path / "corel5k")
    for word in (str(tmp_path / "corel5k"), "train/*.jpeg", "train.json", "test.json", '{"samples"'):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_table_of_sources_is_well_formed(name: str, tmp_path: Path) -> None:
    text = manual_route(name, tmp_path)
    for source in SOURCES[name]:
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", source.checksum)
        assert source.checksum.replace(":", " ") in text
        assert source.size > 10**8
        assert re.fullmatch(r"[\w.-]+\.(zip|tar)", source.filename)
        for url in source.urls:
            assert url in text
            assert re.match(r"https?://[\w.-]+/", url) and url.endswith("/" + source.filename)


# ---- archives ------------------------------------------------------------------------------------

BAD_NAMES = ["../evil", "a/../../evil", "/tmp/evil", "//host/evil", "..\\evil", "a\\..\\..\\evil", "\\evil"]
BAD_NAMES += ["C:\\evil", "C:evil", "c:/evil", ".. /evil", ".../evil", "a/.."]


def make(path: Path, kind: str, *entries: str | tarfile.TarInfo) -> Path:
    """A zip or tar archive with files of these names, or with these tar entries."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name in entries:
                entry = zipfile.ZipInfo("placeholder")
                entry.filename = name  # after the constructor, which would correct what we want broken
                packed.writestr(entry, b"x")
    else:
        with tarfile.open(path, "w") as tar:
            for entry in entries:
                if isinstance(entry, str):
                    entry = tarfile.TarInfo(entry)
                    entry.size = 1
                tar.addfile(entry, io.BytesIO(b"x") if entry.isreg() else None)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_share_a_folder_and_replace_what_they_unpacked(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for names in (["images/a", "both"], ["images/deep/b", "both"]):
        extract(make(tmp_path / "archive", kind, *names), folder, progress=False)
    assert content_of(folder) == {"images/a", "images/deep/b", "both"}


def refused(archive: Path) -> None:
    """Refused as a whole, with the archive's name; nothing at all is written."""
    folder = archive.parent / "in" / "out"
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match="archive: refused, nothing was unpacked"):
        extract(archive, folder, progress=False)
    assert content_of(archive.parent) == {"archive"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_leave_the_folder(tmp_path: Path, name: str, kind: str) -> None:
    refused(make(tmp_path / "archive", kind, "good.txt", name))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_devices_and_pipes(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("odd")
    entry.type, entry.linkname = kind, "good.txt"
    refused(make(tmp_path / "archive", "tar", "good.txt", entry))


def test_no_room_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 0)
    with pytest.raises(DataError, match="Make room"):
        extract(make(tmp_path / "archive", "zip", "a"), tmp_path / "data", progress=False)
    assert content_of(tmp_path) == {"archive"}
