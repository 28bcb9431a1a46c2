r"""The table of symbolic functions an edge of a KAN can be replaced by.

An edge is :math:`\varphi(x) = c\,f(a x + b) + d` with :math:`f` one row of the table. A row holds :math:`f` for torch,
:math:`f` for sympy, its complexity (the price a formula search charges for it) and a singularity-safe version
:math:`f_{y_\mathrm{th}}`, which equals :math:`f` away from its singularities and stays finite and continuous at them:
where :math:`|f|` would exceed the threshold :math:`y_\mathrm{th}` it goes on as a constant or as a straight line
through the singularity. Where the floating point format cannot resolve the threshold, the nearest one it can is used.

A row also knows its symmetries. Four parameters say too much when :math:`f(s u)` or :math:`f(-u)` is itself an affine
function of :math:`f(u)`; the fit searches only what is left and returns one representative of each class.

Singular versions select the argument before the value (a double ``where``): ``where(near, y, 1 / u)`` alone would have
the right value, but the gradient of the branch that was not taken is infinite and infinity times zero is NaN.

Symbols: ``u`` argument, ``y_th`` threshold on the value, ``t`` threshold on the argument.
Source of names, order and complexities: pykan (Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, arXiv:2404.19756).
"""

__all__ = [
    "SYMBOLIC_LIB",
    "SymbolicFunction",
    "Symmetries",
    "add_symbolic",
    "f_arccos",
    "f_arcsin",
    "f_arctanh",
    "f_exp",
    "f_inv",
    "f_inv2",
    "f_inv3",
    "f_inv4",
    "f_inv5",
    "f_invsqrt",
    "f_log",
    "f_power1d5",
    "f_sqrt",
    "f_tan",
    "lookup",
    "resolve_library",
]

import copy
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from kan.errors import unknown_name
from kan.pickling import dumps

if TYPE_CHECKING:
    from kan.symbolic.families import Family

Threshold: TypeAlias = Tensor | tuple[()]
TorchFun: TypeAlias = Callable[[Tensor], Tensor]
SingularityFun: TypeAlias = Callable[[Tensor, float | Tensor], tuple[Threshold, Tensor]]


@dataclass(frozen=True)
class Symmetries:
    r"""What a function keeps under affine changes of its argument; every field is a pair of numbers or None.

    * ``reflection`` :math:`(\alpha, \beta)`: :math:`f(-u) = \alpha f(u) + \beta`; even (1, 0), odd (-1, 0)
    * ``scaling`` :math:`(p, \kappa)`: :math:`f(s u) = s^p f(u) + \kappa \ln s` for :math:`s > 0`
    * ``translation`` :math:`(\rho, \tau)`: :math:`f(u + t) = e^{\rho t} f(u) + \tau t`
    * ``period`` :math:`(P, \sigma)`: :math:`f(u + P) = \sigma f(u)` with :math:`\sigma = \pm 1`

    Example:
        >>> SYMBOLIC_LIB["arccos"].symmetries.reflection == (-1.0, math.pi)
        True
    """

    reflection: tuple[float, float] | None = None
    scaling: tuple[float, float] | None = None
    translation: tuple[float, float] | None = None
    period: tuple[float, float] | None = None


