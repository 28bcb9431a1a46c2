"""Losses with sample weights, and how a loss is shown."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

__all__ = ["in_dtype", "weighted_loss"]


def weighted_loss(loss_fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`loss_fn` as a function of prediction, label and weights ``(B,)``.

    The losses of torch, whose `reduction` can be switched off, become weighted means over the samples; any other function must take the
    weights as its third argument.

    Raises:
        ValueError: if it does not.

    Example:
        >>> import torch
        >>> loss = weighted_loss(nn.functional.l1_loss)
        >>> loss(torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1), torch.tensor([1.0, 3.0]))
        tensor(1.7500)
    """
    if loss_fn is nn.functional.mse_loss:
        return loss_fn  # the objective computes its weighted mean
    if isinstance(loss_fn, _Loss):
        single = copy.deepcopy(loss_fn)
        single.reduction = "none"
        return _Mean(single)
    parameters = inspect.signature(loss_fn).parameters
    if "reduction" in parameters:
        return _Mean(lambda output, y: loss_fn(output, y, reduction="none"))
    try:
        inspect.signature(loss_fn).bind(None, None, None)
    except TypeError as error:
        raise ValueError(
            f"sample_weight needs a loss_fn of prediction, label and weights; {_name(loss_fn)} takes {list(parameters)}."
        ) from error
    return loss_fn


def in_dtype(loss_fn: Callable[..., Tensor], dtype: torch.dtype) -> Callable[..., Tensor]:
    """`loss_fn` for predictions in `dtype`: a module with numbers of another one, such as weights of classes, becomes a copy with these.

    A module with parameters stays as it is: they may be trained.

    >>> in_dtype(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])), torch.float64).weight
    tensor([1., 2.], dtype=torch.float64)
    """
    if isinstance(loss_fn, _Mean):
        return _Mean(in_dtype(loss_fn.single, dtype))
    if not isinstance(loss_fn, nn.Module) or any(True for _ in loss_fn.parameters()):
        return loss_fn
    others = any(buffer.is_floating_point() and buffer.dtype != dtype for buffer in loss_fn.buffers())
    return copy.deepcopy(loss_fn).to(dtype) if others else loss_fn


class _Mean:
    """Weighted mean of the losses of single samples, ``sum_b w_b loss_b / sum_b w_b``; `loss_b` is itself a mean over outputs."""

    def __init__(self, single: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.single = single

    def __call__(self, output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        losses = self.single(output, y)
        rows = losses.reshape(len(losses), -1).mean(1)
        return rows.mean() if weight is None else weight @ rows / weight.sum()


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
