r"""What a penalty says about matrices of scores: few, and unevenly spread.

    ``sum_V [l1 sum(V) - entropy (mean_r sum_c P log2(P + 1e-4) + mean_c sum_r Q log2(Q + 1e-4))]``,

with ``P = V / (row sum + 1)`` and ``Q = V / (column sum + 1)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kan.devices import at_hand, number_like

__all__ = ["sparsity", "sparsity_with_slopes"]

FLOOR = 1e-4
"""Added to a share before its logarithm is taken."""


def sparsity(matrices: Sequence[Tensor], l1: float, entropy: float) -> Tensor:
    """The expression above for score matrices `matrices`, 0-dim; differentiable any number of times."""
    value: Tensor = _Sparsity.apply(l1, entropy, *matrices)
    return value


def sparsity_with_slopes(matrices: Sequence[Tensor], l1: float, entropy: float) -> tuple[float | Tensor, list[Tensor]]:
    """`sparsity`, a number or a tensor without dimensions, and its gradients, without a graph."""
    return _in_numpy(matrices, l1, entropy) if at_hand(matrices[0]) else _in_torch(matrices, l1, entropy)


def _in_torch(matrices: Sequence[Tensor], l1: float, entropy: float) -> tuple[Tensor, list[Tensor]]:
    """`sparsity_with_slopes` on the device of the matrices, which need not be copied from there and back."""
    value, slopes = matrices[0].new_zeros(()), []
    for scores in (matrix.detach() for matrix in matrices):
        slope = torch.full_like(scores, l1)
        value = value + l1 * scores.sum()
        for dim in (0, 1):
            total = scores.sum(dim, keepdim=True) + 1
            share, weight = scores / total, entropy / scores.shape[1 - dim]
            shifted = share + FLOOR
            log = torch.log2(shifted)
            steep = (share / shifted / math.log(2) + log) * weight
            value = value - weight * (share * log).sum()
            slope += ((share * steep).sum(dim, keepdim=True) - steep) / total
        slopes.append(slope)
    return value, slopes


@np.errstate(over="ignore", invalid="ignore")  # the loop undoes what is not finite
def _in_numpy(matrices: Sequence[Tensor], l1: float, entropy: float) -> tuple[float, list[Tensor]]:
    """`sparsity_with_slopes` on a CPU, all matrices padded with zeros (which add nothing) into one array.

    The matrices are small, and numpy's overhead per operation is a fraction of torch's.
    """
    heights, widths = [len(m) for m in matrices], [m.shape[1] for m in matrices]
    arrays = [m.detach().numpy() for m in matrices]
    scores = np.zeros((len(arrays), max(heights), max(widths)), arrays[0].dtype)
    for padded, array in zip(scores, arrays, strict=True):
        padded[: array.shape[0], : array.shape[1]] = array

    # Axis 0 of everything below: shares in rows, shares in columns.
    per_row, per_column = np.add.reduce(scores, 2, keepdims=True) + 1, np.add.reduce(scores, 1, keepdims=True) + 1
    share = np.stack([scores / per_row, scores / per_column])
    shifted = share + FLOOR
    log = np.log2(shifted)
    weight = (entropy / np.array([heights, widths], scores.dtype))[:, :, None, None]
    weighted = share * weight
    value = l1 * float(np.add.reduce(scores, None)) - float(np.vdot(weighted, log))
    steep = share / shifted
    steep *= 1 / math.log(2)
    steep += log
    along, steep = weighted * steep, steep * weight
    slope = (np.add.reduce(along[0], 2, keepdims=True) - steep[0]) / per_row
    slope += (np.add.reduce(along[1], 1, keepdims=True) - steep[1]) / per_column
    slope += l1
    return value, [torch.from_numpy(s[:height, :width]) for s, height, width in zip(slope, heights, widths, strict=True)]


def _entropy(scores: Tensor, dim: int) -> Tensor:
    """Mean entropy, in bits, of the scores normalised along `dim`."""
    p = scores / (scores.sum(dim=dim, keepdim=True) + 1)
    return -(p * torch.log2(p + FLOOR)).sum(dim=dim).mean()


class _Sparsity(torch.autograd.Function):
    """The gradient is computed along with the value."""

    @staticmethod
    def forward(ctx: Any, l1: float, entropy: float, *matrices: Tensor) -> Tensor:
        value, ctx.slopes = sparsity_with_slopes(matrices, l1, entropy)
        ctx.save_for_backward(*matrices)
        ctx.l1, ctx.entropy = l1, entropy
        return number_like(value, matrices[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        matrices, (grad,) = ctx.saved_tensors, grads
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            parts = [ctx.l1 * v.sum() + ctx.entropy * (_entropy(v, 1) + _entropy(v, 0)) for v in matrices]
            return None, None, *(torch.autograd.grad(part, v, grad, create_graph=True)[0] for part, v in zip(parts, matrices, strict=True))
        return None, None, *(slope * grad for slope in ctx.slopes)
