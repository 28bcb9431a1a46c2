r"""The special functions of two variables in the KAN paper, ten of them without an elementary closed form.

torch has Bessel functions of the orders 0 and 1 only, and no elliptic or associated Legendre functions, whereas the order is a variable
here. The functions are therefore computed by Gauss-Legendre quadrature or as series, with errors of about 1e-12 in the ranges of the table,
for which they are intended:

.. math::
    J_\nu(x) &= \tfrac1\pi\int_0^\pi \cos(\nu t - x\sin t)\,dt - \tfrac{\sin\nu\pi}{\pi}\int_0^\infty e^{-x\sinh t - \nu t}\,dt, \\
    Y_\nu(x) &= \tfrac1\pi\int_0^\pi \sin(x\sin t - \nu t)\,dt
        - \tfrac1\pi\int_0^\infty (e^{\nu t} + e^{-\nu t}\cos\nu\pi)\,e^{-x\sinh t}\,dt, \\
    I_\nu(x) &= \tfrac1\pi\int_0^\pi e^{x\cos t}\cos\nu t\,dt - \tfrac{\sin\nu\pi}{\pi}\int_0^\infty e^{-x\cosh t - \nu t}\,dt, \\
    K_\nu(x) &= \int_0^\infty e^{-x\cosh t}\cosh\nu t\,dt.

The spherical harmonics (real parts, with the azimuth x and the polar angle y) are elementary and can be recovered. The paper does not state
its ranges; those of the table were chosen here.

Source
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756, the table of special functions; the integrals are 10.9.6,
    10.9.7, 10.32.4 and 10.32.9 of the NIST Digital Library of Mathematical Functions, the series for Legendre functions 14.3.4, the
    arithmetic-geometric mean for sn 22.20(ii).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from kan.datasets.problem import Problem

__all__ = ["SPECIAL"]

PI = math.pi
UPPER_LIMIT = 6.0
"""Upper limit in place of infinity in the integrals. For x of at least 1/2 and orders up to 2, the remainder is less than 1e-38."""

LEGENDRE_TERMS = 160
"""Number of terms of the series of Legendre functions, sufficient for its arguments, which are at most 3/4."""


@cache
def _rule(nodes: int) -> tuple[list[float], list[float]]:
    """Return nodes and weights of Gauss-Legendre quadrature on [0, 1]."""
    t, w = np.polynomial.legendre.leggauss(nodes)
    return ((t + 1) / 2).tolist(), (w / 2).tolist()


def _integral(f: Callable[[Tensor], Tensor], end: Tensor | float, like: Tensor, nodes: int = 160) -> Tensor:
    """Return the integral of `f` from 0 to `end`; `f` receives the nodes along a new last dimension."""
    unit, weights = (like.new_tensor(values) for values in _rule(nodes))
    end = torch.as_tensor(end, dtype=like.dtype, device=like.device)[..., None]
    return (f(end * unit) * weights).sum(-1) * end[..., 0]


def _bessel_j(order: Tensor, x: Tensor) -> Tensor:
    v, z = order[..., None], x[..., None]
    wave = _integral(lambda t: torch.cos(v * t - z * torch.sin(t)), PI, x)
    return (wave - torch.sin(PI * order) * _integral(lambda t: torch.exp(-z * torch.sinh(t) - v * t), UPPER_LIMIT, x)) / PI


def _bessel_y(order: Tensor, x: Tensor) -> Tensor:
    v, z = order[..., None], x[..., None]
    wave = _integral(lambda t: torch.sin(z * torch.sin(t) - v * t), PI, x)
    tail = _integral(lambda t: (torch.exp(v * t) + torch.exp(-v * t) * torch.cos(PI * v)) * torch.exp(-z * torch.sinh(t)), UPPER_LIMIT, x)
    return (wave - tail) / PI


def _bessel_i(order: Tensor, x: Tensor) -> Tensor:
    v, z = order[..., None], x[..., None]
    wave = _integral(lambda t: torch.exp(z * torch.cos(t)) * torch.cos(v * t), PI, x)
    return (wave - torch.sin(PI * order) * _integral(lambda t: torch.exp(-z * torch.cosh(t) - v * t), UPPER_LIMIT, x)) / PI


def _bessel_k(order: Tensor, x: Tensor) -> Tensor:
    v, z = order[..., None], x[..., None]
    return _integral(lambda t: torch.exp(-z * torch.cosh(t)) * torch.cosh(v * t), UPPER_LIMIT, x)


def _elliptic_f(angle: Tensor, m: Tensor) -> Tensor:
    return _integral(lambda t: (1 - m[..., None] * torch.sin(t) ** 2) ** -0.5, angle, angle)


def _elliptic_e(angle: Tensor, m: Tensor) -> Tensor:
    return _integral(lambda t: torch.sqrt(1 - m[..., None] * torch.sin(t) ** 2), angle, angle)


def _jacobi_sn(u: Tensor, m: Tensor) -> Tensor:
    a, b, levels = torch.ones_like(m), torch.sqrt(1 - m), []
    for _ in range(6):  # converges quadratically
        levels.append(((a - b) / (a + b)).clamp(min=0))
        a, b = (a + b) / 2, torch.sqrt(a * b)
    angle = 2 ** len(levels) * a * u
    for ratio in reversed(levels):
        angle = (angle + torch.asin(ratio * torch.sin(angle))) / 2
    return torch.sin(angle)


def _legendre(m: int, degree: Tensor, x: Tensor) -> Tensor:
    """Return the associated Legendre function of order m on the cut, with the Condon-Shortley phase (-1)^m."""
    z, term = (1 - x) / 2, torch.ones_like(x)
    total = term
    for k in range(LEGENDRE_TERMS):
        term = term * (m - degree + k) * (m + degree + 1 + k) / ((m + 1 + k) * (k + 1)) * z
        total = total + term
    factor = math.prod(degree + j for j in range(1 - m, m + 1)) if m else 1
    values: Tensor = total * factor * (1 - x**2) ** (m / 2) * (-1) ** m / (2**m * math.factorial(m))
    return values


# fmt: off
FUNCTIONS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[float, float], ...]]] = {
    "ellipj": (_jacobi_sn, ((-3, 3), (0, 0.9))),
    "ellipkinc": (_elliptic_f, ((0, PI / 2), (0, 0.9))),
    "ellipeinc": (_elliptic_e, ((0, PI / 2), (0, 0.9))),
    "jv": (_bessel_j, ((0, 2), (0.5, 10))),
    "yv": (_bessel_y, ((0, 2), (1, 10))),
    "kv": (_bessel_k, ((0, 2), (0.5, 3))),
    "iv": (_bessel_i, ((0, 2), (0.5, 3))),
    "lpmv0": (partial(_legendre, 0), ((0, 3), (-0.5, 0.9))),
    "lpmv1": (partial(_legendre, 1), ((0, 3), (-0.5, 0.9))),
    "lpmv2": (partial(_legendre, 2), ((0, 3), (-0.5, 0.9))),
}
"""Functions and ranges by scipy's names; the number after ``lpmv`` is the order m, and ``ellipj`` is its first value, sn."""

SPHERICAL_HARMONICS = [
    ("sph_harm (0, 1)", "sqrt(3/(4*pi))*cos(y)"),
    ("sph_harm (1, 1)", "-sqrt(3/(8*pi))*sin(y)*cos(x)"),
    ("sph_harm (0, 2)", "sqrt(5/(16*pi))*(3*cos(y)**2 - 1)"),
    ("sph_harm (1, 2)", "-sqrt(15/(8*pi))*sin(y)*cos(y)*cos(x)"),
    ("sph_harm (2, 2)", "sqrt(15/(32*pi))*sin(y)**2*cos(2*x)"),
]
# fmt: on

SPECIAL: tuple[Problem, ...] = (
    *(Problem(name, f"{name}(x, y)", ("x", "y"), ranges, {name: f}) for name, (f, ranges) in FUNCTIONS.items()),
    *(Problem(name, formula, ("x", "y"), ((0, 2 * PI), (0, PI))) for name, formula in SPHERICAL_HARMONICS),
)
