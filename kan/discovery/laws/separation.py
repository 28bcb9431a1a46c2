r"""Separable laws: sums and products of functions of few columns each.

An analysis of variance (`kan.discovery.laws.interactions`) shows which columns occur together in a term. Sets of columns that no term joins
are parts that can be searched on their own: ``y = sum_b f_b(x_b)`` or, for transformed labels, a function of that sum.

For a product ``y = c + prod_b f_b(x_b)``, second derivatives show the same: ``(y - c) y_ij = y_i y_j`` for columns i and j of different
factors.

The labels of a part are at first the values of its polynomial, which may have many terms, since a part has few columns. The residual of the
whole fit is added to the labels of every part, where it acts as noise.

References
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

from kan.discovery.laws.interactions import (
    MAX_SEPARATION_ERROR,
    MAX_TERMS,
    TOTAL_DEGREES,
    PolynomialSum,
    TermBasis,
    fitted_sum,
    interactions,
    joined_columns,
)  # fmt: skip
from kan.discovery.laws.sums_of_products import Pattern, SumOfProducts
from kan.discovery.reduction.polynomials import MAX_COEFFICIENTS_PER_ROW, Array, Stop, held_out, wide_columns
from kan.discovery.reduction.views import LABEL_TRANSFORMS, View

__all__ = ["Separation", "SumStructure", "factors", "summands"]

MAX_ROWS = 2000
"""Largest number of rows that the tests for separability use; if there are more, this many are drawn at random."""
FIRST_DEGREE_OF_FACTORS = 3
"""Place in `TOTAL_DEGREES` of the first degree that is tried for factors."""
DERIVATIVE_ROWS = 400
"""Number of rows at which derivatives are compared."""
MARGIN = 0.05
"""Distance from both ends of a column, as a share of its range, of the rows at which derivatives are compared."""
DERIVATIVE_STEP = 1e-3
"""Step of the finite differences of a polynomial, as a share of the range of the column."""
MAX_ERROR_BEFORE_FACTORS = 0.5
"""Relative error of the polynomial in all columns above which its derivatives say nothing about factors."""
MAX_RATIO_OF_FINER_FACTORS = 3.0
"""Ratio of the error of a product to that of the best one, up to which a product of more factors is preferred."""
FACTOR_SWEEPS = 4
"""Number of sweeps of alternating least squares in a fit of factors."""
MIN_FACTOR = 0.1
"""Size of the other factors, as a share of their deviation, below which the residual is hardly divided among the factors."""
EQUALLY_EXACT_ERROR = 1e-8
"""Relative error below which separations are equally good, and no further transforms of the labels are tried."""


@dataclass(frozen=True)
class Separation:
    """A view that separates into parts of few columns each.

    Attributes:
        form: the view whose labels are the sum or the product of the parts.
        blocks: the columns of each part.
        parts: a view for each part, whose labels are the values of the part.
        is_product: whether the labels are the product of the parts; they are the sum otherwise.
        constant: a constant term.
        error: relative error on held-out rows.
    """

    form: View
    blocks: tuple[tuple[int, ...], ...]
    parts: tuple[View, ...]
    is_product: bool
    constant: float
    error: float


class SumStructure(NamedTuple):
    """The structure of labels that are a sum, or nearly so.

    Attributes:
        error: relative error on held-out rows.
        form: the view whose labels are the sum.
        pattern: the columns that occur together in its terms.
        separation: the separation into parts, if there are several.
    """

    error: float
    form: View
    pattern: Pattern
    separation: Separation | None


def summands(view: View, most: int = 3, stop: Stop = lambda: False) -> list[SumStructure]:
    """The sums that the labels are after some transform, those with the least error first.

    Args:
        view: the view.
        most: largest number of sums.
        stop: whether to return the sums that were found so far.
    """
    few = _few_rows(len(view.x))
    x = view.x.numpy()[few]
    results: list[SumStructure] = []
    choices = wide_columns(x, view.y.flatten().numpy()[few], stop)
    for transform in LABEL_TRANSFORMS:
        form = view.transformed(transform)
        if form is None or stop():
            continue
        found = min((interactions(x, form.y.flatten().numpy()[few], wide, stop) for wide in choices), key=lambda one: one.error)
        if found.error < MAX_SEPARATION_ERROR and len(found.pattern) > 1:
            blocks = joined_columns(found.pattern)
            results.append(SumStructure(found.error, form, found.pattern, _separated_sum(form, found, blocks) if len(blocks) > 1 else None))
            if found.error < EQUALLY_EXACT_ERROR:
                break
    return sorted(results, key=lambda one: max(one.error, EQUALLY_EXACT_ERROR))[:most]


def _few_rows(count: int) -> NDArray[np.int64]:
    """Positions of at most `MAX_ROWS` rows. They are random, since equal distances could be a multiple of the period of a grid."""
    return np.sort(np.random.default_rng(0).permutation(count)[:MAX_ROWS])


def _separated_sum(form: View, found: PolynomialSum, blocks: tuple[tuple[int, ...], ...]) -> Separation:
    """The parts of a sum; the labels of each are the values of its terms and the residual of the fit."""
    basis, c = found.basis, found.c
    labels: list[list[Array]] = [[] for _ in blocks]
    for x, y in ((form.x.numpy(), form.y.flatten().numpy()), (form.held_x.numpy(), form.held_y.flatten().numpy())):
        rows = basis.values(x)
        residuals = y - rows @ c
        for part, block in zip(labels, blocks, strict=True):
            own = (basis.exponents[:, list(block)] > 0).any(1)
            part.append(rows[:, own] @ c[own] + residuals)
    parts = tuple(_part(form, block, *both) for block, both in zip(blocks, labels, strict=True))
    return Separation(form, blocks, parts, False, float(c[0]), found.error)


def _part(form: View, block: tuple[int, ...], y: Array, held_y: Array) -> View:
    """The view of some columns, with labels of its own."""
    columns = list(block)
    symbols = tuple(form.symbols[i] for i in block)
    return View(
        form.x[:, columns], torch.from_numpy(y)[:, None], form.held_x[:, columns], torch.from_numpy(held_y)[:, None], symbols, lambda e: e,
        name=f"part {', '.join(map(str, symbols))} of {form.name}",
    )  # fmt: skip


def factors(view: View, stop: Stop = lambda: False) -> Separation | None:
    """The separation of the labels into a constant and a product of functions of different columns; None if there is none.

    Args:
        view: the view.
        stop: whether to give up.
    """
    few = _few_rows(len(view.x))
    x, y = view.x.numpy()[few], view.y.flatten().numpy()[few]
    n = x.shape[1]
    wide = wide_columns(x, y, stop)[0]
    found = fitted_sum(x, y, wide, (tuple(range(n)),), stop)
    if found.error > MAX_ERROR_BEFORE_FACTORS or stop():
        return None
    several: list[Separation] = []
    for blocks, constant in _partitions(found, x):
        if stop():
            return None
        separation = _separated_product(view, x, y, blocks, constant, wide, found, stop)
        several += [] if separation is None else [separation]
    least = min((one.error for one in several), default=0.0)
    return next((one for one in several if one.error <= MAX_RATIO_OF_FINER_FACTORS * least), None)


def _separated_product(
    view: View,
    x: Array,
    y: Array,
    blocks: tuple[tuple[int, ...], ...],
    constant: float,
    wide: Sequence[bool],
    found: PolynomialSum,
    stop: Stop,
) -> Separation | None:
    """The product of functions of the columns in `blocks`, with or without a constant term.

    Args:
        view: the view, to all rows of which the result applies.
        x, y: columns and labels of the rows that are used for the fit.
        blocks: the columns of each factor.
        constant: the constant term that is tried besides zero.
        wide: for each column, whether its logarithm is used.
        found: the polynomial of all columns, from which the fit starts.
        stop: whether to end the fit.

    Returns:
        None if the relative error is above `MAX_SEPARATION_ERROR`.
    """
    held, shares = held_out(x), np.full(len(y), 1 / max(float(np.std(y)), 1e-300))
    best: tuple[float, SumOfProducts, list[TermBasis], list[Array]] | None = None
    for degree in TOTAL_DEGREES[FIRST_DEGREE_OF_FACTORS:]:
        # Terms are counted before they are made: in 20 columns there are ten thousand of degree 4.
        if stop() or sum(math.comb(len(block) + degree, degree) for block in blocks) > min(MAX_COEFFICIENTS_PER_ROW * len(y), MAX_TERMS):
            break
        bases = [TermBasis(x[:, list(block)], [wide[i] for i in block], (tuple(range(len(block))),), degree, degree) for block in blocks]
        orthogonal = [np.linalg.qr(basis.values(x[:, list(block)])) for basis, block in zip(bases, blocks, strict=True)]
        size = math.sqrt(len(y))
        for beside in (0.0, constant):
            curves = SumOfProducts([q * size for q, _ in orthogonal], (tuple(range(len(blocks))),), y, held, shares)
            # If all other columns are fixed where the labels are large, the law is a multiple of one factor.
            middle = x[np.abs(y - beside).argmax()]
            for b, block in enumerate(blocks):
                points = np.tile(middle, (len(x), 1))
                points[:, list(block)] = x[:, list(block)]
                curves.parts[0, b] = orthogonal[b][0].T @ (found.basis.values(points) @ found.c - beside) / size
            for _ in range(FACTOR_SWEEPS):
                if not stop():
                    curves.sweep()
            error = curves.sharpened(stop)
            if best is None or error < best[0]:
                best = error, curves, bases, [r / size for _, r in orthogonal]
            if error < MAX_SEPARATION_ERROR:
                break
    if best is None or best[0] > MAX_SEPARATION_ERROR:
        return None
    error, curves, bases, rests = best
    labels: list[list[Array]] = [[] for _ in blocks]
    for x_, y_ in ((view.x.numpy(), view.y.flatten().numpy()), (view.held_x.numpy(), view.held_y.flatten().numpy())):
        values = [
            basis.values(x_[:, list(block)]) @ np.linalg.solve(r, curves.parts[0, b])
            for b, (block, basis, r) in enumerate(zip(blocks, bases, rests, strict=True))
        ]
        residuals = y_ - curves.constant - math.prod(values)
        for b, value in enumerate(values):
            others = math.prod(values[:b] + values[b + 1 :])
            labels[b].append(value + residuals * others / (others**2 + (MIN_FACTOR * np.std(others)) ** 2))
    parts = tuple(_part(view, block, *both) for block, both in zip(blocks, labels, strict=True))
    return Separation(view, blocks, parts, True, curves.constant, error)


def _partitions(found: PolynomialSum, x: Array) -> list[tuple[tuple[tuple[int, ...], ...], float]]:
    """Partitions of the columns into blocks, the finest first, each with the constant term beside the product.

    Columns are joined in the order of ``f f_ij - f_i f_j``, the largest first, and again in that of ``(f - c) f_ij - f_i f_j`` with the
    constant c for which it is least.
    """
    basis, n = found.basis, x.shape[1]
    z = basis.columns(x)
    width = basis.high - basis.low
    z = z[((z > basis.low + MARGIN * width) & (z < basis.high - MARGIN * width)).all(1)][:DERIVATIVE_ROWS]
    steps = DERIVATIVE_STEP * width * np.eye(n)

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
        several += [joined_columns((*((i,) for i in range(n)), *ranked[:m])) for m in range(1, len(pairs))]
    results = []
    for blocks in sorted((blocks for blocks in dict.fromkeys(several) if len(blocks) > 1), key=len, reverse=True):
        across = [pair for pair in pairs if not any(set(pair) <= set(block) for block in blocks)]
        results.append((blocks, _multiple(*(np.concatenate([each[pair] for pair in across]) for each in (bends, off)))))
    return results


def _multiple(of: Array, y: Array) -> float:
    """The multiple of `of` that is nearest to `y`, by least squares."""
    return float(of @ y) / max(float(of @ of), 1e-300)
