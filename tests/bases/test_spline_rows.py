"""Rows of B-spline values and slopes: all ways to write them give the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.bases.bspline import basis_rows
from kan.bases.knots import extend_knots, uniform_knots
from kan.bases.spline_rows import local_values, write_rows
from kan.bases.spline_table import tabulate
from tests.reference import splines

pytestmark = pytest.mark.usefixtures("float64")


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 4), st.integers(1, 9), st.booleans())
def test_rows_are_the_splines_after_what_leads(features: int, intervals: int, degree: int, batch: int, uniform: bool) -> None:
    generator = torch.Generator().manual_seed(intervals)
    knots = uniform_knots(-1.0, 1.0, intervals, degree, features, torch.float64)
    if not uniform:
        widths = 0.5 + torch.rand(features, intervals + 1, generator=generator, dtype=torch.float64)
        knots = extend_knots(widths.cumsum(1) - 1.5, degree)
    x = knots[:, :1] + (knots[:, -1:] - knots[:, :1]) * torch.rand(features, batch, generator=generator, dtype=torch.float64)
    table = tabulate(knots, degree)
    rows = torch.full((features, 1 + table.size, batch), 7.0, dtype=torch.float64)
    slopes = write_rows(rows, x, table, slopes=degree > 0)
    np.testing.assert_allclose(rows[:, 1:].permute(2, 0, 1).numpy(), splines.basis(x.t().numpy(), knots.numpy(), degree), atol=1e-11)
    if slopes is not None:
        weights = torch.randn(features, 1 + table.size, batch, generator=generator, dtype=torch.float64)
        found = slopes.contract(weights.clone())
        expected = (weights[:, 1:] * basis_rows(x, table, 1)).sum(1)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_derivatives_are_those_of_the_values(order: int) -> None:
    table, h = tabulate(uniform_knots(-1.0, 1.0, 5, 4, 1, torch.float64), 4), 1e-4
    x = torch.linspace(-0.83, 0.87, 9)[None]
    middle, right, left = (local_values(at, table, order) for at in (x, x + h, x - h))
    higher = local_values(x, table, order + 1)
    assert torch.equal(right.first, left.first) and torch.equal(middle.first, higher.first)
    torch.testing.assert_close((right.values - left.values) / (2 * h), higher.values, rtol=1e-5, atol=1e-4)


def test_what_is_no_number_has_no_values_and_others_are_unharmed() -> None:
    table = tabulate(uniform_knots(-1.0, 1.0, 5, 3, 1, torch.float64), 3)
    values = local_values(torch.tensor([[float("nan"), 0.25]]), table).values
    assert bool(values[:, 0, 0].isnan().all())
    assert float(values[:, 0, 1].sum()) == pytest.approx(1)
