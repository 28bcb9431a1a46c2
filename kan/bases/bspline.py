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

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kan.bases.base import Basis, Extrapolation, check_extrapolation, varies
from kan.bases.knots import check_knots, core, core_sites, extend_knots, increasing, quantile_grid, uniform_knots
from kan.bases.registry import register_basis
from kan.bases.slopes import Slopes
from kan.bases.spline_rows import local_values, write_rows
from kan.bases.spline_table import SplineTable, tabulate
from kan.modes import composed

__all__ = ["BSpline", "SplineTable", "basis_rows", "bspline_basis", "tabulate"]


@register_basis("bspline")
@dataclass(frozen=True)
class BSpline(Basis):
    """B-splines; the grid's rows are the knots, ``(I, G + 2k + 1)``.

    Args:
        intervals: grid intervals ``G``.
        degree: ``k``.
        extrapolation: outside of the core, ``"own"`` (pykan's rule) lets the functions fade to zero over the ``k`` outer intervals,
            ``"constant"`` keeps their values at the nearer end, ``"linear"`` their tangents there.
    """

    intervals: int = 5
    degree: int = 3
    _: KW_ONLY
    extrapolation: Extrapolation = "own"

    def __post_init__(self) -> None:
        if self.intervals < 1:
            raise ValueError(f"a grid has at least 1 interval; got {self.intervals}.")
        if self.degree < 0:
            raise ValueError(f"the degree of splines is at least 0; got {self.degree}.")
        check_extrapolation(self.extrapolation)

    @property
    def size(self) -> int:
        """``n = G + k``."""
        return self.intervals + self.degree

    def initial_grid(self, in_features: int, low: float, high: float) -> Tensor:
        """Equidistant knots, of which ``G + 1`` lie on ``[low, high]``."""
        return uniform_knots(low, high, self.intervals, self.degree, in_features, torch.float64)

    def adapted_grid(self, samples: Tensor, grid: Tensor, margin: float = 0.0, grid_eps: float = 0.02) -> tuple[Tensor, Tensor]:
        """Return knots at a mean of equal spacing, weight `grid_eps`, and quantiles of the samples; ``G + 1`` samples are needed."""
        if len(samples) < self.intervals + 1:
            return grid, torch.zeros(len(grid), dtype=torch.bool, device=grid.device)
        found = quantile_grid(samples.to(grid.dtype).sort(dim=0).values, self.intervals, grid_eps, margin)
        usable = increasing(found) & varies(samples.to(grid.dtype))
        return torch.where(usable[:, None], extend_knots(found, self.degree), grid), usable

    def prepare(self, grid: Tensor) -> SplineTable:
        """The splines' polynomial pieces."""
        if not composed():
            check_knots(grid, self.degree)
            if grid.shape[1] != self.intervals + 2 * self.degree + 1:
                raise ValueError(f"{self} has {self.intervals + 2 * self.degree + 1} knots per input; the grid has {grid.shape[1]}.")
        return tabulate(grid.detach().clone(), self.degree, self.extrapolation)

    def rows(self, x: Tensor, prepared: SplineTable) -> Tensor:
        """Values of all splines."""
        return basis_rows(x, prepared)

    def ends(self, grid: Tensor) -> Tensor:
        """Those of the core."""
        return core(grid, self.degree)[:, [0, -1]]

    def resized(self, intervals: int, degree: int) -> BSpline:
        """Splines of another degree or number of intervals."""
        return self if (intervals, degree) == (self.intervals, self.degree) else replace(self, intervals=intervals, degree=degree)

    def refined_grid(self, grid: Tensor, other: BSpline) -> Tensor:  # type: ignore[override]
        """Knots whose core is the present one read at fractional indices: point ``m`` at ``m G / G'``."""
        index = torch.arange(other.intervals + 1, dtype=torch.float64) * self.intervals / other.intervals
        below, old = index.floor().clamp(max=self.intervals - 1).long(), core(grid, self.degree)
        return extend_knots(torch.lerp(old[:, below], old[:, below + 1], (index - below).to(old)), self.degree)

    def write_rows(self, rows: Tensor, x: Tensor, prepared: SplineTable, *, slopes: bool) -> Slopes | None:
        """See `Basis.write_rows` and `kan.bases.spline_rows.write_rows`."""
        return write_rows(rows, x, prepared, slopes=slopes)

    def sites(self, grid: Tensor) -> Tensor:
        """See `core_sites`."""
        return core_sites(grid, self.degree)


def bspline_basis(x: Tensor, table: SplineTable, derivative: int = 0) -> Tensor:
    """Evaluate all B-splines, or their derivative of any order, at `x`.

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
    if composed():
        return _composed_rows(x, table, derivative)
    rows: Tensor = _Basis.apply(x, table, derivative)
    return rows


def _composed_rows(x: Tensor, table: SplineTable, derivative: int) -> Tensor:
    """Compute `basis_rows` by differentiable operations that use no buffers."""
    local = local_values(x, table, derivative)
    place = local.first + torch.arange(table.degree + 1, device=x.device)[:, None, None]
    zeros = torch.zeros(x.shape[0], table.size, x.shape[1], dtype=x.dtype, device=x.device)
    return zeros.scatter(1, place.movedim(0, 1), local.values.movedim(0, 1))


class _Basis(torch.autograd.Function):
    """Rows of B-spline values, whose derivative is the same operation for the next order."""

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
