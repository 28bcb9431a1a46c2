"""Outliers: rows whose labels are far from the prediction of smooth functions that are fitted to all other rows."""

from __future__ import annotations

import numpy as np

from kan.discovery.laws.residual_test import Smoothers, robust_scale
from kan.discovery.reduction.polynomials import Array, Mask

__all__ = ["outlying_rows"]

GROUP_SIZE = 400
"""Largest number of rows in a group, whose labels are predicted from each other; more rows are split into random groups."""
SMOOTHER_WIDTHS = (0.5,)
"""Width of the smoothers, in standard deviations of a column, see `kan.discovery.laws.residual_test.WIDTHS`."""
MIN_OUTLIER_DISTANCE = 8.0
"""Smallest distance of an outlier from its prediction, in robust standard deviations of all such distances."""
MIN_SHARE_OF_SPREAD = 0.05
"""Smallest distance of an outlier from its prediction, as a share of the robust standard deviation of the labels."""
MAX_OUTLYING_SHARE = 0.05
"""Largest share of the rows that may be outliers; deviations that are more frequent belong to the law."""
MIN_OUTLIERS = 3
"""Smallest number of rows that count as outliers. Fewer are more often the peak of a steep law, and the fits of candidates leave them out
by themselves (`kan.discovery.laws.candidates`)."""
MIN_OUTLYING_SHARE = 0.005
"""Smallest share of the rows that count as outliers, for the reason given at `MIN_OUTLIERS`."""
MIN_OUTLIER_GAP = 2.5
"""Smallest ratio of the distance of an outlier to the largest distance of the other rows. Where a law is steep, distances are large, too,
but they grow without a gap."""
SMOOTHER_SWEEPS = 3
"""Number of times that smoothers are fitted; between fits, the labels of outliers are replaced by their predictions."""


def outlying_rows(x: Array, y: Array) -> Mask:
    """Which of the rows are outliers, ``(N,)``.

    Args:
        x: the variables, ``(N, n)``.
        y: labels, ``(N,)``.

    Returns:
        True for outliers, of which there are none or at least `MIN_OUTLIERS`. If the first group of rows has none, the other groups are not
        searched. A group has no outliers if more than `MAX_OUTLYING_SHARE` of its rows are far from their predictions.

    >>> x = np.linspace(0, 1, 60)[:, None]
    >>> y = np.sin(6 * x[:, 0])
    >>> y[[10, 25, 40]] += 2
    >>> outlying_rows(x, y).nonzero()[0].tolist()
    [10, 25, 40]
    """
    found = np.zeros(len(y), dtype=bool)
    order = np.random.default_rng(0).permutation(len(y))
    for group in np.array_split(order, -(-len(y) // GROUP_SIZE)):
        found[group] = _of_group(x[group], y[group])
        if not found.any():
            break
    return found if found.sum() >= max(MIN_OUTLIERS, MIN_OUTLYING_SHARE * len(y)) else np.zeros(len(y), dtype=bool)


def _of_group(x: Array, y: Array) -> Mask:
    """Which rows of a group are outliers, ``(rows,)``."""
    smoothers = Smoothers(x, SMOOTHER_WIDTHS)
    centre = float(np.median(y))
    size = robust_scale(y - centre)
    cleaned = y - centre
    for _ in range(SMOOTHER_SWEEPS):
        predictions = cleaned - smoothers.predicted(cleaned)[0]
        distances = np.abs(y - centre - predictions)
        least = max(MIN_OUTLIER_DISTANCE * robust_scale(distances), MIN_SHARE_OF_SPREAD * size)
        cleaned = np.where(distances > least, predictions, y - centre)
    return _beyond_a_gap(distances, least)


def _beyond_a_gap(distances: Array, least: float) -> Mask:
    """Which distances are outliers: the few that exceed `least` and are separated from all smaller ones by a gap, see `MIN_OUTLIER_GAP`."""
    order = np.sort(distances)[::-1][: int(MAX_OUTLYING_SHARE * len(distances)) + 1]
    ratios = order[:-1] / np.maximum(order[1:], least / MIN_OUTLIER_GAP)
    if not len(ratios) or not ratios.max() > MIN_OUTLIER_GAP:
        return np.zeros(len(distances), dtype=bool)
    return np.asarray(distances > order[np.argmax(ratios) + 1])
