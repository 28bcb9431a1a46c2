r"""Which columns of the data interact: a functional analysis of variance by polynomials.

With the basis ``B`` and coefficients ``c``, the residual sum of squares grows by ``c_S' [(B'B)^{-1}]_SS^{-1} c_S`` when the terms ``S`` are
left out. An F statistic of all terms that contain two columns shows which pairs may interact. The largest sets of columns that interact
pairwise are the terms of a sum that the labels may be.

References
    G. Hooker, "Discovering additive structure in black box functions", 2004, doi:10.1145/1014052.1014122.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kan.discovery.laws.sums_of_products import Pattern
from kan.discovery.reduction.polynomials import MAX_COEFFICIENTS_PER_ROW, Array, Polynomials, Stop, held_out

__all__ = [
    "MAX_SEPARATION_ERROR", "MAX_TERMS", "TOTAL_DEGREES", "PolynomialSum", "TermBasis", "fitted_sum", "interactions", "joined_columns",
]  # fmt: skip

MAX_TERMS = 260
"""Largest number of terms of a polynomial, whatever the number of rows."""
MAX_DEGREE_OF_ONE_COLUMN = 16
"""Largest degree of terms in one column alone."""
TOTAL_DEGREES = (1, 2, 3, 4, 6, 8, 10, 12)
"""Total degrees of terms in several columns that are tried, one after another."""
MAX_RATIO_WITHOUT_PAIR = 1.03
"""Ratio of errors up to which a sum without an interaction is as good, if the error may be noise."""
MAX_EXACT_RATIO_WITHOUT_PAIR = 3.0
"""The ratio of `MAX_RATIO_WITHOUT_PAIR` for sums whose error is too small to be noise, see `MAX_NOISELESS_ERROR`."""
MAX_NOISELESS_ERROR = 1e-4
"""Relative error of a sum below which it is not noise: without an interaction that belongs to the law, the error would be several times
larger."""
MIN_POLYNOMIAL_ERROR = 1e-11
"""Relative error that polynomials have in any case, from round-off."""
MAX_FAILED_PAIRS = 3
"""Number of pairs of columns that are added without a gain before the search for interactions ends."""
MAX_SEPARATION_ERROR = 0.02
"""Largest relative error of a separation into parts."""


class TermBasis:
    """Chebyshev polynomials of the columns, or of logarithms of the `wide` ones, and their products within the terms of `pattern`.

    Args:
        x: the columns, ``(N, n)``.
        wide: for each column, whether its logarithm is used.
        pattern: the columns that occur together.
        degree: largest total degree of products.
        alone: largest degree of terms in one column.
    """

    def __init__(self, x: Array, wide: Sequence[bool], pattern: Pattern, degree: int, alone: int) -> None:
        self.wide = wide
        z = self.columns(x)
        n = z.shape[1]
        self.low, self.high = z.min(0), z.max(0)
        chosen = {tuple([0] * n)}
        for columns in pattern:
            for row in Polynomials(np.zeros((2, len(columns))), degree).exponents:
                full = np.zeros(n, dtype=int)
                full[list(columns)] = row
                chosen.add(tuple(map(int, full)))
        for i in range(n):
            chosen |= {tuple(d * (j == i) for j in range(n)) for d in range(alone + 1)}
        self.exponents = np.array(sorted(chosen))  # the constant is the first

    def columns(self, x: Array) -> Array:
        """The columns, with logarithms of the `wide` ones, ``(N, n)``."""
        return np.stack([np.log(np.maximum(c, 1e-300)) if log else c for c, log in zip(x.T, self.wide, strict=True)], 1)

    def __len__(self) -> int:
        return len(self.exponents)

    def values(self, x: Array) -> Array:
        """The basis functions at the rows `x`, ``(N, functions)``."""
        return self.values_at(self.columns(x))

    def values_at(self, z: Array) -> Array:
        """The basis functions at rows of which logarithms are already taken, see `columns`, ``(N, functions)``."""
        z = (2 * z - self.low - self.high) / np.maximum(self.high - self.low, 1e-300)
        tables = [np.polynomial.chebyshev.chebvander(column, int(order.max())) for column, order in zip(z.T, self.exponents.T, strict=True)]
        return np.asarray(math.prod(table[:, order] for table, order in zip(tables, self.exponents.T, strict=True)))


@dataclass(frozen=True)
class PolynomialSum:
    """A polynomial whose terms contain only columns that occur together in a pattern.

    Attributes:
        pattern: the columns that occur together.
        basis: the basis functions.
        c: their coefficients.
        error: relative error on held-out rows.
    """

    pattern: Pattern
    basis: TermBasis
    c: Array
    error: float


def interactions(x: Array, y: Array, wide: Sequence[bool], stop: Stop = lambda: False) -> PolynomialSum:
    """The interactions of the columns: which of them occur together in the terms of a sum.

    Pairs of columns are added, those with the largest F statistic first, as long as the error on held-out rows decreases. The fewer pairs
    there are, the higher are the degrees that the rows suffice for. Pairs without which the error is hardly larger are then removed.

    Args:
        x: the columns, ``(N, n)``.
        y: the labels, ``(N,)``.
        wide: for each column, whether its logarithm is used.
        stop: whether to return the sum as it is.

    >>> x = np.random.default_rng(0).uniform(1, 2, (300, 3))
    >>> interactions(x, x[:, 0] + np.exp(x[:, 1] * x[:, 2]), (False,) * 3).pattern
    ((0,), (1, 2))
    """
    n = x.shape[1]

    def fitted(pattern: Pattern) -> PolynomialSum:
        return fitted_sum(x, y, wide, pattern, stop)

    pairs = _ranked(x, y, wide)
    kept: list[tuple[int, int]] = []
    best = fitted(_cliques(n, kept))
    for m in range(1, len(pairs) + 1):
        if best.error < MIN_POLYNOMIAL_ERROR or m > len(kept) + MAX_FAILED_PAIRS or stop():
            break
        trial = fitted(_cliques(n, pairs[:m]))
        if trial.error < best.error:
            kept, best = pairs[:m], trial
    if best.error > MAX_SEPARATION_ERROR:
        return best
    ratio = MAX_RATIO_WITHOUT_PAIR if best.error > MAX_NOISELESS_ERROR else MAX_EXACT_RATIO_WITHOUT_PAIR
    enough = max(best.error, MIN_POLYNOMIAL_ERROR) * ratio
    for pair in kept[::-1]:  # a pair may have been added only because it came before one that belongs to the law
        if stop():
            return best
        trial = fitted(_cliques(n, [other for other in kept if other != pair]))
        if trial.error <= enough:
            kept.remove(pair)
            best = trial
    for columns in best.pattern:
        if len(columns) > 2:
            faces = {*best.pattern, *combinations(columns, len(columns) - 1)} - {columns}
            trial = fitted(_largest(list(faces)))
            if trial.error <= enough:
                best = trial
    return best


def _ranked(x: Array, y: Array, wide: Sequence[bool]) -> list[tuple[int, int]]:
    """The pairs of columns, sorted by the F statistic of the terms that contain both in a polynomial of all columns."""
    count, n = x.shape
    degree = max(d for d in TOTAL_DEGREES if math.comb(n + d, d) <= min(MAX_COEFFICIENTS_PER_ROW * count, MAX_TERMS) or d == 1)
    basis = TermBasis(x, wide, (tuple(range(n)),), degree, degree)
    q, r = np.linalg.qr(basis.values(x))
    inverse = np.linalg.pinv(r)
    c = inverse @ (q.T @ y)

    def statistic(pair: tuple[int, int]) -> float:
        group = (basis.exponents[:, list(pair)] > 0).all(1)
        return float(np.sum(np.linalg.lstsq(inverse[group], c[group], rcond=1e-12)[0] ** 2)) / max(int(group.sum()), 1)

    return sorted(combinations(range(n), 2), key=statistic, reverse=True)


def _cliques(n: int, pairs: Sequence[tuple[int, int]]) -> Pattern:
    """The largest sets of columns all of whose pairs are in `pairs`."""
    neighbours: list[set[int]] = [set() for _ in range(n)]
    for i, j in pairs:
        neighbours[i].add(j)
        neighbours[j].add(i)
    found: list[tuple[int, ...]] = []

    # Bron and Kerbosch, "Algorithm 457", 1973, with a pivot: 20 columns that all interact have a million subsets, and one largest set.
    def extend(chosen: tuple[int, ...], able: set[int], done: set[int]) -> None:
        if not able and not done:
            found.append(tuple(sorted(chosen)))
        elif able:
            pivot = max(able | done, key=lambda i: len(able & neighbours[i]))
            for i in sorted(able - neighbours[pivot]):
                extend((*chosen, i), able & neighbours[i], done & neighbours[i])
                able = able - {i}
                done = done | {i}

    extend((), set(range(n)), set())
    return tuple(sorted(found))


def _largest(sets: Sequence[tuple[int, ...]]) -> Pattern:
    """The sets that are contained in no other set."""
    return tuple(sorted(one for one in sets if not any(set(one) < set(other) for other in sets)))


def joined_columns(pattern: Pattern) -> tuple[tuple[int, ...], ...]:
    """The blocks of columns that are connected by terms."""
    blocks: list[set[int]] = []
    for columns in pattern:
        touched = [block for block in blocks if block & set(columns)]
        blocks = [*(block for block in blocks if block not in touched), set(columns).union(*touched)]
    return tuple(sorted(tuple(sorted(block)) for block in blocks))


def fitted_sum(x: Array, y: Array, wide: Sequence[bool], pattern: Pattern, stop: Stop = lambda: False) -> PolynomialSum:
    """The polynomial of a pattern whose degree gives the least error on held-out rows; the degree is at least 1."""
    largest = max(map(len, pattern))
    held = held_out(x)
    best: PolynomialSum | None = None
    for degree in TOTAL_DEGREES:
        if best is not None and (math.comb(largest + degree, degree) > MAX_TERMS or stop()):
            break
        basis = TermBasis(x, wide, pattern, degree, min(2 * degree, MAX_DEGREE_OF_ONE_COLUMN))
        if best is not None and len(basis) > min(MAX_COEFFICIENTS_PER_ROW * len(y), MAX_TERMS):
            break
        rows = basis.values(x)
        q, r = np.linalg.qr(rows[~held])
        c = np.linalg.lstsq(r, q.T @ y[~held], rcond=1e-13)[0]
        error = float(np.sqrt(np.mean((rows[held] @ c - y[held]) ** 2))) / max(float(np.std(y)), 1e-300)
        if best is None or error < best.error:
            best = PolynomialSum(pattern, basis, c, error)
    assert best is not None
    return best
