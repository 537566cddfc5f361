"""Files are whole or untouched."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.data.files import load_state, read_json, replacing, save_state, write_json


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "weights.safetensors") as temporary:
            save_file({"x": torch.zeros(1)}, temporary)
            temporary.chmod(0o600)
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_not_a_number_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_state_round_trip(tmp_path: Path) -> None:
    state = {"x": torch.arange(3), "n": 2, "name": "a", "list": [1.5, None], "deep": {"y": torch.zeros(2)}}
    save_state(tmp_path / "s.pt", state)
    loaded = load_state(tmp_path / "s.pt")
    assert torch.equal(loaded["x"], state["x"])
    assert (loaded["n"], loaded["name"], loaded["list"]) == (2, "a", [1.5, None])


class Harmful:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self):
        return (Path("harmed").touch, ())


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for save in (lambda p: torch.save({"a": Harmful()}, p), lambda p: p.write_bytes(pickle.dumps(Harmful()))):
        save(tmp_path / "bad.pt")
        with pytest.raises(ValueError, match="cannot be read as saved tensors"):
            load_state(tmp_path / "bad.pt")
    assert not (tmp_path / "harmed").exists()


def test_cut_off_and_missing_state(tmp_path: Path) -> None:
    save_state(tmp_path / "s.pt", {"x": torch.zeros(1000)})
    data = (tmp_path / "s.pt").read_bytes()
    (tmp_path / "s.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cut off"):
        load_state(tmp_path / "s.pt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_state(tmp_path / "none.pt")
