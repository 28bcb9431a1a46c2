r"""Derivatives of a model with respect to its inputs, for each sample, and of its loss with respect to its parameters.

For a model ``f`` that treats samples independently, ``J_bi = d f(x_b) / d x_bi`` and ``H_bij = d^2 f(x_b) / d x_bi d x_bj`` follow from
gradients of sums over the batch, since the terms of other samples do not depend on ``x_b``. Layers that mix samples, such as batch
normalisation in training mode, have no such derivatives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kan.errors import unknown_name

__all__ = ["batch_hessian", "batch_jacobian", "get_derivative", "model2param"]

MODES = ("scalar", "vector")


@torch.enable_grad()
def batch_jacobian(func: Callable[[Tensor], Tensor], x: Tensor, create_graph: bool = False, mode: str = "scalar") -> Tensor:
    """First derivatives of `func` at every sample, ``J_boi = d f_o(x_b) / d x_bi``.

    Args:
        func: a function from ``(B, n)`` to ``(B, O)`` or ``(B,)`` that treats samples independently.
        x: samples, ``(B, n)``.
        create_graph: whether the result can be differentiated, with respect to `x` and to the parameters of `func`.
        mode: ``'scalar'`` for the first output only, ``'vector'`` for all of them.

    Returns:
        The derivatives ``(B, n)``, or ``(B, O, n)`` for ``'vector'``.

    Raises:
        ValueError: for an unknown mode, or a function whose values are not one row per sample.

    >>> batch_jacobian(lambda x: x[:, [0]] * x[:, [1]], torch.tensor([[2.0, 3.0]]))
    tensor([[3., 2.]])
    """
    x, values = _values(func, x, create_graph, mode)
    rows = [_gradient(column, x, create_graph) for column in values]
    return rows[0] if mode == "scalar" else torch.stack(rows, dim=1)


@torch.enable_grad()
def batch_hessian(model: Callable[[Tensor], Tensor], x: Tensor, create_graph: bool = False, mode: str = "scalar") -> Tensor:
    """Second derivatives of `model` at every sample, ``H_boij = d^2 f_o(x_b) / d x_bi d x_bj``.

    Args:
        model, x, create_graph, mode: as for `batch_jacobian`.

    Returns:
        The derivatives ``(B, n, n)``, or ``(B, O, n, n)`` for ``'vector'``.

    Raises:
        ValueError: as `batch_jacobian`.

    >>> batch_hessian(lambda x: x[:, [0]] ** 2 * x[:, [1]], torch.tensor([[2.0, 3.0]]))
    tensor([[[6., 4.],
             [4., 0.]]])
    """
    x, values = _values(model, x, create_graph, mode)
    found = []
    for column in values:
        slopes = _gradient(column, x, create_graph=True)
        found.append(torch.stack([_gradient(slope, x, create_graph) for slope in slopes.unbind(dim=1)], dim=1))
    return found[0] if mode == "scalar" else torch.stack(found, dim=1)


def model2param(model: nn.Module) -> Tensor:
    """All parameters of `model`, one after the other as ``parameters()`` gives them, as one vector ``(P,)``.

    >>> model2param(nn.Linear(3, 2)).shape
    torch.Size([8])
    """
    return torch.cat([p.reshape(-1) for p in model.parameters()])


def get_derivative(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    derivative: str = "hessian",
    loss_mode: str = "pred",
    reg_metric: str | None = None,
    lamb: float = 0.0,
    lamb_l1: float = 1.0,
    lamb_entropy: float = 0.0,
    trainable_only: bool = False,
) -> Tensor:
    """Derivatives of a loss with respect to all parameters, at their present values.

    The loss is ``mean (model(x) - y)^2`` for ``'pred'``, the penalty ``R`` for ``'reg'``, and ``mean (model(x) - y)^2 + lamb R`` for
    ``'all'``. The model is not changed.

    Args:
        model: a module. For the penalty it must have the method ``get_reg(reg_metric, lamb_l1, lamb_entropy)`` of `KAN` and `MLP`.
        inputs, labels: samples, ``(B, n)`` and ``(B, O)``.
        derivative: ``'hessian'`` or ``'jacobian'``.
        loss_mode: ``'pred'``, ``'reg'`` or ``'all'``.
        reg_metric: metric of the penalty; the model's own default when not given.
        lamb, lamb_l1, lamb_entropy: weight of the penalty, and weights inside it.
        trainable_only: leave out frozen parameters. By default the order is that of `model2param`, and the entries of frozen parameters,
            such as grids and masks, are zero.

    Returns:
        The Hessian ``(1, P, P)`` or the Jacobian ``(1, P)``.

    Raises:
        ValueError: for unknown names, or labels that do not have the shape of the outputs.
    """
    if derivative not in ("hessian", "jacobian"):
        raise unknown_name("derivative", derivative, ("hessian", "jacobian"))
    if loss_mode not in ("pred", "reg", "all"):
        raise unknown_name("loss_mode", loss_mode, ("pred", "reg", "all"))
    # A call may change the state of a model, here that of the copy.
    model = copy.deepcopy(model)
    everything = list(model.parameters())
    free = [p for p in everything if p.requires_grad]
    with torch.enable_grad():
        output = model(inputs)
        if loss_mode != "reg" and output.shape != labels.shape:
            raise ValueError(f"labels must have the shape of the model's output, {tuple(output.shape)}; got {tuple(labels.shape)}.")
        loss = output.new_zeros(()) if loss_mode == "reg" else (output - labels).square().mean()
        if loss_mode != "pred":
            # Kinds of models differ in the names of their metrics.
            given: dict[str, Any] = {} if reg_metric is None else {"reg_metric": reg_metric}
            penalty = model.get_reg(lamb_l1=lamb_l1, lamb_entropy=lamb_entropy, **given)  # type: ignore[operator]
            loss = loss + (1.0 if loss_mode == "reg" else lamb) * penalty
        slope = _flat_gradient(loss, free, create_graph=derivative == "hessian")
        if derivative == "jacobian":
            found = slope
        else:
            found = torch.stack([_flat_gradient(entry, free, create_graph=False) for entry in slope.unbind()]) if free else slope.diag()
    found = found.detach()
    if not trainable_only:
        place = torch.cat([torch.full((p.numel(),), p.requires_grad, device=found.device) for p in everything]).nonzero()[:, 0]
        size = sum(p.numel() for p in everything)
        wide = found.new_zeros((size,) * found.dim())
        found = wide.index_put(torch.meshgrid(*[place] * found.dim(), indexing="ij"), found)
    return found[None]


def _values(func: Callable[[Tensor], Tensor], x: Tensor, create_graph: bool, mode: str) -> tuple[Tensor, list[Tensor]]:
    """The samples at which derivatives are taken, and sums over the batch of the requested outputs."""
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    # Without a graph, the result must not refer to the graph of x.
    x = x if create_graph and x.requires_grad else x.detach().requires_grad_()
    y = func(x)
    y = y[:, None] if y.dim() == 1 else y
    if y.dim() != 2 or len(y) != len(x):
        raise ValueError(f"func must return one row per sample, ({len(x)},) or ({len(x)}, outputs); got {tuple(y.shape)}.")
    columns = y.sum(dim=0)
    return x, [columns[0]] if mode == "scalar" else list(columns.unbind())


def _gradient(value: Tensor, x: Tensor, create_graph: bool) -> Tensor:
    """Gradient of the sum of `value` with respect to `x`, zero where it does not depend on it."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    # The graph is used again: for the next output, or the next row of a Hessian.
    (grad,) = torch.autograd.grad(value.sum(), x, retain_graph=True, create_graph=create_graph, materialize_grads=True)
    return grad


def _flat_gradient(value: Tensor, parameters: list[nn.Parameter], create_graph: bool) -> Tensor:
    """Gradient of a 0-dim value as one vector."""
    if not parameters or not value.requires_grad:
        return value.new_zeros(sum(p.numel() for p in parameters))
    grads = torch.autograd.grad(value, parameters, retain_graph=True, create_graph=create_graph, materialize_grads=True)
    return torch.cat([grad.reshape(-1) for grad in grads])
