"""Rows whose labels are far from what smooth functions predict from all other rows."""

from __future__ import annotations

import numpy as np

from kan.discovery.residual_test import Smoothers, robust_scale
from kan.discovery.ridge import Array, Mask

__all__ = ["outlying_rows"]

GROUP = 400
"""Largest number of rows that are compared with each other; more rows are split into random groups."""
WIDTH = (0.5,)
"""Width of the smoothers, see `kan.discovery.residual_test.WIDTHS`."""
FAR = 8.0
"""Distance of an outlier from its prediction, in robust standard deviations of all distances."""
LARGE = 0.05
"""Least distance of an outlier from its prediction, as a share of the labels' robust standard deviation."""
MOST = 0.05
"""Largest share of the rows that may be outliers: what is more frequent belongs to the law."""
GAP = 2.5
"""Ratio of the least distance of an outlier to the largest one of all other rows. Where a law is steep, distances grow without a gap."""
SWEEPS = 3
"""Number of times that smoothers are fitted; outliers are replaced by their predictions in between."""


def outlying_rows(x: Array, y: Array) -> Mask:
    """Which of the rows are outliers, ``(N,)``.

    Args:
        x: ``(N, n)``.
        y: labels, ``(N,)``.

    Returns:
        None of them if the first group of rows has none, or where more than `MOST` of a group are far.

    >>> x = np.linspace(0, 1, 60)[:, None]
    >>> y = np.sin(6 * x[:, 0])
    >>> y[[10, 40]] += 2
    >>> outlying_rows(x, y).nonzero()[0].tolist()
    [10, 40]
    """
    found = np.zeros(len(y), dtype=bool)
    order = np.random.default_rng(0).permutation(len(y))
    for group in np.array_split(order, -(-len(y) // GROUP)):
        found[group] = _of_group(x[group], y[group])
        if not found.any():
            break
    return found


def _of_group(x: Array, y: Array) -> Mask:
    smoothers = Smoothers(x, WIDTH)
    centre = float(np.median(y))
    size = robust_scale(y - centre)
    cleaned = y - centre
    for _ in range(SWEEPS):
        predictions = cleaned - smoothers.predicted(cleaned)[0]
        distances = np.abs(y - centre - predictions)
        least = max(FAR * robust_scale(distances), LARGE * size)
        cleaned = np.where(distances > least, predictions, y - centre)
    return _beyond_a_gap(distances, least)


def _beyond_a_gap(distances: Array, least: float) -> Mask:
    """The few distances that are larger than all others by a gap, and than `least`."""
    order = np.sort(distances)[::-1][: int(MOST * len(distances)) + 1]
    ratios = order[:-1] / np.maximum(order[1:], least / GAP)
    return distances > order[np.argmax(ratios) + 1] if len(ratios) and ratios.max() > GAP else np.zeros(len(distances), dtype=bool)
