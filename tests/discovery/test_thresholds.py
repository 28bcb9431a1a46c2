"""No two thresholds of the search for laws share a name and differ in value, and each says what it is."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "kan" / "discovery"


def constants(source: str) -> Iterator[tuple[str, str, bool]]:
    """Name and value of every constant at the top of a module, and whether a sentence follows it."""
    body = ast.parse(source).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        explained = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) and isinstance(following.value.value, str)
        for target in targets:
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple):
                values = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
                pairs = list(zip(target.elts, values, strict=True))
            for name, one in pairs:
                if isinstance(name, ast.Name) and name.id.isupper():
                    yield name.id, ast.unparse(one), explained


def sources() -> dict[str, str]:
    return {str(path.relative_to(FOLDER)): path.read_text() for path in sorted(FOLDER.rglob("*.py"))}


def shared(files: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    """The names with several values, each with the files and values."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for file, source in files.items():
        for name, value, _ in constants(source):
            found[name].append((file, value))
    return {name: several for name, several in found.items() if len({value for _, value in several}) > 1}


def test_no_name_of_a_threshold_has_two_values() -> None:
    assert shared(sources()) == {}


@pytest.mark.parametrize("folder", ["laws", "data", "reduction"])
def test_every_threshold_has_a_sentence(folder: str) -> None:
    files = {file: source for file, source in sources().items() if file.startswith(folder)}
    assert [(file, name) for file, source in files.items() for name, _, said in constants(source) if not said] == []


def test_the_rule_is_one_that_can_be_broken() -> None:
    second = "FAR: float = 0.5\n'''A sentence.'''\nA = 1\nB = 3"
    files = {"one.py": "FAR = 0.2\nA, B = 1, 2", "two.py": second, "three.py": "far = 3\nA = 1"}
    assert set(shared(files)) == {"FAR", "B"}
    assert [said for name, _, said in constants(files["two.py"]) if name == "FAR"] == [True]
    assert [said for name, _, said in constants(files["one.py"]) if name == "FAR"] == [False]
