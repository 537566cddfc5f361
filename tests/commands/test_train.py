"""`python -m helpers train`, end to end on a few scenes: what it leaves behind, resume, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.commands import predict, train
from helpers.data.images import open_image
from helpers.encoders.crops import CropEncoder
from helpers.training import run as experiment
from helpers.training.annotate import predict_images
from helpers.training.checkpoints import load_checkpoint
from helpers.training.fit import fit, predict_all


def arguments(scenes: Path, output: Path, words: str) -> list[str]:
    system, *more = words.split()
    small = ["--weights", "none", "--epochs", "2", "--batch-size", "16", "--device", "cpu"]
    places = ["--data-dir", scenes, "--cache-dir", scenes.parent / "features", "--output", output]
    return [system, *map(str, places), *small, *more]


@pytest.mark.parametrize(
    "words",
    [
        "ria --hidden 16 --embedding 8",
        "ria --hidden 16 --beam-width 2 --top-k 3",
        "cnn_rnn --hidden 16",
        "cnn_rnn --hidden 16 --image-first",
        "sr_cnn_rnn --hidden 16 --pretrain-epochs 1 --joint",
        "bce",
        "bce --hidden 8 --thresholds mcc",
    ],
)
def test_a_run_leaves_everything(few_scenes: Path, tmp_path: Path, capsys, words: str) -> None:
    assert train.main(arguments(few_scenes, tmp_path / "run", words)) == 0
    out = capsys.readouterr().out
    assert "48" in out and "OF1" in out
    found = {path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
    assert found == {"README.txt", "checkpoint.safetensors", "config.json", "metrics.json", "tensorboard"}
    assert f"--checkpoint {tmp_path / 'run'}" in (tmp_path / "run" / "README.txt").read_text()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics) >= {"val", "test", "history", "seconds", "device", "versions"}
    assert len(metrics["history"]) == 2
    assert 0 <= metrics["test"]["OF1"] <= 1
    assert ("mAP" in metrics["test"]) == words.startswith(("bce", "sr_"))
    assert ("repeats" in metrics["test"]) != words.startswith("bce")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["system"], config["fit"]["epochs"]) == (words.split()[0], 2)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.metrics["test"] == metrics["test"]
    assert (checkpoint.name, checkpoint.config["fit"]) == (config["system"], config["fit"])
    if words.startswith("cnn_rnn"):
        assert (checkpoint.options.order, checkpoint.options.embedding_size) == ("frequent-first", 64)
        assert checkpoint.system.beam_width == 5
        assert checkpoint.system.decoder.image_first == ("--image-first" in words)
    if words.startswith("sr_"):
        assert checkpoint.system.pretrain_steps == 3  # an epoch: 48 images in batches of 16
        assert checkpoint.system.joint


@pytest.mark.parametrize(
    "words",
    [
        "lcnet --crops 2 --layers 2 --amp --positions",
        "query2label --thresholds top3",
        "ml_gcn",
        "lcnet --node-features learned --graph-tokens gram --no-freeze",
    ],
)
def test_a_run_its_checkpoint_and_predict(few_scenes: Path, tmp_path: Path, words: str) -> None:
    run = tmp_path / "run"
    small = arguments(few_scenes, run, f"{words} --hidden 8 --image-size 64 --epochs 1")
    assert train.main(small) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    checkpoint = load_checkpoint(run)
    assert isinstance(checkpoint.system.encoder, CropEncoder) == ("--crops" in words)

    # The checkpoint on the images names what the run on its features named.
    config = train.configure([*small, "--no-freeze", "--no-flip"])
    data = experiment.load_data(config)
    task = experiment.make_task(config, data)
    loaders = experiment.make_loaders(config, data, task, checkpoint.system.encoder, torch.device("cpu"))
    again = predict_all(checkpoint.system, loaders["test"]).metrics()
    assert again["mAP"] == pytest.approx(metrics["test"]["mAP"], abs=0.02)

    image = data.test[0].path
    prediction = predict_images(checkpoint, [open_image(image)])
    attends = not words.startswith("ml_gcn")
    options = ["--checkpoint", str(run), "--pictures", str(tmp_path), "--attention"]
    assert predict.main([str(image), *options]) == (0 if attends else 1)
    if attends and prediction.predicted.any():
        assert (tmp_path / f"{image.stem}-attention.png").stat().st_size > 3000


def test_the_same_command_gives_the_same_numbers(few_scenes: Path, tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        assert train.main(arguments(few_scenes, tmp_path / name, "ria --hidden 16")) == 0
        saved = json.loads((tmp_path / name / "metrics.json").read_text())
        results.append((saved["test"], saved["val"], saved["history"]))
    assert results[0] == results[1]


def test_an_interrupted_run_resumes_to_the_same_weights(few_scenes, tmp_path, monkeypatch, capsys) -> None:
    def main(name: str, *more: str) -> int:
        return train.main([*arguments(few_scenes, tmp_path / name, "ria --hidden 16 --epochs 3"), *more])

    def interrupted(*args, **options):
        def stop(model, row):
            if row["epoch"] == 2:
                raise KeyboardInterrupt

        return fit(*args, **options, on_epoch=[stop])

    assert main("straight") == 0
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit", interrupted)
        assert main("broken") == 130
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "broken" / "checkpoint.safetensors").exists()
    assert main("broken", "--lr", "0.5", "--resume") == 1
    assert "learning_rate: 0.001 -> 0.5" in capsys.readouterr().err
    assert main("broken", "--resume") == 0
    one, two = (load_checkpoint(tmp_path / name).system.state_dict() for name in ("straight", "broken"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert main("straight") == 1
    assert "holds a finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_fine_tuning_goes_through_the_images(few_scenes: Path, tmp_path: Path) -> None:
    words = arguments(few_scenes, tmp_path / "run", "ria --no-freeze --hidden 16 --epochs 1")
    before = experiment.make_encoder(train.configure(words)).state_dict()
    assert train.main(words) == 0
    after = load_checkpoint(tmp_path / "run").system.encoder.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--data nowhere", "nowhere"),
        ("--backbone resnet51", "resnet51"),
        ("--device foo", "--device foo: there is no such device"),
        ("--top-k 99", "top_k is 99; it must be in 1..30"),
    ],
)
def test_what_is_wrong_is_one_line(
    few_scenes, tmp_path, capsys, monkeypatch, more: str, message: str
) -> None:
    monkeypatch.setattr(experiment, "feature_loaders", None)  # it is said before images are encoded
    assert train.main(arguments(few_scenes, tmp_path / "run", f"ria {more}")) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error and message in error


def own_images(folder: Path, splits: str) -> Path:
    """A folder of one image per split and its CSV."""
    rows = ["file,labels,split"]
    for number, split in enumerate(splits.split()):
        Image.new("RGB", (32, 32), (80 * number, 0, 0)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'cat;dog' if number % 2 else 'cat'},{split}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def on_own_images(folder: Path, splits: str, words: str) -> list[str]:
    system, *more = words.split()
    small = ["--backbone", "scenes_cnn", "--weights", "none", "--epochs", "1"]
    places = [
        "--data",
        own_images(folder, splits),
        "--output",
        folder / "run",
        "--cache-dir",
        folder / "features",
    ]
    return [system, *map(str, places), *small, *more]


@pytest.mark.parametrize(
    ("splits", "missing"), [("train val", "test"), ("train test", "val"), ("val test", "train")]
)
def test_a_missing_split_is_named_before_anything_is_encoded(tmp_path, capsys, splits, missing) -> None:
    assert train.main(on_own_images(tmp_path, splits, "ria")) == 1
    error = capsys.readouterr().err
    assert f"no image is in {missing}" in error or f"no image is in the {missing} split" in error
    assert not (tmp_path / "features").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", ["ria --batch-size 1", "bce --batch-size 2 --hidden 4"])
def test_a_batch_of_one_image_trains(tmp_path: Path, words: str) -> None:
    assert train.main(on_own_images(tmp_path, "train train train val test", words)) == 0


def test_a_run_is_not_resumed_on_other_data(tmp_path, capsys, monkeypatch) -> None:
    command = on_own_images(tmp_path, "train train val test", "ria --epochs 2 --hidden 4")
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "finite", lambda _: 1 / 0)  # it ends before it has saved its checkpoint
        with pytest.raises(ZeroDivisionError):
            train.main(command)
    table = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(table.replace("cat;dog,train", "cat,train"))
    assert train.main([*command, "--resume"]) == 1
    assert "not those that this run began with" in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text(table)
    assert train.main([*command, "--resume"]) == 0
    assert train.main([*command, "--resume"]) == 1
    assert "holds a finished run" in capsys.readouterr().err


def test_a_split_without_labels(tmp_path, capsys) -> None:
    """Without labels to choose on nothing is trained; without labels to be judged on, there is a null."""
    command = on_own_images(tmp_path, "train val test", "bce")
    table = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(table.replace("cat;dog,val", ",val"))
    assert train.main(command) == 1
    assert "no val image has a label" in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text(table.replace("cat,test", ",test"))
    assert train.main(command) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["mAP"] is None
    assert load_checkpoint(tmp_path / "run").metrics["test"]["mAP"] is None


def test_two_runs_do_not_share_a_folder(few_scenes: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    with experiment.only_run(run):
        assert train.main(arguments(few_scenes, run, "bce")) == 1
        assert "another run is training into" in capsys.readouterr().err and run.exists()
    assert not run.exists()  # nothing came of it
    run.mkdir()
    (run / ".last.pt.1.2.tmp").touch()  # a killed run was writing
    with experiment.only_run(run):
        assert {path.name for path in run.iterdir()} == {".lock"}


def test_an_interrupt_while_encoding_says_what_is_kept(few_scenes, tmp_path, monkeypatch, capsys) -> None:
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "feature_loaders", stop)
    assert train.main(arguments(few_scenes, tmp_path / "run", "ria")) == 130
    error = capsys.readouterr().err
    assert "--resume" not in error and "are kept in the feature cache" in error


@pytest.mark.slow
def test_a_real_coco_sample_trains_a_step(shared: Path, tmp_path: Path, capsys) -> None:
    """50 + 50 real images with the official annotations, through the command line."""
    command = f"ria --data coco2017 --data-dir {shared / 'tiny_coco'} --backbone mobilenet_v2 --epochs 1"
    command += f" --weights {shared / 'weights' / 'mobilenet_v2_imagenet.pth'} --image-size 96"
    assert (
        train.main([*command.split(), "--cache-dir", str(tmp_path), "--output", str(tmp_path / "run")]) == 0
    )
    assert "80 labels" in capsys.readouterr().out
