"""Leave-one-out errors of smoothers, against fits that leave one row out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.discovery.laws import residual_test as module
from kan.discovery.laws.residual_test import CLIP, Smoothers, agreement, clipped_rms, robust_scale


def test_errors_are_those_of_fits_to_the_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDTHS", (0.5,))
    monkeypatch.setattr(module, "RIDGES", (0.01,))
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (25, 1))
    y = np.sin(3 * x[:, 0]) + 0.1 * random.normal(size=25)
    smoothers = Smoothers(x)
    kernel = np.exp(-np.square(smoothers.x - smoothers.x.T) / (2 * 0.5**2)) + 10.0
    left = []
    for n in range(25):
        rest = np.arange(25) != n
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)] + 0.01 * np.eye(24), y[rest])
        left.append(y[n] - kernel[n, rest] @ weights)
    np.testing.assert_allclose(smoothers.predicted(y)[0], left, rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(rows=st.integers(5, 120), columns=st.integers(1, 4), seed=st.integers(0, 1000))
def test_noise_is_not_explained(rows: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    noise = random.normal(size=rows)
    left, sure = Smoothers(random.uniform(1, 2, (rows, columns))).predicted(noise)
    assert left.shape == (rows,) and clipped_rms(left, robust_scale(noise)) <= clipped_rms(noise, robust_scale(noise)) * 1.001
    assert 0 <= sure < 4.5


@pytest.mark.parametrize("columns", [1, 2, 4])
@pytest.mark.parametrize("wide", [False, True])
def test_a_small_smooth_part_is_seen(columns: int, wide: bool) -> None:
    random = np.random.default_rng(columns)
    u = random.uniform(0, 1, (400, columns))
    smooth = np.sin(4 * u[:, 0]) * (1 + u[:, -1])
    e = random.normal(size=400) + 0.6 * (smooth - smooth.mean()) / smooth.std()
    left, sure = Smoothers(10 ** (4 * u) if wide else u).predicted(e)
    assert sure > 5 and 0.9 < clipped_rms(left, 1.0) < 1.15


def test_outliers_decide_nothing() -> None:
    random = np.random.default_rng(0)
    x, one = random.uniform(0, 1, (300, 1)), random.normal(size=300)
    smoothers = Smoothers(x)
    with_outlier = one.copy()
    with_outlier[3] = 1e9
    left, sure = smoothers.predicted(with_outlier)
    assert abs(sure - smoothers.predicted(one)[1]) < 1 and left[3] > 9e8 and clipped_rms(left, 1.0) < 1.1
    assert clipped_rms(with_outlier, 1.0) < 1.1 + CLIP / math.sqrt(300)


def test_agreement_is_a_normal_statistic_of_independent_predictions() -> None:
    random = np.random.default_rng(0)
    several = [agreement(random.normal(size=200), random.normal(size=200)) for _ in range(400)]
    assert abs(np.mean(several)) < 0.2 and 0.85 < np.std(several) < 1.15
    e = random.normal(size=200)
    assert agreement(e, e) > 7 and agreement(e, -e) < -7 and agreement(e, 0 * e) == 0.0


def test_constant_columns_and_zeros() -> None:
    assert Smoothers(np.ones((6, 2))).predicted(np.arange(6.0))[0].tolist() == np.arange(6.0).tolist()
    assert Smoothers(np.arange(6.0)[:, None]).predicted(np.zeros(6))[0].tolist() == [0.0] * 6
    assert robust_scale(np.array([0.0, 0.0, 0.0, 2.0])) == 1.0
