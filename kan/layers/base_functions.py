r"""How a layer calls its base function: with ``(B, I)``, as the layer's input came.

A base function may be any function of a tensor: it may normalise rows, sum along them, have parameters of its own for every input, or write
into its argument. Inside, the batch is the last axis (`kan.bases.bspline`); only functions that are known to treat every number by
itself are called in that layout, which saves two copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "COMPILED_IDENTITY",
    "COMPILED_ZERO",
    "BaseFunction",
    "Slope",
    "base_rows",
    "base_values",
    "compiled_number",
    "is_elementwise",
    "register_elementwise",
    "write_base",
]

BaseFunction = Callable[[Tensor], Tensor]
Slope = Callable[[Tensor, Tensor], Tensor]
"""The derivative ``b'(x)`` of an elementwise function from its argument ``x`` and its value ``b(x)``."""


def _exact_gelu_slope(x: Tensor, value: Tensor) -> Tensor:
    density = (x.square() / -2).exp_().div_(math.sqrt(2 * math.pi))
    return torch.addcmul(torch.special.ndtr(x), x, density)


_MODULES: dict[type[nn.Module], Slope | None] = {
    nn.SiLU: None,  # has its value and slope from one sigmoid, see `write_base`
    nn.Identity: lambda x, value: torch.ones_like(x),
    nn.Tanh: lambda x, value: 1 - value * value,
    nn.Sigmoid: lambda x, value: value * (1 - value),
    nn.ReLU: lambda x, value: (value > 0).to(x.dtype),
    nn.Softsign: lambda x, value: (1 + x.abs()).square_().reciprocal_(),
    nn.Softplus: None,  # these have settings, and are differentiated by autograd
    nn.GELU: None,
    nn.ELU: None,
    nn.Mish: None,
}
"""Modules without a state that treat every number by itself, with their slopes where these are known in closed form."""

COMPILED_ZERO, COMPILED_IDENTITY, _SILU, _TANH, _GELU = range(5)
"""The base functions that the compiled kernels know, as numbered in ``kan/kernels/csrc/portable.h``."""
_COMPILED_MODULES = {nn.SiLU: _SILU, nn.Identity: COMPILED_IDENTITY, nn.Tanh: _TANH}
_COMPILED_FUNCTIONS: dict[int, int] = {id(F.silu): _SILU, id(torch.tanh): _TANH, id(F.gelu): _GELU}

_FUNCTIONS: dict[int, tuple[BaseFunction, Slope | None]] = {}  # by identity: a function of the user's need not be hashable


def register_elementwise(function: BaseFunction, slope: Slope | None = None, compiled: int | None = None) -> BaseFunction:
    """Declare that a function has no state, leaves its argument alone and treats every number by itself.

    Args:
        function: ``b``.
        slope: ``b'(x)`` from ``x`` and ``b(x)``, of the same shape. Autograd of this one function gives it when it is missing.
        compiled: its number in the compiled kernels, if these know it.

    Returns:
        `function`, so that this serves as a decorator.
    """
    _FUNCTIONS[id(function)] = function, slope
    if compiled is not None:
        _COMPILED_FUNCTIONS[id(function)] = compiled
    return function


for _function, _slope in (
    (torch.sin, lambda x, value: x.cos()),
    (torch.cos, lambda x, value: x.sin().neg_()),
    (torch.tanh, _MODULES[nn.Tanh]),
    (torch.sigmoid, _MODULES[nn.Sigmoid]),
    (torch.exp, lambda x, value: value),
    (torch.abs, lambda x, value: x.sign()),
    (torch.square, lambda x, value: 2 * x),
    (torch.sinc, None),  # its slope in closed form has few digits near zero
    (torch.arctan, lambda x, value: (1 + x * x).reciprocal_()),
    (torch.erf, lambda x, value: x.square().neg_().exp_().mul_(2 / math.sqrt(math.pi))),
    (torch.relu, _MODULES[nn.ReLU]),
    (F.relu, _MODULES[nn.ReLU]),
    (F.silu, None),
    (F.gelu, _exact_gelu_slope),
    (F.elu, None),
    (F.softplus, None),
    (F.mish, None),
    (F.softsign, _MODULES[nn.Softsign]),
):
    register_elementwise(_function, _slope)


def is_elementwise(function: BaseFunction) -> bool:
    """Whether a base function is known to have no state, to leave its argument alone and to treat every number by itself.

    >>> is_elementwise(nn.ReLU()), is_elementwise(nn.ReLU(inplace=True)), is_elementwise(nn.PReLU(3))
    (True, False, False)
    """
    if isinstance(function, nn.Module):
        return type(function) in _MODULES and not getattr(function, "inplace", False) and not _watched(function)
    return id(function) in _FUNCTIONS


def compiled_number(function: BaseFunction) -> int | None:
    """The number of a base function in the compiled kernels; None if these do not know it."""
    if isinstance(function, nn.GELU):
        return _GELU if is_elementwise(function) and function.approximate == "none" else None
    if isinstance(function, nn.Module):
        return _COMPILED_MODULES.get(type(function)) if is_elementwise(function) else None
    return _COMPILED_FUNCTIONS.get(id(function))


def write_base(function: BaseFunction, x: Tensor, out: Tensor, *, slopes: bool) -> Tensor | None:
    """Write ``b(x)`` of an elementwise function into `out`, without a graph.

    Args:
        function: one for which `is_elementwise` holds.
        x: of any shape.
        out: of the same shape.
        slopes: whether the derivative is wanted.

    Returns:
        ``b'(x)`` when asked for, else None.
    """
    if type(function) is nn.SiLU or function is F.silu:
        sigmoid = torch.sigmoid(x)
        torch.mul(x, sigmoid, out=out)
        return torch.addcmul(sigmoid, out, 1 - sigmoid) if slopes else None
    slope = _MODULES[type(function)] if isinstance(function, nn.Module) else _FUNCTIONS[id(function)][1]
    if not slopes or slope is not None:
        value = function(x)
        out.copy_(value)
        return slope(x, value) if slopes and slope is not None else None
    with torch.inference_mode(False), torch.enable_grad():
        own = x.detach().clone().requires_grad_()
        value = function(own)
        (found,) = torch.autograd.grad(value, own, torch.ones_like(value))
    out.copy_(value.detach())
    return found


def base_values(function: BaseFunction, x: Tensor) -> Tensor:
    """``b(x)`` at `x` ``(B, I)``; `x` stays as it is, whatever the function does with its argument."""
    return function(x if is_elementwise(function) else x.clone(memory_format=torch.contiguous_format))


def base_rows(function: BaseFunction, x: Tensor) -> Tensor:
    """As `base_values`, with the batch last: `x` and the result ``(I, B)``."""
    return function(x) if is_elementwise(function) else base_values(function, x.t()).t()


def _watched(module: nn.Module) -> bool:
    """Whether a module has hooks, or a ``forward`` of its own that was set on the instance."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks) or (
        "forward" in module.__dict__
    )
