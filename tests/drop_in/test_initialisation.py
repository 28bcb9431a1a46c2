"""Initial weights: what every scheme promises for every basis, and that variances are kept where that is said."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor, nn

from kan.bases import BASES, BSpline
from kan.drop_in import initialisation
from kan.drop_in.initialisation import INITIALISATIONS, SCALES, Edges, initial_weights, moments
from kan.drop_in.kan_conv import KANConv2d
from kan.drop_in.kan_linear import KANLinear, KANStack
from kan.layers.kan_layer import KANLayer

pytestmark = pytest.mark.usefixtures("float64")

NORMAL = ["glorot", "power-law"]
every_scheme = pytest.mark.parametrize("init", sorted(INITIALISATIONS))
every_basis = pytest.mark.parametrize("basis", sorted(BASES))
with_and_without_scaler = pytest.mark.parametrize("scaler", [True, False])


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def edges_of(layer: KANLinear, **options: Any) -> Edges:
    low, high = layer.grid_range
    return Edges(layer.basis, layer.grid, layer.out_features, layer.base_activation, (low, high), **options)


def uniform_inputs(low: float = -1.0, high: float = 1.0, count: int = 4000) -> tuple[Tensor, Tensor]:
    """Midpoints of equal parts, and their probabilities."""
    return low + (high - low) * (torch.arange(count) + 0.5) / count, torch.full((count,), 1 / count)


def mean_square(x: Tensor) -> float:
    return float(x.detach().square().mean())


@every_scheme
@every_basis
@with_and_without_scaler
def test_weights_have_their_shapes_and_come_from_the_generator(init: str, basis: str, scaler: bool) -> None:
    options: dict[str, Any] = {"basis": basis, "init": init, "enable_standalone_scale_spline": scaler}
    state = torch.get_rng_state()
    layer = KANLinear(4, 3, generator=source(1), **options)
    drawn = {name: p.detach().clone() for name, p in layer.named_parameters()}
    shapes = {"base_weight": (3, 4), "spline_weight": (3, 4, layer.basis.size)} | ({"spline_scaler": (3, 4)} if scaler else {})
    assert {name: tuple(p.shape) for name, p in drawn.items()} == shapes
    assert all(bool(p.isfinite().all()) and bool(p.any()) for p in drawn.values())

    assert all(torch.equal(p, drawn[name]) for name, p in KANLinear(4, 3, generator=source(1), **options).named_parameters())
    layer.reset_parameters(source(2))
    assert not torch.equal(layer.base_weight, drawn["base_weight"]) and not torch.equal(layer.spline_weight, drawn["spline_weight"])
    layer.reset_parameters(source(1))
    assert all(torch.equal(p, drawn[name]) for name, p in layer.named_parameters())
    assert torch.equal(state, torch.get_rng_state())
    with torch.random.fork_rng():
        layer.reset_parameters()
        assert not torch.equal(state, torch.get_rng_state())


@every_scheme
@every_basis
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_shorter_formats_have_rounded_weights(init: str, basis: str, dtype: torch.dtype) -> None:
    layer = KANLinear(6, 5, basis=basis, init=init, generator=source(), dtype=dtype)
    exact = KANLinear(6, 5, basis=basis, init=init, generator=source(), dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    assert all(bool(p.isfinite().all()) for p in layer.parameters())
    step = torch.finfo(dtype).eps
    for name, p in layer.state_dict().items():
        q = exact.state_dict()[name]
        if init in NORMAL:
            assert torch.equal(p, q.to(dtype)) or name == "grid"
        elif init == "pykan":  # which fits splines to noise that is rounded first
            torch.testing.assert_close(p.double(), q, rtol=step, atol=10 * step * float(q.abs().max()))
        else:  # torch draws uniform numbers of another dtype by another rule
            assert float(p.double().abs().mean() / q.abs().mean()) == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("intervals", [5, 20, 200])
def test_moments_of_splines_and_of_silu_are_their_integrals(intervals: int) -> None:
    low, high = -1.0, 3.0
    layer = KANLinear(2, 2, intervals, grid_range=[low, high], generator=source())
    found = moments(edges_of(layer), *uniform_inputs(low, high))

    def silu(x: float) -> float:
        return x / (1 + math.exp(-x))

    def slope(x: float) -> float:
        sigmoid = 1 / (1 + math.exp(-x))
        return sigmoid * (1 + x * (1 - sigmoid))

    def mean_of_square(f: Callable[[float], float]) -> float:
        return float(integrate.quad(lambda x: f(x) ** 2, low, high)[0]) / (high - low)

    step = (high - low) / intervals
    # Cubic B-splines on equidistant knots: the integrals of their squares and of their slopes' squares over all four pieces.
    np.testing.assert_allclose(found, [mean_of_square(silu), mean_of_square(slope), 151 / 315, 2 / 3 / step**2], rtol=1e-4)


@every_basis
@pytest.mark.parametrize("size", [5, 20])
def test_moments_are_those_of_the_layers_own_functions(basis: str, size: int) -> None:
    layer = KANLinear(1, 1, size, basis=basis, generator=source())
    z = torch.linspace(-5, 5, 2001)
    x, density = z / math.sqrt(3), torch.exp(-z.square() / 2) / torch.exp(-z.square() / 2).sum()
    found = moments(edges_of(layer), x, density)

    def expected(values: Tensor) -> float:
        return float((values.square().sum(1) * density).sum())

    step = 1e-5
    values, shifted = layer.b_splines(x[:, None])[:, 0], [layer.b_splines((x + e)[:, None])[:, 0] for e in (-step, step)]
    assert found.spline == pytest.approx(expected(values), rel=1e-9)
    assert found.spline_slope == pytest.approx(expected((shifted[1] - shifted[0]) / (2 * step)), rel=1e-3)


@every_basis
@pytest.mark.parametrize("init", NORMAL)
@pytest.mark.parametrize("share", [initialisation.SPLINE_SHARE, 0.5])
def test_mean_squares_of_values_and_gradients_are_as_derived(monkeypatch: pytest.MonkeyPatch, basis: str, init: str, share: float) -> None:
    monkeypatch.setattr(initialisation, "SPLINE_SHARE", share)
    ins, outs = 40, 1000
    layer = KANLinear(ins, outs, 8, basis=basis, init=init, generator=source(1))
    of = moments(edges_of(layer), *uniform_inputs())
    base, spline = mean_square(layer.base_weight), mean_square(layer.spline_weight)

    x = (2 * torch.rand(400, ins, generator=source(2)) - 1).requires_grad_()
    y = layer(x)
    (gradient,) = torch.autograd.grad(y, x, torch.randn(y.shape, generator=source(3)))
    # The relative error of a mean of squares is sqrt(2/outs) and less.
    assert mean_square(y) == pytest.approx(ins * (base * of.base + spline * of.spline), rel=0.15)
    assert mean_square(gradient) == pytest.approx(outs * (base * of.base_slope + spline * of.spline_slope), rel=0.15)


@every_basis
@pytest.mark.parametrize("sizes", [(30, 30), (200, 20), (20, 200)])
@pytest.mark.parametrize("share", [initialisation.SPLINE_SHARE, 0.5])
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.5, 4.5)])
def test_under_glorot_the_mean_of_both_gains_is_one(
    monkeypatch: pytest.MonkeyPatch, basis: str, sizes: tuple[int, int], share: float, ends: tuple[float, float]
) -> None:
    monkeypatch.setattr(initialisation, "SPLINE_SHARE", share)
    (ins, outs), (low, high) = sizes, ends
    layer = KANLinear(ins, outs, 10, grid_range=ends, basis=basis, init="glorot", generator=source(1))
    std = (high - low) / math.sqrt(12)
    z = torch.linspace(-6, 6, 3001)
    density = torch.exp(-z.square() / 2)
    of = moments(edges_of(layer), (low + high) / 2 + std * z, density / density.sum())
    base, spline = mean_square(layer.base_weight), mean_square(layer.spline_weight)
    forward = ins * (base * of.base + spline * of.spline) / std**2
    backward = outs * (base * of.base_slope + spline * of.spline_slope)
    assert (forward + backward) / 2 == pytest.approx(1, rel=0.1)


def sizes_through_depth(model: nn.Sequential, x: Tensor) -> tuple[list[float], list[float]]:
    """Root mean squares of every layer's output, and of the gradient there for a random last one."""
    values = [x.requires_grad_()]
    for layer in model:
        values.append(layer(values[-1]))
    gradients = torch.autograd.grad(values[-1], values, torch.randn(values[-1].shape, generator=source(99)))
    return [math.sqrt(mean_square(v)) for v in values[1:]], [math.sqrt(mean_square(g)) for g in gradients[1:]]


