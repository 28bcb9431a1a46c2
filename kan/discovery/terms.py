r"""Sums of products of curves: ``y = sum_t prod_{i in S_t} phi_{t,i}(x_i)``, one curve for every column of a term.

For given curves of all other columns `y` is linear in all curves of one column, so that they are found in turns by linear least squares
(alternating least squares, as for the canonical polyadic decomposition of tensors). Which columns meet in which term is the shape of a network
with one layer of curves and products above it; that a shape fits is seen in milliseconds, before a network is trained.

The curves are named one by one, and the constants of the formula that comes out are fitted together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.discovery.constants import fit_constants
from kan.discovery.ridge import Array
from kan.discovery.suggest import Candidate, DescriptionLength, fitted_candidates

__all__ = ["Terms", "formulas", "patterns", "split"]

Pattern = tuple[tuple[int, ...], ...]
"""The columns that meet in each term."""

DEGREE = 10
SWEEPS = 25
STARTS = 2
WIDE = 5.0
"""Ratio of largest to smallest value from which on curves are polynomials of the logarithm."""
NAMED = 5
"""Functions that are tried for a curve."""
MOST_FORMULAS = 24


@dataclass(frozen=True)
class Terms:
    """Curves found.

    Attributes:
        pattern: which columns meet.
        curves: values ``(N,)`` for every term and column.
        constant: what is added.
        error: on samples that were held out, as a share of the labels' deviation.
    """

    pattern: Pattern
    curves: dict[tuple[int, int], Array]
    error: float


def patterns(k: int) -> Iterator[tuple[Pattern, Sequence[Pattern]]]:
    """Patterns for `k` columns, each with those that are special cases of it, the simplest last; products of all are not among them."""
    if k == 2:
        yield ((0,), (1,), (0, 1)), [((0,), (0, 1)), ((1,), (0, 1)), ((0, 1),)]
    if k == 3:
        for i, j in combinations(range(3), 2):
            (other,) = set(range(3)) - {i, j}
            pair, last = tuple(sorted((i, other))), tuple(sorted((j, other)))
            yield ((i,), (j,), (other,), (i, j)), [((other,), (i, j))]
            yield (pair, last), []
            yield ((i,), (0, 1, 2)), []
            yield ((i, j), (0, 1, 2)), []
        yield ((0, 1, 2),), []
    if k > 3:
        yield (tuple(range(k)),), []
        for i in range(k):
            yield ((i,), tuple(j for j in range(k) if j != i)), []


def split(x: Array, y: Array, pattern: Pattern, seed: int = 0, bound: float = math.inf) -> Terms:
    """The curves of a pattern by alternating least squares; later starts are left out when the first is good to within `bound`.

    >>> x = np.random.default_rng(0).uniform(1, 2, (300, 2))
    >>> split(x, x[:, 0] * np.sin(x[:, 1]), ((0, 1),)).error < 1e-8
    True
    """
    n, k = x.shape
    held = np.arange(n) % 5 == 3
    bases = [_basis(x[:, i]) for i in range(k)]
    deviation = max(float(np.std(y)), 1e-300)
    of = [[t for t, columns in enumerate(pattern) if i in columns] for i in range(k)]
    best: Terms | None = None
    for start in range(STARTS):
        random = np.random.default_rng(seed + start)
        curves = {(t, i): bases[i][:, :4] @ random.normal(size=4) for t, columns in enumerate(pattern) for i in columns}
        last = math.inf
        for sweep in range(SWEEPS):
            for i in range(k):
                rows = [math.prod((curves[t, j] for j in pattern[t] if j != i), start=np.ones(n))[:, None] * bases[i] for t in of[i]]
                several = np.concatenate([np.ones((n, 1)), *rows], 1)
                size = np.maximum(np.linalg.norm(several, axis=0), 1e-300)
                c = np.linalg.lstsq((several / size)[~held], y[~held], rcond=1e-12)[0] / size
                for place, t in enumerate(of[i]):
                    part = c[1 + place * bases[i].shape[1] :][: bases[i].shape[1]]
                    # The first of several factors carries the size, so that none grows without bound.
                    values = bases[i] @ part
                    curves[t, i] = values / max(float(np.std(values)), 1e-300) if len(pattern[t]) > 1 and i != pattern[t][-1] else values
            error = float(np.sqrt(np.mean((several @ c - y)[held] ** 2))) / deviation
            if error < 1e-9 or (sweep > 3 and error > 0.999 * last and sweep % 2):
                break
            last = error if sweep % 2 else last
        if best is None or error < best.error:
            best = Terms(pattern, dict(curves), error)
        if best.error < bound:
            break
    assert best is not None
    return best


def formulas(
    x: Tensor, y: Tensor, found: Terms, symbols: Sequence[sympy.Symbol], library: Any = None, stop: Callable[[], bool] = lambda: False
) -> list[tuple[float, sympy.Expr]]:
    """Formulas for the labels with the curves named, and their root mean squared errors, the best first.

    Args:
        x: ``(N, k)``.
        y: ``(N,)``.
        found: of `split`.
        symbols: of the columns.
        library: names, or a dictionary like ``SYMBOLIC_LIB``, ``"extended"`` or None.
        stop: asked between trials.
    """
    places = list(found.curves)
    curves = torch.from_numpy(np.stack([found.curves[place] for place in places], 1))
    inputs = torch.stack([x[:, i] for _, i in places], 1)
    deviation = float(y.std())
    floor = max(found.error, 1e-9)
    ranked = []
    for n in range(len(places)):
        scoring = DescriptionLength(noise=floor * float(curves[:, n].std()))
        ranked.append(fitted_candidates(inputs[:, n : n + 1], curves[:, n : n + 1], library, scoring=scoring)[0][:NAMED])
    several = sorted(product(*(range(len(one)) for one in ranked)), key=lambda ranks: sum(one[r].bits for one, r in zip(ranked, ranks, strict=True)))
    results: list[tuple[float, sympy.Expr]] = []
    for ranks in islice(several, MOST_FORMULAS):
        if stop():
            break
        total = sympy.Float(float(y.mean() - _total(found, len(y)).mean()), 17)
        for t, columns in enumerate(found.pattern):
            factors = [_named(one[r], symbols[i]) for one, r, (s, i) in zip(ranked, ranks, places, strict=True) if s == t]
            total = total + sympy.Mul(*factors) if len(columns) > 1 else total + factors[0]
        fitted = fit_constants(total, symbols, x, y, evaluations=60)
        results.append((fitted.rmse, fitted.formula))
        if fitted.rmse < 1e-11 * deviation:
            break
    return sorted(results, key=lambda one: one[0])


def _total(found: Terms, n: int) -> Array:
    return np.asarray(sum(math.prod((found.curves[t, i] for i in columns), start=np.ones(n)) for t, columns in enumerate(found.pattern)))


def _named(candidate: Candidate, symbol: sympy.Symbol) -> sympy.Expr:
    a, b, c, d = (sympy.Float(float(v), 17) for v in candidate.affine)
    return c * candidate.function.sympy_fun(a * symbol + b) + d


def _basis(column: Array) -> Array:
    """Polynomials without the constant for a column that stands alone, with it where it meets others: least squares sorts that out."""
    s = np.log(column) if column.min() > 0 and column.max() > WIDE * column.min() else column
    low, high = s.min(), s.max()
    return np.asarray(np.polynomial.chebyshev.chebvander(2 * (s - low) / max(high - low, 1e-300) - 1, DEGREE))
