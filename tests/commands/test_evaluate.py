"""`python -m helpers evaluate`, end to end on a few scenes, its figure and its browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lessons.nb07 import TABLES, as_html, results_browser

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

    view = results_browser(result)
    system, table = view.children[0].children
    sort, descending = view.children[1].children
    for key in TABLES.values():
        table.label = key
    table.value, system.value, sort.value, descending.value = "by_label", "ria", "support", True
    supports = [row["support"] for row in result["systems"][1]["by_label"]]
    assert f">{max(supports)}<" in view.children[2].value.split("</tr>")[1]
    descending.value = False
    assert f">{min(supports)}<" in view.children[2].value.split("</tr>")[1]


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


def test_other_labels_are_refused(folder: Path, tmp_path: Path, capsys) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.png")
    rows = ["image,labels", "cat.png,cat", "dog.png,dog"]
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    checkpoint = str(folder / "ria" / "checkpoint.safetensors")
    assert evaluate.main(["--checkpoint", checkpoint, "--data", str(tmp_path)]) == 1
    assert "error" in capsys.readouterr().err


def test_a_table_is_safe_and_says_what_it_leaves_out() -> None:
    rows = [{"label": f"<b>{i}", "value": None if i == 0 else i / 10} for i in range(5)]
    text = as_html(rows, "value", most=3)
    assert "<b>" not in text and "&lt;b&gt;4" in text and "2 more rows" in text
    assert text.index("&lt;b&gt;4") < text.index("&lt;b&gt;3")
