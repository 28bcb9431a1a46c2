"""What units say about a law."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy
import torch

from kan.discovery.discover import discover
from kan.discovery.reduction.dimensional_analysis import dimensionless, known_units, of_unit, unit_reduction
from kan.discovery.reduction.views import View, reduced_views

KG, M, S, K = ({base: 1} for base in ("kg", "m", "s", "K"))
SPEED, ENERGY = {"m": 1, "s": -1}, {"kg": 1, "m": 2, "s": -2}
PLANCK = {"nu": {"s": -1}, "T": K, "h": {"kg": 1, "m": 2, "s": -1}, "c": SPEED, "k": {**ENERGY, "K": -1}}


def points(columns: int, count: int = 300, low: float = 1.0) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, 3, (count, columns))


def groups(units: dict[str, Any], y_units: dict[str, Any]) -> tuple[list[tuple[int, ...]], list[Fraction] | None]:
    matrix, target = known_units(list(units), units, y_units)
    exponents = of_unit(matrix, target)
    return [tuple(map(int, q)) for q in dimensionless(matrix)], None if exponents is None else list(exponents)


@pytest.mark.parametrize(
    ("units", "y_units", "expected", "power"),
    [
        ({"m": KG, "v": SPEED}, ENERGY, [], [1, 2]),
        ({"m": KG, "l": M, "g": {"m": 1, "s": -2}, "angle": {}}, S, [(0, 0, 0, 1)], [0, Fraction(1, 2), Fraction(-1, 2), 0]),
        ({"E": ENERGY, "t": S, "rho": {"kg": 1, "m": -3}}, M, [], [Fraction(1, 5), Fraction(2, 5), Fraction(-1, 5)]),
        ({"a": {}, "b": {}}, {}, [(1, 0), (0, 1)], [0, 0]),
        ({"a": {"V": 0.5}, "b": {"V": np.float64(1.5)}}, {"V": np.int64(1)}, [(3, -1)], None),
    ],
)
def test_groups(units: dict[str, Any], y_units: dict[str, Any], expected: Any, power: Any) -> None:
    found, exponents = groups(units, y_units)
    assert found == expected and exponents is not None and (power is None or exponents == power)


def test_small_numbers_are_chosen() -> None:
    found, power = groups({"a": M, "area": {"m": 2}, "b": M}, {"m": 2})
    assert found[0] == (1, 0, -1) and sum(map(abs, found[1])) == 3 and power == [0, 1, 0]


def test_planck() -> None:
    (group,), power = groups(PLANCK, {"kg": 1, "s": -2})
    assert group == (1, -1, 1, 0, -1) or group == (-1, 1, -1, 0, 1)
    assert power is not None
    matrix, target = known_units(list(PLANCK), PLANCK, {"kg": 1, "s": -2})
    assert matrix * sympy.Matrix([sympy.Rational(e) for e in power]) == target


def test_many_variables_need_no_choices() -> None:
    rng = np.random.default_rng(1)
    names = [f"v{i}" for i in range(24)]
    units = {name: {base: int(e) for base, e in zip("abcdefg", rng.integers(-2, 3, 7), strict=True)} for name in names}
    matrix, target = known_units(names, units, units["v3"])
    basis, power = dimensionless(matrix), of_unit(matrix, target)
    assert len(basis) == 17 and power is not None
    assert all(matrix * sympy.Matrix([sympy.Rational(e) for e in q]) == sympy.zeros(*target.shape) for q in basis)
    assert matrix * sympy.Matrix([sympy.Rational(e) for e in power]) == target


def test_the_reduction_is_the_law() -> None:
    x = points(5)
    nu, t, h, c, k = x.T
    y = 2 * h * nu**3 / c**2 / (np.exp(h * nu / (k * t)) - 1)
    names = sympy.symbols("nu T h c k", positive=True)
    reduction = unit_reduction(x, y, names, *known_units(list(PLANCK), PLANCK, {"kg": 1, "s": -2}))
    assert reduction is not None and len(reduction.columns) == 1 and reduction.error < 1e-3
    again = sympy.lambdify(names, (reduction.factor, *reduction.columns))(*x.T)
    assert np.allclose(again[0] * reduction.y, y, rtol=1e-12) and np.allclose(again[1], reduction.x[:, 0], rtol=1e-12)


def test_variables_of_both_signs_are_divided() -> None:
    x = points(3, low=-2)
    x[:, 1:] = np.abs(x[:, 1:]) + 1
    a, b, c = sympy.symbols("a b c", real=True)
    units = {"a": M, "b": M, "c": S}
    y = x[:, 1] / x[:, 2] * np.sin(x[:, 0] / x[:, 1])
    reduction = unit_reduction(x, y, [a, b, c], *known_units(list(units), units, SPEED))
    assert reduction is not None and reduction.columns == (a / b,) and reduction.factor == b / c and reduction.error < 1e-3
    assert unit_reduction(x[:, [0, 2]], y, [a, c], *known_units(["a", "c"], {"a": M, "c": S}, SPEED)) is None


def test_nothing_is_gained_without_dimensions() -> None:
    x, names = points(2), sympy.symbols("a b")
    assert unit_reduction(x, x[:, 0], names, *known_units(["a", "b"], {"a": {}, "b": {}}, {})) is None


def test_the_given_reduction_comes_first() -> None:
    x = points(3)
    y = x[:, 0] / x[:, 1] * np.cos(x[:, 2]) + 0.01 * np.sin(50 * x[:, 2])
    symbols = sympy.symbols("a b c", positive=True)
    units = {"a": M, "b": S, "c": {}}
    given = unit_reduction(x, y, symbols, *known_units(list(units), units, SPEED))
    data = torch.as_tensor(x), torch.as_tensor(y)[:, None]
    first = reduced_views(View(*data, *data, symbols, lambda e: e), given)[0]
    assert first.reduction is given and str(given.columns if given else "") == "(c,)"


def found(x: np.ndarray, y: np.ndarray, units: dict[str, Any], y_units: dict[str, Any]) -> sympy.Expr:
    law = discover(x, y, variables=list(units), units=units, y_units=y_units, time_limit=100)[0]
    assert law.verdict == "exact" and law.formula is not None
    return law.formula


def test_laws_with_units() -> None:
    x = points(4)
    units = {"m": KG, "v": SPEED, "l": M, "angle": {}}
    energy = found(x[:, :2], 0.5 * x[:, 0] * x[:, 1] ** 2, {"m": KG, "v": SPEED}, ENERGY)
    assert str(energy) == "m*v**2/2"
    force = found(x, x[:, 0] * x[:, 1] ** 2 / x[:, 2] * np.sin(x[:, 3]), units, {"kg": 1, "m": 1, "s": -2})
    assert str(force) == "m*v**2*sin(angle)/l"


def test_fifths() -> None:
    x = points(3)
    blast = {"E": ENERGY, "t": S, "rho": {"kg": 1, "m": -3}}
    reduction = unit_reduction(x, x[:, 0], sympy.symbols("E t rho", positive=True), *known_units(list(blast), blast, M))
    assert reduction is not None and str(reduction.factor) == "E**(1/5)*t**(2/5)/rho**(1/5)"


def test_constants_with_units() -> None:
    x = points(4)
    x[:, 0] = 6.67
    units = {"G": {"m": 3, "kg": -1, "s": -2}, "m1": KG, "m2": KG, "r": M}
    with pytest.warns(UserWarning, match="G, column 0 of X, is constant, 6.67"):
        formula = found(x, 6.67 * x[:, 1] * x[:, 2] / x[:, 3] ** 2 * (1 + x[:, 1] / x[:, 2]), units, {"kg": 1, "m": 1, "s": -2})
    assert {str(symbol) for symbol in formula.free_symbols} == {"m1", "m2", "r"}


@pytest.mark.parametrize(
    ("units", "y_units", "error", "message"),
    [
        ({"m": KG}, ENERGY, ValueError, "units must have every variable; v is missing"),
        ({"m": KG, "v": SPEED, "w": SPEED}, ENERGY, ValueError, "unknown variable in units 'w'.* Valid are: 'm', 'v'"),
        ({"m": KG, "v": SPEED}, {"K": 1}, ValueError, "no power product of the variables has the unit of y, K: .* m: kg, v: m s\\^-1"),
        ({"m": KG, "v": SPEED}, {"kg": 1, "m": 1}, ValueError, "no power product"),
        ({"m": KG, "v": SPEED}, None, ValueError, "y_units is missing beside units"),
        (None, ENERGY, ValueError, "units is missing beside y_units"),
        (["kg", "m"], ENERGY, TypeError, "units must map the name of every variable to its unit, .*; got list"),
        ({"m": "kg", "v": SPEED}, ENERGY, TypeError, "the unit of m must map base units to exponents, .*; got 'kg'"),
        ({"m": {"kg": "1"}, "v": SPEED}, ENERGY, ValueError, "the unit of m must have numbers as exponents; got '1' for 'kg'"),
        ({"m": KG, "v": SPEED}, {"kg": float("nan")}, ValueError, "the unit of y must have numbers as exponents; got nan"),
    ],
)
def test_units_that_cannot_be(units: Any, y_units: Any, error: type[Exception], message: str) -> None:
    x = points(2)
    with pytest.raises(error, match=message):
        discover(x, x[:, 0] * x[:, 1] ** 2, variables=["m", "v"], units=units, y_units=y_units)
