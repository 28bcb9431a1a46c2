r"""Evaluation of B-splines: their values and slopes as rows of a matrix with the batch last.

Two ways, both from the tables of `kan.bases.spline_table`. With many knots: find the span of each point, gather the polynomials of the
``k + 1`` functions that live there, and scatter their values into rows of zeros; the work is ``O(k)`` per point whatever the number of
knots is. With few knots and points: multiply the table over all functions by the 0-1 matrix that says which span a point is in. That does
some work for nothing but takes few operations, needs no index, and a matrix product runs several times faster than a gather.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kan.bases.spline_table import SplineTable

__all__ = ["Slopes", "write_rows"]

COUNTED = 24
"""Most knots per input for which counting the knots below a point is quicker than searching."""
LITTLE = 500_000
"""Most points times functions times knots for which the product with the 0-1 matrix is quicker (measured for cubics on one core)."""


class Slopes(NamedTuple):
    """Derivatives of the splines at some points, kept for the backward pass.

    Attributes:
        values: of all functions, ``(I, n, B)``, or of the ``k + 1`` local ones, ``(k+1, I, B)``.
        first: of the local ones, where the first goes in the flattened rows, ``(I B,)``, the next one `B` places on; else None.
    """

    values: Tensor
    first: Tensor | None

    def contract(self, rows: Tensor) -> Tensor:
        """``sum_m rows[i, lead + m, b] dB_m(x[i, b])``, ``(I, B)`` from `rows` ``(I, lead + n, B)``."""
        if self.first is None:
            return (rows[:, rows.shape[1] - self.values.shape[1] :] * self.values).sum(1)
        flat, batch = rows.reshape(-1), rows.shape[2]
        total = flat.index_select(0, self.first) * self.values[0].view(-1)
        for place in range(1, len(self.values)):
            total.addcmul_(flat[place * batch :].index_select(0, self.first), self.values[place].view(-1))
        return total.view(self.values.shape[1:])


def write_rows(rows: Tensor, x: Tensor, table: SplineTable, derivative: int = 0, *, slopes: bool = False) -> Slopes | None:
    """Write the derivatives of order `derivative` of all splines at `x` into the last ``n`` of `rows`, which need not be initialised.

    Args:
        rows: ``(I, lead + n, B)``, contiguous; the first ``lead`` rows of every input are the caller's, to be written afterwards.
        x: ``(I, B)``.
        table: of the splines.
        derivative: order, at most the degree.
        slopes: whether the derivatives of the next order are wanted, too.
    """
    x = x.detach().contiguous()
    # The product with the 0-1 matrix picks exact entries only if factors are not rounded to a shorter format.
    exact = x.dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest"
    little = x.numel() * table.size * table.knots.shape[1] <= LITTLE
    if table.spans is not None and derivative == 0 and little and exact and not x.is_cuda:
        return _write_by_product(rows[:, rows.shape[1] - table.size :], x, table, slopes)
    return _write_by_window(rows, x, table, derivative, slopes)


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
        return Slopes(torch.zeros_like(rows), None) if slopes else None
    # Horner's rule for the polynomials and, one step behind, for their derivatives.
    top = torch.bmm(powers[k], inside)
    torch.mul(top, u, out=rows).baddbmm_(powers[k - 1], inside)
    steps = top
    for power in range(k - 2, -1, -1):
        if slopes:
            steps = torch.addcmul(rows, steps, u, out=steps)
        rows.mul_(u).baddbmm_(powers[power], inside)
    return Slopes(steps.mul_(scale), None) if slopes else None


def _write_by_window(rows: Tensor, x: Tensor, table: SplineTable, derivative: int, slopes: bool) -> Slopes | None:
    knots, k = table.knots, table.degree
    (features, count), batch = knots.shape, x.shape[1]
    position = _position(x, knots, k)
    inputs = torch.arange(features, device=x.device)[:, None]
    columns = (position + inputs * (count + 1)).view(1, -1)
    pieces = table.columns.gather(1, columns.expand(table.columns.shape[0], -1)).view(-1, features, batch)
    scale = pieces[1]
    u = (x - pieces[0]).mul_(scale)
    coefficients = pieces[2:].view(k + 1, k + 1, features, batch)

    values, steps = coefficients[k] * _falling(k, derivative) if derivative else coefficients[k], None
    for power in range(k - 1, derivative - 1, -1):
        if slopes:
            steps = values if steps is None else torch.addcmul(values, steps, u)
        factor = _falling(power, derivative)
        values = torch.addcmul(coefficients[power] if factor == 1 else coefficients[power] * factor, values, u)
    if derivative:
        values = values * scale**derivative

    before = inputs * rows.shape[1] + (rows.shape[1] - table.size)
    first = (position - (k + 1)).clamp_(0, table.size - k - 1).add_(before).mul_(batch)
    first = first.add_(torch.arange(batch, device=x.device)).view(-1)
    flat = rows.zero_().view(-1)
    for place, value in enumerate(values):
        flat[place * batch :].scatter_(0, first, value.reshape(-1))
    if not slopes:
        return None
    return Slopes(torch.zeros_like(values) if steps is None else steps * scale ** (derivative + 1), first)


def _reached(x: Tensor, knots: Tensor) -> Tensor:
    """1 for every knot at or below a point, else 0: ``(I, P, B)``."""
    return torch.ge(x[:, None], knots[:, :, None], out=x.new_empty(x.shape[0], knots.shape[1], x.shape[1]))


def _position(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """Index of the span plus 1, that is the number of knots at or below each point, ``(I, B)``."""
    count = knots.shape[1]
    if count <= COUNTED and not x.is_cuda:
        position = _reached(x, knots).sum(1).long()
    else:
        position = torch.searchsorted(knots, x, right=True)
    if degree == 0:
        position = torch.where(x == knots[:, -1:], count - 1, position)
    return position


def _falling(power: int, order: int) -> int:
    """``power (power - 1) ... (power - order + 1)``: the factor that `order` derivatives take out of ``u^power``."""
    return math.perm(power, order)
