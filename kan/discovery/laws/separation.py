r"""Laws that fall apart: sums and products of functions of few columns each.

Which columns meet is read off a polynomial of all of them. The sum of squares grows by ``c_S' [(B'B)^{-1}]_SS^{-1} c_S`` when the terms
``S`` are left out of least squares with the basis ``B`` and coefficients ``c``; an F statistic of all terms that have two columns says
which pairs may interact (functional analysis of variance). The largest sets of columns that do are the terms of the law, and columns that
no term joins are parts that can be looked at alone: ``y = sum_b f_b(x_b)`` or, for other labels, a function of that.

For a product ``y = c + prod_b f_b(x_b)`` second derivatives say as much: ``(y - c) y_ij = y_i y_j`` for columns i and j of different
factors.

The parts are polynomials to begin with, with many terms, for they have few columns. What these miss is left in the labels of each part, as
the noise that it is for them.

References
    G. Hooker, "Discovering additive structure in black box functions", 2004, doi:10.1145/1014052.1014122.
    S.-M. Udrescu et al., "AI Feynman 2.0: Pareto-optimal symbolic regression exploiting graph modularity", 2020, arXiv:2006.10782.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kan.discovery.laws.sums_of_products import Curves, Pattern
from kan.discovery.reduction.polynomials import Array, Polynomials, Stop, held_out, wide_columns
from kan.discovery.reduction.views import CHANGES, Stage

__all__ = ["Meeting", "Parts", "factors", "interactions", "summands"]

MOST_TERMS = 0.4
"""Terms of a polynomial, as a share of the samples, at most."""
AS_GOOD = 1.03
"""Ratio of errors up to which fewer terms are as good, where noise may be all that is left."""
NEARLY = 1e-4
"""Share of the labels' deviation below which a term that matters would not be missed by so little: there the ratio is `MUCH`."""
ROUND_OFF = 1e-11
"""Share of the labels' deviation that polynomials miss in any case."""
FEW_TERMS = 260
SAMPLES = 2000
"""At most."""
HIGHEST = 16
"""Degree in one column."""
DEGREES = (1, 2, 3, 4, 6, 8, 10, 12)
"""Of products of several."""
PATIENCE = 3
"""Pairs of columns that are added in vain before the search for more ends."""
SURE = 0.02
"""Share of the labels' deviation that parts may miss."""
INSIDE = 400
"""Samples that derivatives are compared at."""
FAR = 0.5
"""Share of the labels' deviation that a polynomial of all columns may miss for that."""
MUCH = 3.0
"""Factor by which fewer columns in each of several factors may be worse."""
SWEEPS = 4
CLOSE = 1e-8
"""Errors below which forms are as good as each other."""


@dataclass(frozen=True)
class Parts:
    """A stage in parts.

    Attributes:
        form: the stage, with the labels that are the sum or the product.
        blocks: columns of each part.
        stages: one for each part, whose labels are its values.
        product: whether labels are the product of the parts, or else their sum.
        constant: beside them.
        error: on samples that were held out, as a share of the labels' deviation.
    """

    form: Stage
    blocks: tuple[tuple[int, ...], ...]
    stages: tuple[Stage, ...]
    product: bool
    constant: float
    error: float


class _Basis:
    """Chebyshev polynomials of the columns, or of logarithms of the `wide` ones, and products of those that meet in `pattern`."""

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
        return np.stack([np.log(np.maximum(c, 1e-300)) if log else c for c, log in zip(x.T, self.wide, strict=True)], 1)

    def __len__(self) -> int:
        return len(self.exponents)

    def values(self, x: Array) -> Array:
        return self.values_at(self.columns(x))

    def values_at(self, z: Array) -> Array:
        """At columns, of which logarithms have been taken."""
        z = (2 * z - self.low - self.high) / np.maximum(self.high - self.low, 1e-300)
        tables = [np.polynomial.chebyshev.chebvander(column, int(order.max())) for column, order in zip(z.T, self.exponents.T, strict=True)]
        return np.asarray(math.prod(table[:, order] for table, order in zip(tables, self.exponents.T, strict=True)))


@dataclass(frozen=True)
class _Sum:
    """The columns that meet in the terms of a sum, the polynomial of such terms, and its error on samples that were held out."""

    pattern: Pattern
    basis: _Basis
    c: Array
    error: float


