r"""Symmetries of a function, and the representative of all parameters that describe one curve.

The four parameters of :math:`c\,f(a x + b) + d` are redundant where :math:`f(s u)`, :math:`f(-u)` or :math:`f(u + t)` is an affine
function of :math:`f(u)`. A fit searches only the parameters that remain, and `canonicalise` returns one representative of each class of
equal functions.
"""

__all__ = ["Symmetries", "canonicalise"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MODERATE_LOG_SCALE = math.log(1e3)
r"""Largest :math:`|\ln|c||` with which ``exp(a x + b)`` is written as ``c exp(a x)``. Beyond it, c is 1 or -1, b its logarithm."""


@dataclass(frozen=True)
class Symmetries:
    r"""How a function changes under affine changes of its argument; each field is a pair of numbers, or None without that symmetry.

    * ``reflection`` :math:`(\alpha, \beta)`: :math:`f(-u) = \alpha f(u) + \beta`; even (1, 0), odd (-1, 0)
    * ``scaling`` :math:`(p, \kappa)`: :math:`f(s u) = s^p f(u) + \kappa \ln s` for :math:`s > 0`
    * ``translation`` :math:`(\rho, \tau)`: :math:`f(u + t) = e^{\rho t} f(u) + \tau t`
    * ``period`` :math:`(P, \sigma)`: :math:`f(u + P) = \sigma f(u)` with :math:`\sigma = \pm 1`

    Example:
        >>> from kan.symbolic.library import lookup
        >>> lookup("arccos").symmetries.reflection == (-1.0, math.pi)
        True
    """

    reflection: tuple[float, float] | None = None
    scaling: tuple[float, float] | None = None
    translation: tuple[float, float] | None = None
    period: tuple[float, float] | None = None


def canonicalise(affine: Tensor, symmetries: Symmetries) -> Tensor:
    r"""Return the representative of ``c f(a x + b) + d`` in its class of equal functions.

    Each symmetry fixes one convention:

    * reflection: :math:`a \ge 0`
    * scaling: :math:`a = \pm 1`, with the scale in :math:`c` (powers) or in :math:`d` (logarithm)
    * translation: :math:`b = 0`, except that ``exp`` has :math:`c = \pm 1` where :math:`|c|` would leave [1e-3, 1e3]
    * period :math:`P`: :math:`-P/2 < b \le P/2`

    Args:
        affine: ``(a, b, c, d)``, shape (..., 4).
        symmetries: The symmetries of :math:`f`. Without any, the result equals ``affine``.

    Returns:
        Parameters of the same function of x, shape (..., 4).

    Example:
        >>> canonicalise(torch.tensor([-2.0, 6.0, 1.0, 0.0]), Symmetries(reflection=(-1, 0), scaling=(3, 0))).tolist()
        [1.0, -3.0, -8.0, 0.0]
    """
    a, b, c, d = affine.unbind(-1)
    if symmetries.reflection is not None:
        factor, shift = symmetries.reflection
        flip = a < 0
        d = torch.where(flip, d + c * shift, d)
        c = torch.where(flip, c * factor, c)
        a, b = a.abs(), torch.where(flip, -b, b)
    if symmetries.scaling is not None:
        degree, log_rate = symmetries.scaling
        s = torch.where(a == 0, 1.0, a.abs())
        a, b = a / s, b / s
        d = d + c * log_rate * s.log()
        c = c * s**degree
    if symmetries.translation is not None:
        exp_rate, shift_rate = symmetries.translation
        d = d + c * shift_rate * b
        if exp_rate == 0:
            b = torch.zeros_like(b)
        else:
            # The scale is computed in logarithms, since exp(b) itself may overflow.
            log_scale = c.abs().log() + exp_rate * b
            large = log_scale.isfinite() & (log_scale.abs() > MODERATE_LOG_SCALE)
            b = torch.where(large, log_scale / exp_rate, 0.0)
            c = c.sign() * torch.where(large, 1.0, log_scale.exp())
    if symmetries.period is not None:
        period, factor = symmetries.period
        turns = (b / period - 0.5).ceil()
        b = b - turns * period
        c = torch.where(turns.remainder(2) == 1, c * factor, c)
    return torch.stack([a, b, c, d], dim=-1)
