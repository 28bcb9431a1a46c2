"""Checks of the indices of layers and nodes that a user gives; negative ones count from the end."""

from __future__ import annotations

import operator
from typing import Any

from kan.network.structure import Structure

__all__ = ["checked_index", "layer_index", "node_index"]


def checked_index(what: str, value: Any, size: int) -> int:
    """`value` as an index from 0 to ``size - 1``.

    Raises:
        TypeError: if the value is not an integer.
        IndexError: if the value is out of range.

    >>> checked_index("layer", -1, 3)
    2
    """
    try:
        index = operator.index("no integer" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{what} must be an integer; got {value!r}.") from None
    if not -size <= index < size:
        raise IndexError(f"{what} must be between 0 and {size - 1} (or {-size} and -1, from the end); got {index}.")
    return index % size


def layer_index(structure: Structure, l: Any) -> int:
    """The index of a layer of nodes, where 0 are the inputs and -1 the outputs, without a sign."""
    return checked_index("layer of nodes", l, structure.depth + 1)


def node_index(structure: Structure, l: int, i: Any) -> int:
    """The index of a node of layer `l`, without a sign; `l` itself must not be negative."""
    return checked_index(f"node of layer {l}", i, structure.width_in[l])
