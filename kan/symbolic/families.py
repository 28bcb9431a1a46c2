r"""Families of symbolic functions with constants, :math:`c\,f(a x + b;\,\theta) + d`, and the extended library.

A family is a set of symbolic functions, one for every :math:`\theta`. The name of a member contains its constants, so that
`kan.symbolic.library.lookup` can make it again where only names are kept, as in checkpoints. Nothing is executed: a name is split into a
word and numbers.

========================  ==================================================================================================
name                      f(u)
========================  ==================================================================================================
``x^1.7``                 :math:`u^p`, u > 0
``poly(1,0,-2)``          :math:`u - 2 u^3`: coefficients of u, u^2, ...
``rational(1,0;1,0)``     :math:`(p_0 + p_1 u) / (q_0 + q_1 u + u^2)`
``damped(-0.2)``          :math:`e^{k u} \sin u`
``x_sin(0.5)``            :math:`(u + s) \sin u`
========================  ==================================================================================================

Numbers are written with all digits and separated by commas and semicolons.
"""

__all__ = ["EXTENDED_LIB", "Family", "ParametricFunction", "from_name"]

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kan.devices import number_like

from .function import SymbolicFunction, Threshold, TorchFun, built_in, keep_built_in, regular, sympy_call
from .symmetries import Symmetries

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_POWER = re.compile(rf"x\^({_NUMBER})")
_CALL = re.compile(rf"(\w+)\(((?:{_NUMBER}[,;])*{_NUMBER})\)")


class ParametricFunction(SymbolicFunction):
    """A member of a family; it is copied as itself and pickled by its name."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "ParametricFunction":
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return from_name, (self.name,)


@dataclass(frozen=True)
class Family:
    """A set of symbolic functions, one for every choice of constants.

    Args:
        name: Key in the library.
        complexity: Price of a member in a formula search, without that of its constants.
        row: A function that makes the member with given constants.
        constants: Number of constants that a fit determines besides a, b, c, d.
        free: Number of constants that matter, among all of these; symmetries make some of ``a, b, c, d`` redundant.
        example: Name of one member, for messages.
    """

    name: str
    complexity: float
    row: Callable[..., ParametricFunction]
    constants: int
    free: int
    example: str


def from_name(name: str) -> ParametricFunction | None:
    """Return the function that a name such as ``"x^1.7"`` or ``"poly(1,0,-2)"`` describes; None if it describes none.

    Example:
        >>> from_name("poly(1,0,-2)").torch_fun(torch.tensor(3.0)).item()
        -51.0
        >>> from_name("arcsn") is None
        True
    """
    if found := _POWER.fullmatch(name):
        return power(float(found[1]))
    if not (found := _CALL.fullmatch(name)) or found[1] not in _MAKERS:
        return None
    groups = [[float(v) for v in part.split(",")] for part in found[2].split(";")]
    if not all(math.isfinite(v) for group in groups for v in group):
        return None
    try:
        return _MAKERS[found[1]](*groups)
    except (TypeError, ValueError):
        return None


def power(p: float) -> ParametricFunction:
    """Make the function ``u^p``."""
    fun = partial(torch.pow, exponent=p)
    symmetries = Symmetries(scaling=(p, 0.0))
    return ParametricFunction(f"x^{_digits(p)}", fun, partial(_sympy_power, p=p), 4, partial(_safe_power, p=p), symmetries)


def polynomial(coefficients: list[float]) -> ParametricFunction:
    """Make the function ``t_1 u + t_2 u^2 + ...``."""
    fun = partial(_polynomial, coefficients=tuple(coefficients))
    sympy_fun = partial(_sympy_polynomial, coefficients=tuple(coefficients))
    name = f"poly({','.join(map(_digits, coefficients))})"
    return ParametricFunction(name, fun, sympy_fun, 1 + len(coefficients), partial(regular, fun))


def rational(numerator: list[float], denominator: list[float]) -> ParametricFunction:
    """Make the function ``(p_0 + p_1 u) / (q_0 + q_1 u + u^2)``."""
    if len(numerator) != 2 or len(denominator) != 2:
        raise ValueError("rational needs two coefficients of the numerator and two of the denominator.")
    top, below = (numerator[0], numerator[1]), (denominator[0], denominator[1])
    name = f"rational({','.join(map(_digits, numerator))};{','.join(map(_digits, denominator))})"
    fun = partial(_rational, numerator=top, denominator=below)
    sympy_fun = partial(_sympy_rational, numerator=top, denominator=below)
    return ParametricFunction(name, fun, sympy_fun, 4, partial(_safe_rational, numerator=top, denominator=below))


def damped(rate: list[float]) -> ParametricFunction:
    """Make the function ``e^(k u) sin u``."""
    (k,) = rate
    fun = partial(_damped, k=k)
    symmetries = Symmetries(period=(math.pi, -1.0)) if k == 0 else Symmetries()
    return ParametricFunction(f"damped({_digits(k)})", fun, partial(_sympy_damped, k=k), 4, partial(regular, fun), symmetries)


def x_sin(shift: list[float]) -> ParametricFunction:
    """Make the function ``(u + s) sin u``."""
    (s,) = shift
    fun = partial(_x_sin, s=s)
    return ParametricFunction(f"x_sin({_digits(s)})", fun, partial(_sympy_x_sin, s=s), 4, partial(regular, fun))


def _digits(value: float) -> str:
    """Return a number with all its digits, but without a trailing ``.0``."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


