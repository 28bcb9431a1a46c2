"""Rounding of the numbers in formulas, and removal of those that are round-off.

`ex_round` and `shown` round numbers for reading, which changes the formula. `without_round_off` removes only what cannot be distinguished
from the rounding errors of double precision: factors of 1, and terms that vanish beside the others in their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kan.discovery.formulas.straight_line import Program, TensorFunction
from kan.formula_text import as_expression

if TYPE_CHECKING:
    import sympy

__all__ = ["DIGITS", "as_text", "ex_round", "has_slow_simplification", "shown", "typical_size", "without_round_off"]

DIGITS = 6
"""Number of significant digits of the numbers in formulas that are shown."""
MAX_DISTANCE_FROM_ONE = 5e-16
"""Largest distance from 1 at which a factor counts as 1; sympy prints such a factor as 1.0."""
MAX_SHARE_NEAR_ZERO = 1e-6
"""Share of the largest value below which values count as near zero, whatever the median is."""
MAX_ROUNDING_ERROR = 4 * torch.finfo(torch.float64).eps
"""Size of a term, as a share of the other terms in its sum, up to which it is a rounding error: a few units in the last place."""

Change = Callable[["sympy.Expr", Sequence["sympy.Expr"]], "sympy.Expr | None"]
"""A function of a node and its new arguments that returns the new node, or None for the old node with the new arguments."""


def ex_round(ex1: sympy.Expr, n_digit: int) -> sympy.Expr:
    """An expression with every floating-point number rounded to `n_digit` digits after the point.

    Numbers in exponents are rounded as well. Integers, fractions and constants such as pi are exact and are not changed. Terms and factors
    that round to 0 or 1 vanish. If the formula would become infinite or undefined by that, as ``log(1e-9 x)`` would, numbers that round
    to 0 keep `n_digit` significant digits instead, at least one. Rounding may still change a formula beyond recognition: ``sin(1e-9 x)``
    becomes 0.

    Text is parsed as a formula; nothing in it is executed.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> ex_round(3.14159 * sympy.sin(x) + 1e-9, 2)
    3.14*sin(x)
    >>> ex_round(sympy.log(1.234567e-9 * x), 2)
    log(1.2e-9*x)
    """
    import sympy

    infinite = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo)
    ex1 = as_expression(ex1)
    rounded = _rounded(ex1, lambda number: round(number, n_digit))
    if rounded.has(*infinite) and not ex1.has(*infinite):
        significant = max(n_digit, 1)
        rounded = _rounded(ex1, lambda number: round(number, n_digit) or float(f"{number:.{significant - 1}e}"))
    return _without_ones(rounded)


def _rounded(expression: sympy.Expr, nearest: Callable[[float], float], change: Change = lambda node, parts: None) -> sympy.Expr:
    """An expression with every floating-point number replaced by `nearest` of it; for `change` see `Change`."""
    import sympy

    def replaced(number: sympy.Float) -> sympy.Expr:
        value = nearest(float(number))
        return sympy.Float(value) if value != 0 else sympy.S.Zero

    # sympy may merge rounded constants into new ones, which are rounded in turn.
    for _ in range(10):
        numbers = {number: replaced(number) for number in expression.atoms(sympy.Float)}
        if all(number == new for number, new in numbers.items()):
            break
        expression = _rebuilt(expression, dict(numbers), change)
    return expression


def shown(expression: sympy.Expr, digits: int = DIGITS) -> sympy.Expr:
    """An expression as it is shown: with numbers of `digits` significant digits, and without factors of 1.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> shown(0.99999999999 * sympy.sin(3.14159265358979 * x) + 1.23456789e-9 * x)
    1.23457e-9*x + sin(3.14159*x)
    """
    import sympy

    def as_it_is(node: sympy.Expr, parts: Sequence[sympy.Expr]) -> sympy.Expr | None:
        """A function of changed numbers without sympy's simplification, which takes most of the time and has no visible effect."""
        same = all(new is old for new, old in zip(parts, node.args, strict=True))
        return node.func(*parts, evaluate=False) if isinstance(node, sympy.Function) and node.free_symbols and not same else None

    return _without_ones(_rounded(expression, lambda number: float(f"{number:.{digits - 1}e}"), as_it_is))


def as_text(expression: sympy.Expr) -> str:
    """The text of an expression without trailing zeros of numbers, which sympy's own text has if the expression is a number."""
    import sympy

    return str(sympy.sstr(expression, full_prec=False))


