"""Downloads against a real server on this machine: resuming, breaking off, checksums; and the table of sources."""

import hashlib
import io
import re
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from helpers.data import downloads
from helpers.data import downloads as fetching
from helpers.data.downloads import DONE, SOURCES, DownloadError, Source, download, fetch, manual_route
from helpers.data.images import DataError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PIECE = fetching._PIECE
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Server:
    """A web server with faults to order, and a record of what it was asked and what it sent."""

    files: dict[str, bytes] = field(default_factory=lambda: {"/file.bin": CONTENT})
    ranges: bool = True  # understands Range
    cut_after: list[int] = field(
        default_factory=list
    )  # bytes after which each of the next answers breaks off
    always_cut_at: int | None = None  # every answer breaks off at this byte of the file
    statuses: list[int] = field(default_factory=list)  # answer these first
    shifted: bool = False  # answers a Range with another one
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
            start = 0
            if wanted and server.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start += server.shifted
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            body = content[start:]
            if server.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if server.cut_after:
                body = body[: server.cut_after.pop(0)]
            if server.always_cut_at is not None:
                body = body[: max(0, server.always_cut_at - start)]
            self.wfile.write(body)
            server.sent += len(body)

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
        server.url = f"http://127.0.0.1:{http.server_port}/file.bin"
        return server

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "file.bin"  # its folder is made


def part_of(path: Path) -> Path:
    return path.with_name("file.bin.part")


def get(server: Server, path: Path, **options: object) -> Path:
    return fetch(server.url, path, **({"sha256": SHA256, "progress": False} | options))


# ---- the ordinary way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [{"sha256": SHA256}, {"md5": MD5}, {"sha256": SHA256.upper() + "\n"}])
def test_a_file_arrives_whole_and_under_its_name_only(serve: Callable, path: Path, checksum: dict) -> None:
    server = serve()
    assert fetch(server.url, str(path), **checksum, progress=False) == path
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    assert server.asked == [None]


def test_a_server_that_does_not_say_the_length(serve: Callable, path: Path) -> None:
    get(serve(length=False), path)
    assert path.read_bytes() == CONTENT


def test_a_right_file_is_left_alone_without_asking_the_network(serve: Callable, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    before = path.stat().st_mtime_ns
    server = serve()
    get(server, path)
    assert server.asked == []
    assert path.stat().st_mtime_ns == before


def test_a_wrong_file_in_the_way_is_never_overwritten(serve: Callable, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"my own notes")
    server = serve()
    with pytest.raises(DownloadError, match=r"file\.bin exists but is not the published file.*move it away"):
        get(server, path)
    assert path.read_bytes() == b"my own notes"
    assert server.asked == []
    path.unlink()
    path.mkdir()
    with pytest.raises(DownloadError, match="found a folder"):
        get(server, path)


def test_progress_counts_the_bytes(serve: Callable, path: Path, capfd: pytest.CaptureFixture) -> None:
    server = serve()
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT[:1_500_000])
    get(server, path, progress=True)
    shown = capfd.readouterr().err
    assert "file.bin" in shown
    assert "2.86M/2.86M" in shown  # 3,000,000 bytes, of which half were there before


# ---- resuming -----------------------------------------------------------------------------------------------


def test_a_second_run_fetches_only_the_rest(serve: Callable, path: Path) -> None:
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT[:2_000_000])
    server = serve()
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=2000000-"]
    assert server.sent == 1_000_000


def test_a_broken_connection_goes_on_within_the_run_where_it_broke(serve: Callable, path: Path) -> None:
    server = serve(cut_after=[1_000_000, 1_200_000, 0, 0])
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert (
        server.sent - len(CONTENT) < 2 * PIECE
    )  # two breaks, each within a piece that had not been kept yet
    starts = [int(asked[6:-1]) for asked in server.asked[1:]]
    assert starts == pytest.approx([1_000_000, 2_200_000, 2_200_000, 2_200_000], abs=2 * PIECE)


def test_a_run_that_failed_is_continued_by_the_next(serve: Callable, path: Path) -> None:
    server = serve(always_cut_at=1_800_000)
    with pytest.raises(DownloadError, match="broke off 3 times in a row at or before byte 1,7") as caught:
        get(server, path, retries=2)
    assert "go on where it stopped" in str(caught.value)
    assert not path.exists()
    kept = part_of(path).stat().st_size
    assert 1_800_000 - kept < PIECE
    assert part_of(path).read_bytes() == CONTENT[:kept]
    sent = server.sent
    server.always_cut_at = None
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.sent - sent == len(CONTENT) - kept


