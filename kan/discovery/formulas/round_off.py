r"""A bound on the difference between label and formula that round-off alone can cause, for every row.

Every operation of floating-point arithmetic has a relative error of at most half a unit ``eps``, and so has every label. To first order,
an error ``delta_k`` of the value ``v_k`` of subexpression ``k`` changes the value of the formula by ``delta_k df/dv_k``. Therefore

    ``u_n = eps (|y_n| + sum_k |v_k df/dv_k|)``

bounds the difference between label and formula at row ``n`` that is due to round-off. This is a running error analysis; subexpressions are
sums, products, functions, constants and variables. The part of the formula, ``eps`` times the sum over ``k``, is capped at
`MAX_AMPLIFICATION` times the label or the spread of the labels, whichever is larger. Without the cap, a formula whose large terms cancel
would explain any label.

References
    N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002, section 3.3, doi:10.1137/1.9780898718027.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy
import torch
from torch import Tensor

from kan.symbolic.evaluation import evaluator

__all__ = ["residuals_and_round_off", "spread"]

MAX_AMPLIFICATION = 1e-11
"""Largest round-off of a formula that is allowed for, as a share of the label or of the spread of the labels, whichever is larger."""
CHUNK = 16384
"""Number of rows that are evaluated at once. It bounds the memory, since every subexpression keeps a value for each of these rows."""


def spread(y: Tensor) -> float:
    """Robust standard deviation of labels ``(N,)``, from their 10th and 90th percentiles, or the plain one if these are equal.

    >>> round(spread(torch.cat([torch.randn(2000, generator=torch.Generator().manual_seed(0)), torch.tensor([1e30])])), 1)
    1.0
    """
    y = y.double().flatten()
    low, high = torch.quantile(y[:: len(y) // 100_000 + 1], y.new_tensor([0.1, 0.9])).tolist()  # quantile refuses very long tensors
    return (high - low) / 2.563 if high > low else float(y.std(correction=0))


def residuals_and_round_off(formula: sympy.Expr, columns: Mapping[sympy.Symbol, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    """The residual of a formula at every row, and the unit of round-off there.

    Args:
        formula: a formula in the symbols of `columns`.
        columns: values of the variables, ``(N,)`` each.
        y: labels, ``(N,)``.

    Returns:
        The residuals ``y - f(x)`` and the units ``u``, both ``(N,)``. A residual is not finite where the formula has no real value.

    >>> x = sympy.Symbol("x")
    >>> points = torch.linspace(1, 2, 5, dtype=torch.float64)
    >>> missed, unit = residuals_and_round_off(sympy.exp(x) - 1, {x: points}, torch.exp(points) - 1)
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
    """``y - f(x)`` and ``sum_k |v_k df/dv_k|``.

    Every subexpression is multiplied by a tensor of ones; the gradient of the formula by this tensor is ``v_k df/dv_k``.
    """
    factors: list[Tensor] = []

    def observe(value: Tensor) -> Tensor:
        factors.append(torch.ones_like(y).requires_grad_())
        return value * factors[-1]

    with torch.enable_grad():
        value = evaluator(formula, columns, observe)(columns, y)
        gradients = torch.autograd.grad(value.sum(), factors, allow_unused=True, materialize_grads=True)
    amplified = torch.stack([gradient.abs() for gradient in gradients]).sum(0)
    return y - value.detach(), amplified.nan_to_num(0.0, 0.0, 0.0)
