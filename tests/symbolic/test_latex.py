"""Names and formulas in LaTeX that matplotlib can draw."""

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser

from kan.symbolic.latex import latex, latex_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x", "x"), ("x_1", "x_{1}"), ("x1", "x_{1}"), ("x_1_2", "x_{1,2}"), ("N_A", "N_{A}"), ("T_max", r"T_{\mathrm{max}}"),
        ("lambda", r"\lambda"), ("Gamma_0", r"\Gamma_{0}"), ("omega_p", r"\omega_{p}"), ("k_mu", r"k_{\mu}"), ("mu0", r"\mu_{0}"),
        ("mass", r"\mathrm{mass}"), ("mass_1", r"\mathrm{mass}_{1}"), ("CO2", r"\mathrm{CO}_{2}"), ("xdot", r"\mathrm{xdot}"),
        ("blood_pressure", r"\mathrm{blood\_pressure}"), ("v [m/s]", r"\mathrm{v\ [m/s]}"), ("rate (%)", r"\mathrm{rate\ (\%)}"),
        ("$d_1$", "d_1"), (r"\alpha", r"\alpha"), (r"\hat{x}", r"\hat{x}"), ("x_{ab}", "x_{ab}"),
    ],
)  # fmt: skip
def test_names(name: str, text: str) -> None:
    assert latex_name(name) == text


UNKNOWN = "\"#&`"
"""Characters that LaTeX can write and matplotlib's mathtext cannot; such a label is drawn as it stands."""


NAMES = st.characters(codec="latin-1", categories=["L", "N", "P", "Zs"], exclude_characters="$\\'\xa0" + UNKNOWN)


@settings(deadline=None)  # the first call loads fonts
@given(st.text(NAMES, min_size=1, max_size=12))
def test_every_name_can_be_drawn(name: str) -> None:
    MathTextParser("path").parse(f"${latex_name(name)}$")


def test_a_formula() -> None:
    mass, speed = sympy.symbols("mass v_0")
    assert latex(sympy.Float("2.5") * mass / speed) == r"\frac{2.5 \mathrm{mass}}{v_{0}}" and latex(sympy.Float("2.5")) == "2.5"
    assert sympy.latex(mass) == "mass", "sympy's own printing is left alone"
