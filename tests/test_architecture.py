"""Imports inside the package go down only and never in a circle, and no two paths differ in case alone.

The rooms and their order are described in docs/architecture.md.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. Rooms that share a line are siblings and do not import each other.
LEVELS = [
    ["modes"],
    ["devices"],
    ["_version", "errors", "formula_text", "output", "pickling", "solvers"],
    ["kernels"],
    ["bases", "symbolic", "datasets", "older_names"],
    ["layers", "versions"],
    ["network", "drop_in"],
    ["analysis"],
    ["training", "surgery", "checkpoint", "plotting"],
    ["discovery"],
    ["model"],
    ["estimators", "export"],
    ["pykan's paths"],
    ["the front door"],
]
LEVEL_OF_ROOM = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

PYKAN_PATHS = {
    *["MultKAN", "KANLayer", "Symbolic_KANLayer", "LBFGS", "MLP", "spline", "utils", "compiler"],
    *["hypothesis", "feynman", "experiment"],
}


def room_of(name: str, modules: set[str]) -> str:
    """The room of a dotted name: `kan.bases.bspline` lies in `bases`, and `kan.KAN` is had from `kan/__init__.py`."""
    first = ".".join(name.split(".")[:2]).removeprefix("kan.")
    if first in PYKAN_PATHS:
        return "pykan's paths"
    return first if first in LEVEL_OF_ROOM or f"kan.{first}" in modules else "the front door"


def imported_names(module: str, is_package: bool, source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything of `kan` that a source imports, inside functions too."""
    package = module.split(".") if is_package else module.split(".")[:-1]

    def absolute(target: str | None, dots: int) -> str:
        above = package[: len(package) - dots + 1] if dots else []
        return ".".join([*above, *filter(None, [target])])

    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(node.module, node.level)
            names = [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            target = node.args[0].value
            if called in ("import_module", "__import__") and isinstance(target, str):
                bare = target.lstrip(".")
                names = [absolute(bare, len(target) - len(bare))]
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "kan")


def violations(module: str, source: str, modules: set[str], is_package: bool = False) -> list[str]:
    """One sentence for each import of `module` that goes up or sideways, or for `module` itself if it has no room."""
    home = room_of(module, modules)
    if home not in LEVEL_OF_ROOM:
        return [f"{module} lies in {home!r}, which is no room of docs/architecture.md"]
    found = []
    for line, name in imported_names(module, is_package, source):
        room = room_of(name, modules)
        if room != home and LEVEL_OF_ROOM.get(room, len(LEVELS)) >= LEVEL_OF_ROOM[home]:
            found.append(f"{module}:{line} imports {name}: {home} may not import {room}")
    return found


def package_sources() -> dict[str, Path]:
    """Module name -> path of every source file of the package."""
    sources = {}
    for path in sorted((ROOT / "kan").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return sources


def test_imports_go_down_only() -> None:
    sources = package_sources()
    modules = set(sources)
    found = []
    for module, path in sources.items():
        found += violations(module, path.read_text(encoding="utf-8"), modules, path.name == "__init__.py")
    assert not found, "\n".join(found)


# The modules of a package with one room too many.
MADE_UP = {"kan", "kan.bases", "kan.bases.bspline", "kan.layers", "kan.surgery", "kan.model", "kan.attic"}


@pytest.mark.parametrize(
    ("module", "source", "sentence"),
    [
        ("kan.bases.bspline", "from kan.layers.kan_layer import KANLayer", "bases may not import layers"),
        ("kan.bases.bspline", "from ..symbolic import library", "bases may not import symbolic"),
        ("kan.surgery.prune", "import kan.training", "surgery may not import training"),
        ("kan.surgery.prune", "def f():\n    from kan import model", "kan.surgery.prune:2 imports kan.model"),
        ("kan.surgery.prune", "from kan import KAN", "surgery may not import the front door"),
        ("kan.model", "from kan.utils import ex_round", "model may not import pykan's paths"),
        ("kan.model", "import importlib\nimportlib.import_module('kan.KANLayer')", "kan.model:2"),
        ("kan.layers.kan_layer", "from .. import network", "layers may not import network"),
        ("kan.attic", "", "'attic', which is no room"),
        ("kan.model", "import kan.attic", "model may not import attic"),
    ],
)
def test_a_violation_is_found(module: str, source: str, sentence: str) -> None:
    found = violations(module, source, MADE_UP)
    assert len(found) == 1
    assert sentence in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("kan.layers.kan_layer", "from kan.bases.bspline import BSpline\nfrom kan.symbolic import library"),
        ("kan.surgery.prune", "from ..network import Network\nfrom . import prune\nimport torch, numpy.linalg"),
        ("kan.KANLayer", "from kan.layers import KANLayer\nfrom kan.utils import ex_round"),
        ("kan", "from kan.model import KAN\nfrom kan._version import __version__\nfrom .utils import ex_round"),
    ],
)
def test_imports_that_go_down_are_allowed(module: str, source: str) -> None:
    assert violations(module, source, MADE_UP, is_package=module == "kan") == []


