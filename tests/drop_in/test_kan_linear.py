"""`KANLinear` and `KANStack` as drop-ins: interface, layouts of inputs, ways in which torch runs them, grids that move, wrong input."""

import copy
import inspect
import io
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from torch import Tensor, nn
from torch.func import functional_call, grad, jacfwd, jacrev, stack_module_state, vmap

from kan.bases.knots import core
from kan.drop_in import edge_sum
from kan.drop_in.kan_linear import KANLinear, KANStack
from kan.kernels.library import library
from tests.data import uniform
from tests.reference import splines

pytestmark = [
    pytest.mark.usefixtures("float64"),
    # Some versions of torch warn of themselves: at the first use of forward mode, and of how vmap turns the points for a search.
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]


@pytest.fixture(params=[0, edge_sum.KEPT], ids=["works out again", "keeps"], scope="module")
def kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both what small layers do and what large ones do."""
    with mock.patch.object(edge_sum, "KEPT", request.param):
        yield


both_ways = pytest.mark.usefixtures("kept")
with_and_without_scaler = pytest.mark.parametrize("scaler", [True, False], ids=["scaler", "no scaler"])


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def wild(*arguments: Any, seed: int = 0, scaler: bool = True, **options: Any) -> KANLinear:
    """A layer with random weights and, for every input, other knots."""
    layer = KANLinear(*arguments, enable_standalone_scale_spline=scaler, generator=source(seed), **options)
    layer.update_grid(uniform(30 + 4 * layer.grid_size, layer.in_features, low=-1.2, high=1.2, seed=seed).to(layer.grid))
    for place, p in enumerate(layer.parameters()):
        p.copy_(torch.randn(p.shape, generator=source(seed + place), dtype=torch.float64))
    return layer


def state_of(layer: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(layer.state_dict())


def assert_unchanged(layer: nn.Module, state: dict[str, Tensor]) -> None:
    assert layer.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())


def gradients(y: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    """With a cotangent that tells all entries of `y` apart."""
    return torch.autograd.grad((y * torch.randn(y.shape, generator=source(9), dtype=torch.float64).to(y)).sum(), of)


# Names, shapes and files


def test_the_constructor_is_that_of_efficient_kan() -> None:
    parameters = list(inspect.signature(KANLinear).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [
        *["in_features", "out_features", "grid_size", "spline_order", "scale_noise", "scale_base", "scale_spline"],
        *["enable_standalone_scale_spline", "base_activation", "grid_eps", "grid_range"],
    ]
    assert [p.default for p in parameters[2:4] + parameters[7:10]] == [5, 3, True, nn.SiLU, 0.02]
    assert list(parameters[10].default) == [-1, 1]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[11:])

    layer = KANLinear(3, 2, 4, 2, 0.3, 0.5, 0.7, False, nn.Tanh, 0.1, [-2, 2], generator=source())
    assert (layer.in_features, layer.out_features, layer.grid_size, layer.spline_order) == (3, 2, 4, 2)
    assert (layer.scale_noise, layer.scale_base, layer.scale_spline, layer.grid_eps) == (0.3, 0.5, 0.7, 0.1)
    assert layer.init == "efficient-kan"
    assert isinstance(layer.base_activation, nn.Tanh) and layer.spline_scaler is None
    torch.testing.assert_close(core(layer.grid, 2), torch.linspace(-2, 2, 5).expand(3, -1))


@with_and_without_scaler
def test_names_and_shapes(scaler: bool) -> None:
    layer = KANLinear(4, 3, 6, 2, enable_standalone_scale_spline=scaler, generator=source())
    shapes = {"base_weight": (3, 4), "spline_weight": (3, 4, 8)} | ({"spline_scaler": (3, 4)} if scaler else {})
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == shapes
    assert {name: tuple(buffer.shape) for name, buffer in layer.named_buffers()} == {"grid": (4, 11)}
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == shapes | {"grid": (4, 11)}
    assert all(p.requires_grad for p in layer.parameters())
    assert [name for name, _ in layer.named_modules()] == ["", "base_activation"]


def by_definition(state: dict[str, Tensor], degree: int, x: Tensor) -> Tensor:
    """Every edge at every point from a layer's state, one number at a time."""
    base, coef, grid = (state[name].numpy() for name in ("base_weight", "spline_weight", "grid"))
    scaler = state["spline_scaler"].numpy() if "spline_scaler" in state else np.ones_like(base)
    functions, y = splines.basis(x, grid, degree), np.zeros((len(x), len(base)))
    for b, j, i in np.ndindex(len(x), *base.shape):
        y[b, j] += base[j, i] * splines.silu(float(x[b, i]))
        y[b, j] += scaler[j, i] * sum(coef[j, i, m] * functions[b, i, m] for m in range(coef.shape[2]))
    return torch.from_numpy(y)


