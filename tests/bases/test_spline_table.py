"""The tabulated polynomial pieces of B-splines against the recursion of Cox and de Boor."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.bases.knots import extend_knots, uniform_knots
from kan.bases.spline_rows import local_values
from kan.bases.spline_table import tabulate
from tests.reference import splines

pytestmark = pytest.mark.usefixtures("float64")


def knots_of(features: int, intervals: int, degree: int, seed: int) -> torch.Tensor:
    widths = 0.2 + torch.rand(features, intervals, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return extend_knots(torch.cat([torch.zeros(features, 1, dtype=torch.float64), widths.cumsum(1)], dim=1), degree)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 4), st.integers(0, 99))
def test_the_pieces_are_the_splines(features: int, intervals: int, degree: int, seed: int) -> None:
    knots = knots_of(features, intervals, degree, seed)
    table = tabulate(knots, degree)
    assert table.size == intervals + degree and table.degree == degree
    share = torch.rand(features, 5, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    x = knots[:, :1] + share * (knots[:, -1:] - knots[:, :1])
    found = local_values(x, table)
    rows = torch.zeros(features, table.size, 5, dtype=torch.float64)
    rows.scatter_(1, found.first[:, None] + torch.arange(degree + 1)[:, None], found.values.movedim(0, 1))
    np.testing.assert_allclose(rows.permute(2, 0, 1).numpy(), splines.basis(x.t().numpy(), knots.numpy(), degree), atol=1e-12)


@pytest.mark.parametrize(("features", "intervals", "degree"), [(2, 3, 3), (1, 30, 2), (3, 4, 1)])
def test_equidistant_knots_are_seen_to_be(features: int, intervals: int, degree: int) -> None:
    uniform = uniform_knots(-1.0, 1.0, intervals, degree, features, torch.float64)
    assert (tabulate(uniform, degree).uniform is not None) == (degree >= 2)
    moved = uniform.clone()
    moved[0, degree] += 1e-6
    assert tabulate(moved, degree).uniform is None


@pytest.mark.parametrize("uniform", [True, False])
def test_the_table_of_some_inputs_is_that_of_their_knots(uniform: bool) -> None:
    knots = uniform_knots(-1.0, 1.0, 4, 3, 4, torch.float64) * torch.arange(1, 5)[:, None] if uniform else knots_of(4, 4, 3, seed=3)
    table, x = tabulate(knots, 3), torch.linspace(-0.9, 0.9, 6).expand(2, -1).contiguous()
    for part in (table.inputs(1, 3), table.taken([1, 2])):
        alone = tabulate(knots[1:3], 3)
        assert (part.uniform is None) == (alone.uniform is None)
        torch.testing.assert_close(local_values(x, part).values, local_values(x, alone).values)
        torch.testing.assert_close(part.columns, alone.columns)


@pytest.mark.parametrize(("extrapolation", "order"), [("constant", 0), ("linear", 1)])
def test_outside_of_the_grid_the_functions_go_on_as_asked(extrapolation: str, order: int) -> None:
    knots = knots_of(1, 4, 3, seed=5)
    table = tabulate(knots, 3, extrapolation)  # type: ignore[arg-type]
    end = knots[:, 7:8]  # t_{G+k}
    here, beyond = local_values(end - 1e-9, table, slopes=True), local_values(end + 0.5, table)
    assert here.slopes is not None
    expected = here.values + (0.5 + 1e-9) * here.slopes if order else here.values
    torch.testing.assert_close(beyond.values, expected, rtol=0, atol=1e-7)
