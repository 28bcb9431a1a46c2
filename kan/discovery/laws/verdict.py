r"""The verdicts on candidates, and the evidence that each verdict requires.

A row is explained if the residual there is at most `MAX_ROUND_OFF_UNITS` units of round-off, each row having its own unit
(`kan.discovery.formulas.round_off`).

``"exact"``
    At least `MIN_EXPLAINED` of all rows, the outermost included, and of the different rows among them are explained. There are several
    times more different rows than numbers in the formula, some of them are used in no fit, and the ranges of the variables are wide
    enough to distinguish the formula from a Taylor polynomial.
``"within noise"``
    The error is at most `MAX_EXCESS` times the noise floor, on rows that no fit has seen, too, where there are enough. No smooth function
    of the variables predicts the residuals (`kan.discovery.laws.residual_test`), no other candidate is clearly better, and the formula is
    clearly better than every constant. The same number of different rows is needed.
``"untested"``
    All conditions of ``"exact"`` hold, except those on different rows, ranges or constants, or all of ``"within noise"``, except that on
    different rows. The data cannot decide whether it is the law.
``"approximate"``
    The error is larger than the noise: `excess` times the noise floor.
``"none"``
    A constant, or a formula that is not clearly better. No structure is visible above the noise.
``"spline"``
    A network without a formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import sympy
import torch
from numpy.typing import NDArray
from torch import Tensor

from kan.discovery.formulas.constants import Constant
from kan.discovery.formulas.round_off import residuals_and_round_off
from kan.discovery.laws.residual_test import CLIP, Smoothers, agreement, clipped_rms, robust_scale
from kan.discovery.reduction.polynomials import Array

__all__ = ["VERDICTS", "Explained", "VerdictFinding", "VerdictRows", "compare", "numbers_of"]

VERDICTS = ("exact", "within noise", "untested", "approximate", "none", "spline")
"""All verdicts, the best first."""
MIN_EXPLAINED = 0.99
"""Smallest share of the rows, and of the different rows, that an exact law must explain to round-off."""
MAX_ROUND_OFF_UNITS = 4.0
"""Largest residual of a row that counts as explained, in units of that row's round-off. In the three problem sets of the benchmarks, 163
laws are found in data without noise, and 99 % of their rows have residuals below 0.3 units."""
MIN_ROWS_PER_NUMBER = 3
"""Number of different rows that a formula needs for each of its numbers; with fewer it is untested."""
MIN_DIFFERENT_ROWS = 6
"""Number of different rows that every formula needs, however few numbers it has."""
MIN_TAYLOR_REMAINDER = 1e-9
"""Relative remainder of a Taylor polynomial below which the polynomial is indistinguishable from the law, so that the law is untested. With
``P`` fitted constants and a column that ranges over ``centre (1 +- w)``, the remainder is estimated as ``w^P``. This assumes that the
function varies on the scale of the column's own values."""
MAX_CONSTANT_ERROR = 0.1
"""Largest relative standard error of a constant of an exact law. Above it the data do not determine the constant, for example the slope of
a steep step, and the law is untested."""
DEPENDENCE_DEGREE = 14
"""Degree of the polynomials in one column by which another column is tested for dependence."""
MAX_DEPENDENT_RESIDUAL = 1e-6
"""Root mean squared residual of a column, as a share of its deviation, up to which the column follows from others."""
MAX_EXCESS = 1.1
"""Largest error of a law within noise, as a multiple of the noise floor."""
MIN_UNSEEN_ROWS = 50
"""Smallest number of rows that no fit has seen whose error alone decides whether a candidate is above the noise. The error of that many
rows is known to about 10 %."""
MAX_NOISE_STATISTIC = 4.5
"""Value of the statistic `kan.discovery.laws.residual_test.agreement` above which residuals are not noise. In 1100 data sets of pure noise
(8 to 700 rows, 1 to 4 columns) the statistic never exceeded 3.93."""
MIN_BITS = 30.0
"""Number of bits by which a formula must shorten the description of the labels to be clearly better than a constant, after its numbers are
paid for. The margin is there because the formula was chosen among many."""
MAX_SHARE_OF_GAIN = 0.02
"""Share of the rows on which the gain of a formula over a constant may rest. A function with poles follows a few large errors of the labels
exactly and is a constant at all other rows."""
MAX_EXPLAINED_IN_NOISE = 0.5
"""Share of the rows that are explained to round-off above which the labels are taken to have no noise. A law that explains more, without
being exact, is not within noise."""
NOISE_ROWS = 700
"""Largest number of rows from which the noise floor is estimated; if there are more, a fixed random choice of them is used."""
MIN_LABEL_RATIO = 1e3
"""Ratio of the largest to the median size of the labels, zeros excluded, above which relative errors are judged, too. An error is divided
by the size of its label, or by the median divided by this ratio if that is larger."""


