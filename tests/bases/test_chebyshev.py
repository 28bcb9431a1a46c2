"""Chebyshev polynomials against numpy's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev

from kan.bases import Chebyshev, IntervalBasis

pytestmark = pytest.mark.usefixtures("float64")

U = torch.linspace(-1.0, 1.0, 31)[None].double()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40))
def test_values_are_those_of_numpy(size: int) -> None:
    found = Chebyshev(size).functions(U)[0]
    np.testing.assert_allclose(found.T.numpy(), chebyshev.chebvander(U[0].numpy(), size - 1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.numpy(), np.cos(np.arange(size)[:, None] * np.arccos(U.numpy())), rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_derivatives_of_three_orders_are_those_of_numpy_at_the_ends_too(size: int) -> None:
    u = U.clone().requires_grad_()
    rows = Chebyshev(size).functions(u)
    for m in range(size):
        y = rows[0, m]
        for order in (1, 2, 3):
            (y,) = torch.autograd.grad(y.sum(), u, create_graph=True, retain_graph=True, materialize_grads=True)
            if not y.requires_grad:  # nothing depends on u any more
                y = y + 0 * u
            expected = chebyshev.chebval(U.numpy(), chebyshev.chebder(np.eye(size)[m], order))
            np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-11, atol=1e-9)


def test_outside_they_are_continued_by_tangents_unless_asked_otherwise() -> None:
    basis = Chebyshev(9)
    assert basis.extrapolation == "linear"
    assert Chebyshev(9, extrapolation="own").extrapolation == "own"
    assert issubclass(Chebyshev, IntervalBasis)
    grid, x = torch.tensor([[-1.0, 1.0]]), torch.tensor([[3.0]])
    # T_m(1) = 1 and T_m'(1) = m^2.
    m = torch.arange(9.0)
    torch.testing.assert_close(basis.rows(x, basis.prepare(grid))[0, :, 0], 1 + 2 * m**2)
    own = Chebyshev(9, extrapolation="own")
    torch.testing.assert_close(own.rows(x, own.prepare(grid))[0, :, 0], torch.cosh(m * torch.acosh(torch.tensor(3.0))))


def test_the_error_of_an_analytic_curve_falls_geometrically() -> None:
    u = torch.linspace(-1.0, 1.0, 400)[None]
    curve = torch.exp(u[0]).numpy()
    errors = []
    for size in (4, 8, 12):
        design = Chebyshev(size).functions(u)[0].T.numpy()
        errors.append(np.abs(design @ np.linalg.lstsq(design, curve, rcond=None)[0] - curve).max())
    assert errors[0] < 2e-2
    assert errors[1] < 1e-6
    assert errors[2] < 1e-11
