"""Symmetries as laws of the functions, and the representative of equal functions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kan.symbolic import SYMBOLIC_LIB, SymbolicFunction, canonicalise, lookup

pytestmark = pytest.mark.filterwarnings("error")

NAMES = list(SYMBOLIC_LIB)


def evaluate(row: SymbolicFunction, affine: Tensor, x: Tensor) -> Tensor:
    a, b, c, d = affine.unbind(-1)
    return c * row.torch_fun(a * x + b) + d


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


@pytest.mark.parametrize("name", list(SYMBOLIC_LIB))
@given(
    a=st.floats(-2, 2).filter(lambda v: abs(v) > 1e-2),
    b=st.floats(-15, 15),
    c=st.floats(-5, 5),
    d=st.floats(-5, 5),
)
def test_gauge_keeps_the_function(name: str, a: float, b: float, c: float, d: float) -> None:
    row, x = lookup(name), torch.rand(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    affine = torch.tensor([a, b, c, d], dtype=torch.float64)
    canonical = canonicalise(affine, row.symmetries)
    u = a * x + b
    # rounding may move a sample across a pole, a step or the end of a domain
    clear = (u.abs() > 1e-3) & ((u.abs() - 1).abs() > 1e-3) & (torch.cos(u).abs() > 1e-3)
    before, after = evaluate(row, affine, x), evaluate(row, canonical, x)
    torch.testing.assert_close(after[clear], before[clear], rtol=1e-8, atol=1e-8, equal_nan=True)
    torch.testing.assert_close(canonicalise(canonical, row.symmetries), canonical, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "affine", "expected"),
    [
        ("sin", (-3.0, 2.0, 1.0, 0.5), (3.0, math.pi - 2, 1.0, 0.5)),
        ("cos", (-3.0, 2.0, 1.0, 0.5), (3.0, math.pi - 2, -1.0, 0.5)),
        ("tan", (1.0, 3.0, 2.0, 0.0), (1.0, 3.0 - math.pi, 2.0, 0.0)),
        ("tanh", (-2.0, 1.0, 3.0, 0.0), (2.0, -1.0, -3.0, 0.0)),
        ("arccos", (-0.5, 0.2, 2.0, 0.0), (0.5, -0.2, -2.0, 2 * math.pi)),
        ("x", (2.0, 3.0, 4.0, 5.0), (1.0, 0.0, 8.0, 17.0)),
        ("x^2", (-2.0, 4.0, 1.0, 0.0), (1.0, -2.0, 4.0, 0.0)),
        ("1/x", (-2.0, 4.0, 1.0, 0.0), (1.0, -2.0, -0.5, 0.0)),
        ("sqrt", (-4.0, 8.0, 1.0, 0.0), (-1.0, 2.0, 2.0, 0.0)),
        ("log", (-4.0, 8.0, 3.0, 0.0), (-1.0, 2.0, 3.0, 3 * math.log(4))),
        ("exp", (2.0, 1.0, 3.0, 0.0), (2.0, 0.0, 3 * math.e, 0.0)),
        ("exp", (2.0, 900.0, -1.0, 0.0), (2.0, 900.0, -1.0, 0.0)),
        ("exp", (2.0, -10.0, -math.e, 0.0), (2.0, -9.0, -1.0, 0.0)),
        ("exp", (2.0, 5.0, 0.0, 1.0), (2.0, 0.0, 0.0, 1.0)),
    ],
)
def test_gauge_of_known_cases(name: str, affine: tuple[float, ...], expected: tuple[float, ...]) -> None:
    result = canonicalise(torch.tensor(affine, dtype=torch.float64), lookup(name).symmetries)
    assert result.tolist() == pytest.approx(list(expected), abs=1e-12)