class Explained(NamedTuple):
    """What a formula explains to round-off.

    Attributes:
        share: share of the rows that are explained, or of the different rows if that is less.
        rows: number of explained rows.
        of: number of all rows.
        undefined: number of rows where the formula has no finite real value.
        relative: median relative error.
        doubts: sentences that say why the data cannot test the formula; empty if they can.
        determined: whether the data determine all of its constants; if not, another formula may need fewer.
    """

    share: float
    rows: int
    of: int
    undefined: int
    relative: float
    doubts: tuple[str, ...]
    determined: bool


class VerdictFinding(NamedTuple):
    """The verdict on one candidate after its comparison with all others, with its excess and remarks; see `candidates.Law`."""

    verdict: str
    excess: float
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class VerdictRows:
    """All rows on which verdicts are based.

    Attributes:
        x: the variables, ``(N, n)``.
        y: the labels, ``(N,)``.
        symbols: symbols of the columns in the formulas that are judged.
        names: names of the columns in messages.
        fitted: which rows fits use, ``(N,)``, boolean.
        trusted: which rows have no fill values, ``(N,)``, boolean. The noise is estimated from these.
    """

    x: Tensor
    y: Tensor
    symbols: tuple[sympy.Symbol, ...]
    names: Sequence[str]
    fitted: Tensor
    trusted: Tensor

    @property
    def columns(self) -> dict[sympy.Symbol, Tensor]:
        """The values of every symbol at all rows."""
        return dict(zip(self.symbols, self.x.unbind(1), strict=True))

    @property
    def labels_span_decades(self) -> bool:
        """Whether labels differ by orders of magnitude, so that relative errors are judged, too; see `MIN_LABEL_RATIO`."""
        sizes = self.y[self.trusted & (self.y != 0)].abs()
        return bool(sizes.max() > MIN_LABEL_RATIO * sizes.median()) if len(sizes) else False

    def explained(self, formula: sympy.Expr, constants: Sequence[Constant]) -> Explained:
        """What `formula` explains to round-off, and whether the rows test it. `constants` are those of its numbers that were fitted."""
        residuals, unit = residuals_and_round_off(formula, self.columns, self.y)
        finite = residuals.isfinite()
        good = finite & (residuals.abs() <= MAX_ROUND_OFF_UNITS * unit)
        groups = self._groups([i for i, symbol in enumerate(self.symbols) if formula.has(symbol)])
        distinct = int(groups.max()) + 1
        bad = np.zeros(distinct, dtype=bool)
        bad[groups[~good.numpy()]] = True
        share = min(float(good.double().mean()), 1 - float(bad.mean())) if formula.free_symbols else 0.0  # a constant explains nothing
        relative = float((residuals[finite] / self.y[finite].abs().clamp_min(1e-300)).abs().median()) if bool(finite.any()) else math.inf
        loose = [constant for constant in constants if not constant.error <= MAX_CONSTANT_ERROR * abs(constant.value)]
        doubts = self._doubts(formula, len(constants), groups, distinct)
        if share >= MIN_EXPLAINED:
            doubts = doubts or self._dependent([i for i, symbol in enumerate(self.symbols) if formula.has(symbol)])
        doubts = doubts or [f"the data do not determine the constant {constant.value:.5g}" for constant in loose[:1]]
        return Explained(share, int(good.sum()), len(good), int((~finite).sum()), relative, tuple(doubts), not loose)

    def share(self, formula: sympy.Expr) -> float:
        """Share of the rows that a formula explains to round-off."""
        residuals, unit = residuals_and_round_off(formula, self.columns, self.y)
        return float((residuals.abs() <= MAX_ROUND_OFF_UNITS * unit).double().mean())

    def _groups(self, columns: Sequence[int]) -> NDArray[np.int64]:
        """A number for every row, the same for rows that agree in all of the given columns."""
        if not columns:
            return np.zeros(len(self.y), dtype=np.int64)
        return np.asarray(np.unique(self.x[:, columns].numpy(), axis=0, return_inverse=True)[1].reshape(-1), dtype=np.int64)

    def _doubts(self, formula: sympy.Expr, free: int, groups: NDArray[np.int64], distinct: int) -> list[str]:
        """Sentences that say why the rows cannot test a formula with `free` fitted constants; none if they can."""
        numbers = numbers_of(formula)
        if not formula.free_symbols:
            return []
        needed = max(MIN_DIFFERENT_ROWS, MIN_ROWS_PER_NUMBER * numbers)
        if distinct < needed:
            return [f"{distinct} different rows for {numbers} number(s), {needed} are needed"]
        fitted = np.zeros(distinct, dtype=bool)
        fitted[groups[self.fitted.numpy()]] = True
        if fitted.all():
            return [f"all of the {distinct} different rows were fitted, none is left for a test"]
        return self._narrow(formula, free)

    def _dependent(self, used: Sequence[int]) -> list[str]:
        """A sentence that names a column that follows from other columns of the formula, if there is one.

        It is a polynomial of one of them, or a sum of multiples of all of them.
        """
        x = np.unique(self.x[self.trusted].numpy(), axis=0)
        low, high = x.min(0), x.max(0)
        t = 2 * (x - low) / np.maximum(high - low, 1e-300) - 1
        for j in used:
            others = [i for i in used if i != j]
            bases = [np.polynomial.chebyshev.chebvander(t[:, i], DEPENDENCE_DEGREE) for i in others]
            bases += [np.concatenate([np.ones((len(t), 1)), t[:, others]], 1)] if len(others) > 1 else []
            for i, basis in enumerate(bases):
                error = rms(t[:, j] - basis @ np.linalg.lstsq(basis, t[:, j], rcond=None)[0])
                if len(t) > 2 * basis.shape[1] and error < MAX_DEPENDENT_RESIDUAL * float(np.std(t[:, j])):
                    from_ = self.names[others[i]] if i < len(others) else "the other columns"
                    return [f"{self.names[j]} follows from {from_}, so that other formulas have the same values at all rows"]
        return []

    def _narrow(self, formula: sympy.Expr, free: int) -> list[str]:
        """Sentences that name the columns whose range is so narrow that a Taylor polynomial with `free` coefficients fits to round-off."""
        found = []
        for i, (symbol, name) in enumerate(zip(self.symbols, self.names, strict=True)):
            low, high = float(self.x[self.trusted, i].min()), float(self.x[self.trusted, i].max())
            if free and formula.has(symbol) and low * high > 0 and (abs((high - low) / (high + low))) ** free < MIN_TAYLOR_REMAINDER:
                found.append(f"{name} spans only {low:.7g} to {high:.7g}, where {free} fitted constants follow any smooth function")
        return found


