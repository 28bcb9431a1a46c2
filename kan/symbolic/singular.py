r"""Singularity-safe versions of symbolic functions.

The version :math:`f_{y_\mathrm{th}}` equals :math:`f` away from its singularities and stays finite and continuous at them: where
:math:`|f|` would exceed the threshold :math:`y_\mathrm{th}`, it continues as a constant or as a straight line through the singularity.
Where the floating-point format cannot resolve the threshold, the nearest one that it can resolve is used.

The argument is selected before the value (a double ``where``). ``where(near, y, 1 / u)`` alone would return the right value, but the
gradient of the branch not taken is infinite, and infinity times zero is NaN.

Symbols: ``x`` argument, ``y_th`` threshold on the value, ``t`` threshold on the argument. The names are those of pykan.
"""

__all__ = [
    "f_arccos", "f_arcsin", "f_arctanh", "f_exp", "f_inv", "f_inv2", "f_inv3", "f_inv4", "f_inv5", "f_invsqrt", "f_log", "f_power1d5",
    "f_sqrt", "f_tan",
]  # fmt: skip

import math

import torch
from torch import Tensor

from kan.devices import number_like

from .function import Threshold


def _inverse_power(x: Tensor, y_th: float | Tensor, n: int) -> tuple[Threshold, Tensor]:
    """Return ``t = y_th^(-1/n)`` and ``x^(-n)``, continued through 0 by a line (n odd) or a constant (n even)."""
    y = number_like(y_th, x)
    t = y ** (-1.0 / n)
    near = x.abs() < t
    inside = y / t * x if n % 2 else y.expand_as(x)
    return t, torch.where(near, inside, torch.where(near, 1.0, x).pow(-n))


def f_inv(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x``: the line ``y_th^2 x`` for ``|x| < 1/y_th``.

    Example:
        >>> f_inv(torch.tensor([0.0, 0.05, 2.0]), 10.0)[1]
        tensor([0.0000, 5.0000, 0.5000])
    """
    return _inverse_power(x, y_th, 1)


def f_inv2(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x^2``: the constant ``y_th`` for ``|x| < y_th^(-1/2)``."""
    return _inverse_power(x, y_th, 2)


def f_inv3(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x^3``: a line through 0 for ``|x| < y_th^(-1/3)``."""
    return _inverse_power(x, y_th, 3)


def f_inv4(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x^4``: the constant ``y_th`` for ``|x| < y_th^(-1/4)``."""
    return _inverse_power(x, y_th, 4)


def f_inv5(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x^5``: a line through 0 for ``|x| < y_th^(-1/5)``."""
    return _inverse_power(x, y_th, 5)


def f_sqrt(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``sqrt(x)``: ``sign(x) sqrt(|x|)``, and the line of slope ``y_th`` for ``|x| < y_th^-2``.

    The slope is that of the chord from 0 to the threshold, so the value is continuous at the threshold.
    """
    y = number_like(y_th, x)
    t = y**-2
    near = x.abs() < t
    return t, torch.where(near, y * x, x.sign() * torch.where(near, 1.0, x).abs().sqrt())


def f_power1d5(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``x^1.5``: ``|x|^1.5``, which needs no threshold."""
    return (), x.abs().pow(1.5)


def f_invsqrt(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/sqrt(x)``: ``1/sqrt(|x|)``, and the constant ``y_th`` for ``|x| < y_th^-2``."""
    y = number_like(y_th, x)
    t = y**-2
    near = x.abs() < t
    return t, torch.where(near, y, torch.where(near, 1.0, x).abs().rsqrt())


def f_log(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``log(x)``: ``log|x|``, and the constant ``-y_th`` for ``|x| < exp(-y_th)``."""
    # exp(-1000) underflows to zero, and log(0) would come through; the threshold therefore stays a normal number of the format.
    t = number_like(y_th, x).neg().exp().clamp(min=torch.finfo(x.dtype).tiny)
    near = x.abs() < t
    return t, torch.where(near, t.log(), torch.where(near, 1.0, x).abs().log())


def f_tan(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``tan(x)``: within ``t = arctan(1/y_th)`` of a pole, the line from ``y_th`` to ``-y_th``."""
    y = number_like(y_th, x)
    t = (1.0 / y).arctan()
    from_pole = x.remainder(math.pi) - math.pi / 2
    near = from_pole.abs() < t
    # tan(w) = -cot(w - pi/2), whose argument has the pole at its origin.
    return t, torch.where(near, -y / t * from_pole, -1.0 / torch.where(near, 1.0, from_pole).tan())


def f_arctanh(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``arctanh(x)``: the constant ``+-y_th`` for ``|x| >= tanh(y_th)``."""
    t = number_like(y_th, x).tanh().clamp(max=1.0 - torch.finfo(x.dtype).eps)
    far = x.abs() >= t
    return t, torch.where(far, x.sign() * t.arctanh(), torch.where(far, 0.0, x).arctanh())


def f_arcsin(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``arcsin(x)``: ``+-pi/2`` for ``|x| >= 1``."""
    far = x.abs() >= 1
    return (), torch.where(far, math.pi / 2 * x.sign(), torch.where(far, 0.0, x).arcsin())


def f_arccos(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``arccos(x)``: 0 for ``x >= 1`` and pi for ``x <= -1``."""
    far = x.abs() >= 1
    return (), torch.where(far, math.pi / 2 * (1 - x.sign()), torch.where(far, 0.0, x).arccos())


def f_exp(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``exp(x)``: the constant ``y_th`` for ``x > log(y_th)``."""
    y = number_like(y_th, x)
    t = y.log()
    far = x > t
    return t, torch.where(far, y, torch.where(far, 0.0, x).exp())
