r"""Laws in fewer variables: those that are invariant under scalings or translations of their variables.

*Scaling.* ``y = x^p h(x^{q_1}, ..., x^{q_k})`` with ``k < n`` is invariant under ``n - k`` scalings of its variables. Their exponents are
the null vectors of the rows ``[x_i df/dx_i, -f]``. *Translation.* If `y` depends on ``x_i + r x_j`` only, the law is invariant under
translations, and these are the null vectors of the rows ``[df/dx_i]``.

The gradients of a polynomial approximation give starting values. Exponents are then fitted to all data by least squares and rounded to
simple fractions. A reduction is accepted if a function of the remaining variables explains the data as well as one of all variables.

Reductions change the data by exact operations only. A wrong reduction therefore costs time but makes no formula wrong, since every formula
is evaluated on the original data.

References
    S.-M. Udrescu, M. Tegmark, "AI Feynman: A physics-inspired method for symbolic regression", 2020, doi:10.1126/sciadv.aay2631.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import sympy

from kan.discovery.reduction.polynomials import Array, Forms, LabelTarget, Stop, fit_forms, start_forms, surrogate

__all__ = ["Reduction", "Scaling", "equivalent_reductions", "scalings", "translations", "unchanged"]

DEGREE_BY_FORMS = (0, 10, 7, 5, 4, 3, 3)
"""Degree of the polynomial in a given number of linear forms; the last one is for all larger numbers."""
MAX_POWER_PRODUCTS = 3
"""Largest number of power products that a law is reduced to."""
MAX_EXPONENT = 6
"""Largest exponent of a variable in a power product."""
MAX_RATIO_OF_SIMPLER = 1.3
"""Ratio of errors up to which rounded exponents are as good as fitted ones, and fewer variables as good as all."""
MAX_REDUCTION_RATIO = 3
"""Ratio of the error of a scaling to the least error known, above which the scaling is dropped."""
MAX_REDUCTION_ERROR = 0.03
"""Relative error of a scaling that is accepted in any case."""
MAX_TRANSLATION_ERROR = 0.3
"""Largest relative error of a polynomial after a translation is accepted."""
EXACT_SCALING_ERROR = 1e-6
"""Relative error of a scaling below which no scalings with more power products are tried."""
MAX_RATIO_DENOMINATOR = 60
"""Largest denominator of exponents. Those that are found have denominators up to 12, and units may bring fifths."""
MIN_GRADIENT_CORRELATION = 0.9
"""Correlation of the derivatives with respect to two variables above which the law may depend on their sum or difference only."""
TRANSLATION_RATIOS = (0.5, 1.0, 2.0)
"""Multiples of a variable that are added to another one."""
MAX_LOG_RATIO = 0.3
"""Largest difference between the logarithm of a ratio of derivatives and that of the nearest of `TRANSLATION_RATIOS`."""
MIN_RELATIVE_CURVATURE = 1e-3
"""Smallest deviation of a derivative, as a share of its mean size, of a variable that does not enter linearly."""


@dataclass(frozen=True)
class Reduction:
    """A law ``y(x) = factor(x) y'(columns(x))``.

    Attributes:
        columns: columns of the reduced data, as expressions in the variables before.
        factor: the factor by which the labels are divided.
        x: values of the columns, ``(N, k)``.
        y: the labels divided by the factor, ``(N,)``.
        error: error of a polynomial of the columns, relative to the deviation of the labels.
        scaling: the power products that the columns are, if they are.
    """

    columns: tuple[sympy.Expr, ...]
    factor: sympy.Expr
    x: Array
    y: Array
    error: float
    scaling: Scaling | None = None


@dataclass(frozen=True)
class Scaling:
    """Columns and a factor that are power products of some bases.

    Attributes:
        bases: positive expressions.
        values: their values, ``(N, n)``.
        forms: exponents of the columns, ``(k, n)``.
        powers: exponents of the factor, ``(n,)``.
        raw: columns of either sign that occur in no power product, with their values.
    """

    bases: tuple[sympy.Expr, ...]
    values: Array
    forms: Array
    powers: Array
    raw: tuple[tuple[sympy.Expr, Array], ...]

    def reduction(self, y: Array, error: float) -> Reduction:
        """The reduction of the labels `y`, with its relative error. Its values may overflow if exponents are large, see `_are_finite`."""
        columns = tuple(_power_product(self.bases, q) for q in self.forms) + tuple(name for name, _ in self.raw)
        with np.errstate(all="ignore"):
            x = [np.prod(self.values**q, axis=1) for q in self.forms] + [values for _, values in self.raw]
            labels = y / np.prod(self.values**self.powers, axis=1)
        stacked = np.stack(x, 1) if x else np.zeros((len(y), 0))
        return Reduction(columns, _power_product(self.bases, self.powers), stacked, labels, error, self)


def _are_finite(reduction: Reduction) -> bool:
    """Whether all values of a reduction are finite, and its labels are not all zero."""
    return bool(np.isfinite(reduction.x).all() and np.isfinite(reduction.y).all() and reduction.y.any())


def scalings(x: Array, y: Array, names: Sequence[sympy.Expr], stop: Stop = lambda: False) -> list[Reduction]:
    """Reductions to power products of those columns of `x` that have one sign, those to the fewest variables first.

    Args:
        x: the variables, ``(N, n)``.
        y: the labels, ``(N,)``.
        names: the variables as expressions.
        stop: whether to return the reductions that were found so far.

    >>> x = np.random.default_rng(0).uniform(1, 3, (300, 3))
    >>> a, b, c = sympy.symbols("a b c")
    >>> best = scalings(x, x[:, 0] * np.exp(-x[:, 1] / x[:, 2]), [a, b, c])[0]
    >>> best.factor, best.columns
    (a, (b/c,))
    """
    n = x.shape[1]
    raw = [i for i in range(n) if x[:, i].min() <= 0 <= x[:, i].max()]
    definite = [i for i in range(n) if i not in raw]
    u = np.where(np.isin(np.arange(n), raw), x, np.log(np.abs(np.where(x == 0, 1.0, x))))
    target = LabelTarget.of(y)
    gradients, error = surrogate(u, target, stop)
    found: list[tuple[Forms, float]] = []
    for k in range(min(MAX_POWER_PRODUCTS, len(definite) - 1) + 1):
        if stop():
            break
        degree = DEGREE_BY_FORMS[min(k + len(raw), len(DEGREE_BY_FORMS) - 1)]
        forms = fit_forms(u, target, start_forms(u, target, gradients, k, tuple(raw)), degree, stop=stop)
        rounded = None if stop() else _rounded(u, target, forms, degree, stop)
        if rounded is not None:
            found.append((rounded, rounded.error))
        if forms.error < EXACT_SCALING_ERROR:
            break
    least = min([error, *(e for _, e in found)])
    bases = tuple(names[i] if x[0, i] > 0 else -names[i] for i in definite)
    others = tuple((names[i], x[:, i]) for i in raw)
    results = []
    for forms, e in found:
        if e <= max(MAX_REDUCTION_RATIO * least, MAX_REDUCTION_ERROR) and len(forms.pivots) < n:
            powers = np.zeros(n)
            powers[list(forms.rest)] = forms.powers
            q = _simplest(forms.matrix[len(raw) :][:, definite])
            scaling = Scaling(bases, np.abs(x[:, definite]), q, _simplest_powers(powers[definite], q), others)
            results.append(scaling.reduction(y, e))
    return [reduction for reduction in results if _are_finite(reduction)]


def unchanged(x: Array, y: Array, names: Sequence[sympy.Expr]) -> Reduction:
    """The reduction to the columns themselves, as power products of themselves; it is a start for `equivalent_reductions`."""
    raw = [i for i in range(x.shape[1]) if x[:, i].min() <= 0 <= x[:, i].max()]
    definite = [i for i in range(x.shape[1]) if i not in raw]
    bases = tuple(names[i] if x[0, i] > 0 else -names[i] for i in definite)
    n = len(definite)
    return Scaling(bases, np.abs(x[:, definite]), np.eye(n), np.zeros(n), tuple((names[i], x[:, i]) for i in raw)).reduction(y, 0.0)


def equivalent_reductions(reduction: Reduction, factors: bool = True, most: int = 30) -> Iterator[Reduction]:
    """The same reduction with other power products as columns, the simple ones first.

    Args:
        reduction: a reduction to power products.
        factors: whether other factors of the labels are tried, too.
        most: largest number of reductions.
    """
    scaling = reduction.scaling
    if scaling is None:
        return
    k = len(scaling.forms)
    y = reduction.y * np.prod(scaling.values**scaling.powers, axis=1)  # labels before the reduction
    choices = [(scaling.forms, scaling.raw)]
    for a, b, times in product(range(k), range(k), (1, -1)):
        if a != b:
            changed = scaling.forms.copy()
            changed[a] = changed[a] + times * changed[b]
            choices.append((changed, scaling.raw))
    for r, b, times in product(range(len(scaling.raw)), range(k), (-1, 1)):
        name, values = scaling.raw[r]
        power = times * scaling.forms[b]
        other = name * _power_product(scaling.bases, power), values * np.prod(scaling.values**power, axis=1)
        choices.append((scaling.forms, (*scaling.raw[:r], other, *scaling.raw[r + 1 :])))
    shifts = [np.array(t, dtype=float) for t in product((0, 1, -1, 2, -2) if factors else (0,), repeat=k)]
    several = [(q, raw, scaling.powers + t @ q, float(np.abs(t).sum())) for q, raw in choices for t in shifts]
    several.sort(key=lambda one: float(np.abs(one[0]).sum()) + (one[1] is not scaling.raw) + one[3])
    for q, raw, p, _ in several[1 : most + 1]:
        other_reduction = replace(scaling, forms=q, raw=raw, powers=p).reduction(y, reduction.error)
        if _are_finite(other_reduction):
            yield other_reduction


def translations(x: Array, y: Array, names: Sequence[sympy.Expr], stop: Stop = lambda: False) -> Reduction | None:
    """The reduction to sums and differences of variables, as many as there are; None if there are none.

    Products of variables of either sign, whose logarithms do not exist for `scalings`, are found in the same way: for ``h(x_i x_j)``,
    ``x_i dh/dx_i = x_j dh/dx_j``.

    Args:
        x: the variables, ``(N, n)``.
        y: the labels, ``(N,)``.
        names: the variables as expressions.
        stop: whether to return the sums and differences that were found so far.

    >>> x = np.random.default_rng(0).uniform(1, 3, (300, 3))
    >>> a, b, c = sympy.symbols("a b c")
    >>> translations(x, x[:, 0] * np.exp(x[:, 1] - x[:, 2]), [a, b, c]).columns
    (a, b - c)
    """
    columns, values = list(names), x.copy()
    target = _smoother_target(x, y, stop)
    gradients, error = surrogate(values, target, stop)
    start = len(columns)
    while len(columns) > 1:
        steep = gradients * target.weights[:, None]
        raw = (values.min(0) <= 0) & (values.max(0) >= 0)
        joined = [
            (columns[i] + sympy.Rational(ratio) * columns[j], values[:, i] + ratio * values[:, j], i, j)
            for i, j, ratio in _proportional_pairs(steep)
        ]
        joined += [
            (columns[i] * columns[j], values[:, i] * values[:, j], i, j)
            for i, j, ratio in _proportional_pairs(values * steep)
            if ratio == 1 and raw[i] and raw[j]
        ]
        for column, product_or_sum, i, j in joined:
            if stop():
                break
            merged = np.delete(values, j, 1)
            merged[:, i - (j < i)] = product_or_sum
            new, merged_error = surrogate(merged, target, stop)
            if merged_error <= MAX_RATIO_OF_SIMPLER * error + 1e-12 and merged_error < MAX_TRANSLATION_ERROR:
                columns[i] = column
                del columns[j]
                values, gradients, error = merged, new, min(merged_error, error)
                break
        else:
            break
    return Reduction(tuple(columns), sympy.Integer(1), values, y, error) if len(columns) < start else None


def _smoother_target(x: Array, y: Array, stop: Stop) -> LabelTarget:
    """The labels or their logarithms, whichever a polynomial approximates better."""
    plain = LabelTarget(y / float(np.sqrt(np.mean(y**2))), np.ones_like(y), False)
    other = LabelTarget.of(y)
    if not other.logarithmic:
        return plain
    return min(plain, other, key=lambda target: surrogate(x, target, stop)[1])


def _proportional_pairs(gradients: Array) -> list[tuple[int, int, float]]:
    """Pairs of variables whose derivatives have a constant ratio ``g_j = ratio g_i``, those with the highest correlation first."""
    found = []
    for i, j in combinations(range(gradients.shape[1]), 2):
        a, b = gradients[:, i], gradients[:, j]
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        if size == 0:
            continue
        correlation, ratio = float(a @ b) / size, float(np.linalg.norm(b) / np.linalg.norm(a))
        nearest = min(TRANSLATION_RATIOS, key=lambda r: abs(np.log(r / ratio)))
        # The derivatives of all linear terms are constant, so that their ratios are constant, too, but nothing is gained by joining them.
        bent = np.std(a) > MIN_RELATIVE_CURVATURE * np.abs(a).mean()
        if abs(correlation) > MIN_GRADIENT_CORRELATION and abs(np.log(nearest / ratio)) < MAX_LOG_RATIO and bent:
            found.append((1 - abs(correlation), i, j, float(np.copysign(nearest, correlation))))
    return [(i, j, ratio) for _, i, j, ratio in sorted(found)]


def _rounded(u: Array, target: LabelTarget, forms: Forms, degree: int, stop: Stop) -> Forms | None:
    """The forms with all exponents rounded to simple fractions; None if their error is larger, see `MAX_RATIO_OF_SIMPLER`."""
    allowed = MAX_RATIO_OF_SIMPLER * forms.error + 1e-9
    for denominators in ((1,), (1, 2), (1, 2, 3, 4)):
        entries = _fractions(forms.entries, denominators)
        trial = fit_forms(u, target, replace(forms, entries=entries), degree, entries=False, stop=stop)
        if not np.abs(entries).max(initial=0.0) <= MAX_EXPONENT or trial.error > allowed:
            continue
        for finer in ((1,), (1, 2), (1, 2, 3, 4)):
            if stop():
                return None
            powers = _fractions(trial.powers, finer)
            both = fit_forms(u, target, replace(trial, powers=powers), degree, entries=False, powers=False)
            if both.error <= allowed:
                return both
    return None


def _fractions(values: Array, denominators: Sequence[int]) -> Array:
    """The nearest fractions with some denominators; a larger denominator is used only if it is nearer by more than 0.05."""
    best = np.round(values)
    for d in denominators[1:]:
        trial = np.round(values * d) / d
        best = np.where(np.abs(values - trial) < np.abs(values - best) - 0.05, trial, best)
    return np.asarray(best)


def _simplest(q: Array) -> Array:
    """A basis of the space that the rows span, with small whole numbers."""
    if not len(q):
        return q
    best: tuple[float, Array] | None = None
    for pivots in combinations(range(q.shape[1]), len(q)):
        square = q[:, pivots]
        if abs(np.linalg.det(square)) < 1e-6:
            continue
        rows = np.array([_whole(row) for row in np.linalg.solve(square, q)])
        size = float(np.abs(rows).sum()) + 0.01 * float((rows < 0).sum())
        if best is None or size < best[0] - 1e-9:
            best = size, rows
    return q if best is None else best[1]


def _whole(row: Array) -> Array:
    """The smallest multiple of a row that consists of whole numbers, most of them positive."""
    fractions = [sympy.Rational(round(12 * v), 12) for v in row]
    times = sympy.ilcm(*(f.q for f in fractions)) / sympy.igcd(*(f.p for f in fractions))
    whole = np.array([float(f * times) for f in fractions])
    return -whole if whole.sum() < 0 or (whole.sum() == 0 and whole[np.flatnonzero(whole)[0]] < 0) else whole


def _simplest_powers(p: Array, q: Array) -> Array:
    """The exponents of the factor in their simplest form, up to multiples of the exponents `q` of the columns."""

    def size(r: Array) -> float:
        broken, more = np.abs(r - np.round(r)) > 1e-9, np.abs(2 * r - np.round(2 * r)) > 1e-9
        return float(np.abs(r).sum() + 0.5 * (r != 0).sum() + broken.sum() + 3 * more.sum())

    for _ in range(2):
        for row in q:
            # Multiples of the row that make one exponent a small multiple of one half.
            times = {0.0, *((m / 2 - p[j]) / row[j] for j in np.flatnonzero(row) for m in range(-4, 5))}
            p = min((np.round(12 * (p + t * row)) / 12 for t in sorted(times)), key=size)
    return p


def _power_product(bases: Sequence[sympy.Expr], exponents: Array) -> sympy.Expr:
    """The product of the bases to the power of the exponents, as fractions."""
    fractions = (Fraction(float(e)).limit_denominator(MAX_RATIO_DENOMINATOR) for e in exponents)
    return sympy.Mul(*(base ** sympy.Rational(e.numerator, e.denominator) for base, e in zip(bases, fractions, strict=True)))
