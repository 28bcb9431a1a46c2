"""B-splines against scipy and against their definition; every derivative; both ways of evaluation."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from torch import Tensor

from kan.bases import spline_rows
from kan.bases.bspline import bspline_basis, tabulate
from kan.bases.knots import check_knots, core, extend_knots, uniform_knots
from tests.reference import splines

pytestmark = pytest.mark.usefixtures("float64")

DEGREES = range(6)


def random_knots(features: int, intervals: int, degree: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(features, intervals + 1, generator=generator, dtype=torch.float64).add_(0.05).cumsum(1) - 1.5
    return extend_knots(grid, degree)


def both_kinds(degree: int) -> list[Tensor]:
    return [uniform_knots(-1.0, 1.0, 4, degree, features=2), random_knots(2, 5, degree, seed=degree)]


def points(knots: Tensor, seed: int = 0) -> Tensor:
    """Inside, outside, on every knot, at both ends and next to them: ``(B, I)``."""
    generator = torch.Generator().manual_seed(seed)
    low, high = knots[:, :1], knots[:, -1:]
    inside = low + (high - low) * torch.rand(len(knots), 40, generator=generator, dtype=knots.dtype)
    outside = torch.cat([low - 0.3, low - 1e-9, high + 1e-9, high + 7.0], dim=1)
    return torch.cat([inside, outside, knots], dim=1).t()


def by_scipy(x: Tensor, knots: Tensor, degree: int, order: int = 0) -> np.ndarray:
    """The derivative of `order` of all B-splines by scipy, zero outside of the knots."""
    size = knots.shape[1] - degree - 1
    out = np.zeros((*x.shape, size))
    for i, row in enumerate(knots.numpy()):
        column = x[:, i].numpy()
        for m in range(size):
            element = BSpline(row, np.eye(size)[m], degree, extrapolate=False)
            # The knots of one function, as `BSpline.basis_element` wants them, without its extrapolation.
            alone = BSpline.basis_element(row[m : m + degree + 2], extrapolate=False)
            function = element if degree == 0 else alone
            values = function(column, nu=order) if order <= degree else np.zeros_like(column)
            within = (column >= row[m]) & (column < row[m + degree + 1])
            out[:, i, m] = np.where(within, np.nan_to_num(values), 0.0)
    return out


@pytest.fixture(params=["product", "window"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of evaluation, whatever the sizes."""
    monkeypatch.setattr(spline_rows, "LITTLE", 10**9 if request.param == "product" else -1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("degree", DEGREES)
def test_values_are_those_of_scipy(degree: int) -> None:
    for knots in both_kinds(degree):
        x = points(knots)
        expected = by_scipy(x, knots, degree)
        if degree == 0:  # the last interval is closed: the largest sample belongs to it
            on_the_end = (x == knots[:, -1]).numpy()
            expected[..., -1][on_the_end] = 1.0
        np.testing.assert_allclose(bspline_basis(x, tabulate(knots, degree)).numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", DEGREES)
def test_values_are_those_of_the_definition(degree: int) -> None:
    knots = random_knots(2, 3, degree, seed=9)
    x = points(knots)[:40]
    np.testing.assert_allclose(bspline_basis(x, tabulate(knots, degree)).numpy(), splines.basis(x, knots, degree), rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", range(7))
@pytest.mark.parametrize("degree", DEGREES)
def test_derivatives_of_every_order_are_those_of_scipy(degree: int, order: int) -> None:
    for knots in both_kinds(degree):
        x = points(knots)[:-1]
        x = x[(x[:, None] != knots.t()[None]).all(dim=(1, 2))]  # away from the knots, where the top derivatives jump
        found = bspline_basis(x, tabulate(knots, degree), order)
        if degree == order == 0:
            assert not bool(torch.isnan(found).any())
        expected = by_scipy(x, knots, degree, order)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(expected).max()))


@pytest.mark.usefixtures("way")
def test_repeated_knots_are_allowed() -> None:
    knots = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.4, 0.4, 1.0, 1.0, 1.0, 1.0]])
    x = torch.linspace(-0.2, 1.2, 57)[:, None]
    x = x[(x[:, 0] - 1.0).abs() > 1e-12]
    np.testing.assert_allclose(bspline_basis(x, tabulate(knots, 3)).numpy(), splines.basis(x, knots, 3), rtol=0, atol=1e-13)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 4), st.integers(0, 10**6))
