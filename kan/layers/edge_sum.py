r"""The sum over a layer's inputs of all its edges, without a tensor that has both an input and an output index beside the batch.

    ``y_j = sum_i u_ij b(x_i) + sum_i s_ij sum_m w_ijm f_im(x_i)``

with base weights ``u``, the base function ``b``, basis functions ``f``, their coefficients ``w`` and optional factors ``s``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kan.bases.base import Basis

__all__ = ["basis_values", "edge_sum"]


def basis_values(x: Tensor, basis: Basis, prepared: Any) -> Tensor:
    """Values ``(I, n, B)`` at `x` ``(B, I)`` in the dtype of `x`; worked out in float32 if that has two bytes a number."""
    if x.dtype in (torch.float16, torch.bfloat16):
        return basis.rows(x.t().float(), prepared).to(x.dtype)
    return basis.rows(x.t(), prepared)


def edge_sum(
    x: Tensor,
    base_weight: Tensor | None,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_function: Callable[[Tensor], Tensor],
    basis: Basis,
    prepared: Any,
) -> Tensor:
    """``y`` ``(B, O)``.

    Args:
        x: ``(B, I)``.
        base_weight: ``u``, ``(O, I)``, or None to go without.
        spline_weight: ``w``, ``(O, I, n)``.
        spline_scaler: ``s``, ``(O, I)``, or None for ones.
        base_function: ``b``.
        basis: of the ``n`` functions.
        prepared: from `basis`.
    """
    weight = spline_weight if spline_scaler is None else spline_weight * spline_scaler[..., None]
    y = F.linear(basis_values(x, basis, prepared).permute(2, 0, 1).flatten(1), weight.flatten(1))
    return y if base_weight is None else y + F.linear(base_function(x), base_weight)
