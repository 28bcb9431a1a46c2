r"""Rounding the numbers in formulas, and removing those that are round-off.

`ex_round` and `shown` round numbers for reading, which changes the formula. `without_round_off` removes only what cannot be distinguished
from the rounding errors of double precision: factors of one, and terms that vanish beside the others in their sum.
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

__all__ = ["DIGITS", "as_text", "ex_round", "shown", "slow", "typical_size", "without_round_off"]

DIGITS = 6
"""Significant digits of the numbers in formulas that are shown."""
ONE = 5e-16
"""Largest distance from one at which a factor is taken for one; sympy prints such a factor as 1.0."""
NEAR_ZERO = 1e-6
"""Share of the largest value below which any value counts as near zero."""
ROUND_OFF = 4 * torch.finfo(torch.float64).eps
"""Size of a term, as a share of the others in its sum, below which it is a rounding error: a few units in the last place."""

Change = Callable[["sympy.Expr", Sequence["sympy.Expr"]], "sympy.Expr | None"]
"""A function of a node and its new parts that returns the new node, or None for the old node with the new parts."""


def ex_round(ex1: sympy.Expr, n_digit: int) -> sympy.Expr:
    """An expression with every floating-point number rounded to `n_digit` digits after the point; those that round to 0 vanish.

    Numbers are rounded wherever they stand, in exponents too; integers, fractions and constants such as pi are exact and stay. Where a
    number that vanishes would leave the formula infinite or undefined, as in ``log(1e-9 x)``, such numbers keep `n_digit` significant
    digits instead, at least one. A formula may lose its meaning all the same: of ``sin(1e-9 x)`` nothing is left.

    Text is taken as the formula that it writes; nothing of it is executed.

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
    """An expression with `nearest` of its floating-point numbers in their place; `change` as of `_rebuilt`."""
    import sympy

    def replaced(number: sympy.Float) -> sympy.Expr:
        value = nearest(float(number))
        return sympy.Float(value) if value != 0 else sympy.S.Zero

    # Putting rounded numbers in lets sympy merge constants into new ones; a few rounds settle that.
    for _ in range(10):
        numbers = {number: replaced(number) for number in expression.atoms(sympy.Float)}
        if all(number == new for number, new in numbers.items()):
            break
        expression = _rebuilt(expression, dict(numbers), change)
    return expression


def shown(expression: sympy.Expr, digits: int = DIGITS) -> sympy.Expr:
    """An expression as it is shown: numbers with so many significant digits, and without factors of one.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> shown(0.99999999999 * sympy.sin(3.14159265358979 * x) + 1.23456789e-9 * x)
    1.23457e-9*x + sin(3.14159*x)
    """
    import sympy

    def as_it_is(node: sympy.Expr, parts: Sequence[sympy.Expr]) -> sympy.Expr | None:
        """A function of other numbers, but not simplified anew, which takes most of the time and changes nothing that is seen."""
        same = all(new is old for new, old in zip(parts, node.args, strict=True))
        return node.func(*parts, evaluate=False) if isinstance(node, sympy.Function) and node.free_symbols and not same else None

    return _without_ones(_rounded(expression, lambda number: float(f"{number:.{digits - 1}e}"), as_it_is))


def as_text(expression: sympy.Expr) -> str:
    """The text of an expression, without zeros at the ends of numbers; sympy's own has them where a number is all there is."""
    import sympy

    return str(sympy.sstr(expression, full_prec=False))


def without_round_off(
    expressions: Sequence[sympy.Expr], variables: Sequence[sympy.Symbol], columns: Sequence[Tensor], functions: Mapping[str, TensorFunction]
) -> list[sympy.Expr]:
    """Expressions without factors that are one and without terms that vanish, both to the round-off of double precision.

    A term vanishes if its largest size on the data is below `ROUND_OFF` times the typical size (see `typical_size`) of the largest other
    term in its sum. A term that is small in itself stays where the others are as small, or are as small on many of the data.

    Args:
        expressions: the formulas.
        variables: different symbols.
        columns: of data for the variables, in double precision, ``(N,)`` each; terms stay where there are none.
        functions: functions of a tensor by the names of undefined functions in the formulas.

    Raises:
        ValueError: for a function that is not known.

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
    return [_without_ones(_rebuilt(expression, known, kept), ONE) for expression in expressions]


def _vanish(sizes: Tensor) -> list[bool]:
    """Which terms of a sum vanish, for their sizes ``(terms, N)``."""
    found = []
    for index, size in enumerate(sizes):
        others = torch.cat((sizes[:index], sizes[index + 1 :])).amax(dim=0)
        finite = torch.isfinite(others)
        largest = float(size.max())  # NaN or infinite if the term is somewhere
        found.append(bool(finite.any()) and 0 < largest <= ROUND_OFF * float(typical_size(others[finite])))
    return found


def typical_size(sizes: Tensor) -> Tensor:
    """The size below which values count as near zero: the median, or a millionth of the largest; 0-dim, 0 without values."""
    return torch.maximum(sizes.median(), NEAR_ZERO * sizes.max()) if len(sizes) else sizes.new_zeros(())


def _without_ones(expression: sympy.Expr, distance: float = 0.0) -> sympy.Expr:
    """An expression without factors and exponents that are floating-point numbers within `distance` of one, or of minus one."""

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
    """An expression with others in the place of those that are `known`, which grows; as ``xreplace``, where that is not slow.

    Args:
        expression: the expression.
        known: what becomes of expressions, of the numbers in this one for example.
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
        elif isinstance(expression, sympy.Function) and any(map(slow, parts)):
            known[expression] = expression.func(*parts, evaluate=False)
        else:
            known[expression] = expression.func(*parts)
    return known[expression]


def slow(argument: sympy.Expr) -> bool:
    """Whether sympy's own simplification of functions of this argument is to be avoided.

    It asks whether the argument is real. Of a hyperbolic function of a polynomial in variables that are not declared real, sympy finds out
    by greatest common divisors of polynomials, which takes minutes.
    """
    from sympy.functions.elementary.hyperbolic import HyperbolicFunction

    return bool(argument.has(HyperbolicFunction))


