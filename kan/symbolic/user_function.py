"""An edge's function as programs write it: one of its parts at a time.

pykan keeps the name of a function, what it does with tensors and with sympy expressions, and its version near singular points in four
tables, which do not have to agree: a pass uses the second, formulas the third, checkpoints the first.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from kan.pickling import dumps

from .library import ANONYMOUS, SymbolicFunction, _regular, _unguarded, lookup

__all__ = ["TABLES", "WrittenFunction", "name_to_save", "written"]

TABLES = {"funs_name": "name", "funs": "torch_fun", "funs_sympy": "sympy_fun", "funs_avoid_singularity": "singularity_fun"}
"""pykan's names of the four tables, and the part of a function that each holds."""


class WrittenFunction(SymbolicFunction):
    """A function that is not the one its name stands for, or whose name stands for none."""

    def __deepcopy__(self, memo: dict[int, Any]) -> WrittenFunction:
        return WrittenFunction(*copy.deepcopy(self._fields(), memo))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _unpickled, (dumps(self._fields(), f"the symbolic function {self.name!r}"),)


def _unpickled(fields: bytes) -> WrittenFunction:
    return WrittenFunction(*pickle.loads(fields))


def written(name: str, function: SymbolicFunction, table: str, entry: Any) -> tuple[str, SymbolicFunction]:
    """Name and function of an edge after `entry` has been written into one of the `TABLES`.

    The other parts stay, but those that did no more than call the old function of a tensor call the new one.

    Raises:
        TypeError: if the entry of ``funs_name`` is no string, or one of another table no function.

    Example:
        >>> name, function = written("0", lookup("0"), "funs", lambda u: u**2)
        >>> name, function.sympy_fun(3)
        ('anonymous', 9)
    """
    if table == "funs_name":
        if not isinstance(entry, str):
            raise TypeError(f"an entry of funs_name must be a string; got {entry!r}.")
        name = str(entry)
    elif not callable(entry):
        raise TypeError(f"an entry of {table} must be a function; got {entry!r}.")
    elif name == "0":
        name = ANONYMOUS
    parts = {part: getattr(function, part) for part in TABLES.values()}
    old, guard = function.torch_fun, function.singularity_fun
    if table == "funs":
        if function.sympy_fun is old:
            parts["sympy_fun"] = entry
        if isinstance(guard, partial) and guard.func in (_regular, _unguarded) and guard.args == (old,):
            parts["singularity_fun"] = partial(_unguarded, entry)
    parts |= {TABLES[table]: entry, "name": name}
    new = WrittenFunction(complexity=max(1, function.complexity), **parts)
    row = _row(name)
    return name, row if row is not None and row.torch_fun is new.torch_fun and _same_formula(row, new) else new


def name_to_save(name: str, function: SymbolicFunction) -> str:
    """The name of an edge's function where names are all that is kept: ``'anonymous'`` if what the name stands for is another function.

    Example:
        >>> name_to_save("sin", lookup("sin")), name_to_save(*written("x", lookup("x"), "funs_name", "sin"))
        ('sin', 'anonymous')
    """
    return ANONYMOUS if isinstance(function, WrittenFunction) and _row(name) is not None else name


def _row(name: str) -> SymbolicFunction | None:
    try:
        return lookup(name)
    except ValueError:
        return None


def _same_formula(one: SymbolicFunction, other: SymbolicFunction) -> bool:
    if one.sympy_fun is other.sympy_fun:
        return True
    import sympy

    try:
        u = sympy.Symbol("u")
        return bool(one.sympy_fun(u) == other.sympy_fun(u))
    except Exception:  # whatever a user's function does with an expression, it is not what the library's does
        return False
