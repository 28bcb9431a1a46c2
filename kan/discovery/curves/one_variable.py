r"""Laws of one variable: a function of the labels that one edge explains, a quotient of polynomials, or two functions that meet.

For labels :math:`y_n` at :math:`z_n` the search goes by simplicity,

1. *one edge*, :math:`T(y z^k) = c f(a z + b) + d`, with changes T of the labels (logarithm, powers, sine ...) and powers k,
2. *quotients* :math:`P(z) / Q(z)` of polynomials of low degree, of the labels or their squares; see `kan.discovery.curves.rational`,
3. *pairs*, sums, products and compositions of two functions; see `kan.discovery.curves.pairs`,

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

from kan.discovery.curves.candidates import EXACT, PROMISING, Batch, Curve, Judge, drawn
from kan.discovery.curves.pairs import KINDS, pair_formulas
from kan.discovery.curves.rational import rational_formulas
from kan.discovery.edges.suggest import Candidate, DescriptionLength, fitted_candidates
from kan.symbolic.families import EXTENDED_LIB, Family
from kan.symbolic.library import SYMBOLIC_LIB, SymbolicFunction, resolve_library

__all__ = ["Curve", "curves"]

BENT_IN_NOISE = 10
"""Times the size of labels where functions of them begin to bend, below which noise hides that."""


class _Label(NamedTuple):
    """A function of the labels, its inverse on tensors and on expressions, and the interval of labels where it goes both ways."""

    name: str
    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    inverse: Callable[[sympy.Expr], sympy.Expr]
    low: float = -math.inf
    high: float = math.inf
    least: float = 0.0  # size of the largest label below which the function is a straight line or, if cosine, a parabola


_ONE, _HALF = sympy.Integer(1), sympy.Rational(1, 2)
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
_INNER = tuple(sympy.Rational(k, 2) for k in (-2, 4, -4, 1))
"""Powers of z inside functions, where it is positive: power products may as well be the inverse of what the law has."""
_COMMON = "x x^2 x^3 x^4 1/x 1/x^2 sqrt 1/sqrt(x) exp log sin tanh arctan gaussian".split()
_HYPERBOLIC = ("cosh", "sinh", "1/(1+x^2)", "x*exp(x)")


def curves(
    z: Tensor,
    y: Tensor,
    symbol: sympy.Symbol,
    *,
    library: Sequence[str] | Mapping[str, Any] | None = None,
    noise: float | None = None,
    enough: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
    weights: Tensor | None = None,
) -> list[Curve]:
    """Formulas for a curve, the best first.

    Args:
        z: ``(N,)`` or ``(N, 1)``.
        y: as many labels.
        symbol: what formulas are written in.
        library: names of the functions that may occur, or a dictionary like ``SYMBOLIC_LIB``; then there are no others, and no quotients.
        noise: standard deviation of the errors of `y`, if known.
        enough: root mean squared error that ends the search.
        stop: asked between batches; what was found so far is returned when it says so.
        weights: of the residuals, ``(N,)``, for labels whose errors differ in size; all errors are weighted then.

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
    judge = Judge(z[order], y[order], symbol, noise, stop, library is None, None if weights is None else weights[order])
    judge.consider(Batch([sympy.Float(float(y.mean()), 17)], math.inf))
    varies = float(y.max() - y.min()) > 1e-14 * float(y.abs().max()) and float(z.max() - z.min()) > 1e-14 * float(z.abs().max())
    if varies:
        for batch in _stages(judge, library):
            judge.consider(batch)
            if stop() or judge.exact or (batch.last and judge.explained) or judge.least <= enough:
                break
    return judge.best()


# Stages


