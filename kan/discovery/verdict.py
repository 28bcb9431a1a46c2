r"""What may be said of a candidate: verdicts, and the evidence that each of them needs.

``"exact"``
    At least `EXPLAINED` of all rows, the outermost too, and of the different rows among them, are missed by no more than `UNITS` units of
    their own round-off (`kan.discovery.round_off`). There are several times more different rows than numbers in the formula, some of
    which no fit has seen, and the variables' ranges are wide enough to tell the formula from a Taylor polynomial.
``"within noise"``
    On rows that no fit has seen, it misses no more than `WITHIN` times the noise floor, no smooth function of the variables explains what
    it misses (`kan.discovery.residual_test`), no other candidate misses clearly less, and it is clearly better than the mean. The same
    number of different rows is needed.
``"untested"``
    One of the two, but for the number of different rows or the width of the ranges: the data cannot say whether it is the law.
``"approximate"``
    It misses more than the noise: `excess` times the noise floor.
``"none"``
    The mean, or a formula that is not clearly better: nothing is seen above the noise.
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

from kan.discovery.constants import Constant
from kan.discovery.residual_test import Smoothers, agreement, clipped_rms, robust_scale
from kan.discovery.ridge import Array
from kan.discovery.round_off import misses

__all__ = ["VERDICTS", "Explained", "Finding", "Rows", "compared", "numbers_of"]

VERDICTS = ("exact", "within noise", "untested", "approximate", "none", "spline")
"""The best first."""
EXPLAINED = 0.99
"""Least share of the rows, and of the different rows, that an exact law explains."""
UNITS = 4.0
"""Largest error of an explained row, in units of its round-off. On the 163 laws of the benchmarks' three sets that are found without
noise, 99 % of the rows are missed by less than 0.3 units."""
ROWS_PER_NUMBER = 3
"""Least number of different rows for every number in a formula."""
LEAST_ROWS = 6
"""Least number of different rows that test a formula, however few numbers it has."""
TAYLOR = 1e-9
"""Largest remainder of a Taylor polynomial, relative to the function, that may pass for round-off: with ``P`` free constants and a column
``centre (1 +- w)`` it is ``w^P``, as if the function varied on the scale of the column's own values."""
DETERMINED = 0.1
"""Largest standard error of a constant of an exact law, as a share of its value: a steep step has a slope that no data determine."""
WITHIN = 1.1
"""Largest error, in units of the noise floor, that counts as noise."""
CLEAR = 4.0
"""Value of the statistic `kan.discovery.residual_test.agreement` above which residuals are not noise. Of 1100 sets of pure noise (8 to 700
rows, 1 to 4 columns), none exceeded 3.93."""
EVIDENCE = 30.0
"""Bits by which a formula must shorten the description of the labels by the mean, beside its numbers: it was chosen among many."""
MOSTLY = 0.5
"""Share of rows that are explained to round-off, above which the labels have no noise."""
MOST_ROWS = 700
"""Largest number of rows that the noise floor is estimated from; a fixed random choice if there are more."""
DECADES = 1e3
"""Ratio of the largest label to the median one, zeros aside, from which on errors are looked at as shares of the labels, too. Labels that
are smaller than the median by as much are not divided by."""


class Explained(NamedTuple):
    """What a formula explains to round-off.

    Attributes:
        share: of the rows, or of the different rows, whichever is less.
        rows: number of explained rows.
        of: number of all rows.
        undefined: number of rows where the formula has no finite real value.
        relative: median of the errors as shares of the labels.
        doubts: sentences that say why the data cannot test the formula; none if they can.
        determined: whether the data determine all of its constants; another formula may need fewer.
    """

    share: float
    rows: int
    of: int
    undefined: int
    relative: float
    doubts: tuple[str, ...]
    determined: bool