def imported_modules(sources: Mapping[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """The modules that each module imports, for modules given by their source and whether they are packages.

    What is imported from a module counts as that module, and no package counts for being on the way to one of its modules.
    """
    found: dict[str, set[str]] = {}
    for module, (source, is_package) in sources.items():
        found[module] = set()
        for _, name in imported_names(module, is_package, source):
            while name and name not in sources:
                name = name.rpartition(".")[0]
            found[module].update([name] if name else [])
    return found


def circles(imports: Mapping[str, set[str]]) -> list[str]:
    """A shortest circle through every import that is part of one, each spelled once, from the first of its names on."""
    found = set()
    for start in imports:
        paths, waiting = {start: [start]}, [start]
        for module in waiting:
            for target in sorted(imports[module]):
                if target == start:
                    circle = paths[module]
                    first = circle.index(min(circle))
                    found.add(" -> ".join([*circle[first:], *circle[:first], circle[first]]))
                elif target not in paths:
                    paths[target] = [*paths[module], target]
                    waiting.append(target)
    return sorted(found)


def test_no_files_import_each_other_in_a_circle() -> None:
    sources = {module: (path.read_text(encoding="utf-8"), path.name == "__init__.py") for module, path in package_sources().items()}
    found = circles(imported_modules(sources))
    assert not found, "these imports form a circle:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"kan.a": "from kan.b import f", "kan.b": "import kan.c", "kan.c": ""}, []),
        ({"kan.a": "from kan.b import f", "kan.b": "from kan import a"}, ["kan.a -> kan.b -> kan.a"]),
        ({"kan.b": "from .c import f", "kan.a": "from . import b", "kan.c": "import kan.a"}, ["kan.a -> kan.b -> kan.c -> kan.a"]),
        ({"kan.a": "if TYPE_CHECKING:\n    from kan.b import F", "kan.b": "import kan.a"}, ["kan.a -> kan.b -> kan.a"]),
        ({"kan.a": "def f():\n    import kan.b", "kan.b": "import_module('kan.a')"}, ["kan.a -> kan.b -> kan.a"]),
        ({"kan.a": "from kan.a import f"}, ["kan.a -> kan.a"]),
        # A package that offers what is in its files, one of which takes something from the package and not from the file that has it.
        ({"kan": "from kan.a import f", "kan.a": "from kan import g"}, ["kan -> kan.a -> kan"]),
        ({"kan": "from kan.a import f", "kan.a": "from kan.b import g", "kan.b": ""}, []),
        # Two circles of which each is spelled.
        (
            {"kan.a": "import kan.b, kan.c", "kan.b": "import kan.a", "kan.c": "import kan.b"},
            ["kan.a -> kan.b -> kan.a", "kan.a -> kan.c -> kan.b -> kan.a"],
        ),
    ],
)
def test_circles_are_found_and_spelled(sources: dict[str, str], expected: list[str]) -> None:
    assert circles(imported_modules({module: (source, module == "kan") for module, source in sources.items()})) == expected


def case_twins(paths: list[str]) -> list[str]:
    """The paths that are the same as another one on a file system that ignores case."""
    count = Counter(path.lower() for path in paths)
    return [path for path in paths if count[path.lower()] > 1]


def test_no_two_paths_differ_in_case_only() -> None:
    folders = ["kan", "tests", "benchmarks", "tutorials", "docs", "scripts"]
    below = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    assert case_twins([str(path.relative_to(ROOT)) for path in [*below, *ROOT.iterdir()]]) == []
    assert case_twins(["kan/MLP.py", "kan/mlp.py", "kan/model.py"]) == ["kan/MLP.py", "kan/mlp.py"]


@pytest.mark.parametrize("module", sorted(package_sources()))
def test_no_program_is_made_of_strings_and_no_state_is_global(module: str) -> None:
    # pykan's defects 44, 46 and 49. One exception: what `kan` looks up late becomes an attribute of it.
    for node in ast.walk(ast.parse(package_sources()[module].read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Global), f"{module}:{node.lineno} has a global variable"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            allowed = {"globals"} if module == "kan" else set()
            assert node.func.id not in {"exec", "eval", "compile", "globals"} - allowed, f"{module}:{node.lineno} calls {node.func.id}"