def test_cuts_after_every_little_piece_still_end_in_the_file(serve: Callable, path: Path) -> None:
    # A large buffer that is lost with each break would never get anywhere here.
    get(serve(cut_after=[2 * PIECE] * 100), path, retries=1)
    assert path.read_bytes() == CONTENT


def test_many_cuts_are_no_failure_while_each_brings_something(serve: Callable, path: Path) -> None:
    get(serve(cut_after=[200_000] * 14), path, retries=0)
    assert path.read_bytes() == CONTENT


def test_a_server_without_range_starts_over(serve: Callable, path: Path) -> None:
    path.parent.mkdir()
    part_of(path).write_bytes(b"x" * 2_000_000)  # would spoil the file if it were kept
    server = serve(ranges=False)
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=2000000-"]  # one answer is enough: the whole file is in it


def test_a_server_without_range_that_always_breaks_off_ends_in_an_error(serve: Callable, path: Path) -> None:
    server = serve(ranges=False, always_cut_at=1_000_000)
    with pytest.raises(DownloadError, match="broke off"):
        get(server, path, retries=3)
    assert len(server.asked) == 5  # the first, which got somewhere, and four in vain


def test_a_server_that_answers_with_another_range_is_asked_for_everything(
    serve: Callable, path: Path
) -> None:
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT[:1_000_000])
    server = serve(shifted=True)
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=1000000-", None]


def test_a_part_that_is_complete_only_gets_its_name(serve: Callable, path: Path) -> None:
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT)
    server = serve()
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.sent == 0


def test_a_part_longer_than_the_file_is_thrown_away(serve: Callable, path: Path) -> None:
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT + b"more")
    get(serve(), path)
    assert path.read_bytes() == CONTENT


# ---- wrong, refused, unreachable ----------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_a_wrong_checksum_leaves_nothing_behind(serve: Callable, path: Path, checksum: dict) -> None:
    server = serve()
    with pytest.raises(DownloadError) as caught:
        fetch(server.url, path, **checksum, progress=False)
    kind, value = next(iter(checksum.items()))
    for word in (server.url, str(path), "3,000,000 bytes", kind, value, {"sha256": SHA256, "md5": MD5}[kind]):
        assert word in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_a_file_that_changed_between_two_runs_is_noticed_and_the_next_try_is_clean(
    serve: Callable, path: Path
) -> None:
    path.parent.mkdir()
    part_of(path).write_bytes(b"old version".ljust(1_000_000))
    server = serve()
    with pytest.raises(DownloadError, match="has changed since: try once more"):
        get(server, path)
    assert list(path.parent.iterdir()) == []
    get(server, path)
    assert path.read_bytes() == CONTENT


def test_a_login_page_instead_of_the_file_is_called_one(serve: Callable, path: Path) -> None:
    with pytest.raises(DownloadError, match="looks like a web page"):
        get(serve(files={"/file.bin": b"\n<html>Please log in</html>"}), path)


def test_not_there(serve: Callable, path: Path) -> None:
    server = serve(files={})
    with pytest.raises(DownloadError, match=r"refused: 404[\s\S]*To do it by hand"):
        get(server, path)
    assert len(server.asked) == 1  # asking again does not help


def test_a_server_in_trouble_is_asked_again(serve: Callable, path: Path) -> None:
    server = serve(statuses=[503, 500])
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 3
    server = serve(statuses=[503] * 9)
    with pytest.raises(DownloadError, match="503"):
        get(server, path.with_name("other.bin"), retries=2)
    assert len(server.asked) == 3


def test_no_network_names_the_way_by_hand(path: Path) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file.bin"
        with pytest.raises(DownloadError) as caught:
            fetch(url, path, md5=MD5, retries=1, progress=False)
    for word in ("Is there a network?", f"download\n  {url}", f"save it as\n  {path}", f"md5 must be {MD5}"):
        assert word in str(caught.value)
    assert "HTTPConnectionPool" not in str(caught.value).splitlines()[0].split(": ")[0]
    assert isinstance(caught.value, DataError)


