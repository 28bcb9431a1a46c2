"""The penalty on sizes of edges."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.drop_in.edge_sparsity import edge_sparsity

pytestmark = pytest.mark.usefixtures("float64")


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 4), st.floats(0, 3), st.floats(0, 3), st.integers(0, 99))
def test_it_is_the_sum_and_the_entropy_of_the_shares(rows: int, columns: int, activation: float, entropy: float, seed: int) -> None:
    size = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shares = [float(value) / float(size.sum()) for value in size.flatten()]
    expected = activation * float(size.sum()) - entropy * sum(share * math.log(share) for share in shares)
    assert float(edge_sparsity(size, activation, entropy)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_edges_without_size_have_finite_gradients_and_no_edges_no_penalty() -> None:
    size = torch.tensor([[0.0, 2.0], [1.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(edge_sparsity(size, 0.5, 1.0), size)
    assert bool(torch.isfinite(gradient).all())
    zero = torch.zeros(2, 2, requires_grad=True)
    assert float(edge_sparsity(zero, 1.0, 1.0).detach()) == 0
    (gradient,) = torch.autograd.grad(edge_sparsity(zero, 1.0, 1.0), zero)
    assert bool(torch.isfinite(gradient).all())


def test_one_edge_costs_less_than_many_of_the_same_sum() -> None:
    assert float(edge_sparsity(torch.tensor([3.0, 0.0, 0.0]), 1.0, 1.0)) < float(edge_sparsity(torch.ones(3), 1.0, 1.0))
