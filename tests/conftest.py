"""Fixtures of the whole suite."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from PIL import Image

from helpers import plots
from helpers.data.labels import Vocabulary
from helpers.data.records import AnnotatedImages, Box, Record
from helpers.scenes.write import write_scenes

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"

# The same cases at every run: a run that fails, fails again. To search further: --hypothesis-seed=random.
settings.register_profile("course", derandomize=True, deadline=None)
settings.load_profile("course")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data kept beside the checkout by the developers; never part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"the developers' real data is not on this machine (no folder {SHARED})")
    return SHARED


def committable() -> list[Path]:
    """What git has, or would take: the files of a fresh clone. Without git, all but what is ignored by name."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
        paths = [Path(name) for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = ("helpers", "notebooks", "data")
        paths = [path.relative_to(REPOSITORY) for name in folders for path in (REPOSITORY / name).glob("*.*")]
    return [path for path in paths if (REPOSITORY / path).is_file()]


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """A clean copy of the checkout, one for all runs: the scenes are drawn once, as on a newcomer's machine."""
    folder = tmp_path_factory.mktemp("clone")
    for path in committable():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / path, folder / path)
    assert not (folder / "data" / "scenes").exists(), "data that the course makes itself is not part of it"
    return folder


@pytest.fixture(scope="session")
def offline(tmp_path_factory) -> dict[str, str]:
    """The environment of a newcomer without a network: proxies that answer nothing, caches with nothing in them."""
    home = str(tmp_path_factory.mktemp("home"))
    nowhere = "http://127.0.0.1:9"
    caches = ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "PYTHONPATH")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in caches and "_proxy" not in name.lower()
    }
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), nowhere)
    return kept | proxies | {"HOME": home, "USERPROFILE": home, "HF_HUB_OFFLINE": "1"}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are not rendered, which takes a second each; the titles of their panels stand in for them."""
    monkeypatch.setattr(plots, "to_png", lambda figure: repr([ax.get_title() for ax in figure.axes]).encode())


@pytest.fixture
def small_data(tmp_path: Path) -> AnnotatedImages:
    """Five small images; bird is the most frequent label in train, cat the least."""
    rows = ["bird cat", "bird dog", "", "dog bird", "bird"]
    records = []
    for i, row in enumerate(rows):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (20, 20), (40 * i, 90, 90)).save(path)
        boxes = tuple(Box(name, 2.0 + k, 2, 8, 8) for k, name in enumerate(row.split()))
        records.append(Record(path, tuple(row.split()), boxes))
    vocabulary = Vocabulary(("bird", "cat", "dog", "elk"))
    return AnnotatedImages("small", vocabulary, train=tuple(records), val=tuple(records[:1]), test=())


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """Ten small photographs with five captions each, in the layout of Flickr8k's authors."""
    folder = tmp_path / "flickr8k"
    (folder / "Flicker8k_Dataset").mkdir(parents=True)
    names = [f"{i}.jpg" for i in range(10)]
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / "Flicker8k_Dataset" / name)
    lines = [f"{name}#{k}\tA dog , number {k} .\n" for name in names for k in range(5)]
    (folder / "Flickr8k.token.txt").write_text("".join(lines))
    for split, listed in (("train", names[:6]), ("dev", names[6:8]), ("test", names[8:])):
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(listed))
    return folder


@pytest.fixture(scope="session")
def few_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 48 + 12 + 12 drawn images; its feature cache may be the folder beside it."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    return write_scenes(folder, train=48, val=12, test=12, progress=False)


@pytest.fixture
def double() -> Iterator[None]:
    """float64 is the default."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`gpu` tests skip by themselves, with the reason, where there is no GPU."""
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device on this machine")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)
