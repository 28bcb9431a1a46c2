r"""Polynomials in few linear forms of the columns; the forms are found by least squares.

A law ``y = exp(p.u) h(Q u)`` with ``u = log x`` depends on its ``n`` variables only through ``k`` power products and a factor. ``Q`` is in
reduced row echelon form, with one pivot column per row. The unknowns besides ``h`` are its other entries ``R``, and the exponents ``p`` of
the columns that are not pivots. ``h`` is approximated by a polynomial, whose coefficients follow by linear least squares for every ``R``
and ``p`` (variable projection), so that Gauss-Newton steps are needed for these few numbers only.

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
    "LabelTarget",
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
"""A function that is asked during long computations whether to end them with the present result."""

MAX_COEFFICIENTS_PER_ROW = 0.4
"""Largest number of coefficients of a polynomial, as a share of the rows, if its error is measured on held-out rows."""
MAX_COEFFICIENTS_PER_FITTED_ROW = 0.5
"""Largest number of coefficients of a polynomial in linear forms, as a share of the rows, whose error is measured on the fitted rows."""
MAX_FIT_PRODUCTS = 3 * 10**8
"""Largest number of products of two terms, over all rows, in a least-squares fit: half a second, and 10 MB for 4000 rows."""
MAX_STEP_PRODUCTS = 10**8
"""The number of `MAX_FIT_PRODUCTS` for fits that are repeated in many steps."""
MIN_FORM_FIT_GAIN = 1e-6
"""Relative decrease of the residuals' sum of squares in a step below which the fit of linear forms ends."""
MAX_QUICK_COEFFICIENTS = 130
"""Largest number of coefficients of the polynomials by which the noise is estimated and columns are chosen for logarithms."""
MAX_POLYNOMIAL_DEGREE = 12
"""Largest total degree of a polynomial that approximates the labels."""
MIN_PLATEAU_RATIO = 0.85
"""Ratio of the least error of polynomials of several successive degrees to the error of the degree before, above which the error is
noise."""
MIN_LARGE_NOISE = 0.2
"""Relative error of polynomials above which more degrees are needed to see that it is noise, see `noise_floor`."""
PLATEAU_DEGREES, LONG_PLATEAU_DEGREES = 2, 4
"""Numbers of successive degrees that must have the same error if it is noise: below `MIN_LARGE_NOISE`, and above."""
MAX_VISIBLE_NOISE = 0.6
"""Relative error of polynomials above which they approximate nothing of the law, so that their error is not taken for noise."""
TAIL_SHARE = 0.02
"""Share of the rows at either end of a column that are not held out."""
MIN_RATIO_FOR_LOGARITHM = 3.0
"""Ratio of the largest to the smallest value of a column above which its logarithm may be used in place of the column."""
SMALL_LABEL = 0.03
"""Size of a label, as a share of the root mean square of all labels, below which it has little weight in a fit of logarithms. In the
logarithm, noise of that size would be as large as the label."""
MAX_SHARE_OF_OTHER_SIGN = 0.1
"""Largest share of the labels that may have the other sign if logarithms of the labels are fitted."""
MAX_LABEL_OF_OTHER_SIGN = 0.2
"""Largest size of a label of the other sign, as a share of the root mean square of all labels, if logarithms are fitted. Smaller ones may
have changed their sign by noise."""


