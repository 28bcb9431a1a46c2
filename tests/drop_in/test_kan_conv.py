"""Convolutions of learnable functions against loops over their definition, torch's convolutions and KANLinear."""

import copy
import itertools
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from kan.bases import BASES, projection
from kan.bases.knots import core
from kan.drop_in.initialisation import INITIALISATIONS
from kan.drop_in.kan_conv import KANConv1d, KANConv2d, KANConv3d
from kan.drop_in.kan_linear import KANLinear
from tests.data import uniform
from tests.reference import splines

pytestmark = pytest.mark.usefixtures("float64")

KAN_CONV: dict[int, type[Any]] = {1: KANConv1d, 2: KANConv2d, 3: KANConv3d}
TORCH_CONV: dict[int, type[Any]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NUMPY_PADDING: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def wild(axes: int = 2, *arguments: Any, seed: int = 0, **options: Any) -> Any:
    """A layer with random everything and another grid for every channel."""
    layer = KAN_CONV[axes](*arguments, generator=source(seed), **options)
    for place, p in enumerate(layer.parameters()):
        p.copy_(torch.randn(p.shape, generator=source(seed + place), dtype=torch.float64))
    layer.grid.add_(uniform(*layer.grid.shape, low=-0.05, high=0.05, seed=seed))
    return layer


def coefficients(layer: Any) -> Tensor:
    """Those of every edge, ``(out, in / groups, n, *kernel)``."""
    weight: Tensor = layer.spline_weight
    return weight.view(len(weight), layer.in_channels // layer.groups, layer.basis.size, *layer.kernel_size)


def by_definition(layer: Any, x: Tensor) -> NDArray[np.float64]:
    """The sum over channels and positions of the kernel, one output at a time."""
    axes = x.dim() - 2
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        borders = [(total // 2, total - total // 2) for total in totals]
    else:
        borders = [(width, width) for width in ([0] * axes if layer.padding == "valid" else layer.padding)]
    pixels = np.pad(x.numpy(), [(0, 0), (0, 0), *borders], NUMPY_PADDING[layer.padding_mode])
    flat = np.moveaxis(pixels, 1, -1)
    functions = splines.basis(flat.reshape(-1, layer.in_channels), layer.grid.numpy(), 3).reshape(*flat.shape, -1)
    base, coef = layer.base_weight.detach().numpy(), np.moveaxis(coefficients(layer).detach().numpy(), 2, -1)
    scaler = np.ones_like(base) if layer.spline_scaler is None else layer.spline_scaler.detach().numpy()
    bias = np.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach().numpy()

    steps = zip(pixels.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True)
    y = np.zeros((len(x), layer.out_channels, *((size - d * (k - 1) - 1) // s + 1 for size, k, s, d in steps)))
    for output in np.ndindex(*y.shape):
        b, o, *place = output
        group = o // (layer.out_channels // layer.groups)
        y[output] = bias[o]
        for c, *q in np.ndindex(*base.shape[1:]):
            channel = group * (layer.in_channels // layer.groups) + c
            at = tuple(p * s + i * d for p, s, i, d in zip(place, layer.stride, q, layer.dilation, strict=True))
            edge, pixel = (o, c, *q), (b, *at, channel)
            spline = sum(coef[edge][m] * functions[pixel][m] for m in range(coef.shape[-1]))
            y[output] += base[edge] * splines.silu(float(flat[pixel])) + scaler[edge] * spline
    return y


@st.composite
def convolutions(draw: st.DrawFn, most: int = 3) -> tuple[int, tuple[Any, ...], tuple[int, ...]]:
    """The number of axes, the arguments up to `padding_mode`, and the shape of an input."""
    axes = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 2))
    channels = [groups * draw(st.integers(1, 2)) for _ in range(2)]

    def each(low: int, high: int) -> Any:
        return draw(st.one_of(st.integers(low, high), st.tuples(*[st.integers(low, high)] * axes)))

    kernel, dilation = each(1, most if axes < 3 else 2), each(1, 2)
    padding = draw(st.sampled_from(["number", "valid", "same"]))
    stride = 1 if padding == "same" else each(1, 2)
    mode = draw(st.sampled_from(sorted(NUMPY_PADDING)))
    reach = [d * (k - 1) + 1 for k, d in zip(*(v if isinstance(v, tuple) else (v,) * axes for v in (kernel, dilation)), strict=True)]
    sizes = [max(3, size) + draw(st.integers(0, 1)) for size in reach]
    arguments = (*channels, kernel, stride, each(0, 2) if padding == "number" else padding, dilation, groups, mode)
    return axes, arguments, (draw(st.integers(1, 2)), channels[0], *sizes)


@settings(deadline=None, max_examples=25)
@given(convolutions(), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_it_is_its_definition(case: Any, scaler: bool, bias: bool, seed: int) -> None:
    axes, arguments, shape = case
    layer = wild(axes, *arguments, bias=bias, enable_standalone_scale_spline=scaler, seed=seed)
    x = uniform(*shape, low=-1.2, high=1.2, seed=seed)
    np.testing.assert_allclose(layer(x).detach().numpy(), by_definition(layer, x), rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # of torch's own layer
@settings(deadline=None, max_examples=60)
@given(convolutions(most=4), st.booleans(), st.integers(0, 10**6))
def test_linear_edges_make_an_ordinary_convolution(case: Any, bias: bool, seed: int) -> None:
    axes, arguments, shape = case
    *sizes, mode = arguments
    layer = KAN_CONV[axes](*sizes, mode, bias=bias, base_activation=lambda x: x, generator=source(seed))
    plain = TORCH_CONV[axes](*sizes, bias=bias, padding_mode=mode)
    layer.spline_weight.data.zero_()
    plain.weight.data.copy_(layer.base_weight)
    if bias:
        plain.bias.data.copy_(layer.bias.data.normal_(generator=source(seed)))
    x = uniform(*shape, low=-1.2, high=1.2, seed=seed)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x[0]), plain(x[0]), rtol=1e-12, atol=1e-12)


def test_padded_zeros_are_pixels() -> None:
    layer = wild(1, 1, 1, 3, padding=1)
    empty = torch.zeros(1, 1, 1)
    at_zero = by_definition(layer, torch.zeros(1, 1, 3))[0, 0, 1]
    assert abs(at_zero) > 0.1
    np.testing.assert_allclose(layer(empty).item(), at_zero, rtol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("scaler", [True, False])
@pytest.mark.parametrize("basis", sorted(BASES))
def test_a_kernel_of_one_pixel_is_a_linear_layer(axes: int, scaler: bool, basis: str) -> None:
    layer = wild(axes, 3, 4, 1, enable_standalone_scale_spline=scaler, basis=basis, extrapolation="linear")
    linear = KANLinear(3, 4, enable_standalone_scale_spline=scaler, basis=basis, extrapolation="linear", generator=source())
    linear.load_state_dict({name: value.reshape(linear.state_dict()[name].shape) for name, value in layer.state_dict().items()})
    x = uniform(2, 3, *[4, 3, 2][:axes], low=-1.2, high=1.2, seed=5)
    torch.testing.assert_close(layer(x).movedim(1, -1), linear(x.movedim(1, -1)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.regularization_loss(0.7, 1.3), linear.regularization_loss(0.7, 1.3), rtol=1e-12, atol=1e-12)
    for updated in (layer, linear):
        updated.update_grid(x if updated is layer else x.movedim(1, -1))
    torch.testing.assert_close(layer.grid, linear.grid, rtol=0, atol=0)
    torch.testing.assert_close(layer.spline_weight.flatten(), linear.spline_weight.flatten(), rtol=1e-9, atol=1e-9)


def test_the_loss_is_that_of_one_linear_layer_with_all_edges() -> None:
    layer = wild(2, 2, 3, (2, 3))
    linear = KANLinear(12, 3, generator=source())
    linear.spline_weight.data.copy_(coefficients(layer).movedim(2, -1).reshape(3, 12, -1))
    torch.testing.assert_close(layer.regularization_loss(0.7, 1.3), linear.regularization_loss(0.7, 1.3))


@pytest.mark.parametrize("arguments", [(1, 2, 2, 3), (2, 2, 2, 2, 1, 1, 1, 2)], ids=["1d", "2d with groups"])
def test_gradients(arguments: tuple[int, ...]) -> None:
    axes, *sizes = arguments
    layer = wild(axes, *sizes, bias=True)
    names = [name for name, _ in layer.named_parameters()]

    def output(x: Tensor, *parameters: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), x)
        return result

    x = uniform(2, sizes[0], *[4, 3][:axes], low=-1.2, high=1.2, seed=5).requires_grad_()
    inputs = (x, *(p.detach().clone().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(output, inputs)
    assert torch.autograd.gradgradcheck(output, inputs)


def polynomial(axes: int, degree: int, **options: Any) -> Any:
    """A layer without base function whose edges are polynomials of the splines' degree."""
    layer = wild(axes, 4, 6, [3, 2, 2][:axes], groups=2, spline_order=degree, base_activation=torch.zeros_like, bias=True, **options)
    for channel, grid in enumerate(layer.grid):
        at = torch.linspace(float(core(grid[None], degree)[0, 0]), float(core(grid[None], degree)[0, -1]), 60)[:-1]
        design = torch.from_numpy(splines.basis(at[:, None], grid[None], degree)[:, 0])
        group, c = divmod(channel, 2)
        edges = coefficients(layer).detach()[3 * group : 3 * group + 3, c]  # (3, n, *kernel)
        powers = at[:, None] ** torch.arange(degree + 1)
        values = powers @ torch.randn(degree + 1, edges.numel() // edges.shape[1], generator=source(channel))
        coef = torch.linalg.lstsq(design, values).solution
        edges.copy_(coef.unflatten(1, (3, *edges.shape[2:])).movedim(0, 1))
    return layer


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_updated_grid_keeps_the_function_that_it_can_represent(axes: int, degree: int, mode: str) -> None:
    layer = polynomial(axes, degree, padding=1, padding_mode=mode)
    x = uniform(3, 4, *[60, 6, 4][:axes], low=0.3, high=0.8, seed=5)  # far from the zeros of the border
    x = x if axes == 1 else x[..., None].expand(*x.shape, 5).flatten(-2)
    before, grid = layer(x).detach(), layer.grid.clone()
    layer.update_grid(x)
    assert not torch.isclose(layer.grid, grid).any(1).all()
    torch.testing.assert_close(layer(x).detach(), before, rtol=1e-9, atol=1e-9 * float(before.abs().max()))


def test_updated_grid_covers_the_pixels_and_the_padded_zeros() -> None:
    x = uniform(2, 1, 50, low=0.5, high=1.0, seed=5)
    for padding, mode, least in ((0, "zeros", 0.5), (1, "zeros", 0.0), (1, "circular", 0.5), ("same", "zeros", 0.0)):
        layer = wild(1, 1, 2, 3, 1, padding, padding_mode=mode)
        layer.update_grid(x, margin=0.0)
        ends = core(layer.grid, 3)[0, [0, -1]]
        torch.testing.assert_close(ends, torch.stack([x.min() if least else torch.zeros(()), x.max()]), rtol=1e-12, atol=1e-12)


def test_updated_grid_is_the_same_however_the_channels_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = wild(2, 4, 6, 3, groups=2), uniform(3, 4, 6, 5, low=-1.2, high=1.2, seed=5)
    twin = copy.deepcopy(layer)
    layer.update_grid(x)
    monkeypatch.setattr(projection, "REFIT_NUMBERS", 1)
    twin.update_grid(x)
    torch.testing.assert_close(twin.spline_weight, layer.spline_weight, rtol=1e-10, atol=1e-10)
    assert torch.equal(twin.grid, layer.grid)


@pytest.mark.parametrize("padding", [0, 1])
def test_constant_channel_keeps_its_grid_with_a_warning(padding: int) -> None:
    layer, x = wild(2, 4, 2, 3, padding=padding, groups=2), uniform(2, 4, 5, 5, low=-1.2, high=1.2, seed=5)
    x[:, [0, 2]] = 0.3
    grid, weight = layer.grid.clone(), coefficients(layer).detach().clone()
    with pytest.warns(UserWarning, match=re.escape("grid update: the 50 pixels of channel(s) [0, 2] do not determine a grid")) as record:
        layer.update_grid(x)
    assert [warning.filename for warning in record] == [__file__]
    assert torch.equal(layer.grid[[0, 2]], grid[[0, 2]])
    assert torch.equal(coefficients(layer)[:, 0], weight[:, 0])
    assert not torch.isclose(layer.grid[[1, 3]], grid[[1, 3]]).all(1).any()
    assert not torch.isclose(coefficients(layer)[:, 1], weight[:, 1]).flatten(1).all(1).any()


def test_too_few_pixels_keep_the_grid_with_a_warning() -> None:
    layer = wild(1, 2, 2, 3)
    state = copy.deepcopy(layer.state_dict())
    with pytest.warns(UserWarning, match=re.escape("the 4 pixels of channel(s) [0, 1] do not determine a grid")):
        layer.update_grid(uniform(2, 4, low=-1.2, high=1.2, seed=5))
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 5, 4, 4), "expected an input of shape (batch, 2, height, width) or (2, height, width); got (3, 5, 4, 4)."),
        (torch.zeros(0, 2, 4, 4).double(), "a grid update needs pixels; got none."),
        (torch.tensor([[0.0, 1.0], [torch.nan, 0.5]]).double()[:, None], "pixels must be finite; the channels [1] hold NaN or infinity."),
    ],
)
def test_bad_samples(x: Tensor, message: str) -> None:
    layer = wild(2, 2, 3, 3)
    state = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.update_grid(x)
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("init", sorted(INITIALISATIONS))
@pytest.mark.parametrize("scaler", [True, False])
def test_initial_weights_of_a_group_are_those_of_a_linear_layer(init: str, scaler: bool) -> None:
    options = {"init": init, "enable_standalone_scale_spline": scaler}
    generator = source(7)
    layer = KANConv2d(4, 6, (2, 3), groups=2, bias=True, generator=source(7), **options)
    assert not bool(layer.bias.any())

    def agrees(linear: KANLinear, group: int) -> None:
        members = slice(3 * group, 3 * group + 3)
        pairs = [
            (layer.base_weight[members].flatten(1), linear.base_weight),
            (coefficients(layer)[members].movedim(2, -1).flatten(1, 3), linear.spline_weight),
        ]
        for own, weight in pairs:
            if init == "glorot":  # which knows that a pixel has a part in more outputs
                ratio = (own / weight).detach()
                assert 0.1 < float(ratio.min()) < 1
                torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))
            else:
                assert torch.equal(own, weight)
        if scaler:
            assert torch.equal(layer.spline_scaler[members].flatten(1), linear.spline_scaler)

    linear = KANLinear(12, 3, generator=generator, **options)
    agrees(linear, 0)
    linear.reset_parameters(generator)
    agrees(linear, 1)

    layer.grid[2:] *= 1.5
    layer.reset_parameters(source(8))
    agrees(KANLinear(12, 3, generator=(generator := source(8)), **options), 0)
    linear.grid *= 1.5
    linear.reset_parameters(generator)
    agrees(linear, 1)


def test_the_global_generator_is_used_only_when_none_is_given() -> None:
    state = torch.get_rng_state()
    layer = KANConv2d(2, 4, 3, groups=2, generator=source())
    layer.reset_parameters(source())
    layer.update_grid(uniform(2, 2, 5, 5, low=-1.2, high=1.2, seed=5))
    assert torch.equal(state, torch.get_rng_state())
    with torch.random.fork_rng():
        KANConv2d(2, 4, 3)
        assert not torch.equal(state, torch.get_rng_state())


def test_it_saves_pickles_and_copies() -> None:
    layer, x = wild(2, 2, 4, 3, groups=2, bias=True, padding=1), uniform(2, 2, 4, 4, low=-1.2, high=1.2, seed=5)
    layer.update_grid(uniform(2, 2, 7, 7, low=-1.2, high=1.2, seed=5))
    y = layer(x).detach()
    loaded = KANConv2d(2, 4, 3, groups=2, bias=True, padding=1, generator=source())
    loaded(x)
    loaded.load_state_dict(layer.state_dict())
    for twin in (loaded, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(twin(x).detach(), y, rtol=0, atol=0)
        twin.reset_parameters(source())
    torch.testing.assert_close(layer(x).detach(), y, rtol=0, atol=0)
    assert set(layer.state_dict()) == {"base_weight", "spline_weight", "spline_scaler", "bias", "grid"}


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_empty_batch(axes: int) -> None:
    layer, x = wild(axes, 2, 3, 2, padding=1), torch.zeros(0, 2, *[3] * axes, requires_grad=True)
    y = layer(x)
    assert y.shape == TORCH_CONV[axes](2, 3, 2, padding=1)(x).shape == (0, 3, *[4] * axes)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape and not bool(layer.spline_weight.grad.any())


@pytest.mark.parametrize(("axes", "last"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_memory_formats(axes: int, last: torch.memory_format) -> None:
    layer, x = wild(axes, 2, 4, 3, padding=1, groups=2), uniform(2, 2, *[5, 4, 3][:axes], low=-1.2, high=1.2, seed=5)
    twin = copy.deepcopy(layer).to(memory_format=last)
    assert all(p.is_contiguous(memory_format=last) for p in (twin.base_weight, twin.spline_weight, twin.spline_scaler))
    for data in (x, x.contiguous(memory_format=last)):
        for one in (layer, twin):
            torch.testing.assert_close(one(data), layer(x))
    for one in (layer, twin):
        one.update_grid(x)
    torch.testing.assert_close(twin.spline_weight, layer.spline_weight)
    for one in (layer, twin):
        one.reset_parameters(source())
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in layer.state_dict().items())


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # from torch's own jacfwd
@pytest.mark.parametrize("bias", [False, True])
def test_function_transforms(bias: bool) -> None:
    layer, x = wild(2, 2, 4, 2, groups=2, padding=1, bias=bias), uniform(3, 2, 3, 3, low=-1.2, high=1.2, seed=5)
    y = layer(x)
    torch.testing.assert_close(torch.func.vmap(layer)(x), y, rtol=1e-12, atol=1e-12)
    jacobian = torch.func.vmap(torch.func.jacrev(layer))(x)
    expected = torch.stack([torch.autograd.functional.jacobian(layer, row) for row in x])
    torch.testing.assert_close(jacobian, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.func.jacfwd(layer)(x[0]), expected[0], rtol=1e-12, atol=1e-12)

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, row).square().sum()

    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    whole = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
    for (name, _), gradient in zip(layer.named_parameters(), whole, strict=True):
        torch.testing.assert_close(found[name].sum(0), gradient, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seen", [False, True])
def test_it_compiles_as_one_graph(axes: int, seen: bool) -> None:
    layer, x = wild(axes, 2, 4, 2, groups=2, padding="same"), uniform(2, 2, *[4, 3, 3][:axes], low=-1.2, high=1.2, seed=5).requires_grad_()
    if seen:
        layer(x)
    y = torch.compile(layer, fullgraph=True, backend="eager")(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    torch.testing.assert_close(y, layer(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(layer(x).square().sum(), x)[0], rtol=1e-11, atol=1e-11)


def test_autocast() -> None:
    layer = KANConv2d(2, 3, 3, padding=1, bias=True, dtype=torch.float32, generator=source())
    x = uniform(2, 2, 5, 5, low=-1.2, high=1.2, seed=5).float().requires_grad_()
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        again = layer(x.bfloat16())
    assert y.dtype == again.dtype == torch.bfloat16
    assert exact.dtype == torch.float32
    torch.testing.assert_close(y.float(), exact, rtol=0.02, atol=0.02)
    torch.testing.assert_close(again.float(), exact, rtol=0.02, atol=0.02)
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 and bool(p.grad.isfinite().all()) for p in layer.parameters())
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="the input is torch.int64"):
        layer(torch.zeros(1, 2, 5, 5, dtype=torch.int64))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="the input is torch.float64"):
        layer(torch.zeros(1, 2, 5, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_shorter_formats(dtype: torch.dtype) -> None:
    # Rounding the weights and the input first leaves only the layer's own errors.
    layer = KANConv2d(2, 3, 3, padding=1, dtype=dtype, generator=source())
    x = uniform(2, 2, 5, 5, low=-1.2, high=1.2, seed=5).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    expected = copy.deepcopy(layer).double()(x.double())
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), expected, rtol=8 * step, atol=8 * step)
    y.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters() if p.grad is not None)
    layer.update_grid(uniform(2, 2, 8, 8, low=-1.2, high=1.2, seed=5).to(dtype))
    assert layer.grid.dtype == layer.spline_weight.dtype == dtype


def test_repr() -> None:
    assert repr(KANConv2d(2, 4, 3, generator=source())) == (
        "KANConv2d(\n  2, 4, kernel_size=(3, 3), stride=(1, 1), basis=BSpline(intervals=5, degree=3, extrapolation='own')\n"
        "  (base_activation): SiLU()\n)"
    )
    text = repr(KANConv1d(2, 4, 3, 2, 1, 2, 2, "circular", bias=True, generator=source()))
    assert "kernel_size=(3,), stride=(2,), padding=(1,), dilation=(2,), groups=2, bias=True, padding_mode='circular', basis" in text
    assert "padding='same'" in repr(KANConv3d(1, 1, 2, padding="same", generator=source()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1; got 0."),
        ({"out_channels": -2}, "out_channels must be at least 1; got -2."),
        ({"groups": 3}, "groups must be at least 1 and divide in_channels and out_channels; got 3 for in_channels=4."),
        ({"groups": 4}, "groups must be at least 1 and divide in_channels and out_channels; got 4 for out_channels=6."),
        ({"groups": 0}, "got 0 for in_channels=4."),
        ({"kernel_size": 0}, "kernel_size must be an integer of at least 1, or 2 of them; got 0."),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be an integer of at least 1, or 2 of them; got (3, 3, 3)."),
        ({"stride": (1, 0)}, "stride must be an integer of at least 1, or 2 of them; got (1, 0)."),
        ({"dilation": 1.5}, "dilation must be an integer of at least 1, or 2 of them; got 1.5."),
        ({"padding": -1}, "padding must be an integer of at least 0, or 2 of them; got -1."),
        ({"padding": "sam"}, "unknown padding 'sam'; did you mean 'same'? Valid are: 'valid', 'same'."),
        ({"padding": "same", "stride": (1, 2)}, "padding='same' needs a stride of 1; got (1, 2)."),
        ({"padding_mode": "zero"}, "unknown padding mode 'zero'; did you mean 'zeros'? Valid are: 'zeros', 'reflect', "),
        ({"basis": "bsplin"}, "unknown basis 'bsplin'; did you mean 'bspline'?"),
        ({"init": "kaiming"}, "unknown initialisation 'kaiming'"),
        ({"grid_range": (1, -1)}, "grid_range must be [low, high] with low < high; got [1, -1]."),
        ({"grid_range": [1, -1]}, "grid_range must be [low, high] with low < high; got [1, -1]."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        KANConv2d(**({"in_channels": 4, "out_channels": 6, "kernel_size": 3, "generator": source()} | arguments))


@pytest.mark.parametrize(
    ("axes", "options", "shape", "message"),
    [
        (1, {}, (2, 3, 9), "expected an input of shape (batch, 2, length) or (2, length); got (2, 3, 9)."),
        (1, {}, (9,), "got (9,)."),
        (2, {}, (2, 9), "expected an input of shape (batch, 2, height, width) or (2, height, width); got (2, 9)."),
        (3, {}, (1, 1, 2, 9, 9, 9), "(batch, 2, depth, height, width) or (2, depth, height, width); got (1, 1, 2, 9, 9, 9)."),
        (2, {}, (2, 9, 2), "the kernel reaches over [3, 3] pixels, its dilation included, and the padded input has only [9, 2]"),
        (1, {"dilation": 4, "padding": 1}, (2, 6), "the kernel reaches over [9] pixels, its dilation included, and the padded input has"),
        (2, {"padding": (0, 3), "padding_mode": "reflect"}, (2, 9, 3), "'reflect' can add at most 2 pixels to an axis of 3; got 3."),
        (1, {"padding": 4, "padding_mode": "circular"}, (2, 3), "'circular' can add at most 3 pixels to an axis of 3; got 4."),
    ],
)
def test_bad_inputs(axes: int, options: dict[str, Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        wild(axes, 2, 3, 3, **options)(torch.zeros(shape))


def test_bad_dtypes() -> None:
    layer = wild(2, 2, 3, 3)
    for dtype, use in itertools.product((torch.int64, torch.float32, torch.bool), (layer, layer.update_grid)):
        with pytest.raises(TypeError, match=re.escape(f"the layer's parameters are torch.float64 and the input is {dtype}; convert")):
            use(torch.zeros(1, 2, 5, 5, dtype=dtype))