def _stages(judge: Judge, library: Sequence[str] | Mapping[str, Any] | None) -> Iterator[Batch]:
    """One batch after the other."""
    few, symbol = judge.few, judge.symbol
    given = None if library is None else resolve_library(library)
    one = sympy.Integer(0)
    if given is not None:
        yield _edges(judge, [(_SAME, one)], given)._replace(last=True)
        yield Batch(pair_formulas(*few, symbol, KINDS[0], given), 1e-6, True)
        return
    full = {**SYMBOLIC_LIB, **{name: EXTENDED_LIB[name] for name in _HYPERBOLIC}}
    short = {name: full[name] for name in [*_COMMON, *_HYPERBOLIC[:1]]}
    families = {name: entry for name, entry in EXTENDED_LIB.items() if isinstance(entry, Family) and "poly" not in name}
    tight = 1e-10
    yield _edges(judge, [(_SAME, one)], full)
    yield Batch(rational_formulas(*few, symbol, 3), tight)
    if float(judge.z[0]) >= 0:
        yield Batch([f.subs(symbol, sympy.sqrt(symbol)) for f in rational_formulas(few[0].sqrt(), few[1], symbol, 3)], tight)
    yield _edges(judge, [(label, one) for label in _POWERS], full)
    yield _edges(judge, [(label, one) for label in _OTHERS], full)
    inner = _INNER if float(judge.z[0]) > 0 else ()
    for power in inner:
        yield _edges(judge, [(label, one) for label in (_SAME, *_POWERS)], short, power)
    yield _edges(judge, [(label, k) for k in _GAUGES[:6] for label in (_SAME, *_POWERS)], short)
    for power in inner[:1]:
        yield _edges(judge, [(label, k) for k in _GAUGES for label in (_SAME, _POWERS[0])], short, power)
    yield Batch(rational_formulas(*few, symbol, 4, squared=True), tight)
    yield _edges(judge, [(label, one) for label in (_SAME, _POWERS[0], _LOG)], families)
    yield _edges(judge, [(label, k) for k in _GAUGES[6:] for label in (_SAME, _POWERS[0])], short)
    yield _edges(judge, [(_LOG, k) for k in _GAUGES], short)._replace(last=True)
    yield Batch(rational_formulas(*few, symbol, 6, least=4, below=0), tight)
    for kind in KINDS:
        yield Batch(pair_formulas(*few, symbol, kind), 1e-6, kind == KINDS[-1])
    for label in (_POWERS[0], _LOG, _POWERS[1]):
        if (found := _changed(judge, label, one)) is not None:
            formulas = pair_formulas(found.z, found.labels, symbol, "sum")
            yield Batch([found.sign * label.inverse(formula) for formula in formulas], 1e-6)
    yield Batch(rational_formulas(*few, symbol, 8, least=4), tight)
    yield Batch(rational_formulas(*few, symbol, 8, squared=True), tight)


def _edges(
    judge: Judge,
    changes: Sequence[tuple[_Label, sympy.Rational]],
    library: Mapping[str, SymbolicFunction | Family],
    inner: sympy.Rational = _ONE,
) -> Batch:
    """``T(y z^k) = c f(a z^inner + b) + d`` solved for y, for those T, k and f that come nearest to the labels."""
    z, y = judge.few
    meant = [(label, k, found) for label, k in changes if (found := _changed(judge, label, k)) is not None]
    if not meant:
        return Batch([])
    at, target = torch.stack([seen.z ** float(inner) for *_, seen in meant], 1), torch.stack([seen.labels for *_, seen in meant], 1)
    noise = judge.noise if len(changes) == 1 and changes[0][0] is _SAME else None
    fits = fitted_candidates(at, target, library, scoring=DescriptionLength(noise))
    ranked: list[tuple[bool, float, int, _Label, sympy.Rational, int, Candidate]] = []
    for (label, k, seen), candidates in zip(meant, fits, strict=True):
        for candidate in candidates[:3]:
            if candidate.name == "0" or (label is _LOG and candidate.name == "log"):
                continue
            a, b, c, d = candidate.affine.tolist()
            value = label.back(c * candidate.function.torch_fun(a * z ** float(inner) + b) + d) * seen.sign
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
            inside = candidate.function.sympy_fun(numbers[0] * judge.symbol**inner + numbers[1])
            formulas.append(sign * label.inverse(numbers[2] * inside + numbers[3]) * base**-k)
            sure += not unsure
    return Batch(formulas, sure=sure)


class _Changed(NamedTuple):
    """``T(s y z^k)`` at z, with the sign s."""

    z: Tensor
    labels: Tensor
    sign: int


def _changed(judge: Judge, label: _Label, k: sympy.Rational) -> _Changed | None:
    """None where that is not defined; noise may take labels a little out of where it is."""
    z, y = judge.few
    slack, least = 4 * judge.noise_seen, label.least * (BENT_IN_NOISE if judge.noise_seen else 1)
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
    if not bool(near.all()) or int(inside.sum()) < 0.1 * len(w) or float(w.detach().abs().max()) < least:
        return None
    with torch.enable_grad():
        changed = label.forward(w)
        slope = torch.autograd.grad(changed.sum(), w)[0]
    changed, inside = changed.detach(), inside & changed.detach().isfinite()
    if judge.noise_seen and label is not _SAME:
        # Labels are drawn as often as their errors weigh; the least of these count as equal, or a few labels would be all there is.
        weight = torch.where(inside, (slope * factor).square().clamp_min(1e-300).reciprocal(), 0.0).nan_to_num(0.0, 0.0, 0.0)
        chosen = drawn(weight.clamp_max(float(weight.quantile(0.9)) or 1.0))
        z, changed, inside = z[chosen], changed[chosen], inside[chosen]
    spread = float(changed.max() - changed.min())
    good = bool(inside.all()) and spread > 1e-13 * float(changed.abs().max()) and float(z.max()) > float(z.min())
    return _Changed(z, changed, sign) if good else None
