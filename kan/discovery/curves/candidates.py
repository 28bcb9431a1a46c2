"""Candidate formulas for a curve: their constants are fitted and simplified, and they are ranked by description length.

The description length of a formula, in bits, is

    ``N log2 max(sqrt(N / (N - P)) e, 1e-12 s) + P/2 log2 N + 2 C``

for the root mean squared error ``e``, ``P`` fitted constants, ``C`` nodes of the expression, ``N`` samples and labels of root mean square
``s``. If the standard deviation ``sigma`` of the noise is known, the first term is ``N (e / sigma)^2 / (2 ln 2)`` instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.discovery.formulas.constants import Fitted, complexity, fit_constants, is_finite
from kan.formula_text import as_expression
from kan.symbolic.evaluation import evaluate_expression

__all__ = ["MAX_RESIDUAL_BEFORE_FIT", "MAX_ROUND_OFF_RMSE", "CandidateBatch", "CurveCandidates", "CurveFormula", "resample_indices"]

MAX_ROUND_OFF_RMSE = 1e-12
"""Largest root mean squared error that may be round-off, as a share of the root mean square of the labels."""
MAX_RESIDUAL_BEFORE_FIT = 1e-8
"""Largest root mean squared error with which a candidate is fitted at once, as a share of the root mean square of the labels. Candidates
are approximate before their constants are fitted together; those with a larger error wait until the search is over."""
MIN_NOISE_ROUGHNESS = 1e-4
"""Roughness of the labels, see `_roughness`, above which they are taken to be noisy, as a share of their standard deviation."""
MAX_SCREENING_SAMPLES = 256
"""Largest number of samples on which candidates are generated and ranked. Noisy labels are all used, since averaging needs them."""
MAX_FITS_PER_BATCH = 4
"""Largest number of formulas of one batch whose constants are fitted at once."""
MAX_FITS_AT_END = 6
"""Largest number of postponed formulas whose constants are fitted at the end of a search that has explained nothing."""
MAX_RETURNED_FORMULAS = 8
"""Largest number of formulas that a search returns."""


class CurveFormula(NamedTuple):
    """A formula for a curve.

    Attributes:
        formula: the expression in the symbol that was given. Fitted constants are floating-point numbers.
        rmse: root mean squared error, in the units of the labels.
        bits: description length, comparable among the formulas of one search.
    """

    formula: sympy.Expr
    rmse: float
    bits: float


class CandidateBatch(NamedTuple):
    """Candidate formulas of one step of a search.

    Attributes:
        formulas: the candidates.
        max_residual: largest error with which a candidate is fitted at once, as a share of the root mean square of the labels.
        may_end: whether the search may end after this batch if a residual is indistinguishable from noise.
        always_fitted: number of candidates, the first ones, that are fitted at once whatever their error.
    """

    formulas: list[sympy.Expr]
    max_residual: float = MAX_RESIDUAL_BEFORE_FIT
    may_end: bool = False
    always_fitted: int = 0


class CurveCandidates:
    """The candidate formulas of a search for the law of one curve.

    Args:
        z: inputs in ascending order, ``(N,)``.
        y: labels, ``(N,)``.
        symbol: the symbol of `z` in the formulas.
        noise: standard deviation of the errors of the labels, or None.
        stop: asked before each fit; no more formulas are fitted once it returns True.
        exchange_sine_cosine: whether a sine may be written as a cosine, and vice versa, where that makes its phase smaller.
        weights: weights of the residuals, ``(N,)``.

    Attributes:
        exact: whether a formula was found whose error is round-off.
        explained: whether a formula was found whose residual is round-off or indistinguishable from noise.
        noisy: whether the labels are taken to be noisy.
        noise_level: standard deviation of the noise, given or estimated; 0 for labels without noise.
        scale: root mean square of the weighted labels.
        screening: the samples ``(z, y)`` on which candidates are generated and ranked.
    """

    def __init__(
        self,
        z: Tensor,
        y: Tensor,
        symbol: sympy.Symbol,
        noise: float | None,
        stop: Callable[[], bool],
        exchange_sine_cosine: bool,
        weights: Tensor | None = None,
    ) -> None:
        self.z, self.y, self.symbol, self.noise, self.stop, self.weights = z, y, symbol, noise, stop, weights
        weighted = y if weights is None else weights * y
        self.scale = float(weighted.square().mean().sqrt()) or 1.0
        roughness = _roughness(z, y, weights)
        self.noisy = bool(noise) or roughness > MIN_NOISE_ROUGHNESS * float(weighted.std(correction=0))
        self.noise_level = (noise or roughness) if self.noisy else 0.0
        self.screening = (z, y)
        if not self.noisy or weights is not None:
            rows = torch.linspace(0, len(z) - 1, min(len(z), MAX_SCREENING_SAMPLES)).round().long()
            if self.noisy and weights is not None:  # the fits to the screening samples take no weights
                rows = resample_indices(weights.square())
            self.screening = z[rows], y[rows]
        self.exact = self.explained = False
        self.exchange_sine_cosine = exchange_sine_cosine
        self._fitted: dict[str, CurveFormula] = {}
        self._postponed: list[tuple[float, int, sympy.Expr]] = []

    def add(self, batch: CandidateBatch) -> None:
        """Fit the most promising formulas of a batch, and postpone the others."""
        ranked, max_rmse = [], batch.max_residual * self.scale
        for n, formula in enumerate(batch.formulas):
            rmse = float(self._residual(formula).square().mean().sqrt())
            if math.isfinite(rmse):
                ranked.append((self._bits(formula, max(rmse, 0.1 * max_rmse)), n, formula, rmse))
        fits = 0
        for bits, n, formula, rmse in sorted(ranked, key=lambda item: (item[1] >= batch.always_fitted, *item[:2])):
            promising = n < batch.always_fitted or rmse <= max_rmse or self.noisy
            if fits < MAX_FITS_PER_BATCH and not self.stop() and promising:
                fits += 1
                self._fit(formula)
            else:
                self._postponed.append((bits, n, formula))

    @property
    def smallest_error(self) -> float:
        """Smallest root mean squared error of the fitted formulas; infinite without any."""
        return min((found.rmse for found in self._fitted.values()), default=math.inf)

    def best(self) -> list[CurveFormula]:
        """The fitted formulas with the shortest descriptions; if none explains the labels, the best postponed ones are fitted first."""
        if not self.explained:
            for _, _, formula in sorted(self._postponed, key=lambda item: item[:2])[:MAX_FITS_AT_END]:
                if self.stop():
                    break
                self._fit(formula)
        return sorted(self._fitted.values(), key=lambda found: found.bits)[:MAX_RETURNED_FORMULAS]

    def _fit(self, formula: sympy.Expr) -> None:
        """Fit the constants of a formula and keep it, unless it has no finite real values."""
        formula = _with_smaller_phases(formula) if self.exchange_sine_cosine else formula
        if not float(self._residual(formula).abs().max()) < 1e30 * self.scale:
            return
        try:
            with np.errstate(all="ignore"):  # a formula may overflow during its fit
                fit = fit_constants(formula, [self.symbol], self.z[:, None], self.y, evaluations=100, weights=self.weights)
                if fit.rmse <= max(1.3 * self.noise_level, 1e3 * MAX_ROUND_OFF_RMSE * self.scale):
                    fit = self._with_simple_numbers(fit)
        except (ValueError, TypeError, OverflowError):  # the expression has no real value
            return
        if not math.isfinite(fit.rmse):
            return
        new = CurveFormula(fit.formula, fit.rmse, self._bits(fit.formula, fit.rmse))
        key = str(fit.formula.xreplace({number: sympy.Float(float(number), 6) for number in fit.formula.atoms(sympy.Float)}))
        if key not in self._fitted or new.bits < self._fitted[key].bits:
            self._fitted[key] = new
        residual = self._residual(fit.formula)
        self.exact |= self._is_round_off(residual, fit.rmse) and len(self.y) > 2 * len(fit.constants)
        self.explained |= self._is_explained(residual, fit.rmse)

    def _with_simple_numbers(self, fit: Fitted) -> Fitted:
        """Replace constants by 0, 1 or -1, and exponents by half-integers, where that shortens the description."""
        exponents = {node.exp for node in fit.template.atoms(sympy.Pow)}
        for _ in range(4):
            near = {}
            for symbol, value in fit.constants.items():
                width = max(min(4 * fit.errors[symbol], 1e6), 1e-9 * min(1.0, abs(value) + 1e-3))
                numbers = [0, 1, -1] + ([sympy.Rational(round(2 * value), 2)] if symbol in exponents and abs(value) < 50 else [])
                number = next((n for n in numbers if abs(value - float(n)) <= width), None)
                if number is not None:
                    near[symbol] = as_expression(number)
            together = [near] if len(near) > 1 else []
            for trial in [*together, *({symbol: number} for symbol, number in near.items())]:
                new = self._refitted(fit, trial)
                if new is not None and self._bits(new.formula, new.rmse) < self._bits(fit.formula, fit.rmse):
                    fit = new
                    break
            else:
                break
        return fit

    def _refitted(self, fit: Fitted, numbers: Mapping[sympy.Symbol, sympy.Expr]) -> Fitted | None:
        """`fit` with some constants replaced by `numbers` and the others fitted again; None if the formula becomes infinite."""
        template = fit.template.xreplace(dict(numbers))
        if not is_finite(template):
            return None
        rest = {symbol: value for symbol, value in fit.constants.items() if symbol not in numbers and template.has(symbol)}
        return fit_constants(template, [self.symbol], self.z[:, None], self.y, start=rest, evaluations=50, weights=self.weights)

    def _residual(self, formula: sympy.Expr) -> Tensor:
        """The weighted residual, ``(N,)``; NaN if the formula cannot be evaluated."""
        try:
            value = evaluate_expression(formula, {self.symbol: self.z}, self.y).expand(len(self.y))
        except (ValueError, TypeError, OverflowError):
            return torch.full_like(self.y, math.nan)
        return value - self.y if self.weights is None else self.weights * (value - self.y)

    def _bits(self, formula: sympy.Expr, rmse: float) -> float:
        """The description length, see the head of this file."""
        n, constants = len(self.y), len(formula.atoms(sympy.Float))
        if self.noise:
            data = n / (2 * math.log(2)) * (rmse / self.noise) ** 2
        else:
            freedom = n - constants  # with as many constants as labels any labels are interpolated, which is no evidence
            data = n * math.log2(max(rmse * math.sqrt(n / freedom), MAX_ROUND_OFF_RMSE * self.scale) if freedom > 1 else self.scale)
        nodes = complexity(formula)
        return data + constants / 2 * math.log2(n) + 2 * nodes

    def _is_round_off(self, residual: Tensor, rmse: float) -> bool:
        """Whether the error is small and has no order: the residual of a close approximation is still a smooth curve."""
        limit = MAX_ROUND_OFF_RMSE * self.scale
        return rmse <= 0.02 * limit or (rmse <= limit and _correlation(residual) < 0.5)

    def _is_explained(self, residual: Tensor, rmse: float) -> bool:
        """Whether the residual is round-off or indistinguishable from noise."""
        if self._is_round_off(residual, rmse):
            return True
        if self.noise and rmse > 1.15 * self.noise:
            return False
        # Noise of neighbours is uncorrelated. A formula that is not the law leaves a curve, whose neighbours are alike.
        return len(residual) >= 50 and rmse > 1e-9 * self.scale and abs(_correlation(residual)) < 3 / math.sqrt(len(residual))


def _with_smaller_phases(formula: sympy.Expr) -> sympy.Expr:
    """The same formula with sines and cosines exchanged where that makes a phase smaller."""

    def turned(node: sympy.Expr) -> sympy.Expr:
        inside, phase = node.args[0], 0.0
        if isinstance(inside, sympy.Add):
            phase = float(sum((term for term in inside.args if term.is_Float), sympy.Integer(0)))
        quarters = round(phase / (math.pi / 2))
        if not quarters:
            return node
        rest = inside - sympy.Float(phase, 17) + sympy.Float(phase - quarters * math.pi / 2, 17)
        n = quarters + (1 if isinstance(node, sympy.cos) else 0)  # sin(u + n pi/2)
        return (sympy.cos(rest) if n % 2 else sympy.sin(rest)) * (-1 if n % 4 > 1 else 1)

    return formula.replace(lambda node: isinstance(node, (sympy.sin, sympy.cos)), turned)


def _correlation(residual: Tensor) -> float:
    """Correlation of neighbouring residuals: 0 for noise, near 1 for a smooth curve."""
    r = residual - residual.mean()
    return float((r[1:] * r[:-1]).sum() / r.square().sum().clamp_min(1e-300))


def resample_indices(weights: Tensor) -> Tensor:
    """Indices ``(N,)`` that repeat each sample in proportion to its weight, in ascending order (systematic resampling)."""
    total = weights.cumsum(0)
    return torch.searchsorted(total, (torch.arange(len(weights)) + 0.5) / len(weights) * total[-1]).clamp_max(len(weights) - 1)


def _roughness(z: Tensor, y: Tensor, sample_weights: Tensor | None = None) -> float:
    """Robust standard deviation of the noise in labels at ascending `z`, from their deviations from cubics through their neighbours.

    Each label is compared with the cubic through its two neighbours on either side. The deviation is divided by the standard deviation
    that it has for noise of standard deviation 1, and multiplied by the sample's weight, if there is one.
    """
    if len(z) < 5:
        return 0.0
    # Lagrange's weights for the value of the cubic at the sample in the middle.
    nodes = torch.stack([z[:-4], z[1:-3], z[3:-1], z[4:]], 1)
    difference = nodes[:, :, None] - nodes[:, None, :] + torch.eye(4, dtype=z.dtype)
    away = z[2:-2, None] - nodes
    product = torch.stack([torch.cat([away[:, :i], away[:, i + 1 :]], 1).prod(1) for i in range(4)], 1)
    weights = product / difference.prod(2)
    cubic = (weights * torch.stack([y[:-4], y[1:-3], y[3:-1], y[4:]], 1)).sum(1)
    off = (y[2:-2] - cubic).abs() / (1 + weights.square().sum(1)).sqrt() * (1 if sample_weights is None else sample_weights[2:-2])
    # 1.5 is about the ratio of the standard deviation of a normal distribution to the median of its absolute value.
    return 1.5 * float(off[off.isfinite()].median()) if bool(off.isfinite().any()) else 0.0
