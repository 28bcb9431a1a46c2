"""Gaussians against their formula, one number at a time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.bases import GaussianRBF

pytestmark = pytest.mark.usefixtures("float64")

U = torch.linspace(-1.7, 1.7, 23)[None].double()


def gaussian(u: float, m: int, size: int, width: float) -> float:
    spacing = 2 / (size - 1) if size > 1 else 1.0
    centre = -1 + m * spacing if size > 1 else 0.0
    return math.exp(-(((u - centre) / (width * spacing)) ** 2))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), st.floats(0.3, 3.0))
def test_values_are_those_of_the_formula(size: int, width: float) -> None:
    found = GaussianRBF(size, width=width).functions(U)[0]
    expected = [[gaussian(float(u), m, size, width) for u in U[0]] for m in range(size)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_first_and_second_derivatives_are_those_of_the_formula(size: int) -> None:
    basis, u = GaussianRBF(size, width=1.2), U.clone().requires_grad_()
    width = 1.2 * (2 / (size - 1) if size > 1 else 1.0)
    rows = basis.functions(u)
    for m, site in enumerate(basis.sites(torch.tensor([[-1.0, 1.0]]))[0]):
        distance = u.detach() - site
        (first,) = torch.autograd.grad(rows[:, m].sum(), u, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), u, retain_graph=True)
        torch.testing.assert_close(first, -2 * distance / width**2 * rows[:, m], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(second, (4 * distance**2 / width**4 - 2 / width**2) * rows[:, m], rtol=1e-10, atol=1e-12)


def test_far_away_nothing_is_left() -> None:
    for dtype in (torch.float32, torch.float64):
        u = torch.tensor([[-1e30, 1e30]], dtype=dtype, requires_grad=True)
        rows = GaussianRBF(8).functions(u)
        assert not bool(rows.any())
        assert not bool(torch.autograd.grad(rows.sum(), u)[0].any())


def test_sites_are_the_centres() -> None:
    sites = GaussianRBF(5).sites(torch.tensor([[0.0, 8.0], [-1.0, 1.0]]))
    torch.testing.assert_close(sites, torch.tensor([[0.0, 2.0, 4.0, 6.0, 8.0], [-1.0, -0.5, 0.0, 0.5, 1.0]]))
    torch.testing.assert_close(GaussianRBF(1).sites(torch.tensor([[0.0, 8.0]])), torch.tensor([[4.0]]))


def test_they_approach_a_smooth_curve() -> None:
    u = torch.linspace(-1.0, 1.0, 400)[None]
    curve = 1 / (1 + 25 * u[0] ** 2)
    errors = []
    for size in (8, 16, 32):
        design = GaussianRBF(size).functions(u)[0].T.numpy()
        errors.append(np.abs(design @ np.linalg.lstsq(design, curve.numpy(), rcond=None)[0] - curve.numpy()).max())
    assert errors[2] < 3e-3
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
