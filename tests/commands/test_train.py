"""The command lines, end to end on a few scenes: what they leave behind, resume, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.commands import predict, train
from helpers.data.files import load_state
from helpers.scenes.write import write_scenes
from helpers.systems.registry import SYSTEMS
from helpers.training import run as experiment
from helpers.training.checkpoints import load_checkpoint
from helpers.training.fit import fit


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
        (["--weights", "nofile.pth"], "--weights nofile.pth: there is no such file"),
        (["--glove", "noglove.txt"], "--glove noglove.txt: there is no such file"),
        (["--glove", "."], "--glove .: is a folder"),
        (["--device", "foo"], "--device foo: there is no such device"),
        (["--device", "meta"], "--device meta: there is no such device"),
        (["--hidden", "0"], "--hidden 0: only bce"),
        (["--select", "BLEU-4"], "CF1"),
        (["--system", "captioner", "--select", "CF1"], "BLEU-4"),
    ],
)
def test_what_is_wrong_is_one_line(
    scenes: Path, tmp_path: Path, capsys, more: list[str], message: str
) -> None:
    assert train.main(arguments(scenes, tmp_path / "run", *more)) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert message in error.strip().splitlines()[-1] or message in error


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--hidden", "-1"), ("--label-smoothing", "1"), ("--clip-norm", "0"), ("--weight-decay", "-0.1")),
        *(("--num-workers", "-1"), ("--feature-dropout", "1"), ("--layer-dropout", "-0.5"), ("--lr", "0")),
        *(("--lr", "inf"), ("--lr", "nan"), ("--epochs", "0"), ("--batch-size", "0"), ("--ema", "1")),
        *(("--epochs", "1.5"), ("--input-dropout", "much"), ("--patience", "0")),
    ],
)
def test_a_number_out_of_range_is_refused_by_the_parser(capsys, option: str, value: str) -> None:
    with pytest.raises(SystemExit) as stop:
        train.main(["--output", "unused", option, value])
    assert stop.value.code == 2
    assert f"argument {option}: {value} must be a" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(scenes: Path, tmp_path: Path, capsys) -> None:
    assert train.main(arguments(scenes, tmp_path / "run", "--device", "cuda")) == 1
    assert "use --device cpu" in capsys.readouterr().err


def test_an_output_that_cannot_be_a_folder_is_refused_before_reading_data(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        assert train.main(["--data", "nowhere", "--output", str(output)]) == 1
        assert f"{tmp_path / 'file'} is a file, not a folder" in capsys.readouterr().err


def own_images(folder: Path, splits: str) -> Path:
    """A folder of one image a split and its CSV."""
    rows = ["file,labels,split"]
    for number, split in enumerate(splits.split()):
        Image.new("RGB", (32, 32), (80 * number, 0, 0)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'cat;dog' if number % 2 else 'cat'},{split}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("splits", "missing"), [("train val", "test"), ("train test", "val"), ("val test", "train")]
)
def test_a_missing_split_is_named_before_anything_is_encoded(tmp_path, capsys, splits, missing) -> None:
    data = own_images(tmp_path, splits)
    small = ["--backbone", "scenes_cnn", "--weights", "none", "--cache-dir", str(tmp_path / "features")]
    assert train.main(["--data", str(data), "--output", str(tmp_path / "run"), *small]) == 1
    error = capsys.readouterr().err
    assert f"no image is in {missing}" in error or f"no image is in the {missing} split" in error
    assert not (tmp_path / "features").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "more", [["--batch-size", "1"], ["--batch-size", "2", "--system", "bce", "--hidden", "4"]]
)
def test_a_batch_of_one_image_trains(tmp_path: Path, more: list[str]) -> None:
    data = own_images(tmp_path, "train train train val test")
    small = ["--backbone", "scenes_cnn", "--weights", "none", "--cache-dir", str(tmp_path), "--epochs", "1"]
    assert train.main(["--data", str(data), "--output", str(tmp_path / "run"), *small, *more]) == 0


def test_an_interrupted_run_is_not_overwritten_nor_resumed_on_other_data(
    tmp_path, monkeypatch, capsys
) -> None:
    data = own_images(tmp_path, "train train val test")
    small = ["--backbone", "scenes_cnn", "--weights", "none", "--cache-dir", str(tmp_path / "features")]
    command = [
        "--data",
        str(data),
        "--output",
        str(tmp_path / "run"),
        "--epochs",
        "2",
        "--hidden",
        "4",
        *small,
    ]
    assert train.main(command) == 0
    (tmp_path / "run" / "checkpoint.safetensors").unlink()  # as if it had been stopped
    assert train.main(command) == 1
    error = capsys.readouterr().err
    assert "holds an interrupted run" in error and "--resume" in error and "another --output" in error
    table = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(table.replace("cat;dog,train", "cat,train"))
    assert train.main([*command, "--resume"]) == 1
    assert "not those that this run began with" in capsys.readouterr().err
    (data / "labels.csv").write_text(table)
    assert train.main([*command, "--resume"]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["annotations"]  # as older runs have it
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert train.main([*command, "--resume"]) == 0


def test_an_interrupt_while_encoding_says_what_is_kept(scenes, tmp_path, monkeypatch, capsys) -> None:
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "encode_records", stop)
    assert train.main(arguments(scenes, tmp_path / "run")) == 130
    error = capsys.readouterr().err
    assert "--resume" not in error and f"kept in {scenes.parent / 'features'}" in error


def test_help_says_what_each_system_is() -> None:
    text = train.parser().format_help()
    for name in SYSTEMS:
        [line] = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert len(line) > 30


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
