r"""The table of symbolic functions, and the look-up of functions by name.

``SYMBOLIC_LIB`` is the table that users see and extend. `lookup` also finds the functions of the extended library and the members of
families, whose names contain their constants, such as ``"x^1.7"``; see `kan.symbolic.families`.

Source of names, order and complexities: pykan (Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, arXiv:2404.19756).
"""

__all__ = [
    "ANONYMOUS", "SYMBOLIC_LIB", "SymbolicFunction", "Symmetries", "add_symbolic", "anonymous", "gaussian", "identity", "lookup",
    "resolve_library", "zero",
]  # fmt: skip

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from kan.errors import unknown_name

from .families import EXTENDED_LIB, Family, from_name
from .function import (
    ANONYMOUS,
    SingularityFun,
    SymbolicFunction,
    TorchFun,
    anonymous,
    built_in,
    keep_built_in,
    regular,
    sympy_call,
    sympy_undefined,
    unguarded,
    unpickled,
)
from .singular import (
    f_arccos,
    f_arcsin,
    f_arctanh,
    f_exp,
    f_inv,
    f_inv2,
    f_inv3,
    f_inv4,
    f_inv5,
    f_invsqrt,
    f_log,
    f_power1d5,
    f_sqrt,
    f_tan,
)
from .symmetries import Symmetries


def zero(x: Tensor) -> Tensor:
    """Return zeros."""
    return x * 0


def identity(x: Tensor) -> Tensor:
    """Return the argument."""
    return x


def gaussian(x: Tensor) -> Tensor:
    """Return ``exp(-x^2)``."""
    return (-x.square()).exp()


def _sympy_gaussian(expr: Any) -> Any:
    import sympy

    return sympy.exp(-(expr**2))


def _sympy_power(expr: Any, numerator: int, denominator: int = 1) -> Any:
    import sympy

    return expr ** sympy.Rational(numerator, denominator)


def _power(name: str, n: int, complexity: int, singular: SingularityFun | None = None) -> SymbolicFunction:
    """Make the row of the integer power ``u^n``, which is odd or even and homogeneous of degree n."""
    fun = partial(torch.pow, exponent=n)
    symmetries = Symmetries(reflection=(-1.0 if n % 2 else 1.0, 0.0), scaling=(float(n), 0.0))
    return SymbolicFunction(name, fun, partial(_sympy_power, numerator=n), complexity, singular or partial(regular, fun), symmetries)


def _root(name: str, fun: TorchFun, p: int, complexity: int, singular: SingularityFun) -> SymbolicFunction:
    """Make the row of the half-integer power ``u^(p/2)``, which is homogeneous and defined for u > 0 only."""
    sympy_fun = partial(_sympy_power, numerator=p, denominator=2)
    return SymbolicFunction(name, fun, sympy_fun, complexity, singular, Symmetries(scaling=(p / 2, 0.0)))


def _named(
    name: str, fun: TorchFun, sympy_name: str, complexity: int, symmetries: Symmetries, singular: SingularityFun | None = None
) -> SymbolicFunction:
    """Make the row of a function that sympy has under a name."""
    return SymbolicFunction(name, fun, partial(sympy_call, sympy_name), complexity, singular or partial(regular, fun), symmetries)


_EVEN = (1.0, 0.0)
_ODD = (-1.0, 0.0)

