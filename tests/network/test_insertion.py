"""Knot insertion: the function stays, the intervals go where the error is."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.bases.knots import core
from kan.network.insertion import MARGIN, _shared_out, insert_knots_
from kan.network.network import Network
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


@torch.no_grad()
def wild(width: list, seed: int = 0, **settings: object) -> Network:
    network, generator = Network(width, seed=seed, **settings), torch.Generator().manual_seed(seed)
    for layer in network.numeric_layers:
        layer.coef.copy_(torch.randn(layer.coef.shape, generator=generator, dtype=torch.float64))
        layer.mask.copy_((torch.rand(layer.mask.shape, generator=generator) > 0.2).double())
    return network


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([[2, 3, 1], [1, 1], [2, [2, 1], 2], [2, 2, 2, 1]]),
    st.integers(1, 7),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_the_function_is_the_same_at_the_samples(width: list, grid: int, k: int, adapted: bool, seed: int) -> None:
    network, x = wild(width, seed, grid=grid, k=k), uniform(40, width[0], seed=seed)
    if adapted:
        network.update_grid(x)
    before = network(x).detach()
    grids = [core(layer.grid, k).clone() for layer in network.numeric_layers]
    more = grid + 2 * k + 3
    insert_knots_(network, more, x)
    size = float(before.abs().max()) + sum(float(layer.coef.detach().abs().max()) for layer in network.numeric_layers)
    torch.testing.assert_close(network(x).detach(), before, rtol=0, atol=1e-9 * size)
    assert network.grid == more and all(layer.num == more for layer in network.numeric_layers)
    first = core(network.numeric_layers[0].grid, k)
    assert bool((first[:, 0] <= grids[0][:, 0]).all()) and bool((first[:, -1] >= grids[0][:, -1]).all())
    torch.testing.assert_close(first[:, [0, -1]], grids[0][:, [0, -1]], rtol=0, atol=2.01 * MARGIN)
    for layer in network.numeric_layers:
        assert bool((layer.grid.diff(dim=1) > 0).all())


def test_hidden_grids_end_a_little_beyond_their_samples() -> None:
    network, x = wild([2, 2, 1], grid=4), uniform(50, 2)
    insert_knots_(network, 12, x)
    hidden = network.trace(x).acts[1].detach()
    grid = core(network.numeric_layers[1].grid, 3)
    reach = (hidden.amax(0) - hidden.amin(0)) * MARGIN
    torch.testing.assert_close(grid[:, 0], hidden.amin(0) - reach)
    torch.testing.assert_close(grid[:, -1], hidden.amax(0) + reach)


def test_intervals_go_where_the_function_bends() -> None:
    network, x = Network([1, 1], grid=10), torch.linspace(-1, 1, 400)[:, None]
    layer = network.numeric_layers[0]
    layer.scale_base.data.zero_()
    layer.scale_sp.data.fill_(1.0)
    sites = layer.grid[0].unfold(0, 5, 1)[:, 1:-1].mean(-1)
    layer.coef.data[0, 0] = torch.tanh(20 * (sites - 0.5))
    insert_knots_(network, 30, x)
    grid = core(layer.grid, 3)[0]
    near, far = ((grid - 0.5).abs() < 0.25).sum(), (grid < 0).sum()
    assert int(near) > 1.5 * int(far)


def test_samples_outside_of_the_grid_keep_their_values() -> None:
    # The second hidden node is dead, and its value is beyond the grid of the next layer.
    network, x = wild([2, 2, 1], grid=5), uniform(40, 2) * 1.7
    network.numeric_layers[0].mask.data[:, 1] = 0.0
    network.node_bias[0].data[1] = -1.2
    before = network(x).detach()
    insert_knots_(network, 20, x)
    torch.testing.assert_close(network(x).detach(), before)


def test_with_too_few_intervals_the_grid_is_read_anew() -> None:
    network, x = Network([1, 1], grid=10), uniform(50, 1)
    insert_knots_(network, 4, x)
    torch.testing.assert_close(core(network.numeric_layers[0].grid, 3)[0], torch.linspace(-1, 1, 5))


def test_dead_inputs_and_single_samples_keep_their_ends() -> None:
    network = wild([2, 2, 1], grid=3)
    network.numeric_layers[0].mask.data.zero_()
    for x in (uniform(1, 2), torch.full((5, 2), 0.3)):
        before = network(x).detach()
        insert_knots_(network, network.grid * 2, x)
        torch.testing.assert_close(network(x).detach(), before)
        torch.testing.assert_close(core(network.numeric_layers[1].grid, 3)[:, [0, -1]], torch.tensor([[-1.0, 1.0]] * 2))


def test_grids_per_layer_and_their_errors() -> None:
    network, x = Network([1, 1, 1], grid=[3, 4]), uniform(20, 1)
    insert_knots_(network, [6, 9], x)
    assert network.grid == [6, 9] and [layer.num for layer in network.numeric_layers] == [6, 9]
    with pytest.raises(ValueError, match="grid must be an integer of at least 1, or a list of 2"):
        insert_knots_(network, [6], x)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=8), st.integers(0, 30))
def test_pieces_are_shared_out_fairly(wanted: list[float], more: int) -> None:
    count = len(wanted) + more
    shares = _shared_out(wanted, count)
    assert sum(shares) == count and min(shares) >= 1
    worst = max(w / n for w, n in zip(wanted, shares, strict=True))
    # To take a piece from anyone makes that one at least as bad off as the worst is now.
    assert all(n == 1 or math.isclose(w / (n - 1), worst) or w / (n - 1) >= worst for w, n in zip(wanted, shares, strict=True))