def through_depth(init: str, sizes: list[int], grid_size: int, **options: Any) -> tuple[float, float]:
    """Last over first value and first over last gradient: how much is left. The median over seeds."""
    left = []
    for seed in range(5):
        stack = KANStack(sizes, grid_size, init=init, generator=source(seed), **options)
        x = 2 * torch.rand(300, sizes[0], generator=source(seed + 50)) - 1
        values, gradients = sizes_through_depth(nn.Sequential(*stack.layers), x)
        left.append((values[-1] / values[0], gradients[0] / gradients[-1]))
    forward, backward = torch.tensor(left).median(0).values.tolist()
    return forward, backward


@pytest.mark.parametrize(("sizes", "grid_size"), [([32] * 5, 20), ([32] * 5, 5), ([32] * 9, 20), ([256] * 5, 20)])
def test_glorot_keeps_values_and_gradients_through_the_depth(sizes: list[int], grid_size: int) -> None:
    for left in through_depth("glorot", sizes, grid_size):
        assert 0.5 < left < 2


@every_basis
def test_glorot_keeps_values_and_gradients_for_every_basis(basis: str) -> None:
    for left in through_depth("glorot", [32] * 5, 20, basis=basis):
        assert 0.5 < left < 2


def test_other_schemes_lose_values_and_gradients_in_the_depth() -> None:
    assert max(through_depth("efficient-kan", [32] * 5, 20)) < 0.3
    assert max(through_depth("pykan", [32] * 5, 20)) < 0.1
    assert max(through_depth("power-law", [32] * 5, 20)) < 0.4


