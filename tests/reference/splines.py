"""B-splines and KAN layers as their definitions say, one number at a time."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def bspline(x: float, knots: ArrayLike, m: int, p: int) -> float:
    """``B_{m,p}(x)`` by the recursion of Cox and de Boor, with ``0/0 = 0``."""
    t = np.asarray(knots, dtype=float)
    if p == 0:
        return float(t[m] <= x < t[m + 1])
    left = (x - t[m]) / (t[m + p] - t[m]) if t[m + p] > t[m] else 0.0
    right = (t[m + p + 1] - x) / (t[m + p + 1] - t[m + 1]) if t[m + p + 1] > t[m + 1] else 0.0
    return left * bspline(x, t, m, p - 1) + right * bspline(x, t, m + 1, p - 1)


def basis(x: ArrayLike, knots: ArrayLike, degree: int) -> NDArray[np.float64]:
    """All B-splines of `knots` ``(I, P)`` at `x` ``(B, I)``: ``(B, I, n)``."""
    x, knots = np.asarray(x, dtype=float), np.asarray(knots, dtype=float)
    size = knots.shape[1] - degree - 1
    values = np.zeros((*x.shape, size))
    for b, i in np.ndindex(*x.shape):
        for m in range(size):
            values[b, i, m] = bspline(x[b, i], knots[i], m, degree)
    return values


def silu(x: float) -> float:
    return x / (1 + math.exp(-x))


def edges(
    x: ArrayLike, knots: ArrayLike, degree: int, coef: ArrayLike, scale_base: ArrayLike, scale_sp: ArrayLike, mask: ArrayLike
) -> NDArray[np.float64]:
    """Every edge's output, ``(B, O, I)``."""
    x, coef = np.asarray(x, dtype=float), np.asarray(coef, dtype=float)
    scale_base, scale_sp, mask = np.asarray(scale_base), np.asarray(scale_sp), np.asarray(mask)
    splines = basis(x, knots, degree)
    values = np.zeros((x.shape[0], coef.shape[1], coef.shape[0]))
    for b, j, i in np.ndindex(*values.shape):
        spline = sum(coef[i, j, m] * splines[b, i, m] for m in range(splines.shape[2]))
        values[b, j, i] = mask[i, j] * (scale_base[i, j] * silu(x[b, i]) + scale_sp[i, j] * spline)
    return values
