"""Scenes that several test files look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.scenes.write import Scene, draw_scene, write_scenes


@pytest.fixture(scope="session")
def sampled() -> list[Scene]:
    """Half of the default training set without its pictures."""
    return [draw_scene(0, index=i, picture=False) for i in range(1000)]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small written set; not to be changed."""
    return write_scenes(tmp_path_factory.mktemp("made") / "scenes", train=20, val=2, test=2, progress=False)