def test_a_silent_server_is_given_up(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.bin"
        with pytest.raises(DownloadError, match="timed out"):
            fetch(url, path, md5=MD5, retries=1, timeout=0.1, progress=False)


def test_an_address_that_is_none(path: Path) -> None:
    with pytest.raises(DownloadError, match="could not be downloaded"):
        fetch("file.bin", path, md5=MD5, progress=False)


def test_no_room(serve: Callable, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 2_000_000

    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: Usage)
    server = serve()
    with pytest.raises(DownloadError, match="Make room"):
        get(server, path)
    assert not path.exists()
    part_of(path).write_bytes(CONTENT[:1_500_000])  # the rest has room enough
    get(server, path)


@pytest.mark.parametrize(
    "checksum",
    [{}, {"sha256": SHA256, "md5": MD5}, {"sha256": MD5}, {"md5": "z" * 32}, {"sha256": ""}],
)
def test_no_checksum_no_download(serve: Callable, path: Path, checksum: dict) -> None:
    server = serve()
    with pytest.raises(ValueError, match=r"exactly one|hexadecimal"):
        fetch(server.url, path, **checksum)
    assert server.asked == []


# ---- whole data sets ----------------------------------------------------------------------------------------


def packed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


@pytest.fixture
def toy(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A data set of two archives on the local server, known as "toy"."""
    one, two = packed(images__a=b"a", images__b=b"b"), packed(images__c=b"c", labels=b"abc")
    server = serve(files={"/one.zip": one, "/two.zip": two})
    base = server.url.removesuffix("/file.bin")
    toy = (
        Source((f"{base}/one.zip",), len(one), sha256=hashlib.sha256(one).hexdigest()),
        Source((f"{base}/missing/two.zip", f"{base}/two.zip"), len(two), md5=hashlib.md5(two).hexdigest()),
    )
    monkeypatch.setitem(downloads.SOURCES, "toy", toy)
    return server


def content_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_is_fetched_unpacked_and_not_fetched_again(toy: Server, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert download("toy", folder, progress=False) == folder
    assert content_of(folder) == {"images/a", "images/b", "images/c", "labels", DONE}
    asked = len(toy.asked)
    assert asked == 3  # one.zip, two.zip at an address where it no longer is, two.zip at the next
    download("toy", folder, progress=False)
    assert len(toy.asked) == asked
    (folder / DONE).unlink()  # the documented way to have it all done again, over what is there
    download("toy", folder, progress=False, keep_archives=True)
    assert content_of(folder) == {"images/a", "images/b", "images/c", "labels", "one.zip", "two.zip", DONE}


def test_archives_put_there_by_hand_are_used_and_kept(toy: Server, tmp_path: Path) -> None:
    (tmp_path / "one.zip").write_bytes(toy.files["/one.zip"])
    (tmp_path / "two.zip").write_bytes(toy.files["/two.zip"])
    download("toy", tmp_path, progress=False)
    assert toy.asked == []
    assert content_of(tmp_path) == {"images/a", "images/b", "images/c", "labels", "one.zip", "two.zip", DONE}


def test_a_data_set_that_cannot_be_had_names_every_file_to_get_by_hand(toy: Server, tmp_path: Path) -> None:
    two = toy.files.pop("/two.zip")
    with pytest.raises(DownloadError) as caught:
        download("toy", tmp_path, progress=False)
    for word in (
        "one.zip",
        "two.zip",
        "/missing/two.zip",
        hashlib.md5(two).hexdigest(),
        str(tmp_path),
        "by hand",
    ):
        assert word in str(caught.value)
    assert content_of(tmp_path) == {"images/a", "images/b", DONE}  # what was done stays done
    toy.files["/two.zip"] = two
    toy.asked.clear()
    download("toy", tmp_path, progress=False)
    assert len(toy.asked) == 2


def test_a_wrong_archive_put_there_by_hand_is_named_and_kept(toy: Server, tmp_path: Path) -> None:
    (tmp_path / "one.zip").write_bytes(b"cut short")
    with pytest.raises(DownloadError, match=r"one\.zip exists but is not the published file"):
        download("toy", tmp_path, progress=False)
    assert (tmp_path / "one.zip").read_bytes() == b"cut short"


def test_unknown_names_and_corel5k(tmp_path: Path) -> None:
    for ask in (download, manual_route):
        with pytest.raises(ValueError, match=r"no data set 'coco'.*coco2014.*voc2007.*corel5k"):
            ask("coco", tmp_path)
    with pytest.raises(DownloadError, match=r"no official download") as caught:
        download("corel5k", tmp_path / "corel5k")
    for word in (
        str(tmp_path / "corel5k"),
        "train/*.jpeg",
        "test/*.jpeg",
        "train.json",
        "test.json",
        '{"samples"',
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_table_of_sources_is_well_formed(name: str, tmp_path: Path) -> None:
    text = manual_route(name, tmp_path)
    names = [source.filename for source in SOURCES[name]]
    assert len(set(names)) == len(names)
    for source in SOURCES[name]:
        kind, value = source.checksum
        assert f"{kind} {value}" in text
        assert source.size > 10**8
        assert re.fullmatch(r"[\w.-]+\.(zip|tar)", source.filename)
        for url in source.urls:
            assert url in text
            assert re.match(r"https?://[\w.-]+/", url)
            assert url.endswith("/" + source.filename)
