r"""Formulas for functions of one variable: one function of transformed labels, a quotient of polynomials, or two functions combined.

For labels :math:`y_n` at :math:`z_n`, the candidates are

1. *one function*, :math:`T(y z^k) = c f(a z^p + b) + d`, with a transform T of the labels (logarithm, powers, sine ...) and powers k and p,
2. *quotients* :math:`P(z) / Q(z)` of polynomials of low degree, for the labels or for their squares; see `kan.discovery.curves.rational`,
3. *pairs*, which are sums, products and compositions of two functions; see `kan.discovery.curves.pairs`.

Simple candidates come first. The search ends when a formula is exact to round-off, or after certain steps when a residual is
indistinguishable from noise. Formulas are solved for y, and their constants are fitted to the labels themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import sympy
import torch
from torch import Tensor

from kan.discovery.curves.candidates import (
    MAX_RESIDUAL_BEFORE_FIT,
    MAX_ROUND_OFF_RMSE,
    CandidateBatch,
    CurveCandidates,
    CurveFormula,
    resample_indices,
)
from kan.discovery.curves.pairs import COMBINATIONS, pair_formulas
from kan.discovery.curves.rational import rational_formulas
from kan.discovery.edges.suggest import Candidate, DescriptionLength, fitted_candidates
from kan.symbolic.families import EXTENDED_LIB, Family
from kan.symbolic.library import SYMBOLIC_LIB, SymbolicFunction, resolve_library

__all__ = ["CurveFormula", "curve_formulas"]

MIN_SIZE_FACTOR_IN_NOISE = 10
"""Factor by which labels in noise must exceed `_Transform.min_size`, since noise hides a weak curvature of the transform."""
MAX_TRANSFORMED_CANDIDATES = 6
"""Largest number of formulas that a comparison of transforms of the labels contributes."""


class _Transform(NamedTuple):
    """A function of the labels.

    Attributes:
        name: the function of y, for reading.
        forward: the function, of a tensor.
        back: its inverse, of a tensor.
        inverse: its inverse, of an expression.
        low, high: interval of labels in which the function can be inverted.
        min_size: size of the largest label below which the function is nearly linear, or quadratic for the cosine, and gains nothing.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    inverse: Callable[[sympy.Expr], sympy.Expr]
    low: float = -math.inf
    high: float = math.inf
    min_size: float = 0.0


_ONE, _HALF = sympy.Integer(1), sympy.Rational(1, 2)
_IDENTITY = _Transform("y", lambda y: y, lambda v: v, lambda e: e)
_POWERS = (
    _Transform("1/y", torch.reciprocal, torch.reciprocal, lambda e: 1 / e),
    _Transform("y^2", torch.square, torch.sqrt, sympy.sqrt, 0.0),
    _Transform("1/y^2", lambda y: y**-2, torch.rsqrt, lambda e: e**-_HALF, 0.0),
    _Transform("sqrt y", torch.sqrt, torch.square, lambda e: e**2, 0.0),
    _Transform("1/sqrt y", torch.rsqrt, lambda v: v**-2, lambda e: e**-2, 0.0),
)
_LOG = _Transform("log y", torch.log, torch.exp, sympy.exp, 0.0)
_TRANSCENDENTAL = (
    _LOG,
    _Transform("sin y", torch.sin, torch.asin, sympy.asin, -math.pi / 2, math.pi / 2, 0.05),
    _Transform("cos y", torch.cos, torch.acos, sympy.acos, 0.0, math.pi, 0.05),
    _Transform("tan y", torch.tan, torch.atan, sympy.atan, -math.pi / 2, math.pi / 2, 0.05),
    _Transform("exp y", torch.exp, torch.log, sympy.log, -30.0, 30.0, 0.05),
)
_LABEL_POWERS = tuple(sympy.Rational(k, 2) for k in (-2, 2, -4, 4, -1, 1, -6, 6, -3, 3, -8, 8))
"""Exponents k of the factor z^k of the labels, in the order in which they are tried."""
_ARGUMENT_POWERS = tuple(sympy.Rational(k, 2) for k in (-2, 4, -4, 1))
"""Exponents p of z inside functions, for positive z. A dimensionless product that serves as z may be a power of the one in the law."""
_COMMON_FUNCTIONS = "x x^2 x^3 x^4 1/x 1/x^2 sqrt 1/sqrt(x) exp log sin tanh arctan gaussian".split()
_ADDITIONAL_FUNCTIONS = ("cosh", "sinh", "1/(1+x^2)", "x*exp(x)")


