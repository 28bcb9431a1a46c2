"""`KANLinear` against the dense layer: values, gradients and second derivatives."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan.drop_in import edge_sum
from kan.drop_in.kan_linear import KANLinear, KANStack
from tests.reference import splines
from tests.reference.dense import DenseKANLinear, DenseKANStack, bases

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(params=[0, edge_sum.KEPT], ids=["works out again", "keeps"], scope="module", autouse=True)
def kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both what small layers do and what large ones do."""
    with mock.patch.object(edge_sum, "KEPT", request.param):
        yield


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def layers(draw: st.DrawFn, most_intervals: int = 40) -> tuple[KANLinear, int]:
    """A layer with weights of order one, on equidistant knots or on those of samples; and a seed for its input."""
    inputs, outputs, degree = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(0, 5))
    intervals, seed = draw(st.integers(1, most_intervals)), draw(st.integers(0, 10**6))
    layer = KANLinear(
        inputs,
        outputs,
        intervals,
        degree,
        enable_standalone_scale_spline=draw(st.booleans()),
        grid_range=draw(st.sampled_from([[-1, 1], [-2, 3]])),
    )
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=source(seed)))
    if draw(st.booleans()):
        layer.update_grid(torch.randn(20 + 4 * intervals, inputs, generator=source(seed + 1)))
    return layer, seed


def dense(layer: KANLinear) -> DenseKANLinear:
    other = DenseKANLinear(layer.in_features, layer.out_features, layer.grid_size, layer.spline_order, layer.enable_standalone_scale_spline)
    other.load_state_dict(layer.state_dict())
    return other


def inputs_of(layer: KANLinear, batch: int, seed: int) -> Tensor:
    """Points in the core, in the outer intervals and beyond all knots."""
    low, high = layer.grid[:, 0], layer.grid[:, -1]
    share = torch.rand(batch, layer.in_features, generator=source(seed + 2)) * 1.2 - 0.1
    return (low + (high - low) * share).requires_grad_()


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Up to round-off of the largest entry."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10 * max(1.0, float(expected.detach().abs().max())))


def derivatives(layer: nn.Module, x: Tensor, seed: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Output; gradient; and the gradient of a random combination of the gradient's entries; with respect to `x` and all parameters."""
    generator = source(seed + 3)
    y, arguments = layer(x), [x, *layer.parameters()]
    options: dict[str, Any] = {"materialize_grads": True}
    first = torch.autograd.grad((y * torch.randn(y.shape, generator=generator)).sum(), arguments, create_graph=True, **options)
    combination = torch.stack([(g * torch.randn(g.shape, generator=generator)).sum() for g in first]).sum()
    return y, list(first), list(torch.autograd.grad(combination, arguments, **options))


@pytest.mark.parametrize("degree", range(6))
def test_the_dense_bases_are_the_definition(degree: int) -> None:
    knots = torch.rand(2, 8 + degree, generator=source(degree)).cumsum(1)
    x = torch.rand(20, 2, generator=source(1)) * (knots[:, -1] + 0.4) - 0.2
    expected = torch.from_numpy(splines.basis(x, knots, degree))
    torch.testing.assert_close(bases(x, knots, degree), expected, rtol=1e-11, atol=1e-11)


@settings(deadline=None, max_examples=100)
@given(layers(), st.integers(1, 80))
def test_values_and_gradients_are_those_of_the_dense_layer(drawn: tuple[KANLinear, int], batch: int) -> None:
    layer, seed = drawn
    other, x = dense(layer), inputs_of(layer, batch, seed)
    assert_same(layer.b_splines(x), bases(x, layer.grid, layer.spline_order))
    cotangent = torch.randn(batch, layer.out_features, generator=source(seed + 3))
    y, expected = layer(x), other(x)
    assert_same(y, expected)
    grads, wanted = (torch.autograd.grad(out, [x, *owner.parameters()], cotangent) for out, owner in ((y, layer), (expected, other)))
    for found, true in zip(grads, wanted, strict=True):
        assert_same(found, true)
    without = torch.autograd.grad(layer(x.detach()), list(layer.parameters()), cotangent)
    for found, true in zip(without, wanted[1:], strict=True):
        assert_same(found, true)


@settings(deadline=None, max_examples=50)
@given(layers(most_intervals=12), st.integers(1, 10))
def test_second_derivatives_are_those_of_the_dense_layer(drawn: tuple[KANLinear, int], batch: int) -> None:
    layer, seed = drawn
    x = inputs_of(layer, batch, seed)
    y, first, second = derivatives(layer, x, seed)
    expected_y, expected_first, expected_second = derivatives(dense(layer), x, seed)
    for found, true in zip([y, *first, *second], [expected_y, *expected_first, *expected_second], strict=True):
        assert_same(found, true)


@pytest.mark.parametrize("degree", range(6))
def test_points_on_knots(degree: int) -> None:
    # Zero is a knot of two intervals, and so is every end. Below degree 2 the slope jumps there.
    layer = KANLinear(1, 3, 2, degree, generator=source(degree))
    x = layer.grid.t().clone().requires_grad_()
    y, expected = layer(x), dense(layer)(x)
    assert_same(y, expected)
    if degree > 1:
        assert_same(*(torch.autograd.grad(out.sum(), x)[0] for out in (y, expected)))


@pytest.mark.parametrize("scaler", [True, False])
def test_states_load_either_way(scaler: bool) -> None:
    layer = KANLinear(3, 2, 4, 2, enable_standalone_scale_spline=scaler, generator=source(0))
    other = DenseKANLinear(3, 2, 4, 2, scaler)
    assert_same(layer.grid, other.grid)
    layer.update_grid(torch.rand(50, 3, generator=source(1)))
    other.load_state_dict(layer.state_dict())
    again = KANLinear(3, 2, 4, 2, enable_standalone_scale_spline=scaler)
    again.load_state_dict(other.state_dict())
    x = inputs_of(layer, 9, 0)
    assert_same(layer(x), other(x))
    assert torch.equal(layer(x), again(x))


def test_stacks_agree() -> None:
    stack, other, x = KANStack([3, 4, 2], generator=source(0)), DenseKANStack([3, 4, 2]), torch.rand(20, 3, generator=source(1))
    stack(x, update_grid=True)
    other.load_state_dict(stack.state_dict())
    assert_same(stack(x), other(x))
