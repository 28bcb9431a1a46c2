"""Fill values: numbers such as -999 or 9.97e36, far from all others, that take the place of missing measurements."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["rows_with_fill_values", "is_fill_value"]

MIN_GAP_OF_REPEATED = 100.0
"""Ratio of the distance of a value from the median to that of the farthest ordinary value. Above it, a value that occurs more than once is
a fill value."""
MIN_GAP_OF_SINGLE = 1000.0
"""The ratio of `MIN_GAP_OF_REPEATED` for a value that occurs once. For labels ``1/x`` with uniform ``x``, the largest one is beyond this
gap in one of a thousand data sets."""
MAX_FILL_VALUES = 3
"""Largest number of different distances from the median that the fill values of a column may have."""
MAX_SHARE_OF_ROWS = 0.3
"""Largest share of the rows of a column that may have fill values."""


def is_fill_value(values: Tensor) -> Tensor:
    """Which of ``(N,)`` values are fill values, as a boolean tensor.

    >>> is_fill_value(torch.tensor([1.0, 2.0, -999.0, 3.0, 1.5, -999.0, 2.5, 1.2])).nonzero().flatten().tolist()
    [2, 5]
    """
    distances = (values.double() - values.double().median()).abs()
    levels, counts = distances.unique(return_counts=True)
    above = counts.flip(0).cumsum(0).flip(0)
    first = max(1, len(levels) - MAX_FILL_VALUES)
    for i in range(first, len(levels)):
        gap = MIN_GAP_OF_REPEATED if bool((counts[i:] > 1).all()) else MIN_GAP_OF_SINGLE
        if float(levels[i - 1]) > 0 and int(above[i]) <= MAX_SHARE_OF_ROWS * len(values) and float(levels[i] / levels[i - 1]) > gap:
            return torch.ge(distances, levels[i])
    return torch.zeros(len(values), dtype=torch.bool)


def rows_with_fill_values(x: Tensor, y: Tensor, names: Sequence[str]) -> Tensor:
    """Which rows have a fill value in a column or as their label, ``(N,)``, boolean; a warning names the values.

    Args:
        x: the variables, ``(N, n)``.
        y: the labels, ``(N,)``.
        names: names of the columns.

    Warns:
        UserWarning: if there are fill values; it gives their columns and the number of rows that have them.
    """
    filled = torch.zeros(len(y), dtype=torch.bool)
    sentences = []
    for name, values in (("y", y), *zip(names, x.unbind(1), strict=True)):
        here = is_fill_value(values)
        if bool(here.any()):
            filled |= here
            several = ", ".join(f"{value:.6g}" for value in values[here].unique().tolist())
            sentences.append(f"{name} = {several} in {int(here.sum())} row(s)")
    if sentences:
        warnings.warn(
            f"values stand alone by orders of magnitude: {'; '.join(sentences)}. They look like fill values, so the search leaves these "
            f"rows out; verdicts count them as rows that a law should explain. Remove them from the data if nothing was measured there.",
            UserWarning,
            stacklevel=4,
        )
    return filled
