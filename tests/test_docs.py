"""What the pages of the documentation say is so: their code runs, and they are all there."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from matplotlib import pyplot as plt

import kan
import kan.compiler
import kan.experiment
import kan.feynman
import kan.hypothesis
import kan.MLP
from kan.bases import BASES
from kan.symbolic import SYMBOLIC_LIB
from tests.pages import python_of

ROOT = Path(__file__).resolve().parent.parent
BASES_PAGE = ROOT / "docs" / "bases.md"


@pytest.fixture
def registry() -> Iterator[dict[str, type]]:
    """The registered bases, as before when the test is over."""
    before = dict(BASES)
    yield dict(before)
    BASES.clear()
    BASES.update(before)


def test_the_code_of_the_page_on_bases_runs(registry: dict[str, type], capsys: pytest.CaptureFixture[str]) -> None:
    source = python_of(BASES_PAGE)
    exec(compile(source, str(BASES_PAGE), "exec"), {"__name__": "page_on_bases"})
    assert BASES.keys() - registry.keys() == {"legendre"}
    (comment,) = re.findall(r"^print\(.*\)  # (.*)$", source, re.MULTILINE)
    assert capsys.readouterr().out == comment + "\n"


def test_code_is_where_it_is_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Words\n\n```python\nx = 1\n```\n\n```text\nno code\n```\n```\nneither\n```\n\n```python\n\nx / 0\n```\n")
    assert python_of(page).splitlines()[3] == "x = 1"
    with pytest.raises(ZeroDivisionError) as raised:
        exec(compile(python_of(page), "page.md", "exec"), {})
    assert raised.traceback[-1].lineno + 1 == 16


def test_the_page_on_bases_names_all_of_them() -> None:
    table = [line for line in BASES_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith('| `"')]
    rows = {re.findall(r'`"(\w+)"`', line)[0]: re.findall(r"`(\w+)\(", line)[0] for line in table}
    assert rows == {name: cls.__name__ for name, cls in BASES.items()}
    for line in table:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name, outside = cells[0].strip('`"'), re.findall(r'`"(\w+)"`', cells[-1])
        assert outside == [BASES[name]().extrapolation]  # type: ignore[attr-defined]


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = [path for entry in menu for path in entry.values()]
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_code_of_the_page_on_layers_runs() -> None:
    page = ROOT / "docs" / "layers.md"
    exec(compile(python_of(page), str(page), "exec"), {"__name__": "page_on_layers"})


def described(doc: str) -> list[str]:
    """The names that the Args section of a docstring describes."""
    section = re.search(r"^Args:\n((?: +.*\n|\n)*)", doc + "\n", re.MULTILINE)
    if section is None:
        return []
    entries = re.findall(r"^    (\S(?:[^:\n]|\n {8})*):\s", section.group(1), re.MULTILINE)
    return [name.strip().lstrip("*") for entry in entries for name in entry.replace("\n", " ").split(",") if name.strip()]


def test_described_arguments_are_read_off() -> None:
    doc = (
        "Do it.\n\nArgs:\n    a, b: numbers: both\n        of them.\n    first,\n        second: more.\n    **rest: else.\n\n"
        "Returns:\n    c: no.\n"
    )
    assert described(doc) == ["a", "b", "first", "second", "rest"]
    assert described("Do it.") == []


PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (kan, kan.utils, kan.spline, kan.compiler, kan.hypothesis, kan.experiment, kan.feynman, kan.MLP)
    for name in (module.__all__ if module is not kan else ["KAN", "KANLayer", "Symbolic_KANLayer", "LBFGS", "KANLinear", "KANStack"])
    if callable(getattr(module, name)) and not isinstance(getattr(module, name), dict)
}
METHODS = {
    f"{name}.{key}": value
    for name, owner in PUBLIC.items()
    if isinstance(owner, type)
    for key, value in vars(owner).items()
    if not key.startswith("_") and inspect.isfunction(value)
}


@pytest.mark.parametrize("name", sorted({**PUBLIC, **METHODS}))
def test_described_arguments_exist(name: str) -> None:
    # pykan's defect 64: pages and docstrings describe arguments that are not there.
    thing = {**PUBLIC, **METHODS}[name]
    doc = inspect.getdoc(thing)
    assert doc, "what is public is described"
    arguments = [argument for argument in described(doc) if argument.isidentifier()]
    assert set(arguments) <= set(inspect.signature(thing).parameters), name
    assert len(arguments) == len(set(arguments))


def test_what_pykan_describes_otherwise_is_described_as_it_is() -> None:
    scale, eps = (re.search(rf"^    {name}[^:\n]*:(.*(?:\n {{8}}.*)*)", inspect.getdoc(kan.KANLayer) or "", re.MULTILINE) for name in
                  ("scale_base_mu", "grid_eps"))  # fmt: skip
    assert scale is not None and "U(-1, 1)" in scale.group(1)
    assert eps is not None and "of a uniform grid" in eps.group(1) and "quantiles" in eps.group(1)
    weights = kan.KANLayer(400, 50, scale_base_sigma=1.0, generator=torch.Generator().manual_seed(0)).scale_base.detach() * 20
    assert float(weights.abs().max()) <= 1 and float(weights.std()) == pytest.approx(3**-0.5, rel=0.02), "uniform, not normal"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_screen_names_discover_with_an_example_that_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen = "\n".join((ROOT / page).read_text(encoding="utf-8").splitlines()[:40])
    example = screen.split("```python\n")[1].split("```")[0]
    assert "kan.discover(" in example and len(example.splitlines()) == 4
    exec(compile(example, page, "exec"), {"__name__": "first_screen"})
    (comment,) = re.findall(r"^print\(.*\)  # (.*)$", example, re.MULTILINE)
    assert capsys.readouterr().out == f"{comment}\n"


@pytest.mark.parametrize("name", ["data", "training", "checkpoints", "formulas", "structure", "discover"])
def test_the_code_of_the_page_runs(name: str) -> None:
    page = ROOT / "docs" / f"{name}.md"
    dtype = torch.get_default_dtype()
    try:
        exec(compile(python_of(page), str(page), "exec"), {"__name__": f"page_on_{name}"})
    finally:
        torch.set_default_dtype(dtype)
        plt.close("all")


def test_the_examples_for_contributors_run(registry: dict[str, type]) -> None:
    page = ROOT / "CONTRIBUTING.md"
    functions = dict(SYMBOLIC_LIB)
    try:
        exec(compile(python_of(page), str(page), "exec"), {"__name__": "page_for_contributors"})
        assert BASES.keys() - registry.keys() == {"monomials"} and SYMBOLIC_LIB.keys() - functions.keys() == {"sinc"}
    finally:
        SYMBOLIC_LIB.clear()
        SYMBOLIC_LIB.update(functions)


def test_the_tree_of_the_page_on_checkpoints_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "checkpoints.md"
    (drawn,) = re.findall(r"```text\n(0\.0 init.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(python_of(page), str(page), "exec"), {"__name__": "page_on_checkpoints"})
    assert drawn in capsys.readouterr().out


def test_the_formula_of_the_page_on_formulas_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "formulas.md"
    comments = re.findall(r"^print\(formula(?:\.text.*)?\)  # (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    dtype = torch.get_default_dtype()
    try:
        exec(compile(python_of(page), str(page), "exec"), {"__name__": "page_on_formulas"})
    finally:
        torch.set_default_dtype(dtype)
    assert capsys.readouterr().out.splitlines()[:2] == comments
