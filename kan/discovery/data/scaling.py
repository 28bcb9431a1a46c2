r"""Changes of unit for data of extreme size, whose squares would overflow or vanish.

Columns and labels of extreme size are divided by powers of ten, ``x'_j = x_j / u_j`` and ``y' = y / v``; other data stay as they are. A law
``y' = f(x')`` then reads ``y = v f(x_1 / u_1, ..., x_n / u_n)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import sympy
from torch import Tensor

from kan.discovery.data.observations import Observations
from kan.discovery.formulas.constants import complexity
from kan.discovery.laws.candidates import Constant, Law

__all__ = ["UnitScales", "scaled"]

EXTREME_SIZE = 1e50
"""Size of the largest value of a column above which the column is scaled; columns whose largest value is below the inverse are scaled, too.
Within these bounds sixth powers, which a law may have, stay finite."""
MAX_UNIT_EXPONENT = 300
"""Largest exponent of ten of a unit, chosen so that the inverse of the unit is a floating-point number, too."""


@dataclass(frozen=True)
class UnitScales:
    """Units by which columns and labels are divided.

    Attributes:
        x: the units of the columns that are scaled, by their symbols.
        y: the unit of the labels; 1 if they are not scaled.
    """

    x: dict[sympy.Symbol, float]
    y: float

    @property
    def plain(self) -> bool:
        """Whether all data stay as they are."""
        return not self.x and self.y == 1.0

    def undone(self, law: Law) -> Law:
        """The `law` in the original units, given one for data in these units; networks without a formula are returned as they are."""
        if law.formula is None or self.plain:
            return law
        units = {symbol: symbol * sympy.Float(1 / unit, 17) for symbol, unit in self.x.items()}
        constants = list(law.constants)
        terms = []
        for term in sympy.Add.make_args(law.formula):
            terms.append(sympy.Float(self.y, 17) * term.xreplace(units) if self.y != 1.0 else term.xreplace(units))
            before, after = (float(one.as_coeff_Mul()[0]) for one in (term, terms[-1]))
            for n, (value, error) in enumerate(law.constants):
                if abs(abs(value) - abs(before)) <= 1e-12 * abs(value):
                    constants[n] = Constant(value * abs(after / before), error * abs(after / before))
        formula = sympy.Add(*terms)
        rmse, held_out, extrapolated = (self.y * error for error in (law.rmse, law.held_out, law.extrapolated))
        return replace(
            law, formula=formula, rmse=rmse, held_out=held_out, extrapolated=extrapolated, complexity=complexity(formula),
            constants=tuple(constants),
        )  # fmt: skip


def scaled(given: Observations) -> tuple[Observations, UnitScales]:
    """Data in units in which no column is of extreme size, and these units.

    >>> from kan.discovery.data.observations import observations
    >>> given, scales = scaled(observations([[1.0], [2.0], [3.0]], [1e170, 2e170, 3e170]))
    >>> [round(label, 9) for label in given.y.flatten().tolist()], scales.y
    ([1.0, 2.0, 3.0], 1e+170)
    """
    units, unit = [_unit(column) for column in given.x.unbind(1)], _unit(given.y)
    if all(one == 1.0 for one in (*units, unit)):
        return given, UnitScales({}, 1.0)
    multiples = {
        i: (other, factor / units[i] * (1.0 if other is None else units[other])) for i, (other, factor) in given.multiples.items()
    }
    new = replace(given, x=given.x / given.x.new_tensor(units), y=given.y / unit, multiples=multiples)
    return new, UnitScales({symbol: one for symbol, one in zip(given.symbols, units, strict=True) if one != 1.0}, unit)


def _unit(values: Tensor) -> float:
    """A power of ten near the median size of the values if the largest is extreme, and 1 otherwise."""
    largest = max(float(values.max()), -float(values.min()))
    if largest == 0 or 1 / EXTREME_SIZE < largest < EXTREME_SIZE:
        return 1.0
    size = float(values[values != 0].abs().median())
    return 10.0 ** max(-MAX_UNIT_EXPONENT, min(MAX_UNIT_EXPONENT, round(math.log10(size))))
