"""Polynomial pieces of splines by the compiled kernels; see ``csrc/pieces.h`` and `kan.bases.spline_table`."""

from __future__ import annotations

import ctypes
from typing import NamedTuple, Protocol

from torch import Tensor

from kan.kernels.library import Library, library

__all__ = ["MAX_DEGREE", "Pieces", "Table", "closest", "pieces", "values"]

MAX_DEGREE = 5
"""Largest degree of the splines that the kernels evaluate."""


class Table(Protocol):
    """Polynomial pieces of splines."""

    @property
    def knots(self) -> Tensor:
        """Knots of every input, ``(I, P)``."""

    @property
    def columns(self) -> Tensor:
        """Left knot, inverse width and coefficients ``[power][function]`` of every span of every input, ``(2 + (k + 1)^2, I (P + 1))``."""

    @property
    def degree(self) -> int:
        """Degree ``k`` of the splines."""

    @property
    def size(self) -> int:
        """Number of functions ``n`` per input."""

    @property
    def uniform(self) -> object | None:
        """None unless the knots are equidistant and the functions are zero outside."""


class Pieces(NamedTuple):
    """Columns, spans and powers of `kan.bases.spline_table.SplineTable`, and whether all knots are equidistant up to round-off."""

    columns: Tensor
    spans: Tensor | None
    powers: tuple[Tensor, ...] | None
    equidistant: bool


def pieces(knots: Tensor, degree: int, every: bool) -> Pieces | None:
    """The pieces of the splines of `degree` on contiguous `knots` ``(I, P)``; None where the kernels cannot compute them.

    Args:
        knots: the knots.
        degree: ``k``.
        every: whether the coefficients of all functions are wanted, in addition to those of the local ones.
    """
    functions = library(knots.dtype)
    if functions is None or degree > MAX_DEGREE or knots.device.type != "cpu":
        return None
    (inputs, count), order = knots.shape, degree + 1
    columns = knots.new_empty(2 + order * order, inputs * (count + 1))
    spans = knots.new_empty(inputs, 2, count - 1) if every else None
    powers = knots.new_empty(order, inputs, count - order, count - 1) if every else None
    addresses = (ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in (knots, columns, spans, powers))
    equidistant = functions.pieces(inputs, count, degree, *addresses)
    return Pieces(columns, spans, None if powers is None else tuple(powers), bool(equidistant))


class _Table(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int32), ("degree", ctypes.c_int32), ("knots", ctypes.c_void_p), ("piece", ctypes.c_void_p)]


def _described(table: Table) -> tuple[_Table, Tensor]:
    """A table as the kernels read it, and what must live as long."""
    piece = table.columns.t().contiguous()
    return _Table(table.knots.shape[1], table.degree, table.knots.data_ptr(), piece.data_ptr()), piece


def _known(x: Tensor, *tables: Table) -> Library | None:
    """The kernels for numbers like those of `x`, if they know the splines of the tables."""
    if x.device.type != "cpu" or not all(t.degree <= MAX_DEGREE and t.knots.dtype == x.dtype and t.knots.is_contiguous() for t in tables):
        return None
    return library(x.dtype)


def values(x: Tensor, coef: Tensor, table: Table) -> Tensor | None:
    """Values ``(I, B, O)`` of splines with coefficients `coef` ``(I, O, n)`` at `x` ``(I, B)``; None where the kernels do not know them."""
    functions = _known(x, table)
    if functions is None or coef.dtype != x.dtype:
        return None
    x, coef = x.contiguous(), coef.contiguous()
    described, held = _described(table)
    found = x.new_empty(*x.shape, coef.shape[1])
    addresses = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (coef, x, found))
    functions.values(len(x), coef.shape[1], x.shape[1], ctypes.byref(described), *addresses)
    del held
    return found


def closest(coef: Tensor, old: Table, new: Table, ends: Tensor, rule: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Best approximations ``(I, O, n')``, their mean squared errors ``(I,)`` and Gram matrices ``(I, n', 2k + 1)``; None where they fail.

    Args:
        coef: ``(I, O, n)``.
        old, new: the splines, and those that approximate them, of the same degree ``k``.
        ends: of the intervals, ``(I, 2)``.
        rule: nodes and weights of the rule of Gauss and Legendre with ``k + 1`` points, ``(2, k + 1)``.
    """
    functions = _known(coef, old, new)
    if functions is None:
        return None
    coef, ends = coef.contiguous(), ends.contiguous()
    (before, held), (after, also_held) = _described(old), _described(new)
    inputs, outputs = coef.shape[:2]
    best, error = coef.new_empty(inputs, outputs, new.size), coef.new_empty(inputs)
    gram = coef.new_empty(inputs, new.size, 2 * new.degree + 1)
    at = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (coef, ends, rule[0], rule[1], best, error, gram)]
    failed = functions.closest(inputs, outputs, ctypes.byref(before), at[0], ctypes.byref(after), *at[1:])
    del held, also_held
    return None if failed else (best, error, gram)
