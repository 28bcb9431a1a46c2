"""Functions with constants of their own: names that make them again, expressions, values."""

import copy
import pickle

import pytest
import sympy
import torch
from torch import Tensor

from kan.symbolic import SYMBOLIC_LIB, lookup, resolve_library
from kan.symbolic.affine_fit import fit_affine
from kan.symbolic.families import EXTENDED_LIB, Family

pytestmark = pytest.mark.filterwarnings("error")

NAMES = ["x^1.7", "x^-0.3", "x^6", "poly(1,0,-2)", "rational(1,0.25;1,0)", "damped(-0.2)", "x_sin(0.5)", "cosh", "sinh", "sin^2",
         "1/(1+x^2)", "x*exp(x)", "x*sin(x)", "x*cos(x)"]  # fmt: skip


def uniform(low: float, high: float, n: int = 400, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(n, 1, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_makes_the_function_its_expression_and_its_copies(name: str) -> None:
    row, u = lookup(name), torch.linspace(0.1, 2, 20, dtype=torch.float64)
    assert row.name == name
    s = sympy.Symbol("s", positive=True)
    value = [float(row.sympy_fun(s).subs(s, float(v))) for v in u]
    torch.testing.assert_close(row.torch_fun(u), torch.tensor(value, dtype=torch.float64))
    torch.testing.assert_close(row.singularity_fun(u, torch.tensor(1e3))[1], row.torch_fun(u))
    for twin in (pickle.loads(pickle.dumps(row)), copy.deepcopy(row), lookup(name)):
        assert twin.name == name and torch.equal(twin.torch_fun(u), row.torch_fun(u)) and twin.symmetries == row.symmetries


@pytest.mark.parametrize("name", ["x^-0.3", "x^0.7", "rational(1,0;-1,0)"])
def test_singular_points_are_finite_with_finite_slopes(name: str) -> None:
    u = torch.tensor([-1.0, -1e-9, 0.0, 1e-9, 1.0], dtype=torch.float64, requires_grad=True)
    _, value = lookup(name).singularity_fun(u, 100.0)
    (slope,) = torch.autograd.grad(value.sum(), u)
    assert value.isfinite().all() and (value.abs() <= 100).all() and slope.isfinite().all()


@pytest.mark.parametrize("name", ["poly()", "poly(1;2)", "rational(1,0)", "damped(1,2)", "poly(__import__)", "x^y", "poly(1e999)"])
def test_a_name_that_tells_no_function(name: str) -> None:
    with pytest.raises(ValueError, match="unknown symbolic function"):
        lookup(name)


def test_a_family_is_no_function() -> None:
    with pytest.raises(ValueError, match=r"'x\^p' is a family of functions; an edge has one of them, such as 'x\^1.7'"):
        lookup("x^p")


def test_the_extended_library_leaves_pykans_alone() -> None:
    assert len(SYMBOLIC_LIB) == 29 and not set(EXTENDED_LIB) & set(SYMBOLIC_LIB)
    assert list(resolve_library("extended")) == [*SYMBOLIC_LIB, *EXTENDED_LIB]
    assert isinstance(resolve_library(["x^p"])["x^p"], Family)
    with pytest.raises(TypeError, match=r"write \['sin'\]"):
        resolve_library("sin")


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [("cosh", 2.0, 0.5), ("sinh", 1.5, -0.4), ("1/(1+x^2)", 3.0, 0.5), ("x*exp(x)", 2.0, 0.5), ("x*sin(x)", 7.0, 0.0),
     ("x*cos(x)", 5.0, 1.0), ("sin^2", 4.0, 0.3)],
)  # fmt: skip
def test_rows_without_constants_are_found_exactly(name: str, a: float, b: float) -> None:
    row, x = lookup(name), uniform(-1, 1)
    fit = fit_affine(x, 1.5 * row.torch_fun(a * x + b) - 0.3, [row])
    assert float(fit.deficit) < 1e-18
