"""Knots: extended, taken from samples, and the sites that belong to them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.bases.knots import check_knots, core, core_sites, extend_knots, increasing, quantile_grid, support_sites, uniform_knots

pytestmark = pytest.mark.usefixtures("float64")
SIZES = (st.integers(1, 6), st.integers(0, 4), st.integers(1, 3))


@settings(deadline=None, max_examples=30)
@given(*SIZES)
def test_extended_knots_hold_their_grid_and_go_on_at_its_mean_spacing(intervals: int, degree: int, features: int) -> None:
    generator = torch.Generator().manual_seed(intervals)
    grid = torch.rand(features, intervals + 1, generator=generator).sort(dim=1).values
    knots = extend_knots(grid, degree)
    assert knots.shape == (features, intervals + 2 * degree + 1)
    torch.testing.assert_close(core(knots, degree), grid)
    spacing = ((grid[:, -1] - grid[:, 0]) / intervals)[:, None]
    for outside in (knots[:, : degree + 1], knots[:, intervals + degree :]):
        torch.testing.assert_close(outside.diff(dim=1), spacing.expand(-1, degree))


@settings(deadline=None, max_examples=30)
@given(*SIZES)
def test_sites_are_one_per_function_and_rise(intervals: int, degree: int, features: int) -> None:
    knots = uniform_knots(-1.0, 2.0, intervals, degree, features, torch.float64)
    for sites in (support_sites(knots, degree), core_sites(knots, degree)):
        assert sites.shape == (features, intervals + degree)
        assert bool((sites.diff(dim=1) > 0).all())
    inside = core_sites(knots, degree)
    assert float(inside.min()) >= -1 and float(inside.max()) <= 2


def test_greville_sites_reproduce_the_identity() -> None:
    # The coefficients of x in a B-spline basis are its Greville abscissae.
    from tests.reference import splines

    knots, x = uniform_knots(0.0, 1.0, 3, 3, 1, torch.float64), torch.linspace(0, 0.999, 7)[:, None]
    values = splines.basis(x.numpy(), knots.numpy(), 3)[:, 0] @ support_sites(knots, 3)[0].numpy()
    np.testing.assert_allclose(values, x[:, 0].numpy(), atol=1e-14)


@pytest.mark.parametrize("grid_eps", [0.0, 0.3, 1.0])
def test_a_grid_of_samples_is_between_quantiles_and_equal_spacing(grid_eps: float) -> None:
    ordered = (torch.arange(101.0) / 100)[:, None] ** 2
    grid = quantile_grid(ordered, 4, grid_eps, margin=0.5)[0]
    assert (float(grid[0]), float(grid[-1])) == pytest.approx((-0.5, 1.5))
    quantiles = torch.tensor([-0.5, 0.25**2, 0.5**2, 0.75**2, 1.5])
    torch.testing.assert_close(grid, grid_eps * torch.linspace(-0.5, 1.5, 5) + (1 - grid_eps) * quantiles)


def test_grids_that_rise_by_round_off_only_do_not_count_as_rising() -> None:
    rows = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0], [1.0, 1.0 + 4e-16, 2.0], [1e8, 1e8 + 1.0, 1e8 + 2.0]])
    assert increasing(rows).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        (torch.zeros(3), r"shape \(in_features, intervals \+ 2\*degree \+ 1\).*got \(3,\)"),
        (torch.zeros(2, 3), r"got \(2, 3\) for degree 1"),
        (torch.tensor([[0.0, 1.0, float("nan"), 3.0]]), "NaN or infinity"),
        (torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 1.0, 3.0]]), r"they do for the inputs \[1\]"),
    ],
)
def test_knots_that_are_none_are_named(knots: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_knots(knots, 1)
