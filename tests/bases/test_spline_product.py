"""The product of spline values with coefficients: both ways, in blocks, against the plain sum."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.bases import spline_product
from kan.bases.bspline import bspline_basis
from kan.bases.knots import uniform_knots
from kan.bases.spline_table import SplineTable, tabulate

pytestmark = pytest.mark.usefixtures("float64")

Problem = tuple[Tensor, Tensor, Tensor | None, SplineTable, Tensor]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Points of which some are beyond all knots, coefficients, factors, a table and the gradient of the product."""
    batch, inputs, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    intervals, degree = draw(st.integers(1, 40)), draw(st.integers(0, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    knots = uniform_knots(-1.0, 1.0, intervals, degree, inputs)
    if draw(st.booleans()):  # not equidistant
        knots = knots.sinh()
    x = 1.5 * torch.randn(batch, inputs, generator=generator)
    weight = torch.randn(outputs, inputs, intervals + degree, generator=generator)
    scaler = torch.randn(outputs, inputs, generator=generator) if draw(st.booleans()) else None
    return x, weight, scaler, tabulate(knots, degree), torch.randn(batch, outputs, generator=generator)


@contextmanager
def forced(gather: bool) -> Iterator[None]:
    """Takes one way always, by blocks of few inputs."""
    with mock.patch.object(spline_product, "gathers", lambda *_: gather), mock.patch.object(spline_product, "BLOCK", 300):
        yield


needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="sparse products need MKL")
both_ways = pytest.mark.parametrize("gather", [pytest.param(True, marks=needs_mkl), False])


@both_ways
@given(problem=problems())
@settings(deadline=None, max_examples=60)
def test_values_and_gradients(gather: bool, problem: Problem) -> None:
    x, weight, scaler, table, grad = problem
    arguments = [x, weight] if scaler is None else [x, weight, scaler]
    for argument in arguments:
        argument.requires_grad_()
    coef = weight if scaler is None else weight * scaler[..., None]
    expected = torch.einsum("bin,oin->bo", bspline_basis(x, table), coef)
    gradients = torch.autograd.grad(expected, arguments, grad)
    detached = [x.detach(), weight.detach(), None if scaler is None else scaler.detach(), table]
    with forced(gather):
        y = spline_product.spline_product(*detached)
        found = spline_product.spline_product_gradients(grad, *detached, to_x=True, to_weight=True, to_scaler=True)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-11, atol=1e-11)
    for ours, theirs in zip(found, gradients, strict=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert (found.scaler is None) == (scaler is None)


@both_ways
@pytest.mark.parametrize("wanted", ["to_x", "to_weight", "to_scaler"])
def test_only_what_is_asked_for(gather: bool, wanted: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x, weight = torch.rand(9, 4, generator=generator), torch.randn(3, 4, 8, generator=generator)
    scaler, grad = torch.randn(3, 4, generator=generator), torch.randn(9, 3, generator=generator)
    table = tabulate(uniform_knots(-1.0, 1.0, 5, 3, 4), 3)
    flags = {"to_x": False, "to_weight": False, "to_scaler": False, wanted: True}
    with forced(gather):
        everything = spline_product.spline_product_gradients(grad, x, weight, scaler, table, to_x=True, to_weight=True, to_scaler=True)
        found = spline_product.spline_product_gradients(grad, x, weight, scaler, table, **flags)
    for name, ours, theirs in zip(("to_x", "to_weight", "to_scaler"), found, everything, strict=True):
        if name == wanted:
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        else:
            assert ours is None


def test_the_rule() -> None:
    def gathers(batch: int, outputs: int, size: int) -> bool:
        return spline_product.gathers(torch.zeros(batch, 2), torch.zeros(outputs, 2, size), 3)

    assert gathers(1024, 64, 53) == torch.backends.mkl.is_available()
    assert not gathers(1024, 64, 8), "few functions"
    assert not gathers(64, 64, 53), "few points"
