r"""Functions of few linear forms: polynomials in them, the forms found by least squares.

A law ``y = exp(p.u) h(Q u)`` with ``u = log x`` depends on ``n`` variables through ``k`` power products of them only. With the pivots,
one per row, of ``Q`` in reduced row echelon form, its other entries ``R`` and the exponents ``p`` of the other variables are all that is
unknown beside ``h``, which is a polynomial here. Its coefficients follow by linear least squares for every ``R`` and ``p`` (variable
projection), so that Gauss-Newton steps are needed for these few numbers alone.

References
    G. Golub, V. Pereyra, "Separable nonlinear least squares: the variable projection method and its applications", 2003,
        doi:10.1088/0266-5611/19/2/201.
    P. Constantine, "Active Subspaces", 2015, doi:10.1137/1.9781611973860: directions from the covariance of gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, islice

import numpy as np
from numpy.typing import NDArray

from kan.solvers.least_squares import Evaluation, minimise_residuals

__all__ = [
    "Forms",
    "Mask",
    "Polynomials",
    "Stop",
    "Target",
    "curve_bases",
    "fit_forms",
    "held_out",
    "noise_floor",
    "start_forms",
    "surrogate",
    "wide_columns",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Stop = Callable[[], bool]
"""Asked within long computations whether to end them with what there is."""

MOST_TERMS = 0.4
"""Terms of a polynomial, as a share of the samples, at most."""
MOST_SHARE = 0.5
"""As much for a polynomial of few linear forms, whose error is that of samples which were fitted."""
MOST_PRODUCTS = 3 * 10**8
"""Largest number of products of two terms, over all rows, in a least squares fit: half a second, and 10 MB for 4000 rows."""
MOST_STEPS = 10**8
"""As many where fits are repeated in each of many steps."""
LEAST_GAIN = 1e-6
"""Relative decrease of the residuals' sum of squares in a step below which the fit of linear forms ends."""
FEW_TERMS = 130
PLATEAU = 0.85
"""Ratio of errors of polynomials, one after the other, above which what is left is noise."""
MUCH = 0.2
"""Share of the deviation from which on noise is much."""
ALL = 0.6
"""Share from which on polynomials see nothing of the law."""
HIGHEST = 12
TAIL = 0.02
"""Share of the samples at either end that are not held out."""
RATIO = 3.0
"""Of the largest to the smallest value, from which on logarithms are worth their room."""
SMALL = 0.03
"""Share of the root mean square below which a label says little in logarithms: noise of that size would drown it."""


class Polynomials:
    """Products of Chebyshev polynomials of total degree `degree` or less in the columns of `z`, which are mapped to ``[-1, 1]``."""

    def __init__(self, z: Array, degree: int) -> None:
        n = z.shape[1]
        chosen = [c for d in range(degree + 1) for c in combinations_with_replacement(range(n), d)]
        self.exponents = np.array([[c.count(j) for j in range(n)] for c in chosen], dtype=int).reshape(len(chosen), n)
        self.degree, self.low = degree, z.min(0)
        self.scale = 2 / np.maximum(z.max(0) - self.low, 1e-300)

    def __len__(self) -> int:
        return len(self.exponents)

    def values(self, z: Array) -> Array:
        """``(N, terms)``."""
        product = np.ones((len(z), len(self)))
        for j in range(z.shape[1]):
            self._multiply(product, j, self._kinds(z, j)[0])
        return product

    def slopes(self, z: Array) -> Iterator[Array]:
        """Their derivatives by each column of `z`, one after the other: of many columns all of them take much room."""
        kinds = [self._kinds(z, j) for j in range(z.shape[1])]
        for j, (_, second) in enumerate(kinds):
            order = self.exponents[:, j]
            there = order.nonzero()[0]
            product = np.zeros((len(z), len(self)), order="F")
            product[:, there] = second[:, order[there]] * order[there] * self.scale[j]
            for i, (first, _) in enumerate(kinds):
                if i != j:
                    self._multiply(product, i, first, order > 0)
            yield product

    def _kinds(self, z: Array, j: int) -> tuple[Array, Array]:
        """Polynomials in one column, of the first kind and, shifted by one degree, of the second, ``(N, degree + 1)`` each."""
        s = (z[:, j] - self.low[j]) * self.scale[j] - 1
        first, second = [np.ones_like(s), s], [np.zeros_like(s), np.ones_like(s)]
        for _ in range(2, self.degree + 1):
            first.append(2 * s * first[-1] - first[-2])
            second.append(2 * s * second[-1] - second[-2])
        return np.stack(first, 1), np.stack(second, 1)

    def _multiply(self, product: Array, j: int, values: Array, some: Mask | bool = True) -> None:
        """Multiply `some` terms by their factor in a column, in place; most terms have none of most columns."""
        order = self.exponents[:, j]
        there = ((order > 0) & some).nonzero()[0]
        product[:, there] *= values[:, order[there]]


