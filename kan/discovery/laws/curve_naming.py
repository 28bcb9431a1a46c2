r"""Formulas from a fitted sum of products: functions are found for every curve, and the constants of the best choices fitted together.

A curve may be a function of the library, ``outer(c f(a x^p + b) + d)``. Only a factor of a product may have an outer function other than
the identity, and a power `p` other than 1 is tried only where nothing else fits. Functions are ranked by the length of the description of
the curve, in bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import islice
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.discovery.curves.one_variable import curve_formulas as formulas_of_one_variable
from kan.discovery.edges.suggest import Candidate, DescriptionLength, fitted_candidates
from kan.discovery.formulas.constants import complexity, fit_constants
from kan.discovery.laws.candidates import BITS_PER_NODE
from kan.discovery.laws.sums_of_products import CURVE_DEGREE, FittedSum
from kan.discovery.reduction.views import LABEL_TRANSFORMS, LabelTransform
from kan.formula_text import as_expression

__all__ = ["CurveNaming", "named_formulas"]

MIN_TERM_RATIO = 30
"""Ratio of the deviation of a term to the error of the sum above which the term belongs to the law, if there is no noise."""
MIN_RELATIVE_SUM_ERROR = 1e-10
"""Relative error that a fitted sum is assumed to have at least."""
MAX_EXACT_FORMULA_ERROR = 1e-11
"""Relative error of a formula below which no further choices of functions are tried."""
WRONG_FUNCTION_DEVIATION = 1e-5
"""Smallest deviation from a curve, as a share of that of the curve itself, that counts. Hardly any wrong function is closer to a curve."""
ROWS_PER_CURVE = 256
"""Largest number of points of a curve by which functions are ranked."""
INDEPENDENT_ROWS = 24
"""Number of rows that count in the length of the description of a curve. The deviations from a curve are systematic, not random."""
FUNCTIONS_PER_CURVE = 5
"""Number of functions that are kept for a curve."""
MAX_CHOICES = 12
"""Largest number of choices of functions for all curves whose constants are fitted."""
CONSTANT_EVALUATIONS = 60
"""Largest number of evaluations in the fit of the constants of a formula."""
OUTER_BITS = 5.0
"""Length of the description of an outer function, in bits."""
POWER_BITS = 3.0
"""Length of the description of a power of the column, in bits."""
COMPOSITE_NODE_BITS = 4.0
"""Length of the description of a node of a function that combines two functions of the library, in bits."""
OUTER = tuple(transform for transform in LABEL_TRANSFORMS if transform.name in ("y", "1/y", "y^2", "1/y^2", "log y"))
"""The transforms whose inverses may be outer functions; the identity is the first."""
INNER_POWERS = (sympy.Integer(1), sympy.Integer(-1), sympy.Integer(2), sympy.Integer(-2), sympy.Rational(1, 2))
"""The powers of a column that may be the argument of a function; those after the first are for positive columns."""

Named = list[tuple[float, sympy.Expr]]
"""Functions that a curve may be, each after the length of its description in bits; the shortest first."""


def named_formulas(
    x: Tensor, y: Tensor, found: FittedSum, symbols: Sequence[sympy.Symbol], naming: CurveNaming, weights: Tensor | None = None
) -> list[tuple[float, sympy.Expr]]:
    """Formulas for the labels in which every curve is a named function, with their root mean squared errors, the best first.

    Without `weights` the best formula is the one with the least error, and with `weights` the one with the shortest description of labels
    and formula.

    Args:
        x: the columns, ``(N, k)``.
        y: the labels, ``(N,)``.
        found: a fitted sum, see `kan.discovery.laws.sums_of_products.fit_pattern`.
        symbols: symbols of the columns.
        naming: how functions for a curve are found.
        weights: the weights of the fit, ``(N,)``, if the error of the sum is noise.
    """
    deviation = float(y.std())
    curve_error = max(found.error, MIN_RELATIVE_SUM_ERROR) * deviation
    smallest = MIN_TERM_RATIO * curve_error
    if weights is not None:  # every coefficient of a curve is determined by many labels
        unit = float(weights.square().mean().sqrt())
        curve_error, smallest = found.error / unit * math.sqrt(CURVE_DEGREE / len(y)), found.error / unit
    # The curves of a very small term are the residuals of the other terms.
    sizes = [float(np.std(math.prod(found.curves[t, i] for i in columns))) for t, columns in enumerate(found.pattern)]
    kept = [t for t, size in enumerate(sizes) if size > smallest]
    places = [(t, i) for t in kept for i in found.pattern[t]]
    curves = {place: torch.from_numpy(found.curves[place]) for place in places}
    names: dict[tuple[int, int], Named] = {}
    for t, i in sorted(places, key=lambda place: -len(found.pattern[place[0]])):
        if naming.stop():
            return []
        is_factor = len(found.pattern[t]) > 1
        error = curve_error / sizes[t] * float(found.curves[t, i].std())
        names[t, i], offset = naming.functions(x[:, i], curves[t, i], error, symbols[i], is_factor)
        others = tuple(j for j in found.pattern[t] if j != i)
        alone = next((s for s in kept if found.pattern[s] == others), None)
        if is_factor and alone is not None and offset:
            # In f + g (h + d) the term d g may as well belong to f. It is moved there, so that f is one function and not a mixture.
            curves[t, i] = curves[t, i] - offset
            names[t, i], _ = naming.functions(x[:, i], curves[t, i], error, symbols[i], is_factor)
            share = offset * math.prod((curves[t, j] for j in others), start=torch.ones_like(y))
            curves[alone, others[0]] = curves[alone, others[0]] + share
    constant = float(y.mean()) - float(sum(np.mean(math.prod(found.curves[t, i] for i in found.pattern[t])) for t in kept))
    results: list[tuple[float, float, sympy.Expr]] = []
    for ranks in islice(_choices([[bits for bits, _ in names[place]] for place in places]), MAX_CHOICES):
        if naming.stop():
            break
        chosen = {place: names[place][rank][1] for place, rank in zip(places, ranks, strict=True)}
        total = sympy.Float(constant, 17) + sympy.Add(*(sympy.Mul(*(chosen[t, i] for i in found.pattern[t])) for t in kept))
        fitted = fit_constants(total, symbols, x, y, evaluations=CONSTANT_EVALUATIONS, weights=weights)
        bits = fitted.bits + BITS_PER_NODE * complexity(fitted.formula)
        results.append((fitted.rmse if weights is None else bits, fitted.rmse, fitted.formula))
        if weights is None and fitted.rmse < MAX_EXACT_FORMULA_ERROR * deviation:
            break
    return [one[1:] for one in sorted(results, key=lambda one: one[0])]


def _choices(bits: Sequence[Sequence[float]]) -> Iterator[tuple[int, ...]]:
    """One position in each of several ascending lists, the least sum first.

    Choices are generated one by one, since there are too many of them to sort if there are many lists.
    """
    if not all(bits):
        return
    waiting, seen = [(0.0, (0,) * len(bits))], {(0,) * len(bits)}
    while waiting:
        _, places = heappop(waiting)
        yield places
        for i, place in enumerate(places):
            following = (*places[:i], place + 1, *places[i + 1 :])
            if place + 1 < len(bits[i]) and following not in seen:
                seen.add(following)
                heappush(waiting, (sum(one[p] for one, p in zip(bits, following, strict=True)), following))


@dataclass(frozen=True)
class CurveNaming:
    """How functions for a curve are found.

    Attributes:
        library: names, or a dictionary like ``SYMBOLIC_LIB``, ``"extended"`` or None.
        stop: asked between trials.
        thorough: whether functions that combine two library functions are tried where one is not enough.
    """

    library: Any = None
    stop: Callable[[], bool] = lambda: False
    thorough: bool = False

    def functions(self, x: Tensor, curve: Tensor, error: float, symbol: sympy.Symbol, is_factor: bool) -> tuple[Named, float]:
        """Functions that a curve may be, and the constant that the first one adds to a function of the library.

        Args:
            x: the column, ``(N,)``.
            curve: values of the curve, ``(N,)``.
            error: standard deviation of the errors of the curve.
            symbol: symbol of the column.
            is_factor: whether the curve is a factor of a product, so that it may have an outer function.
        """
        thinned = slice(None, None, max(1, len(x) // ROWS_PER_CURVE))
        x, curve = x[thinned], curve[thinned]
        sign = -1.0 if bool((curve < 0).all()) else 1.0
        outer = [one for one in (OUTER if is_factor else OUTER[:1]) if bool(one.allowed(sign * curve).all())]
        labels = torch.stack([one.forward(sign * curve) for one in outer], 1)
        # At its ends a curve has larger errors than at the held-out rows, so that small differences mean nothing there.
        least_deviation = max(3 * error, min(10 * error, WRONG_FUNCTION_DEVIATION * float(curve.std())))
        enough = max(10 * error, least_deviation)

        def data_bits(deviation: float) -> float:
            return INDEPENDENT_ROWS * math.log2(math.hypot(deviation, least_deviation) + 1e-300)

        found: list[tuple[float, int, Callable[[], sympy.Expr], float]] = []
        for n, power in enumerate(INNER_POWERS if bool((x > 0).all()) else INNER_POWERS[:1]):
            inputs = (x ** float(power))[:, None].expand_as(labels)
            least = math.inf
            for transform, ranked in zip(outer, fitted_candidates(inputs, labels, self.library, scoring=DescriptionLength()), strict=True):
                for candidate in ranked:
                    a, b, c, d = candidate.affine.tolist()
                    # Deviations of the curve itself: where a transform is steep, a fit to its values depends on a few of them.
                    value = transform.back(c * candidate.function.torch_fun(a * inputs[:, 0] + b) + d)
                    deviation = float((sign * value - curve).square().mean().sqrt())
                    if candidate.name == "0" or not math.isfinite(deviation):
                        continue
                    least = min(least, deviation)
                    bits = data_bits(deviation) + candidate.bits - candidate.r2_loss
                    bits += OUTER_BITS * (transform is not OUTER[0]) + POWER_BITS * (n > 0)
                    formula = partial(_formula, candidate, sign, transform, symbol**power)
                    found.append((bits, len(found), formula, d * (transform is OUTER[0])))
            if least < enough:
                break
        if self.thorough and least > enough and not self.stop():
            several = formulas_of_one_variable(
                x, curve, symbol, library=self.library, noise=least_deviation, target_error=3 * error, stop=self.stop
            )
            for law in several[:2]:
                bits = data_bits(law.rmse) + COMPOSITE_NODE_BITS * complexity(law.formula)
                offset = float(law.formula.as_independent(symbol, as_Add=True)[0])
                found.append((bits, len(found), partial(as_expression, law.formula), sign * offset))
        found.sort(key=lambda one: one[:2])
        return [(bits, write()) for bits, _, write, _ in found[:FUNCTIONS_PER_CURVE]], sign * found[0][3] if found else 0.0


def _formula(candidate: Candidate, sign: float, transform: LabelTransform, argument: sympy.Expr) -> sympy.Expr:
    """The formula of a function of the library with its constants, inside the inverse of a transform."""
    a, b, c, d = (sympy.Float(number, 17) for number in candidate.affine.tolist())
    return sign * transform.inverse(c * candidate.function.sympy_fun(a * argument + b) + d)
