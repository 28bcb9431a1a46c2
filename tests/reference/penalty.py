"""The penalty of a matrix of scores, entry by entry."""

import math

import numpy as np
from numpy.typing import ArrayLike


def entropy_of_rows(scores: ArrayLike) -> float:
    """Mean over the rows of ``-sum_c P log2(P + 1e-4)`` with ``P = V / (row sum + 1)``."""
    rows = np.asarray(scores, dtype=float).tolist()
    total = 0.0
    for row in rows:
        shares = [v / (sum(row) + 1) for v in row]
        total -= sum(p * math.log2(p + 1e-4) for p in shares)
    return total / len(rows)


def sparsity(scores: ArrayLike, l1: float, entropy: float) -> float:
    v = np.asarray(scores, dtype=float)
    return l1 * float(v.sum()) + entropy * (entropy_of_rows(v) + entropy_of_rows(v.T))


def coefficients(coef: ArrayLike, lamb_coef: float, lamb_coefdiff: float) -> float:
    """``lamb_coef sum_im mean_j |coef_ijm| + lamb_coefdiff sum_im mean_j |coef_ij(m+1) - coef_ijm|``."""
    c = np.asarray(coef, dtype=float)
    total = 0.0
    for i, j, m in np.ndindex(*c.shape):
        total += lamb_coef * abs(c[i, j, m]) / c.shape[1]
        if m + 1 < c.shape[2]:
            total += lamb_coefdiff * abs(c[i, j, m + 1] - c[i, j, m]) / c.shape[1]
    return total