def curve_formulas(
    z: Tensor,
    y: Tensor,
    symbol: sympy.Symbol,
    *,
    library: Sequence[str] | Mapping[str, Any] | None = None,
    noise: float | None = None,
    target_error: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
    weights: Tensor | None = None,
) -> list[CurveFormula]:
    """Formulas for a curve, the one with the shortest description first.

    Args:
        z: inputs, ``(N,)`` or ``(N, 1)``.
        y: labels, as many.
        symbol: the symbol of `z` in the formulas.
        library: names of the functions that may occur, or a dictionary like ``SYMBOLIC_LIB``. If it is given, formulas have no other
            functions, and quotients are not tried.
        noise: standard deviation of the errors of `y`, if known.
        target_error: root mean squared error at which the search ends.
        stop: asked between batches of candidates; the search ends when it returns True.
        weights: weights of the residuals, ``(N,)``, for labels whose errors differ in size. All errors are weighted errors then.

    Returns:
        At most `kan.discovery.curves.candidates.MAX_RETURNED_FORMULAS` formulas; at least the constant.

    Raises:
        ValueError: for samples that do not match or are not finite.

    >>> z = torch.linspace(0.1, 3, 200, dtype=torch.float64)
    >>> curve_formulas(z, z / (torch.exp(z) - 1), sympy.Symbol("z"))[0].formula
    z/(exp(z) - 1)
    """
    z, y = z.detach().double().flatten(), y.detach().double().flatten()
    if len(z) != len(y) or not len(z):
        raise ValueError(f"z and y must hold as many samples, at least one; got {len(z)} and {len(y)}.")
    if not bool(z.isfinite().all() and y.isfinite().all()):
        raise ValueError("z and y must be finite; they hold NaN or infinity.")
    order = z.argsort(stable=True)
    found = CurveCandidates(z[order], y[order], symbol, noise, stop, library is None, None if weights is None else weights[order])
    found.add(CandidateBatch([sympy.Float(float(y.mean()), 17)], math.inf))
    varies = float(y.max() - y.min()) > 1e-14 * float(y.abs().max()) and float(z.max() - z.min()) > 1e-14 * float(z.abs().max())
    if varies:
        for batch in _batches(found, library):
            found.add(batch)
            if stop() or found.exact or (batch.may_end and found.explained) or found.smallest_error <= target_error:
                break
    return found.best()


