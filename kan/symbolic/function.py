r"""Symbolic functions: rows of the table of functions that an edge of a KAN can be replaced by.

An edge is :math:`\varphi(x) = c\,f(a x + b) + d`, where :math:`f` is a row. A row holds :math:`f` for torch and for sympy, its complexity
(the price that a formula search charges for it), its symmetries, and a singularity-safe version, see `kan.symbolic.singular`.
"""

__all__ = [
    "ANONYMOUS", "SingularityFun", "SymbolicFunction", "Threshold", "TorchFun", "anonymous", "built_in", "keep_built_in", "regular",
    "sympy_call", "sympy_undefined", "unguarded", "unpickled",
]  # fmt: skip

import copy
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from kan.errors import unknown_name
from kan.pickling import dumps

from .symmetries import Symmetries

Threshold: TypeAlias = Tensor | tuple[()]
"""Threshold on the argument below or above which a singularity-safe version departs from its function, or ``()`` if there is none."""
TorchFun: TypeAlias = Callable[[Tensor], Tensor]
SingularityFun: TypeAlias = Callable[[Tensor, float | Tensor], tuple[Threshold, Tensor]]


@dataclass(frozen=True, repr=False)
class SymbolicFunction:
    """One row of the table; it behaves as the 4-tuple ``(torch_fun, sympy_fun, complexity, singularity_fun)``.

    Rows that come with the package are pickled by name. All others are pickled with their code: functions of an importable module by
    reference; lambdas, closures and functions of a script by value, for the same version of Python. Unpickling does not change
    ``SYMBOLIC_LIB``, even if that has another row of the same name, since models hold their functions themselves.

    Args:
        name: Key of the row.
        torch_fun: ``f(u) -> Tensor``, elementwise, any shape.
        sympy_fun: ``f(expr) -> expr``.
        complexity: Price of the function in a formula search.
        singularity_fun: ``f(u, y_th) -> (t, value)``; ``t`` is the threshold on the argument or ``()``.
        symmetries: Redundancies of ``c f(a x + b) + d``; none by default.

    Example:
        >>> import torch
        >>> from kan.symbolic.library import lookup
        >>> torch_fun, sympy_fun, complexity, singularity_fun = lookup("x^2")
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
            return built_in, (self.name,)
        return unpickled, (dumps(self._fields(), f"the symbolic function {self.name!r}"),)

    def _fields(self) -> tuple[Any, ...]:
        return self.name, *self, self.symmetries


_BUILT_IN: dict[str, SymbolicFunction] = {}


def keep_built_in(rows: Iterable[SymbolicFunction]) -> dict[str, SymbolicFunction]:
    """Declare rows as built-in, which are copied as themselves and pickled by name, and return them by name."""
    by_name = {row.name: row for row in rows}
    _BUILT_IN.update(by_name)
    return by_name


def built_in(name: str) -> SymbolicFunction:
    """Return the row of this name that comes with the package, even if the user has replaced it in the table.

    Raises:
        ValueError: There is no such row.
    """
    if name not in _BUILT_IN:
        raise unknown_name("symbolic function", name, _BUILT_IN)
    return _BUILT_IN[name]


def unpickled(fields: bytes) -> SymbolicFunction:
    """Return the row whose fields were pickled."""
    return SymbolicFunction(*pickle.loads(fields))


ANONYMOUS = "anonymous"
"""Name of every function that has no name of its own."""


def anonymous(fun: Callable[[Any], Any]) -> SymbolicFunction:
    """Make a row of a function without a name, which takes tensors and sympy expressions alike and has no singularity-safe version."""
    return SymbolicFunction(ANONYMOUS, fun, fun, 1, partial(unguarded, fun))


def unguarded(fun: Callable[[Any], Any], u: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Evaluate a function whose singularities are unknown in place of its singularity-safe version."""
    return (), fun(u)


def regular(fun: TorchFun, u: Tensor, y_th: float | Tensor) -> tuple[Threshold, Tensor]:
    """Evaluate a function without singularities, which is its own singularity-safe version."""
    return (), fun(u)


# sympy is imported when a formula is built, and not with the package.


def sympy_call(function: str, expr: Any) -> Any:
    """Apply the function that sympy has under this name."""
    import sympy

    return getattr(sympy, function)(expr)


def sympy_undefined(name: str, *exprs: Any) -> Any:
    """Apply the undefined sympy function of this name."""
    import sympy

    return sympy.Function(name)(*exprs)
