"""Coefficients from values: round trips, nested knots, data that determine too little."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.bases.bspline import bspline_basis, tabulate
from kan.bases.knots import core, core_sites, extend_knots, support_sites
from kan.bases.projection import carried_over, evaluate, interpolate, least_squares

pytestmark = pytest.mark.usefixtures("float64")


def random_knots(features: int, intervals: int, degree: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return extend_knots(torch.rand(features, intervals + 1, generator=generator, dtype=torch.float64).add_(0.2).cumsum(1), degree)


def random_coef(inputs: int, outputs: int, size: int, seed: int) -> Tensor:
    return torch.randn(inputs, outputs, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def samples(knots: Tensor, degree: int, count: int, seed: int) -> Tensor:
    """Uniform on the core, ``(count, I)``."""
    grid = core(knots, degree)
    fraction = torch.rand(count, len(knots), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return grid[:, 0] + (grid[:, -1] - grid[:, 0]) * fraction


sizes = given(st.integers(0, 4), st.integers(1, 12), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))


@settings(deadline=None, max_examples=30)
@sizes
def test_values_at_sites_give_the_coefficients_back(degree: int, intervals: int, inputs: int, outputs: int, seed: int) -> None:
    knots = random_knots(inputs, intervals, degree, seed)
    table, coef = tabulate(knots, degree), random_coef(inputs, outputs, intervals + degree, seed)
    for sites in (core_sites(knots, degree), support_sites(knots, degree)):
        assert sites.shape == (inputs, intervals + degree)
        values = evaluate(sites.t(), coef, table).transpose(0, 1)
        torch.testing.assert_close(interpolate(sites, values, table), coef, rtol=1e-8, atol=1e-8)


@settings(deadline=None, max_examples=30)
@sizes
def test_least_squares_gives_the_coefficients_back(degree: int, intervals: int, inputs: int, outputs: int, seed: int) -> None:
    knots = random_knots(inputs, intervals, degree, seed)
    table, coef = tabulate(knots, degree), random_coef(inputs, outputs, intervals + degree, seed)
    x = torch.cat([core_sites(knots, degree).t(), samples(knots, degree, 60, seed)])
    torch.testing.assert_close(least_squares(x, evaluate(x, coef, table), table), coef, rtol=1e-7, atol=1e-7)


def test_least_squares_is_that_of_numpy() -> None:
    knots = random_knots(2, 5, 3, seed=1)
    table, x = tabulate(knots, 3), samples(knots, 3, 80, seed=2)
    y = torch.randn(80, 2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = least_squares(x, y, table)
    for i in range(2):
        expected = np.linalg.lstsq(bspline_basis(x, table)[:, i].numpy(), y[:, i].numpy(), rcond=None)[0]
        np.testing.assert_allclose(found[i].T.numpy(), expected, rtol=1e-8, atol=1e-8)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
def test_nested_knots_represent_the_same_function(degree: int, intervals: int, factor: int, seed: int) -> None:
    coarse = random_knots(2, intervals, degree, seed)
    old = core(coarse, degree)
    fractions = torch.arange(factor * intervals + 1, dtype=torch.float64) / factor
    low = fractions.floor().long().clamp(max=intervals - 1)
    fine = extend_knots(torch.lerp(old[:, low], old[:, low + 1], fractions - low), degree)
    table, coef = tabulate(coarse, degree), random_coef(2, 3, intervals + degree, seed)
    sites = core_sites(fine, degree)
    new = interpolate(sites, evaluate(sites.t(), coef, table).transpose(0, 1), tabulate(fine, degree))
    x = samples(coarse, degree, 50, seed)
    before, after = evaluate(x, coef, table), evaluate(x, new, tabulate(fine, degree))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)


def test_what_the_data_do_not_determine_keeps_the_prior() -> None:
    knots = random_knots(1, 8, 3, seed=4)
    table, prior = tabulate(knots, 3), random_coef(1, 2, 11, seed=5)
    grid = core(knots, 3)[0]
    x = torch.linspace(float(grid[0]), float(grid[2]), 40)[:, None]  # the first two intervals alone
    y = evaluate(x, random_coef(1, 2, 11, seed=6), table)
    found = least_squares(x, y, table, prior)
    torch.testing.assert_close(evaluate(x, found, table), y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[..., 5:], prior[..., 5:], rtol=0, atol=0)
    assert float((found[..., :5] - prior[..., :5]).abs().min()) > 1e-6


def test_without_a_prior_the_undetermined_is_zero() -> None:
    knots = random_knots(1, 8, 3, seed=4)
    grid = core(knots, 3)[0]
    x = torch.linspace(float(grid[0]), float(grid[2]), 40)[:, None]
    found = least_squares(x, torch.ones(40, 1, 1), tabulate(knots, 3))
    assert not bool(found[..., 5:].any())


@pytest.mark.parametrize("count", [1, 2, 50])
def test_constant_and_repeated_samples_stay_finite(count: int) -> None:
    knots = random_knots(2, 5, 3, seed=7)
    prior = random_coef(2, 3, 8, seed=8)
    x = samples(knots, 3, 1, seed=9).expand(count, 2)
    y = torch.full((count, 2, 3), 0.7)
    for found in (least_squares(x, y, tabulate(knots, 3)), least_squares(x, y, tabulate(knots, 3), prior)):
        assert bool(torch.isfinite(found).all())
        torch.testing.assert_close(evaluate(x, found, tabulate(knots, 3)), y, rtol=1e-10, atol=1e-10)


def test_contradictory_values_at_few_distinct_samples_stay_bounded() -> None:
    knots = random_knots(2, 9, 3, seed=7)
    x = samples(knots, 3, 5, seed=9).repeat(12, 1)
    y = torch.randn(60, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = least_squares(x, y, tabulate(knots, 3))
    means = y.reshape(12, 5, 2, 3).mean(0)
    torch.testing.assert_close(evaluate(x[:5], found, tabulate(knots, 3)), means, rtol=1e-9, atol=1e-9)
    assert float(found.abs().max()) < 100


def test_samples_outside_of_all_knots_change_nothing() -> None:
    knots, prior = random_knots(1, 4, 2, seed=1), random_coef(1, 1, 6, seed=2)
    found = least_squares(torch.full((9, 1), 1e3), torch.ones(9, 1, 1), tabulate(knots, 2), prior)
    torch.testing.assert_close(found, prior, rtol=0, atol=0)


def test_float32_is_solved_in_float64() -> None:
    knots = random_knots(2, 20, 3, seed=3)
    coef = random_coef(2, 3, 23, seed=4)
    sites = core_sites(knots.float(), 3)
    exact = tabulate(knots.float().double(), 3)
    values = evaluate(sites.double().t(), coef, exact).transpose(0, 1)
    found = interpolate(sites, values.float(), tabulate(knots.float(), 3))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), coef, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 2), st.integers(0, 10**6))
def test_splines_on_other_knots_are_the_closest_on_the_whole_interval(degree: int, old: int, new: int, inputs: int, seed: int) -> None:
    table = tabulate(random_knots(inputs, old, degree, seed), degree)
    other = tabulate(random_knots(inputs, new, degree, seed + 1), degree)
    coef, grid = random_coef(inputs, 2, old + degree, seed), core(other.knots, degree)
    found = carried_over(coef, table, other, grid[:, [0, -1]])
    x = (grid[:, 0] + (grid[:, -1] - grid[:, 0]) * (torch.arange(4000)[:, None] + 0.5) / 4000).contiguous()
    closest = least_squares(x, evaluate(x, coef, table), other)
    errors = [(evaluate(x, each, other) - evaluate(x, coef, table)).square().mean() for each in (found, closest)]
    assert float(errors[0]) <= 1.01 * float(errors[1]) + 1e-9


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_samples_that_say_little_do_not_decide_what_is_between_them(degree: int) -> None:
    table = tabulate(random_knots(3, 10, degree, 0), degree)
    grid = core(table.knots, degree)
    other = tabulate(extend_knots(torch.lerp(grid[:, :1], grid[:, -1:], torch.linspace(0, 1, 26)), degree), degree)
    coef, ends = random_coef(3, 2, 10 + degree, 1), grid[:, [0, -1]]
    x = samples(table.knots, degree, 1000, 2)
    best, fitted = (carried_over(coef, table, other, ends, seen) for seen in (None, samples(table.knots, degree, 24, 3)))
    errors = [float((evaluate(x, each, other) - evaluate(x, coef, table)).abs().max()) for each in (best, fitted)]
    assert errors[1] <= 30 * errors[0] and errors[0] < 1
    many = samples(table.knots, degree, 400, 4)
    expected = least_squares(many, evaluate(many, coef, table), other)
    torch.testing.assert_close(carried_over(coef, table, other, ends, many), expected, rtol=1e-6, atol=1e-6)


def test_what_is_not_finite_stays_so() -> None:
    table, coef = tabulate(random_knots(1, 8, 3, 0), 3), random_coef(1, 2, 11, 1)
    coef[0, 1, 0] = torch.nan
    grid = core(table.knots, 3)
    other = tabulate(extend_knots(torch.lerp(grid[:, 5:6], grid[:, -1:], torch.linspace(0, 1, 6)), 3), 3)
    for knots in (other, table):
        found = carried_over(coef, table, knots, core(knots.knots, 3)[:, [0, -1]])
        assert bool(torch.isfinite(found[0, 0]).all()) and bool(torch.isnan(found[0, 1]).all())
