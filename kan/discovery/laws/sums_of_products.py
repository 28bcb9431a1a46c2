r"""Sums of products of curves: ``y = sum_t prod_{i in S_t} phi_{t,i}(x_i)``, one curve for every column of a term.

For given curves of all other columns `y` is linear in all curves of one column, so that they are found in turns by linear least squares
(alternating least squares, as for the canonical polyadic decomposition of tensors). Which columns meet in which term is the shape of a
network with one layer of curves and products above it; that a shape fits is seen in milliseconds, before a network is trained.

The curves are named one by one, and the constants of the formula that comes out are fitted together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import combinations, islice
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.discovery.curves.one_variable import curve_formulas
from kan.discovery.edges.suggest import Candidate, DescriptionLength, fitted_candidates
from kan.discovery.formulas.constants import complexity, fit_constants
from kan.discovery.reduction.polynomials import Array, Mask, Stop, affordable, curve_bases, held_out, wide_columns
from kan.discovery.reduction.views import CHANGES, Change
from kan.formula_text import as_expression
from kan.solvers.least_squares import Evaluation, minimise_residuals

__all__ = ["Curves", "Terms", "formulas", "patterns", "split"]

Pattern = tuple[tuple[int, ...], ...]
"""The columns that meet in each term."""

DEGREE = 16
HIGHER = (24, 32)
"""Degrees that curves are fitted with once they are found."""
RAISED = 0.03
"""Share of the deviation that is missed, above which they are not found."""
TENSOR = 11
"""Functions of each of two columns whose products are fitted to begin with."""
SWEEPS = 6
STEPS = 25
LEAST_GAIN = 1e-2
"""Relative decrease of the residuals' sum of squares in a step below which the fit of the curves ends."""
STARTS = 2
FITS = 1e-4
"""Share of the deviation below which one start is enough."""
FITTED = 1e-9
"""As much for one choice of polynomials."""
HOPELESS = 0.3
"""Share above which another choice would not help either."""
FUZZ = 1e-5
"""Share of a curve's deviation that hardly any wrong function comes as near as."""
RANKED = 256
"""Samples of a curve that its functions are ranked by."""
EVIDENCE = 24
"""Samples that count: a curve is off by what it is, not by chance."""
NAMED = 5
"""Functions that are tried for a curve."""
MOST_FORMULAS = 12
OUTER = tuple(change for change in CHANGES if change.name in ("y", "1/y", "y^2", "1/y^2", "log y"))
INNER = (sympy.Integer(1), sympy.Integer(-1), sympy.Integer(2), sympy.Integer(-2), sympy.Rational(1, 2))


@dataclass(frozen=True)
class Terms:
    """Curves found.

    Attributes:
        pattern: which columns meet.
        curves: values ``(N,)`` for every term and column.
        error: on samples that were held out, as a share of the labels' deviation.
    """

    pattern: Pattern
    curves: dict[tuple[int, int], Array]
    error: float


def patterns(k: int) -> Iterator[Pattern]:
    """Patterns for `k` columns, the simple ones first."""
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


def split(
    x: Array,
    y: Array,
    pattern: Pattern,
    seed: int = 0,
    starts: int = STARTS,
    weights: Array | None = None,
    stop: Stop = lambda: False,
) -> Terms:
    """The curves of a pattern: alternating least squares, then Gauss-Newton steps for all of them at once, from several starts.

    Args:
        x: ``(N, k)``.
        y: ``(N,)``.
        pattern: see `patterns`.
        seed: of the starts.
        starts: how many.
        weights: of the residuals, ``(N,)``: errors are those of weighted residuals then, and else shares of the labels' deviation.
        stop: asked between steps; the curves are what they are by then.

    >>> x = np.random.default_rng(0).uniform(1, 2, (300, 2))
    >>> split(x, x[:, 0] * np.sin(x[:, 1]), ((0, 1),)).error < 1e-8
    True
    """
    held = held_out(x)
    if weights is None:
        weights = np.full(len(y), 1 / max(float(np.std(y)), 1e-300))
    best: tuple[float, Curves | None, tuple[bool, ...]] = math.inf, None, ()
    for wide in wide_columns(x, y, stop):
        if stop():
            break
        bases = curve_bases(x, wide, DEGREE)
        for start in range(starts):
            model = Curves(bases, pattern, y, held, weights)
            if start == 0 and (0, 1) in pattern and x.shape[1] == 2:
                model.begin_with_tensor()
            else:
                model.begin(np.random.default_rng(seed + start))
            for _ in range(SWEEPS):
                if not stop():
                    model.sweep()
            error = model.sharpened(stop)
            if error < best[0]:
                best = error, model, wide
            if best[0] < FITS or stop() or len(model.parts) == sum(len(columns) == 1 for columns in pattern):
                break
        if not FITTED < best[0] < HOPELESS:
            break
    error, found, wide = best
    if found is None:
        return Terms(pattern, {}, math.inf)
    for degree in HIGHER:
        if not FITTED < error < RAISED or len(found.parts) * degree > affordable(len(y)) or stop():
            break
        finer = found.raised(curve_bases(x, wide, degree))
        new = finer.sharpened(stop)
        if not new < 0.5 * error:
            break
        error, found = new, finer
    return Terms(pattern, found.curves, error)


