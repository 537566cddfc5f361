"""The command lines, end to end on a few scenes: what they leave behind, resume, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from helpers import experiment, predict, train
from helpers.checkpoints import load_checkpoint
from helpers.files import load_state
from helpers.scenes import write_scenes
from helpers.training import fit


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", train=48, val=12, test=12, progress=False)


def arguments(scenes: Path, output: Path, *more: str) -> list[str]:
    cache = scenes.parent / "features"
    small = "--weights none --epochs 2 --batch-size 16 --device cpu"
    return [
        *("--data", "scenes", "--data-dir", str(scenes), "--cache-dir", str(cache), "--output", str(output)),
        *small.split(),
        *more,
    ]


@pytest.mark.parametrize(
    "system",
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
def test_a_run_leaves_everything(scenes: Path, tmp_path: Path, capsys, system: str) -> None:
    assert train.main(arguments(scenes, tmp_path / "run", "--system", *system.split())) == 0
    out = capsys.readouterr().out
    assert "48" in out and "OF1" in out
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found == {"checkpoint.safetensors", "config.json", "last.pt", "metrics.json", "tensorboard"}
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics) >= {"val", "test", "history", "seconds", "device", "versions"}
    assert len(metrics["history"]) == 2
    assert 0 <= metrics["test"]["OF1"] <= 1
    assert ("mAP" in metrics["test"]) == system.startswith(("bce", "sr_"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["arguments"]["epochs"] == 2
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert checkpoint.metrics["test"] == metrics["test"]
    if system.startswith("cnn_rnn"):
        assert (checkpoint.config["order"], checkpoint.config["embedding"]) == ("frequent-first", 64)
        assert checkpoint.system.beam_width == 5
        assert checkpoint.system.decoder.image_first == ("--image-first" in system)
    if system.startswith("sr_"):
        assert checkpoint.system.pretrain_steps == 3  # an epoch: 48 images in batches of 16
        assert checkpoint.system.joint


def test_the_same_command_gives_the_same_numbers(scenes: Path, tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        assert train.main(arguments(scenes, tmp_path / name, "--hidden", "16")) == 0
        saved = json.loads((tmp_path / name / "metrics.json").read_text())
        results.append((saved["test"], saved["val"], saved["history"]))
    assert results[0] == results[1]


def test_an_interrupted_run_resumes_to_the_same_weights(scenes, tmp_path, monkeypatch, capsys) -> None:
    more = ("--hidden", "16", "--epochs", "3")
    assert train.main(arguments(scenes, tmp_path / "straight", *more)) == 0

    def interrupted(*args, **options):
        def stop(model, row):
            if row["epoch"] == 2:
                raise KeyboardInterrupt

        return fit(*args, **options, on_epoch=[stop])

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit", interrupted)
        assert train.main(arguments(scenes, tmp_path / "broken", *more)) == 130
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "broken" / "checkpoint.safetensors").exists()
    assert train.main(arguments(scenes, tmp_path / "broken", *more, "--lr", "0.5", "--resume")) == 1
    assert "lr: 0.001 -> 0.5" in capsys.readouterr().err
    assert train.main(arguments(scenes, tmp_path / "broken", *more, "--resume")) == 0
    one, two = (load_state(tmp_path / name / "last.pt")["model"] for name in ("straight", "broken"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
def test_fine_tuning_goes_through_the_images(scenes: Path, tmp_path: Path) -> None:
    before = experiment.make_encoder(
        train.parser().parse_args(arguments(scenes, tmp_path, "--no-freeze"))
    ).state_dict()
    assert (
        train.main(arguments(scenes, tmp_path / "run", "--no-freeze", "--hidden", "16", "--epochs", "1")) == 0
    )
    after = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").system.encoder.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--backbone", "resnet51"], "resnet51"),
        (["--select", "mAPP"], "mAPP"),
        (["--thresholds", "best", "--system", "bce"], "top3"),
        (["--epochs", "0"], "epochs is 0"),
        (["--weights", "nofile.pth"], "nofile.pth"),
        (["--glove", "noglove.txt"], "noglove.txt"),
    ],
)
def test_what_is_wrong_is_one_line(
    scenes: Path, tmp_path: Path, capsys, more: list[str], message: str
) -> None:
    assert train.main(arguments(scenes, tmp_path / "run", *more)) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert message in error.strip().splitlines()[-1] or message in error


def test_a_finished_run_is_not_overwritten(scenes: Path, tmp_path: Path, capsys) -> None:
    assert train.main(arguments(scenes, tmp_path / "run", "--hidden", "16")) == 0
    assert train.main(arguments(scenes, tmp_path / "run", "--hidden", "16")) == 1
    assert "holds a finished run" in capsys.readouterr().err


def test_predict_prints_and_draws(scenes: Path, tmp_path: Path, capsys) -> None:
    assert train.main(arguments(scenes, tmp_path / "run", "--system", "bce", "--thresholds", "top3")) == 0
    capsys.readouterr()
    image = scenes / "images" / "test" / "000000.jpg"
    options = ["--checkpoint", str(tmp_path / "run" / "checkpoint.safetensors"), "--output", str(tmp_path)]
    assert predict.main([str(image), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    probabilities = [float(line.split()[0]) for line in lines[1:4]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert (tmp_path / "000000-labels.png").stat().st_size > 5000
    assert predict.main([str(tmp_path / "none.jpg"), *options]) == 1
    assert "none.jpg" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_coco_sample_trains_a_step(shared: Path, tmp_path: Path, capsys) -> None:
    """50 + 50 real images with the official annotations, through the command line."""
    command = f"--data coco2017 --data-dir {shared / 'tiny_coco'} --backbone mobilenet_v2 --epochs 1"
    weights = (
        f"--weights {shared / 'weights' / 'mobilenet_v2_imagenet.pth'} --image-size 96 --cache-dir {tmp_path}"
    )
    assert train.main([*command.split(), *weights.split(), "--output", str(tmp_path / "run")]) == 0
    assert "80 labels" in capsys.readouterr().out
