"""The self-check tells a working environment from broken ones, and says what fixes each."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from packaging.version import Version

from helpers.commands import check
from helpers.commands.check import Item

Usage = namedtuple("Usage", "total used free")


def statuses(items) -> dict[str, str]:
    return {item.name: item.status for item in items}


@pytest.mark.parametrize("text", ["2.15.0+cu132", "2.9.1", "2.11", "3.0rc1", "0.0", "10.2.dev3"])
def test_release_orders_versions_as_packaging_does(text):
    expected = list(Version(text).release)
    while expected and expected[-1] == 0:
        expected.pop()
    assert check._release(text) == tuple(expected)


def test_this_environment_is_ready_and_shows_no_path_of_the_machine(repository, capsys):
    assert check.report()
    output = capsys.readouterr().out
    assert output.endswith("\nReady.\n") and str(repository) not in output and sys.prefix not in output
    assert {"Python", "torch", "torch runs", "GPU", "widgets", "disk", "scenes", "shipped weights"} <= set(
        statuses(check.check())
    )


@pytest.mark.parametrize(
    ("version", "status", "text"),
    [("2.9.1", "FAIL", "2.9.1 is older than 2.11"), ("2.15.0+cpu", "OK", "2.15.0+cpu"), ("3.0", "OK", "3.0")],
)
def test_packages_against_their_lower_bound(monkeypatch, repository, version, status, text):
    monkeypatch.setattr(check.metadata, "version", lambda _: version)
    item = next(item for item in check.check_packages(repository) if item.name == "torch")
    assert (item.status, item.text) == (status, text)


def test_an_old_python_and_a_missing_package(monkeypatch, repository):
    def absent(name):
        raise check.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(check.platform, "python_version", lambda: "3.10.14")
    monkeypatch.setattr(check.metadata, "version", absent)
    items = list(check.check_packages(repository))
    assert {item.status for item in items} == {"FAIL"} and all(item.fix for item in items)


def test_a_torchvision_for_another_torch(monkeypatch, repository):
    def broken(*_):
        raise RuntimeError(f"operator torchvision::nms does not exist in {repository}/x.so\nmore")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    item = next(item for item in check.check() if item.name == "torch runs")
    assert item.status == "FAIL" and "nms does not exist" in item.text
    assert str(repository) not in item.text and "\n" not in item.text
    monkeypatch.setattr(torchvision.ops, "nms", lambda *_: torch.tensor([0, 1, 2]))
    assert statuses(check.check_torch())["torch runs"] == "FAIL"


def test_the_gpu(monkeypatch):
    device = SimpleNamespace(name="NVIDIA T4", total_memory=15 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert list(check.check_torch())[-1].text == "NVIDIA T4, 15 GiB; NVIDIA T4, 15 GiB"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for tool, text in ((None, "none: everything runs on the CPU"), ("x", "cannot use the NVIDIA card")):
        monkeypatch.setattr(check.shutil, "which", lambda _, tool=tool: tool)
        assert list(check.check_torch())[-1].status == "INFO" and text in list(check.check_torch())[-1].text


def test_widgets_without_the_extension(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert statuses(check.check_widgets()) == {"widgets": "FAIL"}


def test_a_full_disk(monkeypatch, repository):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**8))
    item = next(iter(check.check_data(repository / "data")))
    assert item.status == "FAIL" and item.text == "0.1 GiB free" and "free at least" in item.fix


def test_shipped_weights_are_compared_by_content(tmp_path):
    sums = {"a.safetensors": hashlib.sha256(b"weights").hexdigest(), "b.safetensors": "0" * 64}
    (tmp_path / "checksums.json").write_text(json.dumps(sums))
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    *_, good, missing = check.check_data(tmp_path)
    assert good.status == "OK" and missing.fix == "git checkout -- data/b.safetensors"
    (tmp_path / "a.safetensors").write_bytes(b"weight")
    assert "damaged" in list(check.check_data(tmp_path))[-2].text


def test_missing_course_files_and_the_exit_status(monkeypatch, tmp_path, capsys):
    assert statuses(check.check(tmp_path)) | {"torch runs": "OK"} == statuses(check.check(tmp_path))
    assert {"packages", "data"} <= {item.name for item in check.check(tmp_path) if item.status == "FAIL"}
    monkeypatch.setattr(check, "check", lambda: [Item("FAIL", "disk", "0.1 GiB free", "free some")])
    assert check.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAIL  disk               0.1 GiB free",
        "                         -> free some",
        "",
        "Not ready: disk. The arrows above say what to do.",
    ]


def test_it_runs_without_any_package(repository: Path):
    """-I -S: no site-packages at all, as before the set-up."""
    code = f"import sys; sys.path.insert(0, {str(repository)!r}); from helpers.commands.check import main; sys.exit(main())"
    run = [sys.executable, "-I", "-S", "-c", code]
    answer = subprocess.run(run, capture_output=True, text=True, timeout=60, cwd=repository)
    assert answer.returncode == 1 and not answer.stderr
    assert "FAIL  torch              not installed" in answer.stdout and "Not ready: " in answer.stdout