class Finding(NamedTuple):
    """What the comparison of all candidates says about one of them."""

    verdict: str
    excess: float
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """All rows that verdicts are about.

    Attributes:
        x: ``(N, n)``.
        y: ``(N,)``.
        symbols: of the columns, in the formulas that are judged.
        names: of the columns, in messages.
        fitted: rows that fits see, ``(N,)``, boolean.
        trusted: rows that do not stand alone by orders of magnitude, likewise: the noise is estimated from these.
    """

    x: Tensor
    y: Tensor
    symbols: tuple[sympy.Symbol, ...]
    names: Sequence[str]
    fitted: Tensor
    trusted: Tensor

    @property
    def columns(self) -> dict[sympy.Symbol, Tensor]:
        """Values of the symbols."""
        return dict(zip(self.symbols, self.x.unbind(1), strict=True))

    @property
    def decades(self) -> bool:
        """Whether labels differ by orders of magnitude, so that relative errors say more."""
        sizes = self.y[self.trusted & (self.y != 0)].abs()
        return bool(sizes.max() > DECADES * sizes.median()) if len(sizes) else False

    def explained(self, formula: sympy.Expr, constants: Sequence[Constant]) -> Explained:
        """What `formula`, with some fitted `constants`, explains to round-off, and whether the rows test it."""
        missed, unit = misses(formula, self.columns, self.y)
        finite = missed.isfinite()
        good = finite & (missed.abs() <= UNITS * unit)
        groups = self._groups([i for i, symbol in enumerate(self.symbols) if formula.has(symbol)])
        distinct = int(groups.max()) + 1
        bad = np.zeros(distinct, dtype=bool)
        bad[groups[~good.numpy()]] = True
        share = min(float(good.double().mean()), 1 - float(bad.mean())) if formula.free_symbols else 0.0  # a constant explains nothing
        relative = float((missed[finite] / self.y[finite].abs().clamp_min(1e-300)).abs().median()) if bool(finite.any()) else math.inf
        loose = [constant for constant in constants if not constant.error <= DETERMINED * abs(constant.value)]
        doubts = self._doubts(formula, len(constants), groups, distinct)
        doubts = doubts or [f"the data do not determine the constant {constant.value:.5g}" for constant in loose[:1]]
        return Explained(share, int(good.sum()), len(good), int((~finite).sum()), relative, tuple(doubts), not loose)

    def share(self, formula: sympy.Expr) -> float:
        """Share of the rows that a formula explains to round-off."""
        missed, unit = misses(formula, self.columns, self.y)
        return float((missed.abs() <= UNITS * unit).double().mean())

    def _groups(self, columns: Sequence[int]) -> NDArray[np.int64]:
        """For every row the number of its values in some columns; rows with the same values have the same number."""
        if not columns:
            return np.zeros(len(self.y), dtype=np.int64)
        return np.asarray(np.unique(self.x[:, columns].numpy(), axis=0, return_inverse=True)[1].reshape(-1), dtype=np.int64)

    def _doubts(self, formula: sympy.Expr, free: int, groups: NDArray[np.int64], distinct: int) -> list[str]:
        numbers = numbers_of(formula)
        if not formula.free_symbols:
            return []
        needed = max(LEAST_ROWS, ROWS_PER_NUMBER * numbers)
        if distinct < needed:
            return [f"{distinct} different rows for {numbers} number(s), {needed} are needed"]
        fitted = np.zeros(distinct, dtype=bool)
        fitted[groups[self.fitted.numpy()]] = True
        if fitted.all():
            return [f"all of the {distinct} different rows were fitted, none is left for a test"]
        return self._narrow(formula, free)

    def _narrow(self, formula: sympy.Expr, free: int) -> list[str]:
        """Columns over whose range a Taylor polynomial with as many coefficients would miss no more than round-off."""
        found = []
        for i, (symbol, name) in enumerate(zip(self.symbols, self.names, strict=True)):
            low, high = float(self.x[self.trusted, i].min()), float(self.x[self.trusted, i].max())
            if free and formula.has(symbol) and low * high > 0 and (abs((high - low) / (high + low))) ** free < TAYLOR:
                found.append(f"{name} spans only {low:.7g} to {high:.7g}, where {free} fitted constants follow any smooth function")
        return found


