r"""B-splines on arbitrary knots, evaluated where they are non-zero.

Symbols
    ``t``  knots of one input, ``t_0 <= ... <= t_{P-1}``; a tensor ``(I, P)`` holds one row per input;
    ``k``  degree; ``n = P - k - 1`` the number of basis functions; ``G = n - k`` the number of grid intervals;
    core   ``[t_k, t_{G+k}]``, the part of the axis where the functions sum to one.

Definition (Cox-de Boor)
    ``B_{m,0}(x) = 1`` if ``t_m <= x < t_{m+1}`` else ``0``, and

    ``B_{m,p}(x) = (x - t_m)/(t_{m+p} - t_m) B_{m,p-1}(x) + (t_{m+p+1} - x)/(t_{m+p+1} - t_{m+1}) B_{m+1,p-1}(x)``

    with ``0/0 = 0``. Outside ``[t_0, t_{P-1})`` every function is zero. For ``k = 0`` the last interval is closed, so that
    the largest sample belongs to it.

Method
    On the span ``[t_s, t_{s+1})`` only ``B_{s-k} ... B_s`` are non-zero, and each is a polynomial in
    ``u = (x - t_s)/(t_{s+1} - t_s)``. Their coefficients depend on the knots alone and are tabulated once (`tabulate`);
    a point then costs one search, one column of the table and ``k`` Horner steps, whatever ``G`` is (`kan.bases.spline_rows`).

Layout
    Inside, the batch is the last axis: points are ``(I, B)``, functions ``(I, n, B)``. The search wants it so, every elementwise
    operation is contiguous, and a layer is one product of an ``(O, I n)`` with an ``(I n, B)`` matrix. Functions for users put the batch
    first, as views.

References
    C. de Boor, "A Practical Guide to Splines", revised edition, Springer 2001, chapters IX and X.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kan.bases.spline_rows import Slopes, write_rows
from kan.bases.spline_table import SplineTable, tabulate

__all__ = [
    "SplineTable",
    "basis_rows",
    "bspline_basis",
    "check_knots",
    "core",
    "extend_knots",
    "tabulate",
    "uniform_knots",
]


def uniform_knots(low: float, high: float, intervals: int, degree: int, features: int) -> Tensor:
    """Knots ``(features, intervals + 2 degree + 1)`` of a uniform grid on ``[low, high]``, extended on both sides.

    >>> uniform_knots(-1.0, 1.0, 2, 1, features=1)
    tensor([[-2., -1.,  0.,  1.,  2.]])
    """
    grid = torch.linspace(low, high, intervals + 1)
    return extend_knots(grid.expand(features, -1), degree)


def extend_knots(grid: Tensor, degree: int) -> Tensor:
    """Core grid ``(I, G+1)`` to knots ``(I, G+2k+1)``: `degree` more on each side, at the mean spacing of the row."""
    if degree == 0:
        return grid.contiguous()
    spacing = (grid[:, -1:] - grid[:, :1]) / (grid.shape[1] - 1)
    steps = torch.arange(1, degree + 1, dtype=grid.dtype, device=grid.device)
    return torch.cat([grid[:, :1] - spacing * steps.flip(0), grid, grid[:, -1:] + spacing * steps], dim=1)


def core(knots: Tensor, degree: int) -> Tensor:
    """The grid points ``t_k ... t_{G+k}`` of extended knots, ``(I, G+1)``."""
    return knots[:, degree : knots.shape[1] - degree]


def check_knots(knots: Tensor, degree: int) -> None:
    """Raise ``ValueError`` unless `knots` is ``(I, P)`` with finite, non-decreasing rows and at least one interval."""
    if knots.dim() != 2 or knots.shape[1] < 2 * degree + 2:
        raise ValueError(
            f"knots must have the shape (in_features, intervals + 2*degree + 1) with at least one interval; "
            f"got {tuple(knots.shape)} for degree {degree}."
        )
    if not bool(torch.isfinite(knots).all()):
        raise ValueError("knots must be finite; they hold NaN or infinity.")
    falling = (knots[:, 1:] < knots[:, :-1]).any(dim=1)
    if bool(falling.any()):
        raise ValueError(f"knots must not decrease along a row; they do for the inputs {falling.nonzero()[:, 0].tolist()}.")


def bspline_basis(x: Tensor, table: SplineTable, derivative: int = 0) -> Tensor:
    """Values of all B-splines, or of their derivative of any order, at `x`.

    Args:
        x: ``(B, I)``, one column per row of knots; same dtype and device as the table.
        table: from `tabulate`.
        derivative: order ``r`` of the derivative ``d^r B_m / dx^r``; zero above the degree.

    Returns:
        ``(B, I, n)``, a view with the batch last in memory; differentiable any number of times with respect to `x`.

    >>> table = tabulate(uniform_knots(-1.0, 1.0, 4, 3, features=1), 3)
    >>> bool(torch.allclose(bspline_basis(torch.tensor([[0.3]]), table).sum(), torch.tensor(1.0)))
    True
    """
    return basis_rows(x.t(), table, derivative).permute(2, 0, 1)


def basis_rows(x: Tensor, table: SplineTable, derivative: int = 0) -> Tensor:
    """`bspline_basis` with the batch last: `x` ``(I, B)`` to ``(I, n, B)``."""
    if derivative > table.degree:
        return x.new_zeros(x.shape[0], table.size, x.shape[1])
    rows: Tensor = _Basis.apply(x, table, derivative)
    return rows


class _Basis(torch.autograd.Function):
    """Rows of B-spline values; its derivative is itself at the next order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: SplineTable, derivative: int) -> Tensor:
        rows = x.new_empty(x.shape[0], table.size, x.shape[1])
        slopes = write_rows(rows, x, table, derivative, slopes=ctx.needs_input_grad[0])
        if slopes is not None:
            ctx.save_for_backward(x, *slopes)
            ctx.table, ctx.derivative = table, derivative
        return rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x, *slopes), (grad,) = ctx.saved_tensors, grads
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            return (grad * basis_rows(x, ctx.table, ctx.derivative + 1)).sum(1), None, None
        return Slopes(*slopes).contract(grad), None, None