def _batches(found: CurveCandidates, library: Sequence[str] | Mapping[str, Any] | None) -> Iterator[CandidateBatch]:
    """The steps of the search, one batch of candidates each, which are made only when they are asked for."""
    (z, y), symbol = found.screening, found.symbol
    zero = sympy.Integer(0)
    max_pair_residual, max_quotient_residual = 1e-6, 1e-10
    if library is not None:
        given = resolve_library(library)
        yield _transformed(found, [(_IDENTITY, zero)], given)._replace(may_end=True)
        yield CandidateBatch(pair_formulas(z, y, symbol, COMBINATIONS[0], given), max_pair_residual, True)
        return
    full = {**SYMBOLIC_LIB, **{name: EXTENDED_LIB[name] for name in _ADDITIONAL_FUNCTIONS}}
    common = {name: full[name] for name in [*_COMMON_FUNCTIONS, *_ADDITIONAL_FUNCTIONS[:1]]}
    families = {name: entry for name, entry in EXTENDED_LIB.items() if isinstance(entry, Family) and "poly" not in name}

    # One function and quotients of low degree.
    yield _transformed(found, [(_IDENTITY, zero)], full)
    yield CandidateBatch(rational_formulas(z, y, symbol, 3), max_quotient_residual)
    if float(found.z[0]) >= 0:
        of_root = rational_formulas(z.sqrt(), y, symbol, 3)
        yield CandidateBatch([formula.subs(symbol, sympy.sqrt(symbol)) for formula in of_root], max_quotient_residual)

    # Transformed labels, and powers of z beside them and inside the function.
    yield _transformed(found, [(transform, zero) for transform in _POWERS], full)
    yield _transformed(found, [(transform, zero) for transform in _TRANSCENDENTAL], full)
    powers = _ARGUMENT_POWERS if float(found.z[0]) > 0 else ()
    for power in powers:
        yield _transformed(found, [(transform, zero) for transform in (_IDENTITY, *_POWERS)], common, power)
    yield _transformed(found, [(transform, k) for k in _LABEL_POWERS[:6] for transform in (_IDENTITY, *_POWERS)], common)
    for power in powers[:1]:
        yield _transformed(found, [(transform, k) for k in _LABEL_POWERS for transform in (_IDENTITY, _POWERS[0])], common, power)
    yield CandidateBatch(rational_formulas(z, y, symbol, 4, squared=True), max_quotient_residual)
    yield _transformed(found, [(transform, zero) for transform in (_IDENTITY, _POWERS[0], _LOG)], families)
    yield _transformed(found, [(transform, k) for k in _LABEL_POWERS[6:] for transform in (_IDENTITY, _POWERS[0])], common)
    yield _transformed(found, [(_LOG, k) for k in _LABEL_POWERS], common)._replace(may_end=True)

    # Polynomials, pairs of functions, and quotients of high degree.
    yield CandidateBatch(rational_formulas(z, y, symbol, 6, min_degree=4, max_denominator=0), max_quotient_residual)
    for combination in COMBINATIONS:
        yield CandidateBatch(pair_formulas(z, y, symbol, combination), max_pair_residual, combination == COMBINATIONS[-1])
    for transform in (_POWERS[0], _LOG, _POWERS[1]):
        if (labels := _transformed_labels(found, transform, zero)) is not None:
            formulas = pair_formulas(labels.z, labels.values, symbol, "sum")
            yield CandidateBatch([labels.sign * transform.inverse(formula) for formula in formulas], max_pair_residual)
    yield CandidateBatch(rational_formulas(z, y, symbol, 8, min_degree=4), max_quotient_residual)
    yield CandidateBatch(rational_formulas(z, y, symbol, 8, squared=True), max_quotient_residual)


def _transformed(
    found: CurveCandidates,
    transforms: Sequence[tuple[_Transform, sympy.Rational]],
    library: Mapping[str, SymbolicFunction | Family],
    power: sympy.Rational = _ONE,
) -> CandidateBatch:
    """``T(y z^k) = c f(a z^power + b) + d`` solved for y, for the transforms ``(T, k)`` and functions f that fit the labels best."""
    z, y = found.screening
    defined = [(transform, k, labels) for transform, k in transforms if (labels := _transformed_labels(found, transform, k)) is not None]
    if not defined:
        return CandidateBatch([])
    inputs = torch.stack([labels.z ** float(power) for *_, labels in defined], 1)
    targets = torch.stack([labels.values for *_, labels in defined], 1)
    noise = found.noise if len(transforms) == 1 and transforms[0][0] is _IDENTITY else None
    fits = fitted_candidates(inputs, targets, library, scoring=DescriptionLength(noise))
    ranked: list[tuple[bool, float, int, _Transform, sympy.Rational, int, Candidate]] = []
    for (transform, k, labels), candidates in zip(defined, fits, strict=True):
        for candidate in candidates[:3]:
            if candidate.name == "0" or (transform is _LOG and candidate.name == "log"):
                continue
            a, b, c, d = candidate.affine.tolist()
            value = transform.back(c * candidate.function.torch_fun(a * z ** float(power) + b) + d) * labels.sign
            rmse = float((value * (z if k.is_integer else z.abs()) ** -float(k) - y).square().mean().sqrt())
            if math.isfinite(rmse):
                # If the transformed labels span many orders of magnitude, a fit of them to round-off may still miss the labels.
                approximate = math.sqrt(candidate.rss) > MAX_ROUND_OFF_RMSE * float(labels.values.norm())
                bits = len(y) * math.log2(max(rmse, 0.1 * MAX_RESIDUAL_BEFORE_FIT * found.scale)) if approximate else 0.0
                bits += candidate.bits - candidate.r2_loss + 4 * (k != 0) + 2 * float(abs(k))
                ranked.append((approximate, bits, len(ranked), transform, k, labels.sign, candidate))
    formulas, exact_fits = [], 0
    for approximate, _, _, transform, k, sign, candidate in sorted(ranked, key=lambda item: item[:3])[:MAX_TRANSFORMED_CANDIDATES]:
        numbers = [sympy.Float(v, 17) if v not in (0.0, 1.0, -1.0) else sympy.Integer(int(v)) for v in candidate.affine.tolist()]
        base = found.symbol if float(z[0]) > 0 or k.is_integer else -found.symbol
        with suppress(Exception):  # an expression that sympy cannot make is no candidate
            inside = candidate.function.sympy_fun(numbers[0] * found.symbol**power + numbers[1])
            formulas.append(sign * transform.inverse(numbers[2] * inside + numbers[3]) * base**-k)
            exact_fits += not approximate
    return CandidateBatch(formulas, always_fitted=exact_fits)


