r"""How a layer calls its base function: with ``(B, I)``, as the layer's input came.

A base function may be any function of a tensor: it may normalise rows, sum along them, have parameters of its own for every input, or write
into its argument. Inside, the batch is the last axis (`kan.bases.bspline`); only functions that are known to treat every number by
itself are called in that layout, which saves two copies.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BaseFunction", "base_rows", "base_values", "is_elementwise", "is_silu", "register_elementwise"]

BaseFunction = Callable[[Tensor], Tensor]

_MODULES = frozenset({nn.SiLU, nn.Identity, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.ELU, nn.ReLU, nn.Mish, nn.Softsign})
_FUNCTIONS: dict[int, BaseFunction] = {}  # by identity: a function of the user's need not be hashable
for _function in (
    *(torch.sin, torch.cos, torch.tanh, torch.sigmoid, torch.exp, torch.abs, torch.square, torch.sinc, torch.arctan, torch.erf, torch.relu),
    *(F.silu, F.gelu, F.elu, F.relu, F.softplus, F.mish, F.softsign),
):
    _FUNCTIONS[id(_function)] = _function


def register_elementwise(function: BaseFunction) -> BaseFunction:
    """Say of a function of this library that it has no state, leaves its argument alone and treats every number by itself."""
    _FUNCTIONS[id(function)] = function
    return function


def is_elementwise(function: BaseFunction) -> bool:
    """Whether a base function is known to have no state, to leave its argument alone and to treat every number by itself.

    >>> is_elementwise(nn.ReLU()), is_elementwise(nn.ReLU(inplace=True)), is_elementwise(nn.PReLU(3))
    (True, False, False)
    """
    if isinstance(function, nn.Module):
        return type(function) in _MODULES and not getattr(function, "inplace", False) and not _watched(function)
    return id(function) in _FUNCTIONS


def is_silu(function: BaseFunction) -> bool:
    """Whether a base function is the usual one, and nobody waits for its calls."""
    return type(function) is nn.SiLU and is_elementwise(function)


def base_values(function: BaseFunction, x: Tensor) -> Tensor:
    """``b(x)`` at `x` ``(B, I)``; `x` stays as it is, whatever the function does with its argument."""
    return function(x if is_elementwise(function) else x.clone(memory_format=torch.contiguous_format))


def base_rows(function: BaseFunction, x: Tensor) -> Tensor:
    """As `base_values`, with the batch last: `x` and the result ``(I, B)``."""
    return function(x) if is_elementwise(function) else base_values(function, x.t()).t()


def _watched(module: nn.Module) -> bool:
    """Whether somebody waits for the calls of a module, or has put another function in the place of its ``forward``."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks) or (
        "forward" in module.__dict__
    )
