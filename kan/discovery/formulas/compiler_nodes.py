"""The nodes of a formula, and their places in the layers of a network.

Every edge leads from one layer to the next, and between a node and a sub-node there is one edge. So a variable that is needed high up is
passed on by nodes that do nothing, one per layer, and two edges of a sub-node that come from the same expression come from two copies of
its node.

Small formulas are laid out as the tree that they are, as pykan does. A formula whose tree would have more than `LARGEST_TREE` nodes
contains expressions many times over; these then have one node in each layer that needs them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["LARGEST_TREE", "Edge", "Node", "Subnode", "laid_out"]

LARGEST_TREE = 300
"""Nodes of the largest tree."""

IDENTITY = (1.0, 0.0, 1.0, 0.0)


class Edge(NamedTuple):
    """``c f(a u + b) + d`` of a node, or of the variable of that index."""

    name: str
    affine: tuple[float, float, float, float]
    source: Node | int


class Subnode(NamedTuple):
    """``scale (sum of edges) + bias``."""

    edges: list[Edge]
    scale: float = 1.0
    bias: float = 0.0


@dataclass(eq=False)
class Node:
    """``scale (product of subnodes) + bias``; of one sub-node, a sum node."""

    subnodes: list[Subnode]
    scale: float = 1.0
    bias: float = 0.0
    depth: int = field(init=False)
    """Layers between the inputs and this node."""

    def __post_init__(self) -> None:
        self.depth = 1 + max((node.depth for node in self.below()), default=0)

    def below(self) -> list[Node]:
        """The nodes that edges come from, with repetitions."""
        return [edge.source for subnode in self.subnodes for edge in subnode.edges if isinstance(edge.source, Node)]


def laid_out(root: Node) -> list[list[Node]]:
    """The nodes of each layer above the inputs, sums first; an empty layer of inputs stands before them.

    The nodes are new ones: the sources of their edges are nodes of the layer below, or variables in the first layer.
    """
    depth = root.depth
    # One more layer gives two edges from a variable to one sub-node a node of their own.
    depth += _collides(root, depth, {})
    layers: list[list[Node]] = [[] for _ in range(depth + 1)]
    _Layout(layers, shared=_size(root, depth, {}) > LARGEST_TREE).placed(root, depth, 0)
    return [sorted(nodes, key=lambda node: len(node.subnodes) > 1) for nodes in layers]  # a stable sort


class _Layout:
    """Puts nodes into layers.

    Args:
        layers: filled.
        shared: whether equal nodes of a layer are one.
    """

    def __init__(self, layers: list[list[Node]], shared: bool) -> None:
        self.layers, self.shared = layers, shared
        self.known: dict[tuple[Node | int, int, int], Node] = {}

    def placed(self, source: Node | int, l: int, copy: int) -> Node:
        """The node in layer `l` for a node, or for a variable that is passed on; the copy of that number."""
        key = (source, l, copy)
        if self.shared and key in self.known:
            return self.known[key]
        node = source if isinstance(source, Node) else Node([Subnode([Edge("x", IDENTITY, source)])])
        new = self.known[key] = Node(node.subnodes, node.scale, node.bias)
        self.layers[l].append(new)
        new.subnodes = [subnode._replace(edges=self.edges(subnode, l - 1)) for subnode in node.subnodes]
        return new

    def edges(self, subnode: Subnode, l: int) -> list[Edge]:
        """The edges of a sub-node, from nodes of layer `l`."""
        if l == 0:
            return list(subnode.edges)
        seen: Counter[Node | int] = Counter()
        edges = []
        for edge in subnode.edges:
            edges.append(edge._replace(source=self.placed(edge.source, l, seen[edge.source])))
            seen[edge.source] += 1
        return edges


def _collides(node: Node, depth: int, known: dict[tuple[Node, int], bool]) -> bool:
    """Whether in a network of that depth two edges from a variable would lead to the same sub-node of this node or one below it."""
    key = (node, depth)
    if key not in known:
        if depth == 1:
            inputs = [[edge.source for edge in subnode.edges] for subnode in node.subnodes]
            known[key] = any(len(set(sources)) < len(sources) for sources in inputs)
        else:
            known[key] = any(_collides(below, depth - 1, known) for below in set(node.below()))
    return known[key]


def _size(node: Node, depth: int, known: dict[tuple[Node, int], int]) -> int:
    """Nodes of the tree below a node at that depth, itself included."""
    key = (node, depth)
    if key not in known:
        passed_on = sum(depth - 1 for subnode in node.subnodes for edge in subnode.edges if not isinstance(edge.source, Node))
        known[key] = 1 + passed_on + sum(_size(below, depth - 1, known) for below in node.below())
    return known[key]
