r"""Laws in fewer variables: what scales with a power of a variable, what depends on differences, products and quotients of variables only.

*Scaling.* ``y = x^p h(x^{q_1}, ..., x^{q_k})`` with ``k < n`` is invariant under ``n - k`` scalings of its variables; all null vectors of
``[x_i df/dx_i, -f]`` are such. *Translation.* ``y`` depends on ``x_i + r x_j`` only; these are the null vectors of ``[df/dx_i]``.
Gradients of a polynomial fitted to the data say where to look, least squares on all data find the exponents, which are rounded to simple
fractions, and a reduction counts if a function of what remains explains the data as well as one of everything did.

Only data are changed, by exact operations, so that an error here costs time but makes no formula wrong: what is found for the reduced
data is compared with the original.

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

from kan.discovery.reduction.polynomials import Array, Forms, Stop, Target, fit_forms, start_forms, surrogate

__all__ = ["Reduction", "gauges", "scalings", "translations", "unchanged"]

DEGREES = (0, 10, 7, 5, 4, 3, 3)
"""Of the polynomial in so many forms."""
MOST_FORMS = 3
LARGEST_POWER = 6
WORSE = 1.3
"""Factor by which rounded exponents may be worse than those that were fitted, or fewer variables than all."""
FINEST = 60
"""Largest denominator of exponents: twelfths are found, and units may bring fifths."""
CLEAR = 0.9
"""Correlation of the gradients of two variables above which they may be one."""


@dataclass(frozen=True)
class Reduction:
    """A law ``y(x) = factor(x) y'(columns(x))``.

    Attributes:
        columns: of the reduced data, as expressions of the variables before.
        factor: what the labels were divided by.
        x: ``(N, k)``, values of the columns.
        y: ``(N,)``, the labels divided by the factor.
        error: what a polynomial of the columns misses of the labels, as a share of their deviation.
        scaling: what the columns are products of, with exponents, if they are.
    """

    columns: tuple[sympy.Expr, ...]
    factor: sympy.Expr
    x: Array
    y: Array
    error: float
    scaling: Scaling | None = None


@dataclass(frozen=True)
class Scaling:
    """Power products.

    Attributes:
        bases: positive expressions, and their values ``(N, n)``.
        forms: exponents of the columns, ``(k, n)``.
        powers: of the factor, ``(n,)``.
        raw: columns that have part in none of them, with their values.
    """

    bases: tuple[sympy.Expr, ...]
    values: Array
    forms: Array
    powers: Array
    raw: tuple[tuple[sympy.Expr, Array], ...]

    def reduction(self, y: Array, error: float) -> Reduction:
        """The reduction of the labels `y`. Its values may overflow where exponents are large, see `_are_finite`."""
        columns = tuple(_power_product(self.bases, q) for q in self.forms) + tuple(name for name, _ in self.raw)
        with np.errstate(all="ignore"):
            x = [np.prod(self.values**q, axis=1) for q in self.forms] + [values for _, values in self.raw]
            labels = y / np.prod(self.values**self.powers, axis=1)
        stacked = np.stack(x, 1) if x else np.zeros((len(y), 0))
        return Reduction(columns, _power_product(self.bases, self.powers), stacked, labels, error, self)


def _are_finite(reduction: Reduction) -> bool:
    """Whether all of its values are finite, and its labels not all zero."""
    return bool(np.isfinite(reduction.x).all() and np.isfinite(reduction.y).all() and reduction.y.any())


def scalings(x: Array, y: Array, names: Sequence[sympy.Expr], stop: Stop = lambda: False) -> list[Reduction]:
    """Reductions to power products of those columns of `x` that have one sign; few variables first; none any more when `stop` says so.

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
    target = Target.of(y)
    gradients, error = surrogate(u, target, stop)
    found: list[tuple[Forms, float]] = []
    for k in range(min(MOST_FORMS, len(definite) - 1) + 1):
        if stop():
            break
        degree = DEGREES[min(k + len(raw), len(DEGREES) - 1)]
        forms = fit_forms(u, target, start_forms(u, target, gradients, k, tuple(raw)), degree, len(raw), stop=stop)
        rounded = None if stop() else _rounded(u, target, forms, degree, len(raw), stop)
        if rounded is not None:
            found.append((rounded, rounded.error))
        if forms.error < 1e-6:
            break
    least = min([error, *(e for _, e in found)])
    bases = tuple(names[i] if x[0, i] > 0 else -names[i] for i in definite)
    others = tuple((names[i], x[:, i]) for i in raw)
    results = []
    for forms, e in found:
        if e <= max(3 * least, 0.03) and len(forms.pivots) < n:
            powers = np.zeros(n)
            powers[list(forms.rest)] = forms.powers
            q = _simplest(forms.matrix[len(raw) :][:, definite])
            scaling = Scaling(bases, np.abs(x[:, definite]), q, _simplest_powers(powers[definite], q), others)
            results.append(scaling.reduction(y, e))
    return [reduction for reduction in results if _are_finite(reduction)]


