"""Indices of layers and nodes as a user writes them: negative ones count from the end."""

from __future__ import annotations

import operator
from typing import Any

from kan.network.structure import Structure

__all__ = ["checked_index", "layer_index", "node_index"]


def checked_index(what: str, value: Any, size: int) -> int:
    """`value` as an index from 0 to ``size - 1``.

    Raises:
        TypeError: if it is no integer.
        IndexError: if it is out of range.

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
    """The index of a layer of nodes; 0 are the inputs, -1 the outputs."""
    return checked_index("layer of nodes", l, structure.depth + 1)


def node_index(structure: Structure, l: int, i: Any) -> int:
    """The index of a node of layer `l`, which is none negative itself."""
    return checked_index(f"node of layer {l}", i, structure.width_in[l])