def numbers_of(formula: sympy.Expr) -> int:
    """How many numbers were chosen for a formula: numeric subexpressions, but for 1 and -1.

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
    """Residuals of all candidates on the same rows, and the noise that they leave."""

    def __init__(self, rows: Rows, most: int) -> None:
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
        """Of the sizes of two residuals; the second is not taken to be less than round-off."""
        scale = max(robust_scale(one), robust_scale(other))
        least = float(np.finfo(float).eps * self.y.square().mean().sqrt())
        return max(clipped_rms(one, scale) / max(clipped_rms(other, scale), least), 1.0)

    def better(self, formula: sympy.Expr, residuals: Array) -> bool:
        """Whether a formula is clearly better than the mean, on all rows, and better on those that no fit has seen."""
        scale, unseen, count = robust_scale(self.mean), self.unseen, len(self.y)
        bits = count * math.log2(max(clipped_rms(self.mean, scale), 1e-300) / max(clipped_rms(residuals, scale), 1e-300))
        enough = bits > EVIDENCE + 0.5 * numbers_of(formula) * math.log2(count)
        return enough and clipped_rms(residuals[unseen], scale) < clipped_rms(self.mean[unseen], scale)


def compared(
    rows: Rows, formulas: Sequence[tuple[sympy.Expr, Explained]], noise: float | None = None, most: int = MOST_ROWS
) -> tuple[list[Finding], float]:
    """Verdicts on formulas, by comparison with each other, with the mean, and with what smooth functions explain.

    Where labels differ by orders of magnitude, errors must be noise in both ways, as they are and as shares of the labels.

    Args:
        rows: the data.
        formulas: of the symbols of the rows, and what they explain to round-off.
        noise: standard deviation of the errors of the labels, if it is known: an upper bound of the noise floor.
        most: largest number of rows that the noise floor is estimated from; a fixed random choice if there are more.

    Returns:
        A finding for each formula, and the noise floor.
    """
    comparison = _Comparison(rows, most)
    missed = [misses(formula, comparison.columns, comparison.y)[0].numpy() for formula, _ in formulas]
    residuals = [_finite(one, comparison.mean) for one in missed]
    above, floor = _above_noise(comparison, residuals)
    if rows.decades:
        sizes = comparison.y.abs().numpy()
        sizes = np.maximum(sizes, np.median(sizes[sizes > 0]) / DECADES)
        relative, _ = _above_noise(comparison, [one / sizes for one in residuals])
        above = [(max(one[0], other[0]), one[1] or other[1]) for one, other in zip(above, relative, strict=True)]
    if noise is not None:
        chance = 1 + 2 / math.sqrt(len(comparison.y))
        above = [(max(excess, rms(one) / (chance * noise)), seen) for (excess, seen), one in zip(above, residuals, strict=True)]
        floor = min(floor, noise)
    together = zip(formulas, residuals, above, strict=True)
    return [_finding(comparison, *formula, one, *excess) for formula, one, excess in together], floor


def _above_noise(comparison: _Comparison, residuals: Sequence[Array]) -> tuple[list[tuple[float, bool]], float]:
    """How many times the noise floor residuals are, and whether they are clearly more than noise; and that floor."""
    unseen = comparison.unseen
    # What is left once a smooth function has taken what it surely sees, the least of which is the noise.
    references = []
    for one in residuals:
        left, sure = comparison.smoothers.predicted(one)
        references.append(left if sure > CLEAR else one)
    least = min(references, key=lambda one: clipped_rms(one[unseen], robust_scale(one[unseen])))
    found = []
    for one, reference in zip(residuals, references, strict=True):
        excess, seen = comparison.ratio(one, reference), reference is not one
        # Whether other candidates, none of which saw these rows, predict what this one misses there.
        if any(agreement(one[unseen], (one - other)[unseen]) > CLEAR for other in residuals):
            excess, seen = max(excess, comparison.ratio(one[unseen], least[unseen])), True
        found.append((excess, seen))
    return found, min(rms(one) for one in references)


def _finding(comparison: _Comparison, formula: sympy.Expr, explained: Explained, residuals: Array, excess: float, seen: bool) -> Finding:
    remarks = (f"no real value at {explained.undefined} row(s)",) if explained.undefined else ()
    if explained.share >= EXPLAINED:
        return Finding("untested" if explained.doubts else "exact", excess, remarks + explained.doubts)
    # Where most rows are explained to round-off there is no noise, and the others are missed by something else.
    within = excess <= WITHIN and not seen and explained.rows <= MOSTLY * explained.of
    if not formula.free_symbols or not comparison.better(formula, residuals):
        return Finding("none" if within else "approximate", excess, remarks)
    if not within or explained.undefined:
        return Finding("approximate", excess, remarks)
    few = tuple(doubt for doubt in explained.doubts if "different rows" in doubt)
    return Finding("untested" if few else "within noise", excess, few)


def rms(residuals: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(residuals))))


def _finite(residuals: Array, instead: Array) -> Array:
    """Residuals, with the mean's where the formula has no value or one that is far from all labels."""
    bound = 1e3 * max(float(np.abs(instead).max()), 1e-300)
    return np.where(np.isfinite(residuals), np.clip(residuals, -bound, bound), instead)