class Polynomials:
    """Products of Chebyshev polynomials in the columns of `z`, mapped to ``[-1, 1]``, up to the total degree `degree`."""

    def __init__(self, z: Array, degree: int) -> None:
        n = z.shape[1]
        chosen = [c for d in range(degree + 1) for c in combinations_with_replacement(range(n), d)]
        self.exponents = np.array([[c.count(j) for j in range(n)] for c in chosen], dtype=int).reshape(len(chosen), n)
        self.degree, self.low = degree, z.min(0)
        self.scale = 2 / np.maximum(z.max(0) - self.low, 1e-300)

    def __len__(self) -> int:
        return len(self.exponents)

    def values(self, z: Array) -> Array:
        """The values of all products, ``(N, terms)``."""
        product = np.ones((len(z), len(self)))
        for j in range(z.shape[1]):
            self._multiply(product, j, self._kinds(z, j)[0])
        return product

    def slopes(self, z: Array) -> Iterator[Array]:
        """The derivatives ``(N, terms)`` with respect to each column of `z`, one after another, since all of them need much memory."""
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
        """Chebyshev polynomials of one column of the first kind and, shifted by one degree, of the second, ``(N, degree + 1)`` each."""
        s = (z[:, j] - self.low[j]) * self.scale[j] - 1
        first, second = [np.ones_like(s), s], [np.zeros_like(s), np.ones_like(s)]
        for _ in range(2, self.degree + 1):
            first.append(2 * s * first[-1] - first[-2])
            second.append(2 * s * second[-1] - second[-2])
        return np.stack(first, 1), np.stack(second, 1)

    def _multiply(self, product: Array, j: int, values: Array, some: Mask | bool = True) -> None:
        """Multiply `some` terms by their factor in column `j`, in place. Most terms have no factor in most columns."""
        order = self.exponents[:, j]
        there = ((order > 0) & some).nonzero()[0]
        product[:, there] *= values[:, order[there]]


def _never() -> bool:
    return False