SYMBOLIC_LIB: dict[str, SymbolicFunction] = keep_built_in([
    SymbolicFunction("x", identity, identity, 1, partial(regular, identity), Symmetries(_ODD, (1, 0), (0, 1))),
    _power("x^2", 2, 2),
    _power("x^3", 3, 3),
    _power("x^4", 4, 3),
    _power("x^5", 5, 3),
    _power("1/x", -1, 2, f_inv),
    _power("1/x^2", -2, 2, f_inv2),
    _power("1/x^3", -3, 3, f_inv3),
    _power("1/x^4", -4, 4, f_inv4),
    _power("1/x^5", -5, 5, f_inv5),
    _root("sqrt", torch.sqrt, 1, 2, f_sqrt),
    _root("x^0.5", torch.sqrt, 1, 2, f_sqrt),
    _root("x^1.5", partial(torch.pow, exponent=1.5), 3, 4, f_power1d5),
    _root("1/sqrt(x)", torch.rsqrt, -1, 2, f_invsqrt),
    _root("1/x^0.5", torch.rsqrt, -1, 2, f_invsqrt),
    _named("exp", torch.exp, "exp", 2, Symmetries(translation=(1.0, 0.0)), f_exp),
    _named("log", torch.log, "log", 2, Symmetries(scaling=(0.0, 1.0)), f_log),
    _named("abs", torch.abs, "Abs", 3, Symmetries(reflection=_EVEN, scaling=(1.0, 0.0))),
    _named("sin", torch.sin, "sin", 2, Symmetries(reflection=_ODD, period=(math.pi, -1.0))),
    _named("cos", torch.cos, "cos", 2, Symmetries(reflection=_EVEN, period=(math.pi, -1.0))),
    _named("tan", torch.tan, "tan", 3, Symmetries(reflection=_ODD, period=(math.pi, 1.0)), f_tan),
    _named("tanh", torch.tanh, "tanh", 3, Symmetries(reflection=_ODD)),
    _named("sgn", torch.sign, "sign", 3, Symmetries(reflection=_ODD, scaling=(0.0, 0.0))),
    _named("arcsin", torch.arcsin, "asin", 4, Symmetries(reflection=_ODD), f_arcsin),
    _named("arccos", torch.arccos, "acos", 4, Symmetries(reflection=(-1.0, math.pi)), f_arccos),
    _named("arctan", torch.arctan, "atan", 4, Symmetries(reflection=_ODD)),
    _named("arctanh", torch.arctanh, "atanh", 4, Symmetries(reflection=_ODD), f_arctanh),
    SymbolicFunction("0", zero, zero, 0, partial(regular, zero), Symmetries(_EVEN, (0, 0), (0, 0))),
    SymbolicFunction("gaussian", gaussian, _sympy_gaussian, 3, partial(regular, gaussian), Symmetries(_EVEN)),
])  # fmt: skip
"""Symbolic functions by name; users add their own with `add_symbolic`."""


