"""Banded systems against full ones."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.bases.banded import solve_banded


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(0, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_solutions_are_those_of_the_full_matrix(n: int, k: int, inputs: int, outputs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    band = torch.randn(inputs, n, 2 * k + 1, generator=generator, dtype=torch.float64)
    band[..., k] += 3 * (k + 1)
    target = torch.randn(inputs, n, outputs, generator=generator, dtype=torch.float64)
    full = torch.zeros(inputs, n, n + 2 * k, dtype=torch.float64)
    place = torch.arange(n)[:, None] + torch.arange(2 * k + 1)
    full.scatter_(2, place.expand(inputs, -1, -1), band)
    expected = torch.linalg.solve(full[..., k : k + n], target)
    torch.testing.assert_close(solve_banded(band, target), expected, rtol=1e-9, atol=1e-9)
