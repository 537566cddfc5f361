"""Fixtures of the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

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


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`gpu` tests skip by themselves, with the reason, where there is no GPU."""
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device on this machine")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)
