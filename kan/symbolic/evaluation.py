"""Values of sympy expressions on tensors, differentiable and on any device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from kan.errors import unknown_name
from kan.symbolic.library import SYMBOLIC_LIB

__all__ = ["evaluate_expression"]

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "sign": torch.sign, "exp": torch.exp, "log": torch.log,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "asin": torch.asin, "acos": torch.acos, "atan": torch.atan, "atan2": torch.atan2,
    "sinh": torch.sinh, "cosh": torch.cosh, "tanh": torch.tanh, "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh,
    "cot": lambda v: 1 / torch.tan(v), "sec": lambda v: 1 / torch.cos(v), "csc": lambda v: 1 / torch.sin(v),
    "erf": torch.erf, "floor": torch.floor, "ceiling": torch.ceil,
    "Max": lambda *values: reduce(torch.maximum, values), "Min": lambda *values: reduce(torch.minimum, values),
}  # fmt: skip
"""sympy's names of functions, and torch's functions."""


def evaluate_expression(expression: Any, values: Mapping[Any, Tensor], like: Tensor) -> Tensor:
    """The value of a sympy expression.

    Args:
        expression: made of sums, products, powers, the functions of `FUNCTIONS`, and those registered by ``add_symbolic``.
        values: of the symbols; tensors of one shape.
        like: a tensor whose dtype and device constants get.

    Returns:
        Of the shape of the values, 0-dim if there is no symbol in the expression.

    Raises:
        ValueError: for a symbol without a value, or a function without an equivalent.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> evaluate_expression(sympy.sqrt(x + 3) / 2, {x: torch.tensor([1.0, 6.0])}, torch.zeros(()))
    tensor([1.0000, 1.5000])
    """
    import sympy

    def value(node: Any) -> Tensor:
        if node in values:
            return values[node]
        if node.is_number:
            if not node.is_real:
                raise ValueError(f"the expression {expression} has the constant {node}, which is no real number.")
            return torch.tensor(float(node), dtype=like.dtype, device=like.device)
        if node.is_Symbol:
            raise ValueError(f"the expression {expression} has the symbol {node}, which is none of the variables {list(values)}.")
        if isinstance(node, sympy.Add):
            return reduce(torch.add, map(value, node.args))
        if isinstance(node, sympy.Mul):
            return reduce(torch.mul, map(value, node.args))
        if isinstance(node, sympy.Pow):
            base, exponent = node.args
            # A number as exponent: as a tensor its gradient would be asked for too, and log(x) is NaN for x < 0.
            return value(base) ** float(exponent) if exponent.is_number else value(base) ** value(exponent)
        name = node.func.__name__
        if name in SYMBOLIC_LIB and isinstance(node.func, sympy.core.function.UndefinedFunction):
            return SYMBOLIC_LIB[name].torch_fun(*map(value, node.args))
        if name not in FUNCTIONS:
            raise unknown_name(f"function in {expression}:", name, FUNCTIONS)
        return FUNCTIONS[name](*map(value, node.args))

    return value(sympy.sympify(expression))