class Curves:
    """The curves while they are fitted; `parts` are their coefficients, and `weights` those of the residuals."""

    def __init__(self, bases: list[Array], pattern: Pattern, y: Array, held: Mask, weights: Array) -> None:
        self.bases, self.pattern, self.y, self.held, self.weights = bases, pattern, y, held, weights
        self.parts: dict[tuple[int, int], Array] = {}
        self.constant = 0.0

    @property
    def curves(self) -> dict[tuple[int, int], Array]:
        """Values ``(N,)`` for every term and column."""
        return {(t, i): self.bases[i] @ part for (t, i), part in self.parts.items()}

    def raised(self, bases: list[Array]) -> Curves:
        """The same curves with higher polynomials."""
        other = Curves(bases, self.pattern, self.y, self.held, self.weights)
        other.parts = {(t, i): np.pad(part, (0, bases[i].shape[1] - len(part))) for (t, i), part in self.parts.items()}
        other.constant = self.constant
        return other

    def begin(self, random: np.random.Generator) -> None:
        """From random curves."""
        self.parts = {}
        for t, columns in enumerate(self.pattern):
            for i in columns:
                self.parts[t, i] = np.zeros(self.bases[i].shape[1])
                few = self.parts[t, i][:4]
                few[:] = random.normal(size=4)[: len(few)]

    def begin_with_tensor(self) -> None:
        """From the coefficients of all products of two columns' functions: without terms of one column they have rank one."""
        few = [basis[:, :TENSOR] for basis in self.bases]
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
        """The curves of one column after the other."""
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
        """A term without one of its factors, weighted."""
        return math.prod((self.bases[j] @ self.parts[t, j] for j in self.pattern[t] if j != i), start=self.weights)

    def residuals(self) -> Array:
        """Of all samples, weighted."""
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

        q, _ = minimise_residuals(evaluate, np.concatenate([[self.constant], *self.parts.values()]), STEPS, LEAST_GAIN, stop)
        put(q)
        return float(np.sqrt(np.mean(self.residuals()[self.held] ** 2)))


def _solved(rows: Array, y: Array) -> Array:
    size = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
    return np.asarray(np.linalg.lstsq(rows / size, y, rcond=1e-12)[0] / size)


def formulas(
    x: Tensor,
    y: Tensor,
    found: Terms,
    symbols: Sequence[sympy.Symbol],
    library: Any = None,
    stop: Callable[[], bool] = lambda: False,
    thorough: bool = False,
    weights: Tensor | None = None,
) -> list[tuple[float, sympy.Expr]]:
    """Formulas for the labels with the curves named, and their root mean squared errors, the best first.

    The best is the nearest to the labels, but with `weights` the one with the shortest description of labels and formula.

    Args:
        x: ``(N, k)``.
        y: ``(N,)``.
        found: of `split`.
        symbols: of the columns.
        library: names, or a dictionary like ``SYMBOLIC_LIB``, ``"extended"`` or None.
        stop: asked between trials.
        thorough: look for laws of two functions where one function is not enough.
        weights: those of `split`, if what the curves miss is noise.
    """
    deviation = float(y.std())
    floor = max(found.error, 1e-10) * deviation
    least = 30 * floor
    if weights is not None:  # many labels tell of each coefficient
        unit = float(weights.square().mean().sqrt())
        floor, least = found.error / unit * math.sqrt(DEGREE / len(y)), found.error / unit
    # Curves of terms that hardly matter are what is left of others.
    sizes = [float(np.std(math.prod(found.curves[t, i] for i in columns))) for t, columns in enumerate(found.pattern)]
    kept = [t for t, size in enumerate(sizes) if size > least]
    places = [(t, i) for t in kept for i in found.pattern[t]]
    curves = {place: torch.from_numpy(found.curves[place]) for place in places}
    names: dict[tuple[int, int], list[tuple[float, sympy.Expr]]] = {}
    for t, i in sorted(places, key=lambda place: -len(found.pattern[place[0]])):
        if stop():
            return []
        several = len(found.pattern[t]) > 1
        width = floor / sizes[t] * float(found.curves[t, i].std())
        names[t, i], offset = _names(x[:, i], curves[t, i], width, symbols[i], library, several, thorough, stop)
        others = tuple(j for j in found.pattern[t] if j != i)
        alone = next((s for s in kept if found.pattern[s] == others), None)
        if several and alone is not None and offset:
            # In f + g (h + d) the term d g may as well be part of f: there it is, lest f be a mixture.
            curves[t, i] = curves[t, i] - offset
            names[t, i], _ = _names(x[:, i], curves[t, i], width, symbols[i], library, several, thorough, stop)
            share = offset * math.prod((curves[t, j] for j in others), start=torch.ones_like(y))
            curves[alone, others[0]] = curves[alone, others[0]] + share
    constant = float(y.mean()) - float(sum(np.mean(math.prod(found.curves[t, i] for i in found.pattern[t])) for t in kept))
    ranked = [names[place] for place in places]
    results: list[tuple[float, float, sympy.Expr]] = []
    for ranks in islice(_choices([[bits for bits, _ in one] for one in ranked]), MOST_FORMULAS):
        if stop():
            break
        chosen = {place: one[r][1] for place, one, r in zip(places, ranked, ranks, strict=True)}
        total = sympy.Float(constant, 17) + sympy.Add(*(sympy.Mul(*(chosen[t, i] for i in found.pattern[t])) for t in kept))
        fitted = fit_constants(total, symbols, x, y, evaluations=60, weights=weights)
        results.append((fitted.rmse if weights is None else fitted.bits + 3 * complexity(fitted.formula), fitted.rmse, fitted.formula))
        if weights is None and fitted.rmse < 1e-11 * deviation:
            break
    return [one[1:] for one in sorted(results, key=lambda one: one[0])]


