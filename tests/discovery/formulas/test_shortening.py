"""What does not matter leaves a formula, and what does stays."""

import pytest
import sympy

from kan.discovery.formulas.constants import fit_constants, snap_constants
from kan.discovery.formulas.shortening import drop_terms
from tests.data import uniform
from tests.discovery.formulas.test_constants import CASES, VARIABLES, labels, x, y


@pytest.mark.parametrize(
    ("given_form", "true"),
    [
        ("0.9*sin(x) + 1e-9*exp(0.1*y)", "sin(x)"),
        ("2.1*x*y + 0.01*z + 0.002", "2*x*y"),
        ("1.9*exp(y)*(1.01 + 0.02*x)", "2*exp(y)"),
        ("1.02*x + 0.9*y", "x + y"),
    ],
)
def test_what_does_not_matter_is_left_out(given_form: str, true: str) -> None:
    points = uniform(300, 3)
    values = labels(true, points)
    fit = fit_constants(sympy.sympify(given_form), VARIABLES, points, values)
    found = drop_terms(fit, VARIABLES, points, values)
    assert found.formula.free_symbols == sympy.sympify(true).free_symbols
    assert found.rmse < 1e-12 and found.bits <= fit.bits
    assert snap_constants(found, VARIABLES, points, values).formula == sympy.sympify(true)


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("true", CASES)
def test_what_matters_is_never_left_out(true: str, noise: float) -> None:
    points = uniform(300, 3)
    values = labels(true, points, noise)
    fit = fit_constants(sympy.sympify(CASES[true]), VARIABLES, points, values)
    found = drop_terms(fit, VARIABLES, points, values)
    assert found.formula.free_symbols == sympy.sympify(true).free_symbols
    clean = labels(true, points)
    assert float((labels(found.formula, points) - clean).square().mean().sqrt()) < 0.005 * float(clean.std()) * (noise > 0) + 1e-12


def test_dropping_stops_when_told_to() -> None:
    points = uniform(300, 3)
    values = labels("x", points)
    fit = fit_constants(1.0 * x + sympy.Float(0.1) * y, VARIABLES, points, values)
    assert drop_terms(fit, VARIABLES, points, values, stop=lambda: True) is fit


STRAIGHT = {
    "1000.0*sin(0.001*x)": "x",
    "1000.0*sin(0.001*x) + 0.5*y": "x + y/2",
    "2.0*sin(0.001*x + 0.3) + y": "x/500 + y",
    "(4000.0 + 0.005*x)**1.5": "253000 + 0.475*x",
    "(4000.0 + 0.005*x)**1.5 + 1.0": "253000 + 0.475*x",
    "(4000.0 + 0.005*x + 0.01*y)**1.5": "253000 + 0.475*x + 0.95*y",
    "exp(300.0*sin(0.003*x) + 0.5*y)": "exp(x + y/2)",
    "2.0*cos(1.5*y)*log(1000.0 + 0.9*x)": "cos(3*y/2)*(14 + x/500)",
}


@pytest.mark.parametrize("bent", STRAIGHT)
def test_functions_that_hardly_bend_are_straightened(bent: str) -> None:
    points = uniform(200, 3)
    values = labels(STRAIGHT[bent], points)
    fit = fit_constants(sympy.sympify(bent), VARIABLES, points, values)
    found = drop_terms(fit, VARIABLES, points, values)
    true = sympy.sympify(STRAIGHT[bent])
    assert {type(f) for f in found.formula.atoms(sympy.Function)} == {type(f) for f in true.atoms(sympy.Function)}
    assert not found.formula.atoms(sympy.Pow) - true.atoms(sympy.Pow)
    assert set(found.constants) == found.template.free_symbols - set(VARIABLES) and found.rmse < 1e-9 * found.scale


@pytest.mark.parametrize("bent", ["sin(0.3*x)", "sin(0.1*x)", "(1.0 + 0.5*x)**1.5", "y + sin(0.05*x)", "exp(sin(0.2*x) + y)", "Abs(0.3*x)"])
def test_functions_that_bend_stay(bent: str) -> None:
    points = uniform(200, 3)
    fit = fit_constants(sympy.sympify(bent), VARIABLES, points, labels(bent, points))
    found = drop_terms(fit, VARIABLES, points, labels(bent, points))
    assert found.template == fit.template


def test_what_noise_hides_is_straight() -> None:
    points = uniform(200, 3)
    values = labels("sin(0.1*x)", points, 0.01)
    fit = fit_constants(sympy.sympify("2.0*sin(0.05*x)"), VARIABLES, points, values)
    found = drop_terms(fit, VARIABLES, points, values)
    assert not found.formula.atoms(sympy.sin) and float(found.formula.coeff(x)) == pytest.approx(0.1, abs=0.001)


def test_constants_that_meet_in_a_sum_become_one() -> None:
    points = uniform(400, 3)
    values = labels("2*x*y + z + 1", points, 0.01)
    fit = fit_constants(sympy.sympify("2.0*x*y + sqrt(120.0*z + 3600.0) - 59.0"), VARIABLES, points, values)
    found = drop_terms(fit, VARIABLES, points, values)
    assert not found.formula.atoms(sympy.Pow) and len(found.constants) <= 3
    assert set(found.constants) == found.template.free_symbols - set(VARIABLES)
    assert found.rmse <= 1.01 * fit.rmse
