"""Formulas as text, as sympy expressions and as functions of a tensor: each is made from the one before, so that they cannot differ.

Formulas are read by a parser that knows numbers, the variables, four operations, powers and the functions of `FUNCTIONS`, and nothing
else: nothing of the text is executed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import sympy

__all__ = ["FUNCTIONS", "TorchFormula", "parsed", "symbol_table"]

FUNCTIONS = (
    "Abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "log", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip
"""Functions that formulas may use, by sympy's names."""

OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip

TORCH_NAMES = {"Abs": "abs", "Pow": "pow"}
"""What torch calls otherwise than sympy."""


def symbol_table(variables: Iterable[str]) -> dict[str, sympy.Symbol]:
    """The symbols by the names that formulas use; ``lambda_`` stands for ``lambda``, which is a word of Python.

    >>> symbol_table(["x", "lambda_"])
    {'x': x, 'lambda_': lambda}
    """
    import sympy

    return {variable: sympy.Symbol(variable.removesuffix("_")) for variable in variables}


def parsed(formula: str, table: dict[str, sympy.Symbol], functions: Iterable[str] = ()) -> sympy.Expr:
    """A formula as a sympy expression.

    Args:
        formula: numbers, ``pi``, the names of `table`, ``+ - * / **`` and functions.
        table: symbols by name.
        functions: names of functions that sympy need not know, beside those of `FUNCTIONS`.

    Raises:
        ValueError: for anything else.
    """
    import sympy

    named = tuple(functions)

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return sympy.sympify(node.value)
        if isinstance(node, ast.Name) and (node.id in table or node.id == "pi"):
            return table.get(node.id, sympy.pi)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
            return OPERATIONS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            if node.func.id in named:
                return sympy.Function(node.func.id)(*map(value, node.args))
            if node.func.id in FUNCTIONS and len(node.args) == 1:
                return getattr(sympy, node.func.id)(value(node.args[0]))
        raise ValueError(
            f"{ast.unparse(node)!r} is no part of a formula; expected numbers, pi, + - * / **, the variables {', '.join(table)} and the "
            f"functions {', '.join([*FUNCTIONS, *named])}."
        )

    return value(ast.parse(formula.strip(), mode="eval").body)


@dataclass(frozen=True)
class TorchFormula:
    """A sympy expression as a function of a tensor.

    Args:
        expr: sums, products, powers and functions that torch knows by sympy's name.
        symbols: the variables, in the order of the columns.
        functions: functions of tensors by name, for those that neither sympy nor torch has.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> TorchFormula(x**2 + sympy.sin(y), (x, y))(torch.tensor([[3.0, 0.0]]))
    tensor([[9.]])
    """

    expr: sympy.Expr
    symbols: Sequence[sympy.Symbol]
    functions: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)

    def __call__(self, x: Tensor) -> Tensor:
        """Values ``(N, 1)`` at the rows of `x` ``(N, n)``.

        Raises:
            ValueError: if `x` has another number of columns.
        """
        if x.dim() != 2 or x.shape[1] != len(self.symbols):
            raise ValueError(
                f"expected a tensor with {len(self.symbols)} column(s), {', '.join(map(str, self.symbols))}; got {tuple(x.shape)}."
            )
        columns = {symbol: x[:, [i]] for i, symbol in enumerate(self.symbols)}
        values: Tensor = x.new_zeros(len(x), 1) + self._evaluated(self.expr, columns)
        return values

    def _evaluated(self, expr: Any, columns: dict[Any, Tensor]) -> Any:
        """Value of an expression: a tensor, or a number where no variable is in it."""
        if expr in columns:
            return columns[expr]
        if not expr.free_symbols:
            return float(expr)
        values = [self._evaluated(argument, columns) for argument in expr.args]
        if expr.is_Add:
            return sum(values[1:], values[0])
        if expr.is_Mul:
            return math.prod(values[1:], start=values[0])
        if expr.is_Pow and not isinstance(values[1], Tensor):
            base, exponent = values
            return torch.sqrt(base) if exponent == 0.5 else torch.pow(base, int(exponent) if exponent == int(exponent) else exponent)
        name = type(expr).__name__
        return (self.functions.get(name) or getattr(torch, TORCH_NAMES.get(name, name)))(*values)
