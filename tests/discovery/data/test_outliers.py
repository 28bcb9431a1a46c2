"""Outliers, and laws that are only steep."""

import numpy as np
import pytest

from kan.discovery.data.outliers import MAX_OUTLYING_SHARE, outlying_rows


@pytest.mark.parametrize("rows", [60, 300, 1500])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_labels_that_were_moved_are_found(rows: int, noise: float) -> None:
    random = np.random.default_rng(0)
    x = random.uniform(1, 2, (rows, 2))
    moved = np.zeros(rows, dtype=bool)
    moved[random.choice(rows, max(3, rows // 50), replace=False)] = True
    y = x[:, 0] * np.sin(2 * x[:, 1]) + noise * random.normal(size=rows) + moved * 3 * random.choice([-1, 1], rows)
    found = outlying_rows(x, y)
    assert found.dtype == bool and found[moved].all() and found[~moved].mean() < 0.02


@pytest.mark.parametrize("f", [lambda x: 1 / (x[:, 0] - 0.95), lambda x: np.exp(x[:, 0]) * x[:, 1], lambda x: np.floor(4 * x[:, 0])])
def test_few_rows_of_a_steep_law_are_taken_for_outliers(f: object) -> None:
    x = np.random.default_rng(1).uniform(1, 2, (400, 2))
    assert outlying_rows(x, f(x)).mean() <= MAX_OUTLYING_SHARE  # type: ignore[operator]


def test_the_peak_of_a_steep_law_stays() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (300, 2))
    y = x[:, 0] * x[:, 1]
    y[[7, 20]] += 5
    assert not outlying_rows(x, y).any()
    y[33] -= 5
    assert outlying_rows(x, y).nonzero()[0].tolist() == [7, 20, 33]


def test_noise_has_no_outliers_and_many_are_none() -> None:
    random = np.random.default_rng(2)
    x = random.uniform(1, 2, (300, 1))
    assert not outlying_rows(x, random.normal(size=300)).any()
    y = x[:, 0].copy()
    y[::5] += 10
    assert outlying_rows(x, y).mean() <= MAX_OUTLYING_SHARE
