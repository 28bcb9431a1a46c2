"""Layers by the compiled kernels beside those by torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from kan.bases.bspline import BSpline
from kan.drop_in import edge_sum as module
from kan.drop_in.kan_linear import KANLinear
from kan.kernels import layer as kernels
from kan.kernels.library import library, switched
from kan.layers import edge_values
from kan.layers.kan_layer import KANLayer
from tests.data import uniform

pytestmark = pytest.mark.skipif(library(torch.float64) is None, reason="the kernels have not been compiled, or are switched off")

BASES = {"silu": nn.SiLU, "identity": nn.Identity, "tanh": torch.tanh, "gelu": F.gelu, "another": torch.sin}
CLOSE = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the functions of the kernels that are called, in order."""
    found: list[str] = []
    for name in ("sums", "gradients"):
        original = getattr(kernels, name)

        def spy(*args: Any, name: str = name, original: Any = original) -> Any:
            found.append(name)
            return original(*args)

        monkeypatch.setattr(module, name, spy)
    yield found


def layer_of(
    inputs: int, outputs: int, intervals: int, degree: int, base: str = "silu", kind: str = "even", scaler: bool = True,
    dtype: torch.dtype = torch.float64,
) -> KANLinear:  # fmt: skip
    layer = KANLinear(
        inputs, outputs, intervals, degree, base_activation=BASES[base], enable_standalone_scale_spline=scaler, dtype=dtype,
        generator=source(),
    )  # fmt: skip
    count = layer.grid.shape[1]
    if kind != "even":
        layer.grid.copy_(uniform(inputs, count, low=-1.5, high=1.5, seed=3).sort(dim=1).values)
    if kind == "repeated":
        layer.grid[:, count // 2] = layer.grid[:, count // 2 - 1]
    return layer


def points(layer: KANLinear, batch: int) -> Tensor:
    """Points within and without the grid, some of them on knots."""
    x = uniform(batch, layer.in_features, low=-3.0, high=3.0, seed=1).to(layer.grid.dtype)
    knots = layer.grid.t()[: batch // 3]
    x[: len(knots)] = knots
    return x


def pass_of(layer: KANLinear, x: Tensor, input_gradient: bool = True) -> list[Tensor]:
    """Outputs, and the gradients of all parameters and, if wanted, of the points."""
    x = x.clone().requires_grad_(input_gradient)
    y = layer(x)
    cotangent = torch.cos(torch.arange(float(y.numel()), dtype=y.dtype)).view_as(y)
    leaves = [leaf for leaf in (x, *layer.parameters()) if leaf.requires_grad]
    return [y.detach(), *torch.autograd.grad(y, leaves, cotangent, allow_unused=True)]


def assert_same(layer: KANLinear, x: Tensor, tolerance: float, input_gradient: bool = True) -> None:
    with switched(False):
        expected = pass_of(layer, x, input_gradient)
    for ours, theirs in zip(pass_of(layer, x, input_gradient), expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        largest = float(theirs.abs().max()) if theirs.numel() else 0.0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(largest, 0.1))  # a few numbers may cancel one another


@given(
    inputs=st.integers(1, 20), outputs=st.integers(1, 70), batch=st.integers(0, 300), intervals=st.integers(1, 30),
    degree=st.integers(0, 5), base=st.sampled_from(sorted(BASES)), kind=st.sampled_from(["even", "uneven", "repeated"]),
    scaler=st.booleans(), input_gradient=st.booleans(),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize(("dtype", "tolerance"), CLOSE, ids=["double", "single"])
def test_sums_and_gradients(
    dtype: torch.dtype, tolerance: float, inputs: int, outputs: int, batch: int, intervals: int, degree: int, base: str, kind: str,
    scaler: bool, input_gradient: bool,
) -> None:  # fmt: skip
    layer = layer_of(inputs, outputs, intervals, degree, base, kind, scaler, dtype)
    assert_same(layer, points(layer, batch), tolerance, input_gradient)


@pytest.mark.parametrize(("dtype", "tolerance"), CLOSE, ids=["double", "single"])
@pytest.mark.parametrize("sizes", [(2500, 3, 2), (300, 40, 260), (4300, 2, 20)], ids=str)
def test_layers_of_many_blocks(sizes: tuple[int, int, int], dtype: torch.dtype, tolerance: float) -> None:
    batch, inputs, outputs = sizes
    layer = layer_of(inputs, outputs, 5, 3, dtype=dtype)
    assert_same(layer, points(layer, batch), tolerance)


@pytest.mark.parametrize("base", sorted(BASES))
def test_every_pass_calls_the_kernels_once(base: str, calls: list[str]) -> None:
    layer = layer_of(3, 4, 5, 3, base)
    pass_of(layer, points(layer, 7))
    assert calls == ["sums", "gradients"]
    with switched(False):
        pass_of(layer, points(layer, 7))
    assert calls == ["sums", "gradients"]


@pytest.mark.parametrize("extrapolation", ["constant", "linear"])
def test_splines_that_go_on_outside(extrapolation: Any, calls: list[str]) -> None:
    layer = KANLinear(3, 20, basis=BSpline(6, 3, extrapolation=extrapolation), dtype=torch.float64, generator=source())
    assert_same(layer, points(layer, 200), 1e-12)
    assert calls == ["sums", "gradients"]


@pytest.mark.parametrize("frozen", ["spline_weight", "spline_scaler", "base_weight"])
def test_frozen_parameters(frozen: str) -> None:
    layer = layer_of(4, 19, 5, 3)
    getattr(layer, frozen).requires_grad_(False)
    assert_same(layer, points(layer, 50), 1e-12)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    assert_same(layer, points(layer, 50), 1e-12)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", ["even", "uneven"])
def test_what_is_not_finite_is_passed_on(value: float, kind: str) -> None:
    layer = layer_of(3, 20, 5, 3, kind=kind)
    x = points(layer, 40)
    x[5, 1] = value
    (ours, to_x, *weights) = pass_of(layer, x)
    assert not ours[5].isfinite().any()
    rest = torch.arange(40) != 5
    assert ours[rest].isfinite().all()
    assert not to_x[5, 1].isfinite() or value == torch.inf
    assert to_x[rest].isfinite().all()
    assert not weights[0][:, 1].isfinite().any()


def test_second_derivatives() -> None:
    layer = layer_of(2, 3, 4, 3)
    x = points(layer, 5).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, w: torch.func.functional_call(layer, {"spline_weight": w}, x), (x, layer.spline_weight))


def test_many_gradients_at_once() -> None:
    layer = layer_of(2, 3, 4, 3)
    x = points(layer, 5).requires_grad_()
    y = layer(x)
    many = torch.eye(y.numel(), dtype=y.dtype).view(-1, *y.shape)
    (ours,) = torch.autograd.grad(y, layer.spline_weight, many, is_grads_batched=True, retain_graph=True)
    expected = [torch.autograd.grad(y, layer.spline_weight, one, retain_graph=True)[0] for one in many]
    torch.testing.assert_close(ours, torch.stack(expected))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_what_the_kernels_do_not_know_is_left_to_torch(calls: list[str]) -> None:
    layer, x = layer_of(3, 4, 5, 3), points(layer_of(3, 4, 5, 3), 7)
    torch.func.vmap(layer)(x)
    torch.func.jvp(layer, (x,), (x,))
    torch.compile(layer, backend="eager")(x)
    layer_of(3, 4, 5, 6)(x)  # a degree that there are no kernels for
    KANLinear(3, 4, basis="chebyshev", dtype=torch.float64)(x)
    layer.to(torch.bfloat16)(x.to(torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        layer.float()(x.float())
    layer.spline_weight.data = layer.spline_weight.data.transpose(0, 1).contiguous().transpose(0, 1)
    layer(x.float())
    assert not calls


def test_points_that_lie_otherwise_in_memory(calls: list[str]) -> None:
    layer = layer_of(3, 4, 5, 3)
    assert_same(layer, points(layer, 9).t().contiguous().t(), 1e-12)
    assert_same(layer, points(layer, 18)[::2], 1e-12)
    y = layer(points(layer, 6).view(2, 3, 3))
    torch.testing.assert_close(y.view(6, 4), layer(points(layer, 6)))
    y.sum().backward()  # whose gradient is expanded from a single number
    assert "gradients" in calls


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts in several threads, of the outputs, the points and the inputs, are the whole."""
    names: list[str] = []
    divide = kernels._divide

    def watched(work: Any, *bounds: int) -> None:
        def named(*pair: int) -> None:
            names.append(threading.current_thread().name)
            work(*pair)

        divide(named, *bounds)

    monkeypatch.setattr(kernels, "_divide", watched)
    monkeypatch.setattr(kernels.Edges, "threads", lambda self: 3)
    for batch, inputs, outputs in ((40, 5, 300), (700, 5, 8)):
        layer = layer_of(inputs, outputs, 5, 3)
        assert_same(layer, points(layer, batch), 1e-12)
    assert len(names) == 12
    assert sum(name.startswith("kan-kernels") for name in names) == 8


def test_few_numbers_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(100, 100, 5, 3)
    table = layer._prepared.of(layer.grid, layer.basis)

    def parts(batch: int) -> int:
        return kernels.Edges(points(layer, batch), layer.spline_weight, layer.spline_scaler, layer.base_weight, table, 2).threads()

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert [parts(batch) for batch in (1, 50, 90, 1000)] == [1, 1, 2, 4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert parts(1000) == 1


def edges_of(layer: KANLayer, x: Tensor, of_splines: bool) -> list[Tensor]:
    """What a `KANLayer` returns, and the gradients of all that has them."""
    x = x.clone().requires_grad_()
    y, _, postacts, postspline = layer(x)
    loss = y.square().sum() + postacts.sin().sum()
    if of_splines:
        loss = loss + postspline.cos().sum()
    leaves = [x, layer.coef, layer.scale_base, layer.scale_sp]
    return [y.detach(), postacts.detach(), postspline.detach(), *torch.autograd.grad(loss, leaves)]


@given(
    inputs=st.integers(1, 6), outputs=st.integers(1, 40), batch=st.integers(0, 200), intervals=st.integers(1, 30), degree=st.integers(0, 5),
    base=st.sampled_from(sorted(BASES)), adapted=st.booleans(), of_splines=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_values_of_edges(
    inputs: int, outputs: int, batch: int, intervals: int, degree: int, base: str, adapted: bool, of_splines: bool
) -> None:
    function = BASES[base]
    layer = KANLayer(
        inputs, outputs, intervals, degree, base_fun=function() if isinstance(function, type) else function, generator=source()
    ).double()
    x = uniform(batch, inputs, low=-2.0, high=2.0, seed=4)
    layer.mask.data[0, 0] = 0.0
    if adapted:
        layer.grid.data.copy_(uniform(*layer.grid.shape, low=-1.5, high=1.5, seed=3).sort(dim=1).values)
    with switched(False):
        expected = edges_of(layer, x, of_splines)
    for ours, theirs in zip(edges_of(layer, x, of_splines), expected, strict=True):
        assert ours.shape == theirs.shape
        largest = float(theirs.abs().max()) if theirs.numel() else 0.0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 * max(largest, 0.1))


def test_values_of_edges_call_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    for name in ("compiled_values", "gradients"):
        original = getattr(edge_values, name)
        monkeypatch.setattr(edge_values, name, lambda *a, name=name, original=original: (found.append(name), original(*a))[1])
    layer = KANLayer(3, 4, generator=source()).double()
    edges_of(layer, uniform(5, 3, seed=1), of_splines=True)
    assert found == ["compiled_values"] * 2 + ["gradients"] * 2


def test_second_derivatives_of_values_of_edges() -> None:
    layer = KANLayer(2, 3, generator=source()).double()
    x = uniform(5, 2, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, coef: torch.func.functional_call(layer, {"coef": coef}, x)[2], (x, layer.coef))
