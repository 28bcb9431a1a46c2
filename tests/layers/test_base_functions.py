"""Base functions are called with rows, as they came, and may have parameters and a state of their own."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kan import KAN, KANConv1d, KANLayer, KANLinear
from kan.layers.base_functions import base_rows, base_values, is_elementwise
from kan.network.layered import BASE_FUNCTIONS
from kan.spline import coef2curve

pytestmark = pytest.mark.usefixtures("float64")


class Scales(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x: Tensor) -> Tensor:
        assert x.is_contiguous() and x.shape[1] == 4
        return x * self.scales


FUNCTIONS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "PReLU": lambda: nn.PReLU(4),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "Softmax": lambda: nn.Softmax(dim=1),
    "Softmax from behind": lambda: nn.Softmax(dim=-1),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4).eval(),
    "own": Scales,
    "cumsum": lambda: lambda x: torch.cumsum(x, 1),
    "in place": lambda: nn.ReLU(inplace=True),
    "function in place": lambda: torch.relu_,
    "Hardtanh": nn.Hardtanh,
    "tanh": lambda: torch.tanh,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
}


def points(rows: int = 5, columns: int = 4) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


def by_definition(layer: KANLayer, x: Tensor) -> Tensor:
    base = layer.base_fun(x.clone())
    splines = coef2curve(x, layer.grid, layer.coef, layer.k)
    return (layer.mask * (layer.scale_base * base[:, :, None] + layer.scale_sp * splines)).sum(1)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_layer_is_its_formula(function: Callable[[], Any]) -> None:
    x = points()
    given, layer = x.clone(), KANLayer(4, 3, base_fun=function(), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(given)[0], by_definition(layer, x))
    model = KAN([4, 4, 3], base_fun=function(), auto_save=False, seed=0).eval()
    inner, outer = model.numeric_layers
    torch.testing.assert_close(model(given), by_definition(outer, by_definition(inner, x)))
    linear = KANLinear(4, 3, base_activation=lambda z: z, init="pykan", generator=torch.Generator().manual_seed(0))
    linear.base_activation = function()
    rows = x.expand(2, 5, 4)
    expected = linear.base_activation(x.clone()) @ linear.base_weight.t() + torch.einsum(
        "bin,oin->bo", linear.b_splines(x), linear.scaled_spline_weight
    )
    torch.testing.assert_close(linear(rows)[1], expected)
    assert torch.equal(given, x)


def test_a_convolution_leaves_its_input_alone() -> None:
    x = points(2, 4)[:, :, None].expand(-1, -1, 6).clone()
    given = x.clone()
    KANConv1d(4, 2, 3, base_activation=nn.ReLU(inplace=True), generator=torch.Generator().manual_seed(0))(given)
    assert torch.equal(given, x)


def test_which_functions_are_called_in_the_layout_of_the_layers() -> None:
    assert all(is_elementwise(function) for function in BASE_FUNCTIONS.values())
    watched = nn.SiLU()
    watched.register_forward_hook(lambda *_: None)
    patched = nn.Tanh()
    patched.forward = lambda x: x.cumsum(1)  # type: ignore[method-assign]
    subclass = type("Mine", (nn.SiLU,), {})()
    assert not any(is_elementwise(f) for f in (watched, patched, subclass, lambda x: x, nn.Dropout(0.5), nn.ELU(inplace=True)))
    x = points()
    for function in (torch.sin, lambda x: x.cumsum(1)):
        torch.testing.assert_close(base_rows(function, x.t()), base_values(function, x).t())


@pytest.mark.parametrize("opt", ["LBFGS", "Adam"])
def test_parameters_of_a_base_function_are_trained_saved_and_not_shared(opt: str) -> None:
    x = points(60, 2)
    model = KAN([2, 1], grid=2, base_fun=nn.PReLU(2), seed=0, auto_save=False)
    weight = model.act_fun[0].base_fun.weight
    begun = weight.detach().clone()
    model.fit((x, torch.where(x > 0, x, -2.0 * x).sum(1, keepdim=True)), opt=opt, steps=5, lr=0.1 if opt == "Adam" else 1.0, progress=False)
    assert not torch.equal(weight, begun)
    twins = [copy.deepcopy(model), model.copy(), model.refine(4), model.prune(0.0, 0.0)]
    before, y = weight.detach().clone(), model(x).detach()
    for twin in twins:
        assert twin.act_fun[0].base_fun.weight is not weight
        torch.testing.assert_close(twin(x), y, atol=1e-6, rtol=0)
        with torch.no_grad():
            twin.act_fun[0].base_fun.weight.fill_(9.0)
    assert torch.equal(weight, before) and torch.equal(model(x), y)
    other = KAN([2, 1], grid=2, base_fun=nn.PReLU(2), seed=1, auto_save=False)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), y)
    model.float()
    assert weight.dtype == torch.float32


def test_a_loaded_version_has_parameters_of_its_own() -> None:
    model, x = KAN([2, 1], base_fun=nn.PReLU(2), seed=0), points(9, 2)
    model.fit((x, x[:, :1]), steps=1, progress=False)
    y = model(x)
    with torch.no_grad():
        model.act_fun[0].base_fun.weight.fill_(9.0)
    back = model.checkout("0.1")
    torch.testing.assert_close(back(x), y)
    assert bool((model.act_fun[0].base_fun.weight == 9.0).all())


def test_statistics_of_the_batch_follow_the_data() -> None:
    model, x = KAN([4, 3], base_fun=nn.BatchNorm1d(4), seed=0, auto_save=False), points(200) + 3.0
    model.fit((x, x[:, :3]), opt="Adam", lr=1e-2, steps=40, progress=False)
    torch.testing.assert_close(model.act_fun[0].base_fun.running_mean, x.mean(0), atol=0.1, rtol=0)


def test_a_base_function_that_draws_numbers_does_so_in_every_step() -> None:
    calls: list[int] = []

    def noisy(x: Tensor) -> Tensor:
        calls.append(1)
        return x

    model = KAN([4, 1], base_fun=noisy, seed=0, auto_save=False)
    assert model.first_layer(points()) is None
    model.fit((points(), points()[:, :1]), opt="Adam", steps=4, progress=False)
    assert len(calls) >= 4
