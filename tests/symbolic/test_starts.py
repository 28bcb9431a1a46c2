"""Starting points: the common grid, frequencies, and the best candidates of every function."""

import math

import pytest
import torch

from kan.symbolic import SYMBOLIC_LIB, lookup
from kan.symbolic.starts import POINTS, gridded, periodogram, standardised, starts_of

pytestmark = pytest.mark.filterwarnings("error")

Z = torch.linspace(-1, 1, 400, dtype=torch.float64)[None]

# alpha and beta of curves on [-1, 1]
TRUTH = {"sin": (5.0, 1.0), "exp": (-2.0, 0.0), "log": (1.0, 1.2), "1/x": (1.0, 1.3), "tanh": (3.0, 0.5), "gaussian": (2.0, -0.4),
         "arcsin": (0.8, 0.1), "sgn": (1.0, -0.3)}  # fmt: skip


def test_curves_on_the_grid_are_unit_vectors() -> None:
    z = torch.rand(2, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(2).sub(1).sort(-1).values
    found = gridded(z, torch.stack([z[0] ** 2, z[1].exp()]))
    assert found.shape == (2, POINTS) and found.dtype == torch.float32
    at = torch.linspace(-1, 1, POINTS, dtype=torch.float64)
    torch.testing.assert_close(found.double(), standardised(torch.stack([at**2, at.exp()])), rtol=0, atol=1e-2)
    assert not standardised(torch.ones(1, 5)).any()


@pytest.mark.parametrize("frequency", [20.0, 75.0])
def test_the_periodogram_finds_a_frequency(frequency: float) -> None:
    found = periodogram(Z, standardised(torch.sin(frequency * Z + 0.4)), 1, 8.0)
    assert float(found) == pytest.approx(frequency, abs=0.5)


@pytest.mark.parametrize("name", TRUTH)
def test_the_best_start_is_close_to_the_curve(name: str) -> None:
    row, (alpha, beta) = lookup(name), TRUTH[name]
    y = standardised(row.torch_fun(alpha * Z + beta))
    points = starts_of(row, Z, y, gridded(Z, y), 6)
    assert points.shape == (1, 6, 2)
    curves = standardised(row.torch_fun(points[0, :, :1] * Z + points[0, :, 1:]).nan_to_num(0.0))
    assert float((curves @ y[0]).square().max()) > 0.95


def test_every_function_of_the_library_has_as_many_starts_as_asked_for() -> None:
    y = standardised(torch.sin(math.pi * Z) + Z**2)
    for row in SYMBOLIC_LIB.values():
        if row.symmetries.scaling is None or row.symmetries.translation is None:
            points = starts_of(row, Z, y, gridded(Z, y), 5)
            assert points.shape == (1, 5, 2) and points.isfinite().all(), row.name
