"""A program computes its formulas, each part once."""

import math
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan import SYMBOLIC_LIB, add_symbolic
from kan.discovery.formulas.compiler import REWRITTEN
from kan.discovery.formulas.straight_line import FUNCTIONS, Program, as_float

pytestmark = pytest.mark.usefixtures("float64")

x, y = VARIABLES = sympy.symbols("x y")


def values(expression: Any, *columns: list[float], **functions: Any) -> Any:
    """Of one formula, by numpy, after torch has found the same."""
    program = Program.of([expression], VARIABLES, functions)
    with np.errstate(all="ignore"):
        (by_numpy,) = program.evaluated([np.array(column) for column in columns])
    (by_torch,) = program.evaluated([torch.tensor(column) for column in columns])
    np.testing.assert_allclose(by_numpy, by_torch, rtol=1e-12)
    return by_numpy


INSIDE = {"acosh": 1.7, "acoth": 1.7, "asec": 1.7, "acsc": 1.7, "floor": 1.7, "ceiling": 1.7}


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *REWRITTEN} - {"Max", "Min", "atan2", "Heaviside"}))
def test_functions(name: str) -> None:
    at = INSIDE.get(name, 0.4)
    found = values(getattr(sympy, name)(x), [at, at], [0.0, 0.0])
    assert float(np.broadcast_to(found, 2)[0]) == pytest.approx(float(getattr(sympy, name)(sympy.Float(at))), rel=1e-13)


def test_functions_of_several_arguments() -> None:
    assert values(sympy.Max(x, y, 0.5), [0.1, 0.7], [0.2, 0.3]).tolist() == [0.5, 0.7]
    assert values(sympy.Min(x, y, 0.15), [0.1, 0.7], [0.2, 0.3]).tolist() == [0.1, 0.15]
    np.testing.assert_allclose(values(sympy.atan2(y, x), [-1.0, 1.0], [0.5, -2.0]), np.arctan2([0.5, -2.0], [-1.0, 1.0]))
    assert values(sympy.Heaviside(x - y), [0.0, 1.0], [1.0, 0.0]).tolist() == [0.0, 1.0]


leaves = st.sampled_from([x, y, sympy.Integer(-2), sympy.Rational(-3, 7), sympy.pi, sympy.Float(0.7), sympy.sqrt(2), sympy.Float(-1.0)])
UNARY = [
    sympy.sin, sympy.tanh, sympy.Abs, sympy.exp, lambda e: e**-2, lambda e: e**3, lambda e: 1 / e, lambda e: -e, lambda e: 2**e,
    lambda e: sympy.sqrt(e**2 + 1), lambda e: (e**2 + 1) ** sympy.Rational(-1, 3), lambda e: (e**2 + 1) ** -1.5, lambda e: -e / 3,
]  # fmt: skip


def larger(parts: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    return st.one_of(
        st.tuples(parts, parts).map(lambda pair: pair[0] + pair[1]),
        st.tuples(parts, parts).map(lambda pair: pair[0] - pair[1]),
        st.tuples(parts, parts).map(lambda pair: pair[0] * pair[1]),
        st.tuples(parts, parts).map(lambda pair: pair[0] / pair[1]),
        st.tuples(st.sampled_from(UNARY), parts).map(lambda pair: pair[0](pair[1])),
    )


formulas = st.recursive(leaves, larger, max_leaves=8)


@given(expression=formulas)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_formulas_of_all_kinds(expression: sympy.Expr) -> None:
    point = {x: sympy.Float(0.8), y: sympy.Float(-0.6)}
    truth = as_float(sympy.N(expression.subs(point), 30))
    if math.isfinite(truth) and abs(truth) < 1e6:
        found = values(expression, [0.8, 0.8], [-0.6, -0.6])
        np.testing.assert_allclose(np.broadcast_to(found, 2), truth, rtol=1e-9, atol=1e-12)


def test_what_occurs_often_is_computed_once() -> None:
    expression = x
    for _ in range(40):  # the tree of this has 2^40 leaves
        expression = sympy.Add(sympy.sin(expression, evaluate=False), sympy.cos(expression, evaluate=False), evaluate=False)
    program = Program.of([expression, sympy.sin(x)], [x])
    assert len(program.steps) == 1 + 3 * 40
    (value, sine) = program.evaluated([torch.tensor([0.3])])
    expected = 0.3
    for _ in range(40):
        expected = math.sin(expected) + math.cos(expected)
    assert float(value) == pytest.approx(expected, rel=1e-12) and float(sine) == math.sin(0.3)


def test_numbers() -> None:
    assert [as_float(number) for number in (sympy.pi, sympy.Rational(1, 3), sympy.oo, -sympy.oo)] == [
        math.pi, 1 / 3, math.inf, -math.inf,
    ]  # fmt: skip
    assert all(math.isnan(as_float(number)) for number in (sympy.I, sympy.zoo, sympy.nan, 1 + sympy.sqrt(-2)))
    assert as_float(sympy.Integer(10) ** 400) == math.inf and as_float(-(sympy.Integer(10) ** 400)) == -math.inf
    assert math.isnan(np.broadcast_to(values(sympy.I * x, [1.0], [1.0]), 1)[0])


def test_functions_of_ones_own() -> None:
    bump = sympy.Function("bump")
    assert values(2 * bump(3 * x) + bump(0), [0.25], [0.0], bump=torch.sinc) == pytest.approx(2 * np.sinc(0.75) + 1)
    with pytest.raises(ValueError, match=r"the formula contains 'bump\(x\)', and there is no function bump of one argument\. Register it"):
        Program.of([bump(x)], [x])
    add_symbolic("bump", torch.sinc)
    try:
        assert values(bump(x), [0.25], [0.0]) == pytest.approx(np.sinc(0.25))
        with pytest.raises(ValueError, match="no function bump of one argument"):
            Program.of([bump(x, y)], VARIABLES)
    finally:
        del SYMBOLIC_LIB["bump"]


def test_gradients_pass_through() -> None:
    program = Program.of([sympy.exp(sympy.sin(x) * y**3)], VARIABLES)
    columns = [torch.rand(5, generator=torch.Generator().manual_seed(n)).requires_grad_() for n in range(2)]
    assert torch.autograd.gradcheck(lambda *given: program.evaluated(given)[0], columns)


def test_what_cannot_be_computed() -> None:
    with pytest.raises(ValueError, match="contains the symbol z, which is none of the variables x, y. Name it among the variables"):
        Program.of([x + sympy.Symbol("z")], VARIABLES)
    with pytest.raises(ValueError, match=r"unknown function in the formula: 'besselj'"):
        Program.of([sympy.besselj(0, x)], VARIABLES)
