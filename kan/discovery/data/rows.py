r"""The rows that a search for a law works on, and their division into fitted, held-out and outermost rows.

A search works on all rows if there are at most `MAX_SEARCHED_ROWS`, and otherwise on that many, drawn at random. Every step of the search
costs time and memory for each row, and a million rows say hardly more about the form of a law than a few thousand.

These rows are divided into three parts. Formulas are fitted to the first part and chosen by their errors on the second, which is held out.
The third part are the outermost rows, which no fit uses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MAX_SEARCHED_ROWS", "RowSplit", "split_rows", "searched_rows"]

MAX_SEARCHED_ROWS = 4000
"""Largest number of rows that a search works on; if there are more, this many are drawn at random."""
FOLDS = 5
"""Number of folds into which different rows are divided; one fold is held out, which is one row in five."""
OUTERMOST_QUANTILE = 0.95
"""Quantile of the distance from the middle of the box that the rows fill; rows beyond it are the outermost ones."""
MIN_FITTED_ROWS = 3
"""Smallest number of rows that are fitted, or one less than the number of all rows if that is smaller."""


class RowSplit(NamedTuple):
    """Masks ``(N,)`` of the fitted, the held-out and the outermost rows; each row is in at most one of them."""

    fitted: Tensor
    held: Tensor
    outermost: Tensor


def searched_rows(x: Tensor, y: Tensor, seed: int) -> Tensor | slice:
    """The rows that a search works on, in their original order; the same for the same seed.

    Rows with the largest and the smallest value of a column, or of the labels, are included, so that the ranges are those of all rows.

    Args:
        x: the variables, ``(N, n)``.
        y: the labels, ``(N, 1)``.
        seed: seed of the random choice.

    >>> x = torch.arange(10.0**5)[:, None]
    >>> rows = searched_rows(x, x, seed=0)
    >>> len(rows), int(rows[0]), int(rows[-1])
    (4000, 0, 99999)
    """
    if len(x) <= MAX_SEARCHED_ROWS:
        return slice(None)
    ends = torch.cat([y.argmin(0), y.argmax(0), x.argmin(0), x.argmax(0)])[: MAX_SEARCHED_ROWS // 2].unique()
    by_chance = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed % 2**63))
    others = by_chance[:MAX_SEARCHED_ROWS][~torch.isin(by_chance[:MAX_SEARCHED_ROWS], ends)]
    return torch.cat([ends, others[: MAX_SEARCHED_ROWS - len(ends)]]).sort().values


def split_rows(x: Tensor, y: Tensor, excluded: Tensor | None = None) -> RowSplit:
    """The division of the rows into three parts.

    Rows with the same `x` are in the same part, so that the held-out rows differ from all fitted ones. Rows of which too few differ are
    divided by their places instead. If too few rows would be fitted, or only rows with equal labels, then no row counts as outermost, or
    another fold is held out.

    Args:
        x: the variables, ``(N, n)``, with at least three rows.
        y: the labels, ``(N, 1)``, not all the same.
        excluded: rows that belong to none of the parts, ``(N,)``, boolean.

    >>> x = torch.arange(20.0)[:, None]
    >>> split_rows(x, x).held.nonzero().flatten().tolist()
    [2, 7, 12, 17]
    """
    if excluded is not None and bool(excluded.any()):
        use = ~excluded
        masks = [torch.zeros(len(x), dtype=torch.bool) for _ in range(3)]
        for mask, part in zip(masks, split_rows(x[use], y[use]), strict=True):
            mask[use] = part
        return RowSplit(*masks)
    outermost = _outermost(x)
    numbers = torch.from_numpy(_numbers_of_different(x.numpy()))
    several: list[RowSplit] = []
    for every in (numbers % FOLDS, torch.arange(len(x)) % FOLDS):  # by different rows, or else by place
        ways = [(outermost, 2), *((torch.zeros_like(outermost), fold) for fold in (2, 0, 1, 3, 4))]
        several += [RowSplit((every != fold) & ~out, (every == fold) & ~out, out) for out, fold in ways]
    several = [parts for parts in several if bool(parts.held.any()) and int(parts.fitted.sum()) >= min(MIN_FITTED_ROWS, len(x) - 1)]
    varied = [parts for parts in several if bool((y[parts.fitted] != y[parts.fitted][0]).any())]
    return next((parts for parts in varied if bool((x[parts.fitted] != x[parts.fitted][0]).any())), (varied or several)[0])


def _numbers_of_different(x: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row, the number of different rows that occur before its first copy."""
    _, first, group = np.unique(x, axis=0, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), dtype=np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return np.asarray(numbers[group.reshape(-1)])


def _outermost(x: Tensor) -> Tensor:
    """The rows nearest to the border of the box that all rows fill, one in twenty, as a mask ``(N,)``."""
    low, high = x.amin(0), x.amax(0)
    distances = ((2 * x - low - high).abs() / (high - low).clamp_min(1e-300)).amax(1)
    return distances > torch.quantile(distances, OUTERMOST_QUANTILE)
