"""Values of sympy expressions on tensors, differentiable and on any device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from kan.errors import unknown_name
from kan.formula_text import as_expression
from kan.symbolic.library import SYMBOLIC_LIB, lookup

__all__ = ["evaluate_expression", "evaluator"]

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "sign": torch.sign, "exp": torch.exp, "log": torch.log,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "asin": torch.asin, "acos": torch.acos, "atan": torch.atan, "atan2": torch.atan2,
    "sinh": torch.sinh, "cosh": torch.cosh, "tanh": torch.tanh, "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh,
    "cot": lambda v: 1 / torch.tan(v), "sec": lambda v: 1 / torch.cos(v), "csc": lambda v: 1 / torch.sin(v),
    "erf": torch.erf, "floor": torch.floor, "ceiling": torch.ceil,
    "Max": lambda *values: reduce(torch.maximum, values), "Min": lambda *values: reduce(torch.minimum, values),
}  # fmt: skip
"""Functions of torch by the names that sympy has for them."""


Value = Callable[[Mapping[Any, Tensor], Tensor], Tensor]
"""A function from the values of the symbols, and a tensor that sets the dtype and device of constants, to the value of an expression."""


def evaluate_expression(expression: Any, values: Mapping[Any, Tensor], like: Tensor) -> Tensor:
    """Evaluate a sympy expression on tensors.

    Args:
        expression: a sum, product, power, or function of such, or the text of one. The functions are those of `FUNCTIONS` and those
            registered with ``add_symbolic``.
        values: the values of the symbols, tensors of one shape.
        like: a tensor that sets the dtype and device of constants.

    Returns:
        A tensor of the shape of the values, 0-dim if the expression contains no symbol.

    Raises:
        ValueError: if a symbol has no value, or a function no equivalent in torch.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> evaluate_expression(sympy.sqrt(x + 3) / 2, {x: torch.tensor([1.0, 6.0])}, torch.zeros(()))
    tensor([1.0000, 1.5000])
    """
    return evaluator(expression, values)(values, like)


def evaluator(expression: Any, symbols: Collection[Any], observe: Callable[[Tensor], Tensor] | None = None) -> Value:
    """Compile a sympy expression to a function of tensors, for repeated evaluation.

    Args:
        expression: as for `evaluate_expression`.
        symbols: the symbols that will have values.
        observe: a function that receives the value of every subexpression, numbers and symbols included, and returns its replacement.

    Raises:
        ValueError: as for `evaluate_expression`.
    """
    import sympy

    def observed(node: Any) -> Value:
        value = built(node)
        return value if observe is None else lambda values, like: observe(value(values, like))

    def number(value: float) -> Value:
        return lambda _, like: like.new_full((), value)

    def joined(operation: Callable[[Tensor, Tensor], Tensor], parts: list[Value]) -> Value:
        return lambda values, like: reduce(operation, [part(values, like) for part in parts])

    def applied(function: Callable[..., Tensor], parts: list[Value]) -> Value:
        return lambda values, like: function(*(part(values, like) for part in parts))

    def built(node: Any) -> Value:
        if node in symbols:
            return lambda values, _: values[node]
        if node.is_number:
            if not node.is_real:
                raise ValueError(f"the expression {expression} has the constant {node}, which is no real number.")
            return number(float(node))
        if node.is_Symbol:
            raise ValueError(f"the expression {expression} has the symbol {node}, which is none of the variables {list(symbols)}.")
        if isinstance(node, sympy.Add | sympy.Mul):
            return joined(torch.add if isinstance(node, sympy.Add) else torch.mul, [observed(part) for part in node.args])
        if isinstance(node, sympy.Pow):
            base, exponent = node.args
            # A constant exponent stays a number. As a tensor it would get a gradient too, and its log(x) is NaN for x < 0.
            return (
                applied(partial(_power, exponent=float(exponent)), [observed(base)])
                if exponent.is_number
                else joined(torch.pow, [observed(base), observed(exponent)])
            )
        name = node.func.__name__
        parts = [observed(part) for part in node.args]
        if name in SYMBOLIC_LIB and isinstance(node.func, sympy.core.function.UndefinedFunction):
            return applied(lookup(name).torch_fun, parts)
        if name not in FUNCTIONS:
            raise unknown_name(f"function in {expression}:", name, FUNCTIONS)
        return applied(FUNCTIONS[name], parts)

    return observed(as_expression(expression, symbols))


def _power(base: Tensor, exponent: float) -> Tensor:
    return base**exponent
