"""What every basis promises, for all that are registered: one that is added to `BASES` is tested here on the next run."""

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from kan.bases import BASES, Basis, BSpline, Fourier, GaussianRBF, IntervalBasis, projection
from kan.bases.knots import core, extend_knots
from kan.bases.projection import change_of_basis, refit, solve
from kan.drop_in.kan_linear import KANLinear
from tests.data import proportions

pytestmark = [
    pytest.mark.usefixtures("float64"),
    # Some versions of torch warn of themselves at the first use of forward mode.
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]

NAMES = sorted(BASES)
OF_AN_INTERVAL = [name for name in NAMES if issubclass(BASES[name], IntervalBasis)]
EXTRAPOLATIONS = ["own", "constant", "linear"]
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")])]
INTERVALS = [(-1.0, 1.0), (0.5, 3.0), (-7.0, -2.0)]

every_basis = pytest.mark.parametrize("name", NAMES)
every_extrapolation = pytest.mark.parametrize("extrapolation", EXTRAPOLATIONS)
sizes = given(size=st.integers(1, 14), features=st.integers(1, 3), batch=st.integers(0, 7), seed=st.integers(0, 10**6))
quick = settings(deadline=None, max_examples=15)


def make(name: str, size: int, **options: Any) -> Basis:
    """A basis of `size` functions, smooth enough for three derivatives if there are at least five."""
    cls: Any = BASES[name]
    if cls is BSpline:
        degree = min(5, size - 1)
        return BSpline(size - degree, degree, **options)
    basis: Basis = cls(size, **options)
    return basis


def grid_of(basis: Basis, features: int = 2) -> Tensor:
    """An interval of its own for every input."""
    return torch.cat([basis.initial_grid(1, *INTERVALS[i % 3]) for i in range(features)])


def ends(basis: Basis, grid: Tensor) -> tuple[Tensor, Tensor]:
    """The intervals' ends, ``(I, 1)`` each."""
    inside = core(grid, basis.degree) if isinstance(basis, BSpline) else grid
    return inside[:, :1], inside[:, -1:]


def inside(basis: Basis, grid: Tensor, batch: int, seed: int = 0) -> Tensor:
    """Points ``(I, B)`` of the intervals, away from their ends."""
    low, high = ends(basis, grid)
    return low + (high - low) * (0.02 + 0.96 * proportions(len(grid), batch, seed=seed))


def outside(basis: Basis, grid: Tensor) -> Tensor:
    """Points ``(I, 6)`` beyond the left and the right end, three each."""
    low, high = ends(basis, grid)
    far = torch.tensor([0.01, 0.3, 2.0]) * (high - low)
    return torch.cat([low - far, high + far], dim=1)


def function(basis: Basis, grid: Tensor) -> Callable[[Tensor], Tensor]:
    prepared = basis.prepare(grid)
    return lambda x: basis.rows(x, prepared)


