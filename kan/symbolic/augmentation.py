"""Auxiliary variables, which are expressions of the inputs and become further inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from kan.symbolic.evaluation import evaluate_expression

__all__ = ["augment_input"]

Data = TypeVar("Data", Tensor, dict[str, Tensor])


def augment_input(orig_vars: Sequence[Any], aux_vars: Sequence[Any], x: Data) -> Data:
    """Prepend columns of auxiliary variables to the inputs: ``[aux_1(x), ..., aux_m(x), x]``.

    Args:
        orig_vars: the ``n`` symbols of the columns.
        aux_vars: ``m`` sympy expressions of these symbols, or formulas as text, which are parsed and not executed.
        x: inputs ``(N, n)``, or a data set whose ``train_input`` and ``test_input`` are replaced in place.

    Returns:
        A tensor ``(N, m + n)`` in the dtype and on the device of `x`, differentiable with respect to `x`; or the given data set.

    Raises:
        ValueError: if the number of symbols differs from the number of columns, or an expression cannot be evaluated.

    >>> import sympy
    >>> a, b = sympy.symbols("a b")
    >>> augment_input([a, b], [a * b], torch.tensor([[2.0, 3.0]]))
    tensor([[6., 2., 3.]])
    """
    if isinstance(x, Mapping):
        # Both are computed before either is replaced, so that an expression that cannot be evaluated leaves the data unchanged.
        x.update({name: _augmented(orig_vars, aux_vars, x[name]) for name in ("train_input", "test_input")})
        return x
    return _augmented(orig_vars, aux_vars, x)


def _augmented(orig_vars: Sequence[Any], aux_vars: Sequence[Any], x: Tensor) -> Tensor:
    import sympy

    symbols = [sympy.Symbol(variable) if isinstance(variable, str) else variable for variable in orig_vars]
    if x.dim() != 2 or x.shape[1] != len(symbols):
        raise ValueError(f"orig_vars must name the columns of x, (samples, {len(symbols)}); got {tuple(x.shape)}.")
    columns = dict(zip(symbols, x.unbind(dim=1), strict=True))
    aux = [evaluate_expression(expression, columns, x).expand(len(x)) for expression in aux_vars]
    return torch.cat([*(column[:, None] for column in aux), x], dim=1)
