"""The self-check tells a sound environment from broken ones, and always says what mends them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from helpers.commands import check as environment
from helpers.commands import check as versions
from helpers.commands.check import Item

Usage = namedtuple("Usage", "total used free")


# ---------------------------------------------------------------- versions


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=4),
    st.sampled_from(["", "+cu132", "rc1", ".dev3", ".0"]),
)
def test_release_orders_versions_as_packaging_does(numbers, tail):
    from packaging.version import Version

    text = ".".join(map(str, numbers)) + tail
    expected = list(Version(text).release)
    while expected and expected[-1] == 0:
        expected.pop()
    assert versions.release(text) == tuple(expected)


def test_release_compares_numbers_not_letters():
    assert versions.release("2.9.1") < versions.release("2.11") < versions.release("2.15.0+cpu")
    assert versions.release("2.15") == versions.release("2.15.0")


def test_requirement_reads_what_torchvision_asks_for():
    wanted = versions.requirement("torchvision", "torch")
    assert wanted is not None and versions.fits(torch.__version__, wanted)
    assert versions.requirement("torchvision", "no-such-package") is None


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("torch==2.15.0", "==2.15.0"),
        ("torch (==2.15.0)", "==2.15.0"),
        ('torch>=2,<3 ; python_version > "3.8"', ">=2,<3"),
        ("torch_scatter>=1", None),
        ('torch>=2 ; extra == "all"', None),
        ("torch", None),
    ],
)
def test_requirement_understands_the_ways_of_writing_it(monkeypatch, line, wanted):
    monkeypatch.setattr(versions.metadata, "requires", lambda _: [line])
    assert versions.requirement("anything", "torch") == wanted


def test_declared_reads_bounds_and_pins(repository):
    bounds, pins, lowest = versions.declared(repository)
    assert bounds["torch"] == "2.11" and bounds["torchvision"] == "0.26" and lowest == "3.11"
    assert all(pins.values()), f"not pinned: {[name for name, pin in pins.items() if not pin]}"
    assert len(pins["numpy"]) > 1, "numpy's pin depends on Python's version"


# ---------------------------------------------------------------- items


def test_python_too_old_fails(monkeypatch):
    monkeypatch.setattr(environment.platform, "python_version", lambda: "3.10.14")
    item = environment.check_python("3.11")
    assert item.status == "FAIL" and "3.11 or newer" in item.mend
    monkeypatch.setattr(environment.platform, "python_version", lambda: "3.14.0")
    assert environment.check_python("3.11").status == "OK"


@pytest.mark.parametrize(
    ("found", "status", "text"),
    [
        (None, "FAIL", "not installed"),
        ("2.9.1", "FAIL", "2.9.1 is older than 2.11"),
        ("2.15.0+cpu", "OK", "2.15.0+cpu"),
        ("2.11.0", "OK", "2.11.0 (the course was tested with 2.15.0)"),
        ("3.0", "OK", "3.0 (the course was tested with 2.15.0)"),
    ],
)
def test_package_against_bound_and_pin(monkeypatch, found, status, text):
    monkeypatch.setattr(environment, "installed", lambda _: found)
    item = environment.check_package("torch", "2.11", {"2.15.0"})
    assert (item.status, item.text) == (status, text)


def test_damaged_record_of_a_package_counts_as_absent(monkeypatch):
    monkeypatch.setattr(versions.metadata, "version", lambda _: None)
    assert versions.installed("torch") is None


def test_a_torch_that_torchvision_was_not_built_for_fails(monkeypatch):
    monkeypatch.setattr(environment, "installed", {"torch": "2.15.0+cpu", "torchvision": "0.26.0"}.get)
    monkeypatch.setattr(environment, "requirement", lambda *_: "==2.11.0")
    item = environment.check_pair("torchvision fits", "torchvision", "torch")
    assert item.status == "FAIL" and "needs torch ==2.11.0" in item.text
    monkeypatch.setattr(environment, "requirement", lambda *_: "==2.15.0")
    assert environment.check_pair("torchvision fits", "torchvision", "torch").status == "OK"


def test_a_pair_with_one_missing_names_it(monkeypatch):
    monkeypatch.setattr(environment, "installed", {"ipywidgets": "8.1.9"}.get)
    assert environment.check_widgets().text == "jupyterlab-widgets is not installed"


def test_widgets_of_another_major_version_fail(monkeypatch):
    monkeypatch.setattr(environment, "installed", {"ipywidgets": "8.1.9", "jupyterlab-widgets": "1.1.11"}.get)
    monkeypatch.setattr(environment, "requirement", lambda *_: "~=3.0.15")
    assert environment.check_widgets().status == "FAIL"


def test_widgets_without_the_extension_of_jupyterlab_fail(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "check_pair", lambda *_: Item("OK", "widgets", "fit"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert environment.check_widgets().status == "FAIL"
    folder = tmp_path / "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager"
    folder.mkdir(parents=True)
    (folder / "package.json").write_text("{}")
    assert environment.check_widgets().status == "OK"


def test_torch_that_runs_is_ok():
    assert environment.check_torch_runs().status == "OK"


def test_torch_that_cannot_be_imported_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    item = environment.check_torch_runs()
    assert item.status == "FAIL" and "Error" in item.text and item.mend
    assert environment.check_gpu().status == "INFO"


def test_torchvision_without_its_operators_fails_without_a_path_of_this_machine(monkeypatch, repository):
    def broken(*_):
        raise RuntimeError(f"operator torchvision::nms does not exist in {repository}/x.so\nmore")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    item = environment.check_torch_runs()
    assert item.status == "FAIL" and "torchvision::nms does not exist" in item.text
    assert str(repository) not in item.text and "\n" not in item.text


def test_torchvision_that_computes_something_else_fails(monkeypatch):
    monkeypatch.setattr(torchvision.ops, "nms", lambda *_: torch.tensor([0, 1, 2]))
    assert environment.check_torch_runs().status == "FAIL"


def test_gpu_is_named_with_its_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    device = SimpleNamespace(name="NVIDIA T4", total_memory=15 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    assert str(environment.check_gpu()).endswith("NVIDIA T4, 15 GiB; NVIDIA T4, 15 GiB")


@pytest.mark.parametrize(
    ("tool", "text"), [(None, "none: everything runs on the CPU"), ("x", "cannot use the NVIDIA")]
)
def test_no_gpu_is_fine(monkeypatch, tool, text):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(environment.shutil, "which", lambda _: tool)
    item = environment.check_gpu()
    assert item.status == "INFO" and text in item.text


def test_full_disk_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**8))
    item = environment.check_disk(tmp_path)
    assert item.status == "FAIL" and item.text == "0.1 GiB free" and "free at least" in item.mend
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: Usage(10**12, 0, 10**12))
    assert environment.check_disk(tmp_path).status == "OK"


def test_scenes_are_optional_until_drawn(tmp_path):
    assert environment.check_scenes(tmp_path).status == "INFO"
    folder = tmp_path / "scenes" / "annotations"
    folder.mkdir(parents=True)
    for split in ("train", "val"):
        (folder / f"instances_{split}.json").write_text("{}")
    assert environment.check_scenes(tmp_path).status == "INFO", "half-written scenes are not there"
    (folder / "instances_test.json").write_text("{}")
    assert environment.check_scenes(tmp_path).text == "drawn: test, train, val"


def test_shipped_weights_are_checked_by_their_content(tmp_path):
    assert [item.status for item in environment.check_weights(tmp_path)] == ["FAIL"]
    content = b"weights"
    checksums = {"a.safetensors": hashlib.sha256(content).hexdigest(), "b.safetensors": "0" * 64}
    (tmp_path / "checksums.json").write_text(json.dumps(checksums))
    (tmp_path / "a.safetensors").write_bytes(content)
    good, missing = environment.check_weights(tmp_path)
    assert good.status == "OK" and missing.status == "FAIL" and "missing" in missing.text
    assert missing.mend == "git checkout -- data/b.safetensors"
    (tmp_path / "a.safetensors").write_bytes(content[:-1])
    assert "damaged" in environment.check_weights(tmp_path)[0].text
    (tmp_path / "checksums.json").write_text("[1, 2")
    assert [item.status for item in environment.check_weights(tmp_path)] == ["FAIL"]


def test_helpers_of_another_folder_are_not_these(tmp_path):
    """A notebook that silently imports an old copy of the course is worse than one that fails."""
    assert environment.check_helpers(tmp_path).status == "FAIL"


# ---------------------------------------------------------------- the report


def test_the_whole_check_gives_every_fail_a_mend_and_no_path(repository):
    items = environment.check()
    names = [item.name for item in items]
    expected = {
        "Python",
        "torch",
        "torchvision fits",
        "torch runs",
        "GPU",
        "widgets",
        "helpers",
        "disk",
        "scenes",
    }
    assert expected | {"shipped weights"} <= set(names)
    for item in items:
        assert item.status in {"OK", "FAIL", "INFO"}
        assert item.mend or item.status != "FAIL"
        assert str(repository) not in str(item) and sys.prefix not in str(item)


def test_a_check_that_crashes_becomes_a_fail(monkeypatch):
    def crash(*_):
        raise ZeroDivisionError("what")

    monkeypatch.setattr(environment, "check_disk", crash)
    disk = next(item for item in environment.check() if item.name == "disk")
    assert disk.status == "FAIL" and "ZeroDivisionError: what" in disk.text


def test_without_the_course_files_it_says_so(tmp_path):
    items = environment.check(tmp_path)
    assert items[-1].name == "course files" and items[-1].status == "FAIL"


def test_report_prints_a_line_an_item_and_says_whether_all_is_well(capsys):
    good, bad = Item("OK", "torch", "2.15.0"), Item("FAIL", "disk", "0.1 GiB free", "free at least 1 GiB")
    assert environment.report([good, Item("INFO", "GPU", "none")]) is True
    assert capsys.readouterr().out.splitlines() == [
        "OK    torch              2.15.0",
        "INFO  GPU                none",
        "",
        "Ready.",
    ]
    assert environment.report([good, bad]) is False
    assert capsys.readouterr().out.splitlines()[1:] == [
        "FAIL  disk               0.1 GiB free",
        "                         -> free at least 1 GiB",
        "",
        "Not ready: disk. The arrows above say what mends it.",
    ]


@pytest.mark.parametrize(("status", "code"), [("OK", 0), ("INFO", 0), ("FAIL", 1)])
def test_exit_code(monkeypatch, status, code):
    monkeypatch.setattr(environment, "check", lambda: [Item(status, "one", "text", "mend")])
    assert environment.main() == code


def test_it_runs_in_an_environment_without_any_package(repository: Path):
    """-I -S: no site-packages at all, as before the set-up."""
    code = f"import sys; sys.path.insert(0, {str(repository)!r}); from helpers.commands.check import main; sys.exit(main())"
    run = [sys.executable, "-I", "-S", "-c", code]
    answer = subprocess.run(run, capture_output=True, text=True, timeout=60, cwd=repository)
    assert answer.returncode == 1 and not answer.stderr
    assert "FAIL  torch              not installed" in answer.stdout
    assert "OK    Python" in answer.stdout and "Not ready: " in answer.stdout
