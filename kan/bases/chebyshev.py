r"""Chebyshev polynomials of the first kind.

Definition
    ``T_0(u) = 1``,  ``T_1(u) = u``,  ``T_{m+1}(u) = 2 u T_m(u) - T_{m-1}(u)``

    on ``[-1, 1]``, where ``T_m(cos a) = cos(m a)``. The recurrence, unlike the cosine, has exact derivatives of every order at the ends.

Derivatives
    ``T_m' = 2 m (T_{m-1} + T_{m-3} + ...)``, where ``T_0``, if it occurs, counts half: a constant matrix times the values.

References
    L. N. Trefethen, "Approximation Theory and Approximation Practice", SIAM 2013.

    S. S. Sidharth, A. R. Keerthana, R. Gokul, K. P. Anas, "Chebyshev Polynomial-Based Kolmogorov-Arnold Networks", 2024, arXiv:2405.07200.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kan.bases.base import Extrapolation, IntervalBasis
from kan.bases.registry import register_basis

__all__ = ["Chebyshev"]


@register_basis("chebyshev")
@dataclass(frozen=True, kw_only=True)
class Chebyshev(IntervalBasis):
    """``T_0 ... T_{n-1}`` on ``[-1, 1]``; see the module.

    They represent smooth curves with few functions: for an analytic curve the error decreases geometrically with ``n``. Every function
    extends over the whole interval, so that a corner anywhere reduces the accuracy everywhere.

    Args:
        size: see `IntervalBasis`.
        extrapolation: see `IntervalBasis`; by default ``"linear"``, since ``T_m`` grows like ``2^(m-1) u^m`` outside.

    >>> Chebyshev(4).functions(torch.tensor([[0.5]]))[0, :, 0]
    tensor([ 1.0000,  0.5000, -0.5000, -1.0000])
    """

    extrapolation: Extrapolation = "linear"

    def functions(self, u: Tensor) -> Tensor:
        """Values ``(I, n, B)`` at `u` ``(I, B)``."""
        rows = [torch.ones_like(u), u]
        for _ in range(2, self.size):
            rows.append(2 * u * rows[-1] - rows[-2])
        return torch.stack(rows, dim=1)[:, : self.size]

    def write_functions(self, u: Tensor, values: Tensor, slopes: Tensor | None) -> None:
        """See `IntervalBasis.write_functions`."""
        double, rows = 2 * u, values.unbind(1)
        rows[0].fill_(1.0)
        if self.size > 1:
            rows[1].copy_(u)
        for m in range(2, self.size):
            torch.mul(double, rows[m - 1], out=rows[m]).sub_(rows[m - 2])
        if slopes is not None:
            torch.matmul(_differentiation(self.size, u.dtype, u.device), values, out=slopes)


@lru_cache(maxsize=16)
def _differentiation(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix ``(n, n)`` in float64 of the module's derivatives, one function a row."""
    with torch.inference_mode(False):
        m = torch.arange(size, dtype=torch.float64)
        distance = m[:, None] - m
        factor = torch.where((distance > 0) & (distance % 2 == 1), 2 * m[:, None], 0.0)
        factor[:, 0] /= 2
        return factor.to(device, dtype)
