"""The noise of the labels during a search: estimated from polynomials, given by the user, or inferred from a fitted sum of curves.

Polynomials of increasing degree leave the same residual if it is noise (`kan.discovery.reduction.polynomials.noise_floor`). Polynomials of
many columns may be too coarse to show it. If a sum of products of curves then has a much smaller error than they have, and a law with
fewer coefficients has the same error as that sum, the error common to both is taken for the noise.

Errors are relative to the standard deviation of the labels, and weighted so that they count as in the labels themselves: labels may be
transformed or divided by a factor, see `kan.discovery.reduction.views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kan.discovery.laws.candidates import Law
from kan.discovery.reduction.views import View

__all__ = ["MAX_INFORMATIVE_ERROR", "MAX_NEAR_VIEW_ERROR", "MIN_NOISE", "NoiseEstimate", "error_weights", "estimated_noise"]

MAX_INFORMATIVE_ERROR = 0.2
"""Relative error above which a network, a candidate or a polynomial is taken to say nothing about the law: a round choice."""
MAX_NEAR_VIEW_ERROR = 0.05
"""Relative error of the polynomial of a view above which the view is searched after all others: a round choice."""
MIN_NOISE = 1e-5
"""Relative error below which a fit of curves is taken to have the structure of the law, and its error not to be noise: a round choice."""
MAX_EXPLAINED_RATIO = 1.08
"""Largest error of a candidate, divided by the noise, with which the candidate explains the data. The search ends after the step that found
such a candidate. It was chosen by hand."""
MAX_RATIO_TO_POLYNOMIALS = 0.7
"""Error of a sum of products, divided by that of polynomials of all columns, below which the sum may have the structure of the law: a round
choice."""
MIN_RATIO_TO_SUM = 0.75
"""Error of a law, divided by that of the sum of products from which it was read. Above this ratio, two models with different numbers of
coefficients have the same error, which is therefore noise. On KAN-27 with 0.1 % noise,
23 laws are found with this rule and 19 without it."""


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of the labels, as far as a search knows it.

    Attributes:
        deviation: standard deviation of the labels.
        polynomial_error: root mean squared error of the best polynomial; the standard deviation of the noise if that is given.
        visible: whether that error is noise.
        inferred: relative error that a law and a sum of curves have in common, so that it is noise; 0 if there is none.
    """

    deviation: float = 1.0
    polynomial_error: float = 0.0
    visible: bool = False
    inferred: float = 0.0

    @property
    def relative_polynomial_error(self) -> float:
        """The error of the best polynomial, relative to the deviation of the labels."""
        return self.polynomial_error / max(self.deviation, 1e-300)

    @property
    def level(self) -> float:
        """The relative noise, or 0 if polynomials show none."""
        return self.relative_polynomial_error if self.visible else 0.0

    @property
    def doubtful(self) -> bool:
        """Whether the error of the best polynomial may be noise, though that is not visible."""
        return not self.visible and MIN_NOISE < self.relative_polynomial_error < MAX_INFORMATIVE_ERROR

    @property
    def max_sum_error(self) -> float:
        """Relative error below which a sum of products may have the structure of the law, when noise is to be inferred from it."""
        return min(MAX_RATIO_TO_POLYNOMIALS * self.relative_polynomial_error, MAX_NEAR_VIEW_ERROR)

    def explains(self, laws: Sequence[Law]) -> bool:
        """Whether one of the laws explains the data as well as the noise allows."""
        visible = self.visible and self.relative_polynomial_error < MAX_INFORMATIVE_ERROR
        bound = MAX_EXPLAINED_RATIO * (self.inferred * self.deviation or (self.polynomial_error if visible else 0.0))
        return any(max(law.rmse, law.held_out) < bound for law in laws)

    def after(self, sum_error: float, laws: Sequence[Law]) -> NoiseEstimate:
        """The estimate after `laws` were read from a sum of products with the relative error `sum_error`; see `MIN_RATIO_TO_SUM`."""
        error = sum_error * self.deviation
        alike = any(MIN_RATIO_TO_SUM * error < law.rmse and max(law.rmse, law.held_out) < MAX_EXPLAINED_RATIO * error for law in laws)
        largest = (MAX_RATIO_TO_POLYNOMIALS if self.visible else 1.0) * self.relative_polynomial_error
        return replace(self, inferred=sum_error) if alike and sum_error < largest else self


def estimated_noise(root: View, polynomial_errors: Sequence[tuple[float, bool]], given: float | None) -> NoiseEstimate:
    """The noise at the beginning of a search.

    Args:
        root: the data.
        polynomial_errors: for each view the error of its best polynomial, and whether that is noise, see `View.polynomial_error`.
        given: standard deviation of the noise, if it is known.
    """
    deviation = float(root.y.std())
    if given:
        return NoiseEstimate(deviation, given, True)
    least = min(error for error, _ in polynomial_errors)
    # Polynomials of fewer columns reach higher degrees, so that noise is visible in them when it is not in those of all columns.
    visible = any(is_noise for error, is_noise in polynomial_errors if error < MAX_EXPLAINED_RATIO * least)
    return NoiseEstimate(deviation, least, visible)


def error_weights(view: View, level: float, deviation: float) -> Tensor | None:
    """Weights ``(N,)`` with which errors of a view become relative errors of the labels of the search; None if there is no noise.

    Args:
        view: the view.
        level: the relative noise.
        deviation: standard deviation of the labels that the search began with.
    """
    if not level:
        return None
    share = 1 / deviation
    return torch.full((len(view.y),), share, dtype=view.y.dtype) if view.weights is None else share * view.weights
