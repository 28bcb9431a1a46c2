"""The objective of a network in closed form as torch expects it: a value with a graph, or gradients in the ``.grad`` of the parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kan.network.trace import FirstLayer
from kan.training.objectives.back_end import BACK_END
from kan.training.objectives.closed_form import ClosedForm, Problem, Term

__all__ = ["evaluate", "evaluate_with_gradient"]


def evaluate(
    term: Term, form: ClosedForm, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Objective, loss and penalty, 0-dim each; the first is differentiable with respect to the parameters."""
    problem = Problem(term, form, x, y, first, weight)
    if not torch.is_grad_enabled():
        value = BACK_END.value_and_gradients(problem, [False])[0]
        return _ordinary(value.total), _ordinary(value.loss), _ordinary(value.penalty)
    total, loss, penalty = _Objective.apply(problem, *form.parameters)
    return total, loss, penalty


def evaluate_with_gradient(
    term: Term, form: ClosedForm, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None = None
) -> Tensor:
    """The objective, 0-dim; its gradient replaces the ``.grad`` of the parameters."""
    problem = Problem(term, form, x, y, first, weight)
    value, gradients = BACK_END.value_and_gradients(problem, [p.requires_grad for p in form.parameters])
    for p, grad in zip(form.parameters, gradients, strict=True):
        if grad is not None or p.grad is not None:
            p.grad = None if grad is None else _ordinary(grad)
    return _ordinary(value.total)


def _ordinary(tensor: Tensor) -> Tensor:
    """`tensor`, or a copy if it was made in inference mode, where autograd could not use it."""
    return tensor.clone() if tensor.is_inference() else tensor


class _Objective(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, *parameters: Tensor) -> tuple[Tensor, ...]:
        value, ctx.gradients = BACK_END.value_and_gradients(problem, ctx.needs_input_grad[1:])
        ctx.problem, ctx.parameters = problem, parameters
        total, loss, penalty = (number.clone() for number in value)
        ctx.mark_non_differentiable(loss, penalty)
        return total, loss, penalty

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            term, _, x, y, first, weight = ctx.problem
            total = term.composed(x, y, first, weight)[0]
            wanted = [p for p in ctx.parameters if p.requires_grad]
            found = iter(torch.autograd.grad(total, wanted, grads[0], create_graph=True, allow_unused=True))
            return None, *(next(found) if p.requires_grad else None for p in ctx.parameters)
        return None, *(None if g is None else g * grads[0] for g in ctx.gradients)
