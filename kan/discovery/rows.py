r"""Which rows a search for a law works on.

All of them up to `MOST_ROWS`, and as many by chance of more: what a few thousand samples do not tell about the form of a law, a million do
not tell either, and every step of the search costs time and memory for each row.

These are parted in three: rows that formulas are fitted to, rows that are held out, by which they are chosen, and the outermost ones, which
no fit sees.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MOST_ROWS", "Parting", "parted", "searched_rows"]

MOST_ROWS = 4000
"""Largest number of rows that a search works on; of more, so many are drawn."""
FOLDS = 5
"""One row in so many is held out."""
OUTERMOST = 0.95
"""Quantile of the distance from the middle above which rows count as outermost."""
LEAST_FITTED = 3
"""Number of rows that are fitted, at least, where there is one more."""


class Parting(NamedTuple):
    """Masks ``(N,)`` of the rows that are fitted, that are held out, and that lie outermost; a row is in one of them at most."""

    fitted: Tensor
    held: Tensor
    outermost: Tensor


def searched_rows(x: Tensor, y: Tensor, seed: int) -> Tensor | slice:
    """The rows that a search works on, in their order; the same for the same seed.

    Those with the largest and the smallest value of a column, or of the labels, are among them, so that the ranges are those of all rows.

    Args:
        x: ``(N, n)``.
        y: ``(N, 1)``.
        seed: of the choice.

    >>> x = torch.arange(10.0**5)[:, None]
    >>> rows = searched_rows(x, x, seed=0)
    >>> len(rows), int(rows[0]), int(rows[-1])
    (4000, 0, 99999)
    """
    if len(x) <= MOST_ROWS:
        return slice(None)
    ends = torch.cat([y.argmin(0), y.argmax(0), x.argmin(0), x.argmax(0)])[: MOST_ROWS // 2].unique()
    by_chance = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed % 2**63))
    others = by_chance[:MOST_ROWS][~torch.isin(by_chance[:MOST_ROWS], ends)]
    return torch.cat([ends, others[: MOST_ROWS - len(ends)]]).sort().values


def parted(x: Tensor, y: Tensor, apart: Tensor | None = None) -> Parting:
    """The rows in three parts. Rows with the same `x` are in the same part, so that those that are held out differ from all fitted ones.

    Where so few rows are left to be fitted, or such ones, that their labels are all the same, none is outermost, or others are held out.

    Args:
        x: ``(N, n)`` with three rows at least.
        y: ``(N, 1)``, not all the same.
        apart: rows ``(N,)``, boolean, that are in none of the parts.

    >>> x = torch.arange(20.0)[:, None]
    >>> parted(x, x).held.nonzero().flatten().tolist()
    [2, 7, 12, 17]
    """
    if apart is not None and bool(apart.any()):
        use = ~apart
        masks = [torch.zeros(len(x), dtype=torch.bool) for _ in range(3)]
        for mask, part in zip(masks, parted(x[use], y[use]), strict=True):
            mask[use] = part
        return Parting(*masks)
    outermost = _outermost(x)
    numbers = torch.from_numpy(_numbers_of_different(x.numpy()))
    several: list[Parting] = []
    for every in (numbers % FOLDS, torch.arange(len(x)) % FOLDS):  # rows of which too few differ are parted by their places
        ways = [(outermost, 2), *((torch.zeros_like(outermost), fold) for fold in (2, 0, 1, 3, 4))]
        several += [Parting((every != fold) & ~out, (every == fold) & ~out, out) for out, fold in ways]
    several = [parts for parts in several if bool(parts.held.any()) and int(parts.fitted.sum()) >= min(LEAST_FITTED, len(x) - 1)]
    telling = [parts for parts in several if bool((y[parts.fitted] != y[parts.fitted][0]).any())]
    return next((parts for parts in telling if bool((x[parts.fitted] != x[parts.fitted][0]).any())), (telling or several)[0])


def _numbers_of_different(x: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row the number of different rows before the first one that is equal to it."""
    _, first, group = np.unique(x, axis=0, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), dtype=np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return np.asarray(numbers[group.reshape(-1)])


def _outermost(x: Tensor) -> Tensor:
    """The rows at the border of the box that they fill, one in twenty."""
    low, high = x.amin(0), x.amax(0)
    far = ((2 * x - low - high).abs() / (high - low).clamp_min(1e-300)).amax(1)
    return far > torch.quantile(far, OUTERMOST)