def _choices(bits: Sequence[Sequence[float]]) -> Iterator[tuple[int, ...]]:
    """One place in each of several ascending lists, the least sum first: of many lists there are too many choices to sort them all."""
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


def _names(
    x: Tensor, curve: Tensor, floor: float, symbol: sympy.Symbol, library: Any, factor: bool, thorough: bool, stop: Callable[[], bool]
) -> tuple[list[tuple[float, sympy.Expr]], float]:
    """Functions that a curve may be, and their bits, the best first, and what the first one adds to its function.

    Those of a `factor` may also have roots, inverses and so on around them. Where nothing fits, powers of the column are arguments, and at
    last, if `thorough`, laws of two functions are looked for.
    """
    thinned = slice(None, None, max(1, len(x) // RANKED))
    x, curve = x[thinned], curve[thinned]
    sign = -1.0 if bool((curve < 0).all()) else 1.0
    meant = [
        (change, change.forward(sign * curve)) for change in (OUTER if factor else OUTER[:1]) if bool(change.allowed(sign * curve).all())
    ]
    labels = torch.stack([values for _, values in meant], 1)
    # At its ends a curve is off by more than where samples were held out; small differences say nothing there.
    fuzz = max(3 * floor, min(10 * floor, FUZZ * float(curve.std())))
    found: list[tuple[float, int, Callable[[], sympy.Expr], float]] = []
    for n, power in enumerate(INNER if bool((x > 0).all()) else INNER[:1]):
        inputs = (x ** float(power))[:, None].expand_as(labels)
        least = math.inf
        for (change, _), ranked in zip(meant, fitted_candidates(inputs, labels, library, scoring=DescriptionLength()), strict=True):
            for candidate in ranked:
                a, b, c, d = candidate.affine.tolist()
                # In the curve's own units: where a change is steep, a few labels are all that it was fitted to.
                value = change.back(c * candidate.function.torch_fun(a * inputs[:, 0] + b) + d)
                off = float((sign * value - curve).square().mean().sqrt())
                if candidate.name == "0" or not math.isfinite(off):
                    continue
                least = min(least, off)
                bits = EVIDENCE * math.log2(math.hypot(off, fuzz) + 1e-300) + candidate.bits - candidate.r2_loss
                bits += 5.0 * (change is not OUTER[0]) + 3.0 * (n > 0)
                found.append((bits, len(found), partial(_written, candidate, sign, change, symbol**power), d * (change is OUTER[0])))
        if least < max(10 * floor, fuzz):
            break
    if thorough and least > max(10 * floor, fuzz) and not stop():
        for law in curve_formulas(x, curve, symbol, library=library, noise=fuzz, target_error=3 * floor, stop=stop)[:2]:
            bits = EVIDENCE * math.log2(math.hypot(law.rmse, fuzz) + 1e-300) + 4.0 * complexity(law.formula)
            offset = float(law.formula.as_independent(symbol, as_Add=True)[0])
            found.append((bits, len(found), partial(as_expression, law.formula), sign * offset))
    found.sort(key=lambda one: one[:2])
    return [(bits, write()) for bits, _, write, _ in found[:NAMED]], sign * found[0][3] if found else 0.0


def _written(candidate: Candidate, sign: float, change: Change, argument: sympy.Expr) -> sympy.Expr:
    a, b, c, d = (sympy.Float(number, 17) for number in candidate.affine.tolist())
    return sign * change.inverse(c * candidate.function.sympy_fun(a * argument + b) + d)
