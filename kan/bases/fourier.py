r"""Sines and cosines of half periods or whole periods.

Definition
    ``f_m(u) = cos(w_m u)`` for even ``m``, ``sin(w_m u)`` for odd ``m``;  ``m = 0 ... n - 1``, ``-1 <= u <= 1``.

    Half periods, ``w_m = pi m/2``:
        ``1, sin(pi u/2), cos(pi u), sin(3 pi u/2), ...``. Up to signs these are ``cos(pi m (u + 1)/2)``, the cosines of half periods from
        the left end on. They are orthogonal, and a curve need not have the same value at both ends: it is continued by its mirror image,
        without a jump. The coefficients of a smooth curve fall like ``m^-2``; they converge to it at the ends, too.

    Whole periods, ``w_m = pi ceil(m/2)``:
        ``1, sin(pi u), cos(pi u), sin(2 pi u), ...``, the Fourier series of period 2. They suit periodic functions, as of an angle, and
        only these: a curve with two different values at the ends has a jump in its continuation, coefficients that fall like ``m^-1``, and
        Gibbs oscillations.

References
    A. Iserles, S. P. Norsett, "From high oscillation to rapid approximation I: Modified Fourier expansions", IMA Journal of Numerical
    Analysis 28, 2008, 862-887.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kan.bases.base import IntervalBasis
from kan.bases.registry import register_basis

__all__ = ["Fourier"]


@register_basis("fourier")
@dataclass(frozen=True, kw_only=True)
class Fourier(IntervalBasis):
    """``n`` sines and cosines on ``[-1, 1]``; see the module.

    They suit curves that oscillate. The functions are bounded everywhere, so that their own values can be used outside of the interval.

    Args:
        size, extrapolation: see `IntervalBasis`.
        periodic: whether the interval is one period instead of half a period. A grid update moves its ends to the samples; for an angle,
            use ``grid_range=[-pi, pi]`` and no grid update.

    >>> Fourier(3).functions(torch.tensor([[-1.0, 0.0, 1.0]]))[0].round(decimals=4) + 0.0
    tensor([[ 1.,  1.,  1.],
            [-1.,  0.,  1.],
            [-1.,  1., -1.]])
    """

    periodic: bool = False

    def functions(self, u: Tensor) -> Tensor:
        """Values ``(I, n, B)`` at `u` ``(I, B)``."""
        frequency, phase = self._waves(u)
        return torch.cos(frequency * u[:, None] - phase)

    def write_functions(self, u: Tensor, values: Tensor, slopes: Tensor | None) -> None:
        """See `IntervalBasis.write_functions`."""
        frequency, phase = self._waves(u)
        angle = frequency * u[:, None] - phase
        torch.cos(angle, out=values)
        if slopes is not None:
            torch.sin(angle, out=slopes).mul_(-frequency)

    def _waves(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Frequencies ``w_m`` and phases of the cosines, ``(n, 1)`` each."""
        m = torch.arange(self.size, device=like.device)[:, None]
        halves = (m + 1) // 2 * 2 if self.periodic else m
        return (halves * (torch.pi / 2)).to(like.dtype), (m % 2 * (torch.pi / 2)).to(like.dtype)

    def sites(self, grid: Tensor) -> Tensor:
        """Return the midpoints of ``n`` equal parts, ``(I, n)``, at which the functions are orthogonal, as they are on the interval."""
        middle = (torch.arange(self.size, dtype=grid.dtype, device=grid.device) + 0.5) / self.size
        low, high = grid.split(1, dim=1)
        points: Tensor = low + (high - low) * middle
        return points
