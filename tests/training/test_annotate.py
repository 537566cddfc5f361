"""Photographs labelled by the model that ships, from Python and from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.commands import predict
from helpers.data.images import open_image
from helpers.training.annotate import name_labels, predict_images
from helpers.training.checkpoints import Checkpoint, load_checkpoint


@pytest.fixture(scope="module")
def checkpoint(repository: Path) -> Checkpoint:
    return load_checkpoint(repository / "data" / predict.PHOTOGRAPHS)


@pytest.fixture(scope="module")
def street(repository: Path) -> Path:
    return repository / "data" / "photographs" / "images" / "000000303818.jpg"


def test_the_shipped_model_is_small_and_names_a_street(checkpoint, street, repository) -> None:
    assert (repository / "data" / predict.PHOTOGRAPHS).stat().st_size <= 9 * 2**20
    prediction = predict_images(checkpoint, [open_image(street), open_image(street)])
    both = name_labels(prediction, checkpoint)
    assert {"street", "cars", "people"} <= set(both[0].labels) and both[0].labels == both[1].labels
    maps = prediction.decoded.attention  # (2, T, 100)
    torch.testing.assert_close(maps.sum(2), torch.ones(maps.shape[:2]))


def test_predict_uses_it_when_no_checkpoint_is_given(street, tmp_path, capsys) -> None:
    assert predict.main([str(street), "--pictures", str(tmp_path), "--attention"]) == 0
    assert (
        "street" in capsys.readouterr().out or (tmp_path / f"{street.stem}-attention.png").stat().st_size > 0
    )