def test_glorot_keeps_values_and_gradients_through_convolutions() -> None:
    layers = [KANConv2d(8, 8, 3, padding=1, padding_mode="circular", groups=2, grid_size=10, generator=source(i)) for i in range(6)]
    values, gradients = sizes_through_depth(nn.Sequential(*layers), 2 * torch.rand(4, 8, 9, 9, generator=source(9)) - 1)
    assert 0.5 < values[-1] / values[0] < 2
    assert 0.5 < gradients[0] / gradients[-1] < 2


@every_basis
@with_and_without_scaler
def test_power_law(basis: str, scaler: bool) -> None:
    layer = KANLinear(50, 80, 6, basis=basis, init="power-law", enable_standalone_scale_spline=scaler, generator=source())
    step = 1 / (50 * (layer.basis.size + 1))
    assert float(layer.base_weight.detach().std()) == pytest.approx(step**0.25, rel=0.05)
    assert float(layer.spline_weight.detach().std()) == pytest.approx(step**1.75, rel=0.05)
    assert layer.spline_scaler is None or bool((layer.spline_scaler == 1).all())


@pytest.mark.parametrize("scales", [(), (0.2, 0.7, 1.3)])
@with_and_without_scaler
def test_pykan_is_the_layer_of_that_name(scales: tuple[float, ...], scaler: bool) -> None:
    noise, base, spline = scales or SCALES["pykan"]
    theirs = KANLayer(4, 3, 6, 2, noise, 0.0, base, spline, generator=source(5))
    layer = KANLinear(4, 3, 6, 2, *scales, enable_standalone_scale_spline=scaler, init="pykan", generator=source(5))
    x = 2.4 * torch.rand(50, 4, generator=source(6)) - 1.2
    torch.testing.assert_close(layer(x), theirs(x)[0], rtol=1e-9, atol=1e-9)


