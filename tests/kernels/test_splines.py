"""Polynomial pieces of splines by the compiled kernels, beside those by torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.bases.knots import uniform_knots
from kan.bases.spline_table import SplineTable, tabulate
from kan.kernels.library import library, switched
from kan.kernels.splines import pieces
from tests.data import uniform

pytestmark = pytest.mark.skipif(library(torch.float64) is None, reason="the kernels have not been compiled, or are switched off")


def both(knots: torch.Tensor, k: int) -> tuple[SplineTable, SplineTable]:
    with switched(False):
        expected = tabulate(knots, k)
    return tabulate(knots, k), expected


@given(inputs=st.integers(1, 4), grid=st.integers(1, 40), k=st.integers(0, 5), kind=st.sampled_from(["even", "uneven", "repeated"]))
@settings(max_examples=80, deadline=None)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)], ids=["double", "single"])
def test_pieces(dtype: torch.dtype, tolerance: float, inputs: int, grid: int, k: int, kind: str) -> None:
    count = grid + 2 * k + 1
    knots = uniform_knots(-1.0, 2.0, grid, k, inputs, dtype)
    if kind != "even":
        knots = (uniform(inputs, count, seed=grid).sort(dim=1).values * 3).to(dtype)
    if kind == "repeated":
        knots[:, count // 2] = knots[:, count // 2 - 1]
    assert pieces(knots, k, every=True) is not None
    found, expected = both(knots, k)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if isinstance(theirs, int):
            assert ours == theirs
        elif theirs is not None:
            for one, other in zip(*((t,) if isinstance(t, torch.Tensor) else t for t in (ours, theirs)), strict=True):
                assert one.dtype == other.dtype
                torch.testing.assert_close(one, other, rtol=0, atol=tolerance * float(other.abs().max()))


def test_other_degrees_and_number_types_are_left_to_torch() -> None:
    assert pieces(torch.arange(20.0).view(1, -1), 6, every=False) is None
    assert pieces(torch.arange(20.0).view(1, -1).half(), 3, every=False) is None
    with switched(False):
        assert pieces(torch.arange(20.0).view(1, -1), 3, every=False) is None
