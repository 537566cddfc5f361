"""What is wrong with files, folders and devices is said before anything is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.commands.train import configure
from helpers.training.config import check_csv, pick_device, scaled


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ria --weights nofile.pth", "--weights nofile.pth: there is no such file"),
        ("ria --glove noglove.txt", "--glove noglove.txt: there is no such file"),
        ("ria --glove .", "--glove .: is a folder"),
        ("lcnet --prior glove", "need --glove FILE"),
        ("lcnet --node-features vectors", "need --glove FILE"),
        ("ria --select mAPP", "--select mAPP: there is no such metric; there are CP"),
        ("ria --select BLEU-4", "CF1"),
        ("captioner --select CF1", "BLEU-4"),
        ("ria --select mAP", "needs a score for every label"),
    ],
)
def test_a_run_that_cannot_work_is_refused(tmp_path: Path, words: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        configure([*words.split(), "--output", str(tmp_path / "run")]).check()


def test_outputs_that_cannot_be_written_or_are_taken_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match="file is a file, not a folder"):
            configure(["ria", "--output", str(output)]).check()
    for name, message in (
        ("last.pt", "an interrupted run.*--resume"),
        ("checkpoint.safetensors", "a finished run"),
    ):
        (tmp_path / name).write_text("")
        with pytest.raises(ValueError, match=f"holds {message}.* another --output"):
            configure(["ria", "--output", str(tmp_path)]).check()
    configure(["ria", "--output", str(tmp_path), "--resume"]).check()


@pytest.mark.parametrize(
    ("images", "words", "found"),
    [
        (70, "", (8, 45)),  # 9 steps an epoch
        (210, "", (8, 20)),
        (700, "", (32, 20)),
        (2800, "", (64, 20)),
        (1, "", (8, 400)),
        (70, "--epochs 2 --batch-size 64", (64, 2)),
        (70, "--batch-size 64", (64, 200)),
    ],
)
def test_few_images_get_small_batches_and_enough_steps(images: int, words: str, found: tuple) -> None:
    config = scaled(configure(["ria", "--output", "unused", *words.split()]), images)
    assert (config.run.batch_size, config.fit.epochs) == found


def test_a_wrong_csv_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("beach.jpg,sea;sky\n")
    script = (
        "import sys; from helpers.__main__ import main; status = main(sys.argv[1:]); "
        "sys.exit(10 * ('torch' in sys.modules) + status)"
    )
    words = ["train", "ria", "--data", str(tmp_path), "--output", str(tmp_path / "run")]
    answer = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert answer.returncode == 1 and "expected `file,labels`" in answer.stderr
    for header in ("file,labels", '"image";"label"', "filename\tlabels\tsplit"):
        (tmp_path / "labels.csv").write_text(header, encoding="utf-8-sig")
        check_csv(str(tmp_path))


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu" and pick_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("foo", "meta"):
        with pytest.raises(ValueError, match=f"--device {name}: there is no such device"):
            pick_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="use --device cpu"):
            pick_device("cuda")


def test_the_configuration_is_plain() -> None:
    config = configure(["lcnet", "--hidden", "8", "--output", "a/b", "--lr", "0.5"])
    plain = config.plain()
    assert plain["system"] == "lcnet" and plain["options"]["hidden_size"] == 8
    assert (plain["fit"]["learning_rate"], plain["run"]["output"]) == (0.5, "a/b")
