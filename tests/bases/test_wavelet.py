"""Ricker wavelets against their formula, and the places where they are."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.bases import Ricker

pytestmark = pytest.mark.usefixtures("float64")

U = torch.linspace(-1.7, 1.7, 23)[None].double()

CENTRES = [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8, 1 / 16, 9 / 16, 5 / 16, 13 / 16, 3 / 16, 11 / 16, 7 / 16, 15 / 16, 1 / 32]
"""The van der Corput sequence, in units of the interval."""
SCALES = [1.0] + 2 * [1 / 2] + 4 * [1 / 4] + 8 * [1 / 8] + [1 / 16]


def value(u: float, m: int) -> float:
    if m < 2:
        return u**m
    z = (u - (2 * CENTRES[m - 2] - 1)) / SCALES[m - 2]
    return (1 - z * z) * math.exp(-z * z / 2)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 18))
def test_values_are_those_of_the_formula(size: int) -> None:
    found = Ricker(size).functions(U)[0]
    np.testing.assert_allclose(found.numpy(), [[value(float(u), m) for u in U[0]] for m in range(size)], rtol=1e-11, atol=1e-14)


def test_a_wavelet_is_the_second_derivative_of_a_gaussian() -> None:
    u = torch.linspace(-3.0, 3.0, 23)[None].requires_grad_()
    (first,) = torch.autograd.grad(-torch.exp(-(u**2) / 2).sum(), u, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), u)
    torch.testing.assert_close(Ricker(3).functions(u.detach())[:, 2], second, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 70), st.integers(0, 30))
def test_the_functions_of_a_smaller_basis_are_the_first_of_a_larger(size: int, more: int) -> None:
    torch.testing.assert_close(Ricker(size + more).functions(U)[:, :size], Ricker(size).functions(U), rtol=0, atol=0)


@pytest.mark.parametrize("scales", [1, 2, 3, 5])
def test_full_scales_tile_the_interval(scales: int) -> None:
    size = 2**scales + 1
    centres = Ricker(size).sites(torch.tensor([[-1.0, 1.0]]))[0, 2:]
    first = 0
    for j in range(scales):
        places = centres[first : first + 2**j].sort().values
        torch.testing.assert_close(places, -1 + (2 * torch.arange(2**j) + 1) / 2**j, rtol=0, atol=0)
        first += 2**j
    assert first == len(centres)


def test_mean_and_first_moment_of_wavelets_are_zero() -> None:
    u = torch.linspace(-14.0, 14.0, 8001)[None]
    wavelets = Ricker(9).functions(u)[0, 2:]
    assert float(torch.trapezoid(wavelets, u[0]).abs().max()) < 1e-12
    assert float(torch.trapezoid(wavelets * u[0], u[0]).abs().max()) < 1e-12


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_first_and_second_derivatives_are_those_of_the_formula(size: int) -> None:
    u = U.clone().requires_grad_()
    rows = Ricker(size).functions(u)

    def derivatives(m: int) -> tuple[Tensor, Tensor]:
        if m < 2:
            return torch.full_like(U, float(m)), torch.zeros_like(U)
        a = SCALES[m - 2]
        z = (U - (2 * CENTRES[m - 2] - 1)) / a
        bell = torch.exp(-(z**2) / 2)
        return (z**3 - 3 * z) * bell / a, (-(z**4) + 6 * z**2 - 3) * bell / a**2

    for m in range(size):
        (first,) = torch.autograd.grad(rows[:, m].sum(), u, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), u, retain_graph=True, materialize_grads=True)
        expected = derivatives(m)
        torch.testing.assert_close(first.detach(), expected[0], rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(second, expected[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_away_a_straight_line_is_left(dtype: torch.dtype) -> None:
    u = torch.tensor([[-1e30, -90.0, 90.0, 1e30]], dtype=dtype, requires_grad=True)
    rows = Ricker(9).functions(u)
    torch.testing.assert_close(rows[0, :2].detach(), torch.stack([torch.ones_like(u[0]), u[0]]).detach(), rtol=0, atol=0)
    assert not bool(rows[:, 2:].any())
    torch.testing.assert_close(torch.autograd.grad(rows.sum(), u)[0], torch.ones_like(u), rtol=0, atol=0)


def test_straight_lines_and_details_of_different_size_are_met() -> None:
    u = torch.linspace(-1.0, 1.0, 400)[None]
    design = Ricker(33).functions(u)[0].T.numpy()
    for curve, error in ((2 * u[0] - 3, 1e-12), (torch.exp(u[0]), 1e-2), (torch.exp(-100 * (u[0] - 0.3) ** 2) + u[0], 5e-3)):
        found = design @ np.linalg.lstsq(design, curve.numpy(), rcond=None)[0]
        assert np.abs(found - curve.numpy()).max() < error
