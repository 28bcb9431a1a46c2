"""What needs a CUDA device: ``pytest -m cuda tests/test_cuda.py`` compares it with the CPU and fails where a pass waits for the device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kan import KAN, KANConv1d, KANConv2d, KANConv3d, KANLinear, KANStack, create_dataset
from kan.bases import BASES
from kan.bases.base import EXTRAPOLATIONS
from kan.layers.kan_layer import KANLayer
from kan.symbolic.library import SYMBOLIC_LIB
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LAYERS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "KANLinear": lambda: (KANLinear(4, 3, bias=True), (50, 4)),
    "KANLinear with many intervals": lambda: (KANLinear(4, 3, grid_size=60), (50, 4)),
    "KANLinear of degree 0": lambda: (KANLinear(4, 3, spline_order=0), (50, 4)),
    "KANLinear, wide": lambda: (KANLinear(64, 50), (300, 64)),
    "KANStack": lambda: (KANStack([3, 5, 2]), (50, 3)),
    "KANLayer": lambda: (KANLayer(3, 2), (50, 3)),
    "KANConv1d": lambda: (KANConv1d(2, 3, 3, padding=1), (5, 2, 9)),
    "KANConv2d": lambda: (KANConv2d(2, 4, 3, padding="same", groups=2), (5, 2, 6, 7)),
    "KANConv3d": lambda: (KANConv3d(2, 3, 2), (4, 2, 4, 4, 4)),
}

DATA = create_dataset(lambda x: torch.sin(3 * x[:, [0]]) + x[:, [1]] ** 2, n_var=2, train_num=200, test_num=50, seed=0)
ON_CUDA = {name: value.double().to("cuda" if torch.cuda.is_available() else "cpu") for name, value in DATA.items()}


def network(**options: Any) -> KAN:
    """A network on the CPU with multiplication nodes and symbolic edges."""
    model = KAN([2, [3, 1], 1], grid=3, seed=0, auto_save=False, **options)
    model(DATA["train_input"].double())
    for edge, name in (((0, 0, 0), "sin"), ((1, 0, 0), "x^2")):
        model.fix_symbolic(*edge, name, fit_params_bool=False, verbose=False, log_history=False)
    return model


def points(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 3 - 1.5


@contextmanager
def without_waiting() -> Iterator[None]:
    """Fail where the program waits for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, and the gradients of the input and of all parameters."""
    x = x.detach().requires_grad_()
    found = module(x)
    output = found[0] if isinstance(found, tuple) else found
    module.zero_grad()
    output.square().mean().backward()
    assert x.grad is not None
    return [output.detach(), x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


def check_against_cpu(module: nn.Module, shape: tuple[int, ...]) -> None:
    """Forward and backward pass on both devices; once the grid is prepared the device is not waited for."""
    x, there = points(shape), copy.deepcopy(module).to("cuda")
    expected, on_cuda = gradients(module, x), x.cuda()
    gradients(there, on_cuda)
    with without_waiting():
        found = gradients(there, on_cuda)
    assert all(part.is_cuda for part in found)
    torch.testing.assert_close([part.cpu() for part in found], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    check_against_cpu(*LAYERS[name]())


@pytest.mark.parametrize("extrapolation", EXTRAPOLATIONS)
@pytest.mark.parametrize("basis", [*BASES])
def test_bases(basis: str, extrapolation: str) -> None:
    check_against_cpu(KANLinear(4, 3, basis=basis, extrapolation=extrapolation), (50, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [*({"basis": basis} for basis in BASES), {"symbolic_enabled": False}], ids=str)
def test_networks(options: dict[str, Any]) -> None:
    check_against_cpu(network(**options), (50, 2))


@pytest.mark.parametrize("avoiding", [False, True])
def test_symbolic_functions_do_not_wait(avoiding: bool) -> None:
    x = points((20, 2)).cuda()
    for name in SYMBOLIC_LIB:
        layer = copy.deepcopy(network().symbolic_layers[0])
        layer.set_function(1, 1, name)
        layer.mask.data[1, 1] = 1.0
        layer = layer.to("cuda")
        layer(x, singularity_avoiding=avoiding)
        with without_waiting():
            layer(x, singularity_avoiding=avoiding)


def test_the_objective_and_its_gradient_in_closed_form() -> None:
    def evaluated(model: KAN, x: Tensor, y: Tensor, inside: Callable[[], Any]) -> list[Tensor]:
        objective = Objective(model, nn.functional.mse_loss, 1e-2, Penalty(lamb_coef=0.1), corner=1e-2)
        objective.with_gradient(x, y)
        with inside():
            total = objective.with_gradient(x, y)
        return [total, *(p.grad for p in model.parameters() if p.grad is not None)]

    x, y = points((60, 2)), points((60, 1))
    model = network()
    there = evaluated(copy.deepcopy(model).to("cuda"), x.cuda(), y.cuda(), without_waiting)
    here = evaluated(model, x, y, torch.enable_grad)
    torch.testing.assert_close([part.cpu() for part in there], here, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", [{"opt": "Adam"}, {"opt": "Adam", "batch": 50}, {"opt": "LBFGS"}, {"opt": "LM"}], ids=str)
@pytest.mark.parametrize("lamb", [0.0, 1e-3])
def test_fits(options: dict[str, Any], lamb: float) -> None:
    model = KAN([2, 3, 1], grid=3, seed=0, auto_save=False, device="cuda")
    history = model.fit(ON_CUDA, steps=20, lamb=lamb, progress=False, **options)
    assert all(p.is_cuda for p in model.parameters())
    assert history["train_loss"][-1] < history["train_loss"][0]
    there = KAN([2, 3, 1], grid=3, seed=0, auto_save=False)
    expected = there.fit({name: value.cpu() for name, value in ON_CUDA.items()}, steps=20, lamb=lamb, progress=False, **options)
    assert history["train_loss"][0] == pytest.approx(expected["train_loss"][0], rel=1e-3)


def test_grid_update() -> None:
    model, there = network(), network().to("cuda")
    x = points((200, 2))
    model.update_grid(x)
    there.update_grid(x.cuda())
    for here, other in zip(model.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(other.cpu(), here, rtol=1e-7, atol=1e-9)
    layer = KANLinear(2, 3)
    copied = copy.deepcopy(layer).to("cuda")
    layer.update_grid(x)
    copied.update_grid(x.cuda())
    torch.testing.assert_close(copied(x.cuda()).cpu(), layer(x), rtol=1e-7, atol=1e-9)


def test_prune_and_refine_stay_on_the_device() -> None:
    model = network().to("cuda")
    x = ON_CUDA["train_input"]
    before = model(x)
    refined = model.refine(6)
    assert refined.device.type == "cuda"
    torch.testing.assert_close(refined(x), before, rtol=1e-6, atol=1e-8)
    model.attribute()
    pruned = model.prune(edge_th=0.0, node_th=0.0)
    assert pruned.device.type == "cuda" and pruned(x).is_cuda


@pytest.mark.parametrize(("origin", "destination"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_checkpoints_between_devices(origin: str, destination: str, tmp_path: Path) -> None:
    model, x = network().to(origin), points((20, 2))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = network().to(destination)
    other.load_state_dict(torch.load(tmp_path / "state.pt", map_location=destination, weights_only=False))
    assert other.device.type == destination
    torch.testing.assert_close(other(x.to(destination)).cpu(), model(x.to(origin)).cpu(), rtol=1e-10, atol=1e-12)
    model.saveckpt(str(tmp_path / "saved"))
    loaded = KAN.loadckpt(str(tmp_path / "saved")).to(destination)
    torch.testing.assert_close(loaded(x.to(destination)).cpu(), model(x.to(origin)).cpu(), rtol=1e-10, atol=1e-12)
