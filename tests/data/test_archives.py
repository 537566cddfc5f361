"""Unpacking: honest archives arrive whole, hostile and damaged ones write nothing anywhere."""

import io
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.data import downloads as archives
from helpers.data.downloads import Member, check_members, extract
from helpers.data.images import DataError


def make_zip(path: Path, files: dict[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo("placeholder")
            entry.filename = name  # after the constructor, which would mend what we want broken
            for key, value in attributes.items():
                setattr(entry, key, value)
            archive.writestr(entry, content)
    return path


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"x") -> tuple:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, target, 0o644
    entry.size = len(content) if kind == tarfile.REGTYPE else 0
    return entry, content


def make_tar(path: Path, *entries: tuple, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
    return path


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder with its content or target."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


FILES = {"images/a.jpg": b"a" * 1000, "images/deep/b.jpg": b"b", "labels.json": b"{}"}


# ---- honest archives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_arrives_whole_whatever_its_suffix(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive.bin"
    if kind == "zip":
        make_zip(path, FILES)
    else:
        make_tar(path, *[tar_entry(name, content=content) for name, content in FILES.items()], mode=kind)
    folder = tmp_path / "some" / "folder"
    assert extract(path, str(folder), progress=False) == folder
    assert tree(folder) == FILES
    assert [p.name for p in folder.parent.iterdir()] == ["folder"]  # nothing left beside it


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", {"inner.txt": b"i"}).read_bytes()
    make_tar(tmp_path / "outer.tar", tar_entry("first", content=b"1"), tar_entry("inner.zip", content=inner))
    assert set(tree(extract(tmp_path / "outer.tar", tmp_path / "out", progress=False))) == {
        "first",
        "inner.zip",
    }


def test_a_tar_made_in_its_folder_with_dots_and_folders(tmp_path: Path) -> None:
    entries = [
        tar_entry("./", tarfile.DIRTYPE),
        tar_entry("./images", tarfile.DIRTYPE),
        tar_entry("./images/a"),
    ]
    assert tree(extract(make_tar(tmp_path / "a.tar", *entries), tmp_path / "out", progress=False)) == {
        "images/a": b"x"
    }


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_that_stay_inside_are_kept(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "a.tar",
        tar_entry("images/a.jpg", content=b"a"),
        tar_entry("lists/first.jpg", tarfile.SYMTYPE, "../images/a.jpg"),
        tar_entry("photos", tarfile.SYMTYPE, "images"),
        tar_entry("same.jpg", tarfile.LNKTYPE, "images/a.jpg"),
    )
    folder = extract(path, tmp_path / "out", progress=False)
    assert (folder / "lists" / "first.jpg").read_bytes() == b"a"
    assert (folder / "photos" / "a.jpg").read_bytes() == b"a"
    assert (folder / "same.jpg").read_bytes() == b"a"


def test_several_archives_share_a_folder_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    one = make_zip(tmp_path / "one.zip", {"images/a": b"a", "both": b"same"})
    two = make_zip(tmp_path / "two.zip", {"images/b": b"b", "both": b"same"})
    folder = tmp_path / "data"
    for archive in (one, two, one):
        extract(archive, folder, progress=False)
        assert not any(p.name.endswith(".extracting") for p in tmp_path.iterdir())
    assert tree(folder) == {"images/a": b"a", "images/b": b"b", "both": b"same"}


def test_an_archive_in_the_folder_it_is_unpacked_into(tmp_path: Path) -> None:
    make_zip(tmp_path / "data.zip", FILES)
    extract(tmp_path / "data.zip", tmp_path, progress=False)
    assert set(tree(tmp_path)) == {*FILES, "data.zip"}


def test_another_file_of_the_same_name_is_kept_and_nothing_else_changes(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "z").write_bytes(b"mine")
    path = make_zip(tmp_path / "a.zip", {"images/a": b"a", "images/z": b"theirs"})
    with pytest.raises(DataError, match=r"z: is there already and differs.*nothing was changed"):
        extract(path, folder, progress=False)
    assert tree(folder) == {"images/z": b"mine"}
    make_zip(tmp_path / "b.zip", {"images/z/a": b"a"})  # a folder where there is a file
    with pytest.raises(DataError, match="is there already"):
        extract(tmp_path / "b.zip", folder, progress=False)
    assert tree(folder) == {"images/z": b"mine"}


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / ".out.extracting"
    left.mkdir()
    (left / "half").write_bytes(b"h")
    extract(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out", progress=False)
    assert tree(tmp_path / "out") == FILES
    assert not left.exists()


def test_progress_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    extract(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out")
    assert "unpacking a.zip" in capfd.readouterr().err


# ---- hostile archives ---------------------------------------------------------------------------------------

GOOD = tar_entry("good.txt")
BAD_NAMES = [
    "../evil",
    "a/../../evil",
    "/tmp/evil",
    "//host/evil",
    "..\\evil",
    "a\\..\\..\\evil",
    "\\evil",
    "C:\\evil",
    "C:evil",
    "c:/evil",
    ".. /evil",
    ".../evil",
    "a/..",
]


def refused(archive: Path, reason: str = "") -> None:
    """Refused as a whole, with the archive's name and the reason; nothing at all is written."""
    before = tree(archive.parent)
    with pytest.raises(DataError) as caught:
        extract(archive, archive.parent / "in" / "out", progress=False)
    assert archive.name in str(caught.value)
    assert reason in str(caught.value)
    assert tree(archive.parent) == before
    assert not (archive.parent / "in" / "out").exists()
    assert list((archive.parent / "in").iterdir()) == []


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    reason = "absolute path" if name[0] in "/\\Cc" else 'leads upwards with ".."'
    refused(make_zip(tmp_path / "a.zip", {"good.txt": b"g", name: b"evil"}), reason)
    refused(make_tar(tmp_path / "a.tar", GOOD, tar_entry(name)), reason)
    refused(make_tar(tmp_path / "b.tar", GOOD, tar_entry(name, tarfile.DIRTYPE)), reason)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes(tmp_path: Path, kind: bytes) -> None:
    refused(make_tar(tmp_path / "a.tar", GOOD, tar_entry("null", kind)), "is a device, a pipe")


LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([tar_entry("l", LINK, "/etc")], "absolute path"),
        ([tar_entry("l", LINK, "C:\\Windows")], "absolute path"),
        ([tar_entry("l", LINK, "..")], "outside the folder"),
        ([tar_entry("a/l", LINK, "../../x")], "outside the folder"),
        ([tar_entry("a/l", LINK, "..\\..\\x")], "outside the folder"),
        ([tar_entry("l", LINK, "good.txt/../..")], "outside the folder"),
        # Writing through a link, even one that stays inside: the second could be made to lead on.
        ([tar_entry("l", LINK, "."), tar_entry("l/x")], "lies below a link"),
        ([tar_entry("l/x"), tar_entry("l", LINK, "d")], "lies below a link"),
        ([tar_entry("L", LINK, "d"), tar_entry("l/x")], "lies below a link"),  # one name on macOS and Windows
        # Each link looks harmless by its text; together they climb out.
        ([tar_entry("a/b/c"), tar_entry("s", LINK, "a/b"), tar_entry("t", LINK, "s/../..")], "another link"),
        ([tar_entry("s", LINK, "t"), tar_entry("t", LINK, "good.txt")], "another link"),
        ([tar_entry("s", LINK, "s")], "another link"),
        ([tar_entry("h", HARD, "/etc/passwd")], "no file before it"),
        ([tar_entry("h", HARD, "../x")], "no file before it"),
        ([tar_entry("h", HARD, "missing")], "no file before it"),
        ([tar_entry("s", LINK, "good.txt"), tar_entry("h", HARD, "s")], "no file before it"),
        ([tar_entry("h", HARD, "late.txt"), tar_entry("late.txt")], "no file before it"),
        ([tar_entry("a\\b"), tar_entry("h", HARD, "a/b")], "no file before it"),
        ([tar_entry("a/.")], "has no name"),
        # A link replaced by a file of the same name: opening it to write follows the link.
        ([tar_entry("s", LINK, "good.txt"), tar_entry("s")], "is there twice"),
        ([tar_entry("good.txt/x")], "lies below a file"),
        ([tar_entry("d", tarfile.DIRTYPE), tar_entry("d")], "is there twice"),
        ([tar_entry("./.")], "has no name"),
    ],
)
def test_links_and_doubles(tmp_path: Path, entries: list, reason: str) -> None:
    refused(make_tar(tmp_path / "a.tar", GOOD, *entries), reason)


@pytest.mark.parametrize(
    ("mode", "reason"), [(stat.S_IFLNK, "a link in a zip"), (stat.S_IFCHR, "device"), (stat.S_IFIFO, "pipe")]
)
def test_links_and_devices_in_a_zip(tmp_path: Path, mode: int, reason: str) -> None:
    path = make_zip(
        tmp_path / "a.zip", {"l": b"/etc/passwd"}, external_attr=(mode | 0o777) << 16, create_system=3
    )
    refused(path, reason)


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "A", "C:"]), min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from(["/".join(parts), "\\".join(parts)])
)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, LINK, HARD])


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@settings(max_examples=200, deadline=None)
@given(entries=st.lists(st.tuples(NAMES, KINDS, NAMES), min_size=1, max_size=5))
def test_no_archive_whatever_writes_or_points_outside(entries: list[tuple[str, bytes, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writes_only_inside(Path(folder).resolve(), entries)


def writes_only_inside(root: Path, entries: list[tuple[str, bytes, str]]) -> None:
    path = make_tar(root / "a.tar", *[tar_entry(name, kind, target) for name, kind, target in entries])
    folder = root / "in" / "out"
    try:
        extract(path, folder, progress=False)
    except DataError:
        assert not folder.exists()
    for found in root.rglob("*"):
        if found not in (path, folder.parent, folder):
            assert folder in found.parents
            assert found.resolve().is_relative_to(folder)
    assert {p.name for p in root.iterdir()} <= {"a.tar", "in"}


def test_the_check_itself_would_miss_nothing_that_pythons_own_catches(tmp_path: Path) -> None:
    """Whatever tarfile's "data" filter refuses, ours refuses before anything is written."""
    for name in ["../x", "a/../../x"]:
        with pytest.raises(tarfile.FilterError):
            tarfile.data_filter(tar_entry(name)[0], str(tmp_path))
        with pytest.raises(DataError):
            check_members([Member(name, "file", 1)], Path("a.tar"))


# ---- damaged archives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:xz"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95])
def test_cut_short(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / "archive"
    content = os.urandom(100_000)
    if kind == "zip":
        make_zip(path, {"a": content, "b": content})
    else:
        make_tar(path, tar_entry("a", content=content), tar_entry("b", content=content), mode=kind)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refused(path, "download it again")


def test_a_flipped_bit_in_a_zip(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a": b"first", "b": os.urandom(1000)})
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    refused(path, "download it again")


@pytest.mark.parametrize(
    "make", [lambda p: make_zip(p, {}), lambda p: make_tar(p), lambda p: make_zip(p, {"d/": b""})]
)
def test_nothing_in_it(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    refused(make(tmp_path / "a"), "download it again")


def test_not_an_archive_names_how_it_starts(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>404</html>")
    refused(tmp_path / "a.zip", "b'<html>404</html>'")


def test_encrypted(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a": b"secret"})
    content = bytearray(path.read_bytes())
    for signature, at in (
        (b"PK\3\4", 6),
        (b"PK\1\2", 8),
    ):  # the flags of the entry and of the table of contents
        content[content.index(signature) + at] |= 1
    path.write_bytes(content)
    refused(path, "is encrypted")


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: Usage)
    refused(make_zip(tmp_path / "a.zip", FILES), "Make room")


def test_missing_archive_and_a_file_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.zip: archive not found"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    make_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(DataError, match="is a file, expected a folder"):
        extract(tmp_path / "a.zip", tmp_path / "a.zip")
