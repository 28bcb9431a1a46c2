"""The structured Jacobian against a derivative of every parameter, one after another."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan.network.network import Network
from kan.surgery.edges import fix_symbolic_, set_mode_
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.network_problem import NetworkProblem
from kan.training.models.of_network import trainable_parameters
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty
from tests.data import uniform, wild

pytestmark = pytest.mark.usefixtures("float64")


@torch.no_grad()
def by_differences(network: Network, columns: Columns, x: Tensor) -> Tensor:
    """``(P, B, K)`` by central differences in the coordinates."""
    found, step = [], 1e-6
    for c in range(columns.count):
        unit = torch.zeros(columns.count)
        unit[c] = step
        with torch.no_grad():
            saved = columns.save()
            columns.move_(unit)
            above = network(x)
            columns.move_(-2 * unit)
            below = network(x)
            columns.restore_(saved)
        found.append((above - below) / (2 * step))
    return torch.stack(found)


def structured(network: Network, columns: Columns, x: Tensor) -> Tensor:
    y = torch.zeros(len(x), network.width_in[-1])
    problem = NetworkProblem(Objective(network, nn.functional.mse_loss, 0.0, Penalty()), columns, x, y)
    rows = torch.cat([part.unflatten(1, (y.shape[1], -1)) for part, _ in problem._chunks()], 2)
    return rows.mT * y.numel() ** 0.5


def check(network: Network, x: Tensor) -> Columns:
    columns = Columns(network, trainable_parameters(network))
    before = network(x)
    torch.testing.assert_close(structured(network, columns, x), by_differences(network, columns, x), rtol=1e-5, atol=1e-7)
    assert torch.equal(network(x), before)
    return columns


@settings(deadline=None, max_examples=15)
@given(st.sampled_from([[2, 3, 1], [1, 1], [2, [2, 1], 2], [2, 2, [1, 1], 1]]), st.booleans(), st.integers(0, 3), st.integers(0, 10**6))
def test_it_is_the_derivative(width: list, affine: bool, k: int, seed: int) -> None:
    network = wild(width, seed, grid=3, k=k, affine_trainable=affine)
    columns = check(network, uniform(7, width[0], seed=seed))
    assert columns.count == sum(columns.sizes)


def test_symbolic_edges_are_columns_too() -> None:
    network = wild([2, 2, 1], affine_trainable=True)
    network(uniform(7, 2))
    fix_symbolic_(network, (0, 0, 1), "sin", fit_params_bool=False, random=True)
    fix_symbolic_(network, (0, 1, 0), "x^2", fit_params_bool=False, random=True)
    fix_symbolic_(network, (1, 0, 0), "tanh", fit_params_bool=False, random=True)
    set_mode_(network, 0, 1, 0, "sn")
    columns = check(network, uniform(7, 2))
    assert [block.parameter is network.symbolic_layers[0].affine for block in columns.blocks].count(True) == 1
    network.symbolic_enabled = False
    assert Columns(network, trainable_parameters(network)).count < columns.count


@pytest.mark.parametrize("frozen", ["coef", "scale_base", "scale_sp"])
def test_what_is_frozen_has_no_columns(frozen: str) -> None:
    network = wild([2, 2, 1])
    layer = network.numeric_layers[0]
    getattr(layer, frozen).requires_grad_(False)
    columns = check(network, uniform(7, 2))
    assert not any(block.parameter is getattr(layer, frozen) for block in columns.blocks)
    # The scale of a spline says nothing that its coefficients do not.
    assert any(block.parameter is layer.scale_sp for block in columns.blocks) == (frozen == "coef")


def test_masked_edges_have_no_columns() -> None:
    network = wild([2, 2, 1])
    full = Columns(network, trainable_parameters(network)).count
    network.numeric_layers[0].mask.data[0, 0] = 0.0
    assert Columns(network, trainable_parameters(network)).count == full - 7


def test_the_gradient_in_coordinates() -> None:
    network, x = wild([2, 3, 2]), uniform(7, 2)
    columns = Columns(network, trainable_parameters(network))
    residual = network(x)
    residual.square().sum().backward()
    expected = torch.einsum("pbk,bk->p", structured(network, columns, x), 2 * residual.detach())
    torch.testing.assert_close(columns.gradient(), expected)


def test_parameters_in_any_memory_order() -> None:
    network, x = wild([2, 2, 1]), uniform(7, 2)
    coef = network.numeric_layers[0].coef
    coef.data = coef.data.transpose(0, 1).contiguous().transpose(0, 1)
    assert not coef.is_contiguous()
    check(network, x)
