"""`python -m helpers evaluate`, end to end on a few scenes, and its figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.commands import evaluate, train
from helpers.plots import overview
from helpers.scenes.write import write_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, and three systems trained on them for an epoch."""
    folder = tmp_path_factory.mktemp("judged")
    write_scenes(folder / "scenes", train=48, val=16, test=16, progress=False)
    for name, system in (("bce", "bce"), ("ria", "ria --hidden 16"), ("att", "attention --hidden 16")):
        options = f"{system} --weights none --epochs 1 --batch-size 16 --device cpu"
        places = ["--data-dir", folder / "scenes", "--cache-dir", folder / "cache", "--output", folder / name]
        assert train.main([*options.split(), *map(str, places)]) == 0
    return folder


def judge(folder: Path, *more: str, names: tuple[str, ...] = ("bce", "ria", "att")) -> int:
    files = [str(folder / name / "checkpoint.safetensors") for name in names]
    places = ["--data-dir", folder / "scenes", "--cache-dir", folder / "cache", "--output", folder / "out"]
    options = ["--data", "scenes", "--device", "cpu", "--replicates", "30"]
    return evaluate.main(["--checkpoint", *files, *options, *map(str, places), *more])


def test_one_command_gives_the_whole_table(folder: Path, capsys) -> None:
    assert judge(folder) == 0
    out = capsys.readouterr().out
    assert "exact_match" in out and "ria less bce" in out
    result = json.loads((folder / "out" / "evaluation.json").read_text())
    assert [one["name"] for one in result["systems"]] == ["bce", "ria", "att"]
    for name, one in zip(("bce", "ria", "att"), result["systems"], strict=True):
        trained = json.loads((folder / name / "metrics.json").read_text())["test"]
        for key in trained.keys() & one["metrics"].keys():
            assert one["metrics"][key]["value"] == pytest.approx(trained[key], abs=1e-6), (
                "the same as in training"
            )
    assert (folder / "out" / "evaluation.png").stat().st_size > 20_000
    assert len(overview(result).axes) == 4


def test_options_reach_the_systems(folder: Path, capsys) -> None:
    def metrics() -> list[dict[str, float]]:
        result = json.loads((folder / "out" / "evaluation.json").read_text())
        return [{key: x["value"] for key, x in one["metrics"].items()} for one in result["systems"]]

    assert judge(folder, "--split", "val", names=("bce", "ria")) == 0
    plain = metrics()
    trained = json.loads((folder / "ria" / "metrics.json").read_text())["val"]
    assert plain[1]["OF1"] == pytest.approx(trained["OF1"], abs=1e-6)
    assert (
        judge(folder, "--split", "val", "--thresholds", "top3", "--name", "a", "b", names=("bce", "ria")) == 0
    )
    assert metrics()[1] == plain[1]
    assert metrics()[0] != plain[0]
    assert metrics()[0]["mAP"] == plain[0]["mAP"]
    assert judge(folder, "--beam-width", "3", names=("ria",)) == 0


def test_names_that_do_not_fit_are_refused(folder: Path, capsys) -> None:
    assert judge(folder, "--name", "one") == 1
    assert "give each its own" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--replicates 0", "--beam-width 0", "--level 1", "--thresholds best"])
def test_numbers_out_of_range_are_refused(folder: Path, capsys, words: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        judge(folder, *words.split())
    assert f"argument {words.split()[0]}: {words.split()[1]} must be" in capsys.readouterr().err


def test_one_label_odd_names_and_an_output_that_cannot_be_written(tmp_path: Path, capsys) -> None:
    from PIL import Image

    rows = ["file,labels,split"]
    for i in range(8):
        Image.new("RGB", (32, 32), (30 * i, 0, 0)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'$ca$h_^' if i % 2 else ''},{('train', 'val', 'test')[i // 2 % 3]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    places = ["--data", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    small = ["ria", "--backbone", "scenes_cnn", "--weights", "none", "--epochs", "1", "--hidden", "4"]
    assert train.main([*small, *places, "--output", str(tmp_path / "$run_^$")]) == 0
    (tmp_path / "file").touch()
    judged = ["--checkpoint", str(tmp_path / "$run_^$"), *places, "--replicates", "5"]
    assert evaluate.main([*judged, "--output", str(tmp_path / "file")]) == 1
    assert "file is a file, not a folder" in capsys.readouterr().err
    assert evaluate.main([*judged, "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "evaluation.png").is_file()


def test_who_errs_is_said_only_where_it_is_known() -> None:
    found = {"right": 0.25, "images": 8, "search_error": 0.5, "model_error": 0.25}
    assert "no search can err" in evaluate._who_errs(found)
    decoder = found | {"truth_log_probability": -3.0}
    assert "the search errs in 50 %" in evaluate._who_errs(decoder)
    assert "learned too little" in evaluate._who_errs(decoder | {"right": 0.0, "search_error": 1.0})


def test_other_labels_are_refused(folder: Path, tmp_path: Path, capsys) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.png")
    rows = ["image,labels", "cat.png,cat", "dog.png,dog"]
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    checkpoint = str(folder / "ria" / "checkpoint.safetensors")
    assert evaluate.main(["--checkpoint", checkpoint, "--data", str(tmp_path)]) == 1
    assert "error" in capsys.readouterr().err