@dataclass(frozen=True, repr=False)
class SymbolicFunction:
    """One row of the table; behaves as the 4-tuple ``(torch_fun, sympy_fun, complexity, singularity_fun)``.

    Args:
        name: Key of the row.
        torch_fun: ``f(u) -> Tensor``, elementwise, any shape.
        sympy_fun: ``f(expr) -> expr``.
        complexity: Price of the function in a formula search.
        singularity_fun: ``f(u, y_th) -> (t, value)``; ``t`` is the threshold on the argument or ``()``.
        symmetries: Redundancies of ``c f(a x + b) + d``; none by default.

    The rows that come with the package are pickled by name. All others are pickled with their code: functions of a module that can be
    imported by reference, lambdas, closures and functions of a script by value, for the same version of Python. What is unpickled is no
    row of the table: models hold their functions themselves, and ``SYMBOLIC_LIB`` is left alone, whatever it has under that name.

    Example:
        >>> torch_fun, sympy_fun, complexity, singularity_fun = SYMBOLIC_LIB["x^2"]
        >>> torch_fun(torch.tensor(3.0)).item(), complexity
        (9.0, 2)
    """

    name: str
    torch_fun: TorchFun
    sympy_fun: Callable[[Any], Any]
    complexity: float
    singularity_fun: SingularityFun
    symmetries: Symmetries = Symmetries()

    def __repr__(self) -> str:
        return f"SymbolicFunction({self.name!r}, complexity={self.complexity})"

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the four fields of pykan's tuple."""
        return iter((self.torch_fun, self.sympy_fun, self.complexity, self.singularity_fun))

    def __len__(self) -> int:
        """Four, the length of pykan's tuple."""
        return 4

    def __getitem__(self, index: int | slice) -> Any:
        """Return a field of pykan's tuple by its position."""
        return tuple(self)[index]

    def __copy__(self) -> "SymbolicFunction":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "SymbolicFunction":
        return self if _BUILT_IN.get(self.name) is self else SymbolicFunction(*copy.deepcopy(self._fields(), memo))

    def __reduce__(self) -> tuple[Callable[..., "SymbolicFunction"], tuple[Any, ...]]:
        if _BUILT_IN.get(self.name) is self:
            return _built_in, (self.name,)
        return _unpickled, (dumps(self._fields(), f"the symbolic function {self.name!r}"),)

    def _fields(self) -> tuple[Any, ...]:
        return self.name, *self, self.symmetries


ANONYMOUS = "anonymous"
"""The name of functions without one."""


def anonymous(fun: Callable[[Any], Any]) -> SymbolicFunction:
    """A function without a name: the callable serves tensors and sympy expressions alike, with or without singularity avoidance."""
    return SymbolicFunction(ANONYMOUS, fun, fun, 1, partial(_unguarded, fun))


