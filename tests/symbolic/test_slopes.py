"""Derivatives of symbolic functions: closed forms against autograd, and differences where torch has none."""

import pytest
import torch

from kan.symbolic import SYMBOLIC_LIB, SymbolicFunction, lookup
from kan.symbolic.slopes import value_and_slope, value_of

pytestmark = pytest.mark.filterwarnings("error")

U = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)


@pytest.mark.parametrize("name", [*SYMBOLIC_LIB, "cosh", "sinh", "x^1.7", "poly(1,0,-2)"])
def test_slopes_agree_with_autograd(name: str) -> None:
    row, u = lookup(name), U.clone().requires_grad_()
    (expected,) = torch.autograd.grad(row.torch_fun(u).sum(), u)
    value, slope = value_and_slope(row, U)
    torch.testing.assert_close(value, row.torch_fun(U), rtol=1e-14, atol=0)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-14)


def test_a_difference_serves_where_torch_has_no_derivative() -> None:
    row = SymbolicFunction("j0", torch.special.bessel_j0, lambda e: e, 1, lambda u, y_th: ((), u))
    value, slope = value_and_slope(row, U)
    torch.testing.assert_close(value, torch.special.bessel_j0(U), rtol=0, atol=0)
    torch.testing.assert_close(slope, -torch.special.bessel_j1(U), rtol=0, atol=1e-9)


def test_a_function_that_is_not_elementwise_is_refused() -> None:
    row = SymbolicFunction("total", lambda u: u.sum(), lambda e: e, 1, lambda u, y_th: ((), u))
    with pytest.raises(ValueError, match=r"'total' must return a tensor of the shape of its argument, \(19,\), got \(\); write it element"):
        value_of(row, U)
