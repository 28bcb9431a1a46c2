"""What programs do with any torch module: every layer, `KAN` and `MLP`, by every habit."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from kan import KAN, KANConv1d, KANConv2d, KANConv3d, KANLayer, KANLinear, KANStack
from kan.layers.symbolic_layer import SymbolicLayer
from kan.MLP import MLP
from tests.data import uniform

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class Output(nn.Module):
    """A layer that returns more than its output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)[0]
        return y


def kan(*symbolic: tuple[int, int, int], width: Any = (3, 4, 2), **options: Any) -> KAN:
    model = KAN(width, seed=0, auto_save=False, **options)
    for edge in symbolic:
        model.fix_symbolic(*edge, "sin", fit_params_bool=False, log_history=False)
    return model


def symbolic_layer() -> nn.Module:
    layer = SymbolicLayer(3, 2)
    layer.fix_symbolic(0, 1, "x^2")
    layer.mask.data[1, 0] = 1.0
    return Output(layer)


def source() -> torch.Generator:
    return torch.Generator().manual_seed(0)


ALL = tuple((0, i, j) for i in range(3) for j in range(4))
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "KAN": (kan, (6, 3)),
    "KAN, products and trained affine maps": (lambda: kan(width=[3, [2, 1], 2], affine_trainable=True), (6, 3)),
    "KAN, one edge symbolic": (lambda: kan((0, 0, 0)), (6, 3)),
    "KAN, a layer symbolic": (lambda: kan(*ALL), (6, 3)),
    "KAN, symbolic edges switched off": (lambda: _off(kan((0, 0, 0))), (6, 3)),
    "KAN, scales frozen": (lambda: kan(sp_trainable=False, sb_trainable=False), (6, 3)),
    "KAN, rows": (lambda: kan(base_fun=nn.Softmax(dim=1)), (6, 3)),
    "MLP": (lambda: MLP([3, 4, 2], seed=0), (6, 3)),
    "KANLayer": (lambda: Output(KANLayer(3, 2, generator=source())), (6, 3)),
    "SymbolicLayer": (symbolic_layer, (6, 3)),
    "KANLinear": (lambda: KANLinear(3, 2, generator=source()), (6, 3)),
    "KANLinear, bias": (lambda: KANLinear(3, 2, bias=True, enable_standalone_scale_spline=False, generator=source()), (6, 3)),
    "KANLinear, many intervals": (lambda: KANLinear(3, 2, grid_size=1830, generator=source()), (6, 3)),
    "KANLinear, Chebyshev": (lambda: KANLinear(3, 2, basis="chebyshev", generator=source()), (6, 3)),
    "KANStack": (lambda: KANStack([3, 4, 2], generator=source()), (6, 3)),
    "KANConv1d": (lambda: KANConv1d(3, 2, 3, padding=1, generator=source()), (6, 3, 5)),
    "KANConv2d": (lambda: KANConv2d(3, 2, 3, padding=1, bias=True, generator=source()), (2, 3, 4, 4)),
    "KANConv3d": (lambda: KANConv3d(3, 2, 1, generator=source()), (2, 3, 2, 2, 2)),
}
every_model = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
Make = Callable[[], nn.Module]


def _off(model: KAN) -> KAN:
    model.symbolic_enabled = False
    return model


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def loss(model: nn.Module, x: Tensor) -> Tensor:
    found: Tensor = model(x).square().mean()
    return found


def gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Raises an error if one of the parameters that are trained has none."""
    return torch.autograd.grad(loss(model, x), list(trained(model).values()))


@every_model
def test_every_trained_parameter_has_a_gradient(make: Make, shape: tuple[int, ...]) -> None:
    model, x = make(), uniform(*shape, seed=1)
    assert all(torch.isfinite(g).all() for g in gradients(model, x))
    model.requires_grad_(True)  # masks and grids, too
    loss(model, x).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert nn.utils.parameters_to_vector([p.grad for p in model.parameters() if p.grad is not None]).isfinite().all()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    model.requires_grad_(False)
    assert not model(x).requires_grad
    (to_x,) = torch.autograd.grad(model(x.requires_grad_()).sum(), x)
    assert to_x.shape == shape


@every_model
def test_a_step_of_meta_learning(make: Make, shape: tuple[int, ...]) -> None:
    model, x = make(), uniform(*shape, seed=1)
    start = trained(model)
    inner = functional_call(model, dict(start), (x,)).square().mean()
    slopes = torch.autograd.grad(inner, list(start.values()), create_graph=True)
    moved = {name: p - 0.1 * slope for (name, p), slope in zip(start.items(), slopes, strict=True)}
    outer = functional_call(model, moved, (x,)).square().mean()
    assert outer < inner
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(outer, list(start.values())))


@every_model
def test_transforms(make: Make, shape: tuple[int, ...]) -> None:
    model, x = make(), uniform(*shape, seed=1)
    parameters, buffers = {name: p.detach() for name, p in model.named_parameters()}, dict(model.named_buffers())

    def squares(values: dict[str, Tensor], sample: Tensor) -> Tensor:
        found: Tensor = functional_call(model, (values, buffers), (sample,)).square().mean()
        return found

    whole = grad(squares)(parameters, x)
    for name, expected in zip(trained(model), gradients(model, x), strict=True):
        torch.testing.assert_close(whole[name], expected)
    each = vmap(lambda sample: grad(squares)(parameters, sample[None]))(x)
    for name, expected in whole.items():
        torch.testing.assert_close(each[name].mean(0), expected)
    assert vmap(jacrev(lambda sample: model(sample[None])[0]))(x).shape[0] == len(x)
    ensemble = stack_module_state([make(), make()])
    both = vmap(lambda *state: functional_call(model, state, (x,)))(*ensemble)
    torch.testing.assert_close(both[1], model(x))
    z = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(z).sum(), z, create_graph=True)
    slope.square().sum().backward()
    assert z.grad is not None


@every_model
def test_copies_and_states(make: Make, shape: tuple[int, ...]) -> None:
    model, x = make(), uniform(*shape, seed=1)
    y = model(x)
    loss(model, x).backward()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert torch.equal(twin(x), y)
        assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    other = make()
    for assign in (False, True):
        other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True, assign=assign)
        assert torch.equal(other(x), y)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    average.update_parameters(model)
    torch.testing.assert_close(average(x), y)


@every_model
def test_a_hand_written_loop(make: Make, shape: tuple[int, ...]) -> None:
    model, x = make(), uniform(*shape, seed=1)
    optimizer = torch.optim.Adam([{"params": [p], "lr": 1e-3} for p in trained(model).values()])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    seen: list[str] = []
    for p in trained(model).values():
        p.register_hook(lambda g: seen.append("gradient"))
    for part in model.modules():
        part.register_forward_hook(lambda *_: seen.append("forward"))
    before = loss(model, x).item()
    for number in range(3):
        optimizer.zero_grad(set_to_none=number % 2 == 0)
        loss(model, x).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    assert loss(model, x).item() < before and seen.count("gradient") == 3 * len(trained(model)) and "forward" in seen


@every_model
def test_shapes_and_layouts_of_inputs_and_outputs(make: Make, shape: tuple[int, ...]) -> None:
    model, x = make(), uniform(*shape, seed=1)
    y = model(x)
    assert y.is_contiguous() and y.view(-1).numel() == y.numel() and y.detach().numpy().flags["C_CONTIGUOUS"]
    assert torch.view_as_complex(y[:, :2].reshape(-1, 2)).numel() * 2 == y[:, :2].numel()
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    strided = torch.stack([x, x], -1)[..., 0]
    for other in (turned, strided):
        assert not other.is_contiguous()
        torch.testing.assert_close(model(other), y)
    row = x[:1].clone().requires_grad_()
    torch.testing.assert_close(model(row.expand(shape))[-1], y[0])
    model(row.expand(shape)).sum().backward()
    assert row.grad is not None
    assert torch.isfinite(nn.utils.parameters_to_vector(gradients(model, x[:1]))).all()
    none = model(x[:0])
    assert none.shape == (0, *y.shape[1:])
    assert not any(g.any() for g in torch.autograd.grad(none.sum(), list(trained(model).values())))


@every_model
def test_numbers_of_other_types(make: Make, shape: tuple[int, ...]) -> None:
    model, x = make(), uniform(*shape, seed=1)
    y = model(x).detach()
    model.float()
    for kind in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", kind):
            mixed = model(x.float())
        mixed.float().sum().backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained(model).values())
        torch.testing.assert_close(mixed.double(), y, atol=0.05 * float(y.abs().max()) + 0.01, rtol=0)
    for kind in (torch.float64, torch.bfloat16, torch.float16):
        other = make().to(kind)
        found = other(x.to(kind))
        found.sum().backward()
        assert found.dtype == kind
        exact = kind == torch.float64
        torch.testing.assert_close(found.double(), y, atol=1e-12 if exact else 0.1 * float(y.abs().max()) + 0.02, rtol=0)


@every_model
def test_recomputed_and_recorded(make: Make, shape: tuple[int, ...]) -> None:
    model, x = make(), uniform(*shape, seed=1)
    expected = gradients(model, x)
    again = torch.autograd.grad(checkpoint(model, x, use_reentrant=False).square().mean(), list(trained(model).values()))
    for one, other in zip(again, expected, strict=True):
        torch.testing.assert_close(one, other)
    z = x.clone().requires_grad_()
    checkpoint(model, z, use_reentrant=True).sum().backward()
    assert z.grad is not None
    model.requires_grad_(False)
    larger = uniform(9, *shape[1:], seed=1)
    torch.testing.assert_close(torch.jit.trace(model, x)(larger), model(larger))
    if not isinstance(model, (KAN, MLP)):
        new = make()
        torch.testing.assert_close(torch.jit.trace(new, x)(larger), new(larger))


@every_model
def test_trained_after_inference_mode(make: Make, shape: tuple[int, ...]) -> None:
    x = uniform(*shape, seed=1)
    with torch.inference_mode():
        model = make()
        model(x)
        twin = copy.deepcopy(model).float().double()
        within = x.clone()
    for each in (model, twin):
        optimizer = torch.optim.Adam(each.parameters(), lr=1e-3)
        for data in (x, within):
            optimizer.zero_grad()
            loss(each, data).backward()
            optimizer.step()
    torch.testing.assert_close(model(x), twin(x))


@every_model
def test_initialisers_that_are_applied_to_all_modules(make: Make, shape: tuple[int, ...]) -> None:
    def draw(part: nn.Module) -> None:
        if hasattr(part, "weight") and part.weight is not None:
            nn.init.xavier_uniform_(part.weight, generator=source())
        if getattr(part, "bias", None) is not None:
            nn.init.ones_(part.bias)  # type: ignore[arg-type]

    model, x = make(), uniform(*shape, seed=1)
    y = model(x)
    model.apply(draw)
    has_weights = any(hasattr(part, "weight") or getattr(part, "bias", None) is not None for part in model.modules())
    assert torch.equal(model(x), y) is not has_weights
