r"""Evaluation of B-splines: their values and slopes as rows of a matrix with the batch last.

`local_values` is the general algorithm: it finds the span of each point and evaluates the polynomials of the ``k + 1`` functions that are
not zero there. The work is ``O(k)`` per point for any number of knots. On equidistant knots all functions are shifts of one function,

    ``B_m(x) = N((x - t_0)/h - m)``,  ``N(z) = 1/k! sum_{j <= k/2} (-1)^j binom(k+1, j) max(y - j, 0)^k``,  ``y = min(z, k + 1 - z)``,

and no table is needed. The sum over the nearer end has terms of both signs, but little cancellation.

`write_rows` writes the values into rows of zeros. With few functions it is faster to evaluate all of them, including the zeros, without
indices: by the formula on equidistant knots, otherwise by a product of the table with the 0-1 matrix of the points in each span.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kan.bases.scratch import scratch
from kan.bases.slopes import Slopes
from kan.bases.spline_table import Equidistant, SplineTable, scale
from kan.devices import at_hand
from kan.modes import composed

__all__ = ["LocalValues", "local_values", "write_rows"]

COUNTED = 24
"""Largest number of knots per input for which counting the knots below a point is faster than a search."""
LITTLE = 500_000
"""Largest product of points, functions and knots for which the 0-1 matrix is faster, measured for cubic splines on one core."""
PIECE = 1 << 17
"""Number of elements that are processed together, so that they stay in the cache."""
FEW_FUNCTIONS = 2
"""Largest number of functions, in units of ``k + 1``, for which it is faster on equidistant knots to evaluate all of them than to scatter
the local ones."""


class LocalValues(NamedTuple):
    """The values of the functions that are not zero at each point.

    Attributes:
        values: of the ``k + 1`` functions ``first, first + 1, ...``, ``(k+1, I, B)``.
        slopes: their derivatives, likewise, when asked for.
        first: ``(I, B)``, int64.
    """

    values: Tensor
    slopes: Tensor | None
    first: Tensor


def local_values(x: Tensor, table: SplineTable, derivative: int = 0, *, slopes: bool = False, keep: bool = True) -> LocalValues:
    """Evaluate the derivatives of order `derivative` of the ``k + 1`` local functions at each point of `x` ``(I, B)``.

    Without `keep`, the results are valid until the next call only.
    """
    k = table.degree
    if table.uniform is not None and derivative == 0 and not composed():
        knots = table.uniform
        # NaN gets an arbitrary index, and its values are NaN.
        first = (x - knots.start).mul_(knots.inverse).floor_().long().sub_(k).clamp_(0, table.size - k - 1)
        # Positions are measured from a nearby knot, since far from the first knot few digits would remain.
        scaled = (x - table.knots.gather(1, first)).mul_(knots.scaled)
        shape = (k + 1, *x.shape)
        values = x.new_empty(shape) if keep else scratch("local values", shape, x)
        found = None
        if slopes:
            found = x.new_empty(shape) if keep else scratch("slopes", shape, x)
        _cardinal(scaled, knots.centres[: k + 1, None], knots, knots.steepness, k, values, found)
        return LocalValues(values, found, first)

    (features, count), batch = table.knots.shape, x.shape[1]
    position = _position(x, table.knots, k)
    columns = (position + torch.arange(features, device=x.device)[:, None] * (count + 1)).reshape(1, features * batch)
    pieces = table.columns.gather(1, columns.expand(table.columns.shape[0], -1)).view(len(table.columns), features, batch)
    scale = pieces[1]
    u = (x - pieces[0]) * scale
    coefficients = pieces[2:].view(k + 1, k + 1, features, batch)
    values, steps = coefficients[k] * _falling(k, derivative) if derivative else coefficients[k], None
    for power in range(k - 1, derivative - 1, -1):
        if slopes:
            steps = values if steps is None else torch.addcmul(values, steps, u)
        factor = _falling(power, derivative)
        values = torch.addcmul(coefficients[power] if factor == 1 else coefficients[power] * factor, values, u)
    if derivative:
        values = values * scale**derivative
    if slopes:
        steps = torch.zeros_like(values) if steps is None else steps * scale ** (derivative + 1)
    return LocalValues(values, steps, (position - (k + 1)).clamp(0, table.size - k - 1))


def _cardinal(x: Tensor, centres: Tensor, knots: Equidistant, steepness: Tensor, degree: int, out: Tensor, slopes: Tensor | None) -> None:
    """``N`` at the distances ``x - centres``, all in the units of `Equidistant`, into `out`; its derivatives into `slopes`, if given."""
    k, shape = degree, tuple(out.shape)
    offsets = torch.sub(x, centres, out=scratch("offsets", shape, x))
    y = offsets.abs_() if slopes is None else torch.abs(offsets, out=scratch("distances", shape, x))
    torch.sub(knots.reach, y, out=y).clamp_(min=0)
    for j in range(k // 2 + 1):
        factor = (-1) ** j * math.comb(k + 1, j)
        if j > 0:
            y.sub_(scale(k)).clamp_(min=0)
        if slopes is None:
            power = torch.pow(y, k, out=out if j == 0 else scratch("powers", shape, x))
            if j > 0:
                out.add_(power, alpha=factor)
            continue
        power = slopes if j == 0 else scratch("powers", shape, x)
        torch.mul(y, y, out=power) if k == 3 else torch.pow(y, k - 1, out=power)
        if j == 0:
            torch.mul(power, y, out=out)
        else:
            out.addcmul_(power, y, value=factor)
            slopes.add_(power, alpha=factor)
    if slopes is not None:
        torch.copysign(slopes, offsets, out=slopes).mul_(steepness)


def write_rows(
    rows: Tensor, x: Tensor, table: SplineTable, derivative: int = 0, *, slopes: bool = False, keep: bool = True
) -> Slopes | None:
    """Write the derivatives of order `derivative` of all splines at `x` into the last ``n`` of `rows`, which need not be initialised.

    Args:
        rows: ``(I, lead + n, B)``, contiguous; the first ``lead`` rows of every input are the caller's, to be written afterwards.
        x: ``(I, B)``.
        table: of the splines.
        derivative: order, at most the degree.
        slopes: whether the derivatives of the next order are wanted, too.
        keep: whether those must outlive the next call.
    """
    x = x.detach().contiguous()
    functions = rows[:, rows.shape[1] - table.size :]
    if derivative == 0 and table.uniform is not None and table.size <= FEW_FUNCTIONS * (table.degree + 1):
        return _write_shifted(functions, x, table, slopes, keep)
    # The product with the 0-1 matrix picks exact entries only if factors are not rounded to a shorter format.
    exact = x.dtype == torch.float64 or (
        torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled(x.device.type)
    )
    little = x.numel() * table.size * table.knots.shape[1] <= LITTLE
    if derivative == 0 and table.spans is not None and little and exact and at_hand(x):
        return _write_by_product(functions, x, table, slopes)
    return _write_local(rows, x, table, derivative, slopes, keep)


def _write_shifted(rows: Tensor, x: Tensor, table: SplineTable, slopes: bool, keep: bool = True) -> Slopes | None:
    knots, shape = table.uniform, tuple(rows.shape)
    assert knots is not None
    scaled = (x - knots.start).mul_(knots.scaled)[:, None]
    found = None
    if slopes:
        found = x.new_empty(shape) if keep else scratch("slopes", shape, x)
    # A dozen operations follow, on pieces that stay in the cache.
    step = max(1, PIECE // max(1, table.size * x.shape[1]))
    for first in range(0, len(x), step):
        part = slice(first, first + step)
        to = None if found is None else found[part]
        _cardinal(scaled[part], knots.centres, knots, knots.steepness[part, None], table.degree, rows[part], to)
    return None if found is None else Slopes(found)


def _write_local(rows: Tensor, x: Tensor, table: SplineTable, derivative: int, slopes: bool, keep: bool = True) -> Slopes | None:
    local, batch = local_values(x, table, derivative, slopes=slopes, keep=keep), x.shape[1]
    before = torch.arange(len(x), device=x.device)[:, None] * rows.shape[1] + (rows.shape[1] - table.size)
    first = local.first.add_(before).mul_(batch).add_(torch.arange(batch, device=x.device)).view(-1)
    flat = rows.zero_().view(-1)
    for place, value in enumerate(local.values):
        flat[place * batch :].scatter_(0, first, value.reshape(-1))
    return None if local.slopes is None else Slopes(local.slopes, first)


def _write_by_product(rows: Tensor, x: Tensor, table: SplineTable, slopes: bool) -> Slopes | None:
    knots, k, powers = table.knots, table.degree, table.powers
    assert table.spans is not None and powers is not None
    reached = _reached(x, knots)
    if k == 0:  # the last interval is closed
        torch.gt(x, knots[:, -1:], out=reached[:, -1])
    inside = reached[:, :-1] - reached[:, 1:]
    span = torch.bmm(table.spans, inside)
    left, scale = span[:, :1], span[:, 1:]
    u = (x[:, None] - left).mul_(scale)
    if k == 0:
        torch.bmm(powers[0], inside, out=rows)
        return Slopes(torch.zeros_like(rows)) if slopes else None
    # Horner's rule for the polynomials and, one step behind, for their derivatives.
    top = torch.bmm(powers[k], inside)
    torch.mul(top, u, out=rows).baddbmm_(powers[k - 1], inside)
    steps = top
    for power in range(k - 2, -1, -1):
        if slopes:
            steps = torch.addcmul(rows, steps, u, out=steps)
        rows.mul_(u).baddbmm_(powers[power], inside)
    return Slopes(steps.mul_(scale)) if slopes else None


def _reached(x: Tensor, knots: Tensor) -> Tensor:
    """1 for every knot at or below a point, else 0: ``(I, P, B)``."""
    return torch.ge(x[:, None], knots[:, :, None], out=x.new_empty(x.shape[0], knots.shape[1], x.shape[1]))


def _position(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """Index of the span plus 1, that is the number of knots at or below each point, ``(I, B)``."""
    count = knots.shape[1]
    if composed():  # where one of the two has a batch of `vmap`, give the other one as well, or torch warns of strides
        points = x.contiguous()
        ordered, points = knots + torch.zeros_like(points).sum(1, keepdim=True), points + torch.zeros_like(knots[:, :1])
        if torch.onnx.is_in_onnx_export():  # ONNX knows no search in a sorted list
            position = (ordered[:, :, None] <= points[:, None]).long().sum(1)
        else:
            position = torch.searchsorted(ordered, points, right=True)
    elif count <= COUNTED and at_hand(x):
        position = _reached(x, knots).sum(1).long()
    else:
        position = torch.searchsorted(knots, x.contiguous(), right=True)
    if degree == 0:
        position = torch.where(x == knots[:, -1:], count - 1, position)
    return position


def _falling(power: int, order: int) -> int:
    """``power (power - 1) ... (power - order + 1)``: the factor that `order` derivatives take out of ``u^power``."""
    return math.perm(power, order)