def add_symbolic(
    name: str,
    fun: TorchFun,
    c: float = 1,
    fun_singularity: SingularityFun | None = None,
    sympy_fun: Callable[[Any], Any] | None = None,
) -> None:
    """Register a function of your own as ``SYMBOLIC_LIB[name]``; an existing row of that name is replaced.

    Args:
        name: Key of the new row.
        fun: ``f(u) -> Tensor``, elementwise.
        c: Complexity.
        fun_singularity: ``f(u, y_th) -> (t, value)``, the singularity-safe version; without it, ``fun`` serves for every threshold.
        sympy_fun: ``f(expr) -> expr``, used in formulas; without it, they contain the undefined sympy function ``name``.

    Raises:
        ValueError: ``name`` is empty or ``c`` is not finite.
        TypeError: ``name`` is not a string, ``fun``, ``fun_singularity`` or ``sympy_fun`` is not callable or ``c`` is not a number.

    Example:
        >>> add_symbolic("sinc", torch.sinc, c=3)
        >>> SYMBOLIC_LIB.pop("sinc").complexity
        3
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {type(name).__name__}.")
    if not name.strip():
        raise ValueError("name must be a non-empty string: it is the function's key in SYMBOLIC_LIB and in formulas.")
    if not callable(fun):
        raise TypeError(f"fun must be a callable that maps a tensor to a tensor, got {type(fun).__name__}.")
    if fun_singularity is not None and not callable(fun_singularity):
        raise TypeError(f"fun_singularity must be a callable (u, y_th) -> (t, value) or None, got {type(fun_singularity).__name__}.")
    if sympy_fun is not None and not callable(sympy_fun):
        raise TypeError(f"sympy_fun must be a callable that maps an expression to an expression or None, got {type(sympy_fun).__name__}.")
    if isinstance(c, bool) or not isinstance(c, Real):
        raise TypeError(f"c, the complexity, must be a number, got {type(c).__name__}.")
    if not math.isfinite(c):
        raise ValueError(f"c, the complexity, must be finite, got {c}.")
    expression = sympy_fun or partial(sympy_undefined, name)
    SYMBOLIC_LIB[name] = SymbolicFunction(name, fun, expression, c, fun_singularity or partial(regular, fun))


def lookup(name: str) -> SymbolicFunction:
    """Return the function of this name, from ``SYMBOLIC_LIB``, the extended library, or a family, as in ``"x^1.7"``.

    Raises:
        ValueError: There is no such function; the message suggests the nearest names.

    Example:
        >>> lookup("tanh").complexity
        3
    """
    if name in SYMBOLIC_LIB:
        return _as_row(name, SYMBOLIC_LIB[name])
    found = EXTENDED_LIB.get(name) or from_name(name)
    if isinstance(found, SymbolicFunction):
        return found
    if found is not None:
        raise ValueError(f"{name!r} is a family of functions; an edge has one of them, such as {found.example!r}.")
    raise ValueError(f"{unknown_name('symbolic function', name, SYMBOLIC_LIB)} add_symbolic registers a function of your own.")


def resolve_library(lib: str | Sequence[str] | Mapping[str, Any] | None = None) -> dict[str, SymbolicFunction | Family]:
    """Turn the ``lib`` argument of the symbolic workflow into a dictionary of functions and families, in the given order.

    Args:
        lib: None for the whole of ``SYMBOLIC_LIB``; ``"extended"`` for ``SYMBOLIC_LIB`` and ``EXTENDED_LIB``; a sequence of names from
            either; or a dictionary from names to functions, to families, or to pykan's tuples
            ``(torch_fun, sympy_fun, complexity, singularity_fun)``, whose last one or two entries may be left out.

    Raises:
        ValueError: ``lib`` is empty, or holds an unknown name or a tuple that is not a row.
        TypeError: ``lib`` is a single string.

    Example:
        >>> list(resolve_library(["x", "sin"]))
        ['x', 'sin']
    """
    if isinstance(lib, str) and lib == "extended":
        lib = {**SYMBOLIC_LIB, **{name: entry for name, entry in EXTENDED_LIB.items() if name not in SYMBOLIC_LIB}}
    if isinstance(lib, str):
        raise TypeError(f"lib must be a list of names, got the string {lib!r}; write [{lib!r}].")
    if isinstance(lib, Mapping):
        rows = {name: entry if isinstance(entry, Family) else _as_row(name, entry) for name, entry in lib.items()}
    else:
        families = {name: entry for name, entry in EXTENDED_LIB.items() if isinstance(entry, Family) and name not in SYMBOLIC_LIB}
        rows = {name: families[name] if name in families else lookup(name) for name in (SYMBOLIC_LIB if lib is None else lib)}
    if not rows:
        raise ValueError("lib is empty: name at least one function, or pass None for the whole of SYMBOLIC_LIB.")
    return rows


def _as_row(name: str, entry: Any) -> SymbolicFunction:
    """Return an entry of a table as a row; pykan's plain tuples have four entries, or fewer in its first versions."""
    if isinstance(entry, SymbolicFunction):
        return entry
    if isinstance(entry, (tuple, list)) and len(entry) in (2, 3, 4):
        fun, sympy_fun, complexity, guard = tuple(entry) + (1, None)[len(entry) - 2 :]
        if callable(fun) and callable(sympy_fun) and isinstance(complexity, (int, float)) and (guard is None or callable(guard)):
            return SymbolicFunction(name, fun, sympy_fun, complexity, guard or partial(regular, fun))
    raise ValueError(
        f"The entry of {name!r} must be a SymbolicFunction or a tuple (torch_fun, sympy_fun, complexity, singularity_fun), of which the "
        f"last or the last two may be left out; got {entry!r}."
    )


# Names in this module that pickles of earlier development versions refer to.
_built_in, _unpickled = built_in, unpickled
_regular, _unguarded = regular, unguarded
_sympy_call, _sympy_undefined = sympy_call, sympy_undefined
_identity, _zero, _gaussian = identity, zero, gaussian