@every_basis
@pytest.mark.parametrize("scales", [(), (0.2, 0.7, 1.3)])
@with_and_without_scaler
def test_efficient_kan_has_the_sizes_that_are_asked_for(basis: str, scales: tuple[float, ...], scaler: bool) -> None:
    noise, base, spline = scales or SCALES["efficient-kan"]
    layer = KANLinear(10, 60, 6, 3, *scales, enable_standalone_scale_spline=scaler, basis=basis, init="efficient-kan", generator=source())
    largest = {name: math.sqrt(6 / (1 + 5 * scale**2) / 10) for name, scale in (("base", base), ("scaler", spline))}
    assert float(layer.base_weight.detach().abs().max()) == pytest.approx(largest["base"], rel=0.02)
    if layer.spline_scaler is not None:
        assert float(layer.spline_scaler.detach().abs().max()) == pytest.approx(largest["scaler"], rel=0.02)
    layer.base_weight.data.zero_()
    points = torch.linspace(-1, 1, 7)[:, None].expand(-1, 10)
    curves = torch.einsum("bim,oim->bio", layer.b_splines(points), layer.spline_weight).detach()
    assert float(curves.abs().max()) == pytest.approx(noise / 12 * (1 if scaler else spline), rel=0.05)


@pytest.mark.parametrize("init", NORMAL)
def test_the_other_schemes_ignore_the_scales(init: str) -> None:
    layers = [KANLinear(3, 2, *([5, 3, *scales]), init=init, generator=source()) for scales in ([], [9.0, 9.0, 9.0])]
    assert all(torch.equal(p, q) for p, q in zip(layers[0].parameters(), layers[1].parameters(), strict=True))


def test_glorot_is_the_default() -> None:
    linear, conv, stack = KANLinear(3, 2, generator=source()), KANConv2d(3, 2, 3, generator=source()), KANStack([2, 2], generator=source())
    assert [layer.init for layer in (linear, conv, *stack.layers)] == ["glorot"] * 3


@pytest.mark.parametrize("init", sorted(INITIALISATIONS))
def test_a_state_replaces_any_initialisation(init: str) -> None:
    layer, x = KANLinear(3, 2, init="efficient-kan", generator=source()), torch.rand(5, 3, generator=source(1))
    other = KANLinear(3, 2, init=init, generator=source(2))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


def test_where_the_base_function_is_zero_the_splines_keep_the_mean_gain() -> None:
    layer = KANLinear(100, 100, 4, base_activation=torch.zeros_like, generator=source())
    of = moments(edges_of(layer), *uniform_inputs())
    assert of.base == of.base_slope == 0
    assert not bool(layer.base_weight.any())
    spline = mean_square(layer.spline_weight)
    assert 100 * spline * (3 * of.spline + of.spline_slope) / 2 == pytest.approx(1, rel=0.1)


