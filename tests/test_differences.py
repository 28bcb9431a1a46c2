"""The page of differences: every known defect of pykan has its row, and the tests that rows name are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")


def cells(section: str) -> list[list[str]]:
    """The rows of the table below a heading, without its own heading."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


DEFECTS = cells("The 64 known defects")
OTHERS = [row for section in ("Stricter on purpose", "Results", "Training", "Manners") for row in cells(section)]


@cache
def functions_of(path: str) -> frozenset[str]:
    """Names of the test functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def test_every_defect_has_one_row() -> None:
    assert [row[0] for row in DEFECTS] == [str(number) for number in range(1, 65)]
    assert all(len(row) == 4 and all(row) for row in DEFECTS)
    assert all(len(row) == 3 and all(row) for row in OTHERS)


@pytest.mark.parametrize("row", DEFECTS, ids=[row[0] for row in DEFECTS])
def test_the_tests_of_a_defect_exist(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[3])
    assert named and ", ".join(f"`{name}`" for name in named) == row[3] and len(set(named)) == len(named)
    for name in named:
        path, _, function = name.partition("::")
        assert function in functions_of(path), name


def test_the_tests_of_other_differences_exist() -> None:
    for row in OTHERS:
        for name in re.findall(r"`([^`]+)`", row[2]):
            path, _, function = name.partition("::")
            assert path.startswith("tests/") and (ROOT / path).exists(), name
            assert not function or function in functions_of(path), name


def test_each_difference_stands_once() -> None:
    told = [row[-3] for row in (*DEFECTS, *OTHERS)]
    assert len(set(told)) == len(told)
