r"""Whether smooth functions of the variables predict residuals; what they leave estimates the noise floor of the data.

Residuals ``e`` of a candidate are noise if no function of the variables predicts them. Kernel ridge regression with a kernel ``K`` and a
ridge ``lambda`` predicts every row from all other rows in closed form. With ``A = (K + lambda I)^{-1}``, the error at row ``n`` of the fit
to the other rows is

    ``r_n = (A e)_n / A_nn``.

The kernels are sums of Gaussians of one variable each, and Gaussians of all variables, with several widths. If ``e`` is noise, then the
prediction ``p_n = e_n - r_n`` does not depend on ``e_n``, so that

    ``t = sum_n e_n p_n / sqrt(sum_n e_n^2 p_n^2)``

has approximately the standard normal distribution. If ``t`` is larger than chance allows, the noise is estimated from ``r`` instead of
``e``. Residuals are clipped at `CLIP` robust standard deviations, so that single outliers do not decide the test.

References
    G. Wahba, "Spline Models for Observational Data", 1990, section 4.2, doi:10.1137/1.9781611970128: leave-one-out errors of smoothers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import scipy.linalg

from kan.discovery.reduction.polynomials import Array

__all__ = ["CLIP", "Smoothers", "agreement", "clipped_rms", "robust_scale"]

WIDTHS = (0.2, 0.5, 1.5)
"""Widths of the Gaussians of one variable, in standard deviations of a column. Gaussians of all variables are wider by the square root of
the number of variables."""
RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Ridges, as shares of the diagonal of the kernel. A ridge is the assumed ratio of the variance of the noise to that of the function."""
MIN_RATIO_FOR_LOG_KERNEL = 20.0
"""Ratio of the largest to the smallest value of a positive column above which smoothers use its logarithm."""
CLIP = 6.0
"""Size at which residuals are clipped, in robust standard deviations."""


class Smoothers:
    """Leave-one-out predictions of residuals by several kernels.

    Args:
        x: ``(N, n)``, the rows to which residuals belong. The work grows as ``N^3`` and the memory as ``N^2``; 500 rows take about 0.3 s
            and 60 MB.
        widths: widths of the Gaussians; `WIDTHS` when not given.
    """

    def __init__(self, x: Array, widths: Sequence[float] | None = None) -> None:
        self.widths = WIDTHS if widths is None else widths
        positive = (x.min(0) > 0) & (x.max(0) > MIN_RATIO_FOR_LOG_KERNEL * np.maximum(x.min(0), 1e-300))
        x = np.where(positive, np.log(np.where(positive, x, 1.0)), x)
        centred = x - np.median(x, axis=0)
        low, high = np.quantile(centred, (0.1, 0.9), axis=0)
        width = np.where(high > low, (high - low) / 2.563, np.std(centred, axis=0))
        self.x = centred[:, width > 0] / width[width > 0]

    @cached_property
    def _spectra(self) -> list[tuple[Array, Array]]:
        """Eigenvalues and eigenvectors of every kernel."""
        squares = np.square(self.x[:, None, :] - self.x[None, :, :]).transpose(2, 0, 1)
        kernels = []
        for width in self.widths:
            if len(squares) > 1:
                kernels.append(np.mean([np.exp(-one / (2 * width**2)) for one in squares], axis=0))
            if len(squares):
                kernels.append(np.exp(-squares.sum(0) / (2 * width**2 * len(squares))))
        # The added constant leaves the mean of the residuals nearly unpenalised.
        return [scipy.linalg.eigh(kernel + 10.0, check_finite=False) for kernel in kernels]

    @cached_property
    def _inverses(self) -> list[tuple[Array, Array, Array]]:
        """Eigenvectors of ``K``, eigenvalues of ``A`` and the diagonal of ``A``, for every kernel and ridge."""
        found = []
        for values, vectors in self._spectra:
            for ridge in RIDGES:
                inverse = 1 / (np.maximum(values, 0.0) + ridge)
                found.append((vectors, inverse, np.square(vectors) @ inverse))
        return found

    def predicted(self, residuals: Array) -> tuple[Array, float]:
        """The leave-one-out errors ``(N,)`` of the smoother that predicts residuals best, and the largest ``t`` of all smoothers.

        If no smoother has errors smaller than the residuals, the residuals themselves are returned.
        """
        scale = robust_scale(residuals)
        clipped = np.clip(residuals, -CLIP * scale, CLIP * scale)
        best, least, largest = residuals, clipped_rms(residuals, scale), 0.0
        projected: dict[int, Array] = {}
        for vectors, inverse, diagonal in self._inverses:
            if id(vectors) not in projected:
                projected[id(vectors)] = vectors.T @ clipped
            left = vectors @ (inverse * projected[id(vectors)]) / diagonal
            largest = max(largest, agreement(clipped, clipped - left))
            error = clipped_rms(left, scale)
            if error < least:
                best, least = left + (residuals - clipped), error
        return best, largest


def agreement(residuals: Array, predictions: Array) -> float:
    """``t = sum_n e_n p_n / sqrt(sum_n e_n^2 p_n^2)`` for residuals ``e`` and predictions ``p``, where ``p_n`` does not depend on ``e_n``.

    It is 0 where all predictions are 0.
    """
    bound = CLIP * robust_scale(residuals)
    products = np.clip(residuals, -bound, bound) * predictions
    size = float(np.sqrt(np.square(products).sum()))
    return float(products.sum()) / size if size > 0 else 0.0


def robust_scale(residuals: Array) -> float:
    """Standard deviation of residuals about zero, from the median of their sizes, or from their squares if that median is zero."""
    scale = 1.4826 * float(np.median(np.abs(residuals)))
    return scale if scale > 0 else float(np.sqrt(np.mean(np.square(residuals))))


def clipped_rms(residuals: Array, scale: float) -> float:
    """Root mean square of residuals, each counted for at most `CLIP` times `scale`."""
    return float(np.sqrt(np.mean(np.square(np.minimum(np.abs(residuals), CLIP * scale)))))
