r"""What smooth functions of the variables still explain of residuals: the noise floor of data, estimated from the data.

Residuals ``e`` of a candidate are noise if no function of the variables predicts them. Kernel ridge regression with a kernel ``K`` and a
ridge ``lambda`` predicts every row from all others in closed form: with ``A = (K + lambda I)^{-1}``, the error at row ``n`` of the fit to
the other rows is

    ``r_n = (A e)_n / A_nn``.

The kernels are sums of Gaussians of one variable each, and Gaussians of all variables, with several widths. Where some ``r`` is smaller
than ``e`` by more than chance allows, what is left, and not ``e``, estimates the noise. The mean of ``e^2 - r^2`` in units of its
standard error says how sure that is; squares are clipped (`CLIP`), so that single outliers decide nothing.

References
    G. Wahba, "Spline Models for Observational Data", 1990, section 4.2, doi:10.1137/1.9781611970128: leave-one-out errors of smoothers.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import scipy.linalg

from kan.discovery.ridge import Array

__all__ = ["Smoothers", "clipped_rms", "gain"]

WIDTHS = (0.2, 0.5, 1.5)
"""Widths of the Gaussians, in standard deviations of a column; those of all variables are wider by the square root of their number."""
RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Ridges, as shares of the kernel's diagonal: the variance of the noise in units of that of the function."""
WIDE_RATIO = 20.0
"""Ratio of the largest to the smallest value of a positive column from which on its logarithm is taken."""
CLIP = 6.0
"""Residuals count for at most this many robust standard deviations."""


class Smoothers:
    """Leave-one-out errors by several kernels.

    Args:
        x: ``(N, n)``, the rows that residuals will be given for. The work grows as ``N^3``, the memory as ``N^2``: about 0.3 s and
            60 MB for 500 rows.
    """

    def __init__(self, x: Array) -> None:
        positive = (x.min(0) > 0) & (x.max(0) > WIDE_RATIO * np.maximum(x.min(0), 1e-300))
        x = np.where(positive, np.log(np.where(positive, x, 1.0)), x)
        centred = x - np.median(x, axis=0)
        low, high = np.quantile(centred, (0.1, 0.9), axis=0)
        width = np.where(high > low, (high - low) / 2.563, np.std(centred, axis=0))
        self.x = centred[:, width > 0] / width[width > 0]

    @cached_property
    def _spectra(self) -> list[tuple[Array, Array]]:
        squares = np.square(self.x[:, None, :] - self.x[None, :, :]).transpose(2, 0, 1)
        kernels = []
        for width in WIDTHS:
            if len(squares) > 1:
                kernels.append(np.mean([np.exp(-one / (2 * width**2)) for one in squares], axis=0))
            if len(squares):
                kernels.append(np.exp(-squares.sum(0) / (2 * width**2 * len(squares))))
        # A constant is free.
        return [scipy.linalg.eigh(kernel + 10.0, check_finite=False) for kernel in kernels]

    @cached_property
    def _inverses(self) -> list[tuple[Array, Array, Array]]:
        """Eigenvectors, inverse eigenvalues, and the inverse's diagonal, for every kernel and ridge."""
        found = []
        for values, vectors in self._spectra:
            for ridge in RIDGES:
                inverse = 1 / (np.maximum(values, 0.0) + ridge)
                found.append((vectors, inverse, np.square(vectors) @ inverse))
        return found

    def left(self, residuals: Array) -> Array:
        """The leave-one-out errors ``(N,)`` of the smoother that predicts the residuals best."""
        best, least = residuals, clipped_rms(residuals, scale := robust_scale(residuals))
        projected: dict[int, Array] = {}
        for vectors, inverse, diagonal in self._inverses:
            if id(vectors) not in projected:
                projected[id(vectors)] = vectors.T @ residuals
            left = vectors @ (inverse * projected[id(vectors)]) / diagonal
            error = clipped_rms(left, scale)
            if error < least:
                best, least = left, error
        return best


def robust_scale(residuals: Array) -> float:
    """Standard deviation of residuals about zero, from the median of their sizes; from their squares where that is zero."""
    scale = 1.4826 * float(np.median(np.abs(residuals)))
    return scale if scale > 0 else float(np.sqrt(np.mean(np.square(residuals))))


def clipped_rms(residuals: Array, scale: float) -> float:
    """Root mean square of residuals, each counted for at most `CLIP` times `scale`."""
    return float(np.sqrt(np.mean(np.square(np.minimum(np.abs(residuals), CLIP * scale)))))


def gain(residuals: Array, others: Array) -> float:
    """By how many standard errors the mean square of `others` is below that of `residuals`, row by row; 0 for equal ones."""
    bound = CLIP * max(robust_scale(residuals), robust_scale(others))
    differences = np.square(np.minimum(np.abs(residuals), bound)) - np.square(np.minimum(np.abs(others), bound))
    deviation = float(np.std(differences))
    return float(np.mean(differences)) * math.sqrt(len(differences)) / deviation if deviation > 0 else 0.0