def _never() -> bool:
    return False


def affordable(rows: int) -> int:
    """Number of terms of a polynomial that is fitted to so many rows: a share of these, and no more than memory and time allow."""
    return min(int(MOST_TERMS * rows), math.isqrt(MOST_PRODUCTS // max(rows, 1)))


def noise_floor(z: Array, factor: Array, y: Array, stop: Stop = _never) -> tuple[float, bool]:
    """Least root mean squared error of ``y = factor h(z)`` with a polynomial ``h``, and whether it is noise.

    Noise leaves the same error for polynomials of several degrees, on samples that were held out; what is only not yet fitted does not, but
    much that polynomials cannot follow may go on for a while: much noise has to be seen for more degrees.
    """
    held = held_out(z)
    z = np.where(z.min(0) > 0, np.log(np.maximum(z, 1e-300)), z)
    errors: list[float] = []
    most = min(FEW_TERMS, MOST_TERMS * len(y) / 2)
    first = 1 if z.shape[1] + 1 <= most else 0  # of few samples, or many columns, a constant is all that can be fitted
    for degree in range(first, HIGHEST + 1):
        if errors and (math.comb(z.shape[1] + degree, degree) > most or stop()):
            break
        rows = Polynomials(z, degree).values(z) * factor[:, None]
        size = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
        c = np.linalg.lstsq((rows / size)[~held], y[~held], rcond=1e-12)[0]
        errors.append(float(np.sqrt(np.mean((rows[held] @ (c / size) - y[held]) ** 2))))
    share = min(errors) / max(float(np.std(y)), 1e-300)
    several = 2 if share < MUCH else 4
    return min(errors), share < ALL and len(errors) > several and min(errors[-several:]) > PLATEAU * errors[-several - 1]


def held_out(x: Array) -> Mask:
    """Every fifth sample, but for those at the ends of a column: polynomials go anywhere there, and these say nothing about the rest."""
    low, high = np.quantile(x, (TAIL, 1 - TAIL), axis=0)
    fifth = np.arange(len(x)) % 5 == min(3, len(x) - 1)
    inside = fifth & ((x >= low) & (x <= high)).all(1)  # of a column of few values those at its ends are many, and stay
    return np.asarray(inside if inside.any() else fifth)


def wide_columns(x: Array, y: Array, stop: Stop = _never) -> list[tuple[bool, ...]]:
    """Of which columns to take logarithms first: power laws over a wide range want that, waves do not. The likely choice is first."""
    columns = list(x.T)
    low = x.min(0)
    # A column that begins near zero has a few samples far out in its logarithm, which would fit whatever these have.
    able = (low > 0) & (x.max(0) > RATIO * low) & (np.quantile(x, TAIL, axis=0) < 2 * RATIO * low)
    error, chosen = _missed(columns, y), []
    for i in range(len(columns)):
        tried = able[i] and not stop()
        trial = [*columns[:i], np.log(columns[i]), *columns[i + 1 :]] if tried else columns
        new = _missed(trial, y) if tried else error
        chosen.append(new < error)
        columns, error = (trial, new) if new < error else (columns, error)
    return list(dict.fromkeys([tuple(map(bool, able)), tuple(map(bool, chosen)), (False,) * len(columns)]))


def curve_bases(x: Array, wide: Sequence[bool], degree: int) -> list[Array]:
    """For each column orthonormal polynomials of it, a constant first, or of its logarithm where it is `wide`."""
    columns = [np.log(column) if log else column for column, log in zip(x.T, wide, strict=True)]
    return [np.linalg.qr(_chebyshev(column, degree))[0] * math.sqrt(len(x)) for column in columns]


def _missed(columns: list[Array], y: Array) -> float:
    """What a polynomial of a low degree misses."""
    degree = next(d for d in (10, 7, 6, 5, 4, 3, 2, 1) if math.comb(len(columns) + d, d) < FEW_TERMS or d == 1)
    z = np.stack(columns, 1)
    rows = Polynomials(z, degree).values(z)
    return float(np.linalg.norm(y - rows @ np.linalg.lstsq(rows, y, rcond=1e-12)[0]))


def _chebyshev(column: Array, degree: int) -> Array:
    low, high = column.min(), column.max()
    return np.asarray(np.polynomial.chebyshev.chebvander(2 * (column - low) / max(high - low, 1e-300) - 1, degree))


@dataclass(frozen=True)
class Target:
    """What is fitted.

    Attributes:
        values: ``log|y|`` or ``y``.
        weights: of the samples.
        logarithmic: which of the two.
    """

    values: Array
    weights: Array
    logarithmic: bool

    @classmethod
    def of(cls, y: Array) -> Target:
        """``log|y|`` where `y` has one sign, but for some small values that noise may have turned."""
        size = float(np.sqrt(np.mean(y**2)))
        other = y * np.sign(np.median(y)) <= 0
        if other.mean() > 0.1 or np.any(np.abs(y[other]) > 0.2 * size):
            return cls(y / size, np.ones_like(y), False)
        small = np.abs(y) < 1e-300
        weights = np.where(other | small, 0.0, np.abs(y) / np.hypot(y, SMALL * size))
        return cls(np.log(np.where(small, 1.0, np.abs(y))), weights, True)

    @property
    def deviation(self) -> float:
        """Of the weighted values, which errors are shares of."""
        return max(float(np.std(self.values * self.weights)), 1e-300)


def surrogate(u: Array, target: Target, stop: Stop = _never) -> tuple[Array, float]:
    """A polynomial of `u` for the target: its gradients at the samples, ``(N, n)``, and its error on samples that were held out.

    Columns without an interaction, which enter as straight lines, leave room for higher degrees of the others.
    """
    count, n = u.shape
    held = np.arange(count) % 5 == 2
    active, best = list(range(n)), (np.zeros_like(u), math.inf)
    for degree in range(1, HIGHEST + 1):
        if math.comb(len(active) + degree, degree) + n - len(active) > affordable(count) or stop():
            break
        straight = [i for i in range(n) if i not in active]
        basis = Polynomials(u[:, active], degree)
        rows = np.concatenate([basis.values(u[:, active]), u[:, straight]], 1) * target.weights[:, None]
        weighted = target.values * target.weights
        c = np.linalg.lstsq(rows[~held], weighted[~held], rcond=1e-12)[0]
        error = float(np.sqrt(np.mean((weighted - rows @ c)[held] ** 2))) / target.deviation
        if error < best[1]:
            gradients = np.zeros_like(u)
            for i, slope in zip(active, basis.slopes(u[:, active]), strict=True):
                gradients[:, i] = slope @ c[: len(basis)]
            gradients[:, straight] = c[len(basis) :]
            best = gradients, error
            if degree in (2, 3):
                bent = basis.exponents.sum(1) >= 2
                share = np.array([np.sum(c[: len(basis)][bent & (column > 0)] ** 2) for column in basis.exponents.T])
                kept = share > max(1e-4 * share.max(), (0.02 * error * target.deviation) ** 2)
                active = [i for i, keep in zip(active, kept, strict=True) if keep] or active
        if error < 1e-9:
            break
    return best


@dataclass(frozen=True)
class Forms:
    """``k`` linear forms of ``n`` columns, and a factor.

    Attributes:
        pivots: the columns that the rows of ``Q`` have ones in.
        rest: the other columns.
        entries: ``R``, of these, ``(k, n - k)``.
        powers: ``p`` of these.
        error: of the best ``h``, as a share of the target's deviation.
    """

    pivots: tuple[int, ...]
    rest: tuple[int, ...]
    entries: Array
    powers: Array
    error: float = math.inf

    @property
    def matrix(self) -> Array:
        """``Q``."""
        q = np.zeros((len(self.pivots), len(self.pivots) + len(self.rest)))
        q[range(len(self.pivots)), list(self.pivots)] = 1
        q[:, list(self.rest)] = self.entries
        return q


def start_forms(u: Array, target: Target, gradients: Array, k: int, fixed: tuple[int, ...] = ()) -> Forms:
    """Forms from the gradients of a surrogate.

    Args:
        u: ``(N, n)``.
        target: what is fitted.
        gradients: ``(N, n)``.
        k: forms beside those of `fixed`.
        fixed: columns that are forms of their own, and have part in no other.
    """
    n = u.shape[1]
    free = [i for i in range(n) if i not in fixed]
    spread = u[:, free].std(0)
    g = gradients[:, free] * spread
    powers = np.zeros(len(free))
    if target.logarithmic:
        directions = np.linalg.svd((g - g.mean(0)) * target.weights[:, None], full_matrices=False)[2][:k] / spread
    else:
        both = np.concatenate([g, -target.values[:, None]], 1)
        # All right vectors: of fewer rows than columns only the full matrices have them, of many rows these take a square of them.
        null = np.linalg.svd(both, full_matrices=len(both) < both.shape[1])[2][k + 1 :]
        directions = np.linalg.svd(null[:, :-1], full_matrices=True)[2][len(free) - k :] / spread
        powers = np.linalg.lstsq(null[:, :-1], null[:, -1], rcond=None)[0] / spread
    chosen: list[int] = []
    left = directions.copy()
    for _ in range(k):
        size = np.linalg.norm(left, axis=0)
        size[chosen] = -1
        chosen.append(int(size.argmax()))
        unit = left[:, chosen[-1]] / max(size[chosen[-1]], 1e-300)
        left = left - np.outer(unit, unit @ left)
    echelon = np.linalg.lstsq(directions[:, chosen], directions, rcond=None)[0]
    powers = powers - powers[chosen] @ echelon
    others = [i for i in range(len(free)) if i not in chosen]
    entries = np.concatenate([np.zeros((len(fixed), len(others))), echelon[:, others]])
    return Forms((*fixed, *(free[i] for i in chosen)), tuple(free[i] for i in others), entries, powers[others])


def fit_forms(
    u: Array,
    target: Target,
    forms: Forms,
    degree: int,
    fixed: int = 0,
    steps: int = 60,
    entries: bool = True,
    powers: bool = True,
    stop: Stop = _never,
) -> Forms:
    """Fit ``R`` and ``p`` by Levenberg-Marquardt, with the polynomial of `degree` that is best for them.

    Args:
        u: ``(N, n)``.
        target: what is fitted.
        forms: to start from.
        degree: of the polynomial, at most: no more than rows suffice for, and than can be fitted in many steps.
        fixed: number of rows whose entries stay.
        steps: at most.
        entries, powers: whether they may change.
        stop: asked before every step; the forms are what they are by then.
    """
    count, most = len(forms.pivots), min(MOST_SHARE * len(u), math.isqrt(MOST_STEPS // max(len(u), 1)))
    degree = next((d for d in range(degree, 0, -1) if math.comb(count + d, d) <= most), min(degree, 1))
    problem = _Separable(u, target, forms, degree, fixed, entries, powers)
    _, value = minimise_residuals(problem.evaluate, np.zeros(problem.unknowns), steps, LEAST_GAIN, stop)
    return replace(problem.best, error=math.sqrt(value / len(u)) / target.deviation)


class _Separable:
    """Residuals for the polynomial that is best for given forms, and their Jacobian by the unknowns of these (Kaufman's approximation).

    The unknowns are what entries and powers differ by from those of `start`; powers are among them only where the target is linear, for of
    a logarithm they are coefficients like those of the polynomial.
    """

    def __init__(self, u: Array, target: Target, start: Forms, degree: int, fixed: int, entries: bool, powers: bool) -> None:
        self.u, self.target, self.start, self.degree, self.fixed = u, target, start, degree, fixed
        self.linear_powers, self.powers = powers and target.logarithmic, powers and not target.logarithmic
        self.free = start.entries[fixed:] if entries else start.entries[:0]
        self.best, self._least = start, math.inf

    @property
    def unknowns(self) -> int:
        """How many there are."""
        return self.free.size + (len(self.start.powers) if self.powers else 0)

    def evaluate(self, unknowns: Array) -> Evaluation:
        """The residuals, and a function for their Jacobian; the forms with the least residuals so far are kept as `best`."""
        forms = self._moved(unknowns)
        target, rest = self.target, self.u[:, list(forms.rest)]
        z = self.u @ forms.matrix.T
        basis = Polynomials(z, self.degree)
        factor = target.weights * (1.0 if target.logarithmic else np.exp(np.clip(rest @ forms.powers, -300, 300)))
        wanted = target.values * target.weights
        rows = basis.values(z) * factor[:, None]
        if self.linear_powers:
            rows = np.concatenate([rows, rest * factor[:, None]], 1)
        elif target.logarithmic:
            wanted = wanted - rest @ forms.powers * factor
        size = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
        q, r = np.linalg.qr(rows / size)
        c = np.linalg.lstsq(r, q.T @ wanted, rcond=1e-13)[0]
        residuals = wanted - (rows / size) @ c
        c = c / size
        value = float(residuals @ residuals)
        if value < self._least:
            self._least, self.best = value, replace(forms, powers=c[len(basis) :]) if self.linear_powers else forms

        def jacobian() -> Array:
            columns = []
            if self.free.size:
                slopes = islice(basis.slopes(z), self.fixed, None)
                columns += [-((slope @ c[: len(basis)]) * factor)[:, None] * rest for slope in slopes]
            if self.powers:
                columns.append(-(rows @ c)[:, None] * rest)
            found = np.concatenate(columns, 1)
            return np.asarray(found - q @ (q.T @ found))

        return residuals, jacobian

    def _moved(self, unknowns: Array) -> Forms:
        """The forms at `unknowns`."""
        count = self.free.size
        entries, powers = self.start.entries, self.start.powers
        if count:
            entries = np.concatenate([entries[: self.fixed], self.free + unknowns[:count].reshape(self.free.shape)])
        return replace(self.start, entries=entries, powers=powers + unknowns[count:] if self.powers else powers)
