r"""Parameters that a pass has no use for, with a gradient of zero.

The splines of a layer whose edges are all symbolic have no part in a pass. Code that takes the gradients of all parameters, such as
``torch.autograd.grad(loss, parameters)`` or ``DistributedDataParallel``, fails where one of them has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kan.modes import composed

__all__ = ["with_zero_gradients"]


def with_zero_gradients(y: Tensor, unused: Sequence[Tensor]) -> Tensor:
    """`y`, of which those of `unused` that require gradients have the gradient zero.

    >>> p = torch.ones(2, requires_grad=True)
    >>> torch.autograd.grad(with_zero_gradients(torch.ones(3), [p]).sum(), p)
    (tensor([0., 0.]),)
    """
    wanted = [tensor for tensor in unused if tensor.requires_grad]
    if not wanted or not torch.is_grad_enabled() or composed():  # the transforms of torch.func give zeros themselves
        return y
    found: Tensor = _ZeroGradients.apply(y, *wanted)
    return found


class _ZeroGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, *unused: Tensor) -> Tensor:
        ctx.like = [(tensor.shape, tensor.dtype, tensor.device) for tensor in unused]
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads[0], *(torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.like)