def test_they_sum_to_one_on_the_core_and_are_never_negative(degree: int, intervals: int, features: int, seed: int) -> None:
    knots = random_knots(features, intervals, degree, seed)
    grid = core(knots, degree)
    generator = torch.Generator().manual_seed(seed)
    x = grid[:, 0] + (grid[:, -1] - grid[:, 0]) * torch.rand(17, features, generator=generator, dtype=torch.float64)
    values = bspline_basis(x, tabulate(knots, degree))
    assert values.shape == (17, features, intervals + degree)
    assert float((values.sum(-1) - 1).abs().max()) < 1e-12
    assert float(values.min()) > -1e-13
    assert int((values.abs() > 1e-12).sum(-1).max()) <= degree + 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 4), st.integers(1, 12), st.integers(1, 5), st.integers(1, 40), st.booleans(), st.integers(0, 10**6))
def test_both_ways_of_evaluation_agree(degree: int, intervals: int, features: int, batch: int, slopes: bool, seed: int) -> None:
    knots = random_knots(features, intervals, degree, seed)
    table = tabulate(knots, degree)
    x = points(knots, seed)[:batch].t().contiguous()
    lead = 1
    rows = [torch.full((features, lead + table.size, x.shape[1]), torch.nan) for _ in range(2)]
    found = (
        [
            way(*args)
            for way, *args in (
                (spline_rows._write_by_product, rows[0][:, lead:], x, table, slopes),
                (spline_rows._write_local, rows[1], x, table, 0, slopes),
            )
        ]
        if table.spans is not None
        else []
    )
    if not found:
        return
    torch.testing.assert_close(rows[0][:, lead:], rows[1][:, lead:], rtol=0, atol=1e-13)
    if slopes:
        weights = torch.randn(features, lead + table.size, x.shape[1], generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(found[0].contract(weights), found[1].contract(weights), rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_gradients(degree: int) -> None:
    knots = random_knots(2, 4, degree, seed=3)
    table = tabulate(knots, degree)
    x = points(knots, seed=4)[:9].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bspline_basis(x, table), x)
    if degree > 1:
        assert torch.autograd.gradgradcheck(lambda x: bspline_basis(x, table), x)


def test_third_derivative_by_autograd() -> None:
    table = tabulate(uniform_knots(-1.0, 1.0, 5, 4, features=1), 4)
    x = torch.linspace(-0.93, 0.91, 11)[:, None].requires_grad_()
    weight = torch.arange(9.0)
    y = (bspline_basis(x, table) @ weight).sum()
    for order in (1, 2, 3):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
        torch.testing.assert_close(y, (bspline_basis(x, table, order) @ weight), rtol=1e-10, atol=1e-9)
        y = y.sum()


@pytest.mark.usefixtures("way")
def test_float32_is_as_good_as_its_digits() -> None:
    for degree in DEGREES:
        knots = random_knots(3, 8, degree, seed=2)
        x = points(knots)[:40]
        short = bspline_basis(x.float(), tabulate(knots.float(), degree))
        assert short.dtype == torch.float32
        # A point rounded to float32 may change sides of a knot: compare with float64 at the rounded points and knots.
        exact = bspline_basis(x.float().double(), tabulate(knots.float().double(), degree))
        torch.testing.assert_close(short.double(), exact, rtol=0, atol=5e-6)


@pytest.mark.usefixtures("way")
def test_what_is_not_finite_stays_visible() -> None:
    table = tabulate(uniform_knots(-1.0, 1.0, 3, 3, features=1), 3)
    assert bool(torch.isnan(bspline_basis(torch.tensor([[torch.nan]]), table)).any())


def test_short_float32_products_are_not_used_for_picking() -> None:
    table = tabulate(uniform_knots(-1.0, 1.0, 3, 3, features=2).float(), 3)
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    before, expected = torch.get_float32_matmul_precision(), bspline_basis(x, table)
    try:
        torch.set_float32_matmul_precision("medium")
        torch.testing.assert_close(bspline_basis(x, table), expected, rtol=0, atol=1e-6)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        (
            torch.zeros(3),
            "knots must have the shape (in_features, intervals + 2*degree + 1) with at least one interval; got (3,) for degree 1.",
        ),
        (torch.zeros(2, 3), "got (2, 3) for degree 1."),
        (torch.tensor([[0.0, 1.0, torch.nan, 3.0]]), "knots must be finite; they hold NaN or infinity."),
        (torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 1.0, 3.0]]), "knots must not decrease along a row; they do for the inputs [1]."),
    ],
)
def test_bad_knots(knots: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_knots(knots, 1)
