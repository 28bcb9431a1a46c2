"""Polynomial pieces of splines by the compiled kernels; see ``csrc/pieces.h`` and `kan.bases.spline_table`."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from torch import Tensor

from kan.kernels.library import library

__all__ = ["MAX_DEGREE", "Pieces", "pieces"]

MAX_DEGREE = 5
"""Largest degree of the splines that the kernels evaluate."""


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
