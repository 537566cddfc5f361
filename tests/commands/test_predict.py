"""`python -m helpers predict`: what is labelled, the tables, the pictures, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers import plots
from helpers.commands import predict
from helpers.data.labels import Vocabulary
from helpers.encoders.encoder import build_encoder
from helpers.systems.registry import build
from helpers.training.annotate import name_labels, predict_images
from helpers.training.checkpoints import load_checkpoint, save_checkpoint

LABELS = ("cat", "dog", "sun", "tree")
SMALL = {"max_labels": 4, "hidden_size": 8, "embedding_size": 4}


def checkpoint(folder: Path, name: str, **options) -> str:
    """An untrained system, saved."""
    encoder = build_encoder("scenes_cnn", weights=None)
    system = build(name, Vocabulary(LABELS), encoder.dim, **options)
    save_checkpoint(folder / f"{name}.safetensors", system, encoder, config={}, metrics={})
    return str(folder / f"{name}.safetensors")


@pytest.fixture
def attends(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A decoder that looks after it has read, or as the test's parameter says."""
    look = getattr(request, "param", "after")
    return checkpoint(tmp_path, "attention", **SMALL, attention_size=4, look=look)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images in two folders, and a file that is no image."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "more/c.png")):
        Image.effect_noise((60 + i, 90), 80).convert("RGB").save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_files_folders_patterns_and_lists(photos: Path) -> None:
    assert names(predict.find_images([str(photos)])) == ["a.png", "b.jpg", "c.png"]
    assert names(predict.find_images([str(photos / "*.png")])) == ["a.png"]
    assert names(predict.find_images([str(photos / "**" / "*.png")])) == ["a.png", "c.png"]
    (photos / "list.txt").write_text(f"{photos / 'b.jpg'}\n\n{photos / 'more'}\n")
    assert names(predict.find_images([f"@{photos / 'list.txt'}", str(photos)])) == ["b.jpg", "c.png", "a.png"]
    assert names(predict.find_images([str(photos / "notes.txt")])) == ["notes.txt"], (
        "a file is taken as it is"
    )
    for word in (str(photos / "*.bmp"), str(photos / "**" / "*.bmp")):
        with pytest.raises(ValueError, match="there is no image there"):
            predict.find_images([word])


def test_tables_hold_what_is_printed(photos: Path, tmp_path: Path, capsys) -> None:
    run = checkpoint(tmp_path, "bce", thresholds="top3")
    assert predict.main([str(photos), "--checkpoint", run]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(photos / "a.png") and len(lines) == 3 * 4
    probabilities = [float(line.split()[0]) for line in lines[1:4]]
    assert probabilities == sorted(probabilities, reverse=True)
    table, lined = tmp_path / "t" / "labels.csv", tmp_path / "labels.jsonl"
    more = ["--csv", str(table), "--jsonl", str(lined), "--batch-size", "2"]
    assert predict.main([str(photos), "--checkpoint", run, *more]) == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    objects = [json.loads(line) for line in lined.read_text().splitlines()]
    assert [row["file"] for row in rows] == [one["file"] for one in objects] == [lines[i] for i in (0, 4, 8)]
    assert rows[0]["labels"].split(";") == objects[0]["labels"] == [line.split()[1] for line in lines[1:4]]
    assert [f"{p:.2f}" for p in objects[0]["probabilities"]] == [f"{p:.2f}" for p in probabilities]
    assert not list(photos.rglob("*-labels.png")), "no picture that nobody asked for"
    assert "3 of 3 images" in capsys.readouterr().out


def test_top_and_threshold(photos: Path, tmp_path: Path, capsys, attends: str) -> None:
    def count(run: str, *more: str) -> int:
        assert predict.main([str(photos / "a.png"), "--checkpoint", run, *more]) == 0
        return len(capsys.readouterr().out.splitlines()) - 1

    run = checkpoint(tmp_path, "bce")
    assert count(run, "--top", "1") == 1 and count(run, "--top", "4") == 4
    assert count(run, "--threshold", "0") == 4
    assert count(attends, "--top", "2") == 2
    assert predict.main([str(photos), "--checkpoint", attends, "--threshold", "0.5"]) == 1
    assert "does not score every label" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(128, 128), (300, 90), (61, 200)])
