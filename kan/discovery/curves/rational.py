r"""Polynomials and quotients of polynomials for curves, by least squares on :math:`Q(z)\,y = P(z)`.

Where data are exact the coefficients are the vector that the matrix with the columns :math:`z^j` and :math:`-y z^k` takes to zero, which
is unique for the lowest degrees; coefficients that are zero are dropped.
"""

from __future__ import annotations

import math

import sympy
import torch
from torch import Tensor

__all__ = ["rational_formulas"]

ZERO = 1e-9
"""Share of its column's weight that a coefficient counts as zero below."""
NULL = 1e-11
"""Share of the largest term below which ``Q y - P`` is round-off."""


def rational_formulas(
    z: Tensor, y: Tensor, symbol: sympy.Symbol, most: int, *, least: int = 1, below: int = 4, squared: bool = False
) -> list[sympy.Expr]:
    """Quotients of polynomials for samples ``(N,)``, each the least squares fit of its degrees.

    Args:
        z, y: samples.
        symbol: of the formulas.
        most: sum of the degrees of numerator and denominator, at most; each is at most 4, or 6 without a denominator.
        least: sum of the degrees, at least.
        below: degree of the denominator, at most.
        squared: of the square of the labels, and the root of that.

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
    for total in range(least, most + 1):
        for degree in range(min(total, below) + 1):
            above = total - degree
            if above > (4 if degree else 6) or 2 * (total + 2) > len(z):
                continue
            found = _coefficients(t, v, above, degree)
            if found is None:
                continue
            p, q, null = found
            top = sum((_number(c * size / unit**j) * symbol**j for j, c in enumerate(p) if c), sympy.Integer(0))
            bottom = sum((_number(c / unit**j) * symbol**j for j, c in enumerate(q) if c), sympy.Integer(0))
            if top == 0 or bottom == 0:
                continue
            formulas.append(sign * sympy.sqrt(top / bottom) if squared else top / bottom)
            if null:
                return formulas[-1:]
    return formulas


def _number(value: float) -> sympy.Expr:
    return sympy.Integer(1) if value == 1.0 else sympy.Float(value, 17)


def _coefficients(t: Tensor, v: Tensor, above: int, below: int) -> tuple[list[float], list[float], bool] | None:
    """Coefficients of P and Q, with zeros, and whether ``Q y = P`` to round-off."""
    powers = torch.stack([t**j for j in range(max(above, below) + 1)], 1)
    matrix = torch.cat([powers[:, : above + 1], -v[:, None] * powers[:, : below + 1]], 1)
    live = list(range(matrix.shape[1]))
    null = False
    while True:
        part = matrix[:, live]
        norms = part.norm(dim=0).clamp_min(1e-300)
        vector = torch.linalg.svd(part / norms, full_matrices=False)[2][-1]
        residual = float((part / norms @ vector).norm())
        if residual > NULL or len(live) == 1:
            break
        null = True
        weights = vector.abs() / vector.abs().max()
        smallest = int(weights.argmin())
        if float(weights[smallest]) > ZERO or len(live) <= 2:
            break
        live.pop(smallest)
    if not null and below:
        for _ in range(3):  # weights 1 / Q make the residual that of the labels
            weight = 1 / (powers[:, : below + 1] @ _denominator(vector / norms, live, above, below)).abs().clamp_min(1e-6)
            part = matrix * weight[:, None]
            norms = part.norm(dim=0).clamp_min(1e-300)
            vector = torch.linalg.svd(part / norms, full_matrices=False)[2][-1]
    full = torch.zeros(matrix.shape[1], dtype=t.dtype)
    full[live] = vector / norms
    p, q = full[: above + 1], full[above + 1 :]
    first = next((float(c) for c in q if float(c.abs()) > ZERO * float(q.abs().max())), 0.0)
    if first == 0.0 or not math.isfinite(first):
        return None
    return (p / first).tolist(), (q / first).tolist(), null


def _denominator(vector: Tensor, live: list[int], above: int, below: int) -> Tensor:
    full = vector.new_zeros(above + below + 2)
    full[live] = vector
    q = full[above + 1 :]
    return q / q.abs().max().clamp_min(1e-300)
