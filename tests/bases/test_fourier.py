"""Sines and cosines against their formulas, and what they are chosen for."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.bases import Fourier

pytestmark = pytest.mark.usefixtures("float64")

U = torch.linspace(-1.5, 1.5, 23)[None].double()


def half_periods(u: float, m: int) -> float:
    return math.cos(math.pi * m * u / 2) if m % 2 == 0 else math.sin(math.pi * m * u / 2)


def whole_periods(u: float, m: int) -> float:
    j = (m + 1) // 2
    return math.cos(math.pi * j * u) if m % 2 == 0 else math.sin(math.pi * j * u)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), st.booleans())
def test_values_are_those_of_the_formula(size: int, periodic: bool) -> None:
    found = Fourier(size, periodic=periodic).functions(U)[0]
    formula = whole_periods if periodic else half_periods
    np.testing.assert_allclose(found.numpy(), [[formula(float(u), m) for u in U[0]] for m in range(size)], rtol=0, atol=1e-13)


def test_half_periods_are_cosines_from_the_left_end_on() -> None:
    m = torch.arange(9)[:, None]
    cosines = torch.cos(torch.pi * m * (U + 1) / 2)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0] * 3)[:9, None]
    torch.testing.assert_close(Fourier(9).functions(U)[0], signs * cosines, rtol=0, atol=1e-12)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_they_are_orthogonal_on_the_interval_and_at_the_sites(size: int, periodic: bool) -> None:
    basis = Fourier(size, periodic=periodic)
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(60))
    rows = basis.functions(nodes[None])[0]
    expected = torch.eye(size)
    expected[0, 0] = 2.0
    torch.testing.assert_close((rows * weights) @ rows.T, expected, rtol=0, atol=1e-12)

    at_sites = basis.functions(basis.sites(torch.tensor([[-1.0, 1.0]])))[0]
    gram = at_sites @ at_sites.T * 2 / size
    assert float((gram - gram.diag().diag()).abs().max()) < 1e-12
    assert float(gram.diag().min()) > 0.99


def test_whole_periods_repeat_themselves_and_half_periods_are_mirrored() -> None:
    torch.testing.assert_close(Fourier(9, periodic=True).functions(U + 2), Fourier(9, periodic=True).functions(U), rtol=0, atol=1e-12)
    torch.testing.assert_close(Fourier(9).functions(2 - U), Fourier(9).functions(U), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_first_and_second_derivatives_are_those_of_the_formula(size: int) -> None:
    u = U.clone().requires_grad_()
    rows = Fourier(size).functions(u)
    for m in range(size):
        frequency = math.pi * m / 2
        (first,) = torch.autograd.grad(rows[:, m].sum(), u, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), u, retain_graph=True)
        angle = frequency * U
        expected = -frequency * angle.sin() if m % 2 == 0 else frequency * angle.cos()
        torch.testing.assert_close(first, expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(second, -(frequency**2) * rows[:, m], rtol=0, atol=1e-10)


def test_a_slope_has_no_jump_in_half_periods_and_one_in_whole_periods() -> None:
    u = torch.linspace(-1.0, 1.0, 1001)[None]
    errors = {}
    for periodic in (False, True):
        design = Fourier(33, periodic=periodic).functions(u)[0].T.numpy()
        errors[periodic] = np.abs(design @ np.linalg.lstsq(design, u[0].numpy(), rcond=None)[0] - u[0].numpy()).max()
    assert errors[False] < 0.02
    assert errors[True] > 0.9


def test_values_are_bounded_everywhere() -> None:
    assert float(Fourier(9).functions(torch.tensor([[-1e30, 1e30]])).abs().max()) <= 1
