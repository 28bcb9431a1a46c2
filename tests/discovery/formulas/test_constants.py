"""Constants of formulas: fitted until round-off, with errors, and exact where the data allow it."""

import math
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.discovery.formulas.constants import exact_numbers, fit_constants, is_finite, snap_constants
from kan.symbolic.evaluation import evaluate_expression
from tests.data import uniform

x, y, z = VARIABLES = sympy.symbols("x y z")


def labels(formula: Any, points: Tensor, noise: float = 0.0) -> Tensor:
    values = evaluate_expression(sympy.sympify(formula), dict(zip(VARIABLES, points.unbind(1), strict=True)), points)
    errors = torch.randn(len(points), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return values + noise * values.square().mean().sqrt() * errors


CASES = {
    "exp(sin(pi*x) + y**2)": "1.02*exp(0.98*sin(3.1*x + 0.01) + 1.03*y**2 + 0.05) + 0.01",
    "exp(-x**2/2)/sqrt(2*pi)": "0.41*exp(-0.48*x**2 + 0.003) + 0.002",
    "(x + y)/(1 + x*y/2)": "(0.97*x + 1.02*y + 0.01)/(1.01 + 0.52*x*y)",
    "sqrt(1 + x**2 + y**2)": "1.1*sqrt(0.9 + 1.1*x**2 + 0.95*y**2) + 0.02",
    "x*y/3 + z**2": "0.35*x*y + 0.98*(z + 0.01)**2 + 0.003",
    "1.234*z + exp(y/2)*sin(x)": "1.01*sin(0.99*x + 0.01)*exp(0.49*y) + 1.2*z + 0.01",
}


@pytest.mark.parametrize("noise", [0.0, 0.001])
@pytest.mark.parametrize("true", CASES)
def test_the_law_comes_back(true: str, noise: float) -> None:
    points = uniform(300, 3)
    values = labels(true, points, noise)
    fit = fit_constants(sympy.sympify(CASES[true]), VARIABLES, points, values)
    found = snap_constants(fit, VARIABLES, points, values)
    assert found.rmse <= max(fit.rmse * 1.02, 1e-14) and found.bits < fit.bits
    (number,) = sympy.sympify(true).atoms(sympy.Float) or {None}
    if number is None:
        assert not found.constants and sympy.simplify(found.formula - sympy.sympify(true)) == 0
    else:
        (symbol,) = found.constants
        assert abs(found.constants[symbol] - float(number)) <= 4 * found.errors[symbol] + 1e-12


def test_errors_are_those_of_linear_regression() -> None:
    points = uniform(200, 3)
    values = labels("2*x - 3*y + 1", points, 0.1)
    fit = fit_constants(1.0 * x + 1.0 * y + 0.5, VARIABLES, points, values)
    design = torch.cat([points[:, :2], torch.ones(200, 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(design, values[:, None]).solution.flatten()
    sigma = float((design @ solution - values).square().sum() / 197) ** 0.5
    errors = sigma * torch.linalg.inv(design.T @ design).diagonal().sqrt()
    by_value = {round(value, 9): fit.errors[symbol] for symbol, value in fit.constants.items()}
    for value, error in zip(solution.tolist(), errors.tolist(), strict=True):
        assert math.isclose(by_value[round(value, 9)], error, rel_tol=1e-6)


def test_what_the_data_do_not_determine_has_infinite_errors_and_goes() -> None:
    points = uniform(300, 3)
    values = labels("3*exp(x)", points)
    fit = fit_constants(2.9 * sympy.exp(1.01 * x + sympy.Float(0.02)), VARIABLES, points, values)
    undetermined = fit_constants(fit.template, VARIABLES, points, values, start=fit.constants)
    assert sorted(math.isinf(error) for error in undetermined.errors.values()) in ([False, True, True], [False, False])
    assert snap_constants(fit, VARIABLES, points, values).formula == 3 * sympy.exp(x)


def test_what_is_zero_but_for_round_off_is_not_led_to_one() -> None:
    points = uniform(300, 3) / 2 + 1.5
    values = labels("exp(-x) + log(y)/x", points)
    # Dividing by the first number in the second line would make the others as large as 1e16.
    template = """-6.57e-17 + 1.0000000000000002*exp(-0.99999999999999967*x) - 0.99999990269198691*(
        -0.67496559429421965*log(0.99999998972663984*y - 8.87e-17) - 6.9341645645728013e-9)/(0.67496552861465886*x - 1.83e-16)"""
    found = snap_constants(fit_constants(sympy.sympify(template.replace("\n", "")), VARIABLES, points, values), VARIABLES, points, values)
    assert not found.constants and found.rmse < 1e-14 and float(abs(found.formula.subs({x: 1, y: 1}) - sympy.exp(-1))) < 1e-15


def test_a_number_that_is_not_simple_stays() -> None:
    points = uniform(300, 3)
    values = labels("1.2345678*x", points)
    found = snap_constants(fit_constants(1.2 * x, VARIABLES, points, values), VARIABLES, points, values)
    assert [round(value, 10) for value in found.constants.values()] == [1.2345678]


@given(st.integers(-30, 30), st.integers(1, 12), st.sampled_from([sympy.Integer(1), sympy.pi, sympy.sqrt(2), 1 / sympy.pi]))
@settings(max_examples=60, deadline=None)
def test_every_simple_number_is_recognised(numerator: int, denominator: int, unit: sympy.Expr) -> None:
    number = sympy.Rational(numerator, denominator) * unit
    assert number in [found for found, _ in exact_numbers(float(number), 1e-9)]


def test_stopping_and_bad_input() -> None:
    points = uniform(300, 3)
    values = labels("2*x", points)
    fit = fit_constants(1.9 * x, VARIABLES, points, values)
    assert snap_constants(fit, VARIABLES, points, values, stop=lambda: True) is fit
    with pytest.raises(ValueError, match=r"x must have one row per label and a column for each of .*; got \(300, 3\) and 299 labels"):
        fit_constants(1.9 * x, VARIABLES, points, values[1:])
    with pytest.raises(ValueError, match="has the symbol w, which is none of the variables"):
        fit_constants(1.9 * sympy.Symbol("w"), VARIABLES, points, values)
    # A formula that is not finite on the data is returned as it came.
    assert list(fit_constants(sympy.log(1.0 * x), VARIABLES, points, values).constants.values()) == [1.0]


def test_values_that_are_huge_are_no_error() -> None:
    points = uniform(50, 3)
    fit = fit_constants(sympy.sympify("exp(400.0*x)**1.5"), VARIABLES, points, labels("x", points), evaluations=5)
    assert math.isfinite(fit.rss) and fit.rmse > 1e90


def test_undetermined_constants_are_left_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.linspace(0, 3, 50, dtype=torch.float64)[:, None]
    y = points / (points + 1)
    fit = fit_constants((1.1 * x + 0.2) / (0.9 * x + 1.3), [x], points, y)
    assert any(not math.isfinite(error) for error in fit.errors.values())
    said = iter([False])
    monkeypatch.setattr("kan.discovery.formulas.constants._continued_to", lambda *_: pytest.fail("a trial after the time was up"))
    assert snap_constants(fit, [x], points, y, stop=lambda: next(said, True)) is fit


def test_a_weight_of_root_two_is_a_sample_twice() -> None:
    points = uniform(100, 3)
    values = labels("exp(x) + y", points, 0.1)
    twice = torch.arange(100) % 3 == 0
    both = torch.cat([points, points[twice]]), torch.cat([values, values[twice]])
    formula = sympy.sympify("1.1*exp(0.9*x) + 1.2*y + 0.1")
    weighted = fit_constants(formula, VARIABLES, points, values, weights=1 + (math.sqrt(2) - 1) * twice.double())
    doubled = fit_constants(formula, VARIABLES, *both)
    assert list(weighted.constants.values()) == pytest.approx(list(doubled.constants.values()), rel=1e-5)
    assert weighted.rss == pytest.approx(doubled.rss, rel=1e-9) and list(weighted.constants.values()) != pytest.approx(
        list(fit_constants(formula, VARIABLES, points, values).constants.values()), rel=1e-3
    )


@pytest.mark.parametrize("number", [sympy.oo, -sympy.oo, sympy.zoo, sympy.nan, sympy.I])
def test_formulas_with_numbers_that_are_not_finite(number: sympy.Expr) -> None:
    c, x = sympy.Symbol("c", real=True), sympy.Symbol("x", positive=True)
    assert is_finite(sympy.exp(2.5 * c) / x) and not is_finite(sympy.exp(number * c) / x)
