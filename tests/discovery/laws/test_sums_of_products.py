"""Sums of products of curves: found where they are, not found where they are not, and named."""

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
from kan.discovery.laws import sums_of_products as terms
from kan.discovery.laws.sums_of_products import Curves, Pattern, Terms, _choices, _names, formulas, patterns, split
from kan.discovery.reduction.polynomials import Array

a, b = SYMBOLS = sympy.symbols("a b", positive=True)


def samples(columns: int) -> Array:
    return np.random.default_rng(0).uniform(1, 2, (300, columns))


FACTORS = [
    [np.exp, np.sqrt, lambda v: 1 / v],
    [np.log, lambda v: v**2, np.cos],
    [lambda v: v**3, np.cosh, np.sin],
    [np.sin, np.cos, lambda v: np.exp(-v)],
]
"""The curve of every term and column."""


def labels(x: Array, pattern: Pattern) -> Array:
    return sum((math.prod(FACTORS[t][i](x[:, i]) for i in columns) for t, columns in enumerate(pattern)), start=np.zeros(len(x)))


def total(found: Terms) -> Array:
    return np.asarray(sum(math.prod(found.curves[t, i] for i in columns) for t, columns in enumerate(found.pattern)))


def test_patterns_are_the_simple_ones_first_and_cover_all_columns() -> None:
    for k in range(1, 6):
        several = list(patterns(k))
        assert several[0] == (tuple(range(k)),) and len(set(several)) == len(several)
        for pattern in several:
            assert set(itertools.chain(*pattern)) == set(range(k)) and len(set(pattern)) == len(pattern)
            assert all(columns == tuple(sorted(columns)) for columns in pattern)
    assert [len(list(patterns(k))) for k in (2, 3, 4)] == [4, 16, 5]


@pytest.mark.parametrize("pattern", list(patterns(2)), ids=str)
def test_every_pattern_of_two_columns_is_found(pattern: Pattern) -> None:
    check(pattern, 2)


# Where all columns of one term are in another, or all columns are alone too, there are other optima: for some laws the best is missed.
HARD: set[Pattern] = {((0,), (1,), (2,), (0, 1)), ((0, 2), (0, 1, 2)), ((1, 2), (0, 1, 2)), ((2,), (0, 1, 2))}


@pytest.mark.parametrize("pattern", [one for one in patterns(3) if one not in HARD], ids=str)
def test_patterns_of_three_columns_are_found(pattern: Pattern) -> None:
    check(pattern, 3)


def check(pattern: Pattern, columns: int) -> None:
    x = samples(columns)
    y = labels(x, pattern)
    found = min((split(x, y, pattern, seed) for seed in range(4)), key=lambda one: one.error)
    assert found.error < 1e-6 and found.pattern == pattern
    assert set(found.curves) == {(t, i) for t, several in enumerate(pattern) for i in several}
    rest = y - total(found)
    assert np.ptp(rest) < 1e-5 * np.std(y)  # curves add up to the labels but for a constant


def test_what_does_not_fit_is_told() -> None:
    x = samples(3)
    two = np.sin(3 * x[:, 0] * x[:, 1]) + np.cos(4 * x[:, 0] + x[:, 1] ** 3)
    assert all(split(x[:, :2], two, pattern).error > 0.05 for pattern in patterns(2))
    three = np.sin(3 * x.prod(1)) + np.cos(4 * x.sum(1))
    assert all(split(x, three, pattern).error > 0.05 for pattern in patterns(3))
    assert split(x, np.sin(4 * x[:, 0] * x[:, 1]), ((2,), (0, 1))).error > 0.05


def test_the_error_is_that_of_the_noise_and_does_not_depend_on_size() -> None:
    x = samples(2)
    y = x[:, 0] * np.sin(x[:, 1])
    noisy = y + 0.01 * np.std(y) * np.random.default_rng(1).normal(size=300)
    error = split(x, noisy, ((0, 1),)).error
    assert 0.005 < error < 0.02
    assert split(x, 1e6 * noisy, ((0, 1),)).error == pytest.approx(error, rel=1e-3)


def test_the_same_seed_finds_the_same() -> None:
    x = samples(3)
    y = labels(x, ((0, 2), (1, 2)))
    first, second = (split(x, y, ((0, 2), (1, 2)), seed=5) for _ in range(2))
    assert first.error == second.error and all((first.curves[k] == second.curves[k]).all() for k in first.curves)


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
    found = formulas(points, values, split(x, y, LAWS[law]), SYMBOLS)
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
    found, points, values = split(x, y, ((0, 1),)), torch.from_numpy(x), torch.from_numpy(y)
    assert formulas(points, values, found, SYMBOLS, stop=lambda: True) == []
    named = formulas(points, values, found, SYMBOLS, library=["x", "exp"])
    assert named and not any(formula.has(sympy.sin, sympy.cos) for _, formula in named) and named[0][0] > 1e-6