def interactions(x: Array, y: Array, wide: Sequence[bool], stop: Stop = lambda: False) -> _Sum:
    """The terms of a sum.

    Pairs of columns that meet are added, those with the largest F statistic first, as long as that lowers the error on samples that were
    held out; the fewer they are, the higher are the degrees that samples suffice for. When `stop` says so, it is what it is by then.

    >>> x = np.random.default_rng(0).uniform(1, 2, (300, 3))
    >>> interactions(x, x[:, 0] + np.exp(x[:, 1] * x[:, 2]), (False,) * 3).pattern
    ((0,), (1, 2))
    """
    n = x.shape[1]

    def fitted(pattern: Pattern) -> _Sum:
        return _fitted(x, y, wide, pattern, stop)

    pairs = _ranked(x, y, wide)
    kept: list[tuple[int, int]] = []
    best = fitted(_cliques(n, kept))
    for m in range(1, len(pairs) + 1):
        if best.error < ROUND_OFF or m > len(kept) + PATIENCE or stop():
            break
        trial = fitted(_cliques(n, pairs[:m]))
        if trial.error < best.error:
            kept, best = pairs[:m], trial
    if best.error > SURE:
        return best
    enough = max(best.error, ROUND_OFF) * (AS_GOOD if best.error > NEARLY else MUCH)
    for pair in kept[::-1]:  # one that stands before another that matters need not matter
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
    """Pairs of columns, by the F statistic of the terms that have both in a polynomial of all columns."""
    count, n = x.shape
    degree = max(d for d in DEGREES if math.comb(n + d, d) <= min(MOST_TERMS * count, FEW_TERMS) or d == 1)
    basis = _Basis(x, wide, (tuple(range(n)),), degree, degree)
    q, r = np.linalg.qr(basis.values(x))
    inverse = np.linalg.pinv(r)
    c = inverse @ (q.T @ y)

    def statistic(pair: tuple[int, int]) -> float:
        group = (basis.exponents[:, list(pair)] > 0).all(1)
        return float(np.sum(np.linalg.lstsq(inverse[group], c[group], rcond=1e-12)[0] ** 2)) / max(int(group.sum()), 1)

    return sorted(combinations(range(n), 2), key=statistic, reverse=True)


def _cliques(n: int, pairs: Sequence[tuple[int, int]]) -> Pattern:
    """The largest sets of columns of which all pairs meet."""
    meets: list[set[int]] = [set() for _ in range(n)]
    for i, j in pairs:
        meets[i].add(j)
        meets[j].add(i)
    found: list[tuple[int, ...]] = []

    # Bron and Kerbosch, "Algorithm 457", 1973, with a pivot: of 20 columns that all meet there are a million sets, and one is the largest.
    def extend(chosen: tuple[int, ...], able: set[int], done: set[int]) -> None:
        if not able and not done:
            found.append(tuple(sorted(chosen)))
        elif able:
            pivot = max(able | done, key=lambda i: len(able & meets[i]))
            for i in sorted(able - meets[pivot]):
                extend((*chosen, i), able & meets[i], done & meets[i])
                able = able - {i}
                done = done | {i}

    extend((), set(range(n)), set())
    return tuple(sorted(found))


def _largest(sets: Sequence[tuple[int, ...]]) -> Pattern:
    """Those that are in no other."""
    return tuple(sorted(one for one in sets if not any(set(one) < set(other) for other in sets)))


def _joined(pattern: Pattern) -> tuple[tuple[int, ...], ...]:
    """The columns that terms join."""
    blocks: list[set[int]] = []
    for columns in pattern:
        touched = [block for block in blocks if block & set(columns)]
        blocks = [*(block for block in blocks if block not in touched), set(columns).union(*touched)]
    return tuple(sorted(tuple(sorted(block)) for block in blocks))


def _fitted(x: Array, y: Array, wide: Sequence[bool], pattern: Pattern, stop: Stop = lambda: False) -> _Sum:
    """The polynomial of a pattern, of the degree that misses the samples that were held out by the least; of degree 1 at least."""
    largest = max(map(len, pattern))
    held = held_out(x)
    best: _Sum | None = None
    for degree in DEGREES:
        if best is not None and (math.comb(largest + degree, degree) > FEW_TERMS or stop()):
            break
        basis = _Basis(x, wide, pattern, degree, min(2 * degree, HIGHEST))
        if best is not None and len(basis) > min(MOST_TERMS * len(y), FEW_TERMS):
            break
        rows = basis.values(x)
        q, r = np.linalg.qr(rows[~held])
        c = np.linalg.lstsq(r, q.T @ y[~held], rcond=1e-13)[0]
        error = float(np.sqrt(np.mean((rows[held] @ c - y[held]) ** 2))) / max(float(np.std(y)), 1e-300)
        if best is None or error < best.error:
            best = _Sum(pattern, basis, c, error)
    assert best is not None
    return best


