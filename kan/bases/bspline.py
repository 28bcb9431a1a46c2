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
    a point then costs one search, one column of the table and ``k`` Horner steps, whatever ``G`` is.

Layout
    Inside, the batch is the last axis: points are ``(I, B)``, functions ``(I, n, B)``. The search wants it so, every elementwise operation is
    contiguous, and a layer is one product of an ``(O, I n)`` with an ``(I n, B)`` matrix. Functions for users put the batch first, as views.

References
    C. de Boor, "A Practical Guide to Splines", revised edition, Springer 2001, chapters IX and X.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "LocalValues",
    "SplineTable",
    "basis_rows",
    "bspline_basis",
    "check_knots",
    "core",
    "evaluate_local",
    "extend_knots",
    "tabulate",
    "uniform_knots",
]

COUNTED = 24
"""Most knots per input for which counting the knots below a point is quicker than searching."""


class SplineTable(NamedTuple):
    """Polynomial pieces of every B-spline on every span, made by `tabulate`.

    Attributes:
        knots: ``(I, P)``, contiguous.
        columns: ``(2 + (k + 1)^2, I * (P + 1))``: for each input the spans ``-1 ... P-1`` (the outer two are empty); their left knots
            ``t_s``, their ``1/(t_{s+1} - t_s)`` and the coefficients ``[power][function]`` of the ``k + 1`` functions of their windows.
        degree: ``k``.
    """

    knots: Tensor
    columns: Tensor
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
    return SplineTable(knots, rows.flatten(0, 1).to(knots.dtype).t().contiguous(), k)


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
    """Rows of B-spline values; keeps the local slopes, and its derivative is itself at the next order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: SplineTable, derivative: int) -> Tensor:
        local = evaluate_local(x, table, derivative, slopes=ctx.needs_input_grad[0])
        ctx.save_for_backward(x, local.slopes, local.window)
        ctx.table, ctx.derivative = table, derivative
        rows = x.new_zeros(x.shape[0], table.size, x.shape[1])
        rows.view(-1).scatter_(0, local.window, local.values.view(-1))
        return rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        (x, slopes, window), (grad,) = ctx.saved_tensors, grads
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            return (grad * basis_rows(x, ctx.table, ctx.derivative + 1)).sum(1), None, None
        return (grad.reshape(-1).index_select(0, window).view_as(slopes) * slopes).sum(0), None, None


class LocalValues(NamedTuple):
    """The ``k + 1`` possibly non-zero functions at each point.

    Attributes:
        values: ``(k+1, I, B)``.
        slopes: their derivatives, when asked for.
        window: where they go in the flattened ``(I, lead + n, B)``, ``((k+1) I B,)``.
    """

    values: Tensor
    slopes: Tensor | None
    window: Tensor


def evaluate_local(x: Tensor, table: SplineTable, derivative: int, *, slopes: bool, lead: int = 0) -> LocalValues:
    """Derivatives of order `derivative`, and one order higher for `slopes`, of the functions that are not zero at `x` ``(I, B)``.

    Args:
        x: ``(I, B)``.
        table: of the splines.
        derivative: order, at most the degree.
        slopes: whether the next order is wanted, too.
        lead: number of rows of each input that the caller keeps before its ``n`` splines.
    """
    knots, k = table.knots, table.degree
    (features, count), batch = knots.shape, x.shape[1]
    x = x.detach()
    position = _position(x, knots, k)
    inputs = torch.arange(features, device=x.device)[:, None]
    columns = (position + inputs * (count + 1)).view(1, -1)
    pieces = table.columns.gather(1, columns.expand(table.columns.shape[0], -1)).view(-1, features, batch)
    scale = pieces[1]
    u = (x - pieces[0]).mul_(scale)
    coefficients = pieces[2:].view(k + 1, k + 1, features, batch)

    # Horner's rule for the polynomial and, one step behind, for its derivative.
    values, steps = coefficients[k], None
    if derivative:
        values = values * _falling(k, derivative)
    for power in range(k - 1, derivative - 1, -1):
        if slopes:
            steps = values if steps is None else torch.addcmul(values, steps, u)
        factor = _falling(power, derivative)
        values = torch.addcmul(coefficients[power] if factor == 1 else coefficients[power] * factor, values, u)
    if slopes:
        steps = torch.zeros_like(values) if steps is None else steps * scale ** (derivative + 1)
    if derivative:
        values = values * scale**derivative

    first = (position - (k + 1)).clamp_(0, table.size - k - 1).add_(inputs * (table.size + lead) + lead).mul_(batch)
    first += torch.arange(batch, device=x.device)
    window = first + torch.arange(0, (k + 1) * batch, batch, device=x.device)[:, None, None]
    return LocalValues(values, steps, window.view(-1))


def _position(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """Index of the span plus 1, that is the number of knots at or below each point, ``(I, B)``."""
    count = knots.shape[1]
    if count <= COUNTED and not x.is_cuda:
        # A comparison with every knot is one contiguous pass; up to some knots it is quicker than a search per point.
        reached = torch.ge(x[:, None], knots[:, :, None], out=x.new_empty(x.shape[0], count, x.shape[1]))
        position = reached.sum(1).long()
    else:
        position = torch.searchsorted(knots, x.contiguous(), right=True)
    if degree == 0:
        position = torch.where(x == knots[:, -1:], count - 1, position)
    return position


def _falling(power: int, order: int) -> int:
    """``power (power - 1) ... (power - order + 1)``: the factor that `order` derivatives take out of ``u^power``."""
    return math.perm(power, order)
