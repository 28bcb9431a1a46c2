r"""Ricker wavelets (Mexican hats) at dyadic scales and shifts, together with the straight lines, which wavelets cannot represent.

Definition
    ``f_0(u) = 1``,  ``f_1(u) = u``,  ``f_{m+1}(u) = r((u - c_m)/a_m)``,  ``r(z) = (1 - z^2) exp(-z^2/2)``,  ``m = 1 ... n - 2``,

    on ``[-1, 1]``. The scales ``a_m = 2^-j`` are 1 once, 1/2 twice, 1/4 four times and so on: ``j = floor(log2 m)``. At each scale, the
    intervals ``(c_m - a_m, c_m + a_m)``, where a wavelet is positive, tile ``[-1, 1]``. Their centres ``c_m = 2 v(m) - 1`` are taken in the
    order of the van der Corput sequence

    ``v(m) = sum_k b_k 2^-(k+1) = 1/2, 1/4, 3/4, 1/8, 5/8, ...``  with  ``m = sum_k b_k 2^k``,  ``b_k`` in {0, 1},

    which proceeds from the coarsest scale to finer ones and covers each of them evenly. Any ``n`` is therefore possible, and the functions
    of a smaller basis are the first ones of a larger basis.

    The mean and the first moment of a wavelet are zero, so that wavelets cannot represent constants and slopes. Hence ``1`` and ``u``.

References
    I. Daubechies, "Ten Lectures on Wavelets", SIAM 1992, chapter 3.

    Z. Bozorgasl, H. Chen, "Wav-KAN: Wavelet Kolmogorov-Arnold Networks", 2024, arXiv:2405.12832.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kan.bases.base import IntervalBasis
from kan.bases.registry import register_basis

__all__ = ["Ricker"]

MAX_DISTANCE = 40.0
"""Distance from the centre, in scales, beyond which ``exp(-z^2/2)`` is zero in float64; larger distances are cut off."""


@register_basis("ricker")
@dataclass(frozen=True)
class Ricker(IntervalBasis):
    """``1``, ``u`` and ``n - 2`` wavelets on ``[-1, 1]``; see the module.

    They suit curves with details of different sizes at different places. Outside of the interval the wavelets fade to zero, and a straight
    line remains.

    Args:
        size, extrapolation: see `IntervalBasis`; ``n = 2^j + 1`` fills ``j`` scales.

    >>> Ricker(4).functions(torch.tensor([[-0.5, 0.0]]))[0]
    tensor([[ 1.0000,  1.0000],
            [-0.5000,  0.0000],
            [ 0.6619,  1.0000],
            [ 1.0000,  0.0000]])
    """

    def functions(self, u: Tensor) -> Tensor:
        """Values ``(I, n, B)`` at `u` ``(I, B)``."""
        centres, scales = self._places(u)
        # Cut off, since the product of an infinite square with a zero exponential would be NaN.
        z = ((u[:, None] - centres[:, None]) / scales[:, None]).clamp(-MAX_DISTANCE, MAX_DISTANCE)
        square = z.square()
        wavelets = (1 - square) * torch.exp(-square / 2)
        return torch.cat([torch.ones_like(u)[:, None], u[:, None], wavelets], dim=1)[:, : self.size]

    def write_functions(self, u: Tensor, values: Tensor, slopes: Tensor | None) -> None:
        """See `IntervalBasis.write_functions`; ``r'(z) = (z^2 - 3) z exp(-z^2/2)``."""
        for row, (value, slope) in enumerate(((1.0, 0.0), (u, 1.0))[: self.size]):
            values[:, row] = value
            if slopes is not None:
                slopes[:, row] = slope
        if self.size <= 2:
            return
        centres, scales = (each[:, None] for each in self._places(u))
        z = ((u[:, None] - centres) / scales).clamp_(-MAX_DISTANCE, MAX_DISTANCE)
        square = z.square()
        bell = torch.exp(square / -2)
        torch.mul(1 - square, bell, out=values[:, 2:])
        if slopes is not None:
            torch.mul(z.mul_(bell), square.sub_(3), out=slopes[:, 2:]).div_(scales)

    def sites(self, grid: Tensor) -> Tensor:
        """The ends, for the straight lines, and the wavelets' centres, ``(I, n)``."""
        low, high = grid.split(1, dim=1)
        inner: Tensor = low + (high - low) * (self._places(grid)[0] + 1) / 2
        return torch.cat([low, high, inner], dim=1)[:, : self.size]

    def _places(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Centres ``c`` and scales ``a``, ``(n - 2,)`` each."""
        m = torch.arange(max(self.size - 2, 0), device=like.device)[:, None] + 1
        k = torch.arange(self.size.bit_length(), device=like.device)
        shifted, half = m >> k, 0.5 ** (k + 1).to(like.dtype)
        return 2 * ((shifted & 1) * half).sum(1) - 1, 2 * 0.5 ** (shifted > 0).sum(1).to(like.dtype)