def unchanged(x: Array, y: Array, names: Sequence[sympy.Expr]) -> Reduction:
    """The columns themselves as power products: what `gauges` starts from."""
    raw = [i for i in range(x.shape[1]) if x[:, i].min() <= 0 <= x[:, i].max()]
    definite = [i for i in range(x.shape[1]) if i not in raw]
    bases = tuple(names[i] if x[0, i] > 0 else -names[i] for i in definite)
    n = len(definite)
    return Scaling(bases, np.abs(x[:, definite]), np.eye(n), np.zeros(n), tuple((names[i], x[:, i]) for i in raw)).reduction(y, 0.0)


def gauges(reduction: Reduction, factors: bool = True, most: int = 30) -> Iterator[Reduction]:
    """The same reduction with other power products as columns and, if wanted, other factors, the simple ones first."""
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
    """Sums and differences in the place of variables, as many as there are, or as are found until `stop` says so; None if there are none.

    Products of variables of either sign, which `scalings` has no logarithms of, are found the same way: ``h(x_i x_j)`` has
    ``x_i dh/dx_i = x_j dh/dx_j``.

    >>> x = np.random.default_rng(0).uniform(1, 3, (300, 3))
    >>> a, b, c = sympy.symbols("a b c")
    >>> translations(x, x[:, 0] * np.exp(x[:, 1] - x[:, 2]), [a, b, c]).columns
    (a, b - c)
    """
    columns, values = list(names), x.copy()
    target = _smoother(x, y, stop)
    gradients, error = surrogate(values, target, stop)
    start = len(columns)
    while len(columns) > 1:
        steep = gradients * target.weights[:, None]
        raw = (values.min(0) <= 0) & (values.max(0) >= 0)
        joined = [
            (columns[i] + sympy.Rational(ratio) * columns[j], values[:, i] + ratio * values[:, j], i, j) for i, j, ratio in _alike(steep)
        ]
        joined += [
            (columns[i] * columns[j], values[:, i] * values[:, j], i, j)
            for i, j, ratio in _alike(values * steep)
            if ratio == 1 and raw[i] and raw[j]
        ]
        for column, product_or_sum, i, j in joined:
            if stop():
                break
            merged = np.delete(values, j, 1)
            merged[:, i - (j < i)] = product_or_sum
            new, worse = surrogate(merged, target, stop)
            if worse <= WORSE * error + 1e-12 and worse < 0.3:
                columns[i] = column
                del columns[j]
                values, gradients, error = merged, new, min(worse, error)
                break
        else:
            break
    return Reduction(tuple(columns), sympy.Integer(1), values, y, error) if len(columns) < start else None


def _smoother(x: Array, y: Array, stop: Stop) -> Target:
    """Labels or their logarithms, whichever a polynomial is nearer to."""
    plain = Target(y / float(np.sqrt(np.mean(y**2))), np.ones_like(y), False)
    other = Target.of(y)
    if not other.logarithmic:
        return plain
    return min(plain, other, key=lambda target: surrogate(x, target, stop)[1])