def _unguarded(fun: Callable[[Any], Any], u: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    return (), fun(u)


# Singularity-safe versions, by pykan's names.


def _inverse_power(x: Tensor, y_th: float | Tensor, n: int) -> tuple[Threshold, Tensor]:
    """Return ``t = y_th^(-1/n)`` and ``x^(-n)``, continued through 0 by a line (n odd) or a constant (n even)."""
    y = _threshold_like(y_th, x)
    t = y ** (-1.0 / n)
    near = x.abs() < t
    inside = y / t * x if n % 2 else y.expand_as(x)
    return t, torch.where(near, inside, torch.where(near, 1.0, x).pow(-n))


def f_inv(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x``: the line ``y_th^2 x`` for ``|x| < 1/y_th``.

    Example:
        >>> f_inv(torch.tensor([0.0, 0.05, 2.0]), 10.0)[1]
        tensor([0.0000, 5.0000, 0.5000])
    """
    return _inverse_power(x, y_th, 1)


def f_inv2(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x^2``: the constant ``y_th`` for ``|x| < y_th^(-1/2)``."""
    return _inverse_power(x, y_th, 2)


def f_inv3(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x^3``: a line through 0 for ``|x| < y_th^(-1/3)``."""
    return _inverse_power(x, y_th, 3)


def f_inv4(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x^4``: the constant ``y_th`` for ``|x| < y_th^(-1/4)``."""
    return _inverse_power(x, y_th, 4)


def f_inv5(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/x^5``: a line through 0 for ``|x| < y_th^(-1/5)``."""
    return _inverse_power(x, y_th, 5)


def f_sqrt(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``sqrt(x)``: ``sign(x) sqrt(|x|)``, and the line of slope ``y_th`` for ``|x| < y_th^-2``.

    The slope is that of the chord from 0 to the threshold, so the value is continuous there.
    """
    y = _threshold_like(y_th, x)
    t = y**-2
    near = x.abs() < t
    return t, torch.where(near, y * x, x.sign() * torch.where(near, 1.0, x).abs().sqrt())


def f_power1d5(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``x^1.5``: ``|x|^1.5``, which needs no threshold."""
    return (), x.abs().pow(1.5)


def f_invsqrt(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``1/sqrt(x)``: ``1/sqrt(|x|)``, and the constant ``y_th`` for ``|x| < y_th^-2``."""
    y = _threshold_like(y_th, x)
    t = y**-2
    near = x.abs() < t
    return t, torch.where(near, y, torch.where(near, 1.0, x).abs().rsqrt())


def f_log(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``log(x)``: ``log|x|``, and the constant ``-y_th`` for ``|x| < exp(-y_th)``."""
    # exp(-1000) is zero, and log 0 would come through: the threshold stays a normal number of the format
    t = _threshold_like(y_th, x).neg().exp().clamp(min=torch.finfo(x.dtype).tiny)
    near = x.abs() < t
    return t, torch.where(near, t.log(), torch.where(near, 1.0, x).abs().log())


def f_tan(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``tan(x)``: within ``t = arctan(1/y_th)`` of a pole, the line from ``y_th`` to ``-y_th``."""
    y = _threshold_like(y_th, x)
    t = (1.0 / y).arctan()
    from_pole = x.remainder(math.pi) - math.pi / 2
    near = from_pole.abs() < t
    # tan(w) = -cot(w - pi/2), with the pole at the origin of the argument
    return t, torch.where(near, -y / t * from_pole, -1.0 / torch.where(near, 1.0, from_pole).tan())


def f_arctanh(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``arctanh(x)``: the constant ``+-y_th`` for ``|x| >= tanh(y_th)``."""
    t = _threshold_like(y_th, x).tanh().clamp(max=1.0 - torch.finfo(x.dtype).eps)
    far = x.abs() >= t
    return t, torch.where(far, x.sign() * t.arctanh(), torch.where(far, 0.0, x).arctanh())


def f_arcsin(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``arcsin(x)``: ``+-pi/2`` for ``|x| >= 1``."""
    far = x.abs() >= 1
    return (), torch.where(far, math.pi / 2 * x.sign(), torch.where(far, 0.0, x).arcsin())


def f_arccos(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``arccos(x)``: 0 for ``x >= 1`` and pi for ``x <= -1``."""
    far = x.abs() >= 1
    return (), torch.where(far, math.pi / 2 * (1 - x.sign()), torch.where(far, 0.0, x).arccos())


def f_exp(x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Singularity-safe ``exp(x)``: the constant ``y_th`` for ``x > log(y_th)``."""
    y = _threshold_like(y_th, x)
    t = y.log()
    far = x > t
    return t, torch.where(far, y, torch.where(far, 0.0, x).exp())


def _threshold_like(y_th: float | Tensor, x: Tensor) -> Tensor:
    return torch.as_tensor(y_th, dtype=x.dtype, device=x.device)


def _regular(fun: TorchFun, x: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    return (), fun(x)


def _zero(x: Tensor) -> Tensor:
    return x * 0


def _identity(x: Tensor) -> Tensor:
    return x


def _gaussian(x: Tensor) -> Tensor:
    return (-x.square()).exp()


# sympy is imported when a formula is built: `import kan` must not pay for it.


def _sympy_power(expr: Any, numerator: int, denominator: int = 1) -> Any:
    import sympy

    return expr ** sympy.Rational(numerator, denominator)


def _sympy_call(function: str, expr: Any) -> Any:
    import sympy

    return getattr(sympy, function)(expr)


def _sympy_undefined(name: str, *exprs: Any) -> Any:
    import sympy

    return sympy.Function(name)(*exprs)


def _sympy_gaussian(expr: Any) -> Any:
    import sympy

    return sympy.exp(-(expr**2))


def _power(name: str, n: int, complexity: int, singular: SingularityFun | None = None) -> SymbolicFunction:
    """Row of the integer power ``u^n``, odd or even, homogeneous of degree n."""
    fun = partial(torch.pow, exponent=n)
    symmetries = Symmetries(reflection=(-1.0 if n % 2 else 1.0, 0.0), scaling=(float(n), 0.0))
    return SymbolicFunction(name, fun, partial(_sympy_power, numerator=n), complexity, singular or partial(_regular, fun), symmetries)


def _root(name: str, fun: TorchFun, p: int, complexity: int, singular: SingularityFun) -> SymbolicFunction:
    """Row of the half-integer power ``u^(p/2)``, homogeneous, defined on one side only."""
    sympy_fun = partial(_sympy_power, numerator=p, denominator=2)
    return SymbolicFunction(name, fun, sympy_fun, complexity, singular, Symmetries(scaling=(p / 2, 0.0)))


def _named(
    name: str,
    fun: TorchFun,
    sympy_name: str,
    complexity: int,
    singular: SingularityFun | None = None,
    *,
    reflection: tuple[float, float] | None = None,
    scaling: tuple[float, float] | None = None,
    translation: tuple[float, float] | None = None,
    period: tuple[float, float] | None = None,
) -> SymbolicFunction:
    """Row of a function that sympy knows by name."""
    symmetries = Symmetries(reflection, scaling, translation, period)
    sympy_fun = partial(_sympy_call, sympy_name)
    return SymbolicFunction(name, fun, sympy_fun, complexity, singular or partial(_regular, fun), symmetries)


_EVEN = (1.0, 0.0)
_ODD = (-1.0, 0.0)

_ROWS = (
    SymbolicFunction("x", _identity, _identity, 1, partial(_regular, _identity), Symmetries(_ODD, (1, 0), (0, 1))),
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
    _named("exp", torch.exp, "exp", 2, f_exp, translation=(1.0, 0.0)),
    _named("log", torch.log, "log", 2, f_log, scaling=(0.0, 1.0)),
    _named("abs", torch.abs, "Abs", 3, reflection=_EVEN, scaling=(1.0, 0.0)),
    _named("sin", torch.sin, "sin", 2, reflection=_ODD, period=(math.pi, -1.0)),
    _named("cos", torch.cos, "cos", 2, reflection=_EVEN, period=(math.pi, -1.0)),
    _named("tan", torch.tan, "tan", 3, f_tan, reflection=_ODD, period=(math.pi, 1.0)),
    _named("tanh", torch.tanh, "tanh", 3, reflection=_ODD),
    _named("sgn", torch.sign, "sign", 3, reflection=_ODD, scaling=(0.0, 0.0)),
    _named("arcsin", torch.arcsin, "asin", 4, f_arcsin, reflection=_ODD),
    _named("arccos", torch.arccos, "acos", 4, f_arccos, reflection=(-1.0, math.pi)),
    _named("arctan", torch.arctan, "atan", 4, reflection=_ODD),
    _named("arctanh", torch.arctanh, "atanh", 4, f_arctanh, reflection=_ODD),
    SymbolicFunction("0", _zero, _zero, 0, partial(_regular, _zero), Symmetries(_EVEN, (0, 0), (0, 0))),
    SymbolicFunction("gaussian", _gaussian, _sympy_gaussian, 3, partial(_regular, _gaussian), Symmetries(_EVEN)),
)

_BUILT_IN = {row.name: row for row in _ROWS}

SYMBOLIC_LIB: dict[str, SymbolicFunction] = dict(_BUILT_IN)


def _built_in(name: str) -> SymbolicFunction:
    """A row that comes with the package, even where the user has replaced it in the table."""
    if name not in _BUILT_IN:
        raise unknown_name("symbolic function", name, _BUILT_IN)
    return _BUILT_IN[name]


def _unpickled(fields: bytes) -> SymbolicFunction:
    return SymbolicFunction(*pickle.loads(fields))


def add_symbolic(
    name: str,
    fun: TorchFun,
    c: float = 1,
    fun_singularity: SingularityFun | None = None,
    sympy_fun: Callable[[Any], Any] | None = None,
) -> None:
    """Register a function of your own under ``SYMBOLIC_LIB[name]``; an existing row of that name is replaced.

    Args:
        name: Key of the new row.
        fun: ``f(u) -> Tensor``, elementwise.
        c: Complexity.
        fun_singularity: ``f(u, y_th) -> (t, value)``; without it ``fun`` is used whatever the threshold.
        sympy_fun: ``f(expr) -> expr``, what formulas say; without it they have the undefined sympy function ``name``.

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
    expression = sympy_fun or partial(_sympy_undefined, name)
    SYMBOLIC_LIB[name] = SymbolicFunction(name, fun, expression, c, fun_singularity or partial(_regular, fun))


def lookup(name: str) -> SymbolicFunction:
    """Return the row called ``name``: of ``SYMBOLIC_LIB``, of the extended library, or one that its name tells, such as ``"x^1.7"``.

    Raises:
        ValueError: There is no such row; the message suggests the nearest names.

    Example:
        >>> lookup("tanh").complexity
        3
    """
    if name not in SYMBOLIC_LIB:
        from .families import EXTENDED_LIB, from_name  # they are made of rows: that room is above this one

        row = EXTENDED_LIB.get(name) or from_name(name)
        if isinstance(row, SymbolicFunction):
            return row
        if row is not None:
            raise ValueError(f"{name!r} is a family of functions; an edge has one of them, such as {_example(row.name)!r}.")
        raise ValueError(f"{unknown_name('symbolic function', name, SYMBOLIC_LIB)} add_symbolic registers a function of your own.")
    return _as_row(name, SYMBOLIC_LIB[name])


def _example(family: str) -> str:
    """The name of a row of a family."""
    shown = {"x^p": "x^1.7", "rational": "rational(1,0;1,0)", "damped": "damped(-0.2)", "x_sin": "x_sin(0.5)"}
    return shown.get(family, "poly(1,0,-2)")


def resolve_library(lib: str | Sequence[str] | Mapping[str, Any] | None = None) -> dict[str, "SymbolicFunction | Family"]:
    """Turn the ``lib`` argument of the symbolic workflow into a dict of rows and families, in the order given.

    Args:
        lib: None for the whole of ``SYMBOLIC_LIB``, ``"extended"`` for that and ``EXTENDED_LIB``, a sequence of names of both, or a dict
            from names to rows, to families or to tuples ``(torch_fun, sympy_fun, complexity, singularity_fun)`` as pykan has them; the
            last, or the last two, may be left out.

    Raises:
        ValueError: ``lib`` is empty, or holds an unknown name or a tuple that is not a row.
        TypeError: ``lib`` is a single string.

    Example:
        >>> list(resolve_library(["x", "sin"]))
        ['x', 'sin']
    """
    from .families import EXTENDED_LIB, Family

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
    """Accept the plain tuples that users write into the table by hand, of four entries or, as in pykan's first versions, of fewer."""
    if isinstance(entry, SymbolicFunction):
        return entry
    if isinstance(entry, (tuple, list)) and len(entry) in (2, 3, 4):
        fun, sympy_fun, complexity, guard = tuple(entry) + (1, None)[len(entry) - 2 :]
        if callable(fun) and callable(sympy_fun) and isinstance(complexity, (int, float)) and (guard is None or callable(guard)):
            return SymbolicFunction(name, fun, sympy_fun, complexity, guard or partial(_regular, fun))
    raise ValueError(
        f"The entry of {name!r} must be a SymbolicFunction or a tuple (torch_fun, sympy_fun, complexity, singularity_fun), of which the "
        f"last or the last two may be left out; got {entry!r}."
    )
