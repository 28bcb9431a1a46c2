r"""Dimensional analysis: laws whose variables have units depend on fewer dimensionless variables (Buckingham's theorem).

With the dimension matrix ``D``, where ``D_{ui}`` is the exponent of the base unit ``u`` in the unit of ``x_i``, and the exponents ``d`` of
the unit of ``y``, every law that holds in all systems of units is

    ``y = x^p h(x^{q_1}, ..., x^{q_k})``,  ``D p = d``,  ``D q_j = 0``,  ``k = n - rank D``.

Exponents are exact fractions. The ``q_j`` are chosen among the null vectors with the fewest variables (circuits), ``p`` among the solutions
that use linearly independent columns of ``D``; small whole numbers are preferred.

References
    E. Buckingham, "On physically similar systems; illustrations of the use of dimensional equations", 1914, doi:10.1103/PhysRev.4.345.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from numbers import Rational, Real
from typing import Any

import numpy as np
import sympy

from kan.discovery.reduction.invariance import Reduction, Scaling
from kan.discovery.reduction.polynomials import Array, LabelTarget, surrogate
from kan.errors import unknown_name

__all__ = ["Units", "dimensionless", "known_units", "of_unit", "unit_reduction"]

Units = Mapping[str, Real]
"""Exponents of base units, such as ``{"m": 1, "s": -2}``."""
Exponents = tuple[Fraction, ...]

MAX_UNIT_DENOMINATOR = 12
"""Largest denominator of an exponent that is given as a floating-point number."""
MAX_SETS_OF_VARIABLES = 3000
"""Largest number of sets of variables that are searched for the simplest power products; if there are more, any basis is used."""
MIN_RELATIVE_RANGE = 1e-12
"""Range of a column, as a share of its largest value, up to which the column is constant."""


def known_units(names: Sequence[str], units: Any, y_units: Any) -> tuple[sympy.Matrix, sympy.Matrix]:
    """The dimension matrix, ``(base units, n)``, and the exponents of the labels' unit, ``(base units, 1)``.

    Args:
        names: names of the variables, in the order of the columns.
        units: the unit of each variable, by its name.
        y_units: the unit of the labels.

    Raises:
        TypeError: if units are not mappings.
        ValueError: if a variable has no unit, a name is unknown, an exponent is not a number, or no power product of the variables has
            the unit of the labels.

    >>> known_units(["m", "v"], {"m": {"kg": 1}, "v": {"m": 1, "s": -1}}, {"kg": 1, "m": 2, "s": -2})[0]
    Matrix([
    [1,  0],
    [0,  1],
    [0, -1]])
    """
    if units is None or y_units is None:
        given, missing = ("y_units", "units") if units is None else ("units", "y_units")
        raise ValueError(f"units need those of all variables and of y: {missing} is missing beside {given}; {{}} is without dimension.")
    if not isinstance(units, Mapping):
        raise TypeError(f"units must map the name of every variable to its unit, such as {{'kg': 1}}; got {type(units).__name__}.")
    for name in units:
        if name not in names:
            raise unknown_name("variable in units", name, names)
    missing_names = [name for name in names if name not in units]
    if missing_names:
        raise ValueError(f"units must have every variable; {', '.join(missing_names)} is missing. Write {{}} for what has no dimension.")
    every = [*(_unit(name, units[name]) for name in names), _unit("y", y_units)]
    bases = list(dict.fromkeys(base for unit in every for base in unit))
    rows = [[sympy.Rational(unit.get(base, 0)) for unit in every] for base in bases]
    both = sympy.Matrix(len(bases), len(every), [entry for row in rows for entry in row])
    matrix, target = both[:, :-1], both[:, -1]
    if matrix.rank() < both.rank():
        raise ValueError(
            f"no power product of the variables has the unit of y, {_text(every[-1])}: the units must be wrong, or a variable or constant "
            f"with a unit is missing. The variables' are {', '.join(f'{n}: {_text(u)}' for n, u in zip(names, every, strict=False))}."
        )
    return matrix, target


def dimensionless(matrix: sympy.Matrix) -> list[Exponents]:
    """A basis of the dimensionless power products, with whole numbers as exponents.

    >>> dimensionless(sympy.Matrix([[1, 1, 0], [0, -2, 1]]))  # of a length, an acceleration and a time
    [(Fraction(-1, 1), Fraction(1, 1), Fraction(2, 1))]
    """
    n, rank = matrix.shape[1], matrix.rank()
    found = [_fractions(v) for v in matrix.nullspace()]
    if math.comb(n, min(rank + 1, n)) <= MAX_SETS_OF_VARIABLES:
        for columns in combinations(range(n), min(rank + 1, n)):
            part = matrix[:, list(columns)].nullspace()
            if len(part) == 1:
                found.append(_spread(part[0], columns, n))
    chosen: list[Exponents] = []
    for vector in sorted({_whole(v) for v in found}, key=_size):
        if len(chosen) < n - rank and sympy.Matrix([*map(list, chosen), list(vector)]).rank() > len(chosen):
            chosen.append(vector)
    return chosen


def of_unit(matrix: sympy.Matrix, target: sympy.Matrix) -> Exponents | None:
    """The exponents of the simplest power product that has the unit `target`; None if there is none.

    >>> of_unit(sympy.Matrix([[1, 1], [0, -2]]), sympy.Matrix([0, 1]))  # a time, of a length and an acceleration
    (Fraction(1, 2), Fraction(-1, 2))
    """
    n, rank = matrix.shape[1], matrix.rank()
    if matrix.row_join(target).rank() > rank:
        return None
    few = math.comb(n, rank) <= MAX_SETS_OF_VARIABLES
    choices: Iterator[Sequence[int]] = combinations(range(n), rank) if few else iter([matrix.rref()[1]])
    found = []
    for columns in choices:
        part = matrix[:, list(columns)]
        if part.rank() == rank:
            found.append(_spread((part.T * part).LUsolve(part.T * target) if rank else sympy.zeros(0, 1), columns, n))
    return min(found, key=_size)


def unit_reduction(x: Array, y: Array, bases: Sequence[sympy.Expr], matrix: sympy.Matrix, target: sympy.Matrix) -> Reduction | None:
    """The reduction of the law to dimensionless power products.

    Variables of one sign are raised to powers. Every other variable is divided by a power product of these that has the same unit.

    Args:
        x: all variables, constant ones included, ``(N, n)``.
        y: the labels, ``(N,)``.
        bases: the variables, as expressions or numbers.
        matrix, target: the dimension matrix and the exponents of the unit of the labels, see `known_units`.

    Returns:
        None if a variable of both signs has a unit that no power product of the others has, or if nothing becomes simpler.
    """
    n = x.shape[1]
    raw = [i for i in range(n) if x[:, i].min() <= 0 <= x[:, i].max()]
    definite = [i for i in range(n) if i not in raw]
    powers = matrix[:, definite]
    factor = of_unit(powers, target)
    divisors = [of_unit(powers, matrix[:, i]) for i in raw]
    if factor is None or any(divisor is None for divisor in divisors):
        return None
    values = np.abs(x[:, definite])
    names = tuple(bases[i] if x[0, i] > 0 else -bases[i] for i in definite)
    others = []
    for i, divisor in zip(raw, divisors, strict=True):
        p = np.array(divisor, dtype=float)
        product = sympy.Mul(*(base ** sympy.Rational(e) for base, e in zip(names, divisor or (), strict=True)))
        others.append((bases[i] / product, x[:, i] / np.prod(values**p, axis=1)))
    forms = [np.array(q, dtype=float) for q in dimensionless(powers)]
    forms = [q for q in forms if _varies(np.prod(values**q, axis=1))]
    others = [(name, column) for name, column in others if _varies(column)]
    if len(forms) + len(others) == n and not any(factor):
        return None
    scaling = Scaling(names, values, np.array(forms).reshape(len(forms), len(definite)), np.array(factor, dtype=float), tuple(others))
    reduction = scaling.reduction(y, 0.0)
    u = np.concatenate([np.log(reduction.x[:, : len(forms)]), reduction.x[:, len(forms) :]], 1)
    return scaling.reduction(y, _relative_error(u, reduction.y, y))


def _relative_error(u: Array, reduced: Array, y: Array) -> float:
    """Error of a polynomial of the columns, relative to the deviation of the labels before the reduction."""
    target, before = LabelTarget.of(reduced), LabelTarget.of(y)
    error = surrogate(u, target)[1] if u.shape[1] else 1.0
    return error * (target.deviation / before.deviation if target.logarithmic == before.logarithmic else 1.0)


def _varies(values: Array) -> bool:
    """Whether a column is not constant."""
    return bool(np.ptp(values) > MIN_RELATIVE_RANGE * np.abs(values).max())


def _unit(name: str, unit: Any) -> dict[str, Fraction]:
    """The exponents of a unit, checked, as fractions."""
    if not isinstance(unit, Mapping):
        raise TypeError(f"the unit of {name} must map base units to exponents, such as {{'m': 1, 's': -2}}; got {unit!r}.")
    found = {}
    for base, exponent in unit.items():
        if not isinstance(exponent, Real) or isinstance(exponent, bool) or not math.isfinite(exponent):
            raise ValueError(f"the unit of {name} must have numbers as exponents; got {exponent!r} for {base!r}.")
        if isinstance(exponent, Rational):
            found[str(base)] = Fraction(int(exponent.numerator), int(exponent.denominator))
        else:
            found[str(base)] = Fraction(float(exponent)).limit_denominator(MAX_UNIT_DENOMINATOR)
    return found


def _text(unit: Mapping[str, Fraction]) -> str:
    """A unit as text."""
    return " ".join(base if e == 1 else f"{base}^{e}" for base, e in unit.items() if e) or "no dimension"


def _fractions(vector: Sequence[Any]) -> Exponents:
    """Exact exponents of a vector of sympy numbers."""
    return tuple(Fraction(int(e.p), int(e.q)) for e in vector)


def _spread(part: Sequence[Any], columns: Sequence[int], n: int) -> Exponents:
    """Exponents of `n` variables, of which only those in `columns` are not zero."""
    entries = dict(zip(columns, _fractions(part), strict=True))
    return tuple(entries.get(i, Fraction(0)) for i in range(n))


def _whole(vector: Exponents) -> Exponents:
    """The smallest multiple of exponents that consists of whole numbers, most of them positive."""
    times = Fraction(math.lcm(*(e.denominator for e in vector)), math.gcd(*(e.numerator for e in vector)))
    whole = tuple(times * e for e in vector)
    turned = sum(whole) < 0 or (sum(whole) == 0 and next(e for e in whole if e) < 0)
    return tuple(-e for e in whole) if turned else whole


def _size(vector: Exponents) -> tuple[Fraction, int, Exponents]:
    """A key by which exponents are sorted, the simplest first."""
    broken = sum(e.denominator - 1 for e in vector)
    return sum(map(abs, vector), Fraction(0)) + broken, sum(e < 0 for e in vector), tuple(-e for e in vector)
