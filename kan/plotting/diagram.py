"""What a network diagram shows, as plain data: no tensors, no axes, no colours.

A network of depth ``L`` has ``n_l`` nodes at level ``l = 0 ... L`` and ``m_l`` sub-nodes below the nodes of level
``l >= 1``. Edge ``(l, i, j)`` goes from node ``i`` of level ``l`` to sub-node ``j`` of level ``l + 1``. The first
sub-nodes of a level belong to one sum node each; every multiplication node that follows owns as many consecutive
sub-nodes as its arity says, so that ``m_l = (number of sum nodes) + (sum of the arities)``.

Let ``y0 = EDGE_ROOM`` be the distance between nodes and the sub-nodes above them, and ``z0 = NODE_ROOM`` the distance
between these and their own nodes. The places are

    node i of level l             ``((i + 1/2) / n_l, l (y0 + z0))``
    sub-node j of level l + 1     ``((j + 1/2) / m_{l+1}, l (y0 + z0) + y0)``
    box of edge (l, i, j)         ``((i m_{l+1} + j + 1/2) / (n_l m_{l+1}), l (y0 + z0) + y0/2)``

These are the data coordinates of pykan's plot: text that a notebook adds at such a place stays where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["EDGE_ROOM", "LEVEL", "NODE_ROOM", "Array", "Diagram", "EdgeCurve", "EdgeKey", "EdgeKind", "unit_interval"]

EDGE_ROOM = 0.3
"""Vertical distance, in data coordinates, between nodes and the sub-nodes above them."""
NODE_ROOM = 0.1
"""Vertical distance, in data coordinates, between sub-nodes and their own nodes."""
LEVEL = EDGE_ROOM + NODE_ROOM
"""Vertical distance, in data coordinates, between two levels of nodes."""

Array = NDArray[np.float64]
EdgeKey = tuple[int, int, int]
EdgeKind = Literal["numeric", "symbolic", "both", "none"]


@dataclass(frozen=True, eq=False)
class EdgeCurve:
    """The samples of the function of one edge, and the visibility of the edge.

    Args:
        x: inputs of the edge in ascending order, ``(B,)``.
        y: outputs of the edge at `x`, ``(B,)``.
        opacity: how visible the edge is, from 0 to 1.
        kind: which branches are alive: a dead edge (``"none"``) is not drawn.

    Example:
        >>> x = np.linspace(-1.0, 1.0, 10_001)
        >>> curve = EdgeCurve(x, x**2, opacity=0.5, kind="numeric")
        >>> thin_x, thin_y = curve.outline(50)
        >>> len(thin_x) <= 100, float(thin_y.min()), float(thin_x[0])
        (True, 0.0, -1.0)
    """

    x: Array
    y: Array
    opacity: float
    kind: EdgeKind

    def outline(self, bins: int) -> tuple[Array, Array]:
        """Return a small subset of the samples that looks like all of them.

        The range of `x` is divided into `bins` equal intervals, and the lowest and the highest sample of each are kept,
        as are the first and the last sample. All extrema are therefore kept, as are all samples of regions that have
        few. (Every n-th sample would cut off peaks, and would draw the sparse tails of normally distributed inputs as
        straight lines.)

        Args:
            bins: number of intervals.

        Returns:
            ``x`` ascending and ``y``, at most ``2 bins + 2`` finite samples each.
        """
        finite = np.isfinite(self.x) & np.isfinite(self.y)
        x, y = self.x[finite], self.y[finite]
        if len(x) <= 2 * bins:
            return x, y
        cell = np.minimum(bins * unit_interval(x), bins - 1).astype(np.intp)
        by_cell = np.lexsort((y, cell))
        first = np.searchsorted(cell, np.unique(cell))
        last = np.append(first[1:], len(x)) - 1
        keep = np.unique(np.concatenate([by_cell[first], by_cell[last], [0, len(x) - 1]]))
        return x[keep], y[keep]

    def subset(self, count: int) -> tuple[Array, Array]:
        """Return at most `count` of the finite samples, evenly chosen in their order and both ends among them."""
        finite = np.flatnonzero(np.isfinite(self.x) & np.isfinite(self.y))
        if len(finite) > count:
            finite = finite[np.linspace(0, len(finite) - 1, count).astype(np.intp)]
        return self.x[finite], self.y[finite]


@dataclass(frozen=True, eq=False)
class Diagram:
    """Everything that `kan.plotting.draw` needs to know about a network.

    Args:
        widths_in: nodes ``n_l`` of the levels 0 ... L.
        widths_out: sub-nodes ``m_l`` of the levels 0 ... L; entry 0 is not used.
        arities: for each level the arity of every multiplication node; empty at level 0.
        edges: the curve of edge ``(l, i, j)``; edges that are not listed are not drawn.
        in_vars: labels under the input nodes, or None for no labels.
        out_vars: labels over the output nodes, or None for no labels.
        title: a line above everything, or None.
        hidden: nodes ``(l, i)`` of hidden levels that are left out together with their sub-nodes and edges.

    Raises:
        ValueError: if the number of labels is not the number of nodes, or if the widths contradict each other.
    """

    widths_in: tuple[int, ...]
    widths_out: tuple[int, ...]
    arities: tuple[tuple[int, ...], ...]
    edges: dict[EdgeKey, EdgeCurve]
    in_vars: tuple[str, ...] | None = None
    out_vars: tuple[str, ...] | None = None
    title: str | None = None
    hidden: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        levels = len(self.widths_in)
        if levels < 2 or len(self.widths_out) != levels or len(self.arities) != levels:
            raise ValueError(
                "widths_in, widths_out and arities must have one entry per level, and there are at least two levels; "
                f"got {levels}, {len(self.widths_out)} and {len(self.arities)} entries."
            )
        for level in range(1, levels):
            owners = len(self.owners(level))
            if owners != self.widths_out[level]:
                raise ValueError(
                    f"Level {level} has {self.widths_out[level]} sub-nodes, but {self.widths_in[level]} nodes with the "
                    f"arities {list(self.arities[level])} need {owners}."
                )
        for argument, labels, count, ends in (
            ("in_vars", self.in_vars, self.widths_in[0], "inputs"),
            ("out_vars", self.out_vars, self.widths_in[-1], "outputs"),
        ):
            if labels is not None and len(labels) != count:
                raise ValueError(f"{argument} has {len(labels)} names, but the network has {count} {ends}; give one name for each.")

    @property
    def depth(self) -> int:
        """Number of layers of edges, ``L``."""
        return len(self.widths_in) - 1

    def n_sum(self, level: int) -> int:
        """Return the number of sum nodes of a level; the multiplication nodes come after them."""
        return self.widths_in[level] - len(self.arities[level])

    def owners(self, level: int) -> list[int]:
        """Return for each sub-node of a level the node that it belongs to.

        Example:
            >>> Diagram((2, 3, 1), (0, 5, 1), ((), (2, 2), ()), {}).owners(1)
            [0, 1, 1, 2, 2]
        """
        n_sum = self.n_sum(level)
        factors = [n_sum + r for r, arity in enumerate(self.arities[level]) for _ in range(arity)]
        return [*range(n_sum), *factors]

    def visible_edges(self) -> dict[EdgeKey, EdgeCurve]:
        """Return the edges that are drawn, the faintest first: alive, and at no hidden node."""
        owners = [[], *(self.owners(level) for level in range(1, self.depth + 1))]
        alive = {
            (level, i, j): curve
            for (level, i, j), curve in self.edges.items()
            if curve.kind != "none" and not {(level, i), (level + 1, owners[level + 1][j])} & self.hidden
        }
        return dict(sorted(alive.items(), key=lambda item: item[1].opacity))


def unit_interval(values: Array) -> Array:
    """Map values affinely onto [0, 1]; values without a spread beyond round-off become 0.5."""
    low, high = values.min(), values.max()
    # A spread of a millionth of the values is noise in single precision and a flat line to the eye in double.
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return np.full(len(values), 0.5)
    # Dividing first keeps ends near the largest float from overflowing.
    return np.asarray(values / (high - low) - low / (high - low))