@both_ways
@with_and_without_scaler
@pytest.mark.parametrize(("intervals", "degree"), [(1, 1), (5, 3), (7, 0), (4, 5)])
def test_a_state_made_by_hand_is_its_function(intervals: int, degree: int, scaler: bool) -> None:
    low, high = -2.0, 1.0
    knots = low + (high - low) / intervals * torch.arange(-degree, intervals + degree + 1)
    state = {
        "base_weight": torch.randn(2, 3, generator=source(1)),
        "spline_weight": torch.randn(2, 3, intervals + degree, generator=source(2)),
        "grid": knots.repeat(3, 1),
    }
    if scaler:
        state["spline_scaler"] = torch.randn(2, 3, generator=source(3))
    layer = KANLinear(3, 2, intervals, degree, enable_standalone_scale_spline=scaler, generator=source())
    layer(uniform(4, 3, low=-1.2, high=1.2, seed=5))  # what it knows of its own grid must not survive
    assert str(layer.load_state_dict(state)) == "<All keys matched successfully>"
    x = uniform(20, 3, low=-2.3, high=1.3, seed=5)
    torch.testing.assert_close(layer(x), by_definition(state, degree, x), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(layer.b_splines(x), torch.from_numpy(splines.basis(x, state["grid"], degree)), rtol=1e-11, atol=1e-11)


def test_states_of_other_layers_are_refused() -> None:
    layer, state = KANLinear(3, 2, generator=source()), state_of(KANLinear(3, 2, generator=source(1)))
    before = state_of(layer)
    del state["spline_scaler"]
    with pytest.raises(RuntimeError, match='Missing key.*"spline_scaler"'):
        layer.load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch for grid"):
        KANLinear(3, 2, grid_size=6, generator=source()).load_state_dict(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [lambda: wild(3, 2), lambda: KANStack([3, 4, 2], generator=source())], ids=["layer", "stack"])
def test_copies_and_files_are_the_same_bit_for_bit(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    layer, x = make().to(dtype), uniform(20, 3, low=-1.2, high=1.2, seed=5).to(dtype)
    y = layer(x)
    state, whole = io.BytesIO(), io.BytesIO()
    torch.save(layer.state_dict(), state)
    torch.save(layer, whole)
    assert whole.tell() < state.tell() + 20_000  # what is known of the grid stays behind
    loaded = (KANLinear if isinstance(layer, KANLinear) else KANStack)(*([3, 2] if isinstance(layer, KANLinear) else [[3, 4, 2]])).to(dtype)
    loaded(x)
    for file in (state, whole):
        file.seek(0)
    loaded.load_state_dict(torch.load(state, weights_only=True))
    for twin in (loaded, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(whole, weights_only=False)):
        assert torch.equal(twin(x), y)
        assert_unchanged(twin, state_of(layer))
        assert [p.data_ptr() for p in twin.parameters()] != [p.data_ptr() for p in layer.parameters()]
        with torch.no_grad():
            for value in twin.state_dict().values():
                value.mul_(1.5)
        assert not torch.equal(twin(x), y)
    assert torch.equal(layer(x), y)


def test_a_stack_takes_the_arguments_of_efficient_kan_by_position_and_has_its_attributes() -> None:
    stack = KANStack([3, 4, 1], 6, 2, 0.2, 0.5, 0.7, nn.Tanh, 0.1, [-2, 2], generator=source())
    assert (stack.grid_size, stack.spline_order, len(stack.layers)) == (6, 2, 2)
    layer = KANLinear(3, 4, 6, 2, 0.2, 0.5, 0.7, base_activation=nn.Tanh, grid_eps=0.1, grid_range=[-2, 2], generator=source())
    first = stack.layers[0]
    assert isinstance(first, KANLinear) and isinstance(first.base_activation, nn.Tanh) and first.grid_eps == 0.1
    assert first.init == layer.init == "efficient-kan" and KANStack([3, 4, 1]).layers[0].init == "glorot"
    assert all(torch.equal(value, layer.state_dict()[name]) for name, value in first.state_dict().items())
    assert KANStack([3, 1], basis="chebyshev", enable_standalone_scale_spline=False).layers[0].spline_scaler is None


def test_a_layer_may_be_made_without_numbers() -> None:
    state = state_of(wild(3, 2))
    with torch.device("meta"):
        layer, stack = KANLinear(3, 2), KANStack([3, 4, 2])
    assert all(value.is_meta for value in [*layer.state_dict().values(), *stack.state_dict().values()])
    layer.load_state_dict(state, assign=True)
    x = uniform(5, 3, low=-1.2, high=1.2, seed=5)
    torch.testing.assert_close(layer(x), by_definition(state, 3, x), rtol=1e-11, atol=1e-11)
    assert not nn.utils.skip_init(KANLinear, 3, 2).grid.is_meta


# Inputs


@both_ways
@pytest.mark.parametrize("shape", [(), (1,), (6,), (7, 5), (2, 1, 3, 2), (0,), (0, 4), (4, 0)], ids=str)
def test_leading_axes_are_those_of_a_linear_layer(shape: tuple[int, ...]) -> None:
    layer, x = wild(3, 2), uniform(*shape, 3, low=-1.2, high=1.2, seed=5)
    y = layer(x)
    assert y.shape == nn.Linear(3, 2)(x).shape
    torch.testing.assert_close(y.reshape(-1, 2), layer(x.reshape(-1, 3)), rtol=0, atol=0)


LAYOUTS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "transposed": ((3, 8), lambda x: x.t()),
    "permuted": ((3, 4, 2), lambda x: x.permute(2, 1, 0)),
    "expanded points": ((1, 3), lambda x: x.expand(8, 3)),
    "expanded inputs": ((8, 1), lambda x: x.expand(8, 3)),
    "expanded batch": ((4, 3), lambda x: x.expand(5, 4, 3)),
    "every other point": ((16, 3), lambda x: x[::2]),
    "every other input": ((8, 6), lambda x: x[:, 1::2]),
    "part of a row": ((8, 7), lambda x: x[:, 2:5]),
    "windows": ((10,), lambda x: x.unfold(0, 3, 1)),
}


@both_ways
@pytest.mark.parametrize("intervals", [5, 60])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_may_lie_anywhere_in_memory(layout: str, intervals: int) -> None:
    shape, view = LAYOUTS[layout]
    layer, x = wild(3, 2, intervals), uniform(*shape, low=-1.2, high=1.2, seed=5).requires_grad_()
    assert not view(x).is_contiguous()
    y, expected = layer(view(x)), layer(view(x).contiguous())
    torch.testing.assert_close(y, expected, rtol=1e-13, atol=1e-13)
    arguments = (x, *layer.parameters())
    for found, true in zip(gradients(y, *arguments), gradients(expected, *arguments), strict=True):
        torch.testing.assert_close(found, true, rtol=1e-12, atol=1e-12)


@both_ways
@with_and_without_scaler
@pytest.mark.parametrize("shape", [(0, 3), (4, 0, 3)], ids=str)
def test_no_points_give_no_values_and_zero_gradients(shape: tuple[int, ...], scaler: bool) -> None:
    layer, x = wild(3, 2, scaler=scaler), torch.empty(shape, requires_grad=True)
    y = layer(x)
    assert y.shape == (*shape[:-1], 2)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == shape
    assert all(p.grad is not None and not bool(p.grad.any()) for p in layer.parameters())


@both_ways
@pytest.mark.parametrize(
    "options",
    [{}, {"grid_size": 60}, {"spline_order": 0}, {"spline_order": 1}, {"extrapolation": "linear"}, {"base_activation": torch.zeros_like}],
    ids=["default", "many intervals", "degree 0", "degree 1", "linear", "no base"],
)
def test_what_is_not_a_number_stays_in_its_row(options: dict[str, Any]) -> None:
    layer, x = wild(3, 2, **options), uniform(40, 3, low=-1.2, high=1.2, seed=5)
    good = layer(x)
    bad = [3, 17, 39]
    x[bad, torch.tensor([0, 2, 1])] = torch.nan
    y = layer(x.requires_grad_())
    wrong = torch.zeros(40, dtype=torch.bool).index_fill(0, torch.tensor(bad), True)
    assert bool(y[wrong].isnan().all())
    torch.testing.assert_close(y[~wrong], good[~wrong], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(y[~wrong].sum(), x)
    assert bool(gradient[~wrong].isfinite().all())


@pytest.mark.parametrize("use", [KANLinear.forward, KANLinear.update_grid, KANLinear.b_splines], ids=lambda use: use.__name__)
def test_wrong_inputs(use: Callable[[KANLinear, Tensor], Tensor]) -> None:
    layer = wild(3, 2)
    state = state_of(layer)
    for shape in ((5, 2), (3, 5), (4,), (), (0, 2)):
        with pytest.raises(ValueError, match=f"^{re.escape(f'expected an input of shape (..., 3); got {shape}.')}$"):
            use(layer, torch.zeros(shape))
    for dtype in (torch.int64, torch.bool, torch.float32, torch.complex128):
        message = f"the layer's parameters are torch.float64 and the input is {dtype}; convert one of them, for example x.to(layer."
        with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
            use(layer, torch.zeros(5, 3, dtype=dtype))
    assert_unchanged(layer, state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 0}, "in_features must be at least 1; got 0."),
        ({"out_features": -1}, "out_features must be at least 1; got -1."),
        ({"grid_size": 0}, "a grid has at least 1 interval; got 0."),
        ({"spline_order": -1}, "the degree of splines is at least 0; got -1."),
        ({"grid_range": [1, 1]}, "grid_range must be [low, high] with low < high; got [1, 1]."),
        ({"grid_range": [1]}, "grid_range must be [low, high] with low < high; got [1]."),
        ({"grid_range": [0, 1, 2]}, "grid_range must be [low, high] with low < high; got [0, 1, 2]."),
        ({"grid_range": [0, float("nan")]}, "grid_range must be [low, high] with low < high; got [0, nan]."),
        ({"grid_range": [0, float("inf")]}, "grid_range must be finite; got [0, inf]."),
        ({"grid_eps": 1.5}, "grid_eps, the share of equal spacing in a grid, must be between 0 and 1; got 1.5."),
        ({"grid_eps": float("nan")}, "must be between 0 and 1; got nan."),
        ({"basis": "splines"}, "unknown basis 'splines'; did you mean 'bspline'?"),
        ({"init": "xavier"}, "unknown initialisation 'xavier'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        KANLinear(**({"in_features": 3, "out_features": 2, "generator": source()} | arguments))


def test_values_of_curves_need_their_shape() -> None:
    layer, x = wild(3, 2), uniform(20, 3, low=-1.2, high=1.2, seed=5)
    assert layer.curve2coeff(x, uniform(20, 3, 2, low=-1.2, high=1.2, seed=5)).shape == layer.spline_weight.shape
    with pytest.raises(ValueError, match=re.escape("values must have the shape (20, 3, 2); got (20, 2, 3).")):
        layer.curve2coeff(x, uniform(20, 2, 3, low=-1.2, high=1.2, seed=5))


# Derivatives


@both_ways
@with_and_without_scaler
@pytest.mark.parametrize("degree", [2, 3, 5])
def test_first_and_second_derivatives(degree: int, scaler: bool) -> None:
    layer = wild(2, 3, 3, degree, scaler=scaler)
    names = [name for name, _ in layer.named_parameters()]

    def output(x: Tensor, *parameters: Tensor) -> Tensor:
        result: Tensor = functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))
        return result

    # Inside, in the outer intervals and beyond all knots.
    x = torch.cat([uniform(3, 2, low=-1, high=1, seed=5), torch.tensor([[1.4, -1.5], [9.0, 0.3], [-0.2, -9.0]])]).requires_grad_()
    assert bool((layer.grid[:, 0] > -9).all() and (layer.grid[:, -1] < 9).all())
    inputs = (x, *(p.detach().clone().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(output, inputs)
    assert torch.autograd.gradgradcheck(output, inputs)


@both_ways
@pytest.mark.parametrize("degree", [3, 5])
def test_third_derivatives_are_those_of_the_splines(degree: int) -> None:
    layer, x = wild(2, 3, 4, degree, base_activation=torch.sin), uniform(30, 2, low=-0.9, high=0.9, seed=5).requires_grad_()
    knots, points = layer.grid.numpy(), x.detach().numpy()
    base, scaled = layer.base_weight.detach().numpy(), layer.scaled_spline_weight.detach().numpy()
    for j in range(3):
        found = layer(x)[:, j]
        for _ in range(3):
            (found,) = torch.autograd.grad(found.sum(), x, create_graph=True)
        for i in range(2):
            expected = -base[j, i] * np.cos(points[:, i]) + BSpline(knots[i], scaled[j, i], degree)(points[:, i], nu=3)
            np.testing.assert_allclose(found[:, i].detach().numpy(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


# Ways to run it


@both_ways
@with_and_without_scaler
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_compiles_as_one_graph(backend: str, scaler: bool) -> None:
    torch._dynamo.reset()
    layer, x = wild(3, 2, scaler=scaler), uniform(9, 3, low=-1.2, high=1.2, seed=5).requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    arguments = (x, *layer.parameters())
    for _ in range(2):
        y, expected = compiled(x), layer(x)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        for found, true in zip(gradients(y, *arguments), gradients(expected, *arguments), strict=True):
            torch.testing.assert_close(found, true, rtol=1e-11, atol=1e-11)
        layer.update_grid(uniform(60, 3, low=-1.2, high=1.2, seed=1))  # and the second time round the graph must see the new grid


def test_a_stack_compiles_as_one_graph() -> None:
    torch._dynamo.reset()
    stack, x = KANStack([3, 4, 2], generator=source()), uniform(2, 5, 3, low=-1.2, high=1.2, seed=5)
    torch.testing.assert_close(torch.compile(stack, fullgraph=True, backend="eager")(x), stack(x), rtol=1e-12, atol=1e-12)


@both_ways
@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 3)], ids=["batches", "points"])
def test_a_map_over_inputs_is_a_loop(shape: tuple[int, ...]) -> None:
    layer, x = wild(3, 2), uniform(*shape, low=-1.2, high=1.2, seed=5)
    expected = torch.stack([layer(each) for each in x])
    torch.testing.assert_close(vmap(layer)(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(vmap(layer, in_dims=1)(x.transpose(0, 1)), expected, rtol=1e-12, atol=1e-12)


@both_ways
def test_jacobians() -> None:
    layer, x = wild(3, 2), uniform(5, 3, low=-1.2, high=1.2, seed=5)
    expected = torch.autograd.functional.jacobian(layer, x)
    for transform in (jacrev, jacfwd):
        torch.testing.assert_close(transform(layer)(x), expected, rtol=1e-12, atol=1e-12)
        by_points = vmap(transform(layer))(x)
        torch.testing.assert_close(by_points, torch.einsum("bobi->boi", expected), rtol=1e-12, atol=1e-12)
    hessian = torch.func.hessian(lambda point: layer(point).square().sum())(x[0])
    reference = torch.autograd.functional.hessian(lambda point: layer(point).square().sum(), x[0])
    torch.testing.assert_close(hessian, reference, rtol=1e-11, atol=1e-11)


@both_ways
@with_and_without_scaler
def test_gradients_of_every_sample(scaler: bool) -> None:
    layer, x = wild(3, 2, scaler=scaler), uniform(6, 3, low=-1.2, high=1.2, seed=5)

    def loss(parameters: dict[str, Tensor], point: Tensor) -> Tensor:
        return functional_call(layer, parameters, (point,)).square().sum()

    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    found = vmap(grad(loss), (None, 0))(parameters, x)
    for b, point in enumerate(x):
        single = torch.autograd.grad(layer(point).square().sum(), list(layer.parameters()))
        for (name, _), gradient in zip(layer.named_parameters(), single, strict=True):
            torch.testing.assert_close(found[name][b], gradient, rtol=1e-11, atol=1e-11)


@both_ways
@pytest.mark.parametrize("shared", [True, False], ids=["one input", "inputs of their own"])
def test_an_ensemble_is_a_loop(shared: bool) -> None:
    members = [wild(3, 2, seed=seed) for seed in (1, 2, 3)]  # with grids of their own, too
    parameters, buffers = stack_module_state(members)  # type: ignore[arg-type]  # which takes any sequence
    skeleton, x = members[0], uniform(7, 3, low=-1.2, high=1.2, seed=5) if shared else uniform(3, 7, 3, low=-1.2, high=1.2, seed=5)
    skeleton(uniform(4, 3, low=-1.2, high=1.2, seed=5))  # what it knows of its own grid must not be taken for the others'

    def member(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        result: Tensor = functional_call(skeleton, (parameters, buffers), (x,))
        return result

    found = vmap(member, (0, 0, None if shared else 0))(parameters, buffers, x)
    inputs = [x] * 3 if shared else list(x)
    torch.testing.assert_close(found, torch.stack([m(each) for m, each in zip(members, inputs, strict=True)]), rtol=1e-12, atol=1e-12)
    by_name = torch.autograd.grad(found.square().sum(), list(parameters.values()))
    for place, (each, own) in enumerate(zip(inputs, members, strict=True)):
        true = torch.autograd.grad(own(each).square().sum(), list(own.parameters()))
        for stacked, gradient in zip(by_name, true, strict=True):
            torch.testing.assert_close(stacked[place], gradient, rtol=1e-11, atol=1e-11)


def test_another_grid_may_stand_in_for_a_call() -> None:
    layer, x = wild(3, 2), uniform(6, 3, low=-1.2, high=1.2, seed=5)
    expected = layer(x)
    other = wild(3, 2, seed=4)
    found = functional_call(layer, dict(other.state_dict()), (x,))
    torch.testing.assert_close(found, other(x), rtol=0, atol=0)
    assert torch.equal(layer(x), expected)


def test_autocast() -> None:
    layer, x = wild(3, 2, dtype=torch.float32), uniform(50, 3, low=-1.2, high=1.2, seed=5).float().requires_grad_()
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, again = layer(x), layer(x.bfloat16())
        twin = copy.deepcopy(layer)
        twin.update_grid(x)
    assert y.dtype == again.dtype == torch.bfloat16
    size = float(exact.detach().abs().max())
    for found in (y, again):
        torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0.02 * size)
    for gradient in gradients(y.float(), x, *layer.parameters()):
        assert gradient.dtype == torch.float32 and bool(gradient.isfinite().all()) and bool(gradient.any())
    layer.update_grid(x)
    assert_unchanged(twin, state_of(layer))
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.int64, torch.float64):
            with pytest.raises(TypeError, match=f"the input is {dtype}"):
                layer(torch.zeros(4, 3, dtype=dtype))


@both_ways
@with_and_without_scaler
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_shorter_formats(dtype: torch.dtype, scaler: bool) -> None:
    # Rounding the weights and the input first leaves only the layer's own errors.
    layer, x = wild(3, 2, scaler=scaler).to(dtype), uniform(50, 3, low=-1, high=1, seed=5).to(dtype).requires_grad_()
    y, exact = layer(x), copy.deepcopy(layer).double()
    assert y.dtype == dtype
    wide = x.detach().double().requires_grad_()
    expected, step = exact(wide), torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=8 * step * float(expected.detach().abs().max()))
    pairs = zip(gradients(y, x, *layer.parameters()), gradients(expected, wide, *exact.parameters()), strict=True)
    for found, true in pairs:
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), true, rtol=0, atol=60 * step * float(true.abs().max()))


