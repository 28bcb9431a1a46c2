r"""Polynomial pieces of B-splines, tabulated once per set of knots.

On the span ``[t_s, t_{s+1})`` only ``B_{s-k} ... B_s`` are non-zero, and each is a polynomial in ``u = (x - t_s)/(t_{s+1} - t_s)``, whose
coefficients depend on the knots alone. Symbols as in `kan.bases.bspline`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SplineTable", "tabulate"]

FEW_KNOTS = 24
"""Most knots per input for which tables over all functions are made beside those of the local ones."""


class SplineTable(NamedTuple):
    """Polynomial pieces of every B-spline on every span, made by `tabulate`.

    Attributes:
        knots: ``(I, P)``, contiguous.
        columns: ``(2 + (k + 1)^2, I * (P + 1))``: for each input the spans ``-1 ... P-1`` (the outer two are empty); their left knots
            ``t_s``, their ``1/(t_{s+1} - t_s)`` and the coefficients ``[power][function]`` of the ``k + 1`` functions of their windows.
        degree: ``k``.
        spans: ``(I, 2, P - 1)``, left knots and ``1/(t_{s+1} - t_s)`` of the spans ``0 ... P-2``; None with more than a few knots.
        powers: the coefficients of all ``n`` functions on those spans, ``(I, n, P - 1)`` for each power of ``u``; None likewise.
    """

    knots: Tensor
    columns: Tensor
    degree: int
    spans: Tensor | None = None
    powers: tuple[Tensor, ...] | None = None

    @property
    def size(self) -> int:
        """Number of basis functions ``n`` per input."""
        return self.knots.shape[1] - self.degree - 1


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
    columns = rows.flatten(0, 1).to(knots.dtype).t().contiguous()
    if count > FEW_KNOTS:
        return SplineTable(knots, columns, k)

    wide = torch.zeros(features, spans, k + 1, size, dtype=t.dtype, device=t.device)
    wide.scatter_(3, (start[:, None] + torch.arange(k + 1, device=t.device))[None, :, None, :].expand_as(coefficients), coefficients)
    powers = wide.permute(2, 0, 3, 1).to(knots.dtype).contiguous()
    return SplineTable(knots, columns, k, rows[:, 1:-1, :2].mT.to(knots.dtype).contiguous(), tuple(powers))


def _inverse(width: Tensor) -> Tensor:
    """``1/width``, and 0 where the width is 0 (the convention ``0/0 = 0`` of repeated knots)."""
    return torch.where(width > 0, 1 / torch.where(width > 0, width, 1.0), 0.0)


def _add_times_linear(total: Tensor, polynomial: Tensor, constant: Tensor, slope: Tensor) -> None:
    """``total += polynomial * (constant + slope u)``, coefficients by ascending power in the last axis."""
    degree = polynomial.shape[-1]
    total[..., :degree] += polynomial * constant[..., None]
    total[..., 1 : degree + 1] += polynomial * slope[..., None]
