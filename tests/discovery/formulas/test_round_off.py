"""Errors of formulas in units of their own round-off, against the same formulas with many digits."""

import math

import mpmath
import pytest
import sympy
import torch

from kan.discovery.formulas.round_off import CHUNK, residuals_and_round_off, spread

x, z = SYMBOLS = sympy.symbols("x z")
FORMULAS = ["x*sin(3*z) + 1", "exp(x) - exp(z)", "sqrt(x**2 + z**2)/(x - 5/2)", "log(x)**3/7", "x**12 - z", "tanh(x)*cos(40*z)", "x + 1e7"]


def columns(count: int = 400) -> dict[sympy.Symbol, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {symbol: torch.rand(count, generator=random, dtype=torch.float64) + 1 for symbol in SYMBOLS}


@pytest.mark.parametrize("text", FORMULAS)
def test_labels_of_the_formula_are_missed_by_less_than_a_unit_and_others_by_many(text: str) -> None:
    formula, data = sympy.sympify(text), columns()
    with mpmath.workdps(40):
        exactly = sympy.lambdify(SYMBOLS, formula, "mpmath")
        pairs = zip(data[x].tolist(), data[z].tolist(), strict=True)
        labels = torch.tensor([float(exactly(mpmath.mpf(a), mpmath.mpf(b))) for a, b in pairs], dtype=torch.float64)
    missed, unit = residuals_and_round_off(formula, data, labels)
    assert bool((missed.abs() <= unit).all())
    # The unit is no larger than a few hundred roundings of the label, but near a pole.
    assert float((unit / labels.abs().clamp_min(labels.abs().median())).median()) < 300 * torch.finfo(torch.float64).eps
    other, unit = residuals_and_round_off(formula, data, labels * (1 + 1e-9))
    assert float((other.abs() > 10 * unit).double().mean()) > 0.95


def test_terms_that_cancel_do_not_explain_everything() -> None:
    data = columns()
    labels = torch.sin(data[x])
    huge = sympy.sympify("1e15*x - 1e15*x*(1 + 1e-16*z)", evaluate=False)
    _, unit = residuals_and_round_off(sympy.Add(huge, 1e20 * z, -1e20 * z, evaluate=False), data, labels)
    assert float(unit.max()) < 2e-11


def test_where_a_formula_has_no_value_it_misses_everything() -> None:
    data = columns(4)
    data[x] = torch.tensor([1.0, 1.1, 1.5, 2.0], dtype=torch.float64)
    missed, unit = residuals_and_round_off(sympy.log(x - 1.2), data, torch.zeros(4))
    assert missed.isfinite().tolist() == [False, False, True, True] and bool(unit.isfinite().all())


def test_a_constant_and_many_rows() -> None:
    y = torch.linspace(0, 1, 2 * CHUNK + 7, dtype=torch.float64)
    missed, unit = residuals_and_round_off(sympy.Float(0.5), {x: y}, y)
    torch.testing.assert_close(missed, y - 0.5)
    assert len(unit) == len(y) and bool((unit > 0).all())


def test_the_spread_is_that_of_most_labels() -> None:
    y = torch.randn(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert abs(spread(y) - 1) < 0.1 and abs(spread(torch.cat([y, y.new_full((300,), 1e30)])) - 1) < 0.2
    assert spread(torch.tensor([0.0] * 19 + [1.0])) == pytest.approx(math.sqrt(0.05 * 0.95))
