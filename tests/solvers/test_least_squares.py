"""Residuals that are a function of a vector: their minimum, in whatever units the unknowns have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kan.solvers.least_squares import Evaluation, minimise_residuals

Array = NDArray[np.float64]


def decay(t: Array, y: Array, units: Array, seen: list[float] | None = None):
    """Residuals of ``a exp(-b t)`` for unknowns in some units; the sums of squares are added to `seen`."""

    def evaluate(q: Array) -> Evaluation:
        a, b = q / units
        with np.errstate(over="ignore", invalid="ignore"):
            curve = np.exp(-b * t)
            residuals = a * curve - y
        if seen is not None:
            seen.append(float(residuals @ residuals))
        return residuals, lambda: np.stack([curve, -a * t * curve], 1) / units

    return evaluate


@settings(deadline=None, max_examples=25)
@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.2, 3))
def test_units_of_the_unknowns_do_not_matter(first: float, second: float, rate: float) -> None:
    t, units = np.linspace(0, 2, 30), np.array([10.0**first, 10.0**second])
    y = 2.5 * np.exp(-rate * t)
    q, value = minimise_residuals(decay(t, y, units), np.array([1.0, 0.0]) * units, 60, 1e-6)
    assert value < 1e-20
    np.testing.assert_allclose(q / units, [2.5, rate], rtol=1e-8)


def test_the_sum_is_that_of_the_last_point_and_the_least_of_all() -> None:
    t = np.linspace(0, 2, 30)
    y = np.exp(-t) + 0.1 * np.cos(9 * t)
    seen: list[float] = []
    evaluate = decay(t, y, np.ones(2), seen)
    q, value = minimise_residuals(evaluate, np.array([1.0, -3.0]), 60, 1e-6)
    assert value == min(seen)
    evaluate(q)
    assert value == seen[-1]


def test_an_unknown_without_an_effect_stays() -> None:
    def evaluate(q: Array) -> Evaluation:
        return np.array([q[0] - 3.0, 0.1]), lambda: np.array([[1.0, 0.0], [0.0, 0.0]])

    q, value = minimise_residuals(evaluate, np.array([0.0, 7.0]), 60, 1e-9)
    assert value == pytest.approx(0.01) and q == pytest.approx([3.0, 7.0])


def test_ends() -> None:
    t = np.linspace(0, 2, 30)
    start = np.array([1.0, -3.0])
    for options in ({"steps": 0}, {"steps": 9, "stop": lambda: True}):
        q, _ = minimise_residuals(decay(t, np.exp(-t), np.ones(2)), start, **{"tolerance": 1e-6, **options})
        assert (q == start).all()
    q, value = minimise_residuals(lambda q: (np.array([2.0]), lambda: np.zeros((1, 0))), np.zeros(0), 9, 1e-6)
    assert len(q) == 0 and value == 4.0
    q, value = minimise_residuals(decay(t, np.full(30, np.nan), np.ones(2)), start, 9, 1e-6)
    assert (q == start).all() and np.isnan(value)
