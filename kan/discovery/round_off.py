r"""How far values of a formula may be from labels by round-off alone, row by row.

Every operation of floating-point arithmetic has a relative error of at most half a unit ``eps``, and so has every label. To first order,
an error ``delta_k`` of the value ``v_k`` of subexpression ``k`` changes the value of the formula by ``delta_k df/dv_k``, so that

    ``u_n = eps (|y_n| + sum_k |v_k df/dv_k|)``

bounds what round-off leaves between label and formula at row ``n``: a running error analysis. Subexpressions are sums, products, functions,
constants and variables. The sum counts for no more than `MAX_AMPLIFICATION` of the label or of the labels' spread, whichever is larger: a
formula whose large terms cancel would explain anything otherwise.

References
    N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002, section 3.3, doi:10.1137/1.9780898718027.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy
import torch
from torch import Tensor

from kan.symbolic.evaluation import evaluator

__all__ = ["misses", "spread"]

MAX_AMPLIFICATION = 1e-11
"""Largest round-off of a formula that is believed, as a share of the label or of the labels' spread."""
CHUNK = 16384
"""Number of rows that are evaluated at once: every subexpression keeps a value for each of them."""


def spread(y: Tensor) -> float:
    """Robust standard deviation of labels ``(N,)``: from the 10th to the 90th percentile, or the plain one where these are equal.

    >>> round(spread(torch.cat([torch.randn(2000, generator=torch.Generator().manual_seed(0)), torch.tensor([1e30])])), 1)
    1.0
    """
    y = y.double().flatten()
    low, high = torch.quantile(y[:: len(y) // 100_000 + 1], y.new_tensor([0.1, 0.9])).tolist()  # quantile refuses very long tensors
    return (high - low) / 2.563 if high > low else float(y.std(correction=0))


def misses(formula: sympy.Expr, columns: Mapping[sympy.Symbol, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    """What a formula misses at every row, and the unit of round-off there.

    Args:
        formula: of the symbols of `columns`.
        columns: the variables' values, ``(N,)`` each.
        y: labels, ``(N,)``.

    Returns:
        ``y - f(x)`` and ``u``, both ``(N,)``, see above. What is missed is not finite where the formula has no real value.

    >>> x = sympy.Symbol("x")
    >>> points = torch.linspace(1, 2, 5, dtype=torch.float64)
    >>> missed, unit = misses(sympy.exp(x) - 1, {x: points}, torch.exp(points) - 1)
    >>> bool((missed.abs() <= unit).all()), 1e-16 < float(unit.max()) < 1e-14
    (True, True)
    """
    y = y.double().flatten()
    largest = MAX_AMPLIFICATION * y.abs().clamp_min(spread(y))
    eps = torch.finfo(torch.float64).eps
    parts = [
        _chunk(formula, {symbol: column[start : start + CHUNK] for symbol, column in columns.items()}, y[start : start + CHUNK])
        for start in range(0, len(y), CHUNK)
    ]
    missed, amplified = (torch.cat(part) for part in zip(*parts, strict=True))
    return missed, eps * y.abs() + torch.minimum(eps * amplified, largest)


def _chunk(formula: sympy.Expr, columns: Mapping[sympy.Symbol, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    """``y - f(x)`` and ``sum_k |v_k df/dv_k|``: factors of one, a tensor for every subexpression, receive the gradient ``v_k df/dv_k``."""
    factors: list[Tensor] = []

    def observe(value: Tensor) -> Tensor:
        factors.append(torch.ones_like(y).requires_grad_())
        return value * factors[-1]

    with torch.enable_grad():
        value = evaluator(formula, columns, observe)(columns, y)
        gradients = torch.autograd.grad(value.sum(), factors, allow_unused=True, materialize_grads=True)
    amplified = torch.stack([gradient.abs() for gradient in gradients]).sum(0)
    return y - value.detach(), amplified.nan_to_num(0.0, 0.0, 0.0)
