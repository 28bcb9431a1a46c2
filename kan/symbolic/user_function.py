"""The function of an edge whose parts a program has assigned one at a time.

pykan keeps the name of a function, the function of tensors, the function of sympy expressions and the singularity-safe version in four
tables, which need not agree: the forward pass uses the second and the fourth, formulas the third, and checkpoints the first.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from kan.pickling import dumps

from .function import ANONYMOUS, SymbolicFunction, regular, unguarded
from .library import lookup

__all__ = ["TABLES", "WrittenFunction", "name_to_save", "written"]

TABLES = {"funs_name": "name", "funs": "torch_fun", "funs_sympy": "sympy_fun", "funs_avoid_singularity": "singularity_fun"}
"""Names of pykan's four tables, and the field of `SymbolicFunction` that each holds."""


class WrittenFunction(SymbolicFunction):
    """A function that differs from the library's function of the same name, or whose name is not in the library."""

    def __deepcopy__(self, memo: dict[int, Any]) -> WrittenFunction:
        return WrittenFunction(*copy.deepcopy(self._fields(), memo))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _unpickled, (dumps(self._fields(), f"the symbolic function {self.name!r}"),)


def _unpickled(fields: bytes) -> WrittenFunction:
    return WrittenFunction(*pickle.loads(fields))


def written(name: str, function: SymbolicFunction, table: str, entry: Any) -> tuple[str, SymbolicFunction]:
    """Return name and function of an edge after `entry` has been assigned in one of the `TABLES`.

    The other parts stay as they are, except that a part which merely called the old function of tensors now calls the new one.

    Args:
        name: the present name.
        function: the present function.
        table: one of the `TABLES`.
        entry: a string for ``funs_name``, a function for the other tables.

    Raises:
        TypeError: if the entry of ``funs_name`` is not a string, or the entry of another table is not callable.

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
        if isinstance(guard, partial) and guard.func in (regular, unguarded) and guard.args == (old,):
            parts["singularity_fun"] = partial(unguarded, entry)
    parts |= {TABLES[table]: entry, "name": name}
    new = WrittenFunction(complexity=max(1, function.complexity), **parts)
    row = _row(name)
    return name, row if row is not None and row.torch_fun is new.torch_fun and _same_formula(row, new) else new


def name_to_save(name: str, function: SymbolicFunction) -> str:
    """Return the name of an edge's function for a file that keeps names only.

    It is ``'anonymous'`` if the library has another function under the edge's name.

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
    except Exception:  # a user's function that fails on an expression is not the library's function
        return False
