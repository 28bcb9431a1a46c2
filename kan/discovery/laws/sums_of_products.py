r"""Sums of products of curves: ``y = c + sum_t prod_{i in S_t} phi_{t,i}(x_i)``, with one curve ``phi_{t,i}`` per column of a term.

If the curves of all other columns are given, `y` is linear in all curves of one column. The curves are therefore found column by column by
linear least squares (alternating least squares, as for the canonical polyadic decomposition of tensors), and then together by
Levenberg-Marquardt. Which columns occur together in which term, the pattern ``S``, is the shape of a network with one layer of curves and
products above it; whether a pattern fits takes milliseconds to find out, before any network is trained.

How formulas follow from the curves is in `kan.discovery.laws.curve_naming`.

References
    T. Kolda, B. Bader, "Tensor Decompositions and Applications", 2009, doi:10.1137/07070111X: alternating least squares, section 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kan.discovery.reduction.polynomials import Array, Mask, Stop, affordable, curve_bases, held_out, wide_columns
from kan.solvers.least_squares import Evaluation, minimise_residuals

__all__ = ["FittedSum", "Pattern", "SumOfProducts", "fit_pattern", "patterns"]

Pattern = tuple[tuple[int, ...], ...]
"""The columns that occur together, for each term."""

CURVE_DEGREE = 16
"""Degree of the polynomials of one column that curves are fitted with at first."""
HIGHER_DEGREES = (24, 32)
"""Degrees with which curves are fitted again once they are nearly found."""
MAX_ERROR_TO_RAISE = 0.03
"""Relative error above which curves are not found, so that higher degrees are not tried."""
MAX_ERROR_RATIO_OF_DEGREES = 0.5
"""Ratio of the error with a higher degree to that before, up to which the higher degree is kept."""
TENSOR_FUNCTIONS = 11
"""Number of functions of each of two columns whose products are fitted to start with."""
ALTERNATING_SWEEPS = 6
"""Number of sweeps of alternating least squares from one start, before all curves are fitted together."""
SUM_FIT_STEPS = 25
"""Largest number of Levenberg-Marquardt steps on all coefficients of a sum of products."""
MIN_SUM_FIT_GAIN = 1e-2
"""Relative decrease of the residuals' sum of squares in a step below which this fit ends."""
DEFAULT_STARTS = 2
"""Number of starts of a fit."""
MAX_ERROR_OF_LAST_START = 1e-4
"""Relative error below which no further starts are tried."""
MAX_ERROR_OF_LAST_BASIS = 1e-9
"""Relative error below which no further choices of logarithms of columns, and no higher degrees, are tried."""
MIN_HOPELESS_ERROR = 0.3
"""Relative error above which other choices of logarithms of columns would not help either."""


@dataclass(frozen=True)
class FittedSum:
    """A fitted sum of products.

    Attributes:
        pattern: which columns occur together.
        curves: values ``(N,)`` of the curve of every term and column.
        error: root mean squared error on held-out rows, relative to the deviation of the labels, or weighted if weights were given.
    """

    pattern: Pattern
    curves: dict[tuple[int, int], Array]
    error: float


def patterns(k: int) -> Iterator[Pattern]:
    """The patterns for `k` columns, the simple ones first; for more than three columns only those with one or two terms."""
    everything = tuple(range(k))
    yield (everything,)
    if k == 2:
        yield from (((0,), everything), ((1,), everything), ((0,), (1,), everything))
    elif k == 3:
        for i, j in combinations(range(3), 2):
            (other,) = set(range(3)) - {i, j}
            yield (other,), (i, j)
            yield tuple(sorted((i, other))), tuple(sorted((j, other)))
            yield (i,), (j,), (other,), (i, j)
        for i, j in combinations(range(3), 2):
            yield (i, j), everything
        yield from (((i,), everything) for i in everything)
    else:
        for i in everything:
            yield (i,), tuple(j for j in everything if j != i)