class Drawing(nn.Module):
    """Random in training, and with parameters, one for each input."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes = nn.PReLU(7, 0.5, dtype=torch.float32)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.slopes(x))
        return out


def test_a_base_function_with_a_state_is_left_alone() -> None:
    state, base = torch.get_rng_state(), Drawing()
    layer = KANLinear(7, 2, base_activation=base, generator=source(), dtype=torch.float32)
    assert layer.base_activation is base
    assert base.training and base.slopes.weight.dtype == torch.float32 and base.slopes.weight.grad is None
    assert torch.equal(state, torch.get_rng_state())
    found = moments(edges_of(layer), *uniform_inputs())
    assert found.base == pytest.approx((1 + 0.25) / 2 / 3, rel=1e-4)
    assert found.base_slope == pytest.approx((1 + 0.25) / 2, rel=1e-4)
    assert KANConv2d(7, 2, 3, base_activation=base, generator=source(), dtype=torch.float32).base_weight.isfinite().all()


@every_scheme
def test_layers_are_made_without_gradients_too(init: str) -> None:
    expected = KANLinear(3, 2, init=init, generator=source())
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            layer = KANLinear(3, 2, init=init, generator=source())
            assert torch.equal(layer.spline_weight, expected.spline_weight)


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_few_and_rough_splines(degree: int) -> None:
    layer = KANLinear(3, 2, 1, degree, generator=source())
    assert bool(layer.spline_weight.isfinite().all()) and bool(layer.spline_weight.all())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@every_scheme
@every_basis
def test_weights_are_drawn_on_the_device(init: str, basis: str) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    layer = KANLinear(3, 2, init=init, basis=basis, generator=generator, device="cuda")
    assert all(p.is_cuda and bool(p.isfinite().all()) for p in layer.parameters())


def test_unknown_names() -> None:
    message = "unknown initialisation 'glorott'; did you mean 'glorot'? Valid are: 'glorot', 'power-law', 'efficient-kan', 'pykan'."
    with pytest.raises(ValueError, match=re.escape(message)):
        KANLinear(2, 2, init="glorott")
    basis = BSpline()
    with pytest.raises(ValueError, match="did you mean 'pykan'"):
        initial_weights("pycan", Edges(basis, basis.initial_grid(2, -1, 1), 2, torch.sin))


def test_scales_mean_the_scheme_that_they_are_from() -> None:
    for options in ({"scale_noise": 0.1}, {"scale_base": 1.0}, {"scale_spline": 0.0}):
        layer = KANLinear(3, 2, **options, generator=torch.Generator().manual_seed(1))
        same = KANLinear(3, 2, **options, init="efficient-kan", generator=torch.Generator().manual_seed(1))
        assert torch.equal(layer.spline_weight, same.spline_weight)
        assert torch.equal(layer.base_weight, same.base_weight)
    assert KANLinear(3, 2).init == "glorot"
    assert KANLinear(3, 2, scale_base=1.0, init="pykan").init == "pykan"


def test_grid_is_equidistant_in_its_own_dtype() -> None:
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        grid = KANLinear(2, 2, 7, dtype=torch.float64).grid
    finally:
        torch.set_default_dtype(previous)
    assert grid.dtype == torch.float64
    torch.testing.assert_close(grid.diff(dim=1), torch.full_like(grid[:, 1:], 2 / 7), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("make", "arguments"), [(KANLinear, (3, 2)), (KANConv2d, (2, 4, 3))])
def test_a_subclass_may_have_its_own_reset_parameters(make: Any, arguments: tuple[int, ...]) -> None:
    class Mine(make):
        def reset_parameters(self) -> None:
            nn.init.constant_(self.base_weight, 0.25)

    class Seeded(make):
        def reset_parameters(self, generator: torch.Generator | None = None) -> None:
            super().reset_parameters(generator)
            self.base_weight.data += 1

    layer, plain = Mine(*arguments), make(*arguments)
    assert bool((layer.base_weight == 0.25).all())
    for name, value in layer.state_dict().items():  # what it leaves alone is as in any other layer
        assert name == "base_weight" or abs(math.log(float(value.abs().mean() / plain.state_dict()[name].abs().mean()))) < 1.5
    layer.base_weight.data.zero_()
    layer.reset_parameters()
    assert bool((layer.base_weight == 0.25).all())
    one, other = (Seeded(*arguments, generator=source()) for _ in range(2))
    assert all(map(torch.equal, one.parameters(), other.parameters())) and bool(one.base_weight.mean() > 0.5)