class Meeting(NamedTuple):
    """Columns that meet in the terms of a sum that the labels of a form are, or nearly so; the parts, if it falls apart."""

    error: float
    form: Stage
    pattern: Pattern
    parts: Parts | None


def summands(stage: Stage, most: int = 3, stop: Stop = lambda: False) -> list[Meeting]:
    """Sums that the labels are when they are changed, those that miss the least first; what was found when `stop` says so."""
    few = _few(len(stage.x))
    x = stage.x.numpy()[few]
    results: list[Meeting] = []
    wides = wide_columns(x, stage.y.flatten().numpy()[few], stop)
    for change in CHANGES:
        form = stage.changed(change)
        if form is None or stop():
            continue
        found = min((interactions(x, form.y.flatten().numpy()[few], wide, stop) for wide in wides), key=lambda one: one.error)
        if found.error < SURE and len(found.pattern) > 1:
            blocks = _joined(found.pattern)
            results.append(Meeting(found.error, form, found.pattern, _summed(form, found, blocks) if len(blocks) > 1 else None))
            if found.error < CLOSE:
                break
    return sorted(results, key=lambda one: max(one.error, CLOSE))[:most]


def _few(count: int) -> NDArray[np.int64]:
    """Places of `SAMPLES` samples at most, by chance, lest they keep step with a grid."""
    return np.sort(np.random.default_rng(0).permutation(count)[:SAMPLES])


def _summed(form: Stage, found: _Sum, blocks: tuple[tuple[int, ...], ...]) -> Parts:
    basis, c = found.basis, found.c
    labels: list[list[Array]] = [[] for _ in blocks]
    for x, y in ((form.x.numpy(), form.y.flatten().numpy()), (form.held_x.numpy(), form.held_y.flatten().numpy())):
        rows = basis.values(x)
        missed = y - rows @ c
        for part, block in zip(labels, blocks, strict=True):
            own = (basis.exponents[:, list(block)] > 0).any(1)
            part.append(rows[:, own] @ c[own] + missed)
    stages = tuple(_stage(form, block, *both) for block, both in zip(blocks, labels, strict=True))
    return Parts(form, blocks, stages, False, float(c[0]), found.error)


def _stage(form: Stage, block: tuple[int, ...], y: Array, held_y: Array) -> Stage:
    columns = list(block)
    symbols = tuple(form.symbols[i] for i in block)
    return Stage(
        form.x[:, columns], torch.from_numpy(y)[:, None], form.held_x[:, columns], torch.from_numpy(held_y)[:, None], symbols, lambda e: e,
        name=f"part {', '.join(map(str, symbols))} of {form.name}",
    )  # fmt: skip


def factors(stage: Stage, stop: Stop = lambda: False) -> Parts | None:
    """A product of functions of different columns that the labels are, beside a constant; None if they are not, or when `stop` says so."""
    few = _few(len(stage.x))
    x, y = stage.x.numpy()[few], stage.y.flatten().numpy()[few]
    n = x.shape[1]
    wide = wide_columns(x, y, stop)[0]
    found = _fitted(x, y, wide, (tuple(range(n)),), stop)
    if found.error > FAR or stop():
        return None
    several: list[Parts] = []
    for blocks, constant in _partitions(found, x):
        if stop():
            return None
        parts = _multiplied(stage, x, y, blocks, constant, wide, found, stop)
        several += [] if parts is None else [parts]
    least = min((parts.error for parts in several), default=0.0)
    return next((parts for parts in several if parts.error <= MUCH * least), None)