def slope(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The derivatives ``(I, n, B)`` of rows at ``(I, B)``, by forward mode."""
    return lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1]


def curves(basis: Basis, grid: Tensor, x: Tensor, coef: Tensor) -> Tensor:
    """Values ``(I, O, B)`` of functions with the coefficients ``(I, O, n)``."""
    return coef @ basis.rows(x, basis.prepare(grid))


# Shapes and kinds of tensors


@every_basis
@quick
@sizes
def test_there_is_a_row_for_every_function(name: str, size: int, features: int, batch: int, seed: int) -> None:
    basis = make(name, size)
    grid = grid_of(basis, features)
    rows = function(basis, grid)(inside(basis, grid, batch, seed))
    assert basis.size == size
    assert len(grid) == features
    assert rows.shape == (features, size, batch)
    assert bool(torch.isfinite(rows).all())


@every_basis
@every_extrapolation
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_device_are_those_of_the_points(name: str, extrapolation: str, device: str, dtype: torch.dtype) -> None:
    for size in (1, 2, 7):
        basis = make(name, size, extrapolation=extrapolation)
        grid = grid_of(basis).to(device, dtype)
        x = torch.cat([inside(basis, grid.cpu(), 5).to(grid), outside(basis, grid.cpu()).to(grid)], dim=1).requires_grad_()
        rows = function(basis, grid)(x)
        (gradient,) = torch.autograd.grad(rows.sum(), x)
        adapted, usable = basis.adapted_grid(x.detach().t(), grid)
        for found in (rows, gradient, adapted, basis.sites(grid)):
            assert found.dtype == dtype
            assert found.device.type == device
        assert usable.dtype == torch.bool


@every_basis
@every_extrapolation
def test_float32_is_as_good_as_its_digits(name: str, extrapolation: str) -> None:
    basis = make(name, 9, extrapolation=extrapolation)
    grid = grid_of(basis).float()
    x = inside(basis, grid.double(), 50).float()
    short, exact = function(basis, grid)(x), function(basis, grid.double())(x.double())
    torch.testing.assert_close(short.double(), exact, rtol=0, atol=2e-5)


@every_basis
def test_an_empty_batch_has_empty_rows_and_gradients(name: str) -> None:
    for extrapolation in EXTRAPOLATIONS:
        basis = make(name, 6, extrapolation=extrapolation)
        x = torch.empty(2, 0, requires_grad=True)
        rows = function(basis, grid_of(basis))(x)
        assert rows.shape == (2, 6, 0)
        assert torch.autograd.grad(rows.sum(), x)[0].shape == (2, 0)


@every_basis
def test_points_may_lie_anywhere_in_memory(name: str) -> None:
    basis = make(name, 6)
    grid = grid_of(basis)
    f, x = function(basis, grid), inside(basis, grid, 8)
    expected = f(x.contiguous())
    torch.testing.assert_close(f(x.t().contiguous().t()), expected, rtol=0, atol=0)
    torch.testing.assert_close(f(x.repeat_interleave(3, dim=1)[:, ::3]), expected, rtol=0, atol=0)
    torch.testing.assert_close(f(x[:, :1].expand(-1, 4)), expected[..., :1].expand(-1, -1, 4), rtol=0, atol=0)


@every_basis
@every_extrapolation
def test_arguments_stay_as_they_are(name: str, extrapolation: str) -> None:
    basis = make(name, 6, extrapolation=extrapolation)
    grid = grid_of(basis)
    x = torch.cat([inside(basis, grid, 5), outside(basis, grid)], dim=1)
    before = grid.clone(), x.clone()
    f = function(basis, grid)
    rows = f(x)
    basis.adapted_grid(x.t(), grid, margin=0.1)
    basis.sites(grid)
    torch.testing.assert_close((grid, x), before, rtol=0, atol=0)
    grid.add_(1.0)  # what was prepared does not follow
    torch.testing.assert_close(f(x), rows, rtol=0, atol=0)


@every_basis
@every_extrapolation
def test_calls_do_not_disturb_each_other(name: str, extrapolation: str) -> None:
    basis = make(name, 6, extrapolation=extrapolation)
    grid, weight = grid_of(basis), proportions(2, 6, 9, seed=3)
    f = function(basis, grid)
    x, others = inside(basis, grid, 9).requires_grad_(), inside(basis, grid, 9, seed=1).requires_grad_()
    (expected,) = torch.autograd.grad((weight * f(x)).sum(), x)
    rows, later = f(x), f(others)
    before = rows.detach().clone()
    (later * weight.flip(2)).sum().backward()
    torch.testing.assert_close(rows.detach(), before, rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad((weight * rows).sum(), x)[0], expected, rtol=0, atol=0)


@every_basis
def test_what_is_not_a_number_stays_visible(name: str) -> None:
    for extrapolation in EXTRAPOLATIONS:
        basis = make(name, 6, extrapolation=extrapolation)
        rows = function(basis, grid_of(basis, 1))(torch.tensor([[0.3, torch.nan]]))
        assert bool(torch.isfinite(rows[..., 0]).all())
        assert bool(torch.isnan(rows[..., 1]).any())


# Derivatives


@every_basis
@every_extrapolation
@pytest.mark.parametrize("size", [1, 2, 8])
def test_first_and_second_derivatives(name: str, extrapolation: str, size: int) -> None:
    basis = make(name, size, extrapolation=extrapolation)
    grid = grid_of(basis)
    x = inside(basis, grid, 4)
    if extrapolation != "own":
        x = torch.cat([x, outside(basis, grid)], dim=1)
    x.requires_grad_()
    assert torch.autograd.gradcheck(function(basis, grid), x)
    assert torch.autograd.gradgradcheck(function(basis, grid), x)


@every_basis
def test_third_derivatives(name: str) -> None:
    basis = make(name, 8)
    grid = grid_of(basis)
    f, x = function(basis, grid), inside(basis, grid, 6)
    third, step = slope(slope(slope(f)))(x), 1e-5
    differences = (slope(slope(f))(x + step) - slope(slope(f))(x - step)) / (2 * step)
    scale = float(third.abs().max())
    torch.testing.assert_close(third, differences, rtol=1e-5, atol=1e-6 * scale)

    weight = proportions(*third.shape[:2], 1, seed=1)
    x.requires_grad_()
    y = (weight * f(x)).sum()
    for _ in range(3):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(y, (weight * third).sum(1), rtol=1e-10, atol=1e-10 * scale)


@every_basis
@every_extrapolation
def test_forward_mode_is_reverse_mode(name: str, extrapolation: str) -> None:
    basis = make(name, 7, extrapolation=extrapolation)
    grid = grid_of(basis)
    f, x = function(basis, grid), torch.cat([inside(basis, grid, 3), outside(basis, grid)], dim=1)
    torch.testing.assert_close(torch.func.jacfwd(f)(x), torch.func.jacrev(f)(x), rtol=1e-10, atol=1e-10)

    tangent = proportions(*x.shape, seed=1)
    with forward_ad.dual_level():
        value, found = forward_ad.unpack_dual(f(forward_ad.make_dual(x, tangent)))
    expected_value, expected = torch.func.jvp(f, (x,), (tangent,))
    torch.testing.assert_close((value, found), (expected_value, expected), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(value, f(x), rtol=1e-10, atol=1e-10)


@every_basis
def test_hessians(name: str) -> None:
    basis = make(name, 7)
    grid = grid_of(basis)
    f, x, weight = function(basis, grid), inside(basis, grid, 3), proportions(2, 7, 1, seed=1)
    hessian = torch.func.hessian(lambda x: (weight * f(x)).sum())(x).flatten(0, 1).flatten(1)
    expected = (weight * slope(slope(f))(x)).sum(1).flatten().diag()  # a point's value depends on no other point
    torch.testing.assert_close(hessian, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


# Rows written without a graph


def written(basis: Basis, prepared: Any, x: Tensor, lead: int = 1) -> tuple[Tensor, Tensor]:
    """The rows ``(I, n, B)`` that a basis writes, and the derivatives, read off the contraction with one function at a time."""
    rows = torch.full((len(x), lead + basis.size, x.shape[1]), torch.nan)
    slopes = basis.write_rows(rows, x, prepared, slopes=True)
    assert slopes is not None
    units = torch.zeros(basis.size, *rows.shape)
    units[range(basis.size), :, range(lead, lead + basis.size)] = 1.0
    return rows[:, lead:], torch.stack([slopes.contract(unit) for unit in units], dim=1)


@every_basis
@every_extrapolation
@settings(deadline=None, max_examples=6)
@given(size=st.integers(1, 14), features=st.integers(1, 3), batch=st.integers(0, 7), lead=st.integers(0, 2), seed=st.integers(0, 10**6))
def test_written_rows_and_slopes_are_those_of_autograd(
    name: str, extrapolation: str, size: int, features: int, batch: int, lead: int, seed: int
) -> None:
    basis = make(name, size, extrapolation=extrapolation)
    grid = grid_of(basis, features)
    low, high = ends(basis, grid)
    x = torch.cat([inside(basis, grid, batch, seed), low + 0.7 * (outside(basis, grid) - low)], dim=1)
    if name != "bspline":  # the derivatives of splines of low degree jump at their knots
        x = torch.cat([x, low, high], dim=1)
    prepared = basis.prepare(grid)
    expected = basis.rows(x, prepared)
    derivative = slope(function(basis, grid))(x)
    rows, slopes = written(basis, prepared, x, lead)
    scale = max(1.0, float(expected.abs().max())), max(1.0, float(derivative.abs().max()))
    torch.testing.assert_close(rows, expected, rtol=1e-12, atol=1e-12 * scale[0])
    torch.testing.assert_close(slopes, derivative, rtol=1e-12, atol=1e-12 * scale[1])
    alone = torch.full_like(rows, torch.nan)
    assert basis.write_rows(alone, x, prepared, slopes=False) is None
    torch.testing.assert_close(alone, rows, rtol=1e-12, atol=1e-12 * scale[0])
    with torch.inference_mode():
        torch.testing.assert_close(written(basis, prepared, x.clone(), lead), (rows, slopes), rtol=0, atol=0)


@every_basis
def test_written_rows_of_float32(name: str) -> None:
    basis = make(name, 9)
    grid = grid_of(basis).float()
    x = inside(basis, grid.double(), 20).float()
    rows = torch.empty(2, 9, 20, dtype=torch.float32)
    slopes = basis.write_rows(rows, x, basis.prepare(grid), slopes=True)
    assert slopes is not None
    assert slopes.values.dtype == torch.float32
    torch.testing.assert_close(rows.double(), function(basis, grid.double())(x.double()), rtol=0, atol=2e-5)


@pytest.mark.parametrize("parent", [BASES[name] for name in NAMES], ids=NAMES)
def test_a_subclass_that_changes_the_functions_has_their_derivatives(parent: Any) -> None:
    class OtherRows(parent):  # type: ignore[misc]
        def rows(self, x: Tensor, prepared: Any) -> Tensor:
            return super().rows(x, prepared).square()

    class Mixin:
        def rows(self, x: Tensor, prepared: Any) -> Tensor:
            return super().rows(x, prepared).exp()  # type: ignore[misc]

    class Mixed(Mixin, parent):  # type: ignore[misc]
        pass

    subclasses = [OtherRows, Mixed]
    if issubclass(parent, IntervalBasis):

        class OtherFunctions(parent):
            def functions(self, u: Tensor) -> Tensor:
                return super().functions(u).sin()

        subclasses.append(OtherFunctions)
    for cls in subclasses:
        basis = cls(6) if issubclass(parent, IntervalBasis) else cls(3, 3)
        grid = grid_of(basis)
        x = inside(basis, grid, 5)
        expected = function(basis, grid)(x), slope(function(basis, grid))(x)
        torch.testing.assert_close(written(basis, basis.prepare(grid), x), expected, rtol=1e-12, atol=1e-12)


def test_functions_without_a_slope_have_the_derivative_zero() -> None:
    class Steps(IntervalBasis):
        def functions(self, u: Tensor) -> Tensor:
            return (u[:, None] > torch.linspace(-1, 1, self.size, dtype=u.dtype)[:, None]).to(u.dtype)

    basis = Steps(4)
    grid = grid_of(basis)
    x = inside(basis, grid, 5)
    rows, slopes = written(basis, basis.prepare(grid), x)
    torch.testing.assert_close(rows, function(basis, grid)(x), rtol=0, atol=0)
    assert not bool(slopes.any())


# Transforms of programs


@every_basis
@every_extrapolation
def test_vmap_over_points_is_a_loop(name: str, extrapolation: str) -> None:
    basis = make(name, 6, extrapolation=extrapolation)
    grid = grid_of(basis)
    f = function(basis, grid)
    x = torch.stack([torch.cat([inside(basis, grid, 3, seed), outside(basis, grid)], dim=1) for seed in range(4)])
    torch.testing.assert_close(torch.func.vmap(f)(x), torch.stack([f(each) for each in x]), rtol=1e-12, atol=1e-12)


@every_basis
@every_extrapolation
def test_vmap_over_grids_is_a_loop(name: str, extrapolation: str) -> None:
    basis = make(name, 6, extrapolation=extrapolation)
    grids = torch.stack([grid_of(basis) * factor for factor in (1.0, 1.5, 2.0)])
    x = torch.stack([torch.cat([inside(basis, grid, 3), outside(basis, grid)], dim=1) for grid in grids])
    found = torch.func.vmap(lambda grid, x: basis.rows(x, basis.prepare(grid)))(grids, x)
    expected = torch.stack([function(basis, grid)(each) for grid, each in zip(grids, x, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@every_basis
@every_extrapolation
def test_a_grid_may_be_prepared_inside_of_a_transform(name: str, extrapolation: str) -> None:
    basis = make(name, 6, extrapolation=extrapolation)
    grid = grid_of(basis)
    x = torch.cat([inside(basis, grid, 3), outside(basis, grid)], dim=1)
    found = torch.func.grad(lambda x: basis.rows(x, basis.prepare(grid)).square().sum())(x)
    torch.testing.assert_close(found, torch.func.grad(lambda x: function(basis, grid)(x).square().sum())(x), rtol=1e-12, atol=1e-12)
    with torch.inference_mode():
        torch.testing.assert_close(basis.rows(x, basis.prepare(grid)), function(basis, grid)(x), rtol=0, atol=0)


@every_basis
@every_extrapolation
@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "prepared_inside"])
def test_it_compiles_in_one_piece(name: str, extrapolation: str, prepared: bool) -> None:
    basis = make(name, 6, extrapolation=extrapolation)
    grid = grid_of(basis)
    f, x = function(basis, grid), torch.cat([inside(basis, grid, 3), outside(basis, grid)], dim=1)
    torch._dynamo.reset()
    if prepared:
        found = torch.compile(f, fullgraph=True, backend="eager")(x)
    else:
        found = torch.compile(lambda x, grid: basis.rows(x, basis.prepare(grid)), fullgraph=True, backend="eager")(x, grid)
    torch.testing.assert_close(found, f(x), rtol=1e-12, atol=1e-12)


# Outside of the interval


@every_basis
@pytest.mark.parametrize("size", [1, 2, 7])
def test_constant_extrapolation_keeps_the_values_at_the_ends(name: str, size: int) -> None:
    basis = make(name, size, extrapolation="constant")
    grid = grid_of(basis)
    own, f, x = function(make(name, size, extrapolation="own"), grid), function(basis, grid), outside(basis, grid)
    low, high = ends(basis, grid)
    nudge = 1e-13 * (high - low)  # splines of degree 0 have their jumps at the ends
    expected = torch.cat([own(low).expand(-1, -1, 3), own(high - nudge).expand(-1, -1, 3)], dim=2)
    torch.testing.assert_close(f(x), expected, rtol=0, atol=1e-9)
    assert not bool(slope(f)(x).any())


@every_basis
@pytest.mark.parametrize("size", [1, 2, 7])
def test_linear_extrapolation_is_the_tangent_at_the_ends(name: str, size: int) -> None:
    basis = make(name, size, extrapolation="linear")
    grid = grid_of(basis)
    own, f, x = function(make(name, size, extrapolation="own"), grid), function(basis, grid), outside(basis, grid)
    low, high = ends(basis, grid)
    last = high - 1e-13 * (high - low)
    tangents = [own(end) + slope(own)(end) * (x - end)[:, None] for end in (low, last)]
    left = (torch.arange(6) < 3).expand_as(tangents[0])
    torch.testing.assert_close(f(x), torch.where(left, *tangents), rtol=0, atol=1e-9)
    slopes = torch.where(left, *(slope(own)(end).expand(-1, -1, 6) for end in (low, last)))
    torch.testing.assert_close(slope(f)(x), slopes, rtol=0, atol=1e-9)
    assert float(slope(slope(f))(x).abs().max()) < 1e-12


@every_basis
@every_extrapolation
def test_nothing_jumps_at_the_ends(name: str, extrapolation: str) -> None:
    basis = make(name, 7, extrapolation=extrapolation)
    grid = grid_of(basis)
    f = function(basis, grid)
    for end in ends(basis, grid):
        around = f(torch.cat([end - 1e-10, end, end + 1e-10], dim=1))
        torch.testing.assert_close(around, around[..., 1:2].expand(-1, -1, 3), rtol=0, atol=1e-8)


@every_basis
@every_extrapolation
def test_inside_of_the_interval_extrapolation_changes_nothing(name: str, extrapolation: str) -> None:
    basis = make(name, 7, extrapolation=extrapolation)
    grid = grid_of(basis)
    x = inside(basis, grid, 20)
    own = function(make(name, 7, extrapolation="own"), grid)
    torch.testing.assert_close(function(basis, grid)(x), own(x), rtol=1e-12, atol=1e-12)


@every_basis
def test_samples_that_lie_on_an_end_have_the_slope_there(name: str) -> None:
    basis = make(name, 7, extrapolation="linear")
    grid = grid_of(basis)
    f = function(basis, grid)
    for end, nearby in zip(ends(basis, grid), (1e-9, -1e-9), strict=True):
        end = end.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((f(end) * torch.arange(7.0)[:, None]).sum(), end)
        expected = (slope(f)(end.detach() + nearby) * torch.arange(7.0)[:, None]).sum(1)
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", OF_AN_INTERVAL)
def test_own_values_are_those_of_the_functions_everywhere(name: str) -> None:
    basis = make(name, 7, extrapolation="own")
    assert isinstance(basis, IntervalBasis)
    low, high = torch.tensor([[0.5]]), torch.tensor([[3.0]])
    u = torch.linspace(-3.0, 3.0, 25)[None]
    found = function(basis, torch.cat([low, high], dim=1))((low + high) / 2 + u * (high - low) / 2)
    torch.testing.assert_close(found, basis.functions(u), rtol=1e-9, atol=1e-9)


# Grids and coefficients


@every_basis
@quick
@sizes
def test_sites_determine_the_coefficients(name: str, size: int, features: int, batch: int, seed: int) -> None:
    basis = make(name, size)
    grid = grid_of(basis, features)
    sites = basis.sites(grid)
    low, high = ends(basis, grid)
    assert sites.shape == (features, size)
    assert bool(((low <= sites) & (sites <= high)).all())
    design = function(basis, grid)(sites).mT
    assert float(torch.linalg.cond(design).max()) < 1e5
    coef = proportions(features, size, 2, seed=seed)
    torch.testing.assert_close(solve(design, design @ coef), coef, rtol=1e-9, atol=1e-9)


@every_basis
@quick
@sizes
def test_a_refit_on_the_same_grid_gives_the_coefficients_back(name: str, size: int, features: int, batch: int, seed: int) -> None:
    basis = make(name, size)
    grid = grid_of(basis, features)
    coef, samples = proportions(features, 3, size, seed=seed), inside(basis, grid, batch + 1, seed).t()  # fewer than functions, too
    torch.testing.assert_close(refit(basis, coef, grid, grid, samples), coef, rtol=0, atol=1e-6)
    short = refit(basis, coef.float(), grid.float(), grid.float(), samples.float())
    assert short.dtype == torch.float32
    torch.testing.assert_close(short, coef.float(), rtol=0, atol=2e-6)


@every_basis
def test_a_refit_is_one_matrix_per_input_however_the_inputs_are_divided(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    basis = make(name, 7)
    old = grid_of(basis, 5)
    samples = 1.3 * inside(basis, old, 30).t()
    new, _ = basis.adapted_grid(samples, old)
    coef = proportions(5, 4, 7, seed=3)
    expected = coef @ change_of_basis(basis, old, new, samples)
    for numbers in (1, 2 * 30 * 7, 10**6):
        monkeypatch.setattr(projection, "REFIT_NUMBERS", numbers)
        torch.testing.assert_close(refit(basis, coef, old, new, samples), expected, rtol=1e-10, atol=1e-10)


@every_basis
@pytest.mark.parametrize("width", [0.5, 0.1, 0.01])
def test_a_refit_to_samples_close_together_does_not_magnify_rounding(name: str, width: float) -> None:
    basis = make(name, 14)
    grid = grid_of(basis, 1)
    coef = proportions(1, 5, 14, seed=1)
    for seed in range(5):
        samples = 0.1 + width * proportions(40, 1, seed=seed)
        torch.testing.assert_close(refit(basis, coef, grid, grid, samples), coef, rtol=0, atol=1e-6)


POLYNOMIALS_OF: dict[str, Callable[[Basis], int]] = {
    "bspline": lambda basis: basis.degree,  # type: ignore[attr-defined]
    "chebyshev": lambda basis: basis.size - 1,
    "fourier": lambda basis: 0,
    "ricker": lambda basis: min(1, basis.size - 1),
}
"""The highest degree of polynomials that a basis represents on every grid."""


@pytest.mark.parametrize("name", sorted(POLYNOMIALS_OF))
@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_a_refit_keeps_what_can_be_represented(name: str, size: int) -> None:
    basis = make(name, size)
    old = grid_of(basis)
    low, high = ends(basis, old)
    samples = (low + (high - low) * (0.2 + 0.5 * proportions(2, 5))).t()
    new, usable = basis.adapted_grid(samples if len(samples) > basis.size else inside(basis, old, 30).t(), old)
    assert bool(usable.all())
    degree = POLYNOMIALS_OF[name](basis)

    def polynomials(x: Tensor) -> Tensor:
        return (2 * (x - low) / (high - low) - 1)[:, None] ** torch.arange(degree + 1)[:, None]

    sites = basis.sites(old)
    coef = solve(function(basis, old)(sites).mT, polynomials(sites).mT).mT
    found = refit(basis, coef, old, new, samples)
    x = inside(basis, new, 30)
    torch.testing.assert_close(curves(basis, new, x, found), polynomials(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_refit_keeps_splines_on_nested_knots(degree: int) -> None:
    basis = BSpline(4, degree)
    fractions = proportions(2, 5, seed=3).add(0.2).cumsum(1)
    old = extend_knots(fractions, degree)
    nested = torch.cat([torch.lerp(fractions[:, i : i + 1], fractions[:, i + 1 : i + 2], 0.5 * half) for i in (1, 2) for half in (0, 1)], 1)
    new = extend_knots(torch.cat([nested, fractions[:, 3:4]], dim=1), degree)
    coef = proportions(2, 3, basis.size, seed=4)
    found = refit(basis, coef, old, new, inside(basis, new, 3).t())
    x = inside(basis, new, 40)
    torch.testing.assert_close(curves(basis, new, x, found), curves(basis, old, x, coef), rtol=1e-10, atol=1e-10)


@every_basis
def test_of_what_cannot_be_represented_a_refit_is_the_least_squares_fit(name: str) -> None:
    basis = make(name, 8)
    old = grid_of(basis)
    samples = inside(basis, old, 60).t() * 1.4
    new, _ = basis.adapted_grid(samples, old)
    coef = proportions(2, 1, 8, seed=2) - 0.5
    found = refit(basis, coef, old, new, samples)
    x = samples.t()
    before, after = curves(basis, old, x, coef)[:, 0], curves(basis, new, x, found)[:, 0]
    for i, design in enumerate(function(basis, new)(x).mT.numpy()):
        best = design @ np.linalg.lstsq(design, before[i].numpy(), rcond=None)[0]
        np.testing.assert_allclose(after[i].numpy(), best, rtol=0, atol=1e-8)


@every_basis
@quick
@sizes
def test_an_adapted_grid_reaches_over_the_samples_by_the_margin(name: str, size: int, features: int, batch: int, seed: int) -> None:
    basis = make(name, size)
    grid = grid_of(basis, features)
    samples = 5 * proportions(batch + 15, features, seed=seed) - 2
    for margin in (0.0, 0.3):
        found, usable = basis.adapted_grid(samples, grid, margin)
        low, high = ends(basis, found)
        assert bool(usable.all())
        assert found.shape == grid.shape
        torch.testing.assert_close(low[:, 0], samples.amin(0) - margin, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(high[:, 0], samples.amax(0) + margin, rtol=1e-12, atol=1e-12)
        basis.prepare(found)


@every_basis
@pytest.mark.parametrize("margin", [0.0, 0.01])
@pytest.mark.parametrize("count", [1, 40])
def test_a_constant_column_is_reported_and_keeps_its_grid(name: str, margin: float, count: int) -> None:
    basis = make(name, 6)
    grid = grid_of(basis, 3)
    samples = proportions(count, 3)
    samples[:, 1] = 0.1 + 0.2  # not a round number
    found, usable = basis.adapted_grid(samples, grid, margin)
    assert usable.tolist() == [count > 1, False, count > 1]
    torch.testing.assert_close(found[~usable], grid[~usable], rtol=0, atol=0)
    assert bool((found != grid).any(dim=1)[usable].all())


@every_basis
def test_a_layer_takes_it_by_name_and_keeps_its_function(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    layer = KANLinear(3, 2, basis=name, generator=generator)
    assert type(layer.basis) is BASES[name]
    assert layer.basis.size == 8
    x = 2 * proportions(50, 3) - 1
    layer(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())
    before = layer(x).detach()
    layer.update_grid(x, margin=1e-6)
    assert float((layer(x).detach() - before).abs().max()) < 0.05 * float(before.abs().max())
    twin = KANLinear(3, 2, basis=name)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin(x), layer(x), rtol=0, atol=0)


@every_basis
@every_extrapolation
def test_a_layer_that_was_first_used_for_inference_can_be_trained(name: str, extrapolation: str) -> None:
    layer = KANLinear(3, 2, basis=make(name, 6, extrapolation=extrapolation))
    with torch.inference_mode():
        expected = layer(proportions(5, 3))
    x = proportions(5, 3).requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y.detach(), expected, rtol=1e-12, atol=1e-15)
    assert torch.autograd.gradcheck(layer, x)


# Bases as values


@every_basis
@every_extrapolation
def test_a_basis_is_a_value(name: str, extrapolation: str) -> None:
    basis: Any = make(name, 7, extrapolation=extrapolation)
    twin = make(name, 7, extrapolation=extrapolation)
    for other in (twin, copy.copy(basis), copy.deepcopy(basis), pickle.loads(pickle.dumps(basis)), dataclasses.replace(basis)):
        assert other == basis
        assert hash(other) == hash(basis)
    assert eval(repr(basis), {type(basis).__name__: type(basis)}) == basis
    assert basis != make(name, 8, extrapolation=extrapolation)
    assert basis != make(name, 7, extrapolation="own" if extrapolation != "own" else "linear")
    assert len({make(each, 7) for each in NAMES}) == len(NAMES)
    with pytest.raises(dataclasses.FrozenInstanceError, match="extrapolation"):
        basis.extrapolation = "own"
    with pytest.raises(TypeError, match="positional argument"):
        type(basis)(7, 3, "own", True)


@pytest.mark.parametrize("name", OF_AN_INTERVAL)
@pytest.mark.parametrize("size", [0, -3])
def test_a_basis_without_functions_is_an_error(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=rf"^size, the number of functions of a basis, must be at least 1; got {size}\.$"):
        make(name, size)


@every_basis
def test_an_unknown_extrapolation_is_an_error(name: str) -> None:
    message = "unknown extrapolation 'linaer'; did you mean 'linear'? Valid are: 'own', 'linear', 'constant'."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(name, 6, extrapolation="linaer")


@pytest.mark.parametrize("name", OF_AN_INTERVAL)
@pytest.mark.parametrize("grid", [[[1.0, -1.0]], [[0.0, 0.0]], [[-1.0, 0.0, 1.0]], [-1.0, 1.0], [[0.0, float("nan")]]], ids=str)
def test_what_is_no_interval_is_an_error(name: str, grid: list[Any]) -> None:
    basis = make(name, 4)
    message = f"the grid of {basis} must be [low, high] with low < high for every input; got {grid}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        basis.prepare(torch.tensor(grid))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BSpline(0), "a grid has at least 1 interval; got 0."),
        (lambda: BSpline(3, -1), "the degree of splines is at least 0; got -1."),
        (lambda: BSpline(5, 3).prepare(torch.arange(9.0)[None]), "has 12 knots per input; the grid has 9."),
        (lambda: BSpline(5, 3).prepare(-torch.arange(12.0)[None]), "knots must not decrease along a row; they do for the inputs [0]."),
        (lambda: GaussianRBF(4, width=0.0), "width, in units of the centres' spacing, must be positive; got 0.0."),
        (lambda: GaussianRBF(4, width=float("nan")), "must be positive; got nan."),
    ],
)
def test_wrong_arguments_of_single_bases(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize("basis", [GaussianRBF(9, width=1.5), Fourier(9, periodic=True), Fourier(8, periodic=True)], ids=repr)
def test_options_obey_the_laws_too(basis: IntervalBasis) -> None:
    grid = grid_of(basis)
    x = inside(basis, grid, 4).requires_grad_()
    assert torch.autograd.gradcheck(function(basis, grid), x)
    assert float(torch.linalg.cond(function(basis, grid)(basis.sites(grid)).mT).max()) < 1e5
    assert eval(repr(basis), {type(basis).__name__: type(basis)}) == basis
