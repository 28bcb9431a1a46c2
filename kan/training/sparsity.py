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

__all__ = ["sparsity", "sparsity_with_slopes"]

FLOOR = 1e-4
"""Added to a share before its logarithm is taken."""


def sparsity(matrices: Sequence[Tensor], l1: float, entropy: float) -> Tensor:
    """The expression above for score matrices `matrices`, 0-dim; differentiable any number of times."""
    value: Tensor = _Sparsity.apply(l1, entropy, *matrices)
    return value


def sparsity_with_slopes(matrices: Sequence[Tensor], l1: float, entropy: float) -> tuple[float, list[Tensor]]:
    """`sparsity` and its gradients, without a graph.

    The work is done in numpy, all matrices padded with zeros (which add nothing) into one array: they are small, and numpy's overhead per
    operation is a fraction of torch's.
    """
    heights, widths = [len(m) for m in matrices], [m.shape[1] for m in matrices]
    first = matrices[0].detach().cpu().numpy()
    scores = np.zeros((len(matrices), max(heights), max(widths)), first.dtype)
    for row, matrix in enumerate(matrices):
        scores[row, : heights[row], : widths[row]] = matrix.detach().cpu().numpy()
    value, slope = l1 * float(np.add.reduce(scores, None)), 0.0
    for axis, counts in ((2, heights), (1, widths)):
        weight = entropy / np.array(counts, scores.dtype)[:, None, None]
        total = np.add.reduce(scores, axis, keepdims=True) + 1
        share = scores / total
        shifted = share + FLOOR
        log = np.log2(shifted)
        value -= float(np.vdot(share * weight, log))
        steep = log + share / (shifted * math.log(2))
        slope = slope + (np.add.reduce(steep * share, axis, keepdims=True) - steep) * (weight / total)
    slope = slope + l1
    return value, [torch.from_numpy(slope[row, :height, :width]).to(m) for row, (m, height, width) in enumerate(zip(matrices, heights, widths, strict=True))]


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
        return matrices[0].new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        matrices, (grad,) = ctx.saved_tensors, grads
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            parts = [ctx.l1 * v.sum() + ctx.entropy * (_entropy(v, 1) + _entropy(v, 0)) for v in matrices]
            return None, None, *(torch.autograd.grad(part, v, grad, create_graph=True)[0] for part, v in zip(parts, matrices, strict=True))
        return None, None, *(slope * grad for slope in ctx.slopes)
