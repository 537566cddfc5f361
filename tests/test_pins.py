"""pyproject.toml, requirements.txt, environment.yml and the set-up agree; no network needed."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PLATFORMS = {
    "Linux": {
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
    },
    "macOS": {
        "sys_platform": "darwin",
        "os_name": "posix",
        "platform_machine": "arm64",
        "platform_system": "Darwin",
    },
    "Windows": {
        "sys_platform": "win32",
        "os_name": "nt",
        "platform_machine": "AMD64",
        "platform_system": "Windows",
    },
}
ADDRESS = re.compile(
    r"://|^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b|\s@\s|\b[\w-]+\.(com|org|net|io)\b",
    re.MULTILINE,
)


def project(text: str) -> dict:
    return tomllib.loads(text)["project"]


def direct(text: str) -> list[Requirement]:
    """The direct dependencies of pyproject.toml, those of the tests included (other extras are not pinned)."""
    declared = project(text)
    return [
        Requirement(line) for line in declared["dependencies"] + declared["optional-dependencies"]["test"]
    ]


def pins(text: str) -> list[Requirement]:
    """All pins of requirements.txt."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def problems(pyproject: str, requirements: str) -> list[str]:
    """What keeps the pins from being a compilation of the declared dependencies."""
    found, pinned = [], pins(requirements)
    for pin in pinned:
        if [clause.operator for clause in pin.specifier] != ["=="] or pin.url:
            found.append(f"{pin} is not pinned to one version")
    for wanted in direct(pyproject):
        if [clause.operator for clause in wanted.specifier] != [">="]:
            found.append(f"{wanted}: pyproject.toml declares lower bounds, the pins are in requirements.txt")
        same = [pin for pin in pinned if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
        for pin in same:
            version = next(iter(pin.specifier)).version
            if version not in wanted.specifier:
                found.append(f"{pin} is outside {wanted}")
        for system, variables in PLATFORMS.items():
            for minor in (11, 12, 13, 14):
                python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.9"}
                count = sum(pin.marker is None or pin.marker.evaluate(variables | python) for pin in same)
                if count != 1:
                    found.append(f"{wanted.name} has {count} pins for Python 3.{minor} on {system}")
    # uv notes who asked for a package; the project itself must have asked for the direct ones and no other.
    name = project(pyproject)["name"]
    asked, current = set(), ""
    for line in requirements.splitlines():
        if line and line[0] not in " #":
            current = canonicalize_name(Requirement(line.partition("#")[0]).name)
        elif f"{name} (pyproject.toml)" in line:
            asked.add(current)
    declared = {canonicalize_name(wanted.name) for wanted in direct(pyproject)}
    found += [f"{extra} is no longer a direct dependency: make lock" for extra in sorted(asked - declared)]
    found += [f"{missing} was not compiled: make lock" for missing in sorted(declared - asked)]
    return found


@pytest.fixture(scope="module")
def texts(repository) -> tuple[str, str]:
    return tuple(
        (repository / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "requirements.txt")
    )


def test_requirements_are_a_compilation_of_pyproject(texts):
    assert problems(*texts) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p, r: (p.replace('"scipy>=1.14"', '"scipy>=99"'), r), "is outside scipy>=99"),
        (
            lambda p, r: (p.replace('"scipy>=1.14",', '"scipy>=1.14", "polars>=1",'), r),
            "polars was not compiled",
        ),
        (
            lambda p, r: (p.replace('    "seaborn>=0.13.2",\n', ""), r),
            "seaborn is no longer a direct dependency",
        ),
        (lambda p, r: (p.replace('"tqdm>=', '"tqdm=='), r), "declares lower bounds"),
        (lambda p, r: (p, r.replace("tqdm==", "tqdm>=")), "is not pinned to one version"),
        (lambda p, r: (p, re.sub(r"tqdm==.*\n", "", r)), "tqdm has 0 pins for Python 3.12 on macOS"),
        (
            lambda p, r: (p, re.sub(r"numpy==(\S+) ; .*", r"numpy==\1", r)),
            "numpy has 2 pins for Python 3.11 on Linux",
        ),
    ],
)
def test_a_disagreement_is_found(texts, change, complaint):
    assert any(complaint in problem for problem in problems(*change(*texts)))


def test_the_range_reaches_back_to_torch_2_11(texts):
    bounds = {wanted.name: str(wanted.specifier) for wanted in direct(texts[0])}
    assert bounds["torch"] == ">=2.11" and bounds["torchvision"] == ">=0.26"


def test_pins_fit_each_other():
    """Every pinned package that is installed at its pin gets what it asks for from the other pins."""
    text = (Path(__file__).parents[1] / "requirements.txt").read_text(encoding="utf-8")
    here = {
        canonicalize_name(pin.name): pin for pin in pins(text) if pin.marker is None or pin.marker.evaluate()
    }
    compared, wrong = 0, []
    for name, pin in here.items():
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if distribution.version not in pin.specifier:
            continue
        for wanted in map(Requirement, distribution.requires or []):
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            compared += 1
            other = here.get(canonicalize_name(wanted.name))
            version = next(iter(other.specifier)).version if other else None
            if version is None or not wanted.specifier.contains(version, prereleases=True):
                wrong.append(f"{name} asks for {wanted}, pinned is {version}")
    if not compared:
        pytest.skip("no package is installed at its pin (this is the older end of the range)")
    assert not wrong


def test_conda_route_delegates_to_the_same_pins(repository):
    environment = yaml.safe_load((repository / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "cnn-rnn-annotation" and environment["channels"] == ["conda-forge"]
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}
    assert [line.partition("=")[0] for line in conda] == ["python", "pip"], (
        "conda brings no package of its own"
    )
    python = conda[0].partition("=")[2]
    required = SpecifierSet(
        project((repository / "pyproject.toml").read_text(encoding="utf-8"))["requires-python"]
    )
    assert f"{python}.0" in required


def test_set_up_knows_the_oldest_python(repository):
    import ast

    tree = ast.parse((repository / ".ci" / "setup.py").read_text(encoding="utf-8"))
    assigned = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    oldest = ast.literal_eval(assigned["OLDEST"])
    required = project((repository / "pyproject.toml").read_text(encoding="utf-8"))["requires-python"]
    assert required == ">={}.{}".format(*oldest)


@pytest.mark.parametrize("name", ["requirements.txt", "environment.yml", "pyproject.toml"])
def test_no_address_of_an_index(repository, name):
    assert not ADDRESS.search((repository / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    ["--index-url mirror", "-i https://x/simple", "torch @ file:///x", "    # pypi.org", "--find-links /opt"],
)
def test_an_address_would_be_seen(line):
    assert ADDRESS.search("numpy==2.0\n" + line)
