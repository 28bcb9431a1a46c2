"""Values of expressions against sympy's own, and their gradients."""

import math
import re

import pytest
import sympy
import torch

from kan.symbolic.evaluation import FUNCTIONS, evaluate_expression, evaluator
from kan.symbolic.library import SYMBOLIC_LIB, add_symbolic

pytestmark = pytest.mark.usefixtures("float64")

A, B = sympy.symbols("a b")
VALUES = {A: torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), B: torch.tensor([1.5, 1.2, 3.0], dtype=torch.float64)}


@pytest.mark.parametrize(
    "expression",
    [
        A + B, A * B, A - B / 3, A**2 / B**3, A**B, 2**A, sympy.sqrt(A**2 + 1), 1 / sympy.sqrt(1 - A**2),
        sympy.exp(sympy.sin(sympy.pi * A)), sympy.log(B, 2),
        sympy.Max(A, B / 2, 0.4), sympy.Min(A, B / 3), sympy.Abs(A - sympy.Rational(1, 2)), sympy.sign(A - 0.5),
        *[getattr(sympy, name)(B if name == "acosh" else A) for name in sorted(FUNCTIONS) if name not in ("Max", "Min", "atan2")],
        sympy.atan2(A, B),
    ],
    ids=str,
)  # fmt: skip
def test_values(expression: sympy.Expr) -> None:
    found = evaluate_expression(expression, VALUES, VALUES[A])
    expected = [float(expression.subs({A: float(a), B: float(b)})) for a, b in zip(VALUES[A].tolist(), VALUES[B].tolist(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-12, atol=1e-12)


def test_constants_and_dtypes() -> None:
    value = evaluate_expression("pi/2 + sqrt(2)", {}, torch.zeros((), dtype=torch.float32))
    assert value.dtype == torch.float32 and abs(float(value) - math.pi / 2 - 2**0.5) < 1e-6
    single = {A: torch.tensor([0.5], dtype=torch.float32)}
    assert evaluate_expression(A * sympy.pi + 0.1, single, single[A]).dtype == torch.float32


def test_gradients_of_powers_of_negative_numbers() -> None:
    x = torch.tensor([-2.0], requires_grad=True)
    evaluate_expression(A**2 + A**3, {A: x}, x).sum().backward()
    assert x.grad is not None and x.grad.item() == 2 * -2 + 3 * 4


@pytest.mark.parametrize("function", [sympy.cot, sympy.sec, sympy.csc])
def test_reciprocals_of_waves_and_their_gradients(function: sympy.Function) -> None:
    x = torch.tensor([-1.2, 0.3, 2.0], requires_grad=True)
    found = evaluate_expression(function(A), {A: x}, x)
    torch.testing.assert_close(found.detach(), torch.tensor([float(function(a)) for a in x.tolist()]))
    found.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([float(function(A).diff(A).subs(A, a)) for a in x.tolist()]))


def test_an_evaluator_serves_many_values() -> None:
    value = evaluator(A * sympy.cos(B) + sympy.pi, {A, B})
    for scale in (1.0, -2.0):
        values = {symbol: scale * tensor for symbol, tensor in VALUES.items()}
        torch.testing.assert_close(value(values, values[A]), values[A] * torch.cos(values[B]) + math.pi)
    single = {symbol: tensor.float() for symbol, tensor in VALUES.items()}
    assert value(single, single[A]).dtype == torch.float32
    # Values of other shapes than those of the first call, as for the rows of a Jacobian.
    assert value({A: torch.ones(2, 1), B: torch.zeros(3)}, torch.zeros(())).shape == (2, 3)


def test_an_evaluator_refuses_at_once() -> None:
    with pytest.raises(ValueError, match=re.escape("has the symbol b, which is none of the variables [a].")):
        evaluator(A + B, [A])


def test_registered_functions() -> None:
    add_symbolic("ripple", torch.sinc)
    try:
        found = evaluate_expression(2 * sympy.Function("ripple")(A), VALUES, VALUES[A])
        torch.testing.assert_close(found, 2 * torch.sinc(VALUES[A]))
    finally:
        del SYMBOLIC_LIB["ripple"]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (A + sympy.Symbol("c"), "the expression a + c has the symbol c, which is none of the variables [a, b]."),
        (sympy.zeta(A), "unknown function in zeta(a): 'zeta'"),
        (A + sympy.I, "the expression a + I has the constant I, which is no real number."),
    ],
)
def test_errors(expression: sympy.Expr, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate_expression(expression, VALUES, VALUES[A])
