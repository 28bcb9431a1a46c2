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

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.discovery.constants import Fitted, fit_constants
from kan.discovery.curve_pairs import KINDS, pair_formulas
from kan.discovery.rational_curves import rational_formulas
from kan.discovery.suggest import Candidate, DescriptionLength, fitted_candidates
from kan.symbolic.evaluation import evaluate_expression
from kan.symbolic.families import EXTENDED_LIB, Family
from kan.symbolic.library import SYMBOLIC_LIB, SymbolicFunction, resolve_library

__all__ = ["Curve", "curves"]

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


class _Label(NamedTuple):
    """A function of the labels, its inverse on tensors and on expressions, and the interval of labels where it goes both ways."""

    name: str
    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    inverse: Callable[[sympy.Expr], sympy.Expr]
    low: float = -math.inf
    high: float = math.inf
    least: float = 0.0  # size of the largest label below which the function is a straight line


_HALF = sympy.Rational(1, 2)
_SAME = _Label("y", lambda y: y, lambda v: v, lambda e: e)
_POWERS = (
    _Label("1/y", torch.reciprocal, torch.reciprocal, lambda e: 1 / e),
    _Label("y^2", torch.square, torch.sqrt, sympy.sqrt, 0.0),
    _Label("1/y^2", lambda y: y**-2, torch.rsqrt, lambda e: e**-_HALF, 0.0),
    _Label("sqrt y", torch.sqrt, torch.square, lambda e: e**2, 0.0),
    _Label("1/sqrt y", torch.rsqrt, lambda v: v**-2, lambda e: e**-2, 0.0),
)
_LOG = _Label("log y", torch.log, torch.exp, sympy.exp, 0.0)
_OTHERS = (
    _LOG,
    _Label("sin y", torch.sin, torch.asin, sympy.asin, -math.pi / 2, math.pi / 2, 0.05),
    _Label("cos y", torch.cos, torch.acos, sympy.acos, 0.0, math.pi, 0.05),
    _Label("tan y", torch.tan, torch.atan, sympy.atan, -math.pi / 2, math.pi / 2, 0.05),
    _Label("exp y", torch.exp, torch.log, sympy.log, -30.0, 30.0, 0.05),
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
    judge = _Judge(z[order], y[order], symbol, noise, stop, library is None)
    judge.consider(_Batch([sympy.Float(float(y.mean()), 17)], math.inf))
    varies = float(y.max() - y.min()) > 1e-14 * float(y.abs().max()) and float(z.max() - z.min()) > 1e-14 * float(z.abs().max())
    if varies:
        for batch in _stages(judge, library):
            judge.consider(batch)
            if stop() or judge.exact or (batch.last and judge.explained):
                break
    return judge.best()


# Stages


class _Batch(NamedTuple):
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


def _stages(judge: _Judge, library: Sequence[str] | Mapping[str, Any] | None) -> Iterator[_Batch]:
    """One batch after the other."""
    few, symbol = judge.few, judge.symbol
    given = None if library is None else resolve_library(library)
    one = sympy.Integer(0)
    if given is not None:
        yield _edges(judge, [(_SAME, one)], given)._replace(last=True)
        yield _Batch(pair_formulas(*few, symbol, KINDS[0], given), 1e-6, True)
        return
    full = {**SYMBOLIC_LIB, **{name: EXTENDED_LIB[name] for name in _HYPERBOLIC}}
    short = {name: full[name] for name in [*_COMMON, *_HYPERBOLIC[:1]]}
    families = {name: entry for name, entry in EXTENDED_LIB.items() if isinstance(entry, Family) and "poly" not in name}
    tight = 1e-10
    yield _edges(judge, [(_SAME, one)], full)
    yield _Batch(rational_formulas(*few, symbol, 3), tight)
    if float(judge.z[0]) >= 0:
        yield _Batch([f.subs(symbol, sympy.sqrt(symbol)) for f in rational_formulas(few[0].sqrt(), few[1], symbol, 3)], tight)
    yield _edges(judge, [(label, one) for label in _POWERS], full)
    yield _edges(judge, [(label, one) for label in _OTHERS], full)
    yield _edges(judge, [(label, k) for k in _GAUGES[:6] for label in (_SAME, *_POWERS)], short)
    yield _Batch(rational_formulas(*few, symbol, 4, squared=True), tight)
    yield _edges(judge, [(label, one) for label in (_SAME, _POWERS[0], _LOG)], families)
    yield _edges(judge, [(label, k) for k in _GAUGES[6:] for label in (_SAME, _POWERS[0])], short)
    yield _edges(judge, [(_LOG, k) for k in _GAUGES], short)._replace(last=True)
    for kind in KINDS:
        yield _Batch(pair_formulas(*few, symbol, kind), 1e-6, kind == KINDS[-1])
    for label in (_POWERS[0], _LOG, _POWERS[1]):
        if (found := _changed(judge, label, one)) is not None:
            formulas = pair_formulas(found.z, found.labels, symbol, "sum")
            yield _Batch([found.sign * label.inverse(formula) for formula in formulas], 1e-6)
    yield _Batch(rational_formulas(*few, symbol, 8), tight)
    yield _Batch(rational_formulas(*few, symbol, 8, squared=True), tight)


def _edges(judge: _Judge, changes: Sequence[tuple[_Label, sympy.Rational]], library: Mapping[str, SymbolicFunction | Family]) -> _Batch:
    """``T(y z^k) = c f(a z + b) + d`` solved for y, for those T, k and f that come nearest to the labels."""
    z, y = judge.few
    meant = [(label, k, found) for label, k in changes if (found := _changed(judge, label, k)) is not None]
    if not meant:
        return _Batch([])
    at, target = torch.stack([seen.z for *_, seen in meant], 1), torch.stack([seen.labels for *_, seen in meant], 1)
    noise = judge.noise if len(changes) == 1 and changes[0][0] is _SAME else None
    fits = fitted_candidates(at, target, library, scoring=DescriptionLength(noise))
    ranked: list[tuple[bool, float, int, _Label, sympy.Rational, int, Candidate]] = []
    for (label, k, seen), candidates in zip(meant, fits, strict=True):
        for candidate in candidates[:3]:
            if candidate.name == "0" or (label is _LOG and candidate.name == "log"):
                continue
            a, b, c, d = candidate.affine.tolist()
            value = label.back(c * candidate.function.torch_fun(a * z + b) + d) * seen.sign
            rmse = float((value * (z if k.is_integer else z.abs()) ** -float(k) - y).square().mean().sqrt())
            if math.isfinite(rmse):
                # Where the labels' changes span many orders of magnitude, a fit to their last digit may miss the labels by more.
                unsure = math.sqrt(candidate.rss) > EXACT * float(seen.labels.norm())
                bits = 0.0 if unsure is False else len(y) * math.log2(max(rmse, 0.1 * PROMISING * judge.scale))
                bits += candidate.bits - candidate.r2_loss + 4 * (k != 0) + 2 * float(abs(k))
                ranked.append((unsure, bits, len(ranked), label, k, seen.sign, candidate))
    formulas, sure = [], 0
    for unsure, _, _, label, k, sign, candidate in sorted(ranked, key=lambda item: item[:3])[:6]:
        numbers = [sympy.Float(v, 17) if v not in (0.0, 1.0, -1.0) else sympy.Integer(int(v)) for v in candidate.affine.tolist()]
        base = judge.symbol if float(z[0]) > 0 or k.is_integer else -judge.symbol
        with suppress(Exception):  # an expression that sympy cannot make is no candidate
            inside = candidate.function.sympy_fun(numbers[0] * judge.symbol + numbers[1])
            formulas.append(sign * label.inverse(numbers[2] * inside + numbers[3]) * base**-k)
            sure += not unsure
    return _Batch(formulas, sure=sure)


class _Changed(NamedTuple):
    """``T(s y z^k)`` at z, with the sign s."""

    z: Tensor
    labels: Tensor
    sign: int


def _changed(judge: _Judge, label: _Label, k: sympy.Rational) -> _Changed | None:
    """None where that is not defined; noise may take labels a little out of where it is."""
    z, y = judge.few
    slack = 4 * judge.noise_seen
    factor = torch.ones_like(z)
    if k != 0:
        one_sign = float(z.min()) > 0 or float(z.max()) < 0
        if not (one_sign or (k.is_integer and bool((z != 0).all()))):
            return None
        factor = (z if k.is_integer else z.abs()) ** float(k)
    sign = -1 if label.low == 0.0 and float((y * factor).sum()) <= 0 else 1
    low, high = (bound * torch.ones_like(y) for bound in (label.low, label.high))
    w = (sign * y * factor).requires_grad_()
    inside = (w >= low) & (w <= high)
    near = (w >= low - slack * factor.abs()) & (w <= high + slack * factor.abs())
    if not bool(near.all()) or int(inside.sum()) < 0.1 * len(w) or float(w.detach().abs().max()) < label.least:
        return None
    with torch.enable_grad():
        changed = label.forward(w)
        slope = torch.autograd.grad(changed.sum(), w)[0]
    changed, inside = changed.detach(), inside & changed.detach().isfinite()
    if judge.noise_seen and label is not _SAME:
        # Labels are drawn as often as their errors weigh; the least of these count as equal, or a few labels would be all there is.
        weight = torch.where(inside, (slope * factor).square().clamp_min(1e-300).reciprocal(), 0.0).nan_to_num(0.0, 0.0, 0.0)
        share = weight.clamp_max(float(weight.quantile(0.9)) or 1.0).cumsum(0)
        places = (torch.arange(len(w), dtype=w.dtype) + 0.5) / len(w) * share[-1]
        chosen = torch.searchsorted(share, places).clamp_max(len(w) - 1)
        z, changed, inside = z[chosen], changed[chosen], inside[chosen]
    spread = float(changed.max() - changed.min())
    good = bool(inside.all()) and spread > 1e-13 * float(changed.abs().max()) and float(z.max()) > float(z.min())
    return _Changed(z, changed, sign) if good else None


# Judgement


class _Judge:
    """Formulas that were found for samples, which are sorted by z."""

    def __init__(self, z: Tensor, y: Tensor, symbol: sympy.Symbol, noise: float | None, stop: Callable[[], bool], cosines: bool) -> None:
        self.z, self.y, self.symbol, self.noise, self.stop = z, y, symbol, noise, stop
        self.scale = float(y.square().mean().sqrt()) or 1.0
        rough = _roughness(z, y)
        self.noisy = bool(noise) or rough > NOISY * float(y.std(correction=0))
        self.noise_seen = (noise or rough) if self.noisy else 0.0
        ranks = torch.linspace(0, len(z) - 1, min(len(z), SCREENED)).round().long()
        self.few = (z, y) if self.noisy else (z[ranks], y[ranks])
        self.found: dict[str, Curve] = {}
        self.pool: list[tuple[float, int, sympy.Expr]] = []
        self.exact = self.explained = False
        self.cosines = cosines

    def consider(self, batch: _Batch) -> None:
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
                fit = fit_constants(formula, [self.symbol], self.z[:, None], self.y, evaluations=100)
                if self.noisy or fit.rmse <= 1e3 * EXACT * self.scale:
                    fit = self._trimmed(fit)
        except (ValueError, TypeError, OverflowError):  # no real expression
            return
        if not math.isfinite(fit.rmse):
            return
        curve = Curve(fit.formula, fit.rmse, self._bits(fit.formula, fit.rmse))
        key = str(fit.formula.xreplace({number: sympy.Float(float(number), 6) for number in fit.formula.atoms(sympy.Float)}))
        if key not in self.found or curve.bits < self.found[key].bits:
            self.found[key] = curve
        self.exact |= fit.rmse <= EXACT * self.scale
        self.explained |= self._explained(self._residual(fit.formula), fit.rmse)

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
                    near[symbol] = sympy.sympify(number)
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


def _roughness(z: Tensor, y: Tensor) -> float:
    """Deviation of samples, sorted by z, from the cubic through two neighbours on either side, as for noise: its median."""
    if len(z) < 5:
        return 0.0
    # Lagrange's cubic through the neighbours at the middle sample; weights of noise.
    nodes = torch.stack([z[:-4], z[1:-3], z[3:-1], z[4:]], 1)
    difference = nodes[:, :, None] - nodes[:, None, :] + torch.eye(4, dtype=z.dtype)
    away = z[2:-2, None] - nodes
    product = torch.stack([torch.cat([away[:, :i], away[:, i + 1 :]], 1).prod(1) for i in range(4)], 1)
    weights = product / difference.prod(2)
    guess = (weights * torch.stack([y[:-4], y[1:-3], y[3:-1], y[4:]], 1)).sum(1)
    off = (y[2:-2] - guess).abs() / (1 + weights.square().sum(1)).sqrt()
    return float(off[off.isfinite()].median().nan_to_num(0.0)) if bool(off.isfinite().any()) else 0.0
