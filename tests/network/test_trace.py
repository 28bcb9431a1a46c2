"""Statistics of a pass against those of materialised edges; dead edges; rounding; the cached first layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.network.network import Network
from kan.network.trace import FirstLayer
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


@torch.no_grad()
def mixed(width: list, seed: int = 0) -> Network:
    """Numeric edges, symbolic edges, edges that are both, masked edges; multiplication nodes if the width has some."""
    network, generator = Network(width, grid=4, seed=seed), torch.Generator().manual_seed(seed)
    for numeric, symbolic in zip(network.numeric_layers, network.symbolic_layers, strict=True):
        for p in (numeric.coef, numeric.scale_base, numeric.scale_sp):
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        for i in range(numeric.in_dim):
            for j in range(numeric.out_dim):
                kind = int(torch.randint(5, (1,), generator=generator))
                if kind in (1, 2):
                    name = ("sin", "x^2", "exp")[(i + j) % 3]
                    symbolic.set_function(i, j, name, affine=torch.randn(4, generator=generator, dtype=torch.float64) * 0.5)
                    symbolic.mask[j, i] = 1.0
                if kind in (2, 3):
                    numeric.mask[i, j] = 0.0
    return network


def std(values: Tensor) -> Tensor:
    """Standard deviation over the batch; that of a single sample is 0."""
    return values.std(dim=0) if len(values) > 1 else torch.zeros(values.shape[1:])


WIDTHS = [[2, 3, 1], [3, [1, 1], 2], [2, [0, 2], 1], [1, 1]]


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(WIDTHS), st.integers(1, 12), st.sampled_from([0.0, 1e-3]), st.integers(0, 10**6))
def test_statistics_are_those_of_the_values(width: list, batch: int, corner: float, seed: int) -> None:
    network = mixed(width, seed)
    x = uniform(batch, network.input_width, low=-1.2, high=1.2, seed=seed)
    with torch.no_grad():
        trace = network.trace(x, corner=corner)
        for l, layer in enumerate(trace.layers):
            values, inputs = trace.postacts(l), std(layer.inputs)
            rounded = (std(values) ** 2 + corner**2).sqrt() - corner
            torch.testing.assert_close(trace.edge_actscale[l], rounded, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(trace.acts_scale[l], rounded / (inputs + 0.1), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(trace.subnode_actscale[l], std(values.sum(-1)), rtol=1e-9, atol=1e-9)
            numeric = network.numeric_layers[l](layer.inputs)[2]
            rounded = (std(numeric) ** 2 + corner**2).sqrt() - corner
            torch.testing.assert_close(layer.numeric_deviation(), rounded, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(trace.acts_scale_spline[l], rounded / (inputs + 0.1), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(layer.sums, values.sum(-1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", WIDTHS)
def test_nodes_and_edges_of_a_trace(width: list) -> None:
    network = mixed(width, seed=3)
    x = uniform(7, network.input_width, low=-1.2, high=1.2, seed=5)
    trace = network.trace(x)
    torch.testing.assert_close(trace.output, network(x))
    assert [a.shape[1] for a in trace.acts] == network.width_in
    for l, layer in enumerate(trace.layers):
        values = trace.postacts(l)
        assert values.shape == (7, network.width_out[l + 1], network.width_in[l])
        for i in range(values.shape[2]):
            for j in range(values.shape[1]):
                torch.testing.assert_close(layer.edge(i, j), values[:, j, i], rtol=1e-10, atol=1e-10)
        n_sum = network.structure.n_sum[l + 1]
        torch.testing.assert_close(layer.outputs[:, :n_sum], layer.premult[:, :n_sum])
        torch.testing.assert_close(layer.outputs[:, n_sum:].prod(1), layer.premult[:, n_sum:].prod(1))


@pytest.mark.parametrize("corner", [0.0, 1e-3])
def test_gradients_of_statistics(corner: float) -> None:
    network = mixed([2, [1, 1], 1], seed=6)
    parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
    x = uniform(5, 2, low=-1.2, high=1.2, seed=5)

    def statistics(*values: Tensor) -> tuple[Tensor, ...]:
        class Traced(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, x: Tensor) -> tuple[Tensor, ...]:
                trace = self.network.trace(x, corner=corner)
                # The root is not differentiable at a dead edge, and its differences are no gradient there.
                return *(a[a > 1e-3] for a in trace.acts_scale), *(a[a > 1e-3] for a in trace.acts_scale_spline), *trace.subnode_actscale

        renamed = {f"network.{name}": value for name, value in zip(parameters, values, strict=True)}
        result: tuple[Tensor, ...] = torch.func.functional_call(Traced(), renamed, (x,))
        return result

    values = tuple(p.detach().clone().requires_grad_() for p in parameters.values())
    assert torch.autograd.gradcheck(statistics, values)
    assert torch.autograd.gradgradcheck(statistics, values, atol=1e-4)


def test_dead_edges_have_zero_gradient() -> None:
    network = Network([2, 3, 1], seed=1)
    network.numeric_layers[0].mask.data[:, 1] = 0.0  # hidden node 1 is constant, so its edge onwards is dead, too
    x = uniform(16, 2, low=-1.2, high=1.2, seed=5).requires_grad_()
    trace = network.trace(x)
    dead = sum(layer.edge_deviation()[:, 1].sum() if l else layer.edge_deviation()[1].sum() for l, layer in enumerate(trace.layers))
    assert dead.item() == 0
    grads = torch.autograd.grad(dead, [p for p in network.parameters() if p.requires_grad], allow_unused=True)
    assert all(g is None or not bool(g.any()) for g in grads)
    for graph in (False, True):
        total = sum(a.sum() for a in network.trace(x).acts_scale)
        wanted = [x, *(p for p in network.parameters() if p.requires_grad)]
        found = torch.autograd.grad(total, wanted, create_graph=graph, allow_unused=True)
        assert all(g is None or bool(torch.isfinite(g).all()) for g in found)


def test_rounding_is_smooth_where_the_root_has_its_corner() -> None:
    network, x = Network([1, 1], seed=2), uniform(20, 1, low=-1.2, high=1.2, seed=5)
    layer = network.numeric_layers[0]
    direction = layer.coef.detach().clone()
    layer.scale_base.data.zero_()
    slopes = {}
    for corner in (0.0, 1e-3):
        values = []
        for t in (-1e-5, 0.0, 1e-5):
            layer.coef.data.copy_(direction * t)
            values.append(network.trace(x, corner=corner).edge_actscale[0].item())
        slopes[corner] = (values[2] - values[1]) / 1e-5, (values[1] - values[0]) / 1e-5
        assert values[1] == 0
    exact, rounded = slopes[0.0], slopes[1e-3]
    assert exact[0] > 1e-3 and exact[1] < -1e-3
    assert abs(rounded[0]) < 0.02 * exact[0] and abs(rounded[1]) < 0.02 * exact[0]


def test_cached_first_layer_changes_nothing() -> None:
    network, x = mixed([3, [1, 1], 2], seed=8), uniform(11, 3, low=-1.2, high=1.2, seed=5)
    first = network.first_layer(x)
    assert isinstance(first, FirstLayer) and first.features.shape == (11, 3, 8)
    fresh, cached = network.trace(x), network.trace(x, first=first)
    torch.testing.assert_close(cached.output, fresh.output, rtol=1e-12, atol=1e-12)
    for name in ("edge_actscale", "acts_scale", "acts_scale_spline"):
        torch.testing.assert_close(getattr(cached, name), getattr(fresh, name), rtol=1e-10, atol=1e-10)
    for trace in (fresh, cached):
        network.zero_grad()
        (trace.output.sum() + sum(a.sum() for a in trace.acts_scale_spline)).backward()
        grads = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        if trace is fresh:
            expected = grads
    torch.testing.assert_close(grads, expected, rtol=1e-9, atol=1e-9)


def test_all_masked_layers_leave_zeros() -> None:
    network = Network([2, 2, 1])
    for layer in network.numeric_layers:
        layer.mask.data.zero_()
    trace = network.trace(uniform(4, 2, low=-1.2, high=1.2, seed=5))
    assert not any(bool(a.any()) for a in (*trace.edge_actscale, *trace.acts_scale_spline, *trace.subnode_actscale, trace.output))
    assert not bool(trace.postacts(0).any()) and not bool(trace.layers[0].edge(1, 0).any())