def affordable(rows: int) -> int:
    """Largest number of coefficients of a polynomial that is fitted to `rows` rows, which also bounds memory and time."""
    return min(int(MAX_COEFFICIENTS_PER_ROW * rows), math.isqrt(MAX_FIT_PRODUCTS // max(rows, 1)))


def noise_floor(z: Array, factor: Array, y: Array, stop: Stop = _never) -> tuple[float, bool]:
    """Least root mean squared error of ``y = factor h(z)`` with a polynomial ``h`` on held-out rows, and whether that error is noise.

    Polynomials of several successive degrees have the same error if it is noise. If they do not yet approximate the law, their errors
    decrease with the degree, but they may decrease slowly while they are large, so that large noise must be seen for more degrees.

    Args:
        z: the columns, ``(N, k)``.
        factor: the factor of the labels, ``(N,)``.
        y: the labels, ``(N,)``.
        stop: whether to try no further degrees.
    """
    held = held_out(z)
    z = np.where(z.min(0) > 0, np.log(np.maximum(z, 1e-300)), z)
    errors: list[float] = []
    most = min(MAX_QUICK_COEFFICIENTS, MAX_COEFFICIENTS_PER_ROW * len(y) / 2)
    first = 1 if z.shape[1] + 1 <= most else 0  # with few rows or many columns only a constant can be fitted
    for degree in range(first, MAX_POLYNOMIAL_DEGREE + 1):
        if errors and (math.comb(z.shape[1] + degree, degree) > most or stop()):
            break
        rows = Polynomials(z, degree).values(z) * factor[:, None]
        size = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
        c = np.linalg.lstsq((rows / size)[~held], y[~held], rcond=1e-12)[0]
        errors.append(float(np.sqrt(np.mean((rows[held] @ (c / size) - y[held]) ** 2))))
    share = min(errors) / max(float(np.std(y)), 1e-300)
    several = PLATEAU_DEGREES if share < MIN_LARGE_NOISE else LONG_PLATEAU_DEGREES
    plateau = len(errors) > several and min(errors[-several:]) > MIN_PLATEAU_RATIO * errors[-several - 1]
    return min(errors), share < MAX_VISIBLE_NOISE and plateau


def held_out(x: Array) -> Mask:
    """Every fifth row, except those near the ends of a column, where polynomials have large errors that say nothing about the others."""
    low, high = np.quantile(x, (TAIL_SHARE, 1 - TAIL_SHARE), axis=0)
    fifth = np.arange(len(x)) % 5 == min(3, len(x) - 1)
    inside = fifth & ((x >= low) & (x <= high)).all(1)  # many rows are at the ends of a column of few values
    return np.asarray(inside if inside.any() else fifth)


def wide_columns(x: Array, y: Array, stop: Stop = _never) -> list[tuple[bool, ...]]:
    """Choices of the columns that are replaced by their logarithms, the likely one first: power laws need logarithms, waves do not."""
    columns = list(x.T)
    low = x.min(0)
    # The logarithm of a column that begins near zero has a few values far from the others, to which a polynomial would adapt.
    within = np.quantile(x, TAIL_SHARE, axis=0) < 2 * MIN_RATIO_FOR_LOGARITHM * low
    able = (low > 0) & (x.max(0) > MIN_RATIO_FOR_LOGARITHM * low) & within
    error, chosen = _quick_error(columns, y), []
    for i in range(len(columns)):
        tried = able[i] and not stop()
        trial = [*columns[:i], np.log(columns[i]), *columns[i + 1 :]] if tried else columns
        new = _quick_error(trial, y) if tried else error
        chosen.append(new < error)
        columns, error = (trial, new) if new < error else (columns, error)
    return list(dict.fromkeys([tuple(map(bool, able)), tuple(map(bool, chosen)), (False,) * len(columns)]))


def curve_bases(x: Array, wide: Sequence[bool], degree: int) -> list[Array]:
    """For each column, orthonormal polynomials in it, or in its logarithm if it is `wide`; the constant is the first."""
    columns = [np.log(column) if log else column for column, log in zip(x.T, wide, strict=True)]
    return [np.linalg.qr(_chebyshev(column, degree))[0] * math.sqrt(len(x)) for column in columns]


def _quick_error(columns: list[Array], y: Array) -> float:
    """Norm of the residual of a polynomial of low degree."""
    degree = next(d for d in (10, 7, 6, 5, 4, 3, 2, 1) if math.comb(len(columns) + d, d) < MAX_QUICK_COEFFICIENTS or d == 1)
    z = np.stack(columns, 1)
    rows = Polynomials(z, degree).values(z)
    return float(np.linalg.norm(y - rows @ np.linalg.lstsq(rows, y, rcond=1e-12)[0]))


def _chebyshev(column: Array, degree: int) -> Array:
    """Chebyshev polynomials in a column that is mapped to ``[-1, 1]``, ``(N, degree + 1)``."""
    low, high = column.min(), column.max()
    return np.asarray(np.polynomial.chebyshev.chebvander(2 * (column - low) / max(high - low, 1e-300) - 1, degree))


@dataclass(frozen=True)
class LabelTarget:
    """The labels as they are fitted: themselves or their logarithms.

    Attributes:
        values: ``log|y|``, or ``y`` divided by its root mean square.
        weights: weights of the rows.
        logarithmic: whether the values are logarithms.
    """

    values: Array
    weights: Array
    logarithmic: bool

    @classmethod
    def of(cls, y: Array) -> LabelTarget:
        """The target ``log|y|`` if all labels have one sign, except a few small ones, and ``y`` otherwise."""
        size = float(np.sqrt(np.mean(y**2)))
        other = y * np.sign(np.median(y)) <= 0
        if other.mean() > MAX_SHARE_OF_OTHER_SIGN or np.any(np.abs(y[other]) > MAX_LABEL_OF_OTHER_SIGN * size):
            return cls(y / size, np.ones_like(y), False)
        small = np.abs(y) < 1e-300
        weights = np.where(other | small, 0.0, np.abs(y) / np.hypot(y, SMALL_LABEL * size))
        return cls(np.log(np.where(small, 1.0, np.abs(y))), weights, True)

    @property
    def deviation(self) -> float:
        """Standard deviation of the weighted values, by which errors are divided."""
        return max(float(np.std(self.values * self.weights)), 1e-300)


def surrogate(u: Array, target: LabelTarget, stop: Stop = _never) -> tuple[Array, float]:
    """The gradients ``(N, n)`` of a polynomial approximation of the target at all rows, and its relative error on held-out rows.

    Columns that turn out to enter linearly and without an interaction get a linear term only, so that the others may have higher degrees.

    Args:
        u: the columns, ``(N, n)``.
        target: the labels.
        stop: whether to try no further degrees.
    """
    count, n = u.shape
    held = np.arange(count) % 5 == 2
    active, best = list(range(n)), (np.zeros_like(u), math.inf)
    for degree in range(1, MAX_POLYNOMIAL_DEGREE + 1):
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
        pivots: the pivot columns of the rows of ``Q``.
        rest: the other columns.
        entries: the entries ``R`` of ``Q`` in the other columns, ``(k, n - k)``.
        powers: the exponents ``p`` of the other columns.
        error: error of the best ``h``, relative to the deviation of the target.
        fixed: number of forms, from the first on, that are single columns and are not fitted.
    """

    pivots: tuple[int, ...]
    rest: tuple[int, ...]
    entries: Array
    powers: Array
    error: float = math.inf
    fixed: int = 0

    @property
    def matrix(self) -> Array:
        """The matrix ``Q``, ``(k, n)``."""
        q = np.zeros((len(self.pivots), len(self.pivots) + len(self.rest)))
        q[range(len(self.pivots)), list(self.pivots)] = 1
        q[:, list(self.rest)] = self.entries
        return q


def start_forms(u: Array, target: LabelTarget, gradients: Array, k: int, fixed: tuple[int, ...] = ()) -> Forms:
    """Forms to start from, by the directions in which a polynomial approximation varies (active subspaces).

    Args:
        u: the columns, ``(N, n)``.
        target: the labels.
        gradients: gradients of the approximation, ``(N, n)``, see `surrogate`.
        k: number of forms besides those of `fixed`.
        fixed: columns that are forms of their own and occur in no other form.
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
        # All right singular vectors are needed. With fewer rows than columns only full matrices contain them; with many rows these would
        # take memory that grows with the square of the rows.
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
    return Forms((*fixed, *(free[i] for i in chosen)), tuple(free[i] for i in others), entries, powers[others], fixed=len(fixed))


def fit_forms(
    u: Array,
    target: LabelTarget,
    forms: Forms,
    degree: int,
    steps: int = 60,
    entries: bool = True,
    powers: bool = True,
    stop: Stop = _never,
) -> Forms:
    """Fit ``R`` and ``p`` by Levenberg-Marquardt, with the polynomial of `degree` that is best for them.

    Args:
        u: the columns, ``(N, n)``.
        target: the labels.
        forms: the forms to start from.
        degree: largest degree of the polynomial; it is reduced where the rows do not suffice or a step would take too long.
        steps: largest number of steps.
        entries, powers: whether the entries and the exponents are fitted.
        stop: asked before every step whether to return the forms as they are.
    """
    count, most = len(forms.pivots), min(MAX_COEFFICIENTS_PER_FITTED_ROW * len(u), math.isqrt(MAX_STEP_PRODUCTS // max(len(u), 1)))
    degree = next((d for d in range(degree, 0, -1) if math.comb(count + d, d) <= most), min(degree, 1))
    problem = _Separable(u, target, forms, degree, entries, powers)
    _, value = minimise_residuals(problem.evaluate, np.zeros(problem.unknowns), steps, MIN_FORM_FIT_GAIN, stop)
    return replace(problem.best, error=math.sqrt(value / len(u)) / target.deviation)


class _Separable:
    """Residuals for the polynomial that is best for given forms, and their Jacobian by the unknowns of these (Kaufman's approximation).

    The unknowns are what entries and powers differ by from those of `start`; powers are among them only where the target is linear, for of
    a logarithm they are coefficients like those of the polynomial.
    """

    def __init__(self, u: Array, target: LabelTarget, start: Forms, degree: int, entries: bool, powers: bool) -> None:
        self.u, self.target, self.start, self.degree, self.fixed = u, target, start, degree, start.fixed
        self.linear_powers, self.powers = powers and target.logarithmic, powers and not target.logarithmic
        self.free = start.entries[start.fixed:] if entries else start.entries[:0]
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