def test_several_starts_are_tried_where_nothing_fits_and_the_best_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x = samples(3) - 1.5
    y = np.sin(9 * x.prod(1)) + np.cos(4 * x.sum(1))
    seeds: list[float] = []
    begin = Curves.begin

    def watched(self: Curves, random: np.random.Generator) -> None:
        begin(self, random)
        seeds.append(float(self.parts[0, 0][0]))

    monkeypatch.setattr(Curves, "begin", watched)
    errors = []
    for starts in (1, 2, 4):
        seeds.clear()
        errors.append(split(x, y, ((0, 1, 2),), starts=starts).error)
        assert len(seeds) == len(set(seeds)) == starts
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[2] > 0.05
    seeds.clear()
    assert split(x, np.exp(x.sum(1)), ((0, 1, 2),), starts=4).error < 1e-9 and len(seeds) == 1
    seeds.clear()
    split(x, y, ((0,), (1,), (2,)), starts=4)
    assert len(seeds) == 1  # a sum of curves of one column each has one optimum


@pytest.mark.parametrize("pattern", [((0,), (1,)), ((0, 1),)], ids=str)
def test_steep_curves_are_fitted_with_higher_degrees(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    x = 3 * np.random.default_rng(0).uniform(-0.5, 0.5, (400, 2))
    first, second = np.tanh(3 * x[:, 0]), 1 + x[:, 1] ** 2
    y = first * second if len(pattern) == 1 else first + second
    finer, few = split(x, y, pattern), split(x[:100], y[:100], pattern)
    assert np.std(y - total(finer)) < 1e-3 * np.std(y)
    monkeypatch.setattr(terms, "HIGHER", ())
    coarse = split(x, y, pattern)
    assert 1e-4 < coarse.error and finer.error < 0.02 * coarse.error
    assert split(x[:100], y[:100], pattern).error == few.error  # where there are too few samples for that


def test_curves_that_are_raised_are_the_same() -> None:
    x = samples(2)
    bases = [np.polynomial.legendre.legvander(2 * column - 3, 9) for column in x.T]
    model = Curves([basis[:, :5] for basis in bases], ((0,), (0, 1)), x.sum(1), np.arange(300) % 5 == 3, np.ones(300))
    model.begin(np.random.default_rng(0))
    model.constant = 0.25
    finer = model.raised(bases)
    assert finer.constant == 0.25 and {len(part) for part in finer.parts.values()} == {10}
    np.testing.assert_allclose(finer.residuals(), model.residuals(), atol=1e-12)


def test_curves_of_two_functions_are_named_if_one_asks_for_it() -> None:
    x = np.random.default_rng(0).uniform(-2, 2, (150, 2))
    y = np.tanh(1.6 * np.sin(2.2 * x[:, 0])) + x[:, 1]
    points, values = torch.from_numpy(x), torch.from_numpy(y)
    found = split(x, y, ((0,), (1,)))
    for thorough in (False, True):
        error, formula = formulas(points, values, found, SYMBOLS, ["x", "sin", "tanh"], thorough=thorough)[0]
        assert (error < 1e-12) == thorough and formula.has(sympy.sin) >= thorough


def names(x: Array, curve: Array, floor: float, library: list[str] | None, factor: bool, thorough: bool) -> tuple[list[sympy.Expr], float]:
    found, offset = _names(torch.from_numpy(x), torch.from_numpy(curve), floor, a, library, factor, thorough, lambda: False)
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


def test_samples_that_are_sure_say_more() -> None:
    x, random = samples(2), np.random.default_rng(1)
    y = x[:, 0] * np.sin(x[:, 1])
    errors = np.where(np.arange(300) % 2, 0.5, 1e-3)
    noisy = y + errors * random.normal(size=300)
    plain, weighted = (split(x, noisy, ((0, 1),), weights=weights) for weights in (None, 1 / errors))
    assert weighted.error == pytest.approx(1, rel=0.35)  # in units of the errors
    off = [np.std(y - total(found)) for found in (plain, weighted)]
    assert off[1] < 2e-3 and off[0] > 20 * off[1]


def test_equal_weights_change_nothing_but_units() -> None:
    x = samples(2)
    y = x[:, 0] * np.sin(x[:, 1]) + 0.01 * np.random.default_rng(1).normal(size=300)
    one, other = (split(x, y, ((0, 1),), weights=weights) for weights in (None, np.full(300, 7.0)))
    assert other.error == pytest.approx(7 * np.std(y) * one.error, rel=1e-6)
    np.testing.assert_allclose(total(other), total(one), atol=1e-6)


def test_small_terms_and_simple_names_are_seen_through_noise() -> None:
    x = np.random.default_rng(0).uniform(0.2, 3, (800, 2))
    y = 2 * np.sin(2 * x[:, 0]) + 0.1 * x[:, 1] + 0.03 * np.random.default_rng(1).normal(size=800)
    points, values = torch.from_numpy(x), torch.from_numpy(y)
    weights = torch.full((800,), 1 / float(values.std()), dtype=torch.float64)
    found = split(x, y, ((0,), (1,)), weights=weights.numpy())
    assert formulas(points, values, found, SYMBOLS)[0][1].free_symbols == {a}  # what is small may be what is left of others
    error, formula = formulas(points, values, found, SYMBOLS, weights=weights)[0]
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