def numbers_of(formula: sympy.Expr) -> int:
    """How many numbers a formula has: its numeric subexpressions other than 1 and -1.

    >>> x = sympy.Symbol("x")
    >>> [numbers_of(sympy.sympify(text)) for text in ("-x", "2*pi*x/3", "x**2/2", "1/(x + 1)", "sqrt(x) + 0.5*sin(3*x)")]
    [0, 1, 2, 0, 3]
    """
    if formula.is_number:
        return int(abs(formula) != 1)
    several = [part for part in formula.args if part.is_number]
    rest = [part for part in formula.args if not part.is_number]
    joined = isinstance(formula, sympy.Add | sympy.Mul)
    value = formula.func(*several) if joined and several else None
    return (numbers_of(value) if value is not None else sum(map(numbers_of, several))) + sum(map(numbers_of, rest))


class _Comparison:
    """The rows on which the residuals of all candidates are compared, and the tests that are applied to them."""

    def __init__(self, rows: VerdictRows, most: int) -> None:
        chosen = rows.trusted.nonzero()[:, 0]
        if len(chosen) > most:
            order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))
            chosen = chosen[order[:most].sort().values]
        self.columns = {symbol: column[chosen] for symbol, column in rows.columns.items()}
        self.y = rows.y[chosen]
        self.unseen = ~rows.fitted[chosen].numpy()
        if self.unseen.sum() < 2:
            self.unseen = np.ones(len(chosen), dtype=bool)
        self.smoothers = Smoothers(rows.x[chosen].numpy())

    @cached_property
    def mean(self) -> Array:
        """Residuals of the mean."""
        return np.asarray((self.y - self.y.mean()).numpy())

    def ratio(self, one: Array, other: Array) -> float:
        """Ratio of the sizes of two residual vectors, at least 1; the size of the second counts as round-off if it is smaller."""
        scale = max(robust_scale(one), robust_scale(other))
        least = float(np.finfo(float).eps * self.y.square().mean().sqrt())
        return max(clipped_rms(one, scale) / max(clipped_rms(other, scale), least), 1.0)

    @cached_property
    def constant(self) -> Array:
        """Residuals of the best constant: the mean, or, where outliers move the mean, the mean without them or the median."""
        y = np.asarray(self.y.numpy())
        median = float(np.median(y))
        inner = y[np.abs(y - median) <= CLIP * robust_scale(y - median)]
        constants = [y - centre for centre in (float(y.mean()), float(inner.mean()), median)]
        scale = min(map(robust_scale, constants))
        return min(constants, key=lambda one: clipped_rms(one, scale))

    def better(self, formula: sympy.Expr, residuals: Array) -> bool:
        """Whether a formula is clearly better than a constant on all rows, and better on those that no fit has seen.

        Clearly means by `MIN_BITS`, and by as much without the rows where the formula gains most; see `MAX_SHARE_OF_GAIN`.
        """
        scale, unseen, count = robust_scale(self.constant), self.unseen, len(self.y)
        gains = np.square(np.minimum(np.abs(self.constant), CLIP * scale)) - np.square(np.minimum(np.abs(residuals), CLIP * scale))
        rest = np.argsort(gains)[: count - math.ceil(MAX_SHARE_OF_GAIN * count)]
        ratio = max(clipped_rms(self.constant[rest], scale), 1e-300) / max(clipped_rms(residuals[rest], scale), 1e-300)
        enough = len(rest) * math.log2(ratio) > MIN_BITS + 0.5 * numbers_of(formula) * math.log2(count)
        return enough and clipped_rms(residuals[unseen], scale) < clipped_rms(self.constant[unseen], scale)


