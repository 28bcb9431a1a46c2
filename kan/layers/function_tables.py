"""Nested lists that pass on what is written into them.

pykan keeps the functions of a symbolic layer in lists, nested ``[out][in]``, and programs assign to their entries. Here such a list is
made of the layer when it is read, so that what is assigned to it has to reach the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, SupportsIndex

__all__ = ["FunctionTable"]


class FunctionTable(list[Any]):
    """A list, or a list of lists, whose assigned entries are passed on.

    Copies and pickles are plain lists.

    Args:
        entries: the entries.
        write: receives index and value of an assignment.

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
        """A table of rows, ``[out][in]``; assigning a row assigns its entries."""

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
