"""Formulas as text: they mean what sympy means, and nothing of them, or of any other text, is executed."""

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import kan
from kan import KAN
from kan.checkpoint.numpy_numbers import Loader
from kan.datasets.expression import parsed
from kan.formula_text import as_expression
from kan.hypothesis import test_symmetry_var as symmetry_in
from kan.symbolic.augmentation import augment_input
from kan.utils import ex_round

SOURCES = Path(kan.__file__).parent
X, Y = sympy.symbols("x y")
LEAVES = st.sampled_from([X, Y, sympy.pi, sympy.E, sympy.Integer(3), sympy.Rational(1, 3), sympy.Float("1.25")])


def _joined(parts: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    pairs = st.tuples(parts, parts)
    return st.one_of(
        pairs.map(lambda p: p[0] + p[1]), pairs.map(lambda p: p[0] - p[1]), pairs.map(lambda p: p[0] * p[1]),
        parts.map(lambda p: p**2), parts.map(sympy.sin), parts.map(sympy.exp), pairs.map(lambda p: sympy.atan2(*p)), parts.map(sympy.erf),
    )  # fmt: skip


@given(st.recursive(LEAVES, _joined, max_leaves=8))
@example(sympy.Float("1.41720133846352e+467") * X)
def test_what_sympy_writes_is_read_as_sympy_reads_it(expression: sympy.Expr) -> None:
    assert as_expression(str(expression)) == sympy.sympify(str(expression))


def test_text_numbers_and_expressions() -> None:
    positive = sympy.Symbol("x", positive=True)
    assert as_expression("2*x^2 + 1") == 2 * X**2 + 1 and as_expression("Max(x, y)") == sympy.Max(X, Y)
    assert as_expression(" x*pi", [positive]) == positive * sympy.pi
    assert as_expression(3) == 3 and as_expression(2.5) == sympy.Float(2.5) and as_expression(X) is X
    assert as_expression("E*x", [sympy.Symbol("E"), X]).free_symbols == {sympy.Symbol("E"), X}, "a variable may be called E"


@pytest.mark.parametrize("value", [None, ["x"], ("x",), {"x": 1}, {"x"}, object()])
def test_what_is_no_expression(value: Any) -> None:
    with pytest.raises(TypeError, match="expected a sympy expression, a number or a formula as text; got"):
        as_expression(value)


@pytest.mark.parametrize("text", ["x +", "", "(" * 5000 + "x" + ")" * 5000, "x; y", "x = 1"])
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(ValueError, match="is no formula"):
        as_expression(text)


def test_a_function_that_is_not_known() -> None:
    with pytest.raises(ValueError, match=r"'phi\(x\)' is no part of a formula"):
        as_expression("phi(x)")


def _symmetry(text: str) -> Any:
    model = KAN([2, 1], grid=3, seed=0, auto_save=False)
    return symmetry_in(model, torch.rand(20, 2, generator=torch.Generator().manual_seed(0)), [X, Y], text)


def _formula(text: str) -> Any:
    model = KAN([2, 1], grid=3, seed=0, auto_save=False)
    for i in range(2):
        model.fix_symbolic(0, i, 0, "sin", fit_params_bool=False, verbose=False)
    return model.symbolic_formula(var=[(text,), (text,)])


ENTRANCES: dict[str, Callable[[str], Any]] = {
    "ex_round": lambda text: ex_round(text, 3),
    "ex_round of a list": lambda text: ex_round([text], 3),
    "ex_round of a tuple": lambda text: ex_round((text,), 3),
    "ex_round of a dictionary": lambda text: ex_round({text: 1}, 3),
    "test_symmetry_var": _symmetry,
    "augment_input": lambda text: augment_input([X, Y], [text], torch.rand(5, 2)),
    "symbolic_formula": _formula,
    "a law as numpy": lambda text: kan.discovery.formulas.python_code.to_numpy(text, [X, Y]),
    "a problem": lambda text: parsed(text, {"x": X}),
}


@pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)
@pytest.mark.parametrize("text", ["{}", "sin({})", "x + {}.real", "[{}]", "x if {} else y", "(lambda: {})()", "f'{{{}}}'"])
def test_no_text_is_executed(entrance: Callable[[str], Any], text: str, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    with pytest.raises((ValueError, TypeError)):
        entrance(text.format(f"__import__('os').mkdir({os.fspath(mark)!r})"))
    assert not mark.exists()


def test_text_that_is_a_formula_is_welcome() -> None:
    assert str(ex_round("3.14159*sin(x) + 1e-9", 2)) == "3.14*sin(x)"
    model = KAN([2, 1], grid=3, seed=0, auto_save=False)
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(symmetry_in(model.double(), x, [X, Y], "x^2 + y"), symmetry_in(model, x, [X, Y], X**2 + Y))


def test_functions_with_any_name_are_not_written_into_code() -> None:
    hostile = sympy.Function("__import__('os').getcwd")
    with pytest.raises(ValueError, match="symmetry_var must be made of functions that sympy knows"):
        _symmetry(hostile(X))  # type: ignore[arg-type]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_nothing_in_the_package_executes_text_or_files() -> None:
    """Calls that run text as code, or read files that can run code, occur in their safe forms only."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name, options = _called(node), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            whole = ast.unparse(node.func)
            bad = {
                "sympify": path.name != "formula_text.py", "parse_expr": True, "nsimplify": True, "S": whole.endswith("sympy.S"),
                "eval": whole in ("eval", "builtins.eval"), "exec": True, "compile": whole in ("compile", "builtins.compile"),
                "load": (whole == "torch.load" and options.get("weights_only") != "True")
                or (whole == "yaml.load" and options.get("Loader") != "Loader") or whole == "np.load",
                "unsafe_load": True, "full_load": True,
            }  # fmt: skip
            if bad.get(name, False):
                found.append(f"{path.relative_to(SOURCES)}:{node.lineno} {ast.unparse(node)}")
    assert not found and issubclass(Loader, (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
