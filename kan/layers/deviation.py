r"""Standard deviations over the batch, of nodes from their values and of edges without their values.

With ``C_i`` the covariance ``(n+1, n+1)`` of the features of input i,

    ``std_b[phi_ij(x_b)] = sqrt(w_ij' C_i w_ij)``,
    ``dstd_ij = (C_i w_ij . dw_ij + 1/(B-1) sum_b (psi_bi - mean psi_i) . w_ij w_ij' dpsi_bi) / std_ij``:

``O(B I n^2 + I O n^2)`` work and no tensor of shape ``(B, O, I)``.

Standard deviations are unbiased (``B - 1``); those of a single sample are zero. Where a deviation is 0 so is its gradient. A `corner`
above 0 replaces ``std`` by ``sqrt(std^2 + corner^2) - corner``, which has no corner at zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["covariance", "deviation", "edge_deviation", "over_deviation", "safe_sqrt"]


def safe_sqrt(variance: Tensor, corner: float = 0.0) -> Tensor:
    """``sqrt(variance + corner^2) - corner``, with value and gradient 0 where the variance is not positive."""
    if corner > 0:
        return (variance.clamp(min=0) + corner * corner).sqrt() - corner
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)


def covariance(features: Tensor) -> Tensor:
    """Unbiased covariances over the batch of each input's features: ``(B, I, F)`` to ``(I, F, F)``."""
    return _covariance(features.permute(1, 2, 0))


def deviation(values: Tensor, corner: float = 0.0) -> Tensor:
    """Unbiased standard deviations over the first axis of `values`; see the module for single samples, zeros and `corner`."""
    result: Tensor = _Deviation.apply(values, corner)
    return result


def edge_deviation(features: Tensor, weight: Tensor, known_covariance: Tensor | None = None, corner: float = 0.0) -> Tensor:
    """Unbiased standard deviations of all edges over the batch.

    Args:
        features: ``(I, F, B)``.
        weight: ``(I, F, O)``.
        known_covariance: ``(I, F, F)`` of the features, to be given only if they are constants.
        corner: see the module.

    Returns:
        ``(O, I)``.
    """
    result: Tensor = _EdgeDeviation.apply(features, weight, known_covariance, corner)
    return result


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(dim=2, keepdim=True)
    return centred @ centred.mT / max(rows.shape[2] - 1, 1)


class _Deviation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, corner: float) -> Tensor:
        centred = values - values.mean(dim=0)
        degrees = max(values.shape[0] - 1, 1)
        result = safe_sqrt((centred * centred).sum(dim=0).div_(degrees), corner)
        ctx.save_for_backward(values, centred, result)
        ctx.degrees, ctx.corner = degrees, corner
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (values, centred, result), (grad,) = ctx.saved_tensors, grads
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            composed = safe_sqrt(values.var(dim=0, correction=min(1, values.shape[0] - 1)), ctx.corner)
            return torch.autograd.grad(composed, values, grad, create_graph=True)[0], None
        return centred * over_deviation(grad, result, ctx.corner).div_(ctx.degrees), None


class _EdgeDeviation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, known: Tensor | None, corner: float) -> Tensor:
        mean = None
        if known is None:
            mean = features.mean(dim=2, keepdim=True)
            centred = features - mean
            known = torch.bmm(centred, centred.mT).div_(max(features.shape[2] - 1, 1))
        half = torch.bmm(known, weight)
        result = safe_sqrt((half * weight).sum(dim=1), corner)
        ctx.save_for_backward(features, weight, mean, half, result)
        ctx.corner = corner
        return result.t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (features, weight, mean, half, result), (grad,) = ctx.saved_tensors, grads
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            composed = safe_sqrt(((_covariance(features) @ weight) * weight).sum(dim=1), ctx.corner).t()
            found = [
                torch.autograd.grad(composed, of, grad, create_graph=True)[0] if wanted else None
                for of, wanted in zip((features, weight), ctx.needs_input_grad, strict=False)
            ]
            return found[0], found[1], None, None
        scaled = over_deviation(grad.t(), result, ctx.corner)[:, None]
        to_features = None
        if ctx.needs_input_grad[0]:
            scaled_weight = weight * scaled
            quadratic = torch.bmm(scaled_weight, weight.mT).div_(max(features.shape[2] - 1, 1))
            mean = features.mean(dim=2, keepdim=True) if mean is None else mean
            to_features = torch.baddbmm(torch.bmm(quadratic, mean), quadratic, features, beta=-1)
        return to_features, half * scaled if ctx.needs_input_grad[1] else None, None, None


def over_deviation(grad: Tensor, result: Tensor, corner: float = 0.0) -> Tensor:
    """Gradient with respect to half the variance from `grad`, that with respect to its rounded root `result`; 0 where that is a corner."""
    return grad / (result + corner) if corner > 0 else torch.where(result > 0, grad / result, 0.0)
