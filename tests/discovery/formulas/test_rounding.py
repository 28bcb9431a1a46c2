"""Numbers in formulas: what is shown has six digits, and what is taken away is round-off, never a small term that is real."""

from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan import KAN
from kan.compiler import kanpiler
from kan.discovery.formulas.rounding import MAX_ROUNDING_ERROR, as_text, shown, without_round_off

pytestmark = pytest.mark.usefixtures("float64")

x, y = sympy.symbols("x y")
F = sympy.Float


def data(scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [scale * (2 * torch.rand(300, generator=generator, dtype=torch.float64) - 1) for _ in range(2)]


def cleaned(expression: Any, columns: list[Tensor] | None = None) -> sympy.Expr:
    return without_round_off([expression], [x, y], data() if columns is None else columns, {})[0]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (0.99999999 * sympy.exp(1.00000001 * x**2 + F("3.14159265358979") * y), "exp(x**2 + 3.14159*y)"),
        (-1.0 * (x + y) * F(1.0000000001), "-x - y"),
        (F("1.23456789e-9") * x + 1.5, "1.23457e-9*x + 1.5"),
        (F("2.5"), "2.5"),
        (x ** F("1.00000000001") + x ** F("-0.99999999999"), "x + 1/x"),
        (sympy.Rational(1, 3) * x + sympy.pi, "x/3 + pi"),
        (F("123456789.0") * x, "123457000.0*x"),
    ],
)
def test_shown(expression: sympy.Expr, text: str) -> None:
    assert as_text(shown(expression)) == text


def test_round_off_is_taken_away() -> None:
    assert cleaned(1.0 * x + 3.5e-17) == x
    assert cleaned((1 + 2e-16) * sympy.sin(x - 4.3e-17) - 7.8e-17) == sympy.sin(x)
    assert cleaned(sympy.exp(x + 1e-17 * y**2)) == sympy.exp(x)
    assert cleaned(1e8 * x - 1e-9) == 1e8 * x, "beside terms that are large"
    assert cleaned(1e-20 * x + 1e-37, data()) == 1e-20 * x, "beside terms that are small"


def test_small_terms_that_are_real_stay() -> None:
    for expression in (
        x + 1e-14,  # fifty units of round-off
        1e-20 * x + 3.5e-37 * 1e3,
        1e-17 * x + 3.5e-17,
        (1 + 1e-15) * x,
        sympy.log(x**2 + 1e-13) + y,
        1e-12 * x**2 * y + x,
    ):
        assert cleaned(expression) == expression
    assert cleaned(x + 1e-17 * y, [data()[0], data(1e10)[1]]) == x + 1e-17 * y, "1e-7 beside 1"
    assert cleaned(x + 3.5e-17, data(1e-10)) == x + 3.5e-17


def test_a_term_that_matters_on_many_of_the_data_stays() -> None:
    small = torch.logspace(-20, 0, 300, dtype=torch.float64)
    assert cleaned(x + 1e-18, [small, small]) == x + 1e-18


def test_what_is_zero_or_not_finite_on_the_data_stays() -> None:
    zeros = torch.zeros(5, dtype=torch.float64)
    assert cleaned(x + 1e-30 * y + 1, [zeros, zeros]) == x + 1e-30 * y + 1
    expression = sympy.log(x) + 1e-18 / x
    assert cleaned(expression, [zeros, zeros]) == expression
    assert cleaned(x + 3.5e-17, []) == x + 3.5e-17, "without data there is no telling"


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-1e3, 1e3).filter(lambda c: abs(c) > 1e-3), min_size=2, max_size=4),
    st.floats(-30, 0).map(lambda power: 10.0**power),
    st.floats(-12, 12).map(lambda power: 10.0**power),
)
def test_nothing_changes_beyond_round_off(numbers: list[float], small: float, unit: float) -> None:
    expression = unit * (sum(c * x**n for n, c in enumerate(numbers, start=1)) + small)
    found, columns = cleaned(expression), data()
    before, after = (sympy.lambdify([x], e)(columns[0].numpy()) for e in (expression, found))
    largest = max(abs(float(c) * columns[0].abs() ** n).max() for n, c in enumerate(numbers, start=1)) * unit
    assert abs(before - after).max() <= 4 * MAX_ROUNDING_ERROR * float(largest)


def test_the_formula_of_a_network_has_no_round_off_but_all_digits() -> None:
    model = KAN([1, 1], auto_save=False)
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)
    with torch.no_grad():
        model.symbolic_fun[0].affine[0, 0] = torch.tensor([3.14159265358979, 4.3e-17, 1 + 2**-52, -7.8e-17])
    bare = model.symbolic_formula()  # no data
    assert len(bare[0][0].args) == 2 and bare.text().startswith("y = sin(3.14159*x_1")
    model(data()[0][:, None])
    found = model.symbolic_formula()
    assert str(found[0][0]) == "sin(3.14159265358979*x_1)" and repr(found) == "y = sin(3.14159*x_1)"
    assert found.composition.nodes[-1] == found[0] and found.deviation is not None and found.deviation < 1e-15
    assert float(next(iter(found[0][0].atoms(sympy.Float)))) == 3.14159265358979
    with torch.no_grad():
        model.symbolic_fun[0].affine[0, 0, 3] = 1e-9
    assert model.symbolic_formula().text() == "y = sin(3.14159*x_1) + 1.0e-9"


def test_where_taking_round_off_away_would_show_it_stays() -> None:
    # The logarithm of the smallest sum tells 1e-17 from nothing.
    a = sympy.Symbol("a")
    model = kanpiler([a], sympy.log(a**2 + sympy.Float("1e-17")))
    model(torch.tensor([[0.0], [1.0], [2.0]]))
    found = model.symbolic_formula()
    assert found.deviation == pytest.approx(0, abs=1e-12) and found.agreement is not None and not found.agreement.formula_undefined


def test_latex_of_a_formula() -> None:
    mass, v = sympy.symbols("mass v_0")
    model = kanpiler([mass, v], sympy.Float("0.500000000001") * mass * v**2)
    model.out_vars = ["energy"]
    found = model.symbolic_formula(var=["mass", "v_0"])
    assert found.latex() == r"\mathrm{energy} = 0.5 \mathrm{mass} v_{0}^{2}"
    assert found._repr_latex_() == r"$\displaystyle \begin{aligned}\mathrm{energy} &= 0.5 \mathrm{mass} v_{0}^{2}\end{aligned}$"