def fit_pattern(
    x: Array,
    y: Array,
    pattern: Pattern,
    seed: int = 0,
    starts: int = DEFAULT_STARTS,
    weights: Array | None = None,
    stop: Stop = lambda: False,
) -> FittedSum:
    """Fit the curves of a pattern by alternating least squares and Levenberg-Marquardt steps, from several starts.

    Args:
        x: the columns, ``(N, k)``.
        y: the labels, ``(N,)``.
        pattern: which columns occur together, see `patterns`.
        seed: seed of the starts.
        starts: number of starts.
        weights: weights of the residuals, ``(N,)``. If they are given, the error is that of the weighted residuals, and it is relative to
            the deviation of the labels otherwise.
        stop: asked between steps whether to return the curves as they are.

    >>> x = np.random.default_rng(0).uniform(1, 2, (300, 2))
    >>> fit_pattern(x, x[:, 0] * np.sin(x[:, 1]), ((0, 1),)).error < 1e-8
    True
    """
    held = held_out(x)
    if weights is None:
        weights = np.full(len(y), 1 / max(float(np.std(y)), 1e-300))
    best: tuple[float, SumOfProducts | None, tuple[bool, ...]] = math.inf, None, ()
    for wide in wide_columns(x, y, stop):
        if stop():
            break
        bases = curve_bases(x, wide, CURVE_DEGREE)
        for start in range(starts):
            model = SumOfProducts(bases, pattern, y, held, weights)
            if start == 0 and (0, 1) in pattern and x.shape[1] == 2:
                model.begin_with_tensor()
            else:
                model.begin(np.random.default_rng(seed + start))
            for _ in range(ALTERNATING_SWEEPS):
                if not stop():
                    model.sweep()
            error = model.sharpened(stop)
            if error < best[0]:
                best = error, model, wide
            if best[0] < MAX_ERROR_OF_LAST_START or stop() or len(model.parts) == sum(len(columns) == 1 for columns in pattern):
                break
        if not MAX_ERROR_OF_LAST_BASIS < best[0] < MIN_HOPELESS_ERROR:
            break
    error, found, wide = best
    if found is None:
        return FittedSum(pattern, {}, math.inf)
    for degree in HIGHER_DEGREES:
        if not MAX_ERROR_OF_LAST_BASIS < error < MAX_ERROR_TO_RAISE or len(found.parts) * degree > affordable(len(y)) or stop():
            break
        finer = found.raised(curve_bases(x, wide, degree))
        new = finer.sharpened(stop)
        if not new < MAX_ERROR_RATIO_OF_DEGREES * error:
            break
        error, found = new, finer
    return FittedSum(pattern, found.curves, error)


