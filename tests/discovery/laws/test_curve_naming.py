"""Curves are named, and the constants of the formula are fitted."""

import itertools
import math

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.discovery.formulas.constants import fit_constants, snap_constants
from kan.discovery.formulas.shortening import drop_terms
from kan.discovery.laws.curve_naming import CurveNaming, _choices, named_formulas
from kan.discovery.laws.sums_of_products import fit_pattern
from kan.discovery.reduction.polynomials import Array

a, b = SYMBOLS = sympy.symbols("a b", positive=True)


def samples(columns: int) -> Array:
    return np.random.default_rng(0).uniform(1, 2, (300, columns))


LAWS = {
    1 + a * sympy.cos(b): ((0, 1),),
    (1 - a) / sympy.sqrt(1 + b**2): ((0, 1),),
    sympy.cos(a) + b * sympy.cos(a) ** 2: ((0,), (0, 1)),
    sympy.exp(-a) + sympy.log(b) / a: ((0,), (0, 1)),
}


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_laws_are_named(law: sympy.Expr) -> None:
    x = samples(2)
    y = sympy.lambdify(SYMBOLS, law)(*x.T)
    points, values = torch.from_numpy(x), torch.from_numpy(y)
    found = named_formulas(points, values, fit_pattern(x, y, LAWS[law]), SYMBOLS, CurveNaming())
    errors = [error for error, _ in found]
    assert errors == sorted(errors) and errors[0] < 1e-12 and len(found) <= 12
    for error, formula in found[:3]:
        again = sympy.lambdify(SYMBOLS, formula)(*x.T)
        assert math.isclose(float(np.sqrt(np.mean((again - y) ** 2))), error, rel_tol=1e-2, abs_tol=1e-13)
    fitted = drop_terms(fit_constants(found[0][1], SYMBOLS, points, values), SYMBOLS, points, values)
    exact = snap_constants(fitted, SYMBOLS, points, values)
    assert not exact.constants and sympy.simplify(sympy.expand(exact.formula - law, trig=True)) == 0


def test_naming_stops_when_told_to_and_keeps_to_the_library() -> None:
    x = samples(2)
    y = x[:, 0] * np.cos(x[:, 1])
    found, points, values = fit_pattern(x, y, ((0, 1),)), torch.from_numpy(x), torch.from_numpy(y)
    assert named_formulas(points, values, found, SYMBOLS, CurveNaming(stop=lambda: True)) == []
    named = named_formulas(points, values, found, SYMBOLS, CurveNaming(["x", "exp"]))
    assert named and not any(formula.has(sympy.sin, sympy.cos) for _, formula in named) and named[0][0] > 1e-6


def test_curves_of_two_functions_are_named_if_one_asks_for_it() -> None:
    x = np.random.default_rng(0).uniform(-2, 2, (150, 2))
    y = np.tanh(1.6 * np.sin(2.2 * x[:, 0])) + x[:, 1]
    points, values = torch.from_numpy(x), torch.from_numpy(y)
    found = fit_pattern(x, y, ((0,), (1,)))
    for thorough in (False, True):
        error, formula = named_formulas(points, values, found, SYMBOLS, CurveNaming(["x", "sin", "tanh"], thorough=thorough))[0]
        assert (error < 1e-12) == thorough and formula.has(sympy.sin) >= thorough


def names(x: Array, curve: Array, floor: float, library: list[str] | None, factor: bool, thorough: bool) -> tuple[list[sympy.Expr], float]:
    naming = CurveNaming(library, thorough=thorough)
    found, offset = naming.functions(torch.from_numpy(x), torch.from_numpy(curve), floor, a, factor)
    bits = [one for one, _ in found]
    assert bits == sorted(bits) and len(bits) <= 5
    return [formula for _, formula in found], offset


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("thorough", [False, True])
def test_what_is_added_to_a_function_is_told_with_its_sign(sign: int, thorough: bool) -> None:
    x = 3 * samples(1)[:, 0] - 4.5
    inside = np.sin(2.2 * x) if thorough else x
    found, offset = names(x, sign * (2 + np.tanh(1.6 * inside)), 1e-9, ["x", "tanh", "sin"], False, thorough)
    assert offset == pytest.approx(float(found[0].as_independent(a, as_Add=True)[0]), abs=1e-12) and sign * offset > 1
    np.testing.assert_allclose(sympy.lambdify(a, found[0])(x), sign * (2 + np.tanh(1.6 * inside)), atol=1e-6)


def test_curves_are_compared_in_their_own_units() -> None:
    """Where log(1 + x^2) is nearly zero its inverse square is large: 1/sqrt(c + d/x^4) is near there, and nowhere else."""
    x = np.append(np.random.default_rng(0).uniform(0, 2, 199), 1e-4)
    curve = np.log1p(x**2)
    off = 1e-7 * np.cos(9 * x) * (x > 0.1)
    found, _ = names(x, curve + off, 1e-7, ["x", "x^2", "1/x", "log"], True, False)
    assert found[0].has(sympy.log)
    near = [np.abs(sympy.lambdify(a, formula)(x) - curve).mean() for formula in found]
    assert near[0] < 1e-5


@pytest.mark.parametrize("floor", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("factor", [False, True])
@pytest.mark.parametrize("power", [2, 3])
def test_straight_lines_are_named_so(floor: float, factor: bool, power: int) -> None:
    x = np.random.default_rng(0).uniform(0.5, 2, 200)
    curve = 3 * x + 1 + 2 * floor * (x - 1.25) ** power  # not quite straight: far from zero, many functions bend like that
    found, offset = names(x, curve, floor, None, factor, False)
    assert found[0].is_polynomial(a) and sympy.degree(found[0], a) == 1 and offset == pytest.approx(1, abs=100 * floor)


def test_small_terms_and_simple_names_are_seen_through_noise() -> None:
    x = np.random.default_rng(0).uniform(0.2, 3, (800, 2))
    y = 2 * np.sin(2 * x[:, 0]) + 0.1 * x[:, 1] + 0.03 * np.random.default_rng(1).normal(size=800)
    points, values = torch.from_numpy(x), torch.from_numpy(y)
    weights = torch.full((800,), 1 / float(values.std()), dtype=torch.float64)
    found = fit_pattern(x, y, ((0,), (1,)), weights=weights.numpy())
    # Without weights, a small term may be the residual of the other terms.
    assert named_formulas(points, values, found, SYMBOLS, CurveNaming())[0][1].free_symbols == {a}
    error, formula = named_formulas(points, values, found, SYMBOLS, CurveNaming(), weights)[0]
    assert formula.free_symbols == {a, b} and {type(f) for f in formula.atoms(sympy.Function)} <= {sympy.sin, sympy.cos}
    assert float(sympy.diff(formula, b).subs({a: 1, b: 2})) == pytest.approx(0.1, abs=0.01)
    assert error == pytest.approx(0.03 / float(values.std()), rel=0.1)


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0, -3.0]), min_size=1, max_size=4), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_choices_come_in_the_order_of_their_sums(bits: list[list[float]]) -> None:
    bits = [sorted(one) for one in bits]
    every = itertools.product(*(range(len(one)) for one in bits))
    assert list(_choices(bits)) == sorted(every, key=lambda places: sum(one[p] for one, p in zip(bits, places, strict=True)))


def test_of_many_curves_the_best_choices_come_at_once() -> None:
    assert list(_choices([[1.0], []])) == []
    first = list(itertools.islice(_choices([[0.0, 1.0, 2.0, 3.0, 4.0]] * 30), 31))
    assert first[0] == (0,) * 30 and {sum(places) for places in first[1:]} == {1}