def without_round_off(
    expressions: Sequence[sympy.Expr], variables: Sequence[sympy.Symbol], columns: Sequence[Tensor], functions: Mapping[str, TensorFunction]
) -> list[sympy.Expr]:
    """Expressions without factors that equal 1 and terms that vanish beside others, both to the round-off of double precision.

    A term vanishes if its largest size on the data is at most `MAX_ROUNDING_ERROR` times the typical size (see `typical_size`) of the
    largest other term in its sum. A small term is therefore kept if the others are as small, or are as small for many of the samples.

    Args:
        expressions: the formulas.
        variables: the symbols of the variables, all different.
        columns: values of the variables, in double precision, ``(N,)`` each. Without values no terms are removed.
        functions: functions of a tensor, by the names of undefined functions in the formulas.

    Raises:
        ValueError: for an unknown function.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> data = torch.linspace(-1, 1, 50, dtype=torch.float64)
    >>> without_round_off([1.0 * x + 3.5e-17, 1e-20 * x + 3.5e-17], [x], [data], {})
    [x, 1.0e-20*x + 3.5e-17]
    """
    import sympy

    sums = list({node: None for expression in expressions for node in sympy.preorder_traversal(expression) if node.is_Add})
    program = Program.of([term for node in sums for term in node.args], variables, functions) if columns else None
    vanishing: dict[sympy.Expr, set[sympy.Expr]] = {}
    if program is not None:
        like = torch.zeros_like(columns[0])
        values = iter(program.evaluated(columns))
        for node in sums:
            sizes = torch.stack([(like + next(values)).abs() for _ in node.args])
            vanishing[node] = {term for term, gone in zip(node.args, _vanish(sizes), strict=True) if gone}

    def kept(node: sympy.Expr, parts: Sequence[sympy.Expr]) -> sympy.Expr | None:
        gone = vanishing.get(node)
        return node.func(*(part for part, term in zip(parts, node.args, strict=True) if term not in gone)) if gone else None

    known: dict[sympy.Expr, sympy.Expr] = {}
    return [_without_ones(_rebuilt(expression, known, kept), MAX_DISTANCE_FROM_ONE) for expression in expressions]


def _vanish(sizes: Tensor) -> list[bool]:
    """Whether each term of a sum vanishes beside the others, for their sizes ``(terms, N)``."""
    found = []
    for index, size in enumerate(sizes):
        others = torch.cat((sizes[:index], sizes[index + 1 :])).amax(dim=0)
        finite = torch.isfinite(others)
        largest = float(size.max())  # NaN or infinite if the term is not finite for some sample
        found.append(bool(finite.any()) and 0 < largest <= MAX_ROUNDING_ERROR * float(typical_size(others[finite])))
    return found


def typical_size(sizes: Tensor) -> Tensor:
    """The size below which values count as near zero, 0-dim: the median, or a millionth of the largest value; 0 without values."""
    return torch.maximum(sizes.median(), MAX_SHARE_NEAR_ZERO * sizes.max()) if len(sizes) else sizes.new_zeros(())


def _without_ones(expression: sympy.Expr, distance: float = 0.0) -> sympy.Expr:
    """An expression without factors and exponents that are floating-point numbers within `distance` of 1 or -1."""

    def one(number: sympy.Expr) -> bool:
        return bool(number.is_Float) and abs(abs(float(number)) - 1) <= distance

    def changed(node: sympy.Expr, parts: Sequence[sympy.Expr]) -> sympy.Expr | None:
        if node.is_Pow and one(node.exp):
            return parts[0] if node.exp > 0 else 1 / parts[0]
        if node.is_Mul and one(node.args[0]):
            rest = node.func(*parts[1:])
            return rest if node.args[0] > 0 else -rest
        return None

    return _rebuilt(expression, {}, changed)


def _rebuilt(expression: sympy.Expr, known: dict[sympy.Expr, sympy.Expr], change: Change = lambda node, parts: None) -> sympy.Expr:
    """An expression with subexpressions replaced, as by ``xreplace``, but without simplifications of sympy that are slow.

    Args:
        expression: the expression.
        known: the replacements of subexpressions, for example of numbers, to which the results are added.
        change: see `Change`.
    """
    import sympy

    if expression not in known:
        parts = [_rebuilt(part, known, change) for part in expression.args]
        new = change(expression, parts)
        if new is not None:
            known[expression] = new
        elif all(new is old for new, old in zip(parts, expression.args, strict=True)):
            known[expression] = expression
        elif isinstance(expression, sympy.Function) and any(map(has_slow_simplification, parts)):
            known[expression] = expression.func(*parts, evaluate=False)
        else:
            known[expression] = expression.func(*parts)
    return known[expression]


def has_slow_simplification(argument: sympy.Expr) -> bool:
    """Whether sympy's automatic simplification of a function of this argument may take minutes.

    The simplification asks whether the argument is real. For a hyperbolic function of a polynomial in variables that are not declared
    real, sympy computes greatest common divisors of polynomials to answer that.
    """
    from sympy.functions.elementary.hyperbolic import HyperbolicFunction

    return bool(argument.has(HyperbolicFunction))


