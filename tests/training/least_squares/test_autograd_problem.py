"""The objective of a network with its user's own code: its Jacobian is the exact one, whatever lies in between."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from kan import KAN
from kan.modes import composed
from kan.training.least_squares.autograd_problem import CalledProblem
from kan.training.objectives.of_network import CORNER, Objective
from kan.training.objectives.penalty import Penalty

pytestmark = pytest.mark.usefixtures("float64")


class Cube(torch.autograd.Function):
    """A function of the user's that looks at its gradient, as no computation in several directions at once can."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,), (grad,) = ctx.saved_tensors, grads
        return 3 * x * x * grad if float(grad.abs().sum()) > 0 else torch.zeros_like(grad)


class Own(KAN):
    """Couples its samples, which the structure of the layers alone would not."""

    def forward(self, x: Tensor, **more: Any) -> Tensor:
        return super().forward(x - x.mean(0), **more) * 2


class Stubborn(Own):
    def forward(self, x: Tensor, **more: Any) -> Tensor:
        return Cube.apply(super().forward(x, **more))


def problem(kind: type[KAN], lamb: float = 0.0, loss: Any = nn.functional.mse_loss) -> CalledProblem:
    model = kind([2, [2, 1], 2], grid=3, k=2, seed=1, auto_save=False)
    x = torch.rand(7, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    objective = Objective(model, loss, lamb, Penalty(), corner=CORNER)
    trained = [p for name, p in model.named_parameters() if p.requires_grad and "affine" not in name]
    return CalledProblem(objective, trained, x, torch.cat([x.prod(1, keepdim=True), x[:, :1]], 1), None)


@pytest.mark.parametrize("kind", [Own, Stubborn])
def test_the_jacobian_is_that_of_the_called_network(kind: type[KAN]) -> None:
    found, twin = problem(kind), problem(Own).objective.network
    names = [name for name, p in twin.named_parameters() if p.requires_grad and "affine" not in name]
    values = {name: p.detach() for name, p in twin.named_parameters() if name in names}
    slopes = jacrev(lambda own: functional_call(twin, own, (found.x,)))(values)
    wanted = torch.cat([slopes[name].flatten(2) for name in names], 2)
    if kind is Stubborn:
        wanted = 3 * twin(found.x).detach().square()[..., None] * wanted
    parts = list(found._chunks())
    rows, residuals = torch.cat([part for part, _ in parts], 1), torch.cat([residual for _, residual in parts])
    root = found.y.numel() ** -0.5
    assert torch.allclose(rows.t(), wanted.transpose(0, 1).flatten(0, 1) * root, atol=1e-12)
    assert torch.allclose(residuals, ((found.objective.network(found.x) - found.y) * root).t().flatten())
    assert not composed()


@pytest.mark.parametrize("loss", [nn.functional.mse_loss, nn.functional.huber_loss])
def test_the_gradient_is_that_of_loss_and_penalty_together(loss: Any) -> None:
    found = problem(Own, 0.1, loss)
    model = found.linearise()
    total = found.objective(found.x, found.y)[0]
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(total, found.columns.parameters)])
    assert torch.allclose(model.gradient, wanted, atol=1e-12)


def test_the_penalty_curves_upwards() -> None:
    found = problem(Own, 0.1)
    found.linearise()
    matrix = found._penalty()
    assert torch.equal(matrix, matrix.t()) or torch.allclose(matrix, matrix.t())
    assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-10 * float(matrix.abs().max())
    assert float(matrix.diagonal().sum()) > 0
