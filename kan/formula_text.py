"""Formulas as text: read by a parser that knows numbers, the variables, four operations, powers and the functions that it lists.

``sympy.sympify`` and ``parse_expr`` execute their text as Python. Nothing of a text is executed here, whoever it comes from.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Iterable
from numbers import Number
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy

__all__ = ["FUNCTIONS", "as_expression", "parsed", "symbol_table"]

FUNCTIONS = (
    "Abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "log", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip
"""Functions that formulas may use, by sympy's names."""

OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip

FURTHER_FUNCTIONS = ("Max", "Min", "atan2", "ceiling", "cot", "csc", "erf", "floor", "sec")
"""Functions, by sympy's names, that a user's text may use beside those of `FUNCTIONS`: what `kan.symbolic.evaluation` knows."""


def as_expression(value: Any, symbols: Collection[sympy.Symbol] | None = None) -> sympy.Expr:
    """A sympy expression from an expression, a number, or a formula as text, of which nothing is executed.

    Args:
        value: the expression, number or text. A text may write powers as ``**`` or ``^``.
        symbols: what the names of a text stand for; a symbol for every name, but ``pi`` and ``E``, when not given.

    Raises:
        TypeError: if `value` is none of these.
        ValueError: for a text that is no formula.

    >>> as_expression("2*x^2 + sin(y)")
    2*x**2 + sin(y)
    """
    import sympy

    if isinstance(value, str):
        text = value.replace("^", "**")
        if symbols is not None:
            table: dict[str, Any] = {str(symbol): symbol for symbol in symbols}
        else:
            names = sorted({node.id for node in ast.walk(_tree(text)) if isinstance(node, ast.Name)} - {"pi"})
            table = {name: sympy.E if name == "E" else sympy.Symbol(name) for name in names}
        return parsed(text, table, further=FURTHER_FUNCTIONS)
    if isinstance(value, (sympy.Basic, sympy.MatrixBase)):
        return value
    if isinstance(value, Number):  # of containers, sympify would execute the text that is in them, strict or not
        return sympy.sympify(value, strict=True)
    raise TypeError(f"expected a sympy expression, a number or a formula as text; got {type(value).__name__}.")


def symbol_table(variables: Iterable[str]) -> dict[str, sympy.Symbol]:
    """The symbols by the names that formulas use; ``lambda_`` stands for ``lambda``, which is a word of Python.

    >>> symbol_table(["x", "lambda_"])
    {'x': x, 'lambda_': lambda}
    """
    import sympy

    return {variable: sympy.Symbol(variable.removesuffix("_")) for variable in variables}


def parsed(formula: str, table: dict[str, Any], functions: Iterable[str] = (), further: Iterable[str] = ()) -> sympy.Expr:
    """A formula as a sympy expression.

    Args:
        formula: numbers, ``pi``, the names of `table`, ``+ - * / **`` and functions.
        table: symbols by name.
        functions: names of functions that sympy need not know, beside those of `FUNCTIONS`.
        further: names of more functions of sympy, of any number of arguments.

    Raises:
        ValueError: for anything else.
    """
    import sympy

    named, more = tuple(functions), tuple(further)

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            if node.value == float("inf"):  # beyond double precision, which sympy's numbers are not bound to
                return sympy.Float(ast.get_source_segment(formula.strip(), node))
            return sympy.sympify(node.value, strict=True)
        if isinstance(node, ast.Name) and (node.id in table or node.id == "pi"):
            return table.get(node.id, sympy.pi)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
            return OPERATIONS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            if node.func.id in named:
                return sympy.Function(node.func.id)(*map(value, node.args))
            if (node.func.id in FUNCTIONS and len(node.args) == 1) or node.func.id in more:
                return getattr(sympy, node.func.id)(*map(value, node.args))
        raise ValueError(
            f"{ast.unparse(node)!r} is no part of a formula; expected numbers, pi, + - * / **, the variables {', '.join(table)} and the "
            f"functions {', '.join([*FUNCTIONS, *named, *more])}."
        )

    try:
        return value(_tree(formula))
    except RecursionError:
        raise ValueError(f"{formula[:200]!r} is no formula that can be read: it is nested too deeply.") from None


def _tree(formula: str) -> ast.expr:
    try:
        return ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the ways in which Python's parser refuses a text
        raise ValueError(f"{formula[:200]!r} is no formula: {error or type(error).__name__}.") from None
