"""Derivatives by autograd against those written out, differences, and pykan's numbers."""

import copy
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan import KAN
from kan.analysis.derivatives import batch_hessian, batch_jacobian, get_derivative, model2param
from kan.MLP import MLP
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


def two(x: Tensor) -> Tensor:
    return torch.stack([x[:, 0].sin() * x[:, 1], x[:, 0] ** 2 * x[:, 1] ** 3], dim=1)


def slopes_of_two(x: Tensor) -> Tensor:
    a, b = x.unbind(1)
    return torch.stack([torch.stack([a.cos() * b, a.sin()], 1), torch.stack([2 * a * b**3, 3 * a**2 * b**2], 1)], dim=1)


def curvature_of_two(x: Tensor) -> Tensor:
    a, b = x.unbind(1)
    first = [[-a.sin() * b, a.cos()], [a.cos(), 0 * a]]
    second = [[2 * b**3, 6 * a * b**2], [6 * a * b**2, 6 * a**2 * b]]
    return torch.stack([torch.stack([torch.stack(row, 1) for row in rows], 1) for rows in (first, second)], 1)


@given(samples=st.integers(1, 8), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_they_are_those_written_out(samples: int, seed: int) -> None:
    x = uniform(samples, 2, seed=seed)
    torch.testing.assert_close(batch_jacobian(two, x), slopes_of_two(x)[:, 0])
    torch.testing.assert_close(batch_jacobian(two, x, mode="vector"), slopes_of_two(x))
    torch.testing.assert_close(batch_hessian(two, x), curvature_of_two(x)[:, 0])
    torch.testing.assert_close(batch_hessian(two, x, mode="vector"), curvature_of_two(x))


def test_pykans_numbers() -> None:
    x = torch.tensor([[-0.00748682, 0.53644359], [-0.82304513, -0.73593903]])
    expected = torch.tensor([[0.00401622, 0.99997199, 0.0], [-0.53960514, 0.67999160, 0.0]])
    torch.testing.assert_close(batch_hessian(two, x).flatten(1)[:, [0, 1, 3]], expected, rtol=0, atol=1e-7)
    expected = torch.tensor([[0.53642857, -0.00748675], [-0.50043237, -0.73321986]])
    torch.testing.assert_close(batch_jacobian(two, x), expected, rtol=0, atol=1e-7)


def test_with_a_graph_they_can_be_differentiated_on() -> None:
    x, scale = uniform(5, 2).requires_grad_(), torch.tensor(1.5, requires_grad=True)

    def f(x: Tensor) -> Tensor:
        return (scale * x[:, [0]]) ** 3 * x[:, [1]] ** 2

    batch_jacobian(f, x, create_graph=True).sum().backward()
    a, b = x.detach().unbind(1)
    s = 1.5**3
    torch.testing.assert_close(x.grad, s * torch.stack([6 * a * b**2 + 6 * a**2 * b, 6 * a**2 * b + 2 * a**3], 1))
    torch.testing.assert_close(scale.grad, (3 * 1.5**2 * (3 * a**2 * b**2 + 2 * a**3 * b)).sum())
    scale.grad = None
    batch_hessian(f, x.detach(), create_graph=True).sum().backward()
    torch.testing.assert_close(scale.grad, (3 * 1.5**2 * (6 * a * b**2 + 12 * a**2 * b + 2 * a**3)).sum())


def test_without_a_graph_they_hang_on_nothing() -> None:
    x = uniform(4, 2).requires_grad_()
    inner = x * 2
    for value in (batch_jacobian(two, inner), batch_jacobian(two, inner, mode="vector"), batch_hessian(two, inner)):
        assert not value.requires_grad
    assert x.grad is None and inner.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(batch_hessian(two, x), curvature_of_two(x)[:, 0])


def test_what_does_not_depend_on_the_inputs_has_the_slope_zero() -> None:
    x = uniform(3, 2)
    assert torch.equal(batch_jacobian(lambda x: torch.ones(3, 1), x), torch.zeros(3, 2))
    assert torch.equal(batch_hessian(lambda x: x[:, [0]], x), torch.zeros(3, 2, 2))
    assert torch.equal(batch_jacobian(lambda x: x[:, 0], x)[:, 0], torch.ones(3))


@pytest.mark.parametrize("model", [KAN([2, 3, 2], grid=3, auto_save=False, seed=0), MLP([2, 4, 2], act="tanh")], ids=["KAN", "MLP"])
def test_models(model: nn.Module) -> None:
    model, x, step = copy.deepcopy(model).double(), 0.9 * uniform(6, 2), 1e-5
    numeric = []
    for i in range(2):
        moved = [batch_jacobian(model, x + sign * step * torch.eye(2)[i], mode="vector") for sign in (1, -1)]
        numeric.append((moved[0] - moved[1]) / (2 * step))
    found = batch_hessian(model, x, mode="vector")
    torch.testing.assert_close(found, torch.stack(numeric, dim=3), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found, found.mT)


def test_errors_of_input_derivatives() -> None:
    x = uniform(3, 2)
    for derivative in (batch_jacobian, batch_hessian):
        with pytest.raises(ValueError, match=re.escape("unknown mode 'vectors'; did you mean 'vector'? Valid are: 'scalar', 'vector'.")):
            derivative(two, x, mode="vectors")
        with pytest.raises(ValueError, match=re.escape("func must return one row per sample, (3,) or (3, outputs); got (2, 3).")):
            derivative(lambda x: x.T, x)


def fitted_problem() -> tuple[Tensor, Tensor]:
    x = uniform(30, 2)
    return x, x[:, [0]] * x[:, [1]]


def test_the_parameters_as_a_vector() -> None:
    model = KAN([2, 3, 1], grid=3, k=3, auto_save=False)
    vector = model2param(model)
    assert vector.shape == (192,)  # as many as pykan's
    assert torch.equal(vector[: 3 * 4], torch.tensor([0.0, 1.0, 0.0, 1.0]).repeat_interleave(3))


@pytest.mark.parametrize("loss_mode", ["pred", "reg", "all"])
@pytest.mark.parametrize("kind", [KAN, MLP])
def test_they_are_slopes_of_the_loss_along_the_parameters(kind: type, loss_mode: str) -> None:
    x, y = fitted_problem()
    model = MLP([2, 3, 1]) if kind is MLP else KAN([2, 2, 1], grid=2, k=2, seed=0, auto_save=False)
    arguments: dict[str, Any] = {"loss_mode": loss_mode, "lamb": 0.1, "lamb_l1": 0.7, "lamb_entropy": 1.5}

    def loss(along: Tensor | None, t: float) -> Tensor:
        moved = copy.deepcopy(model)
        with torch.no_grad():
            start = 0
            for p in moved.parameters():
                if along is not None:
                    p += t * along[start : start + p.numel()].view_as(p)
                start += p.numel()
            error = (moved(x) - y).square().mean()
            penalty = moved.get_reg(lamb_l1=0.7, lamb_entropy=1.5)
        return {"pred": error, "reg": penalty, "all": error + 0.1 * penalty}[loss_mode]

    slope, curvature = (get_derivative(model, x, y, which, **arguments) for which in ("jacobian", "hessian"))
    size = len(model2param(model))
    assert slope.shape == (1, size) and curvature.shape == (1, size, size)
    free = torch.cat([torch.full((p.numel(),), p.requires_grad) for p in model.parameters()])
    assert not bool(slope[0, ~free].any()) and not bool(curvature[0, ~free].any()) and not bool(curvature[0, :, ~free].any())
    along = torch.randn(size, generator=torch.Generator().manual_seed(1)) * free
    h = 1e-4
    torch.testing.assert_close(slope[0] @ along, (loss(along, h) - loss(along, -h)) / (2 * h), rtol=1e-5, atol=1e-6)
    second = (loss(along, h) - 2 * loss(None, 0) + loss(along, -h)) / h**2
    torch.testing.assert_close(along @ curvature[0] @ along, second, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(curvature[0], curvature[0].T)

    short = get_derivative(model, x, y, trainable_only=True, **arguments)
    torch.testing.assert_close(short[0], curvature[0][free][:, free])


def test_the_model_is_left_alone() -> None:
    x, y = fitted_problem()
    model = KAN([2, 2, 1], grid=2, auto_save=False)
    before = model2param(model).detach().clone()
    get_derivative(model, x, y, "jacobian", "all", lamb=0.1)
    assert model.last_input is None and torch.equal(model2param(model), before) and all(p.grad is None for p in model.parameters())


def test_slopes_of_a_linear_model() -> None:
    x, y = fitted_problem()
    model = MLP([2, 1])
    with torch.no_grad():
        model.w[0].copy_(torch.tensor([[0.5, -0.25]]))
        model.linears[0].bias.fill_(0.1)
    error = (0.5 * x[:, 0] - 0.25 * x[:, 1] + 0.1 - y[:, 0])[:, None]
    expected = 2 * (error * torch.cat([x, torch.ones(30, 1)], 1)).mean(0)
    torch.testing.assert_close(get_derivative(model, x, y, "jacobian")[0], expected)
    design = torch.cat([x, torch.ones(30, 1)], 1)
    torch.testing.assert_close(get_derivative(model, x, y)[0], 2 * design.T @ design / 30)


def test_errors_of_parameter_derivatives() -> None:
    x, y = fitted_problem()
    model = MLP([2, 3, 1])
    with pytest.raises(ValueError, match="unknown derivative 'hesian'; did you mean 'hessian'"):
        get_derivative(model, x, y, "hesian")
    with pytest.raises(ValueError, match="unknown loss_mode 'mse'"):
        get_derivative(model, x, y, loss_mode="mse")
    with pytest.raises(ValueError, match=re.escape("labels must have the shape of the model's output, (30, 1); got (30,).")):
        get_derivative(model, x, y[:, 0])
    with pytest.raises(ValueError, match="unknown reg_metric 'v'"):
        get_derivative(model, x, y, loss_mode="reg", reg_metric="v")