def compare(
    rows: VerdictRows, formulas: Sequence[tuple[sympy.Expr, Explained]], noise: float | None = None, most: int = NOISE_ROWS
) -> tuple[list[VerdictFinding], float]:
    """Verdicts on formulas, by comparison with each other, with the mean, and with what smooth functions predict.

    Where labels differ by orders of magnitude, both the absolute and the relative errors must be noise.

    Args:
        rows: the data.
        formulas: formulas in the symbols of the rows, each with what it explains to round-off.
        noise: standard deviation of the errors of the labels, if it is known; it is an upper bound of the noise floor.
        most: largest number of rows from which the noise floor is estimated; if there are more, a fixed random choice of them is used.

    Returns:
        A finding for each formula, and the noise floor.
    """
    comparison = _Comparison(rows, most)
    raw = [residuals_and_round_off(formula, comparison.columns, comparison.y)[0].numpy() for formula, _ in formulas]
    residuals = [_finite(one, comparison.mean) for one in raw]
    above, floor = _excesses(comparison, residuals)
    if rows.labels_span_decades:
        sizes = comparison.y.abs().numpy()
        sizes = np.maximum(sizes, np.median(sizes[sizes > 0]) / MIN_LABEL_RATIO)
        relative, _ = _excesses(comparison, [one / sizes for one in residuals])
        above = [(max(one[0], other[0]), one[1] or other[1]) for one, other in zip(above, relative, strict=True)]
    if noise is not None:
        chance = 1 + 2 / math.sqrt(len(comparison.y))
        above = [(max(excess, rms(one) / (chance * noise)), structured) for (excess, structured), one in zip(above, residuals, strict=True)]
        floor = min(floor, noise)
    together = zip(formulas, residuals, above, strict=True)
    return [_finding(comparison, *formula, one, *excess) for formula, one, excess in together], floor