class _TransformedLabels(NamedTuple):
    """Values ``T(s y z^k)`` at inputs z; the sign s is -1 if T needs positive arguments and the sum of ``y z^k`` is negative."""

    z: Tensor
    values: Tensor
    sign: int


def _transformed_labels(found: CurveCandidates, transform: _Transform, k: sympy.Rational) -> _TransformedLabels | None:
    """The transformed labels, or None if the transform is not defined for them.

    Noise may carry labels slightly out of the interval of the transform. Such labels are left out, and the remaining ones are resampled
    according to the accuracy that the transform leaves them.
    """
    z, y = found.screening
    slack, min_size = 4 * found.noise_level, transform.min_size * (MIN_SIZE_FACTOR_IN_NOISE if found.noise_level else 1)
    factor = torch.ones_like(z)
    if k != 0:
        one_sign = float(z.min()) > 0 or float(z.max()) < 0
        if not (one_sign or (k.is_integer and bool((z != 0).all()))):
            return None
        factor = (z if k.is_integer else z.abs()) ** float(k)
    sign = -1 if transform.low == 0.0 and float((y * factor).sum()) <= 0 else 1
    low, high = (bound * torch.ones_like(y) for bound in (transform.low, transform.high))
    w = (sign * y * factor).requires_grad_()
    inside = (w >= low) & (w <= high)
    near = (w >= low - slack * factor.abs()) & (w <= high + slack * factor.abs())
    if not bool(near.all()) or int(inside.sum()) < 0.1 * len(w) or float(w.detach().abs().max()) < min_size:
        return None
    with torch.enable_grad():
        values = transform.forward(w)
        slope = torch.autograd.grad(values.sum(), w)[0]
    values, inside = values.detach(), inside & values.detach().isfinite()
    if found.noise_level and transform is not _IDENTITY:
        # The fit takes no weights, so samples are repeated by the inverse variance of their transformed noise. The upper tenth of these
        # weights is capped: otherwise the sample would consist of a few labels.
        weight = torch.where(inside, (slope * factor).square().clamp_min(1e-300).reciprocal(), 0.0).nan_to_num(0.0, 0.0, 0.0)
        chosen = resample_indices(weight.clamp_max(float(weight.quantile(0.9)) or 1.0))
        z, values, inside = z[chosen], values[chosen], inside[chosen]
    spread = float(values.max() - values.min())
    good = bool(inside.all()) and spread > 1e-13 * float(values.abs().max()) and float(z.max()) > float(z.min())
    return _TransformedLabels(z, values, sign) if good else None
