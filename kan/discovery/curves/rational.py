r"""Polynomials and quotients of polynomials :math:`y = P(z) / Q(z)` for curves, by least squares on :math:`Q(z)\,y = P(z)`.

For exact data, the coefficients are a null vector of the matrix with the columns :math:`z^j` and :math:`-y z^k`. This vector is unique up
to a factor for the lowest degrees that represent the curve. Vanishing coefficients are removed one after the other.
"""

from __future__ import annotations

import math

import sympy
import torch
from torch import Tensor

__all__ = ["rational_formulas"]

MAX_ZERO_COEFFICIENT = 1e-9
"""Largest coefficient, relative to the largest one and for columns of norm 1, that counts as zero in an exact fit."""
MAX_NULL_RESIDUAL = 1e-11
"""Largest norm of ``Q y - P``, for columns and a coefficient vector of norm 1, with which a fit counts as exact."""


def rational_formulas(
    z: Tensor, y: Tensor, symbol: sympy.Symbol, max_degree: int, *, min_degree: int = 1, max_denominator: int = 4, squared: bool = False
) -> list[sympy.Expr]:
    """Quotients of polynomials for a curve, one for each pair of degrees, or only the first exact one.

    Args:
        z, y: samples, ``(N,)`` each.
        symbol: the symbol of `z` in the formulas.
        max_degree: largest sum of the degrees of numerator and denominator. Each degree is at most 4; that of a polynomial is at most 6.
        min_degree: smallest sum of the degrees.
        max_denominator: largest degree of the denominator.
        squared: fit the squared labels and return the square root of the quotient; empty if the labels have both signs.

    Returns:
        The least squares fits in the order of the sums of their degrees. If one is exact to round-off, it is the only one.

    >>> z = torch.linspace(0, 1, 50, dtype=torch.float64)
    >>> formula = rational_formulas(z, (1 + z) / (2 + z * z), sympy.Symbol("z"), 3)[0]
    >>> round(float(formula.subs("z", 3)), 9)
    0.363636364
    """
    sign = 1
    if squared:
        if float(y.min()) < 0 < float(y.max()):
            return []
        sign, y = (-1 if float(y.max()) <= 0 else 1), y.square()
    unit, size = float(z.abs().max()) or 1.0, float(y.abs().max()) or 1.0
    t, v = z / unit, y / size
    formulas = []
    for total in range(min_degree, max_degree + 1):
        for below in range(min(total, max_denominator) + 1):
            above = total - below
            if above > (4 if below else 6) or 2 * (total + 2) > len(z):
                continue
            found = _coefficients(t, v, above, below)
            if found is None:
                continue
            p, q, exact = found
            numerator = sum((_number(c * size / unit**j) * symbol**j for j, c in enumerate(p) if c), sympy.Integer(0))
            denominator = sum((_number(c / unit**j) * symbol**j for j, c in enumerate(q) if c), sympy.Integer(0))
            if numerator == 0 or denominator == 0:
                continue
            formulas.append(sign * sympy.sqrt(numerator / denominator) if squared else numerator / denominator)
            if exact:
                return formulas[-1:]
    return formulas


def _number(value: float) -> sympy.Expr:
    return sympy.Integer(1) if value == 1.0 else sympy.Float(value, 17)


def _coefficients(t: Tensor, v: Tensor, above: int, below: int) -> tuple[list[float], list[float], bool] | None:
    """Coefficients of P and Q of the degrees `above` and `below`, and whether ``Q y = P`` to round-off; None without a denominator."""
    powers = torch.stack([t**j for j in range(max(above, below) + 1)], 1)
    matrix = torch.cat([powers[:, : above + 1], -v[:, None] * powers[:, : below + 1]], 1)
    kept = list(range(matrix.shape[1]))
    exact = False
    while True:
        vector, norms, residual = _smallest_singular_vector(matrix[:, kept])
        if residual > MAX_NULL_RESIDUAL or len(kept) == 1:
            break
        exact = True
        sizes = vector.abs() / vector.abs().max()
        smallest = int(sizes.argmin())
        if float(sizes[smallest]) > MAX_ZERO_COEFFICIENT or len(kept) <= 2:
            break
        kept.pop(smallest)
    if not exact and below:
        for _ in range(3):  # rows divided by the previous Q have the residual y - P / Q
            q = (vector / norms)[above + 1 :]
            q = q / q.abs().max().clamp_min(1e-300)
            weights = 1 / (powers[:, : below + 1] @ q).abs().clamp_min(1e-6)
            vector, norms, _ = _smallest_singular_vector(matrix * weights[:, None])
    coefficients = torch.zeros(matrix.shape[1], dtype=t.dtype)
    coefficients[kept] = vector / norms
    p, q = coefficients[: above + 1], coefficients[above + 1 :]
    first = next((float(c) for c in q if float(c.abs()) > MAX_ZERO_COEFFICIENT * float(q.abs().max())), 0.0)
    if first == 0.0 or not math.isfinite(first):
        return None
    return (p / first).tolist(), (q / first).tolist(), exact


def _smallest_singular_vector(matrix: Tensor) -> tuple[Tensor, Tensor, float]:
    """The right singular vector of the smallest singular value for columns of norm 1, the norms of the columns, and the residual."""
    norms = matrix.norm(dim=0).clamp_min(1e-300)
    scaled = matrix / norms
    vector = torch.linalg.svd(scaled, full_matrices=False)[2][-1]
    return vector, norms, float((scaled @ vector).norm())
