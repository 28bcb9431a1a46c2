"""The files for a public forge are valid, and agree with what `pyproject.toml` promises."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import kan

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
YAML = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"])
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def loaded(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def pins(name: str) -> dict[str, Version]:
    """Package to version of a file of constraints, markers left out."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {one.name: Version(str(one.specifier).removeprefix("==")) for one in requirements}


def bounds() -> dict[str, Version]:
    """Package to lower bound, of the library and of its extras."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    found: dict[str, Version] = {}
    for requirement in map(Requirement, lines):
        text = str(requirement.specifier)
        if text:
            assert re.fullmatch(r">=[\d.]+", text), requirement
            found[requirement.name] = Version(text.removeprefix(">="))
    return found


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_every_file_is_valid_yaml(path: Path) -> None:
    assert loaded(path)


def test_the_lowest_versions_that_are_tested_are_the_ones_that_are_promised() -> None:
    lowest, promised = pins("constraints-lowest.txt"), bounds()
    assert {name: lowest.get(name) for name in promised} == promised


def test_the_versions_that_are_tested_together_are_promised() -> None:
    newest = pins("constraints.txt")
    assert [name for name, bound in bounds().items() if newest[name] < bound] == []


def test_the_matrix_is_what_the_project_promises() -> None:
    matrix = loaded(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    pythons = [Version(text) for text in matrix["python"]]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    assert [(one.major, one.minor) for one in pythons] == [(3, minor) for minor in range(10, 15)]
    assert matrix["versions"] == ["lowest", "newest"]
    constraints = {entry["versions"]: entry["constraints"] for entry in matrix["include"]}
    assert constraints == {"lowest": "--constraint constraints-lowest.txt", "newest": ""}


def test_older_releases_of_torch_are_older_and_may_fail() -> None:
    job = loaded(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["older-torch"]
    assert job["continue-on-error"] is True
    assert all(Version(text) < bounds()["torch"] for text in job["strategy"]["matrix"]["torch"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_what_is_there(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            for target in re.findall(r"^make ([\w-]+)", step.get("run", ""), re.MULTILINE):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
            for file in re.findall(r"constraint (\S+\.txt)", step.get("run", "")):
                assert (ROOT / file).is_file()


def test_the_hooks_call_what_the_lint_target_calls() -> None:
    local = loaded(ROOT / ".pre-commit-config.yaml")["repos"][0]
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    for hook in local["hooks"]:
        assert hook["entry"].removeprefix(".venv/bin/python ") in recipe


def test_the_citation_is_of_this_version_and_of_these_authors() -> None:
    citation = loaded(ROOT / "CITATION.cff")
    assert citation["version"] == kan.__version__ and citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"] and citation["title"] == PROJECT["name"]
    assert citation.get("repository-code") == PROJECT["urls"].get("Source"), "CONTRIBUTING.md says where the address is set"