# Values


def _polynomial(u: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    value = torch.full_like(u, coefficients[-1])  # Horner's scheme
    for t in reversed(coefficients[:-1]):
        value = value * u + t
    return value * u


def _rational(u: Tensor, numerator: tuple[float, float], denominator: tuple[float, float]) -> Tensor:
    return (numerator[0] + numerator[1] * u) / (denominator[0] + (denominator[1] + u) * u)


def _safe_rational(
    u: Tensor, y_th: float | Tensor, numerator: tuple[float, float], denominator: tuple[float, float]
) -> tuple[Threshold, Tensor]:
    """Return the singularity-safe quotient, whose denominator is at least ``|numerator| / y_th`` in absolute value."""
    top = numerator[0] + numerator[1] * u
    below = denominator[0] + (denominator[1] + u) * u
    least = (top.abs() / number_like(y_th, u)).clamp(min=torch.finfo(u.dtype).tiny)
    return (), top / torch.where(below.abs() < least, torch.where(below < 0, -least, least), below)


def _safe_power(u: Tensor, y_th: float | Tensor, p: float) -> tuple[Threshold, Tensor]:
    """Return ``|u|^p`` and, for p < 0, the constant ``y_th`` where it would exceed that."""
    if p >= 0:
        zero = u == 0  # the slope of |u|^p is infinite or undefined there
        return (), torch.where(zero, 0.0, torch.where(zero, 1.0, u).abs().pow(p))
    y = number_like(y_th, u)
    t = y ** (1 / p)
    near = u.abs() < t
    return t, torch.where(near, y, torch.where(near, 1.0, u).abs().pow(p))


def _damped(u: Tensor, k: float) -> Tensor:
    return (k * u).exp() * u.sin()


def _x_sin(u: Tensor, s: float) -> Tensor:
    return (u + s) * u.sin()


def _x_times(u: Tensor, fun: Callable[[Tensor], Tensor]) -> Tensor:
    return u * fun(u)


def _lorentzian(u: Tensor) -> Tensor:
    return 1 / (1 + u.square())


def _sine_squared(u: Tensor) -> Tensor:
    return u.sin().square()


# Expressions


def _constant(value: float) -> Any:
    """Return a number for sympy; whole numbers are integers, so that x^2 does not become x^2.0."""
    import sympy

    return sympy.Integer(int(value)) if value == int(value) else sympy.Float(value, 17)


def _sympy_power(expr: Any, p: float) -> Any:
    return expr ** _constant(p)


def _sympy_polynomial(expr: Any, coefficients: tuple[float, ...]) -> Any:
    return sum(_constant(t) * expr ** (n + 1) for n, t in enumerate(coefficients))


def _sympy_rational(expr: Any, numerator: tuple[float, float], denominator: tuple[float, float]) -> Any:
    (p0, p1), (q0, q1) = map(_constant, numerator), map(_constant, denominator)
    return (p0 + p1 * expr) / (q0 + q1 * expr + expr**2)


def _sympy_damped(expr: Any, k: float) -> Any:
    import sympy

    return sympy.exp(_constant(k) * expr) * sympy.sin(expr)


def _sympy_x_sin(expr: Any, s: float) -> Any:
    import sympy

    return (expr + _constant(s)) * sympy.sin(expr)


def _sympy_x_times(expr: Any, function: str) -> Any:
    import sympy

    return expr * getattr(sympy, function)(expr)


def _sympy_lorentzian(expr: Any) -> Any:
    return 1 / (1 + expr**2)


def _sympy_sine_squared(expr: Any) -> Any:
    import sympy

    return sympy.sin(expr) ** 2


_MAKERS: dict[str, Callable[..., ParametricFunction]] = {
    "poly": polynomial,
    "rational": rational,
    "damped": damped,
    "x_sin": x_sin,
}

_EVEN, _ODD = (1.0, 0.0), (-1.0, 0.0)


def _row(name: str, fun: TorchFun, sympy_fun: Callable[[Any], Any], complexity: float, symmetries: Symmetries) -> SymbolicFunction:
    return SymbolicFunction(name, fun, sympy_fun, complexity, partial(regular, fun), symmetries)


_ENTRIES: tuple[SymbolicFunction | Family, ...] = (
    _row("cosh", torch.cosh, partial(sympy_call, "cosh"), 3, Symmetries(_EVEN)),
    _row("sinh", torch.sinh, partial(sympy_call, "sinh"), 3, Symmetries(_ODD)),
    _row("sin^2", _sine_squared, _sympy_sine_squared, 3, Symmetries(_EVEN, period=(math.pi, 1.0))),
    _row("1/(1+x^2)", _lorentzian, _sympy_lorentzian, 3, Symmetries(_EVEN)),
    _row("x*exp(x)", partial(_x_times, fun=torch.exp), partial(_sympy_x_times, function="exp"), 4, Symmetries()),
    _row("x*sin(x)", partial(_x_times, fun=torch.sin), partial(_sympy_x_times, function="sin"), 4, Symmetries(_EVEN)),
    _row("x*cos(x)", partial(_x_times, fun=torch.cos), partial(_sympy_x_times, function="cos"), 4, Symmetries(_ODD)),
    Family("x^p", 4, power, constants=1, free=4, example="x^1.7"),
    *(Family(f"poly{n}", n + 1, polynomial, constants=n, free=n + 1, example="poly(1,0,-2)") for n in range(2, 6)),
    Family("rational", 4, rational, constants=4, free=5, example="rational(1,0;1,0)"),
    Family("damped", 4, damped, constants=1, free=5, example="damped(-0.2)"),
    Family("x_sin", 4, x_sin, constants=1, free=5, example="x_sin(0.5)"),
)
keep_built_in(entry for entry in _ENTRIES if isinstance(entry, SymbolicFunction))

EXTENDED_LIB: dict[str, SymbolicFunction | Family] = {entry.name: entry for entry in _ENTRIES}
"""What ``lib="extended"`` offers in addition to ``SYMBOLIC_LIB``: functions, and families whose constants are chosen by a fit."""

_extended = built_in  # pickles of earlier development versions refer to this name
