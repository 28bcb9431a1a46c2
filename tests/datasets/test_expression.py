"""Formulas as functions of tensors."""

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.datasets.expression import TorchFormula

x, y = sympy.symbols("x y")
FORMULAS = [
    x + y, 3 * x - y / 7, x * y**2 / 2, x**sympy.Rational(1, 2) + y**-3, x**y, sympy.exp(-x) * sympy.sin(sympy.pi * y), sympy.log(x) / y,
    sympy.Abs(x - y), sympy.tanh(x) ** 2, sympy.acos(x / 4) + sympy.asin(y / 4), sympy.sqrt(x**2 + y**2), x**1.7, sympy.E**2 + 0 * x,
]  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(FORMULAS), st.integers(0, 6), st.integers(0, 99))
def test_values_are_those_of_sympy(formula: sympy.Expr, count: int, seed: int) -> None:
    points = 0.5 + 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = TorchFormula(formula, (x, y))(points)
    assert found.shape == (count, 1) and found.dtype == torch.float64
    expected = [float(formula.subs({x: a, y: b}).evalf(20)) for a, b in points.tolist()]
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-12)


def test_the_order_of_the_columns_is_that_of_the_symbols() -> None:
    points = torch.tensor([[1.0, 2.0]])
    assert float(TorchFormula(x - y, (x, y))(points)) == -1 and float(TorchFormula(x - y, (y, x))(points)) == 1


def test_derivatives_are_exact_and_functions_of_ones_own_are_used() -> None:
    points = torch.tensor([[0.3, 0.7], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(TorchFormula(sympy.exp(x) * sympy.sin(x * y), (x, y)), points)
    bump = sympy.Function("bump")
    formula = TorchFormula(2 * bump(x), (x, y), {"bump": torch.sinc})
    torch.testing.assert_close(formula(points), 2 * torch.sinc(points[:, [0]]))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 1)])
def test_other_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a tensor with 2 column\(s\), x, y; got"):
        TorchFormula(x + y, (x, y))(torch.ones(shape))