def test_short_and_long_formats_are_made_by_their_methods() -> None:
    for name, dtype in (("half", torch.float16), ("bfloat16", torch.bfloat16), ("float", torch.float32), ("double", torch.float64)):
        layer = getattr(wild(3, 2), name)()
        assert {value.dtype for value in layer.state_dict().values()} == {dtype}
        x = uniform(60, 3, low=-1.2, high=1.2, seed=5).to(dtype)
        before = layer(x)
        layer.update_grid(x)
        assert layer(x).dtype == layer.grid.dtype == dtype
        assert bool(layer(x).isfinite().all()) and bool(before.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("input_gradient", [True, False], ids=["input gradient", "no input gradient"])
@pytest.mark.parametrize("adapted", [True, False], ids=["adapted", "equidistant"])
@pytest.mark.parametrize("intervals", [5, 100])
def test_a_large_layer_saves_its_input_and_its_base_functions_values(
    intervals: int, adapted: bool, input_gradient: bool, dtype: torch.dtype
) -> None:
    layer = KANLinear(50, 40, intervals, dtype=dtype, generator=source())
    x = uniform(2000, 50, low=-1.2, high=1.2, seed=5).to(dtype).requires_grad_(input_gradient)
    if adapted:
        layer.update_grid(x)
    layer(x)
    own = {tensor.untyped_storage().data_ptr() for tensor in layer.state_dict(keep_vars=True).values()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    assert y.requires_grad
    assert own & saved.keys(), "parameters are counted apart"
    assert x.untyped_storage().data_ptr() in saved
    kept = 1 if library(dtype) is not None else 2  # the kernels work out the base function's values again
    assert sum(size for place, size in saved.items() if place not in own) == kept * x.nbytes


def test_it_stands_in_for_a_linear_layer() -> None:
    network = nn.Sequential(KANLinear(4, 6, generator=source()), nn.LayerNorm(6), nn.Dropout(0.0), KANLinear(6, 2, generator=source(1)))
    x, target = uniform(64, 4, low=-1.2, high=1.2, seed=5), uniform(64, 2, low=-1.2, high=1.2, seed=6)
    optimizer, losses = torch.optim.Adam(network.parameters(), 0.01), []
    for _ in range(20):
        loss = (network(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
    for name in ("in_features", "out_features"):
        assert getattr(KANLinear(3, 2), name) == getattr(nn.Linear(3, 2), name)
    made = KANLinear(3, 2, device="cpu", dtype=torch.float32)
    assert made(torch.zeros(3, dtype=torch.float32)).dtype == torch.float32


# Grids


def falling(grid: Tensor) -> None:
    grid[1, [4, 6]] = grid[1, [6, 4]]


def not_finite(grid: Tensor) -> None:
    grid[2, 5] = torch.nan


def without_an_end(grid: Tensor) -> None:
    grid[0, -1] = torch.inf


BAD_GRIDS = [
    (falling, "knots must not decrease along a row; they do for the inputs [1]."),
    (not_finite, "knots must be finite; they hold NaN or infinity."),
    (without_an_end, "knots must be finite; they hold NaN or infinity."),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_GRIDS)
@pytest.mark.parametrize("way", ["loaded", "in place", "assigned"])
@pytest.mark.parametrize("seen", [True, False], ids=["used before", "new"])
def test_what_is_no_grid_is_an_error(spoil: Callable[[Tensor], None], message: str, way: str, seen: bool) -> None:
    layer, x = wild(3, 2), uniform(40, 3, low=-1.2, high=1.2, seed=5)
    if seen:
        layer(x)
    state = state_of(layer)
    spoil(state["grid"])
    if way == "loaded":
        layer.load_state_dict(state)
    elif way == "in place":
        spoil(layer.grid)
    else:
        layer.grid = state["grid"]
    for use in (layer, layer.b_splines, layer.update_grid, torch.compiler.disable(layer)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            use(x)
    assert torch.equal(layer.spline_weight, state["spline_weight"])
    layer.grid.copy_(torch.arange(12.0).expand(3, -1) / 6 - 1)
    assert bool(layer(x).isfinite().all())


@both_ways
@pytest.mark.parametrize("intervals", [5, 60])
@pytest.mark.parametrize("rows", [0, 1, 2, 4])
def test_a_grid_has_a_row_for_every_input(rows: int, intervals: int) -> None:
    layer, x = wild(3, 2, intervals), uniform(40, 3, low=-1.2, high=1.2, seed=5)
    layer(x)
    weight = layer.spline_weight.detach().clone()
    layer.grid = torch.cat([layer.grid] * 2)[:rows].contiguous()
    message = f"the grid must have one row for each of the 3 inputs; got the shape ({rows}, {intervals + 7})."
    for use in (layer, layer.update_grid, vmap(layer)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            use(x)
    assert torch.equal(layer.spline_weight, weight)


def test_a_grid_has_the_knots_of_its_basis() -> None:
    layer, x = wild(3, 2), uniform(40, 3, low=-1.2, high=1.2, seed=5)
    layer.grid = layer.grid[:, :-1].contiguous()
    for use in (layer, layer.update_grid):
        with pytest.raises(ValueError, match=r"has 12 knots per input; the grid has 11\.$"):
            use(x)


def test_knots_may_coincide() -> None:
    # Where they do the curve has a corner, or a jump: no error, and nothing that is not a number.
    layer, x = wild(3, 2), uniform(40, 3, low=-1.2, high=1.2, seed=5)
    layer.grid[0, 5:7] = layer.grid[0, 5]
    layer.grid[1, :] = 0.3
    layer.grid[2, 4:8] = layer.grid[2, 4]
    x[:3] = layer.grid.t()[4:7]
    y = layer(x.requires_grad_())
    expected = by_definition({name: value.detach() for name, value in layer.state_dict().items()}, 3, x.detach())
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients(y, x, *layer.parameters()))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[:0], "a grid update needs samples; got none."),
        (lambda x: x.index_fill(1, torch.tensor([1]), torch.nan), "samples must be finite; the columns [1] hold NaN or infinity."),
        (lambda x: x / (torch.arange(150).view(50, 3) != 44), "samples must be finite; the columns [2] hold NaN or infinity."),
        (lambda x: -torch.where(torch.eye(50, 3) > 0, torch.inf, x), "the columns [0, 1, 2] hold NaN or infinity."),
    ],
    ids=["none", "a column of NaN", "one infinity", "negative infinities"],
)
def test_samples_that_make_no_grid_are_an_error(spoil: Callable[[Tensor], Tensor], message: str) -> None:
    layer = wild(3, 2)
    state = state_of(layer)
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        layer.update_grid(spoil(uniform(50, 3, low=-1.2, high=1.2, seed=5)))
    assert_unchanged(layer, state)


@pytest.mark.parametrize("margin", [-0.01, float("nan"), float("inf")])
def test_a_margin_is_a_length(margin: float) -> None:
    layer = wild(3, 2)
    state = state_of(layer)
    with pytest.raises(ValueError, match=re.escape(f"must be finite and at least 0; got {margin}.")):
        layer.update_grid(uniform(50, 3, low=-1.2, high=1.2, seed=5), margin)
    assert_unchanged(layer, state)


def repeated(column: Tensor) -> None:
    column[:] = (column > 0).to(column)


def mostly_zero(column: Tensor) -> None:
    column[5:] = 0


KEPT_COLUMNS: dict[str, tuple[Callable[[Tensor], Any], dict[str, Any]]] = {
    "constant": (lambda column: column.fill_(0.1), {}),
    "zero": (lambda column: column.zero_(), {}),
    "round-off": (lambda column: column.mul_(1e-17).add_(1 / 3), {}),
    "two values and quantiles alone": (repeated, {"grid_eps": 0.0}),
    "mostly zero and quantiles alone": (mostly_zero, {"grid_eps": 0.0}),
    "too wide for the format": (lambda column: column.mul_(1.6e308), {}),
}


@pytest.mark.parametrize("case", KEPT_COLUMNS)
def test_columns_that_determine_no_grid_keep_theirs(case: str) -> None:
    spoil, options = KEPT_COLUMNS[case]
    layer, x = wild(4, 2, **options), uniform(50, 4, low=-1.2, high=1.2, seed=5)
    spoil(x[:, 1])
    spoil(x[:, 3])
    state = state_of(layer)
    with pytest.warns(UserWarning) as record:
        layer.update_grid(x)
    assert [str(warning.message) for warning in record] == [
        "grid update: the 50 samples of input(s) [1, 3] do not determine a grid (constant or repeated values, or too few for "
        "BSpline(intervals=5, degree=3, extrapolation='own')); their grid and weights are kept."
    ]
    assert record[0].filename == __file__
    for i, same in enumerate([False, True, False, True]):
        assert torch.equal(layer.grid[i], state["grid"][i]) == same
        assert torch.equal(layer.spline_weight[:, i], state["spline_weight"][:, i]) == same
    assert bool(layer(uniform(50, 4, low=-1.2, high=1.2, seed=5)).isfinite().all())


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("intervals", [5, 100])
def test_too_few_samples_change_nothing(count: int, intervals: int) -> None:
    layer = wild(2, 2, intervals)
    state = state_of(layer)
    with pytest.warns(UserWarning, match=rf"^grid update: the {count} samples of input\(s\) \[0, 1\] do not determine a grid") as record:
        layer.update_grid(uniform(count, 2, low=-1.2, high=1.2, seed=5))
    assert len(record) == 1
    assert_unchanged(layer, state)


@pytest.mark.parametrize("spoil", [repeated, mostly_zero])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repeated_values_are_kept_where_equal_spacing_parts_the_grid_points(spoil: Callable[[Tensor], None], dtype: torch.dtype) -> None:
    layer, x = wild(1, 2, dtype=dtype), uniform(50, 1, low=-1.2, high=1.2, seed=5).to(dtype)
    spoil(x[:, 0])
    before = layer(x).detach()
    layer.update_grid(x)
    change = (layer(x).detach() - before).abs().max() / before.abs().max()
    assert float(change) < (1e-9 if dtype == torch.float64 else 2e-5)
    low, high = core(layer.grid, 3)[0, [0, -1]].tolist()
    points = torch.linspace(low, high, 500, dtype=dtype)[:, None]
    assert float(layer(points).detach().abs().max()) < 100 * float(layer.spline_weight.detach().abs().max())


COLUMNS = st.sampled_from(
    ["normal", "integers", "two values", "constant", "mostly zero", "cubed", "far away", "tiny", "huge", "outlier", "sorted"]
)


def column_of(kind: str, count: int, seed: int) -> Tensor:
    normal = torch.randn(count, generator=source(seed), dtype=torch.float64)
    if kind in ("two values", "mostly zero"):
        (repeated if kind == "two values" else mostly_zero)(normal)
    if kind == "outlier":
        normal[0] = 1e6
    return {
        "integers": normal.round(),
        "constant": torch.full_like(normal, 0.3),
        "cubed": normal**9,
        "far away": 1e5 + normal,
        "tiny": 1e-30 * normal,
        "huge": 1e30 * normal,
        "sorted": normal.sort().values,
    }.get(kind, normal)


@settings(deadline=None, max_examples=80)
@given(
    kinds=st.lists(COLUMNS, min_size=1, max_size=4),
    count=st.integers(1, 60),
    intervals=st.integers(1, 12),
    degree=st.integers(0, 5),
    grid_eps=st.sampled_from([0.0, 0.02, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
def test_no_samples_make_what_is_not_a_number(
    kinds: list[str], count: int, intervals: int, degree: int, grid_eps: float, dtype: torch.dtype, seed: int
) -> None:
    layer = KANLinear(len(kinds), 2, intervals, degree, grid_eps=grid_eps, dtype=dtype, generator=source(seed))
    x = torch.stack([column_of(kind, count, seed + place) for place, kind in enumerate(kinds)], dim=1).to(dtype)
    state = state_of(layer)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        layer.update_grid(x)
        layer.update_grid(x.flip(0))
    assert len(record) in (0, 2)
    assert all(bool(value.isfinite().all()) for value in layer.state_dict().values())
    assert bool((layer.grid.diff(dim=1) >= 0).all())
    between = x[:1].lerp(x[-1:], torch.linspace(-0.2, 1.2, 40, dtype=dtype)[:, None])
    for points in (x, between):
        points = points.clone().requires_grad_()
        y = layer(points)
        for found in (y, *gradients(y, points, *layer.parameters())):
            assert bool(found.isfinite().all())
    for i, kind in enumerate(kinds):
        if kind == "constant" or count <= intervals:
            assert torch.equal(layer.grid[i], state["grid"][i])
            assert torch.equal(layer.spline_weight[:, i], state["spline_weight"][:, i])
            assert f"{i}" in str(record[0].message)


# Grid updates and the function


def polynomial_layer(degree: int, scaler: bool, dtype: torch.dtype) -> KANLinear:
    """All edges' splines are polynomials of `degree` on the whole grid; scalers are random, some zero."""
    layer = wild(3, 4, 6, degree, scaler=scaler)
    ends = core(layer.grid, degree)
    x = ends[:, :1].lerp(ends[:, -1:], torch.linspace(0, 1, 80)[None]).t()
    powers = x[..., None, None] ** torch.arange(degree + 1)  # (B, I, 1, k + 1)
    values = (powers * torch.randn(3, 4, degree + 1, generator=source(11))).sum(-1)
    # On the right end functions of their own are zero already below degree 1.
    layer.spline_weight.data.copy_(layer.curve2coeff(x[:-1], values[:-1]))
    torch.testing.assert_close(
        torch.einsum("bin,oin->bio", layer.b_splines(x[:-1]), layer.spline_weight), values[:-1], rtol=1e-9, atol=1e-9
    )
    if layer.spline_scaler is not None:
        layer.spline_scaler.data[0, :2] = 0.0
    return layer.to(dtype)


@with_and_without_scaler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("count", [7, 160])
def test_updates_keep_polynomials(count: int, degree: int, dtype: torch.dtype, scaler: bool) -> None:
    layer = polynomial_layer(degree, scaler, dtype)
    x = torch.cat([uniform(count - 3, 3, low=-0.6, high=0.8, seed=5), uniform(3, 3, low=0.2, high=0.4, seed=5)]).to(dtype)
    # Seven samples determine fewer functions than there are: between them the function is kept, too.
    between = x.amin(0).lerp(x.amax(0), torch.linspace(0, 1, 50, dtype=dtype)[:, None])
    points, old, others = torch.cat([x, between]), layer.grid.clone(), state_of(layer)
    before = layer(points).detach()
    layer.update_grid(x)
    assert not bool(torch.isclose(layer.grid, old).all(1).any())
    change = (layer(points).detach() - before).abs().max() / before.abs().max()
    assert float(change) < (1e-6 if dtype == torch.float32 else 1e-10)
    for name in layer.state_dict().keys() - {"grid", "spline_weight"}:
        assert torch.equal(layer.state_dict()[name], others[name])


@with_and_without_scaler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_updates_keep_any_function_on_nested_grids(degree: int, dtype: torch.dtype, scaler: bool) -> None:
    # Of the points of [-1, 1] in 8 intervals, those in [-0.5, 0.5] are every other one of this part in 8 intervals.
    layer = KANLinear(3, 4, 8, degree, enable_standalone_scale_spline=scaler, grid_eps=1.0, dtype=dtype, generator=source())
    for place, p in enumerate(layer.parameters()):
        p.data.copy_(torch.randn(p.shape, generator=source(place)))
    x = uniform(200, 3, low=-0.5, high=0.5, seed=5)
    x[:2] = torch.tensor([[-0.5], [0.5 - 1e-12]])  # at the right end itself constants of their own stop
    x = x.to(dtype)
    before = layer(x).detach()
    layer.update_grid(x, margin=0.0)
    torch.testing.assert_close(core(layer.grid, degree), torch.linspace(-0.5, 0.5, 9).to(dtype).expand(3, -1))
    change = (layer(x).detach() - before).abs().max() / before.abs().max()
    assert float(change) < (1e-6 if dtype == torch.float32 else 1e-10)


@with_and_without_scaler
@pytest.mark.parametrize(("intervals", "degree"), [(5, 3), (12, 1), (3, 5)])
def test_updates_find_the_least_squares_optimum(intervals: int, degree: int, scaler: bool) -> None:
    layer, x = wild(3, 2, intervals, degree, scaler=scaler), torch.randn(80, 3, generator=source(4))
    old = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.update_grid(x)
    new = layer.state_dict()
    before, after = (splines.basis(x, state["grid"], degree) for state in (old, new))
    expected = (nn.functional.silu(x) @ layer.base_weight.t()).detach().numpy()
    scales = old["spline_scaler"].numpy() if scaler else np.ones((2, 3))
    for i in range(3):
        targets = before[:, i] @ old["spline_weight"][:, i].numpy().T
        best = after[:, i] @ np.linalg.lstsq(after[:, i], targets, rcond=None)[0]
        assert np.abs(best - targets).max() > 1e-3, "something is to be lost"
        np.testing.assert_allclose(after[:, i] @ new["spline_weight"][:, i].numpy().T, best, rtol=0, atol=1e-8)
        expected += scales[:, i] * best
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-7)


def test_updates_take_samples_of_any_shape_and_leave_them_alone() -> None:
    layer, x = wild(3, 2), uniform(6, 10, 3, low=-1.2, high=1.2, seed=5).requires_grad_()
    twin, before = copy.deepcopy(layer), x.detach().clone()
    layer.update_grid(x)
    twin.update_grid(x.detach().reshape(60, 3))
    assert_unchanged(twin, state_of(layer))
    assert torch.equal(x, before) and x.grad is None
    assert all(p.requires_grad and p.grad_fn is None for p in layer.parameters())
    ends = core(layer.grid, 3)[:, [0, -1]]
    torch.testing.assert_close(ends, torch.stack([before.amin((0, 1)) - 0.01, before.amax((0, 1)) + 0.01], dim=1))


def test_updates_leave_parameters_and_generators_as_objects() -> None:
    layer, state = wild(3, 2), torch.get_rng_state()
    places = [value.data_ptr() for value in layer.state_dict().values()]
    optimizer = torch.optim.Adam(layer.parameters())
    layer.update_grid(uniform(60, 3, low=-1.2, high=1.2, seed=5))
    assert [value.data_ptr() for value in layer.state_dict().values()] == places
    assert all(p is q for p, q in zip(optimizer.param_groups[0]["params"], layer.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


# The penalty


@pytest.mark.parametrize(("activation", "entropy"), [(1.0, 1.0), (0.3, 2.0), (0.0, 1.0), (1.0, 0.0)])
def test_the_penalty_is_its_formula(activation: float, entropy: float) -> None:
    layer = wild(3, 2)
    layer.spline_weight.data[1, 2] = 0.0  # an edge without size has no part in it
    size = np.abs(layer.spline_weight.detach().numpy()).mean(-1)
    share = size[size > 0] / size.sum()
    expected = activation * size.sum() - entropy * (share * np.log(share)).sum()
    loss = layer.regularization_loss(activation, entropy)
    assert loss.shape == ()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-13)
    assert bool(torch.autograd.grad(loss, layer.spline_weight)[0].isfinite().all())
    stack = KANStack([3, 2, 4], generator=source())
    parts = [member.regularization_loss(activation, entropy) for member in stack.layers]  # type: ignore[operator]
    torch.testing.assert_close(stack.regularization_loss(activation, entropy), parts[0] + parts[1], rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_penalty_of_no_weights_is_zero_with_a_finite_gradient(dtype: torch.dtype) -> None:
    layer = wild(3, 2, dtype=dtype)
    layer.spline_weight.data.zero_()
    loss = layer.regularization_loss()
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, layer.spline_weight)
    assert bool(gradient.isfinite().all())


# Stacks


def test_sizes_of_a_stack() -> None:
    stack = KANStack([64, 128, 256, 128, 64, 32], generator=source())
    assert sum(p.numel() for p in stack.parameters()) == 839_680
    assert [(layer.in_features, layer.out_features) for layer in stack.layers] == [(64, 128), (128, 256), (256, 128), (128, 64), (64, 32)]
    for shape in ((64,), (5, 64), (2, 3, 64), (0, 64)):
        assert stack(torch.zeros(shape)).shape == (*shape[:-1], 32)


def test_a_stack_is_its_layers_one_after_another() -> None:
    generator = source(3)
    stack = KANStack([3, 4, 2], 6, 2, grid_range=[-2, 2], enable_standalone_scale_spline=False, generator=source(3), dtype=torch.float64)
    options: dict[str, Any] = {"grid_range": [-2, 2], "enable_standalone_scale_spline": False, "generator": generator}
    first, second = KANLinear(3, 4, 6, 2, **options), KANLinear(4, 2, 6, 2, **options)
    x = uniform(5, 7, 3, low=-1.2, high=1.2, seed=5)
    assert torch.equal(stack(x), second(first(x)))
    names = [f"layers.{i}.{name}" for i in range(2) for name in ("base_weight", "spline_weight", "grid")]
    assert list(stack.state_dict()) == names


@pytest.mark.parametrize("shape", [(80, 3), (8, 10, 3)], ids=str)
def test_a_stack_updates_layer_by_layer(shape: tuple[int, ...]) -> None:
    stack, x = KANStack([3, 4, 5, 2], generator=source()), uniform(*shape, low=-2, high=2, seed=5).requires_grad_()
    twin = copy.deepcopy(stack)
    y = stack(x, update_grid=True)
    hidden = x
    for layer in twin.layers:
        layer.update_grid(hidden)  # type: ignore[operator]
        hidden = layer(hidden)
    assert_unchanged(stack, state_of(twin))
    assert torch.equal(y, hidden) and torch.equal(y, stack(x))
    assert all(bool(gradient.any()) for gradient in gradients(y, x, *stack.parameters()))
    before = state_of(stack)
    stack(2 * x)
    assert_unchanged(stack, before)


@pytest.mark.parametrize("sizes", [[], [3]])
def test_a_stack_has_an_input_and_an_output(sizes: list[int]) -> None:
    message = f"layers_hidden must name at least the sizes of the input and of the output; got {sizes}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        KANStack(sizes)


def test_wrong_sizes_and_options_of_a_stack() -> None:
    with pytest.raises(ValueError, match=re.escape("out_features must be at least 1; got 0.")):
        KANStack([3, 0, 2])
    with pytest.raises(TypeError, match="unexpected keyword argument 'gridsize'"):
        KANStack([3, 2], gridsize=4)
    with pytest.raises(ValueError, match=re.escape("expected an input of shape (..., 3); got (5, 4).")):
        KANStack([3, 2], generator=source())(torch.zeros(5, 4))


def test_repr() -> None:
    assert repr(KANLinear(3, 2, generator=source())) == (
        "KANLinear(\n  in_features=3, out_features=2, basis=BSpline(intervals=5, degree=3, extrapolation='own')\n"
        "  (base_activation): SiLU()\n)"
    )


@pytest.mark.parametrize("k", [3, 4, 5])
@pytest.mark.parametrize("grid", [10, 20])
def test_a_grid_update_with_few_samples_stays_near_the_function_between_them(grid: int, k: int) -> None:
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        layer = KANLinear(2, 2, grid_size=grid, spline_order=k, generator=generator, dtype=torch.float64)
        torch.nn.init.normal_(layer.spline_weight, generator=generator)
        x, between = (2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1 for count in (grid + 5, 1000))
        between = between.clamp(x.amin(0), x.amax(0))
        before = layer(between).detach()
        layer.update_grid(x)
        assert float((layer(between) - before).detach().abs().max()) < 6 * float(before.abs().max())
