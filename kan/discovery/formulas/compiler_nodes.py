"""The nodes of a formula, and their assignment to the layers of a network.

Every edge of a network leads from one layer to the next, and a node and a sub-node are connected by one edge only. A variable that is
needed in a higher layer is therefore passed on by identity nodes, one per layer. If two edges of a sub-node have the same source, this node
is duplicated.

Small formulas are laid out as trees, as in pykan. A formula whose tree would have more than `MAX_TREE_NODES` nodes contains some
expressions many times. Such a formula gets one node for each expression in each layer that needs it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["MAX_TREE_NODES", "Edge", "Node", "Subnode", "laid_out"]

MAX_TREE_NODES = 300
"""Largest number of nodes with which a formula is laid out as a tree."""

IDENTITY = (1.0, 0.0, 1.0, 0.0)
"""Affine constants ``(a, b, c, d)`` of an edge that passes its input on."""


class Edge(NamedTuple):
    """The edge ``c f(a u + b) + d`` from a source, which is a node or the index of a variable."""

    name: str
    affine: tuple[float, float, float, float]
    source: Node | int


class Subnode(NamedTuple):
    """The sub-node ``scale * (sum of edges) + bias``."""

    edges: list[Edge]
    scale: float = 1.0
    bias: float = 0.0


@dataclass(eq=False)
class Node:
    """The node ``scale * (product of sub-nodes) + bias``, which is a sum node if it has one sub-node."""

    subnodes: list[Subnode]
    scale: float = 1.0
    bias: float = 0.0
    depth: int = field(init=False)
    """Number of layers of edges between the inputs and this node."""

    def __post_init__(self) -> None:
        self.depth = 1 + max((node.depth for node in self.below()), default=0)

    def below(self) -> list[Node]:
        """The nodes at which the edges to this node start, with repetitions."""
        return [edge.source for subnode in self.subnodes for edge in subnode.edges if isinstance(edge.source, Node)]


def laid_out(root: Node) -> list[list[Node]]:
    """Copies of the nodes of a formula in layers, so that every edge starts in the layer below its node.

    Args:
        root: the node of the formula.

    Returns:
        For each layer of nodes, its sum nodes and then its multiplication nodes. The first layer, the inputs, is empty: edges that start
        there have indices of variables as their sources.
    """
    depth = root.depth
    # If two edges lead from a variable to the same sub-node, one more layer provides a node for each of them.
    depth += _collides(root, depth, {})
    layers: list[list[Node]] = [[] for _ in range(depth + 1)]
    _Layout(layers, shared=_size(root, depth, {}) > MAX_TREE_NODES).placed(root, depth, 0)
    return [sorted(nodes, key=lambda node: len(node.subnodes) > 1) for nodes in layers]  # a stable sort


class _Layout:
    """Assigns nodes to layers.

    Args:
        layers: the nodes of each layer, to which nodes are added.
        shared: whether a node that is needed several times in a layer is one node there, or one for each use.
    """

    def __init__(self, layers: list[list[Node]], shared: bool) -> None:
        self.layers, self.shared = layers, shared
        self.known: dict[tuple[Node | int, int, int], Node] = {}

    def placed(self, source: Node | int, l: int, copy: int) -> Node:
        """The copy number `copy` of a node in layer `l`, or of the identity node that passes on a variable."""
        key = (source, l, copy)
        if self.shared and key in self.known:
            return self.known[key]
        node = source if isinstance(source, Node) else Node([Subnode([Edge("x", IDENTITY, source)])])
        new = self.known[key] = Node(node.subnodes, node.scale, node.bias)
        self.layers[l].append(new)
        new.subnodes = [subnode._replace(edges=self.edges(subnode, l - 1)) for subnode in node.subnodes]
        return new

    def edges(self, subnode: Subnode, l: int) -> list[Edge]:
        """The edges of a sub-node with nodes of layer `l` as their sources."""
        if l == 0:
            return list(subnode.edges)
        seen: Counter[Node | int] = Counter()
        edges = []
        for edge in subnode.edges:
            edges.append(edge._replace(source=self.placed(edge.source, l, seen[edge.source])))
            seen[edge.source] += 1
        return edges


def _collides(node: Node, depth: int, known: dict[tuple[Node, int], bool]) -> bool:
    """Whether two edges from a variable would lead to the same sub-node of this node, in layer `depth`, or of a node below it."""
    key = (node, depth)
    if key not in known:
        if depth == 1:
            inputs = [[edge.source for edge in subnode.edges] for subnode in node.subnodes]
            known[key] = any(len(set(sources)) < len(sources) for sources in inputs)
        else:
            known[key] = any(_collides(below, depth - 1, known) for below in set(node.below()))
    return known[key]


def _size(node: Node, depth: int, known: dict[tuple[Node, int], int]) -> int:
    """Number of nodes of the tree whose root is a node in layer `depth`."""
    key = (node, depth)
    if key not in known:
        passed_on = sum(depth - 1 for subnode in node.subnodes for edge in subnode.edges if not isinstance(edge.source, Node))
        known[key] = 1 + passed_on + sum(_size(below, depth - 1, known) for below in node.below())
    return known[key]
