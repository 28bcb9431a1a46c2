"""B-splines against scipy and against their definition; every derivative; both ways of evaluation."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from kan.bases import spline_rows
from kan.bases.base import Extrapolation
from kan.bases.bspline import bspline_basis, tabulate
from kan.bases.knots import check_knots, core, extend_knots, uniform_knots
from kan.bases.spline_rows import local_values
from tests.reference import splines

pytestmark = [
    pytest.mark.usefixtures("float64"),
    # Some versions of torch warn of themselves at the first use of forward mode.
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]

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


WAYS_ON_UNIFORM_KNOTS = {"shifted": (10**9, -1), "local": (-1, -1), "product": (-1, 10**9)}
"""Values of FEW_FUNCTIONS and LITTLE that force each way of evaluation on equidistant knots."""


@pytest.fixture(params=WAYS_ON_UNIFORM_KNOTS)
def uniform_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way of evaluation on equidistant knots, whatever the sizes."""
    few, little = WAYS_ON_UNIFORM_KNOTS[request.param]
    monkeypatch.setattr(spline_rows, "FEW_FUNCTIONS", few)
    monkeypatch.setattr(spline_rows, "LITTLE", little)
    way: str = request.param
    return way


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


# Equidistant knots


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("intervals", [1, 5, 40, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equidistant_knots_are_recognised(degree: int, intervals: int, dtype: torch.dtype) -> None:
    knots = torch.cat([uniform_knots(-1.0, 1.0, intervals, degree, 1), uniform_knots(2.3, 7.1, intervals, degree, 1)]).to(dtype)
    uniform = tabulate(knots, degree).uniform
    if degree < 2:
        assert uniform is None
        return
    assert uniform is not None
    assert uniform.start.dtype == uniform.inverse.dtype == dtype
    torch.testing.assert_close(uniform.start, knots[:, :1], rtol=0, atol=0)
    torch.testing.assert_close(uniform.inverse, torch.tensor([[intervals / 2], [intervals / 4.8]], dtype=dtype), rtol=1e-5, atol=0)


def test_other_knots_are_not_taken_for_equidistant() -> None:
    even = uniform_knots(-1.0, 1.0, 5, 3, features=2)
    assert tabulate(random_knots(2, 5, 3, seed=0), 3).uniform is None
    bent = even.clone()
    bent[1, 4] += 1e-9
    assert tabulate(bent, 3).uniform is None
    assert tabulate(bent[:1], 3).uniform is not None
    assert tabulate(torch.cat([even[:, :3], even[:, 3:] + 0.5], dim=1), 3).uniform is None
    for extrapolation in ("constant", "linear"):
        assert tabulate(even, 3, extrapolation).uniform is None  # the outermost functions are others


@pytest.mark.parametrize("intervals", [1, 5, 40])
@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_values_and_gradients_on_equidistant_knots_are_those_of_scipy(uniform_way: str, degree: int, intervals: int) -> None:
    knots = torch.cat([uniform_knots(-1.0, 1.0, intervals, degree, 1), uniform_knots(0.3, 0.8, intervals, degree, 1)])
    table = tabulate(knots, degree)
    assert table.uniform is not None
    x = points(knots).requires_grad_()
    found = bspline_basis(x, table)
    np.testing.assert_allclose(found.detach().numpy(), by_scipy(x.detach(), knots, degree), rtol=0, atol=1e-12)

    weight = torch.randn(*found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weight * found).sum(), x)
    expected = (weight.numpy() * by_scipy(x.detach(), knots, degree, order=1)).sum(-1)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10, atol=1e-11 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("lead", [0, 2])
@pytest.mark.parametrize("slopes", [False, True])
def test_ways_on_equidistant_knots_write_the_same_rows(uniform_way: str, lead: int, slopes: bool) -> None:
    knots = uniform_knots(-1.0, 1.0, 7, 3, features=3)
    table, x = tabulate(knots, 3), points(knots).t()
    before = x.clone()
    rows = torch.full((3, lead + table.size, x.shape[1]), torch.nan)
    found = spline_rows.write_rows(rows, x, table, slopes=slopes)
    np.testing.assert_allclose(rows[:, lead:].permute(2, 0, 1).numpy(), by_scipy(x.t(), knots, 3), rtol=0, atol=1e-13)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    assert (found is not None) is slopes
    if found is not None:
        weight = torch.randn(*rows.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected = (weight[:, lead:].permute(2, 0, 1).numpy() * by_scipy(x.t(), knots, 3, order=1)).sum(-1)
        np.testing.assert_allclose(found.contract(weight).t().numpy(), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_second_derivatives_on_equidistant_knots(uniform_way: str, degree: int) -> None:
    table = tabulate(uniform_knots(-1.0, 1.0, 6, degree, features=2), degree)
    x = (2.4 * torch.rand(7, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 1.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bspline_basis(x, table), x)
    assert torch.autograd.gradgradcheck(lambda x: bspline_basis(x, table), x)


@pytest.mark.parametrize("uniform_way", ["shifted", "local"], indirect=True)
@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_float32_on_a_fine_grid(uniform_way: str, degree: int) -> None:
    knots = uniform_knots(-1.0, 1.0, 300, degree, features=1)
    x = (2.02 * torch.rand(400, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 1.01).float()
    short, exact = tabulate(knots.float(), degree), tabulate(knots, degree)
    values = bspline_basis(x.requires_grad_(), short)
    # Half an ulp of a point, in units of the spacing, is 1e-5; slopes are at most 1 per spacing.
    torch.testing.assert_close(values.detach().double(), bspline_basis(x.detach().double(), exact), rtol=0, atol=3e-5)
    weight = torch.randn(values.shape[-1], generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(values @ weight.float(), x, torch.ones(400, 1))
    expected = bspline_basis(x.detach().double(), exact, 1) @ weight
    assert float((gradient.double() - expected).abs().max()) < 1e-3 * float(expected.abs().max())


@pytest.mark.parametrize("uniform_way", ["shifted", "local"], indirect=True)
def test_sums_stay_one_in_float32_on_a_fine_grid(uniform_way: str) -> None:
    x = torch.linspace(-1.0, 1.0, 1001, dtype=torch.float32)[:, None]
    values = bspline_basis(x, tabulate(uniform_knots(-1.0, 1.0, 300, 3, features=1).float(), 3))
    torch.testing.assert_close(values.sum(-1), torch.ones(1001, 1, dtype=torch.float32), rtol=0, atol=3e-5)


# What is not an ordinary number


@pytest.mark.parametrize("extrapolation", ["own", "constant", "linear"])
@pytest.mark.parametrize(("degree", "intervals"), [(0, 4), (1, 4), (2, 1), (3, 5), (3, 40), (5, 30)])
def test_nan_gives_nan_beside_good_points(uniform_way: str, degree: int, intervals: int, extrapolation: Extrapolation) -> None:
    for knots in (uniform_knots(-1.0, 1.0, intervals, degree, features=1), random_knots(1, intervals, degree, seed=1)):
        x = torch.tensor([[0.1], [torch.nan], [-0.2]], requires_grad=True)
        values = bspline_basis(x, tabulate(knots, degree, extrapolation))
        assert bool(torch.isfinite(values[[0, 2]]).all())
        if degree > 0:  # steps ask only whether a point is in an interval
            assert bool(torch.isnan(values[1]).any())
        (gradient,) = torch.autograd.grad(values[[0, 2]].sum(), x)
        assert bool(torch.isfinite(gradient[[0, 2]]).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("degree", "intervals"), [(0, 4), (1, 4), (2, 1), (3, 5), (3, 40), (5, 30)])
def test_far_away_nothing_is_left(uniform_way: str, degree: int, intervals: int, dtype: torch.dtype) -> None:
    for knots in (uniform_knots(-1.0, 1.0, intervals, degree, features=1), random_knots(1, intervals, degree, seed=1)):
        table = tabulate(knots.to(dtype), degree)
        x = torch.tensor([[1e30], [-1e30], [1e5], [-1e5]], dtype=dtype, requires_grad=True)
        values = bspline_basis(x, table)
        assert not bool(values.any())
        assert not bool(torch.autograd.grad(values.sum(), x)[0].any())
        assert not bool(bspline_basis(torch.tensor([[torch.inf], [-torch.inf]], dtype=dtype), table).nan_to_num().any())


@pytest.mark.parametrize("extrapolation", ["own", "constant", "linear"])
@pytest.mark.parametrize(("degree", "intervals"), [(0, 4), (1, 4), (3, 5), (3, 40)])
def test_no_points_have_no_values(uniform_way: str, degree: int, intervals: int, extrapolation: Extrapolation) -> None:
    for knots in (uniform_knots(-1.0, 1.0, intervals, degree, features=2), random_knots(2, intervals, degree, seed=1)):
        table = tabulate(knots, degree, extrapolation)
        x = torch.empty(0, 2, requires_grad=True)
        values = bspline_basis(x, table)
        assert values.shape == (0, 2, intervals + degree)
        assert torch.autograd.grad(values.sum(), x)[0].shape == (0, 2)
        each = torch.func.vmap(lambda x, table=table: bspline_basis(x, table))
        assert each(torch.empty(3, 0, 2)).shape == (3, 0, 2, intervals + degree)


# Outside of the core


@pytest.mark.parametrize("kind", ["uniform", "random"])
@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("extrapolation", ["constant", "linear"])
def test_beyond_the_core_splines_are_continued_from_its_ends(extrapolation: Extrapolation, degree: int, kind: str) -> None:
    knots = both_kinds(degree)[kind == "random"]
    table, grid = tabulate(knots, degree, extrapolation), core(knots, degree)
    assert table.size == knots.shape[1] - degree - 1
    far = torch.tensor([[1e-6], [0.2], [3.0], [30.0]])
    for end, side in ((grid[:, 0], -1), (grid[:, -1], 1)):
        x = end + side * far
        # Derivatives at the right end are those from the left.
        at = end - side * 1e-12 if side > 0 else end
        value, slope = (by_scipy(at[None], knots, degree, order) for order in (0, 1))
        if extrapolation == "constant":
            slope = np.zeros_like(slope)
        expected = value + slope * (x - end).numpy()[..., None]
        np.testing.assert_allclose(bspline_basis(x, table).numpy(), expected, rtol=1e-10, atol=1e-9 * max(1.0, np.abs(slope).max()))
        np.testing.assert_allclose(bspline_basis(x, table, 1).numpy(), np.broadcast_to(slope, expected.shape), rtol=1e-9, atol=1e-9)
        for order in range(2, degree + 1):
            assert not bool(bspline_basis(x, table, order).any())


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("extrapolation", ["constant", "linear"])
def test_continued_splines_sum_to_one_everywhere(extrapolation: Extrapolation, degree: int) -> None:
    for knots in both_kinds(degree):
        x = torch.linspace(-9.0, 9.0, 73)[:, None].expand(-1, 2)
        total = bspline_basis(x, tabulate(knots, degree, extrapolation)).sum(-1)
        torch.testing.assert_close(total, torch.ones(73, 2), rtol=0, atol=1e-11)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("extrapolation", ["own", "constant", "linear"])
def test_on_the_core_extrapolation_changes_nothing(extrapolation: Extrapolation, degree: int) -> None:
    for knots in both_kinds(degree):
        grid = core(knots, degree)
        x = torch.lerp(grid[:, 0], grid[:, -1], torch.linspace(0.0, 1.0, 30)[:-1, None])
        for order in range(degree + 1):
            found, own = (bspline_basis(x, tabulate(knots, degree, kind), order) for kind in (extrapolation, "own"))
            torch.testing.assert_close(found, own, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("extrapolation", ["constant", "linear"])
@pytest.mark.parametrize("degree", [1, 3])
def test_gradients_beyond_the_core(extrapolation: Extrapolation, degree: int) -> None:
    knots = random_knots(2, 4, degree, seed=3)
    grid, table = core(knots, degree), tabulate(knots, degree, extrapolation)
    x = torch.stack([grid[:, 0] - 5.0, grid[:, 0] - 0.1, grid.mean(1), grid[:, -1] + 0.1, grid[:, -1] + 5.0]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bspline_basis(x, table), x)
    assert torch.autograd.gradgradcheck(lambda x: bspline_basis(x, table), x)


# Transforms of programs, and tables


@pytest.mark.parametrize("extrapolation", ["own", "constant", "linear"])
@pytest.mark.parametrize("uniform", [False, True])
def test_transforms_of_torch_func(uniform: bool, extrapolation: Extrapolation) -> None:
    knots = both_kinds(3)[not uniform]
    table, x = tabulate(knots, 3, extrapolation), points(knots)[:6]
    weight = torch.randn(2, table.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        return (bspline_basis(x, table) * weight).sum(-1)

    first, second = ((bspline_basis(x, table, order) * weight).sum(-1) for order in (1, 2))
    places = torch.arange(12)
    for jacobian in (torch.func.jacrev(f)(x), torch.func.jacfwd(f)(x)):
        torch.testing.assert_close(jacobian.reshape(12, 12), first.flatten().diag(), rtol=1e-10, atol=1e-10)
    hessian = torch.func.hessian(lambda x: f(x).sum())(x).reshape(12, 12)
    torch.testing.assert_close(hessian[places, places], second.flatten(), rtol=1e-9, atol=1e-9)
    assert int((hessian != 0).sum()) <= 12
    torch.testing.assert_close(torch.func.vmap(f)(x[:, None])[:, 0], f(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.func.vmap(f, in_dims=2)(torch.stack([x, x + 0.1], dim=2)), torch.stack([f(x), f(x + 0.1)]))
    each = torch.func.vmap(torch.func.grad(lambda x: f(x[None]).sum()))(x)
    torch.testing.assert_close(each, first, rtol=1e-10, atol=1e-10)

    tangent = torch.randn(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with forward_ad.dual_level():
        value, found = forward_ad.unpack_dual(f(forward_ad.make_dual(x, tangent)))
    torch.testing.assert_close(value, f(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, first * tangent, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["uniform", "random", "many"])
@pytest.mark.parametrize("extrapolation", ["own", "linear"])
def test_the_table_of_some_inputs_is_a_part_of_the_table(kind: str, extrapolation: Extrapolation) -> None:
    knots = {
        "uniform": uniform_knots(-1.0, 1.0, 4, 3, features=5) * torch.arange(1.0, 6.0)[:, None],
        "random": random_knots(5, 4, 3, seed=0),
        "many": random_knots(5, 40, 3, seed=0),
    }[kind]
    table = tabulate(knots, 3, extrapolation)
    assert (table.uniform is not None) is (kind == "uniform" and extrapolation == "own")
    assert (table.spans is not None) is (kind != "many" and extrapolation == "own")
    assert table.inputs(0, 5) is table
    for first, last in ((0, 2), (1, 4), (4, 5), (2, 2)):
        part = table.inputs(first, last)
        torch.testing.assert_close(part, tabulate(knots[first:last], 3, extrapolation) if last > first else part, rtol=0, atol=0)
        assert part.size == table.size
        assert len(part.knots) == last - first
    x = points(knots)[:, 1:4]
    torch.testing.assert_close(bspline_basis(x, table.inputs(1, 4)), bspline_basis(points(knots), table)[:, 1:4], rtol=0, atol=1e-14)


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


class Operations(TorchDispatchMode):
    """Counts torch's operations, and the numbers in their largest result."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.count += 1
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
        return result


@pytest.mark.parametrize("degree", [1, 3])
@pytest.mark.parametrize("kind", [0, 1])
def test_a_point_costs_its_own_functions_only(degree: int, kind: int) -> None:
    # pykan's defect 57: all functions at every level of the recursion.
    counts = []
    for intervals in (100, 1000):
        knots = uniform_knots(-1.0, 1.0, intervals, degree, features=2) if kind else random_knots(2, intervals, degree, seed=1)
        table, x = tabulate(knots, degree), torch.linspace(-0.9, 0.9, 50).double()[None].expand(2, -1)
        local_values(x, table)  # whatever is made once
        with Operations() as operations:
            values = local_values(x, table).values
        assert values.shape == (degree + 1, 2, 50)
        counts.append((operations.count, operations.largest))
    (few, small), (many, large) = counts
    assert many <= few and large <= small, "neither operations nor temporaries grow with the grid"