def _excesses(comparison: _Comparison, residuals: Sequence[Array]) -> tuple[list[tuple[float, bool]], float]:
    """For each residual vector its size in units of the noise floor and whether it is clearly more than noise; then the noise floor."""
    unseen = comparison.unseen
    # Residuals after a smooth function is subtracted, if it clearly predicts them. The smallest of these are the noise.
    references = []
    for one in residuals:
        left, statistic = comparison.smoothers.predicted(one)
        references.append(left if statistic > MAX_NOISE_STATISTIC else one)
    least = min(references, key=lambda one: clipped_rms(one[unseen], robust_scale(one[unseen])))
    found = []
    for one, reference in zip(residuals, references, strict=True):
        excess, structured = comparison.ratio(one, reference), reference is not one
        # Whether another candidate predicts the residuals of this one on rows that neither was fitted to.
        if any(agreement(one[unseen], (one - other)[unseen]) > MAX_NOISE_STATISTIC for other in residuals):
            structured = True
        if structured or unseen.sum() >= MIN_UNSEEN_ROWS:
            excess = max(excess, comparison.ratio(one[unseen], least[unseen]))
        found.append((excess, structured))
    return found, min(rms(one) for one in references)


def _finding(
    comparison: _Comparison, formula: sympy.Expr, explained: Explained, residuals: Array, excess: float, structured: bool
) -> VerdictFinding:
    """The verdict on a formula with these residuals; `structured` says whether they are clearly more than noise."""
    remarks = (f"no real value at {explained.undefined} row(s)",) if explained.undefined else ()
    if explained.share >= MIN_EXPLAINED:
        return VerdictFinding("untested" if explained.doubts else "exact", excess, remarks + explained.doubts)
    # If most rows are explained to round-off, the labels have no noise, and the other residuals have another cause.
    within = excess <= MAX_EXCESS and not structured and explained.rows <= MAX_EXPLAINED_IN_NOISE * explained.of
    if not formula.free_symbols or not comparison.better(formula, residuals):
        return VerdictFinding("none" if within else "approximate", excess, remarks)
    if not within or explained.undefined:
        return VerdictFinding("approximate", excess, remarks)
    few = tuple(doubt for doubt in explained.doubts if "different rows" in doubt)
    return VerdictFinding("untested" if few else "within noise", excess, few)


def rms(residuals: Array) -> float:
    """Root mean square of residuals."""
    return float(np.sqrt(np.mean(np.square(residuals))))


def _finite(residuals: Array, instead: Array) -> Array:
    """Residuals, clipped where they are far larger than those of the mean, and replaced by those of the mean where they are not finite."""
    bound = 1e3 * max(float(np.abs(instead).max()), 1e-300)
    return np.where(np.isfinite(residuals), np.clip(residuals, -bound, bound), instead)
