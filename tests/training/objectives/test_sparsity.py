"""The penalty of score matrices against a version that goes entry by entry, with its gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.training.objectives.sparsity import sparsity, sparsity_with_slopes
from tests.reference import penalty

pytestmark = pytest.mark.usefixtures("float64")

shapes = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3)


def matrices(sizes: list[tuple[int, int]], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(*size, generator=generator, dtype=torch.float64) * (torch.rand(*size, generator=generator) > 0.3) for size in sizes]


@settings(deadline=None, max_examples=40)
@given(shapes, st.floats(0, 3), st.floats(0, 3), st.integers(0, 10**6))
def test_value_is_that_of_the_formula(sizes: list[tuple[int, int]], l1: float, entropy: float, seed: int) -> None:
    scores = matrices(sizes, seed)
    expected = sum(penalty.sparsity(v.numpy(), l1, entropy) for v in scores)
    assert sparsity(scores, l1, entropy).item() == pytest.approx(expected, rel=1e-11, abs=1e-11)
    assert sparsity_with_slopes(scores, l1, entropy)[0] == pytest.approx(expected, rel=1e-11, abs=1e-11)


def test_gradients() -> None:
    scores = [v.requires_grad_() for v in matrices([(3, 2), (1, 3), (4, 4)], 0)]
    assert torch.autograd.gradcheck(lambda *v: sparsity(v, 1.3, 2.0), scores)
    assert torch.autograd.gradgradcheck(lambda *v: sparsity(v, 1.3, 2.0), scores)


def test_float32() -> None:
    scores = [v.float().requires_grad_() for v in matrices([(3, 2), (1, 3)], 1)]
    value = sparsity(scores, 1.0, 2.0)
    assert value.dtype == torch.float32
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(value, scores))
