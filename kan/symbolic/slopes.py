"""Values and derivatives of symbolic functions, in closed form for the functions of the library.

Autograd gives the same numbers at several times the cost, and a fit needs them some thousand times.
"""

__all__ = ["SLOPES", "value_and_slope", "value_of"]

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .function import SymbolicFunction, TorchFun
from .library import gaussian, identity, zero

SLOPES: dict[TorchFun, Callable[[Tensor, Tensor], Tensor]] = {
    torch.sqrt: lambda u, v: 0.5 / v,
    torch.rsqrt: lambda u, v: -0.5 * v / u,
    torch.exp: lambda u, v: v,
    torch.log: lambda u, v: 1 / u,
    torch.abs: lambda u, v: u.sign(),
    torch.sin: lambda u, v: u.cos(),
    torch.cos: lambda u, v: -u.sin(),
    torch.tan: lambda u, v: 1 + v * v,
    torch.tanh: lambda u, v: 1 - v * v,
    torch.sign: lambda u, v: torch.zeros_like(u),
    torch.arcsin: lambda u, v: (1 - u * u).rsqrt(),
    torch.arccos: lambda u, v: -(1 - u * u).rsqrt(),
    torch.arctan: lambda u, v: 1 / (1 + u * u),
    torch.arctanh: lambda u, v: 1 / (1 - u * u),
    torch.cosh: lambda u, v: u.sinh(),
    torch.sinh: lambda u, v: u.cosh(),
    identity: lambda u, v: torch.ones_like(u),
    zero: lambda u, v: torch.zeros_like(u),
    gaussian: lambda u, v: -2 * u * v,
}
"""Derivatives ``f'(u)`` computed from u and v = f(u), by the function f."""


def value_of(function: SymbolicFunction, u: Tensor) -> Tensor:
    """Return ``f(u)``.

    Raises:
        ValueError: The function does not keep the shape of its argument.
    """
    value = function.torch_fun(u)
    if not isinstance(value, Tensor) or value.shape != u.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"The symbolic function {function.name!r} must return a tensor of the shape of its argument, "
            f"{tuple(u.shape)}, got {got}; write it elementwise."
        )
    return value.detach().to(u.dtype)


def value_and_slope(function: SymbolicFunction, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return f(u) and f'(u).

    The derivative is in closed form if there is one, otherwise from autograd or, for functions that torch cannot differentiate (Bessel
    functions), a central difference.
    """
    fun = function.torch_fun
    if (slope_of := SLOPES.get(fun) if _hashable(fun) else None) is not None:
        value = fun(u)
        return value, slope_of(u, value)
    if isinstance(fun, partial) and fun.func is torch.pow and isinstance(n := fun.keywords.get("exponent"), int):
        below = _integer_power(u, n - 1)
        return below * u, n * below
    if isinstance(fun, partial) and fun.func is torch.pow and "exponent" in fun.keywords:
        p = fun.keywords["exponent"]
        return fun(u), p * u.pow(p - 1)
    try:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            value = fun(u)
            if isinstance(value, Tensor) and value.requires_grad:
                (slope,) = torch.autograd.grad(value.sum(), u)
                return value.detach(), slope
    except (RuntimeError, NotImplementedError):
        pass  # torch cannot differentiate some of its functions, such as bessel_j0; the difference below serves them
    u = u.detach()
    step = 6e-6 * (1 + u.abs())
    return value_of(function, u), (value_of(function, u + step) - value_of(function, u - step)) / (2 * step)


def _integer_power(u: Tensor, n: int) -> Tensor:
    """Return ``u^n`` as a product, which is several times faster than ``pow`` for |n| > 3."""
    if n < 0:
        return _integer_power(u.reciprocal(), -n)
    if n < 2:
        return u if n else torch.ones_like(u)
    half = _integer_power(u * u, n // 2)
    return half * u if n % 2 else half


def _hashable(fun: TorchFun) -> bool:
    return type(fun).__hash__ is not None
