r"""Gaussian radial basis functions at equidistant centres.

Definition
    ``f_m(u) = exp(-((u - c_m)/(w h))^2)``,  ``c_m = (m - (n - 1)/2) h``,  ``h = 2/(n - 1)``,  ``m = 0 ... n - 1``

    on ``[-1, 1]``: the first and the last centre are its ends, ``h`` is the spacing and ``w`` the width in units of it. For ``n = 1`` the
    one centre is 0 and ``h = 1``.

References
    Z. Li, "Kolmogorov-Arnold Networks are Radial Basis Function Networks", 2024, arXiv:2405.06721 (FastKAN, where ``w = 1``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kan.bases.base import IntervalBasis
from kan.bases.registry import register_basis

__all__ = ["GaussianRBF"]


@register_basis("rbf")
@dataclass(frozen=True, kw_only=True)
class GaussianRBF(IntervalBasis):
    """``n`` Gaussians on ``[-1, 1]``; see the module.

    They are smooth, local and cheap, with one exponential per function and no search. Outside of the interval they fade to zero within a
    few widths. No polynomial is represented exactly, not even a constant. The approximation is worst near the ends, where neighbours are
    missing, so that the interval should extend beyond the data.

    Args:
        size, extrapolation: see `IntervalBasis`.
        width: ``w``; above about 2 the functions are nearly linearly dependent, and coefficients become large.

    >>> GaussianRBF(3).functions(torch.tensor([[0.0, 1.0]]))[0]
    tensor([[0.3679, 0.0183],
            [1.0000, 0.3679],
            [0.3679, 1.0000]])
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.width > 0:
            raise ValueError(f"width, in units of the centres' spacing, must be positive; got {self.width}.")

    def functions(self, u: Tensor) -> Tensor:
        """Values ``(I, n, B)`` at `u` ``(I, B)``."""
        distance = (u[:, None] - self._centres(u)[:, None]) / (self.width * self._spacing)
        return torch.exp(-distance.square())

    def write_functions(self, u: Tensor, values: Tensor, slopes: Tensor | None) -> None:
        """See `IntervalBasis.write_functions`."""
        scale = self.width * self._spacing
        distance = torch.sub(u[:, None], self._centres(u)[:, None], out=slopes).div_(scale)
        torch.exp(distance.square().neg_(), out=values)
        if slopes is not None:
            slopes.mul_(values).mul_(-2 / scale)

    def sites(self, grid: Tensor) -> Tensor:
        """Return the centres, ``(I, n)``. Any distinct points would determine the coefficients; these keep the problem well conditioned."""
        low, high = grid.split(1, dim=1)
        points: Tensor = low + (high - low) * (self._centres(grid) + 1) / 2
        return points

    @property
    def _spacing(self) -> float:
        return 2 / (self.size - 1) if self.size > 1 else 1.0

    def _centres(self, like: Tensor) -> Tensor:
        return (torch.arange(self.size, dtype=like.dtype, device=like.device) - (self.size - 1) / 2) * self._spacing