def _alike(gradients: Array) -> list[tuple[int, int, float]]:
    """Pairs of variables whose slopes have a constant ratio ``g_j = ratio g_i``, the clearest first."""
    found = []
    for i, j in combinations(range(gradients.shape[1]), 2):
        a, b = gradients[:, i], gradients[:, j]
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        if size == 0:
            continue
        alike, ratio = float(a @ b) / size, float(np.linalg.norm(b) / np.linalg.norm(a))
        near = min((0.5, 1.0, 2.0), key=lambda r: abs(np.log(r / ratio)))
        # A straight term has a constant slope, like any other one: there is nothing to gain.
        bent = np.std(a) > 1e-3 * np.abs(a).mean()
        if abs(alike) > CLEAR and abs(np.log(near / ratio)) < 0.3 and bent:
            found.append((1 - abs(alike), i, j, float(np.copysign(near, alike))))
    return [(i, j, ratio) for _, i, j, ratio in sorted(found)]


def _rounded(u: Array, target: Target, forms: Forms, degree: int, fixed: int, stop: Stop) -> Forms | None:
    """With fractions in the place of all exponents; None if that is worse."""
    allowed = WORSE * forms.error + 1e-9
    for denominators in ((1,), (1, 2), (1, 2, 3, 4)):
        entries = _fractions(forms.entries, denominators)
        trial = fit_forms(u, target, replace(forms, entries=entries), degree, fixed, entries=False, stop=stop)
        if not np.abs(entries).max(initial=0.0) <= LARGEST_POWER or trial.error > allowed:
            continue
        for finer in ((1,), (1, 2), (1, 2, 3, 4)):
            if stop():
                return None
            powers = _fractions(trial.powers, finer)
            both = fit_forms(u, target, replace(trial, powers=powers), degree, fixed, entries=False, powers=False)
            if both.error <= allowed:
                return both
    return None


def _fractions(values: Array, denominators: Sequence[int]) -> Array:
    """The nearest ones; among denominators that are as good within a tenth, the smaller one."""
    best = np.round(values)
    for d in denominators[1:]:
        trial = np.round(values * d) / d
        best = np.where(np.abs(values - trial) < np.abs(values - best) - 0.05, trial, best)
    return np.asarray(best)


def _simplest(q: Array) -> Array:
    """A basis of the same rows with small whole numbers."""
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
    """Its smallest multiple of whole numbers, most of them positive."""
    fractions = [sympy.Rational(round(12 * v), 12) for v in row]
    times = sympy.ilcm(*(f.q for f in fractions)) / sympy.igcd(*(f.p for f in fractions))
    whole = np.array([float(f * times) for f in fractions])
    return -whole if whole.sum() < 0 or (whole.sum() == 0 and whole[np.flatnonzero(whole)[0]] < 0) else whole


def _simplest_powers(p: Array, q: Array) -> Array:
    """The factor's exponents, up to those of the columns, with small whole numbers."""

    def size(r: Array) -> float:
        broken, more = np.abs(r - np.round(r)) > 1e-9, np.abs(2 * r - np.round(2 * r)) > 1e-9
        return float(np.abs(r).sum() + 0.5 * (r != 0).sum() + broken.sum() + 3 * more.sum())

    for _ in range(2):
        for row in q:
            # What makes one exponent a small multiple of one half.
            times = {0.0, *((m / 2 - p[j]) / row[j] for j in np.flatnonzero(row) for m in range(-4, 5))}
            p = min((np.round(12 * (p + t * row)) / 12 for t in sorted(times)), key=size)
    return p


def _power_product(bases: Sequence[sympy.Expr], exponents: Array) -> sympy.Expr:
    fractions = (Fraction(float(e)).limit_denominator(FINEST) for e in exponents)
    return sympy.Mul(*(base ** sympy.Rational(e.numerator, e.denominator) for base, e in zip(bases, fractions, strict=True)))