def _multiplied(
    stage: Stage,
    x: Array,
    y: Array,
    blocks: tuple[tuple[int, ...], ...],
    constant: float,
    wide: Sequence[bool],
    found: _Sum,
    stop: Stop,
) -> Parts | None:
    """The product of functions of the columns in `blocks`, with or without a constant; None if that is far from the labels."""
    held, shares = held_out(x), np.full(len(y), 1 / max(float(np.std(y)), 1e-300))
    best: tuple[float, Curves, list[_Basis], list[Array]] | None = None
    for degree in DEGREES[3:]:
        # Counted before they are made: of 20 columns those of degree 4 are ten thousand.
        if stop() or sum(math.comb(len(block) + degree, degree) for block in blocks) > min(MOST_TERMS * len(y), FEW_TERMS):
            break
        bases = [_Basis(x[:, list(block)], [wide[i] for i in block], (tuple(range(len(block))),), degree, degree) for block in blocks]
        split = [np.linalg.qr(basis.values(x[:, list(block)])) for basis, block in zip(bases, blocks, strict=True)]
        size = math.sqrt(len(y))
        for beside in (0.0, constant):
            curves = Curves([q * size for q, _ in split], (tuple(range(len(blocks))),), y, held, shares)
            # Where all other columns are what they are where the labels are large, the law is a multiple of one factor.
            middle = x[np.abs(y - beside).argmax()]
            for b, block in enumerate(blocks):
                points = np.tile(middle, (len(x), 1))
                points[:, list(block)] = x[:, list(block)]
                curves.parts[0, b] = split[b][0].T @ (found.basis.values(points) @ found.c - beside) / size
            for _ in range(SWEEPS):
                if not stop():
                    curves.sweep()
            error = curves.sharpened(stop)
            if best is None or error < best[0]:
                best = error, curves, bases, [r / size for _, r in split]
            if error < SURE:
                break
    if best is None or best[0] > SURE:
        return None
    error, curves, bases, rests = best
    labels: list[list[Array]] = [[] for _ in blocks]
    for x_, y_ in ((stage.x.numpy(), stage.y.flatten().numpy()), (stage.held_x.numpy(), stage.held_y.flatten().numpy())):
        values = [
            basis.values(x_[:, list(block)]) @ np.linalg.solve(r, curves.parts[0, b])
            for b, (block, basis, r) in enumerate(zip(blocks, bases, rests, strict=True))
        ]
        missed = y_ - curves.constant - math.prod(values)
        for b, value in enumerate(values):
            others = math.prod(values[:b] + values[b + 1 :])
            labels[b].append(value + missed * others / (others**2 + (0.1 * np.std(others)) ** 2))
    stages = tuple(_stage(stage, block, *both) for block, both in zip(blocks, labels, strict=True))
    return Parts(stage, blocks, stages, True, curves.constant, error)


def _partitions(found: _Sum, x: Array) -> list[tuple[tuple[tuple[int, ...], ...], float]]:
    """Blocks of columns, the finest first, but for columns that are all alone, and the constant beside the product.

    Those that depend on each other most, by ``f f_ij - f_i f_j``, are joined first; the same with the constant c for which
    ``(f - c) f_ij - f_i f_j`` is least.
    """
    basis, n = found.basis, x.shape[1]
    z = basis.columns(x)
    width = basis.high - basis.low
    z = z[((z > basis.low + 0.05 * width) & (z < basis.high - 0.05 * width)).all(1)][:INSIDE]
    steps = 1e-3 * width * np.eye(n)

    def value(at: Array) -> Array:
        return np.asarray(basis.values_at(at) @ found.c)

    f = value(z)
    slopes = [value(z + step) - value(z - step) for step in steps]
    pairs = list(combinations(range(n), 2))
    bends, off, apart = {}, {}, {}
    for i, j in pairs:
        a, b = steps[i], steps[j]
        bend = value(z + a + b) - value(z + a - b) - value(z - a + b) + value(z - a - b)
        both = slopes[i] * slopes[j]
        bends[i, j], off[i, j] = bend, f * bend - both
        size = max(float(np.sum((f * bend) ** 2 + both**2)), 1e-300)
        beside = _multiple(bend, f * bend - both)
        apart[i, j] = [float(np.sum((off[i, j] - c * bend) ** 2)) / size for c in (0.0, beside)]
    several: list[tuple[tuple[int, ...], ...]] = []
    for k in range(2):
        ranked = sorted(pairs, key=lambda pair: apart[pair][k], reverse=True)
        several += [_joined((*((i,) for i in range(n)), *ranked[:m])) for m in range(1, len(pairs))]
    results = []
    for blocks in sorted((blocks for blocks in dict.fromkeys(several) if len(blocks) > 1), key=len, reverse=True):
        across = [pair for pair in pairs if not any(set(pair) <= set(block) for block in blocks)]
        results.append((blocks, _multiple(*(np.concatenate([each[pair] for pair in across]) for each in (bends, off)))))
    return results


def _multiple(of: Array, y: Array) -> float:
    """By least squares."""
    return float(of @ y) / max(float(of @ of), 1e-300)
