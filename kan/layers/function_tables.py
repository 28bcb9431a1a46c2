"""pykan's tables of functions: nested lists whose assigned entries reach the layer.

pykan keeps the functions of a symbolic layer in lists, nested ``[out][in]``, and programs assign to their entries. Here such a list is
made when it is read, and an assignment to an entry changes the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, SupportsIndex, TypeAlias, overload

from kan.symbolic.function import SymbolicFunction
from kan.symbolic.user_function import TABLES, written

__all__ = ["FunctionTable", "WritableTable"]

Named: TypeAlias = tuple[str, SymbolicFunction]
"""Name and function of an edge."""
Edge: TypeAlias = tuple[int, int]
"""Output and input of an edge."""


class FunctionTable(list[Any]):
    """A list, or a list of lists, that reports assignments to its entries.

    Copies and pickles are plain lists.

    Args:
        entries: the entries.
        write: a function that receives index and value of every assignment.

    >>> table = FunctionTable(["x", "sin"], lambda i, name: print(i, name))
    >>> table[-1] = "cos"
    1 cos
    >>> table
    ['x', 'cos']
    """

    def __init__(self, entries: Iterable[Any], write: Callable[[int, Any], None]) -> None:
        super().__init__(entries)
        self._write = write

    @classmethod
    def nested(cls, entries: Sequence[Sequence[Any]], write: Callable[[int, int, Any], None]) -> FunctionTable:
        """Make a table of rows, ``[out][in]``; assigning a row assigns its entries."""

        def row(j: int) -> FunctionTable:
            return cls(entries[j], lambda i, value: write(j, i, value))

        def write_row(j: int, values: Any) -> None:
            row(j)[:] = values

        return cls(map(row, range(len(entries))), write_row)

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        several = isinstance(index, slice)
        places = range(len(self))[index] if isinstance(index, slice) else [range(len(self))[index]]
        if several and isinstance(value, str):
            raise TypeError(f"a list with one entry for every edge is expected here; got {value!r}.")
        entries = list(value) if several else [value]
        if len(entries) != len(places):
            raise ValueError(f"the table has one entry for every edge of the layer: {len(places)} are expected here; got {len(entries)}.")
        for place, entry in zip(places, entries, strict=True):
            self._write(place, entry)
            if isinstance(row := self[place], FunctionTable):
                list.__setitem__(row, slice(None), entry)
            else:
                super().__setitem__(place, entry)

    def _fixed(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("the table has one entry for every edge of the layer, neither more nor less: assign to its entries.")

    append = extend = insert = pop = remove = clear = sort = reverse = __delitem__ = __iadd__ = __imul__ = _fixed

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, ([list(entry) if isinstance(entry, FunctionTable) else entry for entry in self],)


class HasFunctions(Protocol):
    """A layer whose edges have functions."""

    @property
    def in_dim(self) -> int: ...
    @property
    def out_dim(self) -> int: ...
    @property
    def functions(self) -> dict[Edge, Named]: ...
    def function(self, i: int, j: int) -> Named: ...
    def put_functions_(self, functions: Mapping[Edge, Named]) -> None: ...


class WritableTable:
    """An attribute that is one of the four `TABLES` of a layer, by its name; it can be assigned as a whole or entry by entry."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._part = name

    @overload
    def __get__(self, layer: None, owner: type) -> WritableTable: ...
    @overload
    def __get__(self, layer: HasFunctions, owner: type) -> FunctionTable: ...
    def __get__(self, layer: HasFunctions | None, owner: type) -> WritableTable | FunctionTable:
        if layer is None:
            return self
        return self._table(layer, lambda edge, named: layer.put_functions_({**layer.functions, edge: named}))

    def __set__(self, layer: HasFunctions, entries: Sequence[Sequence[Any]]) -> None:
        new = dict(layer.functions)
        self._table(layer, new.__setitem__)[:] = entries
        layer.put_functions_(new)  # only now, so that nothing changes if an entry is refused

    def _table(self, layer: HasFunctions, put: Callable[[Edge, Named], None]) -> FunctionTable:
        def entry(j: int, i: int) -> Any:
            name, function = layer.function(i, j)
            return name if self._part == "funs_name" else getattr(function, TABLES[self._part])

        def write(j: int, i: int, new: Any) -> None:
            old = entry(j, i)
            if new is not old and not (isinstance(new, str) and new == old):
                put((j, i), written(*layer.function(i, j), self._part, new))

        return FunctionTable.nested([[entry(j, i) for i in range(layer.in_dim)] for j in range(layer.out_dim)], write)
