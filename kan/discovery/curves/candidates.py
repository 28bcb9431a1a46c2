r"""What formulas for a curve are worth: their constants fitted, zeros and ones put in, and the bits of the description.

With :math:`\varepsilon` the root mean squared error, P constants and C nodes of the formula, and N samples, these are

.. math:: N \log_2 \max(\sqrt{N / (N - P)}\, \varepsilon, 10^{-12} s) + \tfrac P2 \log_2 N + 2 C,

with s the size of the labels, or :math:`\varepsilon^2 N / (2 \sigma^2 \ln 2)` for the first term where the noise :math:`\sigma` is known.
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

__all__ = ["EXACT", "PROMISING", "Batch", "Curve", "Judge", "drawn"]

EXACT = 1e-12
"""Share of the root mean square of the labels below which an error is round-off."""
PROMISING = 1e-8
"""As much before the constants are fitted jointly."""
NOISY = 1e-4
"""Share of the deviation of the labels that neighbours differ by if there is noise."""
SCREENED = 256
"""Samples that functions are ranked by where the data may be exact."""
KEPT = 8
"""Formulas that are returned at most."""


class Curve(NamedTuple):
    """A formula for a curve.

    Attributes:
        formula: in the symbol that was given; constants that were fitted are floating-point numbers.
        rmse: root mean squared error, in the units of the labels.
        bits: length of the description, comparable among the curves of one call.
    """

    formula: sympy.Expr
    rmse: float
    bits: float


class Batch(NamedTuple):
    """Formulas to be judged.

    Attributes:
        formulas: those.
        promising: share of the labels' size that formulas that are worth a fit may be off by.
        last: whether the search may end here if what is left is noise.
        sure: how many of the formulas, the first ones, are worth a fit in any case.
    """

    formulas: list[sympy.Expr]
    promising: float = PROMISING
    last: bool = False
    sure: int = 0


class Judge:
    """Formulas that were found for samples, which are sorted by z."""

    def __init__(
        self,
        z: Tensor,
        y: Tensor,
        symbol: sympy.Symbol,
        noise: float | None,
        stop: Callable[[], bool],
        cosines: bool,
        weights: Tensor | None = None,
    ) -> None:
        self.z, self.y, self.symbol, self.noise, self.stop, self.weights = z, y, symbol, noise, stop, weights
        weighted = y if weights is None else weights * y
        self.scale = float(weighted.square().mean().sqrt()) or 1.0
        rough = _roughness(z, y, weights)
        self.noisy = bool(noise) or rough > NOISY * float(weighted.std(correction=0))
        self.noise_seen = (noise or rough) if self.noisy else 0.0
        ranks = torch.linspace(0, len(z) - 1, min(len(z), SCREENED)).round().long()
        if self.noisy and weights is not None:  # labels are drawn as often as their errors weigh
            ranks = drawn(weights.square())
        self.few = (z, y) if self.noisy and weights is None else (z[ranks], y[ranks])
        self.found: dict[str, Curve] = {}
        self.pool: list[tuple[float, int, sympy.Expr]] = []
        self.exact = self.explained = False
        self.cosines = cosines

    def consider(self, batch: Batch) -> None:
        """Take formulas in."""
        ranked, promising = [], batch.promising
        for n, formula in enumerate(batch.formulas):
            rmse = float(self._residual(formula).square().mean().sqrt())
            if math.isfinite(rmse):
                ranked.append((self._bits(formula, max(rmse, 0.1 * promising * self.scale)), n, formula, rmse))
        tried = 0
        for bits, n, formula, rmse in sorted(ranked, key=lambda item: (item[1] >= batch.sure, *item[:2])):
            if tried < 4 and not self.stop() and (n < batch.sure or rmse <= promising * self.scale or self.noisy):
                tried += 1
                self._fitted(formula)
            else:
                self.pool.append((bits, n, formula))

    @property
    def least(self) -> float:
        """Error of the formula that is nearest to the labels."""
        return min((curve.rmse for curve in self.found.values()), default=math.inf)

    def best(self) -> list[Curve]:
        """All that were found; if none is exact, with the best ones of those that looked less good."""
        if not self.explained:
            for _, _, formula in sorted(self.pool, key=lambda item: item[:2])[:6]:
                if self.stop():
                    break
                self._fitted(formula)
        return sorted(self.found.values(), key=lambda curve: curve.bits)[:KEPT]

    def _fitted(self, formula: sympy.Expr) -> None:
        """Fit the constants of a formula and take it in."""
        formula = _in_phase(formula) if self.cosines else formula
        if not float(self._residual(formula).abs().max()) < 1e30 * self.scale:
            return
        try:
            with np.errstate(all="ignore"):  # of formulas that are not finite on the way
                fit = fit_constants(formula, [self.symbol], self.z[:, None], self.y, evaluations=100, weights=self.weights)
                if fit.rmse <= max(1.3 * self.noise_seen, 1e3 * EXACT * self.scale):
                    fit = self._trimmed(fit)
        except (ValueError, TypeError, OverflowError):  # no real expression
            return
        if not math.isfinite(fit.rmse):
            return
        curve = Curve(fit.formula, fit.rmse, self._bits(fit.formula, fit.rmse))
        key = str(fit.formula.xreplace({number: sympy.Float(float(number), 6) for number in fit.formula.atoms(sympy.Float)}))
        if key not in self.found or curve.bits < self.found[key].bits:
            self.found[key] = curve
        residual = self._residual(fit.formula)
        self.exact |= self._round_off(residual, fit.rmse) and len(self.y) > 2 * len(fit.constants)
        self.explained |= self._explained(residual, fit.rmse)

    def _trimmed(self, fit: Fitted) -> Fitted:
        """`fit` with zeros, ones, and half-integers as exponents in the place of constants that might be that."""
        powers = {node.exp for node in fit.template.atoms(sympy.Pow)}
        for _ in range(4):
            near = {}
            for symbol, value in fit.constants.items():
                width = max(min(4 * fit.errors[symbol], 1e6), 1e-9 * min(1.0, abs(value) + 1e-3))
                numbers = [0, 1, -1] + ([sympy.Rational(round(2 * value), 2)] if symbol in powers and abs(value) < 50 else [])
                number = next((n for n in numbers if abs(value - float(n)) <= width), None)
                if number is not None:
                    near[symbol] = as_expression(number)
            trials = [near] if len(near) > 1 else []
            for trial in [*trials, *({symbol: number} for symbol, number in near.items())]:
                new = self._with(fit, trial)
                if new is not None and self._bits(new.formula, new.rmse) < self._bits(fit.formula, fit.rmse):
                    fit = new
                    break
            else:
                break
        return fit

    def _with(self, fit: Fitted, numbers: Mapping[sympy.Symbol, sympy.Expr]) -> Fitted | None:
        template = fit.template.xreplace(dict(numbers))
        if not is_finite(template):
            return None
        rest = {symbol: value for symbol, value in fit.constants.items() if symbol not in numbers and template.has(symbol)}
        return fit_constants(template, [self.symbol], self.z[:, None], self.y, start=rest, evaluations=50, weights=self.weights)

    def _residual(self, formula: sympy.Expr) -> Tensor:
        try:
            value = evaluate_expression(formula, {self.symbol: self.z}, self.y).expand(len(self.y))
        except (ValueError, TypeError, OverflowError):
            return torch.full_like(self.y, math.nan)
        return value - self.y if self.weights is None else self.weights * (value - self.y)

    def _bits(self, formula: sympy.Expr, rmse: float) -> float:
        n, constants = len(self.y), len(formula.atoms(sympy.Float))
        if self.noise:
            data = n / (2 * math.log(2)) * (rmse / self.noise) ** 2
        else:
            left = n - constants  # as many constants as labels go through any labels
            data = n * math.log2(max(rmse * math.sqrt(n / left), EXACT * self.scale) if left > 1 else self.scale)
        nodes = complexity(formula)
        return data + constants / 2 * math.log2(n) + 2 * nodes

    def _round_off(self, residual: Tensor, rmse: float) -> bool:
        """Of errors below 1e-12 those of a close approximation are a curve still."""
        return rmse <= 0.02 * EXACT * self.scale or (rmse <= EXACT * self.scale and _correlation(residual) < 0.5)

    def _explained(self, residual: Tensor, rmse: float) -> bool:
        if self._round_off(residual, rmse):
            return True
        if self.noise and rmse > 1.15 * self.noise:
            return False
        # Without the noise, residuals without order are noise; a formula that is not the law leaves a curve.
        return len(residual) >= 50 and rmse > 1e-9 * self.scale and abs(_correlation(residual)) < 3 / math.sqrt(len(residual))


def _in_phase(formula: sympy.Expr) -> sympy.Expr:
    """With sines and cosines exchanged where that makes a phase smaller."""

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
    """Between neighbours: 0 for noise, near 1 for a smooth curve."""
    r = residual - residual.mean()
    return float((r[1:] * r[:-1]).sum() / r.square().sum().clamp_min(1e-300))


def drawn(shares: Tensor) -> Tensor:
    """Places of as many samples, each as often as its share says, in their order."""
    total = shares.cumsum(0)
    return torch.searchsorted(total, (torch.arange(len(shares)) + 0.5) / len(shares) * total[-1]).clamp_max(len(shares) - 1)


def _roughness(z: Tensor, y: Tensor, given: Tensor | None = None) -> float:
    """Deviation of samples, sorted by z, from the cubic through two neighbours on either side, in units of noise, weighted if so told."""
    if len(z) < 5:
        return 0.0
    # Lagrange's cubic through the neighbours at the middle sample; weights of noise.
    nodes = torch.stack([z[:-4], z[1:-3], z[3:-1], z[4:]], 1)
    difference = nodes[:, :, None] - nodes[:, None, :] + torch.eye(4, dtype=z.dtype)
    away = z[2:-2, None] - nodes
    product = torch.stack([torch.cat([away[:, :i], away[:, i + 1 :]], 1).prod(1) for i in range(4)], 1)
    weights = product / difference.prod(2)
    guess = (weights * torch.stack([y[:-4], y[1:-3], y[3:-1], y[4:]], 1)).sum(1)
    off = (y[2:-2] - guess).abs() / (1 + weights.square().sum(1)).sqrt() * (1 if given is None else given[2:-2])
    return 1.5 * float(off[off.isfinite()].median()) if bool(off.isfinite().any()) else 0.0
