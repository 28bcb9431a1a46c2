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
    a point then costs one search, one row of the table and ``k`` Horner steps, whatever ``G`` is.

References
    C. de Boor, "A Practical Guide to Splines", revised edition, Springer 2001, chapters IX and X.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["SplineTable", "bspline_basis", "check_knots", "core", "extend_knots", "tabulate", "uniform_knots"]


class SplineTable(NamedTuple):
    """Polynomial pieces of every B-spline on every span, made by `tabulate`.

    Attributes:
        knots: ``(I, P)``, contiguous.
        rows: ``(I * (P + 1), 2 + (k + 1)^2)``: for each input the spans ``-1 ... P-1`` (the outer two are empty), each with
            the left knot ``t_s``, ``1/(t_{s+1} - t_s)`` and the coefficients ``[power][function]`` of the ``k + 1``
            functions of its window.
        degree: ``k``.
    """

    knots: Tensor
    rows: Tensor
    degree: int

    @property
    def size(self) -> int:
        """Number of basis functions ``n`` per input."""
        return self.knots.shape[1] - self.degree - 1


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
        return grid
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


def tabulate(knots: Tensor, degree: int) -> SplineTable:
    """Polynomial pieces of the B-splines of `degree` on `knots` ``(I, P)``; see `SplineTable`.

    The coefficients are computed in float64 and rounded once. Cost ``O(I P k^3)``, independent of any batch.
    """
    k = degree
    knots = knots.detach().contiguous()
    t = knots.double()
    features, count = t.shape
    size, spans = count - k - 1, count - 1

    # The recursion on the outer spans looks at k knots beyond either end. Functions that really exist never depend on them.
    reach = torch.arange(1, k + 1, dtype=t.dtype, device=t.device)
    padded = torch.cat([t[:, :1] - reach.flip(0), t, t[:, -1:] + reach], dim=1)

    def knot(offset: int) -> Tensor:
        """``t_{s + offset}`` for all spans s, ``(I, spans)``."""
        return padded[:, k + offset : k + offset + spans]

    left, width = knot(0), knot(1) - knot(0)
    pieces: dict[int, Tensor] = {0: torch.ones(features, spans, 1, dtype=t.dtype, device=t.device)}
    for p in range(1, k + 1):
        raised: dict[int, Tensor] = {}
        for m in range(-p, 1):  # the function B_{s+m,p} on span s
            total = torch.zeros(features, spans, p + 1, dtype=t.dtype, device=t.device)
            if m in pieces:
                inverse = _inverse(knot(m + p) - knot(m))
                _add_times_linear(total, pieces[m], (left - knot(m)) * inverse, width * inverse)
            if m + 1 in pieces:
                inverse = _inverse(knot(m + p + 1) - knot(m + 1))
                _add_times_linear(total, pieces[m + 1], (knot(m + p + 1) - left) * inverse, -width * inverse)
            raised[m] = total
        pieces = raised
    local = torch.stack([pieces[m] for m in range(-k, 1)], dim=-1)  # (I, spans, power, function s-k ... s)

    # Near the ends part of the window s-k ... s does not exist: shift it inside, with zeros for what is not there.
    span = torch.arange(spans, device=t.device)
    start = (span - k).clamp(0, size - k - 1)
    source = start[:, None] + torch.arange(k + 1, device=t.device) - (span[:, None] - k)  # (spans, function)
    exists = (source >= 0) & (source <= k)
    window = source.clamp(0, k)[None, :, None, :].expand(features, spans, k + 1, k + 1)
    coefficients = local.gather(3, window) * exists[None, :, None, :]

    rows = torch.zeros(features, count + 1, 2 + (k + 1) ** 2, dtype=t.dtype, device=t.device)
    rows[:, 1:-1, 0] = left
    rows[:, 1:-1, 1] = _inverse(width)
    rows[:, 1:-1, 2:] = coefficients.flatten(2)
    return SplineTable(knots, rows.flatten(0, 1).to(knots.dtype), k)


def _inverse(width: Tensor) -> Tensor:
    """``1/width``, and 0 where the width is 0 (the convention ``0/0 = 0`` of repeated knots)."""
    return torch.where(width > 0, 1 / torch.where(width > 0, width, 1.0), 0.0)


def _add_times_linear(total: Tensor, polynomial: Tensor, constant: Tensor, slope: Tensor) -> None:
    """``total += polynomial * (constant + slope u)``, coefficients by ascending power in the last axis."""
    degree = polynomial.shape[-1]
    total[..., :degree] += polynomial * constant[..., None]
    total[..., 1 : degree + 1] += polynomial * slope[..., None]


def bspline_basis(x: Tensor, table: SplineTable, derivative: int = 0) -> Tensor:
    """Values of all B-splines, or of their derivative of any order, at `x`.

    Args:
        x: ``(B, I)``, one column per row of knots; same dtype and device as the table.
        table: from `tabulate`.
        derivative: order ``r`` of the derivative ``d^r B_m / dx^r``; zero above the degree.

    Returns:
        ``(B, I, n)``; differentiable any number of times with respect to `x`.

    >>> table = tabulate(uniform_knots(-1.0, 1.0, 4, 3, features=1), 3)
    >>> bool(torch.allclose(bspline_basis(torch.tensor([[0.3]]), table).sum(), torch.tensor(1.0)))
    True
    """
    if derivative > table.degree:
        return x.new_zeros(*x.shape, table.size)
    dense: Tensor = _Basis.apply(x, table, derivative)
    return dense


class _Basis(torch.autograd.Function):
    """Dense rows of B-spline values; saves `x` alone and recomputes, its derivative is itself at the next order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: SplineTable, derivative: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.table, ctx.derivative = table, derivative
        values, window = _local(x, table, derivative)
        return x.new_zeros(*x.shape, table.size).scatter_(-1, window, values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        (x,), (grad,) = ctx.saved_tensors, grads
        order = ctx.derivative + 1
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            return (grad * bspline_basis(x, ctx.table, order)).sum(-1), None, None
        if order > ctx.table.degree:
            return torch.zeros_like(x), None, None
        values, window = _local(x, ctx.table, order)
        return (grad.gather(-1, window) * values).sum(-1), None, None


def _local(x: Tensor, table: SplineTable, derivative: int) -> tuple[Tensor, Tensor]:
    """The ``k + 1`` possibly non-zero functions at each point: their values and their indices, both ``(B, I, k+1)``."""
    knots, rows, k = table
    features, count = knots.shape
    position = torch.searchsorted(knots, x.detach().t().contiguous(), right=True).t()  # span + 1, 0 ... P
    if k == 0:
        position = torch.where(x == knots[:, -1], count - 1, position)
    offsets = torch.arange(0, features * (count + 1), count + 1, device=x.device)
    row = rows.index_select(0, (position + offsets).reshape(-1)).view(*x.shape, -1)

    scale = row[..., 1:2]
    u = (x[..., None] - row[..., 0:1]) * scale
    pieces = row[..., 2:].unflatten(-1, (k + 1, k + 1))
    values = pieces[..., k, :] * _falling(k, derivative)
    for power in range(k - 1, derivative - 1, -1):
        values = torch.addcmul(pieces[..., power, :] * _falling(power, derivative), values, u)
    if derivative:
        values = values * scale**derivative
    window = (position - (k + 1)).clamp(0, table.size - k - 1)[..., None] + torch.arange(k + 1, device=x.device)
    return values, window


def _falling(power: int, order: int) -> float:
    """``power (power - 1) ... (power - order + 1)``: the factor that `order` derivatives take out of ``u^power``."""
    factor = 1.0
    for i in range(order):
        factor *= power - i
    return factor
