r"""Laws of one variable: a function of the labels that one edge explains, a quotient of polynomials, or two functions that meet.

For labels :math:`y_n` at :math:`z_n` the search goes by simplicity,

1. *one edge*, :math:`T(y z^k) = c f(a z + b) + d`, with changes T of the labels (logarithm, powers, sine ...) and powers k,
2. *quotients* :math:`P(z) / Q(z)` of polynomials of low degree, of the labels or their squares; see `kan.discovery.rational_curves`,
3. *pairs*, sums, products and compositions of two functions; see `kan.discovery.curve_pairs`,

and ends with the first stage that has a formula exact to round-off or with residuals that are noise. Formulas are solved for y, and
their constants are fitted to the labels themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import sympy
import torch
from torch import Tensor

from kan.discovery.constants import Fitted, fit_constants
from kan.discovery.curve_pairs import KINDS, pair_formulas
from kan.discovery.rational_curves import rational_formulas
from kan.discovery.suggest import DescriptionLength, fitted_candidates
from kan.symbolic.evaluation import evaluate_expression
from kan.symbolic.families import EXTENDED_LIB, Family
from kan.symbolic.library import SYMBOLIC_LIB, SymbolicFunction, resolve_library

__all__ = ["Curve", "curves"]

EXACT = 1e-12
"""Share of the root mean square of the labels below which an error is round-off."""
PROMISING = 1e-6
"""As much before the constants are fitted jointly."""
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


class _Label(NamedTuple):
    """A function of the labels, the inverse on expressions, and the interval of labels where it goes both ways."""

    name: str
    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[sympy.Expr], sympy.Expr]
    low: float = -math.inf
    high: float = math.inf
    least: float = 0.0  # size of the largest label below which the function is a straight line


_HALF = sympy.Rational(1, 2)
_SAME = _Label("y", lambda y: y, lambda e: e)
_POWERS = (
    _Label("1/y", torch.reciprocal, lambda e: 1 / e),
    _Label("y^2", torch.square, sympy.sqrt, 0.0),
    _Label("1/y^2", lambda y: y**-2, lambda e: e**-_HALF, 0.0),
    _Label("sqrt y", torch.sqrt, lambda e: e**2, 0.0),
    _Label("1/sqrt y", torch.rsqrt, lambda e: e**-2, 0.0),
)
_LOG = _Label("log y", torch.log, sympy.exp, 0.0)
_OTHERS = (
    _LOG,
    _Label("sin y", torch.sin, sympy.asin, -math.pi / 2, math.pi / 2, 0.05),
    _Label("cos y", torch.cos, sympy.acos, 0.0, math.pi, 0.05),
    _Label("tan y", torch.tan, sympy.atan, -math.pi / 2, math.pi / 2, 0.05),
    _Label("exp y", torch.exp, sympy.log, -30.0, 30.0, 0.05),
)
_GAUGES = tuple(sympy.Rational(k, 2) for k in (-2, 2, -4, 4, -1, 1, -6, 6, -3, 3, -8, 8))
_COMMON = "x x^2 x^3 x^4 1/x 1/x^2 sqrt 1/sqrt(x) exp log sin tanh arctan gaussian".split()
_HYPERBOLIC = ("cosh", "sinh", "1/(1+x^2)", "x*exp(x)")


def _never() -> bool:
    return False


def curves(
    z: Tensor,
    y: Tensor,
    symbol: sympy.Symbol,
    *,
    library: Sequence[str] | Mapping[str, Any] | None = None,
    noise: float | None = None,
    stop: Callable[[], bool] = _never,
) -> list[Curve]:
    """Formulas for a curve, the best first.

    Args:
        z: ``(N,)`` or ``(N, 1)``.
        y: as many labels.
        symbol: what formulas are written in.
        library: names of the functions that may occur, or a dictionary like ``SYMBOLIC_LIB``; then there are no others, and no quotients.
        noise: standard deviation of the errors of `y`, if known.
        stop: asked between batches; what was found so far is returned when it says so.

    Returns:
        Up to `KEPT` of them; the constant at least.

    Raises:
        ValueError: for samples that do not match or are not finite.

    >>> z = torch.linspace(0.1, 3, 200, dtype=torch.float64)
    >>> curves(z, z / (torch.exp(z) - 1), sympy.Symbol("z"))[0].formula
    z/(exp(z) - 1)
    """
    z, y = z.detach().double().flatten(), y.detach().double().flatten()
    if len(z) != len(y) or not len(z):
        raise ValueError(f"z and y must hold as many samples, at least one; got {len(z)} and {len(y)}.")
    if not bool(z.isfinite().all() and y.isfinite().all()):
        raise ValueError("z and y must be finite; they hold NaN or infinity.")
    order = z.argsort(stable=True)
    judge = _Judge(z[order], y[order], symbol, noise, stop)
    judge.consider([sympy.Float(float(y.mean()), 17)])
    varies = float(y.max() - y.min()) > 1e-14 * float(y.abs().max()) and float(z.max() - z.min()) > 1e-14 * float(z.abs().max())
    if varies:
        for formulas in _stages(judge, library):
            if judge.consider(formulas) or stop():
                break
    return judge.best()


# Stages


def _stages(judge: _Judge, library: Sequence[str] | Mapping[str, Any] | None) -> Iterator[list[sympy.Expr]]:
    """Formulas of one batch after the other."""
    few, symbol = judge.few, judge.symbol
    given = None if library is None else resolve_library(library)
    full = given or {**SYMBOLIC_LIB, **{name: EXTENDED_LIB[name] for name in _HYPERBOLIC}}
    short = given or {name: full[name] for name in [*_COMMON, *_HYPERBOLIC[:1]]}
    one = sympy.Integer(0)
    yield _edges(judge, [(_SAME, one)], full)
    if given is None:
        yield rational_formulas(*few, symbol, 3)
        yield _edges(judge, [(label, one) for label in _POWERS], full) + rational_formulas(*few, symbol, 4, squared=True)
        yield _edges(judge, [(label, one) for label in _OTHERS], full)
        yield _edges(judge, [(label, k) for k in _GAUGES[:6] for label in (_SAME, *_POWERS)], short)
        families = {name: entry for name, entry in EXTENDED_LIB.items() if isinstance(entry, Family) and "poly" not in name}
        yield _edges(judge, [(label, one) for label in (_SAME, _POWERS[0], _LOG)], families)
        yield _edges(judge, [(label, k) for k in _GAUGES[6:] for label in (_SAME, _POWERS[0])], short)
        yield _edges(judge, [(_LOG, k) for k in _GAUGES], short)
    for kind in KINDS if given is None else KINDS[:1]:
        yield pair_formulas(*few, symbol, kind, given)
    if given is None:
        for label in (_POWERS[0], _LOG, _POWERS[1]):
            if (found := _changed(*few, label, one)) is not None:
                yield [found[1] * label.inverse(formula) for formula in pair_formulas(few[0], found[0], symbol, "sum")]
        yield rational_formulas(*few, symbol, 8)
        yield rational_formulas(*few, symbol, 8, squared=True)


def _edges(
    judge: _Judge, changes: Sequence[tuple[_Label, sympy.Rational]], library: Mapping[str, SymbolicFunction | Family]
) -> list[sympy.Expr]:
    """``T(y z^k) = c f(a z + b) + d`` solved for y, for some T and k and the best f."""
    z, y = judge.few
    columns, meant = [], []
    for label, k in changes:
        if (found := _changed(z, y, label, k)) is not None:
            columns.append(found[0])
            meant.append((label, k, found[1]))
    if not columns:
        return []
    target = torch.stack(columns, 1)
    noise = judge.noise if len(changes) == 1 and changes[0][0] is _SAME else None
    formulas = []
    for (label, k, sign), found in zip(
        meant, fitted_candidates(z[:, None].expand_as(target), target, library, scoring=DescriptionLength(noise)), strict=True
    ):
        for candidate in found[:3]:
            if candidate.name == "0" or (label is _LOG and candidate.name == "log"):
                continue
            a, b, c, d = (sympy.Float(v, 17) if v not in (0.0, 1.0, -1.0) else sympy.Integer(int(v)) for v in candidate.affine.tolist())
            value = c * candidate.function.sympy_fun(a * judge.symbol + b) + d
            base = judge.symbol if float(z[0]) > 0 or k.is_integer else -judge.symbol
            with suppress(Exception):  # an expression that sympy cannot make is no candidate
                formulas.append(sign * label.inverse(value) * base**-k)
    return formulas


def _changed(z: Tensor, y: Tensor, label: _Label, k: sympy.Rational) -> tuple[Tensor, int] | None:
    """``T(s y z^k)`` and the sign s; None where that is not defined."""
    if k != 0:
        one_sign = float(z.min()) > 0 or float(z.max()) < 0
        if not (one_sign or (k.is_integer and bool((z != 0).all()))):
            return None
        y = y * (z if k.is_integer else z.abs()) ** float(k)
    sign = -1 if label.low == 0.0 and float(y.max()) <= 0 else 1
    y = sign * y
    low, high, largest = float(y.min()), float(y.max()), float(y.abs().max())
    if low < label.low or high > label.high or largest < label.least:
        return None
    changed = label.forward(y)
    spread = float(changed.max() - changed.min())
    return (changed, sign) if bool(changed.isfinite().all()) and spread > 1e-13 * float(changed.abs().max()) else None


# Judgement


class _Judge:
    """Formulas that were found for samples, which are sorted by z."""

    def __init__(self, z: Tensor, y: Tensor, symbol: sympy.Symbol, noise: float | None, stop: Callable[[], bool]) -> None:
        self.z, self.y, self.symbol, self.noise, self.stop = z, y, symbol, noise, stop
        self.scale = float(y.square().mean().sqrt()) or 1.0
        ranks = torch.linspace(0, len(z) - 1, min(len(z), SCREENED)).round().long()
        self.few = (z, y) if noise else (z[ranks], y[ranks])
        self.found: dict[str, Curve] = {}
        self.pool: list[tuple[float, int, sympy.Expr]] = []

    def consider(self, formulas: Sequence[sympy.Expr]) -> bool:
        """Take formulas in; whether one of them says all that there is to say."""
        ranked = []
        for formula in formulas:
            residual = self._residual(formula)
            rmse = float(residual.square().mean().sqrt())
            if math.isfinite(rmse):
                ranked.append((self._bits(formula, rmse), len(ranked), formula, rmse, residual))
        ranked.sort(key=lambda item: item[:2])
        done, tried = False, 0
        for bits, n, formula, rmse, residual in ranked:
            if tried < 5 and not self.stop() and (rmse <= PROMISING * self.scale or _correlation(residual) < 0.5):
                tried += 1
                done |= self._fitted(formula)
            else:
                self.pool.append((bits, n, formula))
        return done

    def best(self) -> list[Curve]:
        """All that were found; if none is exact, with the best ones of those that looked less good."""
        if not any(self._explained(self._residual(curve.formula), curve.rmse) for curve in self.found.values()):
            for _, _, formula in sorted(self.pool, key=lambda item: item[:2])[:6]:
                if self.stop():
                    break
                self._fitted(formula)
        return sorted(self.found.values(), key=lambda curve: curve.bits)[:KEPT]

    def _fitted(self, formula: sympy.Expr) -> bool:
        """Fit the constants of a formula and take it in; whether it explains the labels."""
        x = self.z[:, None]
        try:
            fit = fit_constants(formula, [self.symbol], x, self.y, evaluations=100)
            fit = self._trimmed(fit)
        except (ValueError, TypeError, OverflowError):  # no real expression
            return False
        if not math.isfinite(fit.rmse):
            return False
        curve = Curve(fit.formula, fit.rmse, self._bits(fit.formula, fit.rmse))
        key = str(fit.formula.xreplace({number: sympy.Float(float(number), 6) for number in fit.formula.atoms(sympy.Float)}))
        if key not in self.found or curve.bits < self.found[key].bits:
            self.found[key] = curve
        return self._explained(self._residual(fit.formula), fit.rmse)

    def _trimmed(self, fit: Fitted) -> Fitted:
        """`fit` with zeros, ones, and half-integers as exponents in the place of constants that might be that."""
        powers = {node.exp for node in fit.template.atoms(sympy.Pow)}
        for _ in range(4):
            near = {}
            for symbol, value in fit.constants.items():
                width = max(min(4 * fit.errors[symbol], 1e6), 1e-9 * min(1.0, abs(value) + 1e-3))
                numbers = [0, 1, -1] + ([sympy.Rational(round(2 * value), 2)] if symbol in powers and abs(value) < 50 else [])
                near.update({symbol: sympy.sympify(n) for n in numbers if symbol not in near and abs(value - float(n)) <= width})
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
        if template.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):
            return None
        rest = {symbol: value for symbol, value in fit.constants.items() if symbol not in numbers and template.has(symbol)}
        return fit_constants(template, [self.symbol], self.z[:, None], self.y, start=rest, evaluations=50)

    def _residual(self, formula: sympy.Expr) -> Tensor:
        try:
            value = evaluate_expression(formula, {self.symbol: self.z}, self.y).expand(len(self.y))
        except (ValueError, TypeError, OverflowError):
            return torch.full_like(self.y, math.nan)
        return value - self.y

    def _bits(self, formula: sympy.Expr, rmse: float) -> float:
        n = len(self.y)
        if self.noise:
            data = n / (2 * math.log(2)) * (rmse / self.noise) ** 2
        else:
            data = n * math.log2(max(rmse, EXACT * self.scale))
        constants = len(formula.atoms(sympy.Float))
        nodes = sum(1 for _ in sympy.preorder_traversal(formula))
        return data + constants / 2 * math.log2(n) + 2 * nodes

    def _explained(self, residual: Tensor, rmse: float) -> bool:
        if rmse <= EXACT * self.scale:
            return True
        if self.noise and rmse > 1.15 * self.noise:
            return False
        # Without the noise, residuals without order are noise; a formula that is not the law leaves a curve.
        return len(residual) >= 50 and rmse > 1e-9 * self.scale and abs(_correlation(residual)) < 3 / math.sqrt(len(residual))


def _correlation(residual: Tensor) -> float:
    """Between neighbours: 0 for noise, near 1 for a smooth curve."""
    r = residual - residual.mean()
    return float((r[1:] * r[:-1]).sum() / r.square().sum().clamp_min(1e-300))