class SumOfProducts:
    """A sum of products of curves while it is fitted.

    Attributes:
        bases: orthonormal polynomials of each column at all rows, ``(N, functions)`` each.
        pattern: which columns occur together.
        y: the labels, ``(N,)``.
        held: which rows are held out, ``(N,)``.
        weights: weights of the residuals, ``(N,)``.
        parts: coefficients of the curve of every term and column.
        constant: the constant term.
    """

    def __init__(self, bases: list[Array], pattern: Pattern, y: Array, held: Mask, weights: Array) -> None:
        self.bases, self.pattern, self.y, self.held, self.weights = bases, pattern, y, held, weights
        self.parts: dict[tuple[int, int], Array] = {}
        self.constant = 0.0

    @property
    def curves(self) -> dict[tuple[int, int], Array]:
        """Values ``(N,)`` of the curve of every term and column."""
        return {(t, i): self.bases[i] @ part for (t, i), part in self.parts.items()}

    def raised(self, bases: list[Array]) -> SumOfProducts:
        """The same curves with polynomials of higher degrees."""
        other = SumOfProducts(bases, self.pattern, self.y, self.held, self.weights)
        other.parts = {(t, i): np.pad(part, (0, bases[i].shape[1] - len(part))) for (t, i), part in self.parts.items()}
        other.constant = self.constant
        return other

    def begin(self, random: np.random.Generator) -> None:
        """Start from random curves."""
        self.parts = {}
        for t, columns in enumerate(self.pattern):
            for i in columns:
                self.parts[t, i] = np.zeros(self.bases[i].shape[1])
                few = self.parts[t, i][:4]
                few[:] = random.normal(size=4)[: len(few)]

    def begin_with_tensor(self) -> None:
        """Start from a least-squares fit of products of functions of two columns; of one product, its coefficients have rank one."""
        few = [basis[:, :TENSOR_FUNCTIONS] for basis in self.bases]
        rows = ((self.weights[:, None] * few[0])[:, :, None] * few[1][:, None, :]).reshape(len(self.y), -1)
        tensor = np.linalg.lstsq(rows[~self.held], (self.weights * self.y)[~self.held], rcond=1e-10)[0].reshape(
            few[0].shape[1], few[1].shape[1]
        )
        alone = {columns[0]: t for t, columns in enumerate(self.pattern) if len(columns) == 1}
        both = self.pattern.index((0, 1))
        rest = tensor.copy()
        parts = {}
        if 0 in alone:
            parts[alone[0], 0] = tensor[:, 0] * few[1][0, 0]
            rest[:, 0] = 0
        if 1 in alone:
            parts[alone[1], 1] = tensor[0] * few[0][0, 0]
            rest[0] = 0
        left, size, right = np.linalg.svd(rest)
        parts[both, 0], parts[both, 1] = left[:, 0], right[0] * size[0]
        self.parts = {
            (t, i): np.pad(parts[t, i], (0, self.bases[i].shape[1] - len(parts[t, i])))
            for t, columns in enumerate(self.pattern)
            for i in columns
        }

    def sweep(self) -> None:
        """Fit the curves of one column after the other by linear least squares."""
        for i, basis in enumerate(self.bases):
            of = [t for t, columns in enumerate(self.pattern) if i in columns]
            rows = np.concatenate([self.weights[:, None], *(self.rest(t, i)[:, None] * basis for t in of)], 1)
            c = _solved(rows[~self.held], (self.weights * self.y)[~self.held])
            self.constant = float(c[0])
            for place, t in enumerate(of):
                part = c[1 + place * basis.shape[1] :][: basis.shape[1]]
                # The last of several factors carries the size, so that none grows without bound.
                several = i != self.pattern[t][-1]
                self.parts[t, i] = part / max(float(np.linalg.norm(part)), 1e-300) if several else part

    def rest(self, t: int, i: int) -> Array:
        """A term without the factor of one of its columns, times the weights, ``(N,)``."""
        return math.prod((self.bases[j] @ self.parts[t, j] for j in self.pattern[t] if j != i), start=self.weights)

    def residuals(self) -> Array:
        """The weighted residuals at all rows, ``(N,)``."""
        curves = self.curves
        found = self.constant + sum(math.prod(curves[t, i] for i in columns) for t, columns in enumerate(self.pattern))
        return self.weights * (self.y - found)

    def sharpened(self, stop: Stop = lambda: False) -> float:
        """Levenberg-Marquardt on all coefficients; the error on the samples that were held out."""
        places = list(self.parts)
        ends = np.cumsum([len(self.parts[place]) for place in places])[:-1]

        def put(q: Array) -> None:
            self.constant = float(q[0])
            self.parts = dict(zip(places, np.split(q[1:], ends), strict=True))

        def evaluate(q: Array) -> Evaluation:
            put(q)
            return self.residuals()[~self.held], lambda: jacobian(q)

        def jacobian(q: Array) -> Array:
            put(q)
            columns = [self.weights[:, None], *(self.rest(t, i)[:, None] * self.bases[i] for t, i in places)]
            return -np.concatenate(columns, 1)[~self.held]

        q, _ = minimise_residuals(evaluate, np.concatenate([[self.constant], *self.parts.values()]), SUM_FIT_STEPS, MIN_SUM_FIT_GAIN, stop)
        put(q)
        return float(np.sqrt(np.mean(self.residuals()[self.held] ** 2)))


def _solved(rows: Array, y: Array) -> Array:
    """The least-squares solution, computed with normalised columns."""
    size = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
    return np.asarray(np.linalg.lstsq(rows / size, y, rcond=1e-12)[0] / size)
