"""Least squares edge by edge against the same through the network."""

import copy

import pytest
import torch
from torch import Tensor, nn

from kan.network.network import Network
from kan.surgery.edges import set_mode_
from kan.symbolic.library import lookup
from kan.training.fit import trainable_parameters
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.edge_problem import EdgeProblem
from kan.training.least_squares.network_problem import ObjectiveProblem
from kan.training.objectives.of_network import Objective, Penalty
from tests.data import uniform, wild

pytestmark = pytest.mark.usefixtures("float64")

NAMED = ["sin", "sin", "exp", "x", "0", "gaussian", "x^2", "tanh"]


def put_named(network: Network, seed: int) -> None:
    """Functions on every third edge; on some of them beside the spline."""
    generator = torch.Generator().manual_seed(seed)
    for l, layer in enumerate(network.symbolic_layers):
        for i in range(layer.in_dim):
            for j in range(layer.out_dim):
                n = i + 2 * j + l
                if n % 3 == 0:
                    layer.set_function(i, j, NAMED[n % 8], lookup(NAMED[n % 8]), torch.randn(4, generator=generator, dtype=torch.float64))
                    set_mode_(network, l, i, j, "sn" if n % 2 else "s")


def general(network: Network, x: Tensor, y: Tensor) -> ObjectiveProblem:
    for layer in network.numeric_layers:
        layer.scale_sp.requires_grad_(False)
    columns = Columns(network, trainable_parameters(network))
    return ObjectiveProblem(Objective(network, nn.functional.mse_loss, 0.0, Penalty()), columns, x, y)


@pytest.mark.parametrize("width", [[2, 3, 1], [2, [1, 2], 2], [3, [0, 1], [1, 1], 1], [1, 1]])
@pytest.mark.parametrize("grid", [4, 30])
def test_the_problem_is_that_of_the_network(width: list, grid: int) -> None:
    arity = 3 if width == [3, [0, 1], [1, 1], 1] else 2
    network = wild(width, seed=1, grid=grid, mult_arity=arity)
    put_named(network, 2)
    x = uniform(40, network.width_in[0])
    y = torch.randn(40, network.width_in[-1], generator=torch.Generator().manual_seed(3))
    assert EdgeProblem.fits(network, len(x))
    problem, slow = EdgeProblem(network, x, y), general(network, x, y)
    assert problem.value() == pytest.approx(slow.value(), rel=1e-12)
    ours, theirs = problem.linearise(), slow.linearise()
    assert ours.largest == pytest.approx(theirs.largest, rel=1e-9)
    # Coordinates differ in their order and in signs, which the decrease that a step promises does not.
    for mu in (1e-3 * ours.largest, ours.largest):
        assert ours.foretold(ours.step(mu), mu) == pytest.approx(theirs.foretold(theirs.step(mu), mu), rel=1e-6)


def test_steps_are_taken_back_and_the_numbers_go_to_the_network() -> None:
    network = wild([2, [1, 1], 2], seed=4, grid=4)
    put_named(network, 5)
    x, y = uniform(50, 2), torch.randn(50, 2, generator=torch.Generator().manual_seed(6))
    before = copy.deepcopy(network.state_dict())
    problem = EdgeProblem(network, x, y)
    first, saved = problem.value(), problem.save()
    problem.write_()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    model = problem.linearise()
    problem.move_(model.step(model.largest))
    assert problem.value() < first
    moved = problem.value()
    problem.restore_(saved)
    assert problem.value() == first
    problem.move_(model.step(model.largest))
    problem.write_()
    assert float((network(x) - y).detach().square().mean()) == pytest.approx(moved, rel=1e-10)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"act_fun.{l}.{name}" for l in (0, 1) for name in ("coef", "scale_base")} | {
        "symbolic_fun.0.affine", "symbolic_fun.1.affine"
    }  # fmt: skip


@torch.no_grad()
def test_networks_of_another_kind_are_refused() -> None:
    network = wild([2, 2, 1], seed=7)
    assert EdgeProblem.fits(network, 100) and not EdgeProblem.fits(network, 10**6)
    assert not EdgeProblem.fits(wild([2, 2, 1], seed=7, base_fun="identity"), 100)
    assert not EdgeProblem.fits(wild([2, 2, 1], seed=7, affine_trainable=True), 100)
    network.numeric_layers[0].scale_sp[0, 0] = 0.0
    assert not EdgeProblem.fits(network, 100)
    network.numeric_layers[0].mask.zero_()
    network.numeric_layers[1].mask.zero_()
    assert not EdgeProblem.fits(network, 100)
