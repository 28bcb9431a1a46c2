"""The shape of a KAN: how many sum and multiplication nodes each layer of nodes has.

A layer of nodes is written as an int ``n``, for ``n`` sum nodes, or as a pair ``[n_sum, n_mult]``. A multiplication node of arity ``a`` is
the product of ``a`` sub-nodes; a sum node has one sub-node. Edges lead from nodes to sub-nodes. The sub-nodes of the sum nodes come first,
followed by the factors of each multiplication node in turn. Multiplication nodes of the input layer count as ordinary inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Integral
from typing import Any, cast

__all__ = ["Structure", "per_layer"]


@dataclass(frozen=True)
class Structure:
    """Widths and arities, parsed once.

    Attributes:
        n_sum: number of sum nodes per layer of nodes, inputs first.
        arities: for each layer of nodes, the arity of each multiplication node.

    >>> Structure.parse([2, [1, 2], 1], 3).width_out
    [2, 7, 1]
    """

    n_sum: tuple[int, ...]
    arities: tuple[tuple[int, ...], ...]

    @classmethod
    def parse(cls, width: Any, mult_arity: int | Sequence[Sequence[int]] = 2) -> Structure:
        """From pykan's ``width`` and ``mult_arity``.

        Args:
            width: sequence of ``n`` or ``[n_sum, n_mult]``, at least two, inputs first.
            mult_arity: one arity for all multiplication nodes, or for every layer of nodes the list of its nodes' arities.

        Raises:
            ValueError: if the width is no sequence of sizes, a layer would be empty, or the arities do not fit.
        """
        if isinstance(width, (str, bytes, Mapping, Set)) or not hasattr(width, "__len__") or len(width) < 2:
            raise ValueError(
                f"width must be a list with the number of nodes of each layer, inputs first, such as [2, 5, 1]; got {width!r}."
            )
        pairs = [_pair(entry, position, width) for position, entry in enumerate(width)]
        if isinstance(mult_arity, Integral):
            arities = tuple((int(mult_arity),) * n_mult for _, n_mult in pairs)
        else:
            arities = tuple(tuple(int(a) for a in layer) for layer in cast("Sequence[Sequence[int]]", mult_arity))
        if [len(a) for a in arities] != [n_mult for _, n_mult in pairs]:
            raise ValueError(
                f"mult_arity must be an integer, or one list per layer of nodes with an arity for each of its multiplication nodes; "
                f"width {width!r} has {[n_mult for _, n_mult in pairs]} of them, mult_arity is {mult_arity!r}."
            )
        if any(a < 1 for layer in arities for a in layer):
            raise ValueError(f"the arity of a multiplication node must be at least 1; got {mult_arity!r}.")
        return cls(tuple(n_sum for n_sum, _ in pairs), arities)

    @property
    def depth(self) -> int:
        """Number of KAN layers ``L``; there are ``L + 1`` layers of nodes."""
        return len(self.n_sum) - 1

    @property
    def width(self) -> list[list[int]]:
        """``[n_sum, n_mult]`` per layer of nodes."""
        return [[n, len(a)] for n, a in zip(self.n_sum, self.arities, strict=True)]

    @property
    def width_in(self) -> list[int]:
        """Number of nodes per layer of nodes."""
        return [n + len(a) for n, a in zip(self.n_sum, self.arities, strict=True)]

    @property
    def width_out(self) -> list[int]:
        """Number of sub-nodes per layer of nodes."""
        return [n + sum(a) for n, a in zip(self.n_sum, self.arities, strict=True)]

    def subnodes(self, l: int, i: int) -> list[int]:
        """Indices of the sub-nodes that make up node `i` of layer `l`."""
        if i < self.n_sum[l]:
            return [i]
        r = i - self.n_sum[l]
        start = self.n_sum[l] + sum(self.arities[l][:r])
        return list(range(start, start + self.arities[l][r]))

    def keep(self, nodes: Sequence[Sequence[int]]) -> Structure:
        """The structure that remains when only `nodes` (a list of indices per layer of nodes) are kept."""
        return Structure(
            tuple(sum(i < n for i in kept) for n, kept in zip(self.n_sum, nodes, strict=True)),
            tuple(tuple(a[i - n] for i in kept if i >= n) for n, a, kept in zip(self.n_sum, self.arities, nodes, strict=True)),
        )


def _pair(entry: Any, position: int, width: Any) -> tuple[int, int]:
    """``(n_sum, n_mult)`` of one entry of a width."""
    sizes: Any = [entry, 0] if isinstance(entry, Integral) else entry
    if isinstance(sizes, (str, bytes)) or not hasattr(sizes, "__len__") or len(sizes) != 2:
        sizes = None
    if sizes is None or any(isinstance(n, bool) or not isinstance(n, Integral) or n < 0 for n in sizes) or sum(sizes) < 1:
        raise ValueError(
            f"width must be a list of positive integers or pairs [sum nodes, multiplication nodes]; "
            f"entry {position} of {width!r} is {entry!r}."
        )
    return int(sizes[0]), int(sizes[1])


def per_layer(name: str, value: int | Sequence[int], depth: int, least: int) -> list[int]:
    """One integer per KAN layer from one for all or a list of them."""
    values: list[Any] = [*value] if isinstance(value, Iterable) else [value] * depth
    if len(values) != depth or any(isinstance(v, bool) or not isinstance(v, Integral) or v < least for v in values):
        raise ValueError(f"{name} must be an integer of at least {least}, or a list of {depth} of them, one per layer; got {value!r}.")
    return [int(v) for v in values]
