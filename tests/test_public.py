"""The page on public names: what it lists is there, and the documentation uses nothing else."""

import ast
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import kan
from tests.pages import python_of
from tests.test_architecture import PYKAN_PATHS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "public.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^\| `(kan\.[\w.]+)` \|", PAGE, re.MULTILINE)
OF_PYKAN = {f"kan.{name}" for name in PYKAN_PATHS}


def test_pykans_import_paths_are_all_named() -> None:
    (sentence,) = re.findall(r"^\*\*From pykan's import paths\*\*.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(kan\.\w+)`", sentence)) == OF_PYKAN


@pytest.mark.parametrize("module", sorted({*LISTED, *OF_PYKAN}))
def test_a_public_module_says_what_is_public_of_it(module: str) -> None:
    found = import_module(module)
    assert found.__all__ and all(hasattr(found, name) for name in found.__all__)


def programs() -> Iterator[tuple[str, str]]:
    """Name and text of every program that the documentation shows: pages and notebooks."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        yield page.name, python_of(page)
    for notebook in [ROOT / "hellokan.ipynb", *sorted((ROOT / "tutorials").glob("*.ipynb"))]:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        yield notebook.name, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def modules_of(program: str) -> set[str]:
    """The modules of `kan` that a program imports names of; a name that is a module itself counts as one."""
    found = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] == "kan"}


PROGRAMS = dict(programs())


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_documentation_uses_public_modules_only(name: str) -> None:
    assert modules_of(PROGRAMS[name]) <= {"kan", *LISTED, *OF_PYKAN}


def test_imports_are_read_off() -> None:
    program = "import torch, kan.utils\ndef f():\n    from kan.network.trace import Trace\nfrom kan import KAN"
    assert modules_of(program) == {"kan", "kan.utils", "kan.network.trace"}
    assert set(kan.__all__) <= set(dir(kan))
