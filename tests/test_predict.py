"""`python -m helpers.predict --attention`: the film strip for any image, and a clear no where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers import predict
from helpers.checkpoints import save_checkpoint
from helpers.encoders import build_encoder
from helpers.labels import Vocabulary
from helpers.systems import build

LABELS = ("cat", "dog", "sun", "tree")


def checkpoint(folder: Path, name: str, **options) -> Path:
    """An untrained system, saved."""
    encoder = build_encoder("scenes_cnn", weights=None)
    system = build(name, Vocabulary(LABELS), encoder.dim, **options)
    path = folder / f"{name}.safetensors"
    save_checkpoint(path, system, encoder, name=name, options=options, config={"system": name}, metrics={})
    return path


@pytest.fixture
def attends(tmp_path: Path) -> Path:
    small = {"hidden_size": 8, "attention_size": 4, "embedding_size": 4}
    return checkpoint(tmp_path, "attention", max_labels=4, **small)


@pytest.mark.parametrize("size", [(128, 128), (300, 90), (61, 200)])
def test_the_film_strip_is_saved_for_any_image(attends: Path, tmp_path: Path, capsys, size) -> None:
    Image.effect_noise(size, 80).save(tmp_path / "photo.jpg")
    out = tmp_path / "pictures"
    out.mkdir()
    arguments = [str(tmp_path / "photo.jpg"), "--checkpoint", str(attends), "--output", str(out)]
    assert predict.main([*arguments, "--attention"]) == 0
    assert {path.name for path in out.iterdir()} == {"photo-labels.png", "photo-attention.png"}
    assert "attention: " in capsys.readouterr().out
    strip = Image.open(out / "photo-attention.png")
    assert strip.format == "PNG" and strip.width > 400
    assert predict.main(arguments) == 0
    assert "attention" not in capsys.readouterr().out


def test_the_film_strip_has_the_decoders_labels_and_maps(attends: Path) -> None:
    loaded = predict.load_checkpoint(attends)
    image = Image.effect_noise((128, 128), 80).convert("RGB")
    prediction = predict.predict_images(loaded, [image])
    figure = predict.film_of(prediction, loaded, image)
    named = predict.name_labels(prediction, loaded)[0]
    maps = [ax for ax in figure.axes if len(ax.images) == 2]
    titles = [ax.get_title() for ax in maps]
    assert len(maps) in (len(named.labels), len(named.labels) + 1)
    assert all(label in title for label, title in zip(named.labels, titles, strict=False))
    shown = torch.as_tensor(maps[0].images[1].get_array().data).flatten()
    torch.testing.assert_close(shown.float(), prediction.decoded.attention[0, 0])


@pytest.mark.parametrize(("name", "options"), [("bce", {}), ("ria", {"max_labels": 3, "hidden_size": 8})])
def test_a_system_without_attention_is_refused_before_anything_is_written(
    tmp_path: Path, capsys, name: str, options: dict
) -> None:
    path = checkpoint(tmp_path, name, **options)
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.png")
    assert predict.main([str(tmp_path / "photo.png"), "--checkpoint", str(path), "--attention"]) == 1
    error = capsys.readouterr().err
    assert f"({name}) has no attention" in error and "--system attention" in error
    assert not list(tmp_path.glob("*-labels.png"))
