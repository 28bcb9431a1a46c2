"""pykan's import path of the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from kan.discovery.formulas.compiler import compiled, next_nontrivial_operation
from kan.model import KAN

if TYPE_CHECKING:
    import sympy

__all__ = ["expr2kan", "kanpiler", "next_nontrivial_operation", "sf2kan"]


def expr2kan(
    input_variables: Sequence[Any],
    expr: sympy.Expr,
    grid: int = 5,
    k: int = 3,
    auto_save: bool = False,
    dtype: torch.dtype | None = None,
    **settings: Any,
) -> KAN:
    """A model that computes a formula, with symbolic edges only; see `kan.discovery.formulas.compiler`.

    Args:
        input_variables: sympy symbols or names, in the order of the inputs.
        expr: one real sympy expression.
        grid, k: of the splines, which are all masked; `KAN.perturb` brings them in.
        auto_save: as of `KAN`; the compiled model is the second version.
        dtype: of the parameters; torch's default when not given.
        settings: further arguments of `KAN`, such as ``base_fun='identity'``.

    Raises:
        TypeError: if `expr` is no sympy expression.
        ValueError: if it contains other symbols, or something that cannot be built of the library's functions; the message names it.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> model = kanpiler([x, y], sympy.exp(sympy.sin(sympy.pi * x) + y**2))
    >>> model.width
    [[2, 0], [1, 0], [1, 0]]
    >>> model(torch.tensor([[0.0, 0.0]])).item()
    1.0
    """

    def build(width: list[list[int]], mult_arity: list[list[int]]) -> KAN:
        model = KAN(width=width, mult_arity=mult_arity, grid=grid, k=k, auto_save=auto_save, **settings)
        return model if dtype is None else model.to(dtype)

    model = compiled(build, input_variables, expr)
    model.log_history("expr2kan")
    return model


kanpiler = sf2kan = expr2kan
