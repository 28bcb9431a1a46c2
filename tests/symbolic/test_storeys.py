"""The storeys of kan/symbolic: imports between its files go down, and take public names only."""

import ast
from pathlib import Path

import kan.symbolic

ROOM = Path(kan.symbolic.__file__).parent

# From the ground up, as the docstring of the room says. Files of one storey may import each other, though never in a circle.
STOREYS = [
    {"symmetries", "function", "singular", "families", "library", "user_function", "slopes", "evaluation", "augmentation", "latex"},
    {"starts", "linear_parameters"},
    {"search", "affine_fit", "family_fit"},
]
STOREY_OF_FILE = {file: storey for storey, files in enumerate(STOREYS) for file in files}


def imports_of(source: str) -> list[tuple[str, str]]:
    """File and name of everything that a source imports from the room."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            origin = (node.module or "").removeprefix("kan.symbolic").lstrip(".") if node.level == 1 or node.module else ""
            if node.level == 1 or (node.module or "").startswith("kan.symbolic"):
                found += [(origin, alias.name) for alias in node.names]
    return found


def violations(file: str, source: str) -> list[str]:
    found = []
    for origin, name in imports_of(source):
        if STOREY_OF_FILE.get(origin, len(STOREYS)) > STOREY_OF_FILE[file]:
            found.append(f"{file} imports {name} from {origin or 'the package itself'}, which is above it")
        if name.startswith("_"):
            found.append(f"{file} imports the private name {name} from {origin}")
    return found


def test_every_file_has_a_storey_and_imports_go_down() -> None:
    sources = {path.stem: path.read_text(encoding="utf-8") for path in ROOM.glob("*.py") if path.stem != "__init__"}
    assert set(sources) == set(STOREY_OF_FILE)
    found = [sentence for file, source in sources.items() for sentence in violations(file, source)]
    assert not found, "\n".join(found)


def test_violations_are_found() -> None:
    for source in ("from .search import search", "from kan.symbolic.affine_fit import fit_affine", "from kan.symbolic import lookup"):
        assert len(violations("library", f"def f():\n    {source}")) == 1
    assert violations("search", "from .starts import _step") == ["search imports the private name _step from starts"]
    assert violations("search", "from .starts import gridded\nfrom .library import lookup\nfrom kan.errors import some_of") == []
