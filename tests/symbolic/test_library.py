"""The table of symbolic functions: names, complexities, expressions, look-up."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch

from kan.symbolic import SYMBOLIC_LIB, SymbolicFunction, add_symbolic, library, lookup, resolve_library
from kan.symbolic.library import f_inv

pytestmark = pytest.mark.filterwarnings("error")

COMPLEXITY = {
    "x": 1, "x^2": 2, "x^3": 3, "x^4": 3, "x^5": 3, "1/x": 2, "1/x^2": 2, "1/x^3": 3, "1/x^4": 4, "1/x^5": 5,
    "sqrt": 2, "x^0.5": 2, "x^1.5": 4, "1/sqrt(x)": 2, "1/x^0.5": 2, "exp": 2, "log": 2, "abs": 3, "sin": 2, "cos": 2,
    "tan": 3, "tanh": 3, "sgn": 3, "arcsin": 4, "arccos": 4, "arctan": 4, "arctanh": 4, "0": 0, "gaussian": 3,
}  # fmt: skip
NAMES = list(COMPLEXITY)


def test_names_order_and_complexities() -> None:
    assert {name: row.complexity for name, row in SYMBOLIC_LIB.items()} == COMPLEXITY
    assert list(SYMBOLIC_LIB) == NAMES
    assert all(name == row.name for name, row in SYMBOLIC_LIB.items())


@pytest.mark.parametrize("name", NAMES)
def test_sympy_and_torch_agree(name: str) -> None:
    torch_fun, sympy_fun, _, _ = SYMBOLIC_LIB[name]
    for value in (0.25, 0.75):
        symbol = sympy.Symbol("s", real=True)
        expected = float(sympy_fun(symbol).subs(symbol, value))
        assert torch_fun(torch.tensor(value, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-14)


def test_sympy_is_not_imported_with_the_table() -> None:
    root = Path(library.__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import kan.symbolic; print('sympy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "False"


def test_add_symbolic_registers_a_row(table: dict[str, SymbolicFunction]) -> None:
    add_symbolic("bessel", torch.special.bessel_j0, c=4)
    fun, sympy_fun, complexity, singular = table["bessel"]
    u = torch.tensor([0.5, 1.0])
    assert complexity == 4
    assert fun is torch.special.bessel_j0
    assert sympy_fun(sympy.Symbol("s")) == sympy.Function("bessel")(sympy.Symbol("s"))
    threshold, value = singular(u, torch.tensor(10.0))
    assert threshold == ()
    torch.testing.assert_close(value, fun(u))
    add_symbolic("bessel", torch.special.bessel_j0, 4, None, lambda expr: sympy.besselj(0, expr))
    assert table["bessel"].sympy_fun(sympy.Symbol("s")) == sympy.besselj(0, sympy.Symbol("s"))
    add_symbolic("bessel", torch.sin, fun_singularity=f_inv)
    assert table["bessel"].singularity_fun is f_inv
    assert table["bessel"].complexity == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("", torch.sin), ValueError, "name must be a non-empty string"),
        ((3, torch.sin), TypeError, "name must be a string, got int"),
        (("f", 3), TypeError, "fun must be a callable that maps a tensor to a tensor, got int"),
        (("f", torch.sin, "2"), TypeError, "c, the complexity, must be a number, got str"),
        (("f", torch.sin, True), TypeError, "must be a number, got bool"),
        (("f", torch.sin, math.nan), ValueError, "c, the complexity, must be finite"),
        (("f", torch.sin, 1, None, 7), TypeError, "sympy_fun must be a callable that maps an expression"),
        (("f", torch.sin, 1, 7), TypeError, r"fun_singularity must be a callable \(u, y_th\)"),
    ],
)
def test_add_symbolic_refuses(
    arguments: tuple[object, ...], error: type[Exception], message: str, table: dict[str, SymbolicFunction]
) -> None:
    with pytest.raises(error, match=message):
        add_symbolic(*arguments)  # type: ignore[arg-type]
    assert "f" not in table


def test_lookup() -> None:
    assert lookup("sin") is SYMBOLIC_LIB["sin"]
    with pytest.raises(ValueError, match="unknown symbolic function 'arcsn'; did you mean 'arcsin'"):
        lookup("arcsn")
    with pytest.raises(ValueError, match=r"unknown symbolic function 'qqq'\. Valid are: 'x', .* add_symbolic registers a function of"):
        lookup("qqq")


def test_resolve_library(table: dict[str, SymbolicFunction]) -> None:
    assert list(resolve_library()) == NAMES
    assert list(resolve_library(("sin", "x"))) == ["sin", "x"]
    plain = (torch.sin, sympy.sin, 2, lambda u, y_th: ((), torch.sin(u)))
    row = resolve_library({"mine": plain})["mine"]
    assert (row.name, tuple(row)) == ("mine", plain)
    table["by hand"] = plain  # type: ignore[assignment]
    assert isinstance(lookup("by hand"), SymbolicFunction)
    for short in (plain[:3], plain[:2], list(plain[:2])):
        row = resolve_library({"mine": short})["mine"]
        assert isinstance(row, SymbolicFunction) and (row[0], row[1], row[2]) == (torch.sin, sympy.sin, 2 if len(short) == 3 else 1)
        assert torch.equal(row.singularity_fun(torch.ones(2), 10.0)[1], torch.ones(2).sin())
    for wrong in ((torch.sin, sympy.sin, "2"), (torch.sin, None), (torch.sin, sympy.sin, 2, 3), (torch.sin, sympy.sin, 2, None, 1)):
        with pytest.raises(ValueError, match="The entry of 'f' must be .* of which the last or the last two may be left out"):
            resolve_library({"f": wrong})
    with pytest.raises(ValueError, match="lib is empty"):
        resolve_library([])
    with pytest.raises(ValueError, match="unknown symbolic function 'sine'"):
        resolve_library(["x", "sine"])
    with pytest.raises(TypeError, match=r"write \['sin'\]"):
        resolve_library("sin")
    with pytest.raises(ValueError, match="The entry of 'f' must be a SymbolicFunction or a tuple"):
        resolve_library({"f": (torch.sin,)})


def test_a_table_of_pykans_first_versions_serves_throughout(table: dict[str, SymbolicFunction]) -> None:
    from kan import KAN

    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    old: dict[str, Any] = {"x": (lambda x: x, lambda x: x, 1), "0": (lambda x: x * 0, lambda x: x * 0, 0), "cosine": (torch.cos, sympy.cos)}
    net = KAN([2, 1], seed=0, auto_save=False)
    net(x)
    assert net.suggest_symbolic(0, 0, 0, lib=old, verbose=False)[0] in old
    net.auto_symbolic(lib=old, verbose=0)
    assert {name for row in net.symbolic_layers[0].funs_name for name in row} <= set(old)
    table["cosine"] = (torch.cos, sympy.cos)  # type: ignore[assignment]
    net.fix_symbolic(0, 0, 0, "cosine", fit_params_bool=False)
    net.fix_symbolic(0, 1, 0, "x", fit_params_bool=False)
    torch.testing.assert_close(net(x), x[:, :1].cos() + x[:, 1:])
    net.saveckpt("there")
    torch.testing.assert_close(KAN.loadckpt("there")(x), net(x))
