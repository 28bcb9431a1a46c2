r"""Tables of the polynomial pieces of B-splines, computed once per set of knots.

On the span ``[t_s, t_{s+1})`` only ``B_{s-k} ... B_s`` are non-zero, and each is a polynomial in ``u = (x - t_s)/(t_{s+1} - t_s)``, whose
coefficients depend on the knots alone. Symbols as in `kan.bases.bspline`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kan.bases.base import Extrapolation
from kan.kernels import splines
from kan.modes import composed

__all__ = ["Equidistant", "SplineTable", "scale", "tabulate"]

FEW_KNOTS = 24
"""Largest number of knots per input for which tables of all functions are made in addition to those of the local ones."""


class Equidistant(NamedTuple):
    """Constants of the splines on equidistant knots, with the scale ``r``, the k-th root of ``1/k!``.

    Attributes:
        start: first knots ``t_0``, ``(I, 1)``.
        inverse: ``1/h``, ``(I, 1)``.
        scaled: ``r/h``, ``(I, 1)``.
        steepness: ``-k r/h``, ``(I, 1)``.
        centres: centres of the functions, measured from ``t_0`` in units of ``h/r``: ``r (m + (k + 1)/2)``, ``(n, 1)``.
        reach: distance from the centre of a function to the end of its support, ``r (k + 1)/2``, 0-dim.
    """

    start: Tensor
    inverse: Tensor
    scaled: Tensor
    steepness: Tensor
    centres: Tensor
    reach: Tensor

    @classmethod
    def between(cls, knots: Tensor, degree: int) -> Equidistant:
        """Compute the constants from the first and the last of equidistant `knots` ``(I, P)``."""
        count, ends = knots.shape[1], knots[:, [0, -1]].double()
        return cls.of(ends[:, :1], (ends[:, 1:] - ends[:, :1]) / (count - 1), degree, count - degree - 1, knots.dtype)

    @classmethod
    def of(cls, start: Tensor, spacing: Tensor, degree: int, size: int, dtype: torch.dtype) -> Equidistant:
        """Compute the constants from the first knots and the spacings ``(I, 1)`` in float64."""
        root, inverse = scale(degree), _inverse(spacing)
        reach = start.new_tensor(root * (degree + 1) / 2)
        centres = root * torch.arange(size, dtype=start.dtype, device=start.device)[:, None] + reach
        found = (start, inverse, root * inverse, -degree * root * inverse, centres, reach)
        return cls(*(tensor.to(dtype) for tensor in found))

    def inputs(self, part: slice | Tensor) -> Equidistant:
        """Return the constants of some inputs; for a slice, they are views."""
        return self._replace(start=self.start[part], inverse=self.inverse[part], scaled=self.scaled[part], steepness=self.steepness[part])


def scale(degree: int) -> float:
    """Return the scale ``r`` of `Equidistant`; with lengths in units of ``h/r``, the leading coefficient of the splines is 1."""
    return float(math.factorial(degree) ** (-1 / degree))


class SplineTable(NamedTuple):
    """Polynomial pieces of every B-spline on every span, made by `tabulate`.

    Attributes:
        knots: ``(I, P)``, contiguous.
        columns: ``(2 + (k + 1)^2, I * (P + 1))``. For each input and each of the spans ``-1 ... P-1``, of which the outer two are empty,
            a column contains the left knot ``t_s``, ``1/(t_{s+1} - t_s)``, and the coefficients ``[power][function]`` of the ``k + 1``
            local functions.
        degree: ``k``.
        spans: left knots and ``1/(t_{s+1} - t_s)`` of the spans ``0 ... P-2``, ``(I, 2, P - 1)``; None for more than `FEW_KNOTS` knots.
        powers: the coefficients of all ``n`` functions on those spans, ``(I, n, P - 1)`` for each power of ``u``; None likewise.
        uniform: constants for equidistant knots, if the knots of every input are ``t_0 + h j`` up to round-off and the degree is at least
            2. All functions are then shifts of one function. Otherwise None.
    """

    knots: Tensor
    columns: Tensor
    degree: int
    spans: Tensor | None = None
    powers: tuple[Tensor, ...] | None = None
    uniform: Equidistant | None = None

    @property
    def size(self) -> int:
        """Number of basis functions ``n`` per input."""
        return self.knots.shape[1] - self.degree - 1

    def inputs(self, first: int, last: int) -> SplineTable:
        """Return the table of the inputs ``first ... last - 1``, as views."""
        if first == 0 and last == len(self.knots):
            return self
        part, column = slice(first, last), self.knots.shape[1] + 1
        return SplineTable(
            self.knots[part],
            self.columns[:, first * column : last * column],
            self.degree,
            None if self.spans is None else self.spans[part],
            None if self.powers is None else tuple(power[part] for power in self.powers),
            None if self.uniform is None else self.uniform.inputs(part),
        )

    def taken(self, inputs: Sequence[int] | Tensor) -> SplineTable:
        """Return the table of some inputs, as copies."""
        ids = torch.as_tensor(inputs, device=self.knots.device)
        return SplineTable(
            self.knots[ids],
            self.columns.unflatten(1, (len(self.knots), -1))[:, ids].flatten(1),
            self.degree,
            None if self.spans is None else self.spans[ids],
            None if self.powers is None else tuple(power[ids] for power in self.powers),
            None if self.uniform is None else self.uniform.inputs(ids),
        )


def tabulate(knots: Tensor, degree: int, extrapolation: Extrapolation = "own") -> SplineTable:
    """Tabulate the polynomial pieces of the B-splines of `degree` on `knots` ``(I, P)``; see `SplineTable`.

    The coefficients are computed in float64 and rounded once. The cost is ``O(I P k^3)``, independent of the batch.

    Args:
        knots: ``(I, P)``.
        degree: ``k``.
        extrapolation: continuation outside of ``[t_k, t_{P-1-k}]``: by the functions themselves (``"own"``), which fade to zero over the
            outer knots, by their values at the nearer end (``"constant"``), or by their tangents there (``"linear"``).
    """
    k = degree
    knots = knots.detach().contiguous()
    if extrapolation == "own" and not composed():
        found = splines.pieces(knots, k, every=knots.shape[1] <= FEW_KNOTS)
        if found is not None:
            uniform = Equidistant.between(knots, k) if k >= 2 and found.equidistant else None
            return SplineTable(knots, found.columns, k, found.spans, found.powers, uniform)
    t = knots.double()
    features, count = t.shape
    size, spans = count - k - 1, count - 1

    # The recursion on the outer spans uses k knots beyond either end, on which the actual functions do not depend.
    reach = torch.arange(1, k + 1, dtype=t.dtype, device=t.device)
    padded = torch.cat([t[:, :1] - reach.flip(0), t, t[:, -1:] + reach], dim=1)

    def knot(offset: int) -> Tensor:
        """``t_{s + offset}`` for all spans s, ``(I, spans)``."""
        return padded[:, k + offset : k + offset + spans]

    left, width = knot(0), knot(1) - knot(0)
    pieces: dict[int, Tensor] = {0: torch.ones(features, spans, 1, dtype=t.dtype, device=t.device)}
    for p in range(1, k + 1):
        raised: dict[int, list[Tensor]] = {m: [] for m in range(-p, 1)}  # the functions B_{s+m,p} on span s
        for m, terms in raised.items():
            if m in pieces:
                inverse = _inverse(knot(m + p) - knot(m))
                terms.append(_times_linear(pieces[m], (left - knot(m)) * inverse, width * inverse))
            if m + 1 in pieces:
                inverse = _inverse(knot(m + p + 1) - knot(m + 1))
                terms.append(_times_linear(pieces[m + 1], (knot(m + p + 1) - left) * inverse, -width * inverse))
        pieces = {m: terms[0] if len(terms) == 1 else terms[0] + terms[1] for m, terms in raised.items()}
    local = torch.stack([pieces[m] for m in range(-k, 1)], dim=-1)  # (I, spans, power, function s-k ... s)

    # Near the ends, some functions of the window s-k ... s do not exist. The window is shifted inside and filled with zeros.
    span = torch.arange(spans, device=t.device)
    start = (span - k).clamp(0, size - k - 1)
    source = start[:, None] + torch.arange(k + 1, device=t.device) - (span[:, None] - k)  # (spans, function)
    exists = (source >= 0) & (source <= k)
    window = source.clamp(0, k)[None, :, None, :].expand(features, spans, k + 1, k + 1)
    coefficients = local.gather(3, window) * exists[None, :, None, :]

    rows = torch.cat([left[..., None], _inverse(width)[..., None], coefficients.flatten(2)], dim=2)
    if extrapolation == "own":
        rows = F.pad(rows, (0, 0, 1, 1))  # zeros on the spans -1 and P-1
    else:
        order = 1 if extrapolation == "linear" else 0
        below = _continued(rows[:, k], coefficients[:, k], 0.0, order)
        above = _continued(rows[:, size - 1], coefficients[:, size - 1], 1.0, order)
        rows = torch.cat([*[below[:, None]] * (k + 1), rows[:, k:size], *[above[:, None]] * (k + 1)], dim=1)
    columns = rows.flatten(0, 1).to(knots.dtype).t().contiguous()
    if extrapolation != "own" or composed():
        return SplineTable(knots, columns, k)

    uniform = None
    spacing = (t[:, -1:] - t[:, :1]) / (count - 1)
    if k >= 2 and bool(((t - t[:, :1] - spacing * torch.arange(count, device=t.device)).abs() <= _rounding(knots)).all()):
        uniform = Equidistant.between(knots, k)
    if count > FEW_KNOTS:
        return SplineTable(knots, columns, k, uniform=uniform)
    wide = torch.zeros(features, spans, k + 1, size, dtype=t.dtype, device=t.device)
    wide.scatter_(3, (start[:, None] + torch.arange(k + 1, device=t.device))[None, :, None, :].expand_as(coefficients), coefficients)
    powers = wide.permute(2, 0, 3, 1).to(knots.dtype).contiguous()
    return SplineTable(knots, columns, k, rows[:, 1:-1, :2].mT.to(knots.dtype).contiguous(), tuple(powers), uniform)


def _inverse(width: Tensor) -> Tensor:
    """Return ``1/width``, and 0 where the width is 0, by the convention ``0/0 = 0`` for repeated knots."""
    return torch.where(width > 0, width.reciprocal(), 0.0)


def _times_linear(polynomial: Tensor, constant: Tensor, slope: Tensor) -> Tensor:
    """Return ``polynomial * (constant + slope u)``, with coefficients by ascending power in the last axis."""
    product = F.pad(polynomial * constant[..., None], (0, 1))
    product[..., 1:] += polynomial * slope[..., None]
    return product


def _continued(row: Tensor, coefficients: Tensor, at: float, order: int) -> Tensor:
    """Return the row ``(I, 2 + (k+1)^2)`` of a span with its pieces replaced by Taylor polynomials of `order` 0 or 1 about ``u = at``."""
    powers = torch.arange(coefficients.shape[1], dtype=row.dtype, device=row.device)[:, None]
    taylor = [(coefficients * at**powers).sum(1)]
    if order and coefficients.shape[1] > 1:
        taylor.append((coefficients * powers * at ** (powers - 1).clamp(min=0)).sum(1))
    kept = F.pad(torch.stack(taylor, dim=1), (0, 0, 0, coefficients.shape[1] - len(taylor)))
    scale = row[:, 1:2]
    end = row[:, :1] + at * _inverse(scale)
    return torch.cat([end, scale, kept.flatten(1)], dim=1)


def _rounding(knots: Tensor) -> Tensor:
    """Return the largest error of equidistant knots from rounding, ``(I, 1)``."""
    return 4 * torch.finfo(knots.dtype).eps * knots.double().abs().amax(dim=1, keepdim=True)
