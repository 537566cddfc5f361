"""`python -m helpers predict --attention`: the film strip for any image, and a clear no where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.commands import predict
from helpers.data.labels import Vocabulary
from helpers.encoders.encoder import build_encoder
from helpers.systems.registry import build
from helpers.training.checkpoints import save_checkpoint

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


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A folder with the checkpoint of a classifier."""
    checkpoint(tmp_path, "bce").rename(tmp_path / "checkpoint.safetensors")
    return tmp_path


def test_pictures_that_would_be_the_same_file_are_refused(names: Path, capsys) -> None:
    for folder in ("a", "b", "out"):
        (names / folder).mkdir()
        Image.new("RGB", (40, 40)).save(names / folder / "x.png")
    images = [str(names / folder / "x.png") for folder in "ab"]
    more = ["--checkpoint", str(names / "checkpoint.safetensors")]
    assert predict.main([*images, *more, "--output", str(names / "out")]) == 1
    error = capsys.readouterr().err
    assert all(image in error for image in images)
    assert not list(names.glob("**/*-labels.png"))
    assert predict.main([*images, images[0], *more]) == 0
    assert len(list(names.glob("**/*-labels.png"))) == 2


def test_a_broken_image_does_not_stop_the_others(names: Path, capsys) -> None:
    (names / "a.png").write_bytes(b"no image")
    Image.new("RGB", (40, 40)).save(names / "b.png")
    images = [str(names / name) for name in ("a.png", "b.png", "c.png")]
    assert predict.main([*images, "--checkpoint", str(names)]) == 1
    out, error = capsys.readouterr()
    assert "a.png" in error and "c.png" in error and "b.png" not in error
    assert images[1] in out and (names / "b-labels.png").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--device", "foo"], "--device foo: there is no such device"),
        (["--output", __file__], "is a file, not a folder"),
        (["--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
    ],
)
def test_what_is_wrong_is_one_line(names: Path, capsys, more: list[str], message: str) -> None:
    Image.new("RGB", (40, 40)).save(names / "b.png")
    assert predict.main([str(names / "b.png"), "--checkpoint", str(names), *more]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("option", ["--beam=0", "--temperature=-1"])
def test_a_number_out_of_range_is_refused_by_the_parser(option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict.main(["x.png", "--checkpoint", "x", option])


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*checkpoint\.safetensors"):
        predict.load_checkpoint(tmp_path)
