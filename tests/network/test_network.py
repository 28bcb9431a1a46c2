"""The network: structure, forward pass, multiplication nodes, affine maps, what it remembers and refuses."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.layers.kan_layer import KANLayer
from kan.network.network import Network
from kan.symbolic.library import SYMBOLIC_LIB
from tests.data import uniform
from tests.reference import splines

pytestmark = pytest.mark.usefixtures("float64")


# Some versions of torch warn of themselves at the first use of forward mode.
forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def wild(network: Network, seed: int = 0, affine: bool = True) -> Network:
    """Random weights everywhere, some masked, some symbolic edges beside numeric ones and instead of them."""
    generator = source(seed)
    for numeric, symbolic in zip(network.numeric_layers, network.symbolic_layers, strict=True):
        for p in (numeric.coef, numeric.scale_base, numeric.scale_sp):
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        numeric.mask.copy_((torch.rand(numeric.mask.shape, generator=generator) > 0.2).double())
        for (i, j), name in {(0, 0): "sin", (numeric.in_dim - 1, numeric.out_dim - 1): "x^2"}.items():
            symbolic.set_function(i, j, name, affine=torch.randn(4, generator=generator, dtype=torch.float64))
            symbolic.mask[j, i] = 1.0
    if affine:
        for p in (*network.node_scale, *network.node_bias, *network.subnode_scale, *network.subnode_bias):
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return network


def by_definition(network: Network, x: Tensor) -> np.ndarray:
    """The forward pass from the definitions, edge by edge."""
    values = x.numpy()
    for l, (numeric, symbolic) in enumerate(zip(network.numeric_layers, network.symbolic_layers, strict=True)):
        parts = (numeric.grid, numeric.coef, numeric.scale_base, numeric.scale_sp, numeric.mask)
        grid, coef, scale_base, scale_sp, mask = (p.detach().numpy() for p in parts)
        sums = splines.edges(values, grid, numeric.k, coef, scale_base, scale_sp, mask).sum(-1)
        for j in range(symbolic.out_dim):
            for i in range(symbolic.in_dim):
                name, function = symbolic.function(i, j)
                if name != "0" and network.symbolic_enabled:
                    a, b, c, d = symbolic.affine[j, i].detach().numpy()
                    f = SYMBOLIC_LIB[name].torch_fun(torch.from_numpy(a * values[:, i] + b)).numpy()
                    sums[:, j] += float(symbolic.mask[j, i]) * (c * f + d)
        p = sums * network.subnode_scale[l].detach().numpy() + network.subnode_bias[l].detach().numpy()
        n_sum, nodes = network.structure.n_sum[l + 1], []
        start = n_sum
        for arity in network.structure.arities[l + 1]:
            nodes.append(p[:, start : start + arity].prod(axis=1))
            start += arity
        values = np.column_stack([p[:, :n_sum], *nodes])
        values = values * network.node_scale[l].detach().numpy() + network.node_bias[l].detach().numpy()
    return values


SHAPES = [
    ([2, 5, 1], 2),
    ([1, 1], 2),
    ([3, [2, 1], 2], 2),
    ([2, [0, 2], [1, 1]], 3),
    ([2, [1, 2], 1], [[], [2, 3], []]),
]


@pytest.mark.parametrize(("width", "mult_arity"), SHAPES)
def test_output_is_its_definition(width: list, mult_arity: object) -> None:
    network = wild(Network(width, grid=3, k=2, mult_arity=mult_arity, seed=1))
    x = uniform(6, network.input_width, low=-1.2, high=1.2, seed=5)
    expected = by_definition(network, x)
    for affine_trainable in (False, True):
        for p in (*network.node_scale, *network.node_bias):
            p.requires_grad_(affine_trainable)
        np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-9, atol=1e-9)
    network.symbolic_enabled = False
    np.testing.assert_allclose(network(x).detach().numpy(), by_definition(network, x), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(1, 6), st.integers(0, 3), st.integers(1, 5), st.integers(0, 10**6))
def test_output_of_any_size_is_its_definition(width: list[int], grid: int, k: int, batch: int, seed: int) -> None:
    network = wild(Network(width, grid=grid, k=k, seed=seed), seed, affine=bool(seed % 2))
    x = uniform(batch, width[0], low=-1.2, high=1.2, seed=seed)
    np.testing.assert_allclose(network(x).detach().numpy(), by_definition(network, x), rtol=1e-8, atol=1e-8)


def test_gradients_of_the_network() -> None:
    network = wild(Network([2, [1, 1], 1], grid=3, k=3, affine_trainable=True))
    x = uniform(4, 2, low=-1.2, high=1.2, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(network, x)
    assert torch.autograd.gradgradcheck(network, x)
    parameters = dict(network.named_parameters())
    names = [name for name, p in parameters.items() if p.requires_grad]

    def output(*values: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), x.detach())

    assert torch.autograd.gradcheck(output, tuple(parameters[name].detach().clone().requires_grad_() for name in names))


def test_a_network_of_dead_edges_is_its_biases() -> None:
    network = wild(Network([2, 3, 1]))
    for numeric, symbolic in zip(network.numeric_layers, network.symbolic_layers, strict=True):
        numeric.mask.data.zero_()
        symbolic.mask.data.zero_()
    expected = network.node_scale[1] * network.subnode_bias[1] + network.node_bias[1]
    torch.testing.assert_close(network(uniform(3, 2, low=-1.2, high=1.2, seed=5)), expected.expand(3, 1))


def test_grid_update_reaches_every_layer_and_keeps_the_function_on_the_data() -> None:
    network = Network([2, 3, 1], grid=5, seed=3)
    x = uniform(300, 2, low=-1.2, high=1.2, seed=5) * 0.5
    before = network(x).detach()
    grids = [layer.grid.detach().clone() for layer in network.numeric_layers]
    network.update_grid(x)
    assert all(not torch.equal(grid, layer.grid) for grid, layer in zip(grids, network.numeric_layers, strict=True))
    for layer, values in zip(network.numeric_layers, network.trace(x).acts, strict=False):
        torch.testing.assert_close(layer.grid[:, 3].detach(), values.min(0).values.detach(), rtol=1e-6, atol=1e-6)
    assert float((network(x).detach() - before).abs().max()) < 0.02 * float(before.std())


def test_dead_hidden_nodes_are_no_news_to_a_grid_update() -> None:
    network = Network([2, 3, 1])
    network.numeric_layers[0].mask.data[:, 1] = 0.0
    network.update_grid(uniform(50, 2, low=-1.2, high=1.2, seed=5))
    assert bool(torch.isfinite(network(uniform(9, 2, low=-1.2, high=1.2, seed=5))).all())


def test_it_remembers_a_reference_to_what_it_accepted() -> None:
    network = Network([2, 1])
    with pytest.raises(ValueError, match=re.escape("the model hasn't seen any data yet: call model(x) or model.fit(dataset) first.")):
        network.remembered_input()
    x = uniform(4, 2, low=-1.2, high=1.2, seed=5)
    network(x)
    assert network.remembered_input().data_ptr() == x.data_ptr()
    with pytest.raises(ValueError, match="shape"):
        network(uniform(4, 3, low=-1.2, high=1.2, seed=5))
    with pytest.raises(ValueError, match="shape"):
        network.update_grid(uniform(4, 3, low=-1.2, high=1.2, seed=5))
    assert network.remembered_input().data_ptr() == x.data_ptr()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.zeros(4, 3),
            ValueError,
            "the input must have the shape (number of samples, 2), one column per input of the network; got (4, 3).",
        ),
        (torch.zeros(4), ValueError, "got (4,)."),
        (torch.zeros(4, 2) * 1j, TypeError, "the input must be a tensor of floating-point numbers; got torch.complex64."),
        ({0.0}, TypeError, "a list of numbers or a frame, with one row per sample; got set."),
    ],
)
def test_bad_input(x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Network([2, 1])(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": 0}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got 0."),
        ({"grid": [3]}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got [3]."),
        ({"grid": 2.5}, "grid must be an integer of at least 1"),
        ({"k": -1}, "k must be an integer of at least 0, or a list of 2 of them, one per layer; got -1."),
        ({"k": True}, "k must be an integer of at least 0"),
        ({"base_fun": "silo"}, "silu"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Network([2, 5, 1], **arguments)


def test_one_grid_and_degree_per_layer() -> None:
    network = Network([2, 3, 1], grid=[4, 7], k=[2, 3])
    assert [(layer.num, layer.k) for layer in network.numeric_layers] == [(4, 2), (7, 3)]
    assert network.settings()["grid"] == [4, 7]


def test_seed_decides_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = Network([2, 3, 1], seed=4), Network([2, 3, 1], seed=4), Network([2, 3, 1], seed=5)
    assert torch.equal(state, torch.get_rng_state())
    for name, p in one.named_parameters():
        assert torch.equal(p, same.get_parameter(name))
    assert not torch.equal(one.numeric_layers[0].coef, other.numeric_layers[0].coef)


def test_replace_makes_another_of_the_same_kind() -> None:
    network = Network([2, [1, 1], 1], grid=4, seed=7, affine_trainable=True)
    network(uniform(3, 2, low=-1.2, high=1.2, seed=5))
    new = network.replace(width=[2, 2, 1], grid=6)
    assert type(new) is Network and new.numeric_layers[0].num == 6 and new.settings()["affine_trainable"] is True
    assert new.dtype == network.dtype
    assert torch.equal(new.remembered_input(), network.remembered_input())
    assert network.replace().settings() == network.settings()


def test_copies_and_pickles_are_independent() -> None:
    network, x = wild(Network([2, [1, 1], 1])), uniform(5, 2, low=-1.2, high=1.2, seed=5)
    y = network(x).detach()
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        torch.testing.assert_close(twin(x).detach(), y, rtol=0, atol=0)
        for p in twin.parameters():
            p.data.zero_()
    torch.testing.assert_close(network(x).detach(), y, rtol=0, atol=0)


def test_dtype_follows_the_parameters() -> None:
    network, x = Network([2, 3, 1]), uniform(5, 2, low=-1.2, high=1.2, seed=5)
    y = network(x).detach()
    network.float()
    short = network(x).detach()
    assert short.dtype == torch.float32
    torch.testing.assert_close(short.double(), y, rtol=1e-4, atol=1e-5)


def test_train_and_eval_keep_their_meaning() -> None:
    network = Network([2, 1])
    assert network.train() is network and network.training
    assert not network.eval().training
    assert not network.train(False).training
    assert all(module.training for module in Network([2, 1]).modules())  # networks share nothing


def test_a_grid_update_evaluates_every_layer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # pykan's defect 55: a pass through the whole network for every layer.
    network = Network([2, 3, 3, 3, 1])
    evaluated, rows = [], KANLayer.feature_rows

    def counted(layer: KANLayer, x: Tensor) -> Tensor:
        evaluated.append(network.numeric_layers.index(layer))
        return rows(layer, x)

    monkeypatch.setattr(KANLayer, "feature_rows", counted)
    network.update_grid(uniform(50, 2, low=-1.2, high=1.2, seed=5))
    assert evaluated == [0, 1, 2, 3]


def test_a_pass_keeps_one_reference_and_nothing_else() -> None:
    # pykan's defect 54: all activations, some of them with their graph.
    network = wild(Network([2, [2, 1], 1]))
    before = {name: set(vars(module)) for name, module in network.named_modules()}
    x = uniform(20, 2, low=-1.2, high=1.2, seed=5).requires_grad_()
    network(x)
    tensors = {
        (name, key) for name, module in network.named_modules() for key, value in vars(module).items() if isinstance(value, Tensor | list)
    }
    assert {name: set(vars(module)) for name, module in network.named_modules()} == before
    assert {(name, key) for name, key in tensors if isinstance(vars(network.get_submodule(name))[key], Tensor)} == {("", "last_input")}
    assert not network.remembered_input().requires_grad and network.remembered_input().data_ptr() == x.data_ptr()


def test_the_device_is_where_the_parameters_are() -> None:
    # pykan's defect 41: what moves a model in torch's ways leaves its `device` behind, and a dtype becomes one.
    network = Network([2, 2, 1])
    assert network.to(dtype=torch.float32) is network and network.to(torch.float64).dtype == torch.float64
    assert network.double().device == network.float().device == torch.device("cpu")
    moved = network.to("meta")
    assert moved.device.type == moved.numeric_layers[0].device.type == moved.input_id.device.type == "meta"


# Transforms: the same numbers as autograd gives, and nothing left behind


@pytest.fixture(params=[[2, 3, 1], [2, [2, 1], 2]], ids=str)
def mixed(request: pytest.FixtureRequest) -> Network:
    return wild(Network(request.param, grid=4, seed=1, symbolic_enabled=True))


@forward_mode
@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd])
def test_torch_func_gives_jacobians_and_hessians(mixed, transform):
    x = uniform(6, 2, low=-1.2, high=1.2, seed=5)
    jacobians = torch.autograd.functional.jacobian(mixed, x)[range(6), :, range(6)]
    found = torch.func.vmap(transform(lambda point: mixed(point[None])[0]))(x)
    torch.testing.assert_close(found, jacobians, rtol=1e-9, atol=1e-9)
    for k in range(mixed.width_out[-1]):
        hessians = [torch.autograd.functional.hessian(lambda point, k=k: mixed(point[None])[0, k], point) for point in x]
        found = torch.func.vmap(torch.func.hessian(lambda point, k=k: mixed(point[None])[0, k]))(x)
        torch.testing.assert_close(found, torch.stack(hessians), rtol=1e-8, atol=1e-8)


def test_torch_func_leaves_no_tensor_of_its_own_behind(mixed):
    x = uniform(6, 2, low=-1.2, high=1.2, seed=5)
    mixed(x)
    torch.func.vmap(lambda point: mixed(point[None])[0])(x + 1)
    assert mixed.last_input is not None and torch.equal(mixed.last_input, x)


def test_stacked_networks_are_mapped_over_with_grids_and_masks_of_their_own(mixed):
    x = uniform(6, 2, low=-1.2, high=1.2, seed=5)
    others = [copy.deepcopy(mixed) for _ in range(3)]
    for s, other in enumerate(others):
        other.update_grid(uniform(50, 2, low=-1.2, high=1.2, seed=s))
        with torch.no_grad():
            other.numeric_layers[0].mask[s % 2] = 0.0
    parameters, buffers = torch.func.stack_module_state(others)
    found = torch.func.vmap(lambda p, b: torch.func.functional_call(mixed, (p, b), (x,)))(parameters, buffers)
    torch.testing.assert_close(found, torch.stack([other(x) for other in others]), rtol=1e-12, atol=1e-12)


def test_compiled_and_exported_networks_are_the_same(mixed):
    x = uniform(6, 2, low=-1.2, high=1.2, seed=5)
    expected = mixed(x)
    torch.testing.assert_close(torch.compile(mixed, backend="eager", fullgraph=True)(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.export.export(mixed, (x,)).module()(x), expected, rtol=1e-12, atol=1e-12)
