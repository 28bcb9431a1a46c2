"""Bases by name, and a basis of a user's own from its definition to a trained layer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from kan.bases import BASES, BSpline, GaussianRBF, IntervalBasis, register_basis
from kan.bases.registry import basis_class
from kan.drop_in.kan_linear import KANLinear, KANStack

pytestmark = pytest.mark.usefixtures("float64")


@dataclass(frozen=True)
class Powers(IntervalBasis):
    """``1, u, u^2, ...``"""

    def functions(self, u: Tensor) -> Tensor:
        return u[:, None] ** torch.arange(self.size, device=u.device)[:, None]


@pytest.fixture
def powers() -> Iterator[str]:
    """The name of `Powers` for one test."""
    before = dict(BASES)
    register_basis("powers")(Powers)
    yield "powers"
    BASES.clear()
    BASES.update(before)


def test_the_library_has_five() -> None:
    assert sorted(BASES) == ["bspline", "chebyshev", "fourier", "rbf", "ricker"]
    assert basis_class("rbf") is GaussianRBF


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bsplines", "unknown basis 'bsplines'; did you mean 'bspline'? Valid are: 'bspline', 'chebyshev', 'fourier', 'rbf', 'ricker'."),
        ("RBF", "unknown basis 'RBF'; did you mean 'rbf'? "),
        ("xyz", "unknown basis 'xyz'. Valid are: 'bspline', 'chebyshev', 'fourier', 'rbf', 'ricker'."),
    ],
)
def test_an_unknown_name_is_an_error_with_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        basis_class(name)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        KANLinear(2, 3, basis=name)


def test_a_name_that_is_taken_is_an_error() -> None:
    message = "the basis name 'bspline' is taken by kan.bases.bspline.BSpline; choose another one."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        register_basis("bspline")(Powers)
    assert BASES["bspline"] is BSpline


def test_the_same_class_again_replaces_the_old_one(powers: str) -> None:
    again = type("Powers", (Powers,), {"__module__": Powers.__module__, "__qualname__": Powers.__qualname__})
    assert register_basis(powers)(again) is again  # as when a cell of a notebook is run twice
    assert BASES[powers] is again
    assert register_basis(powers)(again) is again


def test_a_basis_of_ones_own_in_a_layer(powers: str) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = KANLinear(2, 3, grid_size=3, spline_order=2, basis=powers, generator=generator)
    assert layer.basis == Powers(5)
    assert layer.spline_weight.shape == (3, 2, 5)
    assert layer.grid.tolist() == [[-1.0, 1.0]] * 2
    assert "basis=Powers(size=5, extrapolation='own')" in repr(layer)

    x = (4 * torch.rand(60, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(layer, x[:5])
    y = layer(x)
    expected = layer.base_weight @ torch.nn.functional.silu(x).mT
    for m in range(5):
        expected = expected + layer.scaled_spline_weight[..., m] @ (x**m).mT
    torch.testing.assert_close(y, expected.mT, rtol=1e-12, atol=1e-12)

    layer.update_grid(x)
    torch.testing.assert_close(layer.grid[:, 0], x.detach().amin(0) - 0.01)
    torch.testing.assert_close(layer.grid[:, 1], x.detach().amax(0) + 0.01)
    torch.testing.assert_close(layer(x), y, rtol=1e-9, atol=1e-9)  # polynomials are polynomials on every interval


def test_a_basis_of_ones_own_learns(powers: str) -> None:
    generator = torch.Generator().manual_seed(0)
    model = KANStack([2, 3, 1], basis=Powers(4, extrapolation="linear"), generator=generator)
    x = 2 * torch.rand(200, 2, generator=generator, dtype=torch.float64) - 1
    target = (x[:, :1] * x[:, 1:]).sin()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimizer.zero_grad()
        value = (model(x) - target).square().mean()
        value.backward()
        return value

    before = loss().detach()
    optimizer.step(loss)
    model(x, update_grid=True)
    assert float(loss().detach()) < 1e-3 * float(before)


def test_after_its_test_the_registry_is_as_it_was() -> None:
    assert "powers" not in BASES
    with pytest.raises(ValueError, match="unknown basis 'powers'"):
        KANLinear(2, 3, basis="powers")
