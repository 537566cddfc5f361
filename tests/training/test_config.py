"""What is wrong with files, folders and devices is said before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.commands.train import configure
from helpers.training.config import pick_device


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