def test_pictures_go_where_they_are_asked_for(attends: str, tmp_path: Path, capsys, size) -> None:
    Image.effect_noise(size, 80).save(tmp_path / "photo.jpg")
    out = tmp_path / "pictures"
    more = ["--checkpoint", attends, "--pictures", str(out), "--top", "2"]
    assert predict.main([str(tmp_path / "photo.jpg"), *more]) == 0
    assert {path.name for path in out.iterdir()} == {"photo-labels.png"}
    assert predict.main([str(tmp_path / "photo.jpg"), *more, "--attention"]) == 0
    strip = Image.open(out / "photo-attention.png")
    assert strip.format == "PNG" and strip.width > 400


@pytest.mark.parametrize("attends", ["before", "after", "sentinel"], indirect=True)
def test_the_film_strip_has_the_decoders_labels_and_maps(attends: str) -> None:
    loaded = load_checkpoint(attends)
    image = Image.effect_noise((128, 128), 80).convert("RGB")
    prediction = predict_images(loaded, [image])
    figure = plots.film_of(prediction, loaded, image)
    named = name_labels(prediction, loaded)[0]
    maps = [ax for ax in figure.axes if len(ax.images) == 2]
    titles = [ax.get_title() for ax in maps]
    assert len(maps) in (len(named.labels), len(named.labels) + 1)
    assert all(label in title for label, title in zip(named.labels, titles, strict=False))
    shown = torch.as_tensor(maps[0].images[1].get_array().data).flatten()
    torch.testing.assert_close(shown.float(), prediction.decoded.attention[0, 0])


@pytest.mark.parametrize(("name", "options"), [("bce", {}), ("ria", SMALL)])
def test_a_system_without_attention_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, capsys, name: str, options: dict
) -> None:
    run, out = checkpoint(tmp_path, name, **options), tmp_path / "out"
    assert predict.main([str(photos), "--checkpoint", run, "--pictures", str(out), "--attention"]) == 1
    error = capsys.readouterr().err
    assert f"({name}) has no attention" in error and "such as attention" in error
    assert not out.exists()


def test_pictures_that_would_be_the_same_file_are_refused(tmp_path: Path, capsys) -> None:
    run = checkpoint(tmp_path, "bce")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / folder / "x.png")
    images = [str(tmp_path / folder / "x.png") for folder in "ab"]
    more = ["--checkpoint", run, "--pictures", str(tmp_path / "out")]
    assert predict.main([*images, *more]) == 1
    error = capsys.readouterr().err
    assert all(image in error for image in images)
    assert predict.main([images[0], images[0], *more]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_broken_image_does_not_stop_the_others(tmp_path: Path, capsys) -> None:
    run = checkpoint(tmp_path, "bce")
    (tmp_path / "a.png").write_bytes(b"no image")
    Image.new("RGB", (40, 40)).save(tmp_path / "b.png")
    images = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    assert predict.main([*images, "--checkpoint", run]) == 1
    out, error = capsys.readouterr()
    assert "a.png" in error and "c.png" in error and "b.png" not in error
    assert images[1] in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--device", "foo"], "--device foo: there is no such device"),
        (["--pictures", __file__], "is a file, not a folder"),
        (["--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
        (["--beam", "3"], "are for captioners"),
    ],
)
def test_what_is_wrong_is_one_line(
    photos: Path, tmp_path: Path, capsys, more: list[str], message: str
) -> None:
    assert predict.main([str(photos), "--checkpoint", checkpoint(tmp_path, "bce"), *more]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("words", ["--beam=0", "--temperature=-1", "--attention", "--top 1 --threshold 0.5"])
def test_impossible_options_are_refused_by_the_parser(words: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict.main(["x.png", "--checkpoint", "x", *words.split()])
