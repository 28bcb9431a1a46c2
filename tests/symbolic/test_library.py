"""The table of symbolic functions: names, pykan's tuples, singular versions, symmetries, look-up."""

import copy
import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from kan.symbolic import SYMBOLIC_LIB, SymbolicFunction, add_symbolic, library, lookup, resolve_library
from kan.symbolic.library import f_arctanh, f_inv, f_log, f_power1d5, f_sqrt, f_tan

pytestmark = pytest.mark.filterwarnings("error")

COMPLEXITY = {
    "x": 1, "x^2": 2, "x^3": 3, "x^4": 3, "x^5": 3, "1/x": 2, "1/x^2": 2, "1/x^3": 3, "1/x^4": 4, "1/x^5": 5,
    "sqrt": 2, "x^0.5": 2, "x^1.5": 4, "1/sqrt(x)": 2, "1/x^0.5": 2, "exp": 2, "log": 2, "abs": 3, "sin": 2, "cos": 2,
    "tan": 3, "tanh": 3, "sgn": 3, "arcsin": 4, "arccos": 4, "arctan": 4, "arctanh": 4, "0": 0, "gaussian": 3,
}  # fmt: skip
NAMES = list(COMPLEXITY)


@pytest.fixture
def table() -> Iterator[dict[str, SymbolicFunction]]:
    """The table, put back as it was after the test."""
    before = dict(SYMBOLIC_LIB)
    yield SYMBOLIC_LIB
    SYMBOLIC_LIB.clear()
    SYMBOLIC_LIB.update(before)


def test_names_order_and_complexities() -> None:
    assert {name: row.complexity for name, row in SYMBOLIC_LIB.items()} == COMPLEXITY
    assert list(SYMBOLIC_LIB) == NAMES
    assert all(name == row.name for name, row in SYMBOLIC_LIB.items())


@pytest.mark.parametrize("name", NAMES)
def test_row_behaves_as_the_four_tuple(name: str) -> None:
    row = SYMBOLIC_LIB[name]
    torch_fun, sympy_fun, complexity, singularity_fun = row
    assert len(row) == 4
    assert (row[0], row[1], row[2], row[-1]) == (torch_fun, sympy_fun, complexity, singularity_fun)


@pytest.mark.parametrize("name", NAMES)
def test_row_survives_pickling(name: str) -> None:
    row = pickle.loads(pickle.dumps(SYMBOLIC_LIB[name]))
    u = torch.tensor([0.3, 0.7], dtype=torch.float64)
    torch.testing.assert_close(row.torch_fun(u), SYMBOLIC_LIB[name].torch_fun(u), rtol=0, atol=0)
    assert row.symmetries == SYMBOLIC_LIB[name].symmetries


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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("y_th", [10.0, 1000.0])
def test_singular_version_is_finite_with_finite_gradient(name: str, dtype: torch.dtype, y_th: float) -> None:
    fun = SYMBOLIC_LIB[name].singularity_fun
    t, _ = fun(torch.ones(1, dtype=dtype), y_th)
    threshold = t.item() if isinstance(t, torch.Tensor) else 0.5
    points = [0.0, threshold, 1.0, math.pi / 2, math.pi / 2 - threshold, 1.0001, 3.0, 1e5, 1e7]
    u = torch.tensor(points + [-p for p in points], dtype=dtype, requires_grad=True)
    for limit in (y_th, torch.tensor(y_th, dtype=torch.float64)):
        _, value = fun(u, limit)
        (gradient,) = torch.autograd.grad(value.sum(), u) if value.requires_grad else (torch.zeros(1),)
        assert value.dtype == dtype
        assert value.shape == u.shape
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("y_th", [2.0, 5.0])
def test_singular_version_is_continuous_and_equals_the_function_elsewhere(name: str, y_th: float) -> None:
    row = SYMBOLIC_LIB[name]
    t, _ = row.singularity_fun(torch.ones(1, dtype=torch.float64), y_th)
    if isinstance(t, torch.Tensor):
        edge = torch.stack([math.pi / 2 - t, math.pi / 2 + t] if name == "tan" else [t, -t])
        below, above = (row.singularity_fun(edge * (1 + shift), y_th)[1] for shift in (-1e-12, 1e-12))
        torch.testing.assert_close(below, above, rtol=0, atol=1e-6)
    u = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    exact, value = row.torch_fun(u), row.singularity_fun(u, y_th)[1]
    # sqrt is the one whose continuation begins where the function is small
    same = exact.isfinite() & (exact.abs() < y_th) & ((u > y_th**-2) | (name not in {"sqrt", "x^0.5"}))
    torch.testing.assert_close(value[same], exact[same], rtol=1e-12, atol=1e-12)


