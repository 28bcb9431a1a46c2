"""Many small problems of least squares at once: each as alone, each to its minimum, each to an end of its own."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.solvers import batched_levenberg_marquardt as batched
from kan.solvers.batched_levenberg_marquardt import Quadratic, damped_step, minimise_each

pytestmark = pytest.mark.usefixtures("float64")


def problem(residuals: Callable[[Tensor, Tensor], Tensor], counts: list[int] | None = None) -> Callable[[Tensor, Tensor], Quadratic]:
    """The models of residuals, a function of the rows and of points ``(R, ..., P)`` that gives ``(R, ..., N)``."""

    def linearise(rows: Tensor, q: Tensor) -> Quadratic:
        if counts is not None:
            counts.append(len(rows))
        with torch.enable_grad():
            q = q.detach().requires_grad_()
            found = residuals(rows, q)
            jacobian = torch.stack([torch.autograd.grad(each.sum(), q, retain_graph=True)[0] for each in found.unbind(-1)], -2)
        found = found.detach()
        return Quadratic(found.square().sum(-1), -(jacobian.mT @ found[..., None])[..., 0], jacobian.mT @ jacobian)

    return linearise


def rosenbrock(rows: Tensor, q: Tensor) -> Tensor:
    a, b = q.unbind(-1)
    return torch.stack([10 * (b - a.square()), 1 - a], -1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_start_reaches_the_minimum() -> None:
    starts = 2 * random(6, 5, 2)
    before = starts.clone()
    q, loss = minimise_each(problem(rosenbrock), starts, 200, 1e-12)
    assert float(loss.max()) < 1e-20 and torch.equal(starts, before)
    torch.testing.assert_close(q, torch.ones_like(q), rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_a_problem_does_not_depend_on_the_others(curves: int, size: int, seed: int, flat: bool) -> None:
    # Fits of exp(a t) + ... that take different numbers of steps.
    t, target = torch.linspace(-1, 1, 12), random(curves, 12, seed=seed)
    scale = torch.linspace(1, 2, size)

    def residuals(rows: Tensor, q: Tensor) -> Tensor:
        wanted = target[rows] if flat else target[rows, None]
        return ((q * scale)[..., None] * t).sin().sum(-2) - wanted

    starts = random(curves, size, seed=9) if flat else random(curves, 3, size, seed=9)
    q, loss = minimise_each(problem(residuals), starts, 15, 1e-6)
    for row in range(curves):
        only = torch.tensor([row])
        alone, least = minimise_each(lambda _, points, only=only: problem(residuals)(only, points), starts[only], 15, 1e-6)
        torch.testing.assert_close(loss[only], least, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(q[only], alone, rtol=1e-6, atol=1e-6)


def test_rows_that_have_ended_are_not_computed_any_more() -> None:
    counts: list[int] = []
    starts = torch.tensor([[1.0, 1.0], [-1.2, 1.0], [1.0, 1.0]])
    q, loss = minimise_each(problem(rosenbrock, counts), starts, 100, 1e-9)
    assert counts[:2] == [3, 3] and set(counts[2:]) == {1}
    assert float(loss.max()) < 1e-20 and torch.equal(q[0], starts[0])


@pytest.mark.parametrize("size", [2, 3])
def test_the_damped_step_solves_its_equations(size: int) -> None:
    jacobian, residual, damping = random(4, 7, size), random(4, 7, seed=1), torch.tensor([1e-6, 1e-2, 1.0, 30.0])
    hessian, gradient = jacobian.mT @ jacobian, -(jacobian.mT @ residual[..., None])[..., 0]
    step = damped_step(gradient, hessian, damping)
    damped = hessian + torch.diag_embed(damping[:, None] * hessian.diagonal(dim1=-2, dim2=-1))
    torch.testing.assert_close(step, torch.linalg.solve(damped, gradient))
    short = damped_step(gradient, hessian, damping, longest=torch.full_like(step, 1e-3))
    torch.testing.assert_close(short.abs().amax(-1), torch.full((4,), 1e-3))
    torch.testing.assert_close(short / short.norm(dim=-1, keepdim=True), step / step.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("size", [2, 3])
def test_there_is_no_step_in_a_direction_without_curvature(size: int) -> None:
    hessian = torch.zeros(1, size, size)
    hessian[0, 0, 0] = 4.0
    gradient = torch.zeros(1, size)
    gradient[0, 0] = 2.0
    step = damped_step(gradient, hessian, torch.tensor([1e-9]))
    assert float(step[0, 0]) == pytest.approx(0.5) and not step[0, 1:].any()
    assert not damped_step(torch.full((1, size), math.nan), hessian, torch.tensor([1.0])).any()


def test_points_that_are_not_admissible_are_left_alone() -> None:
    def residuals(rows: Tensor, q: Tensor) -> Tensor:
        return q.log() - 1

    def linearise(rows: Tensor, q: Tensor) -> Quadratic:
        model = problem(residuals)(rows, q)
        return model._replace(loss=torch.where(model.loss.isfinite(), model.loss, torch.inf))

    # The undamped step from 30 leads below zero, where the logarithm is undefined.
    q, loss = minimise_each(linearise, torch.tensor([[30.0, 1.0], [-1.0, 1.0]]), 50, 1e-12)
    torch.testing.assert_close(q[0], torch.full((2,), math.e))
    assert q[1].tolist() == [-1.0, 1.0] and float(loss[1]) == math.inf


def test_what_is_not_worth_while_ends_early() -> None:
    def residuals(rows: Tensor, q: Tensor) -> Tensor:
        return torch.cat([rosenbrock(rows, q), torch.tensor([0.0, 1.0])[rows, None]], -1)

    starts = torch.tensor([[-1.2, 1.0], [-1.2, 1.0]])
    counts: list[int] = []
    minimise_each(problem(residuals, counts), starts, 100, 1e-9, worthwhile=1e-6)
    assert len(counts) == batched.GRACE + 2 < 10
    counts.clear()
    minimise_each(problem(residuals, counts), starts, 100, 1e-9, hopeless=lambda q, loss: q[:, 0] > -10)
    assert len(counts) == 2


def test_steps_of_ones_own() -> None:
    def fixed_second(rows: Tensor, q: Tensor, model: Quadratic, damping: Tensor) -> Tensor:
        free = torch.tensor([1.0, 0.0])
        return q + damped_step(free * model.gradient, free * model.hessian * free[:, None], damping)

    q, _ = minimise_each(problem(rosenbrock), torch.tensor([[0.5, 4.0]]), 100, 1e-12, fixed_second)
    assert float(q[0, 1]) == 4.0 and float(q[0, 0]) == pytest.approx(1.9994, abs=1e-4)
