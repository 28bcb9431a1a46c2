"""Formulas as text, as sympy expressions and as functions of a tensor.

Each form is made from the preceding one, so that they cannot differ. Text is parsed by `kan.formula_text`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kan.formula_text import FUNCTIONS, parsed, symbol_table

if TYPE_CHECKING:
    import sympy

__all__ = ["FUNCTIONS", "TorchFormula", "parsed", "symbol_table"]

TORCH_NAMES = {"Abs": "abs", "Pow": "pow"}
"""Names in torch of the functions that have other names in sympy."""


@dataclass(frozen=True)
class TorchFormula:
    """A sympy expression as a function of a tensor.

    Args:
        expr: an expression of sums, products, powers and functions that torch has under sympy's names.
        symbols: the variables, in the order of the columns.
        functions: functions of tensors by name, for functions that neither sympy nor torch has.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> TorchFormula(x**2 + sympy.sin(y), (x, y))(torch.tensor([[3.0, 0.0]]))
    tensor([[9.]])
    """

    expr: sympy.Expr
    symbols: Sequence[sympy.Symbol]
    functions: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate the expression at the rows of `x` ``(N, n)``, with values ``(N, 1)``.

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
        """Return the value of an expression: a tensor, or a number if it contains no variable."""
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