def test_sqrt_is_a_line_of_slope_y_th_up_to_the_threshold() -> None:
    t, value = f_sqrt(torch.tensor([0.005, 0.01, -0.005, -4.0], dtype=torch.float64), 10.0)
    assert float(t) == pytest.approx(0.01)  # type: ignore[arg-type]
    assert value.tolist() == pytest.approx([0.05, 0.1, -0.05, -2.0])


def test_known_values_of_singular_versions() -> None:
    u = torch.tensor([0.0, 0.05, -0.5], dtype=torch.float64)
    assert f_inv(u, 10.0)[1].tolist() == pytest.approx([0.0, 5.0, -2.0])
    assert f_log(u, 10.0)[1].tolist() == pytest.approx([-10.0, math.log(0.05), math.log(0.5)])
    assert f_power1d5(u, 10.0)[0] == ()
    assert f_power1d5(u, 10.0)[1].tolist() == pytest.approx([0.0, 0.05**1.5, 0.5**1.5])
    pole = torch.tensor([math.pi / 2, -math.pi / 2 - 0.5, 7.0], dtype=torch.float64)
    assert f_tan(pole, 10.0)[1].tolist() == pytest.approx([0.0, math.tan(-math.pi / 2 - 0.5), math.tan(7.0)], abs=1e-12)
    assert f_arctanh(torch.tensor([2.0, -2.0], dtype=torch.float64), 3.0)[1].tolist() == pytest.approx([3.0, -3.0])


@pytest.mark.parametrize("name", NAMES)
@given(u=st.floats(0.1, 0.9), s=st.floats(0.2, 1.0))
def test_symmetries_are_laws_of_the_function(name: str, u: float, s: float) -> None:
    row = SYMBOLIC_LIB[name]

    def f(value: float) -> float:
        return row.torch_fun(torch.tensor(value, dtype=torch.float64)).item()

    symmetries = row.symmetries
    if symmetries.reflection is not None:
        factor, shift = symmetries.reflection
        assert f(-u) == pytest.approx(factor * f(u) + shift)
    if symmetries.scaling is not None:
        degree, log_rate = symmetries.scaling
        assert f(s * u) == pytest.approx(s**degree * f(u) + log_rate * math.log(s))
    if symmetries.translation is not None:
        exp_rate, shift_rate = symmetries.translation
        assert f(u + s) == pytest.approx(math.exp(exp_rate * s) * f(u) + shift_rate * s)
    if symmetries.period is not None:
        period, factor = symmetries.period
        assert f(u + period) == pytest.approx(factor * f(u))


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


# Copies and pickles


def test_rows_of_the_package_are_pickled_by_name(table: dict[str, SymbolicFunction]) -> None:
    rows = [table[name] for name in NAMES]
    text = pickle.dumps(rows)
    assert len(text) < 1000 and b"cloudpickle" not in text
    add_symbolic("sin", torch.cos)
    assert all(one is other for one, other in zip(pickle.loads(text), rows, strict=True))
    assert table["sin"].torch_fun is torch.cos
    replaced = pickle.loads(pickle.dumps(table["sin"]))
    assert replaced.torch_fun is torch.cos and replaced.name == "sin"
    for name in NAMES:
        assert copy.deepcopy(table[name]) is table[name] or name == "sin"


def test_rows_of_the_user_are_pickled_with_their_code(table: dict[str, SymbolicFunction]) -> None:
    factor = 3.0
    add_symbolic("mine", lambda u: factor * u, c=4, fun_singularity=lambda u, y_th: ((), factor - u))
    text = pickle.dumps([table["mine"], table["mine"]])
    del table["mine"]
    row, again = pickle.loads(text)
    u = torch.tensor([0.5])
    assert row is again and row.name == "mine" and row.complexity == 4 and "mine" not in table
    assert row.torch_fun(u).item() == 1.5 and row.singularity_fun(u, 1.0)[1].item() == 2.5
    assert str(row.sympy_fun(sympy.Symbol("s"))) == "mine(s)"


def test_copies_of_rows_share_their_functions(table: dict[str, SymbolicFunction]) -> None:
    add_symbolic("mine", lambda u: u)
    row, again = copy.deepcopy([table["mine"], table["mine"]])
    assert row is again and row.torch_fun is table["mine"].torch_fun and row.symmetries == table["mine"].symmetries
    assert copy.copy(row) is row


def test_a_row_that_this_version_lacks_is_named(table: dict[str, SymbolicFunction]) -> None:
    text = pickle.dumps(table["arctan"]).replace(b"arctan", b"arctam")
    with pytest.raises(ValueError, match="unknown symbolic function 'arctam'; did you mean 'arctan'"):
        pickle.loads(text)


def test_a_row_shows_itself_in_a_line() -> None:
    assert repr(SYMBOLIC_LIB["x^2"]) == "SymbolicFunction('x^2', complexity=2)"
