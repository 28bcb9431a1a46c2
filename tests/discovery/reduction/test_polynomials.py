"""Polynomials against numpy and finite differences, and forms found by least squares."""

import math
import tracemalloc
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.chebyshev import chebval

from kan.datasets.problem_sets import problems
from kan.discovery.reduction.polynomials import (
    Array,
    Forms,
    LabelTarget,
    Polynomials,
    affordable,
    curve_bases,
    fit_forms,
    held_out,
    noise_floor,
    start_forms,
    surrogate,
    wide_columns,
)  # fmt: skip


def samples(columns: int, low: float = 1.0, high: float = 3.0, count: int = 300, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(low, high, (count, columns))


@given(st.integers(1, 3), st.integers(0, 5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_polynomials_are_products_of_chebyshev_polynomials(columns: int, degree: int, seed: int) -> None:
    z = samples(columns, -2.0, 5.0, 20, seed)
    basis = Polynomials(z, degree)
    s = 2 * (z - z.min(0)) / (z.max(0) - z.min(0)) - 1
    expected = np.stack(
        [np.prod([chebval(s[:, j], np.eye(degree + 1)[d]) for j, d in enumerate(orders)], axis=0) for orders in basis.exponents], 1
    )
    np.testing.assert_allclose(basis.values(z), expected, atol=1e-12)
    assert len({tuple(orders) for orders in basis.exponents}) == len(basis) == len(expected[0])
    assert basis.exponents.sum(1).max() == degree


@given(st.integers(1, 3), st.integers(0, 5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_slopes_are_those_of_finite_differences(columns: int, degree: int, seed: int) -> None:
    z = samples(columns, -2.0, 5.0, 20, seed)
    basis, step = Polynomials(z, degree), 1e-6
    slopes = list(basis.slopes(z))
    assert len(slopes) == columns
    for j, slope in enumerate(slopes):
        move = step * np.eye(columns)[j]
        np.testing.assert_allclose(slope, (basis.values(z + move) - basis.values(z - move)) / (2 * step), atol=1e-6)


@pytest.mark.parametrize(("columns", "degree"), [(1, 5), (4, 3), (9, 2)])
def test_values_and_slopes_are_those_of_full_tables_to_the_bit(columns: int, degree: int) -> None:
    z = samples(columns, -1.0, 1.0, 30)
    basis = Polynomials(z, degree)
    kinds = [basis._kinds(z, j) for j in range(columns)]
    first = [kind[:, order] for (kind, _), order in zip(kinds, basis.exponents.T, strict=True)]
    second = [kind[:, order] * order * basis.scale[j] for j, ((_, kind), order) in enumerate(zip(kinds, basis.exponents.T, strict=True))]
    np.testing.assert_array_equal(basis.values(z), math.prod(first))
    for j, slope in enumerate(basis.slopes(z)):
        np.testing.assert_array_equal(slope, math.prod((f for i, f in enumerate(first) if i != j), start=second[j]))


def test_many_rows_and_columns_stay_small() -> None:
    u = samples(20, -1.0, 1.0, 4000)
    target = LabelTarget.of(np.sin(3 * u[:, 0]) + u[:, 1] * u[:, 2])
    tracemalloc.start()
    gradients, error = surrogate(u, target)
    forms = fit_forms(u, target, start_forms(u, target, gradients, 1, tuple(range(18))), 3, steps=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6 and error < 1 and np.isfinite(forms.error)


def test_terms_are_a_share_of_the_rows_and_no_more_than_many_rows_allow() -> None:
    assert [affordable(rows) for rows in (2, 5, 100, 760)] == [0, 2, 40, 304]
    assert affordable(4000) < 300 and affordable(10**6) < 20


def test_polynomials_end_when_they_are_to_stop() -> None:
    u = samples(3)
    target = LabelTarget.of(np.exp(u[:, 0] / u[:, 1]))
    looks = count()
    gradients, error = surrogate(u, target, lambda: next(looks) >= 2)
    assert 1e-4 < error < math.inf and gradients.any()  # of degree 2
    none, unknown = surrogate(u, target, lambda: True)
    assert unknown == math.inf and not none.any()
    start = start_forms(u, target, gradients, 1)
    assert (fit_forms(u, target, start, 7, stop=lambda: True).entries == start.entries).all()
    assert noise_floor(u, np.ones(300), target.values, lambda: True)[0] > noise_floor(u, np.ones(300), target.values)[0]


def test_polynomials_of_constant_columns_and_of_none_are_finite() -> None:
    z = np.ones((5, 2))
    assert np.isfinite(Polynomials(z, 3).values(z)).all()
    np.testing.assert_array_equal(Polynomials(z[:, :0], 4).values(z[:, :0]), np.ones((5, 1)))


def test_what_is_held_out_lies_inside() -> None:
    x = samples(3)
    held = held_out(x)
    assert 0.1 < held.mean() <= 0.2
    assert (x[held].min(0) > x.min(0)).all() and (x[held].max(0) < x.max(0)).all()


def test_of_columns_of_few_values_and_of_few_samples_some_are_held_out() -> None:
    x = samples(3)
    x[:, 1] = np.round(x[:, 1])
    held = held_out(x)
    assert 0.15 < held.mean() <= 0.2 and len(np.unique(x[held, 1])) == 3
    assert all(1 <= held_out(samples(5, count=count)).sum() <= max(1, count / 4) for count in range(1, 12))


def test_curve_bases_are_orthonormal_and_hold_the_logarithm_of_wide_columns() -> None:
    x = np.stack([np.linspace(-1, 1, 200), np.geomspace(1e-2, 1e2, 200)], 1)
    for basis, column in zip(curve_bases(x, (False, True), 6), (x[:, 0], np.log(x[:, 1])), strict=True):
        assert basis.shape == (200, 7) and np.ptp(basis[:, 0]) < 1e-12
        np.testing.assert_allclose(basis.T @ basis / 200, np.eye(7), atol=1e-12)
        np.testing.assert_allclose(basis @ np.linalg.lstsq(basis, column**5, rcond=None)[0], column**5, atol=1e-8)


def test_power_laws_over_a_wide_range_want_logarithms_and_waves_do_not() -> None:
    random = np.random.default_rng(0)
    x = np.stack([np.exp(random.uniform(0, 4, 400)), random.uniform(1, 20, 400), random.uniform(-1, 1, 400)], 1)
    choices = wide_columns(x, x[:, 0] ** -1.5 + np.sin(x[:, 1]) * x[:, 2])
    assert (True, False, False) in choices and choices[-1] == (False, False, False) and len(set(choices)) == len(choices)
    assert not any(choice[2] for choice in choices)  # it has both signs
    assert wide_columns(samples(2, 1.0, 1.5), np.ones(300)) == [(False, False)]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_labels_of_one_sign_are_fitted_in_logarithms(sign: float) -> None:
    y = sign * np.exp(np.linspace(-1, 2, 100))
    target = LabelTarget.of(y)
    assert target.logarithmic
    np.testing.assert_allclose(target.values, np.log(np.abs(y)))
    assert (target.weights > 0.9).all() and target.deviation == pytest.approx(float(np.std(target.values * target.weights)))


def test_labels_of_both_signs_are_fitted_as_they_are() -> None:
    y = np.linspace(-1, 2, 100)
    target = LabelTarget.of(y)
    assert not target.logarithmic and (target.weights == 1).all()
    np.testing.assert_allclose(target.values * np.sqrt(np.mean(y**2)), y)
    large = np.ones(100)
    large[7] = -0.5  # no noise turns such a label
    assert not LabelTarget.of(large).logarithmic


def test_a_few_labels_that_noise_turned_do_not_count() -> None:
    y = np.linspace(0.05, 3, 100)
    y[:4] = -0.01, 0.0, -0.02, 0.001
    target = LabelTarget.of(y)
    assert target.logarithmic and np.isfinite(target.values).all()
    assert (target.weights[:3] == 0).all() and 0 < target.weights[3] < 0.1 and target.weights[-1] > 0.99


def test_the_gradients_of_a_surrogate_are_those_of_the_function() -> None:
    u = samples(3, -1.0, 1.0)
    y = np.exp(u[:, 0] / 2) * u[:, 1] + 3 * u[:, 2]
    gradients, error = surrogate(u, LabelTarget(y, np.ones_like(y), False))
    expected = np.stack([y / 2 - 1.5 * u[:, 2], np.exp(u[:, 0] / 2), np.full_like(y, 3.0)], 1)
    assert error < 1e-6
    np.testing.assert_allclose(gradients, expected, atol=1e-5)


LAWS = {
    "one sign": lambda a, b, c: a**0.5 * np.exp(-b / c),
    "both signs": lambda a, b, c: a**0.5 * np.sin(2 * b / c - 2),
}


@pytest.mark.parametrize("law", LAWS)
def test_exponents_are_found(law: str) -> None:
    x = samples(3)
    u, target = np.log(x), LabelTarget.of(LAWS[law](*x.T))
    assert target.logarithmic == (law == "one sign")
    # b/c is one form, with b as its pivot; of the others, a has no part in it but a power of its own.
    start = Forms((1,), (0, 2), np.array([[0.1, -0.9]]), np.array([0.4, 0.1]))
    found = fit_forms(u, target, start, 14)
    np.testing.assert_allclose(found.entries, [[0.0, -1.0]], atol=1e-6)
    np.testing.assert_allclose(found.powers, [0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(found.matrix @ [0, 1, 1], [0.0], atol=1e-6)
    assert found.error < 1e-5
    kept = fit_forms(u, target, replace(start, powers=found.powers), 14, entries=False, powers=False)
    assert (kept.entries == start.entries).all() and kept.error > 1e-3
    near = start_forms(u, target, surrogate(u, target)[0], 1)
    assert fit_forms(u, target, near, 14).error < 1e-5


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_noise_is_seen_and_measured(share: float) -> None:
    z = samples(2, count=1000)
    factor, shape = z[:, 0] ** 2, np.exp(-z[:, 1]) + z[:, 0] / z[:, 1]
    y = factor * shape
    noise = share * np.std(y)
    floor, noisy = noise_floor(z, factor, y + noise * np.random.default_rng(1).normal(size=1000))
    assert noisy and floor == pytest.approx(noise, rel=0.25)
    assert noise_floor(z, factor, y)[0] < 1e-4 * noise


@pytest.mark.parametrize(("count", "columns"), [(2, 1), (3, 4), (5, 1), (9, 9), (80, 20), (240, 50)])
def test_of_few_samples_the_floor_is_what_a_constant_misses(count: int, columns: int) -> None:
    z = samples(columns, count=count)
    y = z[:, 0] + 2
    held = held_out(z)
    floor, noisy = noise_floor(z, np.ones(count), y)
    assert not noisy and floor == pytest.approx(float(np.sqrt(np.mean((y[held] - y[~held].mean()) ** 2))))


def test_what_polynomials_cannot_follow_is_no_noise() -> None:
    z = samples(2, 0.5, 6.0, 1000)
    for wave in (np.sin(5 * z[:, 0] * z[:, 1]), np.sin(2 * z[:, 0]) * np.sin(3 * z[:, 1])):
        assert not noise_floor(z, np.ones(1000), wave)[1]
    grating = next(problem for problem in problems("kan27") if problem.name == "I.30.3").sample(750, seed=0)
    floor, noisy = noise_floor(grating.x.numpy(), np.ones(750), grating.y.numpy()[:, 0])
    assert not noisy and 0.2 < floor / float(grating.y.std()) < 0.6  # not the same for many degrees
